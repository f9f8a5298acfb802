//! The fourth field: `wait` or `nowait`, and behind it how often or how many.
//!
//! `.N` is starts in a minute to the dialects of OpenBSD, GNU, NetBSD (`:N` too) and BusyBox; `/N/N/N` is handlers,
//! connections of one source in a minute, and handlers of one source to FreeBSD. Steps of [`super::fields`].

use super::entry::Limits;
use super::lines::Word;
use super::reading::Reading;
use crate::config::dialect::Dialect;
use crate::config::location::{Location, Spanned};
use crate::config::units::parse_digits;

impl Reading<'_> {
    /// Takes the field apart; `None` where the daemon would have turned the entry away.
    pub(super) fn wait_field(&mut self, text: &str, at: &Location) -> Option<(bool, Limits)> {
        if self.dialect == Dialect::Freebsd {
            return self.read_freebsd_limits(text, at);
        }
        let split = match self.dialect {
            Dialect::Netbsd => text.split_once(':').or_else(|| text.split_once('.')),
            _ => text.split_once('.'),
        };
        let (word, max) = split.map_or((text, None), |(word, max)| (word, Some(max)));
        let wait = self.wait_word(word, at)?;
        let starts = match max {
            Some(max) => self.read_starts(max, at)?,
            None => None,
        };
        Some((wait, Limits { starts, ..Limits::default() }))
    }

    fn wait_word(&mut self, word: &str, at: &Location) -> Option<bool> {
        match word {
            "wait" => Some(true),
            "nowait" => Some(false),
            _ if self.dialect == Dialect::Busybox => self.skip(at, format!("expected wait or nowait, not {word:?}")),
            _ => {
                let hint = match word.contains('/') {
                    true => "limits behind a slash are FreeBSD's; see --dialect",
                    false => "did you mean wait or nowait?",
                };
                let message = format!("{} takes {word:?} for nowait, and so does oxinetd; {hint}", self.daemon_name());
                self.warn(at, message);
                Some(false)
            }
        }
    }

    /// Starts in a minute; the inner `None` is the daemon's default.
    fn read_starts(&mut self, text: &str, at: &Location) -> Option<Option<Spanned<u32>>> {
        let number = match self.dialect {
            Dialect::Debian | Dialect::Openbsd => any_base(text),
            _ => parse_digits(text),
        };
        match (self.dialect, number) {
            (Dialect::Debian | Dialect::Openbsd, None | Some(0)) => {
                self.warn(at, format!("{text:?} is no limit; inetd takes its default, 256 a minute"));
                Some(None)
            }
            // Read up to the first letter.
            (Dialect::Gnu, None) => {
                self.warn(at, format!("{text:?} is no number"));
                let part = text.trim_start().split(|c: char| !c.is_ascii_digit()).next().and_then(parse_digits);
                Some(part.and_then(|number| nonzero_limit(number, at)))
            }
            (Dialect::Netbsd, None | Some(0)) => {
                self.skip(at, format!("with {text:?} starts a minute, NetBSD's inetd serves nobody"))
            }
            (_, None) => self.skip(at, format!("{text:?} is no number")),
            (_, Some(number)) => Some(nonzero_limit(number, at)),
        }
    }

    /// `wait[/HANDLERS[/PER-MINUTE-AND-SOURCE[/HANDLERS-PER-SOURCE]]]`; letters behind `wait` are not looked at
    /// there.
    fn read_freebsd_limits(&mut self, text: &str, at: &Location) -> Option<(bool, Limits)> {
        let mut parts = text.split('/');
        let word = parts.next().unwrap_or_default();
        let wait = match word {
            _ if word.starts_with("wait") => true,
            _ if word.starts_with("nowait") => false,
            _ => return self.skip(at, format!("expected wait or nowait, not {word:?}")),
        };
        if word != "wait" && word != "nowait" {
            let message =
                format!("FreeBSD's inetd looks at the beginning of {word:?} only; its limits stand behind a slash");
            self.warn(at, message);
        }
        let Some(instances) = parts.next() else { return Some((wait, Limits::default())) };
        let Some(instances) = parse_digits(instances).filter(|number| *number <= 32_767) else {
            return self.skip(at, format!("{instances:?} is no number of handlers, which is 0 to 32767"));
        };
        let mut limits = Limits { instances: nonzero_limit(instances, at), ..Limits::default() };
        for place in [&mut limits.source_starts, &mut limits.source_instances] {
            *place = parts.next().and_then(parse_digits).and_then(|number| nonzero_limit(number, at));
        }
        if wait && instances != 1 {
            let message = "one handler at a time has the socket of a wait service here, whatever the limit";
            self.warn(at, message);
            limits.instances = None;
        }
        Some((wait, limits))
    }

    /// The most handlers at a time, NetBSD's `stream,N`.
    pub(super) fn accept_max(&mut self, kind: &Word, at: &Location) -> Option<Spanned<u32>> {
        let at = at.under_key("type", kind.mark);
        let text = kind.text.strip_prefix("stream,")?;
        match parse_digits(text) {
            Some(number) => nonzero_limit(number, &at),
            None => {
                self.warn(&at, format!("{text:?} is no number, and not looked at"));
                None
            }
        }
    }
}

/// 0 is no limit.
pub(super) fn nonzero_limit(number: u64, at: &Location) -> Option<Spanned<u32>> {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    (number > 0).then(|| at.spanned(number))
}

/// As strtoul(3) with base 0: `0x10` is 16, `010` is 8.
fn any_base(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with('+')),
        None if text.starts_with('0') => u64::from_str_radix(text, 8).ok(),
        None => parse_digits(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_openbsd_have_any_base() {
        assert_eq!(
            ["10", "010", "0x10", "0", "x", "", "1a", "-1"].map(any_base),
            [Some(10), Some(8), Some(16), Some(0), None, None, None, None]
        );
    }
}
