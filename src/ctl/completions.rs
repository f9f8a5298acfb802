//! `completions SHELL`: a completion script, made from the same definitions as the command line itself.

use std::io::Write;

use clap::{Args, Command};
use clap_complete::{Shell, generate};

use super::output::Output;
use super::{Failure, NAME};

/// The arguments.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, output: &mut Output, command: &mut Command) -> Result<(), Failure> {
        // `generate` panics where it can't write, so it writes to memory.
        let mut script = Vec::new();
        generate(self.shell, command, NAME, &mut script);
        Ok(output.write_all(&script)?)
    }
}
