//! Signals as one readable descriptor and a set of flags; a signal handler does nothing else.
//!
//! All signals are blocked while the daemon works and unblocked only while it waits ([`super::poll::Poll::wait`]),
//! so no signal can interrupt a change of the counts or reach a child that still shares the daemon's memory.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_int, c_ulong};
use nix::sys::signal::{SigSet, Signal};

/// The signals that have arrived and that the daemon has not acted on yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PendingSignals {
    /// SIGHUP.
    pub(crate) reload: bool,
    /// The name of SIGTERM or SIGINT: the daemon stops and leaves its handlers alone.
    pub(crate) stop: Option<&'static str>,
    /// SIGQUIT: the daemon stops and ends its handlers.
    pub(crate) quit: bool,
    /// SIGUSR2: an upgrade to the program on disk.
    pub(crate) upgrade: bool,
    /// SIGUSR1: the status in the log.
    pub(crate) status: bool,
    /// SIGCHLD, which is caught by process 1 alone: some child has ended.
    pub(crate) child: bool,
}

/// The signals that the daemon catches.
#[derive(Debug)]
pub(crate) struct Signals {
    pipe: UnixStream,
    flags: Vec<(Signal, Arc<AtomicBool>)>,
    /// The signals that stay blocked while the daemon waits: all that it does not catch. SIGCHLD, above all, would
    /// end a wait that the handler's pidfd ends anyway.
    mask: SigSet,
}

const CAUGHT: [Signal; 6] =
    [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Signals of the terminal, which keep their ordinary effect in the foreground.
const SUSPENDING: [Signal; 3] = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];

impl Signals {
    /// Installs the signal handlers. With `children` SIGCHLD is caught too, which only process 1 needs.
    ///
    /// # Errors
    /// No descriptors or memory.
    pub(crate) fn install(children: bool) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let ours = UnixStream::from(super::descriptor::move_high(ours.into())?);
        let theirs = super::descriptor::move_high(theirs.into())?;
        let mut flags = Vec::new();
        for signal in CAUGHT.into_iter().chain(children.then_some(Signal::SIGCHLD)) {
            // The flag first: it must be set when the pipe becomes readable.
            let flag = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(signal as c_int, Arc::clone(&flag))?;
            let pipe: OwnedFd = super::descriptor::copy_high(theirs.as_fd())?;
            signal_hook::low_level::pipe::register(signal as c_int, UnixStream::from(pipe))?;
            flags.push((signal, flag));
        }
        let mut mask = SigSet::all();
        flags.iter().map(|(signal, _)| *signal).chain(SUSPENDING).for_each(|signal| mask.remove(signal));
        Ok(Self { pipe: ours, flags, mask })
    }

    /// The signals that stay blocked during a wait.
    pub(super) fn wait_mask(&self) -> &libc::sigset_t {
        self.mask.as_ref()
    }

    /// Delivers the signals that are pending, and blocks all signals again.
    pub(super) fn deliver_pending(&self) {
        // A valid set can't fail.
        let _ = self.mask.thread_set_mask();
        block_all();
    }

    /// Takes the signals that have arrived since the last call. It empties the pipe first and takes the flags after
    /// that: in the other order a signal that arrives in between would be lost.
    pub(crate) fn take_pending(&mut self) -> PendingSignals {
        let mut bytes = [0; 64];
        while matches!((&self.pipe).read(&mut bytes), Ok(1..)) {}
        let mut pending = PendingSignals::default();
        for (signal, flag) in &self.flags {
            if flag.swap(false, Ordering::SeqCst) {
                match *signal {
                    Signal::SIGHUP => pending.reload = true,
                    Signal::SIGTERM => pending.stop = Some("SIGTERM"),
                    Signal::SIGINT => pending.stop = Some("SIGINT"),
                    Signal::SIGQUIT => pending.quit = true,
                    Signal::SIGUSR1 => pending.status = true,
                    Signal::SIGUSR2 => pending.upgrade = true,
                    _ => pending.child = true,
                }
            }
        }
        pending
    }

    /// Whether a signal has arrived that [`Signals::take_pending`] has not taken yet.
    pub(crate) fn any_pending(&self) -> bool {
        self.flags.iter().any(|(_, flag)| flag.load(Ordering::SeqCst))
    }
}

/// Readable when a signal has arrived.
impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Size in bytes of the kernel's signal set: 64 signals.
pub(super) const KERNEL_SIGSET: libc::c_long = 8;

/// The kernel's struct sigaction is not longer than this, and begins with the handler; all zero is SIG_DFL.
type Action = [c_ulong; 8];

/// The disposition of a signal, from the kernel: the C library hides the two signals that it keeps for itself.
fn read_disposition(signal: c_int) -> libc::sighandler_t {
    let mut now: Action = [0; 8];
    let none = ptr::null::<c_ulong>();
    // SAFETY: the structure is longer than the kernel's; nothing is set.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, none, now.as_mut_ptr(), KERNEL_SIGSET) };
    now[0] as libc::sighandler_t
}

/// Sets the signals that the parent process has ignored back to their defaults, except SIGPIPE: with SIGCHLD
/// ignored the kernel would reap our handlers, and an ignored signal stays ignored over execve(2). It goes straight
/// to the kernel, because the C library's own posix_spawn(3) leaves those two ignored that the library keeps for
/// itself.
pub(crate) fn forget_inherited() {
    let ignored = |signal: &c_int| *signal != libc::SIGPIPE && read_disposition(*signal) == libc::SIG_IGN;
    for signal in all_that_can_be_caught().filter(ignored) {
        let (default, none): (Action, _) = ([0; 8], ptr::null_mut::<c_ulong>());
        // SAFETY: the structure is longer than the kernel's; the default runs no code of ours.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, KERNEL_SIGSET) };
    }
}

/// The signals that this process ignores or catches: those of [`Signals`], SIGPIPE, which Rust ignores, and SIGSEGV
/// and SIGBUS, which it catches.
pub(super) fn not_default() -> Vec<c_int> {
    all_that_can_be_caught().filter(|signal| read_disposition(*signal) != libc::SIG_DFL).collect()
}

/// Every signal of the kernel whose disposition can be changed.
pub(super) fn all_that_can_be_caught() -> impl Iterator<Item = c_int> {
    /// The last signal of the kernel.
    const SIGNAL_MAX: c_int = 64;
    (1..=SIGNAL_MAX).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal))
}

/// Blocks every signal in this thread, and in those that it starts from now on.
pub(crate) fn block_all() {
    // A valid set can't fail.
    let _ = SigSet::all().thread_set_mask();
}
