//! A kernel with four process ids, and a list of its processes that is always true.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use crate::dispatch::reaper::Kernel;
use crate::net::Source;
use crate::sys::pidfd::Ended;
use crate::types::{Ending, Ticket};

pub(super) const PIDS: i32 = 4;

/// Whose a process is, by the kernel's own list: its service, its source and its network, as the table had them when it
/// was started.
pub(super) type Owner = (&'static str, Source, Option<Source>);

#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pub handle: RawFd,
    pub owner: Owner,
    /// It has become a handler, as far as the daemon has heard.
    pub born: bool,
    pub ended: Option<Ending>,
}

/// Processes by id; an id is free again as soon as its process has been collected.
#[derive(Debug, Default)]
pub(super) struct Processes {
    pub by_pid: BTreeMap<i32, Process>,
    watched: HashMap<RawFd, Ticket>,
    pub last_handle: RawFd,
    /// Collected, but their exits have not been settled since, in their order.
    pub on_the_way: VecDeque<Process>,
    /// Ids that got a signal and were nobody's.
    pub strays: Vec<i32>,
    pub signals: u32,
}

impl Processes {
    pub(super) fn fork(&mut self, owner: Owner) -> Option<(i32, RawFd)> {
        let pid = (1..=PIDS).find(|pid| !self.by_pid.contains_key(pid))?;
        self.last_handle += 1;
        self.by_pid.insert(pid, Process { handle: self.last_handle, owner, born: false, ended: None });
        Some((pid, self.last_handle))
    }

    pub(super) fn end(&mut self, handle: RawFd, how: Ending) {
        for process in self.by_pid.values_mut().filter(|process| process.handle == handle) {
            process.ended.get_or_insert(how);
        }
    }

    pub(super) fn be_born(&mut self, handle: RawFd) {
        self.by_pid.values_mut().filter(|process| process.handle == handle).for_each(|process| process.born = true);
    }

    /// All of whom there are counts: those that run, those that nobody has collected, those on the exit queue.
    pub(super) fn all(&self) -> impl Iterator<Item = &Process> {
        self.by_pid.values().chain(&self.on_the_way)
    }

    pub(super) fn count(&self, mine: impl Fn(&Process) -> bool) -> u32 {
        u32::try_from(self.all().filter(|process| mine(process)).count()).unwrap()
    }

    /// execve(2) of the daemon: its epoll set is gone.
    pub(super) fn unwatch_all(&mut self) {
        self.watched.clear();
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct FakeKernel(pub Rc<RefCell<Processes>>);

impl Kernel for FakeKernel {
    type Handle = RawFd;

    fn watch(&mut self, handle: &RawFd, ticket: Ticket) -> io::Result<()> {
        self.0.borrow_mut().watched.insert(*handle, ticket);
        Ok(())
    }

    fn ended(&mut self, found: &mut Vec<Ticket>) {
        let processes = self.0.borrow();
        let ended = processes.by_pid.values().filter(|process| process.ended.is_some());
        found.extend(ended.filter_map(|process| processes.watched.get(&process.handle)));
    }

    fn collect(&mut self, handle: &RawFd) -> io::Result<Option<Ended>> {
        let mut processes = self.0.borrow_mut();
        let found = processes.by_pid.iter().find(|(_, process)| process.handle == *handle);
        let (pid, process) = found.map(|(pid, process)| (*pid, *process)).ok_or(io::ErrorKind::NotFound)?;
        let Some(ending) = process.ended else { return Ok(None) };
        processes.by_pid.remove(&pid);
        processes.watched.remove(handle);
        processes.on_the_way.push_back(process);
        Ok(Some(Ended { ending, cpu: Duration::ZERO, rss: 0 }))
    }

    fn bury(&mut self, handle: &RawFd) {
        let mut processes = self.0.borrow_mut();
        processes.by_pid.retain(|_, process| process.handle != *handle);
        processes.watched.remove(handle);
    }

    fn signal(&mut self, pid: i32, signal: i32) {
        let mut processes = self.0.borrow_mut();
        processes.signals += 1;
        match processes.by_pid.get_mut(&pid) {
            Some(process) => _ = process.ended.get_or_insert(Ending::Signaled(signal)),
            None => processes.strays.push(pid),
        }
    }

    fn number(handle: &RawFd) -> RawFd {
        *handle
    }

    fn inherit(number: RawFd) -> io::Result<RawFd> {
        Ok(number)
    }
}
