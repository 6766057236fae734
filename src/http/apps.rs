//! Query of `/api/v1/apps`: filters by label, reason and group, and pages, as in Kubernetes.

use serde::Serialize;
use serde_json::json;

use crate::reconcile::app::AppName;
use crate::reconcile::group::Group;
use crate::reconcile::labels::Selector;
use crate::reconcile::reason::Reason;
use crate::status::app::App;
use crate::status::{API_VERSION, Board};

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    labels: Vec<Selector>,
    reasons: Vec<Reason>,
    groups: Vec<Group>,
    limit: Option<usize>,
    after: Option<AppName>,
}

impl Query {
    /// Reads the parameters. An unknown or unreadable one is an error.
    pub(super) fn parse(parameters: &[(String, String)]) -> Result<Self, String> {
        let mut query = Self::default();
        for (name, value) in parameters {
            match name.as_str() {
                // The value may hold any character, as in a manifest.
                "label" => match value.split_once('=') {
                    Some((key, value)) if !key.is_empty() => {
                        query.labels.push(Selector::Equal(key.to_owned(), value.to_owned()));
                    }
                    _ => return Err(format!("label={value:?}: expected key=value")),
                },
                "labelSelector" => {
                    for part in value.split(',').filter(|part| !part.trim().is_empty()) {
                        query.labels.push(part.parse()?);
                    }
                }
                "reason" => {
                    let unknown = |_| format!("reason={value:?}: not one of the closed list");
                    query.reasons.push(value.parse().map_err(unknown)?);
                }
                "group" => {
                    let unknown = |_| format!("group={value:?}: expected {}", Group::ALL.map(Group::as_str).join(", "));
                    query.groups.push(value.parse().map_err(unknown)?);
                }
                "limit" => query.limit = limit(value)?,
                "continue" if value.is_empty() => query.after = None,
                "continue" => {
                    let unknown = |_| "continue: not a token of this list; start again without it".to_owned();
                    query.after = Some(value.parse().map_err(unknown)?);
                }
                other => {
                    let known = "label, labelSelector, reason, group, limit or continue";
                    return Err(format!("unknown parameter {other:?}; expected {known}"));
                }
            }
        }
        Ok(query)
    }

    /// The requested page of the list, in chunks of about `size` bytes.
    ///
    /// Each app is read from the board when its chunk is made, so that a slow client keeps no old state in memory.
    pub(super) fn chunks(
        self,
        board: &Board,
        version: u64,
        size: usize,
    ) -> impl FnMut() -> Option<Vec<u8>> + Send + 'static {
        let apps = self.after.as_ref().map_or_else(|| board.apps(), |after| board.apps_after(after));
        let mut names: Vec<AppName> =
            apps.iter().filter(|app| self.matches(app)).map(|app| app.name().clone()).collect();
        let rest = self.limit.map_or(0, |limit| names.len().saturating_sub(limit));
        names.truncate(names.len() - rest);
        let r#continue = names.last().filter(|_| rest > 0).map(|last| last.as_str().to_owned());
        let remaining_item_count = (rest > 0).then_some(rest);
        let metadata = ListMetadata { resource_version: version.to_string(), r#continue, remaining_item_count };
        let metadata = json!(metadata);
        let head = format!(r#"{{"apiVersion":"{API_VERSION}","kind":"AppList","metadata":{metadata},"items":["#);
        let mut chunk = head.into_bytes();
        let (board, mut names, mut first, mut done) = (board.clone(), names.into_iter(), true, false);
        move || {
            if done {
                return None;
            }
            while chunk.len() < size {
                let Some(name) = names.next() else {
                    done = true;
                    chunk.extend_from_slice(b"]}");
                    break;
                };
                // The app may have changed or gone since the request arrived.
                let Some(app) = board.app_by_name(&name).filter(|app| self.matches(app)) else { continue };
                let Ok(item) = serde_json::to_vec(&*app) else { continue };
                if !std::mem::take(&mut first) {
                    chunk.push(b',');
                }
                chunk.extend_from_slice(&item);
            }
            Some(std::mem::take(&mut chunk))
        }
    }

    fn matches(&self, app: &App) -> bool {
        self.labels.iter().all(|selector| selector.matches(|key| app.labels()?.get(key)))
            && (self.reasons.is_empty() || self.reasons.contains(&app.reason()))
            && (self.groups.is_empty() || self.groups.contains(&app.conditions.group()))
    }
}

/// Reads `limit=`. 0 means no limit, as in Kubernetes.
pub(super) fn limit(value: &str) -> Result<Option<usize>, String> {
    let wrong = || format!("limit={value:?}: expected a whole number, at most {}", u32::MAX);
    if !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let limit: u32 = value.parse().map_err(|_| wrong())?;
    Ok(usize::try_from(limit).ok().filter(|limit| *limit > 0))
}

/// The metadata of a Kubernetes list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    /// The version from which `/api/v1/events` continues.
    resource_version: String,
    /// Token of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    r#continue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining_item_count: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(parameters: &[(&str, &str)], problem: Option<&str>) {
        let owned: Vec<_> = parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let said = Query::parse(&owned).err();
        match problem {
            None => assert_eq!(said, None, "{parameters:?}"),
            Some(part) => assert!(said.as_deref().is_some_and(|said| said.contains(part)), "{said:?}"),
        }
    }

    #[test]
    fn unreadable_parameters_are_errors() {
        case(&[("label", "a=b"), ("label", "c=d"), ("reason", "Settled"), ("limit", "10"), ("continue", "bot")], None);
        case(&[("labelSelector", "a=b,c==d, e!=f,g,!h")], None);
        case(&[("labelSelector", ""), ("limit", "0"), ("continue", "")], None);
        case(&[("label", "a")], Some("expected key=value"));
        case(&[("labelSelector", "a in (b)")], Some("not a label key"));
        case(&[("label", "=b")], Some("expected key=value"));
        case(&[("labelSelector", "=b")], Some("not a label key"));
        case(&[("label", "odd.example/KEY=a b, c=d")], None);
        case(&[("reason", "settled")], Some("closed list"));
        case(&[("group", "Settled"), ("group", "NeedsPerson")], None);
        case(&[("group", "settled")], Some("NeedsPerson, InTrouble"));
        case(&[("limit", "-1")], Some("whole number"));
        case(&[("limit", "+1")], Some("whole number"));
        case(&[("limit", "4294967296")], Some("whole number"));
        case(&[("continue", "No Name")], Some("start again"));
        case(&[("lable", "a=b")], Some("unknown parameter"));
    }
}
