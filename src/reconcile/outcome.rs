//! The outcome of a request: a receipt, or a failure with its verdict.
//!
//! `Failure` carries one `Verdict`, settled where the answer is read (`camposcloud::error`); the core never sees a
//! status code or a socket error.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::doubt::ServerClock;
use super::reason::Reason;
use super::redacted::Redacted;

/// What a failed request means for whoever made it. Retryable or not is decided once, in `camposcloud::error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// 400, 409, 422: it may already be so. Look again at once; if it is not so, retry on backoff.
    LookAgain,
    /// 401: the token is not accepted. Concerns the account, not the app.
    AccountBlocked,
    /// 402, 403, 451: this app may not be read or changed with this token. Checked again each interval.
    Forbidden,
    /// 423, 425: not at present. Certainly without effect: retry on backoff.
    Locked,
    /// 404: no such app. Looked at again each interval.
    NotFound,
    /// 429, or a 402, 403, 451 or 503 with `Retry-After`: a rate limit, not the app's failure.
    RateLimited {
        /// How long the server asks to be left alone, if it says so.
        after: Option<Duration>,
    },
    /// The request certainly had no effect (it never arrived, or was refused by a server in trouble): retry on backoff.
    Retry,
    /// The request may have had an effect, its answer was lost: look before repeating, retry on backoff.
    LostAnswer,
    /// An answer nobody can make sense of: looked at again each interval.
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

    /// The label value of metrics and logs.
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

/// What the headers of an answer say of further requests and of the time, where they say anything readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Requests per minute that the account has.
    pub limit: Option<u32>,
    /// How many of them are left.
    pub remaining: Option<u32>,
    /// How long until they are all back: seconds from now, not an epoch (vendor's guide, "Rate limits").
    pub reset: Option<Duration>,
    /// `Retry-After`, as time from now, at most [`LONGEST_PAUSE`](super::backoff::LONGEST_PAUSE).
    pub retry_after: Option<Duration>,
    /// Whether the server named a longer time than that.
    pub bounded: bool,
    /// What the answer said of the server's clock.
    pub clock: ServerClock,
}

/// A request that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What it means.
    pub verdict: Verdict,
    /// The HTTP status, where an answer came.
    pub http_status: Option<u16>,
    /// What failed, for people: never holds a body, a token or an address with credentials.
    pub message: Redacted,
    /// The rate-limit headers of the answer, where one came.
    pub limits: Limits,
    /// How many times the request was sent beyond the first, because a connection was dead.
    pub repeats: u32,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// What an accepted stop or start answered.
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
    /// What was odd about the answer (an empty body, no JSON), for the log.
    pub oddity: Option<Redacted>,
}
