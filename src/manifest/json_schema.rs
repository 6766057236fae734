//! JSON Schema of the manifest, for editors.
//!
//! Generated from the types that are read (`schema`), so it cannot differ from them. It covers single documents; mistakes
//! across documents (a name twice) or in YAML's own text (a key twice) are found by `validate`.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::schema::Manifest;

/// The JSON Schema of one manifest, pretty-printed.
pub fn json_schema() -> String {
    // Draft 7, since that is what the YAML language server reads without surprises; inlined, since people read it too.
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = Value::from(settings.into_generator().into_root_schema_for::<Manifest>());
    simplify(&mut schema);
    format!("{schema:#}\n")
}

/// Rewrites a schema in the form that editors explain best: a list of words instead of alternatives with one word each,
/// and no default of `null`, which would mean that a field may be null where it may only be absent.
fn simplify(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("default").is_some_and(Value::is_null) {
                fields.remove("default");
            }
            if let Some(alternatives) =
                fields.get("anyOf").filter(|alternatives| of_different_types(alternatives)).cloned()
            {
                fields.remove("anyOf");
                fields.insert("oneOf".into(), alternatives);
            }
            if let Some(words) = fields.get("oneOf").and_then(words) {
                let about = fields.get("description").and_then(Value::as_str).unwrap_or_default();
                let about =
                    words.iter().fold(about.to_owned(), |about, (word, meaning)| format!("{about} {word}: {meaning}"));
                fields.remove("oneOf");
                fields.insert("description".into(), about.into());
                fields.insert("enum".into(), words.into_iter().map(|(word, _)| word).collect());
                fields.insert("type".into(), "string".into());
            }
            fields.values_mut().for_each(simplify);
        }
        Value::Array(items) => items.iter_mut().for_each(simplify),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether alternatives exclude each other by their type.
fn of_different_types(alternatives: &Value) -> bool {
    let types: Vec<Option<&str>> =
        alternatives.as_array().into_iter().flatten().map(|one| one["type"].as_str()).collect();
    types.iter().enumerate().all(|(at, kind)| kind.is_some() && !types[..at].contains(kind))
}

/// Alternatives that are one word each, with what each means.
fn words(alternatives: &Value) -> Option<Vec<(String, String)>> {
    let word = |one: &Value| Some((one["const"].as_str()?.to_owned(), one["description"].as_str()?.to_owned()));
    alternatives.as_array()?.iter().map(word).collect()
}
