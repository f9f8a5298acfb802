//! The state while a table is checked, on which the steps of [`super`] work.

use std::collections::HashMap;

use crate::config::accounts::Accounts;
use crate::config::endpoint::Ports;
use crate::config::location::Location;
use crate::config::machine::Machine;
use crate::config::problem::Problem;

/// Checks services one after the other and collects what is wrong with them.
pub(crate) struct Checker<'a> {
    pub(crate) machine: &'a dyn Machine,
    pub(super) accounts: Accounts<'a>,
    pub(super) ports: Ports<'a>,
    /// Why programs cannot be run, by root and path.
    pub(super) faults: HashMap<(Option<String>, String), Option<String>>,
    pub(super) muxes: Muxes,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(machine: &'a dyn Machine) -> Self {
        Self {
            machine,
            accounts: Accounts::new(machine),
            ports: Ports::new(machine),
            faults: HashMap::new(),
            muxes: Muxes::default(),
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// The state of `tcpmux` in this table.
#[derive(Default)]
pub(super) struct Muxes {
    /// The names that clients can ask for, and the location of each.
    pub(super) names: HashMap<String, Location>,
    /// Is there a service that can be asked?
    pub(super) served: bool,
}
