//! The kinds of keys: one value, a list, a map, a section, and sections laid out in other ways.
//!
//! Each is a [`Key`], which the macro [`section!`](super) calls for every key of a section. Reading notes problems
//! and goes on; nothing here fails.

use std::collections::HashSet;
use std::fmt::Debug;

use serde_json::{Map as JsonMap, Value as Json, json};
use serde_yaml::{Mapping, Value as Yaml};

use crate::config::location::{Spanned, SpannedList, SpannedMap};
use crate::config::reader::{Expected, ValueReader};
use crate::config::section::{Scope, Section};
use crate::config::values::Notation;

/// A value that can be laid over a default: maps merge key by key, everything else is replaced as a whole.
pub(crate) trait Merge {
    /// Fills in what is absent from what lies below.
    fn merge(&mut self, below: &Self);
}

impl<T: Clone> Merge for Option<T> {
    fn merge(&mut self, below: &Self) {
        if self.is_none() {
            self.clone_from(below);
        }
    }
}

/// The entries below come first.
impl<T: Clone> Merge for SpannedMap<T> {
    fn merge(&mut self, below: &Self) {
        if below.is_empty() {
            return;
        }
        let own: HashSet<&str> = self.iter().map(|set| set.value.0.as_str()).collect();
        let new: Self = below.iter().filter(|set| !own.contains(set.value.0.as_str())).cloned().collect();
        self.splice(..0, new);
    }
}

/// A section: a map whose keys are declared. The macro implements it.
pub(crate) trait Keys: Clone + Debug + Default + Merge {
    /// The keys in the order in which they are written.
    const NAMES: &'static [&'static str];
    fn read(section: &mut Section<'_>) -> Self;
    /// Puts the keys that have a value into a map.
    fn write(&self, map: &mut Mapping);
    fn describe(object: &mut Object);
}

/// The keys of a section that have a value.
pub(crate) fn write_section<S: Keys>(spec: &S) -> Mapping {
    let mut map = Mapping::new();
    spec.write(&mut map);
    map
}

pub(crate) fn schema_of<S: Keys>(scope: Scope) -> Json {
    let mut object = Object { scope, properties: JsonMap::new(), required: Vec::new() };
    S::describe(&mut object);
    object.into_json()
}

/// A JSON Schema of a section in the making.
pub(crate) struct Object {
    scope: Scope,
    properties: JsonMap<String, Json>,
    required: Vec<&'static str>,
}

impl Object {
    pub(crate) fn admits_key(&mut self, key: &'static str, rule: Option<&Rule>) -> bool {
        let Some(Rule { service_only, missing }) = rule else { return true };
        if self.scope == Scope::Defaults && service_only.is_some() {
            return false;
        }
        self.required.extend(missing.map(|_| key));
        true
    }

    /// Puts a key, described by what it means and what is expected.
    fn put_key(&mut self, key: &About, mut schema: Json) {
        let mut text = key.meaning.trim().trim_end_matches('.').to_owned();
        if let Some(default) = &key.default {
            text += &format!(" (default: {})", one_line(default));
            schema["default"] = serde_json::to_value(default).unwrap_or_default();
        }
        if let Some(expected) = schema.get("description").and_then(Json::as_str) {
            text += &format!(": {expected}");
        }
        schema["description"] = format!("{text}.").into();
        self.properties.insert(key.name.to_owned(), schema);
    }

    fn into_json(self) -> Json {
        let mut schema =
            json!({ "type": ["object", "null"], "properties": self.properties, "additionalProperties": false });
        if !self.required.is_empty() {
            schema["required"] = self.required.into();
        }
        schema
    }
}

fn one_line(value: &Yaml) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The description of a key in the JSON Schema.
pub(crate) struct About {
    pub name: &'static str,
    /// Its doc comment.
    pub meaning: &'static str,
    pub default: Option<Yaml>,
}

/// A restriction of the sections in which a key may stand.
#[derive(Default)]
pub(crate) struct Rule {
    /// The message if the key stands in `defaults`, where it may not.
    pub service_only: Option<&'static str>,
    /// The message if a service lacks the key, which it must have.
    pub missing: Option<&'static str>,
}

/// Has a key its place in what is being read? Reports it if not, and also if it is missing.
pub(crate) fn admit_key(section: &mut Section<'_>, key: &'static str, rule: Option<&Rule>) -> bool {
    match rule {
        Some(Rule { service_only: Some(why), .. }) if section.scope() == Scope::Defaults => {
            section.forbid_key(key, why);
            return false;
        }
        Some(Rule { missing: Some(message), .. }) if !section.has_key(key) => section.report_problem(message),
        _ => {}
    }
    true
}

/// A key whose value is a field of type `F` of its section: how it is read, written and described.
pub(crate) trait Key<F> {
    fn read_key(&self, name: &'static str, section: &mut Section<'_>) -> F;
    fn write_key(&self, field: &F, name: &'static str, map: &mut Mapping);
    fn describe_key(&self, about: &About, object: &mut Object);
}

impl<T, N: Notation<T>> Key<Option<Spanned<T>>> for N {
    fn read_key(&self, name: &'static str, section: &mut Section<'_>) -> Option<Spanned<T>> {
        section.read_value(name, |reader| self.read(reader))
    }

    fn write_key(&self, field: &Option<Spanned<T>>, name: &'static str, map: &mut Mapping) {
        if let Some(set) = field {
            map.insert(name.into(), self.write(&set.value));
        }
    }

    fn describe_key(&self, about: &About, object: &mut Object) {
        object.put_key(about, self.schema());
    }
}

/// A value that may be absent, for the methods of keys with a default.
pub(crate) trait Optional {
    type Value;
}

impl<T> Optional for Option<Spanned<T>> {
    type Value = T;
}

/// A list, or one value in place of a list of one.
pub(crate) struct List<N>(pub N);

impl<T, N: Notation<T>> Key<SpannedList<T>> for List<N> {
    fn read_key(&self, name: &'static str, section: &mut Section<'_>) -> SpannedList<T> {
        section.read_list(name, |reader| self.0.read(reader))
    }

    fn write_key(&self, field: &SpannedList<T>, name: &'static str, map: &mut Mapping) {
        if let Some(list) = field {
            let values: Vec<Yaml> = list.value.iter().map(|set| self.0.write(&set.value)).collect();
            map.insert(name.into(), values.into());
        }
    }

    fn describe_key(&self, about: &About, object: &mut Object) {
        let element = self.0.schema();
        let mut schema = json!({ "anyOf": [element, { "type": "array", "items": element }] });
        if let Some(description) = element.get("description") {
            schema["description"] = description.clone();
        }
        object.put_key(about, schema);
    }
}

/// The entry of a map as it was read.
pub(crate) type NamedValue<T> = Result<(String, T), Expected>;

/// A map that is no section.
pub(crate) struct Map<T> {
    /// Reads a value with its name.
    pub read: fn(&str, &ValueReader<'_>) -> NamedValue<T>,
    pub write: fn(&T) -> Yaml,
    /// Of the whole map.
    pub schema: fn() -> Json,
}

impl<T> Key<SpannedMap<T>> for Map<T> {
    fn read_key(&self, name: &'static str, section: &mut Section<'_>) -> SpannedMap<T> {
        section.read_map(name, self.read)
    }

    fn write_key(&self, field: &SpannedMap<T>, name: &'static str, map: &mut Mapping) {
        if !field.is_empty() {
            let pair = |set: &Spanned<(String, T)>| (set.value.0.as_str().into(), (self.write)(&set.value.1));
            map.insert(name.into(), field.iter().map(pair).collect::<Mapping>().into());
        }
    }

    fn describe_key(&self, about: &About, object: &mut Object) {
        object.put_key(about, (self.schema)());
    }
}

/// A section under a key, perhaps one whose keys hold for every service.
pub(crate) enum Sub {
    Here,
    OfDefaults,
}

impl Sub {
    fn inner_scope(&self, around: Scope) -> Scope {
        if matches!(self, Self::OfDefaults) { Scope::Defaults } else { around }
    }
}

impl<S: Keys> Key<S> for Sub {
    fn read_key(&self, name: &'static str, section: &mut Section<'_>) -> S {
        section.read_section(name, self.inner_scope(section.scope()), S::read).map_or_else(S::default, |set| set.value)
    }

    fn write_key(&self, field: &S, name: &'static str, map: &mut Mapping) {
        let inner = write_section(field);
        if !inner.is_empty() {
            map.insert(name.into(), inner.into());
        }
    }

    fn describe_key(&self, about: &About, object: &mut Object) {
        object.put_key(about, schema_of::<S>(self.inner_scope(object.scope)));
    }
}

/// A section that is looked at with its place, if it is there at all.
#[derive(Clone, Debug)]
pub(crate) struct Placed<S>(pub Option<Spanned<S>>);

impl<S> Default for Placed<S> {
    fn default() -> Self {
        Self(None)
    }
}

impl<S: Clone> Merge for Placed<S> {
    fn merge(&mut self, below: &Self) {
        self.0.merge(&below.0);
    }
}

impl<S: Keys> Key<Placed<S>> for Sub {
    fn read_key(&self, name: &'static str, section: &mut Section<'_>) -> Placed<S> {
        Placed(section.read_section(name, self.inner_scope(section.scope()), S::read))
    }

    fn write_key(&self, field: &Placed<S>, name: &'static str, map: &mut Mapping) {
        if let Placed(Some(set)) = field {
            map.insert(name.into(), write_section(&set.value).into());
        }
    }

    fn describe_key(&self, about: &About, object: &mut Object) {
        Key::<S>::describe_key(self, about, object);
    }
}

/// A section whose keys stand among those of the one around it.
pub(crate) struct Flat;

impl<S: Keys> Key<S> for Flat {
    fn read_key(&self, _: &'static str, section: &mut Section<'_>) -> S {
        S::read(section)
    }

    fn write_key(&self, field: &S, _: &'static str, map: &mut Mapping) {
        field.write(map);
    }

    fn describe_key(&self, _: &About, object: &mut Object) {
        S::describe(object);
    }
}

/// A section that may also be written as the value of one of its keys.
pub(crate) struct SubOr<N, T, S> {
    pub short: N,
    /// The section with that key alone.
    pub long: fn(Option<Spanned<T>>) -> S,
}

impl<S: Keys, T, N: Notation<T>> Key<S> for SubOr<N, T, S> {
    fn read_key(&self, name: &'static str, section: &mut Section<'_>) -> S {
        match section.has_map(name) {
            true => Sub::Here.read_key(name, section),
            false => (self.long)(self.short.read_key(name, section)),
        }
    }

    fn write_key(&self, field: &S, name: &'static str, map: &mut Mapping) {
        Sub::Here.write_key(field, name, map);
    }

    fn describe_key(&self, about: &About, object: &mut Object) {
        object.put_key(about, json!({ "anyOf": [self.short.schema(), schema_of::<S>(object.scope)] }));
    }
}

/// A map of sections of one kind, whose keys are the administrator's; each is read by this.
pub(crate) struct Each<S>(pub fn(&mut Section<'_>) -> S);

impl<S: Keys> Key<SpannedMap<S>> for Each<S> {
    fn read_key(&self, name: &'static str, section: &mut Section<'_>) -> SpannedMap<S> {
        let mut found = Vec::new();
        section.read_section(name, section.scope(), |section| {
            section.read_each(|name, section| {
                found.push(Spanned { value: (name, (self.0)(section)), at: section.at().clone() });
            });
        });
        found
    }

    fn write_key(&self, field: &SpannedMap<S>, name: &'static str, map: &mut Mapping) {
        let pair = |set: &Spanned<(String, S)>| (set.value.0.as_str().into(), write_section(&set.value.1).into());
        map.insert(name.into(), field.iter().map(pair).collect::<Mapping>().into());
    }

    fn describe_key(&self, about: &About, object: &mut Object) {
        let one = schema_of::<S>(object.scope);
        object.put_key(about, json!({ "type": ["object", "null"], "properties": {}, "additionalProperties": one }));
    }
}
