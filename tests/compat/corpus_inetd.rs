//! Real inetd.conf files, read as openbsd-inetd and inetutils-inetd read them.
//!
//! The folder in `OXINETD_CORPUS` holds files as found in the wild and, below `oracle/`, what the two daemons said of each
//! when they were run with `-d`. They are other people's, so the folder is no part of this repository; without it the
//! tests are skipped. For each file the sockets that the daemon had are ours too, with the same user, group, program,
//! arguments, limit and way of waiting, and nothing else is; and where the daemon complained, there is a diagnostic on the
//! same line. Where it is otherwise, [`DIFFERENCES`] says why. The translation of each file gives the same table.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::support::fake_machine::{FakeMachine, number};
use crate::support::skip;
use oxinetd::compat::import::import;
use oxinetd::compat::{Options, load_with};
use oxinetd::config::dump::dump;
use oxinetd::config::{Dialect, Endpoint, Problem, Reading, Service, Transport};

/// What is done otherwise on purpose, by a part of what is said at the line; with the reason.
const DIFFERENCES: [(&str, &str); 5] = [
    ("there is no user \"@", "a template that nobody has filled in; the oracle's machine had a user of that name"),
    ("gets no script", "an interpreter without a script runs what the client sends"),
    ("is no absolute path", "a daemon's directory is /, but the oracle's was not"),
    ("would start itself for ever", "tcpd that runs tcpd"),
    ("RPC services", "nobody registers them with rpcbind"),
];

/// A socket that a daemon had, and what it ran there.
#[derive(Debug)]
struct Theirs {
    service: String,
    host: String,
    /// `tcp`, `udp6` …, without buffers.
    protocol: String,
    wait: bool,
    max: u32,
    user: String,
    group: String,
    builtin: bool,
    server: String,
}

/// Kind, IPv6 or not, address, port: what makes a socket.
type Socket = (String, bool, String, u16);

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("OXINETD_CORPUS").map(PathBuf::from).filter(|folder| folder.join("oracle").is_dir());
    if folder.is_none() {
        // Not by eprintln!, which the test runner keeps back while a test passes.
        let _ = writeln!(std::io::stderr(), "skipped: corpus_inetd: OXINETD_CORPUS names no folder with a corpus");
    }
    folder
}

/// The value of `KEY=VALUE` in a line, up to a comma or blank.
fn value<'a>(line: &'a str, key: &str) -> &'a str {
    let rest = line.split_once(key).map_or("", |(_, rest)| rest);
    rest.split([' ', ',']).next().unwrap_or_default()
}

/// What `inetd -d` of OpenBSD wrote: `ADD: [HOST:]SERVICE proto=…, wait.max=W.N user:group=U:G builtin=B server=S`.
fn openbsd(log: &str) -> Vec<Theirs> {
    let mut all: Vec<Theirs> = Vec::new();
    for line in log.lines() {
        let (action, rest) = line.split_once(": ").unwrap();
        let (head, _) = rest.split_once(" proto=").unwrap();
        let (host, service) = head.rsplit_once(':').unwrap_or(("*", head));
        let (wait, max) = value(line, "wait.max=").split_once('.').unwrap();
        let (user, group) = value(line, "user:group=").split_once(':').unwrap();
        let theirs = Theirs {
            service: service.to_owned(),
            host: host.to_owned(),
            protocol: value(line, "proto=").to_owned(),
            wait: wait == "1",
            max: max.parse().unwrap(),
            user: user.to_owned(),
            group: group.trim_matches(['(', ')']).replace("default", ""),
            builtin: value(line, "builtin=") != "0",
            server: line.split_once("server=").unwrap().1.to_owned(),
        };
        let same = |other: &Theirs| {
            (&other.service, &other.host, &other.protocol) == (&theirs.service, &theirs.host, &theirs.protocol)
        };
        if action == "REDO" {
            all.retain(|other| !same(other));
        }
        all.push(theirs);
    }
    all
}

/// What `inetd -d` of GNU wrote: `FILE:LINE: ADD : HOST:SERVICE proto=…, wait=…, max=…, user=… group=… builtin=… server=…`,
/// then what became of it. Lines that were complained of, and services that could not be found.
fn gnu(log: &str) -> (Vec<Theirs>, Vec<usize>, Vec<String>) {
    let (mut all, mut lines, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = 0;
    for line in log.lines() {
        if let Some((place, rest)) = line.split_once(": ADD : ") {
            last = place.rsplit(':').next().unwrap().parse().unwrap();
            let (head, _) = rest.split_once(" proto=").unwrap();
            let (host, service) = head.rsplit_once(':').unwrap();
            all.push(Theirs {
                service: service.to_owned(),
                host: host.to_owned(),
                protocol: value(line, "proto=").to_owned(),
                wait: value(line, "wait=") == "1",
                max: value(line, "max=").parse().unwrap(),
                user: value(line, "user=").to_owned(),
                group: value(line, "group=").to_owned(),
                builtin: value(line, "builtin=") != "no",
                server: line.split_once("server=").unwrap().1.to_owned(),
            });
        } else if line.starts_with("bind failed") {
            all.pop();
            lines.push(last);
        } else if let Some(rest) = line.strip_prefix("resolution of ") {
            let name = rest.split(" failed").next().unwrap().split(' ').next_back().unwrap();
            unknown.push(name.to_owned());
        }
    }
    (all, lines, unknown)
}

/// /etc/services with the names that the oracle's machine had.
fn services(cases: &[Case]) -> String {
    let own = fs::read_to_string("/etc/services").unwrap_or_default();
    let mut lines = BTreeMap::new();
    for theirs in cases.iter().flat_map(|case| &case.gnu.0) {
        let kind = &theirs.protocol[..3];
        let has = |line: &str| {
            let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_ascii_whitespace().collect();
            let names = words.iter().enumerate().any(|(index, word)| index != 1 && *word == theirs.service);
            names && words.get(1).is_some_and(|port| port.ends_with(kind))
        };
        if theirs.service.parse::<u16>().is_err() && !own.lines().any(has) {
            lines.insert((theirs.service.clone(), kind.to_owned()), 30_000 + lines.len());
        }
    }
    own + "\n" + &lines.into_iter().map(|((name, kind), port)| format!("{name} {port}/{kind}\n")).collect::<String>()
}

/// The port of a service; `None` if the oracle's machine did not know it.
fn port(machine: &FakeMachine, theirs: &Theirs) -> Option<u16> {
    let kind = format!("/{}", &theirs.protocol[..3]);
    theirs.service.parse().ok().or_else(|| {
        machine.services.lines().find_map(|line| {
            let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_ascii_whitespace().collect();
            let found = words.iter().enumerate().any(|(index, word)| index != 1 && *word == theirs.service);
            words.get(1)?.strip_suffix(&kind).filter(|_| found)?.parse().ok()
        })
    })
}

/// The sockets of a daemon's entry.
fn sockets(dialect: Dialect, theirs: &Theirs, port: u16) -> Vec<Socket> {
    let kind = theirs.protocol[..3].to_owned();
    let families: &[bool] = match (dialect, &theirs.protocol[3..]) {
        (Dialect::Gnu, "6") => &[false, true],
        (_, "6") => &[true],
        _ => &[false],
    };
    let address = |v6: bool| match (theirs.host.as_str(), v6) {
        ("*", false) => "0.0.0.0".to_owned(),
        ("*", true) => "::".to_owned(),
        (host, _) => host.to_owned(),
    };
    let fits = |v6: &&bool| theirs.host == "*" || theirs.host.contains(':') == **v6;
    families.iter().filter(fits).map(|v6| (kind.clone(), *v6, address(*v6), port)).collect()
}

/// The sockets of ours, each with its service.
fn our_sockets(services: &[Rc<Service>]) -> HashMap<Socket, &Rc<Service>> {
    let mut sockets = HashMap::new();
    for service in services.iter().filter(|service| service.enabled) {
        for endpoint in &service.listen {
            let Endpoint::Inet { transport, address, dual } = endpoint else { panic!("{endpoint}") };
            let kind = if *transport == Transport::Udp { "udp" } else { "tcp" };
            sockets.insert((kind.to_owned(), address.is_ipv6(), address.ip().to_string(), address.port()), service);
            if *dual {
                sockets.insert((kind.to_owned(), false, "0.0.0.0".to_owned(), address.port()), service);
            }
        }
    }
    sockets
}

/// The words of the entry that a daemon made a service of: found by its service, protocol and program.
fn entry<'a>(text: &'a str, theirs: &Theirs) -> Option<Vec<&'a str>> {
    let find = |protocol: &str| {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.split_ascii_whitespace().collect()).find(|words: &Vec<&str>| {
            words.len() >= 6
                && words[0].rsplit(':').next() == Some(&theirs.service)
                && words[2].split(',').next() == Some(protocol)
                && words[5] == theirs.server
        })
    };
    find(&theirs.protocol).or_else(|| find(theirs.protocol.strip_suffix('6')?))
}

/// How a service differs from the oracle's.
fn compare(dialect: Dialect, theirs: &Theirs, ours: &Service, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut same = |what: &str, theirs: String, ours: String| {
        if theirs != ours {
            wrong.push(format!("{what}: theirs {theirs:?}, ours {ours:?}"));
        }
    };
    let usual = if dialect == Dialect::Gnu { 0 } else { 256 };
    same("max", theirs.max.to_string(), ours.rate.map_or(usual, |rate| rate.events).to_string());
    if theirs.builtin {
        let name = ours.program.builtin.as_ref().map_or("none", |builtin| builtin.kind.name());
        same("builtin", theirs.service.clone(), name.to_owned());
        return wrong;
    }
    let credentials = ours.credentials.as_ref().unwrap();
    let group = if theirs.group.is_empty() { &theirs.user } else { &theirs.group };
    same("user", format!("{}:{}", theirs.user, number(group)), format!("{}:{}", credentials.user, credentials.gid));
    same("wait", theirs.wait.to_string(), ours.wait.to_string());
    same("program", theirs.server.clone(), ours.program.path.to_str().unwrap().to_owned());
    let words = entry(text, theirs).expect("the entry is in the file");
    let base = words[5].rsplit('/').next().unwrap();
    let argv = if words.len() > 6 { words[6..].join(" ") } else { base.to_owned() };
    let our_argv: Vec<&str> = ours.program.argv.iter().map(|word| word.to_str().unwrap()).collect();
    same("argv", argv, our_argv.join(" "));
    wrong
}

struct Case {
    name: String,
    text: String,
    openbsd: Vec<Theirs>,
    gnu: (Vec<Theirs>, Vec<usize>, Vec<String>),
}

fn cases(folder: &Path) -> Vec<Case> {
    let mut files: Vec<_> = fs::read_dir(folder.join("inetd")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20, "only {} files", files.len());
    let case = |file: &PathBuf| {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let log = |daemon: &str| fs::read_to_string(folder.join(format!("oracle/inetd-{daemon}.{name}.log"))).ok();
        let text = String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
        Some(Case { text, openbsd: openbsd(&log("openbsd")?), gnu: gnu(&log("inetutils")?), name })
    };
    files.iter().filter_map(case).collect()
}

/// Is this difference intended?
fn intended(problem: &Problem) -> bool {
    DIFFERENCES.iter().any(|(part, _)| problem.message.contains(part))
}

/// What is wrong with the reading of one file.
fn judge(case: &Case, dialect: Dialect, machine: &FakeMachine, file: &Path) -> (usize, Vec<String>) {
    fs::write(file, &case.text).unwrap();
    let Reading { table, warnings } = load_with(&[file.to_owned()], &Options { machine, dialect });
    let table = match table {
        Ok(table) => table,
        Err(problems) => {
            return (0, problems.iter().filter(|problem| !intended(problem)).map(ToString::to_string).collect());
        }
    };
    let line = |number: usize| warnings.iter().filter(move |problem| problem.origin.line == number);
    let (theirs, lines, unknown) = match dialect {
        Dialect::Gnu => (&case.gnu.0, &case.gnu.1[..], &case.gnu.2[..]),
        _ => (&case.openbsd, &[][..], &[][..]),
    };
    let mut wrong = Vec::new();
    let mut ours = our_sockets(&table.services);
    let (mut compared, mut seen) = (0, HashSet::new());
    for theirs in theirs {
        let lines = case.text.lines().enumerate().filter(|(_, text)| {
            text.split_ascii_whitespace().next().is_some_and(|word| word.rsplit(':').next() == Some(&theirs.service))
        });
        let said: Vec<&Problem> = lines.flat_map(|(index, _)| line(index + 1)).collect();
        let on_purpose = said.iter().any(|problem| intended(problem));
        let Some(port) = port(machine, theirs) else {
            if !said.iter().any(|problem| problem.message.contains("there is no port")) {
                wrong.push(format!("nothing is said of the unknown port {}", theirs.service));
            }
            continue;
        };
        for socket in sockets(dialect, theirs, port) {
            // Two sockets for datagrams can share a port, and the first one gets those of its own family.
            if !seen.insert(socket.clone()) {
                continue;
            }
            match ours.remove(&socket) {
                Some(service) if !on_purpose => {
                    compared += 1;
                    wrong.extend(
                        compare(dialect, theirs, service, &case.text).iter().map(|text| format!("{socket:?}: {text}")),
                    );
                }
                None if !on_purpose => wrong.push(format!("{} at {socket:?} is not on", theirs.service)),
                _ => {}
            }
        }
    }
    wrong.extend(ours.keys().map(|socket| format!("{socket:?} is open, and not theirs")));
    wrong.extend(
        lines
            .iter()
            .filter(|number| line(**number).next().is_none())
            .map(|number| format!("nothing is said of line {number}")),
    );
    for name in unknown {
        let name = name.split('/').next().unwrap();
        let said = warnings.iter().any(|problem| problem.path.split('.').next() == Some(name));
        wrong.extend((!said).then(|| format!("nothing is said of {name}")));
    }
    (compared, wrong)
}

#[test]
fn every_file_opens_the_sockets_that_its_daemons_opened() {
    let Some(folder) = folder() else { return };
    let cases = cases(&folder);
    let machine =
        FakeMachine { services: services(&cases), hosts: "127.0.0.1 localhost\n".to_owned(), ..FakeMachine::default() };
    let scratch = tempfile::tempdir().unwrap();
    let (mut wrong, mut all) = (String::new(), 0);
    for case in &cases {
        for dialect in [Dialect::Debian, Dialect::Gnu] {
            let (compared, found) = judge(case, dialect, &machine, &scratch.path().join("inetd.conf"));
            all += compared;
            wrong += &found.iter().map(|text| format!("{} ({dialect}): {text}\n", case.name)).collect::<String>();
        }
    }
    assert!(wrong.is_empty(), "{all} sockets compared\n{wrong}");
    if !Path::new("/etc/services").exists() {
        return skip("without /etc/services the ports of most names are unknown; the others were compared");
    }
    assert!(all > 150, "only {all} sockets compared");
}

#[test]
fn every_file_translates_to_the_same_table() {
    let Some(folder) = folder() else { return };
    let machine = FakeMachine::default();
    let scratch = tempfile::tempdir().unwrap();
    let translated = scratch.path().join("translated.yaml");
    for entry in fs::read_dir(folder.join("inetd")).unwrap() {
        let file = entry.unwrap().path();
        for dialect in oxinetd::config::DIALECTS.map(|(_, dialect)| dialect) {
            let options = Options { machine: &machine, dialect };
            let imported = import(std::slice::from_ref(&file), &options).unwrap();
            fs::write(&translated, imported.yaml).unwrap();
            let new = load_with(std::slice::from_ref(&translated), &options).table;
            match load_with(std::slice::from_ref(&file), &options).table {
                Ok(old) => assert_eq!(dump(&old), new.as_ref().map(dump).unwrap_or_default(), "{}", file.display()),
                Err(problems) => {
                    // The files are of the first dialect, or near to it.
                    let intended = dialect != Dialect::Debian || problems.iter().all(intended);
                    assert!(intended && new.is_ok(), "{problems:?} {new:?}");
                }
            }
        }
    }
}
