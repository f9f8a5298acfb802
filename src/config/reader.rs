//! Reads one value of a YAML file: the few ways that all notations of values are made of.
//!
//! Only [`super::section`] makes a [`ValueReader`], and only [`super::values`] reads with it. It looks at nothing
//! but the value. What does not fit is [`Expected`], in words for the administrator.

use serde_yaml::Value;

use super::location::Location;

/// The expected form of a value, as a message.
#[derive(Debug)]
pub(crate) struct Expected(pub String);

impl From<String> for Expected {
    fn from(message: String) -> Self {
        Self(message)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct ValueReader<'a> {
    pub value: &'a Value,
    at: &'a Location,
    /// Of the list that stands there, where the value is an element.
    element: Option<usize>,
}

impl<'a> ValueReader<'a> {
    pub(crate) fn new(value: &'a Value, at: &'a Location) -> Self {
        Self { value, at, element: None }
    }

    pub(crate) fn list_elements(&self) -> Option<impl Iterator<Item = ValueReader<'a>>> {
        let (list, at) = (self.value.as_sequence()?, self.at);
        Some(list.iter().enumerate().map(move |(index, value)| ValueReader { value, at, element: Some(index) }))
    }

    /// A text; nothing else is taken for one.
    pub(crate) fn read_text(&self) -> Result<String, Expected> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            _ => Err(self.expected_error("a text")),
        }
    }

    /// A text, number or boolean, as written.
    pub(crate) fn read_word(&self, expected: &str) -> Result<String, Expected> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) if !number.is_f64() && self.at.has_plain_integers() => Ok(number.to_string()),
            Value::Number(number) => Ok(self.raw_scalar().map_or_else(|| number.to_string(), Into::into)),
            Value::Bool(_) => self.raw_scalar().map(Into::into).ok_or_else(|| self.expected_error(expected)),
            _ => Err(self.expected_error(expected)),
        }
    }

    /// A word in some notation; `expected` names it with an example.
    pub(crate) fn parse<T>(&self, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, Expected> {
        parse(&self.read_word(expected)?).ok_or_else(|| self.expected_error(expected))
    }

    /// One of some words. `null` without quotes is a word here, and to YAML nothing.
    pub(crate) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, Expected> {
        let text = match self.value {
            Value::String(text) => text.as_str().into(),
            _ => self.raw_scalar().unwrap_or_default(),
        };
        let found = words.iter().find(|(word, _)| *word == &*text).map(|(_, value)| *value);
        found.ok_or_else(|| {
            self.expected_error(&list_alternatives(&words.iter().map(|(word, _)| *word).collect::<Vec<_>>()))
        })
    }

    /// A whole number in a range.
    pub(crate) fn read_integer(&self, least: i64, most: i64) -> Result<i64, Expected> {
        let inside = |number: &i64| (least..=most).contains(number);
        self.value
            .as_i64()
            .filter(inside)
            .ok_or_else(|| self.expected_error(&format!("a whole number from {least} to {most}")))
    }

    /// `expected …, not …`.
    pub(crate) fn expected_error(&self, expected: &str) -> Expected {
        let found = match self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => self.raw_or(value.to_string()),
            Value::Number(number) => self.raw_or(number.to_string()),
            Value::String(text) => format!("the text {:?}", shorten_text(text)),
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a map".to_owned(),
            Value::Tagged(tagged) => format!("a value with the tag {}", tagged.tag),
        };
        Expected(format!("expected {expected}, not {found}"))
    }

    fn raw_scalar(&self) -> Option<Box<str>> {
        self.element.map_or_else(|| self.at.raw_scalar(), |index| self.at.of_element(index).raw_scalar())
    }

    fn raw_or(&self, other: String) -> String {
        self.raw_scalar().filter(|raw| !raw.is_empty()).map_or(other, Into::into)
    }
}

/// `a`, `a or b`, `a, b or c`.
pub(crate) fn list_alternatives(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// At most 40 characters of a text, for messages.
fn shorten_text(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
