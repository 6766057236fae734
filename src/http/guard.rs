//! Guard of every request: only GET and HEAD, and on a loopback port only with a loopback name or a name of
//! `--allow-host`.
//!
//! A foreign page in a browser on this machine can resolve its own name to 127.0.0.1 and read the answers (DNS
//! rebinding). Its requests then have that name in `Host`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::Response;

use super::{HEALTH, problem};

/// The host names that the port answers.
#[derive(Debug, Clone)]
pub struct Hosts {
    /// Whether the port listens on loopback. Any other port answers every name.
    loopback: bool,
    allowed: Arc<[String]>,
}

impl Hosts {
    /// `allowed`: further names, which a proxy passes on to a loopback port.
    pub fn new(loopback: bool, allowed: &[String]) -> Self {
        Self { loopback, allowed: allowed.iter().map(|name| plain(name)).collect() }
    }
}

impl From<bool> for Hosts {
    fn from(loopback: bool) -> Self {
        Self::new(loopback, &[])
    }
}

/// The form in which names are compared: `Localhost.` is `localhost`.
fn plain(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Refuses requests with another method or host name.
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
        return Some((StatusCode::METHOD_NOT_ALLOWED, "this port is read-only: use GET or HEAD"));
    }
    if !hosts.loopback {
        return None;
    }
    // Load balancers check health with HTTP/1.0 and no name. A browser always sends one.
    let nameless = request.version() < Version::HTTP_11 && first.is_none() && request.uri().host().is_none();
    if nameless && HEALTH.contains(&request.uri().path()) {
        return None;
    }
    // An absolute address in the request line takes precedence.
    let host = request.uri().host().map(ToOwned::to_owned).or_else(|| {
        let uri: Uri = format!("http://{}", first?.to_str().ok()?).parse().ok()?;
        uri.host().map(ToOwned::to_owned)
    });
    let answered = host.map(|host| plain(&host)).is_some_and(|host| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        is_loopback_host(&host) || hosts.allowed.iter().any(|name| *name == host || name == bare)
    });
    let why = "this port answers only to localhost, 127.0.0.1 and [::1]; --allow-host adds a name";
    (!answered).then_some((StatusCode::FORBIDDEN, why))
}

/// Returns whether `host` is the loopback of this machine: a name that no other machine can have.
pub fn is_loopback_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}
