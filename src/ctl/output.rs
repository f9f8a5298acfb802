//! Standard output: data and nothing else, as text for people or as JSON for programs.
//!
//! All subcommands write here. An error of writing is a [`Failure`]; [`super::main`] reports it.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use clap::ValueEnum;
use serde_json::Value;

use super::connection::parse_result;
use super::failure::Failure;
use crate::api::Changed;
use crate::ctl::render::grid::{Cell, Grid, Tone};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// Tables and lines for people
    Table,
    /// JSON for programs
    Json,
}

/// The standard output of this process, and how to write to it.
pub(super) struct Output {
    out: BufWriter<StdoutLock<'static>>,
    pub format: OutputFormat,
    /// Whether to use colour: only on a terminal, and not if `NO_COLOR` is set (no-color.org).
    pub colour: bool,
}

impl Output {
    pub(super) fn to_stdout(format: OutputFormat) -> Self {
        let out = io::stdout().lock();
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        let colour = out.is_terminal() && !unwanted && !dumb;
        Self { out: BufWriter::new(out), format, colour }
    }

    /// Writes a result as JSON, or calls `print_text`, which writes it for people.
    pub(super) fn print_result(
        &mut self,
        result: &Value,
        print_text: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self.format {
            OutputFormat::Json => Ok(writeln!(self.out, "{result:#}")?),
            OutputFormat::Table => print_text(self),
        }
    }

    /// Writes the result of a change: the text `done`, or `already` if there was nothing to change.
    pub(super) fn print_change(&mut self, result: &Value, done: &str, already: &str) -> Result<(), Failure> {
        self.print_result(result, |output| {
            let Changed { changed } = parse_result(result)?;
            output.print_line(if changed { done } else { already }, Tone::Plain)
        })
    }

    pub(super) fn print_grid(&mut self, grid: &Grid) -> Result<(), Failure> {
        for line in grid.lines(self.colour) {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    /// Writes one line. Control characters in it are replaced.
    pub(super) fn print_line(&mut self, text: &str, tone: Tone) -> Result<(), Failure> {
        let line = Cell::new(text, tone);
        Ok(writeln!(self.out, "{}", tone.paint(line.text(), self.colour))?)
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
