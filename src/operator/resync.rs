//! The resync: reading the whole list again, page by page, in the lane of its purpose.
//!
//! Only a list whose pages all arrived is complete; an incomplete list proves nothing about the apps that it does not
//! show.
//!
//! The operator requests the pages of the first list in parallel, because each app waits for its first reading. A page
//! updates its apps when the page arrives. After the first list, complete or not, or after the first failed page, the operator
//! requests one page at a time: the server may not be able to answer several pages in parallel.

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
    /// Whether the operator requests one page at a time.
    one_by_one: bool,
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
    /// Numbers of the pages of the current list that are in flight.
    in_flight: BTreeSet<u32>,
    /// Time of the start of the list, or of the last request, answer or failure of a page.
    waiting_since: Moment,
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
            one_by_one: false,
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
            in_flight: BTreeSet::new(),
            waiting_since: now,
            arrived: 0,
        });
    }

    pub fn waiting(&self, lane: Lane) -> Option<Moment> {
        let pass = self.current.as_ref().filter(|pass| pass.lane == lane)?;
        self.next_page().map(|_| pass.waiting_since)
    }

    /// The page to request next.
    fn next_page(&self) -> Option<PageRequest> {
        let pass = self.current.as_ref()?;
        if self.one_by_one && !pass.in_flight.is_empty() {
            return None;
        }
        pass.listing.requestable().find(|page| !pass.in_flight.contains(&page.number))
    }

    pub fn take_page(&mut self, now: Moment) -> Option<PageRequest> {
        let page = self.next_page()?;
        let pass = self.current.as_mut()?;
        pass.waiting_since = now;
        pass.in_flight.insert(page.number);
        Some(page)
    }

    /// Returns whether the page is in flight for the current list. After the end of a list, its pages are not.
    pub fn is_awaited(&self, page: &PageRequest) -> bool {
        let is_its_list = |pass: &&ListInProgress| pass.listing.next().team == page.team;
        self.current.as_ref().filter(is_its_list).is_some_and(|pass| pass.in_flight.contains(&page.number))
    }

    /// Marks contradictory list entries as Unknown, and returns their apps.
    pub fn mark_contradictions(&self, page: &mut Page) -> BTreeSet<AppId> {
        self.current.as_ref().map(|pass| pass.listing.mark_contradictions(page)).unwrap_or_default()
    }

    pub fn page(&mut self, number: u32, page: Page, now: Moment, wall: Timestamp) -> Option<Finished> {
        let pass = self.current.as_mut()?;
        pass.in_flight.remove(&number);
        pass.waiting_since = now;
        pass.arrived += 1;
        let next = pass.listing.add_page(number, page);
        self.continue_or_finish(next, wall)
    }

    pub fn page_failed(&mut self, number: u32, failure: &Failure, now: Moment, wall: Timestamp) -> Option<Finished> {
        let pass = self.current.as_mut()?;
        if pass.listing.is_beyond_end(failure) {
            return self.page(number, Page::default(), now, wall);
        }
        pass.in_flight.remove(&number);
        pass.waiting_since = now;
        self.one_by_one = true;
        match failure.verdict {
            // All requests pause; then the same page is requested again.
            Verdict::RateLimited { .. } => return None,
            // The page size may be refused: its maximum is undocumented.
            Verdict::LookAgain if pass.listing.may_have_been_refused() => {
                self.limit = None;
                pass.listing.without_limit();
                return None;
            }
            // A team that this token may not read, or that does not exist, hides neither the account's apps nor other
            // teams'.
            Verdict::LookAgain | Verdict::Forbidden | Verdict::NotFound | Verdict::Unexpected
                if pass.listing.next().team.is_some() =>
            {
                pass.listing.fail();
                pass.failure.get_or_insert_with(|| failure.clone());
                let next = pass.listing.next_list();
                return self.continue_or_finish(next, wall);
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

    /// Continues with the next page, or ends the resync.
    fn continue_or_finish(&mut self, next: Next, wall: Timestamp) -> Option<Finished> {
        match next {
            Next::Page(page) => {
                // The list of the next team begins, so no page of the list before it is awaited.
                if page.number == 1
                    && let Some(pass) = &mut self.current
                {
                    pass.in_flight.clear();
                }
                None
            }
            Next::Done => self.finish(None, wall),
        }
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
        self.one_by_one = true;
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
            let number = resync.take_page(now).expect("a page is pending").number;
            finished = match answer {
                Ok(page) => resync.page(number, page, now, Timestamp::UNIX_EPOCH),
                Err(failure) => resync.page_failed(number, &failure, now, Timestamp::UNIX_EPOCH),
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
        let now = at(5);
        let mut resync = Resync::default();
        assert!(resync.may_start_confirming(2) && !resync.may_start_confirming(1), "a list costs one request");
        resync.start(Lane::Confirm, now);
        assert!(!resync.may_start_confirming(9) && !resync.due(at(999)) && resync.next_start().is_none());
        assert_eq!((resync.waiting(Lane::Confirm), resync.waiting(Lane::Observe)), (Some(at(5)), None));
        assert_eq!(resync.expected_start(INTERVAL), at(65));
        assert!(resync.take_page(now).is_some() && resync.take_page(now).is_none());
        assert!(resync.page(1, page(&["a"], 2), at(6), Timestamp::UNIX_EPOCH).is_none());
        assert_eq!((resync.waiting(Lane::Confirm), resync.take_page(now).unwrap().number), (Some(at(6)), 2));
    }

    /// The first page of a list of 30 apps on ten pages.
    fn first_page(apps: &[&str]) -> Page {
        let mut first = page(apps, 30);
        first.pagination.as_mut().unwrap().total_pages = Some(10);
        first
    }

    /// Page `number` of that list.
    fn later_page(number: u32) -> Page {
        let ids: Vec<String> = (0..3).map(|item| format!("{number}-{item}")).collect();
        page(&ids.iter().map(String::as_str).collect::<Vec<_>>(), 30)
    }

    fn request_all(resync: &mut Resync) -> Vec<u32> {
        std::iter::from_fn(|| resync.take_page(at(1))).map(|page| page.number).collect()
    }

    fn add_page(resync: &mut Resync, number: u32, page: Page) -> Option<Finished> {
        resync.page(number, page, at(1), Timestamp::UNIX_EPOCH)
    }

    fn fail_page(resync: &mut Resync, number: u32, verdict: Verdict) -> Option<Finished> {
        resync.page_failed(number, &failure(verdict, None), at(1), Timestamp::UNIX_EPOCH)
    }

    /// A resync after the arrival of page 1, with the next eight pages in flight.
    fn with_eight_in_flight(teams: Vec<Team>) -> Resync {
        let mut resync = Resync::new(teams);
        resync.start(Lane::Observe, at(0));
        assert_eq!(request_all(&mut resync), [1], "only page 1 is requested before the number of pages is known");
        assert!(add_page(&mut resync, 1, first_page(&["a", "b", "c"])).is_none());
        assert_eq!(request_all(&mut resync), (2..=9).collect::<Vec<_>>());
        resync
    }

    #[test]
    fn the_pages_of_the_first_list_are_in_flight_together() {
        let mut resync = with_eight_in_flight(Vec::new());
        // Page 10 may be requested when page 2, the first missing page, has arrived.
        assert!(add_page(&mut resync, 9, later_page(9)).is_none() && request_all(&mut resync).is_empty());
        assert!(add_page(&mut resync, 2, later_page(2)).is_none());
        assert_eq!(request_all(&mut resync), [10]);
        for number in [10, 8, 7, 6, 5, 4] {
            assert!(add_page(&mut resync, number, later_page(number)).is_none());
        }
        let finished = add_page(&mut resync, 3, later_page(3)).expect("it was the last one");
        assert_eq!(finished.complete.map(|ids| ids.len()), Some(30));
        assert_eq!((finished.pages, resync.pages()), (10, 10));
        // Later lists are read one page at a time.
        resync.start(Lane::Observe, at(60));
        assert_eq!(request_all(&mut resync), [1]);
        assert!(add_page(&mut resync, 1, first_page(&["a", "b", "c"])).is_none());
        assert_eq!(request_all(&mut resync), [2]);
    }

    #[test]
    fn after_a_failure_pages_are_requested_one_after_the_other() {
        let mut resync = with_eight_in_flight(Vec::new());
        // The server refused a page with 429: only this page is requested again, after the others arrived.
        assert!(fail_page(&mut resync, 3, Verdict::RateLimited { after: None }).is_none());
        for number in [2, 4, 5, 6, 7, 8] {
            assert!(add_page(&mut resync, number, later_page(number)).is_none() && request_all(&mut resync).is_empty());
        }
        assert!(add_page(&mut resync, 9, later_page(9)).is_none());
        assert_eq!(request_all(&mut resync), [3]);
        assert!(add_page(&mut resync, 3, later_page(3)).is_none());
        assert_eq!(request_all(&mut resync), [10]);
        let finished = add_page(&mut resync, 10, later_page(10)).expect("it was the last one");
        assert_eq!(finished.complete.map(|ids| ids.len()), Some(30));
    }

    #[test]
    fn pages_are_requested_one_by_one_if_their_count_is_in_doubt() {
        let mut one_item = first_page(&["a"]);
        for first in [page(&["a", "b", "c"], 30), first_page(&["a", "b"]), one_item.clone()] {
            let mut resync = Resync::default();
            resync.start(Lane::Observe, at(0));
            request_all(&mut resync);
            assert!(add_page(&mut resync, 1, first).is_none());
            assert_eq!(request_all(&mut resync), [2]);
        }
        // An unreadable item counts as an item.
        one_item.unreadable = 2;
        let mut resync = Resync::default();
        resync.start(Lane::Observe, at(0));
        request_all(&mut resync);
        assert!(add_page(&mut resync, 1, one_item).is_none());
        assert_eq!(request_all(&mut resync).len(), 8);
    }

    #[test]
    fn pages_of_a_list_that_ended_are_not_awaited() {
        let page_of = |number, team: Option<&str>| PageRequest { number, limit: Some(100), team: team.map(Into::into) };
        let mut resync = with_eight_in_flight(vec!["team".into()]);
        assert!(resync.is_awaited(&page_of(3, None)) && !resync.is_awaited(&page_of(10, None)));
        // A page without new apps ends the list.
        assert!(add_page(&mut resync, 2, page(&[], 30)).is_none());
        assert!(!resync.is_awaited(&page_of(3, None)));
        assert_eq!(resync.take_page(at(1)), Some(page_of(1, Some("team"))));
        assert!(resync.is_awaited(&page_of(1, Some("team"))) && !resync.is_awaited(&page_of(1, None)));
        let finished = add_page(&mut resync, 1, page(&["t"], 1)).expect("the list of the team has one page");
        assert!(finished.complete.is_none() && resync.incomplete(), "pages of the account were not counted");

        let mut resync = with_eight_in_flight(Vec::new());
        assert!(fail_page(&mut resync, 5, Verdict::LostAnswer).is_some() && resync.idle());
        assert!(!resync.is_awaited(&page_of(3, None)));
        resync.start(Lane::Observe, at(2));
        assert!(!resync.is_awaited(&page_of(3, None)));
        assert!(add_page(&mut resync, 1, first_page(&["a", "b", "c"])).is_none());
        assert_eq!(request_all(&mut resync), [2], "one page at a time after a failure");
    }

    #[test]
    fn contradictory_pages_make_an_app_unknown_in_both_orders() {
        let observed = |page: &Page| page.apps[0].reading.observed;
        let one = || later_page(4);
        let mut other = later_page(3);
        other.apps[0] = Seen { reading: Reading::new(Observed::Stopped), ..one().apps[0].clone() };
        for [first, then] in [[(4, one()), (3, other.clone())], [(3, other.clone()), (4, one())]] {
            let mut resync = with_eight_in_flight(Vec::new());
            let ((number, mut first), (then_number, mut then)) = (first, then);
            let before = observed(&first);
            assert!(resync.mark_contradictions(&mut first).is_empty() && observed(&first) == before);
            assert!(add_page(&mut resync, number, first).is_none());
            assert_eq!(resync.mark_contradictions(&mut then), BTreeSet::from(["4-0".parse().unwrap()]));
            assert_eq!(observed(&then), Observed::Unknown);
            assert!(add_page(&mut resync, then_number, then).is_none());
            // The app stays Unknown after both pages are counted, whichever arrived first.
            assert!(add_page(&mut resync, 2, later_page(2)).is_none());
            let mut again = one();
            resync.mark_contradictions(&mut again);
            assert_eq!(observed(&again), Observed::Unknown);
        }
    }
}
