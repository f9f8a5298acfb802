//! The daemon's books, and the truth beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::barred::{Truth, banned};
use super::histories::{Act, Arrival, Birth, End, first_table};
use super::kernel::{FakeKernel, Process, Processes};
use super::paces::{Of, Rates, SECOND};
use super::table::{ADDRESSES, COST_OF_CRASH, COST_OF_EXIT, COST_OF_REFUSAL, Line, NAMES, entry};
use crate::admission::{Admission, Buckets, Client, Decision};
use crate::dispatch::acceptor::{Entry, WaitingForRoom, born, start_handler, stillborn, take_over};
use crate::dispatch::listeners::ListenerId;
use crate::dispatch::reaper::{Exit, Reaper};
use crate::limits::ledger::Ledger;
use crate::limits::penalty::Cause;
use crate::limits::rate::PerFamily;
use crate::net::Peer;
use crate::types::Now;
use crate::types::{Ending, Reason, Ticket};

/// A start that is under way.
struct Starting {
    ticket: Ticket,
    handle: RawFd,
    fails: bool,
}

/// All four process ids are taken.
struct NoProcess;

pub(super) struct World {
    pub(super) kernel: FakeKernel,
    pub(super) ledger: Ledger,
    pub(super) reaper: Reaper<FakeKernel>,
    pub(super) waiting: WaitingForRoom,
    /// Services whose listener is left alone until there is room, and whose room that is.
    pub(super) paused: BTreeMap<usize, Reason>,
    admission: Admission,
    pub(super) entries: Vec<(Entry, Line)>,
    large: bool,
    pub(super) instances: u32,
    starting: Vec<Starting>,
    rates: Rates,
    /// Who is refused without a look at any count, and the time.
    truth: Truth,
    last_ticket: Option<Ticket>,
    /// What has happened how often.
    pub(super) seen: BTreeMap<String, u32>,
}

/// What is carried by an upgrade goes through a file.
fn written_and_read<T: Serialize + DeserializeOwned>(value: &T) -> T {
    serde_json::from_slice(&serde_json::to_vec(value).unwrap()).unwrap()
}

fn listener_of(service: usize) -> ListenerId {
    ListenerId::from_number(ListenerId::FIRST + service as u64).unwrap()
}

impl World {
    pub(super) fn new() -> Self {
        let kernel = FakeKernel::default();
        let mut world = Self {
            reaper: Reaper::new(kernel.clone()),
            kernel,
            ledger: Ledger::default(),
            waiting: WaitingForRoom::default(),
            paused: BTreeMap::new(),
            admission: Admission::new().unwrap(),
            entries: Vec::new(),
            large: false,
            instances: 0,
            starting: Vec::new(),
            rates: Rates::default(),
            truth: Truth::default(),
            last_ticket: None,
            seen: BTreeMap::new(),
        };
        world.reload(&first_table(), false, 3);
        world
    }

    pub(super) fn saw(&mut self, what: &str) {
        if let Some(count) = self.seen.get_mut(what) {
            *count += 1;
        } else {
            self.seen.insert(what.to_owned(), 1);
        }
    }

    fn moment(&self) -> Now {
        Now { monotonic: self.truth.time(), wall: self.truth.time() }
    }

    pub(super) fn apply(&mut self, act: &Act) -> Result<(), String> {
        match act {
            Act::Arrive(arrival) => return self.knock(*arrival),
            Act::End { which, how } => self.end(*which, *how),
            Act::Follow => self.follow(),
            Act::Reap => self.reaper.reap(true, self.truth.time()),
            Act::Drain { between } => return self.drain(between),
            Act::Pass(seconds) => {
                self.truth.now += seconds;
                for _ in self.reaper.end_overdue(self.truth.time()) {
                    self.saw("end of a lifetime");
                }
            }
            Act::Reload { table, large, instances } => self.reload(table, *large, *instances),
            Act::Ban { .. } | Act::Unban { .. } | Act::Shut { .. } => self.order(act),
            Act::Upgrade { heard } => return self.upgrade(*heard),
        }
        Ok(())
    }

    /// What the administrator orders.
    fn order(&mut self, act: &Act) {
        let now = self.moment();
        match *act {
            Act::Ban { address, wide, seconds } => {
                let until = seconds.map(|seconds| now.monotonic + Duration::from_secs(seconds));
                let network = banned(ADDRESSES[address], wide);
                self.admission.ban(network.network().unwrap(), until, now).unwrap();
                self.truth.ban(network, seconds);
            }
            Act::Unban { address, wide } => {
                let network = banned(ADDRESSES[address], wide);
                self.admission.unban(network.network().unwrap(), now);
                self.truth.unban(network);
            }
            Act::Shut { service, on } => {
                let Some((entry, _)) = self.entries.iter().find(|(_, line)| line.name == service) else { return };
                if on {
                    self.admission.drain(entry.id)
                } else {
                    self.admission.resume(entry.id)
                };
                self.truth.drain(service, on);
            }
            _ => {}
        }
    }

    fn end(&mut self, which: usize, how: End) {
        let how = match how {
            End::Well => Ending::Exited(0),
            End::Badly => Ending::Exited(1),
            End::Crash => Ending::Signaled(libc::SIGSEGV),
        };
        let mut processes = self.kernel.0.borrow_mut();
        let handle = processes.by_pid.values().filter(|process| process.ended.is_none()).nth(which);
        if let Some(handle) = handle.map(|process| process.handle) {
            processes.end(handle, how);
        }
    }

    /// Somebody connects to a service: its listener may be left alone, or is now.
    fn knock(&mut self, arrival: Arrival) -> Result<(), String> {
        let Some(place) = self.entries.iter().position(|(_, line)| line.name == arrival.service) else { return Ok(()) };
        if self.paused.contains_key(&arrival.service) {
            return Ok(());
        }
        let (id, line) = (self.entries[place].0.id, self.entries[place].1);
        let room = self.admission.room(&self.ledger, id, self.moment()).map_err(|refusal| refusal.reason);
        // Who comes to a drained service is told so.
        let expected = if self.truth.is_drained(line.name) { Ok(()) } else { self.room(&line) };
        if room != expected {
            return Err(format!("{line:?}: admission says {room:?}, the truth {expected:?}"));
        }
        match room {
            Err(reason) if line.queue || reason == Reason::ServiceRate => {
                self.waiting.add(reason, id, listener_of(line.name));
                if reason != Reason::ServiceRate {
                    self.paused.insert(line.name, reason);
                }
                self.saw("left in the queue");
                Ok(())
            }
            _ => self.judge(arrival),
        }
    }

    /// Somebody has been accepted.
    fn judge(&mut self, arrival: Arrival) -> Result<(), String> {
        let address = ADDRESSES[arrival.address];
        let Some(place) = self.entries.iter().position(|(_, line)| line.name == arrival.service) else { return Ok(()) };
        let (id, line) = (self.entries[place].0.id, self.entries[place].1);
        let client = self.admission.client(id, Peer::Inet(address.into(), 1));
        self.admission.note_arrival(id, &client, self.moment());
        let decision = self.admission.decide(&self.ledger, id, &client, self.moment());
        match (decision, self.may_come(&line, address)) {
            (Decision::Admit, Ok(())) => {
                self.admission.commit(id, &client, self.moment());
                self.has_come(&line, address);
                self.start(place, client, address, arrival.birth)
            }
            (Decision::Refuse(refusal), Err(reason)) if refusal.reason == reason => {
                self.saw(&format!("refused: {reason:?}"));
                self.ledger.note_refusal(id, reason);
                self.charge(place, address, refusal.penalty());
                if line.penalties && matches!(reason, Reason::SourceInstances | Reason::SourceRate) {
                    self.truth.charge(address, COST_OF_REFUSAL);
                }
                Ok(())
            }
            (_, expected) => Err(format!("{line:?}, {address}: admission says {decision:?}, the truth {expected:?}")),
        }
    }

    fn charge(&mut self, place: usize, address: Ipv4Addr, cause: Option<Cause>) {
        let (id, now) = (self.entries[place].0.id, self.moment());
        if let Some(cause) = cause {
            self.admission.charge(id, &Peer::Inet(address.into(), 1), cause, now);
        }
    }

    fn start(&mut self, place: usize, client: Client, address: Ipv4Addr, birth: Birth) -> Result<(), String> {
        let (entry, line) = &self.entries[place];
        let (source, network) = line.keys(address);
        let (service, processes, now) = (NAMES[line.name], Rc::clone(&self.kernel.0), self.truth.time());
        let started = start_handler(&mut self.ledger, &mut self.reaper, entry, now, client, None, |_| {
            let mut processes = processes.borrow_mut();
            let (pid, handle) = processes.fork((service, source, network)).ok_or(NoProcess)?;
            if birth == Birth::DiesAtOnce {
                processes.end(handle, Ending::Exited(0));
            }
            Ok::<_, NoProcess>((pid, handle, handle))
        });
        let Ok((ticket, pid, handle)) = started else {
            self.saw("no process");
            return Ok(());
        };
        self.saw(&format!("{birth:?}"));
        if handle > pid {
            self.saw("an id that was another's");
        }
        self.starting.push(Starting { ticket, handle, fails: birth == Birth::CannotExec });
        match self.last_ticket.replace(ticket) {
            Some(last) if last >= ticket => Err(format!("{ticket:?} comes after {last:?}")),
            _ => Ok(()),
        }
    }

    /// Hears how the starts went.
    fn follow(&mut self) {
        for Starting { ticket, handle, fails } in std::mem::take(&mut self.starting) {
            if !fails {
                self.kernel.0.borrow_mut().be_born(handle);
                born(&mut self.ledger, &mut self.reaper, ticket);
            } else if let Some(place) = stillborn(&mut self.ledger, &mut self.reaper, ticket) {
                self.saw("stillborn");
                self.made_room(place.service);
            }
        }
    }

    fn made_room(&mut self, service: crate::types::ServiceId) {
        let in_daemon = self.admission.daemon_room(&self.ledger).is_ok();
        for listener in self.waiting.made_room(service, in_daemon) {
            self.paused.retain(|&name, _| listener_of(name) != listener);
            self.saw("listened again");
        }
    }

    /// What the daemon does with the exit queue; between two exits somebody may be admitted.
    fn drain(&mut self, between: &[Arrival]) -> Result<(), String> {
        let mut between = between.iter();
        for exit in self.reaper.drain() {
            let truth = self.kernel.0.borrow_mut().on_the_way.pop_front().ok_or("an exit of nobody")?;
            self.settle(&exit, &truth)?;
            if let Some(arrival) = between.next() {
                self.saw("somebody came between two exits");
                self.judge(*arrival)?;
            }
        }
        Ok(())
    }

    fn settle(&mut self, exit: &Exit, truth: &Process) -> Result<(), String> {
        let place = self.ledger.settle(exit.ticket).ok_or_else(|| format!("{exit:?} has no place"))?;
        let Some(ended) = exit.ended else { return Err(format!("{exit:?} was collected by somebody")) };
        self.ledger.note_ending(place.service, ended.ending, Duration::ZERO);
        let served = self.entries.iter().position(|(entry, _)| entry.id == place.service);
        if let (Some(served), Peer::Inet(address, _)) = (served, exit.about.peer) {
            let address = ADDRESSES.into_iter().find(|one| *one == address).ok_or("an unknown client")?;
            self.charge(served, address, Cause::of_ending(ended.ending));
        }
        self.owe_for_ending(truth, exit.about.peer);
        self.made_room(place.service);
        Ok(())
    }

    fn owe_for_ending(&mut self, truth: &Process, peer: Peer) {
        let line = self.entries.iter().map(|(_, line)| line).find(|line| NAMES[line.name] == truth.owner.0);
        let (Some(Line { penalties: true, .. }), Peer::Inet(address, _)) = (line, peer) else { return };
        let cost = match truth.ended {
            Some(Ending::Exited(status)) if status != 0 => COST_OF_EXIT,
            Some(Ending::Signaled(libc::SIGSEGV)) => COST_OF_CRASH,
            _ => return,
        };
        let address = ADDRESSES.into_iter().find(|one| *one == address).unwrap();
        self.truth.charge(address, cost);
        self.saw("charged for an end");
    }

    fn reload(&mut self, table: &[Line], large: bool, instances: u32) {
        let ids = self.ledger.list(table.iter().map(|line| NAMES[line.name]));
        let old: Vec<_> = self.entries.iter().map(|(_, line)| *line).collect();
        for line in table.iter().filter(|line| old.iter().all(|old| old.name != line.name)) {
            let live = self.kernel.0.borrow().count(|process| process.owner.0 == NAMES[line.name]);
            self.saw(if live > 0 { "brought back with handlers" } else { "brought back" });
        }
        let mut wider =
            table.iter().zip(&ids).filter(|(line, id)| Some(self.ledger.service_count(**id)) > line.instances);
        if wider.any(|(line, _)| line.instances.is_some()) {
            self.saw("a limit below what lives");
        }
        self.truth.keep(|service| table.iter().any(|line| line.name == service));
        self.rates.reload(&old, table, self.truth.now * SECOND);
        let size = |table: &[Line], large| table.iter().any(Line::is_paced).then_some(large);
        if size(&old, self.large) != size(table, large) {
            self.rates.forget_sources();
        }
        (self.large, self.instances) = (large, instances);
        self.entries = table.iter().zip(ids).map(|(line, id)| (entry(id, line), *line)).collect();
        self.serve();
    }

    fn serve(&mut self) {
        let services = || self.entries.iter().map(|(entry, _)| (entry.id, &entry.service));
        // Enough for all addresses in all services.
        let ipv4 = if self.large { 96 } else { 48 };
        let size = PerFamily { ipv4, ipv6: 12 };
        let prepared = self.admission.prepare(size, services().map(|(_, service)| service)).unwrap();
        let now = self.moment();
        self.admission.serve(services(), self.instances, prepared, now);
        self.waiting.clear();
        self.paused.clear();
    }

    /// The program is replaced: what is not carried is gone.
    fn upgrade(&mut self, heard: bool) -> Result<(), String> {
        if heard {
            self.follow();
        }
        self.drain(&[])?;
        self.saw(if self.starting.is_empty() { "upgrade" } else { "upgrade with starts under way" });
        self.ledger = Ledger::from_carried(written_and_read(&self.ledger.carry()));
        let carried = written_and_read(&self.admission.carry(self.moment()));
        self.admission = Admission::new().unwrap();
        let buckets: Buckets = self.admission.take_over(carried, self.moment()).unwrap();
        let handlers: Vec<_> = self.reaper.carry().map(|handler| written_and_read(&handler)).collect();
        self.reaper = Reaper::new(self.kernel.clone());
        self.kernel.0.borrow_mut().unwatch_all();
        for handler in handlers {
            take_over(&mut self.ledger, &mut self.reaper, handler).unwrap();
        }
        self.children_without_news();
        self.ledger.list(self.entries.iter().map(|(_, line)| NAMES[line.name]));
        self.serve();
        self.admission.refill(buckets);
        Ok(())
    }

    /// Nobody will say how their starts went: those that fail end as a handler does.
    fn children_without_news(&mut self) {
        let mut processes = self.kernel.0.borrow_mut();
        for Starting { handle, fails, .. } in self.starting.drain(..) {
            processes.be_born(handle);
            if fails {
                processes.end(handle, Ending::Exited(127));
            }
        }
    }

    /// Is there room for one more, whoever he is?
    fn room(&self, line: &Line) -> Result<(), Reason> {
        let (processes, service) = (self.kernel.0.borrow(), NAMES[line.name]);
        self.in_pace(line, Of::Service, Reason::ServiceRate)?;
        below(line.instances, &processes, Reason::ServiceInstances, |process| process.owner.0 == service)?;
        below(Some(self.instances), &processes, Reason::DaemonInstances, |_| true)
    }

    /// What admission must say, worked out from the processes that there are and from what has happened.
    fn may_come(&self, line: &Line, address: Ipv4Addr) -> Result<(), Reason> {
        let (service, (source, network)) = (NAMES[line.name], line.keys(address));
        let limits = line.network.unwrap_or_default();
        self.truth.may_come(line.name, address)?;
        let processes = self.kernel.0.borrow();
        let mine = |process: &Process| process.owner.0 == service && process.owner.1 == source;
        below(line.source.instances, &processes, Reason::SourceInstances, mine)?;
        self.in_pace(line, Of::Source(source), Reason::SourceRate)?;
        let ours = |process: &Process| process.owner.0 == service && process.owner.2 == network;
        below(limits.instances, &processes, Reason::NetworkInstances, ours)?;
        network.map_or(Ok(()), |network| self.in_pace(line, Of::Network(network), Reason::NetworkRate))?;
        drop(processes);
        self.room(line)
    }

    fn in_pace(&self, line: &Line, of: Of, reason: Reason) -> Result<(), Reason> {
        if self.rates.may_come(line, of, self.truth.now * SECOND) { Ok(()) } else { Err(reason) }
    }

    fn has_come(&mut self, line: &Line, address: Ipv4Addr) {
        let (source, network) = line.keys(address);
        let all = [Some(Of::Source(source)), network.map(Of::Network), Some(Of::Service)];
        all.into_iter().flatten().for_each(|of| self.rates.has_come(line, of, self.truth.now * SECOND));
    }

    /// All processes end, and the daemon has heard of everything.
    pub(super) fn end_all(&mut self) -> Result<(), String> {
        let handles: BTreeSet<_> = self.kernel.0.borrow().by_pid.values().map(|process| process.handle).collect();
        handles.into_iter().for_each(|handle| self.kernel.0.borrow_mut().end(handle, Ending::Exited(0)));
        self.follow();
        self.reaper.reap(true, self.truth.time());
        self.drain(&[])
    }
}

fn below(
    limit: Option<u32>,
    processes: &Processes,
    reason: Reason,
    mine: impl Fn(&Process) -> bool,
) -> Result<(), Reason> {
    if limit.is_some_and(|limit| processes.count(mine) >= limit) { Err(reason) } else { Ok(()) }
}
