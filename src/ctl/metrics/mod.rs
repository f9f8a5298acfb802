//! `metrics`: the snapshot as metrics, on standard output or as the answer to one HTTP request.

mod http;

#[cfg(any(test, fuzzing))]
pub use http::any_head;

use std::io::Write;

use clap::{Args, ValueEnum};

use super::connection::Daemon;
use super::output::Output;
use super::{Failure, Request};
use crate::ctl::render::metrics::{Format, metrics};

/// The arguments.
#[derive(Debug, Args)]
pub(super) struct Metrics {
    /// Answer one HTTP request on standard input and output
    #[arg(long)]
    http: bool,
    /// The text format; over HTTP the client has the choice
    #[arg(long, value_name = "TEXT", default_value = "openmetrics", conflicts_with = "http")]
    text: Text,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Text {
    /// OpenMetrics 1.0
    #[value(name = "openmetrics")]
    OpenMetrics,
    /// The text format of Prometheus, 0.0.4
    Prometheus,
}

impl Metrics {
    pub(super) fn run(self, daemon: &Daemon, output: &mut Output) -> Result<(), Failure> {
        if self.http {
            return http::answer(daemon, output);
        }
        let format = match self.text {
            Text::OpenMetrics => Format::OpenMetrics,
            Text::Prometheus => Format::Prometheus,
        };
        let snapshot = daemon.ask_for(&Request::Status {})?;
        Ok(output.write_all(metrics(&snapshot, format).as_bytes())?)
    }
}
