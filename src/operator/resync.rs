//! The resync: reading the whole list again, page by page, in the lane of its purpose.
//!
//! Only a list whose pages all arrived is complete; an incomplete list proves nothing about the apps that it does not
//! show.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::budget::Lane;
use crate::platform::listing::{Listed, Listing, Next, PAGE_SIZE};
use crate::platform::{Page, PageRequest, Team};
use crate::reconcile::app::AppId;
use crate::reconcile::backoff::PROBES;
use crate::reconcile::moment::Moment;
use crate::reconcile::outcome::{Failure, Verdict};
use crate::reconcile::redacted::Redacted;

/// Incomplete lists in a row before the apps that none of them showed are read singly. Before that, another list is
/// cheaper.
pub const GIVE_UP_WAITING: u32 = 3;

#[derive(Debug)]
pub struct Resync {
    current: Option<ListInProgress>,
    next_start: Moment,
    started_at: Moment,
    pages: u32,
    limit: Option<u32>,
    /// Cause why the last list is incomplete, for a person.
    incomplete: Option<Arc<str>>,
    reach: Reach,
    incomplete_in_a_row: u32,
    incomplete_since: Option<Moment>,
    /// Pause that the last failure requested (`Retry-After`).
    retry_after: Option<Duration>,
    finished: u64,
    complete_once: bool,
    completed_at: Option<Timestamp>,
    apps: usize,
    /// Teams that have their lists read, too.
    teams: Vec<Team>,
    /// The unreadable items and the problems of the last list that were reported.
    problems: (u32, usize),
}

/// The part of the last list that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Whole,
    Part,
    Nothing,
    /// The API has no list at this URL.
    Absent,
}

#[derive(Debug)]
struct ListInProgress {
    listing: Listing,
    lane: Lane,
    /// The failure of the list of a team.
    failure: Option<Failure>,
    /// The time from which the next page waits; `None` while it is in flight.
    waiting: Option<Moment>,
    arrived: u32,
}

#[derive(Debug)]
pub struct Finished {
    /// The ids of a complete list.
    pub complete: Option<BTreeSet<AppId>>,
    /// Cause why the list is incomplete, and the number of apps that it showed.
    pub incomplete: Option<(Arc<str>, usize)>,
    pub should_log_incomplete: bool,
    /// Whether an earlier resync was incomplete and this one is not.
    pub recovered: bool,
    pub first_complete: bool,
    /// Incomplete lists in a row, this one included.
    pub incomplete_in_a_row: u32,
    pub pages: u32,
    /// The number of unreadable items, and the problems; `None` if they did not change.
    pub problems: Option<(u32, Vec<Redacted>)>,
}

impl Default for Resync {
    fn default() -> Self {
        Self {
            current: None,
            next_start: Moment::START,
            started_at: Moment::START,
            pages: 1,
            limit: Some(PAGE_SIZE),
            incomplete: None,
            reach: Reach::Nothing,
            incomplete_in_a_row: 0,
            incomplete_since: None,
            retry_after: None,
            finished: 0,
            complete_once: false,
            completed_at: None,
            apps: 0,
            teams: Vec::new(),
            problems: (0, 0),
        }
    }
}

impl Resync {
    /// `teams`: their lists are read beside the account's own.
    pub fn new(teams: Vec<Team>) -> Self {
        Self { teams, ..Self::default() }
    }

    /// Returns whether the last list arrived only in part.
    pub fn incomplete(&self) -> bool {
        self.reach == Reach::Part
    }

    /// Returns whether nothing of the last list arrived, or there was none yet.
    pub fn unreadable(&self) -> bool {
        matches!(self.reach, Reach::Nothing | Reach::Absent)
    }

    /// Returns whether the API has no list at this URL. Then single reads do not help.
    pub fn absent(&self) -> bool {
        self.reach == Reach::Absent
    }

    pub fn finished_any(&self) -> bool {
        self.finished > 0
    }

    pub fn complete_once(&self) -> bool {
        self.complete_once
    }

    pub fn completed_at(&self) -> Option<Timestamp> {
        self.completed_at
    }

    /// The number of apps on the last complete list.
    pub fn apps(&self) -> usize {
        self.apps
    }

    pub fn incomplete_cause(&self) -> Option<&Arc<str>> {
        self.incomplete.as_ref()
    }

    /// Number of apps so far and of all apps, while the first list arrives.
    pub fn first_list_progress(&self) -> Option<(usize, usize)> {
        let (done, total) = self.current.as_ref().filter(|_| !self.complete_once)?.listing.progress();
        total.filter(|_| done > 0).map(|total| (done, total))
    }

    /// Requests per list.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    pub fn idle(&self) -> bool {
        self.current.is_none()
    }

    /// The scheduled start of the next resync, if none is in progress.
    pub fn next_start(&self) -> Option<Moment> {
        self.idle().then_some(self.next_start)
    }

    /// The expected start of the next resync; while one is in progress, an interval after its start.
    pub fn expected_start(&self, interval: Duration) -> Moment {
        self.next_start().unwrap_or(self.started_at + interval)
    }

    pub fn due(&self, now: Moment) -> bool {
        self.idle() && now >= self.next_start
    }

    /// Returns whether one list costs less than the scheduled single reads, and can start.
    pub fn may_start_confirming(&self, due_reads: usize) -> bool {
        self.idle() && due_reads > self.pages as usize
    }

    /// Schedules the next resync for now.
    pub fn start_now(&mut self, now: Moment) {
        self.next_start = self.next_start.min(now);
    }

    /// Begins a resync, whose first page waits since `now`.
    pub fn start(&mut self, lane: Lane, now: Moment) {
        self.started_at = now;
        self.current = Some(ListInProgress {
            listing: Listing::of_ids(self.limit, &self.teams),
            lane,
            failure: None,
            waiting: Some(now),
            arrived: 0,
        });
    }

    pub fn waiting(&self, lane: Lane) -> Option<Moment> {
        self.current.as_ref().filter(|pass| pass.lane == lane).and_then(|pass| pass.waiting)
    }

    pub fn take_page(&mut self) -> Option<PageRequest> {
        let pass = self.current.as_mut()?;
        pass.waiting.take()?;
        Some(pass.listing.next())
    }

    /// Marks contradictory list entries as Unknown.
    pub fn mark_contradictions(&self, page: &mut Page) {
        if let Some(pass) = &self.current {
            pass.listing.mark_contradictions(page);
        }
    }

    pub fn page(&mut self, page: Page, now: Moment, wall: Timestamp) -> Option<Finished> {
        let pass = self.current.as_mut()?;
        pass.arrived += 1;
        match pass.listing.add(page) {
            Next::Page(_) => {
                pass.waiting = Some(now);
                None
            }
            Next::Done => self.finish(None, wall),
        }
    }

    pub fn page_failed(&mut self, failure: &Failure, now: Moment, wall: Timestamp) -> Option<Finished> {
        let pass = self.current.as_mut()?;
        if pass.listing.is_beyond_end(failure) {
            return self.page(Page::default(), now, wall);
        }
        match failure.verdict {
            // All requests pause; then the same page is requested again.
            Verdict::RateLimited { .. } => {
                pass.waiting = Some(now);
                return None;
            }
            // The page size may be refused: its maximum is undocumented.
            Verdict::LookAgain if pass.listing.may_have_been_refused() => {
                self.limit = None;
                pass.listing.without_limit();
                pass.waiting = Some(now);
                return None;
            }
            // A team that this token may not read, or that does not exist, hides neither the account's apps nor other
            // teams'.
            Verdict::LookAgain | Verdict::Forbidden | Verdict::NotFound | Verdict::Unexpected
                if pass.listing.next().team.is_some() =>
            {
                pass.listing.fail();
                pass.failure.get_or_insert_with(|| failure.clone());
                if let Next::Page(_) = pass.listing.next_list() {
                    pass.waiting = Some(now);
                    return None;
                }
                return self.finish(None, wall);
            }
            Verdict::LookAgain
            | Verdict::AccountBlocked
            | Verdict::Forbidden
            | Verdict::Locked
            | Verdict::NotFound
            | Verdict::Retry
            | Verdict::LostAnswer
            | Verdict::Unexpected => {}
        }
        pass.listing.fail();
        self.finish(Some(failure), wall)
    }

    /// Schedules the next resync: an interval after the start of the last, or sooner where that was incomplete.
    pub fn schedule(&mut self, interval: Duration, salt: u64, now: Moment) {
        self.next_start = if self.incomplete.is_some() {
            let failing = now.since(*self.incomplete_since.get_or_insert(now));
            let wait = PROBES.wait(self.incomplete_in_a_row, salt, failing).max(Duration::from_secs(1)).min(interval);
            now + wait.max(self.retry_after.take().unwrap_or_default())
        } else {
            self.incomplete_since = None;
            now.max(self.started_at + interval)
        };
    }

    fn finish(&mut self, failure: Option<&Failure>, wall: Timestamp) -> Option<Finished> {
        let pass = self.current.take()?;
        let pages = pass.arrived.max(1);
        let some_came = pass.arrived > 0;
        let of_a_team = pass.failure.is_some();
        let failure = pass.failure.as_ref().or(failure);
        let Listed { apps: seen, flaw, unreadable, problems } = pass.listing.finish_ids();
        let counts = (unreadable, problems.len());
        // A page that did not arrive proves nothing about its items.
        let is_new = flaw.is_none() && counts != self.problems || counts > self.problems;
        if is_new {
            self.problems = counts;
        }
        self.finished += 1;
        // With the cause: "a page did not arrive" alone does not help to repair a certificate.
        let incomplete: Option<Arc<str>> = flaw.map(|flaw| match failure {
            Some(failure) => format!("{flaw}: {failure}").into(),
            None => flaw.to_string().into(),
        });
        // A condition of the whole account has its own line. A refused list of a team does not.
        let reported = failure.map(|failure| failure.verdict).is_some_and(|verdict| {
            matches!(verdict, Verdict::AccountBlocked | Verdict::Forbidden | Verdict::RateLimited { .. })
        }) && !of_a_team;
        let should_log_incomplete = !reported && incomplete.is_some() && incomplete != self.incomplete;
        let recovered = flaw.is_none() && self.incomplete.is_some();
        self.incomplete.clone_from(&incomplete);
        self.reach = match failure {
            _ if flaw.is_none() => Reach::Whole,
            _ if some_came => Reach::Part,
            Some(Failure { verdict: Verdict::NotFound, .. }) => Reach::Absent,
            Some(_) | None => Reach::Nothing,
        };
        self.retry_after = failure.and_then(|failure| failure.limits.retry_after);
        let first_complete = flaw.is_none() && !self.complete_once;
        if flaw.is_none() {
            self.pages = pages;
            self.complete_once = true;
            self.completed_at = Some(wall);
            self.apps = seen.len();
            self.incomplete_in_a_row = 0;
        } else {
            self.incomplete_in_a_row += 1;
        }
        let apps = seen.len();
        let complete = flaw.is_none().then_some(seen);
        Some(Finished {
            complete,
            incomplete: incomplete.map(|cause| (cause, apps)),
            should_log_incomplete,
            recovered,
            first_complete,
            incomplete_in_a_row: self.incomplete_in_a_row,
            pages,
            problems: is_new.then_some((unreadable, problems)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{Pagination, Seen};
    use crate::reconcile::outcome::RateLimitHeaders;
    use crate::reconcile::reading::Reading;
    use crate::reconcile::state::Observed;

    const INTERVAL: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    /// A page with the apps `ids`, out of `total`.
    fn page(ids: &[&str], total: u64) -> Page {
        let reading = Reading { online: Some(true), ..Reading::new(Observed::Running) };
        let seen = |id: &&str| Seen { id: id.parse().unwrap(), name: None, reading: reading.clone(), memory_mb: None };
        let pagination = Pagination { total_items: Some(total), ..Pagination::default() };
        Page { apps: ids.iter().map(seen).collect(), pagination: Some(pagination), ..Page::default() }
    }

    fn failure(verdict: Verdict, after: Option<u64>) -> Failure {
        let limits = RateLimitHeaders { retry_after: after.map(Duration::from_secs), ..RateLimitHeaders::default() };
        Failure { verdict, http_status: None, message: "no answer".into(), limits, repeats: 0 }
    }

    /// Feeds pages and failures to one resync that starts at `now`, and returns the result of the last of them.
    fn feed(resync: &mut Resync, now: Moment, answers: Vec<Result<Page, Failure>>) -> Option<Finished> {
        resync.start(Lane::Observe, now);
        let mut finished = None;
        for answer in answers {
            assert!(finished.is_none(), "the resync ended before {answer:?}");
            resync.take_page().expect("a page is pending");
            finished = match answer {
                Ok(page) => resync.page(page, now, Timestamp::UNIX_EPOCH),
                Err(failure) => resync.page_failed(&failure, now, Timestamp::UNIX_EPOCH),
            };
        }
        resync.schedule(INTERVAL, 7, now);
        finished
    }

    /// A resync's answers; whether it counts as complete, and its reach: unreadable, incomplete, absent.
    #[track_caller]
    fn case(answers: Vec<Result<Page, Failure>>, complete: Option<usize>, reach: [bool; 3], cause: Option<&str>) {
        let mut resync = Resync::default();
        let finished = feed(&mut resync, at(0), answers).expect("the resync ends");
        assert_eq!(finished.complete.as_ref().map(BTreeSet::len), complete);
        assert_eq!([resync.unreadable(), resync.incomplete(), resync.absent()], reach);
        assert_eq!(resync.incomplete_cause().map(|cause| &**cause), cause);
        assert_eq!(finished.incomplete.map(|(cause, _)| cause).as_deref(), cause);
        assert_eq!((resync.complete_once(), finished.first_complete), (complete.is_some(), complete.is_some()));
        assert_eq!((resync.finished_any(), resync.idle()), (true, true));
        assert_eq!(resync.apps(), complete.unwrap_or_default());
    }

    #[test]
    fn only_a_list_whose_pages_all_arrived_is_complete() {
        let (lost, absent) = (|| failure(Verdict::LostAnswer, None), || failure(Verdict::NotFound, None));
        let cause = Some("a page did not arrive: no answer");
        case(vec![Ok(page(&["a", "b"], 2))], Some(2), [false; 3], None);
        case(vec![Ok(page(&["a"], 2)), Ok(page(&["b"], 2))], Some(2), [false; 3], None);
        // An account without apps is a complete list; a page that failed is not an account without apps.
        case(vec![Ok(page(&[], 0))], Some(0), [false; 3], None);
        case(vec![Err(lost())], None, [true, false, false], cause);
        case(vec![Err(absent())], None, [true, false, true], cause);
        case(vec![Ok(page(&["a"], 2)), Err(lost())], None, [false, true, false], cause);
        case(vec![Ok(page(&["a"], 2)), Err(absent())], None, [false, true, false], cause);
        let short = Some("1 apps came where 2 were announced");
        case(vec![Ok(page(&["a"], 2)), Ok(page(&[], 2))], None, [false, true, false], short);
        // The size of the page was refused, or the rate limit refused the page: the same page follows.
        case(vec![Err(failure(Verdict::LookAgain, None)), Ok(page(&["a"], 1))], Some(1), [false; 3], None);
        let limited = failure(Verdict::RateLimited { after: None }, None);
        case(vec![Err(limited), Ok(page(&["a"], 1))], Some(1), [false; 3], None);
    }

    #[test]
    fn an_unreadable_team_makes_the_list_incomplete_and_hides_no_other_list() {
        for verdict in [Verdict::LookAgain, Verdict::Forbidden, Verdict::NotFound, Verdict::Unexpected] {
            let mut resync = Resync::new(vec!["one".into(), "two".into()]);
            // The page size is refused once before the team itself is.
            let mut answers = vec![Ok(page(&["a"], 1)), Err(failure(verdict, None))];
            if verdict == Verdict::LookAgain {
                answers.push(Err(failure(verdict, None)));
            }
            answers.push(Ok(page(&["b"], 1)));
            let finished = feed(&mut resync, at(0), answers).expect("the resync ends");
            assert_eq!((finished.complete, resync.incomplete()), (None, true), "{verdict:?}");
            assert_eq!(finished.incomplete.map(|(_, apps)| apps), Some(2), "{verdict:?}: the other lists came");
        }
    }

    #[test]
    fn an_incomplete_list_is_read_again_sooner_and_not_before_its_pause_ends() {
        let mut resync = Resync::default();
        let lost = |after| vec![Err(failure(Verdict::LostAnswer, after))];
        feed(&mut resync, at(0), vec![Ok(page(&["a"], 1))]);
        assert_eq!((resync.next_start(), resync.due(at(59)), resync.due(at(60))), (Some(at(60)), false, true));
        let finished = feed(&mut resync, at(60), lost(None)).unwrap();
        assert!(finished.should_log_incomplete && finished.incomplete_in_a_row == 1);
        assert!(resync.next_start().unwrap() <= at(65), "{:?}", resync.next_start());
        let finished = feed(&mut resync, at(65), lost(Some(300))).unwrap();
        assert!(!finished.should_log_incomplete && finished.incomplete_in_a_row == 2);
        assert!(resync.next_start().unwrap() >= at(65 + 300), "{:?}", resync.next_start());
        let finished = feed(&mut resync, at(400), vec![Ok(page(&["a"], 1))]).unwrap();
        assert!(finished.recovered && !finished.first_complete && finished.incomplete_in_a_row == 0);
        assert_eq!(resync.next_start(), Some(at(460)));
        resync.start_now(at(410));
        assert_eq!(resync.next_start(), Some(at(410)));
    }

    #[test]
    fn one_resync_runs_at_a_time_and_requests_each_page_once() {
        let mut resync = Resync::default();
        assert!(resync.may_start_confirming(2) && !resync.may_start_confirming(1), "a list costs one request");
        resync.start(Lane::Confirm, at(5));
        assert!(!resync.may_start_confirming(9) && !resync.due(at(999)) && resync.next_start().is_none());
        assert_eq!((resync.waiting(Lane::Confirm), resync.waiting(Lane::Observe)), (Some(at(5)), None));
        assert_eq!(resync.expected_start(INTERVAL), at(65));
        assert!(resync.take_page().is_some() && resync.take_page().is_none());
        assert!(resync.page(page(&["a"], 2), at(6), Timestamp::UNIX_EPOCH).is_none());
        assert_eq!((resync.waiting(Lane::Confirm), resync.take_page().unwrap().number), (Some(at(6)), 2));
    }
}
