//! One observation of the whole account, for commands that read once, such as `plan`.
//!
//! Its requests pass the same rate limiter as the daemon's.

use std::collections::HashMap;
use std::time::Duration;

use crate::budget::{Admission, Call, Lane, RateLimiter};
use crate::clock::Clock;
use crate::platform::listing::{IncompleteCause, Listed, Listing, Next};
use crate::platform::{Page, Platform, Seen};
use crate::reconcile::app::AppId;
use crate::reconcile::backoff::PROBES;
use crate::reconcile::clock_check::ClockCheck;
use crate::reconcile::outcome::{Failure, Verdict};
use crate::reconcile::reading::Reading;
use crate::reconcile::redacted::Redacted;
use crate::reconcile::state::Observed;

/// Attempts for one request. A person waits for the result.
const ATTEMPTS: u32 = 4;

/// A step of the observation, for people who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A page of the list arrived. The total is `None` if the server does not report it.
    Listed { apps: usize, total: Option<usize> },
    /// A single read begins for an app that is not in the list; `apps` are already processed.
    Read { apps: usize, total: usize },
}

#[derive(Debug)]
pub struct Observation {
    /// Apps of the list and wanted apps that a single read found, sorted by id.
    pub seen: Vec<Seen>,
    /// Wanted apps that do not exist.
    pub missing: Vec<AppId>,
    /// Why the list is incomplete; `None` if it is complete.
    pub flaw: Option<IncompleteCause>,
    /// Requests per list.
    pub pages: u32,
    /// Number of unreadable items of the list.
    pub unreadable: u32,
    /// The problems of items and pages that arrived.
    pub problems: Vec<Redacted>,
    /// Number of wanted apps that the list does not show; each costs a single read.
    pub unlisted: u32,
    pub clock_check: ClockCheck,
}

impl Observation {
    /// Warnings about the list, one line each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(flaw) = self.flaw {
            warnings.push(format!("the list of apps is incomplete: {flaw}"));
        }
        if self.unreadable > 0 {
            let (count, s) = (self.unreadable, if self.unreadable == 1 { "" } else { "s" });
            warnings.push(format!("{count} item{s} of the list could not be read; the other apps are not affected"));
        }
        warnings.extend(self.problems.iter().map(|problem| format!("the list of apps: {problem}")));
        warnings
    }

    pub fn reading(&self, id: &AppId) -> Option<Reading> {
        if self.missing.contains(id) {
            return Some(Reading::new(Observed::Missing));
        }
        self.seen.iter().find(|seen| seen.id == *id).map(|seen| seen.reading.clone())
    }

    pub fn readings(&self) -> HashMap<AppId, Reading> {
        let missing = self.missing.iter().filter_map(|id| Some((id.clone(), self.reading(id)?)));
        self.seen.iter().map(|seen| (seen.id.clone(), seen.reading.clone())).chain(missing).collect()
    }
}

/// Reads all lists, then each app of `wanted` that is not in them by a single read. Calls `report` after each page and
/// before each single read.
pub async fn everything<P: Platform>(
    platform: &P,
    limiter: &mut RateLimiter,
    clock: Clock,
    mut listing: Listing,
    wanted: impl IntoIterator<Item = AppId>,
    report: impl Fn(Step),
) -> Result<Observation, Failure> {
    let mut clock_check = ClockCheck::new(false);
    let mut pages = 0;
    let mut tries = 0;
    let mut refused: Option<Failure> = None;
    loop {
        admitted(limiter, Lane::Observe, clock).await;
        let request = listing.next();
        let call = if request.team.is_some() { Call::TeamList } else { Call::List };
        let sent = clock.wall();
        match platform.list(request).await {
            Ok(answered) => {
                limiter.succeeded(&call, answered.limits, clock.now());
                clock_check.compare(answered.limits.clock, sent, clock.wall());
                (pages, tries) = (pages + 1, 0);
                let next = listing.add(answered.value);
                let (apps, total) = listing.progress();
                report(Step::Listed { apps, total });
                if next == Next::Done {
                    break;
                }
            }
            Err(failure) if listing.is_beyond_end(&failure) => {
                limiter.failed(&call, &failure, clock.now());
                pages += 1;
                if listing.add(Page::default()) == Next::Done {
                    break;
                }
            }
            Err(failure) if failure.verdict == Verdict::LookAgain && listing.may_have_been_refused() => {
                limiter.failed(&call, &failure, clock.now());
                listing.without_limit();
            }
            // A team that this token may not read, or that does not exist, hides no other list.
            Err(failure) if call == Call::TeamList && is_final(failure.verdict) => {
                limiter.failed(&call, &failure, clock.now());
                refused.get_or_insert(failure);
                tries = 0;
                listing.fail();
                if listing.next_list() == Next::Done {
                    break;
                }
            }
            Err(failure) => again(limiter, &call, failure, &mut tries, clock).await?,
        }
    }
    let Listed { apps: mut seen, flaw, unreadable, mut problems } = listing.finish();
    match refused {
        Some(failure) if pages == 0 => return Err(failure),
        Some(failure) => problems.push(failure.message),
        None => {}
    }
    let mut missing = Vec::new();
    let mut unlisted = 0;
    let is_listed = |id: &AppId| seen.binary_search_by(|known| known.id.cmp(id)).is_ok();
    let unseen: Vec<AppId> = wanted.into_iter().filter(|id| !is_listed(id)).collect();
    let total = unseen.len();
    for (apps, id) in unseen.into_iter().enumerate() {
        report(Step::Read { apps, total });
        unlisted += 1;
        if limiter.account_forbidden().is_some() {
            // The account may not read apps singly: further requests would be refused, too.
            continue;
        }
        let mut tries = 0;
        loop {
            admitted(limiter, Lane::Confirm, clock).await;
            let sent = clock.wall();
            match platform.get(&id).await {
                Ok(answered) => {
                    limiter.succeeded(&Call::Read(id.clone()), answered.limits, clock.now());
                    clock_check.compare(answered.limits.clock, sent, clock.wall());
                    let place = seen.partition_point(|known| known.id < id);
                    seen.insert(place, answered.value);
                    break;
                }
                Err(failure) if failure.verdict == Verdict::NotFound => {
                    limiter.failed(&Call::Read(id.clone()), &failure, clock.now());
                    missing.push(id.clone());
                    break;
                }
                // The state of this app stays unknown; the other apps are still useful.
                Err(failure) if matches!(failure.verdict, Verdict::Forbidden | Verdict::Unexpected) => {
                    limiter.failed(&Call::Read(id.clone()), &failure, clock.now());
                    break;
                }
                Err(failure) => again(limiter, &Call::Read(id.clone()), failure, &mut tries, clock).await?,
            }
        }
    }
    Ok(Observation { seen, missing, flaw, pages, unreadable, problems, unlisted, clock_check })
}

/// Returns whether the same request would fail again.
const fn is_final(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::LookAgain | Verdict::Forbidden | Verdict::NotFound | Verdict::Unexpected)
}

async fn admitted(limiter: &mut RateLimiter, lane: Lane, clock: Clock) {
    loop {
        match limiter.admit(lane, clock.now()) {
            Admission::Go => return,
            Admission::At(at) => tokio::time::sleep_until(clock.instant(at)).await,
            // Requests are sent one at a time, so no probe of this command can be in flight.
            Admission::Later => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Waits until the request may be retried, or returns the failure.
async fn again(
    limiter: &mut RateLimiter,
    call: &Call,
    failure: Failure,
    tries: &mut u32,
    clock: Clock,
) -> Result<(), Failure> {
    *tries += 1;
    let worth = matches!(failure.verdict, Verdict::Retry | Verdict::LostAnswer | Verdict::RateLimited { .. });
    if !worth || *tries >= ATTEMPTS {
        return Err(failure);
    }
    let (now, mut wait) = (clock.now(), PROBES.ceiling(*tries) / 2);
    if limiter.is_per_app_limit(call, &failure, now) {
        // The limiter pauses only for rate limits of the account.
        wait = wait.max(failure.limits.retry_after.unwrap_or_default());
    }
    limiter.failed(call, &failure, now);
    tokio::time::sleep(wait).await;
    Ok(())
}
