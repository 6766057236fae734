//! The port to the platform: list, get, act, in the words of the core.
//!
//! `camposcloud::client` implements it over HTTP, `simulator` in process. It neither retries nor paces: the caller
//! does, with one rate limiter for the whole account.

pub mod listing;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::reconcile::app::AppId;
use crate::reconcile::outcome::{Failure, RateLimitHeaders, Receipt};
use crate::reconcile::reading::Reading;
use crate::reconcile::redacted::Redacted;
use crate::reconcile::state::Action;

/// Deadline for a connection, TLS included.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Deadline for a whole read, body included, so that a server that sends a byte at a time cannot block the operator.
pub const READ_DEADLINE: Duration = Duration::from_secs(30);
/// Deadline for a call: the server may wait for the container (for an undocumented time).
pub const ACT_DEADLINE: Duration = Duration::from_secs(60);

/// One app as the platform describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub id: AppId,
    pub name: Option<Redacted>,
    pub reading: Reading,
    /// Allocated memory.
    pub memory_mb: Option<u32>,
}

/// The id of a team.
pub type Team = Arc<str>;

/// A request for one page, counted from 1, of the list of apps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    pub number: u32,
    /// The page size to request; `None` leaves it to the server.
    pub limit: Option<u32>,
    /// The team of the list; `None` is the list of the account.
    pub team: Option<Team>,
}

/// Maximum number of stored problems of a page, and of a list.
pub const MAX_PROBLEMS: usize = 8;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub apps: Vec<Seen>,
    /// Number of items that could not be read (not JSON, no usable `_id`). The other items are not affected.
    pub unreadable: u32,
    /// The first few problems of the page and its items, with their places.
    pub problems: Vec<Redacted>,
    /// Whether the page has more items than a list may have.
    pub cut: bool,
    /// Absent for the bare array of the v1 documents.
    pub pagination: Option<Pagination>,
}

/// The used fields of the `pagination` object, each if present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pagination {
    pub total_items: Option<u64>,
    pub total_pages: Option<u64>,
    pub has_next_page: Option<bool>,
}

/// A value from a response of the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered<T> {
    pub value: T,
    /// The rate-limit headers of the response.
    pub limits: RateLimitHeaders,
    /// Number of times that the request was sent again because a connection was dead.
    pub repeats: u32,
}

/// A platform that runs apps. Every error has one verdict.
pub trait Platform: Send + Sync + 'static {
    fn list(&self, page: PageRequest) -> impl Future<Output = Result<Answered<Page>, Failure>> + Send;

    fn get(&self, id: &AppId) -> impl Future<Output = Result<Answered<Seen>, Failure>> + Send;

    fn act(&self, action: Action, id: &AppId) -> impl Future<Output = Result<Answered<Receipt>, Failure>> + Send;

    /// Returns whether the token has changed since the server refused it, so that a request can succeed now.
    fn token_changed(&self) -> bool {
        false
    }

    /// Checks that the server accepts the token.
    fn whoami(&self) -> impl Future<Output = Result<Answered<()>, Failure>> + Send;
}
