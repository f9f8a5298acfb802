//! One line of the screen, cut at the screen's width, and its bars and numbers. Only [`super`] uses it; it cannot
//! fail.

use crate::ctl::render::grid::{Side, Tone};

/// A line that is being filled.
pub(super) struct ScreenLine {
    text: String,
    /// The number of columns left.
    left: usize,
    colour: bool,
    first: bool,
}

impl ScreenLine {
    pub(super) fn new(width: usize, colour: bool) -> Self {
        Self { text: String::new(), left: width, colour, first: true }
    }

    /// Appends as much of a text as fits. Control characters, which could disturb a terminal, are replaced.
    pub(super) fn put_text(&mut self, text: &str, tone: Tone) {
        let plain = |character: char| if character.is_control() { '?' } else { character };
        let text: String = text.chars().take(self.left).map(plain).collect();
        self.left -= text.chars().count();
        self.text.push_str(&tone.paint(&text, self.colour && !text.is_empty()));
    }

    /// Appends a cell of a table, after a space unless it is the first. A text that is too long is cut.
    pub(super) fn put_cell(&mut self, text: &str, width: usize, side: Side, tone: Tone) {
        if !std::mem::take(&mut self.first) {
            self.put_text(" ", Tone::Plain);
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
                self.put_text(&short, tone);
                self.put_text(&space, Tone::Plain);
            }
            Side::Right => {
                self.put_text(&space, Tone::Plain);
                self.put_text(&short, tone);
            }
        }
    }

    pub(super) fn finish(self) -> String {
        self.text.trim_end().to_owned()
    }
}

/// The number of columns of a line, without escape sequences.
pub(super) fn visible_width(line: &str) -> usize {
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

/// A bar of at most `width` columns; with `blocks` in eighths of a column.
pub(super) fn draw_bar(value: f64, most: f64, width: usize, blocks: bool) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if most <= 0.0 || value <= 0.0 {
        return String::new();
    }
    let eighths = ((value / most).min(1.0) * width as f64 * 8.0).round() as usize;
    if blocks {
        // A value above zero is always visible.
        let eighths = eighths.max(1).min(width * 8);
        format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
    } else {
        "#".repeat(eighths.div_ceil(8).max(1).min(width))
    }
}

/// A rate per second in at most six characters.
pub(super) fn format_rate(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        ..100.0 => format!("{rate:.1}"),
        ..10_000.0 => format!("{rate:.0}"),
        ..10_000_000.0 => format!("{:.0}k", rate / 1e3),
        _ => format!("{:.0}M", rate / 1e6),
    }
}
