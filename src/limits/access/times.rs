//! Times of day at which a service is open.
//!
//! A time is what the local wall clock shows: the day of the week and the minute. So daylight saving needs no rule
//! of its own. When the clock jumps forward, it skips some minutes: a span within them is not open that day, and a
//! span that begins within them is open from the jump on. When it jumps back, minutes happen twice, and a span that
//! contains them is open both times.

const MINUTES_PER_DAY: u16 = 24 * 60;

/// The day and the minute that the wall clock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalTime {
    /// Sunday is 0, Saturday 6 (`tm_wday` of localtime(3)).
    pub weekday: u8,
    /// Minutes since midnight, 0 to 1439.
    pub minute: u16,
}

/// A time of day on some days of the week: `Mon-Fri 08:00-18:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The days on which the span begins, one bit each: Sunday is bit 0, Saturday bit 6.
    pub days: u8,
    /// The first minute since midnight, 0 to 1439.
    pub from: u16,
    /// The first minute after the span, 0 to 1440 (24:00). If it is not after `from`, it is on the next day.
    pub to: u16,
}

impl Span {
    fn begins_on(&self, weekday: u8) -> bool {
        self.days >> (weekday % 7) & 1 == 1
    }

    fn contains_time(&self, now: LocalTime) -> bool {
        let (today, yesterday) = (self.begins_on(now.weekday), self.begins_on(now.weekday + 6));
        let (begun, ended) = (now.minute >= self.from, now.minute >= self.to);
        if self.to > self.from { today && begun && !ended } else { today && begun || yesterday && !ended }
    }

    /// The minutes on the wall clock from `now` to each beginning of the span, at most a week.
    fn minutes_to_beginnings(self, now: LocalTime) -> impl Iterator<Item = u16> {
        (0..=7).filter(move |ahead| self.begins_on(now.weekday + ahead)).filter_map(move |ahead| {
            let begin = u16::from(ahead) * MINUTES_PER_DAY + self.from;
            begin.checked_sub(now.minute)
        })
    }
}

/// Whether a time is within one of the spans; always, if there is none.
pub(super) fn is_open_at(spans: &[Span], now: LocalTime) -> bool {
    spans.is_empty() || spans.iter().any(|span| span.contains_time(now))
}

/// The next time within one of the spans, which may be `now`. None if the spans have no days. The clock may skip
/// that minute (daylight saving), so ask again then.
pub(super) fn next_opening(spans: &[Span], now: LocalTime) -> Option<LocalTime> {
    if is_open_at(spans, now) {
        return Some(now);
    }
    let wait = spans.iter().flat_map(|span| span.minutes_to_beginnings(now)).min()?;
    let minute = now.minute + wait;
    let days = u16::from(now.weekday) + minute / MINUTES_PER_DAY;
    Some(LocalTime { weekday: (days % 7) as u8, minute: minute % MINUTES_PER_DAY })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUNDAY: u8 = 1;
    const FRIDAY: u8 = 1 << 5;
    const SATURDAY: u8 = 1 << 6;
    const WORKDAYS: u8 = 0b011_1110;
    const DAILY: u8 = 0b111_1111;

    fn span(days: u8, from: (u16, u16), to: (u16, u16)) -> Span {
        Span { days, from: from.0 * 60 + from.1, to: to.0 * 60 + to.1 }
    }

    fn at(weekday: u8, hour: u16, minute: u16) -> LocalTime {
        LocalTime { weekday, minute: hour * 60 + minute }
    }

    #[test]
    fn office_hours() {
        let office = [span(WORKDAYS, (8, 0), (18, 0))];
        for (weekday, hour, minute, open) in [
            (1, 7, 59, false),
            (1, 8, 0, true),
            (5, 17, 59, true),
            (5, 18, 0, false),
            (6, 12, 0, false),
            (0, 12, 0, false),
        ] {
            assert_eq!(is_open_at(&office, at(weekday, hour, minute)), open, "{weekday} {hour}:{minute}");
        }
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let nights = [span(SATURDAY, (22, 0), (6, 0))];
        assert!(!is_open_at(&nights, at(6, 5, 59)), "that night began on Friday");
        assert!(!is_open_at(&nights, at(6, 21, 59)));
        assert!(is_open_at(&nights, at(6, 22, 0)));
        assert!(is_open_at(&nights, at(0, 0, 0)), "the week's end is no end");
        assert!(is_open_at(&nights, at(0, 5, 59)));
        assert!(!is_open_at(&nights, at(0, 6, 0)));
        assert!(!is_open_at(&nights, at(0, 22, 0)));
    }

    #[test]
    fn midnight_as_a_beginning_and_as_an_end() {
        for all_day in [span(SUNDAY, (0, 0), (24, 0)), span(SUNDAY, (0, 0), (0, 0))] {
            assert!(is_open_at(&[all_day], at(0, 0, 0)) && is_open_at(&[all_day], at(0, 23, 59)));
            assert!(!is_open_at(&[all_day], at(6, 23, 59)) && !is_open_at(&[all_day], at(1, 0, 0)));
        }
        for evening in [span(SUNDAY, (20, 0), (24, 0)), span(SUNDAY, (20, 0), (0, 0))] {
            assert!(is_open_at(&[evening], at(0, 23, 59)) && !is_open_at(&[evening], at(1, 0, 0)));
        }
        let day_and_night = [span(SUNDAY, (8, 0), (8, 0))];
        assert!(is_open_at(&day_and_night, at(0, 8, 0)) && is_open_at(&day_and_night, at(1, 7, 59)));
        assert!(!is_open_at(&day_and_night, at(0, 7, 59)) && !is_open_at(&day_and_night, at(1, 8, 0)));
    }

    #[test]
    fn without_spans_it_is_always_open_and_without_days_never() {
        assert!(is_open_at(&[], at(3, 4, 5)));
        assert_eq!(next_opening(&[], at(3, 4, 5)), Some(at(3, 4, 5)));
        let never = [span(0, (8, 0), (18, 0))];
        assert!(!is_open_at(&never, at(3, 9, 0)));
        assert_eq!(next_opening(&never, at(3, 9, 0)), None);
    }

    #[test]
    fn when_it_opens_next() {
        let office = [span(WORKDAYS, (8, 0), (18, 0)), span(SATURDAY, (10, 0), (12, 0))];
        for (now, next) in [
            (at(1, 7, 0), at(1, 8, 0)),
            (at(1, 9, 30), at(1, 9, 30)),
            (at(1, 18, 0), at(2, 8, 0)),
            (at(5, 23, 0), at(6, 10, 0)),
            (at(6, 12, 0), at(1, 8, 0)),
        ] {
            assert_eq!(next_opening(&office, now), Some(next), "{now:?}");
        }
        let weekly = [span(FRIDAY, (8, 0), (9, 0))];
        assert_eq!(next_opening(&weekly, at(5, 9, 0)), Some(at(5, 8, 0)), "a week but an hour later");
    }

    #[test]
    fn it_opens_next_at_the_first_open_minute_of_the_week_ahead() {
        let spans = [span(WORKDAYS, (22, 30), (1, 15)), span(SUNDAY | SATURDAY, (3, 0), (3, 1))];
        let week = 7 * MINUTES_PER_DAY;
        let on_wall = |minute: u16| LocalTime { weekday: (minute / 1440 % 7) as u8, minute: minute % MINUTES_PER_DAY };
        for now in 0..week {
            let first = (now..now + week).map(on_wall).find(|time| is_open_at(&spans, *time));
            assert_eq!(next_opening(&spans, on_wall(now)), first, "{now}");
        }
    }

    /// The minutes that the wall shows on a Sunday on which the clock jumps from one time to another.
    fn sunday(jump_at: u16, to: u16) -> impl Iterator<Item = LocalTime> {
        (0..jump_at).chain(to..MINUTES_PER_DAY).map(|minute| LocalTime { weekday: 0, minute })
    }

    fn open_minutes(span: Span, day: impl Iterator<Item = LocalTime>) -> usize {
        day.filter(|time| is_open_at(&[span], *time)).count()
    }

    #[test]
    fn the_hour_that_is_skipped_in_spring_does_not_happen() {
        let spring = || sunday(2 * 60, 3 * 60);
        assert_eq!(open_minutes(span(SUNDAY, (2, 0), (3, 0)), spring()), 0);
        assert_eq!(open_minutes(span(SUNDAY, (2, 30), (4, 0)), spring()), 60);
        assert_eq!(open_minutes(span(SUNDAY, (1, 0), (2, 30)), spring()), 60);
        assert_eq!(open_minutes(span(SATURDAY, (22, 0), (6, 0)), spring()), 300);
        assert_eq!(open_minutes(span(DAILY, (0, 0), (24, 0)), spring()), 23 * 60);
    }

    #[test]
    fn the_hour_that_is_repeated_in_autumn_counts_twice() {
        let autumn = || sunday(3 * 60, 2 * 60);
        assert_eq!(open_minutes(span(SUNDAY, (2, 0), (3, 0)), autumn()), 120);
        assert_eq!(open_minutes(span(SUNDAY, (2, 30), (4, 0)), autumn()), 120);
        assert_eq!(open_minutes(span(SATURDAY, (22, 0), (6, 0)), autumn()), 420);
        assert_eq!(open_minutes(span(DAILY, (0, 0), (24, 0)), autumn()), 25 * 60);
    }
}
