//! Activity: the history as one item for each change, with its results. Equal items in a row are combined.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::history::{Answer, Entry, State, Trigger};
use crate::reconcile::moment::human_duration;

/// A change of one app, and the decisions and calls that followed from it. Missing fields get default values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ActivityItem {
    /// Time of the first entry of the newest repetition.
    pub time: Timestamp,
    /// Time of the first entry, repetitions included.
    pub since: Timestamp,
    /// Time of the last entry, repetitions included.
    pub ended_at: Timestamp,
    /// Null for an item about the whole account.
    pub app: Option<Arc<str>>,
    pub app_id: Option<Arc<str>>,
    pub trigger: Cow<'static, str>,
    pub revision: Arc<str>,
    /// State before the first entry.
    pub before: State,
    /// State after the last entry.
    pub after: State,
    /// The last call.
    pub action: Option<Cow<'static, str>>,
    /// The last answer.
    pub answer: Option<Answer>,
    /// Number of answered calls.
    pub calls: u32,
    /// Number of failed calls among `calls`.
    pub failed_calls: u32,
    /// Number of equal items in a row; 1 without a repetition.
    pub times: u32,
    /// The item as text: `stopped after 2 s`.
    pub words: String,
}

impl ActivityItem {
    fn of(entry: &Entry) -> Self {
        let mut item = Self {
            time: entry.time,
            since: entry.time,
            ended_at: entry.time,
            app: entry.app.clone(),
            app_id: entry.app_id.clone(),
            trigger: entry.trigger.as_str().into(),
            revision: entry.revision.clone(),
            before: entry.before.clone(),
            after: State::default(),
            action: None,
            answer: None,
            calls: 0,
            failed_calls: 0,
            times: 1,
            words: String::new(),
        };
        item.add(entry);
        item
    }

    fn add(&mut self, entry: &Entry) {
        self.ended_at = entry.time;
        self.after = entry.after.clone();
        if let Some(answer) = entry.answer.as_ref().filter(|_| entry.action.is_some()) {
            self.calls += 1;
            self.failed_calls += u32::from(answer.result != "Accepted");
            self.action.clone_from(&entry.action);
        }
        if entry.answer.is_some() {
            self.answer.clone_from(&entry.answer);
        }
    }

    /// Returns whether the entry belongs to this item. The decisions until the answer to a call have the cause of the
    /// call.
    fn contains(&self, entry: &Entry) -> bool {
        let begins = matches!(entry.trigger, Trigger::Edit | Trigger::Start | Trigger::Transition | Trigger::Drift);
        let is_over = self.after.reason.as_deref().is_none_or(|reason| ["Settled", "Suspended"].contains(&reason));
        let has_same_cause = self.trigger == entry.trigger.as_str()
            && self.revision == entry.revision
            && self.after.desired == entry.after.desired;
        self.app.is_some() && !is_over && (!begins || has_same_cause)
    }

    /// Returns whether `next` repeats this item. Two starts of the operator stay two items.
    fn is_repeated_by(&self, next: &Self) -> bool {
        let result = |item: &Self| item.answer.as_ref().map(|answer| (answer.result.clone(), answer.http_status));
        let key = |item: &Self| {
            (item.trigger.clone(), item.before.clone(), item.after.clone(), item.action.clone(), result(item))
        };
        self.trigger != Trigger::Start.as_str() && key(self) == key(next)
    }

    fn describe(&self) -> String {
        let took = Duration::try_from(self.ended_at.duration_since(self.since)).unwrap_or_default();
        let over = if took.as_secs() > 0 { format!(" over {}", human_duration(took)) } else { String::new() };
        let text = |text: &Option<Cow<'static, str>>| text.as_deref().unwrap_or_default().to_owned();
        let (before, after) = (text(&self.before.reason), text(&self.after.reason));
        let answer = self.answer.as_ref();
        let error = answer.and_then(|answer| answer.error.as_deref());
        if self.times > 1 {
            let once = Self { times: 1, ended_at: self.since, ..self.clone() }.describe();
            return format!("{once} (x{}{over})", self.times);
        }
        let Some(action) = self.action.as_deref() else {
            let change = match (before.is_empty(), after.is_empty()) {
                (_, true) => "released: no manifest declares it".to_owned(),
                (false, false) if before != after => format!("{before} -> {after}"),
                (_, false) => after,
            };
            return error.map_or(change.clone(), |error| format!("{change}: {error}"));
        };
        let done = match action {
            "stop" => "stopped",
            "start" => "started",
            "restart" => "restarted",
            other => other,
        };
        let failed = match self.failed_calls {
            0 => String::new(),
            1 => ", 1 failed call".to_owned(),
            many => format!(", {many} failed calls"),
        };
        let code =
            answer.and_then(|answer| answer.http_status).map(|code| format!(" (HTTP {code})")).unwrap_or_default();
        if after == "Settled" {
            let wait = if took.as_secs() > 0 { format!(" after {}", human_duration(took)) } else { String::new() };
            format!("{done}{wait}{failed}")
        } else if self.failed_calls < self.calls {
            format!("{action} accepted{code}: {after}{failed}")
        } else {
            let many = if self.calls > 1 { format!(" x{}{over}", self.calls) } else { String::new() };
            let error = error.map(|error| format!(": {}", brief(error))).unwrap_or_default();
            format!("{action} failed{many}{code}{error}")
        }
    }
}

/// An error without the part that repeats the call and the HTTP status.
fn brief(error: &str) -> &str {
    let rest = error.split_once("the server answered ").and_then(|(_, answer)| answer.split_once(": "));
    rest.map_or(error, |(_, rest)| rest)
}

/// Combines entries into items. Both are in the order newest first.
pub fn combine(entries: &[Arc<Entry>]) -> Vec<ActivityItem> {
    let mut items: Vec<ActivityItem> = Vec::new();
    // The newest item of each app.
    let mut last: HashMap<Option<Arc<str>>, usize> = HashMap::new();
    for entry in entries.iter().rev() {
        match last.get(&entry.app).map(|at| &mut items[*at]) {
            Some(item) if item.contains(entry) => item.add(entry),
            Some(_) | None => {
                last.insert(entry.app.clone(), items.len());
                items.push(ActivityItem::of(entry));
            }
        }
    }
    let mut folded: Vec<ActivityItem> = Vec::new();
    // The two newest items of each app: a schedule alternates stops and starts.
    let mut newest: HashMap<Option<Arc<str>>, [usize; 2]> = HashMap::new();
    for item in items {
        let known = newest.get(&item.app).copied();
        let is_scheduled = item.trigger == Trigger::Transition.as_str();
        let candidates = known.into_iter().flatten().take(if is_scheduled { 2 } else { 1 });
        let before = candidates.into_iter().find(|at| folded[*at].is_repeated_by(&item));
        let at = if let Some(at) = before {
            let before = &mut folded[at];
            *before = ActivityItem { since: before.since, times: before.times + 1, ..item };
            at
        } else {
            folded.push(item);
            folded.len() - 1
        };
        let [first, second] = known.unwrap_or([at; 2]);
        newest.insert(folded[at].app.clone(), [at, if first == at { second } else { first }]);
    }
    for item in &mut folded {
        item.words = item.describe();
    }
    folded.reverse();
    folded.sort_by_key(|item| std::cmp::Reverse(item.time));
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry of `bot`; `answer`: action, result and HTTP status.
    fn entry(
        at: &str,
        trigger: Trigger,
        reasons: (&str, &str),
        answer: Option<(&'static str, &'static str, u16)>,
    ) -> Arc<Entry> {
        let state = |reason: &str| State {
            desired: Some("Stopped".into()),
            observed: Some("Running".into()),
            reason: (!reason.is_empty()).then(|| reason.to_owned().into()),
        };
        let error = |result: &str| (result != "Accepted").then(|| "the server is busy".into());
        Arc::new(Entry {
            time: format!("2026-11-24T{at}Z").parse().unwrap(),
            app: Some("bot".into()),
            app_id: Some("1".into()),
            trigger,
            revision: "9f2c41d".into(),
            before: state(reasons.0),
            after: state(reasons.1),
            action: answer.map(|(action, ..)| action.into()),
            answer: answer.map(|(_, result, code)| Answer {
                result: result.into(),
                http_status: Some(code),
                status: None,
                online: None,
                error: error(result),
            }),
        })
    }

    fn words_of(entries: &[Arc<Entry>]) -> Vec<String> {
        let newest_first: Vec<_> = entries.iter().rev().cloned().collect();
        combine(&newest_first).iter().map(|item| format!("{}: {}", item.trigger, item.words)).collect()
    }

    const STOP: Option<(&str, &str, u16)> = Some(("stop", "Accepted", 200));
    const FAILED: Option<(&str, &str, u16)> = Some(("stop", "Retry", 500));

    #[test]
    fn an_edit_and_all_that_follows_is_one_story() {
        let entries = [
            entry("12:00:00", Trigger::Edit, ("Settled", "Drifted"), None),
            entry("12:00:00", Trigger::Answer, ("Drifted", "Stopping"), STOP),
            entry("12:00:02", Trigger::Observation, ("Stopping", "Settled"), None),
        ];
        assert_eq!(words_of(&entries), ["Edit: stopped after 2 s"]);
        assert_eq!(words_of(&entries[..2]), ["Edit: stop accepted (HTTP 200): Stopping"]);
        assert_eq!(words_of(&entries[..1]), ["Edit: Settled -> Drifted"]);
    }

    #[test]
    fn decisions_before_the_answer_have_the_cause_of_the_story() {
        let entries = [
            entry("12:00:00", Trigger::Drift, ("Settled", "Drifted"), None),
            entry("12:00:00", Trigger::Drift, ("Drifted", "Stopping"), None),
            entry("12:00:00", Trigger::Answer, ("Stopping", "Stopping"), STOP),
            entry("12:00:02", Trigger::Observation, ("Stopping", "Settled"), None),
        ];
        assert_eq!(words_of(&entries), ["Drift: stopped after 2 s"]);
        assert_eq!(brief("could not stop app x: the server answered 500: busy"), "busy");
        assert_eq!(brief("could not stop app x: connection refused"), "could not stop app x: connection refused");
    }

    #[test]
    fn failed_calls_are_counted_in_their_story() {
        let entries = [
            entry("12:00:00", Trigger::Edit, ("Settled", "Drifted"), None),
            entry("12:00:00", Trigger::Answer, ("Drifted", "BackingOff"), FAILED),
            entry("12:00:30", Trigger::Answer, ("BackingOff", "BackingOff"), FAILED),
            entry("12:02:00", Trigger::Answer, ("BackingOff", "BackingOff"), FAILED),
            entry("12:03:00", Trigger::Answer, ("BackingOff", "Stopping"), STOP),
            entry("12:03:04", Trigger::Observation, ("Stopping", "Settled"), None),
        ];
        assert_eq!(words_of(&entries[..4]), ["Edit: stop failed x3 over 2 min (HTTP 500): the server is busy"]);
        assert_eq!(words_of(&entries), ["Edit: stopped after 3 min 4 s, 3 failed calls"]);
    }

    #[test]
    fn repetitions_are_folded() {
        let drift = |minute: u8| {
            [
                entry(&format!("12:0{minute}:00"), Trigger::Drift, ("Settled", "Drifted"), None),
                entry(&format!("12:0{minute}:01"), Trigger::Answer, ("Drifted", "Stopping"), STOP),
                entry(&format!("12:0{minute}:03"), Trigger::Observation, ("Stopping", "Settled"), None),
            ]
        };
        let entries = [drift(0), drift(2), drift(4)].concat();
        assert_eq!(words_of(&entries), ["Drift: stopped (x3 over 4 min 3 s)"]);
    }

    #[test]
    fn a_schedule_that_stops_and_starts_in_turn_is_two_rows() {
        let turn =
            |minute: u8, reasons: (&str, &str)| entry(&format!("12:0{minute}:00"), Trigger::Transition, reasons, None);
        let (stop, start) = (("Settled", "Suspended"), ("Suspended", "Settled"));
        let entries = [turn(0, stop), turn(1, start), turn(2, stop), turn(3, start), turn(4, stop)];
        let expected =
            ["Transition: Settled -> Suspended (x3 over 4 min)", "Transition: Suspended -> Settled (x2 over 2 min)"];
        assert_eq!(words_of(&entries), expected);
    }

    #[test]
    fn two_starts_are_two_rows_and_a_repetition_has_the_place_of_the_newest() {
        let drift = |minute: u8| entry(&format!("12:0{minute}:00"), Trigger::Drift, ("Settled", "Settled"), None);
        let mut other = entry("12:02:00", Trigger::Edit, ("Settled", "Suspended"), None);
        Arc::get_mut(&mut other).unwrap().app = Some("other".into());
        let start = |at: &str| entry(at, Trigger::Start, ("", "Settled"), None);
        let entries = [start("11:00:00"), start("11:30:00"), drift(1), other, drift(3)];
        let expected =
            ["Drift: Settled (x2 over 2 min)", "Edit: Settled -> Suspended", "Start: Settled", "Start: Settled"];
        assert_eq!(words_of(&entries), expected);
    }

    #[test]
    fn other_changes_are_stories_of_their_own() {
        let mut fixed = entry("12:05:00", Trigger::Edit, ("InvalidManifest", "Settled"), None);
        Arc::get_mut(&mut fixed).unwrap().revision = "1b2c3d4".into();
        let entries = [
            entry("11:00:00", Trigger::Start, ("", "Settled"), None),
            entry("12:00:00", Trigger::Edit, ("Settled", "InvalidManifest"), None),
            fixed,
            entry("12:06:00", Trigger::Edit, ("Settled", ""), None),
        ];
        let expected = [
            "Edit: released: no manifest declares it",
            "Edit: InvalidManifest -> Settled",
            "Edit: Settled -> InvalidManifest",
            "Start: Settled",
        ];
        assert_eq!(words_of(&entries), expected);
    }
}
