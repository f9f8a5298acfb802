//! Reads the values of each attribute into a draft, as strictly and as loosely as xinetd does.
//!
//! [`super::attributes`] calls these, with as many words as the attribute takes. A fault says what is wrong; what can be
//! read but perhaps means something else than it seems is a note of the draft.

use std::time::Duration;

use super::super::problem::{At, Set};
use super::super::units::{FACILITIES, Rate, digits, size};
use super::super::values::variable;
use super::super::{Resource, Rlimit};
use super::addresses::literal;
use super::draft::{Bind, Draft, Fault, Flag, Kind, LogItem, LogType, State};
use super::lines::{Op, Word, is_space};
use super::listed::{List, members};
use super::world::World;
use crate::access::Span;

/// The values of one line.
pub(super) struct Given<'a> {
    /// Of the attribute.
    pub name: &'static str,
    pub words: &'a [Word],
    pub op: Op,
    pub at: &'a At,
}

type Done = Result<(), Fault>;

fn broken<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Broken(message.into()))
}

impl<'a> Given<'a> {
    /// The value of an attribute that takes one.
    fn word(&self) -> &'a str {
        self.words.first().map_or("", |word| word.text.as_str())
    }

    fn not(&self, expected: &str) -> Fault {
        Fault::Broken(format!("expected {expected}, not {:?}", self.word()))
    }

    fn texts(&self) -> Vec<String> {
        self.words.iter().map(|word| word.text.clone()).collect()
    }

    fn some(&self) -> Done {
        if self.words.is_empty() { broken(format!("{} needs at least one value", self.name)) } else { Ok(()) }
    }

    fn yes_or_no(&self) -> Result<bool, Fault> {
        match self.word() {
            yes if yes.eq_ignore_ascii_case("yes") => Ok(true),
            no if no.eq_ignore_ascii_case("no") => Ok(false),
            _ => Err(self.not("yes or no")),
        }
    }

    /// The words up to one that begins with `#`, which people mean as a comment.
    pub(super) fn before_comment(&self, draft: &mut Draft, effect: &str) -> &'a [Word] {
        let end = self.words.iter().position(|word| word.text.starts_with('#'));
        if let Some(first) = end.map(|end| &self.words[end]) {
            let message = format!(
                "xinetd knows no comment behind a value, and {effect} from {:?} on; give the comment a line of its own",
                first.text
            );
            draft.note(&self.at.moved(first.mark), message);
        }
        &self.words[..end.unwrap_or(self.words.len())]
    }

    /// Words of a fixed list, without regard to case.
    fn known<T: Copy>(&self, what: &str, list: &[(&str, T)]) -> Result<Vec<Set<T>>, Fault> {
        let one = |word: &Word| {
            let found = list.iter().find(|(name, _)| name.eq_ignore_ascii_case(&word.text));
            let names = || list.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
            found
                .map(|(_, value)| Set { value: *value, at: self.at.moved(word.mark) })
                .ok_or_else(|| Fault::Broken(format!("{:?} is no {what}; known are {}", word.text, names())))
        };
        self.words.iter().map(one).collect()
    }
}

/// A number as strtol(3) takes it: a sign and blanks around are allowed.
fn number(text: &str) -> Option<i64> {
    let text = text.trim_matches(is_space);
    let plain = text.strip_prefix(['+', '-']).unwrap_or(text);
    digits(plain).filter(|_| !plain.is_empty())?;
    text.parse().ok()
}

pub(super) fn id(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    draft.id = Some(given.word().to_owned());
    Ok(())
}

pub(super) const KINDS: [(&str, Kind); 6] = [
    ("RPC", Kind::Rpc),
    ("INTERNAL", Kind::Internal),
    ("UNLISTED", Kind::Unlisted),
    ("SPECIAL", Kind::Special),
    ("TCPMUX", Kind::Tcpmux),
    ("TCPMUXPLUS", Kind::TcpmuxPlus),
];

pub(super) fn kinds(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    given.some()?;
    draft.kinds = given.known("type", &KINDS)?.into_iter().map(|set| set.value).collect();
    Ok(())
}

/// The flags of xinetd.conf(5).
pub(super) const FLAGS: [(&str, Flag); 12] = [
    ("REUSE", Flag::Reuse),
    ("INTERCEPT", Flag::Intercept),
    ("NORETRY", Flag::NoRetry),
    ("IDONLY", Flag::IdOnly),
    ("NAMEINARGS", Flag::NameInArgs),
    ("NODELAY", Flag::NoDelay),
    ("KEEPALIVE", Flag::KeepAlive),
    ("NOLIBWRAP", Flag::NoLibwrap),
    ("SENSOR", Flag::Sensor),
    ("IPv4", Flag::Ipv4),
    ("IPv6", Flag::Ipv6),
    ("LABELED", Flag::Labeled),
];

pub(super) fn flags(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    given.some()?;
    draft.flags = given.known("flag", &FLAGS)?.into_iter().map(|set| set.value).collect();
    if draft.has_flag(Flag::NameInArgs) && draft.server_args.is_some() {
        let message = "xinetd obeys NAMEINARGS only where it stands above server_args; here it holds all the same";
        draft.note(given.at, message);
    }
    Ok(())
}

pub(super) fn socket_type(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let word = given.word().to_ascii_lowercase();
    if !["stream", "dgram", "raw", "seqpacket"].contains(&word.as_str()) {
        return Err(given.not("stream or dgram"));
    }
    draft.socket_type = Some(word);
    Ok(())
}

pub(super) fn protocol(draft: &mut Draft, given: &Given<'_>, world: &mut World<'_>) -> Done {
    if !world.has_protocol(given.word()) {
        return broken(format!("there is no protocol {:?} in /etc/protocols; expected tcp or udp", given.word()));
    }
    draft.protocol = Some(given.word().to_owned());
    Ok(())
}

pub(super) fn wait(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    draft.wait = Some(given.yes_or_no()?);
    Ok(())
}

pub(super) fn user(draft: &mut Draft, given: &Given<'_>, world: &mut World<'_>) -> Done {
    world.accounts.user(given.word()).map_err(Fault::Broken)?;
    draft.user = Some(given.word().to_owned());
    Ok(())
}

pub(super) fn group(draft: &mut Draft, given: &Given<'_>, world: &mut World<'_>) -> Done {
    world.accounts.group(given.word()).map_err(Fault::Broken)?;
    draft.group = Some(given.word().to_owned());
    Ok(())
}

pub(super) fn groups(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    draft.groups = Some(given.yes_or_no()?);
    Ok(())
}

pub(super) fn umask(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let text = given.word().trim_matches(is_space);
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777);
    draft.umask = Some(mask.ok_or_else(|| given.not("an octal number up to 777"))?);
    Ok(())
}

pub(super) fn nice(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let asked = number(given.word()).ok_or_else(|| given.not("a number from -20 to 19"))?;
    let taken = asked.clamp(-20, 19);
    if taken != asked {
        draft.note(given.at, format!("{asked} is outside of -20 to 19, and the kernel takes {taken}"));
    }
    draft.nice = i32::try_from(taken).ok();
    Ok(())
}

pub(super) fn server(draft: &mut Draft, given: &Given<'_>, world: &mut World<'_>) -> Done {
    let path = given.word();
    if let Some(fault) = world.machine.program_fault(None, path) {
        return broken(fault);
    }
    if !path.starts_with('/') {
        return Err(Fault::Refused(format!("{path} is not an absolute path, such as /usr/sbin/in.ftpd")));
    }
    draft.server = Some(path.to_owned());
    Ok(())
}

pub(super) fn server_args(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    given.some()?;
    given.before_comment(draft, "passes the words to the program");
    quotes(draft, given);
    draft.server_args = Some(given.texts());
    Ok(())
}

/// Says that quotation marks and backslashes have no meaning.
fn quotes(draft: &mut Draft, given: &Given<'_>) {
    let pair = |text: &str, mark| text.starts_with(mark) != text.ends_with(mark);
    let odd = |word: &&Word| pair(&word.text, '"') || pair(&word.text, '\'') || word.text.ends_with('\\');
    if let Some(word) = given.words.iter().find(odd) {
        let message = format!("xinetd knows no quoting: {} is a value of its own, with its quotation marks", word.text);
        draft.note(&given.at.moved(word.mark), message);
    }
}

pub(super) fn env(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    if given.op == Op::Remove {
        return broken("env takes = and +=, but not -=");
    }
    quotes(draft, given);
    let mut values = Vec::new();
    for word in given.words {
        let Some((name, value)) = word.text.split_once('=') else {
            return broken(format!("{:?} has no =; expected NAME=VALUE, without spaces", word.text));
        };
        let at = given.at.moved(word.mark);
        match variable(name) {
            Ok(name) => values.push(Set { value: (name, value.to_owned()), at }),
            Err(message) => draft.note(&at, message),
        }
    }
    draft.env.push(given.op, values);
    Ok(())
}

pub(super) fn pass_env(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let mut values = Vec::new();
    for word in given.words {
        let at = given.at.moved(word.mark);
        match variable(&word.text) {
            Ok(name) => {
                if given.op != Op::Remove && std::env::var_os(&name).is_none() {
                    draft.note(&at, format!("{name} is not in the environment of the daemon, so nothing is passed on"));
                }
                values.push(Set { value: name, at });
            }
            Err(message) => draft.note(&at, message),
        }
    }
    draft.pass_env.push(given.op, values);
    Ok(())
}

pub(super) fn port(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let port = number(given.word()).and_then(|number| u16::try_from(number).ok());
    draft.port = Some(port.ok_or_else(|| given.not("a port from 1 to 65535"))?);
    Ok(())
}

pub(super) fn bind(draft: &mut Draft, given: &Given<'_>, world: &mut World<'_>) -> Done {
    let word = given.word();
    let dotted = word.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit());
    draft.bind = Some(match (literal(word), world.host(word).as_deref()) {
        (Some(address), _) => Bind::Address(address),
        (None, Some([address])) => Bind::Address(*address),
        (None, Some(addresses)) => Bind::OneOf(addresses.to_vec()),
        (None, None) if dotted || word.contains(':') && !word.contains('%') => return Err(given.not("an address")),
        (None, None) if word.contains('%') => Bind::Scoped(word.to_owned()),
        (None, None) => {
            let message =
                format!("{word:?} is neither an address nor a host of /etc/hosts; other names are not looked up");
            return Err(Fault::Refused(message));
        }
    });
    Ok(())
}

pub(super) fn v6only(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    draft.v6only = Some(given.yes_or_no()?);
    Ok(())
}

pub(super) fn redirect(draft: &mut Draft, given: &Given<'_>, world: &mut World<'_>) -> Done {
    let [host, port] = given.words else { return broken("expected a host and a port") };
    let number = number(&port.text).filter(|number| *number > 0);
    let port = number.or_else(|| world.ports.named(&port.text, "tcp").map(i64::from));
    let port = port.and_then(|number| u16::try_from(number).ok());
    let Some(port) = port else {
        return broken("expected a port from 1 to 65535, or its name in /etc/services, behind the host");
    };
    if literal(&host.text).is_none() && world.host(&host.text).is_none() {
        let message = format!(
            "xinetd looks {} up once and does not start the service if it is not found; here it is looked up for each \
             connection",
            host.text
        );
        draft.note(given.at, message);
    }
    draft.redirect = Some((host.text.clone(), port));
    Ok(())
}

fn limit(given: &Given<'_>) -> Result<Option<u32>, Fault> {
    if given.word().eq_ignore_ascii_case("UNLIMITED") {
        return Ok(None);
    }
    let number = number(given.word()).and_then(|number| u32::try_from(number).ok());
    number.map(Some).ok_or_else(|| given.not("a number from 0, or UNLIMITED"))
}

pub(super) fn instances(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    draft.instances = Some(limit(given)?);
    Ok(())
}

pub(super) fn per_source(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    draft.per_source = Some(limit(given)?);
    Ok(())
}

pub(super) fn cps(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let whole = |word: &Word| number(&word.text).and_then(|number| u32::try_from(number).ok());
    let [events, seconds] = given.words else { return broken("expected two numbers") };
    let (Some(events), Some(_)) = (whole(events), whole(seconds)) else {
        return broken("expected connections per second, and for how many seconds to close the service then");
    };
    draft.rate = Some((events > 0).then_some(Rate { events, per: Duration::from_secs(1) }));
    if events > 0 {
        let message = format!(
            "the service is not closed for {} s when it is over its rate, only paused until the rate allows",
            seconds.text
        );
        draft.note(given.at, message);
    }
    Ok(())
}

pub(super) fn max_load(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    // The digits at the start count, as for scanf(3).
    let text = given.word();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let load = text[..end].parse::<f64>().ok().filter(|load| *load > 0.0);
    draft.max_load = Some(load.ok_or_else(|| given.not("a load average above 0, such as 2.5"))?);
    Ok(())
}

pub(super) fn access_times(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    given.some()?;
    let mut times = Vec::new();
    for word in given.before_comment(draft, "does not start the service for what stands") {
        let span = span(&word.text).ok_or_else(|| {
            let text = &word.text;
            Fault::Broken(format!("expected HH:MM-HH:MM, the second the later one and not after 23:59, not {text:?}"))
        })?;
        times.push(Set { value: span, at: given.at.moved(word.mark) });
    }
    if times.len() < given.words.len() {
        return broken("what stands behind # is no time");
    }
    draft.times = Some(times);
    Ok(())
}

/// `8:00-17:00`, both minutes included.
fn span(text: &str) -> Option<Span> {
    let minute = |text: &str| {
        let (hours, minutes) = text.split_once(':')?;
        let (hours, minutes) = (digits(hours)?, digits(minutes)?);
        (hours <= 23 && minutes <= 59).then(|| u16::try_from(hours * 60 + minutes).ok())?
    };
    let (from, to) = text.split_once('-')?;
    let (from, to) = (minute(from)?, minute(to)?);
    (from < to).then_some(Span { days: 0x7f, from, to: to + 1 })
}

pub(super) fn only_from(draft: &mut Draft, given: &Given<'_>, world: &mut World<'_>) -> Done {
    let members = members(draft, given, List::OnlyFrom, world)?;
    draft.only_from.push(given.op, members);
    Ok(())
}

pub(super) fn no_access(draft: &mut Draft, given: &Given<'_>, world: &mut World<'_>) -> Done {
    let members = members(draft, given, List::NoAccess, world)?;
    draft.no_access.push(given.op, members);
    Ok(())
}

pub(super) fn libwrap(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    draft.libwrap = Some(given.word().to_owned());
    Ok(())
}

pub(super) fn deny_time(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    draft.deny_time = Some(match given.word() {
        word if word.eq_ignore_ascii_case("FOREVER") => None,
        word if word.eq_ignore_ascii_case("NEVER") => Some(0),
        word => match number(word) {
            Some(-1) => None,
            number => Some(
                number
                    .and_then(|number| u32::try_from(number).ok())
                    .ok_or_else(|| given.not("a number of minutes, FOREVER or NEVER"))?,
            ),
        },
    });
    Ok(())
}

pub(super) fn banner(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    draft.banner = Some(given.word().to_owned());
    Ok(())
}

pub(super) fn banner_success(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    draft.banner_success = Some(given.word().to_owned());
    Ok(())
}

pub(super) fn banner_fail(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    draft.banner_fail = Some(given.word().to_owned());
    Ok(())
}

/// The levels of a log line in xinetd.conf(5).
const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

pub(super) fn log_type(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    given.some()?;
    if draft.log_type.is_some() {
        return broken("log_type is set already");
    }
    let words: Vec<&str> = given.words.iter().map(|word| word.text.as_str()).collect();
    draft.log_type = Some(match words.as_slice() {
        [kind, facility, level @ ..] if kind.eq_ignore_ascii_case("SYSLOG") => {
            let known = FACILITIES.iter().find(|(name, _)| name.eq_ignore_ascii_case(facility));
            let level_is_known =
                level.len() < 2 && level.iter().all(|level| LEVELS.contains(&level.to_ascii_lowercase().as_str()));
            match known {
                Some((_, number)) if level_is_known => LogType::Syslog(*number),
                Some(_) => return broken(format!("expected one level, such as info, behind {facility}")),
                None => return broken(format!("there is no facility {facility:?}; expected one such as daemon")),
            }
        }
        [kind, path, limits @ ..] if kind.eq_ignore_ascii_case("FILE") && limits.len() <= 2 => {
            let sizes = limits.iter().map(|limit| log_size(limit)).collect::<Option<Vec<_>>>();
            match sizes.as_deref() {
                None => return broken("expected sizes, such as 100k, behind the file"),
                Some([soft, hard]) if hard < soft => return broken("the hard limit is below the soft one"),
                Some([]) => {}
                Some(_) => {
                    let message = "the size of a log is not limited here, where xinetd stops to log; see logrotate(8)";
                    draft.note(given.at, message);
                }
            }
            LogType::File((*path).to_owned())
        }
        _ => return broken("expected SYSLOG FACILITY [LEVEL] or FILE PATH [SOFT [HARD]]"),
    });
    Ok(())
}

fn log_size(text: &str) -> Option<u64> {
    size(text).filter(|_| !text.ends_with(['g', 'G', 't', 'T']))
}

const SUCCESS: [(&str, LogItem); 6] = [
    ("HOST", LogItem::Host),
    ("DURATION", LogItem::Duration),
    ("EXIT", LogItem::Exit),
    ("PID", LogItem::Pid),
    ("USERID", LogItem::UserId),
    ("TRAFFIC", LogItem::Traffic),
];
const FAILURE: [(&str, LogItem); 3] =
    [("HOST", LogItem::Host), ("ATTEMPT", LogItem::Attempt), ("USERID", LogItem::UserId)];

pub(super) fn log_on_success(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let items = given.known("item of log_on_success", &SUCCESS)?;
    userid(draft, given, &items);
    draft.log_on_success.push(given.op, items);
    Ok(())
}

pub(super) fn log_on_failure(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let items = given.known("item of log_on_failure", &FAILURE)?;
    userid(draft, given, &items);
    draft.log_on_failure.push(given.op, items);
    Ok(())
}

fn userid(draft: &mut Draft, given: &Given<'_>, items: &[Set<LogItem>]) {
    if given.op != Op::Remove && items.iter().any(|set| set.value == LogItem::UserId) {
        draft.note(given.at, "USERID is not logged: nobody is asked by the ident protocol (RFC 1413) here");
    }
}

/// Only looked at so that a mistake is told; RPC services are refused as a whole.
pub(super) fn rpc_version(_: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let (first, last) = given.word().split_once('-').unwrap_or((given.word(), given.word()));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(()),
        _ => Err(given.not("a version, or a range of versions such as 2-4")),
    }
}

pub(super) fn rpc_number(_: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    number(given.word()).map(|_| ()).ok_or_else(|| given.not("a number"))
}

pub(super) fn rlimit(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let word = given.word();
    let value = match word {
        word if word.eq_ignore_ascii_case("UNLIMITED") => u64::MAX,
        _ if given.name == "rlimit_cpu" => {
            digits(word).filter(|_| !word.is_empty()).ok_or_else(|| given.not("seconds"))?
        }
        _ => log_size(word).ok_or_else(|| given.not("a number, perhaps with k or M behind it, or UNLIMITED"))?,
    };
    let (name, resource) = match given.name {
        "rlimit_as" => ("as", Resource::As),
        "rlimit_cpu" => ("cpu", Resource::Cpu),
        "rlimit_data" => ("data", Resource::Data),
        "rlimit_files" => ("nofile", Resource::Nofile),
        "rlimit_stack" => ("stack", Resource::Stack),
        _ => {
            draft.note(given.at, "Linux has not limited the resident set since 2.4.30, whatever the number");
            return Ok(());
        }
    };
    let limit = Rlimit { resource, soft: value, hard: value };
    draft.rlimits.push(Set { value: (name.to_owned(), limit), at: given.at.clone() });
    Ok(())
}

pub(super) fn disable(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    if given.yes_or_no()? {
        draft.state = State::Off;
    } else {
        draft.enable(given.at);
    }
    Ok(())
}

pub(super) fn mdns(_: &mut Draft, _: &Given<'_>, _: &mut World<'_>) -> Done {
    Err(Fault::Ignored("mdns has a meaning on macOS alone".to_owned()))
}

pub(super) fn enabled(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    draft.enabled.get_or_insert_default().extend(given.texts());
    Ok(())
}

pub(super) fn disabled(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    draft.disabled.extend(given.texts());
    Ok(())
}
