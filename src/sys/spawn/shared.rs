//! The memory that the daemon and a child both use until the child's execve(2). [`super::slot`] owns it; `child.rs`
//! reads it.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::io;
use std::os::fd::RawFd;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicI32, Ordering};

use super::plan::ExecPlan;
use super::step::Failure;
use super::strings::Strings;

/// While a child uses this memory, only `tid` and `failure` change; the daemon reads `failure` when `tid` is zero.
#[derive(Debug)]
pub(super) struct Shared {
    /// Not zero while a child uses this memory: the child's id, once that is known. The kernel clears it when the
    /// child leaves (`CLONE_CHILD_CLEARTID`; musl's clone refuses this flag, so the child first calls
    /// set_tid_address(2)).
    pub(super) tid: AtomicI32,
    pub(super) plan: Option<Rc<ExecPlan>>,
    /// The descriptor that becomes 0 and 1.
    pub(super) connection: RawFd,
    /// The environment, `NAME=value` each.
    pub(super) env: Strings,
    pub(super) failure: UnsafeCell<Option<Failure>>,
    pub(super) stack: Stack,
}

impl Shared {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            tid: AtomicI32::new(0),
            plan: None,
            connection: -1,
            env: Strings::default(),
            failure: UnsafeCell::new(None),
            stack: Stack::new()?,
        })
    }

    pub(super) fn is_unused(&self) -> bool {
        self.tid.load(Ordering::Acquire) == 0
    }
}

/// A stack for a child, with a guard page below it.
#[derive(Debug)]
pub(super) struct Stack {
    base: *mut c_void,
}

impl Stack {
    /// In bytes; far more than the child needs, also in a debug build.
    const SIZE: usize = 64 * 1024;
    /// In bytes; at least a page, on every machine.
    const GUARD_SIZE: usize = 64 * 1024;

    fn new() -> io::Result<Self> {
        let (flags, size) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK, Self::SIZE + Self::GUARD_SIZE);
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { libc::mmap(ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self { base };
        // SAFETY: the range lies inside the mapping made above, which nobody uses yet.
        let result =
            unsafe { libc::mprotect(base.byte_add(Self::GUARD_SIZE), Self::SIZE, libc::PROT_READ | libc::PROT_WRITE) };
        crate::sys::check(result.into()).map(|_| stack)
    }

    /// The end at which the stack begins: it grows down. Page-aligned, hence 16-byte aligned as ABIs demand.
    pub(super) fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of the mapping.
        unsafe { self.base.byte_add(Self::GUARD_SIZE + Self::SIZE) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no child runs on it: a slot forgets it rather than drop it under one.
        unsafe { libc::munmap(self.base, Self::SIZE + Self::GUARD_SIZE) };
    }
}
