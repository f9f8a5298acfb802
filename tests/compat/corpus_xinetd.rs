//! Real xinetd files, read as xinetd read them.
//!
//! The folder in `OXINETD_CORPUS` holds files as found in the wild and, below `oracle/`, what xinetd 2.3.15 made of each:
//! its table (`.dump`, written on SIGUSR1) and its complaints (`.log`). They are other people's, so the folder is no part
//! of this repository; without it the tests are skipped. For each file the services that xinetd has active are on here,
//! with the same socket, user, arguments and access lists, and each of its complaints has one of ours on the same line.
//! Where it is otherwise, [`DIFFERENCES`] says why.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::support::fake_machine::FakeMachine;
use oxinetd::compat::import::import;
use oxinetd::compat::{Options, load_with};
use oxinetd::config::dump::dump;
use oxinetd::config::{Endpoint, Problem, Reading, Service, Table, Transport};

/// What this daemon refuses although xinetd does it, by a part of the message; with the reason.
const DIFFERENCES: [(&str, &str); 5] = [
    ("a service that waits sees its clients itself", "a rule that cannot be kept is an error, not a weaker rule"),
    ("only a part of these defaults", "half of the defaults may lack the half that says who may come"),
    ("RPC services are not supported", "nobody registers them with rpcbind"),
    ("IDONLY is not supported", "an access rule by a protocol that is not spoken is no weaker rule but none"),
    ("is neither an address nor a host of /etc/hosts", "an access rule by name would ask the client's own DNS"),
];

/// What this daemon serves although xinetd does not, by a part of the warning; with the reason.
const SERVED: [(&str, &str); 1] =
    [("here it is looked up for each connection", "a name that is not found today may be found tomorrow")];

/// The oracle's machine had no IPv6 address of this name.
const HOSTS: &str = "127.0.0.1 localhost\n";

/// A service as xinetd's dump has it.
#[derive(Debug, Default)]
struct Theirs {
    id: String,
    /// Attribute and value, as printed.
    values: HashMap<String, String>,
}

impl Theirs {
    fn get(&self, key: &str) -> &str {
        self.values.get(key).map_or("", String::as_str)
    }
}

/// The services of a dump that are active.
fn active(dump: &str) -> Vec<Theirs> {
    let mut services = Vec::new();
    let mut current: Option<Theirs> = None;
    for line in dump.lines() {
        if let Some(name) = line.strip_prefix("Service = ") {
            services.extend(current.take());
            current = Some(Theirs { id: name.to_owned(), ..Theirs::default() });
        } else if line.starts_with("Server table dump") {
            services.extend(current.take());
        } else if let (Some(service), Some((key, value))) =
            (&mut current, line.split_once('=').or_else(|| line.split_once(':')))
        {
            service.values.entry(key.trim().to_owned()).or_insert_with(|| value.trim().to_owned());
        }
    }
    services.retain(|service| service.get("State") == "Active");
    for service in &mut services {
        service.id = service.get("id").to_owned();
    }
    services
}

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("OXINETD_CORPUS").map(PathBuf::from).filter(|folder| folder.join("oracle").is_dir());
    if folder.is_none() {
        // Not by eprintln!, which the test runner keeps back while a test passes.
        let _ = writeln!(std::io::stderr(), "skipped: corpus_xinetd: OXINETD_CORPUS names no folder with a corpus");
    }
    folder
}

/// A file of the corpus.
struct Case {
    name: String,
    text: Vec<u8>,
    theirs: Vec<Theirs>,
    /// Lines of which xinetd complains, and what it says.
    complaints: Vec<(usize, String)>,
    /// xinetd does not even start with this.
    fatal: bool,
}

fn cases(folder: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in ["xinetd", "embedded"] {
        let mut files: Vec<_> = fs::read_dir(folder.join(kind)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files {
            let name = format!("{kind}.{}", file.file_name().unwrap().to_string_lossy());
            let oracle = |end: &str| {
                let bytes = fs::read(folder.join("oracle").join(format!("{name}.{end}"))).unwrap_or_default();
                String::from_utf8_lossy(&bytes).into_owned()
            };
            let text = fs::read(&file).unwrap();
            let (theirs, log) = (active(&oracle("dump")), oracle("log"));
            let fatal = log.contains("A fatal error was encountered");
            cases.push(Case { text, theirs, complaints: complaints(&log), name, fatal });
        }
    }
    assert!(cases.len() > 100, "only {} files", cases.len());
    cases
}

fn complaints(log: &str) -> Vec<(usize, String)> {
    let line = |text: &str| text.split_once("[line=")?.1.split_once(']')?.0.parse().ok();
    let bad = log.lines().filter(|line| line.starts_with("WARNING") || line.starts_with("ERROR"));
    bad.filter_map(|text| Some((line(text)?, text.to_owned()))).collect()
}

/// /etc/services with the names that the oracle's machine had.
fn services(cases: &[Case]) -> String {
    let mut lines = BTreeMap::new();
    for theirs in cases.iter().flat_map(|case| &case.theirs).filter(|theirs| !theirs.get("type").contains("UNLISTED")) {
        let protocol = theirs.get("Protocol (name,number)").trim_start_matches('(').split(',').next().unwrap();
        let name = theirs.get("Service configuration");
        lines.insert((name.to_owned(), protocol.to_owned()), theirs.get("port").to_owned());
    }
    let lines: String = lines.iter().map(|((name, protocol), port)| format!("{name} {port}/{protocol}\n")).collect();
    lines + &fs::read_to_string("/etc/services").unwrap_or_default()
}

/// What a file means here.
struct Ours {
    /// The services that are on, after those that are refused on purpose are switched off.
    on: Option<Vec<Rc<Service>>>,
    /// The names of those.
    refused: BTreeSet<String>,
    /// What is said of the file as it is.
    said: Vec<Problem>,
    /// Refusals that [`DIFFERENCES`] does not know.
    strange: Vec<String>,
}

fn ours(case: &Case, machine: &FakeMachine) -> Ours {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.conf");
    // The oracle's machine had that directory, and nothing in it.
    fs::create_dir(folder.path().join("d")).unwrap();
    let text = replace(&case.text, b"/etc/xinetd.d", folder.path().join("d").to_str().unwrap().as_bytes());
    let load = |text: &[u8]| {
        fs::write(&file, text).unwrap();
        load_with(std::slice::from_ref(&file), &Options { machine, ..Options::default() })
    };
    let on = |table: Table| table.services.into_iter().filter(|service| service.enabled).collect();
    let Reading { table, warnings: mut said } = load(&text);
    let problems = match table {
        Ok(table) => return Ours { on: Some(on(table)), refused: BTreeSet::new(), said, strange: Vec::new() },
        Err(problems) => problems,
    };
    said.extend(problems.iter().cloned());
    let intended = |problem: &&Problem| DIFFERENCES.iter().any(|(part, _)| problem.message.contains(part));
    let strange = problems.iter().filter(|problem| !intended(problem)).map(ToString::to_string).collect();
    let refused = problems.iter().filter_map(|problem| problem.path.split('.').nth(1).map(str::to_owned)).collect();
    // From below, so that the numbers of the lines above stay true.
    let lines: BTreeSet<usize> = problems.iter().map(|problem| problem.origin.line).collect();
    let text = lines.into_iter().rev().fold(text, |text, line| switched_off(&text, line));
    Ours { on: load(&text).table.ok().map(on), refused, said, strange }
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        result.extend_from_slice(&rest[..at]);
        result.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    result.extend_from_slice(rest);
    result
}

/// The text with the entry around a line disabled.
fn switched_off(text: &[u8], line: usize) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let is_open = |line: &Vec<u8>| line.trim_ascii() == b"{";
    let begins = lines[line - 1].trim_ascii_start().starts_with(b"service");
    let open = if begins {
        (line..lines.len()).find(|at| is_open(&lines[*at]))
    } else {
        lines[..line].iter().rposition(is_open)
    };
    lines.insert(open.map_or(0, |open| open + 1), b"disable = yes".to_vec());
    lines.join(&b'\n')
}

fn socket(service: &Service) -> String {
    let [first, rest @ ..] = service.listen.as_slice() else { return "none".to_owned() };
    let Endpoint::Inet { transport, address, dual } = first else { return first.to_string() };
    let protocol = if *transport == Transport::Udp { "udp" } else { "tcp" };
    let all = address.ip().is_unspecified();
    let address = match (all, *dual || !rest.is_empty(), address.is_ipv4()) {
        (false, ..) => address.ip().to_string(),
        (true, true, _) => "all".to_owned(),
        (true, false, true) => "IPv4".to_owned(),
        (true, false, false) => "IPv6".to_owned(),
    };
    format!("{protocol} {address} {}", rest.iter().fold(port(first), |port, _| port))
}

fn port(endpoint: &Endpoint) -> u16 {
    if let Endpoint::Inet { address, .. } = endpoint { address.port() } else { 0 }
}

/// The socket of a dump. Without IPv4 among the flags it is one for both families.
fn their_socket(theirs: &Theirs) -> String {
    let protocol = theirs.get("Protocol (name,number)").trim_start_matches('(').split(',').next().unwrap();
    let v4 = theirs.get("flags").split(' ').any(|flag| flag == "IPv4");
    let address = match theirs.get("Bind") {
        "All addresses." if v4 => "IPv4",
        "All addresses." => "all",
        "localhost" => "127.0.0.1",
        "0.0.0.0" => "IPv4",
        address => address,
    };
    format!("{protocol} {address} {}", theirs.get("port"))
}

/// An address list of a dump as networks.
fn networks(list: &str) -> Vec<String> {
    if ["All sites", "No blocked sites"].contains(&list) {
        return Vec::new();
    }
    let mut networks: Vec<String> = list.split_ascii_whitespace().map(network).collect();
    if networks.is_empty() {
        networks.push("255.255.255.255/32".to_owned());
    }
    networks.sort();
    networks.dedup();
    networks
}

fn network(word: &str) -> String {
    let (address, kind) = word.trim_end_matches(')').split_once('(').unwrap();
    match kind {
        "HOST" if address == "localhost" => "127.0.0.1/32".to_owned(),
        "HOST" => address.to_owned(),
        "NUMERIC" if address.contains(':') => format!("{address}/128"),
        "NUMERIC" => {
            let zeros = address.split('.').rev().take_while(|octet| *octet == "0").count();
            format!("{address}/{}", 32 - 8 * zeros)
        }
        _ => {
            let (address, mask) = address.split_once('/').unwrap();
            let mask: std::net::IpAddr = mask.parse().unwrap();
            let network = ipnet::IpNet::with_netmask(address.parse().unwrap(), mask).unwrap();
            network.trunc().to_string()
        }
    }
}

fn argv(service: &Service) -> String {
    let words: Vec<_> = service.program.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    format!("{} {}", service.program.path.to_string_lossy(), words.join(" "))
}

/// How a service differs from the oracle's.
///
/// The numbers of users differ from machine to machine, so it is looked whether each has the same one every time: `users`
/// keeps them.
fn compare(theirs: &Theirs, ours: &Service, users: &mut HashMap<String, u32>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut same = |what: &str, theirs: String, ours: String| {
        if theirs != ours {
            wrong.push(format!("{what}: theirs {theirs:?}, ours {ours:?}"));
        }
    };
    same("wait", theirs.get("wait").to_owned(), if ours.wait { "yes" } else { "no" }.to_owned());
    if !theirs.get("Server").is_empty() && theirs.get("Redirect").is_empty() {
        same("argv", format!("{} {}", theirs.get("Server"), theirs.get("Server argv")), argv(ours));
    }
    if !theirs.get("user").is_empty() {
        let user = ours.credentials.as_ref().map_or("nobody at all", |credentials| &credentials.user);
        let number: u32 = theirs.get("user").parse().unwrap();
        let first = *users.entry(user.to_owned()).or_insert(user.parse().unwrap_or(number));
        same("user", format!("{user} {number}"), format!("{user} {first}"));
    }
    let list = |networks: &[ipnet::IpNet]| {
        let mut networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
        networks.sort();
        networks.join(" ")
    };
    same("only_from", networks(theirs.get("Only from")).join(" "), list(&ours.allow));
    same("no_access", networks(theirs.get("No access")).join(" "), list(&ours.deny));
    wrong
}

#[test]
fn every_file_gives_the_services_that_xinetd_has() {
    let Some(folder) = folder() else { return };
    let cases = cases(&folder);
    let machine = FakeMachine { services: services(&cases), hosts: HOSTS.to_owned(), ..FakeMachine::default() };
    let mut wrong = String::new();
    let mut compared = 0;
    let mut users = HashMap::from([("root".to_owned(), 0)]);
    for case in &cases {
        let Ours { on, refused, strange, said } = ours(case, &machine);
        let mut complain = |text: &str| wrong += &format!("{}: {text}\n", case.name);
        let Some(mut on) = on else {
            if !case.fatal && (!strange.is_empty() || !case.theirs.is_empty()) {
                complain(&format!("cannot be used at all: {strange:?}"));
            }
            continue;
        };
        strange.iter().for_each(|problem| complain(problem));
        if case.fatal {
            complain("xinetd does not start with this");
        }
        for theirs in &case.theirs {
            let socket_of = their_socket(theirs);
            let Some(index) = on.iter().position(|ours| socket(ours) == socket_of) else {
                if !refused.contains(theirs.get("Service configuration")) {
                    complain(&format!("service {} at {socket_of} is not on", theirs.id));
                }
                continue;
            };
            compared += 1;
            for difference in compare(theirs, &on.remove(index), &mut users) {
                complain(&format!("service {}: {difference}", theirs.id));
            }
        }
        let intended = |service: &Service| {
            let path = format!("services.{}.", service.name);
            let mut own = said.iter().filter(|problem| problem.path.starts_with(&path));
            own.any(|problem| SERVED.iter().any(|(part, _)| problem.message.contains(part)))
        };
        for extra in on.into_iter().filter(|service| !intended(service)) {
            complain(&format!("service {} at {} is on, and not theirs", extra.name, socket(&extra)));
        }
    }
    assert!(wrong.is_empty(), "{compared} services compared\n{wrong}");
    assert!(compared > 50, "only {compared} services compared");
}

#[test]
fn every_complaint_of_xinetd_has_a_diagnostic_on_its_line() {
    let Some(folder) = folder() else { return };
    let cases = cases(&folder);
    let machine = FakeMachine { services: services(&cases), hosts: HOSTS.to_owned(), ..FakeMachine::default() };
    let mut wrong = String::new();
    for case in &cases {
        let Ours { said, .. } = ours(case, &machine);
        for (line, complaint) in &case.complaints {
            if said.iter().all(|problem| problem.origin.line != *line) {
                wrong += &format!("{}: {complaint}\n", case.name);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_file_translates_to_the_same_table() {
    let Some(folder) = folder() else { return };
    let cases = cases(&folder);
    let machine = FakeMachine { services: services(&cases), hosts: HOSTS.to_owned(), ..FakeMachine::default() };
    let options = Options { machine: &machine, ..Options::default() };
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.conf"), folder.path().join("new.yaml"));
    let table = |file: &PathBuf| load_with(std::slice::from_ref(file), &options).table;
    let mut wrong = String::new();
    for case in &cases {
        fs::write(&old, replace(&case.text, b"/etc/xinetd.d", b"/no-such/directory")).unwrap();
        fs::write(&new, import(std::slice::from_ref(&old), &options).unwrap().yaml).unwrap();
        match (table(&old), table(&new)) {
            (_, Err(problems)) => wrong += &format!("{}: {problems:?}\n", case.name),
            (Ok(old), Ok(new)) if dump(&old) != dump(&new) => wrong += &format!("{}: another table\n", case.name),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
