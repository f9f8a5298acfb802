//! The small notations of the table: durations, sizes, rates, times of day, words with numbers behind them.
//!
//! Pure functions from text to a value; `None` means that the text is not in the notation, and the caller says what
//! it expected. Only [`crate::config`] calls them. [`duration_text`] writes what [`parse_duration`] reads.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::limits::access::Span;

/// So many events in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// How many, at least 1.
    pub events: u32,
    /// In how long.
    pub per: Duration,
}

/// The units of a duration in milliseconds, longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads `500ms 10s 5m 1h30m`: numbers with units, longest unit first, each at most once.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (mut rest, mut units, mut total) = (text, UNITS.iter(), 0_u64);
    leading_number(text)?;
    while !rest.is_empty() {
        let (number, after) = leading_number(rest)?;
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (_, length) = units.find(|(name, _)| *name == &after[..letters])?;
        total = total.checked_add(number.checked_mul(*length)?)?;
        rest = &after[letters..];
    }
    Some(Duration::from_millis(total))
}

/// Writes a duration so that [`parse_duration`] reads it back, to the millisecond.
pub fn duration_text(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, length) in UNITS {
        if rest >= length {
            text.push_str(&format!("{}{name}", rest / length));
            rest %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Reads `65536 64k 512M 2G 1T`, powers of 1024.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = leading_number(text)?;
    let factor = match unit {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        "t" | "T" => 1_u64 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Reads `50/s 30/min 1000/h 5/day`.
pub(crate) fn parse_rate(text: &str) -> Option<Rate> {
    let (events, unit) = text.split_once('/')?;
    let seconds = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 3_600,
        "day" => 86_400,
        _ => return None,
    };
    let events = parse_digits(events).filter(|events| *events > 0)?;
    Some(Rate { events: u32::try_from(events).ok()?, per: Duration::from_secs(seconds) })
}

/// Writes a rate as [`parse_rate`] reads it.
pub(crate) fn rate_text(rate: Rate) -> String {
    let unit = match rate.per.as_secs() {
        1 => "s",
        60 => "min",
        3_600 => "h",
        _ => "day",
    };
    format!("{}/{unit}", rate.events)
}

/// The days in the order of the bits of [`Span::days`].
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// Reads `Mon-Fri 08:00-18:00`, `Sat,Sun 22:00-06:00`, `08:00-18:00` (every day).
pub(crate) fn parse_times(text: &str) -> Option<Span> {
    let mut words = text.split_ascii_whitespace();
    let (first, second) = (words.next()?, words.next());
    let (days, hours) = second.map_or((Some(0x7f), first), |hours| (parse_days(first), hours));
    let (from, to) = hours.split_once('-')?;
    let span = Span { days: days?, from: parse_minute(from).filter(|from| *from < 1440)?, to: parse_minute(to)? };
    words.next().is_none().then_some(span)
}

/// Writes a span as `parse_times` reads it.
pub fn times_text(span: &Span) -> String {
    let days: Vec<&str> = (0..).zip(DAYS).filter(|(bit, _)| span.days >> bit & 1 == 1).map(|(_, day)| day).collect();
    let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    format!("{} {}-{}", days.join(","), time(span.from), time(span.to))
}

/// `Mon-Fri`, `Sat,Sun`, `Fri-Mon`.
fn parse_days(text: &str) -> Option<u8> {
    let day = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
    let mut bits = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let count = (last + 7 - first) % 7;
        bits |= (0..=count).fold(0, |bits, offset| bits | 1_u8 << ((first + offset) % 7));
    }
    Some(bits)
}

/// `08:00` in minutes from midnight; up to `24:00`.
fn parse_minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (parse_digits(hour)?, parse_digits(minute).filter(|_| minute.len() == 2)?);
    let minutes = hour.checked_mul(60)?.checked_add(minute).filter(|minutes| minute < 60 && *minutes <= 1440)?;
    u16::try_from(minutes).ok()
}

/// Reads a network, or an address as the network that holds nothing else. `Err` is the network that was meant, if
/// host bits are set.
pub fn parse_network(text: &str) -> Option<Result<IpNet, IpNet>> {
    let network: IpNet = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    Some(if network == network.trunc() { Ok(network) } else { Err(network.trunc()) })
}

/// Reads `022` or `0o22`: permission bits.
pub(crate) fn parse_mode(text: &str) -> Option<u32> {
    let octal = text.strip_prefix("0o").unwrap_or(text);
    let plain = !octal.is_empty() && octal.bytes().all(|byte| byte.is_ascii_digit());
    u32::from_str_radix(octal, 8).ok().filter(|mode| plain && *mode <= 0o777)
}

/// The facilities of syslog that have a name (syslog(3)), and their numbers (RFC 5424 §6.2.1).
pub(crate) const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((parse_digits(&text[..end])?, &text[end..]))
}

/// Digits and nothing else: no sign, no space.
pub(crate) fn parse_digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> Option<u128> {
        parse_duration(text).map(|duration| duration.as_millis())
    }

    #[test]
    fn durations_are_numbers_with_units_longest_first() {
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("10s"), Some(10_000));
        assert_eq!(ms("1h30m"), Some(5_400_000));
        assert_eq!(ms("2d1ms"), Some(172_800_001));
        for bad in ["", "10", "s", "30m1h", "1m1m", "1.5s", "-1s", "1 s", "99999999999999999999s", "300000000000d"] {
            assert_eq!(ms(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        for text in ["500ms", "10s", "1h30m", "2d3h4m5s6ms", "0s"] {
            assert_eq!(duration_text(parse_duration(text).unwrap()), text);
        }
        assert_eq!(duration_text(Duration::from_secs(90)), "1m30s");
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("65536"), Some(65536));
        assert_eq!(parse_size("64k"), Some(65536));
        assert_eq!(parse_size("512M"), Some(536_870_912));
        assert_eq!(parse_size("2G"), Some(2_147_483_648));
        for bad in ["", "k", "64kB", "-1", "1.5G", "18446744073709551616", "99999999999T"] {
            assert_eq!(parse_size(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn rates_are_events_in_a_time() {
        let read = |text| parse_rate(text).map(|rate| (rate.events, rate.per.as_secs()));
        assert_eq!(read("50/s"), Some((50, 1)));
        assert_eq!(read("30/min"), Some((30, 60)));
        assert_eq!(read("1000/h"), Some((1000, 3600)));
        assert_eq!(read("5/day"), Some((5, 86_400)));
        for bad in ["50", "0/s", "/s", "5/week", "-5/s", "5000000000/s"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn times_are_days_and_hours() {
        let read = |text| parse_times(text).map(|t| (t.days, t.from, t.to));
        assert_eq!(read("Mon-Fri 08:00-18:00"), Some((0b011_1110, 480, 1080)));
        assert_eq!(read("Sat,Sun 22:00-06:00"), Some((0b100_0001, 1320, 360)));
        assert_eq!(read("fri-mon 0:30-24:00"), Some((0b110_0011, 30, 1440)));
        assert_eq!(read("12:00-13:00"), Some((0b111_1111, 720, 780)));
        for bad in [
            "",
            "Mon",
            "Mon-Fri",
            "Foo 08:00-09:00",
            "8-9",
            "08:60-09:00",
            "24:00-25:00",
            "Mon 8:00-9:00 x",
            "9223372036854775808:00-9:00",
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn times_and_rates_are_written_as_they_are_read() {
        for text in
            ["Mon,Tue,Wed,Thu,Fri 08:00-18:00", "Sun,Sat 22:00-06:05", "Sun,Mon,Tue,Wed,Thu,Fri,Sat 00:00-24:00"]
        {
            assert_eq!(times_text(&parse_times(text).unwrap()), text);
        }
        for text in ["50/s", "30/min", "1000/h", "5/day"] {
            assert_eq!(rate_text(parse_rate(text).unwrap()), text);
        }
    }

    #[test]
    fn networks_with_host_bits_are_told_from_clean_ones() {
        assert_eq!(parse_network("203.0.113.0/24").unwrap().unwrap().to_string(), "203.0.113.0/24");
        assert_eq!(parse_network("::1").unwrap().unwrap().to_string(), "::1/128");
        assert_eq!(parse_network("10.1.2.3/8").unwrap().unwrap_err().to_string(), "10.0.0.0/8");
        assert!(parse_network("example.org").is_none() && parse_network("10.0.0.0/33").is_none());
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(parse_mode("022"), Some(0o22));
        assert_eq!(parse_mode("0o777"), Some(0o777));
        for bad in ["", "8", "1777", "+22", "0x1"] {
            assert_eq!(parse_mode(bad), None, "{bad:?}");
        }
    }
}
