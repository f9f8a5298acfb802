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
use oxinetd::server::{self, Inherited, Options, StartError};
use oxinetd::sys::descriptor;
use oxinetd::sys::detach::{self, Process, Waiting};
use oxinetd::sys::notify::Notify;
use oxinetd::sys::socket;
use oxinetd::{compat, exit};

/// The first word of the command lines of builtins.
const BUILTIN: &str = "builtin";

fn main() -> ExitCode {
    // Handlers begin here, so before anything that only the daemon needs.
    if std::env::args_os().nth(1).is_some_and(|word| word == BUILTIN) {
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
    let files: Vec<_> = arguments.config.iter().map(|path| from_here(path)).collect();
    let options = compat::Options { dialect: arguments.dialect, ..compat::Options::default() };
    match compat::load_with(&files, &options).loaded() {
        Err(problems) => complain(&problems, exit::CONFIG),
        Ok(loaded) if arguments.dump => print(&dump::dump(&loaded.table)),
        Ok(loaded) if arguments.check => complain(&loaded.warnings, 0),
        Ok(loaded) => serve(arguments, files, loaded),
    }
}

/// The path as seen from the root directory, where the daemon works.
fn from_here(path: &Path) -> PathBuf {
    absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// What to do about a log on standard error.
fn unread(options: &Options, loaded: &Loaded) -> Option<String> {
    let settings = options.log_settings(&loaded.table);
    let cure = "log to syslog, the journal or a file, in";
    if settings.place.to == LogTarget::Stderr {
        return Some(format!("{cure} daemon.log.to or by --log"));
    }
    let (name, _) = settings.services.into_iter().find(|(_, place)| place.to == LogTarget::Stderr)?;
    Some(format!("{cure} services.{name}.log.to"))
}

fn serve(arguments: Arguments, files: Vec<PathBuf>, loaded: Loaded) -> ExitCode {
    let options = Options {
        files,
        dialect: arguments.dialect,
        log: arguments.log.map(target),
        control: arguments.control.map(control_place),
        verbose: arguments.verbose > 0,
        pid_file: arguments.pid_file.as_deref().map(from_here),
    };
    if let Some(cure) = unread(&options, &loaded).filter(|_| arguments.daemonize) {
        return complain(
            &[format!("--daemonize leaves the terminal, so nobody would read standard error: {cure}")],
            exit::USAGE,
        );
    }
    // First of all: with a low limit no descriptor could be moved to its high place.
    let nofile = match descriptor::raise_limit() {
        Ok(nofile) => nofile,
        Err(error) => return complain(&[format!("limit on open files: {error}")], exit::SYSTEM),
    };
    let sockets = match passed_sockets() {
        Ok(sockets) => sockets,
        Err(error) => return complain(&[format!("LISTEN_FDS: {error}")], exit::USAGE),
    };
    let notify = Notify::from_env();
    let mut waiting = match arguments.daemonize.then(detach::detach) {
        None => None,
        Some(Ok(Process::Daemon(waiting))) => Some(waiting),
        Some(Ok(Process::First(code))) => return code,
        Some(Err(error)) => return complain(&[format!("--daemonize: {error}")], exit::SYSTEM),
    };
    // So that no file system is kept busy by the daemon.
    let _ = std::env::set_current_dir("/");
    let when_ready = || waiting.take().into_iter().for_each(leave_terminal);
    match server::run(options, loaded, Inherited { sockets, notify, nofile }, when_ready) {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError { lines, status }) => {
            let code = complain(&lines, status);
            waiting.into_iter().for_each(|waiting| waiting.failed(status));
            code
        }
    }
}

/// An upgrade: the process is the daemon already, and all that this program needs to know is in the state.
fn take_over(state: &str) -> ExitCode {
    if state == server::PREFLIGHT {
        return server::preflight().map_or_else(|lines| complain(&lines, exit::CONFIG), |answer| print(&answer));
    }
    let Ok(number) = state.parse() else {
        return complain(&[format!("--{}: {state} is no descriptor", server::TAKE_OVER)], exit::USAGE);
    };
    // The limit itself is as high as it was; this finds out where the high numbers begin.
    let _ = descriptor::raise_limit();
    match server::take_over(number, Notify::from_env()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError { lines, status }) => complain(&lines, status),
    }
}

fn leave_terminal(waiting: Waiting) {
    let _ = descriptor::mute();
    waiting.ready();
}

/// The argument of `--log`.
fn target(place: PathBuf) -> LogTarget {
    match place.to_str() {
        Some("stderr") => LogTarget::Stderr,
        Some("syslog") => LogTarget::Syslog,
        Some("journal") => LogTarget::Journal,
        _ => LogTarget::File(from_here(&place)),
    }
}

/// The argument of `--control`.
fn control_place(place: PathBuf) -> ControlPlace {
    match place.to_str() {
        Some("default") => ControlPlace::Default,
        Some("none") => ControlPlace::None,
        _ => ControlPlace::At(from_here(&place)),
    }
}

/// The sockets of sd_listen_fds(3), if they are meant for this process.
fn passed_sockets() -> io::Result<Vec<OwnedFd>> {
    let number = |name| std::env::var(name).ok()?.parse::<i32>().ok();
    let for_us = number("LISTEN_PID").is_some_and(|pid| u32::try_from(pid) == Ok(std::process::id()));
    socket::passed(number("LISTEN_FDS").filter(|_| for_us).unwrap_or(0))
}

/// One line for each problem, on standard error; nothing is lost if nobody reads them.
fn complain<T: Display>(problems: &[T], status: u8) -> ExitCode {
    let mut stderr = io::stderr().lock();
    for problem in problems {
        let _ = writeln!(stderr, "oxinetd: {problem}");
    }
    ExitCode::from(status)
}

fn print(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&[format!("standard output: {error}")], exit::FAILURE),
    }
}
