//! What files of inetd are understood as: each `inetd_conf/SHAPE.DIALECT.conf` with `SHAPE.DIALECT.expect`, which were
//! written from the manuals and sources of the daemons. First what is said, a line each, errors and `warning:`s; then the
//! services, a line each, with what differs from what the daemon always does.
//!
//! The files were written for this test, one for each shape that real files have.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::fake_machine::{self, FakeMachine};
use oxinetd::compat::{Options, load_with};
use oxinetd::config::{Problem, Service, Stderr, WhenFull};

const DIRECTORY: &str = "tests/compat/inetd_conf/";

/// What is said about a file, and what is in it.
fn understood(file: &Path) -> String {
    let name = file.file_name().unwrap().to_str().unwrap();
    let dialect = name.split('.').rev().nth(1).unwrap().parse().unwrap();
    let options = Options { machine: &FakeMachine::default(), dialect };
    let text = |problems: &[Problem], before: &str| -> String {
        problems.iter().map(|problem| format!("{before}{problem}\n").replace(DIRECTORY, "")).collect()
    };
    match load_with(&[file.to_owned()], &options).loaded() {
        Ok(loaded) => {
            text(&loaded.warnings, "warning: ")
                + &loaded.table.services.iter().map(|service| line(service)).collect::<String>()
        }
        Err(problems) => text(&problems, ""),
    }
}

/// A service in a line.
fn line(service: &Service) -> String {
    let Service { name, listen, program, .. } = service;
    let mut words = vec![format!("{name}:")];
    words.extend((!service.enabled).then(|| "off".to_owned()));
    words.extend(listen.iter().map(ToString::to_string));
    words.extend(service.wait.then(|| "wait".to_owned()));
    words.extend(service.tcpmux.iter().map(|name| format!("by {name}")));
    if let Some(credentials) = &service.credentials {
        let group = Some(credentials.gid).filter(|gid| *gid != fake_machine::number(&credentials.user));
        words.push(format!("as {}{}", credentials.user, group.map_or_else(String::new, |gid| format!(":{gid}"))));
    }
    if let Some(builtin) = &program.builtin {
        words.push(format!("builtin {}", builtin.kind.name()));
    } else {
        words.push(format!("run {}", program.path.to_str().unwrap()));
        words.push(format!("{:?}", program.argv.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>()));
    }
    limits(service, &mut words);
    words.join(" ") + "\n"
}

fn limits(service: &Service, words: &mut Vec<String>) {
    let rate = |limit: &oxinetd::config::RateLimit| {
        assert_eq!((limit.per.as_secs(), limit.burst), (60, limit.events), "{}", service.name);
        limit.events
    };
    words.extend(service.rate.as_ref().map(|limit| format!("rate={}", rate(limit))));
    words.extend(service.instances.map(|limit| format!("instances={limit}")));
    words.extend(service.per_source.rate.as_ref().map(|limit| format!("source_rate={}", rate(limit))));
    words.extend(service.per_source.instances.map(|limit| format!("source_instances={limit}")));
    words.extend(service.socket.send_buffer.map(|size| format!("send={size}")));
    words.extend(service.socket.receive_buffer.map(|size| format!("receive={size}")));
    words.extend(service.socket.owner.map(|(uid, gid)| format!("owner={uid}:{gid}")));
    words.extend(service.socket.mode.map(|mode| format!("mode={mode:04o}")));
    assert_eq!((service.stderr, service.when_full), (Stderr::Connection, WhenFull::Queue), "{}", service.name);
}

#[test]
fn every_shape_is_read_as_its_daemon_reads_it() {
    let mut files: Vec<PathBuf> = fs::read_dir(DIRECTORY).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    assert!(files.len() > 20, "only {} files", files.len());
    let mut wrong = String::new();
    for file in files {
        let expected = fs::read_to_string(file.with_extension("expect")).unwrap_or_default();
        let found = understood(&file);
        if found != expected {
            wrong += &format!("== {}\n-- expected:\n{expected}-- found:\n{found}", file.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
