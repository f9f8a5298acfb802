//! Address lists: the words of `only_from` and `no_access` as members.
//!
//! A host's name in `only_from` stands for the addresses that /etc/hosts gives it when the table is loaded. The DNS
//! is never asked: xinetd takes whatever name the client's own name server claims, and a reload must not wait. Any
//! other name is a rule that cannot be kept, and so a problem; in `no_access` every name is, since the same host
//! may have other addresses.

use super::addresses::{self, Form, Suspicion};
use super::draft::{Draft, Fault, Member};
use super::values::{Done, Given};
use super::world::World;
use crate::config::location::Spanned;

#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    OnlyFrom,
    NoAccess,
}

pub(super) fn read_only_from(draft: &mut Draft, given: &Given<'_>, world: &mut World<'_>) -> Done {
    let members = read_members(draft, given, List::OnlyFrom, world)?;
    draft.only_from.add_line(given.op, members);
    Ok(())
}

pub(super) fn read_no_access(draft: &mut Draft, given: &Given<'_>, world: &mut World<'_>) -> Done {
    let members = read_members(draft, given, List::NoAccess, world)?;
    draft.no_access.add_line(given.op, members);
    Ok(())
}

fn read_members(
    draft: &mut Draft,
    given: &Given<'_>,
    list: List,
    world: &mut World<'_>,
) -> Result<Vec<Spanned<Member>>, Fault> {
    let mut members = Vec::new();
    for word in given.before_comment(draft, "takes the words for names of hosts") {
        let at = given.at.moved_to(word.mark);
        let member = |networks| Spanned { value: Member { text: word.text.clone(), networks }, at: at.clone() };
        match addresses::parse_member(&word.text) {
            Form::Networks { networks, doubt: None } => members.push(member(networks)),
            Form::Networks { networks, doubt: Some(doubt) } => {
                draft.add_note(&at, suspicion_text(&word.text, &doubt, list));
                // Both meanings are refused.
                let more = if list == List::NoAccess { doubt.meant } else { Vec::new() };
                members.push(member(networks.into_iter().chain(more).collect()));
            }
            Form::Bad(message) => return Err(Fault::Broken(format!("{}: {message}", word.text))),
            Form::Name => {
                let addresses = world.find_host(&word.text).filter(|_| list == List::OnlyFrom);
                let Some(addresses) = addresses else {
                    draft.refused.push(at.problem(refusal_text(&word.text, list)));
                    continue;
                };
                members.push(member(addresses.into_iter().map(Into::into).collect()));
            }
        }
    }
    Ok(members)
}

fn suspicion_text(word: &str, Suspicion { meant, xinetd }: &Suspicion, list: List) -> String {
    let meant: Vec<String> = meant.iter().map(ToString::to_string).collect();
    let meant = match meant.as_slice() {
        [] => String::new(),
        meant => format!("; if {} is meant, write that", meant.join(" ")),
    };
    let here = if list == List::NoAccess { "; here both are turned away" } else { "" };
    format!("{word:?}: xinetd {xinetd}{meant}{here}")
}

fn refusal_text(word: &str, list: List) -> String {
    match list {
        List::OnlyFrom => format!(
            "{word:?} is neither an address nor a host of /etc/hosts, and other names cannot be kept as a rule: write its \
             addresses"
        ),
        List::NoAccess => format!("{word:?} is a name, by which nobody can be turned away safely: write addresses"),
    }
}
