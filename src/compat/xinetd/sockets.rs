//! Where a service listens: its protocol, its port and its address. Steps of [`super::service`].

use std::net::IpAddr;

use super::draft::{Bind, Fault, Flag, Kind};
use super::maker::{Maker, Step};
use crate::config::location::{Location, Spanned};

impl Maker<'_, '_> {
    /// Stream or datagrams? xinetd derives the type of the socket from the protocol, and the other way round.
    pub(super) fn find_transport(&mut self) -> Result<bool, (Location, Fault)> {
        let (kind, protocol) = (self.draft.socket_type.as_deref(), self.draft.protocol.as_deref());
        let (kind, protocol) = match (kind, protocol) {
            (Some(kind), Some(protocol)) => (kind, protocol.to_ascii_lowercase()),
            (Some("dgram"), None) => ("dgram", "udp".to_owned()),
            (Some(kind), None) => (kind, "tcp".to_owned()),
            (None, Some(protocol)) if protocol.eq_ignore_ascii_case("tcp") => ("stream", "tcp".to_owned()),
            (None, Some(protocol)) if protocol.eq_ignore_ascii_case("udp") => ("dgram", "udp".to_owned()),
            (None, _) => return self.end_broken("service", "socket_type is missing, such as socket_type = stream"),
        };
        match (kind, protocol.as_str()) {
            ("stream", "tcp") => Ok(false),
            ("dgram", "udp") => Ok(true),
            ("stream" | "dgram", "tcp" | "udp") => self.end_broken(
                "protocol",
                format!("{kind} and {protocol} do not go together; stream goes with tcp, dgram with udp"),
            ),
            _ => self
                .end_refused("socket_type", format!("{kind} over {protocol} is not supported, only tcp and udp are")),
        }
    }

    /// The port: as /etc/services has it, unless the service is UNLISTED.
    pub(super) fn find_port(&mut self, datagrams: bool) -> Result<u16, (Location, Fault)> {
        let protocol = self.draft.protocol.clone().unwrap_or_else(|| if datagrams { "udp" } else { "tcp" }.to_owned());
        let name = &self.draft.name;
        if self.draft.has_kind(Kind::Unlisted) {
            return match self.draft.port {
                Some(0) => {
                    self.end_refused("port", "port 0 stands for a port that nobody knows; write one from 1 to 65535")
                }
                Some(port) => Ok(port),
                None => self.end_broken("type", "a service that is UNLISTED needs a port"),
            };
        }
        let listed = self.world.ports.find_port(name, &protocol);
        match (listed, self.draft.port) {
            (Some(listed), None) => Ok(listed),
            (Some(listed), Some(port)) if listed == port => Ok(port),
            (Some(listed), Some(port)) => self.end_broken(
                "port",
                format!("/etc/services has port {listed} for {name}/{protocol}, not {port}; if {port} is meant, add type = UNLISTED"),
            ),
            (None, port) => {
                let port = port.map_or_else(|| "a port and type = UNLISTED".to_owned(), |_| "type = UNLISTED".to_owned());
                self.end_broken("port", format!("there is no service {name:?} for {protocol} in /etc/services; add {port}"))
            }
        }
    }

    /// No socket, but a name that clients of tcpmux ask for.
    pub(super) fn listen_behind_tcpmux(&mut self, datagrams: bool) -> Step {
        if datagrams || !self.draft.has_kind(Kind::Unlisted) {
            return self.end_broken("type", "a service behind tcpmux is of protocol = tcp, and type has UNLISTED too");
        }
        let plus = if self.draft.has_kind(Kind::TcpmuxPlus) { "+" } else { "" };
        let at = self.draft.place_of("type");
        let text = format!("tcpmux/{plus}{}", self.draft.name);
        self.spec.listen = Some(Spanned { value: vec![at.spanned(text)], at });
        Ok(())
    }

    /// The sockets, in the grammar of `listen`.
    pub(super) fn put_listen(&mut self, datagrams: bool, port: u16) -> Step {
        let protocol = if datagrams { "udp" } else { "tcp" };
        let only_v4 = self.draft.has_flag(Flag::Ipv4) && !self.draft.has_flag(Flag::Ipv6);
        let v6only = self.is_v6only(only_v4);
        let bind = self.inherited_value("bind", |draft| &draft.bind);
        let address = match bind.as_ref().map(|bind| &bind.value) {
            None => None,
            Some(Bind::Scoped(address)) => Some(format!("[{address}]")),
            Some(Bind::Address(address)) => specific_address(*address),
            Some(Bind::OneOf(addresses)) => {
                let family = |address: &&IpAddr| address.is_ipv4() == only_v4;
                addresses.iter().find(family).or(addresses.first()).copied().and_then(specific_address)
            }
        };
        let any_v4 =
            matches!(bind.as_ref().map(|bind| &bind.value), Some(Bind::Address(IpAddr::V4(v4))) if v4.is_unspecified());
        let text = match address {
            Some(address) if only_v4 && address.starts_with('[') => {
                return self.end_broken("bind", format!("flags ask for IPv4, and {address} is an IPv6 address"));
            }
            Some(address) => format!("{protocol}/{address}:{port}"),
            None if only_v4 || any_v4 => format!("{protocol}4/{port}"),
            None if v6only => format!("{protocol}6/{port}"),
            None => format!("{protocol}/{port}"),
        };
        let at = bind.map_or_else(|| self.draft.place_of("port"), |bind| bind.at);
        self.spec.listen = Some(Spanned { value: vec![at.spanned(text)], at });
        Ok(())
    }

    /// xinetd takes `v6only = no` for yes, and does not see it in the defaults. What is written counts here.
    fn is_v6only(&mut self, only_v4: bool) -> bool {
        let Some(Spanned { value, at }) = self.inherited_value("v6only", |draft| &draft.v6only) else { return false };
        match (value, self.draft.v6only) {
            (false, Some(_)) if !only_v4 => {
                self.add_note(
                    &at,
                    "xinetd takes this for yes, and keeps IPv4 clients out; here they may come, as it says",
                );
            }
            (true, None) => {
                self.add_note(&at, "xinetd does not see v6only in defaults; here it holds for all services");
            }
            _ => {}
        }
        value
    }
}

/// An address in the grammar of `listen`; nothing for all of them.
fn specific_address(address: IpAddr) -> Option<String> {
    match address {
        address if address.is_unspecified() => None,
        IpAddr::V4(address) => Some(address.to_string()),
        IpAddr::V6(address) => {
            Some(address.to_ipv4_mapped().map_or_else(|| format!("[{address}]"), |v4| v4.to_string()))
        }
    }
}
