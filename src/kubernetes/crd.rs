//! `CustomResourceDefinitions` of all kinds, from the same types as the JSON Schema.
//!
//! A structural schema supports fewer keywords than JSON Schema: no conditions, no constants, one type for each field.
//! Rules in CEL replace the conditions. The reader of manifests checks each object again, so an error that the API
//! server accepts is reported in the status of the object.

use serde_json::{Map, Value, json};

use crate::manifest::json_schema::resources;

/// The group of the custom resources.
pub const GROUP: &str = "campos-operator.dev";
/// The version of the custom resources.
pub const VERSION: &str = "v1";

/// Maximum number of windows and of calendars of a schedule: rules must have a bounded cost.
const MAX_ITEMS: u64 = 256;
/// Longest text that a rule reads.
const MAX_TEXT: u64 = 64;

/// The definitions as YAML documents.
///
/// # Errors
/// If the definitions cannot be written as YAML.
pub fn crds() -> Result<String, serde_yaml::Error> {
    definitions().iter().map(|crd| Ok(format!("---\n{}", serde_yaml::to_string(crd)?))).collect()
}

/// One definition for each kind.
pub fn definitions() -> Vec<Value> {
    resources().iter().map(|(kind, schema)| definition(kind, schema)).collect()
}

fn definition(kind: &str, schema: &Value) -> Value {
    let singular = kind.to_lowercase();
    let plural = format!("{singular}s");
    let mut names = json!({
        "kind": kind, "listKind": format!("{kind}List"), "singular": singular, "plural": plural, "categories": ["campos"],
    });
    let mut version = json!({
        "name": VERSION, "served": true, "storage": true,
        "schema": {"openAPIV3Schema": resource(kind, schema)},
        "additionalPrinterColumns": columns(kind),
    });
    if kind == "App" {
        names["shortNames"] = json!(["capp"]);
        version["subresources"] = json!({"status": {}});
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    })
}

fn columns(kind: &str) -> Value {
    let condition = |field: &str| format!(".status.conditions[?(@.type==\"Ready\")].{field}");
    let column = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path});
    let mut columns = match kind {
        "App" => vec![
            column("Desired", ".status.desired"),
            column("Observed", ".status.observed"),
            column("Ready", &condition("status")),
            column("Reason", &condition("reason")),
        ],
        "Schedule" => vec![column("TimeZone", ".spec.timeZone")],
        _ => vec![column("Plan", ".spec.plan"), column("Until", ".spec.until")],
    };
    columns.push(json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}));
    columns.into()
}

/// The schema of a whole object.
fn resource(kind: &str, schema: &Value) -> Value {
    let mut resource = structural(schema);
    let fields = &schema["properties"];
    // The API server has its own schema of `metadata`, and allows rules for the name only.
    resource["properties"]["metadata"] =
        json!({"type": "object", "properties": {"name": structural(&fields["metadata"]["properties"]["name"])}});
    resource["properties"]["status"] = if kind == "App" { status() } else { anything() };
    match kind {
        "App" => {
            let spec = &mut resource["properties"]["spec"];
            rule(spec, "!(has(self.schedule) && has(self.scheduleRef))", "set `schedule` or `scheduleRef`, not both");
            windows(&mut spec["properties"]["schedule"], &fields["spec"]["properties"]["schedule"]);
        }
        "Schedule" => {
            windows(&mut resource["properties"]["spec"], &fields["spec"]);
            resource["properties"]["spec"]["properties"]["except"]["maxItems"] = MAX_ITEMS.into();
        }
        _ => {}
    }
    resource
}

/// A value of any form; `kubectl apply` of an exported object may send one.
fn anything() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn status() -> Value {
    let text = || json!({"type": "string"});
    let condition = json!({
        "type": "object",
        "required": ["type"],
        "properties": {
            "type": text(), "status": text(), "reason": text(), "message": text(),
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "observedGeneration": {"type": "integer", "format": "int64"},
        },
    });
    let mut status = anything();
    status["properties"] = json!({
        "observedGeneration": {"type": "integer", "format": "int64"},
        "desired": text(),
        "observed": text(),
        "conditions": {
            "type": "array",
            "items": condition,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    });
    status
}

/// Adds a rule in CEL.
fn rule(schema: &mut Value, rule: &str, message: &str) {
    let rule = json!({"rule": rule, "message": message});
    let rules = &mut schema["x-kubernetes-validations"];
    if let Some(rules) = rules.as_array_mut() {
        rules.push(rule);
    } else {
        *rules = json!([rule]);
    }
}

/// Adds the rules for the windows of a schedule: the conditions of the JSON Schema, which a structural schema cannot
/// hold.
fn windows(schedule: &mut Value, described: &Value) {
    let windows = &mut schedule["properties"]["windows"];
    windows["maxItems"] = MAX_ITEMS.into();
    let window = &mut windows["items"];
    for field in ["from", "to"] {
        window["properties"][field]["maxLength"] = MAX_TEXT.into();
    }
    for (text, message) in [
        ("has(self.from) != has(self.cron)", "a window has either `from` or `cron`"),
        ("!has(self.cron) || (has(self.duration) && !has(self.to))", "`cron` needs `duration`, and excludes `to`"),
        ("has(self.cron) || !has(self.duration)", "`duration` needs `cron`"),
        ("!has(self.from) || has(self.to) || self.from.contains('-')", "only a window with a date may omit `to`"),
        // A day begins with a capital letter, a date or a time of day with a digit.
        (
            "!has(self.from) || !has(self.to) || (self.from.contains('-') == self.to.contains('-') && \
             (self.from < 'A') == (self.to < 'A'))",
            "`from` and `to` must have the same form",
        ),
    ] {
        rule(window, text, message);
    }
    // CEL cannot read `days`, which has two types.
    let forms = &described["properties"]["windows"]["items"]["properties"]["from"]["anyOf"];
    let clock = forms.as_array().and_then(|forms| forms.last()).map_or(Value::Null, |form| form["pattern"].clone());
    window["anyOf"] = json!([
        {"not": {"required": ["days"]}},
        {"required": ["from"], "properties": {"from": {"pattern": clock}}},
    ]);
}

/// The keywords that a structural schema supports.
fn structural(schema: &Value) -> Value {
    let Value::Object(fields) = schema else { return anything() };
    if let Some(Value::Array(alternatives)) = fields.get("oneOf") {
        return either(fields, alternatives);
    }
    let mut new = Map::new();
    for (word, value) in fields {
        let value = match (&**word, value) {
            ("description" | "enum" | "pattern" | "required" | "minItems" | "minProperties", value) => value.clone(),
            ("type", Value::Array(types)) => {
                new.insert("nullable".into(), types.contains(&json!("null")).into());
                types.first().cloned().unwrap_or_default()
            }
            ("type", value) => value.clone(),
            ("properties", Value::Object(properties)) => {
                properties.iter().map(|(name, schema)| (name.clone(), structural(schema))).collect()
            }
            ("items", schema) | ("additionalProperties", schema @ Value::Object(_)) => structural(schema),
            // Alternatives contain only conditions; the type is outside.
            ("anyOf", Value::Array(alternatives)) => {
                alternatives.iter().map(|one| json!({"pattern": one["pattern"]})).collect()
            }
            _ => continue,
        };
        new.insert(word.clone(), value);
    }
    new.into()
}

/// A field of one of several types. A structural schema allows one type, or any value. Contradictory bounds exclude a
/// type, because a bound applies only to values of its own type.
fn either(fields: &Map<String, Value>, alternatives: &[Value]) -> Value {
    let mut schema = json!({"x-kubernetes-preserve-unknown-fields": true});
    if let Some(about) = fields.get("description") {
        schema["description"] = about.clone();
    }
    let of = |kind: &str| alternatives.iter().find(|one| one["type"] == kind);
    let bounds = [
        ("string", json!({"minLength": 1, "maxLength": 0})),
        ("number", json!({"minimum": 1, "maximum": 0})),
        ("array", json!({"minItems": 1, "maxItems": 0})),
        ("object", json!({"minProperties": 1, "maxProperties": 0})),
        ("boolean", json!({"not": {"enum": [true, false]}})),
    ];
    for (kind, excluded) in bounds {
        let words = of(kind).unwrap_or(&excluded).as_object().into_iter().flatten();
        let of_values =
            |word: &str| word.starts_with("min") || word.starts_with("max") || ["pattern", "not"].contains(&word);
        for (word, value) in words.filter(|(word, _)| of_values(word)) {
            schema[word] = value.clone();
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the rules of a structural schema. `inner`: within a condition, where no type may be given.
    fn check(schema: &Value, at: &str, inner: bool) {
        let fields = schema.as_object().unwrap_or_else(|| panic!("{at}: {schema}"));
        let free = schema["x-kubernetes-preserve-unknown-fields"] == true;
        assert_eq!(fields.contains_key("type") || free, !inner, "{at}");
        for (word, value) in fields {
            match &**word {
                "properties" => {
                    value
                        .as_object()
                        .unwrap()
                        .iter()
                        .for_each(|(name, one)| check(one, &format!("{at}.{name}"), inner));
                }
                "items" | "additionalProperties" => check(value, &format!("{at}[]"), inner),
                "anyOf" => value.as_array().unwrap().iter().for_each(|one| check(one, at, true)),
                "not" => check(value, at, true),
                "enum" | "pattern" | "required" | "minLength" | "maxLength" | "minimum" | "maximum" | "minItems"
                | "maxItems" | "minProperties" | "maxProperties" => {}
                "type"
                | "description"
                | "format"
                | "nullable"
                | "x-kubernetes-validations"
                | "x-kubernetes-preserve-unknown-fields"
                | "x-kubernetes-list-type"
                | "x-kubernetes-list-map-keys" => {
                    assert!(!inner, "{at}: {word} in a condition");
                }
                word => panic!("{at}: {word} is not for a structural schema"),
            }
        }
    }

    #[test]
    fn schemas_are_structural() {
        for crd in definitions() {
            check(
                &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
                crd["metadata"]["name"].as_str().unwrap(),
                false,
            );
        }
    }

    #[test]
    fn names_and_columns() {
        let all = definitions();
        let names: Vec<_> = all.iter().map(|crd| crd["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(
            names,
            ["apps.campos-operator.dev", "schedules.campos-operator.dev", "approvals.campos-operator.dev"]
        );
        let version = &all[0]["spec"]["versions"][0];
        let columns: Vec<_> =
            version["additionalPrinterColumns"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
        assert_eq!(columns, ["Desired", "Observed", "Ready", "Reason", "Age"]);
        assert_eq!(all[0]["spec"]["names"]["shortNames"], json!(["capp"]));
        assert_eq!(all[0]["spec"]["names"]["categories"], json!(["campos"]));
        assert_eq!(version["subresources"], json!({"status": {}}));
        assert_eq!(crds().unwrap().matches("---\n").count(), 3);
    }
}
