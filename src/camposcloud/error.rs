//! The value or the failure of a response.
//!
//! Every HTTP status becomes a [`Verdict`] in this file and nowhere else; a snapshot pins the whole range of statuses.

use std::fmt::Display;
use std::time::Duration;

use jiff::Timestamp;

use super::packed;
use super::wire::{self, Odd};
use crate::platform::{Answered, Page, PageRequest, Seen};
use crate::reconcile::app::AppId;
use crate::reconcile::backoff::LONGEST_PAUSE;
use crate::reconcile::clock_check::ServerClock;
use crate::reconcile::outcome::{Failure, RateLimitHeaders, Receipt, Verdict};
use crate::reconcile::redacted::Secrets;

/// Servers that may answer instead of the API: a word of their `Server` header, and their name. The list is closed, so
/// that no text of a server is shown unchanged.
const SERVERS: [(&str, &str); 8] = [
    ("cloudflare", "Cloudflare"),
    ("akamai", "Akamai"),
    ("awselb", "an AWS load balancer"),
    ("cloudfront", "CloudFront"),
    ("nginx", "nginx"),
    ("openresty", "OpenResty"),
    ("envoy", "Envoy"),
    ("caddy", "Caddy"),
];

const ANOTHER_APP: &str = "about another app";

/// A whole HTTP response with the headers that matter.
#[derive(Debug, Clone)]
pub struct RawAnswer {
    pub status: u16,
    pub date: Option<Timestamp>,
    pub limits: RateLimitHeaders,
    /// The sender, if it is one of [`SERVERS`].
    pub server: Option<&'static str>,
    /// The body without compression, up to the caller's cap.
    pub body: Result<Vec<u8>, Odd>,
    /// The tokens that no text of the response may show: the token of the request, and earlier ones.
    pub secrets: Secrets,
    /// Number of times that the request was sent again.
    pub repeats: u32,
}

impl RawAnswer {
    /// Reads the headers through `header(name)`; an unreadable one counts as absent. An unpacked body may have `cap`
    /// bytes.
    pub fn new<'a>(
        status: u16,
        header: impl Fn(&str) -> Option<&'a str>,
        body: Vec<u8>,
        cap: usize,
        secrets: Secrets,
    ) -> Self {
        let date = header("date").and_then(http_date);
        let number = |name: &str| header(name).and_then(|text| text.trim().parse::<u32>().ok());
        let reset = header("x-ratelimit-reset").and_then(seconds);
        let retry_after =
            header("retry-after").and_then(|text| seconds(text).or_else(|| until(http_date(text)?, date)));
        let body = packed::unpacked(body, header("content-encoding"), cap);
        let remaining = number("x-ratelimit-remaining");
        // The reset of a budget that is not exhausted is not a pause.
        let pause = retry_after.or(reset.filter(|_| status == 429 || remaining == Some(0)));
        let limits = RateLimitHeaders {
            limit: number("x-ratelimit-limit"),
            remaining,
            reset: reset.map(|pause| pause.min(LONGEST_PAUSE)),
            retry_after: retry_after.map(|pause| pause.min(LONGEST_PAUSE)),
            bounded: pause.is_some_and(|pause| pause > LONGEST_PAUSE),
            clock: match (header("age"), date) {
                (Some(_), _) => ServerClock::Aged,
                (None, Some(date)) => ServerClock::At(date),
                (None, None) => ServerClock::NoDate,
            },
        };
        let server = header("server").map(str::to_ascii_lowercase);
        let known = |server: &str| SERVERS.iter().find(|(word, _)| server.contains(word)).map(|(_, name)| *name);
        Self { status, date, limits, server: server.as_deref().and_then(known), body, secrets, repeats: 0 }
    }

    fn parsed<T>(&self, read: impl Fn(&[u8], &Secrets) -> Result<T, Odd>) -> Result<T, Odd> {
        self.body.as_ref().map_err(Clone::clone).and_then(|body| read(body, &self.secrets))
    }

    /// The pause that the server requests: `Retry-After`, otherwise the reset of an exhausted budget.
    fn pause(&self) -> Option<Duration> {
        self.limits.retry_after.or(self.limits.reset)
    }

    /// The status, and the name of another server that sent a page.
    fn name(&self) -> String {
        let from = self.server.map(|server| format!(" from {server}")).unwrap_or_default();
        let page = if self.body.as_ref().is_ok_and(|body| wire::is_html(body)) {
            format!(", an HTML page{from}")
        } else {
            String::new()
        };
        format!("{}{page}", self.status)
    }

    fn answered<T>(&self, value: T) -> Answered<T> {
        Answered { value, limits: self.limits, repeats: self.repeats }
    }

    fn failure(&self, verdict: Verdict, message: &str) -> Failure {
        let message = self.secrets.redact(message);
        Failure { verdict, http_status: Some(self.status), message, limits: self.limits, repeats: self.repeats }
    }

    /// The failure of a response to another request.
    fn lost(&self, doing: &str, why: &str) -> Failure {
        self.failure(Verdict::LostAnswer, &format!("{doing}: the server answered {} {why}", self.status))
    }
}

/// The verdict on a status code; `None` means accepted.
pub const fn verdict(status: u16) -> Option<Verdict> {
    match status {
        200 | 201 | 202 | 204 => None,
        400 | 409 | 422 => Some(Verdict::LookAgain),
        401 => Some(Verdict::AccountBlocked),
        402 | 403 | 451 => Some(Verdict::Forbidden),
        404 => Some(Verdict::NotFound),
        423 | 425 => Some(Verdict::Locked),
        429 => Some(Verdict::RateLimited { after: None }),
        408 | 500..=599 => Some(Verdict::Retry),
        _ => Some(Verdict::Unexpected),
    }
}

/// The beginning of the messages about a page.
pub fn listing(page: &PageRequest) -> String {
    page.team
        .as_ref()
        .map_or_else(|| "could not list apps".to_owned(), |team| format!("could not list the apps of team {team}"))
}

pub fn page(answer: &RawAnswer, request: &PageRequest) -> Result<Answered<Page>, Failure> {
    let doing = listing(request);
    accepted(answer, &doing).map_err(|failure| {
        let advice = match (answer.status, &request.team) {
            (401, _) => "check CAMPOSCLOUD_TOKEN or --token-file",
            (404, None) => "the API is not at this URL: check --api-url",
            (404, Some(_)) => "there is no such team, or this token may not read it: check --team",
            (_, _) => return failure,
        };
        answer.failure(failure.verdict, &format!("{failure}; {advice}"))
    })?;
    let value = answer.parsed(wire::page).map_err(|odd| answer.lost(&doing, &format!("with {odd}")))?;
    Ok(answer.answered(value))
}

/// One app, read singly. A response about another app is a failure.
pub fn app(answer: &RawAnswer, id: &AppId) -> Result<Answered<Seen>, Failure> {
    let doing = format!("could not read app {id}");
    accepted(answer, &doing)?;
    let value = answer.parsed(wire::app).map_err(|odd| answer.lost(&doing, &format!("with {odd}")))?;
    if value.id == *id { Ok(answer.answered(value)) } else { Err(answer.lost(&doing, ANOTHER_APP)) }
}

/// The receipt of a call.
///
/// An empty body or JSON of another shape is accepted, and noted as odd. HTML and a response about another app are
/// failures: another server answered.
pub fn receipt(answer: &RawAnswer, doing: &str, id: &AppId) -> Result<Answered<Receipt>, Failure> {
    accepted(answer, doing)?;
    let mut receipt =
        Receipt { http_status: answer.status, status: None, online: None, date: answer.date, oddity: None };
    match answer.parsed(wire::app) {
        Ok(seen) if seen.id == *id => {
            receipt.status = seen.reading.status;
            receipt.online = seen.reading.online;
        }
        Ok(_) => return Err(answer.lost(doing, ANOTHER_APP)),
        Err(Odd::Html) => return Err(answer.lost(doing, &format!("with {}", Odd::Html))),
        Err(odd @ (Odd::Empty | Odd::NotJson(_) | Odd::Shape(_) | Odd::Packed | Odd::TooLarge(_))) => {
            receipt.oddity = Some(answer.secrets.redact(&odd.to_string()));
        }
    }
    Ok(answer.answered(receipt))
}

pub fn identity(answer: &RawAnswer) -> Result<Answered<()>, Failure> {
    accepted(answer, "could not check the token")?;
    Ok(answer.answered(()))
}

/// A failure without a response.
pub fn transport(doing: &str, verdict: Verdict, why: &dyn Display, secrets: &Secrets) -> Failure {
    // Certificates and protocol errors may quote the server, too.
    let message = secrets.redact(&format!("{doing}: {why}"));
    Failure { verdict, http_status: None, message, limits: RateLimitHeaders::default(), repeats: 0 }
}

fn accepted(answer: &RawAnswer, doing: &str) -> Result<(), Failure> {
    let Some(verdict) = verdict(answer.status) else { return Ok(()) };
    let verdict = match (verdict, answer.status) {
        (Verdict::RateLimited { .. }, _) => Verdict::RateLimited { after: answer.pause() },
        // A server that requests a pause is busy: this counts as a rate limit.
        (Verdict::Retry, 503) | (Verdict::Forbidden, _) if answer.limits.retry_after.is_some() => {
            Verdict::RateLimited { after: answer.limits.retry_after }
        }
        (other, _) => other,
    };
    let said = answer
        .body
        .as_ref()
        .ok()
        .and_then(|body| wire::message(body, &answer.secrets))
        .map(|text| format!(": {text}"))
        .unwrap_or_default();
    Err(answer.failure(verdict, &format!("{doing}: the server answered {}{said}", answer.name())))
}

/// Whole or fractional seconds; negative ones count as 0. [`RawAnswer::new`] bounds them.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.trim().parse().ok().filter(|seconds: &f64| !seconds.is_nan())?;
    Some(Duration::from_secs_f64(seconds.clamp(0.0, 1e9)))
}

/// The time from the response's `Date` until `moment`. The local clock may be wrong by hours, so it is not used.
fn until(moment: Timestamp, date: Option<Timestamp>) -> Option<Duration> {
    let span = moment.duration_since(date?);
    Some(Duration::try_from(span).unwrap_or_default())
}

fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_one_verdict() {
        let name = |status| verdict(status).map_or("accepted", Verdict::as_str);
        let mut lines = Vec::new();
        let mut start = 100;
        for status in 100..600u16 {
            if status == 599 || name(status) != name(status + 1) {
                lines.push(format!("{start}-{status} {}", name(status)));
                start = status + 1;
            }
        }
        insta::assert_snapshot!(lines.join("\n"), @r"
        100-199 Unexpected
        200-202 accepted
        203-203 Unexpected
        204-204 accepted
        205-399 Unexpected
        400-400 LookAgain
        401-401 AccountBlocked
        402-403 Forbidden
        404-404 NotFound
        405-407 Unexpected
        408-408 Retry
        409-409 LookAgain
        410-421 Unexpected
        422-422 LookAgain
        423-423 Locked
        424-424 Unexpected
        425-425 Locked
        426-428 Unexpected
        429-429 RateLimited
        430-450 Unexpected
        451-451 Forbidden
        452-499 Unexpected
        500-599 Retry
        ");
    }

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> RawAnswer {
        let header = |name: &str| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        RawAnswer::new(status, header, body.as_bytes().to_vec(), 1 << 20, Secrets::default())
    }

    #[track_caller]
    fn pause(headers: &[(&str, &str)], seconds: Option<u64>) {
        let failure = identity(&answer(429, headers, "")).unwrap_err();
        assert_eq!(failure.verdict, Verdict::RateLimited { after: seconds.map(Duration::from_secs) }, "{headers:?}");
    }

    #[test]
    fn pauses_are_read_in_every_form_and_clamped() {
        let date = ("date", "Tue, 24 Nov 2026 12:00:00 GMT");
        pause(&[("retry-after", "5")], Some(5));
        pause(&[date, ("retry-after", "Tue, 24 Nov 2026 12:00:30 GMT")], Some(30));
        pause(&[date, ("retry-after", "Tue, 24 Nov 2026 11:00:00 GMT")], Some(0));
        pause(&[("retry-after", "Tue, 24 Nov 2026 12:00:30 GMT")], None);
        pause(&[("retry-after", "-3")], Some(0));
        pause(&[("retry-after", "1000000000")], Some(3600));
        pause(&[("retry-after", "soon")], None);
        pause(&[("retry-after", "NaN")], None);
        pause(&[("x-ratelimit-reset", "12")], Some(12));
        pause(&[], None);
    }

    #[test]
    fn a_list_that_is_not_found_says_that_the_address_is_wrong() {
        let own = PageRequest { number: 1, limit: None, team: None };
        let failure = page(&answer(404, &[], r#"{"error":"no such route"}"#), &own).unwrap_err();
        assert_eq!(
            &*failure.message,
            "could not list apps: the server answered 404: no such route; the API is not at this URL: check --api-url"
        );
        assert!(!page(&answer(403, &[], ""), &own).unwrap_err().message.contains("--api-url"));
        let team = PageRequest { team: Some("t1".into()), ..own };
        let message = page(&answer(404, &[], ""), &team).unwrap_err().message;
        assert!(
            message.contains("team t1") && message.contains("--team") && !message.contains("--api-url"),
            "{message}"
        );
    }

    #[test]
    fn an_implausible_pause_is_bounded_and_said_to_be() {
        let bounded = |headers: &[(&str, &str)], status| answer(status, headers, "").limits.bounded;
        assert!(bounded(&[("retry-after", "3601")], 429) && bounded(&[("x-ratelimit-reset", "1764120000")], 429));
        assert!(bounded(&[("x-ratelimit-reset", "1764120000"), ("x-ratelimit-remaining", "0")], 200));
        assert!(!bounded(&[("retry-after", "3600")], 429) && !bounded(&[("x-ratelimit-reset", "1764120000")], 200));
    }

    #[test]
    fn a_refusal_with_retry_after_is_a_rate_limit() {
        let after = Some(Duration::from_secs(7));
        for status in [402, 403, 451, 503] {
            let verdict = |headers: &[(&str, &str)]| identity(&answer(status, headers, "")).unwrap_err().verdict;
            assert_eq!(verdict(&[("retry-after", "7")]), Verdict::RateLimited { after }, "{status}");
            assert!(!matches!(verdict(&[]), Verdict::RateLimited { .. }), "{status}");
        }
        // Other statuses request a pause for this request only.
        for status in [400, 404, 409, 423, 425, 500, 502] {
            let failure = identity(&answer(status, &[("retry-after", "7")], "")).unwrap_err();
            assert_eq!(failure.limits.retry_after, after, "{status}");
            assert!(!matches!(failure.verdict, Verdict::RateLimited { .. }), "{status}");
        }
    }

    #[test]
    fn the_page_of_another_server_is_named() {
        let html = "<!DOCTYPE html><title>Just a moment...</title>";
        let said = |server: &str, body: &str| {
            page(&answer(403, &[("server", server)], body), &PageRequest { number: 1, limit: None, team: None })
                .unwrap_err()
                .message
                .to_string()
        };
        assert_eq!(
            said("cloudflare", html),
            "could not list apps: the server answered 403, an HTML page from Cloudflare"
        );
        assert_eq!(said("nginx/1.27.0", html), "could not list apps: the server answered 403, an HTML page from nginx");
        assert_eq!(said("\u{1b}[31mx", html), "could not list apps: the server answered 403, an HTML page");
        assert_eq!(said("cloudflare", r#"{"error":"no"}"#), "could not list apps: the server answered 403: no");
    }

    #[test]
    fn a_busy_server_is_not_a_broken_one() {
        let busy = identity(&answer(503, &[("retry-after", "7")], "")).unwrap_err();
        assert_eq!(busy.verdict, Verdict::RateLimited { after: Some(Duration::from_secs(7)) });
        let broken = identity(&answer(503, &[], "")).unwrap_err();
        assert_eq!(broken.verdict, Verdict::Retry);
    }

    #[test]
    fn attempted_is_accepted_only_by_the_server_itself() {
        let id: AppId = "a1".parse().unwrap();
        let stop = |status, body: &str| receipt(&answer(status, &[], body), "stopping", &id);
        let vendor = r#"{"_id":"a1","status":"active","currentResourceMetrics":{"online":true}}"#;
        let accepted = stop(200, vendor).unwrap().value;
        assert_eq!((accepted.status.as_deref(), accepted.online, accepted.oddity), (Some("active"), Some(true), None));
        assert_eq!(stop(204, "").unwrap().value.oddity.as_deref(), Some("an empty body"));
        assert!(stop(200, "ok").unwrap().value.oddity.is_some());
        assert_eq!(stop(200, "<html>").unwrap_err().verdict, Verdict::LostAnswer);
        assert_eq!(stop(200, r#"{"_id":"b2"}"#).unwrap_err().verdict, Verdict::LostAnswer);
        assert_eq!(stop(302, vendor).unwrap_err().verdict, Verdict::Unexpected);
        let refused = stop(409, r#"{"error":"already stopped"}"#).unwrap_err();
        assert_eq!(&*refused.message, "stopping: the server answered 409: already stopped");
    }
}
