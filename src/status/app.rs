//! What is known of one app, and how is that told?
//!
//! [`App`] is what is kept of each of ten thousand apps: it shares with the rest of the process what never changes and
//! keeps values, not texts. [`Shown`] is the shape of design section 7, made when somebody asks, and serialised as it
//! stands.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::API_VERSION;
use crate::reconcile::app::AppName;
use crate::reconcile::condition::{Conditions, Truth};
use crate::reconcile::desired::{self, Declared, Policy, Suspension, Target};
use crate::reconcile::labels::Labels;
use crate::reconcile::reason::Reason;
use crate::reconcile::schedule;
use crate::reconcile::state::Desired;
use crate::reconcile::state::Observed;

/// One app, as the board keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// As in the manifests.
    pub declared: Arc<Declared>,
    /// Counts changes of the spec, from 1.
    pub generation: u64,
    /// The snapshot of the manifests that it was last decided from.
    pub revision: Arc<str>,
    /// What is asked of it; absent where nothing can be told.
    pub target: Option<Target>,
    /// What was seen last, as far as it is to be trusted.
    pub observed: Observed,
    /// When that arrived.
    pub observed_at: Option<Timestamp>,
    /// Ready, Reconciling and Stalled.
    pub conditions: Conditions,
    /// When each of the three changed last.
    pub since: [Timestamp; 3],
    /// Their reason for a person.
    pub message: Cow<'static, str>,
    /// The last stop or start that was tried.
    pub last_action: Option<Arc<LastAction>>,
    /// When it is looked at again.
    pub next_look_at: Option<Timestamp>,
    /// When what is asked changes by itself, and to what.
    pub next_transition: Option<(Timestamp, Desired)>,
}

/// `status.lastAction`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastAction {
    /// `stop` or `start`.
    pub action: &'static str,
    /// When it was sent.
    pub at: Timestamp,
    /// The how-manieth try.
    pub attempt: u32,
    /// `InFlight`, `Accepted`, `Verified`, `NotEffective`, or the verdict on a failure.
    pub result: &'static str,
    /// The answer's HTTP status.
    pub http_status: Option<u16>,
    /// The word that the server returned in `status`.
    pub returned_status: Option<Arc<str>>,
    /// The flag that it returned in `currentResourceMetrics.online`.
    pub returned_online: Option<bool>,
    /// What failed.
    pub error: Option<Arc<str>>,
}

/// The types of the three conditions, in the order in which they are shown.
const KINDS: [&str; 3] = ["Ready", "Reconciling", "Stalled"];

fn truths(conditions: Conditions) -> [Truth; 3] {
    [conditions.ready, conditions.reconciling, conditions.stalled]
}

/// When each condition changed last: `lastTransitionTime` moves only where a condition's status does.
pub fn since(now: Conditions, before: Option<&App>, wall: Timestamp) -> [Timestamp; 3] {
    let mut since = [wall; 3];
    if let Some(before) = before {
        let (was, is) = (truths(before.conditions), truths(now));
        for (at, since) in since.iter_mut().enumerate() {
            if was[at] == is[at] {
                *since = before.since[at];
            }
        }
    }
    since
}

impl App {
    /// The object's name.
    pub fn name(&self) -> &AppName {
        &self.declared.name
    }

    /// Its labels.
    pub fn labels(&self) -> Option<&Labels> {
        self.declared.object.as_ref().map(|object| &object.labels)
    }

    /// The app on the platform; empty where no good manifest was ever seen.
    pub fn app_id(&self) -> &str {
        self.declared.spec().map_or("", |spec| spec.app_id.as_str())
    }

    /// `Running` or `Stopped`; absent where nothing can be told.
    pub fn desired(&self) -> Option<&'static str> {
        self.target.map(|target| target.desired.as_str())
    }

    /// The reason of its conditions.
    pub fn reason(&self) -> Reason {
        self.conditions.reason
    }

    /// Whether its manifest suspends it at present.
    pub fn suspended(&self) -> bool {
        self.target.is_some_and(|target| target.suspended)
    }

    /// Type and status of each condition.
    pub fn truths(&self) -> impl Iterator<Item = (&'static str, Truth)> {
        KINDS.into_iter().zip(truths(self.conditions))
    }

    /// As it is told.
    pub fn shown(&self) -> Shown<'_> {
        let Self { declared, generation, .. } = self;
        let (object, spec) = (declared.object.as_deref(), declared.spec());
        let words =
            |of: fn(&desired::Object) -> &Labels| object.map(|object| of(object).iter().collect()).unwrap_or_default();
        let condition = |((kind, status), since): ((&'static str, Truth), Timestamp)| Condition {
            kind,
            status,
            reason: self.conditions.reason,
            message: &self.message,
            last_transition_time: since,
            observed_generation: *generation,
        };
        Shown {
            api_version: API_VERSION,
            kind: "App",
            metadata: Metadata {
                name: declared.name.as_str(),
                labels: words(|object| &object.labels),
                annotations: words(|object| &object.annotations),
                generation: *generation,
            },
            spec: spec.map(Into::into),
            status: Status {
                observed_generation: *generation,
                revision: &self.revision,
                source: Source { file: &declared.place.file, line: declared.place.line },
                desired: self.desired(),
                desired_because: self.target.zip(spec).map(|(target, spec)| spec.explain(target)),
                observed: self.observed.as_str(),
                observed_at: self.observed_at,
                conditions: self.truths().zip(self.since).map(condition).collect(),
                last_action: self.last_action.as_deref(),
                next_look_at: self.next_look_at,
                next_transition: self.next_transition.map(|(at, to)| Transition { at, state: to.as_str() }),
            },
        }
    }
}

impl Serialize for App {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shown().serialize(serializer)
    }
}

/// One app, as `/api/v1/apps/{name}` shows it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown<'a> {
    /// `campos-operator.dev/v1`.
    pub api_version: &'static str,
    /// `App`.
    pub kind: &'static str,
    /// As in the manifest.
    pub metadata: Metadata<'a>,
    /// As in the manifest; absent where no good one was ever seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<Spec<'a>>,
    /// What is known and done.
    pub status: Status<'a>,
}

/// `metadata`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Metadata<'a> {
    /// The object's name.
    pub name: &'a str,
    /// Labels, for selectors.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<&'a str, &'a str>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<&'a str, &'a str>,
    /// Counts changes of the spec, from 1.
    pub generation: u64,
}

/// `spec`, spelled as in a manifest, so that an exported object can be applied again.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec<'a> {
    /// The app on the platform.
    pub app_id: &'a str,
    /// `Running` or `Stopped`.
    pub state: &'static str,
    /// `Full`, `StopOnly` or `ObserveOnly`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<&'static str>,
    /// `true`, or why and until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<Suspend<'a>>,
    /// The windows, as they would be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule<'a>>,
}

impl<'a> From<&'a desired::Spec> for Spec<'a> {
    fn from(spec: &'a desired::Spec) -> Self {
        Self {
            app_id: spec.app_id.as_str(),
            state: spec.state.as_str(),
            policy: spec.policy.map(Policy::as_str),
            suspend: spec.suspend.as_ref().map(Into::into),
            schedule: spec.schedule.as_deref().map(Into::into),
        }
    }
}

/// `spec.schedule`.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule<'a> {
    /// IANA name.
    pub time_zone: &'a str,
    /// The first that contains the present moment decides.
    pub windows: Vec<Window<'a>>,
}

/// One of `spec.schedule.windows`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Window<'a> {
    /// `Running` or `Stopped`.
    pub state: &'static str,
    /// When it is: `from` and `to` (and `days`), or `cron` and `duration`.
    #[serde(flatten)]
    pub when: BTreeMap<&'static str, String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

impl<'a> From<&'a schedule::Schedule> for Schedule<'a> {
    fn from(schedule: &'a schedule::Schedule) -> Self {
        let window = |window: &'a schedule::Window| Window {
            state: window.state.as_str(),
            when: window.span.fields().into_iter().collect(),
            reason: window.reason.as_deref(),
        };
        Self { time_zone: &schedule.zone_name, windows: schedule.windows.iter().map(window).collect() }
    }
}

/// `spec.suspend`.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Suspend<'a> {
    /// Until further notice.
    Plain(bool),
    /// With a reason or an end.
    Told {
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
        /// When it ends.
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
}

impl<'a> From<&'a Suspension> for Suspend<'a> {
    fn from(suspension: &'a Suspension) -> Self {
        match suspension {
            Suspension { reason: None, until: None } => Self::Plain(true),
            Suspension { reason, until } => Self::Told { reason: reason.as_deref(), until: *until },
        }
    }
}

/// `status`.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status<'a> {
    /// The generation that the rest is about.
    pub observed_generation: u64,
    /// The snapshot of the manifests that it was last decided from.
    pub revision: &'a str,
    /// Where the object is declared.
    pub source: Source<'a>,
    /// `Running` or `Stopped`; absent where nothing can be told.
    pub desired: Option<&'static str>,
    /// Which part of the manifest says so: `state`, `suspend` or `window 2 (Fri 21:00-Mon 06:00)`.
    pub desired_because: Option<String>,
    /// What was seen last, as far as it is to be trusted.
    pub observed: &'static str,
    /// When that arrived.
    pub observed_at: Option<Timestamp>,
    /// Ready, Reconciling, Stalled.
    pub conditions: Vec<Condition<'a>>,
    /// The last stop or start that was tried.
    pub last_action: Option<&'a LastAction>,
    /// When it is looked at again.
    pub next_look_at: Option<Timestamp>,
    /// When what is asked changes by itself, and to what.
    pub next_transition: Option<Transition>,
}

/// `status.source`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Source<'a> {
    /// Path below the manifest directory.
    pub file: &'a str,
    /// Line of the document.
    pub line: u32,
}

/// `status.nextTransition`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Transition {
    /// When.
    pub at: Timestamp,
    /// To what.
    pub state: &'static str,
}

/// One of `status.conditions`.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition<'a> {
    /// `Ready`, `Reconciling` or `Stalled`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `True`, `False` or `Unknown`.
    #[serde(serialize_with = "truth")]
    pub status: Truth,
    /// One of the closed list.
    #[serde(serialize_with = "reason")]
    pub reason: Reason,
    /// The same for a person.
    pub message: &'a str,
    /// When `status` changed last.
    pub last_transition_time: Timestamp,
    /// The generation that it is about.
    pub observed_generation: u64,
}

// serde's `serialize_with` hands over a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn truth<S: Serializer>(truth: &Truth, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(truth.as_str())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn reason<S: Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reason.as_str())
}
