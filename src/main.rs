//! oxinetd: arguments → daemon → exit status.

#![deny(unsafe_code)]
#![warn(clippy::unwrap_used)]

use std::fmt::Display;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf, absolute};
use std::process::ExitCode;

use clap::Parser;

use oxinetd::arguments::Arguments;
use oxinetd::builtin;
use oxinetd::config::{ControlPlace, Loaded, dump};
use oxinetd::log::LogTarget;
use oxinetd::server::{self, Inherited, ServerOptions, StartError};
use oxinetd::sys::descriptor;
use oxinetd::sys::detach::{self, DetachedProcess, StatusPipe};
use oxinetd::sys::notify::Notify;
use oxinetd::sys::socket;
use oxinetd::{compat, exit};

/// The first argument of a builtin's command line.
const BUILTIN_WORD: &str = "builtin";

fn main() -> ExitCode {
    // Handlers start here, before any work that only the daemon needs.
    if std::env::args_os().nth(1).is_some_and(|word| word == BUILTIN_WORD) {
        let words: Vec<String> = std::env::args_os().skip(2).map(|word| word.to_string_lossy().into_owned()).collect();
        return ExitCode::from(builtin::run_builtin(&words));
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    if let Some(state) = &arguments.take_over {
        return take_over(state);
    }
    let files: Vec<_> = arguments.config.iter().map(|path| absolute_path(path)).collect();
    let options = compat::Options { dialect: arguments.dialect, ..compat::Options::default() };
    match compat::load_with(&files, &options).loaded() {
        Err(problems) => report_errors(&problems, exit::CONFIG),
        Ok(loaded) if arguments.dump => print_text(&dump::dump(&loaded.table)),
        Ok(loaded) if arguments.check => report_errors(&loaded.warnings, 0),
        Ok(loaded) => serve_table(arguments, files, loaded),
    }
}

/// The absolute path, since the daemon changes to the root directory.
fn absolute_path(path: &Path) -> PathBuf {
    absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The advice for the first log that goes to standard error, if there is any.
fn misplaced_log(options: &ServerOptions, loaded: &Loaded) -> Option<String> {
    let settings = options.log_settings(&loaded.table);
    let cure = "log to syslog, the journal or a file, in";
    if settings.place.to == LogTarget::Stderr {
        return Some(format!("{cure} daemon.log.to or by --log"));
    }
    let (name, _) = settings.services.into_iter().find(|(_, place)| place.to == LogTarget::Stderr)?;
    Some(format!("{cure} services.{name}.log.to"))
}

fn serve_table(arguments: Arguments, files: Vec<PathBuf>, loaded: Loaded) -> ExitCode {
    let options = ServerOptions {
        files,
        dialect: arguments.dialect,
        log: arguments.log.map(log_target),
        control: arguments.control.map(control_place),
        verbose: arguments.verbose > 0,
        pid_file: arguments.pid_file.as_deref().map(absolute_path),
    };
    if let Some(cure) = misplaced_log(&options, &loaded).filter(|_| arguments.daemonize) {
        return report_errors(
            &[format!("--daemonize leaves the terminal, so a log to standard error would be lost: {cure}")],
            exit::USAGE,
        );
    }
    // This comes first: with a low limit no descriptor could be moved to a high number.
    let nofile = match descriptor::raise_limit() {
        Ok(nofile) => nofile,
        Err(error) => return report_errors(&[format!("limit on open files: {error}")], exit::SYSTEM),
    };
    let sockets = match systemd_sockets() {
        Ok(sockets) => sockets,
        Err(error) => return report_errors(&[format!("LISTEN_FDS: {error}")], exit::USAGE),
    };
    let notify = Notify::from_env();
    let mut waiting = match arguments.daemonize.then(detach::fork_daemon) {
        None => None,
        Some(Ok(DetachedProcess::Daemon(waiting))) => Some(waiting),
        Some(Ok(DetachedProcess::First(code))) => return code,
        Some(Err(error)) => return report_errors(&[format!("--daemonize: {error}")], exit::SYSTEM),
    };
    // A daemon in another directory would keep that file system busy.
    let _ = std::env::set_current_dir("/");
    let when_ready = || waiting.take().into_iter().for_each(leave_terminal);
    match server::run(options, loaded, Inherited { sockets, notify, nofile }, when_ready) {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError { lines, status }) => {
            let code = report_errors(&lines, status);
            waiting.into_iter().for_each(|waiting| waiting.report_failure(status));
            code
        }
    }
}

/// Takes over in an upgrade: the process is the daemon already, and the saved state has all that this program
/// needs.
fn take_over(state: &str) -> ExitCode {
    if state == server::PREFLIGHT_VALUE {
        return server::preflight()
            .map_or_else(|error| report_errors(&error.lines, error.status), |answer| print_text(&answer));
    }
    let Ok(number) = state.parse() else {
        return report_errors(&[format!("--{}: {state} is no descriptor", server::TAKE_OVER_OPTION)], exit::USAGE);
    };
    // The limit is raised already; this call finds out where the high numbers begin.
    let _ = descriptor::raise_limit();
    match server::take_over(number, Notify::from_env()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError { lines, status }) => report_errors(&lines, status),
    }
}

fn leave_terminal(waiting: StatusPipe) {
    let _ = descriptor::mute_output();
    waiting.report_ready();
}

/// The argument of `--log`.
fn log_target(place: PathBuf) -> LogTarget {
    match place.to_str() {
        Some("stderr") => LogTarget::Stderr,
        Some("syslog") => LogTarget::Syslog,
        Some("journal") => LogTarget::Journal,
        _ => LogTarget::File(absolute_path(&place)),
    }
}

/// The argument of `--control`.
fn control_place(place: PathBuf) -> ControlPlace {
    match place.to_str() {
        Some("default") => ControlPlace::Default,
        Some("none") => ControlPlace::None,
        _ => ControlPlace::At(absolute_path(&place)),
    }
}

/// The sockets of sd_listen_fds(3), if they are for this process.
fn systemd_sockets() -> io::Result<Vec<OwnedFd>> {
    let number = |name| std::env::var(name).ok()?.parse::<i32>().ok();
    let for_us = number("LISTEN_PID").is_some_and(|pid| u32::try_from(pid) == Ok(std::process::id()));
    socket::take_passed(number("LISTEN_FDS").filter(|_| for_us).unwrap_or(0))
}

/// Writes each problem to standard error, one in a line. An error of writing there is ignored. Returns the exit
/// status.
fn report_errors<T: Display>(problems: &[T], status: u8) -> ExitCode {
    let mut stderr = io::stderr().lock();
    for problem in problems {
        let _ = writeln!(stderr, "oxinetd: {problem}");
    }
    ExitCode::from(status)
}

fn print_text(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report_errors(&[format!("standard output: {error}")], exit::FAILURE),
    }
}
