//! The outcome of a request: a receipt, or a failure with its verdict.
//!
//! `Failure` has one `Verdict`, which `camposcloud::error` decides; the core has no status codes and no socket errors.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::clock_check::ServerClock;
use super::reason::Reason;
use super::redacted::Redacted;

/// Meaning of a failed request for its caller. Only `camposcloud::error` decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// 400, 409, 422: the app may already be in this state. Read it at once; if it is not, retry with backoff.
    LookAgain,
    /// 401: the server refuses the token. Concerns the account, not the app.
    AccountBlocked,
    /// 402, 403, 451: this app may not be read or changed with this token. Checked again each interval.
    Forbidden,
    /// 423, 425: not now. Certainly without effect: retry with backoff.
    Locked,
    /// 404: no such app. Read again each interval.
    NotFound,
    /// 429, or a 402, 403, 451 or 503 with `Retry-After`: a rate limit, not the app's failure.
    RateLimited {
        /// The pause that the server requests.
        after: Option<Duration>,
    },
    /// The request certainly had no effect (it never arrived, or was refused by a failing server): retry with
    /// backoff.
    Retry,
    /// The answer was lost, and the request may have had an effect: read before repeating it.
    LostAnswer,
    /// An answer that the operator does not understand: read again each interval.
    Unexpected,
}

impl Verdict {
    /// The reason that it gives the app's condition.
    pub const fn reason(self) -> Reason {
        match self {
            Self::LookAgain | Self::Locked | Self::Retry | Self::LostAnswer => Reason::BackingOff,
            Self::AccountBlocked => Reason::AccountBlocked,
            Self::Forbidden => Reason::Forbidden,
            Self::NotFound => Reason::AppNotFound,
            Self::RateLimited { .. } => Reason::RateLimited,
            Self::Unexpected => Reason::UnexpectedAnswer,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LookAgain => "LookAgain",
            Self::AccountBlocked => "AccountBlocked",
            Self::Forbidden => "Forbidden",
            Self::Locked => "Locked",
            Self::NotFound => "NotFound",
            Self::RateLimited { .. } => "RateLimited",
            Self::Retry => "Retry",
            Self::LostAnswer => "LostAnswer",
            Self::Unexpected => "Unexpected",
        }
    }
}

/// Headers of an answer about further requests and the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateLimitHeaders {
    /// Requests per minute that the account has.
    pub limit: Option<u32>,
    /// Requests that are left.
    pub remaining: Option<u32>,
    /// Time until all requests are available again: seconds from now, not an epoch (vendor's guide, "Rate limits").
    pub reset: Option<Duration>,
    /// `Retry-After`, as time from now, at most [`LONGEST_PAUSE`](super::backoff::LONGEST_PAUSE).
    pub retry_after: Option<Duration>,
    /// Whether the server requested a longer pause.
    pub bounded: bool,
    pub clock: ServerClock,
}

/// A request that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub verdict: Verdict,
    /// The HTTP status, if there is an answer.
    pub http_status: Option<u16>,
    /// Message for display, without a body, a token or an address with credentials.
    pub message: Redacted,
    /// The rate-limit headers of the answer, if there is one.
    pub limits: RateLimitHeaders,
    /// Times that the request was sent again because a connection was dead.
    pub repeats: u32,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Answer to an accepted call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// 200, 201, 202 or 204.
    pub http_status: u16,
    /// The word the server returned in `status`.
    pub status: Option<Redacted>,
    /// The flag the server returned in `currentResourceMetrics.online`.
    pub online: Option<bool>,
    /// The server's `Date`: readings taken before it prove nothing.
    pub date: Option<Timestamp>,
    /// Oddity of the answer (an empty body, no JSON), for the log.
    pub oddity: Option<Redacted>,
}
