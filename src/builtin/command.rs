//! A builtin and its command line, which the table writes and the handler reads.
//!
//! It only translates: it opens nothing and looks nothing up. A wrong command line is an error with a message for
//! the person who typed it.
//!
//! `oxinetd builtin NAME --idle=MS [--connect=MS] [--one-source] [WORD]…`. The words are `HOST:PORT` for
//! `redirect`, the names of services for `tcpmux`, and for the others the ports that get no answer (see
//! [`super::datagram`]).

use std::time::Duration;

/// A builtin with its settings from the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Builtin {
    /// Which builtin, with the target of `redirect`.
    pub kind: BuiltinKind,
    /// A connection is closed after being idle for this long; a handler of datagrams ends if none comes for this
    /// long.
    pub idle_timeout: Duration,
}

/// The builtins that can serve a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuiltinKind {
    /// Sends back all that it receives (RFC 862).
    Echo,
    /// Discards all that it receives (RFC 863).
    Discard,
    /// Sends characters without end (RFC 864).
    Chargen,
    /// Sends date and time as text for people (RFC 867).
    Daytime,
    /// Sends the time as a 32-bit number for programs (RFC 868).
    Time,
    /// Starts the service that the client names (RFC 1078).
    Tcpmux,
    /// Connects the client to another server.
    Redirect(RedirectTarget),
}

/// The server to which `redirect` connects its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectTarget {
    /// A host name or an address; an IPv6 address has no brackets.
    pub host: String,
    /// The TCP port, 1 to 65535.
    pub port: u16,
    /// The time-out for connecting to each address of the host.
    pub connect_timeout: Duration,
}

/// The builtins without a target, by name.
const WITHOUT_TARGET: [(&str, BuiltinKind); 6] = [
    ("echo", BuiltinKind::Echo),
    ("discard", BuiltinKind::Discard),
    ("chargen", BuiltinKind::Chargen),
    ("daytime", BuiltinKind::Daytime),
    ("time", BuiltinKind::Time),
    ("tcpmux", BuiltinKind::Tcpmux),
];

impl BuiltinKind {
    /// The builtin with this name, except for `redirect`, which needs a target.
    #[must_use]
    pub(crate) fn without_target(name: &str) -> Option<Self> {
        WITHOUT_TARGET.iter().find(|(known, _)| *known == name).map(|(_, kind)| kind.clone())
    }

    /// Its name in the table and on the command line.
    #[must_use]
    pub fn name(&self) -> &'static str {
        WITHOUT_TARGET.iter().find(|(_, kind)| kind == self).map_or("redirect", |(name, _)| name)
    }
}

/// What the handler must know about the rest of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BuiltinContext {
    /// For datagrams: serve one source alone. The daemon must check access and limits for any other source.
    pub one_source: bool,
    /// Names of services for `tcpmux`, ports of this table for the others.
    pub words: Vec<String>,
}

impl RedirectTarget {
    /// `HOST:PORT`, with an IPv6 address in brackets.
    #[must_use]
    pub(crate) fn host_port(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl Builtin {
    /// The words of its command line, including the program's name.
    #[must_use]
    pub(crate) fn command_line(&self, context: &BuiltinContext) -> Vec<String> {
        let mut words = ["oxinetd", "builtin", self.kind.name()].map(str::to_owned).to_vec();
        words.push(format!("--idle={}", self.idle_timeout.as_millis()));
        if let BuiltinKind::Redirect(target) = &self.kind {
            words.push(format!("--connect={}", target.connect_timeout.as_millis()));
            words.push(target.host_port());
        }
        if context.one_source {
            words.push(ONE_SOURCE_OPTION.to_owned());
        }
        words.extend_from_slice(&context.words);
        words
    }

    /// Reads the words that follow `builtin` in a [`Self::command_line`].
    ///
    /// # Errors
    /// A message about the first wrong word.
    pub(crate) fn parse(words: &[String]) -> Result<(Self, BuiltinContext), String> {
        let (name, rest) = words.split_first().ok_or("which builtin? echo, discard, chargen, daytime, time, …")?;
        let (options, mut words): (Vec<String>, Vec<String>) =
            rest.iter().cloned().partition(|word| word.starts_with("--"));
        let (mut idle_timeout, mut connect_timeout, mut one_source) =
            (DEFAULT_IDLE_TIMEOUT, DEFAULT_CONNECT_TIMEOUT, false);
        for option in options {
            let (key, value) = option.split_once('=').unwrap_or((&option, ""));
            let place = match key {
                ONE_SOURCE_OPTION => {
                    one_source = true;
                    continue;
                }
                "--idle" => &mut idle_timeout,
                "--connect" => &mut connect_timeout,
                _ => return Err(format!("{key} is no option; there are --idle=MS, --connect=MS and --one-source")),
            };
            let number = value.parse().map_err(|_| format!("{key} is in milliseconds; {value:?} is no number"))?;
            *place = Duration::from_millis(number);
        }
        let kind = if name == "redirect" {
            if words.len() != 1 {
                return Err("redirect needs one HOST:PORT".to_owned());
            }
            let place = words.remove(0);
            let (host, port) = split_host_port(&place).ok_or_else(|| format!("expected HOST:PORT, not {place:?}"))?;
            BuiltinKind::Redirect(RedirectTarget { host, port, connect_timeout })
        } else {
            BuiltinKind::without_target(name).ok_or_else(|| format!("{name} is no builtin"))?
        };
        Ok((Self { kind, idle_timeout }, BuiltinContext { one_source, words }))
    }
}

const ONE_SOURCE_OPTION: &str = "--one-source";

/// For a builtin that is started by hand; the table always gives the time-outs.
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Splits `HOST:PORT` or `[IPV6]:PORT`.
#[must_use]
pub(crate) fn split_host_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let plain = inner.is_some() || !host.contains(':');
    let host = inner.unwrap_or(host);
    let number = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())?;
    let port = number.filter(|port| *port > 0)?;
    let fits = plain && !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"[]/".contains(&byte));
    fits.then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let target = |host: &str| {
            let connect_timeout = Duration::from_millis(1500);
            BuiltinKind::Redirect(RedirectTarget { host: host.to_owned(), port: 80, connect_timeout })
        };
        let all = WITHOUT_TARGET.into_iter().map(|(_, kind)| kind);
        for kind in all.chain([target("www.example.net"), target("192.0.2.1"), target("2001:db8::1")]) {
            let builtin = Builtin { kind, idle_timeout: Duration::from_secs(3) };
            let words = builtin.command_line(&BuiltinContext::default());
            assert_eq!(words[..2], ["oxinetd", "builtin"]);
            assert_eq!(Builtin::parse(&words[2..]), Ok((builtin, BuiltinContext::default())));
        }
        let echo = Builtin { kind: BuiltinKind::Echo, idle_timeout: Duration::from_secs(3) };
        let context = BuiltinContext { one_source: true, words: vec!["10007".to_owned(), "10019".to_owned()] };
        assert_eq!(echo.command_line(&context).join(" "), "oxinetd builtin echo --idle=3000 --one-source 10007 10019");
        assert_eq!(Builtin::parse(&echo.command_line(&context)[2..]), Ok((echo, context)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (words, part) in [
            ("", "which builtin"),
            ("ecko", "ecko is no builtin"),
            ("echo --idle=soon", "milliseconds"),
            ("echo --idel=1", "is no option"),
            ("redirect", "needs one HOST:PORT"),
            ("redirect a:1 b:2", "needs one HOST:PORT"),
            ("redirect a", "expected HOST:PORT"),
        ] {
            let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
            let error = Builtin::parse(&words).unwrap_err();
            assert!(error.contains(part), "{words:?}: {error}");
        }
    }

    #[test]
    fn hosts_and_ports() {
        for (text, host) in
            [("a:1", "a"), ("192.0.2.1:1", "192.0.2.1"), ("[::1]:1", "::1"), ("a-b.example:1", "a-b.example")]
        {
            assert_eq!(split_host_port(text), Some((host.to_owned(), 1)), "{text}");
        }
        for text in ["a", "a:", ":1", "a:0", "a:65536", "a:+1", "::1:1", "[]:1", "a b:1", "a:1 ", "unix:/a:1"] {
            assert_eq!(split_host_port(text), None, "{text}");
        }
    }
}
