//! What files of xinetd are understood as: each `xinetd_conf/SHAPE.conf` with `SHAPE.expect`, which were written from
//! xinetd.conf(5) and from what xinetd 2.3.15 was seen to do. First what is said, a line each, as `error LINE PART` or
//! `warning LINE PART`, where PART is in the message; then the services, a line each.
//!
//! The files were written for this test, one for each shape that real files have. The machine that they are read for is
//! [`FakeMachine`].

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::fake_machine::{self, FakeMachine};
use oxinetd::compat::import::import;
use oxinetd::compat::{Options, load_with};
use oxinetd::config::dump::dump;
use oxinetd::config::{Problem, Reading, Refuse, Service, Stderr, Table, WhenFull};

const DIRECTORY: &str = "tests/compat/xinetd_conf/";

fn read(file: &Path) -> Reading {
    let machine = FakeMachine::default();
    load_with(&[file.to_owned()], &Options { machine: &machine, ..Options::default() })
}

/// What is said of a file, in the form of `SHAPE.expect` but with whole messages.
fn said(file: &Path, reading: &Reading) -> Vec<String> {
    let line = |kind: &str, problem: &Problem| {
        let included = Some(problem.origin.file.as_ref()).filter(|origin| *origin != file);
        let included =
            included.and_then(|origin| origin.file_name()).map(|name| format!("{}:", name.to_string_lossy()));
        format!("{kind} {}{} {}", included.unwrap_or_default(), problem.origin.line, problem.message)
    };
    let errors = reading.table.as_ref().err().into_iter().flatten().map(|problem| line("error", problem));
    errors.chain(reading.warnings.iter().map(|problem| line("warning", problem))).collect()
}

/// A service in a line: what every service of xinetd has is left out.
fn line(service: &Service) -> String {
    let Service { name, listen, program, .. } = service;
    let mut words = vec![format!("{name}:")];
    words.extend((!service.enabled).then(|| "off".to_owned()));
    words.extend(listen.iter().map(ToString::to_string));
    words.extend(service.tcpmux.iter().map(ToString::to_string));
    words.extend(service.wait.then(|| "wait".to_owned()));
    if let Some(credentials) = &service.credentials {
        let group = Some(credentials.gid).filter(|gid| *gid != fake_machine::number(&credentials.user));
        words.push(format!("as {}{}", credentials.user, group.map_or_else(String::new, |gid| format!(":{gid}"))));
        words.extend((!credentials.groups.is_empty()).then(|| "with groups".to_owned()));
    }
    if program.builtin.is_some() {
        // The first word is the program's name, and the second says that a builtin is meant.
        let rest = program.argv[2..].iter().map(|word| word.to_string_lossy());
        words.push("builtin".to_owned());
        words.extend(rest.filter(|word| !word.starts_with("--")).map(std::borrow::Cow::into_owned));
    } else if !program.path.is_empty() {
        words.push(format!("run {}", program.path.to_str().unwrap()));
        words.push(format!("{:?}", program.argv.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>()));
    }
    surroundings(service, &mut words);
    limits(service, &mut words);
    words.join(" ") + "\n"
}

fn surroundings(service: &Service, words: &mut Vec<String>) {
    words.extend(Some(service.umask).filter(|umask| *umask != 0o022).map(|umask| format!("umask={umask:04o}")));
    words.extend(service.nice.map(|nice| format!("nice={nice}")));
    words.extend(service.rlimits.iter().map(|limit| format!("{:?}={}:{}", limit.resource, limit.soft, limit.hard)));
    words.extend(service.env.iter().map(|(name, value)| format!("{name}={value}")));
    words.extend(service.pass_env.iter().map(|name| format!("${name}")));
    words.extend(service.socket.nodelay.then(|| "nodelay".to_owned()));
    words.extend(service.socket.keepalive.then(|| "keepalive".to_owned()));
    words
        .extend((!service.banner.is_empty()).then(|| format!("banner={:?}", String::from_utf8_lossy(&service.banner))));
    match &service.refuse {
        Refuse::Close => {}
        Refuse::Reset => words.push("reset".to_owned()),
        Refuse::Text(text) => words.push(format!("refuse={:?}", String::from_utf8_lossy(text))),
    }
    let log = [(service.log.accept, "accept"), (service.log.exit, "exit"), (service.log.refuse, "refuse")];
    let log: Vec<&str> = log.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
    words.extend((!log.is_empty()).then(|| format!("log={}", log.join(","))));
    let own = &service.log.own;
    words.extend(own.to.as_ref().map(|to| format!("to={to:?}")));
    words.extend(own.facility.map(|number| format!("facility={number}")));
    assert_eq!(own.format, None, "{}", service.name);
    assert_eq!((service.stderr, service.when_full), (Stderr::Connection, WhenFull::Refuse), "{}", service.name);
}

fn limits(service: &Service, words: &mut Vec<String>) {
    words.extend(service.instances.map(|limit| format!("instances={limit}")));
    words.extend(service.per_source.instances.map(|limit| format!("per_source={limit}")));
    match &service.rate {
        Some(limit) => {
            assert_eq!((limit.per.as_secs(), limit.burst), (1, limit.events), "{}", service.name);
            words.extend(Some(limit.events).filter(|events| *events != 50).map(|events| format!("rate={events}")));
        }
        None => words.push("no rate".to_owned()),
    }
    words.extend(service.max_load.map(|load| format!("max_load={load}")));
    words.extend(service.times.iter().map(|span| format!("{}-{}", span.from, span.to)));
    words.extend(service.penalties.trap.map(|trap| format!("trap={}s", trap.as_secs())));
    words.extend((!service.allow.is_empty()).then(|| format!("allow={}", list(&service.allow))));
    words.extend((!service.deny.is_empty()).then(|| format!("deny={}", list(&service.deny))));
}

fn list(networks: &[ipnet::IpNet]) -> String {
    networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Do the things said agree, one by one, with what is expected?
fn agree(said: &[String], expected: &[&str]) -> bool {
    let one = |said: &String, expected: &str| {
        let mut parts = expected.splitn(3, ' ');
        let (kind, line, part) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        said.strip_prefix(&format!("{kind} {line} ")).is_some_and(|message| message.contains(part))
    };
    said.len() == expected.len() && said.iter().zip(expected).all(|(said, expected)| one(said, expected))
}

#[test]
fn every_shape_is_read_as_xinetd_reads_it() {
    let mut files: Vec<PathBuf> = fs::read_dir(DIRECTORY).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    assert!(files.len() > 20, "only {} files", files.len());
    let mut wrong = String::new();
    for file in files {
        let reading = read(&file);
        let said = said(&file, &reading);
        let services: String =
            reading.table.iter().flat_map(|table| &table.services).map(|service| line(service)).collect();
        let expected = fs::read_to_string(file.with_extension("expect")).unwrap_or_default();
        let (sayings, lines): (Vec<&str>, Vec<&str>) =
            expected.lines().partition(|line| line.starts_with("error ") || line.starts_with("warning "));
        if !agree(&said, &sayings) || services.lines().collect::<Vec<_>>() != lines {
            wrong +=
                &format!("== {}\n-- expected:\n{expected}-- found:\n{}\n{services}", file.display(), said.join("\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Its translation means what the file means. What is refused is left out of it, and must not spoil the rest.
#[test]
fn every_shape_translates_to_the_same_table() {
    let folder = tempfile::tempdir().unwrap();
    let machine = FakeMachine::default();
    let options = Options { machine: &machine, ..Options::default() };
    let mut compared = 0;
    for entry in fs::read_dir(DIRECTORY).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "conf") {
            continue;
        }
        let yaml = folder.path().join("translated.yaml");
        fs::write(&yaml, import(std::slice::from_ref(&file), &options).unwrap().yaml).unwrap();
        let text = fs::read_to_string(&yaml).unwrap();
        let new = read(&yaml).table.unwrap_or_else(|problems| panic!("{}: {problems:?}\n{text}", file.display()));
        if let Ok(old) = read(&file).table {
            assert_eq!(dump(&new), dump(&old), "{}\n{text}", file.display());
            compared += 1;
        }
    }
    assert!(compared > 20, "only {compared} files");
}

/// A dump of any of them, read again, is the same table.
#[test]
fn dump_of_every_shape_reads_back_to_itself() {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(DIRECTORY).unwrap() {
        let file = entry.unwrap().path();
        let Ok(Table { services, daemon }) = read(&file).table else { continue };
        let before = dump(&Table { services, daemon });
        let yaml = folder.path().join("dump.yaml");
        fs::write(&yaml, &before).unwrap();
        let after = read(&yaml).table.unwrap_or_else(|problems| panic!("{}: {problems:?}\n{before}", file.display()));
        assert_eq!(dump(&after), before, "{}", file.display());
    }
}
