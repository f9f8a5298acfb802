//! Time: the clock that never goes back, the one on the wall, and what the wall clock shows here.

use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::ClockId;

/// Time since some moment in the past; never goes back, whatever is done to the wall clock (`CLOCK_MONOTONIC`).
#[must_use]
pub fn monotonic() -> Duration {
    ClockId::CLOCK_MONOTONIC.now().map_or(Duration::ZERO, Duration::from)
}

/// Time since 1970-01-01 00:00 UTC.
#[must_use]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A moment as the clocks of this time zone show it, daylight saving time included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Year of the common era.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60.
    pub second: u8,
    /// 0 is Sunday.
    pub weekday: u8,
    /// East of UTC.
    pub utc_offset_seconds: i32,
}

/// The local time of a moment in seconds since 1970-01-01 00:00 UTC (localtime_r(3)).
#[must_use]
pub fn local(unix_seconds: i64) -> LocalTime {
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
    LocalTime {
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
