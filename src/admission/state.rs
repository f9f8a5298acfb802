//! What admission holds: the rules of each service, and what it remembers of clients.
//!
//! [`Admission`] is made empty, and gets its rules when a service table comes into force: memory for the table is
//! prepared first, which may fail and changes nothing, then the table is put in force, which can't fail.

use std::collections::{BTreeMap, HashMap, HashSet, TryReserveError};
use std::rc::Rc;

use super::load_average::LoadAverage;
use super::rules::Rules;
use crate::config::Service;
use crate::limits::bans::Bans;
use crate::limits::meter::Meter;
use crate::limits::penalty::Penalties;
use crate::limits::rate::{Bucket, PerFamily, Sources};
use crate::types::{Now, ServiceId};

/// The rules in force, the memory of rates and penalties, and the administrator's bans.
#[derive(Debug)]
pub struct Admission {
    /// `daemon.instances`.
    pub(super) instances: u32,
    pub(super) services: HashMap<ServiceId, Rules>,
    pub(super) drained: HashSet<ServiceId>,
    pub(super) bans: Bans,
    pub(super) rates: Sources,
    /// How many sources `rates` has memory for.
    pub(super) rated_sources: PerFamily<u32>,
    pub(super) penalties: Penalties,
    /// How many sources `penalties` has memory for.
    pub(super) penalised_sources: PerFamily<u32>,
    pub(super) meter: Meter,
    pub(super) load_average: LoadAverage,
    /// The used part of each service's own rate in the program before an upgrade, until the rules are made.
    pub(super) buckets: HashMap<ServiceId, Bucket>,
}

/// Memory for a new service table, where what is in use has the wrong size.
#[derive(Debug)]
pub struct Prepared {
    rates: Option<(Sources, PerFamily<u32>)>,
    penalties: Option<(Penalties, PerFamily<u32>)>,
}

/// The memory that is taken where no source has a rate, or no event has a penalty.
pub(super) const NO_SOURCES: PerFamily<u32> = PerFamily { ipv4: 0, ipv6: 0 };

impl Admission {
    /// Admission without rules, hence without services.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new() -> Result<Self, TryReserveError> {
        Ok(Self {
            instances: 0,
            services: HashMap::new(),
            drained: HashSet::new(),
            bans: Bans::default(),
            rates: Sources::new(NO_SOURCES)?,
            rated_sources: NO_SOURCES,
            penalties: Penalties::new(NO_SOURCES)?,
            penalised_sources: NO_SOURCES,
            meter: Meter::new()?,
            load_average: LoadAverage::of_system(),
            buckets: HashMap::new(),
        })
    }

    /// Takes memory for the rates and penalties of this many sources, where `services` have any.
    ///
    /// # Errors
    /// There is no memory for so many.
    pub fn prepare<'a>(
        &self,
        sources: PerFamily<u32>,
        services: impl IntoIterator<Item = &'a Rc<Service>>,
    ) -> Result<Prepared, TryReserveError> {
        let (mut have_rates, mut have_penalties) = (false, false);
        for service in services {
            let network = service.per_network.as_ref();
            have_rates |= service.per_source.rate.is_some() || network.is_some_and(|network| network.rate.is_some());
            have_penalties |= service.penalties.has_any();
        }
        let rated = if have_rates { sources } else { NO_SOURCES };
        // Penalties stay in force when no event has a penalty any more.
        let penalised = if have_penalties { sources } else { self.penalised_sources };
        let rates = (rated != self.rated_sources).then(|| Sources::new(rated)).transpose()?;
        let penalties = (penalised != self.penalised_sources).then(|| Penalties::new(penalised)).transpose()?;
        Ok(Prepared {
            rates: rates.map(|rates| (rates, rated)),
            penalties: penalties.map(|penalties| (penalties, penalised)),
        })
    }

    /// Puts the rules of a new table in force. The used part of each burst stays the same part of the new burst;
    /// the rates of a service that is gone are forgotten, and so are those of all sources if their memory changes
    /// its size. Bans and penalties stay, and so does what is drained.
    pub fn serve<'a>(
        &mut self,
        services: impl IntoIterator<Item = (ServiceId, &'a Rc<Service>)>,
        instances: u32,
        prepared: Prepared,
        now: Now,
    ) {
        self.instances = instances;
        let rules = services.into_iter().map(|(id, service)| (id, Rules::new(id, service))).collect();
        let old = std::mem::replace(&mut self.services, rules);
        self.change_memory(prepared, now);
        self.keep_rates(&old, now);
        self.drained.retain(|id| self.services.contains_key(id));
        self.meter.retain_services(|id| self.services.contains_key(&id));
    }

    fn change_memory(&mut self, prepared: Prepared, now: Now) {
        if let Some((rates, size)) = prepared.rates {
            (self.rates, self.rated_sources) = (rates, size);
        }
        if let Some((penalties, size)) = prepared.penalties {
            let old = std::mem::replace(&mut self.penalties, penalties);
            self.penalties.copy_from(&old, now.nanos());
            self.penalised_sources = size;
        }
    }

    fn keep_rates(&mut self, old: &HashMap<ServiceId, Rules>, now: Now) {
        let mut changes = BTreeMap::new();
        for (id, old) in old {
            let new = self.services.get_mut(id);
            changes.extend(old.rate_changes(new.as_deref()));
            if let Some(new) = new {
                new.inherit_rate(old, now.nanos());
            }
        }
        for (id, bucket) in std::mem::take(&mut self.buckets) {
            self.services.get_mut(&id).into_iter().for_each(|rules| rules.bucket = bucket);
        }
        self.rates.change_rates(&changes, now.nanos());
    }

    /// Whether the administrator has drained this service.
    pub(crate) fn is_drained(&self, id: ServiceId) -> bool {
        self.drained.contains(&id)
    }
}
