//! The comments of the old files, for those of the new one.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use crate::config::format::ServiceEntry;

#[derive(Default)]
pub(super) struct Comments {
    lines: HashMap<Rc<Path>, Vec<Vec<u8>>>,
}

impl Comments {
    /// The comments right before a service, without entries that are commented out.
    pub(super) fn comments_before(&mut self, entry: &ServiceEntry) -> Vec<String> {
        let origin = entry.at.origin();
        let lines = self.lines.entry(origin.file.clone()).or_insert_with(|| read_lines(&origin.file));
        let above = &lines[..lines.len().min(origin.line.saturating_sub(1))];
        let mut comments: Vec<String> = above.iter().rev().map_while(|line| comment_text(line)).collect();
        comments.reverse();
        comments.retain(|line| is_explanation(line));
        comments
    }
}

fn read_lines(file: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(file).unwrap_or_default();
    bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// The text of a line that is a comment; empty if it is not readable.
fn comment_text(line: &[u8]) -> Option<String> {
    let text = String::from_utf8(line.trim_ascii().strip_prefix(b"#")?.to_vec()).unwrap_or_default();
    let words: Vec<&str> = text.trim_matches(['#', ':', ' ', '\t', '\\']).split_whitespace().collect();
    Some(words.join(" "))
}

/// Does a comment say something, or is it a line, or an entry that is commented out?
fn is_explanation(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let entry = ["stream", "dgram", "raw"].iter().any(|kind| second.starts_with(kind)) || first.starts_with("<off>");
    let block = ["{", "}", "service"].contains(&first) || ["=", "+=", "-="].contains(&second);
    let shown = !text.chars().any(char::is_control);
    text.chars().any(char::is_alphanumeric) && !entry && !block && shown
}
