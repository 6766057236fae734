//! Memory for responses. The port uses at most 32 MiB for its clients, with any number and speed of clients
//! ([`RESPONSES`], [`EVENTS`], and the beginnings of [`LARGE`] streams), and at most [`LARGE`] large responses at a
//! time.
//!
//! A permit belongs to the bytes: it is released when they are written to the socket or dropped with the connection.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::problem;
use crate::printable;

/// Bytes of all responses in memory.
const RESPONSES: usize = 16 << 20;
/// Bytes of all events in memory. Separate from the responses, so that neither can starve the other.
const EVENTS: usize = 8 << 20;
/// Large responses at a time.
const LARGE: usize = 16;
/// A stream up to this length is sent as a whole, with its length: 8 MiB for all large responses.
const WHOLE: usize = 512 << 10;
/// A longer response is large. A stream is sent in chunks of about this size.
pub(super) const CHUNK: usize = 32 << 10;
/// Bytes per permit.
const UNIT: usize = 1 << 10;

/// Marks a large response, which is compressed and has a deadline.
#[derive(Debug, Clone, Copy)]
pub(super) struct Large;

/// The memory that responses share.
#[derive(Debug, Clone)]
pub(super) struct ResponseMemory {
    responses: Arc<Semaphore>,
    events: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Default for ResponseMemory {
    fn default() -> Self {
        Self {
            responses: Arc::new(Semaphore::new(RESPONSES / UNIT)),
            events: Arc::new(Semaphore::new(EVENTS / UNIT)),
            large: Arc::new(Semaphore::new(LARGE)),
        }
    }
}

/// Bytes with the permits for them.
struct Held {
    bytes: Vec<u8>,
    _permits: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Permits for `bytes`. Bytes that exceed the whole memory take all of it.
fn units(bytes: usize, room: usize) -> u32 {
    u32::try_from(bytes.min(room).div_ceil(UNIT)).unwrap_or(u32::MAX)
}

impl ResponseMemory {
    /// A response of `bytes`, or 503 if no memory is left.
    pub(super) fn response(&self, kind: &'static str, bytes: Vec<u8>) -> Response {
        let large = bytes.len() > CHUNK;
        match self.hold(bytes, large) {
            Ok(bytes) => {
                let mut response = ([(header::CONTENT_TYPE, kind)], Body::from(bytes)).into_response();
                if large {
                    response.extensions_mut().insert(Large);
                }
                response
            }
            Err(_) => busy(),
        }
    }

    pub(super) fn json(&self, value: &impl Serialize) -> Response {
        match serde_json::to_string(value) {
            // With escapes, so that a saved app is a valid manifest.
            Ok(text) => self.response("application/json", printable::json(&text).into_owned().into_bytes()),
            Err(error) => {
                tracing::error!(%error, "could not write a response of the HTTP port");
                problem(StatusCode::INTERNAL_SERVER_ERROR, "could not write the response")
            }
        }
    }

    fn hold(&self, bytes: Vec<u8>, large: bool) -> Result<Bytes, TryAcquireError> {
        let large = large.then(|| self.large.clone().try_acquire_owned()).transpose()?;
        let permit = self.responses.clone().try_acquire_many_owned(units(bytes.len(), RESPONSES))?;
        Ok(Bytes::from_owner(Held { bytes, _permits: (permit, large) }))
    }

    /// A JSON response in chunks of about [`CHUNK`] bytes, which `next` returns until `None`. Only the chunks that wait
    /// for the client are in memory.
    pub(super) fn stream(&self, mut next: impl FnMut() -> Option<Vec<u8>> + Send + 'static) -> Response {
        let mut begun = Vec::new();
        while begun.len() <= WHOLE {
            match next() {
                Some(chunk) => begun.extend_from_slice(&chunk),
                None => return self.response("application/json", begun),
            }
        }
        let Ok(large) = self.large.clone().try_acquire_owned() else { return busy() };
        let (sender, receiver) = channel(1);
        let room = self.clone();
        tokio::spawn(async move {
            let _large = large;
            let mut chunk = Some(begun);
            while let Some(bytes) = chunk {
                if !room.send(bytes, &sender).await {
                    return;
                }
                chunk = next();
            }
        });
        let body = Body::from_stream(ReceiverStream::new(receiver).map(Ok::<_, Infallible>));
        let mut response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
        response.extensions_mut().insert(Large);
        response
    }

    /// Sends a chunk when memory is free; false if the client disconnected.
    async fn send(&self, bytes: Vec<u8>, client: &Sender<Bytes>) -> bool {
        let Some(permit) = acquire(&self.responses, units(bytes.len(), RESPONSES), client).await else { return false };
        client.send(Bytes::from_owner(Held { bytes, _permits: (permit, None) })).await.is_ok()
    }

    /// Sends the event that `render` returns when memory is free; false if the client disconnected. The event is not in
    /// memory while it waits.
    pub(super) async fn send_event(&self, render: impl Fn() -> Vec<u8>, client: &Sender<Bytes>) -> bool {
        let mut bytes = render();
        let wanted = units(bytes.len(), EVENTS);
        let mut permit = self.events.clone().try_acquire_many_owned(wanted).ok();
        if permit.is_none() {
            drop(bytes);
            permit = acquire(&self.events, wanted, client).await;
            bytes = render();
        }
        let Some(permit) = permit else { return false };
        client.send(Bytes::from_owner(Held { bytes, _permits: (permit, None) })).await.is_ok()
    }
}

/// Waits for permits; `None` if the client disconnected.
async fn acquire(room: &Arc<Semaphore>, permits: u32, client: &Sender<Bytes>) -> Option<OwnedSemaphorePermit> {
    tokio::select! {
        () = client.closed() => None,
        permit = room.clone().acquire_many_owned(permits) => permit.ok(),
    }
}

/// The response if no memory is left for another one.
pub(super) fn busy() -> Response {
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, "too many large responses at a time; try again later");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    /// Clients that never read keep their responses in memory. Beyond the bounds the response is 503, and released
    /// memory is used again.
    #[tokio::test]
    async fn memory_is_bounded_if_clients_do_not_read() {
        let room = ResponseMemory::default();
        let mut unread = Vec::new();
        loop {
            let response = room.response("text/plain", vec![b'x'; 4 << 20]);
            if response.status() == StatusCode::SERVICE_UNAVAILABLE {
                assert_eq!(response.headers()[header::RETRY_AFTER], "5");
                break;
            }
            unread.push(response);
        }
        assert_eq!(unread.len(), 4, "16 MiB");
        unread.clear();
        let large = || room.response("text/plain", vec![b'x'; CHUNK + 1]);
        let held: Vec<_> = std::iter::repeat_with(large).take(LARGE).collect();
        assert!(held.iter().all(|response| response.status() == StatusCode::OK));
        assert_eq!(large().status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(room.response("text/plain", vec![b'x'; CHUNK]).status(), StatusCode::OK, "a small one");
        drop(held);
        assert_eq!(to_bytes(large().into_body(), usize::MAX).await.unwrap().len(), CHUNK + 1);
        assert_eq!(room.responses.available_permits(), RESPONSES / UNIT);
        assert_eq!(room.large.available_permits(), LARGE);
    }

    #[tokio::test]
    async fn a_stream_is_made_as_it_is_read() {
        let room = ResponseMemory::default();
        let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = made.clone();
        let response = room.stream(move || {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            (number < 100).then(|| vec![b'x'; CHUNK])
        });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let ahead = made.load(std::sync::atomic::Ordering::Relaxed);
        assert!(ahead < 6 + WHOLE / CHUNK, "{ahead} chunks wait for a client that does not read");
        assert_eq!(to_bytes(response.into_body(), usize::MAX).await.unwrap().len(), 100 * CHUNK);
        let mut unread = Vec::new();
        for _ in 0..LARGE {
            let mut left = 30;
            unread.push(room.stream(move || {
                left -= 1;
                (left > 0).then(|| vec![b'x'; CHUNK])
            }));
        }
        let mut left = 30;
        let more = room.stream(move || {
            left -= 1;
            (left > 0).then(|| vec![b'x'; CHUNK])
        });
        assert_eq!(more.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn events_wait_for_room_outside_memory() {
        let room = ResponseMemory::default();
        let (sender, mut receiver) = channel(64);
        for _ in 0..8 {
            assert!(room.send_event(|| vec![b'x'; 1 << 20], &sender).await);
        }
        let late = room.send_event(|| vec![b'x'; 1 << 20], &sender);
        tokio::pin!(late);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(1), &mut late).await.is_err());
        drop(receiver.recv().await);
        assert!(late.await);
        drop(receiver);
        assert!(!room.send_event(|| vec![b'x'; 1 << 20], &sender).await);
    }
}
