//! What does the read-only port answer? Routes over `status`, and the page that reads them; nothing in here changes
//! anything.
//!
//! Served from a thread of its own, so that somebody fetching ten thousand apps does not hold the operator's loop up.

pub mod page;

use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, serve};
use serde::Serialize;
use serde_json::json;

use crate::operator::clock::Clock;
use crate::status::{API_VERSION, App, Board, Daemon};

/// What the routes see.
#[derive(Debug, Clone)]
struct Port {
    board: Board,
    clock: Clock,
}

/// Binds the port: done before anything else starts, so that a taken port is a clear error.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves `board` on `listener` from a thread of its own, until the process ends.
pub fn start(listener: TcpListener, board: Board, clock: Clock) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("http".into()).spawn(move || {
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            serve(listener, routes(board, clock)).await
        });
        if let Err(error) = served {
            tracing::error!(%error, "the HTTP port failed; the operator goes on without it");
        }
    })?;
    Ok(())
}

/// The routes: GET and HEAD alone, everything else is 405.
pub fn routes(board: Board, clock: Clock) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/healthz", get(live))
        .route("/readyz", get(ready))
        .route("/api/v1/apps", get(apps))
        .route("/api/v1/apps/{name}", get(app))
        .route("/api/v1/status", get(status))
        .merge(page::routes())
        .fallback(nothing_here)
        .with_state(Port { board, clock })
}

/// A list of apps, in the shape of a Kubernetes list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AppList {
    api_version: &'static str,
    kind: &'static str,
    items: Vec<Arc<App>>,
}

async fn apps(State(port): State<Port>) -> Json<AppList> {
    Json(AppList { api_version: API_VERSION, kind: "AppList", items: port.board.apps() })
}

async fn app(State(port): State<Port>, Path(name): Path<String>) -> Response {
    match port.board.app(&name) {
        Some(app) => Json(app).into_response(),
        None => problem(StatusCode::NOT_FOUND, "no manifest declares an app of this name"),
    }
}

/// The daemon, with its version.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DaemonStatus {
    api_version: &'static str,
    kind: &'static str,
    version: &'static str,
    #[serde(flatten)]
    daemon: Daemon,
}

async fn status(State(port): State<Port>) -> Json<DaemonStatus> {
    let version = env!("CARGO_PKG_VERSION");
    Json(DaemonStatus { api_version: API_VERSION, kind: "DaemonStatus", version, daemon: port.board.daemon() })
}

/// Alive: the loop has gone round within three intervals. What CamposCloud does has no bearing on it.
async fn live(State(port): State<Port>, RawQuery(query): RawQuery) -> Response {
    checks(&[("loop", port.board.alive(port.clock.now()))], query)
}

/// Ready: a whole set of manifests was loaded, can still be read, and a complete list was observed.
async fn ready(State(port): State<Port>, RawQuery(query): RawQuery) -> Response {
    let Daemon { source, observation, .. } = port.board.daemon();
    let source_ok = source.loaded && source.available;
    checks(&[("source", source_ok), ("observation", observation.complete_once)], query)
}

/// The answer of a health check, in Kubernetes' form.
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

async fn nothing_here() -> Response {
    problem(StatusCode::NOT_FOUND, "no such path; see /api/v1/apps, /api/v1/status, or / in a browser")
}

fn problem(code: StatusCode, message: &str) -> Response {
    (code, Json(json!({ "error": message }))).into_response()
}
