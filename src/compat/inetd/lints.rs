//! Lints for entries: mistakes about which old daemons say nothing.
//!
//! Each gets a warning of its own. The program gets the same arguments as from the old daemon, unless these open a
//! hole: an interpreter that reads its program from the client ([`is_interpreter`]), and a tcpd that runs itself
//! for ever ([`is_tcpd_of_itself`]).

use super::entry::Entry;
use super::lines::{Line, Word};
use super::reading::Reading;
use crate::compat::suspicious::is_interpreter;
use crate::config::program::base_name;

impl Reading<'_> {
    /// Warns of what a line of fields holds beyond its fields.
    pub(super) fn lint_line(&mut self, line: &Line, entry: &Entry) {
        if line.off {
            return;
        }
        // Behind the six fields.
        let words = &line.words;
        let first = words.len().min(6 + usize::from(words[0].text.ends_with(':')));
        if let Some(word) = words[first..].iter().find(|word| word.text.starts_with('#')) {
            self.lint_comment(word, entry);
        }
        for (index, word) in words.iter().enumerate().skip(1).filter(|(_, word)| word.continues) {
            let kind = words.get(index + 1).is_some_and(|next| ["stream", "dgram"].contains(&next.text.as_str()));
            if kind && words.len() > index + 5 {
                let message = "this line begins with a blank, so it belongs to the entry before: its words are arguments \
                               there, and there is no service of its own; did you mean to begin it at the margin?";
                self.warn(&entry.field_location("arguments", word), message);
            }
        }
    }

    fn lint_comment(&mut self, word: &Word, entry: &Entry) {
        let daemon = self.daemon_name();
        let message = if word.continues {
            format!(
                "this is no comment to {daemon}, which knows them at the margin only: its words are arguments of the \
                     entry before, and are so here; did you mean a comment?"
            )
        } else {
            format!(
                "{daemon} knows no comments at the end of an entry: these words are arguments, and are so here; did \
                     you mean a comment, which has a line of its own?"
            )
        };
        self.warn(&entry.field_location("arguments", word), message);
    }

    /// Warns of arguments that are not what they seem. What the program should get in their place, if they are
    /// dangerous.
    pub(super) fn lint_arguments(&mut self, entry: &Entry) -> Option<Vec<String>> {
        let [first, rest @ ..] = &entry.arguments[..] else { return None };
        let (path, name) = (entry.program.value.as_str(), first.value.as_str());
        if is_interpreter(path) && name.starts_with('/') && base_name(name) != base_name(path) {
            let message = format!(
                "the first argument is the program's own name, so {path} gets no script and runs whatever the client \
                 sends; oxinetd runs {name}; did you mean {path} {} {name}?",
                base_name(path)
            );
            self.warn(&first.at, message);
            let all = std::iter::once(base_name(path)).chain(entry.arguments.iter().map(|set| set.value.as_str()));
            return Some(all.map(str::to_owned).collect());
        }
        if name.starts_with('-') {
            let base = base_name(path);
            let message = format!(
                "the first argument is the program's own name: it is called {name:?} and gets {} argument(s), and does so \
                 here; did you mean {path} {base} {name}?",
                rest.len()
            );
            self.warn(&first.at, message);
        }
        None
    }
}

/// Is it tcpd, told to run tcpd? That would start itself until the machine is switched off.
pub(super) fn is_tcpd_of_itself(entry: &Entry) -> bool {
    let name = entry.arguments.first().map_or("", |set| set.value.as_str());
    base_name(&entry.program.value) == "tcpd" && base_name(name) == "tcpd"
}
