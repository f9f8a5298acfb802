//! Reads the files of a table and everything that they include, and gives the table or all that is wrong.
//!
//! [`load_table`] is the only entry. It reads files and asks the name service, so it belongs before the daemon's
//! loop or in a reload, never between two connections. It keeps nothing.
//!
//! A file may hold `include`, `daemon`, `defaults` and `services`. `include` names files or patterns, relative to
//! the file that it stands in; what a pattern finds is read in the order of its bytes, and may be nothing. `daemon`
//! may stand in one file. `defaults` hold for the services of their own file and, with that file's own `defaults`
//! laid over them, for those that it includes; files named side by side on the command line know nothing of each
//! other's. A file's own services come before those it includes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_yaml::Value;

use super::check::Checker;
use super::clash::{self, Claim};
use super::dialect::Dialect;
use super::file;
use super::files::{self, Files};
use super::format::{OldFormats, OldTable, ServiceEntry};
use super::keys::kinds::Keys;
use super::keys::{DaemonSpec, FileSpec, ServiceSpec};
use super::location::{Location, Spanned};
use super::machine::Machine;
use super::problem::{LineCol, Problem};
use super::section::{Scope, Section};
use super::source::SourceText;
use super::{Endpoint, Service, Table};

#[derive(Clone, Copy)]
pub(crate) struct Options<'a> {
    /// The machine that the table is for.
    pub(crate) machine: &'a dyn Machine,
    /// The readers of files that are not YAML.
    pub(crate) formats: &'a dyn OldFormats,
}

/// A table with its warnings.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The table.
    pub table: Table,
    /// Lines that may not mean what they seem to; in the order of files and lines.
    pub warnings: Vec<Problem>,
}

/// The result of reading the files of a table.
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
pub(crate) fn load_table(files: &[PathBuf], options: &Options<'_>) -> Reading {
    let mut reader = Reader::new(*options);
    for file in files {
        reader.read_file(file, &Location::in_file(&file.as_path().into(), LineCol::default()), None, &Rc::default(), 0);
    }
    reader.check_all()
}

pub(crate) struct Reader<'a> {
    options: Options<'a>,
    files: Files,
    /// The YAML files, whose positions may be asked for.
    sources: Vec<Rc<SourceText>>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    pub daemon: Option<(DaemonSpec, Location)>,
    pub entries: Vec<ServiceEntry>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(options: Options<'a>) -> Self {
        let (sources, problems, warnings) = (Vec::new(), Vec::new(), Vec::new());
        Self { options, files: Files::default(), sources, problems, warnings, daemon: None, entries: Vec::new() }
    }

    /// Reads a file, whatever its format, and what it includes. `from` is the place that names it, and gives the
    /// dialect if it is known.
    pub(crate) fn read_file(
        &mut self,
        path: &Path,
        from: &Location,
        dialect: Option<Dialect>,
        defaults: &Rc<ServiceSpec>,
        depth: usize,
    ) {
        let name: Rc<Path> = path.into();
        let bytes = match self.files.read_file(&name, from, depth) {
            Ok(bytes) => bytes,
            Err(problem) => return self.problems.push(problem),
        };
        if bytes.is_empty() && depth == 0 {
            // An editor may have emptied it to write it anew; to take this for a table would end every service.
            let expected = "the file is empty; a table without services has at least `services: {}`";
            return self.problems.push(Location::in_file(&name, LineCol::default()).problem(expected));
        }
        let Options { machine, formats } = self.options;
        match formats.read_old(&bytes, &name, dialect, depth, &mut self.files, machine) {
            Some(old) => self.add_old_table(old, defaults),
            None => self.read_yaml(bytes, &name, defaults, depth),
        }
    }

    fn read_yaml(&mut self, bytes: Vec<u8>, name: &Rc<Path>, defaults: &Rc<ServiceSpec>, depth: usize) {
        let source = match file::decode_source(bytes, name) {
            Ok(source) => source,
            Err(problem) => return self.problems.push(problem),
        };
        self.sources.push(Rc::clone(&source));
        let Some(contents) = good_contents(&source).or_else(|| read_contents(&source, &mut self.problems)) else {
            return;
        };
        self.set_daemon(contents.daemon.0);
        let defaults = Rc::new(contents.defaults.laid_over(defaults));
        self.entries.extend(contents.services.into_iter().map(|Spanned { value: (name, spec), at }| ServiceEntry {
            name,
            spec: spec.laid_over(&defaults),
            at,
            old: false,
        }));
        let include = contents.include.into_iter().flat_map(|list| list.value);
        // All entries may be commented out.
        for Spanned { value, at } in include.filter(|set| !set.value.pattern.is_empty()) {
            for path in files::expand_pattern(&value.pattern, &at, &mut self.problems) {
                self.read_file(&path, &at, value.dialect, &defaults, depth + 1);
            }
        }
    }

    /// Adds the services of a file of an old format: over the defaults of the file that includes it, which lie over
    /// those of the old daemon.
    fn add_old_table(&mut self, mut old: OldTable, defaults: &ServiceSpec) {
        self.problems.append(&mut old.problems);
        self.warnings.append(&mut old.warnings);
        if let (Some(Spanned { at, .. }), Some((_, first))) = (&old.daemon, &self.daemon) {
            let message = format!("this has no effect: what concerns the daemon is said at {}", first);
            self.warnings.push(at.problem(message));
        } else {
            self.set_daemon(old.daemon);
        }
        // A rate of theirs comes with a burst of theirs.
        if defaults.per_source.rate.is_some() {
            old.base.per_source.burst = None;
        }
        if defaults.rate.is_some() {
            old.base.burst = None;
        }
        let base = defaults.clone().laid_over(&old.base);
        self.entries
            .extend(old.services.into_iter().map(|entry| ServiceEntry { spec: entry.spec.laid_over(&base), ..entry }));
    }

    fn set_daemon(&mut self, found: Option<Spanned<DaemonSpec>>) {
        let Some(Spanned { value, at }) = found else { return };
        match &self.daemon {
            Some((_, first)) => {
                let message = format!("this section may stand once; the first is at {}", first);
                self.problems.push(at.problem(message));
            }
            None => self.daemon = Some((value, at)),
        }
    }

    fn check_all(mut self) -> Reading {
        let mut checker = Checker::new(self.options.machine);
        let mut places: HashMap<&str, &Location> = HashMap::new();
        let mut services = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            if let Some(first) = places.insert(&entry.name, &entry.at) {
                let message = format!("there are two services of this name; the first is at {}", first);
                self.problems.push(entry.at.problem(message));
                places.insert(&entry.name, first);
            }
            services.extend(check_entry(&mut checker, entry));
        }
        let daemon = checker.check_daemon(&self.daemon.map(|(spec, _)| spec).unwrap_or_default());
        checker.resolve_builtin_args(&mut services.iter_mut().map(|(service, _)| service).collect::<Vec<_>>());
        report_clashes(&services, &mut self.problems);
        self.sources.iter().for_each(|source| source.drop_index());
        self.problems.append(&mut checker.problems);
        self.warnings.append(&mut checker.warnings);
        let warnings = self.files.sort_problems(self.warnings);
        if !self.problems.is_empty() {
            return Reading { table: Err(self.files.sort_problems(self.problems)), warnings };
        }
        let services = services.into_iter().map(|(service, _)| Rc::new(service)).collect();
        Reading { table: Ok(Table { daemon, services }), warnings }
    }
}

/// Checks a service. One of an old format that is off is not looked at there, and may be as wrong as it likes.
pub(crate) fn check_entry(
    checker: &mut Checker<'_>,
    ServiceEntry { name, spec, at, old }: &ServiceEntry,
) -> Option<(Service, Vec<Location>)> {
    let (before, warnings) = (checker.problems.len(), checker.warnings.len());
    let service = checker.check_service(name, spec, at);
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

/// The keys of a file with which nothing is wrong. Such a file is parsed once.
fn good_contents(source: &Rc<SourceText>) -> Option<FileSpec> {
    let mut problems = Vec::new();
    let contents = read_keys(file::plain_values(source)?, source, &mut problems);
    (problems.is_empty() && !source.is_refused()).then_some(contents)
}

/// The keys of any file that has some, and all that is wrong with it.
fn read_contents(source: &Rc<SourceText>, problems: &mut Vec<Problem>) -> Option<FileSpec> {
    let (value, merges) = file::any_values(source, problems)?;
    let mut contents = read_keys(value, source, problems);
    if merges {
        contents.services.sort_by_key(|set| set.at.line_col());
    }
    Some(contents)
}

fn read_keys(value: Value, source: &Rc<SourceText>, problems: &mut Vec<Problem>) -> FileSpec {
    let value = if value == Value::String(String::new()) { Value::Null } else { value };
    let mut section = Section::new(value, Location::whole_file(source), Scope::One, problems);
    let contents = FileSpec::read(&mut section);
    section.report_unknown_keys();
    contents
}

/// Reports services that want the same socket.
fn report_clashes(services: &[(Service, Vec<Location>)], problems: &mut Vec<Problem>) {
    let wanted: Vec<(&Service, &Endpoint, &Location)> = services
        .iter()
        .filter(|(service, _)| service.enabled)
        .flat_map(|(service, places)| service.listen.iter().zip(places).map(move |(e, at)| (service, e, at)))
        .collect();
    let claims: Vec<Claim<'_>> = wanted
        .iter()
        .enumerate()
        .map(|(number, (service, endpoint, _))| Claim { endpoint, device: service.socket.device.as_deref(), number })
        .collect();
    for (earlier, later) in clash::find_clashes(&claims) {
        let ((first, taken, place), (_, endpoint, at)) = (wanted[earlier], wanted[later]);
        let (name, place) = (&first.name, place);
        problems.push(at.problem(format!("{endpoint} cannot be bound beside {taken} of service {name}, at {place}")));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::keys::kinds::write_section;
    use super::*;

    const GOOD: &str = "daemon: { instances: 100 }\ndefaults:\n  env: { A: 1, B: 'x', C: -7 }\nservices:\n  a:\n    \
                        listen: [8080, tcp4/127.0.0.1:81]\n    program: [/bin/cat, 5, \"a b\"]\n    per_source: { rate: \
                        5/s }\n    times: 22:00-06:00 # c\n    nice: 10\ninclude: ['*.yaml']\n";

    fn source(text: &str) -> Rc<SourceText> {
        file::decode_source(text.as_bytes().to_vec(), &Path::new("f.yaml").into()).unwrap()
    }

    #[test]
    fn a_good_file_is_parsed_once() {
        let source = source(GOOD);
        assert!(good_contents(&source).is_some() && !source.is_indexed());
    }

    /// Pieces in which the two parsers, or the ways to read a number, may differ.
    fn piece() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "0x1f",
            "+5",
            "-0",
            "0o17",
            "010",
            "1.50",
            "1e3",
            ".5",
            "true",
            "True",
            "null",
            "~",
            "yes",
            "&a ",
            "*a",
            "<<",
            "\"\\0\"",
            "!!str ",
            "'",
            "\"",
            "{",
            "}",
            "[",
            "]",
            ": ",
            ", ",
            "\n",
            "  ",
            "- ",
            "? ",
            "#",
            "|\n",
            "---\n",
            "é",
            "a: b\n",
            "18446744073709551616",
            "-9223372036854775808",
        ])
    }

    proptest! {
        /// Where serde_yaml alone finds nothing wrong, the index finds nothing either but its own stricter grammar,
        /// and the values are the same.
        #[test]
        fn both_ways_give_the_same(at in 0..GOOD.len(), length in 0..4_usize, pieces in prop::collection::vec(piece(), 0..3)) {
            let mut text = GOOD.to_owned();
            text.replace_range(at..(at + length).min(GOOD.len()), &pieces.concat());
            if let Some(good) = good_contents(&source(&text)) {
                let (source, mut problems) = (source(&text), Vec::new());
                if let Some(careful) = read_contents(&source, &mut problems) {
                    prop_assert!(problems.is_empty(), "{problems:?}\n{text}");
                    prop_assert_eq!(write_section(&good), write_section(&careful), "{}", text);
                } else {
                    prop_assert!(problems.iter().all(|problem| problem.message.starts_with("this is not YAML")));
                }
            }
        }
    }
}
