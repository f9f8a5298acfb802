//! What a server costs before anybody comes: memory with ten services, start and reload with a thousand.

use std::io::Result;
use std::thread::sleep;
use std::time::Duration;

use crate::figures::{Spread, millis};
use crate::process::{cpu, pss};
use crate::server::{Kind, Place, Server, free_ports};

const MANY: usize = 1000;

/// Measures and prints, for those of `kinds` that serve more than one port.
pub(crate) fn run(kinds: &[Kind], place: &Place, rounds: usize) -> Result<()> {
    println!("\nStanding: memory with 10 services; start and reload with {MANY}, ms until all listen, {rounds} rounds");
    println!(
        "{:8} {:>9} {:>22} {:>16} {:>22} {:>16}",
        "server", "PSS KiB", "start ms", "CPU ms", "reload ms", "CPU ms"
    );
    for &kind in kinds.iter().filter(|kind| kind.serves_many()) {
        let idle = Server::start(kind, place, free_ports(10))?;
        sleep(Duration::from_millis(300));
        let memory = pss(idle.pid())?;
        drop(idle);
        let mut times: [Vec<f64>; 4] = Default::default();
        for _ in 0..rounds {
            for (all, one) in times.iter_mut().zip(start_and_reload(kind, place)?) {
                all.push(millis(one));
            }
        }
        let [start, start_cpu, reload, reload_cpu] = times.map(Spread::of);
        let name = kind.name();
        println!("{name:8} {memory:>9} {start:>22.1} {start_cpu:>16.1} {reload:>22.1} {reload_cpu:>16.1}");
    }
    Ok(())
}

/// Start and its CPU time, reload and its CPU time.
fn start_and_reload(kind: Kind, place: &Place) -> Result<[Duration; 4]> {
    let mut server = Server::start(kind, place, free_ports(MANY))?;
    sleep(Duration::from_millis(50));
    let started = cpu(server.pid())?.own;
    let reload = server.move_service(place, free_ports(1)[0])?;
    sleep(Duration::from_millis(50));
    Ok([server.ready_after, started, reload, cpu(server.pid())?.own - started])
}
