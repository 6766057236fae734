//! Connections of the port: their number, their deadlines, and the choice of the connection that a new one replaces.
//!
//! Clients that open connections and keep them would use up the file descriptors that the operator needs for manifests
//! and calls. So the port takes a share of the process's limit, and a new connection is always accepted: if all places
//! are taken, the connection that has been idle for longest ends. A health check, whose request arrives at once, is
//! answered with any number of slow connections.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};

use super::room::Large;

/// Maximum number of connections, if the limit of the process allows them.
const MOST: usize = 256;
/// Share of the process's limit of file descriptors that the port uses: one in this many.
const SHARE: u64 = 4;
/// Minimum number of connections, with any limit.
const FEWEST: usize = 4;
/// Deadline of the head of a request, from its first byte; of the first head, from the opening of the connection.
const HEAD: Duration = Duration::from_secs(10);
/// Deadline of a connection without a request. Longer than the minute between two scrapes.
const IDLE: Duration = Duration::from_secs(75);
/// Deadline of a response that the client does not read. Longer than the 15 s between two comments of a stream of
/// events.
const STUCK: Duration = Duration::from_secs(30);
/// Deadline of a large response, even if it progresses: a client that takes a byte each 29 s would keep one of few
/// places.
const LARGE: Duration = Duration::from_secs(120);
/// Buffer of one connection, and the longest head of a request.
const BUFFER: usize = 16 << 10;
/// Pause after a failed accept, usually because the file descriptors are used up.
const PAUSE: Duration = Duration::from_millis(50);

/// Most connections at a time: a share of the process's limit of file descriptors.
pub(super) fn most() -> usize {
    share(getrlimit(Resource::Nofile).current)
}

fn share(limit: Option<u64>) -> usize {
    let share = limit.map_or(MOST, |limit| usize::try_from(limit / SHARE).unwrap_or(MOST));
    share.clamp(FEWEST, MOST)
}

#[derive(Debug)]
struct State {
    /// Whether a request is being answered.
    serving: bool,
    /// Whether the end of a response is in a buffer until the client takes it.
    buffered: bool,
    /// Arrival of the first byte of the awaited head.
    head_since: Option<Instant>,
    /// Last progress: the opening, a complete request, bytes taken by the client, the end of a response. Bytes of a
    /// head do not count, or a client could keep its place with a few bytes.
    progress_at: Instant,
    /// Deadline of the present response.
    ends: Option<Instant>,
}

impl State {
    const fn busy(&self) -> bool {
        self.serving || self.buffered
    }
}

/// One connection.
#[derive(Debug)]
struct Place {
    state: Mutex<State>,
    leave: Notify,
}

impl Place {
    fn new() -> Self {
        let now = Instant::now();
        let state = State { serving: false, buffered: false, head_since: Some(now), progress_at: now, ends: None };
        Self { state: Mutex::new(state), leave: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called when a request is complete.
    fn request(&self) {
        let mut state = self.state();
        (state.serving, state.head_since, state.progress_at) = (true, None, Instant::now());
        if !state.buffered {
            state.ends = None;
        }
    }

    /// Called when the response is large.
    fn large(&self) {
        self.state().ends.get_or_insert_with(|| Instant::now() + LARGE);
    }

    /// Called at the end of a response, sent or dropped.
    fn responded(&self) {
        let mut state = self.state();
        (state.serving, state.buffered, state.head_since) = (false, true, None);
    }

    /// Called when the client has taken all bytes.
    fn flushed(&self) {
        let mut state = self.state();
        if std::mem::take(&mut state.buffered) && !state.serving {
            (state.ends, state.progress_at) = (None, Instant::now());
        }
    }

    fn read(&self) {
        let mut state = self.state();
        if !state.serving && state.head_since.is_none() {
            state.head_since = Some(Instant::now());
        }
    }

    fn wrote(&self) {
        self.state().progress_at = Instant::now();
    }

    /// Returns when the connection passes a deadline, or another connection replaces it.
    async fn over(&self) {
        loop {
            let until = {
                let state = self.state();
                match (state.busy(), state.head_since) {
                    (true, _) => {
                        state.ends.map_or(state.progress_at + STUCK, |ends| ends.min(state.progress_at + STUCK))
                    }
                    (false, Some(since)) => since + HEAD,
                    (false, None) => state.progress_at + IDLE,
                }
            };
            if until <= Instant::now() {
                return;
            }
            // A deadline may move to an earlier time, so it is checked each second.
            let check = Instant::now() + Duration::from_secs(1);
            tokio::select! {
                () = self.leave.notified() => return,
                () = sleep_until(until.min(check)) => {}
            }
        }
    }
}

/// Every connection.
#[derive(Debug, Default)]
struct Places(Mutex<Vec<Arc<Place>>>);

impl Places {
    fn all(&self) -> MutexGuard<'_, Vec<Arc<Place>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Arc<Place> {
        let place = Arc::new(Place::new());
        self.all().push(place.clone());
        place
    }

    fn close(&self, place: &Arc<Place>) {
        self.all().retain(|open| !Arc::ptr_eq(open, place));
    }

    /// Ends the connection with the longest time without progress; one with a request in progress only if all have one.
    fn make_room(&self) {
        let rank = |place: &Arc<Place>| {
            let state = place.state();
            (state.busy(), state.progress_at)
        };
        let mut all = self.all();
        if let Some(at) = (0..all.len()).min_by_key(|at| rank(&all[*at])) {
            all.remove(at).leave.notify_one();
        }
    }
}

/// Serves `routes` on `listener`, HTTP/1 alone, with at most `most` connections at a time.
pub(super) async fn serve(listener: TcpListener, routes: Router, most: usize) {
    let places = Arc::new(Places::default());
    let free = Arc::new(Semaphore::new(most));
    let mut failing = false;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the HTTP port could not accept a connection; retrying");
                }
                // Its own connections may use up the descriptors.
                places.make_room();
                sleep(PAUSE).await;
                continue;
            }
        };
        failing = false;
        if free.available_permits() == 0 {
            places.make_room();
        }
        // The semaphore is never closed.
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        let place = places.open();
        let (routes, places) = (routes.clone(), places.clone());
        tokio::spawn(async move {
            connection(stream, routes, &place).await;
            places.close(&place);
            drop(permit);
        });
    }
}

/// Serves one connection until it ends or passes a deadline.
async fn connection<S>(stream: S, routes: Router, place: &Arc<Place>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let routes = TowerToHyperService::new(routes);
    let noted = place.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        noted.request();
        let (answer, place) = (routes.call(request), noted.clone());
        async move {
            let ended = Ended(place);
            let response: Response = answer.await?;
            if response.extensions().get::<Large>().is_some() {
                ended.0.large();
            }
            // The body holds `ended` until it is sent or dropped.
            let hold = |body: Body| {
                body.map_frame(move |frame| {
                    let _ = &ended;
                    frame
                })
            };
            Ok::<_, std::convert::Infallible>(response.map(hold))
        }
    });
    let noted = Noted { stream, place: place.clone() };
    // `Place` has the deadlines.
    let served = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(noted), service);
    tokio::select! {
        // An error of a connection concerns only its client.
        _ = served => {}
        () = place.over() => {}
    }
}

/// Reports the end of a response, sent or dropped.
struct Ended(Arc<Place>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.responded();
    }
}

/// A stream that reports its traffic. Its vectored writes pass large bodies on without a copy, which no permit would
/// cover.
struct Noted<S> {
    stream: S,
    place: Arc<Place>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.place.read();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> Noted<S> {
    fn wrote(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(polled, Poll::Ready(Ok(1..))) {
            self.place.wrote();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.wrote(polled)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Called when the buffer is empty.
        let this = self.get_mut();
        this.place.flushed();
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::net::TcpStream;

    use super::*;

    fn open() -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (near, far) = duplex(64);
        let big = async || vec![b'x'; 10_000];
        let marked = async || {
            let mut response = Response::new(Body::from(vec![b'x'; 10_000]));
            response.extensions_mut().insert(Large);
            response
        };
        let routes = Router::new().route("/", get(async || "ok")).route("/big", get(big)).route("/large", get(marked));
        let place = Arc::new(Place::new());
        (far, tokio::spawn(async move { connection(near, routes, &place).await }))
    }

    async fn ask(client: &mut DuplexStream, path: &str) {
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    }

    async fn read_until(client: &mut DuplexStream, end: &[u8]) {
        let mut text = Vec::new();
        while !text.ends_with(end) {
            text.push(client.read_u8().await.unwrap());
        }
    }

    /// Within the second between two checks of the deadlines.
    #[track_caller]
    fn lasted(began: Instant, expected: Duration) {
        let lasted = began.elapsed();
        assert!((expected..=expected + Duration::from_secs(1)).contains(&lasted), "{lasted:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_a_deadline_however_many_bytes_trickle_in() {
        let began = Instant::now();
        let (mut client, ends) = open();
        client.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
        while client.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(500)).await;
        }
        ends.await.unwrap();
        lasted(began, HEAD);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_between_two_requests_may_idle_and_then_ends() {
        let (mut client, ends) = open();
        for _ in 0..3 {
            ask(&mut client, "/").await;
            read_until(&mut client, b"ok").await;
            sleep(IDLE / 2).await;
            assert!(!ends.is_finished());
        }
        let began = Instant::now();
        client.write_all(b"GET").await.unwrap();
        ends.await.unwrap();
        lasted(began, HEAD);
        let (mut client, ends) = open();
        ask(&mut client, "/").await;
        read_until(&mut client, b"ok").await;
        let began = Instant::now();
        ends.await.unwrap();
        lasted(began, IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_is_not_read_ends_and_a_large_one_has_a_deadline() {
        let (mut client, ends) = open();
        ask(&mut client, "/big").await;
        client.read_u8().await.unwrap();
        let began = Instant::now();
        ends.await.unwrap();
        lasted(began, STUCK);
        for (path, most) in [("/big", Duration::from_secs(10_000)), ("/large", LARGE)] {
            let (mut client, ends) = open();
            ask(&mut client, path).await;
            let began = Instant::now();
            // 64 bytes each 20 s: it moves, and takes most of an hour.
            let mut taken = 0;
            while taken < 10_000 {
                match client.read(&mut [0; 64]).await.unwrap() {
                    0 => break,
                    read => taken += read,
                }
                sleep(Duration::from_secs(20)).await;
            }
            assert!(began.elapsed() < most + Duration::from_secs(65), "{path}: {:?}", began.elapsed());
            assert_eq!(taken >= 10_000, path == "/big", "{path}");
            drop(client);
            ends.await.unwrap();
        }
    }

    #[test]
    fn the_port_takes_a_share_of_the_files() {
        for (limit, most) in [(Some(1024), 256), (Some(64), 16), (Some(3), 4), (Some(u64::MAX), 256), (None, 256)] {
            assert_eq!(share(limit), most, "{limit:?}");
        }
    }

    /// Slow clients replace each other; a request that arrives at once is answered, and a request in progress is not
    /// cut.
    #[tokio::test]
    async fn a_new_connection_takes_the_place_of_the_most_useless_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (release, held) = tokio::sync::watch::channel(false);
        let slow = async move || {
            let mut held = held.clone();
            held.wait_for(|done| *done).await.map(|_| "slow").unwrap_or_default()
        };
        let routes = Router::new().route("/", get(async || "ok")).route("/slow", get(slow));
        tokio::spawn(serve(listener, routes, 4));
        let mut under_way = TcpStream::connect(address).await.unwrap();
        under_way.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut slow = Vec::new();
        for _ in 0..20 {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
            slow.push(client);
            let mut health = TcpStream::connect(address).await.unwrap();
            health.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut text = String::new();
            health.read_to_string(&mut text).await.unwrap();
            assert!(text.ends_with("ok"), "{text}");
        }
        release.send(true).unwrap();
        let mut text = String::new();
        under_way.read_to_string(&mut text).await.unwrap();
        assert!(text.ends_with("slow"), "{text}");
    }

    /// HTTP/2 would need other limits for its windows and streams.
    #[tokio::test]
    async fn http_2_is_not_spoken() {
        let (mut client, ends) = open();
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        // Refused in HTTP/1, or dropped.
        let _ = client.read_to_end(&mut answer).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
        ends.await.unwrap();
    }
}
