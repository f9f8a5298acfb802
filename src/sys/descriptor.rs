//! Descriptors: the standard three, the limit on their number, the high numbers of long-lived ones, and those that
//! an upgrade hands on.
//!
//! Every module that keeps a descriptor open may call this. Nothing here closes a descriptor that it does not own,
//! and no descriptor can get two owners. Errors are those of the system, above all `EMFILE`.

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

/// The lowest number of a long-lived descriptor, unless the limit on open files is too low for it. The start of a
/// handler copies the descriptor table up to the connection's number; that number stays low: the others are high.
const HIGH_MIN: i32 = 512;

static HIGH_FLOOR: AtomicI32 = AtomicI32::new(HIGH_MIN);

/// Moves a descriptor to a high number; close-on-exec. Without a high number left it gets a low one.
///
/// # Errors
/// `EMFILE`.
pub fn move_high(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    copy_high(descriptor.as_fd())
}

/// Duplicates a descriptor at a high number, or at a low one if none is left; close-on-exec.
///
/// # Errors
/// `EMFILE`.
pub fn copy_high(descriptor: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let copy = |least| fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(least));
    super::adopt(copy(HIGH_FLOOR.load(Ordering::Relaxed)).or_else(|_| copy(3))?)
}

/// Sets whether a descriptor stays open over execve(2).
///
/// # Errors
/// None that an open descriptor can have.
pub fn keep_over_exec(descriptor: BorrowedFd<'_>, keep: bool) -> io::Result<()> {
    let flags = if keep { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
    fcntl(descriptor, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// Takes over a descriptor, by its number, that the program before this one has left open; close-on-exec from now
/// on. A descriptor that this program has opened or taken over is close-on-exec, so none can get two owners.
///
/// # Errors
/// `EBADF`: no descriptor of this number was left open.
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

/// A descriptor that an upgrade hands to the next program. It is serialised as its number; reading that number
/// takes the descriptor over, see [`inherit`].
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

/// A file in memory (memfd_create(2)), close-on-exec.
///
/// # Errors
/// No memory or descriptors.
pub fn memory_file(name: &CStr) -> io::Result<File> {
    let file = memfd_create(name, MFdFlags::MFD_CLOEXEC)?;
    Ok(File::from(move_high(file)?))
}

/// Makes descriptor 0 /dev/null. A handler with `stderr: null` gets a copy of it. 1 and 2 exist: Rust's runtime
/// opens /dev/null for each of the three that is closed at start.
///
/// # Errors
/// /dev/null can't be opened.
pub fn null_stdin() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    Ok(())
}

/// Makes descriptors 1 and 2 copies of 0, for a daemon that has left its terminal.
///
/// # Errors
/// None that an open descriptor 0 can have.
pub fn mute_output() -> io::Result<()> {
    nix::unistd::dup2_stdout(io::stdin())?;
    nix::unistd::dup2_stderr(io::stdin())?;
    Ok(())
}

/// The limit on open descriptors (`RLIMIT_NOFILE`) at the start of the daemon. Handlers get it back, because
/// programs that use select(2) break above 1024.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Nofile {
    /// Soft limit at start.
    pub soft: u64,
    /// Hard limit, and the daemon's own soft limit from now on.
    pub hard: u64,
}

/// Raises the daemon's own soft limit to the hard limit.
///
/// # Errors
/// The limits can't be read or set.
pub fn raise_limit() -> io::Result<Nofile> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    // With a very low limit the high numbers are its upper half.
    let floor = i32::try_from(hard / 2).unwrap_or(HIGH_MIN).min(HIGH_MIN);
    HIGH_FLOOR.store(floor, Ordering::Relaxed);
    Ok(Nofile { soft, hard })
}

/// Makes the kernel's descriptor table large enough for `count` descriptors, as far as the limit allows. Each time
/// that the table of a process with threads grows, the kernel makes it wait for tens of milliseconds
/// (`expand_fdtable`): call this while there is one thread.
pub fn grow_table(count: u64) {
    let last = i32::try_from(count).unwrap_or(i32::MAX).saturating_sub(1);
    // A number beyond the limit fails; then the table grows when it must.
    if let Ok(number) = fcntl(io::stdin(), FcntlArg::F_DUPFD_CLOEXEC(last)) {
        drop(super::adopt(number));
    }
}

/// A descriptor kept for the moment when no other is left: close it, accept, refuse the client, open it again.
#[derive(Debug)]
pub struct SpareDescriptor(Option<OwnedFd>);

impl SpareDescriptor {
    /// Opens the spare descriptor, a copy of descriptor 0.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Some(copy_high(io::stdin().as_fd())?)))
    }

    /// Runs `action` while the spare descriptor is closed.
    pub fn close_during<T>(&mut self, action: impl FnOnce() -> T) -> T {
        self.0 = None;
        let result = action();
        self.0 = copy_high(io::stdin().as_fd()).ok();
        result
    }
}

/// Sets or clears `O_NONBLOCK`. The flag belongs to the open socket, not to the descriptor: another process that
/// has a copy of the descriptor may have changed it (in.tftpd does).
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
        let file = move_high(File::open("/dev/null").unwrap().into()).unwrap();
        let number = file.as_raw_fd();
        assert_eq!(inherit(number).unwrap_err().raw_os_error(), Some(libc::EBADF), "it has an owner");
        keep_over_exec(file.as_fd(), true).unwrap();
        // As after execve(2): only the number is known.
        std::mem::forget(file);
        let inherited = inherit(number).unwrap();
        assert_eq!(inherit(number).unwrap_err().raw_os_error(), Some(libc::EBADF), "it has an owner again");
        drop(inherited);
        assert_eq!(inherit(number).unwrap_err().raw_os_error(), Some(libc::EBADF), "it is closed");
        for standard in [-1, 0, 1, 2] {
            assert!(inherit(standard).is_err(), "{standard}");
        }
    }
}
