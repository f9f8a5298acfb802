//! The shipped dispatcher, and what happens to it: clients, handlers that end, time, and the turns of the server.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use super::barred::banned;
use super::descriptors::What;
use super::histories::{Act, End, Order, Turn, Upgrade, first_table};
use super::kernel::{FakeKernel, number_of};
use super::state::{PIDS, Process, State};
use super::table::{ADDRESSES, ENDPOINTS, Kind, Line, NAMES, endpoint, service};
use crate::builtin::PASS_ON;
use crate::dispatch::Dispatcher;
use crate::dispatch::commit::{NewSocket, NewSockets, NewTable};
use crate::dispatch::saved::Restored;
use crate::limits::rate::PerFamily;
use crate::types::{Ending, KillSignal, ListenerId, Now};

/// How long a turn accepts.
const ACCEPT_TIME: Duration = Duration::from_millis(4);

/// Enough for a start that is asked for news.
const SOON: Duration = Duration::from_millis(50);

pub(super) struct World {
    pub(super) dispatcher: Dispatcher<FakeKernel>,
    state: Rc<RefCell<State>>,
    pub(super) quitting: bool,
}

impl World {
    /// Serves nothing yet.
    pub(super) fn empty(pids: i32, process_1: bool) -> Self {
        let state = Rc::new(RefCell::new(State { process_1, ..State::new(pids) }));
        let dispatcher = Dispatcher::new(FakeKernel(Rc::clone(&state))).unwrap();
        Self { dispatcher, state, quitting: false }
    }

    pub(super) fn new(process_1: bool) -> Self {
        let mut world = Self::empty(PIDS, process_1);
        world.reload(&first_table(), false, 3).unwrap();
        world
    }

    pub(super) fn state(&self) -> Ref<'_, State> {
        self.state.borrow()
    }

    pub(super) fn state_mut(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// When the turn began.
    pub(super) fn now(&self) -> Now {
        let now = self.state().truth.barred.now;
        Now { monotonic: now, wall: now }
    }

    pub(super) fn apply(&mut self, act: &Act) -> Result<(), String> {
        match act {
            Act::Turn(turn) => return self.turn(turn),
            Act::Arrive(arrival) => self.state_mut().arrive(*arrival),
            Act::End { which, how, takes } => self.end(*which, *how, *takes),
            Act::Take { which } => {
                let pid = self.running(|process| process.lent.is_some()).get(*which).copied();
                pid.into_iter().for_each(|pid| self.state_mut().take(pid));
            }
            Act::Orphan => self.leave_orphan(),
            Act::Pass(millis) => self.state_mut().clock += Duration::from_millis(*millis),
            Act::NoMemoryToPoll(times) => self.state_mut().no_memory_to_poll = *times,
            Act::Slots(slots) => self.state_mut().slots = *slots,
            Act::Inflexible(endpoint) => {
                let mut state = self.state_mut();
                let socket = state.socket_of(*endpoint);
                let socket = socket.and_then(|socket| state.sockets.get_mut(&socket));
                socket.into_iter().for_each(|socket| socket.inflexible = true);
            }
        }
        Ok(())
    }

    /// The ids of handlers that run.
    fn running(&self, of: impl Fn(&Process) -> bool) -> Vec<i32> {
        let state = self.state();
        let running = state.processes.values().filter(|one| one.is_handler() && one.ended.is_none() && of(one));
        running.map(|process| process.pid).collect()
    }

    fn end(&mut self, which: usize, how: End, takes: bool) {
        let Some(&pid) = self.running(|_| true).get(which) else { return };
        let mut state = self.state_mut();
        let hands_back = state.processes.get(&pid).is_some_and(|process| {
            process.copied || state.truth.line(process.owner.service).is_some_and(|line| line.kind == Kind::Mux)
        });
        let ending = match how {
            End::HandBack if hands_back => Ending::Exited(PASS_ON.into()),
            End::Well | End::HandBack => Ending::Exited(0),
            End::Badly => Ending::Exited(1),
            End::Crash => Ending::Signaled(libc::SIGSEGV),
        };
        if takes {
            state.take(pid);
        }
        state.end(pid, ending);
    }

    fn leave_orphan(&mut self) {
        let mut state = self.state_mut();
        if let Some(pid) = state.free_pid().filter(|_| state.process_1) {
            state.orphans.insert(pid);
            state.child_news = true;
        }
    }

    /// What the server does, in its order.
    fn turn(&mut self, turn: &Turn) -> Result<(), String> {
        let (before, ready) = (self.before(), self.ready(turn.reported));
        self.begin_turn(turn.heard);
        self.check_turn(turn.heard)?;
        self.check_returned(&before)?;
        if let Some(order) = &turn.order {
            self.order(order)?;
        }
        if turn.upgrade != Some(Upgrade::Before) {
            self.accept(ready)?;
        }
        if turn.upgrade.is_some() && !self.quitting {
            self.upgrade()?;
        } else if !matches!(turn.order, Some(Order::Reload { .. })) {
            self.check_resumed(&before)?;
        }
        Ok(())
    }

    pub(super) fn begin_turn(&mut self, heard: bool) {
        let (ended, orphans) = {
            let mut state = self.state_mut();
            state.truth.barred.now = state.clock;
            state.resumed.clear();
            state.heard = heard;
            (heard && state.has_news(), std::mem::take(&mut state.child_news) && state.process_1)
        };
        self.dispatcher.begin_turn(self.now(), ended, orphans);
        self.state_mut().settle_all();
    }

    /// The listeners of these endpoints that are polled and at which somebody waits, as the wait before the turn tells.
    pub(super) fn ready(&self, reported: u8) -> Vec<ListenerId> {
        let state = self.state();
        // In whatever order.
        let ready = state.sockets.values().rev().filter(|socket| !socket.waiting.is_empty());
        ready.filter(|socket| reported & 1 << socket.endpoint != 0).filter_map(|socket| socket.polled).collect()
    }

    pub(super) fn accept(&mut self, ready: Vec<ListenerId>) -> Result<(), String> {
        let end = self.state().clock + ACCEPT_TIME;
        self.state_mut().batch_end = Some(end);
        self.dispatcher.accept(ready.clone());
        self.state_mut().batch_end = None;
        if self.state().read >= end {
            self.state_mut().saw("a turn without time for all");
            return Ok(());
        }
        self.check_nobody_waits(&ready)
    }

    fn order(&mut self, order: &Order) -> Result<(), String> {
        let now = self.now();
        match *order {
            // A daemon that is ending can't be asked.
            _ if self.quitting => {}
            Order::Ban { address, wide, seconds } => {
                let until = seconds.map(|seconds| now.monotonic + Duration::from_secs(seconds));
                let network = banned(ADDRESSES[address], wide);
                self.dispatcher.admission_mut().ban(network.network().unwrap(), until, now).unwrap();
                self.state_mut().truth.barred.ban(network, seconds);
            }
            Order::Unban { address, wide } => {
                let network = banned(ADDRESSES[address], wide);
                self.dispatcher.admission_mut().unban(network.network().unwrap(), now);
                self.state_mut().truth.barred.unban(network);
            }
            Order::Drain { service, on } => self.drain(service, on),
            Order::Reload { ref table, large, instances } => return self.reload(table, large, instances),
            Order::Quit => self.quit(),
        }
        Ok(())
    }

    fn drain(&mut self, service: usize, on: bool) {
        let id = self.dispatcher.ledger().find(NAMES[service]);
        let listed = self.state().truth.line(service).is_some();
        let Some(id) = id.filter(|_| listed) else { return };
        self.state_mut().truth.barred.drain(service, on);
        if on {
            self.dispatcher.drain(id)
        } else {
            self.dispatcher.resume(id)
        };
    }

    pub(super) fn quit(&mut self) {
        self.dispatcher.close_all_listeners();
        self.dispatcher.end_all_handlers();
        self.quitting = true;
        let mut state = self.state_mut();
        let now = state.truth.barred.now;
        for process in state.processes.values_mut() {
            process.deadline = Some((now, KillSignal::Term));
        }
        state.forget_closed();
        state.saw("quit");
    }

    /// A new table is put in force.
    pub(super) fn reload(&mut self, table: &[Line], large: bool, instances: u32) -> Result<(), String> {
        self.look_at_table(table);
        let size = PerFamily { ipv4: if large { 96 } else { 48 }, ipv6: 12 };
        let services: Vec<_> = table.iter().map(|line| Rc::new(service(line))).collect();
        let admission = self.dispatcher.admission().prepare(size, &services).unwrap();
        let templates: Vec<_> = services.iter().map(|service| number_of(&service.name)).collect();
        let services = services.into_iter().zip(templates).collect();
        let sockets = self.open_sockets(table);
        let expected = self.begin_reload(table, large, instances);
        let warnings = self.dispatcher.commit(NewTable { services, sockets, instances, admission });
        let mut state = self.state_mut();
        state.forget_closed();
        state.forget_unlisted();
        if !state.resumed.is_empty() {
            return Err(format!("the log says that {:?} are polled again", state.resumed));
        }
        let told = state.sockets.values().filter(|socket| socket.changed && socket.inflexible).count();
        if warnings.len() != told || state.sockets.values().filter(|socket| socket.changed).count() != expected {
            return Err(format!("{told} sockets keep their options, {expected} are kept: {warnings:?}"));
        }
        Ok(())
    }

    /// What the truth is from now on. Gives the number of sockets that stay open.
    fn begin_reload(&mut self, table: &[Line], large: bool, instances: u32) -> usize {
        let mut state = self.state_mut();
        state.resumed.clear();
        state.truth.reload(table, large, instances);
        let is_kept = |endpoint: usize| table.iter().any(|line| line.has(endpoint));
        let mut kept = 0;
        for socket in state.sockets.values_mut() {
            (socket.rest, socket.idle_loans, socket.changed) = (None, 0, false);
            kept += usize::from(is_kept(socket.endpoint));
        }
        let new = |endpoint: &usize| is_kept(*endpoint) && state.socket_of(*endpoint).is_none();
        let new: Vec<_> = (0..ENDPOINTS).filter(new).collect();
        new.into_iter().for_each(|endpoint| state.opened(endpoint));
        kept
    }

    fn open_sockets(&self, table: &[Line]) -> NewSockets<super::descriptors::Descriptor> {
        let state = self.state();
        let wanted = |number: &usize| table.iter().any(|line| line.has(*number)) && state.socket_of(*number).is_none();
        let open = |number| {
            let socket = state.descriptors.open(What::Socket(number));
            (endpoint(number), NewSocket { socket, how: "opened" })
        };
        (0..ENDPOINTS).filter(wanted).map(open).collect::<HashMap<_, _>>()
    }

    fn look_at_table(&mut self, table: &[Line]) {
        let mut state = self.state_mut();
        for line in table {
            let live = state.live(line.name);
            match state.truth.line(line.name) {
                None if live > 0 => state.saw("brought back with handlers"),
                None => state.saw("brought back"),
                Some(_) => {}
            }
            if line.instances.is_some_and(|limit| live > limit) {
                state.saw("a limit below what lives");
            }
            for endpoint in (0..ENDPOINTS).filter(|&endpoint| line.has(endpoint)) {
                let before = state.truth.line_at(endpoint);
                if before.is_some_and(|before| before.name != line.name) {
                    state.saw("an endpoint of another service");
                }
                let lent = state.socket_of(endpoint).is_some_and(|socket| state.borrower(socket).is_some());
                if lent {
                    state.saw("reload while a socket is lent");
                }
            }
        }
    }

    /// The program is replaced: what is not carried is gone.
    fn upgrade(&mut self) -> Result<(), String> {
        let before = self.state().clock;
        self.dispatcher.settle_for_upgrade();
        self.check_settled(before + SOON)?;
        let starting = self.state().starting().count();
        self.state_mut().saw(if starting == 0 { "upgrade" } else { "upgrade with starts under way" });
        let state = serde_json::to_vec(&self.dispatcher.save()).unwrap();
        let descriptors = self.state().descriptors.clone();
        let restored: Restored<FakeKernel> = descriptors.exec(|| {
            self.dispatcher = Dispatcher::new(FakeKernel(Rc::clone(&self.state))).unwrap();
            serde_json::from_slice(&state).unwrap()
        });
        self.state_mut().exec();
        self.dispatcher.restore(restored, self.now()).unwrap();
        let (table, large, instances) = {
            let truth = &self.state().truth;
            (truth.table.clone(), truth.large, truth.instances)
        };
        self.reload(&table, large, instances)
    }

    /// All processes end, enough time passes, and the dispatcher has heard of everything.
    pub(super) fn end_all(&mut self) -> Result<(), String> {
        {
            let mut state = self.state_mut();
            (state.no_memory_to_poll, state.slots) = (0, 20);
            // Those who wait have gone.
            for socket in state.sockets.values_mut() {
                socket.waiting.clear();
            }
            state.clients.iter_mut().for_each(|client| client.arrival.asks_for = None);
            state.clock += Duration::from_secs(60);
            let pids: Vec<_> = state.processes.keys().copied().collect();
            pids.into_iter().for_each(|pid| state.end(pid, Ending::Exited(0)));
        }
        self.begin_turn(true);
        self.check_turn(true)?;
        self.accept(Vec::new())
    }

    /// Whatever was left alone in the last turn has been for long enough.
    pub(super) fn wait_for_listeners(&mut self) -> Result<(), String> {
        self.state_mut().clock += Duration::from_secs(60);
        self.begin_turn(true);
        self.accept(Vec::new())
    }
}
