//! Reads a map key after key: each key is taken once with a reader for its value, each bad one becomes a problem at
//! its exact place, and what nobody took is unknown.
//!
//! Only [`super::schema`] and [`super::load::load`] use this. It knows no key itself, and never stops at a
//! problem.

use std::path::Path;
use std::rc::Rc;

use serde_json::json;
use serde_yaml::{Mapping, Value};

use super::index::Node;
use super::problem::{At, Mark, Problem, Set};
use super::sketch::{self, Note, Sketch};

/// A value about to be read. `node` is absent only where the two YAML parsers disagree.
#[derive(Clone, Copy)]
pub(crate) struct Item<'a> {
    pub value: &'a Value,
    pub node: Option<&'a Node>,
    /// Where a reader notes what it reads, while a schema is being made; there is nothing to read then.
    note: Option<&'a Note>,
}

/// What a reader of values gives: the value, or what was expected.
pub(crate) type Read<T> = Result<T, String>;

impl<'a> Item<'a> {
    pub(crate) fn new(value: &'a Value, node: Option<&'a Node>) -> Self {
        Self { value, node, note: None }
    }

    /// An element of a list.
    pub(crate) fn element(&self, index: usize, value: &'a Value) -> Self {
        Self::new(value, self.node.and_then(|node| node.element(index)))
    }

    /// Notes what is read here, if a schema is being made, and nothing is noted yet.
    pub(crate) fn note(&self, schema: impl FnOnce() -> serde_json::Value) {
        if let Some(note) = self.note {
            note.borrow_mut().get_or_insert_with(schema);
        }
    }

    /// What a reader notes.
    fn noted<T>(read: impl FnOnce(Item<'_>) -> Read<T>) -> serde_json::Value {
        let note = Note::default();
        // It reads nothing, so it has nothing to give.
        let _ = read(Item { value: &Value::Null, node: None, note: Some(&note) });
        note.into_inner().unwrap_or_default()
    }

    /// A text; nothing else is taken for one.
    pub(crate) fn text(&self) -> Read<String> {
        self.note(|| json!({ "type": "string" }));
        match self.value {
            Value::String(text) => Ok(text.clone()),
            _ => Err(self.not("a text")),
        }
    }

    /// A text, number or boolean, as written.
    pub(crate) fn word(&self, expected: &str) -> Read<String> {
        self.note(|| sketch::word(expected));
        let raw = self.node.and_then(Node::raw);
        match (self.value, raw) {
            (Value::String(text), _) => Ok(text.clone()),
            (Value::Number(_) | Value::Bool(_), Some(raw)) => Ok(raw.to_owned()),
            (Value::Number(number), None) => Ok(number.to_string()),
            _ => Err(self.not(expected)),
        }
    }

    /// A word in some notation; `expected` names it with an example.
    pub(crate) fn parse<T>(&self, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Read<T> {
        parse(&self.word(expected)?).ok_or_else(|| self.not(expected))
    }

    /// One of some words.
    pub(crate) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Read<T> {
        let found = |text: &str| words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.note(|| sketch::one_of(&names));
        let text = match self.value {
            Value::String(text) => text.as_str(),
            _ => self.node.and_then(Node::raw).unwrap_or_default(),
        };
        found(text).ok_or_else(|| self.not(&alternatives(&names)))
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self) -> Read<bool> {
        self.note(|| json!({ "type": "boolean" }));
        self.value.as_bool().ok_or_else(|| self.not("true or false"))
    }

    /// A whole number in a range.
    pub(crate) fn integer(&self, least: i64, most: i64) -> Read<i64> {
        self.note(|| json!({ "type": "integer", "minimum": least, "maximum": most }));
        let inside = |number: &i64| (least..=most).contains(number);
        self.value.as_i64().filter(inside).ok_or_else(|| self.not(&format!("a whole number from {least} to {most}")))
    }

    /// `expected …, not …`.
    pub(crate) fn not(&self, expected: &str) -> String {
        let raw = self.node.and_then(Node::raw).unwrap_or_default();
        let found = match self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(_) | Value::Number(_) if !raw.is_empty() => raw.to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(number) => number.to_string(),
            Value::String(text) => format!("the text {:?}", shorten(text)),
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a map".to_owned(),
            Value::Tagged(tagged) => format!("a value with the tag {}", tagged.tag),
        };
        format!("expected {expected}, not {found}")
    }
}

/// `a`, `a or b`, `a, b or c`.
pub(crate) fn alternatives(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// At most 40 characters of a text, for messages.
fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A map that is being read.
pub(crate) struct Section<'a> {
    /// What it is called in the schema: `service`, `socket` ….
    kind: &'static str,
    entries: Mapping,
    node: Option<&'a Node>,
    at: At,
    known: Vec<&'static str>,
    problems: &'a mut Vec<Problem>,
    /// Only while a schema is being made.
    sketch: Option<Sketch>,
}

impl<'a> Section<'a> {
    /// Begins to read `value` as a map; nothing at all (`key:` with no value) is an empty one.
    pub(crate) fn new(
        kind: &'static str,
        value: Value,
        node: Option<&'a Node>,
        at: At,
        problems: &'a mut Vec<Problem>,
    ) -> Self {
        let entries = match value {
            Value::Mapping(entries) => entries,
            Value::Null => Mapping::new(),
            other => {
                let message = Item::new(&other, node).not("a map of keys and values");
                problems.push(at.problem(message));
                Mapping::new()
            }
        };
        Self { kind, entries, node, at, known: Vec::new(), problems, sketch: None }
    }

    /// Begins to note what is read, in place of reading.
    pub(crate) fn sketching(kind: &'static str, problems: &'a mut Vec<Problem>) -> Self {
        let at = At::file(&Rc::from(Path::new("")), Mark::default());
        Self { sketch: Some(Sketch::default()), ..Self::new(kind, Value::Null, None, at, problems) }
    }

    /// What has been noted.
    pub(crate) fn sketch(self) -> serde_json::Value {
        self.sketch.map_or(serde_json::Value::Null, |sketch| sketch.json())
    }

    fn note(&mut self, key: &str, schema: impl FnOnce() -> serde_json::Value) {
        if let Some(sketch) = &mut self.sketch {
            sketch.key(self.kind, key, schema());
        }
    }

    /// Reads the value of a key, if it is there.
    pub(crate) fn take<T>(&mut self, key: &'static str, read: impl Fn(Item<'_>) -> Read<T>) -> Option<Set<T>> {
        self.note(key, || Item::noted(&read));
        let (value, node) = self.remove(key)?;
        let at = self.place(key, node);
        let item = Item::new(&value, node);
        let value = self.judge(&at, read(item))?;
        Some(Set { value, at })
    }

    /// Reads a list, or one value in place of a list of one.
    pub(crate) fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(Item<'_>) -> Read<T>,
    ) -> Option<Set<Vec<Set<T>>>> {
        self.note(key, || sketch::one_or_more(Item::noted(&read)));
        let (value, node) = self.remove(key)?;
        let at = self.place(key, node);
        let elements = match value {
            Value::Sequence(elements) => elements,
            single => {
                let value = self.judge(&at, read(Item::new(&single, node)))?;
                return Some(Set { value: vec![Set { value, at: at.clone() }], at });
            }
        };
        let mut values = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            let node = node.and_then(|node| node.element(index));
            let at = node.map_or_else(|| at.clone(), |node| at.moved(node.at));
            let value = self.judge(&at, read(Item::new(element, node)));
            values.extend(value.map(|value| Set { value, at }));
        }
        // A list of which nothing could be read is no empty list.
        (elements.is_empty() || !values.is_empty()).then_some(Set { value: values, at })
    }

    /// Reads a map whose keys are `known` to the reader, or if there are none the administrator's, in the order written.
    pub(crate) fn map<T>(
        &mut self,
        key: &'static str,
        known: &[&str],
        read: impl Fn(&str, Item<'_>) -> Read<T>,
    ) -> Vec<Set<T>> {
        self.note(key, || {
            let mut map = Sketch::default();
            known.iter().for_each(|name| map.key(key, name, Item::noted(|item| read(name, item))));
            if known.is_empty() {
                map.others(Item::noted(|item| read("NAME", item)));
            }
            map.json()
        });
        let Some((value, node)) = self.remove(key) else {
            return Vec::new();
        };
        let at = self.place(key, node);
        let mut map = Section::new(self.kind, value, node, at.clone(), self.problems);
        map.all(read)
    }

    /// Reads all keys that are left.
    pub(crate) fn all<T>(&mut self, read: impl Fn(&str, Item<'_>) -> Read<T>) -> Vec<Set<T>> {
        let mut values = Vec::new();
        for (name, value) in std::mem::take(&mut self.entries) {
            let Some(name) = self.name(&name) else { continue };
            let node = self.node.and_then(|node| node.entry(&name)).map(|entry| entry.value.as_ref());
            let at = self.place(&name, node);
            let value = self.judge(&at, read(&name, Item::new(&value, node)));
            values.extend(value.map(|value| Set { value, at }));
        }
        values
    }

    /// Reads every key that is left as a section of its own, placed at its key.
    pub(crate) fn each(&mut self, kind: &'static str, mut read: impl FnMut(String, &mut Section<'_>)) {
        if let Some(sketch) = &mut self.sketch {
            let mut problems = Vec::new();
            let mut section = Section::sketching(kind, &mut problems);
            read(String::new(), &mut section);
            return sketch.others(section.sketch());
        }
        for (name, value) in std::mem::take(&mut self.entries) {
            let Some(name) = self.name(&name) else { continue };
            let node = self.node.and_then(|node| node.entry(&name)).map(|entry| entry.value.as_ref());
            let mut section = Section::new(kind, value, node, self.key_place(&name), self.problems);
            read(name, &mut section);
            section.finish();
        }
    }

    /// Reads the map under a key as a section, placed at its key.
    pub(crate) fn section<T>(
        &mut self,
        key: &'static str,
        kind: &'static str,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> Option<Set<T>> {
        if self.sketch.is_some() {
            let mut problems = Vec::new();
            let mut section = Section::sketching(kind, &mut problems);
            // Nothing is read, so nothing is kept.
            let _ = read(&mut section);
            let schema = section.sketch();
            self.note(key, || schema);
            return None;
        }
        let (value, node) = self.remove(key)?;
        let at = self.key_place(key);
        let mut section = Section::new(kind, value, node, at.clone(), self.problems);
        let value = read(&mut section);
        section.finish();
        Some(Set { value, at })
    }

    /// Reads the map under a key as a section, or any other value by `read`.
    pub(crate) fn section_or<T>(
        &mut self,
        key: &'static str,
        kind: &'static str,
        section: impl FnOnce(&mut Section<'_>),
        read: impl Fn(Item<'_>) -> Read<T>,
    ) -> Option<Set<T>> {
        if self.sketch.is_some() {
            let mut problems = Vec::new();
            let mut map = Section::sketching(kind, &mut problems);
            section(&mut map);
            let map = map.sketch();
            self.note(key, || json!({ "anyOf": [Item::noted(read), map] }));
            return None;
        }
        if !self.entries.get(key).is_some_and(Value::is_mapping) {
            return self.take(key, read);
        }
        self.section(key, kind, section);
        None
    }

    /// Turns a key away that has no place here.
    pub(crate) fn forbid(&mut self, key: &'static str, message: &str) {
        if let Some(sketch) = &mut self.sketch {
            sketch.forbid(key);
        }
        if self.remove(key).is_some() {
            let at = self.key_place(key);
            self.problems.push(at.problem(message));
        }
    }

    /// Is there a key, with whatever value?
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Notes that a key is missing, if it is.
    pub(crate) fn require(&mut self, key: &'static str, message: &str) {
        if let Some(sketch) = &mut self.sketch {
            sketch.require(key);
        } else if !self.has(key) {
            self.report(message);
        }
    }

    /// Where the section is: its key, or its file.
    pub(crate) fn at(&self) -> &At {
        &self.at
    }

    /// Notes something that is wrong with the section as a whole.
    pub(crate) fn report(&mut self, message: &str) {
        self.problems.push(self.at.problem(message));
    }

    /// Ends the reading: what is left is unknown.
    pub(crate) fn finish(mut self) {
        for (name, _) in std::mem::take(&mut self.entries) {
            let Some(name) = self.name(&name) else { continue };
            let at = self.key_place(&name);
            self.problems.push(at.problem(format!("unknown key{}", self.suggestion(&name))));
        }
    }

    fn suggestion(&self, name: &str) -> String {
        let distance = |known: &&&str| strsim::osa_distance(known, name);
        match self.known.iter().min_by_key(distance) {
            Some(best) if distance(&best) <= 1.max(name.chars().count() / 3) => format!("; did you mean {best}?"),
            _ if self.known.len() <= 8 => format!("; known here: {}", alternatives(&self.known)),
            _ => "; the keys of a service are listed in oxinetd.yaml(5)".to_owned(),
        }
    }

    fn remove(&mut self, key: &'static str) -> Option<(Value, Option<&'a Node>)> {
        self.known.push(key);
        let value = self.entries.swap_remove(key)?;
        let node = self.node.and_then(|node| node.entry(key)).map(|entry| entry.value.as_ref());
        Some((value, node))
    }

    fn name(&mut self, key: &Value) -> Option<String> {
        if let Value::String(name) = key {
            return Some(name.clone());
        }
        let text = Item::new(key, None).not("a text");
        // Its text in the file, unless it is written in another way than usual.
        let word = serde_yaml::to_string(key).unwrap_or_default();
        let at = self.key_place(word.trim_end());
        self.problems.push(at.problem(format!("each key must be a text, in quotation marks if need be: {text}")));
        None
    }

    /// The place of a key's value.
    fn place(&self, key: &str, node: Option<&Node>) -> At {
        node.map_or_else(|| self.key_place(key), |node| self.at.under(key, node.at))
    }

    fn key_place(&self, key: &str) -> At {
        let entry = self.node.and_then(|node| node.entry(key));
        self.at.under(key, entry.map_or(self.at.mark(), |entry| entry.key))
    }

    fn judge<T>(&mut self, at: &At, read: Read<T>) -> Option<T> {
        read.map_err(|message| self.problems.push(at.problem(message))).ok()
    }
}
