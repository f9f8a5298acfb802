//! The program on disk that an upgrade runs: its path, its command line, its environment, and the execve(2) itself.
//!
//! The preflight starts it as a child, and the upgrade replaces this process by it. Nothing here changes the daemon;
//! [`RunningProgram::exec`] returns only if it has failed.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::execve;

use super::error::UpgradeError;

/// The option of the command line that says where the state is.
pub const TAKE_OVER_OPTION: &str = "take-over";

/// The value of that option in a preflight.
pub const PREFLIGHT_VALUE: &str = "rehearse";

/// The program of this process and its arguments, which the next program gets too.
#[derive(Debug)]
pub(in crate::server) struct RunningProgram {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl RunningProgram {
    /// The program of this process. Call it at the start, before the file can have been replaced.
    pub(in crate::server) fn of_this_process() -> io::Result<Self> {
        let ours = |argument: &OsString| argument.as_bytes().starts_with(format!("--{TAKE_OVER_OPTION}").as_bytes());
        let arguments = std::env::args_os().filter(|argument| !ours(argument)).collect();
        Ok(Self { path: std::env::current_exe()?, arguments })
    }

    /// The path of the program's file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The command line of the next program. `state` is the value of `--take-over`.
    pub(super) fn command_line(&self, state: &str) -> Vec<CString> {
        let own = OsString::from(format!("--{TAKE_OVER_OPTION}={state}"));
        let (first, rest) = self.arguments.split_at(self.arguments.len().min(1));
        first.iter().chain([&own]).chain(rest).filter_map(|word| CString::new(word.as_bytes()).ok()).collect()
    }

    /// Replaces this process by the program on disk. Returns only if that has failed.
    pub(super) fn exec(&self, state: &str) -> UpgradeError {
        match CString::new(self.path.as_os_str().as_bytes()) {
            Err(_) => UpgradeError::NulInPath(self.path.clone()),
            Ok(path) => match execve(&path, &self.command_line(state), &current_environment()) {
                Ok(never) => match never {},
                Err(errno) => UpgradeError::Exec(self.path.clone(), errno),
            },
        }
    }
}

/// The environment of this process, which the next program gets too.
pub(super) fn current_environment() -> Vec<CString> {
    let pair =
        |(name, value): (OsString, OsString)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok();
    std::env::vars_os().filter_map(pair).collect()
}
