//! The notations of values: how each is read, how it is written, and how the JSON Schema describes it.
//!
//! A key names its notation where it is declared ([`super::keys`]). A notation is not a type, since many share one:
//! a duration may have to be longer than 0, or in whole seconds. What is written reads back to the same value.
//! Reading looks at nothing but the value, and fails with what was expected.

use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value as Json, json};
use serde_yaml::Value as Yaml;

use super::CONNECTION_VARIABLES;
use super::reader::{Expected, ValueReader};
use super::units::{self, Rate};

/// The notation of a value in the table.
pub(crate) trait Notation<T> {
    fn read(&self, reader: &ValueReader<'_>) -> Result<T, Expected>;
    fn write(&self, value: &T) -> Yaml;
    /// The JSON Schema of the notation. Its `description` names the expected form.
    fn schema(&self) -> Json;
}

/// A notation made of three functions, which are those of the trait.
pub(crate) struct Form<T> {
    pub read: fn(&ValueReader<'_>) -> Result<T, Expected>,
    pub write: fn(&T) -> Yaml,
    pub schema: fn() -> Json,
}

impl<T> Notation<T> for Form<T> {
    fn read(&self, reader: &ValueReader<'_>) -> Result<T, Expected> {
        (self.read)(reader)
    }

    fn write(&self, value: &T) -> Yaml {
        (self.write)(value)
    }

    fn schema(&self) -> Json {
        (self.schema)()
    }
}

pub(crate) fn boolean_form() -> Form<bool> {
    Form {
        read: |reader| reader.value.as_bool().ok_or_else(|| reader.expected_error("true or false")),
        write: |value| (*value).into(),
        schema: || json!({ "type": "boolean" }),
    }
}

/// A text; no number is taken for one.
pub(crate) fn text_form() -> Form<String> {
    Form {
        read: |reader| reader.read_text(),
        write: |text| text.as_str().into(),
        schema: || json!({ "type": "string" }),
    }
}

/// A limit on handlers: at least 1, or `unlimited` (`None`).
pub(crate) fn limit_form() -> Form<Option<u32>> {
    Form {
        read: |reader| {
            if reader.value.as_str() == Some("unlimited") {
                return Ok(None);
            }
            let number = reader.value.as_u64().and_then(|number| u32::try_from(number).ok());
            let number = number.filter(|number| *number > 0);
            number.map(Some).ok_or_else(|| reader.expected_error("a whole number from 1, or unlimited"))
        },
        write: |limit| limit.map_or_else(|| "unlimited".into(), Yaml::from),
        schema: || json!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": u32::MAX }, { "const": "unlimited" }] }),
    }
}

/// A network without host bits.
pub(crate) fn network_form() -> Form<IpNet> {
    const EXPECTED: &str = "a network or an address, such as 192.0.2.0/24 or 2001:db8::/32";
    Form {
        read: |reader| {
            let network = reader.parse(EXPECTED, units::parse_network)?;
            network.map_err(|meant| reader.expected_error(&format!("a network without host bits, such as {meant}")))
        },
        write: |network| network.to_string().into(),
        schema: || word_schema(EXPECTED),
    }
}

/// A scalar, whose text is read whatever YAML takes it for.
pub(crate) fn word_schema(expected: &str) -> Json {
    json!({ "type": ["string", "number", "boolean"], "description": expected })
}

/// A word in some notation of its own.
pub(crate) struct Word<T> {
    /// The expected form, with an example.
    pub expected: &'static str,
    /// A regular expression for editors, where the word is always a text.
    pub pattern: Option<&'static str>,
    pub parse: fn(&str) -> Option<T>,
    pub print: fn(&T) -> String,
}

impl<T> Notation<T> for Word<T> {
    fn read(&self, reader: &ValueReader<'_>) -> Result<T, Expected> {
        reader.parse(self.expected, self.parse)
    }

    fn write(&self, value: &T) -> Yaml {
        (self.print)(value).into()
    }

    fn schema(&self) -> Json {
        match self.pattern {
            Some(pattern) => json!({ "type": "string", "pattern": pattern, "description": self.expected }),
            None => word_schema(self.expected),
        }
    }
}

pub(crate) fn word_notation(expected: &'static str) -> Word<String> {
    Word { expected, pattern: None, parse: |text| Some(text.to_owned()), print: Clone::clone }
}

/// A path from the root.
pub(crate) fn absolute_path() -> Word<String> {
    Word {
        parse: |path| path.starts_with('/').then(|| path.to_owned()),
        ..word_notation("an absolute path, such as /srv")
    }
}

/// A duration above 0.
pub(crate) fn above_zero() -> Word<Duration> {
    Word {
        expected: "a duration, such as 90s or 1h30m",
        pattern: Some("^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$"),
        parse: |text| units::parse_duration(text).filter(|time| !time.is_zero()),
        print: |time| units::duration_text(*time),
    }
}

/// A rate, such as 50/s.
pub(crate) fn rate_notation() -> Word<Rate> {
    Word {
        expected: "a rate, such as 50/s, 30/min, 1000/h or 5000/day",
        pattern: Some("^[0-9]+/(s|min|h|day)$"),
        parse: units::parse_rate,
        print: |rate| units::rate_text(*rate),
    }
}

/// One of some words.
pub(crate) struct OneOf<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Notation<T> for OneOf<T> {
    fn read(&self, reader: &ValueReader<'_>) -> Result<T, Expected> {
        reader.one_of(self.0)
    }

    fn write(&self, value: &T) -> Yaml {
        self.0.iter().find(|(_, known)| known == value).map_or(Yaml::Null, |(word, _)| (*word).into())
    }

    fn schema(&self) -> Json {
        // To YAML `null` without quotes is nothing.
        let null = |word: &str| (word == "null").then_some(Json::Null);
        let words = self.0.iter().flat_map(|(word, _)| [Some(json!(word)), null(word)]).flatten();
        json!({ "enum": words.collect::<Vec<_>>() })
    }
}

/// A whole number from the first to the second, as a type that holds both.
pub(crate) struct Whole(pub i64, pub i64);

impl<T: TryFrom<i64> + Into<Yaml> + Copy> Notation<T> for Whole {
    fn read(&self, reader: &ValueReader<'_>) -> Result<T, Expected> {
        let number = reader.read_integer(self.0, self.1)?;
        T::try_from(number).map_err(|_| reader.expected_error("a smaller number"))
    }

    fn write(&self, value: &T) -> Yaml {
        (*value).into()
    }

    fn schema(&self) -> Json {
        json!({ "type": "integer", "minimum": self.0, "maximum": self.1 })
    }
}

/// A file mode or mask, with an example. A YAML number would lose its leading zero, and its meaning with it.
pub(crate) struct Octal(pub &'static str);

impl Octal {
    fn expected_text(&self) -> String {
        format!("an octal number up to 777 in quotes, such as \"{}\"", self.0)
    }
}

impl Notation<u32> for Octal {
    fn read(&self, reader: &ValueReader<'_>) -> Result<u32, Expected> {
        let mode = reader.value.as_str().and_then(units::parse_mode);
        mode.ok_or_else(|| reader.expected_error(&self.expected_text()))
    }

    /// With a leading zero, which YAML readers of all versions leave a text when it is quoted.
    fn write(&self, mode: &u32) -> Yaml {
        format!("{mode:04o}").into()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^(0o)?[0-7]+$", "description": self.expected_text() })
    }
}

/// Supplementary groups as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Groups {
    /// Those of the user.
    All,
    /// Exactly these, by name or number.
    These(Vec<String>),
}

/// `all`, `none` or a list of groups.
pub(crate) fn groups_form() -> Form<Groups> {
    Form {
        read: |reader| match (reader.list_elements(), reader.value.as_str()) {
            (Some(elements), _) => {
                let names = elements.map(|name| name.read_word("a group's name or number"));
                names.collect::<Result<_, _>>().map(Groups::These)
            }
            (_, Some("all")) => Ok(Groups::All),
            (_, Some("none")) => Ok(Groups::These(Vec::new())),
            _ => Err(reader.expected_error("all, none or a list of groups")),
        },
        write: |groups| match groups {
            Groups::All => "all".into(),
            Groups::These(names) if names.is_empty() => "none".into(),
            Groups::These(names) => names.clone().into(),
        },
        schema: || {
            let word = json!({ "type": ["string", "number", "boolean"] });
            json!({ "anyOf": [{ "enum": ["all", "none"] }, { "type": "array", "items": word }] })
        },
    }
}

/// The name of a variable, unless the table may not set it.
pub(crate) fn check_variable_name(name: &str) -> Result<String, String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(format!("{name:?} cannot be a variable's name: it must not be empty or hold ="));
    }
    if CONNECTION_VARIABLES.contains(&name) {
        return Err(format!("{name} is set by oxinetd for each connection, and by nobody else"));
    }
    Ok(name.to_owned())
}
