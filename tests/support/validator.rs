//! An independent validator of JSON Schema, Python's jsonschema, and the schemas that are shipped.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::skip;

/// The schema of the service table.
pub const TABLE: &str = "etc/oxinetd.schema.json";

/// The schema of what is said over the control socket.
pub const PROTOCOL: &str = "etc/oxinetd-control.schema.json";

/// A schema of the repository.
pub fn schema(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()).unwrap()
}

/// A Python that has jsonschema.
fn python() -> Option<&'static str> {
    let has = |python: &&str| {
        let import = Command::new(python).args(["-c", "import jsonschema"]).stderr(Stdio::null()).status();
        import.is_ok_and(|status| status.success())
    };
    ["python3", "/usr/bin/python3"].into_iter().find(has)
}

/// The first fault of each document, or `None` if it is valid. Nothing at all where there is no validator.
pub fn validate(schema: &Value, documents: &[Value]) -> Option<Vec<Option<String>>> {
    const SCRIPT: &str = "import json, sys, jsonschema\n\
        told = json.load(sys.stdin)\n\
        jsonschema.Draft7Validator.check_schema(told['schema'])\n\
        validator = jsonschema.Draft7Validator(told['schema'])\n\
        first = lambda document: next((e.json_path + ': ' + e.message for e in validator.iter_errors(document)), None)\n\
        json.dump([first(document) for document in told['documents']], sys.stdout)\n";
    let Some(python) = python() else {
        skip("no Python with jsonschema");
        return None;
    };
    let mut child = Command::new(python)
        .args(["-W", "ignore", "-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let told = json!({ "schema": schema, "documents": documents });
    child.stdin.take().unwrap().write_all(told.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// Each of these must be valid.
pub fn must_be_valid(schema: &Value, documents: &[(String, Value)]) {
    let values: Vec<_> = documents.iter().map(|(_, value)| value.clone()).collect();
    let Some(faults) = validate(schema, &values) else { return };
    for ((name, value), fault) in documents.iter().zip(faults) {
        assert_eq!(fault, None, "{name}: {value}");
    }
}

/// The protocol, with no key allowed that is not in it: today's daemon sends none, though a newer one may.
pub fn strict_protocol() -> Value {
    let mut schema = schema(PROTOCOL);
    for (name, definition) in schema["definitions"].as_object_mut().unwrap() {
        if definition["properties"].is_object() && name != "Answer" {
            definition["additionalProperties"] = json!(false);
        }
    }
    schema
}
