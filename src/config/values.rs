//! Readers of the values that keys take: from an [`Item`] to a checked value, or to what was expected.
//!
//! Only [`super::schema`] calls them. They look at nothing but the item.

use std::time::Duration;

use ipnet::IpNet;
use serde_json::json;
use serde_yaml::Value;

use super::section::{Item, Read};
use super::units::{self, Rate};
use super::{CONNECTION_VARIABLES, ControlPlace, LogTarget, Refuse, Resource, Rlimit};

/// The most that fits into one packet that nobody waits for.
const REFUSE_TEXT: usize = 512;

/// A whole number in a range, as any type that holds the range.
pub(crate) fn number<T: TryFrom<i64>>(item: Item<'_>, least: i64, most: i64) -> Read<T> {
    let number = item.integer(least, most)?;
    T::try_from(number).map_err(|_| item.not(&format!("a whole number from {least} to {most}")))
}

/// A limit on handlers: at least 1, or `unlimited` (`None`).
pub(crate) fn count(item: Item<'_>) -> Read<Option<u32>> {
    item.note(
        || json!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": u32::MAX }, { "const": "unlimited" }] }),
    );
    if item.value.as_str() == Some("unlimited") {
        return Ok(None);
    }
    let number = item.value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0);
    number.map(Some).ok_or_else(|| item.not("a whole number from 1, or unlimited"))
}

/// `program`: a list of words, or a text to be split into them.
pub(crate) fn words(item: Item<'_>) -> Read<Vec<String>> {
    let expected = "a command, such as [/bin/cat, -u] or \"/bin/cat -u\"";
    item.note(|| {
        let word = json!({ "type": ["string", "number", "boolean"] });
        json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": word, "minItems": 1 }], "description": expected })
    });
    let words = match item.value {
        Value::Sequence(elements) => elements
            .iter()
            .enumerate()
            .map(|(index, value)| item.element(index, value).word("a word as argument"))
            .collect::<Read<Vec<_>>>()?,
        Value::String(text) => {
            shlex::split(text).ok_or_else(|| format!("a quotation mark or backslash is left open in {text:?}"))?
        }
        _ => return Err(item.not(expected)),
    };
    if words.is_empty() { Err(format!("expected {expected}, not an empty one")) } else { Ok(words) }
}

/// Supplementary groups as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Groups {
    /// Those of the user.
    All,
    /// Exactly these, by name or number.
    These(Vec<String>),
}

/// `groups`: `all`, `none` or a list.
pub(crate) fn groups(item: Item<'_>) -> Read<Groups> {
    item.note(|| {
        let word = json!({ "type": ["string", "number", "boolean"] });
        json!({ "anyOf": [{ "enum": ["all", "none"] }, { "type": "array", "items": word }] })
    });
    match item.value {
        Value::String(word) if word == "all" => Ok(Groups::All),
        Value::String(word) if word == "none" => Ok(Groups::These(Vec::new())),
        Value::Sequence(elements) => elements
            .iter()
            .enumerate()
            .map(|(index, value)| item.element(index, value).word("a group's name or number"))
            .collect::<Read<Vec<_>>>()
            .map(Groups::These),
        _ => Err(item.not("all, none or a list of groups")),
    }
}

/// A path from the root.
pub(crate) fn absolute(item: Item<'_>) -> Read<String> {
    item.parse("an absolute path, such as /srv", |path| path.starts_with('/').then(|| path.to_owned()))
}

/// A file mode or mask. A YAML number would lose its leading zero, and its meaning with it.
pub(crate) fn mode(item: Item<'_>, example: &str) -> Read<u32> {
    let expected = format!("an octal number up to 777 in quotes, such as \"{example}\"");
    item.note(|| json!({ "type": "string", "pattern": "^(0o)?[0-7]+$", "description": expected }));
    match item.value {
        Value::String(text) => units::mode(text).ok_or_else(|| item.not(&expected)),
        _ => Err(item.not(&expected)),
    }
}

/// A duration above 0.
pub(crate) fn positive(item: Item<'_>) -> Read<Duration> {
    item.note(|| {
        let pattern = "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";
        json!({ "type": "string", "pattern": pattern, "description": "a duration, such as 90s or 1h30m" })
    });
    item.parse("a duration, such as 90s or 1h30m", |text| units::duration(text).filter(|time| !time.is_zero()))
}

/// So many in a time.
pub(crate) fn rate(item: Item<'_>) -> Read<Rate> {
    item.note(|| {
        let expected = "a rate, such as 50/s, 30/min, 1000/h or 5000/day";
        json!({ "type": "string", "pattern": "^[0-9]+/(s|min|h|day)$", "description": expected })
    });
    item.parse("a rate, such as 50/s, 30/min, 1000/h or 5000/day", units::rate)
}

/// A network without host bits.
pub(crate) fn network(item: Item<'_>) -> Read<IpNet> {
    let network = item.parse("a network or an address, such as 192.0.2.0/24 or 2001:db8::/32", units::network)?;
    network.map_err(|meant| item.not(&format!("a network without host bits, such as {meant}")))
}

/// A variable's name that the table may set.
pub(crate) fn variable(name: &str) -> Read<String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(format!("{name:?} cannot be a variable's name: it must not be empty or hold ="));
    }
    if CONNECTION_VARIABLES.contains(&name) {
        return Err(format!("{name} is set by oxinetd for each connection, and by nobody else"));
    }
    Ok(name.to_owned())
}

/// Where logs go.
pub(crate) fn log_target(item: Item<'_>) -> Read<LogTarget> {
    item.parse("syslog, journal, stderr or an absolute path", |text| match text {
        "syslog" => Some(LogTarget::Syslog),
        "journal" => Some(LogTarget::Journal),
        "stderr" => Some(LogTarget::Stderr),
        path => path.starts_with('/').then(|| LogTarget::File(path.into())),
    })
}

/// Where the control socket is.
pub(crate) fn control_place(item: Item<'_>) -> Read<ControlPlace> {
    item.parse("default, none or an absolute path", |text| match text {
        "default" => Some(ControlPlace::Default),
        "none" => Some(ControlPlace::None),
        path => path.starts_with('/').then(|| ControlPlace::At(path.into())),
    })
}

/// `reset`, `close` or `{ text: "…" }`.
pub(crate) fn refuse(item: Item<'_>) -> Read<Refuse> {
    let expected = "reset, close or { text: \"…\" }";
    item.note(|| {
        let text = json!({ "text": { "type": "string", "maxLength": REFUSE_TEXT, "description": "What he is sent." } });
        let text = json!({ "type": "object", "properties": text, "required": ["text"], "additionalProperties": false });
        json!({ "anyOf": [{ "enum": ["reset", "close"] }, text], "description": expected })
    });
    match item.value {
        Value::String(word) if word == "reset" => Ok(Refuse::Reset),
        Value::String(word) if word == "close" => Ok(Refuse::Close),
        Value::Mapping(map) if map.len() == 1 => match map.get("text") {
            Some(Value::String(text)) if text.len() <= REFUSE_TEXT => Ok(Refuse::Text(text.clone().into_bytes())),
            Some(Value::String(text)) => {
                Err(format!("the text has {} bytes; at most {REFUSE_TEXT} can be sent", text.len()))
            }
            _ => Err(item.not(expected)),
        },
        _ => Err(item.not(expected)),
    }
}

/// The names of resource limits; the last says whether they count bytes.
pub(crate) const RESOURCES: [(&str, Resource, bool); 9] = [
    ("nofile", Resource::Nofile, false),
    ("as", Resource::As, true),
    ("cpu", Resource::Cpu, false),
    ("data", Resource::Data, true),
    ("fsize", Resource::Fsize, true),
    ("stack", Resource::Stack, true),
    ("core", Resource::Core, true),
    ("nproc", Resource::Nproc, false),
    ("memlock", Resource::Memlock, true),
];

/// One of `rlimits`: a value for both limits, or `soft:hard`.
pub(crate) fn rlimit(name: &str, item: Item<'_>) -> Read<Rlimit> {
    let Some((_, resource, bytes)) = RESOURCES.iter().find(|(resource, ..)| *resource == name) else {
        let names = RESOURCES.map(|(name, ..)| name);
        return Err(format!("unknown key; known here are: {}", super::section::alternatives(&names)));
    };
    let expected = if *bytes { "a size, such as 64M, unlimited or 64M:1G" } else { "a number, unlimited or SOFT:HARD" };
    let one = |text: &str| match text {
        "unlimited" => Some(u64::MAX),
        _ if *bytes => units::size(text),
        _ => units::digits(text),
    };
    let (soft, hard) = item.parse(expected, |text| {
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        Some((one(soft)?, one(hard)?))
    })?;
    if soft > hard {
        return Err(item.not("a soft limit (the first) not above the hard one"));
    }
    Ok(Rlimit { resource: *resource, soft, hard })
}
