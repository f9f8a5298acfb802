//! From networks to a classic BPF program that drops their packets.
//!
//! An address is looked at in words of 32 bits, of which IPv4 has one and IPv6 four. Within a word the networks are a
//! search tree whose leaves are short lists; where a network needs more than the word, its list has the program for the
//! next one inside. Conditional jumps reach 255 instructions only; what lies further away is reached by a plain one.

use ipnet::IpNet;

use crate::sys::bpf::Instruction;

/// So many entries make a list; no jump within it is too far.
const LIST: usize = 64;

const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
/// Where the source stands in the header (RFC 791 §3.1, RFC 8200 §3).
const SOURCE_V4: u32 = 12;
const SOURCE_V6: u32 = 8;

/// A program that drops the packets of as many of `networks` as fit into `most` instructions, the first before the
/// others, and how many these are.
pub(super) fn program(networks: &[IpNet], most: usize) -> (Vec<Instruction>, usize) {
    let mut count = networks.len().min(most);
    loop {
        let program = of(&networks[..count]);
        if program.len() <= most || count == 0 {
            return (program, count);
        }
        count = (count * most / program.len()).min(count - 1);
    }
}

fn of(networks: &[IpNet]) -> Vec<Instruction> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for network in IpNet::aggregate(&networks.to_vec()) {
        let length = network.prefix_len();
        match network {
            IpNet::V4(net) => v4.push(Network { address: u128::from(net.network().to_bits()) << 96, length }),
            IpNet::V6(net) => v6.push(Network { address: net.network().to_bits(), length }),
        }
    }
    v4.sort_unstable();
    v6.sort_unstable();
    let (v4, v6) = (word(&v4, 0, SOURCE_V4), word(&v6, 0, SOURCE_V6));
    let mut all =
        vec![Instruction::load_protocol(), Instruction::if_equal(IPV4, 1, 0), Instruction::skip(v4.len() as u32)];
    all.extend(v4);
    all.extend([Instruction::if_equal(IPV6, 1, 0), Instruction::pass_packet()]);
    all.extend(v6);
    all
}

/// A network, its address in the upper bits. None contains another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Network {
    address: u128,
    length: u8,
}

impl Network {
    fn word(&self, number: u32) -> u32 {
        (self.address >> (96 - 32 * number)) as u32
    }
}

/// What is to be done about some values of a word.
enum Entry<'a> {
    Drop {
        first: u32,
        last: u32,
    },
    /// One value, of which the next word decides.
    Next {
        value: u32,
        networks: &'a [Network],
    },
}

impl Entry<'_> {
    fn first(&self) -> u32 {
        match self {
            Self::Drop { first, .. } => *first,
            Self::Next { value, .. } => *value,
        }
    }
}

/// The program that decides by the word of this number and those after it. `source` is where the address begins.
fn word(networks: &[Network], number: u32, source: u32) -> Vec<Instruction> {
    if networks.is_empty() {
        return vec![Instruction::pass_packet()];
    }
    let end = 32 * (number as u8 + 1);
    let together =
        |one: &Network, two: &Network| one.length > end && two.length > end && one.word(number) == two.word(number);
    let entries: Vec<_> = networks
        .chunk_by(together)
        .map(|group| match group[0] {
            one if one.length > end => Entry::Next { value: one.word(number), networks: group },
            one => {
                let first = one.word(number);
                let hosts = u32::MAX.checked_shr(u32::from(32 - (end - one.length))).unwrap_or(0);
                Entry::Drop { first, last: first | hosts }
            }
        })
        .collect();
    let mut all = vec![Instruction::load_ip(source + 4 * number)];
    all.extend(tree(&entries, number, source));
    all
}

fn tree(entries: &[Entry<'_>], number: u32, source: u32) -> Vec<Instruction> {
    if entries.len() <= LIST {
        return list(entries, number, source);
    }
    let (left, right) = entries.split_at(entries.len() / 2);
    let middle = right[0].first();
    let (left, right) = (tree(left, number, source), tree(right, number, source));
    let mut all = match u8::try_from(left.len()) {
        Ok(length) => vec![Instruction::if_at_least(middle, length, 0)],
        Err(_) => vec![Instruction::if_at_least(middle, 0, 1), Instruction::skip(left.len() as u32)],
    };
    all.extend(left);
    all.extend(right);
    all
}

/// Those that drop come first, so that the verdict is near; then those that go on.
fn list(entries: &[Entry<'_>], number: u32, source: u32) -> Vec<Instruction> {
    let drops: Vec<_> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Drop { first, last } => Some((*first, *last)),
            Entry::Next { .. } => None,
        })
        .collect();
    let next: Vec<_> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Next { value, networks } => Some((*value, word(networks, number + 1, source))),
            Entry::Drop { .. } => None,
        })
        .collect();
    let size: usize = drops.iter().map(|(first, last)| if first == last { 1 } else { 2 }).sum();
    let mut all = Vec::new();
    for (first, last) in drops {
        // The verdict stands behind these instructions and the one that skips it. A list is short enough for a byte.
        let to_drop = |done: usize| (size - done) as u8;
        if first == last {
            all.push(Instruction::if_equal(first, to_drop(all.len()), 0));
        } else {
            all.push(Instruction::if_at_least(first, 0, 1));
            all.push(Instruction::if_above(last, 0, to_drop(all.len())));
        }
    }
    if size > 0 {
        all.extend([Instruction::skip(1), Instruction::drop_packet()]);
    }
    for (value, program) in next {
        match u8::try_from(program.len()) {
            Ok(length) => all.push(Instruction::if_equal(value, 0, length)),
            Err(_) => all.extend([Instruction::if_equal(value, 1, 0), Instruction::skip(program.len() as u32)]),
        }
        all.extend(program);
    }
    all.push(Instruction::pass_packet());
    all
}

#[cfg(test)]
mod tests;
