//! The problems of a table, and their positions.
//!
//! All of [`crate::config`] collects [`Problem`]s and goes on, so that the administrator sees all of them
//! at once. Nothing here fails or decides whether a problem is an error or a warning: the list it is put on does.

use std::fmt;
use std::path::Path;
use std::rc::Rc;

/// One thing that is wrong in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The position.
    pub origin: Origin,
    /// The keys down to it, as `services.NAME.KEY`; empty for a file as a whole.
    pub path: String,
    /// The mistake, and the correct form.
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
pub(crate) struct LineCol {
    pub line: usize,
    /// In characters.
    pub column: usize,
}

/// A position in a file, as it is printed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// As the administrator named it.
    pub file: Rc<Path>,
    /// Line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// Column in characters, from 1; 0 for the line as a whole.
    pub column: usize,
}

impl Origin {
    pub(crate) fn new(file: &Rc<Path>, LineCol { line, column }: LineCol) -> Self {
        Self { file: Rc::clone(file), line, column }
    }
}

/// Prints `FILE:LINE:COLUMN`, without what is unknown.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if self.column > 0 {
            write!(f, ":{}", self.column)?;
        }
        Ok(())
    }
}
