//! From a prepared [`Plan`] to a running process: `clone(CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_PIDFD)`.
//!
//! The daemon's memory is not copied (fork(2) costs time in proportion to it) and its descriptor table neither: the
//! child shares both until its first act, `close_range(…, CLOSE_RANGE_UNSHARE)`, which copies only what lies below
//! the connection's descriptor. The calling thread sleeps until the child has called execve(2) or has given up, so
//! the failing step and its errno come back as a value.
//!
//! The child makes raw system calls and nothing else: no libc wrapper (glibc's setuid(3) speaks to other threads),
//! no allocation, no lock, no panic. The caller keeps all signals blocked, so no handler of the daemon can run in it.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
use libc::{SYS_setgroups as SETGROUPS, SYS_setresgid as SETRESGID, SYS_setresuid as SETRESUID};
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
use libc::{SYS_setgroups32 as SETGROUPS, SYS_setresgid32 as SETRESGID, SYS_setresuid32 as SETRESUID};

/// Everything that the child does, in the order of the fields; nothing is looked up or allocated later.
pub struct Plan<'a> {
    /// The descriptor that becomes 0 and 1; above 2.
    pub connection: BorrowedFd<'a>,
    /// What becomes of descriptor 2.
    pub stderr: Stderr,
    /// Limits to set.
    pub rlimits: &'a [Limit],
    /// Priority to set, -20 to 19.
    pub nice: Option<i32>,
    /// File mode creation mask.
    pub umask: u32,
    /// New root directory.
    pub chroot: Option<&'a CStr>,
    /// Directory to start in, below the new root.
    pub directory: &'a CStr,
    /// Whom to become: user id, group id, supplementary groups.
    pub credentials: Option<(u32, u32, &'a [u32])>,
    /// Executable file.
    pub path: &'a CStr,
    /// Arguments.
    pub argv: &'a Strings,
    /// Environment, `NAME=value` each.
    pub env: &'a Strings,
}

/// What becomes of the child's descriptor 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stderr {
    /// The daemon's own.
    Keep,
    /// The connection.
    Connection,
    /// The daemon's descriptor 0, which is /dev/null (see [`super::descriptor::standard`]).
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

    /// The strings.
    #[must_use]
    pub fn of<'a>(strings: impl IntoIterator<Item = &'a CStr>) -> Self {
        let mut own = Self::default();
        own.refill(|bytes| strings.into_iter().for_each(|string| bytes.extend(string.to_bytes_with_nul())));
        own
    }
}

/// A process that was started.
#[derive(Debug)]
pub struct Child {
    /// Its process id; for logs and for signals to its group, never to look something up.
    pub pid: i32,
    /// Readable when it has ended; close-on-exec.
    pub pidfd: OwnedFd,
}

/// The step at which a handler could not be started, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The step.
    pub step: Step,
    /// `errno` of the failed call.
    pub errno: i32,
}

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// The steps from a connection to a running handler, in order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Step { $($(#[$doc])* $name,)* }
        impl Step {
            /// Every step, in order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
            /// The word in logs, status and metrics.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

steps! {
    /// clone(2): no process could be made; the only step that fails in the daemon itself.
    Clone = "clone",
    /// close_range(2), dup2(2): descriptors 0, 1 and 2.
    Descriptors = "descriptors",
    /// setsid(2).
    Session = "setsid",
    /// prlimit(2).
    Rlimits = "rlimits",
    /// setpriority(2).
    Nice = "nice",
    /// chroot(2).
    Chroot = "chroot",
    /// chdir(2).
    Directory = "directory",
    /// setgroups(2).
    Groups = "groups",
    /// setresgid(2).
    Group = "group",
    /// setresuid(2).
    User = "user",
    /// rt_sigaction(2), rt_sigprocmask(2).
    Signals = "signals",
    /// execve(2).
    Exec = "exec",
}

/// A stack for the child, with a page below it that must not be touched.
#[derive(Debug)]
pub struct Stack {
    base: *mut c_void,
}

impl Stack {
    /// Far more than the child's few frames need, also in a debug build.
    const SIZE: usize = 128 * 1024;
    const GUARD: usize = 64 * 1024;

    /// Maps a stack.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { libc::mmap(ptr::null_mut(), Self::SIZE + Self::GUARD, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self { base };
        // SAFETY: the range lies inside the mapping made above, which nobody uses yet.
        let result =
            unsafe { libc::mprotect(base.byte_add(Self::GUARD), Self::SIZE, libc::PROT_READ | libc::PROT_WRITE) };
        super::check(result.into()).map(|_| stack)
    }

    /// Where the child's stack begins: it grows down. Page-aligned, hence 16-byte aligned as the ABIs demand.
    fn top(&mut self) -> *mut c_void {
        // SAFETY: one past the end of the mapping.
        unsafe { self.base.byte_add(Self::GUARD + Self::SIZE) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no child runs on it: `spawn` borrows the stack until the child is gone.
        unsafe { libc::munmap(self.base, Self::SIZE + Self::GUARD) };
    }
}

/// What parent and child share while the parent sleeps.
struct Shared<'a> {
    plan: &'a Plan<'a>,
    /// Signals that are ignored or caught in the daemon.
    signals: &'a [c_int],
    failure: Option<Failure>,
}

/// Does this kernel know close_range(2) with `CLOSE_RANGE_UNSHARE`, the youngest call that is needed (Linux 5.9)?
///
/// # Errors
/// `ENOSYS` if not.
pub fn supported() -> io::Result<()> {
    // SAFETY: the range holds no descriptor, and no memory is involved.
    super::check(unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, 0) }).map(|_| ())
}

/// Starts the process that `plan` describes. All signals must be blocked in the calling thread; `signals` are those
/// that the daemon ignores or catches, which go back to their default.
///
/// # Errors
/// The step that failed. Then there is no process left: a child that had been made has been waited for.
pub fn spawn(stack: &mut Stack, plan: &Plan<'_>, signals: &[c_int]) -> Result<Child, Failure> {
    let mut shared = Shared { plan, signals, failure: None };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut pidfd: RawFd = -1;
    // SAFETY: the child runs `child` on its own stack. It shares our memory, but CLONE_VFORK keeps this thread asleep
    // until the child has left it by execve or _exit, so `shared`, `plan` and `stack` outlive its use of them and
    // nobody else reads or writes them meanwhile. `child` makes raw system calls only.
    let pid = unsafe { libc::clone(child, stack.top(), flags, (&raw mut shared).cast(), &raw mut pidfd) };
    if pid < 0 {
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN);
        return Err(Failure { step: Step::Clone, errno });
    }
    // SAFETY: clone succeeded with CLONE_PIDFD, so `pidfd` is a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    // SAFETY: `shared` is ours again. A volatile read, as the compiler has not seen the child write.
    match unsafe { ptr::read_volatile(&raw const shared.failure) } {
        None => Ok(Child { pid, pidfd }),
        Some(failure) => {
            // The child is in _exit(2) already: this waits for microseconds, and leaves no zombie.
            let _ = super::pidfd::wait_for_end(&pidfd);
            Err(failure)
        }
    }
}

/// The child's whole life before execve.
extern "C" fn child(shared: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes a `Shared` that lives until this process has left its memory, and does not touch it.
    let shared = unsafe { &mut *shared.cast::<Shared<'_>>() };
    let failure = become_handler(shared.plan, shared.signals);
    // SAFETY: a plain write that the parent reads after it has been woken; volatile so that it is not left out.
    unsafe { ptr::write_volatile(&raw mut shared.failure, Some(failure)) };
    // SAFETY: ends this process only; no destructor or atexit function of the daemon may run here.
    unsafe { libc::syscall(libc::SYS_exit_group, 127 as c_long) };
    127
}

/// Runs the steps of `plan`. Comes back only if one fails.
fn become_handler(plan: &Plan<'_>, signals: &[c_int]) -> Failure {
    match steps(plan, signals) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

enum Never {}

fn steps(plan: &Plan<'_>, signals: &[c_int]) -> Result<Never, Failure> {
    limit_time();
    descriptors(plan)?;
    call(Step::Session, libc::SYS_setsid, [0; 4])?;
    for limit in plan.rlimits {
        let value = [limit.soft, limit.hard];
        let arguments = [0, limit.resource.into(), value.as_ptr() as c_long, 0];
        call(Step::Rlimits, libc::SYS_prlimit64, arguments)?;
    }
    if let Some(nice) = plan.nice {
        call(Step::Nice, libc::SYS_setpriority, [libc::PRIO_PROCESS as c_long, 0, nice.into(), 0])?;
    }
    call(Step::Directory, libc::SYS_umask, [plan.umask as c_long, 0, 0, 0])?;
    if let Some(root) = plan.chroot {
        call(Step::Chroot, libc::SYS_chroot, [root.as_ptr() as c_long, 0, 0, 0])?;
        call(Step::Chroot, libc::SYS_chdir, [c"/".as_ptr() as c_long, 0, 0, 0])?;
    }
    call(Step::Directory, libc::SYS_chdir, [plan.directory.as_ptr() as c_long, 0, 0, 0])?;
    if let Some((uid, gid, groups)) = plan.credentials {
        call(Step::Groups, SETGROUPS, [groups.len() as c_long, groups.as_ptr() as c_long, 0, 0])?;
        call(Step::Group, SETRESGID, [gid.into(), gid.into(), gid.into(), 0])?;
        call(Step::User, SETRESUID, [uid.into(), uid.into(), uid.into(), 0])?;
    }
    default_signals(signals)?;
    let (path, argv, env) = (plan.path.as_ptr(), plan.argv.list.as_ptr(), plan.env.list.as_ptr());
    call(Step::Exec, libc::SYS_execve, [path as c_long, argv as c_long, env as c_long, 0])?;
    Err(Failure { step: Step::Exec, errno: libc::ENOEXEC })
}

/// How long a child may take until execve(2) is done, in seconds.
const PATIENCE: c_long = 5;

/// Has the kernel end this process if it comes to no end: the daemon sleeps until then. Whoever it is to become can stop
/// it (SIGSTOP can't be blocked), and a file system can be dead. The timer is gone with execve(2) (timer_create(2)).
/// Where there are no timers left it must do without.
fn limit_time() {
    // SAFETY: all zero is a valid sigevent.
    let mut event = unsafe { std::mem::zeroed::<libc::sigevent>() };
    (event.sigev_signo, event.sigev_notify) = (libc::SIGKILL, libc::SIGEV_SIGNAL);
    let mut timer: c_int = 0;
    // The kernel's struct itimerspec: interval and first time, seconds and nanoseconds each.
    let once = [0, 0, PATIENCE, 0];
    // SAFETY: the addresses are of values of the right type that live longer than the calls.
    unsafe {
        let (event, timer_address) = (&raw const event, &raw mut timer);
        if libc::syscall(libc::SYS_timer_create, libc::CLOCK_MONOTONIC, event, timer_address) == 0 {
            libc::syscall(libc::SYS_timer_settime, timer, 0, once.as_ptr(), ptr::null_mut::<c_long>());
        }
    }
}

/// Leaves the shared descriptor table, then makes 0, 1 and 2 and closes the rest.
fn descriptors(plan: &Plan<'_>) -> Result<(), Failure> {
    let connection = c_long::from(plan.connection.as_raw_fd());
    let last = c_long::from(u32::MAX);
    // Before this call the daemon's own table must not be touched.
    call(Step::Descriptors, libc::SYS_close_range, [connection + 1, last, libc::CLOSE_RANGE_UNSHARE.into(), 0])?;
    match plan.stderr {
        Stderr::Keep => {}
        Stderr::Null => duplicate(0, 2)?,
        Stderr::Connection => duplicate(connection, 2)?,
    }
    duplicate(connection, 0)?;
    duplicate(connection, 1)?;
    call(Step::Descriptors, libc::SYS_close_range, [3, last, 0, 0])
}

/// dup2(2) by dup3(2), which every architecture has. The copy is not close-on-exec.
fn duplicate(from: c_long, to: c_long) -> Result<(), Failure> {
    call(Step::Descriptors, libc::SYS_dup3, [from, to, 0, 0])
}

/// Ignored signals stay ignored over execve, and caught ones could run the daemon's handler in this process once they
/// are unblocked: both go back to their default. Then nothing is blocked any more.
fn default_signals(signals: &[c_int]) -> Result<(), Failure> {
    // The kernel's struct sigaction: handler, flags, restorer and mask; all zero is SIG_DFL without flags.
    let default = [0_u64; 4];
    for &signal in signals {
        let arguments = [signal.into(), default.as_ptr() as c_long, 0, KERNEL_SIGSET];
        call(Step::Signals, libc::SYS_rt_sigaction, arguments)?;
    }
    let empty = 0_u64;
    let arguments = [libc::SIG_SETMASK.into(), &raw const empty as c_long, 0, KERNEL_SIGSET];
    call(Step::Signals, libc::SYS_rt_sigprocmask, arguments)
}

/// Size in bytes of the kernel's signal set: 64 signals.
pub(super) const KERNEL_SIGSET: c_long = 8;

/// One raw system call with up to four arguments.
fn call(step: Step, number: c_long, [a, b, c, d]: [c_long; 4]) -> Result<(), Failure> {
    // SAFETY: every caller above passes what its system call demands: numbers, or addresses of values that live
    // longer than the call. errno is this thread's, borrowed from the sleeping parent.
    if unsafe { libc::syscall(number, a, b, c, d) } < 0 {
        // SAFETY: reads the errno that the call above has set.
        return Err(Failure { step, errno: unsafe { *libc::__errno_location() } });
    }
    Ok(())
}
