//! Translates tables of old formats into YAML.
//!
//! oxinetctl(8) calls [`import`]. What it writes gives the same table as the old files do: each service has the
//! keys that its own file gave it, and what all have alike stands once, in `defaults`. Ports are numbers, with the
//! name that was written as a comment; comments of the old files stay with the services that they stand before.
//! What can't be translated is left out, and said.

mod comments;
mod common;
mod hopeful;
mod written;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_yaml::Mapping;

use crate::compat::format::{self, Format};
use crate::compat::{Options, Readers, load_with};
use crate::config::Reading;
use crate::config::check::Checker;
use crate::config::endpoint::Ports;
use crate::config::file;
use crate::config::format::ServiceEntry;
use crate::config::keys::kinds;
use crate::config::load::{self, Reader};
use crate::config::location::Location;
use crate::config::problem::{LineCol, Problem};
use crate::config::yaml;
use comments::Comments;
use common::extract_common;
use hopeful::Hopeful;
use written::Written;

/// A translated table.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The table.
    pub yaml: String,
    /// The lines that are not in it, each with the reason.
    pub problems: Vec<Problem>,
    /// Lines that may not mean what they seem to, and entries that the old daemon leaves out too.
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
    let mut services = translate_services(&reader.entries, options);
    let here: HashSet<&str> = services.iter().map(|service| service.entry.name.as_str()).collect();
    let hopeful = Options { machine: &Hopeful(options.machine), ..*options };
    let mut all = Reader::new(load::Options { machine: hopeful.machine, formats: &formats });
    read_old_files(&mut all, files)?;
    let mut absent = self::translate_services(&all.entries, &hopeful);
    absent.retain(|service| !here.contains(service.entry.name.as_str()));
    let daemon = reader.daemon.as_ref().map(|(spec, _)| kinds::write_section(spec)).unwrap_or_default();
    let yaml = table_text(files, &daemon, &mut services, &absent);
    let Reading { table, warnings } = load_with(files, options);
    let problems = table.err().unwrap_or_default();
    Ok(Imported { yaml, problems, warnings })
}

/// Reads files that must be of an old format. Problems with single services are reported when they are loaded.
fn read_old_files(reader: &mut Reader<'_>, files: &[PathBuf]) -> Result<(), Vec<Problem>> {
    let mut wrong = Vec::new();
    for file in files {
        let name: Rc<Path> = file.as_path().into();
        let at = Location::in_file(&name, LineCol::default());
        let opened = file::open_file(&name).and_then(|(file, _)| file::read_bytes(file, &name));
        match opened.map(|bytes| (format::says_nothing(&bytes), format::recognise_format(&bytes))) {
            Err(message) => wrong.push(at.problem(message)),
            Ok((false, Format::Yaml)) => wrong.push(at.problem("this is no inetd.conf and no xinetd.conf")),
            Ok((_, Format::Yaml)) => {}
            Ok(_) => reader.read_file(file, &at, None, &Rc::default(), 0),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// The services that make it into the table.
fn translate_services<'a>(entries: &'a [ServiceEntry], options: &Options<'_>) -> Vec<Written<'a>> {
    let mut checker = Checker::new(options.machine);
    let mut ports = Ports::new(options.machine);
    let mut names = HashSet::new();
    let mut services = Vec::new();
    for entry in entries {
        let Some((service, _)) = load::check_entry(&mut checker, entry) else { continue };
        if names.insert(entry.name.as_str()) {
            services.push(Written::new(entry, &service, &mut ports));
        }
    }
    services
}

/// The whole file. Services that can't be here, since something of theirs is not, are comments.
fn table_text(files: &[PathBuf], daemon: &Mapping, services: &mut [Written<'_>], absent: &[Written<'_>]) -> String {
    let from: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let mut out = format!("# Translated from {}.\n", from.join(", "));
    let defaults = extract_common(services);
    for (name, map) in [("daemon", daemon), ("defaults", &defaults)] {
        if !map.is_empty() {
            out += &format!("{name}:\n");
            yaml::write_entries(map, 2, &|_| None, &mut out);
        }
    }
    out += if services.is_empty() { "services: {}\n" } else { "services:\n" };
    let mut comments = Comments::default();
    for service in services.iter() {
        out += &service.service_text(&mut comments);
    }
    if !absent.is_empty() {
        out += "  # Not in the table, since a user, group or program of theirs is not on this machine:\n";
    }
    for service in absent {
        let text = service.service_text(&mut comments);
        out += &text.lines().map(|line| format!("  # {}\n", &line[2..])).collect::<String>();
    }
    out
}
