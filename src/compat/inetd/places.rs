//! Which sockets the entries of a file get: an entry for all addresses wants one or two, one for some addresses as
//! many as these.
//!
//! Three things happen in the old daemons when entries meet. A later entry of the same name, protocol and address
//! replaces an earlier one (so Debian's `tcp6` replaces half of `tcp`). Other entries that want the same port get
//! an error from bind(2), and are not served. And entries that differ in their socket alone are one service to us,
//! with two sockets. [`super::read_table`] calls [`Reading::find_places`] for each entry and
//! [`Reading::settle_entries`] for all.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::dialect::Families;
use super::entry::{Entry, Place};
use super::reading::Reading;
use crate::config::dialect::Dialect;
use crate::config::location::Spanned;
use crate::config::machine::{parse_hosts, read_list};
use crate::config::units::parse_digits;

/// Entries of one daemon with an equal identity differ at most in the protocol.
type Identity = (bool, Vec<String>, String, bool);

impl Reading<'_> {
    /// Finds the sockets of an entry; `None` if there are none.
    pub(super) fn find_places(&mut self, entry: &mut Entry) -> Option<()> {
        let Some(base) = entry.protocol.base else {
            let (address, key) = (Some(entry.service.clone()), entry.protocol.name.clone());
            entry.places.push(Place { v6: false, address, key, joined: false });
            return Some(());
        };
        if let Some(name) = self.behind_tcpmux(entry) {
            return self.place_behind_tcpmux(entry, name);
        }
        entry.port = Some(self.find_port(entry, base)?);
        let hosts = entry.hosts.clone().unwrap_or_else(|| self.hosts.clone());
        for host in &hosts {
            for place in self.host_places(host, entry) {
                if !entry.places.contains(&place) {
                    entry.places.push(place);
                }
            }
        }
        if entry.places.is_empty() {
            return self.skip(&entry.at, "there is no address to listen on");
        }
        Some(())
    }

    /// The name, `tcpmux/NAME` or `tcpmux/+NAME`, of a service that has no port of its own.
    fn behind_tcpmux(&self, entry: &Entry) -> Option<String> {
        entry.service.strip_prefix("tcpmux/").filter(|_| self.dialect.knows_tcpmux()).map(|_| entry.service.clone())
    }

    fn place_behind_tcpmux(&mut self, entry: &mut Entry, name: String) -> Option<()> {
        if entry.datagram {
            return self.skip(&entry.at, "tcpmux hands over connections, and these are datagrams");
        }
        entry.wait.value = false;
        entry.places.push(Place { v6: false, address: Some(name), key: "tcpmux".to_owned(), joined: false });
        Some(())
    }

    /// The port in numbers. Zero is none.
    fn find_port(&mut self, entry: &Entry, base: &'static str) -> Option<u16> {
        let port = match parse_digits(&entry.service) {
            Some(number) => u16::try_from(number).ok().filter(|port| *port > 0),
            None => self.ports.find_port(&entry.service, base),
        };
        if port.is_some() {
            return port;
        }
        let message = match entry.service.as_str() {
            "" => "the service's name is missing".to_owned(),
            number if parse_digits(number).is_some() => format!("{number} is no port; expected 1 to 65535"),
            name => format!("there is no port {name:?} for {base} in /etc/services"),
        };
        self.skip(&entry.at, message)
    }

    /// The places of one host, as far as the protocol has addresses of their kind.
    fn host_places(&mut self, host: &str, entry: &Entry) -> Vec<Place> {
        let families = entry.protocol.families;
        if host == "*" {
            return [(false, families.v4), (true, families.v6)]
                .into_iter()
                .filter(|(_, wanted)| *wanted)
                .map(|(v6, _)| self.make_place(entry, None, v6))
                .collect();
        }
        let known = self.host_addresses(host);
        let fits = |v6: bool| if v6 { families.v6 } else { families.v4 };
        let places: Vec<Place> = known
            .iter()
            .filter(|(v6, _)| fits(*v6))
            .map(|(v6, address)| self.make_place(entry, Some(address.clone()), *v6))
            .collect();
        match (known.is_empty(), places.is_empty()) {
            (true, _) => {
                let message =
                    format!("host {host:?} is left out: it is not in /etc/hosts, and oxinetd asks no name server");
                self.warn(&entry.at, message);
            }
            (false, true) => {
                let protocol = &entry.protocol.name;
                self.warn(&entry.at, format!("{host:?} is left out: it has no address for {protocol}"));
            }
            _ => {}
        }
        places
    }

    fn make_place(&self, entry: &Entry, address: Option<String>, v6: bool) -> Place {
        let Families { one_socket, .. } = entry.protocol.families;
        // Debian reads `tcp` once as it is and once as `tcp6`.
        let each = self.dialect == Dialect::Debian && !one_socket && entry.protocol.families.v4 && v6;
        let key = format!("{}{}", entry.protocol.name, if each { "6" } else { "" });
        // Two sockets for datagrams may share a port, and the one of the datagram's own family gets it.
        let joined = one_socket && address.is_none() && !entry.datagram;
        Place { v6, joined, address, key }
    }

    /// The addresses of a host, IPv6 or not: itself, or those of /etc/hosts.
    fn host_addresses(&mut self, host: &str) -> Vec<(bool, String)> {
        let itself = address_family(host).map(|v6| vec![(v6, host.to_owned())]);
        itself.unwrap_or_else(|| {
            let machine = self.machine;
            let parse = |address: &str| address_family(address).map(|v6| (v6, address.to_owned()));
            let list = self.names.get_or_insert_with(|| parse_hosts(&read_list(machine, "/etc/hosts"), parse));
            list.get(&host.to_ascii_lowercase()).cloned().unwrap_or_default()
        })
    }

    /// Lets the entries meet; what is left of them.
    pub(super) fn settle_entries(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        let mut known: HashMap<Identity, Vec<usize>> = HashMap::new();
        let mut settled: Vec<Entry> = Vec::with_capacity(entries.len());
        for mut entry in entries {
            let hosts = entry.hosts.clone().unwrap_or_default();
            let others = known.entry((entry.off, hosts, entry.service.clone(), entry.datagram)).or_default();
            for other in others.iter() {
                merge_entries(&mut settled[*other], &mut entry);
            }
            if !entry.places.is_empty() {
                others.push(settled.len());
                settled.push(entry);
            }
        }
        for entry in settled.iter().filter(|entry| entry.places.is_empty() && !entry.off) {
            self.warn(&entry.at, "a later entry of the same name replaces this one, as it does in inetd");
        }
        settled.retain(|entry| !entry.places.is_empty());
        self.bind_entries(&mut settled);
        settled.retain(|entry| !entry.places.is_empty());
        settled
    }

    /// Gives each socket to the first entry that wants it, as bind(2) does.
    fn bind_entries(&mut self, entries: &mut [Entry]) {
        let mut taken = Taken::default();
        for entry in entries.iter_mut().filter(|entry| !entry.off) {
            let sockets = wanted_sockets(entry);
            let holders: Vec<Option<usize>> = sockets.iter().map(|socket| taken.find_holder(socket)).collect();
            let together = entry.places.iter().zip(&holders).any(|(place, holder)| place.joined && holder.is_some());
            let mut free = holders.iter().map(Option::is_none);
            let keep = |place: &Place| free.next() == Some(true) && !(together && place.joined);
            let kept: Vec<bool> = entry.places.iter().map(keep).collect();
            for (socket, _) in sockets.into_iter().zip(&kept).filter(|(_, kept)| **kept) {
                taken.take_socket(socket, entry.at.line_col().line);
            }
            let mut keep = kept.iter();
            entry.places.retain(|_| keep.next() == Some(&true));
            let shared = entry.datagram && entry.protocol.families.one_socket && !entry.places.is_empty();
            if let Some(line) = holders.into_iter().flatten().next().filter(|_| !shared) {
                let what = if entry.places.is_empty() { "the service" } else { "a part of its addresses" };
                let message = format!(
                    "{what} is left out: the entry at line {line} has the port, and inetd could not bind it twice either"
                );
                self.warn(&entry.at, message);
            }
        }
    }
}

/// The sockets that an entry asks bind(2) for.
fn wanted_sockets(entry: &Entry) -> Vec<Socket> {
    let socket = |place: &Place| ((entry.datagram, entry.port, place.v6), place.address.clone());
    entry.places.iter().map(socket).collect()
}

/// A later entry meets an earlier one of the same name.
fn merge_entries(earlier: &mut Entry, later: &mut Entry) {
    let same = earlier.rest == later.rest
        && buffer_size(&earlier.send_buffer) == buffer_size(&later.send_buffer)
        && buffer_size(&earlier.receive_buffer) == buffer_size(&later.receive_buffer);
    let in_both =
        |place: &Place, others: &[Place]| others.iter().any(|other| other.key == place.key && other.v6 == place.v6);
    if same {
        later.places.retain(|place| !in_both(place, &earlier.places));
        let apart = |place: &Place| earlier.places.iter().all(|other| other.v6 != place.v6) && !place.joined;
        if later.places.iter().all(apart) && !earlier.places.iter().any(|place| place.joined) {
            earlier.places.append(&mut later.places);
        }
    } else {
        earlier.places.retain(|place| !in_both(place, &later.places));
    }
}

fn buffer_size(buffer: &Option<Spanned<u32>>) -> Option<u32> {
    buffer.as_ref().map(|set| set.value)
}

/// Type, port and family; nothing for a Unix socket.
type Port = (bool, Option<u16>, bool);
/// The address on it, or the path of a Unix socket.
type Socket = (Port, Option<String>);

/// The sockets that are taken, and the line of the entry that has each.
#[derive(Default)]
struct Taken {
    all: HashMap<Port, usize>,
    some: HashMap<Port, HashMap<String, usize>>,
}

impl Taken {
    /// The line of the entry that has this socket, or one that excludes it.
    fn find_holder(&self, (port, address): &Socket) -> Option<usize> {
        let some = self.some.get(port);
        let clash = match address {
            None => some.and_then(|some| some.values().min()),
            Some(address) => some.and_then(|some| some.get(address)),
        };
        self.all.get(port).or(clash).copied()
    }

    fn take_socket(&mut self, (port, address): Socket, line: usize) {
        match address {
            None => self.all.insert(port, line),
            Some(address) => self.some.entry(port).or_default().insert(address, line),
        };
    }
}

/// Is it an address of IPv6, or of IPv4? `None` for a name.
fn address_family(host: &str) -> Option<bool> {
    let (address, _) = host.split_once('%').unwrap_or((host, ""));
    if host.parse::<Ipv4Addr>().is_ok() {
        return Some(false);
    }
    address.parse::<Ipv6Addr>().is_ok().then_some(true)
}
