//! `import FILE…`: translates tables of inetd and xinetd into YAML on standard output, with warnings on standard
//! error.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::failure::{Failure, report_errors};
use super::output::Output;
use crate::arguments::dialect_parser;
use crate::compat::Options;
use crate::compat::import::{Imported, import};
use crate::config::Dialect;
use crate::exit;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// An inetd.conf or xinetd.conf; several files make one table
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The inetd whose inetd.conf format to read
    #[arg(long, value_name = "DIALECT", default_value_t, value_parser = dialect_parser())]
    dialect: Dialect,
    /// Fail if there are warnings
    #[arg(long)]
    strict: bool,
}

impl ImportArgs {
    pub(super) fn run(self, output: &mut Output) -> Result<(), Failure> {
        let options = Options { dialect: self.dialect, ..Options::default() };
        let lines = |problems: Vec<_>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
        let imported = import(&self.files, &options)
            .map_err(|problems| Failure { lines: lines(problems), status: exit::CONFIG })?;
        let Imported { yaml, problems, warnings } = imported;
        let has_warnings = !warnings.is_empty();
        let _ = report_errors(&lines(warnings), 0);
        output.write_all(yaml.as_bytes())?;
        if problems.is_empty() && !(self.strict && has_warnings) {
            return Ok(());
        }
        output.flush()?;
        Err(Failure { lines: lines(problems), status: exit::CONFIG })
    }
}
