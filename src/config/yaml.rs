//! Writes YAML as people write it: short lists and maps on a line, words without quotation marks where they need
//! none, comments.
//!
//! Only `compat::import` uses it, for values of the schema: texts, numbers, booleans, and lists and maps of them,
//! two levels deep. What is written reads back to the same values.

use serde_yaml::{Mapping, Value};

/// The longest line that a list or map may make.
const MAX_LINE_CHARS: usize = 100;

/// Writes the entries of a map, `indent` blanks to the right, each with the comment that `comment` gives for its
/// key.
pub(crate) fn write_entries(map: &Mapping, indent: usize, comment: &dyn Fn(&str) -> Option<String>, out: &mut String) {
    for (key, value) in map {
        let key = key.as_str().unwrap_or_default();
        let margin = " ".repeat(indent);
        let flow = flow_text(value);
        let fits = indent + key.len() + 2 + flow.len() <= MAX_LINE_CHARS;
        match value {
            Value::Mapping(map) if !fits => {
                *out += &format!("{margin}{}:\n", scalar_text(key));
                write_entries(map, indent + 2, &|_| None, out);
            }
            Value::Sequence(list) if !fits => {
                *out += &format!("{margin}{}:\n", scalar_text(key));
                for value in list {
                    *out += &format!("{margin}  - {}\n", self::flow_text(value));
                }
            }
            _ => {
                let comment = comment(key).map_or_else(String::new, |text| format!("  # {text}"));
                *out += &format!("{margin}{}: {flow}{comment}\n", scalar_text(key));
            }
        }
    }
}

fn flow_text(value: &Value) -> String {
    match value {
        Value::String(text) => scalar_text(text),
        Value::Sequence(list) => format!("[{}]", list.iter().map(flow_text).collect::<Vec<_>>().join(", ")),
        Value::Mapping(map) => {
            let pair = |(key, value): (&Value, &Value)| format!("{}: {}", flow_text(key), flow_text(value));
            format!("{{ {} }}", map.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
        other => serde_yaml::to_string(other).unwrap_or_default().trim_end().to_owned(),
    }
}

/// A text, in quotation marks if it would be something else without.
pub(crate) fn scalar_text(text: &str) -> String {
    let letter = |c: char| c.is_ascii_alphanumeric() || "._-+@:/=%~^ ".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || "/._-=+".contains(c));
    let plain = begins
        && text.chars().all(letter)
        && !text.ends_with([' ', ':'])
        && !["- ", "--- ", "... "].iter().any(|mark| text.starts_with(mark))
        && !["-", "---", "..."].contains(&text)
        && !text.contains(": ")
        && !text.contains("  ")
        && serde_yaml::from_str::<Value>(text).is_ok_and(|value| value == Value::String(text.to_owned()))
        && !looks_numeric(text);
    if plain { text.to_owned() } else { quote_text(text) }
}

/// JSON's quotation, and escapes for what JSON takes raw and YAML does not (YAML 1.2 §5.1).
fn quote_text(text: &str) -> String {
    let json = serde_json::to_string(text).unwrap_or_default();
    let raw = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if raw(character) {
            out += &format!("\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}

/// Would some reader of YAML take this for a number, a time or a truth?
fn looks_numeric(text: &str) -> bool {
    let number = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
        && text.contains(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || "+-._:eExXoO".contains(c));
    let word = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"];
    // No reader takes an address for one.
    let dots = text.matches('.').count();
    (number && dots < 2) || word.iter().any(|other| text.eq_ignore_ascii_case(other))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_need_no_quotation_marks_but_where_they_do() {
        for plain in ["/bin/cat", "-l", "--inetd", "tcp4/79", "127.0.0.1:79", "Mon-Fri 08:00-18:00", "a=b", "50/min"] {
            assert_eq!(scalar_text(plain), plain);
        }
        for quoted in
            ["", "yes", "NO", "12", "1.5", "22:22", "022", "~", "a: b", "a #b", "*", "- a", "[x", "a,b", "a:", "0x1f"]
        {
            assert!(scalar_text(quoted).starts_with('"'), "{quoted}");
        }
    }

    #[test]
    fn what_yaml_does_not_take_is_escaped() {
        for text in
            ["a\u{7f}b", "\u{80}", "\u{85}", "\u{9b}31m", "\u{9f}", "\u{feff}x", "x\u{fffe}", "\u{ffff}", "\u{1}"]
        {
            let written = scalar_text(text);
            assert!(!written.chars().any(char::is_control), "{written:?}");
            assert_eq!(serde_yaml::from_str::<Value>(&written).unwrap(), Value::from(text), "{written}");
        }
    }

    proptest! {
        /// Any text comes back as it was, alone and within a list and a map.
        #[test]
        fn any_text_comes_back(text in any::<String>(), word in "[-a-z0-9:#,\\[{ '\"&*!|>%@`.~=/+]{0,8}") {
            for text in [text, word] {
                let list = Value::Sequence(vec![text.as_str().into(), "x".into()]);
                let inner = Mapping::from_iter([("k".into(), Value::from(text.as_str()))]);
                let map = Mapping::from_iter([
                    ("a".into(), Value::from(text.as_str())),
                    ("b".into(), list),
                    ("c".into(), inner.into()),
                ]);
                let mut out = String::new();
                write_entries(&map, 0, &|_| None, &mut out);
                prop_assert_eq!(serde_yaml::from_str::<Value>(&out).unwrap(), Value::Mapping(map), "{}", out);
            }
        }
    }
}
