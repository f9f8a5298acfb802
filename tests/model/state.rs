//! The kernel's side: its sockets, those who wait at them, its processes with four ids, and the truth about the counts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use super::descriptors::{Descriptors, What};
use super::histories::{Arrival, AtAccept, Birth, Outcome};
use super::table::{ADDRESSES, DATAGRAMS};
use super::truth::{Owner, Truth, Verdict};
use crate::builtin::PASS_ON;
use crate::types::{Ending, KillSignal, ListenerId, Reason, Ticket};

pub(super) const PIDS: i32 = 4;

/// What has become of a client or a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Waits,
    /// It has been accepted or handed back, to be started or refused for this service.
    Judged {
        service: usize,
        verdict: Verdict,
    },
    /// It was handed back and asks for nothing that there is.
    ToBeTurnedAway,
    /// It was admitted, and its handler could not be started.
    NotStarted,
    /// A process has it.
    Served(u64),
    Refused,
    /// It was reset or discarded, its connection was broken, or its socket was closed.
    Gone,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub arrival: Arrival,
    /// The descriptor of the socket at which it came.
    pub socket: u64,
    pub fate: Fate,
    /// It has been handed back.
    pub second: bool,
    /// There is a copy of its connection.
    pub copied: bool,
    /// It has been told to go on, and it has been sent the banner.
    pub sent: [bool; 2],
}

impl Client {
    pub(super) fn address(&self) -> Ipv4Addr {
        ADDRESSES[self.arrival.address]
    }

    pub(super) fn birth(&self) -> Birth {
        if self.second { self.arrival.second } else { self.arrival.birth }
    }
}

/// An open listening socket.
#[derive(Clone, Debug, Default)]
pub(super) struct Socket {
    pub endpoint: usize,
    pub waiting: VecDeque<usize>,
    /// Under which number it is polled.
    pub polled: Option<ListenerId>,
    /// Why it is to be left alone, and until when.
    pub rest: Option<(Reason, Duration)>,
    /// How often in a row a handler has taken nothing from it.
    pub idle_loans: u32,
    /// It keeps its options, whatever a new table says.
    pub inflexible: bool,
    /// A new table has been told of it.
    pub changed: bool,
}

/// A start that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub over_at: Duration,
    pub fails: bool,
    /// The dispatcher has waited for it.
    pub looked_at: bool,
}

/// What can be wrong with a kernel, to see what each oracle is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KernelFault {
    /// It says of processes that they have ended while they still run; in the end they are gone without a word.
    TellsTooEarly,
    /// It never tells of some that they have ended.
    NeverTells,
}

#[derive(Clone, Debug)]
pub(super) struct Process {
    pub pid: i32,
    /// A number that no other process has.
    pub handle: u64,
    pub owner: Owner,
    pub address: Option<Ipv4Addr>,
    pub client: Option<usize>,
    /// The socket that it has been lent, and who waited there.
    pub lent: Option<u64>,
    pub before: Option<Vec<usize>>,
    pub birth: Birth,
    pub since: Duration,
    pub start: Option<Start>,
    pub failed: bool,
    pub ended: Option<Ending>,
    pub watched: Option<Ticket>,
    pub ticket: Option<Ticket>,
    /// There is a copy of its connection, which it may hand back.
    pub copied: bool,
    /// When it is to get which signal.
    pub deadline: Option<(Duration, KillSignal)>,
    /// The kernel has told of its end already.
    pub vanishes: bool,
    /// How many handlers its source and its service had when it was started.
    pub counts: (u32, u32),
}

impl Process {
    /// Has it become a handler, as far as the dispatcher has heard?
    pub(super) fn is_handler(&self) -> bool {
        self.start.is_none() && !self.failed
    }

    pub(super) fn hands_back(&self) -> bool {
        self.copied && !self.birth.stolen && self.ended == Some(Ending::Exited(PASS_ON.into()))
    }

    /// How it has ended, as far as the dispatcher can know.
    pub(super) fn exit(&self) -> Option<Ending> {
        let ended = self.ended.filter(|_| !self.birth.stolen);
        if self.hands_back() { Some(Ending::Exited(0)) } else { ended }
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub truth: Truth,
    pub clock: Duration,
    /// The clock, when it was read last.
    pub read: Duration,
    /// No connection is to be accepted any more in this turn when it is that late.
    pub batch_end: Option<Duration>,
    pub descriptors: Descriptors,
    /// By their descriptors.
    pub sockets: BTreeMap<u64, Socket>,
    pub clients: Vec<Client>,
    /// By their ids, which are free again as soon as they have been collected.
    pub processes: BTreeMap<i32, Process>,
    /// Collected, but their exits have not been settled since, in their order.
    pub collected: VecDeque<Process>,
    pub orphans: BTreeSet<i32>,
    /// The daemon is process 1.
    pub process_1: bool,
    pub pids: i32,
    pub slots: usize,
    pub last_handle: u64,
    /// The most starts that there were under way at one time.
    pub most_starting: usize,
    pub last_ticket: Option<Ticket>,
    pub no_memory_to_poll: u32,
    /// The socket whose first client must be reset next, and whether that is possible.
    pub to_be_reset: Option<(u64, bool)>,
    /// The socket that must be lent next, or whose first datagram must be discarded.
    pub to_be_lent: Option<u64>,
    pub to_be_discarded: Option<u64>,
    /// A child has ended since process 1 has looked.
    pub child_news: bool,
    /// The dispatcher has been told in this turn that handlers have ended, if some have.
    pub heard: bool,
    pub signals: Vec<(i32, KillSignal)>,
    /// The same, as the log tells.
    pub told: Vec<(i32, &'static str)>,
    /// What is wrong with the kernel.
    pub kernel_fault: Option<KernelFault>,
    /// How often a listener has been left alone because its handler took nothing, and how often the log says so.
    pub back_offs: (u32, u32),
    /// How many handlers somebody else has collected, and how often the log warns of that.
    pub stolen: (u32, u32),
    /// The endpoints that are polled again after a pause, by the log.
    pub resumed: Vec<String>,
    /// What the dispatcher should not have done.
    pub faults: Vec<String>,
    /// What has happened how often.
    pub seen: BTreeMap<String, u32>,
}

impl State {
    pub(super) fn new(pids: i32) -> Self {
        Self { pids, slots: 20, ..Self::default() }
    }

    pub(super) fn saw(&mut self, what: &str) {
        if let Some(count) = self.seen.get_mut(what) {
            *count += 1;
        } else {
            self.seen.insert(what.to_owned(), 1);
        }
    }

    pub(super) fn fault(&mut self, what: String) {
        self.faults.push(what);
    }

    /// All of whom there are counts: those that run or are started, those that nobody has collected, those on the exit queue.
    pub(super) fn all(&self) -> impl Iterator<Item = &Process> {
        self.processes.values().chain(&self.collected)
    }

    pub(super) fn count(&self, mine: impl Fn(&Process) -> bool) -> u32 {
        self.all().filter(|process| mine(process)).count() as u32
    }

    pub(super) fn live(&self, service: usize) -> u32 {
        self.count(|process| process.owner.service == service)
    }

    pub(super) fn by_handle(&mut self, handle: u64) -> Option<&mut Process> {
        self.processes.values_mut().find(|process| process.handle == handle)
    }

    /// The process that has a socket.
    pub(super) fn borrower(&self, socket: u64) -> Option<&Process> {
        self.all().find(|process| process.lent == Some(socket) && !process.failed)
    }

    /// Has it ended, so that the kernel tells of it?
    pub(super) fn is_zombie(&self, process: &Process) -> bool {
        let failed = process.failed || process.start.is_some_and(|start| start.fails);
        let over = process.start.is_none_or(|start| start.over_at <= self.clock);
        let hidden = self.kernel_fault == Some(KernelFault::NeverTells) && process.handle % 3 == 0;
        (process.ended.is_some() || failed) && over && !hidden
    }

    /// Does the kernel tell that a watched process has ended?
    pub(super) fn has_news(&self) -> bool {
        self.processes.values().any(|process| process.watched.is_some() && self.is_zombie(process))
    }

    pub(super) fn starting(&self) -> impl Iterator<Item = &Process> {
        self.processes.values().filter(|process| process.start.is_some())
    }

    /// Is there memory for one more start?
    pub(super) fn has_slot(&self) -> bool {
        self.starting().count() < self.slots
    }

    pub(super) fn free_pid(&self) -> Option<i32> {
        (1..=self.pids).find(|pid| !self.processes.contains_key(pid) && !self.orphans.contains(pid))
    }

    pub(super) fn end(&mut self, pid: i32, how: Ending) {
        self.processes.retain(|&other, process| other != pid || !process.vanishes);
        if let Some(process) = self.processes.get_mut(&pid) {
            process.ended.get_or_insert(how);
            self.child_news = true;
        }
    }

    pub(super) fn socket_of(&self, endpoint: usize) -> Option<u64> {
        self.sockets.iter().find(|(_, socket)| socket.endpoint == endpoint).map(|(number, _)| *number)
    }

    /// Somebody comes to an endpoint, if it is open.
    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let Some(socket) = self.socket_of(arrival.endpoint) else { return self.saw("connection refused") };
        let client = Client { arrival, socket, fate: Fate::Waits, second: false, copied: false, sent: [false; 2] };
        let number = self.clients.len();
        self.clients.push(client);
        self.sockets.entry(socket).or_default().waiting.push_back(number);
        self.saw(if arrival.endpoint < DATAGRAMS { "connection" } else { "datagram" });
    }

    /// A handler that has been lent a socket takes what waits there.
    pub(super) fn take(&mut self, pid: i32) {
        let Some(process) = self.processes.get(&pid) else { return };
        let (handle, Some(socket)) = (process.handle, process.lent) else { return };
        let Some(socket) = self.sockets.get_mut(&socket) else { return };
        for client in std::mem::take(&mut socket.waiting) {
            self.clients[client].fate = Fate::Served(handle);
        }
        self.saw("taken by a handler");
    }

    /// The first who waits leaves the queue.
    pub(super) fn pop(&mut self, socket: u64, fate: Fate) -> Option<usize> {
        let client = self.sockets.get_mut(&socket)?.waiting.pop_front()?;
        self.clients[client].fate = fate;
        Some(client)
    }

    pub(super) fn rest(&mut self, socket: u64, reason: Reason, millis: u64) {
        let until = self.truth.barred.now + Duration::from_millis(millis);
        if let Some(socket) = self.sockets.get_mut(&socket) {
            socket.rest = Some((reason, until));
        }
    }

    /// A handler took nothing from a socket: it is left alone, longer each time.
    pub(super) fn back_off(&mut self, socket: u64) {
        let Some(found) = self.sockets.get_mut(&socket) else { return };
        let millis = (100_u64 << found.idle_loans.min(16)).min(30_000);
        found.idle_loans += 1;
        self.rest(socket, Reason::Backoff, millis);
        self.saw("back-off");
    }

    /// The oldest exit on the queue is settled.
    pub(super) fn settle_first(&mut self) {
        let Some(first) = self.collected.front() else { return };
        let counts = (self.live(first.owner.service), self.count(|_| true));
        let Some(process) = self.collected.pop_front() else { return };
        self.truth.note_exit(&process, counts);
        self.stolen.0 += u32::from(process.birth.stolen);
        self.forget_unlisted();
        if let Some(socket) = process.lent.filter(|socket| self.sockets.contains_key(socket)) {
            self.take_back(socket, &process);
        }
        if process.hands_back() {
            self.saw("handed back");
        }
    }

    fn take_back(&mut self, socket: u64, process: &Process) {
        let lived = self.truth.barred.now.saturating_sub(process.since);
        let believed = process.exit() == Some(Ending::Exited(0)) && lived > Duration::from_millis(50);
        let waits = |clients: &Vec<usize>| clients.iter().all(|&one| self.clients[one].fate == Fate::Waits);
        let untouched = process.before.as_ref().is_some_and(waits);
        if lived < Duration::from_secs(1) && !believed && untouched {
            self.back_off(socket);
            self.back_offs.0 += 1;
        } else if let Some(socket) = self.sockets.get_mut(&socket) {
            socket.idle_loans = 0;
        }
    }

    /// The exit queue is empty.
    pub(super) fn settle_all(&mut self) {
        while !self.collected.is_empty() {
            self.settle_first();
        }
    }

    /// Sockets that are closed are gone, with those who waited.
    pub(super) fn forget_closed(&mut self) {
        let closed: Vec<_> = self.sockets.keys().copied().filter(|number| !self.descriptors.is_open(*number)).collect();
        for number in closed {
            let Some(socket) = self.sockets.remove(&number) else { continue };
            socket.waiting.iter().for_each(|&client| self.clients[client].fate = Fate::Gone);
            if socket.polled.is_some() {
                self.fault(format!("endpoint {} is closed and still polled", socket.endpoint));
            }
        }
    }

    /// execve(2) of the daemon: its epoll sets and the memory of starts are gone.
    pub(super) fn exec(&mut self) {
        for process in self.processes.values_mut() {
            (process.watched, process.before) = (None, None);
            let Some(start) = process.start.take() else { continue };
            self.truth.tallies.entry(process.owner.service).or_default().accepted += 1;
            if start.fails {
                process.ended.get_or_insert(Ending::Exited(127));
            }
        }
        for socket in self.sockets.values_mut() {
            (socket.polled, socket.rest) = (None, None);
        }
    }

    /// The process that a client's or a socket's handler becomes, if there is one.
    pub(super) fn fork(&mut self, owner: Owner, birth: Birth) -> Option<Process> {
        let pid = self.free_pid().filter(|_| birth.outcome != Outcome::NoProcess && self.has_slot())?;
        self.last_handle += 1;
        let (now, over_at) = (self.truth.barred.now, self.clock + Duration::from_millis(birth.takes));
        let fails = birth.outcome == Outcome::CannotExec;
        let lifetime = self.truth.line(owner.service).and_then(|line| line.lifetime);
        let mine = |process: &Process| process.owner.service == owner.service && process.owner.source == owner.source;
        if self.last_handle > pid as u64 {
            self.saw("an id that was another's");
        }
        Some(Process {
            pid,
            handle: self.last_handle,
            owner,
            address: None,
            client: None,
            lent: None,
            before: None,
            birth,
            since: now,
            start: Some(Start { over_at, fails, looked_at: false }),
            failed: false,
            ended: (birth.outcome == Outcome::DiesAtOnce).then_some(Ending::Exited(0)),
            watched: None,
            ticket: None,
            copied: false,
            deadline: lifetime.map(|seconds| (now + Duration::from_secs(seconds), KillSignal::Term)),
            vanishes: false,
            counts: (self.count(mine) + 1, self.live(owner.service) + 1),
        })
    }

    /// The descriptors that the dispatcher must have open, and no others, sorted.
    pub(super) fn expected_descriptors(&self) -> Vec<What> {
        let mut list: Vec<_> = self.sockets.values().map(|socket| What::Socket(socket.endpoint)).collect();
        for process in self.processes.values() {
            list.push(What::Process(process.handle));
            let connection = process.client.map(What::Connection);
            let copy = connection.filter(|_| process.copied);
            let stdin = connection.or(process.lent.map(What::Loan)).filter(|_| process.start.is_some());
            list.extend(copy.into_iter().chain(stdin));
        }
        list.sort_unstable();
        list
    }

    /// Who may be accepted by what accept(2) says.
    pub(super) fn first(&self, socket: u64) -> Option<(usize, AtAccept)> {
        let client = *self.sockets.get(&socket)?.waiting.front()?;
        Some((client, self.clients[client].arrival.at_accept))
    }
}

impl State {
    /// The socket that has been opened last is one of this endpoint.
    pub(super) fn opened(&mut self, endpoint: usize) {
        let Some(number) = self.descriptors.find(What::Socket(endpoint)) else {
            return self.fault(format!("endpoint {endpoint} was not opened"));
        };
        self.sockets.insert(number, Socket { endpoint, ..Socket::default() });
    }
}
