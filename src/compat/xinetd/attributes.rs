//! All attributes of xinetd.conf(5): how many values each takes, where it may stand, and its reader.
//!
//! [`apply_line`] holds the rules that are the same for all: an attribute is set once, unless it is a list that may
//! be edited; it takes a fixed number of values or any. What breaks these rules xinetd ignores, with a complaint.

use super::draft::{Draft, Fault, State};
use super::lines::{Op, Written};
use super::listed;
use super::values::{self, Given};
use super::world::World;
use super::{handler, limits, logs};
use crate::config::location::Location;

/// Where an attribute stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Service,
    Defaults,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    /// Exactly these, once, with `=`.
    Exactly(usize),
    /// Any number, once, with `=`.
    Any,
    /// Any number, as often as one likes, with `=`, `+=` and `-=`.
    List,
}

use Count::{Any, Exactly, List};

pub(super) struct Attribute {
    pub name: &'static str,
    /// In a service; `None` if it may not stand there.
    service: Option<Count>,
    defaults: Option<Count>,
    read: Read,
}

/// Puts the values into the draft.
type Read = fn(&mut Draft, &Given<'_>, &mut World<'_>) -> Result<(), Fault>;

const fn of_service(name: &'static str, count: Count, read: Read) -> Attribute {
    Attribute { name, service: Some(count), defaults: None, read }
}

const fn of_both(name: &'static str, count: Count, read: Read) -> Attribute {
    Attribute { name, service: Some(count), defaults: Some(count), read }
}

const fn of_defaults(name: &'static str, count: Count, read: Read) -> Attribute {
    Attribute { name, service: None, defaults: Some(count), read }
}

/// The attributes of xinetd 2.3.15.
pub(super) const ATTRIBUTES: [Attribute; 47] = [
    of_service("id", Exactly(1), values::read_id),
    of_service("type", Any, values::read_kinds),
    of_service("flags", Any, values::read_flags),
    of_service("socket_type", Exactly(1), values::read_socket_type),
    of_service("protocol", Exactly(1), values::read_protocol),
    of_service("wait", Exactly(1), |draft, given, _| given.put_bool(&mut draft.wait)),
    of_service("user", Exactly(1), values::read_user),
    of_service("group", Exactly(1), values::read_group),
    of_both("groups", Exactly(1), |draft, given, _| given.put_bool(&mut draft.groups)),
    of_both("umask", Exactly(1), values::read_umask),
    of_service("nice", Exactly(1), values::read_nice),
    of_service("server", Exactly(1), handler::read_server),
    of_service("server_args", Any, handler::read_server_args),
    of_service("env", List, handler::read_env),
    of_both("passenv", List, handler::read_pass_env),
    of_service("port", Exactly(1), values::read_port),
    of_both("bind", Exactly(1), values::read_bind),
    of_both("interface", Exactly(1), values::read_bind),
    of_both("v6only", Exactly(1), |draft, given, _| given.put_bool(&mut draft.v6only)),
    of_service("redirect", Exactly(2), values::read_redirect),
    of_both("instances", Exactly(1), |draft, given, _| limits::put_limit(&mut draft.instances, given)),
    of_both("per_source", Exactly(1), |draft, given, _| limits::put_limit(&mut draft.per_source, given)),
    of_both("cps", Exactly(2), limits::read_cps),
    of_both("max_load", Exactly(1), limits::read_max_load),
    of_service("access_times", Any, limits::read_access_times),
    of_both("only_from", List, listed::read_only_from),
    of_both("no_access", List, listed::read_no_access),
    of_service("libwrap", Exactly(1), |draft, given, _| given.put_word(&mut draft.libwrap)),
    of_service("deny_time", Exactly(1), limits::read_deny_time),
    of_both("banner", Exactly(1), |draft, given, _| given.put_word(&mut draft.banner)),
    of_both("banner_success", Exactly(1), |draft, given, _| given.put_word(&mut draft.banner_success)),
    of_both("banner_fail", Exactly(1), |draft, given, _| given.put_word(&mut draft.banner_fail)),
    Attribute { name: "log_type", service: Some(Any), defaults: Some(List), read: logs::read_log_type },
    of_both("log_on_success", List, logs::read_log_on_success),
    of_both("log_on_failure", List, logs::read_log_on_failure),
    of_service("rpc_version", Exactly(1), values::read_rpc_version),
    of_service("rpc_number", Exactly(1), values::read_rpc_number),
    of_service("rlimit_as", Exactly(1), limits::read_rlimit),
    of_service("rlimit_cpu", Exactly(1), limits::read_rlimit),
    of_service("rlimit_data", Exactly(1), limits::read_rlimit),
    of_service("rlimit_files", Exactly(1), limits::read_rlimit),
    of_service("rlimit_rss", Exactly(1), limits::read_rlimit),
    of_service("rlimit_stack", Exactly(1), limits::read_rlimit),
    of_service("disable", Exactly(1), values::read_disable),
    of_service("mdns", Exactly(1), values::ignore_mdns),
    of_defaults("enabled", List, values::read_enabled),
    of_defaults("disabled", List, values::read_disabled),
];

/// Applies a line to a draft.
pub(super) fn apply_line(
    draft: &mut Draft,
    written: &Written,
    place: Place,
    at: &Location,
    world: &mut World<'_>,
) -> Result<(), Fault> {
    let (attribute, count) = find_attribute(&written.name.text, place)?;
    // Both names of the address are one attribute.
    let name = if attribute.name == "interface" { "bind" } else { attribute.name };
    if count != List {
        if let Some(first) = draft.set.get(name) {
            let line = first.origin().line;
            return Err(Fault::Ignored(format!("{name} is set already, in line {line}")));
        }
        if written.op != Op::Set {
            return Err(Fault::Ignored(format!("{name} is no list, and takes only =")));
        }
    }
    if let Exactly(expected) = count {
        if written.values.len() != expected {
            return wrong_count(draft, name, expected, written, at);
        }
    }
    if written.values.iter().any(|word| word.text.contains('\u{fffd}')) {
        return Err(Fault::Refused(format!("the value of {name} is not UTF-8, and a table holds nothing else")));
    }
    let given = Given { name: attribute.name, words: &written.values, op: written.op, at };
    (attribute.read)(draft, &given, world)?;
    draft.set.insert(name, at.clone());
    Ok(())
}

fn find_attribute(name: &str, place: Place) -> Result<(&'static Attribute, Count), Fault> {
    let of = |attribute: &'static Attribute| {
        let count = if place == Place::Service { attribute.service } else { attribute.defaults };
        count.map(|count| (attribute, count))
    };
    let mut named = ATTRIBUTES.iter().filter(|attribute| attribute.name.eq_ignore_ascii_case(name)).peekable();
    let known = named.peek().is_some();
    named.find_map(of).ok_or_else(|| {
        Fault::Ignored(match (known, place) {
            (true, Place::Service) => format!("{name} belongs into defaults"),
            (true, Place::Defaults) => format!("{name} belongs into a service, and is no default"),
            (false, _) => format!("there is no attribute {name}{}", suggest_attribute(name)),
        })
    })
}

fn suggest_attribute(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let distance = |attribute: &&Attribute| strsim::osa_distance(attribute.name, &name);
    match ATTRIBUTES.iter().min_by_key(distance) {
        Some(best) if distance(&best) <= 1.max(name.len() / 3) => format!("; did you mean {}?", best.name),
        _ => String::new(),
    }
}

/// The wrong number of values, for which xinetd ignores the line. Most often people have written a comment behind
/// the value, and xinetd then ignores a setting that they believe to be in force.
fn wrong_count(draft: &mut Draft, name: &str, expected: usize, written: &Written, at: &Location) -> Result<(), Fault> {
    let count = written.values.len();
    let values = if expected == 1 { "value" } else { "values" };
    let comment = written.values.iter().position(|word| word.text.starts_with('#'));
    if comment != Some(expected) {
        return Err(Fault::Ignored(format!("{name} takes {expected} {values}, not {count}")));
    }
    let words: Vec<&str> = written.values[..expected].iter().map(|word| word.text.as_str()).collect();
    let meant = format!("{name} = {}", words.join(" "));
    let effect = match name {
        "disable" if words == ["yes"] && draft.state == State::On => "and starts the service",
        "instances" | "per_source" | "cps" | "max_load" => "and sets no limit",
        _ if name.starts_with("rlimit") => "and sets no limit",
        _ => "and does without it",
    };
    let message = format!(
        "xinetd knows no comment behind a value: it counts {count} values where {name} takes {expected}, ignores the line, \
         {effect}; if {meant:?} is meant, give the comment a line of its own"
    );
    draft.add_note(at, message);
    Ok(())
}
