//! Descriptors: the standard three, their number, and the high place of those that live long.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// From where on descriptors live that stay open for long, unless the limit is lower. A handler's start copies the
/// descriptor table up to the connection's number, so that number is kept low by keeping the others high.
const HIGH: i32 = 512;

static FLOOR: AtomicI32 = AtomicI32::new(HIGH);

/// Moves a descriptor to a high number; close-on-exec. Where there is none left it gets any other: that costs time, and
/// nothing else.
///
/// # Errors
/// `EMFILE`.
pub fn high(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    copy_high(descriptor.as_fd())
}

/// Duplicates a descriptor at a high number, or at any other if there is none left; close-on-exec.
///
/// # Errors
/// `EMFILE`.
pub fn copy_high(descriptor: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let copy = |least| fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(least));
    super::adopt(copy(FLOOR.load(Ordering::Relaxed)).or_else(|_| copy(3))?)
}

/// Says whether a descriptor stays open over execve(2).
///
/// # Errors
/// None that an open descriptor can have.
pub fn keep_over_exec(descriptor: BorrowedFd<'_>, keep: bool) -> io::Result<()> {
    let flags = if keep { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
    fcntl(descriptor, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// Takes over a descriptor that the program before this one has left open, by its number; close-on-exec from now on.
/// What this program has opened, or has taken over already, is close-on-exec, so nothing can get two owners.
///
/// # Errors
/// `EBADF`: there is none that was left open.
pub fn inherit(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved; the kernel says whether the number is open.
    let flags = super::check(unsafe { libc::fcntl(number, libc::F_GETFD) }.into())?;
    if number <= 2 || flags & i64::from(libc::FD_CLOEXEC) != 0 {
        return Err(Errno::EBADF.into());
    }
    let inherited = super::adopt(number)?;
    keep_over_exec(inherited.as_fd(), false)?;
    Ok(inherited)
}

/// A descriptor that an upgrade hands to the next program: it is written as its number, and who reads that takes the
/// descriptor over, see [`inherit`].
#[derive(Debug)]
pub struct Inheritable(pub OwnedFd);

impl AsFd for Inheritable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Serialize for Inheritable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(self.0.as_raw_fd())
    }
}

impl<'de> Deserialize<'de> for Inheritable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = RawFd::deserialize(deserializer)?;
        inherit(number).map(Self).map_err(|error| D::Error::custom(format!("descriptor {number}: {error}")))
    }
}

/// A file in memory, for a program to come.
///
/// # Errors
/// No memory or descriptors.
pub fn memory_file(name: &CStr) -> io::Result<File> {
    let file = memfd_create(name, MFdFlags::MFD_CLOEXEC)?;
    Ok(File::from(high(file)?))
}

/// Makes descriptor 0 /dev/null, which handlers with `stderr: null` get a copy of. 1 and 2 exist: Rust's runtime opens
/// /dev/null for those of the three that are closed at start.
///
/// # Errors
/// /dev/null can't be opened.
pub fn standard() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    Ok(())
}

/// Makes descriptors 1 and 2 copies of 0, for a daemon that has left its terminal.
///
/// # Errors
/// None that an open descriptor 0 can have.
pub fn mute() -> io::Result<()> {
    nix::unistd::dup2_stdout(io::stdin())?;
    nix::unistd::dup2_stderr(io::stdin())?;
    Ok(())
}

/// The limit on open descriptors as it was when the daemon started, which handlers get back: programs that use
/// select(2) break above 1024. Soft, hard.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Nofile {
    /// Soft limit at start.
    pub soft: u64,
    /// Hard limit, and the daemon's own soft limit from now on.
    pub hard: u64,
}

/// Raises the daemon's own limit as far as it may.
///
/// # Errors
/// The limits can't be read or set.
pub fn raise_limit() -> io::Result<Nofile> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    // With a very low limit the high place is its upper half.
    let floor = i32::try_from(hard / 2).unwrap_or(HIGH).min(HIGH);
    FLOOR.store(floor, Ordering::Relaxed);
    Ok(Nofile { soft, hard })
}

/// Makes the descriptor table large enough for `most` descriptors, as far as the limit goes. The kernel lets a process
/// with threads wait for tens of milliseconds each time that its table grows (`expand_fdtable`): call this while there
/// is one thread.
pub fn make_room(most: u64) {
    let last = i32::try_from(most).unwrap_or(i32::MAX).saturating_sub(1);
    // Beyond the limit there is nothing to make room for, and the table grows when it must.
    if let Ok(number) = fcntl(io::stdin(), FcntlArg::F_DUPFD_CLOEXEC(last)) {
        drop(super::adopt(number));
    }
}

/// A descriptor kept for the day when there are no more: close it, accept, turn the client away, reserve again.
#[derive(Debug)]
pub struct Reserve(Option<OwnedFd>);

impl Reserve {
    /// Reserves one.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Some(copy_high(io::stdin().as_fd())?)))
    }

    /// Runs `with_room` while the reserved descriptor is given back to the kernel.
    pub fn lend<T>(&mut self, with_room: impl FnOnce() -> T) -> T {
        self.0 = None;
        let result = with_room();
        self.0 = copy_high(io::stdin().as_fd()).ok();
        result
    }
}

/// Sets or clears `O_NONBLOCK`. The flag belongs to the open socket, not to the descriptor: whoever has a copy of it may
/// have changed it (in.tftpd does).
///
/// # Errors
/// None that an open socket can have.
pub fn set_nonblocking(descriptor: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFL)?);
    if flags.contains(OFlag::O_NONBLOCK) != on {
        fcntl(descriptor, FcntlArg::F_SETFL(flags ^ OFlag::O_NONBLOCK))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn only_what_was_left_open_can_be_inherited_and_only_once() {
        let file = high(File::open("/dev/null").unwrap().into()).unwrap();
        let number = file.as_raw_fd();
        assert_eq!(inherit(number).unwrap_err().raw_os_error(), Some(libc::EBADF), "it is somebody's");
        keep_over_exec(file.as_fd(), true).unwrap();
        // As after execve(2): nobody knows of it but by its number.
        std::mem::forget(file);
        let inherited = inherit(number).unwrap();
        assert_eq!(inherit(number).unwrap_err().raw_os_error(), Some(libc::EBADF), "it is somebody's now");
        drop(inherited);
        assert_eq!(inherit(number).unwrap_err().raw_os_error(), Some(libc::EBADF), "it is closed");
        for standard in [-1, 0, 1, 2] {
            assert!(inherit(standard).is_err(), "{standard}");
        }
    }
}
