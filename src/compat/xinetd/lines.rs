//! The lexical rules of xinetd.conf(5): lines, words, attributes with their operator.
//!
//! A line is blank, a comment (its first visible character is `#`), or data up to its end: there is no comment
//! behind a value, no quoting, no escape and no continuation. Words of values are parted by spaces and tabs alone,
//! so that a carriage return is part of the last word. The bytes need not be UTF-8; what is not becomes U+FFFD.

use crate::config::problem::LineCol;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub text: String,
    pub mark: LineCol,
}

/// How an attribute is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// `=`
    Set,
    /// `+=`
    Add,
    /// `-=`
    Remove,
}

/// A line that says something.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub number: usize,
    text: String,
}

/// An attribute line: `NAME OP VALUE…`.
#[derive(Debug)]
pub(super) struct Written {
    pub name: Word,
    pub op: Op,
    pub values: Vec<Word>,
}

/// Gives the lines of a file that say something.
pub(super) struct Lines<'a> {
    rest: std::slice::Split<'a, u8, fn(&u8) -> bool>,
    number: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        // A newline ends a line and begins none.
        Self { rest: bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|byte| *byte == b'\n'), number: 0 }
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }
}

impl Iterator for Lines<'_> {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        loop {
            let bytes = self.rest.next()?;
            self.number += 1;
            // C's strings end at a NUL.
            let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            let text = String::from_utf8_lossy(bytes);
            let first = text.chars().find(|c| !is_space(*c));
            if first.is_some_and(|c| c != '#') {
                return Some(Line { number: self.number, text: text.into_owned() });
            }
        }
    }
}

impl Line {
    /// Is this all that the line holds?
    pub(super) fn is_only(&self, character: char) -> bool {
        self.text.trim_matches(is_space).chars().eq([character])
    }

    pub(super) fn all_words(&self) -> Vec<Word> {
        self.words_from(0)
    }

    /// The place of the first visible character.
    pub(super) fn first_position(&self) -> LineCol {
        self.mark_at(self.text.find(|c| !is_space(c)).unwrap_or(0))
    }

    /// Reads the line as an attribute. The error says what is missing.
    pub(super) fn parse_attribute(&self) -> Result<Written, String> {
        let start = self.text.find(|c| !is_space(c)).unwrap_or(0);
        let end = self.text[start..].find(|c| is_space(c) || c == '=').map_or(self.text.len(), |end| start + end);
        let name = &self.text[start..end];
        let rest = &self.text[end..];
        if rest.starts_with('=') {
            return Err(format!("{name:?} needs a space before the operator"));
        }
        let visible = rest.trim_start_matches(is_space);
        let (op, length) = match visible.as_bytes() {
            [] => return Err(format!("there is nothing after {name:?}; expected {name} = VALUE")),
            [b'=', ..] => (Op::Set, 1),
            [b'+', b'=', ..] => (Op::Add, 2),
            [b'-', b'=', ..] => (Op::Remove, 2),
            _ => return Err(format!("expected =, += or -= after {name:?}")),
        };
        let values = self.words_from(self.text.len() - visible.len() + length);
        Ok(Written { name: Word { text: name.to_owned(), mark: self.mark_at(start) }, op, values })
    }

    fn words_from(&self, start: usize) -> Vec<Word> {
        let mut words = Vec::new();
        let mut position = start;
        for part in self.text[start..].split([' ', '\t']) {
            if !part.is_empty() {
                words.push(Word { text: part.to_owned(), mark: self.mark_at(position) });
            }
            position += part.len() + 1;
        }
        words
    }

    fn mark_at(&self, position: usize) -> LineCol {
        LineCol { line: self.number, column: self.text[..position].chars().count() + 1 }
    }
}

/// A space as in isspace(3).
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Lines::new(text.as_bytes()).next().unwrap()
    }

    fn texts(words: &[Word]) -> Vec<&str> {
        words.iter().map(|word| word.text.as_str()).collect()
    }

    #[test]
    fn blank_lines_and_comments_are_passed_over_but_counted() {
        let lines: Vec<usize> =
            Lines::new(b"\n # a\\\n\t\r\nservice x\n#\n{ \r\n\0\n}").map(|line| line.number).collect();
        assert_eq!(lines, [4, 6, 8]);
    }

    #[test]
    fn an_attribute_is_a_name_an_operator_and_words() {
        let read = line("\tserver_args\t+=-a \"b c\" #d\\").parse_attribute().unwrap();
        assert_eq!((read.name.text.as_str(), read.name.mark.column, read.op), ("server_args", 2, Op::Add));
        assert_eq!(texts(&read.values), ["-a", "\"b", "c\"", "#d\\"]);
        assert_eq!(read.values[1].mark, LineCol { line: 1, column: 19 });
        assert_eq!(line("x -= y").parse_attribute().unwrap().op, Op::Remove);
        assert_eq!(line("log_on_success =").parse_attribute().unwrap().values, []);
    }

    #[test]
    fn a_carriage_return_belongs_to_the_last_word() {
        assert_eq!(texts(&line("user = root\r").parse_attribute().unwrap().values), ["root\r"]);
        assert!(line(" }\r").is_only('}') && !line("} }").is_only('}') && !line("{ x").is_only('{'));
    }

    #[test]
    fn what_is_no_attribute_is_said() {
        for (text, part) in [
            ("disable=no", "space before the operator"),
            ("disable", "nothing after"),
            ("disable ", "nothing after"),
            ("wait : no", "expected ="),
            ("x + = y", "expected ="),
            ("}", "nothing after"),
        ] {
            let message = line(text).parse_attribute().unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        let line = Lines::new(b"user = \xa4\xff x").next().unwrap();
        let read = line.parse_attribute().unwrap();
        assert_eq!(texts(&read.values), ["\u{fffd}\u{fffd}", "x"]);
        assert_eq!(read.values[1].mark.column, 11);
    }
}
