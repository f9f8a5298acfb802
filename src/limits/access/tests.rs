use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

fn access(allow: &[&str], deny: &[&str]) -> Access {
    Access::new(&nets(allow), &nets(deny), &[])
}

fn ask(access: &Access, address: &str) -> (bool, Option<Rule>) {
    let verdict = access.judge_peer(&Peer::Inet(address.parse().unwrap(), 40_000));
    (verdict.allowed, verdict.rule)
}

/// Without lists, with each alone, with both; and an address that is in neither, in one, in both.
#[test]
fn the_truth_table() {
    use Rule::{Allow, Deny};
    let (wide, narrow, same) = ("10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/16");
    let inside = "10.1.2.3";
    for (allow, deny, address, expected) in [
        (vec![], vec![], inside, (true, None)),
        (vec![], vec![wide], inside, (false, Some(Deny(0)))),
        (vec![], vec![wide], "192.0.2.1", (true, None)),
        (vec![wide], vec![], inside, (true, Some(Allow(0)))),
        (vec![wide], vec![], "192.0.2.1", (false, None)),
        (vec![wide], vec![], "2001:db8::1", (false, None)),
        (vec![wide], vec![narrow], inside, (false, Some(Deny(0)))),
        (vec![wide], vec![narrow], "10.2.0.0", (true, Some(Allow(0)))),
        (vec![narrow], vec![wide], inside, (true, Some(Allow(0)))),
        (vec![narrow], vec![wide], "10.2.0.0", (false, Some(Deny(0)))),
        (vec![narrow], vec![same], inside, (false, Some(Deny(0)))),
        (vec![narrow], vec![same], "10.2.0.0", (false, None)),
        (vec![wide, narrow], vec![same, "10.1.2.3/32"], "10.1.2.4", (false, Some(Deny(0)))),
        (vec![wide, "10.1.2.3/32"], vec![narrow], inside, (true, Some(Allow(1)))),
    ] {
        assert_eq!(ask(&access(&allow, &deny), address), expected, "allow {allow:?} deny {deny:?}: {address}");
    }
}

#[test]
fn the_ends_of_a_network_and_of_the_address_space() {
    let rules = access(&["0.0.0.0/0", "::/0"], &["0.0.0.0/32", "10.0.0.0/8", "255.255.255.255/32", "ffff::/16"]);
    for (address, allowed) in [
        ("0.0.0.0", false),
        ("0.0.0.1", true),
        ("9.255.255.255", true),
        ("10.0.0.0", false),
        ("10.255.255.255", false),
        ("11.0.0.0", true),
        ("255.255.255.254", true),
        ("255.255.255.255", false),
        ("::", true),
        ("fffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true),
        ("ffff::", false),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
    ] {
        assert_eq!(ask(&rules, address).0, allowed, "{address}");
    }
}

#[test]
fn of_equal_entries_the_first_is_named() {
    let rules = access(&["10.0.0.0/8", "10.0.0.0/8"], &["192.0.2.0/24", "192.0.2.77/24"]);
    assert_eq!(ask(&rules, "10.0.0.1"), (true, Some(Rule::Allow(0))));
    assert_eq!(ask(&rules, "192.0.2.1"), (false, Some(Rule::Deny(0))), "host bits don't matter");
}

#[test]
fn mapped_addresses_and_networks_are_ipv4() {
    let rules = access(&["::ffff:10.0.0.0/104"], &["::ffff:10.0.0.9/128"]);
    for address in ["10.0.0.1", "::ffff:10.0.0.1"] {
        assert_eq!(ask(&rules, address), (true, Some(Rule::Allow(0))));
    }
    assert_eq!(ask(&rules, "10.0.0.9"), (false, Some(Rule::Deny(0))));
    assert_eq!(ask(&access(&[], &["::ffff:0:0/96"]), "203.0.113.9"), (false, Some(Rule::Deny(0))));
    assert_eq!(ask(&access(&[], &["::/0"]), "203.0.113.9"), (true, None));
    assert_eq!(ask(&access(&[], &["::/0"]), "::ffff:203.0.113.9"), (true, None));
    assert_eq!(ask(&access(&[], &["0.0.0.0/0"]), "2001:db8::1"), (true, None));
}

#[test]
fn peers_without_an_address_are_not_subject_to_networks() {
    let rules = access(&["10.0.0.0/8"], &["0.0.0.0/0", "::/0"]);
    for peer in [Peer::Unix { uid: 0, gid: 0 }, Peer::Unknown] {
        assert_eq!(rules.judge_peer(&peer), Verdict { allowed: true, rule: None });
    }
}

#[test]
fn times_are_asked_apart_from_networks() {
    let sundays = Span { days: 1, from: 0, to: 1440 };
    let rules = Access::new(&[], &[], &[sundays]);
    let monday = LocalTime { weekday: 1, minute: 600 };
    assert!(!rules.is_open_at(monday));
    assert_eq!(rules.next_opening(monday), Some(LocalTime { weekday: 0, minute: 0 }));
}

/// What the manual says, word for word: look at every network, keep the longest, prefer `deny`.
fn linear(allow: &[IpNet], deny: &[IpNet], address: IpAddr) -> Verdict {
    let mut best: Option<(u8, Rule)> = None;
    let denied = deny.iter().enumerate().map(|(n, net)| (net, Rule::Deny(n as u32)));
    let allowed = allow.iter().enumerate().map(|(n, net)| (net, Rule::Allow(n as u32)));
    for (net, rule) in denied.chain(allowed) {
        if net.contains(&address) && best.is_none_or(|(length, _)| net.prefix_len() > length) {
            best = Some((net.prefix_len(), rule));
        }
    }
    let rule = best.map(|(_, rule)| rule);
    Verdict { allowed: rule.map_or(allow.is_empty(), |rule| matches!(rule, Rule::Allow(_))), rule }
}

/// Addresses with few bits that differ, so that random networks nest and collide; and any at all.
fn v4() -> impl Strategy<Value = u32> {
    prop_oneof![(0..8_u32).prop_map(|n| 10 << 24 | n << 14), (0..16_u32).prop_map(|n| 10 << 24 | n), any::<u32>()]
}

fn v6() -> impl Strategy<Value = u128> {
    let prefix = 0x2001_0db8_u128 << 96;
    prop_oneof![
        (0..8_u128).prop_map(move |n| prefix | n << 70),
        (0..16_u128).prop_map(move |n| prefix | n),
        any::<u128>().prop_filter("mapped addresses are IPv4", |bits| bits >> 32 != 0xffff),
    ]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        v4().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        v6().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    ]
}

fn network() -> impl Strategy<Value = IpNet> {
    (address(), 0..=128_u8).prop_map(|(address, length)| {
        let length = if address.is_ipv4() { length % 33 } else { length };
        IpNet::new(address, length).unwrap()
    })
}

fn edges(networks: &[IpNet]) -> impl Iterator<Item = IpAddr> {
    networks.iter().flat_map(|net| [net.network(), net.broadcast()])
}

fn one_off(address: IpAddr) -> [IpAddr; 3] {
    let (down, up) = match address {
        IpAddr::V4(v4) => (Ipv4Addr::from_bits(v4.to_bits().wrapping_sub(1)).into(), {
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits().wrapping_add(1)))
        }),
        IpAddr::V6(v6) => (Ipv6Addr::from_bits(v6.to_bits().wrapping_sub(1)).into(), {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits().wrapping_add(1)))
        }),
    };
    [down, address, up]
}

proptest! {
    #[test]
    fn any_networks_decide_as_a_linear_search(
        allow in prop::collection::vec(network(), 0..20),
        deny in prop::collection::vec(network(), 0..20),
        others in prop::collection::vec(address(), 20),
    ) {
        let rules = Access::new(&allow, &deny, &[]);
        for address in edges(&allow).chain(edges(&deny)).chain(others).flat_map(one_off) {
            let expected = linear(&allow, &deny, address);
            prop_assert_eq!(rules.judge_peer(&Peer::Inet(address, 1)), expected, "{}", address);
        }
    }
}

#[test]
fn four_thousand_networks() {
    let v4 = |n: u32, length| IpNet::new(Ipv4Addr::from_bits(10 << 24 | n << 10).into(), length).unwrap();
    let v6 = |n: u128| IpNet::new(Ipv6Addr::from_bits(0x2001_0db8 << 96 | n << 70).into(), 60).unwrap();
    let allow: Vec<_> = (0..1_000).map(|n| v4(n * 4, 20)).chain((0..1_000).map(v6)).collect();
    let deny: Vec<_> = (0..2_000).map(|n| v4(n * 2, 24)).collect();
    let rules = Access::new(&allow, &deny, &[]);
    for address in edges(&allow).chain(edges(&deny)).step_by(7).flat_map(one_off) {
        assert_eq!(rules.judge_peer(&Peer::Inet(address, 1)), linear(&allow, &deny, address), "{address}");
    }
}
