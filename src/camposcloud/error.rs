//! What failed, and one verdict: retry soon, retry after, never.
//!
//! Every HTTP status and every transport error becomes a [`Verdict`] in this file and nowhere else; a snapshot pins the
//! whole range of statuses.

use std::fmt::Display;
use std::time::Duration;

use jiff::Timestamp;

use super::packed;
use super::wire::{self, Odd};
use crate::platform::{Answered, Page, PageRequest, Seen};
use crate::reconcile::action::{Failure, Limits, Receipt, Verdict};
use crate::reconcile::app::AppId;
use crate::reconcile::redacted::Secrets;

/// The longest pause that a server's `Retry-After` or `X-RateLimit-Reset` can ask for. The documented window is a
/// minute; a header that asks for a week is a mistake, and obeying it would leave the account unattended.
pub const LONGEST_PAUSE: Duration = Duration::from_mins(15);

/// An HTTP answer, read whole, with the few headers that matter.
#[derive(Debug, Clone)]
pub struct RawAnswer {
    /// The status code.
    pub status: u16,
    /// The server's `Date`.
    pub date: Option<Timestamp>,
    /// `Retry-After`, as time from now.
    pub retry_after: Option<Duration>,
    /// The rate-limit headers.
    pub limits: Limits,
    /// The body, up to the caller's cap and without compression; or what is odd about it.
    pub body: Result<Vec<u8>, Odd>,
    /// The tokens that nothing of it may show: the one that the request was sent with, and those before it.
    pub secrets: Secrets,
    /// How many times the request was sent beyond the first.
    pub repeats: u32,
}

impl RawAnswer {
    /// Reads the headers that matter through `header(name)`; unreadable ones count as absent. A compressed body may have
    /// `cap` bytes when it is unpacked.
    pub fn new<'a>(
        status: u16,
        header: impl Fn(&str) -> Option<&'a str>,
        body: Vec<u8>,
        cap: usize,
        secrets: Secrets,
    ) -> Self {
        let date = header("date").and_then(http_date);
        let number = |name: &str| header(name).and_then(|text| text.trim().parse::<u32>().ok());
        let limits = Limits {
            limit: number("x-ratelimit-limit"),
            remaining: number("x-ratelimit-remaining"),
            reset: header("x-ratelimit-reset").and_then(seconds),
        };
        let retry_after =
            header("retry-after").and_then(|text| seconds(text).or_else(|| until(http_date(text)?, date)));
        let body = packed::unpacked(body, header("content-encoding"), cap);
        Self { status, date, retry_after, limits, body, secrets, repeats: 0 }
    }

    /// Reads the body.
    fn parsed<T>(&self, read: impl Fn(&[u8], &Secrets) -> Result<T, Odd>) -> Result<T, Odd> {
        self.body.as_ref().map_err(Clone::clone).and_then(|body| read(body, &self.secrets))
    }

    /// How long the server asks to be left alone: `Retry-After`, else the reset of an exhausted budget.
    fn pause(&self) -> Option<Duration> {
        self.retry_after.or(self.limits.reset)
    }
}

/// The verdict on a status code alone; `None` means accepted.
pub const fn verdict(status: u16) -> Option<Verdict> {
    match status {
        200 | 201 | 202 | 204 => None,
        400 | 409 | 422 => Some(Verdict::LookAgain),
        401 => Some(Verdict::AccountBlocked),
        403 => Some(Verdict::Forbidden),
        404 => Some(Verdict::NotFound),
        429 => Some(Verdict::RateLimited { after: None }),
        408 | 500..=599 => Some(Verdict::Retry),
        _ => Some(Verdict::Unexpected),
    }
}

/// The reading of a page, as messages call it.
pub fn listing(page: &PageRequest) -> String {
    page.team.as_ref().map_or_else(|| "listing apps".to_owned(), |team| format!("listing the apps of team {team}"))
}

/// A page of the list, or why not.
pub fn page(answer: &RawAnswer, request: &PageRequest) -> Result<Answered<Page>, Failure> {
    let doing = listing(request);
    accepted(answer, &doing).map_err(|failure| {
        if failure.verdict != Verdict::NotFound {
            return failure;
        }
        let advice = match request.team {
            None => "the API is not at this URL: check --api-url",
            Some(_) => "there is no such team, or this token may not read it: check --team",
        };
        Failure { message: answer.secrets.redact(&format!("{failure}; {advice}")), ..failure }
    })?;
    let value = answer.parsed(wire::page).map_err(|odd| odd_answer(answer, &doing, &odd))?;
    Ok(Answered { value, limits: answer.limits, repeats: answer.repeats })
}

/// One app read directly, or why not. An answer about another app is no answer.
pub fn app(answer: &RawAnswer, id: &AppId) -> Result<Answered<Seen>, Failure> {
    let doing = format!("reading app {id}");
    accepted(answer, &doing)?;
    let value = answer.parsed(wire::app).map_err(|odd| odd_answer(answer, &doing, &odd))?;
    if value.id == *id {
        Ok(Answered { value, limits: answer.limits, repeats: answer.repeats })
    } else {
        Err(another_app(answer, &doing))
    }
}

/// The receipt of a stop or start, or why not.
///
/// An empty body or JSON of another shape is at most accepted, and noted as odd; HTML and an answer about another app
/// are not even that: somebody else answered.
pub fn receipt(answer: &RawAnswer, doing: &str, id: &AppId) -> Result<Answered<Receipt>, Failure> {
    accepted(answer, doing)?;
    let mut receipt =
        Receipt { http_status: answer.status, status: None, online: None, date: answer.date, oddity: None };
    match answer.parsed(wire::app) {
        Ok(seen) if seen.id == *id => {
            receipt.status = seen.reading.status;
            receipt.online = seen.reading.online;
        }
        Ok(_) => return Err(another_app(answer, doing)),
        Err(Odd::Html) => return Err(odd_answer(answer, doing, &Odd::Html)),
        Err(odd @ (Odd::Empty | Odd::NotJson(_) | Odd::Shape(_) | Odd::Packed | Odd::TooLarge(_))) => {
            receipt.oddity = Some(answer.secrets.redact(&odd.to_string()));
        }
    }
    Ok(Answered { value: receipt, limits: answer.limits, repeats: answer.repeats })
}

/// Whether the token was accepted.
pub fn identity(answer: &RawAnswer) -> Result<Answered<()>, Failure> {
    accepted(answer, "checking the token")?;
    Ok(Answered { value: (), limits: answer.limits, repeats: answer.repeats })
}

/// A failure without an answer.
pub fn transport(doing: &str, verdict: Verdict, why: &dyn Display, secrets: &Secrets) -> Failure {
    // Certificates and protocol errors may quote the server, too.
    let message = secrets.redact(&format!("{doing}: {why}"));
    Failure { verdict, http_status: None, message, limits: Limits::default(), repeats: 0 }
}

fn accepted(answer: &RawAnswer, doing: &str) -> Result<(), Failure> {
    let Some(verdict) = verdict(answer.status) else { return Ok(()) };
    let verdict = match (verdict, answer.status) {
        (Verdict::RateLimited { .. }, _) => Verdict::RateLimited { after: answer.pause() },
        // A server that says when to come back is not broken but busy: everybody waits, nobody's app has failed.
        (Verdict::Retry, 503) if answer.retry_after.is_some() => Verdict::RateLimited { after: answer.retry_after },
        (other, _) => other,
    };
    let said = answer
        .body
        .as_ref()
        .ok()
        .and_then(|body| wire::message(body, &answer.secrets))
        .map(|text| format!(": {text}"))
        .unwrap_or_default();
    let message = answer.secrets.redact(&format!("{doing}: the server answered {}{said}", answer.status));
    Err(Failure { verdict, http_status: Some(answer.status), message, limits: answer.limits, repeats: answer.repeats })
}

fn odd_answer(answer: &RawAnswer, doing: &str, odd: &Odd) -> Failure {
    let message = answer.secrets.redact(&format!("{doing}: the server answered {} with {odd}", answer.status));
    Failure {
        verdict: Verdict::LostAnswer,
        http_status: Some(answer.status),
        message,
        limits: answer.limits,
        repeats: answer.repeats,
    }
}

fn another_app(answer: &RawAnswer, doing: &str) -> Failure {
    let message = answer.secrets.redact(&format!("{doing}: the server answered {} about another app", answer.status));
    Failure {
        verdict: Verdict::LostAnswer,
        http_status: Some(answer.status),
        message,
        limits: answer.limits,
        repeats: answer.repeats,
    }
}

/// Whole or fractional seconds from now, clamped to what is sensible; negative counts as none to wait.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.trim().parse().ok().filter(|seconds: &f64| !seconds.is_nan())?;
    Some(Duration::from_secs_f64(seconds.clamp(0.0, LONGEST_PAUSE.as_secs_f64())))
}

/// The time from the answer's own `Date` until `moment`, clamped: our clock may be wrong by hours, and is not asked.
fn until(moment: Timestamp, date: Option<Timestamp>) -> Option<Duration> {
    let span = moment.duration_since(date?);
    Some(Duration::try_from(span).unwrap_or_default().min(LONGEST_PAUSE))
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
        402-402 Unexpected
        403-403 Forbidden
        404-404 NotFound
        405-407 Unexpected
        408-408 Retry
        409-409 LookAgain
        410-421 Unexpected
        422-422 LookAgain
        423-428 Unexpected
        429-429 RateLimited
        430-499 Unexpected
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
        pause(&[("retry-after", "1000000000")], Some(900));
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
            "listing apps: the server answered 404: no such route; the API is not at this URL: check --api-url"
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
        let told = stop(409, r#"{"error":"already stopped"}"#).unwrap_err();
        assert_eq!(&*told.message, "stopping: the server answered 409: already stopped");
    }
}
