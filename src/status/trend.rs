//! The number of apps of each group over the last 24 hours, computed backwards from the history.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::history::{Entry, State};
use super::{API_VERSION, Groups};
use crate::reconcile::group::Group;
use crate::reconcile::reason::Reason;

/// One sample each 15 minutes.
const STEP: SignedDuration = SignedDuration::from_mins(15);
const SAMPLES: usize = 96;

/// Returns the trend. `entries` are newest first and complete since `known_since`; earlier samples are null.
pub fn trend(mut groups: Groups, entries: &[Arc<Entry>], known_since: Timestamp, now: Timestamp) -> Value {
    let mut samples = Vec::with_capacity(SAMPLES);
    let mut entries = entries.iter().peekable();
    let mut at = now;
    for _ in 0..SAMPLES {
        while let Some(entry) = entries.next_if(|entry| entry.time > at) {
            if entry.app.is_some() {
                groups.moved_back(group(&entry.after), group(&entry.before));
            }
        }
        samples.push(json!({"at": at, "apps": (at >= known_since).then_some(groups)}));
        at = at.checked_sub(STEP).unwrap_or(Timestamp::MIN);
    }
    samples.reverse();
    json!({"apiVersion": API_VERSION, "kind": "Trend", "knownSince": known_since, "items": samples})
}

/// The group of a state; `None` before the first decision.
fn group(state: &State) -> Option<Group> {
    let reason = state.reason.as_deref()?;
    Some(reason.parse::<Reason>().map_or(Group::Unknown, Reason::group))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::history::Trigger;

    fn entry(at: &str, before: Option<&str>, after: Option<&str>) -> Arc<Entry> {
        let state =
            |reason: Option<&str>| State { reason: reason.map(|reason| reason.to_owned().into()), ..State::default() };
        Arc::new(Entry {
            time: at.parse().unwrap(),
            app: Some("bot".into()),
            app_id: None,
            trigger: Trigger::Timer,
            revision: "r".into(),
            before: state(before),
            after: state(after),
            action: None,
            answer: None,
        })
    }

    #[test]
    fn the_past_follows_from_the_present_and_the_history() {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        let entries = [
            entry("2026-11-24T11:50:00Z", Some("Stopping"), Some("Settled")),
            entry("2026-11-24T11:40:00Z", Some("Settled"), Some("Stopping")),
            entry("2026-11-24T11:10:00Z", None, Some("Settled")),
        ];
        let mut groups = Groups::default();
        groups.moved(None, Some(Group::Settled));
        let trend = trend(groups, &entries, "2026-11-24T11:00:00Z".parse().unwrap(), now);
        let last: Vec<_> = trend["items"].as_array().unwrap().iter().rev().take(6).collect();
        let count = |sample: &Value| {
            sample["apps"].as_object().map(|apps| (apps["settled"].clone(), apps["inProgress"].clone()))
        };
        let expected = [(1, 0), (0, 1), (1, 0), (1, 0), (0, 0)].map(|(a, b)| Some((a.into(), b.into())));
        assert_eq!(last.iter().map(|sample| count(sample)).collect::<Vec<_>>(), [&expected[..], &[None]].concat());
        assert_eq!(trend["items"].as_array().unwrap().len(), 96);
    }
}
