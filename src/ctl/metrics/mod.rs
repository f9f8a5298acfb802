//! `metrics`: the status as metrics, on standard output or as the answer to one HTTP request.

mod http;

#[cfg(any(test, fuzzing))]
pub(crate) use http::check_head;

use std::io::Write;

use clap::Args;

use super::connection::DaemonClient;
use super::failure::Failure;
use super::output::Output;
use crate::api::Request;
use crate::ctl::render::metrics::{MetricsFormat, render_metrics};

#[derive(Debug, Args)]
pub(super) struct MetricsArgs {
    /// Answer one HTTP request on standard input and output
    #[arg(long)]
    http: bool,
    /// The text format; with --http the client chooses it
    #[arg(long, value_name = "TEXT", default_value = "openmetrics", conflicts_with = "http")]
    text: MetricsFormat,
}

impl MetricsArgs {
    pub(super) fn run(self, daemon: &DaemonClient, output: &mut Output) -> Result<(), Failure> {
        if self.http {
            return http::answer_request(daemon, output);
        }
        let snapshot = daemon.request_as(&Request::Status {})?;
        Ok(output.write_all(render_metrics(&snapshot, self.text).as_bytes())?)
    }
}
