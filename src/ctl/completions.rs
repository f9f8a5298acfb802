//! `completions SHELL [PROGRAM]`: a completion script, made from the definitions of the command lines.

use std::io::Write;

use clap::{Args, Command, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

use super::failure::Failure;
use super::output::Output;
use crate::arguments::Arguments;

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell that reads the script
    shell: Shell,
    /// The program whose command line the script completes
    #[arg(default_value = "oxinetctl")]
    program: CompletedProgram,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CompletedProgram {
    /// The tool that controls the daemon
    Oxinetctl,
    /// The daemon itself
    Oxinetd,
}

impl CompletionsArgs {
    /// Writes the script. `oxinetctl` is the command line of that program.
    pub(super) fn run(self, oxinetctl: Command, output: &mut Output) -> Result<(), Failure> {
        let mut command = match self.program {
            CompletedProgram::Oxinetctl => oxinetctl,
            CompletedProgram::Oxinetd => without_hidden(&Arguments::command()),
        };
        let name = command.get_name().to_owned();
        // `generate` panics if it can't write, so it writes to memory.
        let mut script = Vec::new();
        generate(self.shell, &mut command, name, &mut script);
        Ok(output.write_all(&script)?)
    }
}

/// The command line without hidden arguments, which bash would offer nevertheless.
fn without_hidden(command: &Command) -> Command {
    let visible = command.get_arguments().filter(|argument| !argument.is_hide_set()).cloned();
    Command::new("oxinetd").version(env!("CARGO_PKG_VERSION")).args(visible)
}
