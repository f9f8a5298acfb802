//! Standard output: data and nothing else, as a table for people or as JSON for programs.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use clap::ValueEnum;
use serde_json::Value;

use super::Failure;
use super::connection::read;
use crate::api::Changed;
use crate::ctl::render::grid::{Grid, Side};

/// How to write what the daemon has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Standard output.
pub(super) struct Output {
    out: BufWriter<StdoutLock<'static>>,
    pub format: Format,
    /// Is there to be colour? Only on a terminal, and not for who doesn't want it (no-color.org).
    pub colour: bool,
}

impl Output {
    /// That of this process.
    pub(super) fn standard(format: Format) -> Self {
        let out = io::stdout().lock();
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        let colour = out.is_terminal() && !unwanted && !dumb;
        Self { out: BufWriter::new(out), format, colour }
    }

    /// Writes a result: as JSON as it is, or as a table.
    pub(super) fn show(
        &mut self,
        result: Value,
        table: impl FnOnce(Value) -> Result<Grid, Failure>,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => Ok(writeln!(self.out, "{result:#}")?),
            Format::Table => self.grid(&table(result)?),
        }
    }

    /// Says what has been done, or that it was so before.
    pub(super) fn changed(&mut self, result: Value, done: &str, already: &str) -> Result<(), Failure> {
        self.show(result, |result| {
            let Changed { changed } = read(result)?;
            let mut grid = Grid::new(&[("", Side::Left)]);
            grid.row([if changed { done } else { already }.into()]);
            Ok(grid)
        })
    }

    pub(super) fn grid(&mut self, grid: &Grid) -> Result<(), Failure> {
        for line in grid.lines(self.colour) {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
