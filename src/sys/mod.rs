//! The kernel: the only module with `unsafe`.
//!
//! Each file wraps one small set of system calls in functions that cannot be misused from safe code. Every module
//! may call them. Nothing here knows what a service is, logs, or decides, and errors are those of the system. What
//! the `nix` crate offers safely is used from there directly.
#![allow(unsafe_code, reason = "the only place where it is allowed; each use has its SAFETY reason")]

pub(crate) mod bpf;
pub(crate) mod clock;
pub mod descriptor;
pub mod detach;
pub(crate) mod memory;
pub mod notify;
pub(crate) mod pidfd;
pub mod poll;
pub(crate) mod signals;
pub mod socket;
pub mod spawn;
pub(crate) mod terminal;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;

/// Takes a descriptor number that the kernel has just given to this process.
fn adopt(number: i32) -> io::Result<OwnedFd> {
    check(number.into())?;
    // SAFETY: the number comes straight from a system call that made it, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Checks the result of a raw system call that returns -1 and sets errno.
fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The error number of a system call that failed; `EIO` for an error that has none.
pub(crate) fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
