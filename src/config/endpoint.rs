//! The grammar of `listen`: `[tcp|tcp4|tcp6|mptcp|udp|udp4|udp6/][ADDRESS:]PORT`, `unix:/path`, `unix-dgram:/path`.
//!
//! [`super::check`] calls [`Ports::parse_endpoints`]. Names of ports come from the machine's /etc/services, read
//! once when first needed; names of interfaces from the kernel; names of hosts are never looked up. Errors say what
//! would be right.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;

use super::machine::{Machine, read_list};
use super::units::parse_digits;
use super::{Endpoint, Transport};

/// The most bytes in the path of a Unix socket: `sun_path` of unix(7) without its NUL.
const MAX_UNIX_PATH_BYTES: usize = 107;

/// Which addresses a word of the grammar means.
#[derive(Clone, Copy, PartialEq)]
enum Family {
    Both,
    V4,
    V6,
}

/// The names of ports.
pub(crate) struct Ports<'a> {
    machine: &'a dyn Machine,
    /// By name and protocol.
    services: Option<HashMap<(String, String), u16>>,
}

impl<'a> Ports<'a> {
    pub(crate) fn new(machine: &'a dyn Machine) -> Self {
        Self { machine, services: None }
    }

    pub(crate) fn parse_endpoints(&mut self, text: &str) -> Result<Vec<Endpoint>, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(vec![Endpoint::UnixStream(unix_path(path)?)]);
        }
        if let Some(path) = text.strip_prefix("unix-dgram:") {
            return Ok(vec![Endpoint::UnixDatagram(unix_path(path)?)]);
        }
        if text.starts_with("vsock:") {
            return Err("vsock is not supported yet".to_owned());
        }
        let (word, rest) = text.split_once('/').unwrap_or(("tcp", text));
        let (transport, family) = match word {
            "tcp" => (Transport::Tcp, Family::Both),
            "tcp4" => (Transport::Tcp, Family::V4),
            "tcp6" => (Transport::Tcp, Family::V6),
            "mptcp" => (Transport::Mptcp, Family::Both),
            "udp" => (Transport::Udp, Family::Both),
            "udp4" => (Transport::Udp, Family::V4),
            "udp6" => (Transport::Udp, Family::V6),
            _ => {
                return Err(format!("{word:?} is no protocol; expected tcp, tcp4, tcp6, mptcp, udp, udp4 or udp6"));
            }
        };
        let (address, port) = self.split_address(rest)?;
        let port = self.parse_port(port, transport)?;
        match address {
            Some(address) => Ok(vec![at_address(transport, family, address, port)?]),
            None => Ok(at_all_addresses(transport, family, port)),
        }
    }

    fn parse_port(&mut self, text: &str, transport: Transport) -> Result<u16, String> {
        if let Some(number) = parse_digits(text) {
            let port = u16::try_from(number).ok().filter(|port| *port > 0);
            return port.ok_or_else(|| format!("{number} is no port; expected 1 to 65535"));
        }
        if text.is_empty() || text.starts_with(['+', '-']) {
            return Err(format!("expected a port, a number or a name of /etc/services, not {text:?}"));
        }
        let protocol = if transport == Transport::Udp { "udp" } else { "tcp" };
        self.find_port(text, protocol).ok_or_else(|| format!("no port named {text:?} for {protocol} in /etc/services"))
    }

    /// The port that /etc/services gives a name for a protocol.
    pub(crate) fn find_port(&mut self, name: &str, protocol: &str) -> Option<u16> {
        let machine = self.machine;
        let services = self.services.get_or_insert_with(|| parse_services(&read_list(machine, "/etc/services")));
        services.get(&(name.to_owned(), protocol.to_owned())).copied()
    }

    /// Takes `ADDRESS:` off, if it is there.
    fn split_address<'t>(&self, text: &'t str) -> Result<(Option<SocketAddr>, &'t str), String> {
        if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once("]:").ok_or("expected [ADDRESS]:PORT, such as [::1]:80")?;
            return Ok((Some(SocketAddr::V6(self.v6_address(address)?)), port));
        }
        match text.rsplit_once(':') {
            None => Ok((None, text)),
            Some((address, _)) if address.contains(':') => {
                Err(format!("an IPv6 address stands in brackets, such as [::1]:80; found {text:?}"))
            }
            Some(("*", port)) => Ok((None, port)),
            Some((address, port)) => {
                let v4: Ipv4Addr = address.parse().map_err(|_| {
                    format!("{address:?} is no address; expected one in numbers, names are not looked up")
                })?;
                Ok((Some(SocketAddr::from((v4, 0))), port))
            }
        }
    }

    /// An IPv6 address with an optional `%interface`.
    fn v6_address(&self, text: &str) -> Result<SocketAddrV6, String> {
        let (address, scope) = text.split_once('%').map_or((text, None), |(address, scope)| (address, Some(scope)));
        let address: Ipv6Addr = address.parse().map_err(|_| format!("{address:?} is no IPv6 address"))?;
        if let Some(v4) = address.to_ipv4_mapped() {
            return Err(format!("{address} is an IPv4 address in disguise; write {v4}"));
        }
        let scope = match scope {
            None if address.is_unicast_link_local() => {
                return Err(format!("a link-local address needs its interface, such as [{address}%eth0]:80"));
            }
            None => 0,
            Some(name) => match parse_digits(name) {
                Some(number) => u32::try_from(number).map_err(|_| format!("{name} is no interface"))?,
                None => self.machine.interface(name).ok_or_else(|| format!("there is no interface {name:?}"))?,
            },
        };
        Ok(SocketAddrV6::new(address, 0, 0, scope))
    }
}

/// Reads services(5): `NAME PORT/PROTOCOL ALIAS…  # comment`. The first of equal names counts.
fn parse_services(text: &str) -> HashMap<(String, String), u16> {
    let mut services = HashMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let (Some(name), Some((port, protocol))) = (words.next(), words.next().and_then(|word| word.split_once('/')))
        else {
            continue;
        };
        let Some(port) = port.parse().ok().filter(|port| *port > 0) else {
            continue;
        };
        for name in std::iter::once(name).chain(words) {
            services.entry((name.to_owned(), protocol.to_owned())).or_insert(port);
        }
    }
    services
}

fn unix_path(path: &str) -> Result<PathBuf, String> {
    if path.starts_with('@') {
        return Err("abstract Unix sockets are not supported, anybody could take them; use a path".to_owned());
    }
    if !path.starts_with('/') {
        return Err(format!("expected an absolute path, such as unix:/run/name.sock, not {path:?}"));
    }
    if path.len() > MAX_UNIX_PATH_BYTES {
        let length = path.len();
        return Err(format!("the path has {length} bytes; that of a Unix socket has at most {MAX_UNIX_PATH_BYTES}"));
    }
    Ok(PathBuf::from(path))
}

fn at_address(transport: Transport, family: Family, mut address: SocketAddr, port: u16) -> Result<Endpoint, String> {
    let fits = match family {
        Family::Both => true,
        Family::V4 => address.is_ipv4(),
        Family::V6 => address.is_ipv6(),
    };
    if !fits {
        return Err(format!("{} is an address of the other family than the protocol says", address.ip()));
    }
    address.set_port(port);
    Ok(Endpoint::Inet { transport, address, dual: false })
}

/// All addresses. TCP takes both families on one socket; UDP has one for each, since a handler that reads datagrams
/// itself expects IPv4 peers to be IPv4.
fn at_all_addresses(transport: Transport, family: Family, port: u16) -> Vec<Endpoint> {
    let v4 = SocketAddr::from((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
    let v6 = SocketAddr::from((IpAddr::V6(Ipv6Addr::UNSPECIFIED), port));
    let endpoint = |address, dual| Endpoint::Inet { transport, address, dual };
    match (family, transport) {
        (Family::V4, _) => vec![endpoint(v4, false)],
        (Family::V6, _) => vec![endpoint(v6, false)],
        (Family::Both, Transport::Udp) => vec![endpoint(v4, false), endpoint(v6, false)],
        (Family::Both, _) => vec![endpoint(v6, true)],
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::Local;
    use super::*;

    fn read(text: &str) -> String {
        match Ports::new(&Local).parse_endpoints(text) {
            Ok(endpoints) => endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(message) => format!("error: {message}"),
        }
    }

    #[test]
    fn a_bare_port_is_tcp_on_one_socket_for_both_families() {
        let address = "[::]:9418".parse().unwrap();
        let both = Endpoint::Inet { transport: Transport::Tcp, address, dual: true };
        assert_eq!(Ports::new(&Local).parse_endpoints("9418").unwrap(), std::slice::from_ref(&both));
        assert_eq!(Ports::new(&Local).parse_endpoints("tcp/9418").unwrap(), std::slice::from_ref(&both));
        assert_eq!(Ports::new(&Local).parse_endpoints("*:9418").unwrap(), [both]);
    }

    #[test]
    fn udp_has_a_socket_for_each_family() {
        assert_eq!(read("udp/69"), "udp4/69 udp6/69");
        assert_eq!(read("udp6/69"), "udp6/69");
        assert_eq!(read("udp/127.0.0.1:69"), "udp/127.0.0.1:69");
    }

    #[test]
    fn addresses_and_families() {
        assert_eq!(read("tcp4/80"), "tcp4/80");
        assert_eq!(read("127.0.0.1:80"), "tcp/127.0.0.1:80");
        assert_eq!(read("mptcp/[2001:db8::1]:80"), "mptcp/[2001:db8::1]:80");
        assert_eq!(read("tcp/[fe80::1%lo]:80"), "tcp/[fe80::1%1]:80");
        assert_eq!(read("unix:/run/a.sock"), "unix:/run/a.sock");
        assert_eq!(read("unix-dgram:/run/a.sock"), "unix-dgram:/run/a.sock");
    }

    #[test]
    fn what_is_printed_reads_back() {
        let texts =
            "80 tcp4/80 tcp6/80 mptcp/80 mptcp/0.0.0.0:80 mptcp/[::]:80 udp4/1 udp6/1 [::1]:65535 [fe80::1%1]:7";
        for text in texts.split(' ') {
            let endpoints = Ports::new(&Local).parse_endpoints(text).unwrap();
            assert_eq!(Ports::new(&Local).parse_endpoints(&endpoints[0].to_string()).unwrap(), endpoints, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("0", "1 to 65535"),
            ("65536", "1 to 65535"),
            ("sctp/80", "is no protocol"),
            ("tcp/", "expected a port"),
            ("-1", "expected a port"),
            ("::1:80", "in brackets"),
            ("tcp4/[::1]:80", "other family"),
            ("tcp/localhost:80", "names are not looked up"),
            ("[::ffff:192.0.2.1]:80", "write 192.0.2.1"),
            ("[fe80::1]:80", "needs its interface"),
            ("[fe80::1%no-such-if]:80", "no interface"),
            ("[::1]", "expected [ADDRESS]:PORT"),
            ("unix:run/a", "absolute path"),
            ("unix:@name", "abstract"),
            ("vsock:5", "not supported yet"),
            ("tcp/no-such-service-name", "in /etc/services"),
        ] {
            assert!(read(text).starts_with("error: ") && read(text).contains(part), "{text}: {}", read(text));
        }
        assert!(read(&format!("unix:/{}", "a".repeat(107))).contains("at most 107"));
        assert!(!read(&format!("unix:/{}", "a".repeat(106))).contains("error"));
    }

    #[test]
    fn services_have_names_aliases_and_protocols() {
        let services =
            parse_services("# c\nssh 22/tcp # Secure Shell\ntime 37/tcp timserver\ntime\t38/udp\nssh 99/tcp\n");
        let port = |name: &str, protocol: &str| services.get(&(name.to_owned(), protocol.to_owned())).copied();
        assert_eq!(port("ssh", "tcp"), Some(22));
        assert_eq!(port("timserver", "tcp"), Some(37));
        assert_eq!((port("time", "udp"), port("timserver", "udp")), (Some(38), None));
    }
}
