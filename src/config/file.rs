//! Brings a file into memory, and the text of a YAML file as values, or says why not.
//!
//! Only [`super::files`] opens and [`super::load::load_table`] reads YAML. It never blocks on a FIFO or a device,
//! never reads more than [`MAX_FILE_BYTES`], and never gives serde_yaml a text that it could trip over.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Mapping, Value};

use super::location::Location;
use super::problem::{LineCol, Problem};
use super::source::SourceText;

/// The most bytes in one file.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// How often merged maps may themselves merge others.
const MAX_MERGE_LEVELS: usize = 16;

/// Device and inode: the same for every name of a file.
pub(crate) type Identity = (u64, u64);

/// Opens a regular file. The error is for the place that names the file.
pub(crate) fn open_file(path: &Path) -> Result<(File, Identity), String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {}", path.display(), error_text(&error));
    // Miri opens files without any.
    let flags = if cfg!(miri) { 0 } else { libc::O_NONBLOCK | libc::O_NOCTTY };
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        let path = path.display();
        return Err(format!("{path} is a directory; to read the files in it write {path}/*.yaml"));
    }
    if !metadata.is_file() {
        return Err(format!("{} is not a regular file", path.display()));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(too_large(path));
    }
    Ok((file, (metadata.dev(), metadata.ino())))
}

fn too_large(path: &Path) -> String {
    format!("{} is larger than {} MiB; split it with include", path.display(), MAX_FILE_BYTES >> 20)
}

/// An error without Rust's own `(os error N)`.
pub(crate) fn error_text(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |code| nix::errno::Errno::from_raw(code).desc().to_owned())
}

/// Everything in what [`open_file`] opened.
pub(crate) fn read_bytes(file: File, name: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot read: {}", error_text(&error)))?;
    if bytes.len() as u64 > MAX_FILE_BYTES { Err(too_large(name)) } else { Ok(bytes) }
}

/// The text of a YAML file.
pub(crate) fn decode_source(bytes: Vec<u8>, name: &Rc<Path>) -> Result<Rc<SourceText>, Problem> {
    let text = decode_text(bytes).map_err(|(at, message)| Location::in_file(name, at).problem(message))?;
    // A byte order mark is allowed (YAML 1.2 §5.2), but not all readers know.
    Ok(Rc::new(SourceText::new(name, text.strip_prefix('\u{feff}').unwrap_or(&text))))
}

/// The values of a text that has nothing wrong with it, as far as serde_yaml can tell. Not every text is for it
/// alone to judge.
pub(crate) fn plain_values(source: &SourceText) -> Option<Value> {
    if source.index_first() {
        return None;
    }
    serde_yaml::from_str(source.text()).ok()
}

/// The values of any text, unless it is so wrong that there are none; what is wrong goes to `problems`. Does the
/// text hold merge keys, which change the order of keys?
pub(crate) fn any_values(source: &SourceText, problems: &mut Vec<Problem>) -> Option<(Value, bool)> {
    let indexed = source.index_for(None);
    problems.extend_from_slice(&indexed.problems);
    let index = indexed.index.as_ref()?;
    match parse_values(source.text(), index.duplicates, index.merges) {
        Ok(value) => Some((value, index.merges)),
        Err(error) => {
            let at = error.location().map_or(LineCol::default(), |l| LineCol { line: l.line(), column: l.column() });
            problems.push(Location::in_file(&source.file, at).problem(format!("this is not YAML: {error}")));
            None
        }
    }
}

fn decode_text(bytes: Vec<u8>) -> Result<String, (LineCol, String)> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let mark = position_after(&String::from_utf8_lossy(&error.as_bytes()[..valid]));
        (mark, "this is not UTF-8; save the file in that encoding".to_owned())
    })?;
    match text.find('\0') {
        Some(position) => Err((position_after(&text[..position]), "there is a NUL byte here".to_owned())),
        None => Ok(text),
    }
}

/// The place after `before`.
fn position_after(before: &str) -> LineCol {
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let newlines = before.bytes().filter(|byte| *byte == b'\n').count();
    LineCol { line: newlines + 1, column: before[line_start..].chars().count() + 1 }
}

fn parse_values(text: &str, duplicates: bool, merges: bool) -> serde_yaml::Result<Value> {
    // The duplicates are already problems; the rest of the file is read all the same, so that all problems are
    // seen.
    let mut value: Value =
        if duplicates { serde_yaml::from_str::<FirstWins>(text)?.0 } else { serde_yaml::from_str(text)? };
    for _ in 0..if merges { MAX_MERGE_LEVELS } else { 0 } {
        value.apply_merge()?;
    }
    Ok(value)
}

/// A [`Value`] from maps that may hold a key twice.
struct FirstWins(Value);

impl<'de> Deserialize<'de> for FirstWins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FirstWinsVisitor).map(Self)
    }
}

struct FirstWinsVisitor;

impl<'de> Visitor<'de> for FirstWinsVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(FirstWins(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Sequence(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Mapping::new();
        while let Some((FirstWins(key), FirstWins(value))) = map.next_entry()? {
            values.entry(key).or_insert(value);
        }
        Ok(Value::Mapping(values))
    }
}
