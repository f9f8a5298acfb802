//! An entry of inetd.conf, field by field, in the one form that both notations come to.
//!
//! [`super::fields`] and [`super::pairs`] make them; [`super::places`] finds out which sockets they want, and
//! [`super::service`] turns what is left into a service.

use super::dialect::Families;
use super::lines::Word;
use crate::config::location::{Location, Spanned};

#[derive(Debug)]
pub(super) struct Entry {
    /// The location of its beginning, under the service as written.
    pub at: Location,
    /// Switched off by update-inetd(8), or by `off` in NetBSD's second notation.
    pub off: bool,
    /// The addresses written before the service; none for those of the file.
    pub hosts: Option<Vec<String>>,
    /// The port or path as written.
    pub service: String,
    /// The port in numbers, once it is known.
    pub port: Option<u16>,
    /// Datagrams, or streams.
    pub datagram: bool,
    pub protocol: Protocol,
    pub send_buffer: Option<Spanned<u32>>,
    pub receive_buffer: Option<Spanned<u32>>,
    pub wait: Spanned<bool>,
    pub limits: Limits,
    pub user: Option<Spanned<String>>,
    pub group: Option<Spanned<String>>,
    pub program: Spanned<String>,
    /// The program's name and what follows, as the program gets them.
    pub arguments: Vec<Spanned<String>>,
    /// All that the entry says about what is run and how: equal for entries that differ in their sockets alone.
    pub rest: Vec<String>,
    /// The sockets that it wants.
    pub places: Vec<Place>,
}

#[derive(Debug)]
pub(super) struct Protocol {
    /// As written, without buffers.
    pub name: String,
    /// `tcp` or `udp`, in whose names ports are looked up; nothing for a Unix socket.
    pub base: Option<&'static str>,
    pub families: Families,
}

/// The limits of an entry; `None` is no limit.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// Starts in a minute.
    pub starts: Option<Spanned<u32>>,
    pub instances: Option<Spanned<u32>>,
    /// Connections of one source in a minute.
    pub source_starts: Option<Spanned<u32>>,
    /// Live handlers of one source.
    pub source_instances: Option<Spanned<u32>>,
}

/// A socket that an entry wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub v6: bool,
    /// In numbers, an interface behind `%`; `None` for all.
    pub address: Option<String>,
    /// The daemon's own name for the entry: a later one of the same name replaces it.
    pub key: String,
    /// Does it stand and fall with the other places of its entry?
    pub joined: bool,
}

impl Entry {
    pub(super) fn field_location(&self, name: &str, word: &Word) -> Location {
        self.at.under_key(name, word.mark)
    }
}
