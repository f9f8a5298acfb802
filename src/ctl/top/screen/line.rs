//! One line of the screen, cut where the screen ends; and the small things that stand in it.

use crate::ctl::render::grid::{Side, Tone};

/// A line in the making.
pub(super) struct Line {
    text: String,
    /// Columns that are left.
    left: usize,
    colour: bool,
    first: bool,
}

impl Line {
    pub(super) fn new(width: usize, colour: bool) -> Self {
        Self { text: String::new(), left: width, colour, first: true }
    }

    /// Appends as much of a text as fits. What would disturb a terminal is replaced.
    pub(super) fn put(&mut self, text: &str, tone: Tone) {
        let plain = |character: char| if character.is_control() { '?' } else { character };
        let text: String = text.chars().take(self.left).map(plain).collect();
        self.left -= text.chars().count();
        self.text.push_str(&tone.paint(&text, self.colour && !text.is_empty()));
    }

    /// Appends a cell of a table, with a space before it unless it is the first. What is too long loses its end.
    pub(super) fn cell(&mut self, text: &str, width: usize, side: Side, tone: Tone) {
        if !std::mem::take(&mut self.first) {
            self.put(" ", Tone::Plain);
        }
        let length = text.chars().count();
        let short: String = if length > width {
            text.chars().take(width.saturating_sub(1)).chain(['~']).take(width).collect()
        } else {
            text.to_owned()
        };
        let space = " ".repeat(width.saturating_sub(length));
        match side {
            Side::Left => {
                self.put(&short, tone);
                self.put(&space, Tone::Plain);
            }
            Side::Right => {
                self.put(&space, Tone::Plain);
                self.put(&short, tone);
            }
        }
    }

    pub(super) fn done(self) -> String {
        self.text.trim_end().to_owned()
    }
}

/// How many columns a line takes, escape sequences not counted.
pub(super) fn visible(line: &str) -> usize {
    let mut inside = false;
    let shown = line.chars().filter(|character| match (inside, character) {
        (false, '\x1b') => {
            inside = true;
            false
        }
        (true, 'm') => {
            inside = false;
            false
        }
        (inside, _) => !inside,
    });
    shown.count()
}

/// A bar of at most `width` columns, in eighths of one where the terminal has such.
pub(super) fn bar(value: f64, most: f64, width: usize, blocks: bool) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if most <= 0.0 || value <= 0.0 {
        return String::new();
    }
    let eighths = ((value / most).min(1.0) * width as f64 * 8.0).round() as usize;
    if blocks {
        // What is there is seen, be it ever so little.
        let eighths = eighths.max(1).min(width * 8);
        format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
    } else {
        "#".repeat(eighths.div_ceil(8).max(1).min(width))
    }
}

/// A rate in at most six characters.
pub(super) fn number(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        ..100.0 => format!("{rate:.1}"),
        ..10_000.0 => format!("{rate:.0}"),
        ..10_000_000.0 => format!("{:.0}k", rate / 1e3),
        _ => format!("{:.0}M", rate / 1e6),
    }
}
