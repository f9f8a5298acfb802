//! The loops that oxinetd is measured against: nothing but accept, clone, exec and wait. They count, log and decide
//! nothing, so no super-server can be cheaper.
//!
//! [`plain`] is the loop that anyone would write first. [`session`] is the same with handlers that lead a session, as
//! those of inetd, xinetd and oxinetd do: on a kernel with automatic task groups (`kernel.sched_autogroup_enabled`) each
//! session costs a fifth of what a handler costs. [`design`] has what oxinetd has to stay flat: an epoll set with a pidfd
//! for each handler, and a child that drops the shared descriptor table before it does anything else. All sleep in vfork
//! until the child has called execve, which oxinetd does not. Both have one port;
//! clients of 127.2.0.0/16 get a handler that stays. Runs in a process of its own, until it is killed.

use std::ffi::{CStr, CString, c_int, c_void};
use std::io::{Error, Result};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;

use super::load::HOLDING;

/// What the child needs, all of it made before the first connection.
struct Spawner {
    argv: [[*const libc::c_char; 3]; 2],
    stack: Vec<u128>,
    flags: c_int,
    child: extern "C" fn(*mut c_void) -> c_int,
}

/// What one child is told.
struct Job {
    argv: *const *const libc::c_char,
    connection: RawFd,
}

impl Spawner {
    /// `handler` and the stack are never freed: the loops end with their process.
    fn new(handler: CString, flags: c_int, child: extern "C" fn(*mut c_void) -> c_int) -> Self {
        let path = handler.into_raw().cast_const();
        let argv = [[path, ptr::null(), ptr::null()], [path, c"hold".as_ptr(), ptr::null()]];
        let flags = flags | libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        Self { argv, stack: vec![0; 4096], flags, child }
    }

    /// Starts a handler; the pidfd is -1 without `CLONE_PIDFD`.
    fn spawn(&mut self, connection: RawFd, hold: bool) -> Result<RawFd> {
        let mut pidfd: c_int = -1;
        let mut job = Job { argv: self.argv[usize::from(hold)].as_ptr(), connection };
        let top = self.stack.as_mut_ptr_range().end;
        // SAFETY: the stack is ours alone and grows down from its end; the parent stands still until the child has
        // called execve or _exit (CLONE_VFORK), so `job` and `pidfd` outlive the child's use of them.
        let pid = unsafe { libc::clone(self.child, top.cast(), self.flags, (&raw mut job).cast(), &raw mut pidfd) };
        if pid < 0 { Err(Error::last_os_error()) } else { Ok(pidfd) }
    }
}

/// Makes the connection descriptors 0 and 1 and becomes the handler.
extern "C" fn run(job: *mut c_void) -> c_int {
    // SAFETY: `job` is the parent's `Job`, which waits for us; only system calls are made.
    unsafe {
        let job = &*job.cast::<Job>();
        libc::dup2(job.connection, 0);
        libc::dup2(job.connection, 1);
        libc::execve(*job.argv, job.argv, [ptr::null()].as_ptr());
        libc::_exit(127)
    }
}

/// [`run`] with a descriptor table of our own, which holds nothing above the connection.
extern "C" fn unshare_and_run(job: *mut c_void) -> c_int {
    // SAFETY: as in `run`; until close_range has succeeded the table is the parent's, and nothing may be touched.
    unsafe {
        let first = (*job.cast::<Job>()).connection + 1;
        if libc::syscall(libc::SYS_close_range, first, c_int::MAX, libc::CLOSE_RANGE_UNSHARE) != 0 {
            libc::_exit(126)
        }
    }
    run(job)
}

/// One accepted connection, and whether its client wants a handler that stays.
fn accept(listener: RawFd) -> Result<(OwnedFd, bool)> {
    // SAFETY: `sockaddr_in` is plain numbers; zero is a value of each.
    let mut peer: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&peer) as libc::socklen_t;
    // SAFETY: `peer` and `length` are valid and of the size they claim.
    let fd = unsafe { libc::accept4(listener, (&raw mut peer).cast(), &raw mut length, libc::SOCK_CLOEXEC) };
    if fd < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: accept4 has just given us this descriptor.
    let connection = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok((connection, peer.sin_addr.s_addr.to_ne_bytes()[1] == HOLDING))
}

/// [`run`] in a session of its own.
extern "C" fn lead_and_run(job: *mut c_void) -> c_int {
    // SAFETY: no memory is involved.
    unsafe { libc::setsid() };
    run(job)
}

/// accept, vfork, exec, wait; and again.
pub(crate) fn plain(listener: TcpListener, handler: &CStr) -> Result<()> {
    serve(listener, Spawner::new(handler.to_owned(), 0, run))
}

/// accept, vfork, setsid, exec, wait; and again.
pub(crate) fn session(listener: TcpListener, handler: &CStr) -> Result<()> {
    serve(listener, Spawner::new(handler.to_owned(), 0, lead_and_run))
}

fn serve(listener: TcpListener, mut spawner: Spawner) -> Result<()> {
    loop {
        let (connection, hold) = accept(listener.as_raw_fd())?;
        spawner.spawn(connection.as_raw_fd(), hold)?;
        drop(connection);
        // SAFETY: no status is asked for, so nothing is written.
        while unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) } > 0 {}
    }
}

/// Events of one turn, and connections accepted in it.
const BATCH: usize = 64;

/// The same through epoll, pidfds and an unshared descriptor table.
pub(crate) fn design(listener: TcpListener, handler: &CStr) -> Result<()> {
    let mut spawner = Spawner::new(handler.to_owned(), libc::CLONE_FILES | libc::CLONE_PIDFD, unshare_and_run);
    listener.set_nonblocking(true)?;
    let (daemon, reaper) = (Epoll::new()?, Epoll::new()?);
    daemon.add(listener.as_raw_fd())?;
    daemon.add(reaper.0)?;
    let (mut ready, mut ended) = (Vec::new(), Vec::new());
    loop {
        daemon.wait(-1, &mut ready)?;
        if ready.contains(&reaper.0) {
            reaper.wait(0, &mut ended)?;
            ended.iter().for_each(|&pidfd| reap(pidfd));
        }
        if ready.contains(&listener.as_raw_fd()) {
            accept_batch(&listener, &mut spawner, &reaper)?;
        }
    }
}

fn accept_batch(listener: &TcpListener, spawner: &mut Spawner, reaper: &Epoll) -> Result<()> {
    for _ in 0..BATCH {
        let (connection, hold) = match accept(listener.as_raw_fd()) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            accepted => accepted?,
        };
        reaper.add(spawner.spawn(connection.as_raw_fd(), hold)?)?;
    }
    Ok(())
}

fn reap(pidfd: RawFd) {
    // SAFETY: `info` is plain numbers, valid for waitid to write; the pidfd is ours, and closed once, here.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_PIDFD, pidfd as libc::id_t, &raw mut info, libc::WEXITED);
        libc::close(pidfd);
    }
}

/// A level-triggered epoll set whose data is the descriptor itself.
struct Epoll(RawFd);

impl Epoll {
    fn new() -> Result<Self> {
        Ok(Self(nix::sys::epoll::Epoll::new(nix::sys::epoll::EpollCreateFlags::EPOLL_CLOEXEC)?.0.into_raw_fd()))
    }

    fn add(&self, fd: RawFd) -> Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: fd as u64 };
        // SAFETY: `event` is valid; the kernel copies it.
        match unsafe { libc::epoll_ctl(self.0, libc::EPOLL_CTL_ADD, fd, &raw mut event) } {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        }
    }

    fn wait(&self, timeout: c_int, ready: &mut Vec<RawFd>) -> Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; BATCH];
        // SAFETY: `events` has room for BATCH events.
        let count = unsafe { libc::epoll_wait(self.0, events.as_mut_ptr(), BATCH as c_int, timeout) };
        ready.clear();
        ready.extend(events.iter().take(count.max(0) as usize).map(|event| event.u64 as RawFd));
        Ok(())
    }
}
