//! Holes that other super-servers had, as far as no other file holds a test for them. SECURITY.md lists them all,
//! each with its test.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;

use crate::support::{
    Daemon, Setup, ask, ask_text, connect, connect_from, field, free_port, installed, is_root, nobody, services, skip,
    wait_until,
};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::stat::{Mode, umask};
use serde_json::json;

/// Private memory of the daemon, in kB.
fn memory(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid)).unwrap();
    field(&status, "RssAnon").trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn refused_clients_leave_no_memory_or_descriptor() {
    // CVE-2003-0211: xinetd lost memory for each refused connection. Here a hundred bytes would be seen.
    let (ports, table) = services([
        ("denied", "program: /bin/cat, deny: 127.0.0.2/32, refuse: { text: no }, penalties: { refused: 1s }"),
        ("rated", "program: /bin/cat, per_source: { rate: 1/h, burst: 1 }"),
    ]);
    let daemon = Daemon::start(&table);
    assert_eq!(ask_text(ports[1], "the one of this hour"), "the one of this hour");
    let knock = |times: usize| {
        for number in 0..times {
            // From two sources: the books are not to grow with them either, but that is another test's.
            // A client may be reset before the connection is known to have been made.
            let Ok(client) = connect_from([127, 0, 0, 2], ports[number % 2]) else { continue };
            let answer = ask(client, b"").unwrap_or_default();
            assert!(answer.is_empty() || answer == b"no", "{answer:?}");
        }
    };
    knock(2000);
    daemon.wait_idle();
    let before = (memory(&daemon), daemon.descriptors());
    knock(10_000);
    daemon.wait_idle();
    let after = (memory(&daemon), daemon.descriptors());
    assert_eq!(after.1, before.1, "descriptors");
    assert!(after.0 < before.0 + 700, "{} kB more", after.0 - before.0);
    assert_eq!(daemon.status()["audit"], json!([]));
}

#[test]
fn service_behind_tcpmux_runs_as_its_own_user() {
    // CVE-2013-4342: xinetd ran them as root, whatever their entry said.
    let Some(program) = installed("id").filter(|_| is_root()) else { return skip("needs root and id(1)") };
    let (port, program) = (free_port(), program.display());
    let daemon = Daemon::start(&format!(
        "services:\n  mux: {{ listen: {port}, builtin: tcpmux, user: root }}\n  \
         id: {{ listen: tcpmux/id, program: {program}, user: nobody }}"
    ));
    let answer = String::from_utf8(ask(connect(port), b"id\r\n").unwrap()).unwrap();
    let (uid, gid) = nobody();
    assert!(answer.starts_with(&format!("uid={uid}(nobody) gid={gid}")), "{answer}");
    assert!(!answer.contains("(root)"), "{answer}");
    daemon.wait_idle();
}

#[test]
fn handler_has_a_umask_if_the_daemon_has_none() {
    // CVE-2001-1322: what xinetd's handlers made was writable for everyone.
    let port = free_port();
    let mut setup = Setup::new(&format!("services: {{ umask: {{ listen: {port}, program: [/bin/sh, -c, umask] }} }}"));
    // SAFETY: umask(2) may be called between fork and exec.
    unsafe {
        setup.command.pre_exec(|| {
            umask(Mode::empty());
            Ok(())
        });
    }
    let _daemon = setup.start();
    assert_eq!(ask_text(port, "").trim_end(), "0022");
}

#[test]
fn status_goes_to_the_log_and_makes_no_file() {
    // 1998: xinetd's dump followed whatever link stood in /tmp.
    let (_, table) = services([("cat", "program: /bin/cat")]);
    let daemon = Daemon::start(&table);
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(daemon.folder.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    daemon.status();
    assert_eq!(names(), before);
    let status = fs::read_link(format!("/proc/{}/cwd", daemon.pid)).unwrap();
    assert_eq!(status.to_str(), Some("/"), "where files of no path would be");
    assert!(fs::read_dir("/").unwrap().all(|one| !one.unwrap().file_name().to_string_lossy().contains("oxinetd")));
}

#[test]
fn client_that_reads_nothing_delays_no_other() {
    // xinetd writes banners from the daemon itself, and waits for a client that does not read.
    let text = "x".repeat(60_000);
    let keys = format!("program: /bin/cat, banner: {text}, socket: {{ send_buffer: 4k }}");
    let refused = format!("program: /bin/cat, deny: 127.0.0.2/32, socket: {{ send_buffer: 4k }}, banner: {text}");
    let (ports, table) = services([("wordy", &keys), ("denied", &refused), ("other", "program: /bin/cat")]);
    let daemon = Daemon::start(&table);
    let deaf: Vec<TcpStream> = (0..20)
        // A client that is denied may be reset before it knows that it was connected.
        .filter_map(|number| {
            let client = connect_from([127, 0, 0, 2], ports[number % 2]).ok()?;
            setsockopt(&client, sockopt::RcvBuf, &2048).unwrap();
            Some(client)
        })
        .collect();
    wait_until("the admitted clients to be served", || daemon.count("wordy") == 10);
    for _ in 0..20 {
        assert_eq!(ask_text(ports[2], "meanwhile"), "meanwhile");
    }
    drop(deaf);
    daemon.wait_idle();
}

#[test]
fn builtin_closes_its_connection_when_the_client_leaves() {
    // CVE-2001-0309: the internal services of Red Hat's inetd kept sockets of clients that had gone.
    let port = free_port();
    let daemon = Daemon::start(&format!("services: {{ echo: {{ listen: {port}, builtin: echo, instances: 4 }} }}"));
    let before = daemon.settled_descriptors();
    for _ in 0..100 {
        // No more than may live at one time: one that is kept keeps the next one out.
        let mut clients: Vec<_> = (0..4).map(|_| connect(port)).collect();
        for client in &mut clients {
            client.write_all(b"x").unwrap();
            client.read_exact(&mut [0]).unwrap();
        }
    }
    daemon.wait_idle();
    assert_eq!(daemon.descriptors(), before);
}

#[test]
fn every_test_named_in_security_md_exists() {
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(top.join("SECURITY.md")).unwrap();
    let holes =
        list.split("## Vulnerabilities of earlier super-servers").nth(1).unwrap().split("\n## ").next().unwrap();
    let (mut rows, mut tests) = (0, 0);
    for row in holes.lines().filter(|line| line.starts_with('|')).skip(2) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 4, "{row}");
        let (mut file, mut named) = (String::new(), 0);
        for word in cells[3].split_whitespace().map(|word| word.trim_matches([',', ';', ':'])) {
            if let Some(name) = word.strip_prefix("tests/") {
                let path = top.join("tests").join(name);
                let found = ["rs", "conf"].map(|end| path.with_extension(end)).into_iter().find(|path| path.exists());
                file = found.map(|path| fs::read_to_string(path).unwrap()).unwrap_or_default();
                assert!(!file.is_empty() || path.is_dir(), "{word}");
                named += 1;
            } else if let Some(test) = word.strip_prefix('`').and_then(|word| word.strip_suffix('`')) {
                let target = top.join("fuzz/fuzz_targets").join(test).with_extension("rs").exists();
                assert!(target || test == "fuzzed::tests" || file.contains(&format!("fn {test}()")), "{test}");
                tests += 1;
            } else if word.contains('/') {
                assert!(top.join(word).exists(), "{word}");
                named += 1;
            }
        }
        assert!(named > 0, "no test: {row}");
        rows += 1;
    }
    assert!(rows > 15 && tests > 15, "{rows} {tests}");
}
