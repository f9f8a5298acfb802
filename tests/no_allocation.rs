//! What is asked about a connection takes no memory: a flood of any size leaves the daemon as large as it was.
//!
//! The only test of this program, because it counts every allocation of its process's threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use oxinetd::admission::{Admission, Decision};
use oxinetd::compat;
use oxinetd::limits::ledger::Ledger;
use oxinetd::net::Peer;
use oxinetd::types::Now;

struct Counting;

thread_local!(static ALLOCATIONS: Cell<usize> = const { Cell::new(0) });

// SAFETY: everything is left to the system's allocator; counting in a constant-initialised Cell allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn admission_allocates_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.yaml");
    let limit = "instances: 5, rate: 1000/s, burst: 1, exempt: [192.0.2.0/24, 198.51.100.0/24]";
    let keys = format!(
        "allow: [0.0.0.0/1, 192.0.0.0/8], deny: [10.9.0.0/16], times: [Mon-Sun 00:00-24:00], rate: 1000000/s,
        per_source: {{ {limit} }}, per_network: {{ {limit} }}"
    );
    fs::write(&file, format!("services: {{ s: {{ listen: 80, program: /bin/cat, {keys} }} }}")).unwrap();
    let table = compat::load(&[file]).unwrap().table;
    let mut ledger = Ledger::default();
    let id = ledger.list(["s"])[0];
    let mut admission = Admission::new().unwrap();
    let prepared = admission.prepare(table.daemon.sources, &table.services).unwrap();
    admission.serve([(id, &table.services[0])], 100, prepared, Now::default());
    let mut ask = |number: u32| {
        let now = Now { monotonic: Duration::from_micros(number.into()), wall: Duration::from_secs(1_800_000_000) };
        // Some of 10.0.0.0/8, each 16 times, and some that nobody allows.
        let address = Ipv4Addr::from_bits(0x0a00_0000 + number / 16 * 997 % 0xf000_0000);
        let client = admission.client(id, Peer::Inet(address.into(), 1));
        let room = admission.room(&ledger, id, now).is_ok();
        let decision = admission.decide(&ledger, id, &client, now);
        if decision == Decision::Admit {
            admission.commit(id, &client, now);
        }
        (room, decision == Decision::Admit)
    };
    // The C library reads the time zone once.
    ask(0);
    let before = ALLOCATIONS.get();
    let admitted = (1..200_000).filter(|&number| ask(number) == (true, true)).count();
    assert_eq!(ALLOCATIONS.get(), before);
    assert!((1_000..190_000).contains(&admitted), "{admitted} of 200,000: this asks too little");
}
