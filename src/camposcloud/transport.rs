//! One request and its response over a pool of connections, and the repeat of a request that met a dead connection.
//!
//! A pooled connection can be dead without a word: the server failed over, closed it a moment ago, or ended it with a
//! GOAWAY. A request that dies there before the first byte of its response is repeated at once, once, on a connection
//! opened for it. That never happens
//! - for a request that is not idempotent: it goes out on a connection of its own instead, so it meets no dead one;
//! - after a timeout, or on a connection that was opened for the request: those are lost responses, and a server in
//!   trouble must not get every request twice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use super::cause::{Cause, TransportError, chain};
use super::connect::{Connector, REQUEST, Record};
use crate::proxy::Proxies;
use crate::reconcile::action::Verdict;

/// An idle connection outlives every interval between two lists. Servers close theirs much earlier, which is noticed,
/// and TCP keepalive finds those that are gone without a word.
const IDLE: Duration = Duration::from_hours(1);
/// HTTP/2's own probe, which also proves that the server's process is alive.
const PING: Duration = Duration::from_secs(30);
const PING_ANSWER: Duration = Duration::from_secs(10);

type Pool = legacy::Client<Connector, Empty<Bytes>>;

/// A request of the API client.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) authorization: HeaderValue,
    /// Whether it may be sent twice.
    pub(super) idempotent: bool,
    /// For the whole exchange, body and repeat included.
    pub(super) deadline: Duration,
    /// The largest body that is read.
    pub(super) cap: usize,
}

/// The result of a request, and how many times it was sent beyond the first.
pub(super) struct Exchange {
    pub(super) result: Result<Whole, Lost>,
    pub(super) repeats: u32,
}

/// A whole response, with nothing redacted.
pub(super) struct Whole {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// A request without a response.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) error: TransportError,
    /// `Retry` where the server certainly did nothing, `LostAnswer` otherwise.
    pub(super) verdict: Verdict,
}

/// What became of one attempt.
struct Failed {
    error: TransportError,
    processed: Processed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Processed {
    /// There was no connection.
    NotConnected,
    /// The request was not written, or the server said on HTTP/2 that it did not process it.
    No,
    /// The connection was dead before the request was: most likely not.
    Hardly,
    /// The response was lost.
    Perhaps,
}

/// The connections to one server.
#[derive(Debug)]
pub(super) struct Transport {
    connector: Connector,
    host: String,
    /// Replaced after a timeout: the other connections go through the same dead path, and each would cost a deadline.
    pooled: Mutex<Pool>,
    /// Opens a connection for each request.
    fresh: Pool,
    requests: AtomicU64,
}

impl Transport {
    /// The connections to the host of a URL (`host` as shown in errors).
    pub(super) fn new(host: String, proxies: Proxies, tls: &ClientConfig) -> Self {
        let connector = Connector::new(proxies, tls);
        let pooled = Mutex::new(pool(&connector, usize::MAX));
        Self { fresh: pool(&connector, 0), connector, host, pooled, requests: AtomicU64::new(0) }
    }

    /// Sends a request and reads the whole response.
    pub(super) async fn exchange(&self, ask: &Ask) -> Exchange {
        let mut repeats = 0;
        let pooled = self.pooled.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let exchange = async {
            let first = if ask.idempotent { &pooled } else { &self.fresh };
            let failed = match self.attempt(first, ask).await {
                Ok(response) => return self.read(response, ask.cap).await,
                Err(failed) => failed,
            };
            if !(ask.idempotent && matches!(failed.processed, Processed::No | Processed::Hardly)) {
                return Err(failed.lost());
            }
            repeats += 1;
            match self.attempt(&self.fresh, ask).await {
                Ok(response) => self.read(response, ask.cap).await,
                // The first of the two may have had an effect all the same.
                Err(again) if failed.processed == Processed::Hardly => {
                    Err(Lost { verdict: Verdict::LostAnswer, ..again.lost() })
                }
                Err(again) => Err(again.lost()),
            }
        };
        let result = tokio::time::timeout(ask.deadline, exchange).await.unwrap_or_else(|_| {
            let error = TransportError { place: self.host.clone(), cause: Cause::Timeout(ask.deadline) };
            Err(Lost { error, verdict: Verdict::LostAnswer })
        });
        if matches!(&result, Err(lost) if lost.error.cause.is_silence()) {
            *self.pooled.lock().unwrap_or_else(PoisonError::into_inner) = pool(&self.connector, usize::MAX);
        }
        Exchange { result, repeats }
    }

    async fn attempt(&self, pool: &Pool, ask: &Ask) -> Result<Response<Incoming>, Failed> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = ask.uri.clone();
        request.headers_mut().insert(AUTHORIZATION, ask.authorization.clone());
        let agent = HeaderValue::from_static(concat!("campos-operator/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, agent);
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        match REQUEST.scope(number, pool.request(request)).await {
            // Some proxies say this on an idle connection just before they close it. It answers no request of ours.
            Ok(response) if response.status() == StatusCode::REQUEST_TIMEOUT && reused(&response, number) => {
                let error = TransportError { place: self.host.clone(), cause: Cause::Closed };
                Err(Failed { error, processed: Processed::No })
            }
            Ok(response) => Ok(response),
            Err(error) => {
                Err(Failed { processed: processed(&error, number), error: TransportError::of(&self.host, &error) })
            }
        }
    }

    async fn read(&self, response: Response<Incoming>, cap: usize) -> Result<Whole, Lost> {
        let lost = |error| Lost { error, verdict: Verdict::LostAnswer };
        let (head, mut incoming) = response.into_parts();
        let mut body = Vec::new();
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| {
                let mut error = TransportError::of(&self.host, &error);
                if matches!(error.cause, Cause::Closed | Cause::Reset | Cause::Other(_)) {
                    error.cause = Cause::Cut;
                }
                lost(error)
            })?;
            let Ok(bytes) = frame.into_data() else { continue };
            if body.len() + bytes.len() > cap {
                return Err(lost(TransportError { place: self.host.clone(), cause: Cause::TooLarge(cap) }));
            }
            body.extend_from_slice(&bytes);
        }
        Ok(Whole { status: head.status.as_u16(), headers: head.headers, body })
    }
}

impl Failed {
    fn lost(self) -> Lost {
        let verdict = match self.processed {
            Processed::NotConnected | Processed::No => Verdict::Retry,
            Processed::Hardly | Processed::Perhaps => Verdict::LostAnswer,
        };
        Lost { error: self.error, verdict }
    }
}

fn pool(connector: &Connector, idle: usize) -> Pool {
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(idle)
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PING_ANSWER)
        .http2_keep_alive_while_idle(true)
        .build(connector.clone())
}

fn reused(response: &Response<Incoming>, request: u64) -> bool {
    response.extensions().get::<Record>().is_some_and(|record| record.reused_by(request))
}

/// What the server can have made of a request that ended in `error`.
fn processed(error: &legacy::Error, request: u64) -> Processed {
    if error.is_connect() {
        return Processed::NotConnected;
    }
    let (mut http, mut stream) = (None, None);
    for error in chain(error) {
        http = http.or_else(|| error.downcast_ref::<hyper::Error>());
        stream = stream.or_else(|| error.downcast_ref::<h2::Error>());
    }
    if http.is_some_and(hyper::Error::is_canceled) {
        return Processed::No;
    }
    if let Some(stream) = stream
        && stream.is_remote()
        && (stream.is_go_away() || (stream.is_reset() && stream.reason() == Some(h2::Reason::REFUSED_STREAM)))
    {
        return Processed::No;
    }
    let Some(connection) = error.connect_info() else { return Processed::Perhaps };
    let mut extras = hyper::http::Extensions::new();
    connection.get_extras(&mut extras);
    let silent = matches!(TransportError::of("", error).cause, Cause::Unacknowledged);
    match extras.get::<Record>() {
        Some(record) if record.reused_by(request) && !silent => {
            // On HTTP/2 the bytes are those of all requests, but an error before the head of a response is one request's.
            let unheard = match stream {
                Some(stream) => stream.is_io(),
                None => connection.is_negotiated_h2() || !record.heard(),
            };
            if unheard { Processed::Hardly } else { Processed::Perhaps }
        }
        Some(_) | None => Processed::Perhaps,
    }
}

#[cfg(test)]
mod tests;
