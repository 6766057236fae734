//! State of one app on the status board, and its published form.
//!
//! The board keeps an [`App`] for each of up to ten thousand apps: values, not texts, and parts that the rest of the
//! process shares. [`PublishedApp`] is its JSON form (`/openapi.json`). The daemon serializes it on request; the
//! commands that query a daemon deserialize it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use super::API_VERSION;
use crate::reconcile::app::AppName;
use crate::reconcile::condition::{Conditions, Truth};
use crate::reconcile::desired::{self, Declared, Suspension, Target};
use crate::reconcile::labels::Labels;
use crate::reconcile::reason::Reason;
use crate::reconcile::state::{Desired, Observed};
use crate::reconcile::{restart, schedule};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    pub declared: Arc<Declared>,
    /// Counts changes of the spec, from 1.
    pub generation: u64,
    /// Snapshot of the manifests of the last decision.
    pub revision: Arc<str>,
    /// `None` without a valid manifest.
    pub target: Option<Target>,
    /// `Unknown` if the last reading cannot be trusted.
    pub observed: Observed,
    pub observed_at: Option<Timestamp>,
    pub conditions: Conditions,
    /// Last transition of Ready, Reconciling and Stalled.
    pub last_transitions: [Timestamp; 3],
    pub message: Cow<'static, str>,
    pub last_action: Option<Arc<LastAction>>,
    /// Time of the next read of the app.
    pub next_look_at: Option<Timestamp>,
    /// Time of the next attempt after a failure or a pause.
    pub next_attempt_at: Option<Timestamp>,
    pub next_transition: Option<(Timestamp, Desired)>,
}

/// `status.lastAction`: the last call that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LastAction {
    pub action: Cow<'static, str>,
    pub at: Timestamp,
    /// Attempt number, from 1.
    pub attempt: u32,
    /// `InFlight`, `Accepted`, `Verified`, `NotEffective`, or the verdict on a failure.
    pub result: Cow<'static, str>,
    pub http_status: Option<u16>,
    /// `status` of the server's answer.
    pub returned_status: Option<Arc<str>>,
    /// `currentResourceMetrics.online` of the server's answer.
    pub returned_online: Option<bool>,
    pub error: Option<Arc<str>>,
}

/// Types of the three conditions, in the order in which they are published.
const KINDS: [&str; 3] = ["Ready", "Reconciling", "Stalled"];

fn truths(conditions: Conditions) -> [Truth; 3] {
    [conditions.ready, conditions.reconciling, conditions.stalled]
}

/// Returns the last transition of each condition. `lastTransitionTime` moves only when the condition's status does.
pub fn last_transitions(now: Conditions, before: Option<&App>, wall: Timestamp) -> [Timestamp; 3] {
    let mut since = [wall; 3];
    if let Some(before) = before {
        let (was, is) = (truths(before.conditions), truths(now));
        for (at, since) in since.iter_mut().enumerate() {
            if was[at] == is[at] {
                *since = before.last_transitions[at];
            }
        }
    }
    since
}

impl App {
    pub fn name(&self) -> &AppName {
        &self.declared.name
    }

    pub fn labels(&self) -> Option<&Labels> {
        self.declared.object.as_ref().map(|object| &object.labels)
    }

    /// Empty before the first valid manifest.
    pub fn app_id(&self) -> &str {
        self.declared.spec().map_or("", |spec| spec.app_id.as_str())
    }

    pub fn desired(&self) -> Option<&'static str> {
        self.target.map(|target| target.desired.as_str())
    }

    pub fn reason(&self) -> Reason {
        self.conditions.reason
    }

    pub fn suspended(&self) -> bool {
        self.target.is_some_and(|target| target.suspended)
    }

    /// Type and status of each condition.
    pub fn truths(&self) -> impl Iterator<Item = (&'static str, Truth)> {
        KINDS.into_iter().zip(truths(self.conditions))
    }

    /// The published form.
    pub fn published(&self) -> PublishedApp<'_> {
        let Self { declared, generation, .. } = self;
        let (object, spec) = (declared.object.as_deref(), declared.spec());
        let texts = |of: fn(&desired::Object) -> &Labels| {
            let texts = object.into_iter().flat_map(|object| of(object).iter());
            texts.map(|(key, value)| (key.into(), value.into())).collect()
        };
        let condition = |((kind, status), since): ((&'static str, Truth), Timestamp)| Condition {
            kind: kind.into(),
            status: status.as_str().into(),
            reason: self.conditions.reason.as_str().into(),
            message: (&*self.message).into(),
            last_transition_time: Some(since),
            observed_generation: *generation,
        };
        PublishedApp {
            api_version: API_VERSION.into(),
            kind: "App".into(),
            metadata: Metadata {
                name: declared.name.as_str().into(),
                labels: texts(|object| &object.labels),
                annotations: texts(|object| &object.annotations),
                generation: *generation,
            },
            spec: spec.map(Into::into),
            status: Status {
                observed_generation: *generation,
                revision: (&*self.revision).into(),
                source: Source { file: (&*declared.place.file).into(), line: declared.place.line },
                desired: self.desired().map(Into::into),
                desired_because: self.target.zip(spec).map(|(target, spec)| spec.explain(target)),
                observed: self.observed.as_str().into(),
                observed_at: self.observed_at,
                conditions: self.truths().zip(self.last_transitions).map(condition).collect(),
                group: self.conditions.group().as_str().into(),
                last_action: self.last_action.as_deref().map(Cow::Borrowed),
                next_look_at: self.next_look_at,
                next_attempt_at: self.next_attempt_at,
                next_transition: self.next_transition.map(|(at, to)| Transition { at, state: to.as_str().into() }),
                schedule: spec.and_then(|spec| {
                    Shared::of(spec.schedule.as_deref()?, self.observed_at.unwrap_or(Timestamp::UNIX_EPOCH))
                }),
            },
        }
    }
}

impl Serialize for App {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.published().serialize(serializer)
    }
}

/// One app of `/api/v1/apps/{name}`. Reading is tolerant: a newer daemon may send more fields, an older one fewer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PublishedApp<'a> {
    pub api_version: Cow<'a, str>,
    pub kind: Cow<'a, str>,
    pub metadata: Metadata<'a>,
    /// As in the manifest; absent before the first valid one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<Spec<'a>>,
    pub status: Status<'a>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata<'a> {
    pub name: Cow<'a, str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    pub generation: u64,
}

/// `spec`, spelled as in a manifest, so that an exported object can be applied again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec<'a> {
    pub app_id: Cow<'a, str>,
    pub state: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<Suspend<'a>>,
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    pub override_: Option<Override<'a>>,
    /// Written only: a schedule is read by the reader of manifests.
    #[serde(skip_serializing_if = "Option::is_none", skip_deserializing)]
    pub schedule: Option<Schedule<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule_ref: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart<'a>>,
}

impl<'a> From<&'a desired::Spec> for Spec<'a> {
    fn from(spec: &'a desired::Spec) -> Self {
        Self {
            app_id: spec.app_id.as_str().into(),
            state: spec.state.as_str().into(),
            policy: spec.policy.map(|policy| policy.as_str().into()),
            suspend: spec.suspend.as_ref().map(Into::into),
            override_: spec.override_.as_ref().map(Into::into),
            schedule: spec.schedule.as_deref().filter(|schedule| schedule.shared.is_none()).map(Into::into),
            schedule_ref: spec.shared().map(|shared| (*shared.name).into()),
            restart: spec.restart.as_deref().map(Into::into),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule<'a> {
    pub time_zone: &'a str,
    pub windows: Vec<Window<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Window<'a> {
    pub state: &'static str,
    /// `from` and `to` (and `days`), or `cron` and `duration`.
    #[serde(flatten)]
    pub when: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn: Option<String>,
}

/// The Schedule that `scheduleRef` names, as it is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shared<'a> {
    pub name: &'a str,
    /// Path below the manifest directory.
    pub file: &'a str,
    #[serde(flatten)]
    pub windows: Schedule<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<Except<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Except<'a> {
    pub calendar: &'a str,
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// The next ones.
    pub events: Vec<Event<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event<'a> {
    pub from: Timestamp,
    pub to: Timestamp,
    pub summary: &'a str,
}

/// Number of events of a calendar that are published for each app.
const EVENTS: usize = 20;

impl<'a> Shared<'a> {
    /// `None` for the windows of the app's own manifest. Events that ended before `after` are left out.
    fn of(schedule: &'a schedule::Schedule, after: Timestamp) -> Option<Self> {
        let schedule::Shared { name, file } = schedule.shared.as_ref()?;
        let event = |event: &'a schedule::Event| Event { from: event.from, to: event.to, summary: &event.summary };
        let except = |except: &'a schedule::Exception| Except {
            calendar: &except.calendar,
            state: except.state.as_str(),
            reason: except.reason.as_deref(),
            events: except.events().iter().filter(|event| event.to > after).take(EVENTS).map(event).collect(),
        };
        Some(Self { name, file, windows: schedule.into(), except: schedule.except.iter().map(except).collect() })
    }
}

impl<'a> From<&'a schedule::Schedule> for Schedule<'a> {
    fn from(schedule: &'a schedule::Schedule) -> Self {
        let window = |window: &'a schedule::Window| Window {
            state: window.state.as_str(),
            when: window.span.fields().into_iter().collect(),
            reason: window.reason.as_deref(),
            warn: window.warn.map(schedule::length),
        };
        Self { time_zone: &schedule.zone_name, windows: schedule.windows.iter().map(window).collect() }
    }
}

/// `spec.suspend`: `true`, or a reason and an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Suspend<'a> {
    Plain(bool),
    Detailed {
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
}

impl<'a> From<&'a Suspension> for Suspend<'a> {
    fn from(suspension: &'a Suspension) -> Self {
        match suspension {
            Suspension { reason: None, until: None } => Self::Plain(true),
            Suspension { reason, until } => Self::Detailed { reason: reason.as_deref().map(Into::into), until: *until },
        }
    }
}

/// `spec.override`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override<'a> {
    pub state: Cow<'a, str>,
    pub until: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Cow<'a, str>>,
}

impl<'a> From<&'a desired::Override> for Override<'a> {
    fn from(over: &'a desired::Override) -> Self {
        Self {
            state: over.state.as_str().into(),
            until: over.until,
            reason: over.reason.as_deref().map(Into::into),
            by: over.by.as_deref().map(Into::into),
        }
    }
}

/// `spec.restart`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restart<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub when_required: bool,
}

impl<'a> From<&'a restart::Restart> for Restart<'a> {
    fn from(restart: &'a restart::Restart) -> Self {
        Self {
            requested_at: restart.requested_at,
            cron: restart.cron.as_ref().map(|cron| cron.as_str().into()),
            when_required: restart.when_required,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status<'a> {
    /// Generation that the rest describes.
    pub observed_generation: u64,
    pub revision: Cow<'a, str>,
    pub source: Source<'a>,
    pub desired: Option<Cow<'a, str>>,
    /// Deciding part of the manifest: `state`, `suspend`, `override`, `window 2 (Fri 21:00-Mon 06:00)` or, from a
    /// Schedule, `schedule office, except 1 (holidays.ics: Christmas)`.
    pub desired_because: Option<String>,
    pub observed: Cow<'a, str>,
    pub observed_at: Option<Timestamp>,
    pub conditions: Vec<Condition<'a>>,
    /// `NeedsPerson`, `InTrouble`, `Unknown`, `InProgress`, `Held` or `Settled`.
    pub group: Cow<'a, str>,
    pub last_action: Option<Cow<'a, LastAction>>,
    pub next_look_at: Option<Timestamp>,
    pub next_attempt_at: Option<Timestamp>,
    pub next_transition: Option<Transition<'a>>,
    /// Written only: the reader of manifests reads it.
    #[serde(skip_serializing_if = "Option::is_none", skip_deserializing)]
    pub schedule: Option<Shared<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Source<'a> {
    /// Path below the manifest directory.
    pub file: Cow<'a, str>,
    /// Line of the document.
    pub line: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition<'a> {
    pub at: Timestamp,
    pub state: Cow<'a, str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition<'a> {
    #[serde(rename = "type")]
    pub kind: Cow<'a, str>,
    pub status: Cow<'a, str>,
    pub reason: Cow<'a, str>,
    pub message: Cow<'a, str>,
    pub last_transition_time: Option<Timestamp>,
    pub observed_generation: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client reads the published form with the types that write it, also with the words of a newer daemon.
    #[test]
    fn the_published_form_is_read_back() {
        let text = r#"{"apiVersion":"campos-operator.dev/v1","kind":"App",
            "metadata":{"name":"bot","labels":{"a":"b"},"generation":2},
            "spec":{"appId":"x","state":"Dozing","suspend":{"reason":"r","until":"2026-11-24T12:00:00Z"},"later":[1]},
            "status":{"observedGeneration":2,"desired":null,"desiredBecause":null,"observed":"Dreaming","conditions":[
            {"type":"Ready","status":"Maybe","reason":"Later","message":"m"}],"lastAction":{"action":"doze","attempt":1},
            "nextTransition":{"at":"2026-11-24T12:00:00Z","state":"Dozing"},"later":true}}"#;
        let shown: PublishedApp = serde_json::from_str(text).unwrap();
        assert_eq!((&*shown.status.observed, &*shown.status.conditions[0].status), ("Dreaming", "Maybe"));
        let again: PublishedApp<'static> = serde_json::from_value(serde_json::to_value(&shown).unwrap()).unwrap();
        assert_eq!(again, shown);
        assert_eq!(serde_json::from_str::<PublishedApp>("{}").unwrap(), PublishedApp::default());
    }
}
