//! Documents that are not ours: another kind of object, or a file of another tool among the manifests.
//!
//! A foreign document is reported once and has no other effect. In doubt a document is ours: then it is an invalid
//! manifest, and the last good spec stays in force.

use super::diagnostic::nearest;
use super::reader::quoted;
use super::schema::{API_VERSION, KIND, KINDS};
use super::yaml::{Node, Value};

/// A document that is no manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Foreign {
    /// Its kind, for people.
    pub(super) what: String,
    /// Whether it has the `apiVersion` and the `kind` of another API. Otherwise it may be the rest of a manifest, if its
    /// place held one before.
    pub(super) complete: bool,
}

/// Returns the description of a document that is not ours; `None` if it is ours, or a near miss.
pub(super) fn foreign(root: &Node) -> Option<Foreign> {
    let (version, kind) = (word(root, "apiVersion"), word(root, "kind"));
    let has_app_id = root.get("spec").is_some_and(|spec| spec.get("appId").is_some());
    match &root.value {
        Value::Map(_) if has_app_id => return None,
        Value::List(items)
            if items.iter().any(|item| matches!(item.value, Value::Map(_)) && foreign(item).is_none()) =>
        {
            return None;
        }
        Value::Map(_) | Value::List(_) | Value::Scalar { .. } => {}
    }
    let what = match (version, kind) {
        (Some(version), Some(kind)) if is_ours(version, kind) => return None,
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
    Some(Foreign { what, complete: version.is_some() && kind.is_some() })
}

/// Whether one of a complete pair is ours, or nearly.
fn is_ours(version: &str, kind: &str) -> bool {
    // Other operators have a kind App in a group of their own.
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
        Value::Scalar { text, .. } if !text.trim().is_empty() => Some(text),
        Value::Scalar { .. } | Value::List(_) | Value::Map(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::yaml;

    #[track_caller]
    fn case(text: &str, expected: Option<bool>) {
        let root = yaml::parse(text, 1).unwrap().unwrap().root;
        assert_eq!(foreign(&root).map(|foreign| foreign.complete), expected, "{text}");
    }

    #[test]
    fn other_apis_are_foreign() {
        case("{apiVersion: kustomize.config.k8s.io/v1beta1, kind: Kustomization}", Some(true));
        case("{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {}}", Some(true));
        case("{apiVersion: kappctrl.k14s.io/v1alpha1, kind: App, spec: {}}", Some(true));
        case("{apiVersion: v1, kind: ConfigMap}", Some(true));
    }

    #[test]
    fn files_of_other_tools_are_foreign() {
        case("{services: {db: {image: postgres}}}", Some(false));
        case("{apiVersion: v2, name: chart, version: 0.1.0}", Some(false));
        case("{name: x, version: 1.0.0}", Some(false));
        case("[{hosts: all}]", Some(false));
        case("only text", Some(false));
    }

    #[test]
    fn near_misses_are_ours() {
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
}
