//! Names for services, which inetd.conf does not have: it knows ports and protocols.
//!
//! A name comes from what the entry itself says, so that it stays when other entries come and go: `finger`,
//! `echo/udp`, `874/tcp4`, `daytime@127.0.0.1`, `/run/x.sock`. Only where two entries would still have one name
//! does the later one get `.2`.

use std::collections::HashSet;

use super::entry::Entry;

/// The most letters in a service's name.
const MAX_NAME_BYTES: usize = 64;

#[derive(Default)]
pub(super) struct Names(HashSet<String>);

impl Names {
    pub(super) fn give_name(&mut self, entry: &Entry) -> String {
        let base = base_name(entry);
        let mut name = shorten_name(&base, "");
        let mut number = 2;
        while !self.0.insert(name.clone()) {
            name = shorten_name(&base, &format!(".{number}"));
            number += 1;
        }
        name
    }
}

fn base_name(entry: &Entry) -> String {
    let service = entry.service.as_str();
    if entry.protocol.base.is_none() {
        // FreeBSD writes owner and mode before the path.
        return replace_unfit(service.find(":/").map_or(service, |colon| &service[colon + 1..]));
    }
    let number = service.bytes().all(|byte| byte.is_ascii_digit());
    let suffix = entry.protocol.name.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let protocol = match (entry.datagram, suffix) {
        (false, "") if !number => String::new(),
        (false, suffix) => format!("/tcp{suffix}"),
        (true, suffix) => format!("/udp{suffix}"),
    };
    let host = entry.hosts.as_ref().and_then(|hosts| hosts.first()).filter(|host| *host != "*");
    let host = host.map_or_else(String::new, |host| format!("@{host}"));
    replace_unfit(&format!("{service}{protocol}{host}"))
}

/// With nothing in it that a name can't have.
fn replace_unfit(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-+@:/".contains(c);
    let name: String = text.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    if name.starts_with('-') { format!("_{name}") } else { name }
}

/// The end of a name that is too long says more than its beginning.
fn shorten_name(name: &str, end: &str) -> String {
    let room = MAX_NAME_BYTES - end.len();
    let name = if name.len() > room { format!("_{}", &name[name.len() - room + 1..]) } else { name.to_owned() };
    name + end
}
