//! The notations of values: how each is read, how it is written, and how the JSON Schema describes it.
//!
//! A key names its notation where it is declared ([`super::keys`]). A notation is not a type, since many share one: a
//! duration may have to be longer than 0, or in whole seconds. What is written reads back to the same value. Reading
//! looks at nothing but the value, and fails with what was expected.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value as Json, json};
use serde_yaml::Value as Yaml;

use super::CONNECTION_VARIABLES;
use super::reader::{Expected, ValueReader};
use super::units::{self, Rate};

/// How a value is written in the table.
pub(crate) trait Notation {
    type Value: Clone + Debug;
    fn read(&self, reader: &ValueReader<'_>) -> Result<Self::Value, Expected>;
    fn write(&self, value: &Self::Value) -> Yaml;
    /// What it looks like. A `description` says what is expected.
    fn schema(&self) -> Json;
}

/// `true` or `false`.
pub(crate) struct Boolean;

impl Notation for Boolean {
    type Value = bool;

    fn read(&self, reader: &ValueReader<'_>) -> Result<bool, Expected> {
        reader.value.as_bool().ok_or_else(|| reader.not("true or false"))
    }

    fn write(&self, value: &bool) -> Yaml {
        (*value).into()
    }

    fn schema(&self) -> Json {
        json!({ "type": "boolean" })
    }
}

/// A text; no number is taken for one.
pub(crate) struct Text;

impl Notation for Text {
    type Value = String;

    fn read(&self, reader: &ValueReader<'_>) -> Result<String, Expected> {
        reader.text()
    }

    fn write(&self, value: &String) -> Yaml {
        value.as_str().into()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string" })
    }
}

/// A scalar, whose text is read whatever YAML takes it for.
fn word_schema(expected: &str) -> Json {
    json!({ "type": ["string", "number", "boolean"], "description": expected })
}

/// A word in some notation of its own.
pub(crate) struct Word<T> {
    /// What it is, with an example.
    pub expected: &'static str,
    /// A regular expression for editors, where the word is always a text.
    pub pattern: Option<&'static str>,
    pub parse: fn(&str) -> Option<T>,
    pub print: fn(&T) -> String,
}

impl<T: Clone + Debug> Notation for Word<T> {
    type Value = T;

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

/// Any word.
pub(crate) fn word(expected: &'static str) -> Word<String> {
    Word { expected, pattern: None, parse: |text| Some(text.to_owned()), print: Clone::clone }
}

/// A path from the root.
pub(crate) fn absolute() -> Word<String> {
    let parse = |path: &str| path.starts_with('/').then(|| path.to_owned());
    Word { expected: "an absolute path, such as /srv", pattern: None, parse, print: Clone::clone }
}

/// A duration above 0.
pub(crate) fn positive() -> Word<Duration> {
    Word {
        expected: "a duration, such as 90s or 1h30m",
        pattern: Some("^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$"),
        parse: |text| units::duration(text).filter(|time| !time.is_zero()),
        print: |time| units::duration_text(*time),
    }
}

/// So many in a time.
pub(crate) fn rate() -> Word<Rate> {
    Word {
        expected: "a rate, such as 50/s, 30/min, 1000/h or 5000/day",
        pattern: Some("^[0-9]+/(s|min|h|day)$"),
        parse: units::rate,
        print: |rate| units::rate_text(*rate),
    }
}

/// One of some words.
pub(crate) struct OneOf<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy + PartialEq + Debug> Notation for OneOf<T> {
    type Value = T;

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

/// One of some names, which stays a name.
pub(crate) struct Names(pub &'static [&'static str]);

impl Notation for Names {
    type Value = String;

    fn read(&self, reader: &ValueReader<'_>) -> Result<String, Expected> {
        let names: Vec<_> = self.0.iter().map(|name| (*name, *name)).collect();
        reader.one_of(&names).map(str::to_owned)
    }

    fn write(&self, name: &String) -> Yaml {
        name.as_str().into()
    }

    fn schema(&self) -> Json {
        json!({ "enum": self.0 })
    }
}

/// A whole number in a range, as a type that holds the range.
pub(crate) struct Whole<T> {
    least: i64,
    most: i64,
    kind: PhantomData<T>,
}

/// A whole number in a range.
pub(crate) fn whole<T>(least: i64, most: i64) -> Whole<T> {
    Whole { least, most, kind: PhantomData }
}

impl<T: TryFrom<i64> + Into<Yaml> + Copy + Debug> Notation for Whole<T> {
    type Value = T;

    fn read(&self, reader: &ValueReader<'_>) -> Result<T, Expected> {
        let number = reader.integer(self.least, self.most)?;
        T::try_from(number).map_err(|_| reader.not("a smaller number"))
    }

    fn write(&self, value: &T) -> Yaml {
        (*value).into()
    }

    fn schema(&self) -> Json {
        json!({ "type": "integer", "minimum": self.least, "maximum": self.most })
    }
}

/// A limit on handlers: at least 1, or `unlimited` (`None`).
pub(crate) struct Limit;

impl Notation for Limit {
    type Value = Option<u32>;

    fn read(&self, reader: &ValueReader<'_>) -> Result<Option<u32>, Expected> {
        if reader.value.as_str() == Some("unlimited") {
            return Ok(None);
        }
        let number = reader.value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0);
        number.map(Some).ok_or_else(|| reader.not("a whole number from 1, or unlimited"))
    }

    fn write(&self, limit: &Option<u32>) -> Yaml {
        limit.map_or_else(|| "unlimited".into(), Yaml::from)
    }

    fn schema(&self) -> Json {
        json!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": u32::MAX }, { "const": "unlimited" }] })
    }
}

/// A finite number above 0.
pub(crate) struct Load;

impl Notation for Load {
    type Value = f64;

    fn read(&self, reader: &ValueReader<'_>) -> Result<f64, Expected> {
        let load = reader.value.as_f64().filter(|load| load.is_finite() && *load > 0.0);
        load.ok_or_else(|| reader.not("a load average above 0, such as 8 or 2.5"))
    }

    fn write(&self, load: &f64) -> Yaml {
        (*load).into()
    }

    fn schema(&self) -> Json {
        json!({ "type": "number", "exclusiveMinimum": 0 })
    }
}

/// A file mode or mask, with an example. A YAML number would lose its leading zero, and its meaning with it.
pub(crate) struct Octal(pub &'static str);

impl Octal {
    fn expected(&self) -> String {
        format!("an octal number up to 777 in quotes, such as \"{}\"", self.0)
    }
}

impl Notation for Octal {
    type Value = u32;

    fn read(&self, reader: &ValueReader<'_>) -> Result<u32, Expected> {
        let mode = reader.value.as_str().and_then(units::mode);
        mode.ok_or_else(|| reader.not(&self.expected()))
    }

    /// With a leading zero, which YAML readers of all versions leave a text when it is quoted.
    fn write(&self, mode: &u32) -> Yaml {
        format!("{mode:04o}").into()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^(0o)?[0-7]+$", "description": self.expected() })
    }
}

/// A network without host bits.
pub(crate) struct Network;

impl Network {
    const EXPECTED: &str = "a network or an address, such as 192.0.2.0/24 or 2001:db8::/32";
}

impl Notation for Network {
    type Value = IpNet;

    fn read(&self, reader: &ValueReader<'_>) -> Result<IpNet, Expected> {
        let network = reader.parse(Self::EXPECTED, units::network)?;
        network.map_err(|meant| reader.not(&format!("a network without host bits, such as {meant}")))
    }

    fn write(&self, network: &IpNet) -> Yaml {
        network.to_string().into()
    }

    fn schema(&self) -> Json {
        word_schema(Self::EXPECTED)
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
pub(crate) struct GroupNames;

impl Notation for GroupNames {
    type Value = Groups;

    fn read(&self, reader: &ValueReader<'_>) -> Result<Groups, Expected> {
        let names = |elements: &mut dyn Iterator<Item = ValueReader<'_>>| -> Result<Vec<String>, Expected> {
            elements.map(|name| name.word("a group's name or number")).collect()
        };
        match (reader.elements(), reader.value.as_str()) {
            (Some(mut elements), _) => names(&mut elements).map(Groups::These),
            (_, Some("all")) => Ok(Groups::All),
            (_, Some("none")) => Ok(Groups::These(Vec::new())),
            _ => Err(reader.not("all, none or a list of groups")),
        }
    }

    fn write(&self, groups: &Groups) -> Yaml {
        match groups {
            Groups::All => "all".into(),
            Groups::These(names) if names.is_empty() => "none".into(),
            Groups::These(names) => names.clone().into(),
        }
    }

    fn schema(&self) -> Json {
        let word = json!({ "type": ["string", "number", "boolean"] });
        json!({ "anyOf": [{ "enum": ["all", "none"] }, { "type": "array", "items": word }] })
    }
}

/// A variable's name that the table may set.
pub(crate) struct Variable;

impl Variable {
    const EXPECTED: &str = "a variable's name, such as LANG";
}

impl Notation for Variable {
    type Value = String;

    fn read(&self, reader: &ValueReader<'_>) -> Result<String, Expected> {
        variable(&reader.word(Self::EXPECTED)?).map_err(Expected)
    }

    fn write(&self, name: &String) -> Yaml {
        name.as_str().into()
    }

    fn schema(&self) -> Json {
        word_schema(Self::EXPECTED)
    }
}

/// The name of a variable, unless the table may not set it.
pub(crate) fn variable(name: &str) -> Result<String, String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(format!("{name:?} cannot be a variable's name: it must not be empty or hold ="));
    }
    if CONNECTION_VARIABLES.contains(&name) {
        return Err(format!("{name} is set by oxinetd for each connection, and by nobody else"));
    }
    Ok(name.to_owned())
}
