//! What a builtin is, and the command line that runs it: written by the table, read by the handler.
//!
//! `oxinetd builtin NAME --idle=MS [--connect=MS] [--one-source] [WORD]…`. The words are, for `redirect`, `HOST:PORT`; for
//! `tcpmux`, the services that can be asked for; for the others, ports that are never answered (see
//! [`super::datagram`]).

use std::time::Duration;

/// A builtin, as the table tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Builtin {
    /// Which.
    pub what: What,
    /// How long a connection may be idle; how long a handler of datagrams waits for one more.
    pub idle_timeout: Duration,
}

/// The builtins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Sends back what comes (RFC 862).
    Echo,
    /// Throws away what comes (RFC 863).
    Discard,
    /// Sends characters without end (RFC 864).
    Chargen,
    /// Says the time of day, for people (RFC 867).
    Daytime,
    /// Says the time, for machines (RFC 868).
    Time,
    /// Starts the service that the client names (RFC 1078).
    Tcpmux,
    /// Connects the client with somebody else.
    Redirect(Target),
}

/// Where `redirect` leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name or an address, an IPv6 address without brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
    /// How long each address of the host has to answer.
    pub connect_timeout: Duration,
}

/// The builtins without a target, by name.
const SIMPLE: [(&str, What); 6] = [
    ("echo", What::Echo),
    ("discard", What::Discard),
    ("chargen", What::Chargen),
    ("daytime", What::Daytime),
    ("time", What::Time),
    ("tcpmux", What::Tcpmux),
];

impl What {
    /// The one of this name, but `redirect`, which has a target.
    #[must_use]
    pub fn simple(name: &str) -> Option<Self> {
        SIMPLE.iter().find(|(known, _)| *known == name).map(|(_, what)| what.clone())
    }

    /// Its name in the table and on the command line.
    #[must_use]
    pub fn name(&self) -> &'static str {
        SIMPLE.iter().find(|(_, what)| what == self).map_or("redirect", |(name, _)| name)
    }
}

/// What a handler is told besides, of the rest of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Of datagrams: leave those of a second source to the daemon, which has to ask whether he may come.
    pub one_source: bool,
    /// Ports or names.
    pub words: Vec<String>,
}

impl Target {
    /// `HOST:PORT`, with an IPv6 address in brackets.
    #[must_use]
    pub fn place(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl Builtin {
    /// The words of its command line, the first one included.
    #[must_use]
    pub fn command(&self, told: &Told) -> Vec<String> {
        let mut words = ["oxinetd", "builtin", self.what.name()].map(str::to_owned).to_vec();
        words.push(format!("--idle={}", self.idle_timeout.as_millis()));
        if let What::Redirect(target) = &self.what {
            words.push(format!("--connect={}", target.connect_timeout.as_millis()));
            words.push(target.place());
        }
        if told.one_source {
            words.push(ONE_SOURCE.to_owned());
        }
        words.extend_from_slice(&told.words);
        words
    }

    /// Reads what [`Self::command`] has written behind `builtin`.
    ///
    /// # Errors
    /// What is wrong, for whoever has typed it.
    pub fn parse(words: &[String]) -> Result<(Self, Told), String> {
        let (name, rest) = words.split_first().ok_or("which builtin? echo, discard, chargen, daytime, time, …")?;
        let (options, mut words): (Vec<String>, Vec<String>) =
            rest.iter().cloned().partition(|word| word.starts_with("--"));
        let (mut idle_timeout, mut connect_timeout, mut one_source) = (IDLE, CONNECT, false);
        for option in options {
            let (key, value) = option.split_once('=').unwrap_or((&option, ""));
            let place = match key {
                ONE_SOURCE => {
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
        let what = if name == "redirect" {
            if words.len() != 1 {
                return Err("redirect needs one HOST:PORT".to_owned());
            }
            let place = words.remove(0);
            let (host, port) = host_and_port(&place).ok_or_else(|| format!("expected HOST:PORT, not {place:?}"))?;
            What::Redirect(Target { host, port, connect_timeout })
        } else {
            What::simple(name).ok_or_else(|| format!("{name} is no builtin"))?
        };
        Ok((Self { what, idle_timeout }, Told { one_source, words }))
    }
}

const ONE_SOURCE: &str = "--one-source";

/// For who runs a builtin by hand; the table always says how long.
const IDLE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(10);

/// Takes `HOST:PORT` or `[IPV6]:PORT` apart.
#[must_use]
pub fn host_and_port(text: &str) -> Option<(String, u16)> {
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
            What::Redirect(Target { host: host.to_owned(), port: 80, connect_timeout })
        };
        let all = SIMPLE.into_iter().map(|(_, what)| what);
        for what in all.chain([target("www.example.net"), target("192.0.2.1"), target("2001:db8::1")]) {
            let builtin = Builtin { what, idle_timeout: Duration::from_secs(3) };
            let words = builtin.command(&Told::default());
            assert_eq!(words[..2], ["oxinetd", "builtin"]);
            assert_eq!(Builtin::parse(&words[2..]), Ok((builtin, Told::default())));
        }
        let echo = Builtin { what: What::Echo, idle_timeout: Duration::from_secs(3) };
        let told = Told { one_source: true, words: vec!["10007".to_owned(), "10019".to_owned()] };
        assert_eq!(echo.command(&told).join(" "), "oxinetd builtin echo --idle=3000 --one-source 10007 10019");
        assert_eq!(Builtin::parse(&echo.command(&told)[2..]), Ok((echo, told)));
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
            assert_eq!(host_and_port(text), Some((host.to_owned(), 1)), "{text}");
        }
        for text in ["a", "a:", ":1", "a:0", "a:65536", "a:+1", "::1:1", "[]:1", "a b:1", "a:1 ", "unix:/a:1"] {
            assert_eq!(host_and_port(text), None, "{text}");
        }
    }
}
