//! The forms that an address may have in `only_from` and `no_access`, as networks.
//!
//! Numbers as inet_aton(3) reads them, of which trailing zeros stand for everything below; IPv6 addresses; a prefix
//! length behind a slash; and the factorized form, `192.0.2.{1,5}`. Names are not looked up here: what is none of
//! these forms comes back as [`Form::Name`]. Where xinetd matches something else than one would read, a doubt says
//! so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The meaning of a word.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Networks, and those that were perhaps meant if xinetd reads the word otherwise than people do.
    Networks { networks: Vec<IpNet>, doubt: Option<Suspicion> },
    /// A name of a host, a domain or a network.
    Name,
    /// Nothing that xinetd could read: it does not start the service.
    Bad(&'static str),
}

/// A word that xinetd reads otherwise than people do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Suspicion {
    /// The networks that were probably meant.
    pub meant: Vec<IpNet>,
    /// How xinetd reads it.
    pub xinetd: String,
}

/// Reads a word of a list.
pub(super) fn parse_member(word: &str) -> Form {
    if word.contains('{') {
        return parse_factorized(word);
    }
    if word.contains(',') {
        return Form::Bad("there is a comma in this address; a space parts addresses");
    }
    let dotted = word.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit());
    if dotted && (word.starts_with('.') || word.contains("..")) {
        return Form::Bad("there are two dots without a number between them");
    }
    match word.split_once('/') {
        Some((address, prefix)) => parse_masked(address, prefix).unwrap_or(Form::Name),
        None => parse_numeric(word).unwrap_or(Form::Name),
    }
}

fn certain_network(network: IpNet) -> Form {
    Form::Networks { networks: vec![network], doubt: None }
}

fn v4_network(address: Ipv4Addr, length: u8) -> Option<IpNet> {
    Ipv4Net::new(address, length).ok().map(|network| network.trunc().into())
}

fn v6_network(address: Ipv6Addr, length: u8) -> Option<IpNet> {
    Ipv6Net::new(address, length).ok().map(|network| network.trunc().into())
}

fn parse_numeric(word: &str) -> Option<Form> {
    if word.contains(':') {
        let address: Ipv6Addr = word.split('%').next()?.parse().ok()?;
        if let Some(address) = address.to_ipv4_mapped() {
            // xinetd compares this with addresses that it has as IPv4 by then.
            let xinetd = "never matches this, as an IPv4 client has an IPv4 address".to_owned();
            let meant = v4_network(address, 32).into_iter().collect();
            return Some(Form::Networks { networks: Vec::new(), doubt: Some(Suspicion { meant, xinetd }) });
        }
        return v6_network(address, if address.is_unspecified() { 0 } else { 128 }).map(certain_network);
    }
    let address = parse_aton(word)?;
    let read = v4_network(address, wildcard_length(address))?;
    if word.parse::<Ipv4Addr>().is_ok() {
        return Some(certain_network(read));
    }
    let xinetd = format!("reads this as {read}");
    let doubt = Some(Suspicion { meant: as_written(word).into_iter().collect(), xinetd });
    Some(Form::Networks { networks: vec![read], doubt })
}

/// The prefix length of an address whose trailing zeros stand for everything below.
fn wildcard_length(address: Ipv4Addr) -> u8 {
    let zeros = address.octets().iter().rev().take_while(|octet| **octet == 0).count();
    32 - 8 * u8::try_from(zeros).unwrap_or(0)
}

/// `10`, `192.0.2`: the network that people mean by it.
fn as_written(word: &str) -> Option<IpNet> {
    let octets =
        word.trim_end_matches('.').split('.').map(|part| part.parse::<u8>().ok()).collect::<Option<Vec<_>>>()?;
    let mut address = [0; 4];
    address.get_mut(..octets.len())?.copy_from_slice(&octets);
    v4_network(address.into(), 8 * u8::try_from(octets.len()).ok()?)
}

/// Reads an address as inet_aton(3) does: 1 to 4 numbers, decimal, octal or hexadecimal, the last for all that is
/// left.
fn parse_aton(word: &str) -> Option<Ipv4Addr> {
    let parts = word.split('.').map(c_number).collect::<Option<Vec<u32>>>()?;
    let (last, first) = parts.split_last()?;
    if parts.len() > 4 || first.iter().any(|part| *part > 255) {
        return None;
    }
    let room = 32 - 8 * u32::try_from(first.len()).ok()?;
    if room < 32 && *last >= 1 << room {
        return None;
    }
    let high = first.iter().fold(0_u32, |sum, part| sum << 8 | part);
    let high = high.checked_shl(room).unwrap_or(0);
    Some(Ipv4Addr::from(high | last))
}

fn c_number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(digits, radix).ok().filter(|_| plain)
}

/// `ADDRESS/LENGTH`. xinetd reads the digits at the start of LENGTH and forgets the rest.
fn parse_masked(address: &str, prefix: &str) -> Option<Form> {
    let digits = prefix.find(|c: char| !c.is_ascii_digit()).unwrap_or(prefix.len());
    let (number, rest) = prefix.split_at(digits);
    let length: u64 = number.parse().ok()?;
    let full = |most: u8| u8::try_from(length).map_or(most, |length| length.min(most));
    if address.contains(':') {
        let address: Ipv6Addr = address.split('%').next()?.parse().ok()?;
        let meant = v6_network(address, full(128))?;
        if length < 128 {
            return Some(certain_network(meant));
        }
        let doubt = Suspicion { meant: vec![meant], xinetd: "never matches an IPv6 address with /128".to_owned() };
        return Some(Form::Networks { networks: Vec::new(), doubt: Some(doubt) });
    }
    let address = parse_aton(address)?;
    let read = v4_network(address, full(32))?;
    if rest.is_empty() {
        return Some(certain_network(read));
    }
    let mask: Option<Ipv4Addr> = prefix.parse().ok();
    let meant = mask.and_then(|mask| Ipv4Net::with_netmask(address, mask).ok()).map(|network| network.trunc().into());
    let doubt = Suspicion { meant: meant.into_iter().collect(), xinetd: format!("reads this as {read}") };
    Some(Form::Networks { networks: vec![read], doubt: Some(doubt) })
}

/// `192.0.2.{1,5}`: the part before the brace, then each number for the next octet, and everything below.
fn parse_factorized(word: &str) -> Form {
    const BAD: Form = Form::Bad("expected a factorized address, such as 192.0.2.{1,5}");
    let Some((start, list)) = word.split_once('{') else { return BAD };
    if start.contains("..") || start.starts_with('.') {
        return Form::Bad("there are two dots without a number between them");
    }
    let octets = start.split_terminator('.').map(|part| part.parse::<u8>().ok()).collect::<Option<Vec<_>>>();
    let (Some(octets), Some(list)) = (octets, list.strip_suffix('}')) else { return BAD };
    if octets.len() > 3 || (!octets.is_empty() && !start.ends_with('.')) {
        return BAD;
    }
    let mut networks = Vec::new();
    for number in list.split(',') {
        let Ok(number) = number.parse::<u8>() else {
            return Form::Bad("expected numbers up to 255 in the braces, such as 192.0.2.{1,5}");
        };
        let mut address = [0; 4];
        address[..octets.len()].copy_from_slice(&octets);
        address[octets.len()] = number;
        networks.extend(v4_network(address.into(), 8 * (octets.len() as u8 + 1)));
    }
    Form::Networks { networks, doubt: None }
}

/// A literal address of a socket.
pub(super) fn parse_literal(word: &str) -> Option<IpAddr> {
    if word.contains(':') { word.parse().ok().map(IpAddr::V6) } else { parse_aton(word).map(IpAddr::V4) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(word: &str) -> String {
        match parse_member(word) {
            Form::Networks { networks, doubt } => {
                let text = |networks: &[IpNet]| networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                let doubt = doubt.map(|doubt| format!(" not {}", text(&doubt.meant))).unwrap_or_default();
                format!("{}{doubt}", text(&networks))
            }
            Form::Name => "a name".to_owned(),
            Form::Bad(_) => "bad".to_owned(),
        }
    }

    #[test]
    fn trailing_zeros_stand_for_everything_below() {
        for (word, meaning) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.0", "192.0.2.0/24"),
            ("10.22.0.0", "10.22.0.0/16"),
            ("10.0.0.0", "10.0.0.0/8"),
            ("0.0.0.0", "0.0.0.0/0"),
            ("10.0.0.5", "10.0.0.5/32"),
            ("::", "::/0"),
            ("2001:db8::1", "2001:db8::1/128"),
        ] {
            assert_eq!(networks(word), meaning, "{word}");
        }
    }

    #[test]
    fn a_length_says_how_much_counts() {
        assert_eq!(networks("192.0.2.77/24"), "192.0.2.0/24");
        assert_eq!(networks("192.0.2.0/32"), "192.0.2.0/32");
        assert_eq!(networks("127.0.0.1/33"), "127.0.0.1/32");
        assert_eq!(networks("1.2.3.4/0"), "0.0.0.0/0");
        assert_eq!(networks("2001:db8::5/32"), "2001:db8::/32");
    }

    #[test]
    fn what_xinetd_reads_otherwise_than_people_is_doubted() {
        assert_eq!(networks("10"), "0.0.0.10/32 not 10.0.0.0/8");
        assert_eq!(networks("192.231.139"), "192.231.0.139/32 not 192.231.139.0/24");
        assert_eq!(networks("0x7f.1"), "127.0.0.1/32 not ");
        assert_eq!(networks("127.0.0.0/255.255.255.0"), "127.0.0.0/32 not 127.0.0.0/24");
        assert_eq!(networks("::1/128"), " not ::1/128");
        assert_eq!(networks("::ffff:192.0.2.1"), " not 192.0.2.1/32");
    }

    #[test]
    fn braces_factor_an_octet_out() {
        assert_eq!(networks("128.138.{12,13}"), "128.138.12.0/24 128.138.13.0/24");
        assert_eq!(networks("192.0.2.{1,5}"), "192.0.2.1/32 192.0.2.5/32");
        assert_eq!(networks("{10,127}"), "10.0.0.0/8 127.0.0.0/8");
        for bad in ["127.{300}", "10..{1}", "10.{1}.2", "10.{}", "10.{1,}", "10.{a}", "1.2.3.4.{5}", "10{1}", "10.{1"] {
            assert_eq!(networks(bad), "bad", "{bad}");
        }
    }

    #[test]
    fn the_rest_are_names() {
        for name in ["localhost", ".example.org", "example.org", "1.2.3.4.5", "256.1.1.1", "10.", "<ip>", "#", "a/24"] {
            assert_eq!(networks(name), "a name", "{name}");
        }
        for bad in ["10.0.0.1,10.0.0.2", "...", "10..1"] {
            assert_eq!(networks(bad), "bad", "{bad}");
        }
    }
}
