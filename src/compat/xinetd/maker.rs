//! A specification in the making, on which the steps of [`super::service`] work.
//!
//! It holds what a step looks at and what it adds, and says how a step ends the making. It knows no rule itself.

use super::draft::{Draft, Fault};
use super::world::World;
use crate::config::keys::ServiceSpec;
use crate::config::location::{Location, Spanned};
use crate::config::problem::Problem;

/// A specification in the making.
pub(super) struct Maker<'a, 'w> {
    pub draft: &'a Draft,
    pub defaults: &'a Draft,
    pub world: &'a mut World<'w>,
    pub notes: Vec<Problem>,
    pub spec: ServiceSpec,
    /// Is the socket lent to one handler?
    pub lends: bool,
}

/// The end of the making at a fault, with its location.
pub(super) type Step = Result<(), (Location, Fault)>;

impl Maker<'_, '_> {
    /// An end at an attribute: xinetd does not start it.
    pub(super) fn end_broken<T>(&self, attribute: &str, message: impl Into<String>) -> Result<T, (Location, Fault)> {
        Err((self.draft.place_of(attribute), Fault::Broken(message.into())))
    }

    /// An end at an attribute: xinetd can do it, and this daemon can't.
    pub(super) fn end_refused<T>(&self, attribute: &str, message: impl Into<String>) -> Result<T, (Location, Fault)> {
        Err((self.draft.place_of(attribute), Fault::Refused(message.into())))
    }

    pub(super) fn add_note(&mut self, at: &Location, message: impl Into<String>) {
        self.notes.push(at.problem(message));
    }

    /// A value of the service, or else of the defaults, with its place.
    pub(super) fn inherited_value<T: Clone>(
        &self,
        attribute: &str,
        value: impl Fn(&Draft) -> &Option<T>,
    ) -> Option<Spanned<T>> {
        let of = |draft: &Draft| value(draft).clone().map(|value| Spanned { value, at: draft.place_of(attribute) });
        of(self.draft).or_else(|| of(self.defaults))
    }

    /// Where an attribute stands, in the service or in the defaults.
    pub(super) fn place_of(&self, attribute: &str) -> Location {
        let place = self.draft.set.get(attribute).or_else(|| self.defaults.set.get(attribute));
        place.unwrap_or(&self.draft.at).clone()
    }

    /// A value that the reader decides on, placed at an attribute.
    pub(super) fn placed_at<T>(&self, attribute: &str, value: T) -> Option<Spanned<T>> {
        Some(Spanned { value, at: self.draft.place_of(attribute) })
    }
}
