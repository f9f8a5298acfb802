//! Builds a classic BPF program that drops the packets of given networks.
//!
//! The program reads an address in words of 32 bits: one for IPv4, four for IPv6. For each word the networks form a
//! search tree with short lists as its leaves; if a network is longer than the word, its list contains the program
//! for the next word. A conditional jump reaches 255 instructions; for a longer distance the program has a plain
//! jump.
//!
//! The packet filter alone calls this. It makes no system call and cannot fail: networks that do not fit are left
//! out.

use ipnet::IpNet;

use crate::sys::bpf::Instruction;

/// The largest number of branches in a list, in which every jump is short enough for a byte.
const LIST_LEN_MAX: usize = 64;

const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
/// The offset of the source address in the header (RFC 791 §3.1, RFC 8200 §3).
const SOURCE_OFFSET_V4: u32 = 12;
const SOURCE_OFFSET_V6: u32 = 8;

/// A program of at most `length_max` instructions that drops the packets of the first of `networks`, as many as
/// fit; and their number.
pub(super) fn build_program(networks: &[IpNet], length_max: usize) -> (Vec<Instruction>, usize) {
    let mut count = networks.len().min(length_max);
    loop {
        let program = assemble_program(&networks[..count]);
        if program.len() <= length_max || count == 0 {
            return (program, count);
        }
        count = (count * length_max / program.len()).min(count - 1);
    }
}

fn assemble_program(networks: &[IpNet]) -> Vec<Instruction> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for network in IpNet::aggregate(&networks.to_vec()) {
        let length = network.prefix_len();
        match network {
            IpNet::V4(net) => v4.push(NetworkBits { address: u128::from(net.network().to_bits()) << 96, length }),
            IpNet::V6(net) => v6.push(NetworkBits { address: net.network().to_bits(), length }),
        }
    }
    v4.sort_unstable();
    v6.sort_unstable();
    let (v4, v6) = (match_word(&v4, 0, SOURCE_OFFSET_V4), match_word(&v6, 0, SOURCE_OFFSET_V6));
    let mut all =
        vec![Instruction::load_protocol(), Instruction::if_equal(IPV4, 1, 0), Instruction::skip(v4.len() as u32)];
    all.extend(v4);
    all.extend([Instruction::if_equal(IPV6, 1, 0), Instruction::pass_packet()]);
    all.extend(v6);
    all
}

/// A network with its address in the upper bits. In a list, none contains another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NetworkBits {
    address: u128,
    length: u8,
}

impl NetworkBits {
    fn word_at(&self, number: u32) -> u32 {
        (self.address >> (96 - 32 * number)) as u32
    }
}

/// A part of the program, for the values of a word from `first` to `last`. It drops the packet, unless there are
/// `next` networks: then `first` is the only value, and the next word decides.
struct WordBranch<'a> {
    first: u32,
    last: u32,
    next: &'a [NetworkBits],
}

/// The part of the program that decides by the word of this number and those after it. `source` is the offset of
/// the address.
fn match_word(networks: &[NetworkBits], number: u32, source: u32) -> Vec<Instruction> {
    if networks.is_empty() {
        return vec![Instruction::pass_packet()];
    }
    let end = 32 * (number as u8 + 1);
    let together = |one: &NetworkBits, two: &NetworkBits| {
        one.length > end && two.length > end && one.word_at(number) == two.word_at(number)
    };
    let branches: Vec<_> = networks
        .chunk_by(together)
        .map(|group| match (group[0].word_at(number), group[0].length) {
            (value, length) if length > end => WordBranch { first: value, last: value, next: group },
            (first, length) => {
                let hosts = u32::MAX.checked_shr(u32::from(32 - (end - length))).unwrap_or(0);
                WordBranch { first, last: first | hosts, next: &[] }
            }
        })
        .collect();
    let mut all = vec![Instruction::load_ip(source + 4 * number)];
    all.extend(search_tree(&branches, number, source));
    all
}

fn search_tree(branches: &[WordBranch<'_>], number: u32, source: u32) -> Vec<Instruction> {
    if branches.len() <= LIST_LEN_MAX {
        return search_list(branches, number, source);
    }
    let (left, right) = branches.split_at(branches.len() / 2);
    let middle = right[0].first;
    let (left, right) = (search_tree(left, number, source), search_tree(right, number, source));
    let mut all = match u8::try_from(left.len()) {
        Ok(length) => vec![Instruction::if_at_least(middle, length, 0)],
        Err(_) => vec![Instruction::if_at_least(middle, 0, 1), Instruction::skip(left.len() as u32)],
    };
    all.extend(left);
    all.extend(right);
    all
}

/// The branches that drop come first, so that the verdict is near; then those for which the next word decides.
fn search_list(branches: &[WordBranch<'_>], number: u32, source: u32) -> Vec<Instruction> {
    let (drops, others): (Vec<_>, Vec<_>) = branches.iter().partition(|branch| branch.next.is_empty());
    let size: usize = drops.iter().map(|branch| if branch.first == branch.last { 1 } else { 2 }).sum();
    let mut all = Vec::new();
    for &WordBranch { first, last, .. } in drops {
        // The verdict stands behind these instructions and the one that skips it. The distance fits into a byte.
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
    for &WordBranch { first: value, next, .. } in others {
        let program = match_word(next, number + 1, source);
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
