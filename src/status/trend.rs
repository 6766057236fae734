//! The number of apps of each group over the last 24 hours, replayed from the history.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::API_VERSION;
use super::groups::Groups;
use super::history::{Entry, State, Trigger};
use crate::reconcile::group::Group;
use crate::reconcile::reason::Reason;

/// One sample each 15 minutes.
const STEP: SignedDuration = SignedDuration::from_mins(15);
const SAMPLES: usize = 96;
/// The time that the trend covers.
pub const SPAN: SignedDuration = SignedDuration::from_hours(24);

/// The part of an entry of the history that the trend needs.
#[derive(Debug, Clone)]
pub struct Change {
    pub time: Timestamp,
    app: Arc<str>,
    /// Whether it is the first change that a process recorded for the app.
    is_first: bool,
    before: Option<Group>,
    after: Option<Group>,
}

impl Change {
    /// `None` for an entry about the whole account.
    pub fn of(entry: &Entry) -> Option<Self> {
        let app = entry.app.clone()?;
        let is_first = entry.trigger == Trigger::Start && entry.before.reason.is_none();
        Some(Self { time: entry.time, app, is_first, before: group(&entry.before), after: group(&entry.after) })
    }
}

/// The groups of the apps at one moment of the replay.
struct Replay<'a> {
    apps: HashMap<&'a str, Group>,
    groups: Groups,
    /// Apps without entries, with their current group.
    constant: HashMap<&'a str, Group>,
}

impl<'a> Replay<'a> {
    fn set(&mut self, app: &'a str, group: Option<Group>) {
        let before = match group {
            Some(group) => self.apps.insert(app, group),
            None => self.apps.remove(app),
        };
        self.groups.moved(before, group);
    }

    /// Forgets the apps of an earlier process, which may have had other apps.
    fn restart(&mut self) {
        self.apps = HashMap::new();
        self.groups = Groups::default();
        for (app, group) in self.constant.clone() {
            self.set(app, Some(group));
        }
    }

    /// Returns whether `change` is the first of an app in a later process than the state so far.
    fn restarts_with(&self, change: &Change) -> bool {
        change.is_first && self.apps.contains_key(&*change.app)
    }
}

/// Largest number of apps of each group, and its time.
#[derive(Default)]
struct Peaks([(usize, Option<Timestamp>); Group::ALL.len()]);

impl Peaks {
    fn note(&mut self, groups: &Groups, at: Timestamp) {
        for group in Group::ALL {
            let peak = &mut self.0[group as usize];
            if groups.get(group) > peak.0 {
                *peak = (groups.get(group), Some(at));
            }
        }
    }

    fn json(&self) -> Value {
        let peak = |group: Group| {
            let (count, at) = self.0[group as usize];
            Some((group.field().to_owned(), json!({"count": count, "at": at?})))
        };
        Group::ALL.into_iter().filter_map(peak).collect::<Map<_, _>>().into()
    }
}

/// Returns the trend. `present` are the groups of the apps at `now`; `changes` are oldest first and complete since
/// `known_since`. Samples of a time without a process, and before `known_since`, are null.
pub fn trend<'a>(
    present: impl Iterator<Item = (&'a str, Group)>,
    changes: &'a [Change],
    known_since: Timestamp,
    now: Timestamp,
) -> Value {
    let present: HashMap<&str, Group> = present.collect();
    let mut first: HashMap<&str, Option<Group>> = HashMap::new();
    for change in changes {
        first.entry(&change.app).or_insert(change.before);
    }
    let mut constant = present.clone();
    constant.retain(|app, _| !first.contains_key(app));
    let mut replay = Replay { apps: HashMap::new(), groups: Groups::default(), constant };
    replay.restart();
    for (app, group) in first {
        replay.set(app, group);
    }
    let begin = now.checked_sub(SPAN).unwrap_or(Timestamp::MIN);
    let (mut peaks, mut samples) = (Peaks::default(), Vec::with_capacity(SAMPLES));
    let mut changes = changes.iter().peekable();
    let mut last = None;
    let mut at = begin;
    for _ in 0..SAMPLES {
        at = at.checked_add(STEP).unwrap_or(Timestamp::MAX);
        let mut is_known = at >= known_since;
        while let Some(change) = changes.next_if(|change| change.time <= at) {
            if replay.restarts_with(change) {
                // Between the last change of the earlier process and this one, no process may have run.
                let gap = samples.iter_mut().filter(|(sample, _)| last.is_some_and(|last| *sample > last));
                gap.for_each(|(_, apps)| *apps = None);
                replay.restart();
            }
            replay.set(&change.app, change.after);
            last = Some(change.time);
            if change.time >= begin {
                peaks.note(&replay.groups, change.time);
            }
            is_known = true;
        }
        samples.push((at, is_known.then_some(replay.groups)));
        if is_known {
            peaks.note(&replay.groups, at);
        }
    }
    // The last sample is the current state, not the replay.
    if let Some(sample) = samples.last_mut() {
        let mut groups = Groups::default();
        for group in present.values() {
            groups.moved(None, Some(*group));
        }
        peaks.note(&groups, now);
        *sample = (now, Some(groups));
    }
    let items: Vec<Value> = samples.into_iter().map(|(at, apps)| json!({"at": at, "apps": apps})).collect();
    json!({
        "apiVersion": API_VERSION, "kind": "Trend", "knownSince": known_since, "items": items, "peaks": peaks.json(),
    })
}

/// Returns the group of a state; `None` before the first decision.
fn group(state: &State) -> Option<Group> {
    let group = state.reason.as_deref()?.parse::<Reason>().map_or(Group::Unknown, Reason::group);
    // A held app in its desired state is settled.
    let is_settled = group == Group::Held && state.desired.is_some() && state.desired == state.observed;
    Some(if is_settled { Group::Settled } else { group })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-24T12:00:00Z";

    fn entry(app: &str, at: &str, trigger: Trigger, before: Option<&str>, after: Option<&str>) -> Arc<Entry> {
        let state =
            |reason: Option<&str>| State { reason: reason.map(|reason| reason.to_owned().into()), ..State::default() };
        Arc::new(Entry {
            time: format!("2026-11-24T{at}Z").parse().unwrap(),
            app: Some(app.into()),
            app_id: None,
            trigger,
            revision: "r".into(),
            before: state(before),
            after: state(after),
            action: None,
            answer: None,
        })
    }

    /// The trend of apps that are settled now; `entries` are oldest first.
    fn of(apps: &[&'static str], entries: &[Arc<Entry>], known_since: &str) -> Value {
        let changes: Vec<_> = entries.iter().filter_map(|entry| Change::of(entry)).collect();
        let present = apps.iter().map(|app| (*app, Group::Settled));
        let known_since = format!("2026-11-24T{known_since}Z").parse().unwrap();
        trend(present, &changes, known_since, NOW.parse().unwrap())
    }

    /// The last samples, newest first, as `settled/in progress`, or `-`.
    fn last(trend: &Value, count: usize) -> Vec<String> {
        let items = trend["items"].as_array().unwrap().iter().rev().take(count);
        let words = items.map(|item| match item["apps"].as_object() {
            Some(apps) => format!("{}/{}", apps["settled"], apps["inProgress"]),
            None => "-".into(),
        });
        words.collect()
    }

    #[test]
    fn the_past_follows_from_the_history() {
        let entries = [
            entry("bot", "11:10:00", Trigger::Edit, None, Some("Settled")),
            entry("bot", "11:40:00", Trigger::Edit, Some("Settled"), Some("Stopping")),
            entry("bot", "11:50:00", Trigger::Observation, Some("Stopping"), Some("Settled")),
        ];
        let trend = of(&["bot", "other"], &entries, "11:00:00");
        assert_eq!(last(&trend, 6), ["2/0", "1/1", "2/0", "2/0", "1/0", "-"]);
        assert_eq!(trend["items"].as_array().unwrap().len(), SAMPLES);
    }

    #[test]
    fn a_peak_between_two_samples_is_found() {
        let entries = [
            entry("bot", "11:31:00", Trigger::Edit, Some("Settled"), Some("Stopping")),
            entry("bot", "11:32:00", Trigger::Observation, Some("Stopping"), Some("Settled")),
        ];
        let trend = of(&["bot"], &entries, "11:00:00");
        assert_eq!(trend["peaks"]["inProgress"], json!({"count": 1, "at": "2026-11-24T11:31:00Z"}));
        assert_eq!(trend["peaks"].get("inTrouble"), None);
    }

    #[test]
    fn a_restart_hides_no_app_and_the_time_without_a_process_is_unknown() {
        let entries = [
            entry("bot", "10:50:00", Trigger::Start, None, Some("Settled")),
            entry("gone", "10:50:00", Trigger::Start, None, Some("Settled")),
            entry("bot", "11:05:00", Trigger::Edit, Some("Settled"), Some("Stopping")),
            entry("bot", "11:06:00", Trigger::Observation, Some("Stopping"), Some("Settled")),
            // Another process, without `gone`.
            entry("bot", "11:50:00", Trigger::Start, None, Some("Settled")),
        ];
        let trend = of(&["bot"], &entries, "10:50:00");
        assert_eq!(last(&trend, 6), ["1/0", "-", "-", "-", "2/0", "-"]);
    }
}
