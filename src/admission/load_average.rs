//! The load average of the machine, read at most once a second, and only for a service with `max_load`.
//!
//! Reading /proc/loadavg never blocks. If it can't be read, there is no load average, and one complaint.

use std::path::PathBuf;
use std::time::Duration;

/// How old a reading may be; the kernel itself works it out every five seconds.
const MAX_AGE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(super) struct LoadAverage {
    file: PathBuf,
    /// When it was read, and the average of one minute.
    last: Option<(Duration, Option<f64>)>,
    complaint: Option<String>,
}

impl LoadAverage {
    pub(super) fn of_system() -> Self {
        Self::in_file("/proc/loadavg".into())
    }

    pub(super) fn in_file(file: PathBuf) -> Self {
        Self { file, last: None, complaint: None }
    }

    /// The average of one minute; none if it can't be read.
    pub(super) fn average_at(&mut self, now: Duration) -> Option<f64> {
        match self.last {
            Some((when, load)) if now < when + MAX_AGE => load,
            before => {
                let load = self.read_file(before.is_none_or(|(_, load)| load.is_some()));
                self.last = Some((now, load));
                load
            }
        }
    }

    fn read_file(&mut self, first_failure: bool) -> Option<f64> {
        let text = std::fs::read_to_string(&self.file).map_err(|error| error.to_string());
        let load = text.and_then(|text| parse_average(&text).ok_or_else(|| "this is no load average".to_owned()));
        load.map_err(|error| {
            if first_failure {
                self.complaint =
                    Some(format!("{}: {error}; max_load has no effect until it can be read", self.file.display()));
            }
        })
        .ok()
    }

    /// The error, once.
    pub(super) fn take_complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }
}

/// The first number of `0.20 0.18 0.12 1/80 11206` (proc_loadavg(5)).
fn parse_average(text: &str) -> Option<f64> {
    text.split_ascii_whitespace().next()?.parse().ok().filter(|load: &f64| load.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn it_is_read_at_most_once_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("loadavg");
        fs::write(&file, "2.50 1.00 0.50 1/80 11206\n").unwrap();
        let mut load = LoadAverage::in_file(file.clone());
        assert_eq!(load.average_at(ms(0)), Some(2.5));
        fs::write(&file, "7.00 1.00 0.50 1/80 11206\n").unwrap();
        assert_eq!((load.average_at(ms(999)), load.average_at(ms(1000))), (Some(2.5), Some(7.0)));
    }

    #[test]
    fn what_cannot_be_read_is_told_once_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("loadavg");
        let mut load = LoadAverage::in_file(file.clone());
        assert_eq!(load.average_at(ms(0)), None);
        assert!(load.take_complaint().is_some_and(|text| text.contains("No such file")));
        fs::write(&file, "high").unwrap();
        assert_eq!((load.average_at(ms(1000)), load.take_complaint()), (None, None));
        fs::write(&file, "0.01").unwrap();
        assert_eq!((load.average_at(ms(2000)), load.take_complaint()), (Some(0.01), None));
        fs::write(&file, "").unwrap();
        assert_eq!(load.average_at(ms(3000)), None);
        assert!(load.take_complaint().is_some());
    }

    #[test]
    fn the_system_has_one() {
        assert!(LoadAverage::of_system().average_at(ms(0)).is_some());
    }
}
