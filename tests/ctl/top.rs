//! `oxinetctl top` in a real terminal, tmux's: what is on the screen at 80×24 and 200×50, keys, and the terminal as it was
//! before, however the program ends.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{self, Daemon, hold, services, skip, wait_until};

/// A tmux server of our own, ended with the test. Its socket is in the daemon's folder.
struct Tmux {
    socket: PathBuf,
}

impl Tmux {
    /// A window of 80×24 that runs a shell command; `None` without tmux.
    fn run(daemon: &Daemon, command: &str) -> Option<Self> {
        support::installed("tmux")?;
        let tmux = Self { socket: daemon.path("tmux") };
        let output = tmux.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", command]);
        assert!(output.status.success(), "{output:?}");
        Some(tmux)
    }

    fn tmux(&self, arguments: &[&str]) -> Output {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(&self.socket).args(arguments).env("LC_ALL", "C.UTF-8").env_remove("TMUX").output().unwrap()
    }

    /// The lines of the screen.
    fn screen(&self) -> Vec<String> {
        let output = self.tmux(&["capture-pane", "-p"]);
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    /// Waits until a line of the screen has this text.
    fn wait(&self, text: &str) -> Vec<String> {
        support::wait_for(&format!("{text:?} on the screen"), || {
            let screen = self.screen();
            screen.iter().any(|line| line.contains(text)).then_some(screen)
        })
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// The shell command that runs top and notes the settings of the terminal before and after.
fn watched(daemon: &Daemon, more: &str) -> String {
    let folder = daemon.folder.path().display();
    format!(
        "cd {folder}; echo BEFORE; stty -g > before; sh -c 'echo $$ > pid; exec {} --socket control.sock top {more}'; \
         echo \"GONE $?\"; stty -g > after; exec sleep 1000",
        env!("CARGO_BIN_EXE_oxinetctl")
    )
}

fn settings_are_back(daemon: &Daemon) {
    let read = |name: &str| fs::read_to_string(daemon.path(name)).unwrap_or_default();
    wait_until("the settings of the terminal", || read("after").ends_with('\n'));
    assert_eq!(read("before"), read("after"));
}

#[test]
fn screen_at_80_by_24_and_200_by_50() {
    let ([cat, _], table) = services([
        ("cat", "program: /bin/cat, instances: 8, per_source: { instances: 3 }, refuse: close"),
        ("date", "program: [/bin/date, -u]"),
    ]);
    let daemon = Daemon::start(&table);
    let _sessions = [hold(cat), hold(cat), hold(cat)];
    let Some(tmux) = Tmux::run(&daemon, &watched(&daemon, "--interval 0.2")) else {
        return skip("tmux is not installed");
    };
    let screen = tmux.wait("q quit");
    assert!(screen.len() == 24 && screen[23].starts_with("q quit"), "{screen:#?}");
    assert!(screen.iter().all(|line| line.chars().count() <= 80), "{screen:#?}");
    assert!(screen[0].starts_with("oxinetd ") && screen[0].contains("handlers 3/4096"), "{screen:#?}");
    let of = |screen: &[String], first: &str| screen.iter().find(|line| line.starts_with(first)).cloned().unwrap();
    assert!(of(&screen, "cat").contains("3/8 █"), "{screen:#?}");
    assert!(of(&screen, "127.0.0.1").contains("3/3 cat"), "{screen:#?}");
    assert!(screen[3].contains("HANDLERS*"), "{screen:#?}");
    // What is refused shows up, with its reason.
    support::wait_for("a refusal on the screen", || {
        drop(support::ask(support::connect(cat), b""));
        tmux.screen().iter().any(|line| line.contains("source_instances") && line.contains('█')).then_some(())
    });
    tmux.tmux(&["send-keys", "s"]);
    tmux.wait("ACCEPT/S*");
    tmux.tmux(&["send-keys", "n"]);
    let screen = tmux.wait("SERVICE*");
    assert!(screen[4].starts_with("cat") && screen[5].starts_with("date"), "{screen:#?}");
    tmux.tmux(&["resize-window", "-x", "200", "-y", "50"]);
    wait_until("a screen of 50 lines", || tmux.screen().get(49).is_some_and(|line| line.starts_with("q quit")));
    let screen = tmux.screen();
    assert!(screen.iter().any(|line| line.chars().count() > 80), "{screen:#?}");
    assert_eq!(screen.iter().filter(|line| line.contains("q quit")).count(), 1, "{screen:#?}");
    tmux.tmux(&["send-keys", "q"]);
    let screen = tmux.wait("GONE 0");
    assert!(screen[0].starts_with("BEFORE") && !screen.iter().any(|line| line.contains("q quit")), "{screen:#?}");
    settings_are_back(&daemon);
}

#[test]
fn terminal_is_restored_by_ctrl_c_and_sigterm() {
    let ([_port], table) = services([("cat", "program: /bin/cat")]);
    for how in ["ctrl-c", "SIGTERM"] {
        let daemon = Daemon::start(&table);
        let Some(tmux) = Tmux::run(&daemon, &watched(&daemon, "")) else { return skip("tmux is not installed") };
        tmux.wait("q quit");
        if how == "ctrl-c" {
            tmux.tmux(&["send-keys", "C-c"]);
        } else {
            let pid = fs::read_to_string(daemon.path("pid")).unwrap();
            kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGTERM).unwrap();
        }
        tmux.wait("GONE 0");
        settings_are_back(&daemon);
    }
}

#[test]
fn top_survives_the_daemon_and_says_so() {
    let ([_port], table) = services([("cat", "program: /bin/cat")]);
    let mut daemon = Daemon::start(&table);
    let Some(tmux) = Tmux::run(&daemon, &watched(&daemon, "--interval 0.2")) else {
        return skip("tmux is not installed");
    };
    tmux.wait("q quit");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_end();
    let screen = tmux.wait("there is no control socket");
    assert!(screen[23].starts_with("q quit"), "{screen:#?}");
}

#[test]
fn top_without_a_terminal_says_what_to_use() {
    let ([_port], table) = services([("cat", "program: /bin/cat")]);
    let daemon = Daemon::start(&table);
    let mut command = Command::new(env!("CARGO_BIN_EXE_oxinetctl"));
    let output = command.arg("--socket").arg(daemon.path("control.sock")).arg("top").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("top needs a terminal"), "{output:?}");
}
