//! Documented commands: every command of the README and of the manual pages is run, in a folder that stands for the
//! machine, or stands in the list of those that are not, with the reason.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::{path, read};
use crate::support::{self, Daemon, Setup, free_port, is_root, own_user, put_program, skip};

/// Commands that are not run here, and why.
const NOT_RUN: [(&str, &str); 10] = [
    ("cargo run --release -- -c etc/quickstart.yaml", "the quick start has a test of its own"),
    ("cargo test", "it is this"),
    ("packaging/build ", "packages have tests of their own"),
    ("sudo apt install ", "it installs on this machine"),
    ("cargo build --release --locked", "it builds for minutes"),
    ("sudo sh packaging/install ", "it installs on this machine"),
    ("sudo systemctl ", "it starts a service on this machine"),
    ("kill -USR1 ", "the daemon's pid file is not in /run here; SIGUSR1 has tests of its own"),
    ("sed -n 's/.* status json=//p' /var/log/oxinetd.log", "as above"),
    ("oxinetctl upgrade", "upgrades have tests of their own"),
];

/// The commands of the README: the lines of `sh` blocks, without remarks; those of `console` blocks have a test of
/// their own.
fn commands_of_readme() -> Vec<String> {
    let readme = read("README.md");
    let blocks = readme.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    let lines: Vec<String> = blocks.flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let plain = lines.iter().map(|line| line.split("  #").next().unwrap().trim().to_owned());
    plain.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// The commands of a manual page: `.Dl # COMMAND` and `.Dl $ COMMAND`.
fn commands_of_page(name: &str) -> Vec<String> {
    let plain = |line: &str| line.replace("\\(dq", "\"").replace("\\-", "-").replace("\\&", "").replace("\\e", "\\");
    let page = read(name);
    let lines = page.lines().filter_map(|line| line.strip_prefix(".Dl "));
    lines.filter_map(|line| line.strip_prefix("# ").or_else(|| line.strip_prefix("$ "))).map(plain).collect()
}

fn all_commands() -> Vec<String> {
    let pages = ["man/oxinetd.8", "man/oxinetd.yaml.5", "man/oxinetctl.8"];
    commands_of_readme().into_iter().chain(pages.into_iter().flat_map(commands_of_page)).collect()
}

/// A folder that stands for the machine: old configuration, a table with a service `git`, a home.
fn machine() -> Daemon {
    let (git, old, echo) = (free_port(), free_port(), free_port());
    let setup = Setup::new(&format!("services:\n  git: {{ listen: {git}, program: /bin/cat }}\n"));
    let root = setup.folder.path().to_owned();
    let put = |name: &str, text: &str| {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), text).unwrap();
    };
    let user = own_user();
    put("etc/inetd.conf", &format!("{old} stream tcp nowait {user} /bin/cat cat\n"));
    let include = "include: [services.d/*.yaml]\ndaemon: { control: none, log: { to: stderr } }\n";
    put("etc/oxinetd/oxinetd.yaml", include);
    put("etc/oxinetd/services.d/.keep", "");
    put("home/services.yaml", &format!("services: {{ a: {{ listen: {echo}, program: /bin/cat }} }}\n"));
    // The table that oxinetd(8) has just shown.
    let page = read("man/oxinetd.8");
    let example = page.split(".Sh EXAMPLES").nth(1).unwrap().split(".Bd -literal").nth(1).unwrap();
    let example = example.split_once('\n').unwrap().1.split(".Ed").next().unwrap();
    put("home/echo.yaml", &example.replace("10007", &echo.to_string()));
    put("home/.local/share/bash-completion/completions/.keep", "");
    let examples = root.join("usr/local/share/doc/oxinetd/examples/services.d");
    fs::create_dir_all(&examples).unwrap();
    for file in fs::read_dir(path("etc/services.d")).unwrap().map(|entry| entry.unwrap().path()) {
        fs::copy(&file, examples.join(file.file_name().unwrap())).unwrap();
    }
    // The names that the pages use, for the binaries of this build.
    let bin = root.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let table = root.join("etc/oxinetd/oxinetd.yaml");
    let daemon = format!(
        "#!/bin/sh\ncase \" $* \" in *' -c '*) ;; *) set -- -c {} \"$@\" ;; esac\nexec {} --control none \"$@\"\n",
        table.display(),
        support::OXINETD
    );
    let control = format!(
        "#!/bin/sh\nexec {} --socket {}/control.sock \"$@\"\n",
        env!("CARGO_BIN_EXE_oxinetctl"),
        root.display()
    );
    for (name, script) in [("oxinetd", daemon), ("oxinetctl", control), ("sudo", "#!/bin/sh\nexec \"$@\"\n".to_owned())]
    {
        put_program(&bin.join(name), script);
    }
    setup.start()
}

/// Runs a line of shell on that machine, in a directory of it; a daemon in the foreground for a moment only.
fn run(daemon: &Daemon, directory: &Path, line: &str, serves: bool) -> Output {
    let root = daemon.folder.path();
    let of_machine =
        |line: &str, folder: &str| line.replace(&format!(" {folder}"), &format!(" {}{folder}", root.display()));
    let line = ["/etc/", "/usr/local/"].iter().fold(line.to_owned(), |line, folder| of_machine(&line, folder));
    let line = line.replace("/run/oxinetd/control.sock", &root.join("control.sock").display().to_string());
    let line = if serves { format!("timeout -s TERM 2 {line}") } else { line };
    let path = format!("{}:{}", root.join("bin").display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &line]).current_dir(directory).env("PATH", path).env("HOME", root.join("home"));
    shell.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn every_command_works_as_it_is_written() {
    if !is_root() {
        return skip("needs root: finger is for port 79");
    }
    let daemon = machine();
    let mut directory = daemon.path("home");
    let mut ran = 0;
    for line in all_commands() {
        if NOT_RUN.iter().any(|(start, _)| line.starts_with(start)) {
            continue;
        }
        if let Some(to) = line.strip_prefix("cd ") {
            directory = daemon.folder.path().join(to.trim_start_matches('/'));
            continue;
        }
        if line.contains("| jq") && support::installed("jq").is_none()
            || line.contains("| nc") && support::installed("nc").is_none()
        {
            skip(&format!("a program is absent for: {line}"));
            continue;
        }
        let here =
            if line.contains("finger") || line.contains("sudo oxinetd") { &directory } else { &daemon.path("home") };
        let serves = line.starts_with("oxinetd ") && !line.contains("--check") && !line.contains("--dump");
        let output = run(&daemon, here, &line, serves);
        let expected = if serves { 124 } else { 0 };
        assert_eq!(output.status.code(), Some(expected), "{line}: {output:?}");
        if line.starts_with("oxinetctl ") && !line.contains('>') {
            assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{line}: {output:?}");
        }
        ran += 1;
    }
    assert!(ran > 25, "only {ran} commands");
    let translated = fs::read_to_string(daemon.path("home/oxinetd.yaml")).unwrap();
    assert!(translated.contains("services:") && translated.contains("/bin/cat"), "{translated}");
    let completions = daemon.path("home/.local/share/bash-completion/completions/oxinetctl");
    assert!(fs::read_to_string(completions).unwrap().contains("explain"));
}

#[test]
fn commands_that_are_not_run_are_still_documented() {
    let commands = all_commands();
    for (start, why) in NOT_RUN {
        assert!(commands.iter().any(|line| line.starts_with(start)), "no command begins with {start:?} ({why})");
    }
}

#[test]
fn quick_start_answers_as_the_readme_says() {
    if support::installed("bash").is_none() {
        return skip("bash is not installed");
    }
    let (echo, date, hello) = (free_port(), free_port(), free_port());
    let ports = [("10007", echo), ("10013", date), ("10023", hello)];
    let of_ours =
        |text: &str| ports.iter().fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, &ours.to_string()));
    let _daemon = Daemon::start(&of_ours(&read("etc/quickstart.yaml")));
    let readme = read("README.md");
    let block = readme.split("```console\n").nth(1).unwrap().split("```").next().unwrap();
    let mut expected: Vec<(String, Vec<String>)> = Vec::new();
    for line in block.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => expected.push((of_ours(command), Vec::new())),
            None => expected.last_mut().unwrap().1.push(line.to_owned()),
        }
    }
    assert_eq!(expected.len(), 2, "{block}");
    // Digits, names of days and of months are those of another moment.
    let shape = |line: &str| {
        let words = line.split_whitespace().map(|word| {
            let other = word.chars().any(|character| character.is_ascii_digit()) || word.len() == 3;
            if other { "*".to_owned() } else { word.to_owned() }
        });
        words.collect::<Vec<_>>().join(" ")
    };
    for (command, lines) in expected {
        let output = Command::new("bash").args(["-c", &command]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let found: Vec<String> = text.lines().map(shape).collect();
        assert_eq!(found, lines.iter().map(|line| shape(line)).collect::<Vec<_>>(), "{command}: {text}");
    }
}
