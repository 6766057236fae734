//! The JSON Schema that `schema` prints accepts every example and refuses every mistake that a schema can express.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::harness::output;

fn printed() -> String {
    let output = output(&["schema"]);
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn schema() -> jsonschema::Validator {
    jsonschema::validator_for(&serde_json::from_str(&printed()).unwrap()).unwrap()
}

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

/// Every example: its path and its text.
fn examples(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            examples(&path, found);
        } else if !path.file_name().unwrap().to_str().unwrap().starts_with('.')
            && path.extension().is_none_or(|ending| ending != "ics")
        {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

#[test]
fn every_example_fits_and_says_where_the_schema_is() {
    let schema = schema();
    let mut found = Vec::new();
    examples(&manifests(), &mut found);
    let mut documents = 0;
    for (path, text) in &found {
        for document in serde_yaml::Deserializer::from_str(text) {
            let document = Value::deserialize(document).unwrap();
            let problems: Vec<String> = schema.iter_errors(&document).map(|error| error.to_string()).collect();
            assert_eq!(problems, [""; 0], "{}", path.display());
            documents += 1;
        }
        if path.extension().is_some_and(|ending| ending != "json") {
            let named = text.lines().next().unwrap().strip_prefix("# yaml-language-server: $schema=").unwrap();
            let named = path.parent().unwrap().join(named).canonicalize().unwrap();
            assert_eq!(named, manifests().join(".schema").canonicalize().unwrap(), "{}", path.display());
        }
    }
    assert!(found.len() >= 8 && documents >= 9, "{} files, {documents} documents", found.len());
}

#[test]
fn the_bundled_schema_is_the_printed_one() {
    let bundled = fs::read_to_string(manifests().join(".schema")).unwrap();
    assert_eq!(bundled, printed(), "cargo run -- schema > manifests/.schema");
}

#[test]
fn a_schema_refuses_the_mistakes_that_it_can_express() {
    let schema = schema();
    let good = json!({
        "apiVersion": "campos-operator.dev/v1",
        "kind": "App",
        "metadata": {"name": "ticket-bot", "labels": {"team": "support"}, "annotations": null},
        "spec": {
            "appId": "60c72b2f9b1e8d001c8e4f3a", "state": "Stopped", "policy": "StopOnly",
            "suspend": {"reason": "release night", "until": "2026-12-24T02:00:00-03:00"},
        },
        "status": {"conditions": [{"type": "Ready"}]},
    });
    assert!(schema.is_valid(&good));
    let with = |pointer: &str, value: Value| {
        let mut manifest = good.clone();
        let (above, field) = pointer.rsplit_once('/').unwrap();
        manifest.pointer_mut(above).unwrap()[field] = value;
        manifest
    };
    for (pointer, value) in [
        ("/spec/suspend", json!(true)),
        ("/spec/suspend", json!({"reason": "moved"})),
        ("/spec/suspend/until", json!("2026-12-24T02:00:00.5Z")),
        ("/spec/state", json!("Running")),
        ("/spec/appId", json!("123456789012345678901234")),
        ("/metadata/labels", Value::Null),
        ("/metadata/name", json!("a")),
        ("/status", json!("anything")),
    ] {
        assert!(schema.is_valid(&with(pointer, value.clone())), "{pointer} = {value}");
    }
    for (pointer, value) in [
        ("/apiVersion", json!("campos-operator.dev/v2")),
        ("/kind", json!("app")),
        ("/kind", json!("Deployment")),
        ("/metadata", Value::Null),
        ("/metadata/name", json!("Ticket Bot")),
        ("/metadata/name", json!("-ticket-bot")),
        ("/metadata/name", json!("a".repeat(64))),
        ("/metadata/name", json!("")),
        ("/metadata/name", json!(5)),
        ("/metadata/owner", json!("ana")),
        ("/metadata/labels/tier", json!(1)),
        ("/metadata/annotations", json!(["note"])),
        ("/spec/appId", json!(123)),
        ("/spec/appId", json!("../users/@me")),
        ("/spec/appId", json!("a".repeat(129))),
        ("/spec/appId", json!("")),
        ("/spec/state", json!("stopped")),
        ("/spec/state", json!(false)),
        ("/spec/state", Value::Null),
        ("/spec/sate", json!("Stopped")),
        ("/spec/policy", json!("stop-only")),
        ("/spec/policy", Value::Null),
        ("/spec/suspend", json!("true")),
        ("/spec/suspend", json!({})),
        ("/spec/suspend", Value::Null),
        ("/spec/suspend", json!({"reson": "maintenance"})),
        ("/spec/suspend/until", json!("2026-12-24T02:00:00")),
        ("/spec/suspend/until", json!("tomorrow")),
        ("/state", json!("Stopped")),
    ] {
        assert!(!schema.is_valid(&with(pointer, value.clone())), "{pointer} = {value}");
    }
    for missing in ["/apiVersion", "/kind", "/metadata", "/spec", "/metadata/name", "/spec/appId", "/spec/state"] {
        let mut manifest = good.clone();
        let (above, field) = missing.rsplit_once('/').unwrap();
        manifest.pointer_mut(above).unwrap().as_object_mut().unwrap().remove(field);
        assert!(!schema.is_valid(&manifest), "without {missing}");
    }
    assert!(!schema.is_valid(&json!([good.clone()])));
}

/// `kubectl apply -R -f manifests` reads each file with one of these endings, hidden ones too.
fn read_by_kubectl(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_by_kubectl(&path, found);
        } else if path.extension().is_some_and(|ending| ["json", "yaml", "yml"].iter().any(|one| ending == *one)) {
            found.push(path);
        }
    }
}

#[test]
fn the_overlay_has_the_printed_definitions() {
    let overlay = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes/overlays/custom-resources/crds.yaml");
    let printed = String::from_utf8(output(&["schema", "--crd"]).stdout).unwrap();
    assert_eq!(fs::read_to_string(&overlay).unwrap(), printed, "cargo run -- schema --crd > {}", overlay.display());
}

#[test]
fn kubectl_reads_only_custom_resources_of_ours() {
    let printed = output(&["schema", "--crd"]);
    assert!(printed.status.success());
    let mut validators = Vec::new();
    for crd in serde_yaml::Deserializer::from_slice(&printed.stdout) {
        let crd = Value::deserialize(crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        validators.push((crd["spec"]["names"]["kind"].clone(), jsonschema::validator_for(schema).unwrap()));
    }
    let mut files = Vec::new();
    read_by_kubectl(&manifests(), &mut files);
    let mut names = Vec::new();
    for path in &files {
        for document in serde_yaml::Deserializer::from_str(&fs::read_to_string(path).unwrap()) {
            let document = Value::deserialize(document).unwrap();
            let items = document["items"].as_array().cloned().unwrap_or_else(|| vec![document]);
            for item in items {
                assert_eq!(item["apiVersion"], "campos-operator.dev/v1", "{}", path.display());
                let (_, validator) = validators.iter().find(|(kind, _)| *kind == item["kind"]).unwrap();
                let problems: Vec<String> = validator.iter_errors(&item).map(|error| error.to_string()).collect();
                assert_eq!(problems, [""; 0], "{}", path.display());
                names.push((item["kind"].to_string(), item["metadata"]["name"].to_string()));
            }
        }
    }
    let all = names.len();
    names.sort();
    names.dedup();
    assert!(all == names.len() && files.len() >= 14, "{names:?} in {files:?}");
}
