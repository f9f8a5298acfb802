//! The positions in a YAML file: a tree of them beside the tree of values.
//!
//! serde_yaml forgets positions, so a second reading by saphyr-parser's events gives every key and value its line
//! and column, and says at exact positions what serde_yaml would refuse without one or must not see: duplicate
//! keys, nesting too deep for a recursive reader, NUL characters, a second document. Only [`super::source`] calls
//! this, when something has to be said. It never interprets a value. It fails with problems; the tree it then
//! gives, if any, is whole.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::path::Path;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, Span};

use super::problem::{LineCol, Origin, Problem};

/// How deep lists and maps may nest, through aliases too. The schema needs five levels.
pub(crate) const MAX_NESTING_LEVELS: usize = 32;
/// How many values all aliases of a file may stand for.
const MAX_ALIASED_VALUES: usize = 100_000;

/// A value's place and those of its parts.
#[derive(Debug)]
pub(crate) struct Node {
    /// The beginning of the value; that of its key, if nothing is written.
    pub at: LineCol,
    pub kind: NodeKind,
    /// How many levels of lists and maps it holds, itself included.
    height: usize,
    /// How many values it holds, itself included.
    size: usize,
}

/// The parts of a [`Node`].
#[derive(Debug)]
pub(crate) enum NodeKind {
    /// A scalar, as written but for quotes and escapes.
    Scalar(Box<str>),
    /// The elements of a list.
    List(Vec<Rc<Node>>),
    /// The keys of a map.
    Map(HashMap<Box<str>, KeyedNode>),
}

/// A key's place and its value.
#[derive(Clone, Debug)]
pub(crate) struct KeyedNode {
    pub key: LineCol,
    pub value: Rc<Node>,
}

impl Node {
    /// The entry of a map's key; through merge keys (`<<`) if it is not in the map itself.
    pub(crate) fn find_key(&self, key: &str) -> Option<&KeyedNode> {
        let NodeKind::Map(entries) = &self.kind else { return None };
        entries.get(key).or_else(|| match &entries.get("<<")?.value.kind {
            NodeKind::List(bases) => bases.iter().find_map(|base| base.find_key(key)),
            _ => entries.get("<<")?.value.find_key(key),
        })
    }

    /// An element of a list.
    pub(crate) fn find_element(&self, index: usize) -> Option<&Node> {
        match &self.kind {
            NodeKind::List(elements) => elements.get(index).map(Rc::as_ref),
            _ => None,
        }
    }

    /// A scalar as written.
    pub(crate) fn scalar_text(&self) -> Option<&str> {
        match &self.kind {
            NodeKind::Scalar(text) => Some(text),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Index {
    pub root: Rc<Node>,
    /// Is there a merge key anywhere?
    pub merges: bool,
    /// Is there a map with two equal keys?
    pub duplicates: bool,
}

/// Reads `text`; everything found wrong goes to `problems`. `None` if serde_yaml must not see the text. Where
/// `only` names a service, the other services are left out, to save memory.
pub(crate) fn build_index(
    file: &Rc<Path>,
    text: &str,
    only: Option<&str>,
    problems: &mut Vec<Problem>,
) -> Option<Index> {
    let mut builder = Builder::new(file, only, problems);
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => builder.take_event(&event, span)?,
            // The scanner counts flow collections in one byte, and looks ahead of its events.
            Err(error) if error.info() == "recursion limit exceeded" => {
                return builder.too_deep(line_col(*error.marker()));
            }
            Err(error) => {
                let at = line_col(*error.marker());
                return builder
                    .stop_at(at, &format!("this is not YAML: {}{}", error.info(), bracket_hint(text, at.line)));
            }
        }
    }
    let empty =
        || Rc::new(Node { at: LineCol { line: 1, column: 1 }, kind: NodeKind::Scalar("".into()), height: 0, size: 1 });
    let root = builder.root.take().unwrap_or_else(empty);
    Some(Index { root, merges: builder.merges, duplicates: builder.duplicates })
}

/// A hint, if that line or the one above holds an address in brackets, which the scanner does not recognise.
fn bracket_hint(text: &str, line: usize) -> &'static str {
    let bare = |line: &str| line.contains(": [") && line.contains("]:");
    match text.lines().skip(line.saturating_sub(2)).take(2).any(bare) {
        true => "; an address in brackets needs quotation marks, as in \"[::1]:80\"",
        false => "",
    }
}

/// An unfinished list or map.
struct Frame {
    at: LineCol,
    anchor: usize,
    kind: NodeKind,
    /// In a map: the key whose value comes next.
    key: Option<(Box<str>, LineCol)>,
    height: usize,
    size: usize,
}

struct Builder<'a> {
    file: &'a Rc<Path>,
    only: Option<&'a str>,
    problems: &'a mut Vec<Problem>,
    frames: Vec<Frame>,
    anchors: HashMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
    merges: bool,
    duplicates: bool,
    documents: usize,
    /// How many values the aliases so far stand for.
    repeated: usize,
}

impl<'a> Builder<'a> {
    fn new(file: &'a Rc<Path>, only: Option<&'a str>, problems: &'a mut Vec<Problem>) -> Self {
        let (frames, anchors) = (Vec::new(), HashMap::new());
        Self {
            file,
            only,
            problems,
            frames,
            anchors,
            root: None,
            merges: false,
            duplicates: false,
            documents: 0,
            repeated: 0,
        }
    }

    fn take_event(&mut self, event: &Event<'_>, span: Span) -> Option<()> {
        let at = line_col(span.start);
        match event {
            Event::DocumentStart(_) => self.begin_document(at),
            Event::Alias(id) => self.add_alias(*id, at),
            Event::Scalar(text, _, anchor, _) => self.add_scalar(text, *anchor, at),
            Event::SequenceStart(anchor, _) => self.begin_frame(NodeKind::List(Vec::new()), *anchor, at),
            Event::MappingStart(anchor, _) => self.begin_frame(NodeKind::Map(HashMap::new()), *anchor, at),
            Event::SequenceEnd | Event::MappingEnd => self.end_frame(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Some(()),
        }
    }

    fn begin_document(&mut self, at: LineCol) -> Option<()> {
        self.documents += 1;
        if self.documents > 1 {
            return self.stop_at(at, "a second document begins here; write one document to a file");
        }
        Some(())
    }

    fn add_alias(&mut self, id: usize, at: LineCol) -> Option<()> {
        let Some(node) = self.anchors.get(&id).cloned() else {
            return self.stop_at(at, "this alias stands inside what it names");
        };
        if self.frames.len() + node.height > MAX_NESTING_LEVELS {
            return self.too_deep(at);
        }
        self.repeated = self.repeated.saturating_add(node.size);
        if self.repeated > MAX_ALIASED_VALUES {
            return self.stop_at(at, &format!("aliases stand for more than {MAX_ALIASED_VALUES} values in all"));
        }
        self.add_node(node)
    }

    fn add_scalar(&mut self, text: &str, anchor: usize, mut at: LineCol) -> Option<()> {
        if text.contains('\0') {
            self.report_at(at, "there is a NUL character in this text; the system's calls cannot take one");
        }
        if let Some(Frame { kind: NodeKind::Map(_), key: None, .. }) = self.frames.last() {
            return self.add_key(text, at);
        }
        if let (true, Some(Frame { key: Some((_, key)), .. })) = (text.is_empty(), self.frames.last()) {
            at = *key;
        }
        let node = Rc::new(Node { at, kind: NodeKind::Scalar(text.into()), height: 0, size: 1 });
        self.keep_anchor(anchor, &node);
        self.add_node(node)
    }

    fn add_key(&mut self, text: &str, at: LineCol) -> Option<()> {
        self.merges |= text == "<<";
        let first = match self.frames.last()?.kind {
            NodeKind::Map(ref entries) => entries.get(text).map(|entry| entry.key),
            _ => None,
        };
        self.frames.last_mut()?.key = Some((text.into(), at));
        if let Some(first) = first {
            self.duplicates = true;
            let first = Origin::new(self.file, first);
            self.report_at(at, &format!("{text:?} is given twice; the first is at {first}"));
        }
        Some(())
    }

    fn begin_frame(&mut self, kind: NodeKind, anchor: usize, at: LineCol) -> Option<()> {
        if let Some(Frame { kind: NodeKind::Map(_), key: None, .. }) = self.frames.last() {
            return self.stop_at(at, "a list or map cannot be a key here; keys are words");
        }
        if self.frames.len() >= MAX_NESTING_LEVELS {
            return self.too_deep(at);
        }
        self.frames.push(Frame { at, anchor, kind, key: None, height: 1, size: 1 });
        Some(())
    }

    fn end_frame(&mut self) -> Option<()> {
        let Frame { at, anchor, kind, height, size, .. } = self.frames.pop()?;
        let node = Rc::new(Node { at, kind, height, size });
        self.keep_anchor(anchor, &node);
        self.add_node(node)
    }

    /// Anchors are numbered from 1.
    fn keep_anchor(&mut self, anchor: usize, node: &Rc<Node>) {
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(node));
        }
    }

    /// Is the node that was finished last a service other than the wanted one?
    fn is_other_service(&self) -> bool {
        let [Frame { key: Some((section, _)), .. }, Frame { key: Some((name, _)), .. }] = &self.frames[..] else {
            return false;
        };
        &**section == "services" && self.only.is_some_and(|only| **name != *only && &**name != "<<")
    }

    /// Gives a finished node to what it stands in. Of two equal keys the first stays.
    fn add_node(&mut self, node: Rc<Node>) -> Option<()> {
        let left_out = self.is_other_service();
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(node);
            return Some(());
        };
        frame.height = frame.height.max(node.height + 1);
        frame.size = frame.size.saturating_add(node.size);
        match (&mut frame.kind, frame.key.take()) {
            (NodeKind::List(elements), _) => elements.push(node),
            (NodeKind::Map(_), Some(_)) if left_out => {}
            (NodeKind::Map(entries), Some((text, key))) => {
                if let MapEntry::Vacant(place) = entries.entry(text) {
                    place.insert(KeyedNode { key, value: node });
                }
            }
            _ => return self.stop_here("an alias cannot be a key here; keys are words"),
        }
        Some(())
    }

    fn too_deep<T>(&mut self, at: LineCol) -> Option<T> {
        self.stop_at(at, &format!("lists and maps are nested more than {MAX_NESTING_LEVELS} levels deep"))
    }

    fn stop_here<T>(&mut self, message: &str) -> Option<T> {
        let at = self.frames.last().map_or(LineCol::default(), |frame| frame.at);
        self.stop_at(at, message)
    }

    fn stop_at<T>(&mut self, at: LineCol, message: &str) -> Option<T> {
        self.report_at(at, message);
        None
    }

    fn report_at(&mut self, at: LineCol, message: &str) {
        let keys = self.frames.iter().filter_map(|frame| frame.key.as_ref());
        let path = keys.map(|(key, _)| &**key).collect::<Vec<_>>().join(".");
        self.problems.push(Problem { origin: Origin::new(self.file, at), path, message: message.to_owned() });
    }
}

/// saphyr-parser counts columns from 0.
fn line_col(marker: Marker) -> LineCol {
    LineCol { line: marker.line(), column: marker.col() + 1 }
}
