//! Who may ask, and how? GET and HEAD alone, and on a loopback port only under a loopback name.
//!
//! A page of somebody else's that a browser on this machine shows can point a name of its own at 127.0.0.1 and read
//! whatever answers there (DNS rebinding); its requests then bear that name in `Host`.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use super::problem;

/// Refuses what is not to be answered, and marks what is.
pub(super) async fn guard(State(loopback): State<bool>, request: Request, next: Next) -> Response {
    let mut response = if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "this port is read-only: GET and HEAD alone");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        response
    } else if loopback && !local(&request) {
        problem(StatusCode::FORBIDDEN, "this port answers to localhost, 127.0.0.1 and [::1] alone")
    } else {
        next.run(request).await
    };
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Whether the request was made under a name that nobody else can own.
fn local(request: &Request) -> bool {
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    // With an absolute address in the request line, that one counts.
    let host = request.uri().host().map(ToOwned::to_owned).or_else(|| {
        let uri: Uri = format!("http://{}", named?).parse().ok()?;
        uri.host().map(ToOwned::to_owned)
    });
    host.is_some_and(|host| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}
