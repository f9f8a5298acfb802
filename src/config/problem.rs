//! What is wrong with a table, and where.
//!
//! All of [`crate::config`] collects [`Problem`]s and goes on, so that the administrator sees all of them
//! at once. Nothing here fails or decides whether a problem is an error or a warning: the list it is put on does.

use std::fmt;
use std::path::Path;
use std::rc::Rc;

use super::Origin;

/// One thing that is wrong in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub origin: Origin,
    /// The keys down to it, as `services.NAME.KEY`; empty for a file as a whole.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Prints `FILE:LINE:COLUMN: services.NAME.KEY: message`, without what is unknown.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// A line and a column, from 1; 0 where unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub line: usize,
    /// In characters.
    pub column: usize,
}

/// The place of something written. One pointer, since every value of a thousand services has one; the way up is the
/// path of keys.
#[derive(Clone, Debug)]
pub(crate) struct At(Rc<Place>);

#[derive(Debug)]
struct Place {
    file: Rc<Path>,
    mark: Mark,
    /// The key that leads here, and from where; nothing for a file as a whole.
    key: Option<(At, Box<str>)>,
}

impl At {
    /// A place that no key leads to.
    pub(crate) fn file(file: &Rc<Path>, mark: Mark) -> Self {
        Self(Rc::new(Place { file: Rc::clone(file), mark, key: None }))
    }

    /// The place of something under a key.
    pub(crate) fn under(&self, key: &str, mark: Mark) -> Self {
        Self(Rc::new(Place { file: Rc::clone(&self.0.file), mark, key: Some((self.clone(), key.into())) }))
    }

    /// Another place under the same keys.
    pub(crate) fn moved(&self, mark: Mark) -> Self {
        Self(Rc::new(Place { file: Rc::clone(&self.0.file), mark, key: self.0.key.clone() }))
    }

    /// Line and column.
    pub(crate) fn mark(&self) -> Mark {
        self.0.mark
    }

    /// The directory that relative names in this file begin at.
    pub(crate) fn directory(&self) -> &Path {
        self.0.file.parent().unwrap_or(Path::new(""))
    }

    /// The place without its keys.
    pub(crate) fn origin(&self) -> Origin {
        Origin { file: Rc::clone(&self.0.file), line: self.0.mark.line, column: self.0.mark.column }
    }

    /// A problem at this place.
    pub(crate) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem { origin: self.origin(), path: self.path(), message: message.into() }
    }

    /// Was it written under the same keys as `above`, or some more of them?
    pub(crate) fn is_below(&self, above: &Self) -> bool {
        self.path().strip_prefix(&above.path()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    fn path(&self) -> String {
        match &self.0.key {
            None => String::new(),
            Some((above, key)) => match above.path() {
                path if path.is_empty() => key.to_string(),
                path => format!("{path}.{key}"),
            },
        }
    }
}

/// A value that was written, and where.
#[derive(Clone, Debug)]
pub(crate) struct Set<T> {
    pub value: T,
    pub at: At,
}
