//! `import FILE…`: tables of inetd and xinetd in YAML on standard output, and on standard error what should be looked at.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::output::Output;
use super::{Failure, complain};
use crate::arguments::dialect;
use crate::compat::Options;
use crate::compat::import::{Imported, import};
use crate::config::Dialect;
use crate::exit;

/// The arguments.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// An inetd.conf or xinetd.conf; several make one table
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Whose inetd.conf it is
    #[arg(long, value_name = "DIALECT", default_value_t, value_parser = dialect())]
    dialect: Dialect,
    /// Fail if there is anything to be looked at
    #[arg(long)]
    strict: bool,
}

impl Import {
    pub(super) fn run(self, output: &mut Output) -> Result<(), Failure> {
        let options = Options { dialect: self.dialect, ..Options::default() };
        let lines = |problems: Vec<_>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
        let imported = import(&self.files, &options)
            .map_err(|problems| Failure { lines: lines(problems), status: exit::CONFIG })?;
        let Imported { yaml, problems, warnings } = imported;
        let notes = !warnings.is_empty();
        let _ = complain(&lines(warnings), 0);
        output.write_all(yaml.as_bytes())?;
        if problems.is_empty() && !(self.strict && notes) {
            return Ok(());
        }
        output.flush()?;
        Err(Failure { lines: lines(problems), status: exit::CONFIG })
    }
}
