//! Server-sent events: changes as they happen, with resume.
//!
//! The state of a client is one number: the version of the last sent change. No queue of changes exists; when the
//! client can receive more, the board is read from that version, so that a slow client gets fewer, newer events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::daemon_status;
use super::room::{ResponseMemory, busy};
use crate::clock::Clock;
use crate::status::{Board, Change};

/// Most clients at a time, if the process's limit of connections allows them.
pub(super) const CLIENTS: usize = 64;
/// Interval of comments, which detect a dead connection.
const ALIVE: Duration = Duration::from_secs(15);
/// Changes that are read from the board at a time.
const BATCH: usize = 32;
/// Changes within this time are sent together, each app once.
const TOGETHER: Duration = Duration::from_millis(50);

/// The stream of changes since `Last-Event-ID`, or from now on.
pub(super) fn stream(
    (board, clock): (Board, Clock),
    headers: &HeaderMap,
    clients: Arc<Semaphore>,
    room: ResponseMemory,
) -> Response {
    let Ok(permit) = clients.try_acquire_owned() else { return busy() };
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.trim().parse().ok());
    let (sender, receiver) = channel(1);
    tokio::spawn(send((board, clock), last, sender, room, permit));
    let events = ReceiverStream::new(receiver).map(Ok::<_, Infallible>);
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        // Without it nginx delays events.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(events)).into_response()
}

/// Sends changes to one client until it disconnects.
async fn send(
    (board, clock): (Board, Clock),
    last: Option<u64>,
    client: Sender<Bytes>,
    room: ResponseMemory,
    _permit: OwnedSemaphorePermit,
) {
    let mut changes = board.changes();
    let mut sent = last;
    loop {
        // Before the board is read, so that later changes are sent the next time.
        changes.mark_unchanged();
        let missed = sent.and_then(|version| board.since(version, BATCH));
        let Some(missed) = missed else {
            let version = board.versions().board;
            sent = Some(version);
            if !room.send_event(|| text("reset", version, "{}"), &client).await {
                return;
            }
            continue;
        };
        let full = missed.len() == BATCH;
        for (version, change) in missed {
            sent = Some(version);
            if !room.send_event(|| event((&board, clock), &change, version), &client).await {
                return;
            }
        }
        if full {
            continue;
        }
        loop {
            tokio::select! {
                () = client.closed() => return,
                more = changes.changed() => match more {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = tokio::time::sleep(ALIVE) => if client.send(Bytes::from_static(b": alive\n\n")).await.is_err() {
                    return;
                },
            }
        }
        tokio::time::sleep(TOGETHER).await;
    }
}

/// One event. JSON without line breaks is one line of data.
fn text(kind: &str, version: u64, data: &str) -> Vec<u8> {
    format!("event: {kind}\nid: {version}\ndata: {data}\n\n").into_bytes()
}

fn event((board, clock): (&Board, Clock), change: &Change, version: u64) -> Vec<u8> {
    let (kind, data) = match change {
        Change::App(app) => ("app", serde_json::to_string(&**app)),
        Change::Removed(name) => ("removed", Ok(json!({ "name": name.as_str() }).to_string())),
        Change::Daemon => ("daemon", serde_json::to_string(&daemon_status(board, clock))),
        Change::History(entry) => ("history", serde_json::to_string(&**entry)),
    };
    match data {
        Ok(data) => text(kind, version, &data),
        Err(error) => {
            tracing::error!(%error, kind, "could not write an event");
            text("reset", version, "{}")
        }
    }
}
