//! Reads the files of a table and everything that they include, and gives the table or all that is wrong.
//!
//! [`load`] is the one door. It reads files and asks the name service, so it belongs before the daemon's loop or in a
//! reload, never between two connections. It keeps nothing.
//!
//! A file may hold `include`, `daemon`, `defaults` and `services`. `include` names files or patterns, relative to the
//! file that it stands in; what a pattern finds is read in the order of its bytes, and may be nothing. `daemon` may
//! stand in one file. `defaults` hold for the services of their own file and, with that file's own `defaults` laid
//! over them, for those that it includes; files named side by side on the command line know nothing of each other's.
//! A file's own services come before those it includes.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_yaml::Value;

use super::check::{self, Checker};
use super::clash::{self, Claim};
use super::file::{self, Document, Identity};
use super::problem::{At, Mark, Problem, Set};
use super::schema::{self, DaemonSpec, ServiceSpec};
use super::section::Section;
use super::{Endpoint, Service, Table};

/// How deep files may include each other.
const MAX_INCLUDES: usize = 8;

/// A table and what should be looked at in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The table.
    pub table: Table,
    /// What can be used, but perhaps not as meant; in the order of files and lines.
    pub warnings: Vec<Problem>,
}

/// Loads a table from files.
///
/// # Errors
///
/// Every problem of every file, in the order in which files were read, then by line and column.
pub fn load(files: &[PathBuf]) -> Result<Loaded, Vec<Problem>> {
    let mut reader = Reader::default();
    for file in files {
        reader.file(file, &At::file(&file.as_path().into(), Mark::default()), &Rc::default(), 0);
    }
    reader.finish()
}

/// A service as written, with its defaults.
struct Entry {
    name: String,
    spec: ServiceSpec,
    at: At,
}

#[derive(Default)]
struct Reader {
    problems: Vec<Problem>,
    /// Files by what they are, and where each was asked for.
    seen: HashMap<Identity, At>,
    /// Files by name, and when each was first named.
    order: HashMap<PathBuf, usize>,
    daemon: Option<(DaemonSpec, At)>,
    entries: Vec<Entry>,
}

/// What one file holds.
#[derive(Default)]
struct Contents {
    daemon: Option<Set<DaemonSpec>>,
    defaults: ServiceSpec,
    services: Vec<Entry>,
    include: Vec<Set<String>>,
}

impl Reader {
    /// Reads a file and what it includes. `from` is the place that names it.
    fn file(&mut self, path: &Path, from: &At, defaults: &Rc<ServiceSpec>, depth: usize) {
        let number = self.order.len();
        self.order.entry(path.to_owned()).or_insert(number);
        let name: Rc<Path> = path.into();
        let Some(document) = self.open(&name, from, depth) else {
            return;
        };
        let contents = contents(document, &name, &mut self.problems);
        self.daemon(contents.daemon);
        let defaults = Rc::new(contents.defaults.over(defaults));
        let over = |entry: Entry| Entry { spec: entry.spec.over(&defaults), ..entry };
        self.entries.extend(contents.services.into_iter().map(over));
        for Set { value: pattern, at } in contents.include {
            for path in self.expand(&pattern, &at) {
                self.file(&path, &at, &defaults, depth + 1);
            }
        }
    }

    fn open(&mut self, name: &Rc<Path>, from: &At, depth: usize) -> Option<Document> {
        if depth > MAX_INCLUDES {
            self.problems.push(from.problem(format!("files include each other more than {MAX_INCLUDES} levels deep")));
            return None;
        }
        let (file, identity) = file::open(name).map_err(|message| self.problems.push(from.problem(message))).ok()?;
        match self.seen.entry(identity) {
            MapEntry::Vacant(place) => place.insert(from.clone()),
            MapEntry::Occupied(first) => {
                let message = format!("{} is read twice; first by {}", name.display(), first.get().origin());
                self.problems.push(from.problem(message));
                return None;
            }
        };
        file::read(file, name, &mut self.problems)
    }

    fn daemon(&mut self, found: Option<Set<DaemonSpec>>) {
        let Some(Set { value, at }) = found else { return };
        match &self.daemon {
            Some((_, first)) => {
                let message = format!("this section may stand once; the first is at {}", first.origin());
                self.problems.push(at.problem(message));
            }
            None => self.daemon = Some((value, at)),
        }
    }

    /// The files that an entry of `include` means.
    fn expand(&mut self, pattern: &str, at: &At) -> Vec<PathBuf> {
        let base = at.directory();
        if !pattern.contains(['*', '?', '[']) {
            return vec![base.join(pattern)];
        }
        let base = glob::Pattern::escape(&base.to_string_lossy());
        let full = Path::new(&base).join(pattern);
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let found = match glob::glob_with(&full.to_string_lossy(), options) {
            Ok(found) => found,
            Err(error) => {
                self.problems.push(at.problem(format!("this is not a pattern: {}", error.msg)));
                return Vec::new();
            }
        };
        let mut paths = Vec::new();
        for path in found {
            match path {
                Ok(path) => paths.push(path),
                Err(error) => {
                    let (path, reason) = (error.path().display(), file::reason(error.error()));
                    self.problems.push(at.problem(format!("cannot read {path}: {reason}")));
                }
            }
        }
        paths.sort();
        paths
    }

    fn finish(mut self) -> Result<Loaded, Vec<Problem>> {
        let mut checker = Checker::default();
        let mut places: HashMap<&str, &At> = HashMap::new();
        let mut services = Vec::with_capacity(self.entries.len());
        for Entry { name, spec, at } in &self.entries {
            if let Some(first) = places.insert(name, at) {
                let message = format!("there are two services of this name; the first is at {}", first.origin());
                self.problems.push(at.problem(message));
                places.insert(name, first);
            }
            services.extend(checker.service(name, spec, at));
        }
        clashes(&services, &mut self.problems);
        self.problems.append(&mut checker.problems);
        let order = |problem: &Problem| {
            let file = self.order.get(&problem.origin.file).copied();
            (file.unwrap_or(usize::MAX), problem.origin.line, problem.origin.column)
        };
        let sorted = |mut problems: Vec<Problem>| {
            problems.sort_by_cached_key(order);
            problems.dedup();
            problems
        };
        if !self.problems.is_empty() {
            return Err(sorted(self.problems));
        }
        let daemon = check::settings(&self.daemon.map(|(spec, _)| spec).unwrap_or_default());
        let services = services.into_iter().map(|(service, _)| service).collect();
        Ok(Loaded { table: Table { daemon, services }, warnings: sorted(checker.warnings) })
    }
}

/// Reads a file's sections.
fn contents(document: Document, name: &Rc<Path>, problems: &mut Vec<Problem>) -> Contents {
    let at = At::file(name, Mark::default());
    let Document { value, node } = document;
    let value = if value == Value::String(String::new()) { Value::Null } else { value };
    let mut section = Section::new("file", value, Some(&node), at, problems);
    let mut contents = Contents { daemon: section.section("daemon", "daemon", schema::daemon), ..Contents::default() };
    if let Some(set) = section.section("defaults", "service", schema::defaults) {
        contents.defaults = set.value;
    }
    let services = &mut contents.services;
    section.section("services", "services", |section| {
        section.each("service", |name, section| {
            let spec = schema::service(section);
            services.push(Entry { name, spec, at: section.at().clone() });
        });
    });
    // All entries may be commented out.
    let include = section.list("include", |item| match item.value {
        Value::Null => Ok(String::new()),
        _ => item.text(),
    });
    let include = include.map(|set| set.value).unwrap_or_default();
    contents.include = include.into_iter().filter(|set| !set.value.is_empty()).collect();
    section.finish();
    // Merge keys disturb the order.
    contents.services.sort_by_key(|entry| entry.at.mark());
    contents
}

/// Reports services that want the same socket.
fn clashes(services: &[(Service, Vec<At>)], problems: &mut Vec<Problem>) {
    let wanted: Vec<(&Service, &Endpoint, &At)> = services
        .iter()
        .filter(|(service, _)| service.enabled)
        .flat_map(|(service, places)| service.listen.iter().zip(places).map(move |(e, at)| (service, e, at)))
        .collect();
    let claims: Vec<Claim<'_>> = wanted
        .iter()
        .enumerate()
        .map(|(number, (service, endpoint, _))| Claim { endpoint, device: service.socket.device.as_deref(), number })
        .collect();
    for (earlier, later) in clash::find(&claims) {
        let ((first, taken, place), (_, endpoint, at)) = (wanted[earlier], wanted[later]);
        let (name, place) = (&first.name, place.origin());
        problems.push(at.problem(format!("{endpoint} cannot be had beside {taken} of service {name}, at {place}")));
    }
}
