//! `top`: a live view in the terminal, until q.
//!
//! Each refresh is one `status` request on a connection of its own, so a daemon that is restarted, or does not answer,
//! ends nothing here. What is on the screen is worked out by [`screen`] alone.

mod rates;
mod screen;

use std::time::{Duration, Instant};

use clap::Args;

use super::connection::Daemon;
use super::output::Output;
use super::{Failure, Request};
use crate::api::Snapshot;
use crate::exit;
use crate::sys::terminal::{Input, Terminal};
use rates::Rates;
use screen::{Column, View, draw};

/// The arguments.
#[derive(Debug, Args)]
pub(super) struct Top {
    /// Seconds between two refreshes, 0.2 to 60
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
    /// The column to sort services by
    #[arg(long, value_name = "COLUMN", default_value = "handlers")]
    sort: Column,
}

/// What is known, and how it is to be shown.
struct Live {
    interval: Duration,
    sort: Column,
    /// How many services are scrolled over.
    skip: usize,
    now: Snapshot,
    rates: Rates,
    trouble: Option<String>,
}

impl Top {
    pub(super) fn run(self, daemon: &Daemon, output: &Output) -> Result<(), Failure> {
        let now: Snapshot = daemon.ask_for(&Request::Status {})?;
        let no_terminal = |error| Failure::new(exit::USAGE, format!("top needs a terminal: {error}; try services"));
        let terminal = Terminal::enter_fullscreen().map_err(no_terminal)?;
        let rates = Rates::between(&now, &now);
        let mut live = Live { interval: self.interval, sort: self.sort, skip: 0, now, rates, trouble: None };
        live.show(daemon, &terminal, output.colour)
    }
}

impl Live {
    fn show(&mut self, daemon: &Daemon, terminal: &Terminal, colour: bool) -> Result<(), Failure> {
        let mut next = Instant::now() + self.interval;
        loop {
            terminal.write(self.frame(terminal.size(), colour).as_bytes())?;
            match terminal.wait_for_input(next.saturating_duration_since(Instant::now())) {
                Input::End => return Ok(()),
                Input::Byte(key) if !self.obey(key) => return Ok(()),
                Input::Byte(_) => next = next.min(Instant::now() + self.interval),
                Input::Resized => {}
                Input::Nothing => {
                    self.refresh(daemon);
                    next = Instant::now() + self.interval;
                }
            }
        }
    }

    fn refresh(&mut self, daemon: &Daemon) {
        match daemon.ask_for::<Snapshot>(&Request::Status {}) {
            Ok(now) => {
                self.rates = Rates::between(&self.now, &now);
                (self.now, self.trouble) = (now, None);
            }
            Err(failure) => self.trouble = Some(failure.lines.join("; ")),
        }
    }

    /// Does what a key says. `false` for the end.
    fn obey(&mut self, key: u8) -> bool {
        const CTRL_C: u8 = 3;
        match key {
            b'q' | b'Q' | CTRL_C => return false,
            b's' => self.sort = self.sort.next(),
            b'n' => self.sort = Column::Service,
            b'h' => self.sort = Column::Handlers,
            b'a' => self.sort = Column::Accepted,
            b'r' => self.sort = Column::Refused,
            b'j' => self.skip = (self.skip + 1).min(self.now.services.len().saturating_sub(1)),
            b'k' => self.skip = self.skip.saturating_sub(1),
            b'+' => self.interval = (self.interval / 2).max(SHORTEST),
            b'-' => self.interval = (self.interval * 2).min(LONGEST),
            _ => {}
        }
        true
    }

    /// What is sent to the terminal: every line, and nothing behind it.
    fn frame(&self, (width, height): (usize, usize), colour: bool) -> String {
        let (sort, skip, interval) = (self.sort, self.skip, self.interval);
        let (now, rates, trouble) = (&self.now, &self.rates, self.trouble.as_deref());
        let view = View { now, rates, sort, skip, interval, trouble, colour, blocks: speaks_utf8() };
        let lines = draw(&view, width, height);
        format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n"))
    }
}

const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(60);

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| (SHORTEST..=LONGEST).contains(time)).ok_or_else(|| "expected 0.2 to 60".to_owned())
}

/// Does the terminal show more than ASCII (locale(7))?
fn speaks_utf8() -> bool {
    let set = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}
