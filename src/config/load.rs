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
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::json;
use serde_yaml::Value;

use super::check::Checker;
use super::clash::{self, Claim};
use super::dialect::{DIALECTS, Dialect};
use super::file::{self, Document};
use super::files::{self, Files};
use super::format::{Entry, OldFormats, OldTable};
use super::machine::Machine;
use super::problem::{At, Mark, Problem, Set};
use super::schema::{self, DaemonSpec, ServiceSpec};
use super::section::{Item, Read, Section};
use super::{Endpoint, Service, Table};

/// How a table is read.
#[derive(Clone, Copy)]
pub(crate) struct Options<'a> {
    /// The machine that the table is for.
    pub(crate) machine: &'a dyn Machine,
    /// The readers of files that are not YAML.
    pub(crate) formats: &'a dyn OldFormats,
}

/// A table and what should be looked at in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The table.
    pub table: Table,
    /// What can be used, but perhaps not as meant; in the order of files and lines.
    pub warnings: Vec<Problem>,
}

/// What files say.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The table, or all that is wrong, in the order of files and lines.
    pub table: Result<Table, Vec<Problem>>,
    /// As [`Loaded::warnings`].
    pub warnings: Vec<Problem>,
}

impl Reading {
    /// The table with its warnings.
    ///
    /// # Errors
    ///
    /// All that is wrong.
    pub fn loaded(self) -> Result<Loaded, Vec<Problem>> {
        let Self { table, warnings } = self;
        table.map(|table| Loaded { table, warnings })
    }
}

/// Loads a table from files, and says what should be looked at even if the table can't be used.
#[must_use]
pub(crate) fn load(files: &[PathBuf], options: &Options<'_>) -> Reading {
    let mut reader = Reader::new(*options);
    for file in files {
        reader.file(file, &At::file(&file.as_path().into(), Mark::default()), None, &Rc::default(), 0);
    }
    reader.finish()
}

pub(crate) struct Reader<'a> {
    options: Options<'a>,
    files: Files,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    pub daemon: Option<(DaemonSpec, At)>,
    pub entries: Vec<Entry>,
}

/// What one YAML file holds.
#[derive(Default)]
pub(crate) struct Contents {
    daemon: Option<Set<DaemonSpec>>,
    defaults: ServiceSpec,
    services: Vec<Entry>,
    include: Vec<Set<Include>>,
}

/// An entry of `include`.
struct Include {
    pattern: String,
    /// The files are an inetd.conf of this dialect, and need not look like one.
    dialect: Option<Dialect>,
}

impl<'a> Reader<'a> {
    /// Has read nothing yet.
    pub(crate) fn new(options: Options<'a>) -> Self {
        let (problems, warnings) = (Vec::new(), Vec::new());
        Self { options, files: Files::default(), problems, warnings, daemon: None, entries: Vec::new() }
    }

    /// Reads a file, whatever its format, and what it includes. `from` is the place that names it, and gives the dialect
    /// if it is known.
    pub(crate) fn file(
        &mut self,
        path: &Path,
        from: &At,
        dialect: Option<Dialect>,
        defaults: &Rc<ServiceSpec>,
        depth: usize,
    ) {
        let name: Rc<Path> = path.into();
        let bytes = match self.files.read(&name, from, depth) {
            Ok(bytes) => bytes,
            Err(problem) => return self.problems.push(problem),
        };
        if bytes.is_empty() && depth == 0 {
            // An editor may have emptied it to write it anew; to take this for a table would end every service.
            let expected = "the file is empty; a table without services has at least `services: {}`";
            return self.problems.push(At::file(&name, Mark::default()).problem(expected));
        }
        let Options { machine, formats } = self.options;
        match formats.read(&bytes, &name, dialect, depth, &mut self.files, machine) {
            Some(old) => self.old(old, defaults),
            None => self.yaml(bytes, &name, defaults, depth),
        }
    }

    fn yaml(&mut self, bytes: Vec<u8>, name: &Rc<Path>, defaults: &Rc<ServiceSpec>, depth: usize) {
        let Some(document) = file::read(bytes, name, &mut self.problems) else {
            return;
        };
        let contents = contents(document, name, &mut self.problems);
        self.daemon(contents.daemon);
        let defaults = Rc::new(contents.defaults.over(defaults));
        let over = |entry: Entry| Entry { spec: entry.spec.over(&defaults), ..entry };
        self.entries.extend(contents.services.into_iter().map(over));
        for Set { value: Include { pattern, dialect }, at } in contents.include {
            for path in files::expand(&pattern, &at, &mut self.problems) {
                self.file(&path, &at, dialect, &defaults, depth + 1);
            }
        }
    }

    /// Takes in what a file of an old format holds: over the defaults of who includes it, which lie over what the old
    /// daemon does.
    fn old(&mut self, mut old: OldTable, defaults: &ServiceSpec) {
        self.problems.append(&mut old.problems);
        self.warnings.append(&mut old.warnings);
        if let (Some(Set { at, .. }), Some((_, first))) = (&old.daemon, &self.daemon) {
            let message = format!("this has no effect: what concerns the daemon is said at {}", first.origin());
            self.warnings.push(at.problem(message));
        } else {
            self.daemon(old.daemon);
        }
        // A rate of theirs comes with a burst of theirs.
        if defaults.per_source.rate.is_some() {
            old.base.per_source.burst = None;
        }
        if defaults.rate.is_some() {
            old.base.burst = None;
        }
        let base = defaults.clone().over(&old.base);
        self.entries.extend(old.services.into_iter().map(|entry| Entry { spec: entry.spec.over(&base), ..entry }));
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

    fn finish(mut self) -> Reading {
        let mut checker = Checker::new(self.options.machine);
        let mut places: HashMap<&str, &At> = HashMap::new();
        let mut services = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            if let Some(first) = places.insert(&entry.name, &entry.at) {
                let message = format!("there are two services of this name; the first is at {}", first.origin());
                self.problems.push(entry.at.problem(message));
                places.insert(&entry.name, first);
            }
            services.extend(service(&mut checker, entry));
        }
        let daemon = checker.settings(&self.daemon.map(|(spec, _)| spec).unwrap_or_default());
        checker.introduce(&mut services.iter_mut().map(|(service, _)| service).collect::<Vec<_>>());
        clashes(&services, &mut self.problems);
        self.problems.append(&mut checker.problems);
        self.warnings.append(&mut checker.warnings);
        let warnings = self.files.sorted(self.warnings);
        if !self.problems.is_empty() {
            return Reading { table: Err(self.files.sorted(self.problems)), warnings };
        }
        let services = services.into_iter().map(|(service, _)| service).collect();
        Reading { table: Ok(Table { daemon, services }), warnings }
    }
}

/// Checks a service. One of an old format that is off is not looked at there, and may be as wrong as it likes.
pub(crate) fn service(checker: &mut Checker<'_>, Entry { name, spec, at, old }: &Entry) -> Option<(Service, Vec<At>)> {
    let (before, warnings) = (checker.problems.len(), checker.warnings.len());
    let service = checker.service(name, spec, at);
    let off = spec.enabled.as_ref().is_some_and(|enabled| !enabled.value);
    if !*old || !off {
        return service;
    }
    checker.warnings.truncate(warnings);
    if checker.problems.len() == before {
        return service;
    }
    let problems = checker.problems.drain(before..);
    let off = |mut problem: Problem| {
        problem.message.push_str("; the service is off, and left out");
        problem
    };
    checker.warnings.extend(problems.map(off));
    None
}

/// Reads a file's sections.
fn contents(document: Document, name: &Rc<Path>, problems: &mut Vec<Problem>) -> Contents {
    let at = At::file(name, Mark::default());
    let Document { value, node } = document;
    let value = if value == Value::String(String::new()) { Value::Null } else { value };
    let mut section = Section::new("file", value, Some(&node), at, problems);
    let mut contents = sections(&mut section);
    section.finish();
    // Merge keys disturb the order.
    contents.services.sort_by_key(|entry| entry.at.mark());
    contents
}

/// Reads what may stand in a file.
pub(crate) fn sections(section: &mut Section<'_>) -> Contents {
    let mut contents = Contents { daemon: section.section("daemon", "daemon", schema::daemon), ..Contents::default() };
    if let Some(set) = section.section("defaults", "service", schema::defaults) {
        contents.defaults = set.value;
    }
    let services = &mut contents.services;
    section.section("services", "services", |section| {
        section.each("service", |name, section| {
            let spec = schema::service(section);
            services.push(Entry { name, spec, at: section.at().clone(), old: false });
        });
    });
    let include = section.list("include", include).map(|set| set.value).unwrap_or_default();
    // All entries may be commented out.
    contents.include = include.into_iter().filter(|set| !set.value.pattern.is_empty()).collect();
    contents
}

/// `PATTERN`, or `{ path: PATTERN, dialect: DIALECT }`.
fn include(item: Item<'_>) -> Read<Include> {
    item.note(|| {
        let dialects = DIALECTS.map(|(name, _)| name);
        let keys = json!({
            "path": { "type": "string", "description": "A path, or a pattern of paths." },
            "dialect": { "enum": dialects, "description": "Whose inetd.conf it is." },
        });
        let map = json!({ "type": "object", "properties": keys, "required": ["path"], "additionalProperties": false });
        json!({ "anyOf": [{ "type": ["string", "null"] }, map] })
    });
    let Value::Mapping(map) = item.value else {
        let pattern = if item.value.is_null() { String::new() } else { item.text()? };
        return Ok(Include { pattern, dialect: None });
    };
    let expected = "a path, or { path: PATH, dialect: DIALECT }";
    let known = |key: &Value| matches!(key.as_str(), Some("path" | "dialect"));
    match (map.get("path"), map.get("dialect"), map.keys().all(known)) {
        (Some(Value::String(path)), Some(Value::String(dialect)), true) => {
            Ok(Include { pattern: path.clone(), dialect: Some(dialect.parse()?) })
        }
        (Some(Value::String(path)), None, true) => Ok(Include { pattern: path.clone(), dialect: None }),
        _ => Err(item.not(expected)),
    }
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
