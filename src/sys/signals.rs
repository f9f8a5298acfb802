//! Signals as one readable descriptor and a set of flags; nothing is done in a handler but that.
//!
//! All signals are blocked for as long as the daemon works and let through only while it waits
//! ([`super::poll::Poll::wait`]), so no signal can interrupt a step of the books or reach a child that still shares
//! the daemon's memory.

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_int, c_ulong};

/// What the signals that have come ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// SIGHUP: reload.
    pub reload: bool,
    /// SIGTERM or SIGINT: stop, leave the handlers be. The signal's name.
    pub stop: Option<&'static str>,
    /// SIGQUIT: stop, and end the handlers.
    pub quit: bool,
    /// SIGUSR2: give way to the program on disk.
    pub upgrade: bool,
    /// SIGUSR1: write the status to the log.
    pub status: bool,
    /// SIGCHLD, only as process 1: some child has ended.
    pub child: bool,
}

/// The signals that the daemon catches.
#[derive(Debug)]
pub struct Signals {
    pipe: UnixStream,
    flags: Vec<(c_int, Arc<AtomicBool>)>,
    /// What stays blocked while the daemon waits: all that it does not catch. SIGCHLD, above all, would end a wait that
    /// the handler's pidfd ends anyway.
    mask: Mask,
}

/// A signal set, which libc gives no `Debug`.
struct Mask(libc::sigset_t);

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mask")
    }
}

const CAUGHT: [c_int; 6] = [libc::SIGHUP, libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// Signals of the terminal that act as ever in the foreground.
const SUSPENDING: [c_int; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

impl Signals {
    /// Installs the handlers. With `children` SIGCHLD is caught too, which only process 1 needs.
    ///
    /// # Errors
    /// No descriptors or memory.
    pub fn install(children: bool) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let ours = UnixStream::from(super::descriptor::high(ours.into())?);
        let theirs = super::descriptor::high(theirs.into())?;
        let mut flags = Vec::new();
        for signal in CAUGHT.into_iter().chain(children.then_some(libc::SIGCHLD)) {
            // The flag first: it must be up when the pipe tells of it.
            let flag = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
            let pipe: OwnedFd = super::descriptor::copy_high(theirs.as_fd())?;
            signal_hook::low_level::pipe::register(signal, UnixStream::from(pipe))?;
            flags.push((signal, flag));
        }
        let open = flags.iter().map(|(signal, _)| *signal).chain(SUSPENDING);
        let mask = Mask(all_but(&open.collect::<Vec<_>>()));
        Ok(Self { pipe: ours, flags, mask })
    }

    /// What stays blocked during a wait.
    pub(super) fn mask(&self) -> &libc::sigset_t {
        &self.mask.0
    }

    /// Lets the signals through that have been held back, and blocks all again.
    pub(super) fn let_through(&self) {
        // SAFETY: the mask is a valid set; the old one is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.mask.0, ptr::null_mut()) };
        block();
    }

    /// What has been asked for since the last call. Empties the pipe first and takes the flags then: in the other
    /// order a signal that comes in between would be lost.
    pub fn take(&mut self) -> Asked {
        let mut bytes = [0; 64];
        while matches!((&self.pipe).read(&mut bytes), Ok(1..)) {}
        let mut asked = Asked::default();
        for (signal, flag) in &self.flags {
            if flag.swap(false, Ordering::SeqCst) {
                match *signal {
                    libc::SIGHUP => asked.reload = true,
                    libc::SIGTERM => asked.stop = Some("SIGTERM"),
                    libc::SIGINT => asked.stop = Some("SIGINT"),
                    libc::SIGQUIT => asked.quit = true,
                    libc::SIGUSR1 => asked.status = true,
                    libc::SIGUSR2 => asked.upgrade = true,
                    _ => asked.child = true,
                }
            }
        }
        asked
    }

    /// Has anything been asked for that [`Signals::take`] has not told yet?
    #[must_use]
    pub fn have_come(&self) -> bool {
        self.flags.iter().any(|(_, flag)| flag.load(Ordering::SeqCst))
    }
}

/// Readable when a signal has come.
impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Size in bytes of the kernel's signal set: 64 signals.
pub(super) const KERNEL_SIGSET: libc::c_long = 8;

/// The kernel's struct sigaction is not longer than this, and begins with the handler; all zero is SIG_DFL without flags.
type Action = [c_ulong; 8];

/// The disposition of a signal, straight from the kernel: the C library refuses the two signals that it keeps for itself.
fn disposition(signal: c_int) -> libc::sighandler_t {
    let mut now: Action = [0; 8];
    let none = ptr::null::<c_ulong>();
    // SAFETY: the structure is longer than the kernel's; nothing is set.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, none, now.as_mut_ptr(), KERNEL_SIGSET) };
    now[0] as libc::sighandler_t
}

/// Forgets what the parent process has ignored, but SIGPIPE: an ignored SIGCHLD would have the kernel collect our
/// handlers, and what is ignored stays so over execve(2). Straight to the kernel, because the C library's own
/// posix_spawn(3) leaves just those two ignored that it keeps for itself.
pub fn forget_inherited() {
    let ignored = |signal: &c_int| *signal != libc::SIGPIPE && disposition(*signal) == libc::SIG_IGN;
    for signal in all_that_can_be_caught().filter(ignored) {
        let (default, none): (Action, _) = ([0; 8], ptr::null_mut::<c_ulong>());
        // SAFETY: the structure is longer than the kernel's; the default runs no code of ours.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, KERNEL_SIGSET) };
    }
}

/// The signals that this process ignores or catches: those of [`Signals`], SIGPIPE, which Rust ignores, and SIGSEGV and
/// SIGBUS, which it catches.
pub(super) fn not_default() -> Vec<c_int> {
    all_that_can_be_caught().filter(|signal| disposition(*signal) != libc::SIG_DFL).collect()
}

/// Every signal of the kernel whose disposition can be changed.
pub(super) fn all_that_can_be_caught() -> impl Iterator<Item = c_int> {
    /// The last one.
    const LAST: c_int = 64;
    (1..=LAST).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal))
}

/// Blocks every signal in this thread, and in those that it starts from now on.
pub fn block() {
    let all = all_but(&[]);
    // SAFETY: `all` is a set; the old one is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut()) };
}

/// Every signal but `open`.
fn all_but(open: &[c_int]) -> libc::sigset_t {
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
