//! One request and its response over a pool of connections, and the repeat of a request that met a dead connection.
//!
//! A pooled connection can be dead without notice: the server failed over, closed it a moment ago, or ended it with a
//! GOAWAY. A request that dies there before its response is repeated at once, once, on a new connection. That never
//! happens
//! - to a request that is not idempotent: it uses a separate connection, which is not dead;
//! - after a timeout, or on a connection that was opened for the request: these are lost responses, and a failing
//!   server must not receive every request twice.
//!
//! Limit: the errors of reqwest do not distinguish a part of a response's head from no byte at all. A request whose
//! connection dies within the head is repeated, too, which is harmless for an idempotent one.

use std::cell::Cell;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode, Url, redirect, retry};
use rustls::ClientConfig;
use tower::util::MapFutureLayer;

use super::cause::{Cause, TransportError, chain};
use super::connect::Resolver;
use crate::platform::CONNECT_DEADLINE;
use crate::proxy::Proxy;
use crate::reconcile::outcome::Verdict;

/// Longest idle time of a connection: longer than every interval between two lists. Servers close connections much
/// earlier, and TCP keepalive finds those that are gone without notice.
const IDLE: Duration = Duration::from_hours(1);
/// Time until a silent connection is probed. A NAT forgets a silent connection without notice; probes keep it alive,
/// and find a dead one before a request does.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Deadline for the acknowledgement of bytes. Without it, a half-open connection fails only at the deadline of the
/// request.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);
/// Interval of HTTP/2's probe, which also proves that the server's process is alive.
const PING: Duration = Duration::from_secs(30);
const PING_ANSWER: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// Whether the running task opened a connection for its request.
    static OPENED: Cell<bool>;
}

#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) authorization: HeaderValue,
    /// Whether it may be sent twice.
    pub(super) idempotent: bool,
    /// For the whole exchange, body and repeat included.
    pub(super) deadline: Duration,
    /// The largest body.
    pub(super) cap: usize,
}

/// The result of a request, and the number of times that it was sent again.
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
    /// `Retry` if the server certainly did nothing, `LostAnswer` otherwise.
    pub(super) verdict: Verdict,
}

/// A failed attempt.
struct Failed {
    error: TransportError,
    processed: Processed,
}

/// Whether the server may have processed a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Processed {
    /// There was no connection.
    NotConnected,
    /// The request was not written, or HTTP/2 reports that the server did not process it.
    No,
    /// Most likely not: the connection was dead before the request.
    Unlikely,
    /// The response was lost.
    Perhaps,
}

/// The connections to one server.
#[derive(Debug)]
pub(super) struct Transport {
    route: Route,
    /// Replaced after a timeout: the other connections use the same dead path, and each would cost a deadline.
    pooled: Mutex<Client>,
    /// Opens a connection for each request.
    fresh: Client,
}

/// The route to the server.
#[derive(Debug)]
struct Route {
    /// Host and port, and the proxy, for messages.
    place: String,
    resolver: Resolver,
    proxy: Option<Proxy>,
    tls: ClientConfig,
}

impl Transport {
    /// The connections to the host of a URL.
    pub(super) fn new(url: &Url, proxy: Option<Proxy>, mut tls: ClientConfig) -> Self {
        // reqwest does not add these to a given TLS configuration.
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let port = url.port_or_known_default().unwrap_or_default();
        let host = format!("{}:{port}", url.host_str().unwrap_or_default());
        let (place, port) = match &proxy {
            Some(proxy) => (format!("{host}, through the proxy {}", proxy.address()), proxy.port()),
            None => (host, port),
        };
        let route = Route { place, resolver: Resolver { port }, proxy, tls };
        Self { pooled: Mutex::new(route.client(usize::MAX)), fresh: route.client(0), route }
    }

    /// Sends a request and reads the whole response.
    pub(super) async fn exchange(&self, outgoing: &Outgoing) -> Exchange {
        let mut repeats = 0;
        let pooled = self.pooled.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let exchange = async {
            let first = if outgoing.idempotent { &pooled } else { &self.fresh };
            let failed = match self.attempt(first, outgoing).await {
                Ok(response) => return self.read(response, outgoing.cap).await,
                Err(failed) => failed,
            };
            if !(outgoing.idempotent && matches!(failed.processed, Processed::No | Processed::Unlikely)) {
                return Err(failed.lost());
            }
            repeats += 1;
            match self.attempt(&self.fresh, outgoing).await {
                Ok(response) => self.read(response, outgoing.cap).await,
                // The first attempt may still have had an effect.
                Err(again) if failed.processed == Processed::Unlikely => {
                    Err(Lost { verdict: Verdict::LostAnswer, ..again.lost() })
                }
                Err(again) => Err(again.lost()),
            }
        };
        let result = tokio::time::timeout(outgoing.deadline, exchange).await.unwrap_or_else(|_| {
            Err(Lost { error: self.route.error(Cause::Timeout(outgoing.deadline)), verdict: Verdict::LostAnswer })
        });
        if matches!(&result, Err(lost) if lost.error.cause.is_silence()) {
            *self.pooled.lock().unwrap_or_else(PoisonError::into_inner) = self.route.client(usize::MAX);
        }
        Exchange { result, repeats }
    }

    async fn attempt(&self, client: &Client, outgoing: &Outgoing) -> Result<Response, Failed> {
        let request = client
            .request(outgoing.method.clone(), outgoing.url.clone())
            .header(AUTHORIZATION, &outgoing.authorization);
        let sent = async { (request.send().await, OPENED.with(Cell::get)) };
        let (result, opened) = OPENED.scope(Cell::new(false), sent).await;
        match result {
            // Some proxies send this on an idle connection just before they close it. It does not answer the request.
            Ok(response) if response.status() == StatusCode::REQUEST_TIMEOUT && !opened => {
                Err(Failed { error: self.route.error(Cause::Closed), processed: Processed::No })
            }
            Ok(response) => Ok(response),
            Err(error) => {
                let cause = Cause::of(&error);
                let processed = processed(&error, &cause, opened);
                Err(Failed { processed, error: self.route.error(cause) })
            }
        }
    }

    async fn read(&self, mut response: Response, cap: usize) -> Result<Whole, Lost> {
        let lost = |cause| Lost { error: self.route.error(cause), verdict: Verdict::LostAnswer };
        // Reserve the announced length, so that the buffer is not copied each time it grows.
        let announced = response.content_length().and_then(|length| usize::try_from(length).ok());
        let mut body = Vec::with_capacity(announced.unwrap_or_default().min(cap));
        loop {
            let chunk = response.chunk().await.map_err(|error| {
                let cause = Cause::of(&error);
                lost(if matches!(cause, Cause::Closed | Cause::Reset | Cause::Other(_)) { Cause::Cut } else { cause })
            })?;
            let Some(bytes) = chunk else { break };
            if body.len() + bytes.len() > cap {
                return Err(lost(Cause::TooLarge(cap)));
            }
            body.extend_from_slice(&bytes);
        }
        Ok(Whole { status: response.status().as_u16(), headers: std::mem::take(response.headers_mut()), body })
    }
}

impl Route {
    fn error(&self, cause: Cause) -> TransportError {
        TransportError { place: self.place.clone(), cause }
    }

    /// A client that keeps up to `idle` connections.
    fn client(&self, idle: usize) -> Client {
        let client = Client::builder()
            .user_agent(concat!("campos-operator/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            // reqwest would repeat every unprocessed request without notice.
            .retry(retry::never())
            .connect_timeout(CONNECT_DEADLINE)
            .connector_layer(MapFutureLayer::new(opening))
            .dns_resolver(self.resolver)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(idle)
            .tcp_keepalive(KEEPALIVE)
            .tcp_keepalive_interval(KEEPALIVE / 3)
            .tcp_keepalive_retries(3)
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PING_ANSWER)
            .http2_keep_alive_while_idle(true)
            .tls_backend_preconfigured(self.tls.clone());
        #[cfg(target_os = "linux")]
        let client = client.tcp_user_timeout(UNACKNOWLEDGED);
        let client = Proxy::configure(self.proxy.as_ref(), client);
        client.build().expect("each part was accepted when it was made")
    }
}

/// Records that a connection was opened. hyper opens it in the task of the request. If that request uses another
/// connection that became free, the rest runs in another task and is not recorded.
async fn opening<T, E>(connection: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let connection = connection.await?;
    let _ = OPENED.try_with(|opened| opened.set(true));
    Ok(connection)
}

impl Failed {
    fn lost(self) -> Lost {
        let verdict = match self.processed {
            Processed::NotConnected | Processed::No => Verdict::Retry,
            Processed::Unlikely | Processed::Perhaps => Verdict::LostAnswer,
        };
        Lost { error: self.error, verdict }
    }
}

/// Returns whether the server may have processed a request that ended in `error`. `opened`: on a connection opened for
/// it.
fn processed(error: &reqwest::Error, cause: &Cause, opened: bool) -> Processed {
    if error.is_connect() {
        return Processed::NotConnected;
    }
    for error in chain(error) {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled) {
            return Processed::No;
        }
        if let Some(error) = error.downcast_ref::<h2::Error>()
            && error.is_remote()
            && (error.is_go_away() || (error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)))
        {
            return Processed::No;
        }
    }
    if !opened && matches!(cause, Cause::Closed | Cause::Reset) { Processed::Unlikely } else { Processed::Perhaps }
}

#[cfg(test)]
mod tests;
