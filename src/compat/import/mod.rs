//! Translates tables of old formats into YAML.
//!
//! oxinetctl(8) calls [`import`]. What it writes gives the same table as the old files do: each service has the keys that
//! its own file gave it, and what all have alike stands once, in `defaults`. Ports are numbers, with the name that was
//! written as a comment; comments of the old files stay with the services that they stand before. What can't be translated
//! is left out, and said.

mod comments;
mod common;
mod hopeful;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ipnet::IpNet;
use serde_yaml::{Mapping, Value};

use crate::config::check::{Checker, ClientVisibility};
use crate::config::endpoint::Ports;
use crate::config::format::Entry;

use crate::compat::format::{self, Format};
use crate::compat::{Options, Readers, load_with};
use crate::config::Reading;
use crate::config::file;
use crate::config::keys::ServiceSpec;
use crate::config::keys::kinds::{Keys, written};
use crate::config::load::{self, Reader};
use crate::config::location::Location;
use crate::config::problem::{LineCol, Problem};
use crate::config::{Endpoint, Service, yaml};
use comments::Comments;
use common::common;
use hopeful::Hopeful;

/// Keys that mean nothing to a service that does not see its clients, unless it has them itself.
const UNSEEN: [&str; 2] = ["per_source", "per_network"];

/// Keys that come later in a translation than in `--dump`, and the keys behind which they come.
const LATER: [(&str, &str); 3] = [("wait", "idle_timeout"), ("when_full", "burst"), ("penalties", "banner")];

/// A translation.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The table.
    pub yaml: String,
    /// What is not in it, and why.
    pub problems: Vec<Problem>,
    /// What is in it, but perhaps not as meant; and what the old daemon left out too.
    pub warnings: Vec<Problem>,
}

/// Translates files.
///
/// # Errors
///
/// The files that can't be read, or are no old format.
pub fn import(files: &[PathBuf], options: &Options<'_>) -> Result<Imported, Vec<Problem>> {
    let formats = Readers { dialect: options.dialect };
    let mut reader = Reader::new(load::Options { machine: options.machine, formats: &formats });
    read_old_files(&mut reader, files)?;
    let mut services = services(&reader.entries, options);
    let here: HashSet<&str> = services.iter().map(|service| service.entry.name.as_str()).collect();
    let hopeful = Options { machine: &Hopeful(options.machine), ..*options };
    let mut all = Reader::new(load::Options { machine: hopeful.machine, formats: &formats });
    read_old_files(&mut all, files)?;
    let mut absent = self::services(&all.entries, &hopeful);
    absent.retain(|service| !here.contains(service.entry.name.as_str()));
    let daemon = reader.daemon.as_ref().map(|(spec, _)| written(spec)).unwrap_or_default();
    let yaml = text(files, &daemon, &mut services, &absent);
    let Reading { table, warnings } = load_with(files, options);
    let problems = table.err().unwrap_or_default();
    Ok(Imported { yaml, problems, warnings })
}

/// Reads files that must be of an old format. What is wrong with single services is for those who load them.
fn read_old_files(reader: &mut Reader<'_>, files: &[PathBuf]) -> Result<(), Vec<Problem>> {
    let mut wrong = Vec::new();
    for file in files {
        let name: Rc<Path> = file.as_path().into();
        let at = Location::file(&name, LineCol::default());
        let opened = file::open(&name).and_then(|(file, _)| file::bytes(file, &name));
        match opened.map(|bytes| (format::says_nothing(&bytes), format::recognise(&bytes))) {
            Err(message) => wrong.push(at.problem(message)),
            Ok((false, Format::Yaml)) => wrong.push(at.problem("this is no inetd.conf and no xinetd.conf")),
            Ok((_, Format::Yaml)) => {}
            Ok(_) => reader.file(file, &at, None, &Rc::default(), 0),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// The services that make it into the table.
fn services<'a>(entries: &'a [Entry], options: &Options<'_>) -> Vec<Written<'a>> {
    let mut checker = Checker::new(options.machine);
    let mut ports = Ports::new(options.machine);
    let mut names = HashSet::new();
    let mut services = Vec::new();
    for entry in entries {
        let Some((service, _)) = load::service(&mut checker, entry) else { continue };
        if names.insert(entry.name.as_str()) {
            services.push(Written::new(entry, &service, &mut ports));
        }
    }
    services
}

/// A service that is about to be written.
struct Written<'a> {
    entry: &'a Entry,
    map: Mapping,
    /// Names of its ports, as written.
    ports: Option<String>,
    /// Does it see any of its clients?
    sees: bool,
}

impl<'a> Written<'a> {
    fn new(entry: &'a Entry, service: &Service, ports: &mut Ports<'_>) -> Self {
        let mut map = in_reading_order(written(&entry.spec));
        shorten_hosts(&mut map);
        // What is so without a word.
        let waits = service.listen.iter().any(Endpoint::is_datagram);
        map.retain(|key, value| {
            !(key.as_str() == Some("wait") && value.as_bool() == Some(waits)
                || key.as_str() == Some("enabled") && value.as_bool() == Some(true))
        });
        let visibility = ClientVisibility::of(&service.listen, service.wait);
        let names = numbers(&mut map, ports);
        for key in UNSEEN {
            match (visibility, map.get_mut(key)) {
                (ClientVisibility::FirstDatagram, Some(Value::Mapping(limits))) => {
                    drop(limits.shift_remove("instances"))
                }
                (ClientVisibility::Hidden, Some(_)) => drop(map.shift_remove(key)),
                _ => {}
            }
        }
        Self { entry, map, ports: names, sees: visibility != ClientVisibility::Hidden }
    }
}

impl Written<'_> {
    /// The service with its comments.
    fn text(&self, comments: &mut Comments) -> String {
        let mut out = String::new();
        for line in comments.before(self.entry) {
            out += &format!("  # {line}\n");
        }
        out += &format!("  {}:\n", yaml::scalar(&self.entry.name));
        let comment = |key: &str| self.ports.clone().filter(|_| key == "listen");
        yaml::entries(&self.map, 4, &comment, &mut out);
        out
    }
}

/// Puts what is said of how a service runs behind what it runs, and limits before what becomes of those over them.
fn in_reading_order(map: Mapping) -> Mapping {
    let rank = |key: &Value| {
        let key = key.as_str().unwrap_or_default();
        let after = LATER.iter().find(|(later, _)| *later == key).map(|(_, anchor)| *anchor);
        let name = after.unwrap_or(key);
        (ServiceSpec::NAMES.iter().position(|known| *known == name), after.is_some())
    };
    let mut pairs: Vec<(Value, Value)> = map.into_iter().collect();
    pairs.sort_by_key(|(key, _)| rank(key));
    pairs.into_iter().collect()
}

/// Writes networks of one address as the address.
fn shorten_hosts(map: &mut Mapping) {
    for list in ["allow", "deny"] {
        for value in map.get_mut(list).and_then(Value::as_sequence_mut).into_iter().flatten() {
            let network = value.as_str().and_then(|text| text.parse::<IpNet>().ok());
            if let Some(host) = network.filter(|network| network.prefix_len() == network.max_prefix_len()) {
                *value = host.addr().to_string().into();
            }
        }
    }
}

/// Writes ports in numbers, and `tcp/79` as 79. Gives the names that they had.
fn numbers(map: &mut Mapping, ports: &mut Ports<'_>) -> Option<String> {
    let Some(Value::Sequence(list)) = map.get_mut("listen") else { return None };
    let mut names: Vec<String> = Vec::new();
    for value in list.iter_mut() {
        let Some(text) = value.as_str().filter(|text| !["unix", "tcpmux/"].iter().any(|kind| text.starts_with(kind)))
        else {
            continue;
        };
        let (before, port) = text.rfind([':', '/']).map_or(("", text), |end| text.split_at(end + 1));
        let base = if text.starts_with("udp") { "udp" } else { "tcp" };
        let number = ports.named(port, base).filter(|_| !port.bytes().all(|byte| byte.is_ascii_digit()));
        if number.is_some() && !names.iter().any(|name| name == port) {
            names.push(port.to_owned());
        }
        let number = number.map_or_else(|| port.to_owned(), |number| number.to_string());
        let before = before.strip_prefix("tcp/").unwrap_or(before);
        *value = match number.parse::<u16>() {
            Ok(number) if before.is_empty() => number.into(),
            _ => format!("{before}{number}").into(),
        };
    }
    if let [only] = &list[..] {
        let only = only.clone();
        map.insert("listen".into(), only);
    }
    (!names.is_empty()).then(|| names.join(", "))
}

/// The whole file. Services that can't be here, since something of theirs is not, are comments.
fn text(files: &[PathBuf], daemon: &Mapping, services: &mut [Written<'_>], absent: &[Written<'_>]) -> String {
    let from: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let mut out = format!("# Translated from {}.\n", from.join(", "));
    let defaults = common(services);
    for (name, map) in [("daemon", daemon), ("defaults", &defaults)] {
        if !map.is_empty() {
            out += &format!("{name}:\n");
            yaml::entries(map, 2, &|_| None, &mut out);
        }
    }
    out += if services.is_empty() { "services: {}\n" } else { "services:\n" };
    let mut comments = Comments::default();
    for service in services.iter() {
        out += &service.text(&mut comments);
    }
    if !absent.is_empty() {
        out += "  # Not in the table, since a user, group or program of theirs is not on this machine:\n";
    }
    for service in absent {
        let text = service.text(&mut comments);
        out += &text.lines().map(|line| format!("  # {}\n", &line[2..])).collect::<String>();
    }
    out
}
