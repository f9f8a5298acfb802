//! Passes if the service is open at this time of day, by `times`.

use std::time::Duration;

use super::check::{Check, CheckInput, Pause, Scope, TestResult};
use super::text::with_origin;
use crate::config::{Service, times_text};
use crate::limits::access::LocalTime;
use crate::sys::clock;
use crate::types::Reason;

/// The longest pause of a listener until its service opens: the wall clock may be set.
const MAX_PAUSE: Duration = Duration::from_secs(60);

const SECONDS_PER_MINUTE: u64 = 60;
const MINUTES_PER_DAY: u64 = 24 * 60;
const MINUTES_PER_WEEK: u64 = 7 * MINUTES_PER_DAY;

pub(super) const TIMES: Check = Check {
    pause: Pause::ForTime { if_unknown: MAX_PAUSE, max: MAX_PAUSE },
    ..Check::new(Reason::Times, Scope::Service, test_times, explain_times)
};

fn test_times(input: &CheckInput<'_>) -> TestResult {
    if !input.rules.has_times {
        return Ok(());
    }
    let local = clock::local_time(i64::try_from(input.now.wall.as_secs()).unwrap_or(0));
    let minute = u16::from(local.hour) * 60 + u16::from(local.minute);
    let time = LocalTime { weekday: local.weekday, minute };
    let access = &input.rules.access;
    if access.is_open_at(time) {
        return Ok(());
    }
    Err(access.next_opening(time).map(|next| time_until(time, next, local.second.min(59))))
}

/// The time on the wall clock from some seconds into one minute to the next beginning of another.
fn time_until(now: LocalTime, next: LocalTime, seconds: u8) -> Duration {
    let minute_of_week = |time: LocalTime| u64::from(time.weekday) * MINUTES_PER_DAY + u64::from(time.minute);
    let minutes = match (minute_of_week(next) + MINUTES_PER_WEEK - minute_of_week(now)) % MINUTES_PER_WEEK {
        0 => MINUTES_PER_WEEK,
        minutes => minutes,
    };
    Duration::from_secs(minutes * SECONDS_PER_MINUTE - u64::from(seconds))
}

fn explain_times(_: &CheckInput<'_>, service: &Service) -> String {
    let times: Vec<_> = service.times.iter().map(times_text).collect();
    if times.is_empty() { "open at all times".to_owned() } else { with_origin(service, &times.join(", "), "times") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_until_a_service_opens() {
        let at = |weekday, hour: u16, minute| LocalTime { weekday, minute: hour * 60 + minute };
        let seconds = |now, next, second| time_until(now, next, second).as_secs();
        assert_eq!(seconds(at(1, 7, 59), at(1, 8, 0), 59), 1);
        assert_eq!(seconds(at(1, 7, 59), at(1, 8, 0), 0), 60);
        assert_eq!(seconds(at(6, 23, 0), at(0, 1, 0), 0), 7_200, "over the end of the week");
        assert_eq!(seconds(at(5, 9, 0), at(5, 8, 0), 0), (7 * 24 - 1) * 3_600);
        assert_eq!(seconds(at(5, 9, 0), at(5, 9, 0), 0), 7 * 24 * 3_600);
    }
}
