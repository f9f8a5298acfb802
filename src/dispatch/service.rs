//! A service that is being served: what the table says of it, and what its handlers have in common.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::kernel::Resources;
use crate::builtin::BuiltinKind;
use crate::config::Service;
use crate::types::ServiceId;

/// An enabled service of the table in force.
pub(crate) struct Served<R: Resources> {
    /// Its number in the ledger.
    pub id: ServiceId,
    /// Its name, shared so that an event costs no copy.
    pub name: Arc<str>,
    /// What the table says.
    pub config: Rc<Service>,
    /// What its handlers have in common.
    pub template: R::Template,
}

impl<R: Resources> fmt::Debug for Served<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl<R: Resources> Served<R> {
    /// May its handlers hand their connection back (`builtin: tcpmux`)?
    #[must_use]
    pub(crate) fn hands_back(&self) -> bool {
        self.config.program.builtin.as_ref().is_some_and(|builtin| builtin.kind == BuiltinKind::Tcpmux)
    }
}
