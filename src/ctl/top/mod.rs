//! `top`: a live view in the terminal, until q is pressed.
//!
//! Each refresh is one `status` request on a new connection, so the view survives a daemon that restarts or does
//! not answer. [`screen`] alone makes the lines on the screen.

mod rates;
mod screen;

use std::time::{Duration, Instant};

use clap::Args;

use super::connection::DaemonClient;
use super::failure::Failure;
use super::output::Output;
use crate::api::{Request, Snapshot};
use crate::exit;
use crate::sys::terminal::{Input, Terminal};
use rates::SecondRates;
use screen::{ScreenView, SortColumn, draw_screen};

#[derive(Debug, Args)]
pub(super) struct TopArgs {
    /// Seconds between refreshes, 0.2 to 60
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_interval)]
    interval: Duration,
    /// The column by which services are sorted
    #[arg(long, value_name = "COLUMN", default_value = "handlers")]
    sort: SortColumn,
}

/// The latest status, and how to show it.
struct LiveView {
    interval: Duration,
    sort: SortColumn,
    /// How many services are skipped by scrolling.
    skip: usize,
    now: Snapshot,
    rates: SecondRates,
    trouble: Option<String>,
}

impl TopArgs {
    pub(super) fn run(self, daemon: &DaemonClient, output: &Output) -> Result<(), Failure> {
        let now: Snapshot = daemon.request_as(&Request::Status {})?;
        let no_terminal = |error| Failure::new(exit::USAGE, format!("top needs a terminal: {error}; try services"));
        let terminal = Terminal::enter_fullscreen().map_err(no_terminal)?;
        let rates = SecondRates::between(&now, &now);
        let mut live = LiveView { interval: self.interval, sort: self.sort, skip: 0, now, rates, trouble: None };
        live.run(daemon, &terminal, output.colour)
    }
}

impl LiveView {
    fn run(&mut self, daemon: &DaemonClient, terminal: &Terminal, colour: bool) -> Result<(), Failure> {
        let mut next = Instant::now() + self.interval;
        loop {
            terminal.write(self.render_frame(terminal.size(), colour).as_bytes())?;
            match terminal.wait_for_input(next.saturating_duration_since(Instant::now())) {
                Input::End => return Ok(()),
                Input::Byte(key) if !self.handle_key(key) => return Ok(()),
                Input::Byte(_) => next = next.min(Instant::now() + self.interval),
                Input::Resized => {}
                Input::Nothing => {
                    self.refresh(daemon);
                    next = Instant::now() + self.interval;
                }
            }
        }
    }

    fn refresh(&mut self, daemon: &DaemonClient) {
        match daemon.request_as::<Snapshot>(&Request::Status {}) {
            Ok(now) => {
                self.rates = SecondRates::between(&self.now, &now);
                (self.now, self.trouble) = (now, None);
            }
            Err(failure) => self.trouble = Some(failure.lines.join("; ")),
        }
    }

    /// Handles a key. False if the key ends the program.
    fn handle_key(&mut self, key: u8) -> bool {
        const CTRL_C: u8 = 3;
        match key {
            b'q' | b'Q' | CTRL_C => return false,
            b's' => self.sort = self.sort.next_column(),
            b'n' => self.sort = SortColumn::Service,
            b'h' => self.sort = SortColumn::Handlers,
            b'a' => self.sort = SortColumn::Accepted,
            b'r' => self.sort = SortColumn::Refused,
            b'j' => self.skip = (self.skip + 1).min(self.now.services.len().saturating_sub(1)),
            b'k' => self.skip = self.skip.saturating_sub(1),
            b'+' => self.interval = (self.interval / 2).max(INTERVAL_MIN),
            b'-' => self.interval = (self.interval * 2).min(INTERVAL_MAX),
            _ => {}
        }
        true
    }

    /// The bytes for the terminal: every line, with the rest of the line and of the screen erased.
    fn render_frame(&self, (width, height): (usize, usize), colour: bool) -> String {
        let (sort, skip, interval) = (self.sort, self.skip, self.interval);
        let (now, rates, trouble) = (&self.now, &self.rates, self.trouble.as_deref());
        let view = ScreenView { now, rates, sort, skip, interval, trouble, colour, blocks: has_utf8() };
        let lines = draw_screen(&view, width, height);
        format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n"))
    }
}

const INTERVAL_MIN: Duration = Duration::from_millis(200);
const INTERVAL_MAX: Duration = Duration::from_secs(60);

fn parse_interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| (INTERVAL_MIN..=INTERVAL_MAX).contains(time)).ok_or_else(|| "expected 0.2 to 60".to_owned())
}

/// Whether the locale says that the terminal shows UTF-8 (locale(7)).
fn has_utf8() -> bool {
    let set = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}
