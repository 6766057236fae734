//! A CamposCloud on loopback that costs almost nothing, so that the bench measures the operator and not the server.
//!
//! Plain threads, keep-alive HTTP/1.1, apps rendered from a template. It keeps which apps are online, counts the
//! requests, and notes the moment at which the request line of each call has arrived.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use crate::fleet::{app_id, app_of};

/// The default page size, and the largest.
const PAGE: (u32, u32) = (10, 100);

/// One app as the list shows it: the published example with other values, and with what differs from app to app in
/// braces.
const APP: &str = include_str!("../app.json");

/// A stop or start, as it came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// When its request line had arrived.
    pub(crate) at: Instant,
    /// The app.
    pub(crate) app: u32,
}

/// Numbers of received requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Requests {
    /// Pages of the list.
    pub(crate) pages: u64,
    /// Reads of one app.
    pub(crate) reads: u64,
    /// Stops and starts.
    pub(crate) calls: u64,
}

#[derive(Debug)]
struct State {
    template: Vec<String>,
    online: Vec<AtomicBool>,
    pages: AtomicU64,
    reads: AtomicU64,
    calls: AtomicU64,
    log: Mutex<Vec<Call>>,
    came: Condvar,
}

/// A running server. Its threads end with the process: they hold nothing and wait without cost.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    state: Arc<State>,
}

impl Server {
    /// Serves `apps` apps, all online, on a free port.
    pub(crate) fn start(apps: u32) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            template: pieces(),
            online: (0..apps).map(|_| AtomicBool::new(true)).collect(),
            pages: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            log: Mutex::new(Vec::new()),
            came: Condvar::new(),
        });
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                // The client has gone away.
                thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Ok(Self { address, state })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Numbers of requests so far.
    pub(crate) fn requests(&self) -> Requests {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Requests { pages: count(&self.state.pages), reads: count(&self.state.reads), calls: count(&self.state.calls) }
    }

    /// Changes an app as another client would.
    pub(crate) fn set_online(&self, app: u32, online: bool) {
        self.state.online[app as usize].store(online, Ordering::Relaxed);
    }

    /// Forgets the calls so far.
    pub(crate) fn forget_calls(&self) {
        self.log().clear();
    }

    /// Waits for `count` calls since the last [`Server::forget_calls`], and returns them; `None` at the deadline.
    pub(crate) fn wait_for_calls(&self, count: usize, patience: Duration) -> Option<Vec<Call>> {
        let lacking = |log: &mut Vec<Call>| log.len() < count;
        let (log, _) = self
            .state
            .came
            .wait_timeout_while(self.log(), patience, lacking)
            .expect("no thread panics while it holds the log");
        (log.len() >= count).then(|| log.clone())
    }

    fn log(&self) -> MutexGuard<'_, Vec<Call>> {
        self.state.log.lock().expect("no thread panics while it holds the log")
    }
}

fn serve(mut stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4096);
    let mut answer = Vec::new();
    let mut line_at = None;
    loop {
        let end = loop {
            if line_at.is_none() && buffer.contains(&b'\n') {
                line_at = Some(Instant::now());
            }
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            let mut chunk = [0; 4096];
            let length = stream.read(&mut chunk)?;
            if length == 0 {
                return Ok(());
            }
            buffer.extend_from_slice(&chunk[..length]);
        };
        let at = line_at.take().unwrap_or_else(Instant::now);
        // None of these requests has a body.
        let head = String::from_utf8_lossy(&buffer[..end]);
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        answer.clear();
        let status = reply(state, method, target, at, &mut answer);
        buffer.drain(..end);
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now()).unwrap_or_default();
        let length = answer.len();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ndate: {date}\r\ncontent-length: {length}\r\n\r\n"
        );
        // One write for both: two would be two wake-ups of the other side.
        answer.splice(..0, head.into_bytes());
        stream.write_all(&answer)?;
    }
}

fn reply(state: &State, method: &str, target: &str, at: Instant, body: &mut Vec<u8>) -> &'static str {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let known = |id: &str| app_of(id).filter(|app| (*app as usize) < state.online.len());
    match (method, segments.as_slice()) {
        ("GET", ["v1", "apps"]) => {
            state.pages.fetch_add(1, Ordering::Relaxed);
            page(state, query, body);
            "200 OK"
        }
        ("GET", ["v1", "apps", id]) if let Some(app) = known(id) => {
            state.reads.fetch_add(1, Ordering::Relaxed);
            render(state, app, &Timestamp::now().to_string(), body);
            "200 OK"
        }
        ("POST", ["v1", "apps", id, action @ ("stop" | "start")]) if let Some(app) = known(id) => {
            state.calls.fetch_add(1, Ordering::Relaxed);
            state.online[app as usize].store(*action == "start", Ordering::Relaxed);
            state.log.lock().expect("no thread panics while it holds the log").push(Call { at, app });
            state.came.notify_all();
            render(state, app, &Timestamp::now().to_string(), body);
            "200 OK"
        }
        _ => {
            body.extend_from_slice(br#"{"error":"not found"}"#);
            "404 Not Found"
        }
    }
}

fn page(state: &State, query: &str, body: &mut Vec<u8>) {
    let number = |key: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == key).and_then(|(_, value)| value.parse::<u32>().ok())
    };
    let total = u32::try_from(state.online.len()).unwrap_or(u32::MAX);
    let size = number("limit").unwrap_or(PAGE.0).clamp(1, PAGE.1);
    let page = number("page").unwrap_or(1).max(1);
    let pages = total.div_ceil(size).max(1);
    let now = Timestamp::now().to_string();
    body.extend_from_slice(br#"{"applications":["#);
    let first = (page - 1).saturating_mul(size);
    for app in first..first.saturating_add(size).min(total) {
        if app > first {
            body.push(b',');
        }
        render(state, app, &now, body);
    }
    let (next, previous) = (page < pages, page > 1);
    let tail = format!(
        r#"],"totalUsedRAM":52428800,"pagination":{{"totalItems":{total},"totalPages":{pages},"currentPage":{page},"itemsPerPage":{size},"hasNextPage":{next},"hasPrevPage":{previous}}}}}"#
    );
    body.extend_from_slice(tail.as_bytes());
}

fn render(state: &State, app: u32, now: &str, body: &mut Vec<u8>) {
    let online = if state.online[app as usize].load(Ordering::Relaxed) { "true" } else { "false" };
    for piece in &state.template {
        match piece.as_str() {
            "{id}" => body.extend_from_slice(app_id(app).as_bytes()),
            "{now}" => body.extend_from_slice(now.as_bytes()),
            "{online}" => body.extend_from_slice(online.as_bytes()),
            "{name}" => body.extend_from_slice(format!("app-{app:06}").as_bytes()),
            fixed => body.extend_from_slice(fixed.as_bytes()),
        }
    }
}

/// The template in pieces: fixed text, and the names that stand for values.
fn pieces() -> Vec<String> {
    let mut pieces = vec![APP.trim_end().to_owned()];
    for name in ["{id}", "{now}", "{online}", "{name}"] {
        pieces = pieces
            .iter()
            .flat_map(|piece| match piece.split_once(name) {
                Some((before, after)) => vec![before.to_owned(), name.to_owned(), after.to_owned()],
                None => vec![piece.clone()],
            })
            .collect();
    }
    pieces
}
