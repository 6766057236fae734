//! The completeness of a list that is read page by page.
//!
//! An incomplete list updates the apps that it showed and proves nothing about the others. Pages that shift, repeat,
//! loop or have a wrong number can only make a list incomplete.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::{MAX_PROBLEMS, Page, PageRequest, Pagination, Seen, Team};
use crate::reconcile::app::AppId;
use crate::reconcile::outcome::Failure;
use crate::reconcile::reading::Reading;
use crate::reconcile::redacted::Redacted;
use crate::reconcile::state::Observed;

/// The requested page size. The maximum is undocumented, so pages of every size are accepted.
pub const PAGE_SIZE: u32 = 100;
/// Maximum number of pages, for a server that always announces another page.
const MAX_PAGES: u32 = 1_000;
/// Maximum number of pages in flight. If the budget allows it, 100 pages of 50 ms each take 0.7 s instead of 5 s.
const PAGES_IN_FLIGHT: u32 = 8;
/// Maximum number of items, which bounds the memory of a list: more than an account has.
pub const MAX_ITEMS: usize = 100_000;

/// The state of reading the lists of an account and of its teams, one after the other.
///
/// Pages are counted in the order of their numbers, so the result does not depend on the order in which they arrive.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The first page of the current list that has not arrived yet.
    next: PageRequest,
    /// Pages after `next` that arrived. They are not counted until all pages before them have arrived.
    early: BTreeMap<u32, Page>,
    teams: VecDeque<Team>,
    seen: Apps,
    /// Whether the name and reading of each app are kept until the end, or only its id.
    whole: bool,
    part: Part,
    unreadable: u32,
    problems: Vec<Redacted>,
    flaw: Option<IncompleteCause>,
}

/// The list that is being read.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// Its index: an app may be on the list of the account and on that of a team.
    number: u16,
    /// Number of distinct apps and unreadable items.
    found: u64,
    total: Option<u64>,
    /// Whether the server announces another page.
    announced: bool,
    /// Number of pages that all figures of page 1 agree on, lowered by later pages; 0 if the figures do not agree.
    pages: u32,
}

/// Index of an app that only pages in `early` have shown so far.
const NOT_COUNTED: u16 = u16::MAX;

/// The apps of the pages so far: state (to compare with later pages), index of the list, and the rest if it is kept.
type Apps = BTreeMap<AppId, (Observed, u16, Option<Box<(Option<Redacted>, Reading, Option<u32>)>>)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Page(PageRequest),
    Done,
}

/// The cause why a list is incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IncompleteCause {
    /// Pages shifted while they were read.
    #[error("an app is listed twice")]
    Duplicate,
    #[error("the number of apps changed while the list was read")]
    Shifted,
    #[error("{found} apps came where {announced} were announced")]
    Short {
        /// Distinct apps and unreadable items.
        found: u64,
        announced: u64,
    },
    #[error("the server announces another page, but it brings no other apps")]
    Repeated,
    #[error("the list has more than {MAX_PAGES} pages")]
    Endless,
    #[error("the list has more than {MAX_ITEMS} apps")]
    TooMany,
    #[error("a page did not arrive")]
    PageFailed,
}

/// The result of reading the lists. It is complete without a flaw.
#[derive(Debug)]
pub struct Listed<T> {
    pub apps: T,
    pub flaw: Option<IncompleteCause>,
    /// Number of items that could not be read. They count as apps.
    pub unreadable: u32,
    pub problems: Vec<Redacted>,
}

impl Default for Listing {
    fn default() -> Self {
        Self::new(Some(PAGE_SIZE), &[])
    }
}

impl Listing {
    /// Reads the lists of the account and of `teams` with `limit` items a page.
    pub fn new(limit: Option<u32>, teams: &[Team]) -> Self {
        Self {
            next: PageRequest { number: 1, limit, team: None },
            early: BTreeMap::new(),
            teams: teams.iter().cloned().collect(),
            seen: BTreeMap::new(),
            whole: true,
            part: Part::default(),
            unreadable: 0,
            problems: Vec::new(),
            flaw: None,
        }
    }

    pub fn of_teams(limit: Option<u32>, teams: &[Team]) -> Self {
        let mut listing = Self::new(limit, teams);
        listing.next.team = listing.teams.pop_front();
        listing
    }

    /// Reads the lists for a caller that uses each page at once. It keeps only the ids of the apps, and early pages until
    /// they are counted.
    pub fn of_ids(limit: Option<u32>, teams: &[Team]) -> Self {
        Self { whole: false, ..Self::new(limit, teams) }
    }

    /// Returns the apps read so far and, if the server reports it, the total of the current list.
    pub fn progress(&self) -> (usize, Option<usize>) {
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let (found, total) = (count(self.part.found), self.part.total.map(count));
        (total.map_or(found, |total| found.min(total)), total)
    }

    pub fn next(&self) -> PageRequest {
        self.next.clone()
    }

    /// The missing pages that may be in flight together: the next one, and those that page 1 announced.
    pub fn requestable(&self) -> impl Iterator<Item = PageRequest> {
        let first = self.next.number;
        let last = self.part.pages.min(first.saturating_add(PAGES_IN_FLIGHT - 1)).max(first);
        let missing = (first..=last).filter(|number| !self.early.contains_key(number));
        missing.map(|number| PageRequest { number, ..self.next.clone() })
    }

    /// Marks readings of `page` that contradict each other, or a page that arrived before, as Unknown. Returns their
    /// apps. [`Listing::add`] does this if it keeps readings; other callers call it before they use a page.
    pub fn mark_contradictions(&self, page: &mut Page) -> BTreeSet<AppId> {
        let mut said: HashMap<&AppId, Observed> = HashMap::with_capacity(page.apps.len());
        let mut contradicted = BTreeSet::new();
        for Seen { id, reading, .. } in &page.apps {
            let before =
                said.insert(id, reading.observed).or_else(|| self.seen.get(id).map(|(observed, ..)| *observed));
            if before.is_some_and(|before| before != reading.observed) {
                contradicted.insert(id.clone());
            }
        }
        for seen in page.apps.iter_mut().filter(|seen| contradicted.contains(&seen.id)) {
            seen.reading.observed = Observed::Unknown;
        }
        contradicted
    }

    /// Adds page `number` of the current list, which may arrive before earlier pages.
    pub fn add_page(&mut self, number: u32, page: Page) -> Next {
        if number != self.next.number {
            for Seen { id, reading, .. } in &page.apps {
                let is_full = self.seen.len() >= MAX_ITEMS;
                match self.seen.entry(id.clone()) {
                    Entry::Vacant(_) if is_full => {}
                    Entry::Vacant(new) => drop(new.insert((reading.observed, NOT_COUNTED, None))),
                    Entry::Occupied(mut known) => known.get_mut().0 = reading.observed,
                }
            }
            self.early.insert(number, page);
            return Next::Page(self.next());
        }
        let mut next = self.add(page);
        while let Some(page) = self.early.remove(&self.next.number) {
            next = self.add(page);
        }
        next
    }

    /// Adds the page `next`.
    pub fn add(&mut self, mut page: Page) -> Next {
        if self.whole {
            self.mark_contradictions(&mut page);
        }
        let empty = page.apps.is_empty();
        let pages = page.pagination.and_then(|pagination| pagination.total_pages).unwrap_or(u64::MAX);
        self.part.pages = match self.next.number {
            1 => agreed_pages(&page),
            // A later page may report fewer pages than page 1.
            _ => self.part.pages.min(u32::try_from(pages).unwrap_or(MAX_PAGES)),
        };
        let (mut fresh, mut again) = (0_u64, false);
        for Seen { id, name, reading, memory_mb } in page.apps {
            let is_full = self.seen.len() >= MAX_ITEMS;
            let (observed, number) = (reading.observed, self.part.number);
            let rest = self.whole.then(|| Box::new((name, reading, memory_mb)));
            match self.seen.entry(id) {
                Entry::Vacant(_) if is_full => page.cut = true,
                Entry::Vacant(new) => {
                    new.insert((observed, number, rest));
                    fresh += 1;
                }
                Entry::Occupied(mut known) => {
                    let (before, list, _) = known.get();
                    if *list == number {
                        again = true;
                    } else {
                        fresh += 1;
                    }
                    // A contradiction stays Unknown, even if the page that arrived first is counted last.
                    let is_unknown = *before == Observed::Unknown;
                    known.insert((if is_unknown { Observed::Unknown } else { observed }, number, rest));
                }
            }
        }
        self.part.found += fresh;
        if fresh > 0 || empty {
            // A repeated page repeats its problems.
            self.part.found += u64::from(page.unreadable);
            self.unreadable = self.unreadable.saturating_add(page.unreadable);
            self.problems.extend(page.problems);
            self.problems.truncate(MAX_PROBLEMS);
        }
        // A server without pages repeats the first one. A repeated app beside new ones means that the pages shifted.
        if again && fresh > 0 {
            self.flaw(IncompleteCause::Duplicate);
        }
        if page.cut {
            self.flaw(IncompleteCause::TooMany);
            return Next::Done;
        }
        let pagination = page.pagination.unwrap_or_default();
        if let (Some(before), Some(now)) = (self.part.total, pagination.total_items)
            && before != now
        {
            self.flaw(IncompleteCause::Shifted);
        }
        self.part.total = pagination.total_items.or(self.part.total);
        let Part { found, total, .. } = self.part;
        // Any sign of another page is enough. Without a sign of the end, the next page is requested, too.
        let pages = pagination.total_pages.map(|pages| pages > u64::from(self.next.number));
        let announced = pagination.has_next_page == Some(true) || pages == Some(true);
        let denied = pagination.has_next_page.or(pages) == Some(false);
        self.part.announced = announced || total.is_some_and(|total| total > found);
        let more = self.part.announced || !(denied || total == Some(found));
        if more && fresh > 0 {
            if self.next.number < MAX_PAGES {
                self.next.number += 1;
                return Next::Page(self.next());
            }
            self.flaw(IncompleteCause::Endless);
            return self.next_list();
        }
        match total {
            Some(announced) if announced > found => self.flaw(IncompleteCause::Short { found, announced }),
            Some(announced) if announced == found => {}
            Some(_) | None if announced => self.flaw(IncompleteCause::Repeated),
            Some(_) | None => {}
        }
        self.next_list()
    }

    /// Records that a page failed, so that the list is incomplete.
    pub fn fail(&mut self) {
        self.flaw(IncompleteCause::PageFailed);
    }

    /// Continues with the list of the next team.
    pub fn next_list(&mut self) -> Next {
        self.early.clear();
        let Some(team) = self.teams.pop_front() else { return Next::Done };
        self.part = Part { number: self.part.number.saturating_add(1), ..Part::default() };
        self.next = PageRequest { number: 1, limit: self.next.limit, team: Some(team) };
        Next::Page(self.next())
    }

    /// Returns whether a page was refused because it does not exist: nothing announced it, and some servers answer the
    /// page after the last one with 404.
    pub fn is_beyond_end(&self, failure: &Failure) -> bool {
        self.next.number > 1 && !self.part.announced && matches!(failure.http_status, Some(400 | 404 | 416 | 422))
    }

    /// Returns whether the server may have refused the page size, so that the page is requested again without one.
    pub fn may_have_been_refused(&self) -> bool {
        self.next.number == 1 && self.next.limit.is_some()
    }

    /// Leaves the page size to the server.
    pub fn without_limit(&mut self) {
        self.next.limit = None;
    }

    pub fn finish(self) -> Listed<Vec<Seen>> {
        self.into_listed(|seen| {
            let seen = seen.into_iter().filter_map(|(id, (_, _, rest))| {
                let (name, reading, memory_mb) = *rest?;
                Some(Seen { id, name, reading, memory_mb })
            });
            seen.collect()
        })
    }

    pub fn finish_ids(self) -> Listed<BTreeSet<AppId>> {
        self.into_listed(|seen| seen.into_keys().collect())
    }

    fn into_listed<T>(self, apps: impl FnOnce(Apps) -> T) -> Listed<T> {
        let Self { seen, flaw, unreadable, problems, .. } = self;
        Listed { apps: apps(seen), flaw, unreadable, problems }
    }

    /// Records a flaw; the first one is reported.
    fn flaw(&mut self, flaw: IncompleteCause) {
        self.flaw.get_or_insert(flaw);
    }
}

/// Returns the announced number of pages if it fits the total and the items on page 1; otherwise 0.
fn agreed_pages(first: &Page) -> u32 {
    let Some(Pagination { total_items: Some(total), total_pages: Some(pages), .. }) = first.pagination else {
        return 0;
    };
    let items = first.apps.len() as u64 + u64::from(first.unreadable);
    let agreed = items > 0 && total.div_ceil(items) == pages;
    if agreed { u32::try_from(pages).unwrap_or(MAX_PAGES).min(MAX_PAGES) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(ids: &[&str], total: Option<u64>, has_next: Option<bool>) -> Page {
        let reading = Reading { online: Some(true), ..Reading::new(Observed::Running) };
        let apps = ids
            .iter()
            .map(|id| Seen { id: id.parse().unwrap(), name: None, reading: reading.clone(), memory_mb: None })
            .collect();
        let pagination = (total.is_some() || has_next.is_some()).then_some(Pagination {
            total_items: total,
            has_next_page: has_next,
            ..Pagination::default()
        });
        Page { apps, pagination, ..Page::default() }
    }

    #[track_caller]
    fn case(pages: Vec<Page>, apps: usize, flaw: Option<IncompleteCause>) {
        let count = pages.len();
        let mut listing = Listing::default();
        for (index, page) in pages.into_iter().enumerate() {
            let next = listing.add(page);
            assert_eq!(next == Next::Done, index + 1 == count, "page {} of {count}: {next:?}", index + 1);
        }
        let listed = listing.finish();
        assert_eq!((listed.apps.len(), listed.flaw), (apps, flaw));
    }

    #[test]
    fn a_list_is_complete_only_if_the_counts_agree() {
        case(vec![page(&["a", "b"], Some(2), Some(false))], 2, None);
        case(vec![page(&["a"], Some(2), Some(true)), page(&["b"], Some(2), Some(false))], 2, None);
        case(vec![page(&["a", "b"], Some(2), None)], 2, None);
        case(vec![page(&["a", "b"], None, Some(false))], 2, None);
        case(vec![page(&[], Some(0), Some(false))], 0, None);
        // hasNextPage is wrong in either direction: any sign of another page is enough, and the count decides.
        case(vec![page(&["a"], Some(2), Some(false)), page(&["b"], Some(2), Some(false))], 2, None);
        case(vec![page(&["a", "b"], Some(2), Some(true)), page(&[], Some(2), Some(true))], 2, None);
        case(vec![page(&["a", "b"], Some(2), Some(true)), page(&["a", "b"], Some(2), Some(true))], 2, None);
        // A count that is too small does not end the list while hasNextPage is true.
        case(vec![page(&["a"], Some(1), Some(true)), page(&["b"], Some(1), Some(false))], 2, None);
    }

    #[test]
    fn a_short_page_is_not_a_complete_list() {
        // Neither a count nor hasNextPage: pages are read until one has no new app.
        case(vec![page(&["a", "b"], None, None), page(&["c"], None, None), page(&[], None, None)], 3, None);
        case(vec![page(&["a", "b"], None, None), page(&["a", "b"], None, None)], 2, None); // a server without pages
        case(vec![page(&[], None, None)], 0, None);
        let pages = |number: u64, total_pages| {
            let pagination = Pagination { total_pages: Some(total_pages), ..Pagination::default() };
            Page { pagination: Some(pagination), ..page(&[&format!("app-{number}")], None, None) }
        };
        case(vec![pages(1, 2), pages(2, 2)], 2, None);
        case(vec![pages(1, 2), page(&[], None, None)], 1, None);
        case(vec![pages(1, 2), pages(1, 9)], 1, Some(IncompleteCause::Repeated));
    }

    #[test]
    fn a_page_that_nothing_announced_may_be_refused() {
        let refused = |first: Page, status: u16| {
            let mut listing = Listing::default();
            assert!(!listing.is_beyond_end(&failure(status)), "the first page is no page after the last");
            assert!(matches!(listing.add(first), Next::Page(_)));
            listing.is_beyond_end(&failure(status))
        };
        for status in [400, 404, 416, 422] {
            assert!(refused(page(&["a", "b"], None, None), status), "{status}");
            assert!(!refused(page(&["a", "b"], Some(3), None), status), "{status}: a count says that there is more");
            assert!(!refused(page(&["a", "b"], None, Some(true)), status), "{status}: there is a next page");
        }
        for status in [401, 403, 408, 409, 429, 500, 503] {
            assert!(!refused(page(&["a", "b"], None, None), status), "{status}");
        }
    }

    fn failure(status: u16) -> Failure {
        Failure {
            verdict: crate::reconcile::outcome::Verdict::NotFound,
            http_status: Some(status),
            message: "no".into(),
            limits: crate::reconcile::outcome::RateLimitHeaders::default(),
            repeats: 0,
        }
    }

    #[test]
    fn the_lists_of_teams_follow() {
        let teams = ["t1".into(), "t2".into()];
        let mut listing = Listing::new(Some(PAGE_SIZE), &teams);
        let team = |next: &Next| match next {
            Next::Page(page) => (page.number, page.team.as_deref().map(ToOwned::to_owned)),
            Next::Done => (0, None),
        };
        let next = listing.add(page(&["a", "b"], Some(2), None));
        assert_eq!(team(&next), (1, Some("t1".into())));
        // An app may be on both lists.
        let next = listing.add(page(&["b"], Some(2), None));
        assert_eq!(team(&next), (2, Some("t1".into())));
        let next = listing.add(page(&["c"], Some(2), None));
        assert_eq!(team(&next), (1, Some("t2".into())));
        assert_eq!(listing.add(page(&["d"], Some(1), None)), Next::Done);
        let listed = listing.finish_ids();
        assert_eq!((listed.apps.len(), listed.flaw), (4, None));

        let mut alone = Listing::of_teams(None, &teams[..1]);
        assert_eq!(alone.next(), PageRequest { number: 1, limit: None, team: Some("t1".into()) });
        assert_eq!(alone.add(page(&["b"], None, Some(false))), Next::Done);
    }

    #[test]
    fn two_readings_that_disagree_prove_nothing() {
        let states = |page: &Page| page.apps.iter().map(|seen| seen.reading.observed).collect::<Vec<_>>();
        let (running, stopped, unknown) = (Observed::Running, Observed::Stopped, Observed::Unknown);
        for mut listing in [Listing::new(None, &[]), Listing::of_ids(None, &[])] {
            let mut first = page(&["a", "b", "b", "c", "c"], Some(9), None);
            first.apps[2].reading.observed = stopped;
            listing.mark_contradictions(&mut first);
            assert_eq!(states(&first), [running, unknown, unknown, running, running], "on one page");
            listing.add(first);
            let mut second = page(&["a", "b", "c", "d"], Some(9), None);
            second.apps[0].reading.observed = stopped;
            listing.mark_contradictions(&mut second);
            assert_eq!(states(&second), [unknown, unknown, running, running], "on two");
        }
    }

    #[test]
    fn a_list_with_contradictions_is_incomplete() {
        let short = IncompleteCause::Short { found: 1, announced: 3 };
        case(vec![page(&["a"], Some(3), Some(true)), page(&[], Some(3), Some(false))], 1, Some(short));
        case(vec![page(&["a"], Some(3), Some(true)), page(&["a"], Some(3), Some(true))], 1, Some(short));
        case(
            vec![page(&["a", "b"], Some(3), None), page(&["c"], Some(2), Some(false))],
            3,
            Some(IncompleteCause::Shifted),
        );
        case(vec![page(&["a"], None, Some(true)), page(&["a"], None, Some(true))], 1, Some(IncompleteCause::Repeated));
        case(
            vec![page(&["a", "b"], Some(3), None), page(&["b", "c"], Some(3), None)],
            3,
            Some(IncompleteCause::Duplicate),
        );
        case(vec![page(&["a", "a"], None, Some(false))], 1, Some(IncompleteCause::Duplicate));
    }

    #[test]
    fn an_item_that_cannot_be_read_affects_only_itself() {
        let unreadable = |page: Page| Page { unreadable: 1, problems: vec!["item 2".into()], ..page };
        let mut listing = Listing::default();
        assert_eq!(listing.add(unreadable(page(&["a"], Some(2), None))), Next::Done);
        let listed = listing.finish();
        assert_eq!((listed.apps.len(), listed.flaw, listed.unreadable, listed.problems.len()), (1, None, 1, 1));
        // A repeated page does not count twice.
        let mut listing = Listing::default();
        listing.add(unreadable(page(&["a"], None, None)));
        assert_eq!(listing.add(unreadable(page(&["a"], None, None))), Next::Done);
        assert_eq!(listing.finish().unreadable, 1);
    }

    #[test]
    fn the_number_of_pages_is_bounded() {
        let mut listing = Listing::default();
        let mut requested = 1;
        while let Next::Page(_) = listing.add(page(&[&format!("app-{requested}")], None, Some(true))) {
            requested += 1;
        }
        assert_eq!(requested, MAX_PAGES);
        assert_eq!(listing.finish().flaw, Some(IncompleteCause::Endless));
    }

    #[test]
    fn the_number_of_apps_is_bounded() {
        let mut listing = Listing::of_ids(None, &[]);
        let mut requested = 0;
        loop {
            let ids: Vec<String> = (0..5000).map(|number| format!("{requested}-{number}")).collect();
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            requested += 1;
            if listing.add(page(&ids, Some(1_000_000_000), Some(true))) == Next::Done {
                break;
            }
        }
        let listed = listing.finish_ids();
        assert_eq!((requested, listed.apps.len(), listed.flaw), (21, MAX_ITEMS, Some(IncompleteCause::TooMany)));
        let mut listing = Listing::default();
        assert_eq!(listing.add(Page { cut: true, ..page(&["a"], Some(1), None) }), Next::Done);
        assert_eq!(listing.finish().flaw, Some(IncompleteCause::TooMany));
    }

    /// Pages of `size` items that announce `total`, then 3 empty ones. Items from 60 on are unreadable.
    fn server(items: &[u8], size: usize, total: u64) -> Vec<Page> {
        let pages = items.chunks(size).len().max(1) as u64;
        let mut all: Vec<Page> = (items.chunks(size))
            .map(|chunk| {
                let ids: Vec<String> =
                    chunk.iter().filter(|item| **item < 60).map(|item| format!("app-{item}")).collect();
                let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                let mut page = page(&ids, Some(total), None);
                page.unreadable = u32::try_from(chunk.len() - ids.len()).unwrap();
                page.pagination.as_mut().unwrap().total_pages = Some(pages);
                page
            })
            .collect();
        all.extend(std::iter::repeat_n(page(&[], Some(total), Some(false)), 3));
        all
    }

    proptest::proptest! {
        #[test]
        fn the_order_of_arrival_does_not_change_the_flaw(
            items in proptest::collection::vec(0_u8..64, 0..80),
            size in 1_usize..6,
            surplus in 0_u64..3,
            order in proptest::collection::vec(proptest::prelude::any::<u8>(), 100),
        ) {
            let pages = server(&items, size, items.len() as u64 + surplus);
            let at = |number: u32| pages[number as usize - 1].clone();
            let mut one = Listing::of_ids(None, &[]);
            while let Next::Page(_) = one.add(at(one.next().number)) {}
            let mut together = Listing::of_ids(None, &[]);
            let mut requested = BTreeSet::<u32>::new();
            let mut order = order.into_iter().cycle();
            loop {
                let missing: Vec<u32> = together.requestable().map(|page| page.number).collect();
                requested.extend(&missing);
                let number = missing[usize::from(order.next().unwrap()) % missing.len()];
                if together.add_page(number, at(number)) == Next::Done {
                    break;
                }
            }
            let last = one.next().number.max(u32::try_from(pages.len() - 3).unwrap());
            proptest::prop_assert!(requested.iter().all(|number| *number <= last), "a page does not exist");
            let (one, together) = (one.finish_ids(), together.finish_ids());
            proptest::prop_assert_eq!((one.flaw, one.unreadable), (together.flaw, together.unreadable));
            proptest::prop_assert!(together.apps.is_superset(&one.apps));
        }
    }
}
