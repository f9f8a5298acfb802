//! The table's keys as a JSON Schema, for editors; made from the declarations of the keys themselves.

use serde_json::{Map, Value as Json};

use super::keys::FileSpec;
use super::keys::kinds::schema_of;
use super::section::Scope;

/// The schema, as an object of JSON Schema draft 7, which editors understand.
#[must_use]
pub fn table_schema() -> Json {
    let Json::Object(table) = schema_of::<FileSpec>(Scope::One) else { return Json::Null };
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
    fn every_key_has_a_description() {
        let mut found = Vec::new();
        keys(&table_schema(), &mut found);
        assert!(found.len() > 100, "this test no longer understands the schema: {found:?}");
        let without: Vec<_> = found.iter().filter(|(_, text)| text.is_none()).map(|(key, _)| key).collect();
        assert!(without.is_empty(), "without a description: {without:?}");
    }

    #[test]
    fn what_makes_a_service_is_no_default() {
        let schema = table_schema();
        let (defaults, service) =
            (&schema["properties"]["defaults"], &schema["properties"]["services"]["additionalProperties"]);
        for key in ["listen", "program", "to"] {
            assert!(defaults["properties"][key].is_null() && !service["properties"][key].is_null(), "{key}");
        }
        assert_eq!(service["required"], json!(["listen"]));
        assert_eq!(service["additionalProperties"], json!(false));
    }
}
