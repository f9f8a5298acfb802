//! `per_source` and `per_network`: limits for each of the sources of a service.

use ipnet::IpNet;

use super::kinds::{List, Sub};
use crate::config::location::{Spanned, SpannedList};
use crate::config::units::Rate;
use crate::config::values::{Whole, limit_form, network_form, rate_notation};

section! {
    /// `per_source` and `per_network`.
    pub(crate) struct SourceSpec {
        /// The most live handlers of each in this service.
        instances: Option<Spanned<Option<u32>>> = limit_form() => None;
        /// How often each may connect to this service.
        rate: Option<Spanned<Rate>> = rate_notation();
        /// How many connections of each are accepted at once after a while without any.
        burst: Option<Spanned<u32>> = Whole(1, u32::MAX as i64);
        /// How many bits of an address tell one from another.
        prefix: PrefixSpec = Sub::Here;
        /// Networks for which these limits do not hold.
        exempt: SpannedList<IpNet> = List(network_form());
    }
}

section! {
    /// `prefix`: how many bits of an address make a source.
    pub(crate) struct PrefixSpec {
        /// Bits of an IPv4 address.
        ipv4: Option<Spanned<u8>> = Whole(0, 32);
        /// Bits of an IPv6 address.
        ipv6: Option<Spanned<u8>> = Whole(0, 128);
    }
}
