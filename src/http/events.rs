//! What changes, as it happens? Server-sent events with resume.
//!
//! A client is one number: the version up to which it was told. What it was not told in time is never queued for it;
//! the board is asked what came after that number when the client can take more, so a slow one gets fewer, newer events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::{daemon_status, problem};
use crate::status::{Board, Change};

/// So many clients at once; each is a connection and a few hundred kilobytes at most.
pub(super) const CLIENTS: usize = 64;
/// A comment goes out this often, so that a dead connection is found.
const ALIVE: Duration = Duration::from_secs(15);
/// So many changes are taken from the board at once.
const BATCH: usize = 128;
/// So many events wait for the connection to take them.
const WAITING: usize = 16;
/// Changes within this time are told together, each app once.
const TOGETHER: Duration = Duration::from_millis(50);

/// The stream of changes since `Last-Event-ID`, or from now on.
pub(super) fn stream(board: Board, headers: &HeaderMap, clients: Arc<Semaphore>) -> Response {
    let Ok(permit) = clients.try_acquire_owned() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "too many readers of events; try again later");
    };
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.trim().parse().ok());
    let (sender, receiver): (Sender<Event>, Receiver<Event>) = channel(WAITING);
    tokio::spawn(tell(board, last, sender, permit));
    let events = ReceiverStream::new(receiver).map(Ok::<_, Infallible>);
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE).text("alive")).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would hold events back otherwise.
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// Tells one client of changes until it goes.
async fn tell(board: Board, last: Option<u64>, client: Sender<Event>, _permit: OwnedSemaphorePermit) {
    let mut changes = board.changes();
    let mut told = last;
    loop {
        // Before the board is read: what comes meanwhile is told the next time round.
        changes.mark_unchanged();
        let missed = told.and_then(|version| board.since(version, BATCH));
        let Some(missed) = missed else {
            let version = board.versions().board;
            told = Some(version);
            let reset = Event::default().event("reset").id(version.to_string()).data("{}");
            if client.send(reset).await.is_err() {
                return;
            }
            continue;
        };
        let full = missed.len() == BATCH;
        for (version, change) in missed {
            let Ok(event) = event(&board, &change) else { return };
            told = Some(version);
            if client.send(event.id(version.to_string())).await.is_err() {
                return;
            }
        }
        if full {
            continue;
        }
        tokio::select! {
            () = client.closed() => return,
            more = changes.changed() => if more.is_err() {
                return;
            },
        }
        tokio::time::sleep(TOGETHER).await;
    }
}

fn event(board: &Board, change: &Change) -> Result<Event, axum::Error> {
    match change {
        Change::App(app) => Event::default().event("app").json_data(&**app),
        Change::Removed(name) => Event::default().event("removed").json_data(json!({ "name": name.as_str() })),
        Change::Daemon => Event::default().event("daemon").json_data(daemon_status(board)),
        Change::History(entry) => Event::default().event("history").json_data(&**entry),
    }
}
