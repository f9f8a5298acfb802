//! Reads inetd.conf(5), in six dialects, into specifications of services.
//!
//! Only [`super::load`] and the import of oxinetctl(8) call [`read_table`]. The way of a line: [`lines`] splits it
//! into words, [`fields`] or [`pairs`] make an `Entry` of them, [`places`] finds out which sockets it gets beside
//! the other entries, [`service`] turns it into a `ServiceSpec`, [`names`] gives it a name. [`lints`] warns of
//! probable mistakes. [`dialect`] holds all that differs from daemon to daemon.
//!
//! An entry that the old daemon refuses is left out, with a warning. An entry that it serves and oxinetd cannot
//! serve is a problem. Nothing here stops at either, and any bytes will do.

mod dialect;
mod lints;
mod entry;
mod fields;
mod limits;
mod lines;
mod names;
mod pairs;
mod places;
mod reading;
mod service;

use crate::config::dialect::Dialect;

use std::path::Path;
use std::rc::Rc;

use crate::config::endpoint::Ports;
use crate::config::files::{Files, expand_pattern};
use crate::config::format::{OldTable, ServiceEntry};
use crate::config::location::Location;
use crate::config::machine::Machine;
use crate::config::problem::LineCol;
use entry::Entry;
use lines::{Cursor, Line};
use names::Names;
use reading::{POLICY, Reading};

/// Reads a file and those that it includes.
pub(super) fn read_table(
    bytes: &[u8],
    name: &Rc<Path>,
    dialect: Dialect,
    depth: usize,
    files: &mut Files,
    machine: &dyn Machine,
) -> OldTable {
    let mut reading = Reading {
        dialect,
        machine,
        ports: Ports::new(machine),
        names: None,
        file: Rc::clone(name),
        hosts: vec!["*".to_owned()],
        policy: None,
        old: OldTable {
            base: service::base_spec(dialect, &Location::in_file(name, LineCol::default())),
            ..OldTable::default()
        },
    };
    let mut entries = Vec::new();
    reading.read_file(bytes, depth, files, &mut entries);
    reading.make_services(entries);
    reading.old
}

impl Reading<'_> {
    fn read_file(&mut self, bytes: &[u8], depth: usize, files: &mut Files, entries: &mut Vec<Entry>) {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut cursor = Cursor::new(bytes, self.dialect);
        self.warn_carriage_return(cursor.carriage);
        while let Some(line) = cursor.next_line() {
            if line.policy {
                self.policy = line.words.first().map(|word| word.mark);
            } else if self.dialect == Dialect::Netbsd && line.words[0].text.starts_with('.') && !line.off {
                self.read_directive(&line, depth, files, entries);
            } else if self.read_entry(&line, &mut cursor, entries).is_err() {
                return;
            }
        }
    }

    /// Reads the entry of a line. `Err` if the file can't be read any further.
    fn read_entry(&mut self, line: &Line, cursor: &mut Cursor<'_>, entries: &mut Vec<Entry>) -> Result<(), ()> {
        let (problems, warnings) = (self.old.problems.len(), self.old.warnings.len());
        let pairs = self.dialect == Dialect::Netbsd
            && line.words.get(1).is_some_and(|word| matches!(word.text.split('#').next(), Some("on" | "off")));
        let entry = if pairs && !line.off {
            let entry = self.read_pair_entry(line, cursor)?;
            cursor.end_entry();
            entry
        } else {
            self.read_fields(line)
        };
        let off = line.off || entry.as_ref().is_some_and(|entry| entry.off);
        let entry = entry.and_then(|mut entry| self.find_places(&mut entry).map(|()| entry));
        let entry = entry.and_then(|entry| self.check_policy(entry));
        let entry = entry.and_then(|entry| self.check_internal(&entry).map(|()| entry));
        if off {
            // Nobody asks whether a comment is right.
            self.old.problems.truncate(problems);
            self.old.warnings.truncate(warnings);
        }
        entries.extend(entry);
        Ok(())
    }

    /// An entry under an IPsec policy would be open without it.
    fn check_policy(&mut self, entry: Entry) -> Option<Entry> {
        match self.policy {
            Some(mark) => self.refuse(&entry.at.moved_to(mark), POLICY),
            None => Some(entry),
        }
    }

    fn make_services(&mut self, entries: Vec<Entry>) {
        let mut names = Names::default();
        let mut entries = self.settle_entries(entries);
        // Those that are on have the first choice of names.
        entries.sort_by_key(|entry| entry.off);
        let mut services = Vec::with_capacity(entries.len());
        for entry in &entries {
            let (problems, warnings) = (self.old.problems.len(), self.old.warnings.len());
            let spec = self.make_spec(entry);
            if entry.off {
                self.old.problems.truncate(problems);
                self.old.warnings.truncate(warnings);
            }
            if let Some(spec) = spec {
                let name = names.give_name(entry);
                services.push(ServiceEntry { name, spec, at: entry.at.clone(), old: true });
            }
        }
        services.sort_by_key(|service| service.at.line_col());
        self.old.services = services;
    }

    /// `.include PATTERN`.
    fn read_directive(&mut self, line: &Line, depth: usize, files: &mut Files, entries: &mut Vec<Entry>) {
        let at = self.entry_location(&line.words[0]);
        let pattern = match &line.words[..] {
            [word, pattern, ..] if word.text == ".include" => pattern.text.clone(),
            _ => return self.warn(&at, "this is no directive to inetd; there is .include PATTERN"),
        };
        for path in expand_pattern(&pattern, &at, &mut self.old.problems) {
            let name: Rc<Path> = path.as_path().into();
            match files.read_file(&name, &at, depth + 1) {
                Err(problem) => self.old.problems.push(problem),
                Ok(bytes) => self.read_included(&name, &bytes, depth + 1, files, entries),
            }
        }
    }

    /// Reads an included file, which takes the addresses and the policy of this one and gives nothing back.
    fn read_included(
        &mut self,
        name: &Rc<Path>,
        bytes: &[u8],
        depth: usize,
        files: &mut Files,
        entries: &mut Vec<Entry>,
    ) {
        let (file, hosts, policy) = (Rc::clone(&self.file), self.hosts.clone(), self.policy);
        self.file = Rc::clone(name);
        self.read_file(bytes, depth, files, entries);
        (self.file, self.hosts, self.policy) = (file, hosts, policy);
    }

    fn warn_carriage_return(&mut self, line: Option<usize>) {
        let Some(line) = line.filter(|_| self.dialect != Dialect::Gnu) else { return };
        let at = Location::in_file(&self.file, LineCol { line, column: 0 });
        let message = format!(
            "this file has lines that end in a carriage return, which {} takes for a letter of the last word; oxinetd \
             passes over it",
            self.daemon_name()
        );
        self.warn(&at, message);
    }
}
