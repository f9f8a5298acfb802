//! `completions SHELL [PROGRAM]`: a completion script, made from the same definitions as the command lines themselves.

use std::io::Write;

use clap::{Args, Command, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

use super::output::Output;
use super::{Arguments, Failure};
use crate::arguments;

/// The arguments.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
    /// Whose command line to complete
    #[arg(default_value = "oxinetctl")]
    program: Program,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Program {
    /// This tool
    Oxinetctl,
    /// The daemon
    Oxinetd,
}

impl Completions {
    pub(super) fn run(self, output: &mut Output) -> Result<(), Failure> {
        let mut command = match self.program {
            Program::Oxinetctl => Arguments::command(),
            Program::Oxinetd => visible(&arguments::Arguments::command()),
        };
        let name = command.get_name().to_owned();
        // `generate` panics where it can't write, so it writes to memory.
        let mut script = Vec::new();
        generate(self.shell, &mut command, name, &mut script);
        Ok(output.write_all(&script)?)
    }
}

/// The same without the arguments that nobody types, which bash would offer all the same.
fn visible(whole: &Command) -> Command {
    let typed = whole.get_arguments().filter(|argument| !argument.is_hide_set()).cloned();
    Command::new("oxinetd").version(env!("CARGO_PKG_VERSION")).args(typed)
}
