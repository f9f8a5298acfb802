//! The only door to the kernel, and the only `unsafe`.
//!
//! Each child wraps one small set of system calls in functions that cannot be misused from safe code. Nothing here
//! knows what a service is, logs, or decides. What the `nix` crate already offers safely is used from there directly.
#![allow(unsafe_code, reason = "the only place where it is allowed; each use has its SAFETY reason")]

pub mod bpf;
pub mod clock;
pub mod descriptor;
pub mod detach;
pub mod exec;
pub mod memory;
pub mod notify;
pub mod pidfd;
pub mod poll;
pub mod signals;
pub mod socket;
pub mod terminal;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;

/// Takes a descriptor number that the kernel has just given to this process.
fn adopt(number: i32) -> io::Result<OwnedFd> {
    check(number.into())?;
    // SAFETY: the number comes straight from a system call that made it, so nobody else owns it.
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
