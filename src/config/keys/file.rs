//! The sections of a file: `daemon`, `defaults`, `services` and `include`.

use serde_json::{Value as Json, json};
use serde_yaml::Value as Yaml;

use super::daemon::DaemonSpec;
use super::kinds::{Each, List, Placed, Sub};
use super::service::{ServiceSpec, read_service};
use crate::config::dialect::{DIALECTS, Dialect};
use crate::config::location::{SpannedList, SpannedMap};
use crate::config::reader::{Expected, ValueReader};
use crate::config::values::Form;

section! {
    /// A file.
    pub(crate) struct FileSpec {
        /// The daemon itself.
        daemon: Placed<DaemonSpec> = Sub::Here;
        /// What holds for every service of this file, and of those it includes, that does not say otherwise.
        defaults: ServiceSpec = Sub::OfDefaults;
        /// The services, each under its name.
        services: SpannedMap<ServiceSpec> = Each(read_service);
        /// Files to read as well, relative to this one: of this form, or inetd.conf or xinetd.conf files.
        include: SpannedList<Include> = List(include_form());
    }
}

/// An entry of `include`.
#[derive(Clone, Debug)]
pub(crate) struct Include {
    pub pattern: String,
    /// The files are an inetd.conf of this dialect, and need not look like one.
    pub dialect: Option<Dialect>,
}

/// `PATTERN`, or `{ path: PATTERN, dialect: DIALECT }`.
fn include_form() -> Form<Include> {
    Form { read: read_include, write: write_include, schema: include_schema }
}

fn read_include(reader: &ValueReader<'_>) -> Result<Include, Expected> {
    let Yaml::Mapping(map) = reader.value else {
        let pattern = if reader.value.is_null() { String::new() } else { reader.read_text()? };
        return Ok(Include { pattern, dialect: None });
    };
    let known = map.keys().all(|key| matches!(key.as_str(), Some("path" | "dialect")));
    let path = map.get("path").and_then(Yaml::as_str).filter(|_| known).map(str::to_owned);
    match (path, map.get("dialect")) {
        (Some(pattern), None) => Ok(Include { pattern, dialect: None }),
        (Some(pattern), Some(Yaml::String(dialect))) => Ok(Include { pattern, dialect: Some(dialect.parse()?) }),
        _ => Err(reader.expected_error("a path, or { path: PATH, dialect: DIALECT }")),
    }
}

fn write_include(Include { pattern, dialect }: &Include) -> Yaml {
    let Some(dialect) = dialect else { return pattern.as_str().into() };
    let pairs = [("path", pattern.clone()), ("dialect", dialect.to_string())];
    Yaml::Mapping(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
}

fn include_schema() -> Json {
    let dialects = DIALECTS.map(|(name, _)| name);
    let keys = json!({
        "path": { "type": "string", "description": "A path, or a pattern of paths." },
        "dialect": { "enum": dialects, "description": "Which inetd the file is written for." },
    });
    let map = json!({ "type": "object", "properties": keys, "required": ["path"], "additionalProperties": false });
    json!({ "anyOf": [{ "type": ["string", "null"] }, map] })
}
