//! The port to the platform: list, get, start and stop, in the core's words.
//!
//! `camposcloud::client` speaks it over HTTP, `simulator` in process. It neither retries nor paces: whoever calls it
//! owns that (one governor for the whole account).

pub mod listing;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::reconcile::app::AppId;
use crate::reconcile::outcome::{Failure, Limits, Receipt};
use crate::reconcile::reading::Reading;
use crate::reconcile::redacted::Redacted;
use crate::reconcile::state::Action;

/// Deadline for a connection, TLS included.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Deadline for a whole read, body included: a server that drips a byte at a time cannot hold us.
pub const READ_DEADLINE: Duration = Duration::from_secs(30);
/// Deadline for a stop or start: the server may wait for the container (nobody documents how long).
pub const ACT_DEADLINE: Duration = Duration::from_secs(60);

/// One app as the platform describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its `_id`.
    pub id: AppId,
    /// Its display name.
    pub name: Option<Redacted>,
    /// What was read of its state.
    pub reading: Reading,
}

/// The id of a team whose apps are listed, too.
pub type Team = Arc<str>;

/// A page of a list to request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// 1 is the first.
    pub number: u32,
    /// How many items to request; `None` leaves it to the server.
    pub limit: Option<u32>,
    /// The team whose list it is; `None` is the account's own.
    pub team: Option<Team>,
}

/// How many problems of a page, and of a list, are kept.
pub const MAX_PROBLEMS: usize = 8;

/// One page of the list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The apps on it.
    pub apps: Vec<Seen>,
    /// How many of its items could not be read (not JSON, no usable `_id`): each affects only itself.
    pub unreadable: u32,
    /// What is wrong with it and its items, and where; the first few.
    pub problems: Vec<Redacted>,
    /// Whether it holds more items than a list may have.
    pub cut: bool,
    /// What the server says of the whole; absent for the bare array of the v1 documents.
    pub pagination: Option<Pagination>,
}

/// The server's `pagination` object, as far as it is used. Missing fields stay missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pagination {
    /// Number of apps over all pages.
    pub total_items: Option<u64>,
    /// Number of pages.
    pub total_pages: Option<u64>,
    /// The page that this is.
    pub current_page: Option<u64>,
    /// Whether another page follows.
    pub has_next_page: Option<bool>,
}

/// A value that the platform answered with, and what it said of the account's budget meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered<T> {
    /// The answer.
    pub value: T,
    /// The rate-limit headers that came with it.
    pub limits: Limits,
    /// How many times the request was sent beyond the first, because a connection was dead.
    pub repeats: u32,
}

/// A platform that apps run on. Every error carries one verdict.
pub trait Platform: Send + Sync + 'static {
    /// One page of the list of apps.
    fn list(&self, page: PageRequest) -> impl Future<Output = Result<Answered<Page>, Failure>> + Send;

    /// One app, read directly.
    fn get(&self, id: &AppId) -> impl Future<Output = Result<Answered<Seen>, Failure>> + Send;

    /// Stop or start one app.
    fn act(&self, action: Action, id: &AppId) -> impl Future<Output = Result<Answered<Receipt>, Failure>> + Send;

    /// Whether another token than the last refused one would be sent now: then it is worth trying at once.
    fn token_changed(&self) -> bool {
        false
    }

    /// Whether the token is accepted at all.
    fn whoami(&self) -> impl Future<Output = Result<Answered<()>, Failure>> + Send;
}
