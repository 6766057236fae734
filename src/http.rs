//! The read-only port: routes over `status`, and the status page. No request changes anything.
//!
//! The port has a separate thread, so that a client that fetches ten thousand apps does not block the loop of the
//! operator. Connections (`connections`) and the memory for responses (`room`) are bounded.

mod apps;
mod conditional;
mod connections;
mod events;
mod forecast;
mod guard;
pub mod metrics;
pub mod page;
mod room;

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, middleware};
use jiff::{Timestamp, Unit};
use serde::Serialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tower_http::compression::CompressionLayer;

use self::conditional::tagged;
pub use self::guard::{Hosts, is_loopback_host};
use self::metrics::Format;
use self::room::{Large, ResponseMemory};
use crate::clock::Clock;
use crate::reconcile::app::AppName;
use crate::status::activity::combine;
use crate::status::groups::Groups;
use crate::status::history::{self, Entry, Health};
use crate::status::trend::{Change, SPAN, trend};
use crate::status::week::week;
use crate::status::{API_VERSION, Board, Daemon};

const OPENAPI: &str = include_str!("http/openapi.json");

/// State of the routes.
#[derive(Debug, Clone)]
struct Port {
    board: Board,
    clock: Clock,
    readers: Arc<Semaphore>,
    searches: Arc<Semaphore>,
    room: ResponseMemory,
}

const HEALTH: [&str; 3] = ["/livez", "/healthz", "/readyz"];
/// Default number of activity items.
const ACTIVITY: usize = 100;
/// Default length of the list of transitions.
const TRANSITIONS: usize = 20;
/// Deadline of a search in the files of the history. If the disk does not answer, the response has no older entries.
const SEARCH: Duration = Duration::from_secs(5);

/// Binds the port first, so that a port in use is a clear error.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).or_else(|error| {
        // All addresses, on a machine without IPv6.
        let no_ipv6 = [io::ErrorKind::AddrNotAvailable, io::ErrorKind::Unsupported].contains(&error.kind())
            || error.raw_os_error() == Some(libc::EAFNOSUPPORT);
        if address.ip() == Ipv6Addr::UNSPECIFIED && no_ipv6 {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port()))
        } else {
            Err(error)
        }
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves `board` on `listener` in a separate thread, until the process ends. On a loopback address it also answers
/// the names in `allowed`.
pub fn start(listener: TcpListener, board: Board, clock: Clock, allowed: &[String]) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let hosts = Hosts::new(is_loopback(listener.local_addr()?), allowed);
    std::thread::Builder::new().name("http".into()).spawn(move || {
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            connections::serve(listener, routes(board, clock, hosts), connections::most()).await;
            io::Result::Ok(())
        });
        if let Err(error) = served {
            tracing::error!(%error, "the HTTP port failed; the operator continues without it");
        }
    })?;
    Ok(())
}

pub fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// The routes, for GET and HEAD only. `hosts`: the names that are answered; `true` for those of loopback.
pub fn routes(board: Board, clock: Clock, hosts: impl Into<Hosts>) -> Router {
    // A compression takes about 300 KB, so only large responses are compressed, whose number is bounded.
    let large =
        |_: StatusCode, _: _, _: &HeaderMap, extensions: &axum::http::Extensions| extensions.get::<Large>().is_some();
    let clients = events::CLIENTS.min(connections::most() / 2);
    Router::new()
        .route("/livez", get(live))
        .route("/healthz", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .route("/openapi.json", get(openapi))
        .route("/api/v1/apps", get(list))
        .route("/api/v1/apps/{name}", get(app))
        .route("/api/v1/apps/{name}/schedule", get(schedule))
        .route("/api/v1/status", get(status))
        .route("/api/v1/history", get(history_entries))
        .route("/api/v1/activity", get(activity))
        .route("/api/v1/forecast", get(next_day))
        .route("/api/v1/transitions", get(transitions))
        .route("/api/v1/trend", get(trend_of_groups))
        .route("/api/v1/events", get(events))
        .merge(page::routes())
        .fallback(not_found)
        .layer(CompressionLayer::new().compress_when(large))
        .layer(middleware::from_fn_with_state(hosts.into(), guard::guard))
        .with_state(Port {
            board,
            clock,
            readers: Arc::new(Semaphore::new(clients)),
            searches: Arc::new(Semaphore::new(1)),
            room: ResponseMemory::default(),
        })
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn metrics_text(State(port): State<Port>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::negotiate(accept);
    let mut response = match metrics::scrape(&port.board, format) {
        Ok(text) => port.room.response(format.content_type(), text.into_bytes()),
        Err(error) => {
            tracing::error!(%error, "could not write the metrics");
            problem(StatusCode::INTERNAL_SERVER_ERROR, "could not write the metrics")
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.append(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// Decoded parameters of a query, in order.
type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;

async fn list(State(port): State<Port>, headers: HeaderMap, parameters: Parameters) -> Response {
    let Ok(Query(parameters)) = parameters else { return unreadable_query() };
    match apps::Query::parse(&parameters) {
        Ok(query) => {
            // Read before the list, so that the list may be newer than its tag, never older.
            let version = port.board.versions().apps;
            tagged(&headers, version, || port.room.stream(query.chunks(&port.board, version, room::CHUNK)))
        }
        Err(why) => problem(StatusCode::BAD_REQUEST, &why),
    }
}

async fn app(State(port): State<Port>, headers: HeaderMap, name: Result<Path<String>, PathRejection>) -> Response {
    // A path that is not UTF-8 is not a name.
    match name.ok().and_then(|Path(name)| port.board.app_version(&name)) {
        Some((app, version)) => tagged(&headers, version, || port.room.json(&app)),
        None => problem(StatusCode::NOT_FOUND, "no manifest declares an app of this name"),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DaemonStatus {
    api_version: &'static str,
    kind: &'static str,
    version: &'static str,
    /// Start of the process.
    started_at: Timestamp,
    /// Number of apps of each group.
    apps: Groups,
    /// Requests to CamposCloud within the last minute.
    requests_last_minute: u32,
    /// Value of `--source-link`.
    source_link: Option<String>,
    #[serde(flatten)]
    daemon: Daemon,
    history: Health,
}

/// The object of `/api/v1/status`.
fn daemon_status(board: &Board, clock: Clock) -> impl Serialize {
    let (now, wall) = (clock.now(), clock.wall());
    let started_at = wall - now.since_start();
    DaemonStatus {
        api_version: API_VERSION,
        kind: "DaemonStatus",
        version: env!("CARGO_PKG_VERSION"),
        // To the second, because it is computed from two clocks.
        started_at: started_at.round(Unit::Second).unwrap_or(started_at),
        apps: board.groups(),
        requests_last_minute: board.meters().sent_last_minute(now),
        source_link: board.source_link().map(str::to_owned),
        daemon: board.daemon(),
        history: board.history_health(),
    }
}

async fn status(State(port): State<Port>, headers: HeaderMap) -> Response {
    // The number of requests changes without a new version of the board.
    let requests = port.board.meters().sent_last_minute(port.clock.now());
    let version = port.board.versions().board.wrapping_mul(10_000).wrapping_add(requests.into());
    tagged(&headers, version, || port.room.json(&daemon_status(&port.board, port.clock)))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HistoryList {
    api_version: &'static str,
    kind: &'static str,
    items: Vec<Arc<Entry>>,
}

/// Parses the parameters `app` and `limit`.
fn history_parameters(parameters: &[(String, String)], default: usize) -> Result<(Option<&str>, usize), String> {
    let (mut app, mut most) = (None, default);
    for (name, value) in parameters {
        match name.as_str() {
            "app" => app = Some(value.as_str()),
            "limit" => most = apps::limit(value)?.unwrap_or(history::KEPT),
            other => return Err(format!("unknown parameter {other:?}; expected app or limit")),
        }
    }
    Ok((app, most))
}

async fn history_entries(State(port): State<Port>, headers: HeaderMap, parameters: Parameters) -> Response {
    let Ok(Query(parameters)) = parameters else { return unreadable_query() };
    let (app, most) = match history_parameters(&parameters, history::KEPT) {
        Ok(query) => query,
        Err(why) => return problem(StatusCode::BAD_REQUEST, &why),
    };
    let version = port.board.versions().history;
    let items = if conditional::has(&headers, version) { Vec::new() } else { remembered(&port, app, most).await };
    tagged(&headers, version, || port.room.json(&HistoryList { api_version: API_VERSION, kind: "HistoryList", items }))
}

/// The activity, newest first.
async fn activity(State(port): State<Port>, parameters: Parameters) -> Response {
    let Ok(Query(parameters)) = parameters else { return unreadable_query() };
    let (app, most) = match history_parameters(&parameters, ACTIVITY) {
        Ok(query) => query,
        Err(why) => return problem(StatusCode::BAD_REQUEST, &why),
    };
    let mut items = combine(&remembered(&port, app, history::KEPT).await);
    items.truncate(most);
    port.room.json(&json!({"apiVersion": API_VERSION, "kind": "ActivityList", "items": items}))
}

/// The newest entries, newest first. For one app also entries that only the file has: with thousands of apps, one
/// bulk can remove the entries of an app from memory.
async fn remembered(port: &Port, app: Option<&str>, most: usize) -> Vec<Arc<Entry>> {
    let mut items = port.board.history(app, most);
    let wanted = most.min(history::KEPT).saturating_sub(items.len());
    let name: Option<AppName> = app.and_then(|app| app.parse().ok());
    let (Some(name), Some((directory, oldest)), 1..) = (name, port.board.older_history(), wanted) else {
        return items;
    };
    // Several entries may have the time of the oldest one; entries that memory has as well are removed below.
    let most = wanted + items.len();
    match on_disk(port, move || history::search(&directory, &name, oldest, most)).await {
        Ok(older) => {
            let older = older.into_iter().filter(|entry| !items.iter().any(|item| **item == *entry)).map(Arc::new);
            let older: Vec<_> = older.take(wanted).collect();
            items.extend(older);
        }
        Err(error) => tracing::debug!(%error, "could not search the file of the history"),
    }
    items
}

/// Runs `work`, which reads the files of the history: one at a time, and for a limited time.
async fn on_disk<T: Send + 'static>(
    port: &Port,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let permits = port.searches.clone();
    let work = async {
        // The permit is held until the disk answers, even if the client has gone.
        let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
        let work = move || {
            let _permit = permit;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten()
    };
    tokio::time::timeout(SEARCH, work).await.map_err(io::Error::other).flatten()
}

async fn next_day(State(port): State<Port>) -> Response {
    let (board, wall) = (port.board.clone(), port.clock.wall());
    // A fleet of thousands takes longer than an answer may delay others.
    match tokio::task::spawn_blocking(move || forecast::next_day(&board, wall)).await {
        Ok(forecast) => port.room.json(&forecast),
        Err(error) => {
            tracing::error!(%error, "could not make the forecast");
            problem(StatusCode::INTERNAL_SERVER_ERROR, "could not make the forecast")
        }
    }
}

/// The schedule of one app, evaluated: seven days and the next changes.
async fn schedule(State(port): State<Port>, name: Result<Path<String>, PathRejection>) -> Response {
    let Some(app) = name.ok().and_then(|Path(name)| port.board.app(&name)) else {
        return problem(StatusCode::NOT_FOUND, "no manifest declares an app of this name");
    };
    match app.declared.spec() {
        Some(spec) => port.room.json(&week(spec, port.clock.wall())),
        None => problem(StatusCode::NOT_FOUND, "no valid manifest of this app was read yet"),
    }
}

/// The number of apps of each group over the last 24 hours.
async fn trend_of_groups(State(port): State<Port>) -> Response {
    let now = port.clock.wall();
    let mut since = port.board.history_complete_since(now - port.clock.now().since_start());
    let mut changes: Vec<Change> =
        port.board.history(None, history::KEPT).iter().rev().filter_map(|entry| Change::of(entry)).collect();
    let begin = now - SPAN;
    if let Some((directory, oldest)) = port.board.older_history().filter(|(_, oldest)| *oldest > begin) {
        let read = move || {
            let mut older = Vec::new();
            let take = |entry: Entry| older.extend(Change::of(&entry).filter(|change| change.time < oldest));
            history::read_since(&directory, begin, take).map(|first| (first, older))
        };
        match on_disk(&port, read).await {
            Ok((first, mut older)) => {
                since = first.map_or(since, |first| first.min(since));
                // Those of the same moment may be in memory only in part.
                changes.retain(|change| change.time >= oldest);
                older.append(&mut changes);
                changes = older;
            }
            Err(error) => tracing::debug!(%error, "could not read the file of the history"),
        }
    }
    let apps = port.board.apps();
    let present = apps.iter().map(|app| (app.name().as_str(), app.conditions.group()));
    port.room.json(&trend(present, &changes, since, now))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Transition {
    at: Timestamp,
    app: String,
    app_id: String,
    state: &'static str,
    /// The part of the manifest that decides after the change.
    because: Option<String>,
}

/// Returns the next change of the desired state of each app, earliest first.
async fn transitions(State(port): State<Port>, parameters: Parameters) -> Response {
    let Ok(Query(parameters)) = parameters else { return unreadable_query() };
    let mut most = TRANSITIONS;
    for (name, value) in &parameters {
        match (name.as_str(), apps::limit(value)) {
            ("limit", Ok(limit)) => most = limit.unwrap_or(usize::MAX),
            ("limit", Err(why)) => return problem(StatusCode::BAD_REQUEST, &why),
            (other, _) => {
                return problem(StatusCode::BAD_REQUEST, &format!("unknown parameter {other:?}; expected limit"));
            }
        }
    }
    let items = port.board.transitions(most).into_iter().filter_map(|(at, app)| {
        let because = app.declared.spec().map(|spec| spec.explain(spec.target(at)));
        let state = app.next_transition?.1.as_str();
        Some(Transition { at, app: app.name().to_string(), app_id: app.app_id().to_owned(), state, because })
    });
    port.room.json(&json!({
        "apiVersion": API_VERSION, "kind": "TransitionList", "items": items.collect::<Vec<_>>(),
    }))
}

async fn events(State(port): State<Port>, headers: HeaderMap) -> Response {
    events::stream((port.board, port.clock), &headers, port.readers, port.room)
}

/// Alive: the loop has made progress within three intervals. CamposCloud does not matter.
async fn live(State(port): State<Port>, RawQuery(query): RawQuery) -> Response {
    checks(&[("loop", port.board.alive(port.clock.now()))], query)
}

/// Ready: a complete set of manifests was loaded and can still be read, and a complete list was observed. A standby
/// reads the Lease instead of the list.
async fn ready(State(port): State<Port>, RawQuery(query): RawQuery) -> Response {
    let Daemon { source, observation, leader, .. } = port.board.daemon();
    let source_ok = source.loaded && source.available;
    if let Some(standby) = leader.filter(|leader| !leader.leading) {
        return checks(&[("source", source_ok), ("lease", standby.readable)], query);
    }
    checks(&[("source", source_ok), ("observation", observation.complete_once)], query)
}

/// Answer of a health check, in the form of Kubernetes.
fn checks(checks: &[(&str, bool)], query: Option<String>) -> Response {
    let good = checks.iter().all(|(_, good)| *good);
    let code = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose = query.is_some_and(|query| query.split('&').any(|part| part.split('=').next() == Some("verbose")));
    let mut text = String::new();
    if verbose || !good {
        for (name, good) in checks {
            let line = if *good { format!("[+]{name} ok") } else { format!("[-]{name} failed") };
            let _ = writeln!(text, "{line}"); // writing to a String cannot fail
        }
        text.push_str(if good { "check passed\n" } else { "check failed\n" });
    } else {
        text.push_str("ok\n");
    }
    (code, [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], text)
        .into_response()
}

fn unreadable_query() -> Response {
    problem(StatusCode::BAD_REQUEST, "could not read the query; expected name=value&name=value")
}

async fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "no such path; see /api/v1/apps, /api/v1/status, or / in a browser")
}

fn problem(code: StatusCode, message: &str) -> Response {
    (code, Json(json!({ "error": message }))).into_response()
}
