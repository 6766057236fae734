//! `ETag` and `If-None-Match`.
//!
//! A tag is the version of the part of the board that the answer shows. Tags are weak, since answers may be compressed.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The answer of `make`, or 304 if the client has the present version.
pub(super) fn tagged(headers: &HeaderMap, version: u64, make: impl FnOnce() -> Response) -> Response {
    let tag = tag(version);
    let mut response = if matches(headers, &tag) { StatusCode::NOT_MODIFIED.into_response() } else { make() };
    if response.status().is_server_error() {
        return response;
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    // Caches may keep it, but must revalidate it each time.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Returns whether the client has the present version.
pub(super) fn has(headers: &HeaderMap, version: u64) -> bool {
    matches(headers, &tag(version))
}

fn tag(version: u64) -> String {
    format!("W/\"{version:x}\"")
}

fn matches(headers: &HeaderMap, tag: &str) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let given = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    given.flat_map(|value| value.split(',')).any(|one| one.trim() == "*" || bare(one) == bare(tag))
}
