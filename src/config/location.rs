//! The location of a value: its file, the keys that lead to it, and on request its line and column.
//!
//! A [`Location`] is made for every value of a table and is one pointer, since a thousand services have many
//! values. In a YAML file it holds the path of keys and looks line and column up in the [`SourceText`] when it is
//! printed; a reader of an old format gives them at once. Asking never fails: where the position is unknown it is
//! that of what stands around it.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::rc::Rc;

use super::index::{Index, Node};
use super::problem::{LineCol, Origin, Problem};
use super::source::SourceText;

/// A value with its location.
#[derive(Clone, Debug)]
pub(crate) struct Spanned<T> {
    pub value: T,
    pub at: Location,
}

/// A list that may be absent, with the location of the whole and of each element.
pub(crate) type SpannedList<T> = Option<Spanned<Vec<Spanned<T>>>>;
/// A map whose keys are the administrator's, in the order written.
pub(crate) type SpannedMap<T> = Vec<Spanned<(String, T)>>;

/// The value without its location.
pub(crate) fn written_value<T: Clone>(key: &Option<Spanned<T>>) -> Option<T> {
    key.as_ref().map(|set| set.value.clone())
}

/// The value without its location, or the default.
pub(crate) fn value_or<T: Clone>(key: &Option<Spanned<T>>, default: T) -> T {
    key.as_ref().map_or(default, |set| set.value.clone())
}

/// The elements of a list, without their places.
pub(crate) fn written_elements<T: Clone>(list: &SpannedList<T>) -> Vec<T> {
    list.iter().flat_map(|set| &set.value).map(|set| set.value.clone()).collect()
}

/// The location of a value; nowhere by default.
#[derive(Clone, Default)]
pub struct Location(Option<Rc<Place>>);

struct Place {
    above: Above,
    spot: Spot,
}

/// The keys that lead to a place, or its file.
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

/// The part of the place that is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spot {
    /// This line and column.
    Known(LineCol),
    Key,
    Value,
    /// An element of the list that is the value.
    Element(usize),
}

impl Location {
    fn new(above: Above, spot: Spot) -> Self {
        Self(Some(Rc::new(Place { above, spot })))
    }

    fn as_place(&self) -> Option<&Place> {
        self.0.as_deref()
    }

    /// A position in a file that no key leads to.
    pub(crate) fn in_file(file: &Rc<Path>, at: LineCol) -> Self {
        Self::new(Above::File(File::Named(Rc::clone(file))), Spot::Known(at))
    }

    /// A YAML file as a whole.
    pub(crate) fn whole_file(source: &Rc<SourceText>) -> Self {
        Self::new(Above::File(File::Yaml(Rc::clone(source))), Spot::Known(LineCol::default()))
    }

    fn child_at(&self, key: impl Into<Cow<'static, str>>, spot: Spot) -> Self {
        self.as_place().map_or_else(Self::default, |_| Self::new(Above::Key(self.clone(), key.into()), spot))
    }

    fn with_spot(&self, spot: Spot) -> Self {
        self.as_place().map_or_else(Self::default, |place| Self::new(place.above.clone(), spot))
    }

    /// The key that leads here, and the map that it stands in.
    fn parent_map(&self) -> Option<(&Self, &str)> {
        match &self.as_place()?.above {
            Above::Key(map, key) => Some((map, key)),
            Above::File(_) => None,
        }
    }

    fn file_root(&self) -> Option<&File> {
        match &self.as_place()?.above {
            Above::Key(map, _) => map.file_root(),
            Above::File(file) => Some(file),
        }
    }

    /// Something under a key, at a known position.
    pub(crate) fn under_key(&self, key: &str, at: LineCol) -> Self {
        self.child_at(key.to_owned(), Spot::Known(at))
    }

    pub(crate) fn of_key(&self, key: impl Into<Cow<'static, str>>) -> Self {
        self.child_at(key, Spot::Key)
    }

    pub(crate) fn of_value(&self, key: impl Into<Cow<'static, str>>) -> Self {
        self.child_at(key, Spot::Value)
    }

    pub(crate) fn of_element(&self, index: usize) -> Self {
        self.with_spot(Spot::Element(index))
    }

    /// Another position under the same keys.
    pub(crate) fn moved_to(&self, at: LineCol) -> Self {
        self.with_spot(Spot::Known(at))
    }

    pub(crate) fn line_col(&self) -> LineCol {
        let Some(place) = self.as_place() else { return LineCol::default() };
        match place.spot {
            Spot::Known(at) => at,
            Spot::Key => self.find_in_index(|index| self.key_of(index)).unwrap_or_else(|| self.parent_position()),
            Spot::Value => {
                self.find_in_index(|index| Some(self.find_node(index)?.at)).unwrap_or_else(|| self.parent_position())
            }
            Spot::Element(number) => {
                let element = |index: &Index| Some(self.find_node(index)?.find_element(number)?.at);
                let list = |index: &Index| Some(self.find_node(index)?.at);
                self.find_in_index(element)
                    .or_else(|| self.find_in_index(list))
                    .unwrap_or_else(|| self.parent_position())
            }
        }
    }

    /// The scalar that stands here, as written.
    pub(crate) fn raw_scalar(&self) -> Option<Box<str>> {
        let Some(Place { spot: Spot::Element(number), .. }) = self.as_place() else {
            return self.find_in_index(|index| self.find_node(index)?.scalar_text().map(Into::into));
        };
        self.find_in_index(|index| self.find_node(index)?.find_element(*number)?.scalar_text().map(Into::into))
    }

    /// Would any integer here be printed as it is written?
    pub(crate) fn has_plain_integers(&self) -> bool {
        matches!(self.file_root(), Some(File::Yaml(source)) if source.has_plain_integers())
    }

    fn find_in_index<T>(&self, look: impl FnOnce(&Index) -> Option<T>) -> Option<T> {
        let File::Yaml(source) = self.file_root()? else { return None };
        look(source.index_for(self.service_name()).index.as_ref()?)
    }

    /// The service that it is a part of.
    fn service_name(&self) -> Option<&str> {
        let (above, key) = self.parent_map()?;
        match above.parent_map() {
            Some((top, "services")) if top.parent_map().is_none() => Some(key),
            _ => above.service_name(),
        }
    }

    fn find_node<'a>(&self, index: &'a Index) -> Option<&'a Node> {
        self.as_place()?;
        match self.parent_map() {
            None => Some(&index.root),
            Some((above, key)) => Some(&above.find_node(index)?.find_key(key)?.value),
        }
    }

    fn key_of(&self, index: &Index) -> Option<LineCol> {
        let (above, key) = self.parent_map()?;
        Some(above.find_node(index)?.find_key(key)?.key)
    }

    /// The position of the map that this stands in.
    fn parent_position(&self) -> LineCol {
        self.parent_map().map_or_else(LineCol::default, |(above, _)| above.line_col())
    }

    /// The file as the administrator named it.
    pub(crate) fn file_name(&self) -> Rc<Path> {
        match self.file_root() {
            Some(File::Named(name)) => Rc::clone(name),
            Some(File::Yaml(source)) => Rc::clone(&source.file),
            None => Path::new("").into(),
        }
    }

    /// The directory that relative names in this file begin at.
    pub(crate) fn base_directory(&self) -> Box<Path> {
        self.file_name().parent().unwrap_or(Path::new("")).into()
    }

    /// The position without the keys.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin::new(&self.file_name(), self.line_col())
    }

    /// A value that was written here.
    pub(crate) fn spanned<T>(&self, value: T) -> Spanned<T> {
        Spanned { value, at: self.clone() }
    }

    pub(crate) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem { origin: self.origin(), path: self.key_path(), message: message.into() }
    }

    /// Was it written under the same keys as `above`, or some more of them?
    pub(crate) fn is_below(&self, above: &Self) -> bool {
        self.key_path().strip_prefix(&above.key_path()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    fn key_path(&self) -> String {
        match self.parent_map() {
            None => String::new(),
            Some((above, key)) => match above.key_path() {
                path if path.is_empty() => key.to_owned(),
                path => format!("{path}.{key}"),
            },
        }
    }

    /// Frees the index of the file, if it has been made.
    pub(crate) fn drop_index(&self) {
        if let Some(File::Yaml(source)) = self.file_root() {
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
        write!(f, "{self} {}", self.key_path())
    }
}

/// The same keys in files of the same name.
impl PartialEq for Location {
    fn eq(&self, other: &Self) -> bool {
        match (self.as_place(), other.as_place()) {
            (Some(one), Some(two)) => std::ptr::eq(one, two) || (one.spot == two.spot && one.above == two.above),
            (one, two) => one.is_some() == two.is_some(),
        }
    }
}
