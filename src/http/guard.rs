//! Who may ask, and how: GET and HEAD alone, and on a loopback port only under a name of this machine's loopback or one
//! that `--allow-host` names.
//!
//! A page of somebody else's that a browser on this machine shows can point a name of its own at 127.0.0.1 and read
//! whatever answers there (DNS rebinding); its requests then bear that name in `Host`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::Response;

use super::{HEALTH, problem};

/// The names under which the port answers.
#[derive(Debug, Clone)]
pub struct Hosts {
    /// Whether the port listens on loopback: then only its names and the allowed ones are answered.
    loopback: bool,
    allowed: Arc<[String]>,
}

impl Hosts {
    /// Of a port that listens on a loopback address (or not), behind a proxy that passes one of `allowed` on.
    pub fn new(loopback: bool, allowed: &[String]) -> Self {
        Self { loopback, allowed: allowed.iter().map(|name| plain(name)).collect() }
    }
}

impl From<bool> for Hosts {
    fn from(loopback: bool) -> Self {
        Self::new(loopback, &[])
    }
}

/// A name as it is compared: `Localhost.` is `localhost`.
fn plain(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Refuses what is not to be answered, and marks what is.
pub(super) async fn guard(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let mut response = match refusal(&hosts, &request) {
        None => next.run(request).await,
        Some((code, why)) => {
            let mut response = problem(code, why);
            if code == StatusCode::METHOD_NOT_ALLOWED {
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            response
        }
    };
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn refusal(hosts: &Hosts, request: &Request) -> Option<(StatusCode, &'static str)> {
    let mut named = request.headers().get_all(header::HOST).iter();
    let first = named.next();
    if named.next().is_some() {
        return Some((StatusCode::BAD_REQUEST, "the request has two Host headers"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Some((StatusCode::METHOD_NOT_ALLOWED, "this port is read-only: GET and HEAD alone"));
    }
    if !hosts.loopback {
        return None;
    }
    // Load balancers check health in HTTP/1.0 without a name; a browser always sends one.
    let nameless = request.version() < Version::HTTP_11 && first.is_none() && request.uri().host().is_none();
    if nameless && HEALTH.contains(&request.uri().path()) {
        return None;
    }
    // With an absolute address in the request line, that one counts.
    let host = request.uri().host().map(ToOwned::to_owned).or_else(|| {
        let uri: Uri = format!("http://{}", first?.to_str().ok()?).parse().ok()?;
        uri.host().map(ToOwned::to_owned)
    });
    let answered = host.is_some_and(|host| answers(hosts, &plain(&host)));
    let why = "this port answers to localhost, 127.0.0.1 and [::1] alone; --allow-host adds a name";
    (!answered).then_some((StatusCode::FORBIDDEN, why))
}

/// Whether `host` is a name that no other machine can own, or is allowed.
fn answers(hosts: &Hosts, host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let local = bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    host == "localhost" || local || hosts.allowed.iter().any(|name| name == host || name == bare)
}
