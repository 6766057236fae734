//! Has the reader this already? `ETag` and `If-None-Match`.
//!
//! A tag is the version of the part of the board that an answer is made of. Weak, since the answer may be compressed.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The answer that `make` makes, or 304 where the reader has it already.
pub(super) fn tagged(headers: &HeaderMap, version: u64, make: impl FnOnce() -> Response) -> Response {
    let tag = tag(version);
    let mut response = if matches(headers, &tag) { StatusCode::NOT_MODIFIED.into_response() } else { make() };
    if response.status().is_server_error() {
        return response;
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    // It may be kept, but has to be asked for each time.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Whether the reader has it already.
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
