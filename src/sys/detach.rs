//! Leaving the terminal (`--daemonize`): the old way of daemon(7), for init systems that wait for the first
//! process.
//!
//! `main` calls this once, while there is one thread. It never touches descriptors 0 to 2. It fails where no
//! process or pipe can be made; the first process then still has the terminal, and says so.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use nix::unistd::{ForkResult, fork, pipe, setsid};

/// The daemon's end of the pipe to the first process, which waits for its exit status.
#[derive(Debug)]
pub struct StatusPipe(File);

impl StatusPipe {
    /// Tells the first process that the daemon is ready: it exits with 0.
    pub fn report_ready(mut self) {
        let _ = self.0.write_all(&[0]);
    }

    /// Tells the first process to exit with `status`.
    pub fn report_failure(mut self, status: u8) {
        let _ = self.0.write_all(&[status]);
    }
}

/// The process in which [`fork_daemon`] returns.
#[derive(Debug)]
pub enum DetachedProcess {
    /// The first process, which must exit with this status.
    First(ExitCode),
    /// The daemon, which must report through this pipe.
    Daemon(StatusPipe),
}

/// Forks twice: the daemon leads no session, so it can never get a terminal. The first process waits until the
/// daemon is ready or gone. Must be called while there is one thread.
///
/// # Errors
/// No process or pipe can be made.
pub fn fork_daemon() -> io::Result<DetachedProcess> {
    let (reader, writer) = pipe()?;
    // SAFETY: the process has one thread, so nothing can be locked or half done in the child.
    if let ForkResult::Parent { .. } = unsafe { fork() }? {
        drop(writer);
        return Ok(DetachedProcess::First(await_daemon(File::from(reader))));
    }
    drop(reader);
    setsid()?;
    // SAFETY: as above.
    if let ForkResult::Parent { .. } = unsafe { fork() }? {
        // SAFETY: this ends the process without running anything that the daemon would run again.
        unsafe { libc::_exit(0) };
    }
    Ok(DetachedProcess::Daemon(StatusPipe(File::from(super::descriptor::move_high(writer)?))))
}

/// Waits for the daemon's report. The status is 1 if the daemon ended without one.
fn await_daemon(mut reader: File) -> ExitCode {
    let mut status = [1];
    let _ = reader.read_exact(&mut status);
    ExitCode::from(status[0])
}
