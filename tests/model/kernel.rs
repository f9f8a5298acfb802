//! The dispatcher's kernel, for which nothing is real but the order in which it is called: it notes what must not be.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::descriptors::{Descriptor, What};
use super::rules::{failure, fixed_address};
use super::state::{Client, Fate, KernelFault, Process, State};
use super::table::{BANNER, GO, NAMES, address};
use super::truth::Verdict;
use crate::config::{Refuse, Service};
use crate::dispatch::kernel::{AcceptError, ConnectionInfo, Kernel, Resources, Sender, Spawned};
use crate::dispatch::reaper::EXIT_BATCH;
use crate::log::Event;
use crate::net::{Endpoint, Peer};
use crate::types::{Ended, Ending, KillSignal, ListenerId, Reason, SpawnFailure, Step, Ticket};

#[derive(Clone, Debug, Default)]
pub(super) struct FakeKernel(pub Rc<RefCell<State>>);

/// The memory of a start, which has the connection until it is over.
#[derive(Debug)]
pub(super) struct FakeStart {
    handle: u64,
    connection: Descriptor,
}

impl Resources for FakeKernel {
    type Socket = Descriptor;
    type Connection = Descriptor;
    type Process = Descriptor;
    type Start = FakeStart;
    /// The service.
    type Template = usize;
    /// Who waited.
    type Backlog = Vec<usize>;
}

pub(super) fn number_of(name: &str) -> usize {
    NAMES.iter().position(|one| *one == name).unwrap_or(NAMES.len())
}

fn handle_of(process: &Descriptor) -> u64 {
    if let Some(What::Process(handle)) = process.what() { handle } else { u64::MAX }
}

impl FakeKernel {
    fn fault(&self, what: String) {
        self.0.borrow_mut().fault(what);
    }

    /// The client of a connection, and whether it is to be what is done with it.
    fn client(&self, connection: &Descriptor, what: &str, allowed: impl Fn(&Client) -> bool) -> Option<usize> {
        let Some(What::Connection(client)) = connection.what() else {
            self.fault(format!("{what} {:?}", connection.what()));
            return None;
        };
        let found = self.0.borrow().clients[client];
        if !allowed(&found) {
            self.fault(format!("{what} {found:?}"));
        }
        Some(client)
    }
}

fn endpoint_of(socket: &Descriptor) -> usize {
    if let Some(What::Socket(endpoint)) = socket.what() { endpoint } else { usize::MAX }
}

impl Kernel for FakeKernel {
    fn clock(&self) -> Duration {
        let mut state = self.0.borrow_mut();
        state.read = state.clock;
        state.clock
    }

    fn log(&self, event: Event) {
        self.0.borrow_mut().note(event);
    }

    fn poll(&mut self, socket: &Descriptor, id: ListenerId) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        if state.no_memory_to_poll > 0 {
            state.no_memory_to_poll -= 1;
            state.rest(socket.number(), Reason::Resources, 1_000);
            state.saw("no memory to poll");
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        if state.processes.values().any(|process| process.lent == Some(socket.number()) && !process.failed) {
            state.fault(format!("{:?} is polled while it is lent", socket.what()));
        }
        let before = state.sockets.entry(socket.number()).or_default().polled.replace(id);
        if before.is_some() {
            state.fault(format!("{:?} is polled twice", socket.what()));
        }
        Ok(())
    }

    fn stop_polling(&mut self, socket: &Descriptor) {
        let mut state = self.0.borrow_mut();
        if state.sockets.entry(socket.number()).or_default().polled.take().is_none() {
            state.fault(format!("{:?} was not polled", socket.what()));
        }
    }

    fn change_options(&mut self, socket: &mut Descriptor, _: &Endpoint, _: &Service) -> Result<(), &'static str> {
        let mut state = self.0.borrow_mut();
        let socket = state.sockets.entry(socket.number()).or_default();
        socket.changed = true;
        if socket.inflexible { Err("Device or resource busy") } else { Ok(()) }
    }

    fn fixed_address(&self, socket: &Descriptor) -> Option<SocketAddr> {
        fixed_address(endpoint_of(socket))
    }

    fn accept(&mut self, socket: &Descriptor) -> Result<(Descriptor, Peer), AcceptError> {
        let mut state = self.0.borrow_mut();
        let client = state.accept(socket.number())?;
        let peer = Peer::Inet(state.clients[client].address().into(), client as u16);
        Ok((state.descriptors.open(What::Connection(client)), peer))
    }

    fn reset_one(&mut self, socket: &Descriptor) -> bool {
        let mut state = self.0.borrow_mut();
        let first = state.to_be_reset.take().filter(|(number, _)| *number == socket.number());
        let number = first.and_then(|(number, possible)| possible.then_some(number));
        let line = state.truth.line_at(endpoint_of(socket));
        let Some((number, line)) = number.zip(line) else { return false };
        state.pop(number, Fate::Refused);
        state.truth.refuse(line.name, Reason::Resources);
        true
    }

    fn sender(&mut self, socket: &Descriptor, _: &Endpoint) -> Sender {
        self.0.borrow_mut().sender(socket.number())
    }

    fn discard_datagram(&mut self, socket: &Descriptor) {
        let mut state = self.0.borrow_mut();
        if state.to_be_discarded.take() != Some(socket.number()) {
            state.fault(format!("a datagram of {:?} was discarded", socket.what()));
        }
        state.pop(socket.number(), Fate::Refused);
    }

    fn lend(&mut self, socket: &Descriptor) -> Result<(Descriptor, Option<Vec<usize>>), SpawnFailure> {
        let mut state = self.0.borrow_mut();
        let before = state.lend(socket.number()).ok_or(failure(Step::Clone))?;
        Ok((state.descriptors.open(What::Loan(socket.number())), Some(before)))
    }

    fn is_untouched(&mut self, _: &Descriptor, before: &Vec<usize>) -> bool {
        let state = self.0.borrow();
        before.iter().all(|&client| state.clients[client].fate == Fate::Waits)
    }

    fn local_address(&self, connection: &Descriptor, _: &Endpoint) -> Option<SocketAddr> {
        let Some(What::Connection(client)) = connection.what() else { return None };
        Some(address(self.0.borrow().clients[client].arrival.endpoint))
    }

    fn send(&mut self, connection: &Descriptor, text: &[u8]) {
        let client = self.client(connection, "sent to", |client| {
            matches!(client.fate, Fate::Judged { verdict: Verdict::Start, .. })
        });
        let number = [GO, BANNER].iter().position(|one| *one == text);
        match (client, number) {
            // The banner is last.
            (Some(client), Some(number)) if !self.0.borrow().clients[client].sent[1] => {
                self.0.borrow_mut().clients[client].sent[number] = true;
            }
            _ => self.fault(format!("{text:?} was sent to {client:?}")),
        }
    }

    fn refuse(&mut self, connection: Descriptor, _: &Refuse) {
        let client = self.client(&connection, "refused", |client| {
            matches!(client.fate, Fate::Judged { verdict: Verdict::Refuse(_), .. } | Fate::NotStarted)
        });
        if let Some(client) = client {
            self.0.borrow_mut().clients[client].fate = Fate::Refused;
        }
    }

    fn copy(&mut self, connection: &Descriptor) -> Option<Descriptor> {
        let client = self.client(connection, "copied", |client| matches!(client.fate, Fate::Judged { .. }))?;
        let mut state = self.0.borrow_mut();
        if state.clients[client].birth().no_copy {
            return None;
        }
        state.clients[client].copied = true;
        Some(state.descriptors.open(What::Connection(client)))
    }

    fn take_mux_request(&mut self, connection: &Descriptor) -> Option<String> {
        let client = self.client(connection, "handed back", |client| matches!(client.fate, Fate::Served(_)))?;
        let mut state = self.0.borrow_mut();
        let mine = |process: &Process| process.client == Some(client) && process.hands_back();
        let Some(place) = state.collected.iter().position(mine) else {
            state.fault(format!("client {client} was not handed back"));
            return None;
        };
        // Its place is free, and those of the exits before it; those of the others are not.
        (0..=place).for_each(|_| state.settle_first());
        let asks_for = state.clients[client].arrival.asks_for;
        (state.clients[client].second, state.clients[client].copied) = (true, false);
        state.clients[client].sent = [false; 2];
        let address = Some(state.clients[client].address());
        let line = state.asked_for(asks_for);
        let verdict = line.and_then(|line| state.judge(&line, address).map(|verdict| (line.name, verdict)));
        let fate = |(service, verdict)| Fate::Judged { service, verdict };
        state.clients[client].fate = verdict.map_or(Fate::ToBeTurnedAway, fate);
        state.saw("judged after being handed back");
        asks_for.map(|service| NAMES[service].to_owned())
    }

    fn refuse_mux(&mut self, connection: Descriptor, _: &Refuse) {
        let client = self.client(&connection, "refused by tcpmux", |client| {
            client.second
                && matches!(client.fate, Fate::ToBeTurnedAway | Fate::Judged { verdict: Verdict::Refuse(_), .. })
        });
        if let Some(client) = client {
            self.0.borrow_mut().clients[client].fate = Fate::Refused;
        }
    }

    fn has_slot(&mut self) -> bool {
        self.0.borrow().has_slot()
    }

    fn spawn(
        &mut self,
        template: &usize,
        connection: Descriptor,
        to: &ConnectionInfo<'_>,
    ) -> Result<Spawned<Descriptor, FakeStart>, (SpawnFailure, Descriptor)> {
        let what = connection.what();
        if let Some(What::Connection(_)) = what {
            let expected = Verdict::Start;
            self.client(&connection, "started", |client| {
                client.fate == Fate::Judged { service: *template, verdict: expected }
            });
        }
        let mut state = self.0.borrow_mut();
        let Some(what) = what else { return Err((failure(Step::Clone), connection)) };
        state.check_info(what, to);
        let process = state.prepare(what, *template, to);
        if let What::Connection(client) = what {
            state.clients[client].fate =
                process.as_ref().map_or(Fate::NotStarted, |process| Fate::Served(process.handle));
        }
        let Some(process) = process else { return Err((failure(Step::Clone), connection)) };
        let (pid, handle) = (process.pid, process.handle);
        state.processes.insert(pid, process);
        state.most_starting = state.most_starting.max(state.starting().count());
        let process = state.descriptors.open(What::Process(handle));
        Ok(Spawned { pid, process, start: FakeStart { handle, connection } })
    }

    fn wait_for_start(&mut self, start: &FakeStart, limit: Duration) -> bool {
        let mut state = self.0.borrow_mut();
        let clock = state.clock;
        let Some(Some(found)) = state.by_handle(start.handle).map(|process| process.start.as_mut()) else {
            state.fault(format!("process {}: nothing to wait for", start.handle));
            return true;
        };
        found.looked_at = true;
        let over_at = found.over_at;
        state.clock = over_at.clamp(clock, clock + limit);
        over_at <= state.clock
    }

    fn finish_start(&mut self, start: FakeStart) -> Option<(SpawnFailure, Descriptor)> {
        let failure = self.0.borrow_mut().finish(start.handle);
        failure.map(|failure| (failure, start.connection))
    }

    fn watch(&mut self, process: &Descriptor, ticket: Ticket) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        let last = state.last_ticket;
        let Some(process) = state.by_handle(handle_of(process)) else {
            state.fault(format!("{ticket:?} is of no process"));
            return Ok(());
        };
        let known = process.ticket.replace(ticket);
        let is_new = known.is_none() && last.is_none_or(|last| last < ticket);
        let unwatchable = process.birth.unwatchable;
        process.watched = (!unwatchable).then_some(ticket);
        if known.is_none() {
            state.last_ticket = Some(ticket);
        }
        if known != Some(ticket) && !is_new {
            state.fault(format!("{ticket:?} after {known:?}, {last:?}"));
        }
        if unwatchable { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(()) }
    }

    fn ended(&mut self, found: &mut Vec<Ticket>) {
        let state = self.0.borrow();
        let early = state.kernel_fault == Some(KernelFault::TellsTooEarly);
        let ended = state.processes.values().filter(|process| state.is_zombie(process) || early);
        found.extend(ended.filter_map(|process| process.watched).take(EXIT_BATCH));
    }

    fn collect(&mut self, process: &Descriptor) -> io::Result<Option<Ended>> {
        let mut state = self.0.borrow_mut();
        let handle = handle_of(process);
        let Some(process) = state.by_handle(handle).cloned() else {
            state.fault(format!("process {handle} is collected twice"));
            return Err(io::ErrorKind::NotFound.into());
        };
        if !process.is_handler() {
            state.fault(format!("process {handle} is collected, and is no handler yet"));
        }
        if state.kernel_fault == Some(KernelFault::TellsTooEarly) && process.ended.is_none() {
            state.by_handle(handle).into_iter().for_each(|process| process.vanishes = true);
            return Ok(Some(Ended { ending: Ending::Exited(0), cpu: Duration::ZERO, rss: 0 }));
        }
        let Some(ending) = process.ended else { return Ok(None) };
        let stolen = process.birth.stolen;
        state.processes.remove(&process.pid);
        if state.process_1 && process.birth.reused {
            state.orphans.insert(process.pid);
            state.child_news = true;
        }
        state.collected.push_back(process);
        if stolen {
            Err(io::ErrorKind::NotFound.into())
        } else {
            Ok(Some(Ended { ending, cpu: Duration::ZERO, rss: 0 }))
        }
    }

    fn reap_failed_child(&mut self, process: &Descriptor) {
        let mut state = self.0.borrow_mut();
        let handle = handle_of(process);
        let failed = state.by_handle(handle).filter(|process| process.failed).map(|process| process.pid);
        match failed {
            Some(pid) => _ = state.processes.remove(&pid),
            None => state.fault(format!("process {handle} is collected as a child that failed")),
        }
        state.forget_unlisted();
        state.saw("a child that failed");
    }

    fn signal_group(&mut self, pid: i32, signal: KillSignal) {
        self.0.borrow_mut().signal(pid, signal);
    }

    fn next_ended_child(&mut self) -> Option<i32> {
        let state = self.0.borrow();
        let processes = state.processes.values().filter(|process| state.is_zombie(process));
        processes.map(|process| process.pid).chain(state.orphans.iter().copied()).min()
    }

    fn reap_orphan(&mut self, pid: i32) {
        let mut state = self.0.borrow_mut();
        if !state.orphans.remove(&pid) {
            state.fault(format!("{pid} is a handler and was collected as an orphan"));
            state.processes.remove(&pid);
        }
        state.saw("orphan");
    }
}
