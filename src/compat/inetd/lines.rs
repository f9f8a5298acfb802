//! Lines and words of inetd.conf, as each daemon splits them: comments, continued lines, quotation marks.
//!
//! [`super::read_table`] takes [`Line`]s until there are no more. In NetBSD's second notation an entry ends at a
//! semicolon and not with a line; a line that begins one is cut after its second word, and [`super::pairs`] goes on
//! at the same [`Cursor`]. Any bytes are lines and words; nothing here fails.

use super::dialect::{Continuation, Quotes};
use crate::config::dialect::Dialect;
use crate::config::problem::LineCol;

/// The mark that update-inetd(8) puts before an entry to switch it off.
const OFF_MARK: &[u8] = b"#<off>#";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// With U+FFFD in place of what is not UTF-8.
    pub text: String,
    pub mark: LineCol,
    /// Was it all UTF-8, without a NUL?
    pub clean: bool,
    /// Is it the first on a line that continues another?
    pub continues: bool,
}

/// A line that is neither blank nor a comment, with those that continue it.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// At least one.
    pub words: Vec<Word>,
    /// Switched off by update-inetd(8).
    pub off: bool,
    /// An IPsec policy: what stands behind `#@`.
    pub policy: bool,
}

/// A place in a file, which moves on.
pub(super) struct Cursor<'a> {
    dialect: Dialect,
    rows: Vec<&'a [u8]>,
    row: usize,
    /// In bytes.
    column: usize,
    /// The first row that ended in a carriage return, from 1; they are not seen otherwise.
    pub carriage: Option<usize>,
}

impl<'a> Cursor<'a> {
    /// At the beginning of a file.
    pub(super) fn new(bytes: &'a [u8], dialect: Dialect) -> Self {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let mut rows: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        let carriage = rows.iter().position(|row| row.ends_with(b"\r")).map(|row| row + 1);
        for row in &mut rows {
            *row = row.strip_suffix(b"\r").unwrap_or(row);
        }
        Self { dialect, rows, row: 0, column: 0, carriage }
    }

    /// The rest of the row; `None` at the end of the file.
    pub(super) fn rest_of_row(&self) -> Option<&'a [u8]> {
        self.rows.get(self.row).map(|row| &row[self.column.min(row.len())..])
    }

    /// The place, columns in characters.
    pub(super) fn line_col(&self) -> LineCol {
        let before = self.rows.get(self.row).map_or(&[][..], |row| &row[..self.column.min(row.len())]);
        LineCol { line: self.row + 1, column: String::from_utf8_lossy(before).chars().count() + 1 }
    }

    /// Moves on within the row.
    pub(super) fn skip_bytes(&mut self, bytes: usize) {
        self.column += bytes;
    }

    pub(super) fn next_row(&mut self) {
        self.row += 1;
        self.column = 0;
    }

    /// Ends an entry that ended within a row: what follows may be another, or nothing.
    pub(super) fn end_entry(&mut self) {
        self.skip_blanks();
        if matches!(self.rest_of_row(), Some([] | [b'#', ..])) {
            self.next_row();
        }
    }

    pub(super) fn skip_blanks(&mut self) {
        let rest = self.rest_of_row().unwrap_or_default();
        self.skip_bytes(rest.iter().take_while(|byte| is_blank(**byte)).count());
    }

    /// The next line with words.
    pub(super) fn next_line(&mut self) -> Option<Line> {
        loop {
            let rest = self.rest_of_row()?;
            let line = if self.column == 0 && rest.starts_with(b"#") {
                self.read_comment(rest)
            } else {
                Line { words: self.read_words(), ..Line::default() }
            };
            if !line.words.is_empty() || line.policy {
                return Some(line);
            }
        }
    }

    /// A comment may be an entry that is switched off, or a policy.
    fn read_comment(&mut self, row: &[u8]) -> Line {
        let off = row.starts_with(OFF_MARK);
        let policy = self.dialect.has_policies() && row.starts_with(b"#@");
        let mut words = Vec::new();
        if off || policy {
            self.skip_bytes(if off { OFF_MARK.len() } else { 2 });
            words = self.words_of_row();
        }
        self.next_row();
        // An entry that is switched off is a comment, and a comment in a comment is nothing.
        if off && words.first().is_some_and(|word| word.text.starts_with('#')) {
            words.clear();
        }
        Line { words, off, policy }
    }

    fn words_of_row(&mut self) -> Vec<Word> {
        let mut words = Vec::new();
        loop {
            self.skip_blanks();
            match self.rest_of_row() {
                None | Some([]) => return words,
                Some([b'#', ..]) if self.dialect.comments_anywhere() => return words,
                Some(_) => words.push(self.read_word(false)),
            }
        }
    }

    /// The words up to the end of the line and of all that continue it.
    fn read_words(&mut self) -> Vec<Word> {
        let mut words: Vec<Word> = Vec::new();
        let mut continues = false;
        loop {
            self.skip_blanks();
            match self.rest_of_row() {
                None => return words,
                Some([]) if self.goes_on() => continues = !words.is_empty(),
                Some([b'\\']) if self.dialect.continuation_style() == Continuation::Backslash => self.next_row(),
                Some([b'#', ..]) if self.dialect.comments_anywhere() => self.end_comment(),
                Some([]) => {
                    self.next_row();
                    return words;
                }
                Some(_) if self.dialect.max_words() == Some(words.len() + 1) => words.push(self.greedy_word()),
                Some(_) => words.push(self.read_word(std::mem::take(&mut continues))),
            }
            if self.begins_pairs(&words) {
                return words;
            }
        }
    }

    /// Goes to the next row if that continues this one.
    fn goes_on(&mut self) -> bool {
        let next = self.rows.get(self.row + 1).and_then(|row| row.first());
        let more = self.dialect.continuation_style() == Continuation::Blank && next.is_some_and(|byte| is_blank(*byte));
        if more {
            self.next_row();
        }
        more
    }

    /// Is this the beginning of an entry in NetBSD's second notation?
    fn begins_pairs(&self, words: &[Word]) -> bool {
        let switch = |word: &Word| matches!(word.text.split('#').next(), Some("on" | "off"));
        self.dialect == Dialect::Netbsd && words.len() == 2 && switch(&words[1])
    }

    /// Passes a comment that reaches to the end of the line, with the rows that a backslash adds to it.
    fn end_comment(&mut self) {
        while self.rest_of_row().is_some_and(|rest| rest.ends_with(b"\\")) {
            self.next_row();
        }
        self.column = self.rows.get(self.row).map_or(0, |row| row.len());
    }

    /// The rest of the line as one word.
    fn greedy_word(&mut self) -> Word {
        let (mark, rest) = (self.line_col(), self.rest_of_row().unwrap_or_default());
        let end = rest.iter().position(|byte| *byte == b'#').unwrap_or(rest.len());
        self.skip_bytes(end);
        make_word(rest[..end].trim_ascii_end().to_vec(), mark, false)
    }

    fn read_word(&mut self, continues: bool) -> Word {
        let (mark, rest) = (self.line_col(), self.rest_of_row().unwrap_or_default());
        let (bytes, length) = match (self.dialect.quote_style(), rest) {
            (Quotes::Inside, _) => shell_word(rest),
            (Quotes::Around, [quote @ (b'"' | b'\''), inner @ ..]) => self.quoted_word(*quote, inner, rest),
            _ if self.dialect == Dialect::Busybox => return self.busybox_word(mark),
            _ => plain_word(rest),
        };
        self.skip_bytes(length);
        make_word(bytes, mark, continues)
    }

    /// Up to the second quotation mark. Without one, FreeBSD takes the rest of the row, GNU a plain word.
    fn quoted_word(&self, quote: u8, inner: &[u8], whole: &[u8]) -> (Vec<u8>, usize) {
        match inner.iter().position(|byte| *byte == quote) {
            Some(end) => (inner[..end].to_vec(), end + 2),
            None if self.dialect == Dialect::Freebsd => (inner.to_vec(), whole.len()),
            None => plain_word(whole),
        }
    }

    /// Up to a blank or a comment; a backslash at the end of the row glues the next row to it.
    fn busybox_word(&mut self, mark: LineCol) -> Word {
        let mut bytes = Vec::new();
        loop {
            let rest = self.rest_of_row().unwrap_or_default();
            let end = rest.iter().position(|byte| is_blank(*byte) || *byte == b'#').unwrap_or(rest.len());
            match rest[..end].strip_suffix(b"\\") {
                Some(part) if end == rest.len() && self.row + 1 < self.rows.len() => {
                    bytes.extend_from_slice(part);
                    self.next_row();
                }
                _ => {
                    bytes.extend_from_slice(&rest[..end]);
                    self.skip_bytes(end);
                    return make_word(bytes, mark, false);
                }
            }
        }
    }
}

pub(super) fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

pub(super) fn make_word(bytes: Vec<u8>, mark: LineCol, continues: bool) -> Word {
    let clean = !bytes.contains(&0);
    match String::from_utf8(bytes) {
        Ok(text) => Word { text, mark, clean, continues },
        Err(error) => {
            Word { text: String::from_utf8_lossy(error.as_bytes()).into_owned(), mark, clean: false, continues }
        }
    }
}

/// Up to a blank: the word, and its length in the row.
fn plain_word(rest: &[u8]) -> (Vec<u8>, usize) {
    let end = rest.iter().position(|byte| is_blank(*byte)).unwrap_or(rest.len());
    (rest[..end].to_vec(), end)
}

/// Up to a blank outside of quotation marks, without them.
fn shell_word(rest: &[u8]) -> (Vec<u8>, usize) {
    let (mut bytes, mut quote) = (Vec::new(), None);
    for (position, byte) in rest.iter().copied().enumerate() {
        match (quote, byte) {
            (None, b' ' | b'\t') => return (bytes, position),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => bytes.push(byte),
        }
    }
    (bytes, rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words separated by `|`, lines by newlines; `!` before a line that is off.
    fn lines(text: &str, dialect: Dialect) -> String {
        let mut cursor = Cursor::new(text.as_bytes(), dialect);
        let mut all = Vec::new();
        while let Some(line) = cursor.next_line() {
            let words: Vec<&str> = line.words.iter().map(|word| word.text.as_str()).collect();
            all.push(format!("{}{}", if line.off { "!" } else { "" }, words.join("|")));
        }
        all.join("\n")
    }

    #[test]
    fn a_blank_at_the_beginning_continues_a_line_for_some() {
        let text = "a b\n c\n\td\n# x\n e\n\n f\ng";
        assert_eq!(lines(text, Dialect::Debian), "a|b|c|d\ne\nf\ng");
        assert_eq!(lines(text, Dialect::Freebsd), "a|b|c|d\ne\nf\ng");
        assert_eq!(lines(text, Dialect::Gnu), "a|b\nc\nd\ne\nf\ng");
        assert_eq!(lines(text, Dialect::Busybox), "a|b\nc\nd\ne\nf\ng");
    }

    #[test]
    fn only_busybox_knows_comments_and_backslashes_at_the_end() {
        let text = "a b#c # d\ne \\\n f\\\ng # h \\\ni\nj";
        assert_eq!(lines(text, Dialect::Busybox), "a|b\ne|fg\nj");
        assert_eq!(lines(text, Dialect::Gnu), "a|b#c|#|d\ne|\\\nf\\\ng|#|h|\\\ni\nj");
    }

    #[test]
    fn quotation_marks() {
        let text = r#"a "b c" d"e f"g 'h "i' "j k"#;
        assert_eq!(lines(text, Dialect::Debian), r#"a|"b|c"|d"e|f"g|'h|"i'|"j|k"#);
        assert_eq!(lines(text, Dialect::Busybox), r#"a|"b|c"|d"e|f"g|'h|"i'|"j|k"#);
        assert_eq!(lines(text, Dialect::Freebsd), r#"a|b c|d"e|f"g|h "i|j k"#);
        assert_eq!(lines(text, Dialect::Gnu), r#"a|b c|d"e|f"g|h "i|"j|k"#);
        assert_eq!(lines(text, Dialect::Netbsd), r#"a|b c|de fg|h "i|j k"#);
    }

    #[test]
    fn what_is_switched_off_is_a_line_and_other_comments_are_none() {
        let text = "#<off># a b\n#<off>#c\n#<off># #d\n# e\n##<off># f\n#:MAIL: g\n#@ h\n";
        assert_eq!(lines(text, Dialect::Debian), "!a|b\n!c");
        assert_eq!(lines(text, Dialect::Netbsd), "!a|b\n!c\nh");
    }

    #[test]
    fn a_comment_ends_what_is_switched_off() {
        assert_eq!(lines("#<off># a b # c\n#<off># #\nd", Dialect::Busybox), "!a|b\nd");
    }

    #[test]
    fn busybox_leaves_what_is_too_much_in_the_last_word() {
        let text = (1..=28).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        assert!(lines(&format!("{text} # x"), Dialect::Busybox).ends_with("|25|26 27 28"));
    }

    #[test]
    fn places_are_those_of_an_editor() {
        let mut cursor = Cursor::new("\n\u{e4}b\tc\r\n  d\r\n".as_bytes(), Dialect::Debian);
        let line = cursor.next_line().unwrap();
        let marks: Vec<_> = line.words.iter().map(|word| (word.mark.line, word.mark.column, word.continues)).collect();
        assert_eq!(marks, [(2, 1, false), (2, 4, false), (3, 3, true)]);
        assert_eq!(cursor.carriage, Some(2));
    }

    #[test]
    fn netbsd_stops_where_its_second_notation_begins() {
        let mut cursor = Cursor::new(b"a on\n\tb = c;\n", Dialect::Netbsd);
        assert_eq!(cursor.next_line().unwrap().words.len(), 2);
        cursor.next_row();
        assert_eq!(cursor.rest_of_row(), Some(&b"\tb = c;"[..]));
    }

    #[test]
    fn what_is_not_text_is_known() {
        let mut cursor = Cursor::new(b"a\xff b\0 c", Dialect::Debian);
        let clean: Vec<_> = cursor.next_line().unwrap().words.iter().map(|word| word.clean).collect();
        assert_eq!(clean, [false, false, true]);
    }
}
