//! Events of the App objects: calls, their effects, and stalls. The recorder of kube combines repetitions into a
//! series.
//!
//! One task reads the history of the status board, and another one writes. So a slow API server delays no call; it
//! loses Events, which are counted.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::chain;
use super::crd::{GROUP, VERSION};
use super::status::Registry;
use crate::operator::lead::Leadership;
use crate::reconcile::group::Group;
use crate::reconcile::reason::Reason;
use crate::status::history::{Answer, Entry};
use crate::status::{Board, Change};

/// Name of the controller in Events.
const CONTROLLER: &str = "campos-operator.dev/campos-operator";
/// Name of the service in the metric of notifications.
const SERVICE: &str = "kubernetes";
/// Events that wait to be written; further ones are dropped.
const WAITING: usize = 256;
/// Deadline of one request.
const DEADLINE: Duration = Duration::from_secs(15);
/// Maximum number of changes of one read of the board.
const MOST: usize = 1_000;
/// Longest note that the API server accepts, in bytes.
const LONGEST: usize = 1_024;

/// Writes an Event for each notable new entry of the history, while this process leads.
pub fn start(
    client: Client,
    namespace: String,
    registry: Arc<Registry>,
    board: Board,
    lead: Option<watch::Receiver<Leadership>>,
) {
    let (queue, waiting) = channel(WAITING);
    let identity = lead.as_ref().map(|lead| lead.borrow().published().identity.to_string());
    let recorder = Recorder::new(client, Reporter { controller: CONTROLLER.into(), instance: identity });
    tokio::spawn(write(recorder, waiting, board.clone()));
    tokio::spawn(async move {
        let mut changes = board.changes();
        let mut version = *changes.borrow_and_update();
        while changes.wait_for(|now| *now > version).await.is_ok() {
            let leads = lead.as_ref().is_none_or(|lead| lead.borrow().may_send);
            let Some(some) = board.since(version, MOST) else {
                version = board.versions().board;
                continue;
            };
            for (at, change) in some {
                version = version.max(at);
                let Change::History(entry) = change else { continue };
                let Some(event) = event_of(&entry, &board).filter(|_| leads) else { continue };
                let Some(reference) = reference(&entry, &namespace, &registry) else { continue };
                if queue.try_send((event, reference)).is_err() {
                    warn!("Event dropped: the queue for the API server is full");
                    board.meters().notified(SERVICE, "lost");
                }
            }
        }
    });
}

async fn write(recorder: Recorder, mut waiting: Receiver<(Event, ObjectReference)>, board: Board) {
    while let Some((event, reference)) = waiting.recv().await {
        let failure = match timeout(DEADLINE, recorder.publish(&event, &reference)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(chain(&error)),
            Err(_) => Some(format!("no answer within {} s", DEADLINE.as_secs())),
        };
        board.meters().notified(SERVICE, if failure.is_none() { "delivered" } else { "failed" });
        if let Some(cause) = failure {
            debug!(cause, "could not write an Event");
        }
    }
}

/// The object of the Event; `None` if it was deleted.
fn reference(entry: &Entry, namespace: &str, registry: &Registry) -> Option<ObjectReference> {
    let name = entry.app.as_deref()?;
    Some(ObjectReference {
        api_version: Some(format!("{GROUP}/{VERSION}")),
        kind: Some("App".into()),
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid: Some(registry.uid(name)?.to_string()),
        ..ObjectReference::default()
    })
}

/// The Event of an entry: an answered call, a verified effect, or a failure of one app. `None` for other changes.
fn event_of(entry: &Entry, board: &Board) -> Option<Event> {
    let event = |type_, reason: String, action: &str, note: String| {
        let end = note.floor_char_boundary(LONGEST);
        Event { type_, reason, action: action.to_owned(), note: Some(note[..end].to_owned()), secondary: None }
    };
    let reason = entry.after.reason.as_deref();
    if let (Some(action), Some(answer)) = (entry.action.as_deref(), &entry.answer) {
        let (first, rest) = action.split_at(1);
        let verb = first.to_uppercase() + rest;
        return Some(if answer.result == "Accepted" {
            event(EventType::Normal, format!("{verb}Accepted"), &verb, note(answer))
        } else {
            event(EventType::Warning, format!("{verb}Failed"), &verb, note(answer))
        });
    }
    let before = entry.before.reason.as_deref();
    let done = match (before, reason) {
        (Some("Stopping"), Some("Settled")) => Some(("Stopped", "Stop")),
        (Some("Starting"), Some("Settled")) => Some(("Started", "Start")),
        (Some("Restarting"), Some("Settled")) => Some(("Restarted", "Restart")),
        _ => None,
    };
    if let Some((done, verb)) = done {
        let observed = entry.after.observed.as_deref().unwrap_or("Unknown");
        return Some(event(EventType::Normal, done.into(), verb, format!("the app was read back as {observed}")));
    }
    let reason: Reason = reason?.parse().ok()?;
    let is_failure = matches!(reason.group(), Group::NeedsPerson | Group::InTrouble);
    let app = board.app(entry.app.as_deref()?).filter(|app| is_failure && app.reason() == reason)?;
    Some(event(EventType::Warning, reason.to_string(), "Reconcile", app.message.to_string()))
}

fn note(answer: &Answer) -> String {
    let code = answer.http_status.map(|code| format!("HTTP {code}"));
    let status = answer.status.as_ref().map(|status| format!("status {status}"));
    let error = answer.error.as_ref().map(ToString::to_string);
    let parts: Vec<String> = [code, status, error].into_iter().flatten().collect();
    if parts.is_empty() { answer.result.to_string() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::history::{State, Trigger};

    fn recorded(
        reasons: (&str, &str),
        call: Option<(&'static str, &'static str)>,
    ) -> Option<(EventType, String, String)> {
        let state = |reason: &str| State {
            reason: Some(reason.to_owned().into()),
            observed: Some("Stopped".into()),
            ..State::default()
        };
        let answer = |result: &'static str| Answer {
            result: result.into(),
            http_status: Some(200),
            status: Some("active".into()),
            online: None,
            error: None,
        };
        let entry = Entry {
            time: jiff::Timestamp::UNIX_EPOCH,
            app: Some("bot".into()),
            app_id: None,
            trigger: Trigger::Edit,
            revision: "r".into(),
            before: state(reasons.0),
            after: state(reasons.1),
            action: call.map(|(action, _)| action.into()),
            answer: call.map(|(_, result)| answer(result)),
        };
        event_of(&entry, &Board::default()).map(|event| (event.type_, event.reason, event.note.unwrap_or_default()))
    }

    #[test]
    fn calls_and_effects_are_events_and_other_changes_are_not() {
        let normal = |reason: &str, note: &str| Some((EventType::Normal, reason.to_owned(), note.to_owned()));
        assert_eq!(
            recorded(("Drifted", "Stopping"), Some(("stop", "Accepted"))),
            normal("StopAccepted", "HTTP 200, status active")
        );
        let failed = recorded(("Drifted", "BackingOff"), Some(("start", "Retry")));
        assert_eq!(failed.map(|(kind, reason, _)| (kind, reason)), Some((EventType::Warning, "StartFailed".into())));
        assert_eq!(recorded(("Stopping", "Settled"), None), normal("Stopped", "the app was read back as Stopped"));
        assert_eq!(recorded(("Settled", "Suspended"), None), None);
        assert_eq!(recorded(("Settled", "Drifted"), None), None);
    }
}
