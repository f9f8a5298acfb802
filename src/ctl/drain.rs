//! `drain SERVICE` and `resume SERVICE`: turns the clients of a service away for a while; its handlers live on.

use clap::Args;

use super::connection::Daemon;
use super::output::Output;
use super::{Failure, Request};

/// The arguments of either.
#[derive(Debug, Args)]
pub(super) struct Service {
    /// The service
    service: String,
}

impl Service {
    pub(super) fn drain(self, daemon: &Daemon, output: &mut Output) -> Result<(), Failure> {
        let (done, already) = (format!("{} is drained", self.service), format!("{} was drained before", self.service));
        output.changed(daemon.ask(&Request::Drain { service: self.service })?, &done, &already)
    }

    pub(super) fn resume(self, daemon: &Daemon, output: &mut Output) -> Result<(), Failure> {
        let (done, already) =
            (format!("{} takes clients again", self.service), format!("{} was not drained", self.service));
        output.changed(daemon.ask(&Request::Resume { service: self.service })?, &done, &already)
    }
}
