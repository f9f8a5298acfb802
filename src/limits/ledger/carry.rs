//! The books as an upgrade hands them to the next program.
//!
//! What is carried is what the counts are counts of: the services and the places. The counts themselves are worked out
//! anew, so that they are exact in the new program whatever they were in the old one.

use serde::{Deserialize, Serialize};

use crate::planted::{Bug, planted};

use super::{Ledger, Place, Tally};
use crate::types::{ServiceId, Ticket};

/// All that the books say.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Carried {
    last_ticket: u64,
    last_service: u32,
    services: Vec<(ServiceId, Tally)>,
    places: Vec<(Ticket, Place)>,
    #[serde(default)]
    peak: u32,
}

impl Ledger {
    /// What a new program needs to go on with the same books.
    #[must_use]
    pub fn carry(&self) -> Carried {
        Carried {
            last_ticket: self.last_ticket,
            last_service: self.last_service,
            services: self.services.iter().map(|(&id, tally)| (id, tally.clone())).collect(),
            places: self.places.iter().map(|(&ticket, &place)| (ticket, place)).collect(),
            peak: self.peak(),
        }
    }

    /// The books of the program before this one.
    #[must_use]
    pub fn from_carried(carried: Carried) -> Self {
        let Carried { mut last_ticket, last_service, services, mut places, peak } = carried;
        if planted(Bug::TicketsBeginAnew) {
            last_ticket = 0;
        }
        if planted(Bug::UnlistedPlacesNotCarried) {
            places.retain(|(_, place)| services.iter().any(|(id, tally)| *id == place.service && tally.listed));
        }
        let mut ledger = Self { last_ticket, last_service, peak, ..Self::default() };
        for (id, tally) in services {
            ledger.names.insert(tally.name.clone(), id);
            ledger.services.insert(id, Tally { live: 0, ..tally });
        }
        for (ticket, place) in places {
            ledger.enter_place(ticket, place);
        }
        ledger
    }
}
