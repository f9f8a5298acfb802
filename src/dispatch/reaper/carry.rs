//! Live handlers as an upgrade hands them to the next program: the descriptors of their processes, and what they are.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{About, Handler, Kernel, Pidfds, Reaper};
use crate::planted::{Bug, planted};
use crate::types::Ticket;

/// One live handler.
#[derive(Debug, Serialize, Deserialize)]
pub struct Carried {
    /// The place that it holds.
    pub ticket: Ticket,
    /// Its start is over.
    pub born: bool,
    pid: i32,
    descriptor: RawFd,
    about: About,
    end: Option<(Duration, i32)>,
}

impl<K: Kernel> Reaper<K> {
    /// What a new program needs to go on with the same handlers. There must be nothing on the exit queue.
    pub fn carry(&self) -> impl Iterator<Item = Carried> + '_ {
        self.handlers.iter().map(|(&ticket, handler)| Carried {
            ticket,
            born: handler.born,
            pid: handler.pid,
            descriptor: K::number(&handler.handle),
            about: handler.about.clone(),
            end: handler.end,
        })
    }

    /// Takes over a handler of the program before this one.
    ///
    /// # Errors
    /// Its descriptor is not open.
    pub fn take_over(&mut self, carried: Carried) -> io::Result<()> {
        let Carried { ticket, pid, descriptor, about, end, born } = carried;
        // How a start ended that was not over is not known to us: its process is taken for a handler.
        let born = born || !planted(Bug::UnbornForEver);
        let handle = K::inherit(descriptor)?;
        if self.kernel.watch(&handle, ticket).is_err() {
            self.unwatched.push(ticket);
        }
        self.ends.extend(end.map(|(when, _)| (when, ticket)));
        self.handlers.insert(ticket, Handler { pid, handle, about, born, end });
        Ok(())
    }
}

impl Reaper<Pidfds> {
    /// The descriptors that must stay open over the execve(2) of an upgrade.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.handlers.values().map(|handler| handler.handle.as_fd())
    }
}
