//! From a prepared [`Recipe`] to a running process: `clone(CLONE_VM | CLONE_FILES | CLONE_PIDFD)`, then execve(2).
//!
//! The daemon's memory is not copied (fork(2) costs time in proportion to it) and its descriptor table neither: the
//! child shares both until its first act, `close_range(…, CLOSE_RANGE_UNSHARE)`, which copies only what lies below
//! the connection's descriptor. The daemon does not sleep meanwhile, as vfork(2) would make it: it goes on with other
//! clients, so that several starts are under way on several processors, and a child that comes to no end (whoever it is
//! to become may stop it, a file system may be dead) holds up nobody. All memory that a child uses until execve(2)
//! belongs to its [`Start`], which is told by the kernel when the child has left it, and then knows the failing step
//! and its errno as a value.
//!
//! The child makes raw system calls and nothing else: no libc wrapper (errno is a variable of the daemon's thread, and
//! glibc's setuid(3) speaks to other threads), no allocation, no lock, no panic. The caller keeps all signals blocked,
//! so no handler of the daemon can run in it.

mod child;
mod start;

pub use start::{Child, Start};

use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::ptr;

/// What the children of one kind have in common, in the order in which they do it; nothing is looked up or allocated
/// later.
#[derive(Debug)]
pub struct Recipe {
    /// What becomes of descriptor 2.
    pub stderr: Stderr,
    /// Limits to set.
    pub rlimits: Vec<Limit>,
    /// Priority to set, -20 to 19.
    pub nice: Option<i32>,
    /// File mode creation mask.
    pub umask: u32,
    /// New root directory.
    pub chroot: Option<CString>,
    /// Directory to start in, below the new root.
    pub directory: CString,
    /// Whom to become: user id, group id, supplementary groups.
    pub credentials: Option<(u32, u32, Vec<u32>)>,
    /// Executable file.
    pub path: CString,
    /// Arguments.
    pub argv: Strings,
    /// Signals that the daemon ignores or catches, which go back to their default.
    pub signals: Vec<c_int>,
}

/// What becomes of the child's descriptor 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stderr {
    /// The daemon's own.
    Keep,
    /// The connection.
    Connection,
    /// The daemon's descriptor 0, which is /dev/null (see [`super::descriptor::null_stdin`]).
    Null,
}

/// A resource limit, as prlimit(2) takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// `libc::RLIMIT_*`.
    pub resource: c_int,
    /// Soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// C strings, one after the other, and the list of pointers to them that execve(2) wants.
#[derive(Debug)]
pub struct Strings {
    bytes: Vec<u8>,
    /// Points into `bytes`, whose content does not change while the list is in use; ends with a null pointer.
    list: Vec<*const c_char>,
}

impl Default for Strings {
    fn default() -> Self {
        Self { bytes: Vec::new(), list: vec![ptr::null()] }
    }
}

impl Strings {
    /// Replaces the content: `fill` appends the strings to the (emptied) buffer, a NUL byte after each. The buffers
    /// are kept, so that filling again costs no allocation.
    pub fn refill(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.clear();
        fill(&mut self.bytes);
        self.list.clear();
        let mut rest = self.bytes.as_slice();
        while let Ok(string) = CStr::from_bytes_until_nul(rest) {
            self.list.push(string.as_ptr());
            rest = &rest[string.count_bytes() + 1..];
        }
        self.list.push(ptr::null());
    }

    /// The list of pointers, as execve(2) wants it.
    fn as_ptr(&self) -> *const *const c_char {
        self.list.as_ptr()
    }

    /// The strings.
    #[must_use]
    pub fn of<'a>(strings: impl IntoIterator<Item = &'a CStr>) -> Self {
        let mut own = Self::default();
        own.refill(|bytes| strings.into_iter().for_each(|string| bytes.extend(string.to_bytes_with_nul())));
        own
    }
}

pub use crate::types::SpawnFailure as Failure;

/// Does this kernel know close_range(2) with `CLOSE_RANGE_UNSHARE`, the youngest call that is needed (Linux 5.9)?
///
/// # Errors
/// `ENOSYS` if not.
pub fn supported() -> io::Result<()> {
    // SAFETY: the range holds no descriptor, and no memory is involved.
    super::check(unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, 0) }).map(|_| ())
}

/// Size in bytes of the kernel's signal set: 64 signals.
pub(super) const KERNEL_SIGSET: libc::c_long = 8;
