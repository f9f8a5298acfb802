//! Finds the keys that all services have in common, for `defaults`.

use serde_yaml::{Mapping, Value};

use super::written::{UNSEEN, Written};

/// Keys that say what a service is, and are no default.
const OWN: [&str; 8] = ["enabled", "listen", "program", "argv0", "builtin", "to", "wait", "group"];
/// Keys whose maps are put together key by key with those of `defaults`.
const MERGED: [&str; 7] = ["rlimits", "env", "per_source", "per_network", "penalties", "socket", "log"];

/// Takes what all services have alike out of them.
pub(super) fn extract_common(services: &mut [Written<'_>]) -> Mapping {
    let mut defaults = Mapping::new();
    if services.len() < 2 {
        return defaults;
    }
    let keys: Vec<String> = services[0].map.keys().chain(first_map(services)).filter_map(key_name).collect();
    for key in keys.into_iter().filter(|key| !OWN.contains(&key.as_str())) {
        let unseen = UNSEEN.contains(&key.as_str());
        let mut maps: Vec<&mut Mapping> =
            services.iter_mut().filter(|service| !unseen || service.sees).map(|service| &mut service.map).collect();
        if let Some(value) = take_alike(&mut maps, &key) {
            defaults.entry(key.into()).or_insert(value);
        }
    }
    defaults
}

/// The keys of the first service that sees its clients.
fn first_map<'a>(services: &'a [Written<'_>]) -> impl Iterator<Item = &'a Value> {
    services.iter().find(|service| service.sees).into_iter().flat_map(|service| service.map.keys())
}

fn key_name(key: &Value) -> Option<String> {
    key.as_str().map(str::to_owned)
}

fn take_alike(maps: &mut [&mut Mapping], key: &str) -> Option<Value> {
    let first = maps.first()?.get(key)?.clone();
    if maps.iter().all(|map| map.get(key) == Some(&first)) {
        maps.iter_mut().for_each(|map| drop(map.shift_remove(key)));
        return Some(first);
    }
    let Value::Mapping(inner) = first else { return None };
    if !MERGED.contains(&key) {
        return None;
    }
    let mut inners: Vec<&mut Mapping> = Vec::with_capacity(maps.len());
    for map in maps.iter_mut() {
        let Some(Value::Mapping(inner)) = map.get_mut(key) else { return None };
        inners.push(inner);
    }
    let mut taken = Mapping::new();
    for key in inner.keys().filter_map(key_name) {
        if let Some(value) = take_alike(&mut inners, &key) {
            taken.insert(key.into(), value);
        }
    }
    (!taken.is_empty()).then_some(taken.into())
}
