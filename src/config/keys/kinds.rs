//! What a key may hold: one value, a list, a map, a section, and sections laid out in other ways.
//!
//! Each is a [`Key`], which the macro [`section!`](super) calls for every key of a section. Reading notes problems and
//! goes on; nothing here fails.

use std::fmt::Debug;
use std::marker::PhantomData;

use serde_json::{Map as JsonMap, Value as Json, json};
use serde_yaml::{Mapping, Value as Yaml};

use crate::config::location::{Spanned, SpannedList, SpannedMap};
use crate::config::reader::{Expected, ValueReader};
use crate::config::section::{Scope, Section};
use crate::config::values::Notation;

/// A section: a map whose keys are declared. The macro implements it.
pub(crate) trait Keys: Clone + Debug + Default {
    /// The keys in the order in which they are written.
    const NAMES: &'static [&'static str];
    fn read(section: &mut Section<'_>) -> Self;
    /// Lays this over `below`: maps merge key by key, everything else is replaced as a whole.
    fn merge(&mut self, below: &Self);
    /// Puts the keys that have a value into a map.
    fn write(&self, map: &mut Mapping);
    fn describe(object: &mut Object);
}

/// The keys of a section that have a value.
pub(crate) fn written<S: Keys>(spec: &S) -> Mapping {
    let mut map = Mapping::new();
    spec.write(&mut map);
    map
}

/// A section as a JSON Schema.
pub(crate) fn schema_of<S: Keys>(scope: Scope) -> Json {
    let mut object = Object { scope, properties: JsonMap::new(), required: Vec::new() };
    S::describe(&mut object);
    object.json()
}

/// A JSON Schema of a section in the making.
pub(crate) struct Object {
    scope: Scope,
    properties: JsonMap<String, Json>,
    required: Vec<&'static str>,
}

impl Object {
    /// May a key stand here?
    pub(crate) fn admits(&mut self, key: &'static str, rule: Option<&Rule>) -> bool {
        let Some(Rule { service_only, missing }) = rule else { return true };
        if self.scope == Scope::Defaults && service_only.is_some() {
            return false;
        }
        self.required.extend(missing.map(|_| key));
        true
    }

    /// Puts a key, described by what it means and what is expected.
    fn put(&mut self, key: &About, mut schema: Json) {
        let mut text = key.meaning.trim().trim_end_matches('.').to_owned();
        if let Some(default) = &key.default {
            text += &format!(" (default: {})", flat(default));
            schema["default"] = serde_json::to_value(default).unwrap_or_default();
        }
        if let Some(expected) = schema.get("description").and_then(Json::as_str) {
            text += &format!(": {expected}");
        }
        schema["description"] = format!("{text}.").into();
        self.properties.insert(key.name.to_owned(), schema);
    }

    fn json(self) -> Json {
        let mut schema =
            json!({ "type": ["object", "null"], "properties": self.properties, "additionalProperties": false });
        if !self.required.is_empty() {
            schema["required"] = self.required.into();
        }
        schema
    }
}

/// A default in one line.
fn flat(value: &Yaml) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// What is declared of a key besides what it holds.
pub(crate) struct About {
    pub name: &'static str,
    /// Its doc comment.
    pub meaning: &'static str,
    pub default: Option<Yaml>,
}

/// Where a key may stand, if not in every place where its section may.
#[derive(Default)]
pub(crate) struct Rule {
    /// Why it has no place in `defaults`, if so.
    pub service_only: Option<&'static str>,
    /// What is said where a service lacks it, if it must not.
    pub missing: Option<&'static str>,
}

/// Has a key its place in what is being read? Reports it if not, and also if it is missing.
pub(crate) fn admits(section: &mut Section<'_>, key: &'static str, rule: Option<&Rule>) -> bool {
    match rule {
        Some(Rule { service_only: Some(why), .. }) if section.scope() == Scope::Defaults => {
            section.forbid(key, why);
            return false;
        }
        Some(Rule { missing: Some(message), .. }) if !section.has(key) => section.report(message),
        _ => {}
    }
    true
}

/// What a key holds, and how that is read, merged, written and described.
pub(crate) trait Key {
    /// The field of its section's struct.
    type Field: Clone + Debug + Default;
    fn take(&self, name: &'static str, section: &mut Section<'_>) -> Self::Field;
    /// Fills in what is absent from what lies below.
    fn merge(&self, own: &mut Self::Field, below: &Self::Field);
    fn put(&self, field: &Self::Field, name: &'static str, map: &mut Mapping);
    fn describe(&self, about: &About, object: &mut Object);
}

/// A kind of key for this type of field, which infers the parameters of the kind from it.
pub(crate) fn kind_of<F, K: Key<Field = F>>(kind: K) -> K {
    kind
}

/// One value.
impl<N: Notation> Key for N {
    type Field = Option<Spanned<N::Value>>;

    fn take(&self, name: &'static str, section: &mut Section<'_>) -> Self::Field {
        section.take(name, |reader| self.read(reader))
    }

    fn merge(&self, own: &mut Self::Field, below: &Self::Field) {
        fill(own, below);
    }

    fn put(&self, field: &Self::Field, name: &'static str, map: &mut Mapping) {
        if let Some(set) = field {
            map.insert(name.into(), self.write(&set.value));
        }
    }

    fn describe(&self, about: &About, object: &mut Object) {
        object.put(about, self.schema());
    }
}

/// A value that may be absent.
pub(crate) trait Optional {
    type Value;
    /// What was written, or the default.
    fn value_or(&self, default: Self::Value) -> Self::Value;
}

impl<T: Clone> Optional for Option<Spanned<T>> {
    type Value = T;

    fn value_or(&self, default: T) -> T {
        self.as_ref().map_or(default, |set| set.value.clone())
    }
}

fn fill<T: Clone>(own: &mut Option<T>, below: &Option<T>) {
    if own.is_none() {
        own.clone_from(below);
    }
}

/// A list, or one value in place of a list of one.
pub(crate) struct List<N>(pub N);

impl<N: Notation> Key for List<N> {
    type Field = SpannedList<N::Value>;

    fn take(&self, name: &'static str, section: &mut Section<'_>) -> Self::Field {
        section.list(name, |reader| self.0.read(reader))
    }

    fn merge(&self, own: &mut Self::Field, below: &Self::Field) {
        fill(own, below);
    }

    fn put(&self, field: &Self::Field, name: &'static str, map: &mut Mapping) {
        if let Some(list) = field {
            let values: Vec<Yaml> = list.value.iter().map(|set| self.0.write(&set.value)).collect();
            map.insert(name.into(), values.into());
        }
    }

    fn describe(&self, about: &About, object: &mut Object) {
        let element = self.0.schema();
        let mut schema = json!({ "anyOf": [element.clone(), { "type": "array", "items": element }] });
        if let Some(description) = schema["anyOf"][0].get("description").cloned() {
            schema["description"] = description;
        }
        object.put(about, schema);
    }
}

/// How the values of a map are written, each with its name.
pub(crate) trait MapNotation {
    type Value: Clone + Debug;
    fn read(&self, name: &str, reader: &ValueReader<'_>) -> Result<(String, Self::Value), Expected>;
    fn write(&self, value: &Self::Value) -> Yaml;
    /// Of the whole map.
    fn schema(&self) -> Json;
}

/// A map that is no section.
pub(crate) struct Map<N>(pub N);

impl<N: MapNotation> Key for Map<N> {
    type Field = SpannedMap<N::Value>;

    fn take(&self, name: &'static str, section: &mut Section<'_>) -> Self::Field {
        section.map(name, |name, reader| self.0.read(name, reader))
    }

    /// Puts the keys below that are absent before those that are there.
    fn merge(&self, own: &mut Self::Field, below: &Self::Field) {
        if below.is_empty() {
            return;
        }
        let is_new = |name: &str| own.iter().all(|set| set.value.0 != name);
        let mut merged: Self::Field = below.iter().filter(|set| is_new(&set.value.0)).cloned().collect();
        merged.append(own);
        *own = merged;
    }

    fn put(&self, field: &Self::Field, name: &'static str, map: &mut Mapping) {
        if !field.is_empty() {
            let pair = |set: &Spanned<(String, N::Value)>| (set.value.0.as_str().into(), self.0.write(&set.value.1));
            map.insert(name.into(), field.iter().map(pair).collect::<Mapping>().into());
        }
    }

    fn describe(&self, about: &About, object: &mut Object) {
        object.put(about, self.0.schema());
    }
}

/// A section under a key.
pub(crate) struct Sub<S> {
    scope: Option<Scope>,
    kind: PhantomData<S>,
}

/// A section under a key.
pub(crate) fn sub<S>() -> Sub<S> {
    Sub { scope: None, kind: PhantomData }
}

/// A section whose keys hold for every service.
pub(crate) fn sub_of_defaults<S>() -> Sub<S> {
    Sub { scope: Some(Scope::Defaults), kind: PhantomData }
}

impl<S: Keys> Key for Sub<S> {
    type Field = S;

    fn take(&self, name: &'static str, section: &mut Section<'_>) -> S {
        let scope = self.scope.unwrap_or(section.scope());
        section.section(name, scope, S::read).map_or_else(S::default, |set| set.value)
    }

    fn merge(&self, own: &mut S, below: &S) {
        own.merge(below);
    }

    fn put(&self, field: &S, name: &'static str, map: &mut Mapping) {
        let inner = written(field);
        if !inner.is_empty() {
            map.insert(name.into(), inner.into());
        }
    }

    fn describe(&self, about: &About, object: &mut Object) {
        let scope = self.scope.unwrap_or(object.scope);
        object.put(about, schema_of::<S>(scope));
    }
}

/// A section that also may be written as one value.
pub(crate) struct SubOr<S, N: Notation> {
    pub short: N,
    /// What the value stands for.
    pub long: fn(Option<Spanned<N::Value>>) -> S,
}

impl<S: Keys, N: Notation> Key for SubOr<S, N> {
    type Field = S;

    fn take(&self, name: &'static str, section: &mut Section<'_>) -> S {
        if section.has_map(name) {
            return sub::<S>().take(name, section);
        }
        (self.long)(Key::take(&self.short, name, section))
    }

    fn merge(&self, own: &mut S, below: &S) {
        own.merge(below);
    }

    fn put(&self, field: &S, name: &'static str, map: &mut Mapping) {
        sub::<S>().put(field, name, map);
    }

    fn describe(&self, about: &About, object: &mut Object) {
        object.put(about, json!({ "anyOf": [self.short.schema(), schema_of::<S>(object.scope)] }));
    }
}

/// A section whose keys stand among those of the one around it.
pub(crate) struct Flat<S>(PhantomData<S>);

/// A section whose keys stand among those of the one around it.
pub(crate) fn flat_sub<S>() -> Flat<S> {
    Flat(PhantomData)
}

impl<S: Keys> Key for Flat<S> {
    type Field = S;

    fn take(&self, _: &'static str, section: &mut Section<'_>) -> S {
        S::read(section)
    }

    fn merge(&self, own: &mut S, below: &S) {
        own.merge(below);
    }

    fn put(&self, field: &S, _: &'static str, map: &mut Mapping) {
        field.write(map);
    }

    fn describe(&self, _: &About, object: &mut Object) {
        S::describe(object);
    }
}

/// A section that is looked at with its place, if it is there at all.
pub(crate) struct Placed<S>(PhantomData<S>);

/// A section that is looked at with its place, if it is there at all.
pub(crate) fn placed_sub<S>() -> Placed<S> {
    Placed(PhantomData)
}

impl<S: Keys> Key for Placed<S> {
    type Field = Option<Spanned<S>>;

    fn take(&self, name: &'static str, section: &mut Section<'_>) -> Self::Field {
        section.section(name, section.scope(), S::read)
    }

    fn merge(&self, own: &mut Self::Field, below: &Self::Field) {
        fill(own, below);
    }

    fn put(&self, field: &Self::Field, name: &'static str, map: &mut Mapping) {
        if let Some(set) = field {
            map.insert(name.into(), written(&set.value).into());
        }
    }

    fn describe(&self, about: &About, object: &mut Object) {
        sub::<S>().describe(about, object);
    }
}

/// A map of sections of one kind, whose keys are the administrator's.
pub(crate) struct Each<S> {
    /// Reads one of them.
    pub read: fn(&mut Section<'_>) -> S,
}

impl<S: Keys> Key for Each<S> {
    type Field = SpannedMap<S>;

    fn take(&self, name: &'static str, section: &mut Section<'_>) -> Self::Field {
        let mut found = Vec::new();
        section.section(name, section.scope(), |section| {
            section.each(|name, section| {
                let value = (name, (self.read)(section));
                found.push(Spanned { value, at: section.at().clone() });
            });
        });
        found
    }

    fn merge(&self, own: &mut Self::Field, below: &Self::Field) {
        if own.is_empty() {
            own.clone_from(below);
        }
    }

    fn put(&self, field: &Self::Field, name: &'static str, map: &mut Mapping) {
        let pair = |set: &Spanned<(String, S)>| (set.value.0.as_str().into(), written(&set.value.1).into());
        map.insert(name.into(), field.iter().map(pair).collect::<Mapping>().into());
    }

    fn describe(&self, about: &About, object: &mut Object) {
        let one = schema_of::<S>(object.scope);
        let schema = json!({ "type": ["object", "null"], "properties": {}, "additionalProperties": one });
        object.put(about, schema);
    }
}
