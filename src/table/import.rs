//! Translates tables of old formats into YAML.
//!
//! oxinetctl(8) calls [`import`]. What it writes gives the same table as the old files do: each service has the keys that
//! its own file gave it, and what all have alike stands once, in `defaults`. Ports are numbers, with the name that was
//! written as a comment; comments of the old files stay with the services that they stand before. What can't be translated
//! is left out, and said.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_yaml::{Mapping, Value};

use super::check::Checker;
use super::endpoint::Ports;
use super::format::Entry;
use super::limits::Sight;
use super::load::{self, Options, Reader, Reading};
use super::problem::Problem;
use super::{written, yaml};

/// Keys that say what a service is, and are no default.
const OWN: [&str; 8] = ["enabled", "listen", "program", "argv0", "builtin", "to", "wait", "group"];
/// Keys whose maps are put together key by key with those of `defaults`.
const MERGED: [&str; 7] = ["rlimits", "env", "per_source", "per_network", "penalties", "socket", "log"];
/// Keys that mean nothing to a service that does not see its clients, unless it has them itself.
const UNSEEN: [&str; 2] = ["per_source", "per_network"];

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
    let mut reader = Reader::new(*options);
    reader.old_files(files)?;
    let mut checker = Checker::new(options.machine);
    let mut ports = Ports::new(options.machine);
    let mut names = HashSet::new();
    let mut services = Vec::new();
    for entry in &reader.entries {
        let Some((service, _)) = load::service(&mut checker, entry) else { continue };
        if names.insert(entry.name.as_str()) {
            services.push(Written::new(entry, Sight::of(&service.listen, service.wait), &mut ports));
        }
    }
    let daemon = reader.daemon.as_ref().map(|(spec, _)| written::daemon(spec)).unwrap_or_default();
    let yaml = text(files, &daemon, &mut services);
    let Reading { table, warnings } = load::load_with(files, options);
    let problems = table.err().unwrap_or_default();
    Ok(Imported { yaml, problems, warnings })
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
    fn new(entry: &'a Entry, sight: Sight, ports: &mut Ports<'_>) -> Self {
        let mut map = written::service(&entry.spec);
        let names = numbers(&mut map, ports);
        for key in UNSEEN {
            match (sight, map.get_mut(key)) {
                (Sight::First, Some(Value::Mapping(limits))) => drop(limits.shift_remove("instances")),
                (Sight::None, Some(_)) => drop(map.shift_remove(key)),
                _ => {}
            }
        }
        Self { entry, map, ports: names, sees: sight != Sight::None }
    }
}

/// Writes ports in numbers, and `tcp/79` as 79. Gives the names that they had.
fn numbers(map: &mut Mapping, ports: &mut Ports<'_>) -> Option<String> {
    let Some(Value::Sequence(list)) = map.get_mut("listen") else { return None };
    let mut names: Vec<String> = Vec::new();
    for value in list.iter_mut() {
        let Some(text) = value.as_str().filter(|text| !text.starts_with("unix")) else { continue };
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

/// The whole file.
fn text(files: &[PathBuf], daemon: &Mapping, services: &mut [Written<'_>]) -> String {
    let from: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let mut out = format!("# Translated from {}.\n", from.join(", "));
    let defaults = common(services);
    for (name, map) in [("daemon", daemon), ("defaults", &defaults)] {
        if !map.is_empty() {
            out += &format!("{name}:\n");
            yaml::entries(map, 2, &|_| None, &mut out);
        }
    }
    if services.is_empty() {
        return out + "services: {}\n";
    }
    out += "services:\n";
    let mut comments = Comments::default();
    for service in services.iter() {
        for line in comments.before(service.entry) {
            out += &format!("  # {line}\n");
        }
        out += &format!("  {}:\n", yaml::scalar(&service.entry.name));
        let comment = |key: &str| service.ports.clone().filter(|_| key == "listen");
        yaml::entries(&service.map, 4, &comment, &mut out);
    }
    out
}

/// Takes what all services have alike out of them.
fn common(services: &mut [Written<'_>]) -> Mapping {
    let mut defaults = Mapping::new();
    if services.len() < 2 {
        return defaults;
    }
    let keys: Vec<String> = services[0].map.keys().chain(first_map(services)).filter_map(name).collect();
    for key in keys.into_iter().filter(|key| !OWN.contains(&key.as_str())) {
        let unseen = UNSEEN.contains(&key.as_str());
        let mut maps: Vec<&mut Mapping> =
            services.iter_mut().filter(|service| !unseen || service.sees).map(|service| &mut service.map).collect();
        if let Some(value) = alike(&mut maps, &key) {
            defaults.entry(key.into()).or_insert(value);
        }
    }
    defaults
}

/// The keys of the first service that sees its clients.
fn first_map<'a>(services: &'a [Written<'_>]) -> impl Iterator<Item = &'a Value> {
    services.iter().find(|service| service.sees).into_iter().flat_map(|service| service.map.keys())
}

fn name(key: &Value) -> Option<String> {
    key.as_str().map(str::to_owned)
}

/// Takes out what all maps have under a key.
fn alike(maps: &mut [&mut Mapping], key: &str) -> Option<Value> {
    let first = maps.first()?.get(key)?.clone();
    if maps.iter().all(|map| map.get(key) == Some(&first)) {
        maps.iter_mut().for_each(|map| drop(map.shift_remove(key)));
        return Some(first);
    }
    let Value::Mapping(inner) = first else { return None };
    if !MERGED.contains(&key) {
        return None;
    }
    let mut inners: Vec<&mut Mapping> = Vec::with_capacity(maps.len());
    for map in maps.iter_mut() {
        let Some(Value::Mapping(inner)) = map.get_mut(key) else { return None };
        inners.push(inner);
    }
    let mut taken = Mapping::new();
    for key in inner.keys().filter_map(name) {
        if let Some(value) = alike(&mut inners, &key) {
            taken.insert(key.into(), value);
        }
    }
    (!taken.is_empty()).then_some(taken.into())
}

/// The comments of the old files.
#[derive(Default)]
struct Comments {
    lines: HashMap<Rc<Path>, Vec<Vec<u8>>>,
}

impl Comments {
    /// What stands right before a service, without entries that are commented out.
    fn before(&mut self, entry: &Entry) -> Vec<String> {
        let origin = entry.at.origin();
        let lines = self.lines.entry(origin.file.clone()).or_insert_with(|| read(&origin.file));
        let above = &lines[..lines.len().min(origin.line.saturating_sub(1))];
        let mut comments: Vec<String> = above.iter().rev().map_while(|line| comment(line)).collect();
        comments.reverse();
        comments.retain(|line| explains(line));
        comments
    }
}

fn read(file: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(file).unwrap_or_default();
    bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// The text of a line that is a comment; empty if it is not readable.
fn comment(line: &[u8]) -> Option<String> {
    let text = line.trim_ascii().strip_prefix(b"#")?;
    Some(String::from_utf8(text.to_vec()).unwrap_or_default().trim_matches(['#', ':', ' ', '\t']).to_owned())
}

/// Does a comment say something, or is it a line, or an entry that is commented out?
fn explains(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let entry = ["stream", "dgram", "raw"].iter().any(|kind| second.starts_with(kind)) || first.starts_with("<off>");
    let block = ["{", "}", "service"].contains(&first) || ["=", "+=", "-="].contains(&second);
    let shown = !text.chars().any(char::is_control);
    text.chars().any(char::is_alphanumeric) && !entry && !block && shown
}
