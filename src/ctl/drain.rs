//! `drain SERVICE` and `resume SERVICE`: refuses new clients of a service for a while; its live handlers continue.

use clap::Args;

use super::connection::DaemonClient;
use super::failure::Failure;
use super::output::Output;
use crate::api::Request;

#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// The name of the service
    service: String,
}

impl DrainArgs {
    pub(super) fn drain(self, daemon: &DaemonClient, output: &mut Output) -> Result<(), Failure> {
        let (done, already) = (format!("{} is drained", self.service), format!("{} was drained before", self.service));
        output.print_change(&daemon.request(&Request::Drain { service: self.service })?, &done, &already)
    }

    pub(super) fn resume(self, daemon: &DaemonClient, output: &mut Output) -> Result<(), Failure> {
        let done = format!("{} accepts clients again", self.service);
        let already = format!("{} was not drained", self.service);
        output.print_change(&daemon.request(&Request::Resume { service: self.service })?, &done, &already)
    }
}
