//! Maps whose keys are not those of a section: resource limits and the environment.
//!
//! The section for services names them as notations of its keys.

use serde_json::{Map as JsonMap, Value as Json, json};
use serde_yaml::Value as Yaml;

use super::kinds::Map;
use crate::config::reader::{Expected, ValueReader, list_alternatives};
use crate::config::units;
use crate::config::values::{Form, check_variable_name, word_schema};
use crate::config::{Resource, Rlimit};

/// The resources that can be limited, whether they count bytes, and what they are.
const RESOURCES: [(&str, Resource, bool, &str); 9] = [
    ("nofile", Resource::Nofile, false, "Open files"),
    ("as", Resource::As, true, "Address space"),
    ("cpu", Resource::Cpu, false, "Seconds of processor time"),
    ("data", Resource::Data, true, "Data segment"),
    ("fsize", Resource::Fsize, true, "Size of a file that is written"),
    ("stack", Resource::Stack, true, "Stack"),
    ("core", Resource::Core, true, "Size of a core dump"),
    ("nproc", Resource::Nproc, false, "Processes of the user"),
    ("memlock", Resource::Memlock, true, "Locked memory"),
];

/// Limits of resources: for each a value for both limits, or `soft:hard`.
pub(super) fn rlimits_kind() -> Map<Rlimit> {
    Map { read: read_rlimit, write: write_rlimit, schema: rlimits_schema }
}

fn rlimit_expected(bytes: bool) -> &'static str {
    if bytes { "a size, such as 64M, unlimited or 64M:1G" } else { "a number, unlimited or SOFT:HARD" }
}

fn read_rlimit(name: &str, reader: &ValueReader<'_>) -> Result<(String, Rlimit), Expected> {
    let Some((_, resource, bytes, _)) = RESOURCES.iter().find(|(resource, ..)| *resource == name) else {
        let names = RESOURCES.map(|(name, ..)| name);
        return Err(format!("unknown key; known here are: {}", list_alternatives(&names)).into());
    };
    let one = |text: &str| match text {
        "unlimited" => Some(u64::MAX),
        _ if *bytes => units::parse_size(text),
        _ => units::parse_digits(text),
    };
    let (soft, hard) = reader.parse(rlimit_expected(*bytes), |text| {
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        Some((one(soft)?, one(hard)?))
    })?;
    if soft > hard {
        return Err(reader.expected_error("a soft limit (the first) not above the hard one"));
    }
    Ok((name.to_owned(), Rlimit { resource: *resource, soft, hard }))
}

fn write_rlimit(limit: &Rlimit) -> Yaml {
    let one = |value: u64| if value == u64::MAX { "unlimited".to_owned() } else { value.to_string() };
    format!("{}:{}", one(limit.soft), one(limit.hard)).into()
}

fn rlimits_schema() -> Json {
    let key = |(name, _, bytes, meaning): &(&str, Resource, bool, &str)| {
        ((*name).to_owned(), word_schema(&format!("{meaning}: {}.", rlimit_expected(*bytes))))
    };
    let keys: JsonMap<_, _> = RESOURCES.iter().map(key).collect();
    json!({ "type": ["object", "null"], "properties": keys, "additionalProperties": false })
}

/// The name of a resource in the table.
pub(crate) fn resource_name(resource: Resource) -> &'static str {
    RESOURCES.iter().find(|(_, known, ..)| *known == resource).map_or("", |(name, ..)| name)
}

/// Variables and their values.
pub(super) fn variables_kind() -> Map<String> {
    Map {
        read: |name, reader| Ok((check_variable_name(name)?, reader.read_word("a text")?)),
        write: |value| value.as_str().into(),
        schema: || json!({ "type": ["object", "null"], "properties": {}, "additionalProperties": word_schema("a text") }),
    }
}

/// The name of a variable.
pub(super) fn variable_name() -> Form<String> {
    const EXPECTED: &str = "a variable's name, such as LANG";
    Form {
        read: |reader| Ok(check_variable_name(&reader.read_word(EXPECTED)?)?),
        write: |name| name.as_str().into(),
        schema: || word_schema(EXPECTED),
    }
}
