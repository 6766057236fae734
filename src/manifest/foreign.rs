//! Foreign documents: another kind of object, or a file of another tool among the manifests.
//!
//! A foreign document is reported once and has no other effect. An unclear document is an invalid manifest, and the
//! last good spec stays in force.

use super::diagnostic::nearest;
use super::reader::quoted;
use super::schema::{API_VERSION, KIND, KINDS};
use super::yaml::{Node, Value};

/// A document that is no manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Foreign {
    /// Its kind, for messages.
    pub(super) what: String,
    pub(super) evidence: Evidence,
}

/// The cause why a document is foreign. It decides about an earlier manifest in the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// It has the `apiVersion` and the `kind` of another API.
    Pair,
    /// It has neither, so it may be the rest of a manifest.
    Neither,
    /// It cannot be read, and its text has no sign of a manifest.
    Unreadable,
}

/// Returns the description of a foreign document; `None` for a manifest, or a document that resembles one.
pub(super) fn foreign(root: &Node) -> Option<Foreign> {
    let (version, kind) = (word(root, "apiVersion"), word(root, "kind"));
    let has_app_id = root.get("spec").is_some_and(|spec| spec.get("appId").is_some());
    match &root.value {
        Value::Map(_) if has_app_id => return None,
        Value::Map(entries) if entries.iter().any(|(_, value)| is_our_version(value)) => return None,
        Value::List(items)
            if items.iter().any(|item| matches!(item.value, Value::Map(_)) && foreign(item).is_none()) =>
        {
            return None;
        }
        Value::Map(_) | Value::List(_) | Value::Scalar { .. } => {}
    }
    let what = match (version, kind) {
        (Some(version), Some(kind)) if is_ours(version, kind) => return None,
        _ if root.get("sops").is_some() => "encrypted by SOPS".to_owned(),
        (Some(version), Some(kind)) => format!("{} ({})", quoted(kind), quoted(version)),
        (None, Some(_)) => return None,
        (Some(version), None)
            if near_version(version) || root.get("spec").is_some() || root.get("metadata").is_some() =>
        {
            return None;
        }
        // A Helm chart, for example.
        (Some(version), None) => format!("{} without a kind", quoted(version)),
        (None, None) => match &root.value {
            Value::Map(_) => "a map without `apiVersion` and `kind`".to_owned(),
            Value::List(_) | Value::Scalar { .. } => root.kind().to_owned(),
        },
    };
    let evidence = if version.is_some() && kind.is_some() { Evidence::Pair } else { Evidence::Neither };
    Some(Foreign { what, evidence })
}

/// Returns the description of an unreadable text that is certainly foreign: it names another API, or, with `why`, its
/// error is no typo in a manifest. `None` if it has any sign of a manifest.
pub(super) fn foreign_text(text: &str, why: Option<&str>) -> Option<Foreign> {
    let value = |line: &str, key: &str| -> Option<String> {
        let rest = line.trim_start_matches([' ', '-', '{', '"', '\'']).strip_prefix(key)?;
        let value = rest.trim_start_matches(['"', '\'']).trim_start().strip_prefix(':')?;
        let value = value.split(" #").next()?.trim_matches([' ', '"', '\'', ',', '\t']);
        (!value.is_empty()).then(|| value.to_owned())
    };
    // For these words, UTF-16 is UTF-8 with zeros between the characters.
    let text = text.replace('\0', "");
    let app_ids = text.to_lowercase();
    let mut app_ids = app_ids.split("appid").skip(1);
    let is_sign = |line: &str| {
        value(line, "apiVersion").is_some_and(|version| near_version(&version))
            || value(line, "kind").is_some_and(|kind| near_kind(&kind))
    };
    let is_field = |rest: &str| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':');
    if text.contains(GROUP) || app_ids.any(is_field) || text.lines().any(is_sign) {
        return None;
    }
    let top = |key: &str| text.lines().filter(|line| line.starts_with(key)).find_map(|line| value(line, key));
    let what = match (top("apiVersion"), top("kind"), why) {
        (Some(version), Some(kind), _) => format!("{} ({})", quoted(&kind), quoted(&version)),
        (_, _, Some(why)) => why.to_owned(),
        (_, _, None) => return None,
    };
    Some(Foreign { what, evidence: Evidence::Unreadable })
}

/// The API group of the manifests.
const GROUP: &str = "campos-operator.dev/";

/// Returns whether a value is the `apiVersion` of a manifest, with a misspelt key.
fn is_our_version(value: &Node) -> bool {
    matches!(&value.value, Value::Scalar { text, .. } if text.starts_with(GROUP))
}

/// Returns whether the `apiVersion` or the `kind` of a pair is that of a manifest, or resembles it.
fn is_ours(version: &str, kind: &str) -> bool {
    // Other operators have a kind App in another group.
    let other_group = version.contains('/');
    near_version(version) || (kind == KIND && !other_group) || (!KINDS.contains(&kind) && near_kind(kind))
}

fn near_version(version: &str) -> bool {
    version.to_lowercase().contains("campos") || nearest(version, [API_VERSION]).is_some()
}

fn near_kind(kind: &str) -> bool {
    kind.to_lowercase() == KIND.to_lowercase() || nearest(kind, [KIND]).is_some()
}

fn word<'a>(root: &'a Node, key: &str) -> Option<&'a str> {
    match &root.get(key)?.value {
        // A value that SOPS encrypted names no API.
        Value::Scalar { text, .. } if !text.trim().is_empty() && !text.starts_with("ENC[") => Some(text),
        Value::Scalar { .. } | Value::List(_) | Value::Map(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::yaml;

    #[track_caller]
    fn case(text: &str, expected: Option<Evidence>) {
        let root = yaml::parse(text, 1).unwrap().unwrap().root;
        assert_eq!(foreign(&root).map(|foreign| foreign.evidence), expected, "{text}");
    }

    #[test]
    fn other_apis_are_foreign() {
        case("{apiVersion: kustomize.config.k8s.io/v1beta1, kind: Kustomization}", Some(Evidence::Pair));
        case("{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {}}", Some(Evidence::Pair));
        case("{apiVersion: kappctrl.k14s.io/v1alpha1, kind: App, spec: {}}", Some(Evidence::Pair));
        case("{apiVersion: v1, kind: ConfigMap}", Some(Evidence::Pair));
    }

    #[test]
    fn files_of_other_tools_are_foreign() {
        case("{services: {db: {image: postgres}}}", Some(Evidence::Neither));
        case("{apiVersion: v2, name: chart, version: 0.1.0}", Some(Evidence::Neither));
        case("{name: x, version: 1.0.0}", Some(Evidence::Neither));
        case("[{hosts: all}]", Some(Evidence::Neither));
        case("only text", Some(Evidence::Neither));
    }

    #[test]
    fn documents_that_resemble_a_manifest_are_invalid_not_foreign() {
        case("{apiVersion: campos-operator.dev/v1, kind: App}", None);
        case("{apiVersion: campos-operator.dev/v1, kind: Deployment}", None);
        case("{apiVersion: campos-operator.dev/v2, kind: App}", None);
        case("{apiVersion: camposoperator.dev/v1, kind: Web}", None);
        case("{apiVersion: campos-operator.de/v1, kind: App}", None);
        case("{apiVersion: v1, kind: App}", None);
        case("{apiVersion: apps/v1, kind: Apps}", None);
        case("{apiVersion: apps/v1, kind: app}", None);
        case("{kind: App}", None);
        case("{kind: Nonsense}", None);
        case("{apiVersion: v2, metadata: {name: a}}", None);
        case("{apiVersion: apps/v1, kind: Deployment, spec: {appId: x}}", None);
        case("{spec: {appId: x}}", None);
        case("[{apiVersion: campos-operator.dev/v1, kind: App}]", None);
    }
    #[test]
    fn a_misspelt_key_or_an_encrypted_pair_is_no_other_api() {
        case("{apiversion: campos-operator.dev/v1, Kind: App}", None);
        case("{name: campos-operator.dev}", Some(Evidence::Neither));
        case("{apiVersion: \"ENC[x]\", kind: \"ENC[y]\", sops: {}}", Some(Evidence::Neither));
    }

    #[test]
    fn texts_that_cannot_be_read() {
        let is_foreign = |text: &str, why| foreign_text(text, why).is_some();
        assert!(is_foreign("apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ x }}\n", None));
        assert!(is_foreign("{\"lockfileVersion\": 3", Some("too large")));
        assert!(!is_foreign("nonsense: [\n", None), "it may be anything");
        for sign in [
            "apiVersion: campos-operator.dev/v1\nkind: [\n",
            "apiVersion: camposoperator.dev/v1\n",
            "kind: App\n",
            "kind: app # ours\n",
            "{\"kind\": \"App\",\n",
            "  appId: x\n",
            "{\"spec\": {\"appId\" : 1}}",
            "a\0p\0p\0I\0d\0:\0",
        ] {
            assert!(!is_foreign(sign, Some("too large")), "{sign}");
            let beside = format!("apiVersion: apps/v1\nkind: Deployment\n{sign}");
            assert!(!is_foreign(&beside, None), "{beside}");
        }
    }
}
