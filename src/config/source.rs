//! The text of a YAML file, and the positions in it, which are found only on request.
//!
//! serde_yaml reads the values and forgets positions. Positions are needed where something is wrong and where
//! `oxinetctl explain` names a line, so the index of a text ([`super::index`]) is made at the first question, and
//! kept until [`SourceText::drop_index`]: a start or a reload of a good table parses each file once. A
//! [`super::location::Location`] keeps the text alive, so that it means the table in force, whatever becomes of the
//! file. The index takes a multiple of the text, so once the table is loaded it holds one service at a time.
//!
//! Some texts must be indexed before serde_yaml sees them; [`SourceText::index_first`] recognises them. Nothing
//! here fails: what the index finds wrong is in it.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use super::index::{Index, MAX_NESTING_LEVELS, build_index};
use super::problem::Problem;

#[derive(Debug)]
pub(crate) struct SourceText {
    pub(crate) file: Rc<Path>,
    text: Box<str>,
    plain_integers: bool,
    /// Is the table that this is part of loaded?
    loaded: Cell<bool>,
    indexed: RefCell<Option<Rc<Indexed>>>,
}

/// The result of indexing a text.
#[derive(Debug)]
pub(crate) struct Indexed {
    /// The only service in it, unless all are.
    only: Option<Box<str>>,
    /// `None` if the values must not be used.
    pub(crate) index: Option<Index>,
    pub(crate) problems: Vec<Problem>,
}

/// Those of the same file.
impl PartialEq for SourceText {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file
    }
}

impl SourceText {
    pub(crate) fn new(file: &Rc<Path>, text: &str) -> Self {
        let plain_integers = has_plain_integers(text);
        let (file, text) = (Rc::clone(file), text.into());
        Self { file, text, plain_integers, loaded: Cell::new(false), indexed: RefCell::default() }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Is every integer written in decimal digits without a sign or zero before them that a number does not keep?
    pub(crate) fn has_plain_integers(&self) -> bool {
        self.plain_integers
    }

    /// Must this be indexed before serde_yaml reads it? That is so if it may hold what only the index refuses:
    /// texts with NUL characters, aliases that stand for very much, nesting so deep that libyaml takes quadratic
    /// time, brackets over lines that are not indented; and if it may hold merge keys, which change the order of
    /// keys.
    pub(crate) fn index_first(&self) -> bool {
        let signs = ["&", "<<", "\\0", "\\x00", "\\u0000", "\\U00000000"];
        signs.iter().any(|sign| self.text.contains(sign)) || has_odd_brackets(&self.text)
    }

    /// The positions in the text, and its problems. Once the table is loaded, only `service` need be in it.
    pub(crate) fn index_for(&self, service: Option<&str>) -> Rc<Indexed> {
        let only = self.loaded.get().then(|| service.unwrap_or_default());
        let has_it =
            |indexed: &&Rc<Indexed>| indexed.only.is_none() || service.is_none() || indexed.only.as_deref() == only;
        let mut indexed = self.indexed.borrow_mut();
        if let Some(found) = indexed.as_ref().filter(has_it) {
            return Rc::clone(found);
        }
        let mut problems = Vec::new();
        let index = build_index(&self.file, &self.text, only, &mut problems);
        Rc::clone(indexed.insert(Rc::new(Indexed { only: only.map(Into::into), index, problems })))
    }

    /// Was a position requested in a text that the index refuses?
    pub(crate) fn is_refused(&self) -> bool {
        self.indexed.borrow().as_ref().is_some_and(|indexed| indexed.index.is_none())
    }

    #[cfg(test)]
    pub(crate) fn is_indexed(&self) -> bool {
        self.indexed.borrow().is_some()
    }

    /// Frees the index, as the table is loaded or a question is answered; the next question makes another.
    pub(crate) fn drop_index(&self) {
        self.loaded.set(true);
        self.indexed.take();
    }
}

/// Do lists and maps in brackets nest too deep or reach over lines, or do the brackets not match? Those in texts
/// and comments count too.
fn has_odd_brackets(text: &str) -> bool {
    let mut depth = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' if depth >= MAX_NESTING_LEVELS => return true,
            b'\n' if depth > 0 => return true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' if depth == 0 => return true,
            b']' | b'}' => depth -= 1,
            _ => {}
        }
    }
    false
}

/// No `+5`, `-0`, `0x1f`, `0o17`, `0b1` as a word of its own. Those in texts and comments count too.
fn has_plain_integers(text: &str) -> bool {
    let mut before = b' ';
    for pair in text.as_bytes().windows(2) {
        let notation = matches!(pair, [b'+', b'0'..=b'9'] | [b'-', b'0'] | [b'0', b'x' | b'o' | b'b']);
        if notation && !before.is_ascii_alphanumeric() {
            return false;
        }
        before = pair[0];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> SourceText {
        SourceText::new(&Path::new("f.yaml").into(), text)
    }

    #[test]
    fn integers_in_other_notations_are_seen() {
        for text in ["a: +5", "a: -0", "a: 0x1f", "[-0o7]", "a: 0b1", "-0x1", "\"+5\""] {
            assert!(!source(text).has_plain_integers(), "{text}");
        }
        for text in ["a: 5", "a: -5", "a: 10", "22:00-06:00", "20x3", "a+5", "- 0", "0"] {
            assert!(source(text).has_plain_integers(), "{text}");
        }
    }

    #[test]
    fn what_only_the_index_refuses_is_indexed_first() {
        let deep = format!("a: {}{}", "[".repeat(33), "]".repeat(33));
        for text in ["a: &a b", "<<: {}", "a: \"\\0\"", "a: \"\\x00\"", "a: [b,\n  c]", "a: ]", deep.as_str()] {
            assert!(source(text).index_first(), "{text}");
        }
        for text in ["a: [b, {c: d}]", "a: '*.yaml'", "a: \"\\n\""] {
            assert!(!source(text).index_first(), "{text}");
        }
    }

    #[test]
    fn an_index_is_made_when_asked_for_and_dropped_when_told() {
        let source = source("a: [b");
        assert!(!source.is_refused());
        assert_eq!(source.index_for(None).problems.len(), 1);
        assert!(source.is_refused());
        source.drop_index();
        assert!(!source.is_refused());
    }

    #[test]
    fn an_index_of_a_loaded_table_holds_one_service() {
        let source = source("defaults: {}\nservices:\n  a: { b: c }\n  d: { e: f }\n");
        let has = |service: Option<&str>, key: &str| {
            let indexed = source.index_for(service);
            indexed.index.as_ref().unwrap().root.find_key("services").unwrap().value.find_key(key).is_some()
        };
        assert!(has(Some("a"), "a") && has(Some("a"), "d"));
        source.drop_index();
        assert!(has(Some("a"), "a") && !has(Some("a"), "d"));
        assert!(has(None, "a") && has(Some("d"), "d") && !has(Some("d"), "a"));
    }
}
