//! Reads a map key after key: each key is taken once with a reader for its value, each bad one becomes a problem at
//! its exact place, and a key without a reader is unknown.
//!
//! Only [`super::keys`] and [`super::load::load_table`] use this. It knows no key itself, and never stops at a
//! problem.

use serde_yaml::{Mapping, Value};

use super::location::{Location, Spanned, SpannedList};
use super::problem::Problem;
use super::reader::{Expected, ValueReader, list_alternatives};

/// Tells for which services the keys of a map hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// For one service, or for the daemon.
    One,
    /// For every service: the map is `defaults`.
    Defaults,
}

pub(crate) struct Section<'a> {
    entries: Mapping,
    at: Location,
    scope: Scope,
    known: Vec<&'static str>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Section<'a> {
    /// Begins to read `value` as a map; nothing at all (`key:` with no value) is an empty one.
    pub(crate) fn new(value: Value, at: Location, scope: Scope, problems: &'a mut Vec<Problem>) -> Self {
        let entries = match value {
            Value::Mapping(entries) => entries,
            Value::Null => Mapping::new(),
            other => {
                let Expected(message) = ValueReader::new(&other, &at).expected_error("a map of keys and values");
                problems.push(at.problem(message));
                Mapping::new()
            }
        };
        Self { entries, at, scope, known: Vec::new(), problems }
    }

    /// Reads the value of a key, if it is there.
    pub(crate) fn read_value<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&ValueReader<'_>) -> Result<T, Expected>,
    ) -> Option<Spanned<T>> {
        let value = self.remove_key(key)?;
        self.read_with(&value, self.at.of_value(key), read)
    }

    /// Reads a list, or one value in place of a list of one.
    pub(crate) fn read_list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&ValueReader<'_>) -> Result<T, Expected>,
    ) -> SpannedList<T> {
        let value = self.remove_key(key)?;
        let at = self.at.of_value(key);
        let Value::Sequence(elements) = value else {
            let element = self.read_with(&value, at.clone(), read)?;
            return Some(Spanned { value: vec![element], at });
        };
        let element = |(index, value)| self.read_with(value, at.of_element(index), &read);
        let values: Vec<Spanned<T>> = elements.iter().enumerate().filter_map(element).collect();
        // If every element was wrong, this is not a list that was written empty.
        (elements.is_empty() || !values.is_empty()).then_some(Spanned { value: values, at })
    }

    /// Reads a map whose keys are the administrator's, or are known to the reader, in the order written.
    pub(crate) fn read_map<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str, &ValueReader<'_>) -> Result<T, Expected>,
    ) -> Vec<Spanned<T>> {
        let Some(value) = self.remove_key(key) else { return Vec::new() };
        // A problem with the map as a whole names its value.
        let mut map = Section::new(value, self.at.of_value(key), self.scope, self.problems);
        let mut values = Vec::new();
        for (name, value) in std::mem::take(&mut map.entries) {
            let Some(name) = map.key_name(&name) else { continue };
            values.extend(map.read_with(&value, map.at.of_value(name.clone()), |reader| read(&name, reader)));
        }
        values
    }

    /// Reads every key that is left as a section of its own, placed at its key.
    pub(crate) fn read_each(&mut self, mut read: impl FnMut(String, &mut Section<'_>)) {
        for (name, value) in std::mem::take(&mut self.entries) {
            let Some(name) = self.key_name(&name) else { continue };
            let mut section = Section::new(value, self.at.of_key(name.clone()), self.scope, self.problems);
            read(name, &mut section);
            section.report_unknown_keys();
        }
    }

    /// Reads the map under a key as a section, placed at its key.
    pub(crate) fn read_section<T>(
        &mut self,
        key: &'static str,
        scope: Scope,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> Option<Spanned<T>> {
        let value = self.remove_key(key)?;
        let at = self.at.of_key(key);
        let mut section = Section::new(value, at.clone(), scope, self.problems);
        let value = read(&mut section);
        section.report_unknown_keys();
        Some(Spanned { value, at })
    }

    /// Turns a key away that has no place here.
    pub(crate) fn forbid_key(&mut self, key: &'static str, message: &str) {
        if self.remove_key(key).is_some() {
            self.problems.push(self.at.of_key(key).problem(message));
        }
    }

    /// Is there a key, with whatever value?
    pub(crate) fn has_key(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    pub(crate) fn has_map(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(Value::is_mapping)
    }

    pub(crate) fn scope(&self) -> Scope {
        self.scope
    }

    /// The location of its key, or of its file.
    pub(crate) fn at(&self) -> &Location {
        &self.at
    }

    /// Notes something that is wrong with the section as a whole.
    pub(crate) fn report_problem(&mut self, message: &str) {
        self.problems.push(self.at.problem(message));
    }

    /// Ends the reading: what is left is unknown.
    pub(crate) fn report_unknown_keys(mut self) {
        for (name, _) in std::mem::take(&mut self.entries) {
            let Some(name) = self.key_name(&name) else { continue };
            let message = format!("unknown key{}", self.suggest_key(&name));
            self.problems.push(self.at.of_key(name).problem(message));
        }
    }

    fn suggest_key(&self, name: &str) -> String {
        let distance = |known: &&&str| strsim::osa_distance(known, name);
        match self.known.iter().min_by_key(distance) {
            Some(best) if distance(&best) <= 1.max(name.chars().count() / 3) => format!("; did you mean {best}?"),
            _ if self.known.len() <= 8 => format!("; known here: {}", list_alternatives(&self.known)),
            _ => "; the keys of a service are listed in oxinetd.yaml(5)".to_owned(),
        }
    }

    fn remove_key(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.entries.swap_remove(key)
    }

    fn key_name(&mut self, key: &Value) -> Option<String> {
        if let Value::String(name) = key {
            return Some(name.clone());
        }
        let Expected(text) = ValueReader::new(key, &Location::default()).expected_error("a text");
        // Its text in the file, unless it is written in another way than usual.
        let word = serde_yaml::to_string(key).unwrap_or_default();
        let at = self.at.of_key(word.trim_end().to_owned());
        self.problems.push(at.problem(format!("each key must be a text, in quotation marks if need be: {text}")));
        None
    }

    fn read_with<T>(
        &mut self,
        value: &Value,
        at: Location,
        read: impl FnOnce(&ValueReader<'_>) -> Result<T, Expected>,
    ) -> Option<Spanned<T>> {
        match read(&ValueReader::new(value, &at)) {
            Ok(value) => Some(Spanned { value, at }),
            Err(Expected(message)) => {
                self.problems.push(at.problem(message));
                None
            }
        }
    }
}
