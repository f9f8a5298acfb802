//! Compares two tables for a reload: services by name, and all of them but their position in a file.
//!
//! The daemon calls [`compare_tables`] after it has checked a new table. Nothing here fails or acts.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::{Service, Table};

/// The services of two tables, by name, in the order of the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Only in the new table.
    pub added: Vec<String>,
    /// Only in the old table.
    pub removed: Vec<String>,
    /// In both, and different.
    pub altered: Vec<String>,
    /// In both, and the same.
    pub kept: Vec<String>,
}

/// Compares two tables. The `daemon` section has no part in it.
#[must_use]
pub fn compare_tables(old: &Table, new: &Table) -> Plan {
    let before: HashMap<&str, &Rc<Service>> =
        old.services.iter().map(|service| (service.name.as_str(), service)).collect();
    let after: HashSet<&str> = new.services.iter().map(|service| service.name.as_str()).collect();
    let gone = old.services.iter().filter(|service| !after.contains(service.name.as_str()));
    let mut plan = Plan { removed: gone.map(|service| service.name.clone()).collect(), ..Plan::default() };
    for service in &new.services {
        let list = match before.get(service.name.as_str()) {
            None => &mut plan.added,
            Some(old) if is_unchanged(old, service) => &mut plan.kept,
            Some(_) => &mut plan.altered,
        };
        list.push(service.name.clone());
    }
    plan
}

fn is_unchanged(old: &Service, new: &Service) -> bool {
    let old = Service { origin: new.origin.clone(), origins: new.origins.clone(), ..old.clone() };
    old == *new
}
