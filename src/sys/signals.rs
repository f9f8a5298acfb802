//! Signals as one readable descriptor and a set of flags; a signal handler does nothing else.
//!
//! All signals are blocked while the daemon works and unblocked only while it waits ([`super::poll::Poll::wait`]), so no
//! signal can interrupt a change of the counts or reach a child that still shares the daemon's memory.

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_int, c_ulong};

/// The signals that have arrived and that the daemon has not acted on yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PendingSignals {
    /// SIGHUP asks for a reload.
    pub(crate) reload: bool,
    /// SIGTERM or SIGINT asks to stop and to leave the handlers alone. The signal's name.
    pub(crate) stop: Option<&'static str>,
    /// SIGQUIT asks to stop and to end the handlers.
    pub(crate) quit: bool,
    /// SIGUSR2 asks for an upgrade to the program on disk.
    pub(crate) upgrade: bool,
    /// SIGUSR1 asks for the status in the log.
    pub(crate) status: bool,
    /// SIGCHLD, which is caught by process 1 alone: some child has ended.
    pub(crate) child: bool,
}

/// The signals that the daemon catches.
#[derive(Debug)]
pub(crate) struct Signals {
    pipe: UnixStream,
    flags: Vec<(c_int, Arc<AtomicBool>)>,
    /// The signals that stay blocked while the daemon waits: all that it does not catch. SIGCHLD, above all, would end a
    /// wait that the handler's pidfd ends anyway.
    mask: SignalMask,
}

/// A signal set. The one of libc has no `Debug`.
struct SignalMask(libc::sigset_t);

impl std::fmt::Debug for SignalMask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignalMask")
    }
}

const CAUGHT: [c_int; 6] = [libc::SIGHUP, libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// Signals of the terminal, which keep their ordinary effect in the foreground.
const SUSPENDING: [c_int; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

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
        for signal in CAUGHT.into_iter().chain(children.then_some(libc::SIGCHLD)) {
            // The flag first: it must be set when the pipe becomes readable.
            let flag = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
            let pipe: OwnedFd = super::descriptor::copy_high(theirs.as_fd())?;
            signal_hook::low_level::pipe::register(signal, UnixStream::from(pipe))?;
            flags.push((signal, flag));
        }
        let open = flags.iter().map(|(signal, _)| *signal).chain(SUSPENDING);
        let mask = SignalMask(all_except(&open.collect::<Vec<_>>()));
        Ok(Self { pipe: ours, flags, mask })
    }

    /// The signals that stay blocked during a wait.
    pub(super) fn wait_mask(&self) -> &libc::sigset_t {
        &self.mask.0
    }

    /// Delivers the signals that are pending, and blocks all signals again.
    pub(super) fn deliver_pending(&self) {
        // SAFETY: the mask is a valid set; the old one is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.mask.0, ptr::null_mut()) };
        block_all();
    }

    /// Takes the signals that have arrived since the last call. It empties the pipe first and takes the flags after that:
    /// in the other order a signal that arrives in between would be lost.
    pub(crate) fn take_pending(&mut self) -> PendingSignals {
        let mut bytes = [0; 64];
        while matches!((&self.pipe).read(&mut bytes), Ok(1..)) {}
        let mut pending = PendingSignals::default();
        for (signal, flag) in &self.flags {
            if flag.swap(false, Ordering::SeqCst) {
                match *signal {
                    libc::SIGHUP => pending.reload = true,
                    libc::SIGTERM => pending.stop = Some("SIGTERM"),
                    libc::SIGINT => pending.stop = Some("SIGINT"),
                    libc::SIGQUIT => pending.quit = true,
                    libc::SIGUSR1 => pending.status = true,
                    libc::SIGUSR2 => pending.upgrade = true,
                    _ => pending.child = true,
                }
            }
        }
        pending
    }

    /// Has a signal arrived that [`Signals::take_pending`] has not taken yet?
    #[must_use]
    pub(crate) fn any_pending(&self) -> bool {
        self.flags.iter().any(|(_, flag)| flag.load(Ordering::SeqCst))
    }

    /// The signals that a child must set back to their default: the caught ones, and SIGPIPE, which Rust ignores.
    #[must_use]
    pub(crate) fn not_default(&self) -> Vec<c_int> {
        self.flags.iter().map(|(signal, _)| *signal).chain([libc::SIGPIPE]).collect()
    }
}

/// Readable when a signal has arrived.
impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Forgets what the parent process has ignored, but SIGPIPE: an ignored SIGCHLD would have the kernel collect our
/// handlers, and what is ignored stays so over execve(2). Straight to the kernel, because the C library refuses the
/// two signals that it keeps for itself, and its own posix_spawn(3) leaves just those ignored.
pub(crate) fn forget_inherited() {
    /// The last signal of the kernel.
    const LAST: c_int = 64;
    for signal in (1..=LAST).filter(|&signal| signal != libc::SIGPIPE) {
        // The kernel's struct sigaction, of which the handler comes first; all zero is SIG_DFL.
        let (mut now, default) = ([0 as c_ulong; 8], [0 as c_ulong; 8]);
        // SAFETY: both structures are longer than the kernel's; the default runs no code of ours.
        unsafe {
            let (change, size) = (libc::SYS_rt_sigaction, super::exec::KERNEL_SIGSET);
            libc::syscall(change, signal, ptr::null::<c_ulong>(), now.as_mut_ptr(), size);
            if now[0] as usize == libc::SIG_IGN {
                libc::syscall(change, signal, default.as_ptr(), ptr::null_mut::<c_ulong>(), size);
            }
        }
    }
}

/// Blocks every signal in this thread, and in those that it starts from now on.
pub(crate) fn block_all() {
    let all = all_except(&[]);
    // SAFETY: `all` is a set; the old one is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut()) };
}

/// Every signal except `open`.
fn all_except(open: &[c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: sigfillset initialises the set that sigdelset then changes.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        for &signal in open {
            libc::sigdelset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}
