//! Tables with aligned columns: each column is as wide as its widest cell.
//!
//! Colour only repeats what the words say, for terminals that have it.

use std::fmt::Write;

/// The alignment of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ctl) enum Side {
    /// For texts.
    Left,
    /// For numbers.
    Right,
}

/// The meaning of a text, shown by its colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::ctl) enum Tone {
    #[default]
    Plain,
    Good,
    /// The administrator should look at it.
    Warning,
    Bad,
    Head,
}

impl Tone {
    /// The parameter of SGR for this tone (ECMA-48 §8.3.117), one of the 16 colours that every terminal has.
    fn sgr_code(self) -> Option<u8> {
        match self {
            Self::Plain => None,
            Self::Good => Some(32),
            Self::Warning => Some(33),
            Self::Bad => Some(31),
            Self::Head => Some(1),
        }
    }

    /// The text in this tone, or unchanged without `colour`.
    #[must_use]
    pub(in crate::ctl) fn paint(self, text: &str, colour: bool) -> String {
        match self.sgr_code().filter(|_| colour) {
            Some(sgr) => format!("\x1b[{sgr}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(in crate::ctl) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A text in a tone. Control characters, which could disturb a terminal, are replaced.
    pub(in crate::ctl) fn new(text: impl ToString, tone: Tone) -> Self {
        let text = text.to_string();
        let text = if text.contains(char::is_control) { text.replace(char::is_control, "?") } else { text };
        Self { text, tone }
    }

    #[must_use]
    pub(in crate::ctl) fn text(&self) -> &str {
        &self.text
    }

    #[must_use]
    pub(in crate::ctl) fn tone(&self) -> Tone {
        self.tone
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// A table in the making, by rows.
#[derive(Clone, Debug)]
pub(in crate::ctl) struct Grid {
    sides: Vec<Side>,
    rows: Vec<Vec<Cell>>,
}

impl Grid {
    /// A table with these columns. If any has a heading, the first row holds the headings.
    #[must_use]
    pub(in crate::ctl) fn new(columns: &[(&str, Side)]) -> Self {
        let heads = columns.iter().map(|(head, _)| Cell::new(head, Tone::Head)).collect();
        let any = columns.iter().any(|(head, _)| !head.is_empty());
        Self {
            sides: columns.iter().map(|(_, side)| *side).collect(),
            rows: if any { vec![heads] } else { Vec::new() },
        }
    }

    pub(in crate::ctl) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }

    /// The lines, without line ends and without trailing spaces.
    #[must_use]
    pub(in crate::ctl) fn lines(&self, colour: bool) -> Vec<String> {
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(Cell::width).max();
        let widths: Vec<usize> = (0..self.sides.len()).map(|column| width(column).unwrap_or(0)).collect();
        self.rows.iter().map(|row| self.format_row(row, &widths, colour)).collect()
    }

    fn format_row(&self, row: &[Cell], widths: &[usize], colour: bool) -> String {
        let mut line = String::new();
        let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or(0);
        for (column, ((cell, width), side)) in row.iter().zip(widths).zip(&self.sides).enumerate().take(last + 1) {
            let space = width - cell.width();
            let (before, after) = match side {
                Side::Left => (0, if column == last { 0 } else { space }),
                Side::Right => (space, 0),
            };
            let gap = if column == 0 { 0 } else { 2 };
            let _ = write!(line, "{:1$}{2}{3:4$}", "", before + gap, cell.tone.paint(&cell.text, colour), "", after);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let mut grid = Grid::new(&[("SOURCE", Side::Left), ("HANDLERS", Side::Right), ("SERVICE", Side::Left)]);
        grid.row(["2001:db8:1:2:3:4:5:6/128".into(), 3.into(), "git".into()]);
        grid.row(["127.0.0.1".into(), Cell::new("12/10", Tone::Bad), "".into()]);
        grid
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines = [
            "SOURCE                    HANDLERS  SERVICE",
            "2001:db8:1:2:3:4:5:6/128         3  git",
            "127.0.0.1                    12/10",
        ];
        assert_eq!(grid().lines(false), lines);
    }

    #[test]
    fn colour_changes_no_width() {
        let strip = |line: &String| line.replace("\x1b[1m", "").replace("\x1b[31m", "").replace("\x1b[0m", "");
        assert_eq!(grid().lines(true).iter().map(strip).collect::<Vec<_>>(), grid().lines(false));
        assert!(grid().lines(true)[2].contains("\x1b[31m12/10\x1b[0m"));
    }

    #[test]
    fn nothing_disturbs_the_terminal() {
        let mut grid = Grid::new(&[("", Side::Left)]);
        grid.row(["a\x1b[2Jb\n".into()]);
        assert_eq!(grid.lines(false), ["a?[2Jb?"]);
    }
}
