//! Which apps were asked for? Filters by label and reason, and pages, as Kubernetes has them.

use serde::Serialize;
use serde_json::json;

use crate::reconcile::app::AppName;
use crate::reconcile::reason::Reason;
use crate::status::app::App;
use crate::status::{API_VERSION, Board};

/// What a query asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    labels: Vec<Requirement>,
    reasons: Vec<Reason>,
    limit: Option<usize>,
    after: Option<AppName>,
}

/// One requirement on an app's labels; all of them have to hold.
#[derive(Debug, PartialEq, Eq)]
enum Requirement {
    Equal(String, String),
    Unequal(String, String),
    Present(String),
    Absent(String),
}

impl Requirement {
    /// `key=value`, `key==value`, `key!=value`, `key` or `!key`.
    fn parse(text: &str) -> Result<Self, String> {
        let unequal = text.split_once("!=").map(|(key, value)| (key, value, false));
        let equal = || text.split_once("==").or_else(|| text.split_once('=')).map(|(key, value)| (key, value, true));
        let word = |text: &str| {
            let text = text.trim();
            let odd = text.chars().any(|c| c.is_whitespace() || c.is_control() || "()!=,".contains(c));
            if odd { Err(format!("{text:?} is no part of a label; expected key=value")) } else { Ok(text.to_owned()) }
        };
        let key = |text: &str| match word(text)? {
            key if key.is_empty() => Err("a label has no key; expected key=value".to_owned()),
            key => Ok(key),
        };
        match unequal.or_else(equal) {
            Some((name, value, true)) => Ok(Self::Equal(key(name)?, word(value)?)),
            Some((name, value, false)) => Ok(Self::Unequal(key(name)?, word(value)?)),
            None => match text.trim().strip_prefix('!') {
                Some(name) => Ok(Self::Absent(key(name)?)),
                None => Ok(Self::Present(key(text)?)),
            },
        }
    }

    fn holds(&self, app: &App) -> bool {
        let word = |key: &str| app.labels().and_then(|labels| labels.get(key));
        match self {
            Self::Equal(key, value) => word(key) == Some(value),
            Self::Unequal(key, value) => word(key) != Some(value),
            Self::Present(key) => word(key).is_some(),
            Self::Absent(key) => word(key).is_none(),
        }
    }
}

impl Query {
    /// Reads the parameters; what is unknown or unreadable is told, not passed over.
    pub(super) fn parse(parameters: &[(String, String)]) -> Result<Self, String> {
        let mut query = Self::default();
        for (name, value) in parameters {
            match name.as_str() {
                // Alone in its parameter the value is taken as it stands: a manifest's labels are free.
                "label" => match value.split_once('=') {
                    Some((key, value)) if !key.is_empty() => {
                        query.labels.push(Requirement::Equal(key.to_owned(), value.to_owned()));
                    }
                    _ => return Err(format!("label={value:?}: expected key=value")),
                },
                "labelSelector" => {
                    for part in value.split(',').filter(|part| !part.trim().is_empty()) {
                        query.labels.push(Requirement::parse(part)?);
                    }
                }
                "reason" => {
                    let known = Reason::ALL.into_iter().find(|reason| reason.as_str() == value);
                    query.reasons.push(known.ok_or_else(|| format!("reason={value:?}: not one of the closed list"))?);
                }
                "limit" => query.limit = limit(value)?,
                "continue" if value.is_empty() => query.after = None,
                "continue" => {
                    let unknown = |_| "continue: not a token of this list; begin again without".to_owned();
                    query.after = Some(value.parse().map_err(unknown)?);
                }
                other => {
                    let known = "label, labelSelector, reason, limit or continue";
                    return Err(format!("unknown parameter {other:?}; expected {known}"));
                }
            }
        }
        Ok(query)
    }

    /// The page of the list that is asked for, in chunks of about `size` bytes.
    ///
    /// Each app is read when its chunk is made, so that a client that reads slowly keeps no old state in memory.
    pub(super) fn chunks(
        self,
        board: &Board,
        version: u64,
        size: usize,
    ) -> impl FnMut() -> Option<Vec<u8>> + Send + 'static {
        let apps = self.after.as_ref().map_or_else(|| board.apps(), |after| board.apps_after(after));
        let mut names: Vec<AppName> = apps.iter().filter(|app| self.fits(app)).map(|app| app.name().clone()).collect();
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
                // It may have gone, or changed, since the request came.
                let Some(app) = board.app_named(&name).filter(|app| self.fits(app)) else { continue };
                let Ok(item) = serde_json::to_vec(&*app) else { continue };
                if !std::mem::take(&mut first) {
                    chunk.push(b',');
                }
                chunk.extend_from_slice(&item);
            }
            Some(std::mem::take(&mut chunk))
        }
    }

    fn fits(&self, app: &App) -> bool {
        self.labels.iter().all(|requirement| requirement.holds(app))
            && (self.reasons.is_empty() || self.reasons.contains(&app.reason()))
    }
}

/// `limit=`: a whole number; 0 is none, as in Kubernetes.
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
    /// The version of the list; `/api/v1/events` goes on from there.
    resource_version: String,
    /// What to ask for next; absent at the end.
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
    fn what_cannot_be_read_is_told() {
        case(&[("label", "a=b"), ("label", "c=d"), ("reason", "Settled"), ("limit", "10"), ("continue", "bot")], None);
        case(&[("labelSelector", "a=b,c==d, e!=f,g,!h")], None);
        case(&[("labelSelector", ""), ("limit", "0"), ("continue", "")], None);
        case(&[("label", "a")], Some("expected key=value"));
        case(&[("labelSelector", "a in (b)")], Some("no part of a label"));
        case(&[("label", "=b")], Some("expected key=value"));
        case(&[("labelSelector", "=b")], Some("no key"));
        case(&[("label", "odd.example/KEY=a b, c=d")], None);
        case(&[("reason", "settled")], Some("closed list"));
        case(&[("limit", "-1")], Some("whole number"));
        case(&[("limit", "+1")], Some("whole number"));
        case(&[("limit", "4294967296")], Some("whole number"));
        case(&[("continue", "No Name")], Some("begin again"));
        case(&[("lable", "a=b")], Some("unknown parameter"));
    }
}
