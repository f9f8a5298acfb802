//! What a server costs before anybody comes: memory with ten services, start and reload with a thousand.

use std::io::Result;
use std::thread::sleep;
use std::time::Duration;

use super::Place;
use super::figures::millis;
use super::kind::Kind;
use super::options::Limits;
use super::process::{cpu, pss};
use super::server::{Server, free_ports};
use super::turns::Turns;

const FEW: usize = 10;
const MANY: usize = 1000;

/// Start and its CPU time, reload and its CPU time, in ms.
type Times = [f64; 4];

/// Measures and prints, with ratios to oxinetd's. Those of `kinds` that serve one port have a process for each service,
/// and nothing to reload.
pub(crate) fn run(kinds: &[Kind], place: &Place, rounds: usize) -> Result<()> {
    let mut memory = Turns::new();
    memory.round(kinds, |kind| kind.name(), |&kind| Ok(memory_of(kind, place)? as f64));
    let many: Vec<Kind> = kinds.iter().copied().filter(|kind| kind.serves_many()).collect();
    let turn = |&kind: &Kind| start_and_reload(kind, place);
    let times = Turns::rounds("standing", rounds, &many, |kind| kind.name(), turn);
    print(kinds, &memory, &times, rounds);
    Ok(())
}

fn print(kinds: &[Kind], memory: &Turns<f64>, times: &Turns<Times>, rounds: usize) {
    println!(
        "\nStanding: memory with {FEW} services; start and reload with {MANY}, ms until all listen, {rounds} rounds; \
         /ox: as a ratio to oxinetd's"
    );
    println!(
        "{:13} {:>8} {:>6} {:>21} {:>21} {:>21} {:>21} {:>18} {:>18}",
        "server", "PSS KiB", "/ox", "start ms", "CPU ms", "reload ms", "CPU ms", "start/ox", "reload/ox"
    );
    for name in kinds.iter().map(|kind| kind.name()) {
        let [start, start_cpu, reload, reload_cpu] = [0, 1, 2, 3].map(|at| times.spread(name, |times| times[at]));
        let [start_ratio, reload_ratio] =
            [0, 2].map(|at| times.ratio(name, (times, Kind::Oxinetd.name()), |times| times[at]));
        println!(
            "{name:13} {:>8.0} {:>6.2} {start:>21.1} {start_cpu:>21.1} {reload:>21.1} {reload_cpu:>21.1} \
             {start_ratio:>18.2} {reload_ratio:>18.2}",
            memory.spread(name, |&kib| kib).median,
            memory.ratio(name, (memory, Kind::Oxinetd.name()), |&kib| kib).median,
        );
    }
}

/// In KiB.
fn memory_of(kind: Kind, place: &Place) -> Result<u64> {
    let ports = free_ports(FEW);
    let each = if kind.serves_many() { FEW } else { 1 };
    let start = |ports: &[u16]| Server::start_on(kind, Limits::NONE, place, ports.to_owned());
    let idle: Vec<Server> = ports.chunks(each).map(start).collect::<Result<_>>()?;
    sleep(Duration::from_millis(300));
    idle.iter().map(|server| pss(server.pid())).sum()
}

fn start_and_reload(kind: Kind, place: &Place) -> Result<Times> {
    let mut server = Server::start_on(kind, Limits::NONE, place, free_ports(MANY))?;
    sleep(Duration::from_millis(50));
    let started = cpu(server.pid())?.own;
    let reload = server.move_service(place, free_ports(1)[0])?;
    sleep(Duration::from_millis(50));
    Ok([server.ready_after, started, reload, cpu(server.pid())?.own - started].map(millis))
}
