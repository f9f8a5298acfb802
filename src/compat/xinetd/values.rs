//! Reads the values of each attribute into a draft, as strictly and as loosely as xinetd does.
//!
//! [`super::attributes`] calls these, with as many words as the attribute takes. A fault says what is wrong; what
//! can be read but perhaps means something else than it seems is a note of the draft.

use super::addresses::parse_literal;
use super::draft::{Bind, Draft, Fault, Flag, Kind, State};
use super::lines::{Op, Word, is_space};
use super::world::World;
use crate::builtin::split_host_port;
use crate::config::location::{Location, Spanned};
use crate::config::units::parse_digits;

/// The values of one line.
pub(super) struct Given<'a> {
    pub name: &'static str,
    pub words: &'a [Word],
    pub op: Op,
    pub at: &'a Location,
}

pub(super) type Done = Result<(), Fault>;

pub(super) fn broken_fault<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Broken(message.into()))
}

impl<'a> Given<'a> {
    /// The value of an attribute that takes one.
    pub(super) fn first_word(&self) -> &'a str {
        self.words.first().map_or("", |word| word.text.as_str())
    }

    pub(super) fn expected_fault(&self, expected: &str) -> Fault {
        Fault::Broken(format!("expected {expected}, not {:?}", self.first_word()))
    }

    pub(super) fn all_texts(&self) -> Vec<String> {
        self.words.iter().map(|word| word.text.clone()).collect()
    }

    pub(super) fn require_some(&self) -> Done {
        if self.words.is_empty() { broken_fault(format!("{} needs at least one value", self.name)) } else { Ok(()) }
    }

    fn yes_or_no(&self) -> Result<bool, Fault> {
        match self.first_word() {
            yes if yes.eq_ignore_ascii_case("yes") => Ok(true),
            no if no.eq_ignore_ascii_case("no") => Ok(false),
            _ => Err(self.expected_fault("yes or no")),
        }
    }

    /// Puts a value of `yes` or `no` into a field of the draft.
    pub(super) fn put_bool(&self, field: &mut Option<bool>) -> Done {
        *field = Some(self.yes_or_no()?);
        Ok(())
    }

    /// Puts a value that may be any word into a field of the draft.
    pub(super) fn put_word(&self, field: &mut Option<String>) -> Done {
        *field = Some(self.first_word().to_owned());
        Ok(())
    }

    /// The words up to one that begins with `#`, which people mean as a comment.
    pub(super) fn before_comment(&self, draft: &mut Draft, effect: &str) -> &'a [Word] {
        let end = self.words.iter().position(|word| word.text.starts_with('#'));
        if let Some(first) = end.map(|end| &self.words[end]) {
            let message = format!(
                "xinetd knows no comment behind a value, and {effect} from {:?} on; give the comment a line of its own",
                first.text
            );
            draft.add_note(&self.at.moved_to(first.mark), message);
        }
        &self.words[..end.unwrap_or(self.words.len())]
    }

    /// Words of a fixed list, without regard to case.
    pub(super) fn read_known<T: Copy>(&self, what: &str, list: &[(&str, T)]) -> Result<Vec<Spanned<T>>, Fault> {
        let one = |word: &Word| {
            let found = list.iter().find(|(name, _)| name.eq_ignore_ascii_case(&word.text));
            let names = || list.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
            found
                .map(|(_, value)| Spanned { value: *value, at: self.at.moved_to(word.mark) })
                .ok_or_else(|| Fault::Broken(format!("{:?} is no {what}; known are {}", word.text, names())))
        };
        self.words.iter().map(one).collect()
    }
}

/// A number as strtol(3) takes it: a sign and blanks around are allowed.
pub(super) fn parse_number(text: &str) -> Option<i64> {
    let text = text.trim_matches(is_space);
    let plain = text.strip_prefix(['+', '-']).unwrap_or(text);
    parse_digits(plain).filter(|_| !plain.is_empty())?;
    text.parse().ok()
}

pub(super) fn read_id(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    draft.id = Some(given.first_word().to_owned());
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

pub(super) fn read_kinds(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    given.require_some()?;
    draft.kinds = given.read_known("type", &KINDS)?.into_iter().map(|set| set.value).collect();
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

pub(super) fn read_flags(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    given.require_some()?;
    draft.flags = given.read_known("flag", &FLAGS)?.into_iter().map(|set| set.value).collect();
    if draft.has_flag(Flag::NameInArgs) && draft.server_args.is_some() {
        let message = "xinetd obeys NAMEINARGS only where it stands above server_args; here it holds all the same";
        draft.add_note(given.at, message);
    }
    Ok(())
}

pub(super) fn read_socket_type(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let word = given.first_word().to_ascii_lowercase();
    if !["stream", "dgram", "raw", "seqpacket"].contains(&word.as_str()) {
        return Err(given.expected_fault("stream or dgram"));
    }
    draft.socket_type = Some(word);
    Ok(())
}

pub(super) fn read_protocol(draft: &mut Draft, given: &Given<'_>, world: &mut World<'_>) -> Done {
    if !world.has_protocol(given.first_word()) {
        return broken_fault(format!(
            "there is no protocol {:?} in /etc/protocols; expected tcp or udp",
            given.first_word()
        ));
    }
    draft.protocol = Some(given.first_word().to_owned());
    Ok(())
}

pub(super) fn read_user(draft: &mut Draft, given: &Given<'_>, world: &mut World<'_>) -> Done {
    world.accounts.look_up_user(given.first_word()).map_err(Fault::Broken)?;
    draft.user = Some(given.first_word().to_owned());
    Ok(())
}

pub(super) fn read_group(draft: &mut Draft, given: &Given<'_>, world: &mut World<'_>) -> Done {
    world.accounts.look_up_group(given.first_word()).map_err(Fault::Broken)?;
    draft.group = Some(given.first_word().to_owned());
    Ok(())
}

pub(super) fn read_umask(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let text = given.first_word().trim_matches(is_space);
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777);
    draft.umask = Some(mask.ok_or_else(|| given.expected_fault("an octal number up to 777"))?);
    Ok(())
}

pub(super) fn read_nice(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let asked = parse_number(given.first_word()).ok_or_else(|| given.expected_fault("a number from -20 to 19"))?;
    let taken = asked.clamp(-20, 19);
    if taken != asked {
        draft.add_note(given.at, format!("{asked} is outside of -20 to 19, and the kernel takes {taken}"));
    }
    draft.nice = i32::try_from(taken).ok();
    Ok(())
}

pub(super) fn read_port(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let port = parse_number(given.first_word()).and_then(|number| u16::try_from(number).ok());
    draft.port = Some(port.ok_or_else(|| given.expected_fault("a port from 1 to 65535"))?);
    Ok(())
}

pub(super) fn read_bind(draft: &mut Draft, given: &Given<'_>, world: &mut World<'_>) -> Done {
    let word = given.first_word();
    let dotted = word.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit());
    draft.bind = Some(match (parse_literal(word), world.find_host(word).as_deref()) {
        (Some(address), _) => Bind::Address(address),
        (None, Some([address])) => Bind::Address(*address),
        (None, Some(addresses)) => Bind::OneOf(addresses.to_vec()),
        (None, None) if dotted || word.contains(':') && !word.contains('%') => {
            return Err(given.expected_fault("an address"));
        }
        (None, None) if word.contains('%') => Bind::Scoped(word.to_owned()),
        (None, None) => {
            let message =
                format!("{word:?} is neither an address nor a host of /etc/hosts; other names are not looked up");
            return Err(Fault::Refused(message));
        }
    });
    Ok(())
}

pub(super) fn read_redirect(draft: &mut Draft, given: &Given<'_>, world: &mut World<'_>) -> Done {
    let [host, port] = given.words else { return broken_fault("expected a host and a port") };
    let number = parse_number(&port.text).filter(|number| *number > 0);
    let port = number.or_else(|| world.ports.find_port(&port.text, "tcp").map(i64::from));
    let port = port.and_then(|number| u16::try_from(number).ok());
    let Some(port) = port else {
        return broken_fault("expected a port from 1 to 65535, or its name in /etc/services, behind the host");
    };
    let place =
        if host.text.contains(':') { format!("[{}]:{port}", host.text) } else { format!("{}:{port}", host.text) };
    if split_host_port(&place).is_none() {
        return broken_fault("expected the name or the address of a host, without brackets, and a port");
    }
    if parse_literal(&host.text).is_none() && world.find_host(&host.text).is_none() {
        let message = format!(
            "xinetd looks {} up once and does not start the service if it is not found; here it is looked up for each \
             connection",
            host.text
        );
        draft.add_note(given.at, message);
    }
    draft.redirect = Some((host.text.clone(), port));
    Ok(())
}

/// Only looked at so that a mistake is told; RPC services are refused as a whole.
pub(super) fn read_rpc_version(_: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let (first, last) = given.first_word().split_once('-').unwrap_or((given.first_word(), given.first_word()));
    match (parse_number(first), parse_number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(()),
        _ => Err(given.expected_fault("a version, or a range of versions such as 2-4")),
    }
}

pub(super) fn read_rpc_number(_: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    parse_number(given.first_word()).map(|_| ()).ok_or_else(|| given.expected_fault("a number"))
}

pub(super) fn read_disable(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    if given.yes_or_no()? {
        draft.state = State::Off;
    } else {
        draft.enable_again(given.at);
    }
    Ok(())
}

pub(super) fn ignore_mdns(_: &mut Draft, _: &Given<'_>, _: &mut World<'_>) -> Done {
    Err(Fault::Ignored("mdns has a meaning on macOS alone".to_owned()))
}

pub(super) fn read_enabled(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    draft.enabled.get_or_insert_default().extend(given.all_texts());
    Ok(())
}

pub(super) fn read_disabled(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    draft.disabled.extend(given.all_texts());
    Ok(())
}
