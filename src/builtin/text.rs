//! The texts of the small services, for connections and for datagrams. It opens nothing, and cannot fail.

use crate::sys::clock::{CalendarTime, local_time};

/// The characters of chargen: the printable ones of ASCII, including the space (RFC 864).
const PRINTABLE: std::ops::RangeInclusive<u8> = b' '..=b'~';
/// The number of characters in a line of chargen, without its end.
const LINE_LEN: usize = 72;

/// All lines of chargen (RFC 864). Each begins one character later than the one before; the first follows the last.
#[must_use]
pub(super) fn chargen_lines() -> Vec<u8> {
    let all: Vec<u8> = PRINTABLE.collect();
    let mut lines = Vec::with_capacity(all.len() * (LINE_LEN + 2));
    for first in 0..all.len() {
        lines.extend(all.iter().cycle().skip(first).take(LINE_LEN));
        lines.extend(b"\r\n");
    }
    lines
}

/// The time of day in the format of all inetds, that of ctime(3): RFC 867 allows "any sensible format".
#[must_use]
pub(super) fn daytime_line(unix_seconds: i64) -> String {
    let CalendarTime { year, month, day, hour, minute, second, weekday, .. } = local_time(unix_seconds);
    let weekday = WEEKDAYS[usize::from(weekday) % 7];
    let month = MONTHS[usize::from(month).saturating_sub(1) % 12];
    format!("{weekday} {month} {day:2} {hour:02}:{minute:02}:{second:02} {year}\r\n")
}

const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Seconds from 1900-01-01 to 1970-01-01, as in RFC 868.
const SINCE_1900: i64 = 2_208_988_800;

/// Seconds since 1900-01-01 00:00 UTC, in 32 bits, the most significant byte first (RFC 868). They wrap to 0 in
/// February 2036, and clients have to know it.
#[must_use]
pub(super) fn rfc868_time(unix_seconds: i64) -> [u8; 4] {
    let [.., a, b, c, d] = unix_seconds.wrapping_add(SINCE_1900).to_be_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_are_those_of_the_rfc() {
        let all = chargen_lines();
        let text = String::from_utf8(all).unwrap();
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(lines.len(), 95);
        // RFC 864 shows its lines in this order, from this one on.
        assert_eq!(lines[1], r##"!"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefgh"##);
        assert_eq!(lines[2], r##""#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefghi"##);
        assert!(lines.iter().all(|line| line.len() == 72));
        assert!(lines[94].starts_with("~ !"));
    }

    #[test]
    fn seconds_are_those_of_the_rfc() {
        // The examples of RFC 868: 1970, 1976, 1 May 1983 and 17 Nov 1858.
        assert_eq!(rfc868_time(0), 2_208_988_800_u32.to_be_bytes());
        assert_eq!(rfc868_time(189_302_400), 2_398_291_200_u32.to_be_bytes());
        assert_eq!(rfc868_time(420_595_200), 2_629_584_000_u32.to_be_bytes());
        assert_eq!(rfc868_time(-3_506_716_800), (-1_297_728_000_i32).to_be_bytes());
        // The last one that fits, and the next.
        assert_eq!(rfc868_time(i64::from(u32::MAX) - SINCE_1900), [0xff; 4]);
        assert_eq!(rfc868_time(i64::from(u32::MAX) - SINCE_1900 + 1), [0; 4]);
    }

    #[test]
    fn the_time_of_day_has_the_form_of_ctime() {
        let text = daytime_line(0);
        assert_eq!(text.len(), 26, "{text}");
        assert!(text.ends_with("\r\n") && text.contains(":00:00 19"), "{text}");
    }
}
