//! The status page: three plain files, embedded as they are.
//!
//! The page is a client of `/api/v1` like any other. Its policy forbids foreign and inline code, so that a hostile name
//! or message cannot run code.

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// `data:` is for the icon.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(async || file("text/html; charset=utf-8", include_str!("page/index.html"))))
        .route("/page.css", get(async || file("text/css; charset=utf-8", include_str!("page/page.css"))))
        .route("/page.js", get(async || file("text/javascript; charset=utf-8", include_str!("page/page.js"))))
}

/// `no-cache`: after an upgrade, an old script must not query a new daemon.
fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [&str; 3] =
        [include_str!("page/index.html"), include_str!("page/page.css"), include_str!("page/page.js")];

    /// The files contain nothing that the policy forbids, and nothing turns the server's texts into markup.
    #[test]
    fn the_files_have_nothing_inline_and_no_foreign_address() {
        for text in FILES {
            for never in [
                "innerHTML",
                "outerHTML =",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "style=\"",
                "<style",
                " onclick",
                "https://",
                "url(",
                "@import",
            ] {
                assert!(!text.contains(never), "{never:?}");
            }
            let foreign = text.replace("http://www.w3.org/", "").contains("http://");
            assert!(!foreign, "an address other than those of XML's namespaces");
        }
        // Relative addresses: a proxy may serve the page below a path of its own.
        for absolute in ["\"/api", "`/api", "\"/livez", "\"/page", "href=\"/", "src=\"/"] {
            assert!(FILES.iter().all(|text| !text.contains(absolute)), "{absolute}");
        }
        assert_eq!(FILES[0].matches("<script").count(), 1);
        assert!(FILES[0].contains("<script type=\"module\" src=\"page.js\"></script>"));
    }

    #[test]
    fn each_file_has_the_policy() {
        let answer = file("text/html; charset=utf-8", FILES[0]);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    }
}
