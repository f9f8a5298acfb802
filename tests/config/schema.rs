//! The schemas that are shipped are the program's own, and an independent validator (Python's jsonschema) takes by them
//! what the program takes: the tables of etc/, README and manual pages, what `--dump` writes, and every answer of a daemon.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::validator::{PROTOCOL, TABLE, must_be_valid, schema, strict_protocol, validate};
use crate::support::{self, Daemon, hold, services};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A table as JSON, merge keys merged as editors merge them.
fn yaml(text: &str) -> Value {
    let mut table: serde_yaml::Value = serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    table.apply_merge().unwrap();
    serde_json::to_value(table).unwrap()
}

/// The literal blocks of manual pages and the fenced ones of the README that are tables.
fn examples() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for page in ["man/oxinetd.8", "man/oxinetd.yaml.5", "man/oxinetctl.8"] {
        let text = fs::read_to_string(path(page)).unwrap();
        for block in text.split("\n.Bd -literal").skip(1) {
            let body = block.split_once('\n').unwrap().1.split("\n.Ed").next().unwrap();
            found.push((page, body.replace("\\e", "\\").replace("\\(dq", "\"").replace("\\-", "-").replace("\\&", "")));
        }
    }
    let readme = fs::read_to_string(path("README.md")).unwrap();
    found.extend(
        readme.split("```yaml\n").skip(1).map(|rest| ("README.md", rest.split("```").next().unwrap().to_owned())),
    );
    let is_table = |text: &str| text.lines().any(|line| ["daemon:", "defaults:", "services:"].contains(&line));
    found.into_iter().filter(|(_, text)| is_table(text)).map(|(name, text)| (name.to_owned(), yaml(&text))).collect()
}

/// The tables of etc/.
fn files() -> Vec<PathBuf> {
    let mut files = vec![path("etc/oxinetd.yaml"), path("etc/quickstart.yaml")];
    files.extend(fs::read_dir(path("etc/services.d")).unwrap().map(|entry| entry.unwrap().path()));
    files
}

#[test]
fn shipped_schemas_are_those_of_the_program() {
    for (name, arguments) in [(TABLE, &["schema"][..]), (PROTOCOL, &["schema", "--protocol"])] {
        let output = Command::new(env!("CARGO_BIN_EXE_oxinetctl")).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let same = text == fs::read_to_string(path(name)).unwrap();
        assert!(same, "{name} is out of date: oxinetctl {} > {name}", arguments.join(" "));
    }
}

#[test]
fn examples_and_shipped_tables_are_valid() {
    let mut documents = examples();
    assert!(documents.len() >= 8, "only {} examples", documents.len());
    documents.extend(
        files().into_iter().map(|file| (file.display().to_string(), yaml(&fs::read_to_string(&file).unwrap()))),
    );
    must_be_valid(&schema(TABLE), &documents);
}

#[test]
fn dumps_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let rich = folder.path().join("rich.yaml");
    fs::write(
        &rich,
        "daemon: { control: none, log: { to: stderr } }\nservices:\n  a:\n    listen: [10007, 'unix:/run/x.sock']\n    \
         program: [/bin/cat]\n    rate: 5/s\n    times: ['08:00-18:00']\n    allow: [192.0.2.0/24]\n    max_load: 2.5\n    \
         lifetime: 90s\n    refuse: { text: no }\n    rlimits: { as: 64M }\n    env: { A: b }\n    penalties: { crash: 1m }\n    \
         per_network: { instances: 3 }\n    socket: { defer_accept: 5s, send_buffer: 64k, mode: '0600' }\n",
    )
    .unwrap();
    let dump = |file: PathBuf| {
        let output = Command::new(support::OXINETD).arg("--dump").arg("-c").arg(&file).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        (file.display().to_string(), yaml(std::str::from_utf8(&output.stdout).unwrap()))
    };
    must_be_valid(&schema(TABLE), &[dump(path("etc/oxinetd.yaml")), dump(path("etc/quickstart.yaml")), dump(rich)]);
}

#[test]
fn wrong_tables_are_invalid() {
    let service = |keys: Value| {
        let mut service = json!({ "listen": 7, "program": "/bin/cat" });
        service.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        json!({ "services": { "x": service } })
    };
    let wrong = [
        json!({ "service": {} }),
        json!({ "services": { "x": { "program": "/bin/cat" } } }),
        json!({ "defaults": { "listen": 7 } }),
        json!({ "daemon": { "instances": 0 } }),
        json!({ "daemon": { "log": { "level": "loud" } } }),
        service(json!({ "progam": "/bin/cat" })),
        service(json!({ "rate": "5 per second" })),
        service(json!({ "umask": 22 })),
        service(json!({ "nice": 20 })),
        service(json!({ "wait": "yes" })),
        service(json!({ "rlimits": { "files": 3 } })),
        service(json!({ "per_source": { "rate": "1/fortnight" } })),
        service(json!({ "refuse": { "text": "x".repeat(513) } })),
        service(json!({ "lifetime": "1 hour" })),
    ];
    let Some(faults) = validate(&schema(TABLE), &wrong) else { return };
    for (document, fault) in wrong.iter().zip(faults) {
        assert!(fault.is_some(), "{document}");
    }
}

#[test]
fn every_request_and_every_answer_is_valid() {
    let keys = "program: /bin/cat, per_source: { instances: 2, rate: 90/min }, per_network: { instances: 9 }";
    let ([cat, _], table) = services([("cat", keys), ("date", "program: [/bin/date, -u]")]);
    let daemon = Daemon::start(&table);
    let _sessions = [hold(cat), hold(cat)];
    drop(support::connect(cat));
    let requests = [
        json!({ "command": "status" }),
        json!({ "version": 1, "command": "sources", "top": 5, "service": "cat" }),
        json!({ "command": "audit" }),
        json!({ "command": "explain", "service": "cat", "address": "127.0.0.1" }),
        json!({ "command": "drain", "service": "date" }),
        json!({ "command": "resume", "service": "date" }),
        json!({ "command": "ban", "network": "192.0.2.0/24", "seconds": 60 }),
        json!({ "command": "bans" }),
        json!({ "command": "unban", "network": "192.0.2.0/24" }),
        json!({ "command": "reload" }),
        json!({ "command": "upgrade" }),
    ];
    let schema = strict_protocol();
    let known = schema["definitions"]["Request"]["oneOf"].as_array().unwrap();
    for one in known {
        let command = &one["properties"]["command"]["const"];
        assert!(requests.iter().any(|request| request["command"] == *command), "{command} is not tried");
    }
    let mut documents: Vec<(String, Value)> =
        requests.iter().map(|request| (format!("request {request}"), request.clone())).collect();
    // All on one connection, one after the other; what is refused first.
    let stream = UnixStream::connect(daemon.path("control.sock")).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut ask = |line: &str| {
        (&stream).write_all(format!("{line}\n").as_bytes()).unwrap();
        let answer: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        documents.push((format!("answer to {line}"), answer.clone()));
        answer
    };
    for (line, code) in [
        ("nonsense", "bad_request"),
        (r#"{"command":"status","version":2}"#, "version"),
        (r#"{"command":"drain","service":"dog"}"#, "no_such_service"),
        (r#"{"command":"ban","network":"nowhere"}"#, "no_such_address"),
    ] {
        assert_eq!(ask(line)["error"]["code"], code, "{line}");
    }
    for request in &requests {
        let answer = ask(&request.to_string());
        assert_eq!((&answer["command"], &answer["version"]), (&request["command"], &json!(1)), "{answer}");
    }
    must_be_valid(&schema, &documents);
    let Some(faults) = validate(&schema, &[json!({ "command": "status", "now": true }), json!({ "version": 1 })])
    else {
        return;
    };
    assert!(faults.iter().all(Option::is_some), "{faults:?}");
}
