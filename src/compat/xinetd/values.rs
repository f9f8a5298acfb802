//! Reads the values of each attribute into a draft, as strictly and as loosely as xinetd does.
//!
//! [`super::attributes`] calls these, with as many words as the attribute takes. A fault says what is wrong; what can be
//! read but perhaps means something else than it seems is a note of the draft.

use super::addresses::literal;
use super::draft::{Bind, Draft, Fault, Flag, Kind, State};
use super::lines::{Op, Word, is_space};
use super::listed::{List, members};
use super::world::World;
use crate::builtin::split_host_port;
use crate::config::problem::{At, Set};
use crate::config::units::digits;

/// The values of one line.
pub(super) struct Given<'a> {
    /// Of the attribute.
    pub name: &'static str,
    pub words: &'a [Word],
    pub op: Op,
    pub at: &'a At,
}

/// What a reader gives.
pub(super) type Done = Result<(), Fault>;

pub(super) fn broken<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Broken(message.into()))
}

impl<'a> Given<'a> {
    /// The value of an attribute that takes one.
    pub(super) fn word(&self) -> &'a str {
        self.words.first().map_or("", |word| word.text.as_str())
    }

    pub(super) fn not(&self, expected: &str) -> Fault {
        Fault::Broken(format!("expected {expected}, not {:?}", self.word()))
    }

    pub(super) fn texts(&self) -> Vec<String> {
        self.words.iter().map(|word| word.text.clone()).collect()
    }

    pub(super) fn some(&self) -> Done {
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
    pub(super) fn known<T: Copy>(&self, what: &str, list: &[(&str, T)]) -> Result<Vec<Set<T>>, Fault> {
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
pub(super) fn number(text: &str) -> Option<i64> {
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
    let place =
        if host.text.contains(':') { format!("[{}]:{port}", host.text) } else { format!("{}:{port}", host.text) };
    if split_host_port(&place).is_none() {
        return broken("expected the name or the address of a host, without brackets, and a port");
    }
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
