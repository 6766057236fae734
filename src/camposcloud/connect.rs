//! Opening a connection: addresses, proxy, TLS; and a record of what happened on it.
//!
//! reqwest hides which connection a request went out on and whether a byte came back, and it divides the connect
//! deadline among the addresses of a host. So the API client has a connector of its own.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, Write};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tower_service::Service;

use crate::platform::CONNECT_DEADLINE;
use crate::proxy::Proxies;

/// Head start of an address over the next one (RFC 8305, "Happy Eyeballs"): what a dead first address costs.
const HEAD_START: Duration = Duration::from_millis(250);
/// A connection that is silent for this long is probed. A NAT forgets a silent connection without a word to either end;
/// probes keep it in mind, and find out that it is gone before a request does.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Time that the other end has to acknowledge bytes. A half-open connection fails after this instead of after the
/// deadline of the request.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// Number of the request that the running task makes.
    pub(super) static REQUEST: u64;
}

/// An error of the steps before TLS.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The name of the host has no address.
    #[error("the name cannot be resolved")]
    Name(#[source] io::Error),
    /// Nothing came about within the deadline.
    #[error("no connection within {CONNECT_DEADLINE:?}")]
    TooSlow,
    /// A step that went through a proxy.
    #[error("through the proxy {proxy}")]
    Proxy {
        /// Host and port of the proxy.
        proxy: String,
        source: Error,
    },
}

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Opens connections to the API.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    proxies: Proxies,
    tls: Arc<ClientConfig>,
    proxy_tls: Arc<ClientConfig>,
}

impl Connector {
    pub(super) fn new(proxies: Proxies, tls: &ClientConfig) -> Self {
        let speaks = |protocols: &[&str]| {
            let mut tls = tls.clone();
            tls.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
            Arc::new(tls)
        };
        Self { proxies, proxy_tls: speaks(&["http/1.1"]), tls: speaks(&["h2", "http/1.1"]) }
    }

    async fn open(self, uri: Uri) -> Result<Box<dyn Stream>, Error> {
        let Some(proxy) = self.proxies.intercept(&uri) else {
            return Ok(Box::new(HttpsConnector::from((Tcp, self.tls)).call(uri).await?));
        };
        let address = proxy.uri().authority().map(ToString::to_string).unwrap_or_default();
        let mut tunnel = Tunnel::new(proxy.uri().clone(), HttpsConnector::from((Tcp, self.proxy_tls)));
        if let Some(password) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(password.clone());
        }
        match HttpsConnector::from((tunnel, self.tls)).call(uri).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(source) => Err(ConnectError::Proxy { proxy: address, source }.into()),
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Recorded>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        // The pool may give the connection to another request than the one that it is opened for, so the number is
        // taken here and not where the connection is used.
        let opened_for = REQUEST.try_with(|request| *request).ok();
        let record = Record(Arc::new(Events { opened_for, heard: AtomicBool::new(false) }));
        let opening = self.clone().open(uri);
        Box::pin(async move {
            let stream = tokio::time::timeout(CONNECT_DEADLINE, opening).await.map_err(|_| ConnectError::TooSlow)??;
            Ok(TokioIo::new(Recorded { stream: TokioIo::new(stream), record }))
        })
    }
}

/// TCP connections, and nothing on top of them.
#[derive(Debug, Clone, Copy)]
struct Tcp;

impl Service<Uri> for Tcp {
    type Response = TokioIo<TcpStream>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
            let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
            let addresses = match host.parse::<IpAddr>() {
                Ok(address) => vec![SocketAddr::new(address, port)],
                Err(_) => tokio::net::lookup_host((host, port)).await.map_err(ConnectError::Name)?.collect(),
            };
            let stream = first_connected(by_turns(addresses), TcpStream::connect).await?;
            prepare(&stream)?;
            Ok(TokioIo::new(stream))
        })
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE / 3)?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(stream, u32::try_from(UNACKNOWLEDGED.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}

/// Alternates between the families of addresses, since it is mostly a whole family that does not work.
fn by_turns(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let Some(first) = addresses.first().copied() else { return VecDeque::new() };
    let (same, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first.is_ipv4());
    let mut other = other.into_iter();
    let mut turns = VecDeque::new();
    for address in same {
        turns.push_back(address);
        turns.extend(other.next());
    }
    turns.extend(other);
    turns
}

/// The first connection that comes about. Each address has a head start over the next; a refusal ends it at once.
async fn first_connected<T, F>(mut addresses: VecDeque<SocketAddr>, connect: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut attempts = JoinSet::new();
    loop {
        if let Some(address) = addresses.pop_front() {
            attempts.spawn(connect(address));
        }
        tokio::select! {
            done = attempts.join_next() => match done {
                Some(Ok(Ok(connection))) => return Ok(connection),
                Some(Ok(Err(error))) => failure = error,
                Some(Err(error)) => failure = io::Error::other(error),
                None => return Err(failure),
            },
            () = tokio::time::sleep(HEAD_START), if !addresses.is_empty() => {}
        }
    }
}

/// What is known of one connection. Comes along with each response and each error of the pool.
#[derive(Debug, Clone)]
pub(super) struct Record(Arc<Events>);

#[derive(Debug)]
struct Events {
    /// The request that the connection was opened for.
    opened_for: Option<u64>,
    /// Whether a byte was read since the last write.
    heard: AtomicBool,
}

impl Record {
    /// Whether the connection was opened for another request than this one.
    pub(super) fn reused_by(&self, request: u64) -> bool {
        self.0.opened_for != Some(request)
    }

    /// Whether a byte came since the last request was written. On HTTP/1 that is a byte of its response.
    pub(super) fn heard(&self) -> bool {
        self.0.heard.load(Ordering::Relaxed)
    }
}

trait Stream: Read + Write + Connection + Send + Unpin + 'static {}
impl<T: Read + Write + Connection + Send + Unpin + 'static> Stream for T {}

/// A connection that keeps its [`Record`]. It counts what is inside TLS: a farewell of TLS is not a byte of a response.
pub(super) struct Recorded {
    stream: TokioIo<Box<dyn Stream>>,
    record: Record,
}

impl Connection for Recorded {
    fn connected(&self) -> Connected {
        self.stream.inner().connected().extra(self.record.clone())
    }
}

impl AsyncRead for Recorded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.record.0.heard.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.record.0.heard.store(false, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.record.0.heard.store(false, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Connects where the first octet is a 1, waits forever at a 2, refuses otherwise. Returns what connected and when.
    async fn connect(texts: &[&str]) -> (io::Result<SocketAddr>, Duration) {
        let began = tokio::time::Instant::now();
        let connected = first_connected(addresses(texts).into(), |address| async move {
            match address.to_string().as_bytes()[0] {
                b'1' => Ok(address),
                b'2' => std::future::pending().await,
                _ => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
        .await;
        (connected, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_first_address_costs_250_ms() {
        let case = async |texts: &[&str], milliseconds: u64| {
            let (connected, took) = connect(texts).await;
            assert_eq!(connected.unwrap().port(), 1, "{texts:?}");
            assert_eq!(took, Duration::from_millis(milliseconds), "{texts:?}");
        };
        case(&["1.0.0.1:1"], 0).await;
        case(&["2.0.0.1:2", "1.0.0.1:1"], 250).await;
        case(&["2.0.0.1:2", "2.0.0.2:2", "1.0.0.1:1"], 500).await;
        case(&["3.0.0.1:2", "1.0.0.1:1"], 0).await;
        case(&["2.0.0.1:2", "3.0.0.1:2", "1.0.0.1:1"], 250).await;
        let refused = connect(&["3.0.0.1:2", "3.0.0.2:2"]).await.0.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(connect(&[]).await.0.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_families_of_addresses_take_turns() {
        let sorted = by_turns(addresses(&["[::1]:1", "[::2]:1", "1.0.0.1:1", "1.0.0.2:1", "1.0.0.3:1"]));
        assert_eq!(sorted, addresses(&["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "1.0.0.3:1"]));
        assert_eq!(by_turns(addresses(&["1.0.0.1:1"])), addresses(&["1.0.0.1:1"]));
    }
}
