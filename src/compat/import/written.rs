//! A service of a translation: its keys as people write them, ports in numbers, with its comments.
//!
//! [`super::import`] makes one for each service that can be translated, and writes it. It cannot fail.

use ipnet::IpNet;
use serde_yaml::{Mapping, Value};

use super::comments::Comments;
use crate::config::check::ClientVisibility;
use crate::config::endpoint::Ports;
use crate::config::format::ServiceEntry;
use crate::config::keys::ServiceSpec;
use crate::config::keys::kinds::{Keys, write_section};
use crate::config::{Endpoint, Service, yaml};

/// Keys that mean nothing to a service that does not see its clients, unless it has them itself.
pub(super) const UNSEEN: [&str; 2] = ["per_source", "per_network"];

/// Keys that come later in a translation than in `--dump`, and the keys behind which they come.
const LATER: [(&str, &str); 3] = [("wait", "idle_timeout"), ("when_full", "burst"), ("penalties", "banner")];

/// A service that is about to be written.
pub(super) struct Written<'a> {
    pub(super) entry: &'a ServiceEntry,
    pub(super) map: Mapping,
    /// Names of its ports, as written.
    ports: Option<String>,
    /// Does it see any of its clients?
    pub(super) sees: bool,
}

impl<'a> Written<'a> {
    pub(super) fn new(entry: &'a ServiceEntry, service: &Service, ports: &mut Ports<'_>) -> Self {
        let mut map = in_reading_order(write_section(&entry.spec));
        shorten_hosts(&mut map);
        // Leaves out values that are the default.
        let waits = service.listen.iter().any(Endpoint::is_datagram);
        map.retain(|key, value| {
            !(key.as_str() == Some("wait") && value.as_bool() == Some(waits)
                || key.as_str() == Some("enabled") && value.as_bool() == Some(true))
        });
        let visibility = ClientVisibility::of_sockets(&service.listen, service.wait);
        let names = write_port_numbers(&mut map, ports);
        for key in UNSEEN {
            match (visibility, map.get_mut(key)) {
                (ClientVisibility::FirstDatagram, Some(Value::Mapping(limits))) => {
                    drop(limits.shift_remove("instances"));
                }
                (ClientVisibility::Hidden, Some(_)) => drop(map.shift_remove(key)),
                _ => {}
            }
        }
        Self { entry, map, ports: names, sees: visibility != ClientVisibility::Hidden }
    }
}

impl Written<'_> {
    pub(super) fn service_text(&self, comments: &mut Comments) -> String {
        let mut out = String::new();
        for line in comments.comments_before(self.entry) {
            out += &format!("  # {line}\n");
        }
        out += &format!("  {}:\n", yaml::scalar_text(&self.entry.name));
        let comment = |key: &str| self.ports.clone().filter(|_| key == "listen");
        yaml::write_entries(&self.map, 4, &comment, &mut out);
        out
    }
}

/// Puts what is said of how a service runs behind what it runs, and limits before what becomes of those over them.
fn in_reading_order(map: Mapping) -> Mapping {
    let rank = |key: &Value| {
        let key = key.as_str().unwrap_or_default();
        let after = LATER.iter().find(|(later, _)| *later == key).map(|(_, anchor)| *anchor);
        let name = after.unwrap_or(key);
        (ServiceSpec::NAMES.iter().position(|known| *known == name), after.is_some())
    };
    let mut pairs: Vec<(Value, Value)> = map.into_iter().collect();
    pairs.sort_by_key(|(key, _)| rank(key));
    pairs.into_iter().collect()
}

/// Writes networks of one address as the address.
fn shorten_hosts(map: &mut Mapping) {
    for list in ["allow", "deny"] {
        for value in map.get_mut(list).and_then(Value::as_sequence_mut).into_iter().flatten() {
            let network = value.as_str().and_then(|text| text.parse::<IpNet>().ok());
            if let Some(host) = network.filter(|network| network.prefix_len() == network.max_prefix_len()) {
                *value = host.addr().to_string().into();
            }
        }
    }
}

/// Writes ports in numbers, and `tcp/79` as 79. Gives the names that they had.
fn write_port_numbers(map: &mut Mapping, ports: &mut Ports<'_>) -> Option<String> {
    let Some(Value::Sequence(list)) = map.get_mut("listen") else { return None };
    let mut names: Vec<String> = Vec::new();
    for value in list.iter_mut() {
        let Some(text) = value.as_str().filter(|text| !["unix", "tcpmux/"].iter().any(|kind| text.starts_with(kind)))
        else {
            continue;
        };
        let (before, port) = text.rfind([':', '/']).map_or(("", text), |end| text.split_at(end + 1));
        let base = if text.starts_with("udp") { "udp" } else { "tcp" };
        let number = ports.find_port(port, base).filter(|_| !port.bytes().all(|byte| byte.is_ascii_digit()));
        if number.is_some() && !names.iter().any(|name| name == port) {
            names.push(port.to_owned());
        }
        let number = number.map_or_else(|| port.to_owned(), |number| number.to_string());
        let before = before.strip_prefix("tcp/").unwrap_or(before);
        *value = match number.parse::<u16>() {
            Ok(number) if before.is_empty() => number.into(),
            _ => format!("{before}{number}").into(),
        };
    }
    if let [only] = &list[..] {
        let only = only.clone();
        map.insert("listen".into(), only);
    }
    (!names.is_empty()).then(|| names.join(", "))
}
