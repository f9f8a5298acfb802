//! Leaving the terminal (`--daemonize`): the old way of daemon(7), for init systems that wait for the first process.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use nix::unistd::{ForkResult, fork, pipe, setsid};

/// The daemon's end of the pipe to the process that waits for it.
#[derive(Debug)]
pub struct Waiting(File);

impl Waiting {
    /// Tells the waiting process that the daemon is ready: it exits with 0.
    pub fn ready(mut self) {
        let _ = self.0.write_all(&[0]);
    }

    /// Tells the waiting process to exit with `status`.
    pub fn failed(mut self, status: u8) {
        let _ = self.0.write_all(&[status]);
    }
}

/// Which process one is after [`detach`].
#[derive(Debug)]
pub enum Process {
    /// The first one: exit with this.
    First(ExitCode),
    /// The daemon.
    Daemon(Waiting),
}

/// Forks twice: the daemon leads no session, so it can never get a terminal. The first process waits until the daemon
/// is ready or gone. Must be called while there is one thread.
///
/// # Errors
/// No process or pipe can be made.
pub fn detach() -> io::Result<Process> {
    let (reader, writer) = pipe()?;
    // SAFETY: the process has one thread, so nothing can be locked or half done in the child.
    if let ForkResult::Parent { .. } = unsafe { fork() }? {
        drop(writer);
        return Ok(Process::First(wait(File::from(reader))));
    }
    drop(reader);
    setsid()?;
    // SAFETY: as above.
    if let ForkResult::Parent { .. } = unsafe { fork() }? {
        // SAFETY: ends this process without running anything that the daemon would run again.
        unsafe { libc::_exit(0) };
    }
    Ok(Process::Daemon(Waiting(File::from(super::descriptor::high(writer)?))))
}

/// The daemon's byte, or 1 if it ended without a word.
fn wait(mut reader: File) -> ExitCode {
    let mut status = [1];
    let _ = reader.read_exact(&mut status);
    ExitCode::from(status[0])
}
