//! JSON Schema of the manifest, for editors.
//!
//! Generated from the types of `schema`; a property test compares both. It covers single documents:
//! `validate` finds errors between documents (a repeated name) and in the YAML text (a repeated key).

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::schema::{
    APPROVAL_KIND, ApprovalManifest, KIND, KINDS, KubernetesList, LIST_KIND, Manifest, ManifestList, SCHEDULE_KIND,
    ScheduleManifest,
};

/// The JSON Schema of one document, pretty-printed.
pub fn json_schema() -> String {
    let lists = [(LIST_KIND, with_items(of::<ManifestList>())), ("List", with_items(of::<KubernetesList>()))];
    let kinds: Vec<(&str, Value)> = resources().into_iter().chain(lists).collect();
    // The kind decides first, so that an editor explains the errors of one kind only.
    let one_of = |kind: &str| json!({"required": ["kind"], "properties": {"kind": {"const": kind}}});
    let then = |kind: &str| json!({"$ref": format!("#/definitions/{kind}")});
    let choices = kinds.iter().map(|(kind, _)| json!({"if": one_of(kind), "then": then(kind)}));
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "campos-operator",
        "description": "A manifest of campos-operator, or a list of them.",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"enum": KINDS.iter().chain(&["List"]).collect::<Vec<_>>()},
        },
        "allOf": choices.collect::<Vec<_>>(),
        "definitions": kinds.iter().map(|(kind, schema)| ((*kind).to_owned(), schema.clone())).collect::<serde_json::Map<_, _>>(),
    });
    format!("{schema:#}\n")
}

/// The kinds that can be stored as custom resources, with the schema of each.
pub fn resources() -> [(&'static str, Value); 3] {
    [(KIND, of::<Manifest>()), (SCHEDULE_KIND, of::<ScheduleManifest>()), (APPROVAL_KIND, of::<ApprovalManifest>())]
}

/// The schema of one type.
fn of<T: JsonSchema>() -> Value {
    // Draft 7, which the YAML language server supports completely; inlined, because people read it, too.
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema: Schema = settings.into_generator().into_root_schema_for::<T>();
    schema.remove("$schema");
    let mut schema = Value::from(schema);
    simplify(&mut schema);
    schema
}

/// The items of a list are manifests.
fn with_items(mut list: Value) -> Value {
    list["properties"]["items"]["items"] = json!({"$ref": format!("#/definitions/{KIND}")});
    list
}

/// Rewrites a schema in the form that editors explain best: a list of words instead of alternatives with one word each,
/// and no default of `null`, because a field may be absent but not null.
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

/// Returns whether alternatives exclude each other by their type.
fn of_different_types(alternatives: &Value) -> bool {
    let types: Vec<Option<&str>> =
        alternatives.as_array().into_iter().flatten().map(|one| one["type"].as_str()).collect();
    types.iter().enumerate().all(|(at, kind)| kind.is_some() && !types[..at].contains(kind))
}

/// Alternatives with one word each, and their descriptions.
fn words(alternatives: &Value) -> Option<Vec<(String, String)>> {
    let word = |one: &Value| Some((one["const"].as_str()?.to_owned(), one["description"].as_str()?.to_owned()));
    alternatives.as_array()?.iter().map(word).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;
    use crate::manifest::diagnostic::Diagnostic;
    use crate::manifest::load::{Content, parse};

    fn app() -> Value {
        json!({
            "apiVersion": "campos-operator.dev/v1",
            "kind": "App",
            "metadata": {"name": "ticket-bot", "labels": {"team": "support"}, "annotations": {}, "generation": 3},
            "spec": {
                "appId": "60c72b2f9b1e8d001c8e4f3a", "state": "Stopped", "policy": "StopOnly",
                "suspend": {"reason": "release night", "until": "2026-12-24T02:00:00-03:00"},
                "override": {"state": "Running", "until": "2026-12-24T02:00:00Z", "reason": "hotfix", "by": "ana"},
                "schedule": {"timeZone": "Europe/Berlin", "windows": [
                    {"state": "Running", "from": "2026-12-23T22:00:00", "to": "2026-12-24T06:00", "reason": "sale"},
                    {"state": "Stopped", "from": "Fri 21:00", "to": "Mon 06:00"},
                    {"state": "Stopped", "from": "22:00", "to": "06:00:30", "days": "Mon-Thu, Sat"},
                    {"state": "Stopped", "from": "12:00", "to": "13:00", "days": ["Mon", "Tue-Fri"]},
                    {"state": "Running", "cron": "0 9 * * 1-5", "duration": "1h30m", "warn": "15m"},
                ]},
                "restart": {"requestedAt": "2026-12-24T02:00:00Z", "cron": "0 5 * * 0", "whenRequired": true},
            },
            "status": {"conditions": [{"type": "Ready"}]},
        })
    }

    fn schedule() -> Value {
        json!({
            "apiVersion": "campos-operator.dev/v1",
            "kind": "Schedule",
            "metadata": {"name": "office"},
            "spec": {
                "timeZone": "Europe/Berlin",
                "windows": [{"state": "Stopped", "from": "Fri 21:00", "to": "Mon 06:00", "reason": "weekend"}],
                "except": [
                    {"calendar": "holidays.ics", "state": "Stopped", "reason": "holiday"},
                    {"calendar": "./de/more.ics", "state": "Running"},
                ],
            },
        })
    }

    fn bases() -> Vec<Value> {
        let minimal = json!({
            "apiVersion": "campos-operator.dev/v1", "kind": "App", "metadata": {"name": "a"},
            "spec": {"appId": "a", "state": "Running"},
        });
        let mut other = minimal.clone();
        other["metadata"]["name"] = json!("b");
        other["spec"]["appId"] = json!("b");
        let list = |kind: &str, version: &str| json!({"apiVersion": version, "kind": kind, "metadata": {}, "items": [minimal.clone(), other.clone()]});
        let mut referring = minimal.clone();
        referring["spec"]["scheduleRef"] = json!("office");
        let approval = json!({
            "apiVersion": "campos-operator.dev/v1", "kind": "Approval", "metadata": {"name": "black-friday"},
            "spec": {"plan": "7f3a9c01b2d4", "until": "2026-11-28T00:00:00Z", "reason": "planned", "by": "ana"},
        });
        vec![
            app(),
            app(),
            schedule(),
            schedule(),
            approval,
            referring,
            minimal.clone(),
            list("AppList", "campos-operator.dev/v1"),
            list("List", "v1"),
        ]
    }

    const OTHERS: [&str; 10] = [
        "a.ics",
        "../a.ics",
        "/a.ics",
        "a/./b.ics",
        "a/.b.ics",
        "a//b.ics",
        "https://a/b.ics",
        "a.csv",
        "7f3a9c01b2d4",
        "7F3A9C01B2D4",
    ];

    /// Values that are valid in some place, and values that are valid in no place.
    fn values() -> Vec<Value> {
        let mut values = vec![
            json!(null),
            json!(true),
            json!(false),
            json!(0),
            json!(5),
            json!(-1),
            json!(1.5),
            json!({}),
            json!([]),
            json!(["a"]),
            json!({"a": "b"}),
            json!({"a": 1}),
            json!({"reason": "x"}),
            json!({"state": "Running"}),
            json!([{"state": "Running"}]),
            json!([{"state": "Running", "from": "22:00"}]),
            json!(["Mon", "Tues"]),
            json!([5]),
        ];
        values.extend(
            [
                "",
                " ",
                "a",
                "A",
                "a_b",
                "-a",
                "a-",
                "no",
                "5",
                "Running",
                "running",
                "Stopped",
                "Full",
                "full",
                "ObserveOnly",
                "App",
                "AppList",
                "List",
                "Schedule",
                "Deployment",
                "v1",
                "campos-operator.dev/v1",
                "campos-operator.dev/v2",
                "Mon",
                "mon",
                "Mon-",
                "Mon-Fri",
                "Mon,Mon",
                "Mon - Tue",
                "Mon,,Tue",
                "22:00",
                "24:00",
                "7:00",
                "22:00:61",
                "Fri 21:00",
                "Fri  21:00",
                "Fri",
                "2026-12-23",
                "2026-12-23T22:00:00",
                "2026-12-23 22:00",
                "2026-12-23T22",
                "2026-12-23T22:00:00Z",
                "2026-12-23T22:00Z",
                "2026-12-23t22:00:00z",
                "2026-12-23 22:00:00+03",
                "2026-12-23T22:00:00.5-03:00",
                "2026-12-23T22:00:00+0300",
                "2026-12-23T22:00:00+26:00",
                "2026-02-30T10:00:00Z",
                "2026-13-01T10:00:00Z",
                "2026-12-23T24:00:00Z",
                "2026-12-23T22:00:60Z",
                "2026-12-23T22:00:00[UTC]",
                "20261223T220000Z",
                "Europe/Berlin",
                "europe/berlin",
                "UTC",
                "utc",
                "GMT-3",
                "Etc/GMT+3",
                "Mars/Olympus",
                "BRT",
                "0 9 * * *",
                "0 9 * *",
                "@daily",
                "@dayly",
                "1h",
                "1h30m",
                "60",
                "8d",
                "tomorrow",
            ]
            .map(Value::from),
        );
        values.extend(OTHERS.map(Value::from));
        values.extend([63, 64, 129].map(|length| "a".repeat(length).into()));
        values
    }

    const KEYS: [&str; 39] = [
        "apiVersion",
        "kind",
        "metadata",
        "spec",
        "status",
        "items",
        "name",
        "labels",
        "annotations",
        "generation",
        "creationTimestamp",
        "uid",
        "appId",
        "state",
        "policy",
        "suspend",
        "override",
        "schedule",
        "scheduleRef",
        "plan",
        "except",
        "calendar",
        "timeZone",
        "windows",
        "from",
        "to",
        "days",
        "cron",
        "duration",
        "warn",
        "reason",
        "until",
        "by",
        "namespace",
        "owner",
        "restart",
        "requestedAt",
        "whenRequired",
        "replicas",
    ];

    #[derive(Debug, Clone)]
    enum Change {
        Replace(Value),
        Remove,
        Insert(&'static str, Value),
        /// Replaces one character of a text.
        Touch(Index, char),
    }

    fn change() -> impl Strategy<Value = (Index, Change)> {
        let change = prop_oneof![
            3 => select(values()).prop_map(Change::Replace),
            1 => Just(Change::Remove),
            2 => (select(&KEYS[..]), select(values())).prop_map(|(key, value)| Change::Insert(key, value)),
            2 => (any::<Index>(), select(vec!['0', '9', 'a', 'Z', ' ', ':', '-', 'T', '.', 'é'])).prop_map(|(at, new)| Change::Touch(at, new)),
        ];
        (any::<Index>(), change)
    }

    /// Pointers to every value below the document, without those below `status`, which the reader ignores.
    fn pointers(value: &Value, here: &str, found: &mut Vec<String>) {
        let mut child = |key: &str, value: &Value| {
            let here = format!("{here}/{key}");
            found.push(here.clone());
            pointers(value, &here, found);
        };
        match value {
            Value::Object(fields) => {
                fields.iter().filter(|(key, _)| *key != "status").for_each(|(key, value)| child(key, value));
            }
            Value::Array(items) => items.iter().enumerate().for_each(|(at, value)| child(&at.to_string(), value)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn apply(document: &mut Value, at: Index, change: Change) {
        let mut all = Vec::new();
        pointers(document, "", &mut all);
        if all.is_empty() {
            return;
        }
        let pointer = at.get(&all).clone();
        let (above, last) = pointer.rsplit_once('/').unwrap();
        match change {
            Change::Replace(value) => *document.pointer_mut(&pointer).unwrap() = value,
            Change::Remove => match document.pointer_mut(above).unwrap() {
                Value::Object(fields) => drop(fields.remove(last)),
                Value::Array(items) => drop(items.remove(last.parse().unwrap())),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            },
            Change::Insert(key, value) => {
                if let Value::Object(fields) = document.pointer_mut(above).unwrap() {
                    fields.insert(key.to_owned(), value);
                }
            }
            Change::Touch(at, new) => {
                if let Value::String(text) = document.pointer_mut(&pointer).unwrap() {
                    let mut chars: Vec<char> = text.chars().collect();
                    if !chars.is_empty() {
                        let at = at.index(chars.len());
                        chars[at] = new;
                        *text = chars.into_iter().collect();
                    }
                }
            }
        }
    }

    /// The errors of a document; a foreign document is an error, too.
    fn mistakes(document: &Value) -> Vec<String> {
        let parsed = parse(&"a.json".into(), document.to_string().as_bytes());
        let apps = parsed.documents.iter().all(|document| !matches!(document.content, Content::Bad(_)));
        let good = apps && parsed.schedules.iter().all(|schedule| schedule.content.is_ok());
        let found: Vec<String> = parsed.diagnostics.iter().map(|found| found.message.to_string()).collect();
        assert!(good || parsed.diagnostics.iter().any(Diagnostic::is_error), "what is refused is reported: {found:?}");
        found
    }

    /// Errors that no JSON Schema can express: of dates, lengths, cron patterns, and of two values that exclude each
    /// other.
    fn is_beyond(mistake: &str) -> bool {
        [
            "the window does not end after it begins",
            "the window ends when it begins",
            "the window is longer than a week",
            "`duration` is no length of time",
            "`warn` is",
            "the window never begins",
            "the restart is never due",
            "`duration` is not a length of time",
            "`cron`",
        ]
        .iter()
        .any(|beyond| mistake.starts_with(beyond))
    }

    fn validator() -> &'static jsonschema::Validator {
        static VALIDATOR: std::sync::OnceLock<jsonschema::Validator> = std::sync::OnceLock::new();
        VALIDATOR.get_or_init(|| jsonschema::validator_for(&serde_json::from_str(&json_schema()).unwrap()).unwrap())
    }

    fn agree(document: &Value) -> Result<(), String> {
        let mistakes = mistakes(document);
        let problems: Vec<String> =
            validator().iter_errors(document).map(|error| format!("{} at {}", error, error.instance_path)).collect();
        let says = format!("{document:#}\nreader: {mistakes:#?}\nschema: {problems:#?}");
        match (mistakes.is_empty(), problems.is_empty()) {
            (true, true) | (false, false) => Ok(()),
            (false, true) if mistakes.iter().all(|mistake| is_beyond(mistake)) => Ok(()),
            (true, false) => Err(format!("only the schema refuses {says}")),
            (false, true) => Err(format!("only the reader refuses {says}")),
        }
    }

    fn custom_resource(document: &Value) -> Option<&'static jsonschema::Validator> {
        static VALIDATORS: std::sync::OnceLock<Vec<(String, jsonschema::Validator)>> = std::sync::OnceLock::new();
        let all = VALIDATORS.get_or_init(|| {
            let definitions = crate::kubernetes::crd::definitions();
            let validator = |crd: &Value| {
                let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
                let kind = crd["spec"]["names"]["kind"].as_str().unwrap();
                (kind.to_owned(), jsonschema::validator_for(schema).unwrap())
            };
            definitions.iter().map(validator).collect()
        });
        all.iter().find(|(kind, _)| document["kind"] == **kind).map(|(_, validator)| validator)
    }

    /// The API server accepts what the reader accepts. `status` is not compared: a subresource is ignored.
    fn fits_custom_resource(document: &Value) -> Result<(), String> {
        let mut document = document.clone();
        document.as_object_mut().into_iter().for_each(|fields| drop(fields.remove("status")));
        let Some(validator) = custom_resource(&document) else { return Ok(()) };
        let problems: Vec<String> =
            validator.iter_errors(&document).map(|error| format!("{} at {}", error, error.instance_path)).collect();
        if problems.is_empty() || !mistakes(&document).is_empty() {
            return Ok(());
        }
        Err(format!("only the CRD refuses {document:#}\n{problems:#?}"))
    }

    #[test]
    fn the_crd_refuses_mistakes() {
        let with = |pointer: &str, value: Value| {
            let mut document = app();
            *document.pointer_mut(pointer).unwrap() = value;
            document
        };
        let is_valid = |document: &Value| custom_resource(document).unwrap().is_valid(document);
        for value in [json!(true), json!(false), json!({"reason": "x"}), json!({"until": "2026-12-24T02:00:00Z"})] {
            assert!(is_valid(&with("/spec/suspend", value.clone())), "{value}");
        }
        for (pointer, value) in [
            ("/spec/suspend", json!("true")),
            ("/spec/suspend", json!({})),
            ("/spec/suspend", json!([])),
            ("/spec/suspend", json!(1)),
            ("/spec/state", json!("stopped")),
            ("/spec/appId", json!("a b")),
            ("/spec/schedule/timeZone", json!("Mars/Olympus")),
            ("/spec/schedule/windows/1/from", json!("Friday")),
            ("/spec/schedule/windows/2/days", json!("Monday")),
            ("/spec/schedule/windows/2/days", json!(true)),
            (
                "/spec/schedule/windows/1",
                json!({"state": "Stopped", "from": "Fri 21:00", "to": "Mon 06:00", "days": "Mon"}),
            ),
            ("/metadata/name", json!("A")),
        ] {
            assert!(!is_valid(&with(pointer, value.clone())), "{pointer} = {value}");
        }
    }

    #[test]
    fn the_bases_are_valid() {
        for base in bases() {
            assert_eq!(mistakes(&base), [""; 0]);
            assert!(validator().is_valid(&base), "{base}");
            fits_custom_resource(&base).unwrap();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
        #[test]
        fn schema_and_reader_agree(base in select(bases()), changes in proptest::collection::vec(change(), 1..4)) {
            let mut document = base;
            for (at, change) in changes {
                apply(&mut document, at, change);
            }
            if let Err(difference) = agree(&document).and_then(|()| fits_custom_resource(&document)) {
                return Err(TestCaseError::fail(difference));
            }
        }
    }
}
