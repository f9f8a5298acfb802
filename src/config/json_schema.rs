//! The table's keys as a JSON Schema, for editors; made by the readers of the keys themselves.
//!
//! [`schema`] lets `load::load`'s readers go over a `Section` that holds nothing and notes what they ask for: each
//! key, and what kind of value (`sketch.rs`). So the schema has the keys that the program knows, and no other.

use serde_json::{Map, Value as Json};

use super::load;
use super::section::Section;

/// The schema, as an object of JSON Schema draft 7, which editors understand.
#[must_use]
pub fn schema() -> Json {
    let mut problems = Vec::new();
    let mut section = Section::sketching("file", &mut problems);
    load::sections(&mut section);
    let Json::Object(table) = section.sketch() else { return Json::Null };
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), "http://json-schema.org/draft-07/schema#".into());
    schema.insert("title".to_owned(), "Service table of oxinetd".into());
    schema.insert("description".to_owned(), "See oxinetd.yaml(5).".into());
    schema.extend(table);
    schema.into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::sketch::DESCRIPTIONS;
    use super::*;

    /// Every key of a schema that stands in a section, with its description.
    fn keys(schema: &Json, found: &mut Vec<(String, Option<String>)>) {
        let variants = schema["anyOf"].as_array().into_iter().flatten();
        variants.for_each(|variant| keys(variant, found));
        if schema["additionalProperties"].is_object() {
            keys(&schema["additionalProperties"], found);
        }
        for (key, value) in schema["properties"].as_object().into_iter().flatten() {
            found.push((key.clone(), value["description"].as_str().map(str::to_owned)));
            keys(value, found);
        }
    }

    #[test]
    fn every_key_has_a_description_and_every_description_a_key() {
        let mut found = Vec::new();
        keys(&schema(), &mut found);
        let without: Vec<_> = found.iter().filter(|(_, text)| text.is_none()).map(|(key, _)| key).collect();
        assert!(without.is_empty(), "without a description: {without:?}");
        for (section, key, text) in DESCRIPTIONS {
            let used = found
                .iter()
                .any(|(name, found)| name == key && found.as_ref().is_some_and(|found| found.starts_with(text)));
            assert!(used, "{section}.{key} is described, but no key");
        }
    }

    #[test]
    fn what_makes_a_service_is_no_default() {
        let schema = schema();
        let (defaults, service) =
            (&schema["properties"]["defaults"], &schema["properties"]["services"]["additionalProperties"]);
        for key in ["listen", "program", "to"] {
            assert!(defaults["properties"][key].is_null() && !service["properties"][key].is_null(), "{key}");
        }
        assert_eq!(service["required"], json!(["listen"]));
        assert_eq!(service["additionalProperties"], json!(false));
    }
}
