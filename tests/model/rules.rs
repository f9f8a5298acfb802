//! What the kernel does when it is asked, what it notes that must not be, and what follows from it for the truth.

use std::net::SocketAddr;
use std::time::Duration;

use super::descriptors::What;
use super::histories::AtAccept;
use super::state::{Client, Fate, Process, Start, State};
use super::table::{DATAGRAMS, Kind, address};
use super::truth::{Owner, Verdict};
use crate::dispatch::kernel::{AcceptError, ConnectionInfo, Sender};
use crate::log::Event;
use crate::net::{Peer, Source};
use crate::types::{Ending, KillSignal, Reason, SpawnFailure, Step};

pub(super) fn failure(step: Step) -> SpawnFailure {
    SpawnFailure { step, errno: libc::EAGAIN }
}

/// The address of an endpoint that is the same for all its connections.
pub(super) fn fixed_address(endpoint: usize) -> Option<SocketAddr> {
    (endpoint % 2 == 0).then(|| address(endpoint))
}

impl State {
    /// The turn has time for one more.
    fn begin_one(&mut self, number: u64, millis: u64) {
        if self.sockets.get(&number).is_none_or(|socket| socket.polled.is_none()) {
            self.fault(format!("somebody was accepted from socket {number}, which is not polled"));
        }
        if self.batch_end.is_some_and(|end| self.read >= end) {
            self.fault("somebody was accepted after the time of the turn".to_owned());
        }
        self.clock += Duration::from_millis(millis);
    }

    pub(super) fn accept(&mut self, number: u64) -> Result<usize, AcceptError> {
        let line = self.sockets.get(&number).and_then(|socket| self.truth.line_at(socket.endpoint));
        let Some(line) = line.filter(|line| !line.lends() && self.borrower(number).is_none()) else {
            self.fault(format!("somebody was accepted from socket {number}"));
            return Err(AcceptError::NobodyWaits);
        };
        if let Err(reason) = self.is_to_be_accepted(&line) {
            self.fault(format!("somebody was accepted in spite of {reason:?}"));
        }
        let Some((client, at_accept)) = self.first(number) else { return Err(AcceptError::NobodyWaits) };
        self.begin_one(number, self.clients[client].arrival.takes);
        match at_accept {
            AtAccept::Broken => {
                self.pop(number, Fate::Gone);
                Err(AcceptError::BrokenConnection)
            }
            AtAccept::Shortage { reset } => {
                self.clients[client].arrival.at_accept = AtAccept::Fine;
                self.to_be_reset = Some((number, reset));
                self.rest(number, Reason::Resources, 100);
                self.saw("shortage");
                Err(AcceptError::Shortage)
            }
            AtAccept::Fine => {
                let verdict = self.judge(&line, Some(self.clients[client].address()));
                let fate = |verdict| Fate::Judged { service: line.name, verdict };
                self.pop(number, verdict.map_or(Fate::Gone, fate));
                Ok(client)
            }
        }
    }

    /// Who waits at a socket that may be lent.
    pub(super) fn sender(&mut self, number: u64) -> Sender {
        let Some(socket) = self.sockets.get(&number).cloned() else { return Sender::NoDatagram };
        let Some(line) = self.truth.line_at(socket.endpoint).filter(|_| self.borrower(number).is_none()) else {
            self.fault(format!("socket {number} is offered"));
            return Sender::NoDatagram;
        };
        self.begin_one(number, 0);
        let datagrams = socket.endpoint >= DATAGRAMS;
        while datagrams && self.first(number).is_some_and(|(_, at_accept)| at_accept == AtAccept::Broken) {
            self.pop(number, Fate::Gone);
        }
        let Some((client, _)) = self.first(number).filter(|_| line.lends()) else { return Sender::NoDatagram };
        let address = datagrams.then(|| self.clients[client].address());
        match self.judge(&line, address) {
            Some(Verdict::Start) => self.to_be_lent = Some(number),
            Some(Verdict::Refuse(_)) => self.to_be_discarded = Some(number),
            None => self.saw("left waiting at a socket that is lent"),
        }
        address.map_or(Sender::Unknown, |address| Sender::Known(Peer::Inet(address.into(), client as u16)))
    }

    pub(super) fn lend(&mut self, number: u64) -> Option<Vec<usize>> {
        if self.to_be_lent.take() != Some(number) {
            self.fault(format!("socket {number} was lent"));
        }
        let socket = self.sockets.get(&number).cloned().unwrap_or_default();
        let first = socket.waiting.front().map(|&client| self.clients[client]);
        if first.is_some_and(|first| first.arrival.birth.no_copy) {
            self.clients[socket.waiting[0]].arrival.birth.no_copy = false;
            let service = self.truth.line_at(socket.endpoint).map_or(0, |line| line.name);
            self.truth.fail(service, Step::Clone);
            self.back_off(number);
            self.saw("no copy of a socket");
            return None;
        }
        Some(socket.waiting.into())
    }

    /// What a connection or a lent socket's handler becomes.
    pub(super) fn prepare(&mut self, what: What, template: usize, to: &ConnectionInfo<'_>) -> Option<Process> {
        let Some(line) = self.truth.line(template) else {
            self.fault(format!("a handler of service {template}, which is not served"));
            return None;
        };
        let (client, socket) = match what {
            What::Connection(client) => (Some(client), self.clients[client].socket),
            What::Loan(socket) => (None, socket),
            _ => return None,
        };
        let first = client.or_else(|| self.sockets.get(&socket)?.waiting.front().copied());
        let first = first.map(|client| self.clients[client]);
        let texts =
            first.filter(|_| client.is_some()).map(|first| (first.sent, [first.second && line.plus(), line.queue]));
        if let Some((sent, expected)) = texts.filter(|(sent, expected)| sent != expected) {
            self.fault(format!("a client was sent {sent:?} and not {expected:?}"));
        }
        let known = first.filter(|first| client.is_some() || first.arrival.endpoint >= DATAGRAMS);
        let address = known.map(|first| first.address());
        let (source, network) = address.map_or((Source::Unknown, None), |address| line.keys(address));
        if !self.has_slot() && self.starting().any(|process| !process.start.is_some_and(|start| start.looked_at)) {
            self.fault("a start without memory, where an older one has not been waited for".to_owned());
        }
        let owner = Owner { service: template, source, network };
        let made = self.fork(owner, first.map(|first| first.birth()).unwrap_or_default());
        let counted = self.count(|process| process.owner.service == template && process.owner.source == source) + 1;
        if to.source_count != counted {
            self.fault(format!("told of {} handlers of its source, and there are {counted}", to.source_count));
        }
        let Some(mut process) = made else {
            self.truth.fail(template, Step::Clone);
            self.saw("no process");
            // Who can't be started is not tried again at once.
            if client.is_none() {
                self.back_off(socket);
            } else {
                self.rest(socket, Reason::Resources, 100);
            }
            return None;
        };
        (process.address, process.client) = (address, client);
        if let What::Loan(socket) = what {
            process.lent = Some(socket);
            process.before = self.sockets.get(&socket).map(|socket| socket.waiting.iter().copied().collect());
        }
        process.copied = client.is_some_and(|client| self.clients[client].copied && line.kind == Kind::Mux);
        Some(process)
    }

    /// What a handler is told of where its client came from.
    pub(super) fn check_info(&mut self, what: What, to: &ConnectionInfo<'_>) {
        let expected = match what {
            What::Connection(client) => {
                let Client { arrival, .. } = self.clients[client];
                (self.clients[client].address().to_string(), Some(address(arrival.endpoint)))
            }
            What::Loan(socket) => {
                let endpoint = self.sockets.get(&socket).map_or(0, |socket| socket.endpoint);
                ("-".to_owned(), fixed_address(endpoint))
            }
            _ => return,
        };
        let told = (to.peer.to_string(), to.local);
        if told != expected {
            self.fault(format!("a handler is told {told:?} and not {expected:?}"));
        }
    }

    pub(super) fn finish(&mut self, handle: u64) -> Option<SpawnFailure> {
        let clock = self.clock;
        let process = self.by_handle(handle)?;
        let start = process.start.take();
        let (service, lent, client, birth) =
            (process.owner.service, process.lent, process.client, process.birth.outcome);
        process.failed = start.is_some_and(|start| start.fails);
        let failed = process.failed;
        if start.is_none_or(|start| start.over_at > clock) {
            self.fault(format!("process {handle}: a start that was not over"));
        }
        self.saw(&format!("{birth:?}"));
        if !failed {
            self.truth.tally(service).accepted += 1;
            return None;
        }
        self.truth.fail(service, Step::Exec);
        if let Some(client) = client {
            self.clients[client].fate = Fate::NotStarted;
        }
        if let Some(socket) = lent {
            self.back_off(socket);
        }
        Some(failure(Step::Exec))
    }

    pub(super) fn signal(&mut self, pid: i32, signal: KillSignal) {
        self.signals.push((pid, signal));
        let now = self.truth.barred.now;
        let known = |process: &Process| self.heard && process.is_handler() && self.is_zombie(process);
        if self.processes.get(&pid).is_some_and(known) {
            self.fault(format!("{pid} got a signal and has ended"));
        }
        let Some(process) = self.processes.get_mut(&pid) else {
            return self.fault(format!("{pid} got a signal and was nobody's"));
        };
        let due = process.deadline.filter(|&(when, due)| when <= now && due == signal);
        let grace = Duration::from_secs(5);
        process.deadline = due.filter(|_| signal == KillSignal::Term).map(|_| (now + grace, KillSignal::Kill));
        if signal == KillSignal::Kill || !process.birth.stubborn {
            let number = if signal == KillSignal::Kill { libc::SIGKILL } else { libc::SIGTERM };
            process.ended.get_or_insert(Ending::Signaled(number));
            process.start = process.start.map(|start| Start { over_at: Duration::ZERO, fails: false, ..start });
            self.child_news = true;
        }
        if due.is_none() {
            self.fault(format!("{pid} got a signal before its time"));
        }
        self.saw(signal.word());
    }

    pub(super) fn note(&mut self, event: Event) {
        match event {
            Event::Inconsistency { what, .. } => self.fault(what),
            Event::Pause { reason, .. } => {
                self.back_offs.1 += u32::from(reason == Reason::Backoff);
                self.saw(&format!("paused: {reason:?}"));
            }
            Event::Resume { endpoint, .. } => {
                self.resumed.push(endpoint);
                self.saw("polled again");
            }
            Event::Accept { pid, source_count, service_count, .. } => {
                let counts = self.processes.get(&pid).filter(|process| process.is_handler());
                let counts = counts.map(|process| process.counts);
                if counts != Some((source_count.count, service_count.count)) {
                    self.fault(format!(
                        "{pid} was started as one of {source_count:?}, {service_count:?}, not {counts:?}"
                    ));
                }
            }
            Event::Exit { pid, ending, .. } => {
                let exits = self.collected.iter().filter(|process| process.pid == pid);
                if !exits.into_iter().any(|process| process.exit() == Some(ending)) {
                    self.fault(format!("the log says that {pid} has ended: {ending:?}"));
                }
            }
            Event::Warning { .. } => self.stolen.1 += 1,
            Event::Kill { pid, signal, .. } => self.told.push((pid, signal)),
            _ => {}
        }
    }
}
