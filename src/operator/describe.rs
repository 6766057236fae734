//! How is the state of an app, and of the daemon, told to people and scripts? Values in, `status` shapes out.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::fleet::{Fleet, Known, Object};
use super::round::Rounds;
use crate::camposcloud::governor::Governor;
use crate::reconcile::app::AppName;
use crate::reconcile::attempts::{Attempts, NOTHING_TRIED};
use crate::reconcile::condition::{Reason, fold};
use crate::reconcile::decide::{Asked, Decision, Gates};
use crate::reconcile::desired::{Desired, SourceReport, Spec, Standing};
use crate::reconcile::moment::Moment;
use crate::status::{
    API_VERSION, App, Daemon, GovernorStatus, Metadata, Observation, Source, SourceStatus, Spec as ShownSpec, Status,
    Transition, conditions,
};

/// The moment at which it is told.
#[derive(Debug, Clone, Copy)]
pub struct When {
    /// Time since start.
    pub now: Moment,
    /// The wall time.
    pub wall: Timestamp,
    /// When the list is read next.
    pub next_list: Moment,
}

impl When {
    fn wall_at(&self, moment: Moment) -> Timestamp {
        self.wall + moment.since(self.now)
    }
}

/// One app of the fleet as it is shown.
pub fn app(fleet: &Fleet, name: &AppName, source_available: bool, revision: &Arc<str>, when: When) -> Option<App> {
    let object = fleet.object(name)?;
    let decision = object.decision?;
    let known = object.app_id().and_then(|id| fleet.known(id));
    let past = known.map_or(&NOTHING_TRIED, |known| &known.past);
    let declared = &object.declared;
    let wish = match Asked::of(declared, when.wall) {
        Asked::For(wish) => Some(wish),
        Asked::Nothing(_) => None,
    };
    let unreadable = known.is_some_and(Known::is_unreadable);
    let folded = fold(decision, &declared.standing, source_available);
    let message: Arc<str> =
        message(object, past, decision, folded.reason, wish.map(|wish| wish.desired), unreadable, when).into();
    let owed = [past.look_at(), past.wake_at().filter(|at| *at > when.now)].into_iter().flatten().min();
    let look = owed.map_or(when.next_list, |at| at.min(when.next_list));
    // Nobody looks for an app that nobody declares.
    let look = object.app_id().map(|_| look);
    Some(App {
        api_version: API_VERSION,
        kind: "App",
        metadata: Metadata {
            name: declared.name.as_str().to_owned(),
            labels: declared.labels.clone(),
            annotations: declared.annotations.clone(),
            generation: object.generation,
        },
        spec: declared.spec.as_ref().map(shown),
        status: Status {
            observed_generation: object.generation,
            revision: revision.clone(),
            source: Source { file: declared.place.file.clone(), line: declared.place.line },
            desired: wish.map(|wish| wish.desired.as_str()),
            desired_because: wish.zip(declared.spec.as_ref()).map(|(wish, spec)| spec.explain(wish).into()),
            observed: object.observed.as_str(),
            observed_at: known.and_then(|known| known.sighting.as_ref()).map(|sighting| sighting.seen_at),
            conditions: conditions(folded, &message, object.generation, &object.conditions, when.wall),
            last_action: object.last_action.clone(),
            next_look_at: look.map(|at| when.wall_at(at)),
            next_transition: transition(declared.spec.as_ref(), when.wall),
        },
    })
}

/// The daemon as it is shown.
pub fn daemon(
    source: Option<&SourceReport>,
    rounds: &Rounds,
    governor: &Governor,
    interval: Duration,
    requests: u64,
    gates: Gates,
    now: Moment,
) -> Daemon {
    Daemon {
        source: source.map_or_else(SourceStatus::default, |source| SourceStatus {
            loaded: source.loaded,
            available: source.available,
            trouble: source.trouble.clone(),
            revision: source.revision.clone(),
            files: source.files,
            skipped: source.skipped,
            problems: source.problems.clone(),
        }),
        observation: Observation {
            complete_once: rounds.complete_once(),
            completed_at: rounds.completed_at(),
            apps: rounds.apps(),
            pages: rounds.pages(),
            incomplete: rounds.trouble().cloned(),
            interval_seconds: interval.as_secs(),
        },
        governor: GovernorStatus {
            requests_per_minute: governor.requests_per_minute(now),
            remaining: governor.remaining(),
            paused: governor.paused_until(now).is_some(),
            breaker_open: governor.breaker_open(),
            account_blocked: governor.account_blocked(),
            requests,
        },
        dry_run: gates.dry_run,
        policy: gates.policy.as_str(),
    }
}

fn shown(spec: &Spec) -> ShownSpec {
    ShownSpec {
        app_id: spec.app_id.as_str().to_owned(),
        state: spec.state.as_str(),
        policy: spec.policy.map(crate::reconcile::desired::Policy::as_str),
        suspend: spec.suspend.as_ref().map(Into::into),
        schedule: spec.schedule.as_deref().map(Into::into),
    }
}

fn transition(spec: Option<&Spec>, wall: Timestamp) -> Option<Transition> {
    let (at, wish) = spec?.next_transition(wall)?;
    Some(Transition { at, state: wish.desired.as_str() })
}

/// Why it is so, and where something helps, what to do.
fn message(
    object: &Object,
    past: &Attempts,
    decision: Decision,
    reason: Reason,
    desired: Option<Desired>,
    unreadable: bool,
    when: When,
) -> String {
    let (desired, observed) = (desired.map_or("nothing", Desired::as_str), object.observed);
    let error = object.last_action.as_ref().and_then(|last| last.error.as_deref());
    let last = error.map(|error| format!("; last: {error}")).unwrap_or_default();
    let until = match decision {
        // A moment, since the message stands as long as the decision: a number of seconds would be wrong by the next one.
        Decision::Wait { until: Some(until), .. } => format!(" at {:.0}", when.wall_at(until)),
        Decision::Settled(_)
        | Decision::Act(_)
        | Decision::Wait { until: None, .. }
        | Decision::Held { .. }
        | Decision::Stalled(_) => String::new(),
    };
    let instead = match decision {
        Decision::Held { instead_of, .. } => instead_of.as_str(),
        Decision::Settled(_) | Decision::Act(_) | Decision::Wait { .. } | Decision::Stalled(_) => "call",
    };
    match reason {
        Reason::Settled => format!("the app is {observed}, as asked"),
        Reason::Stopping => "a stop was sent; waiting to see it take effect".into(),
        Reason::Starting => "a start was sent; waiting to see it take effect".into(),
        Reason::Drifted => {
            format!("the app is {observed} and shall be {desired}: the call goes out as soon as the budget allows")
        }
        Reason::BackingOff => format!("the last call failed; try {} follows{until}{last}", past.next_attempt()),
        Reason::Suspended => match object.declared.spec.as_ref().and_then(|spec| spec.suspend.as_ref()) {
            Some(suspension) => {
                let why = suspension.reason.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
                let end = suspension.until.map(|until| format!(" until {until}")).unwrap_or_default();
                format!("suspended by the manifest{why}{end}: the app is {observed}, nothing is called")
            }
            None => "suspended by the manifest: nothing is called".into(),
        },
        Reason::PolicyForbids => {
            format!("the app is {observed} and shall be {desired}, but the policy forbids the {instead}")
        }
        Reason::DryRun => format!("dry run: would {instead} the app, which is {observed}"),
        Reason::NotObserved if unreadable => {
            "the platform says nothing of the app by which running and stopped are told apart: nothing is called".into()
        }
        Reason::NotObserved => "no fresh reading of the app yet: nothing is called before there is one".into(),
        Reason::BeingCreated => "the platform is still creating the app".into(),
        Reason::SuspendedByPlatform => {
            format!("the platform has suspended the app (asked for: {desired}); see its dashboard")
        }
        Reason::AppNotFound => {
            "the platform knows no app with this appId: check spec.appId, and that the token's account owns it".into()
        }
        Reason::Forbidden => {
            format!("the token may not change this app: its team must grant canChangeStatusApplication{last}")
        }
        Reason::UnexpectedAnswer => format!("the platform's answer makes no sense; tried again each interval{last}"),
        Reason::StopNotEffective => format!(
            "a stop was accepted, but the app was not seen stopped in time; try {} follows{until}",
            past.next_attempt()
        ),
        Reason::StartNotEffective => format!(
            "a start was accepted, but the app was not seen running in time; try {} follows{until}",
            past.next_attempt()
        ),
        Reason::Contested => {
            format!("the app keeps coming back: someone or something else changes it; next try{until}")
        }
        Reason::InvalidManifest | Reason::DuplicateAppId | Reason::DuplicateName => match &object.declared.standing {
            Standing::Invalid { message, since } if object.declared.spec.is_some() => format!(
                "the newest text of the manifest is refused since {since:.0}, the last good one stays in force: {message}"
            ),
            Standing::Invalid { message, since } => format!("refused since {since:.0}: {message}"),
            Standing::Conflicting { message, .. } => message.to_string(),
            Standing::Sound => reason.to_string(),
        },
        Reason::SourceUnavailable => "the manifests cannot be read; what they said last stays in force".into(),
        Reason::ObservationIncomplete => {
            "the list of apps did not come whole, and this app was not in what came".into()
        }
        Reason::AccountBlocked => "the token is not accepted: no app is called; put a valid token in place".into(),
        Reason::ApiUnavailable => "the platform does not answer; one probe at a time is sent until it does".into(),
        Reason::RateLimited => "the platform asked everybody to wait".into(),
    }
}
