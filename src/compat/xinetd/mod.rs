//! Reads xinetd.conf(5), with everything that it includes, into specifications of services.
//!
//! Only [`super::load`] calls [`read_table`]. The language is read with the meaning that xinetd 2.3.15 gives it,
//! also where that surprises; what xinetd would have complained about is a warning at the same line, and a service
//! that it would not have started is left out with one. Three things differ on purpose, and oxinetd.yaml(5),
//! COMPATIBILITY, tells them: what opens a hole in xinetd is read in the safe way, with a warning; what has no
//! equivalent here is a problem, so that the table is not used; and an access rule is kept exactly or is a problem,
//! never a weaker rule.
//!
//! [`lines`] knows the lexical rules and [`attributes`] what each attribute takes; [`values`], [`handler`],
//! [`limits`] and [`logs`] read it into a [`draft::Draft`]; [`service`], with [`sockets`], [`program`] and
//! [`access`], makes a specification of a draft and the defaults.

mod access;
mod addresses;
mod attributes;
mod draft;
mod edits;
mod handler;
mod limits;
mod lines;
mod listed;
mod logs;
mod maker;
mod program;
mod service;
mod sockets;
mod values;
mod world;
mod wrappers;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::config::files::Files;
use crate::config::format::{OldTable, ServiceEntry};
use crate::config::location::{Location, Spanned};
use crate::config::machine::Machine;
use crate::config::problem::{LineCol, Problem};
use attributes::Place;
use draft::{Draft, Fault, State};
use lines::{Line, Lines, Word};
use world::World;

/// Reads a file and those that it includes.
pub(super) fn read_table(
    bytes: &[u8],
    name: &Rc<Path>,
    depth: usize,
    files: &mut Files,
    machine: &dyn Machine,
) -> OldTable {
    let place = Location::in_file(name, LineCol::default()).under_key("defaults", LineCol::default());
    let defaults = Draft::new("defaults".to_owned(), place);
    let world = World::new(machine);
    let mut reader = Reader { files, world, old: OldTable::default(), defaults, drafts: Vec::new() };
    reader.read_file(bytes, name, depth);
    reader.make_services()
}

/// A line that ends the entry that is being read.
struct Broken;

struct Reader<'a, 'w> {
    files: &'a mut Files,
    world: World<'w>,
    old: OldTable,
    defaults: Draft,
    drafts: Vec<Draft>,
}

impl Reader<'_, '_> {
    fn read_file(&mut self, bytes: &[u8], name: &Rc<Path>, depth: usize) {
        if let Some(line) = bytes.split(|byte| *byte == b'\n').position(|line| line.ends_with(b"\r")) {
            let at = Location::in_file(name, LineCol { line: line + 1, column: 0 });
            self.warn(
                &at,
                "lines of this file end in a carriage return, which xinetd takes for a part of the last value",
            );
        }
        let mut lines = Lines::new(bytes);
        let mut defaults_seen = false;
        while let Some(line) = lines.next() {
            if self.read_directive(&line, &mut lines, name, depth, &mut defaults_seen).is_err() {
                self.skip_entry(&mut lines, name);
            }
        }
    }

    /// Reads what begins with `line`.
    fn read_directive(
        &mut self,
        line: &Line,
        lines: &mut Lines<'_>,
        name: &Rc<Path>,
        depth: usize,
        defaults_seen: &mut bool,
    ) -> Result<(), Broken> {
        let at = Location::in_file(name, line.first_position());
        let mut words = line.all_words().into_iter();
        let keyword = words.next().map(|word| word.text.to_ascii_lowercase()).unwrap_or_default();
        let argument = words.next();
        match keyword.as_str() {
            "defaults" => {
                self.expect_brace(lines, &at, "defaults")?;
                if std::mem::replace(defaults_seen, true) {
                    self.warn(&at, "xinetd takes only the first defaults of a file, and ignores these");
                    return Err(Broken);
                }
                // xinetd goes on with the line behind the one that it cannot read.
                self.read_defaults(lines, &at, name);
                Ok(())
            }
            "service" | "include" | "includedir" => {
                let Some(argument) = argument else {
                    let message =
                        format!("there is nothing after {keyword}; xinetd ignores everything up to the next }}");
                    self.warn(&at, message);
                    return Err(Broken);
                };
                match keyword.as_str() {
                    "include" => self.read_include(&argument, name, depth),
                    "includedir" => self.read_include_directory(&argument, name, depth),
                    _ => {
                        self.expect_brace(lines, &at, &argument.text)?;
                        return self.read_service(lines, argument, name);
                    }
                }
                Ok(())
            }
            _ => {
                let message = "expected service, defaults, include or includedir; xinetd ignores this, and everything up \
                               to the next }";
                self.warn(&at, message);
                Err(Broken)
            }
        }
    }

    /// The line with the brace that opens an entry.
    fn expect_brace(&mut self, lines: &mut Lines<'_>, from: &Location, entry: &str) -> Result<(), Broken> {
        match lines.next() {
            Some(line) if line.is_only('{') => Ok(()),
            other => {
                let mark = other.map_or(LineCol { line: lines.number(), column: 0 }, |line| line.first_position());
                let message = format!("expected {{ alone on this line, to begin {entry}; xinetd leaves the entry out");
                self.warn(&from.moved_to(mark), message);
                Err(Broken)
            }
        }
    }

    /// Passes over an entry that cannot be read.
    fn skip_entry(&mut self, lines: &mut Lines<'_>, name: &Rc<Path>) {
        if !lines.any(|line| line.is_only('}')) {
            let at = Location::in_file(name, LineCol { line: lines.number(), column: 0 });
            self.warn(&at, "the last entry has no } alone on a line, so xinetd ignores it up to the end of the file");
        }
    }

    fn read_service(&mut self, lines: &mut Lines<'_>, name: Word, file: &Rc<Path>) -> Result<(), Broken> {
        let at = Location::in_file(file, LineCol::default())
            .under_key("services", LineCol::default())
            .under_key(&printable_name(&name.text), name.mark);
        let mut draft = Draft::new(name.text, at);
        let end = self.read_entry(lines, &mut draft, Place::Service);
        // A service that was disabled before its mistake is still a disabled service.
        if end.is_ok() || draft.state == State::Off {
            self.drafts.push(draft);
        }
        end
    }

    fn read_defaults(&mut self, lines: &mut Lines<'_>, at: &Location, file: &Rc<Path>) {
        let place = Location::in_file(file, LineCol::default()).under_key("defaults", at.line_col());
        let mut draft = std::mem::replace(&mut self.defaults, Draft::new(String::new(), place.clone()));
        draft.at = place;
        let before: Vec<&str> = draft.set.keys().copied().collect();
        let end = self.read_entry(lines, &mut draft, Place::Defaults);
        self.warn_of_late_defaults(&draft, &before);
        if end.is_err() {
            let message = "xinetd would use only a part of these defaults; correct the line that it cannot read";
            self.old.problems.push(draft.at.problem(message));
        }
        self.defaults = draft;
    }

    /// Reads the attributes of an entry up to its closing brace.
    fn read_entry(&mut self, lines: &mut Lines<'_>, draft: &mut Draft, place: Place) -> Result<(), Broken> {
        loop {
            let Some(line) = lines.next() else {
                let mark = LineCol { line: lines.number(), column: 0 };
                let message = "the file ends before the } of this entry, and xinetd leaves it out";
                self.warn_if_on(draft, &draft.at.moved_to(mark), message.to_owned());
                return Err(Broken);
            };
            if line.is_only('}') {
                return Ok(());
            }
            let written = match line.parse_attribute() {
                Ok(written) => written,
                Err(message) => {
                    let message = format!("{message}; xinetd leaves the whole entry out");
                    self.warn_if_on(draft, &draft.at.moved_to(line.first_position()), message);
                    return Err(Broken);
                }
            };
            let at = draft.at.under_key(&written.name.text, written.name.mark);
            let before = draft.notes.len();
            let result = attributes::apply_line(draft, &written, place, &at, &mut self.world);
            let notes: Vec<Problem> = draft.notes.drain(before..).collect();
            if draft.state != State::Off {
                self.old.warnings.extend(notes);
            }
            if let Err(fault) = result {
                self.note_fault(draft, place, &written.name.text, &at, fault);
            }
        }
    }

    fn note_fault(&mut self, draft: &mut Draft, place: Place, attribute: &str, at: &Location, fault: Fault) {
        match (fault, place) {
            (Fault::Ignored(message), _) => self.warn_if_on(draft, at, format!("{message}; xinetd ignores the line")),
            (Fault::Refused(message), Place::Service) => draft.refused.push(at.problem(message)),
            (Fault::Refused(message), Place::Defaults) => self.old.problems.push(at.problem(message)),
            (Fault::Broken(message), Place::Service) => {
                self.warn_if_on(draft, at, format!("{message}; xinetd does not start the service"));
                draft.mark_broken(&attribute.to_ascii_lowercase());
            }
            (Fault::Broken(message), Place::Defaults) => {
                self.old.problems.push(at.problem(format!("{message}; xinetd would not start with this")));
            }
        }
    }

    fn read_include(&mut self, argument: &Word, name: &Rc<Path>, depth: usize) {
        let at = Location::in_file(name, argument.mark).under_key("include", argument.mark);
        let path: Rc<Path> = Path::new(&argument.text).into();
        match self.files.read_file(&path, &at, depth + 1) {
            Ok(bytes) => self.read_file(&bytes, &path, depth + 1),
            Err(problem) => self.old.warnings.push(problem),
        }
    }

    /// Reads the files of a directory in the order of their bytes, but those with a dot or a tilde at the end.
    fn read_include_directory(&mut self, argument: &Word, name: &Rc<Path>, depth: usize) {
        let at = Location::in_file(name, argument.mark).under_key("includedir", argument.mark);
        let directory = PathBuf::from(&argument.text);
        let found = match std::fs::read_dir(&directory) {
            Ok(found) => found,
            Err(error) => {
                let reason = crate::config::file::error_text(&error);
                return self.warn(&at, format!("cannot read the directory {}: {reason}", directory.display()));
            }
        };
        let mut names: Vec<_> = found.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        for file in names {
            let path: Rc<Path> = directory.join(&file).into();
            let file = file.to_string_lossy();
            let passed_over = file.contains('.') || file.ends_with('~');
            if passed_over && path.is_file() {
                self.warn(
                    &at,
                    format!("{} is not read: xinetd passes over names with a dot or a final ~", path.display()),
                );
            }
            if passed_over {
                continue;
            }
            match self.files.read_file(&path, &at, depth + 1) {
                Ok(bytes) => self.read_file(&bytes, &path, depth + 1),
                Err(problem) => self.old.warnings.push(problem),
            }
        }
    }

    fn warn(&mut self, at: &Location, message: impl Into<String>) {
        self.old.warnings.push(at.problem(message));
    }

    /// Warns, unless the entry is off: xinetd does not read on there.
    fn warn_if_on(&mut self, draft: &Draft, at: &Location, message: String) {
        if draft.state != State::Off {
            self.old.warnings.push(at.problem(message));
        }
    }

    fn make_services(mut self) -> OldTable {
        let drafts = std::mem::take(&mut self.drafts);
        self.old.daemon = service::daemon_spec(&self.defaults, &mut self.old.warnings);
        self.old.base = service::base_spec();
        let mut names = HashSet::new();
        let mut taken = service::Taken::default();
        for draft in drafts.into_iter().filter(|draft| draft.state != State::Broken) {
            let on = draft.state == State::On && self.defaults.permits_service(&draft);
            let made = service::make_spec(&draft, &self.defaults, &mut self.world, on);
            if on {
                self.old.warnings.extend(made.notes);
                self.old.problems.extend(draft.refused.iter().cloned());
            }
            let mut spec = match made.spec {
                Ok(spec) => spec,
                Err((at, Fault::Refused(message))) if on && draft.refused.is_empty() => {
                    self.old.problems.push(at.problem(message));
                    continue;
                }
                Err((at, Fault::Ignored(message) | Fault::Broken(message))) if on && draft.refused.is_empty() => {
                    self.warn(&at, format!("{message}; xinetd does not start the service"));
                    continue;
                }
                // One reason is enough.
                Err(_) => continue,
            };
            if !on {
                let at = draft.set.get("disable").unwrap_or(&draft.at).clone();
                spec.enabled = Some(Spanned { value: false, at });
            } else if let Some(first) = taken.claim_sockets(&spec, &draft.at) {
                let message = format!("this is the socket of the service at {first}; xinetd starts only that one");
                self.warn(&draft.at, message);
                continue;
            }
            let name = service::unique_name(&draft, &spec, &mut names);
            let entry = ServiceEntry { name, spec, at: draft.at, old: true };
            self.old.services.push(entry);
        }
        self.old
    }

    /// xinetd hands some of the defaults only to services that stand below them. Here they hold for all.
    fn warn_of_late_defaults(&mut self, defaults: &Draft, before: &[&str]) {
        let late = |name: &&&str| defaults.set.contains_key(**name) && !before.contains(*name);
        let late: Vec<&str> = BELOW.iter().filter(late).copied().collect();
        let above = self.drafts.iter().filter(|draft| draft.state == State::On);
        let above: Vec<&str> = above.map(|draft| draft.name.as_str()).collect();
        if !above.is_empty() && !late.is_empty() {
            let (late, above) = (late.join(", "), above.join(", "));
            let message =
                format!("xinetd does not apply {late} to services that stand above: {above}; here they hold for all");
            self.warn(&defaults.at, message);
        }
    }
}

/// The defaults that xinetd hands to what stands below them.
const BELOW: [&str; 8] = [
    "only_from",
    "no_access",
    "log_on_success",
    "log_on_failure",
    "passenv",
    "banner",
    "banner_success",
    "banner_fail",
];

fn printable_name(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
