//! Where something was written: its file, the keys that lead to it, and, when somebody asks, its line and column.
//!
//! A [`Location`] is made for every value of a table and is one pointer, since a thousand services have many values. In
//! a YAML file it holds the path of keys and looks line and column up in the [`SourceText`] when it is printed; a reader
//! of an old format gives them at once. Asking never fails: where the position is unknown it is that of what stands
//! around it.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::rc::Rc;

use super::index::{Index, Node};
use super::problem::{LineCol, Origin, Problem};
use super::source::SourceText;

/// A value that was written, and where.
#[derive(Clone, Debug)]
pub(crate) struct Spanned<T> {
    pub value: T,
    pub at: Location,
}

/// A list that may be absent, with the location of the whole and of each element.
pub(crate) type SpannedList<T> = Option<Spanned<Vec<Spanned<T>>>>;
/// A map whose keys are the administrator's, in the order written.
pub(crate) type SpannedMap<T> = Vec<Spanned<(String, T)>>;

/// What was written, if anything.
pub(crate) fn value<T: Clone>(key: &Option<Spanned<T>>) -> Option<T> {
    key.as_ref().map(|set| set.value.clone())
}

/// What was written, or the default.
pub(crate) fn value_or<T: Clone>(key: &Option<Spanned<T>>, default: T) -> T {
    key.as_ref().map_or(default, |set| set.value.clone())
}

/// The elements of a list, without their places.
pub(crate) fn elements<T: Clone>(list: &SpannedList<T>) -> Vec<T> {
    list.iter().flat_map(|set| &set.value).map(|set| set.value.clone()).collect()
}

/// Where something was written; nowhere by default.
#[derive(Clone, Default)]
pub struct Location(Option<Rc<Place>>);

struct Place {
    above: Above,
    spot: Spot,
}

/// What leads to a place.
#[derive(Clone, PartialEq)]
enum Above {
    /// It is a file as a whole, or a position in one.
    File(File),
    /// A key, and the map that it stands in.
    Key(Location, Cow<'static, str>),
}

#[derive(Clone, PartialEq)]
enum File {
    /// Of an old format.
    Named(Rc<Path>),
    Yaml(Rc<SourceText>),
}

/// What of the place is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spot {
    /// This line and column.
    Known(LineCol),
    /// The key.
    Key,
    /// The value of the key.
    Value,
    /// An element of the list that is the value.
    Element(usize),
}

impl Location {
    fn new(above: Above, spot: Spot) -> Self {
        Self(Some(Rc::new(Place { above, spot })))
    }

    fn place(&self) -> Option<&Place> {
        self.0.as_deref()
    }

    /// A position in a file that no key leads to.
    pub(crate) fn file(file: &Rc<Path>, at: LineCol) -> Self {
        Self::new(Above::File(File::Named(Rc::clone(file))), Spot::Known(at))
    }

    /// A YAML file as a whole.
    pub(crate) fn source(source: &Rc<SourceText>) -> Self {
        Self::new(Above::File(File::Yaml(Rc::clone(source))), Spot::Known(LineCol::default()))
    }

    fn below(&self, key: impl Into<Cow<'static, str>>, spot: Spot) -> Self {
        self.place().map_or_else(Self::default, |_| Self::new(Above::Key(self.clone(), key.into()), spot))
    }

    fn beside(&self, spot: Spot) -> Self {
        self.place().map_or_else(Self::default, |place| Self::new(place.above.clone(), spot))
    }

    /// The key that leads here, and the map that it stands in.
    fn above(&self) -> Option<(&Self, &str)> {
        match &self.place()?.above {
            Above::Key(map, key) => Some((map, key)),
            Above::File(_) => None,
        }
    }

    fn top(&self) -> Option<&File> {
        match &self.place()?.above {
            Above::Key(map, _) => map.top(),
            Above::File(file) => Some(file),
        }
    }

    /// Something under a key, at a known position.
    pub(crate) fn under(&self, key: &str, at: LineCol) -> Self {
        self.below(key.to_owned(), Spot::Known(at))
    }

    /// A key of this map.
    pub(crate) fn key(&self, key: impl Into<Cow<'static, str>>) -> Self {
        self.below(key, Spot::Key)
    }

    /// The value of a key of this map.
    pub(crate) fn value(&self, key: impl Into<Cow<'static, str>>) -> Self {
        self.below(key, Spot::Value)
    }

    /// An element of this list.
    pub(crate) fn element(&self, index: usize) -> Self {
        self.beside(Spot::Element(index))
    }

    /// Another position under the same keys.
    pub(crate) fn moved(&self, at: LineCol) -> Self {
        self.beside(Spot::Known(at))
    }

    /// Line and column.
    pub(crate) fn line_col(&self) -> LineCol {
        let Some(place) = self.place() else { return LineCol::default() };
        match place.spot {
            Spot::Known(at) => at,
            Spot::Key => self.find(|index| self.key_of(index)).unwrap_or_else(|| self.around()),
            Spot::Value => self.find(|index| Some(self.node(index)?.at)).unwrap_or_else(|| self.around()),
            Spot::Element(number) => {
                let element = |index: &Index| Some(self.node(index)?.element(number)?.at);
                let list = |index: &Index| Some(self.node(index)?.at);
                self.find(element).or_else(|| self.find(list)).unwrap_or_else(|| self.around())
            }
        }
    }

    /// The scalar that stands here, as written.
    pub(crate) fn raw(&self) -> Option<Box<str>> {
        let Some(Place { spot: Spot::Element(number), .. }) = self.place() else {
            return self.find(|index| self.node(index)?.raw().map(Into::into));
        };
        self.find(|index| self.node(index)?.element(*number)?.raw().map(Into::into))
    }

    /// Would any integer here be printed as it is written?
    pub(crate) fn has_plain_integers(&self) -> bool {
        matches!(self.top(), Some(File::Yaml(source)) if source.has_plain_integers())
    }

    fn find<T>(&self, look: impl FnOnce(&Index) -> Option<T>) -> Option<T> {
        let File::Yaml(source) = self.top()? else { return None };
        look(source.indexed(self.service()).index.as_ref()?)
    }

    /// The service that it is a part of.
    fn service(&self) -> Option<&str> {
        let (above, key) = self.above()?;
        match above.above() {
            Some((top, "services")) if top.above().is_none() => Some(key),
            _ => above.service(),
        }
    }

    /// The node under the keys.
    fn node<'a>(&self, index: &'a Index) -> Option<&'a Node> {
        self.place()?;
        match self.above() {
            None => Some(&index.root),
            Some((above, key)) => Some(&above.node(index)?.entry(key)?.value),
        }
    }

    fn key_of(&self, index: &Index) -> Option<LineCol> {
        let (above, key) = self.above()?;
        Some(above.node(index)?.entry(key)?.key)
    }

    /// The position of the map that this stands in.
    fn around(&self) -> LineCol {
        self.above().map_or_else(LineCol::default, |(above, _)| above.line_col())
    }

    /// The file as the administrator named it.
    pub(crate) fn file_name(&self) -> Rc<Path> {
        match self.top() {
            Some(File::Named(name)) => Rc::clone(name),
            Some(File::Yaml(source)) => Rc::clone(&source.file),
            None => Path::new("").into(),
        }
    }

    /// The directory that relative names in this file begin at.
    pub(crate) fn directory(&self) -> Box<Path> {
        self.file_name().parent().unwrap_or(Path::new("")).into()
    }

    /// The position without the keys.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin::new(&self.file_name(), self.line_col())
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
        match self.above() {
            None => String::new(),
            Some((above, key)) => match above.path() {
                path if path.is_empty() => key.to_owned(),
                path => format!("{path}.{key}"),
            },
        }
    }

    /// Frees the index of the file, if it has been made.
    pub(crate) fn drop_index(&self) {
        if let Some(File::Yaml(source)) = self.top() {
            source.drop_index();
        }
    }
}

/// Prints `FILE:LINE:COLUMN`, without what is unknown.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.origin().fmt(f)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} {}", self.path())
    }
}

/// The same keys in files of the same name.
impl PartialEq for Location {
    fn eq(&self, other: &Self) -> bool {
        match (self.place(), other.place()) {
            (Some(one), Some(two)) => std::ptr::eq(one, two) || (one.spot == two.spot && one.above == two.above),
            (one, two) => one.is_some() == two.is_some(),
        }
    }
}
