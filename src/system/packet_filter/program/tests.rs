use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::sys::bpf;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const SKIP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// A packet's header as far as it matters: its protocol, and its words from the offset of the source on.
fn header(source: IpAddr) -> (u32, u32, Vec<u32>) {
    let words = |bytes: &[u8]| bytes.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
    match source {
        IpAddr::V4(v4) => (IPV4, SOURCE_OFFSET_V4, words(&v4.octets())),
        IpAddr::V6(v6) => (IPV6, SOURCE_OFFSET_V6, words(&v6.octets())),
    }
}

/// Does the program let a packet pass? Written from the kernel's documentation (networking/filter.rst).
fn passes(program: &[Instruction], source: IpAddr) -> bool {
    let (protocol, begin, words) = header(source);
    let (mut at, mut loaded) = (0, 0);
    loop {
        let (code, yes, no, operand) = program[at].parts();
        at += 1;
        let mut jump = |condition: bool| at += usize::from(if condition { yes } else { no });
        match code {
            LOAD if operand == 0xffff_f000 => loaded = protocol,
            LOAD => loaded = words[((operand - 0xfff0_0000 - begin) / 4) as usize],
            EQUAL => jump(loaded == operand),
            AT_LEAST => jump(loaded >= operand),
            ABOVE => jump(loaded > operand),
            SKIP => at += operand as usize,
            RETURN => return operand != 0,
            other => panic!("{other:#x}"),
        }
    }
}

/// Addresses at the edges of a network.
fn edges(network: &IpNet) -> Vec<IpAddr> {
    let near = |v4: IpAddr, step: i32| match v4 {
        IpAddr::V4(v4) => IpAddr::V4(v4.to_bits().wrapping_add_signed(step).into()),
        IpAddr::V6(v6) => IpAddr::V6(v6.to_bits().wrapping_add_signed(step.into()).into()),
    };
    let (first, last) = (network.network(), network.broadcast());
    vec![first, last, near(first, -1), near(last, 1), near(first, 1 << 16), near(first, 1)]
}

fn agrees(networks: &[IpNet], program: &[Instruction], source: IpAddr) {
    let dropped = networks.iter().any(|network| network.contains(&source));
    assert_eq!(passes(program, source), !dropped, "{source} in {networks:?}");
}

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn loopback() -> std::net::UdpSocket {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap()
}

#[test]
fn no_network_drops_no_packet() {
    let (program, taken) = build_program(&[], bpf::INSTRUCTIONS_MAX);
    assert_eq!(taken, 0);
    assert!(["192.0.2.1", "::1"].into_iter().all(|source| passes(&program, source.parse().unwrap())));
}

#[test]
fn networks_of_every_length_within_and_beside_each_other() {
    let list = networks(&[
        "10.0.0.0/8",
        "10.1.0.0/16",
        "192.0.2.1/32",
        "192.0.2.2/31",
        "0.0.0.0/30",
        "255.255.255.255/32",
        "2001:db8::/32",
        "2001:db8:7::/48",
        "2001:db9:0:1::/64",
        "2001:db9:0:2::/64",
        "2001:db9:0:2:1::/80",
        "2001:dba::1/128",
        "2001:dba::2/128",
        "2001:dba:0:0:1::/96",
        "2001:dbb::/97",
        "fe80::/10",
    ]);
    let (all, taken) = build_program(&list, bpf::INSTRUCTIONS_MAX);
    assert_eq!(taken, list.len());
    list.iter().flat_map(edges).for_each(|source| agrees(&list, &all, source));
    for whole in ["0.0.0.0/0", "::/0"] {
        let whole = networks(&[whole]);
        let (all, _) = build_program(&whole, bpf::INSTRUCTIONS_MAX);
        ["1.2.3.4", "::1"].into_iter().for_each(|source| agrees(&whole, &all, source.parse().unwrap()));
    }
}

fn network() -> impl Strategy<Value = IpNet> {
    // Few distinct words, so that networks share them.
    let v4 = (any::<u32>(), 0..=32_u8)
        .prop_map(|(bits, length)| IpNet::new(IpAddr::V4((bits & 0x0f01_0f0f).into()), length));
    let v6 = (any::<u128>(), 1..=128_u8).prop_map(|(bits, length)| {
        IpNet::new(IpAddr::V6((bits & 0x2001_0003_0000_0001_8000_0001_0000_0007).into()), length)
    });
    prop_oneof![v4, v6].prop_map(|network| network.unwrap().trunc())
}

proptest! {
    #[test]
    fn the_program_drops_exactly_the_networks(list in prop::collection::vec(network(), 0..200)) {
        let (all, taken) = build_program(&list, bpf::INSTRUCTIONS_MAX);
        prop_assert!(all.len() <= bpf::INSTRUCTIONS_MAX);
        list.iter().flat_map(edges).for_each(|source| agrees(&list[..taken], &all, source));
    }
}

#[test]
fn what_does_not_fit_is_left_out_from_the_end_and_the_kernel_takes_the_rest() {
    // No two of them are neighbours that could be one.
    let v4: Vec<IpNet> =
        (0..5_000_u32).map(|n| IpNet::new(IpAddr::V4(n.wrapping_mul(7_919_111).into()), 32).unwrap()).collect();
    let v6 = (0..5_000_u128).map(|n| IpNet::new(IpAddr::V6((((n * 7_919_111) << 64) | 1 << 125).into()), 64).unwrap());
    let v6: Vec<IpNet> = v6.collect();
    for (list, at_least) in [(&v4, 3_800), (&v6, 1_000)] {
        let (all, taken) = build_program(list, bpf::INSTRUCTIONS_MAX);
        assert!(all.len() <= bpf::INSTRUCTIONS_MAX && taken >= at_least, "{taken} in {}", all.len());
        list.iter().take(500).flat_map(edges).for_each(|source| agrees(&list[..taken], &all, source));
        let socket = loopback();
        bpf::attach_program(&socket, &all).unwrap();
        bpf::detach_program(&socket);
    }
}

#[test]
fn the_kernel_drops_what_the_program_says() {
    let (server, good) = (loopback(), loopback());
    let bad = std::net::UdpSocket::bind("127.0.0.2:0").unwrap();
    let (all, _) = build_program(&networks(&["127.0.0.2/32", "::/0"]), bpf::INSTRUCTIONS_MAX);
    bpf::attach_program(&server, &all).unwrap();
    bad.send_to(b"bad", server.local_addr().unwrap()).unwrap();
    good.send_to(b"good", server.local_addr().unwrap()).unwrap();
    let mut bytes = [0; 8];
    server.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    assert_eq!(server.recv(&mut bytes).map(|size| bytes[..size].to_vec()).unwrap(), b"good");
    bpf::detach_program(&server);
    bad.send_to(b"bad", server.local_addr().unwrap()).unwrap();
    assert_eq!(server.recv(&mut bytes).unwrap(), 3);
}
