//! Time: the monotonic clock, the wall clock, and the local time of day.
//!
//! Every module may call this. It keeps nothing. Nothing in it fails: a clock that cannot be read shows zero.

use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::ClockId;

/// Time since some moment in the past. It never goes back, also when the wall clock is set (`CLOCK_MONOTONIC`).
pub(crate) fn monotonic() -> Duration {
    ClockId::CLOCK_MONOTONIC.now().map_or(Duration::ZERO, Duration::from)
}

/// Time since 1970-01-01 00:00 UTC.
pub(crate) fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A moment in this machine's time zone, daylight saving time included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CalendarTime {
    pub(crate) year: i32,
    /// 1 to 12.
    pub(crate) month: u8,
    /// 1 to 31.
    pub(crate) day: u8,
    pub(crate) hour: u8,
    pub(crate) minute: u8,
    /// 0 to 60, because of leap seconds.
    pub(crate) second: u8,
    /// 0 is Sunday.
    pub(crate) weekday: u8,
    /// Positive in the east.
    pub(crate) utc_offset_seconds: i32,
}

/// The local time of a moment in seconds since 1970-01-01 00:00 UTC (localtime_r(3)).
pub(crate) fn local_time(unix_seconds: i64) -> CalendarTime {
    // time_t is 64 bits wide on every supported platform but some 32-bit ones.
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
    let moment = unix_seconds.try_into().unwrap_or(0);
    let mut time = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to memory of the right type; zeroed is a valid tm, should the call fail.
    let time = unsafe {
        libc::localtime_r(&raw const moment, time.as_mut_ptr());
        time.assume_init()
    };
    let small = |number: i32| u8::try_from(number).unwrap_or(0);
    CalendarTime {
        year: time.tm_year + 1900,
        month: small(time.tm_mon + 1),
        day: small(time.tm_mday),
        hour: small(time.tm_hour),
        minute: small(time.tm_min),
        second: small(time.tm_sec),
        weekday: small(time.tm_wday),
        utc_offset_seconds: i32::try_from(time.tm_gmtoff).unwrap_or(0),
    }
}
