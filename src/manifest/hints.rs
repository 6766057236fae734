//! Advice for mistakes at particular fields of a manifest.

use super::diagnostic::nearest;

/// Fields by the map that they belong to, for keys at the wrong level.
pub(super) const FIELDS: [(&str, &[&str]); 5] = [
    ("metadata", &["name", "labels", "annotations"]),
    ("spec", &["appId", "state", "policy", "suspend", "schedule"]),
    ("suspend", &["reason", "until"]),
    ("schedule", &["timeZone", "windows"]),
    ("", &["apiVersion", "kind", "metadata", "spec", "status"]),
];

/// Fields of `metadata` that are accepted and ignored: only a machine writes them.
pub(super) const IGNORED: [&str; 12] = [
    "generation",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "managedFields",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Advice for a required field that is missing; `words` are the only values that it may have, if there are few.
pub(super) fn missing(field: &str, words: &[&str]) -> String {
    let advice = match field {
        "metadata" => "{name: ..}`",
        "spec" => return "add `spec:` with `appId` and `state`".to_owned(),
        "name" => "` with a name that is unique in the directory",
        "timeZone" => "` with an IANA name, such as America/Sao_Paulo or UTC",
        "windows" => return "add `windows:` with one `- {state: .., from: .., to: ..}` for each".to_owned(),
        "items" => return "add `items:` with a list of apps".to_owned(),
        "appId" => "` with the app's `_id` on CamposCloud",
        _ => {
            let values: Vec<String> = words.iter().map(|word| format!("`{field}: {word}`")).collect();
            return format!("add {}", values.join(" or "));
        }
    };
    format!("add `{field}: {advice}")
}

/// The field that an unknown key means, and advice.
pub(super) fn unknown(key: &str, known: &[&'static str]) -> (Option<&'static str>, String) {
    let belongs = |(map, fields): &(&str, &[&'static str])| {
        let field = fields.iter().find(|field| **field == key)?;
        let place = if map.is_empty() { "at the left margin".to_owned() } else { format!("under `{map}`") };
        Some((Some(*field), format!("`{field}` belongs {place}")))
    };
    let near = || match key {
        "id" | "_id" => Some("appId"),
        _ => nearest(key, known.iter().copied()),
    };
    FIELDS.iter().find_map(belongs).unwrap_or_else(|| match near() {
        Some(field) => (Some(field), format!("did you mean `{field}`?")),
        None => (None, "remove it; free notes belong in `metadata.annotations` or in a comment".to_owned()),
    })
}

/// The word of a field for a common synonym.
pub(super) fn synonym(field: &str, typed: &str) -> Option<&'static str> {
    match (field, typed.trim().to_lowercase().as_str()) {
        ("state", "off" | "no" | "false" | "stop" | "down" | "halted" | "offline" | "paused" | "n" | "0") => {
            Some("Stopped")
        }
        ("state", "on" | "yes" | "true" | "start" | "started" | "up" | "run" | "online" | "y" | "1") => Some("Running"),
        ("policy", "observe" | "readonly" | "none") => Some("ObserveOnly"),
        ("policy", "stop") => Some("StopOnly"),
        ("policy", "all") => Some("Full"),
        _ => None,
    }
}

/// Advice for a value that is not a list.
pub(super) fn list(field: &str) -> &'static str {
    match field {
        "windows" => "write one `- {state: .., from: .., to: ..}` for each window",
        _ => "write one `- ` for each app",
    }
}
