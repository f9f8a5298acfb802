//! The files that one table is read from: each of them once, and in which order they were named.
//!
//! [`super::load::load_table`] keeps one [`Files`], and lends it to a reader whose format has files that name
//! others. It opens and reads, and knows nothing of formats.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::file::{self, Identity};
use super::location::Location;
use super::problem::Problem;

/// How deep files may include each other.
const MAX_INCLUDE_LEVELS: usize = 8;

#[derive(Default)]
pub(crate) struct Files {
    /// By identity: the location that named each.
    seen: HashMap<Identity, Location>,
    /// By name: the number of each in the order of first mention.
    order: HashMap<PathBuf, usize>,
}

impl Files {
    /// Reads a file that `from` names, `depth` files below one of the command line. The error is for that place.
    pub(crate) fn read_file(&mut self, name: &Rc<Path>, from: &Location, depth: usize) -> Result<Vec<u8>, Problem> {
        let number = self.order.len();
        self.order.entry(name.to_path_buf()).or_insert(number);
        if depth > MAX_INCLUDE_LEVELS {
            return Err(from.problem(format!("files include each other more than {MAX_INCLUDE_LEVELS} levels deep")));
        }
        let (file, identity) = file::open_file(name).map_err(|message| from.problem(message))?;
        if let Some(first) = self.seen.get(&identity) {
            return Err(from.problem(format!("{} is read twice; first by {}", name.display(), first)));
        }
        self.seen.insert(identity, from.clone());
        file::read_bytes(file, name).map_err(|message| Location::in_file(name, Default::default()).problem(message))
    }

    /// Sorts problems by file, in the order in which files were named, then by place, and leaves each once.
    pub(crate) fn sort_problems(&self, mut problems: Vec<Problem>) -> Vec<Problem> {
        problems.sort_by_cached_key(|problem| {
            let file = self.order.get(&*problem.origin.file).copied();
            (file.unwrap_or(usize::MAX), problem.origin.line, problem.origin.column)
        });
        problems.dedup();
        problems
    }
}

/// The files that a name or pattern means, relative to the file that it stands in; those of a pattern in the order
/// of their bytes.
pub(crate) fn expand_pattern(pattern: &str, at: &Location, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let base = at.base_directory();
    if !pattern.contains(['*', '?', '[']) {
        return vec![base.join(pattern)];
    }
    let base = glob::Pattern::escape(&base.to_string_lossy());
    let full = Path::new(&base).join(pattern);
    let options =
        glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    let found = match glob::glob_with(&full.to_string_lossy(), options) {
        Ok(found) => found,
        Err(error) => {
            problems.push(at.problem(format!("this is not a pattern: {}", error.msg)));
            return Vec::new();
        }
    };
    let mut paths = Vec::new();
    for path in found {
        match path {
            Ok(path) => paths.push(path),
            Err(error) => {
                let (path, reason) = (error.path().display(), file::error_text(error.error()));
                problems.push(at.problem(format!("cannot read {path}: {reason}")));
            }
        }
    }
    paths.sort();
    paths
}
