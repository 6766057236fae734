//! Are these pages the whole list?
//!
//! Not knowing is a value: a list that came in part updates what it showed and concludes nothing about the rest.
//! Pages that shift, repeat, loop or lie about their number only ever make a list incomplete.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Page, PageRequest, Seen};
use crate::reconcile::app::AppId;
use crate::reconcile::observed::{Observed, Reading};
use crate::reconcile::redacted::Redacted;

/// The page size that is asked for. The maximum is undocumented: what comes back is believed, whatever its size.
pub const PAGE_SIZE: u32 = 100;
/// A server that always has another page is not followed for ever; 1,000 pages of 100 are 100,000 apps.
const MAX_PAGES: u32 = 1_000;

/// A list being collected, page by page.
#[derive(Debug, Clone)]
pub struct Listing {
    next: PageRequest,
    seen: Shown,
    /// Whether what is told of each app is kept until the end, or its id alone.
    whole: bool,
    total: Option<u64>,
    flaw: Option<Flaw>,
}

/// What was shown of each app: by what later pages are compared, and the rest where it is kept.
type Shown = BTreeMap<AppId, (Observed, Option<Box<Told>>)>;

/// What a list tells of an app, besides its id.
type Told = (Option<Redacted>, Reading);

/// What to do after a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask for this page.
    Page(PageRequest),
    /// That was the last one.
    Done,
}

/// Why a list is not the whole list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// An item had no usable `_id`.
    #[error("an item of the list has no usable _id")]
    UnreadableItem,
    /// The same app stood on it twice: pages shifted while they were read.
    #[error("an app is listed twice")]
    Duplicate,
    /// `totalItems` changed between pages.
    #[error("the number of apps changed while the list was read")]
    Shifted,
    /// Fewer distinct apps than `totalItems`.
    #[error("{found} apps came where {told} were announced")]
    Short {
        /// Distinct ids.
        found: u64,
        /// `totalItems`.
        told: u64,
    },
    /// The pages never end.
    #[error("the list has more than {MAX_PAGES} pages")]
    Endless,
    /// A page failed.
    #[error("a page did not arrive")]
    PageFailed,
}

impl Default for Listing {
    fn default() -> Self {
        Self::new(Some(PAGE_SIZE))
    }
}

impl Listing {
    /// An empty list that asks for `limit` items a page.
    pub fn new(limit: Option<u32>) -> Self {
        let next = PageRequest { number: 1, limit };
        Self { next, seen: BTreeMap::new(), whole: true, total: None, flaw: None }
    }

    /// The same for whoever takes in each page as it comes: only which apps there were is kept.
    pub fn of_ids(limit: Option<u32>) -> Self {
        Self { whole: false, ..Self::new(limit) }
    }

    /// The page to ask for.
    pub fn next(&self) -> PageRequest {
        self.next
    }

    /// Makes unknown what this page says of an app otherwise than it, or a page before it, has said already: two readings
    /// that disagree prove nothing. [`Listing::add`] does it where it keeps readings; whoever takes them in itself asks
    /// for it before.
    pub fn doubt(&self, page: &mut Page) {
        let mut said: HashMap<AppId, Observed> = HashMap::with_capacity(page.apps.len());
        for Seen { id, reading, .. } in &page.apps {
            let before = said.get(id).copied().or_else(|| self.seen.get(id).map(|(observed, _)| *observed));
            let agreed = before.is_none_or(|before| before == reading.observed);
            said.insert(id.clone(), if agreed { reading.observed } else { Observed::Unknown });
        }
        for Seen { id, reading, .. } in &mut page.apps {
            reading.observed = said.get(id).copied().unwrap_or(Observed::Unknown);
        }
    }

    /// Takes a page in and says what to ask for next.
    pub fn add(&mut self, mut page: Page) -> Next {
        if self.whole {
            self.doubt(&mut page);
        }
        let items = page.apps.len() as u64 + u64::from(page.unreadable);
        if page.unreadable > 0 {
            self.flaw(Flaw::UnreadableItem);
        }
        let (mut fresh, mut again) = (0_u64, false);
        for Seen { id, name, reading } in page.apps {
            let observed = reading.observed;
            let told = (observed, self.whole.then(|| Box::new((name, reading))));
            match self.seen.insert(id, told) {
                None => fresh += 1,
                Some(_) => again = true,
            }
        }
        // A server that knows no pages answers the second one with the first: that list is whole.
        let unpaged = page.pagination.is_none() && fresh == 0;
        if again && !unpaged {
            self.flaw(Flaw::Duplicate);
        }
        let pagination = page.pagination.unwrap_or_default();
        if let (Some(before), Some(now)) = (self.total, pagination.total_items)
            && before != now
        {
            self.flaw(Flaw::Shifted);
        }
        self.total = pagination.total_items.or(self.total);
        let more = match (self.total, pagination.has_next_page) {
            // The count is believed before the flag: the vendor's own example contradicts itself here.
            (Some(total), _) => self.found() < total,
            (None, Some(flag)) => flag,
            // A bare array is the whole list, unless it is exactly as long as asked for.
            (None, None) => self.next.limit.is_some_and(|limit| items >= u64::from(limit)),
        };
        // A page that brings nothing new ends the list, however many are announced: they would go round for ever.
        if !more || fresh == 0 {
            return Next::Done;
        }
        if self.next.number >= MAX_PAGES {
            self.flaw(Flaw::Endless);
            return Next::Done;
        }
        self.next.number += 1;
        Next::Page(self.next)
    }

    /// Notes that a page failed: what came is kept, and is not the whole.
    pub fn fail(&mut self) {
        self.flaw(Flaw::PageFailed);
    }

    /// Whether the page size itself may have been refused: then ask again without one.
    pub fn may_have_been_refused(&self) -> bool {
        self.next.number == 1 && self.next.limit.is_some()
    }

    /// The apps that came, and why they are not all of them, if they are not.
    pub fn finish(self) -> (Vec<Seen>, Option<Flaw>) {
        let (seen, flaw) = self.add_up();
        let seen = seen.into_iter().filter_map(|(id, (_, told))| {
            let (name, reading) = *told?;
            Some(Seen { id, name, reading })
        });
        (seen.collect(), flaw)
    }

    /// The same, of the ids alone.
    pub fn finish_ids(self) -> (BTreeSet<AppId>, Option<Flaw>) {
        let (seen, flaw) = self.add_up();
        (seen.into_keys().collect(), flaw)
    }

    fn add_up(mut self) -> (Shown, Option<Flaw>) {
        if let Some(told) = self.total
            && told != self.found()
        {
            let found = self.found();
            self.flaw(Flaw::Short { found, told });
        }
        (self.seen, self.flaw)
    }

    fn found(&self) -> u64 {
        self.seen.len() as u64
    }

    /// The first flaw is the one that is told.
    fn flaw(&mut self, flaw: Flaw) {
        self.flaw.get_or_insert(flaw);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Pagination;

    fn page(ids: &[&str], total: Option<u64>, has_next: Option<bool>) -> Page {
        let reading = Reading { observed: Observed::Running, status: None, online: Some(true), taken_at: None };
        let apps =
            ids.iter().map(|id| Seen { id: id.parse().unwrap(), name: None, reading: reading.clone() }).collect();
        let pagination = (total.is_some() || has_next.is_some()).then_some(Pagination {
            total_items: total,
            has_next_page: has_next,
            ..Pagination::default()
        });
        Page { apps, unreadable: 0, pagination }
    }

    #[track_caller]
    fn case(pages: Vec<Page>, apps: usize, flaw: Option<Flaw>) {
        let count = pages.len();
        let mut listing = Listing::default();
        for (index, page) in pages.into_iter().enumerate() {
            let next = listing.add(page);
            assert_eq!(next == Next::Done, index + 1 == count, "page {} of {count}: {next:?}", index + 1);
        }
        let (seen, found) = listing.finish();
        assert_eq!((seen.len(), found), (apps, flaw));
    }

    #[test]
    fn a_list_is_whole_only_if_it_adds_up() {
        case(vec![page(&["a", "b"], Some(2), Some(false))], 2, None);
        case(vec![page(&["a"], Some(2), Some(true)), page(&["b"], Some(2), Some(false))], 2, None);
        case(vec![page(&["a", "b"], None, None)], 2, None); // v1's bare array
        case(vec![page(&[], Some(0), Some(false))], 0, None);
        let hundred: Vec<String> = (0..100).map(|n| format!("app-{n}")).collect();
        let hundred: Vec<&str> = hundred.iter().map(String::as_str).collect();
        case(vec![page(&hundred, None, None), page(&hundred, None, None)], 100, None); // a server without pages
        // hasNextPage lies in either direction: the count decides
        case(vec![page(&["a"], Some(2), Some(false)), page(&["b"], Some(2), Some(false))], 2, None);
        case(vec![page(&["a", "b"], Some(2), Some(true))], 2, None);
    }

    #[test]
    fn two_readings_that_disagree_prove_nothing() {
        let states = |page: &Page| page.apps.iter().map(|seen| seen.reading.observed).collect::<Vec<_>>();
        let (running, stopped, unknown) = (Observed::Running, Observed::Stopped, Observed::Unknown);
        for mut listing in [Listing::new(None), Listing::of_ids(None)] {
            let mut first = page(&["a", "b", "b", "c", "c"], Some(9), None);
            first.apps[2].reading.observed = stopped;
            listing.doubt(&mut first);
            assert_eq!(states(&first), [running, unknown, unknown, running, running], "on one page");
            listing.add(first);
            let mut second = page(&["a", "b", "c", "d"], Some(9), None);
            second.apps[0].reading.observed = stopped;
            listing.doubt(&mut second);
            assert_eq!(states(&second), [unknown, unknown, running, running], "on two");
        }
    }

    #[test]
    fn what_does_not_add_up_concludes_nothing() {
        let short = Flaw::Short { found: 1, told: 3 };
        case(vec![page(&["a"], Some(3), Some(true)), page(&[], Some(3), Some(false))], 1, Some(short));
        case(vec![page(&["a"], Some(3), Some(true)), page(&["a"], Some(3), Some(true))], 1, Some(Flaw::Duplicate));
        case(vec![page(&["a", "b"], Some(3), None), page(&["c"], Some(2), None)], 3, Some(Flaw::Shifted));
        case(vec![page(&["a"], None, Some(true)), page(&["a"], None, Some(true))], 1, Some(Flaw::Duplicate));
        let unreadable = Page { unreadable: 1, ..page(&["a"], Some(2), None) };
        case(vec![unreadable, page(&[], Some(2), None)], 1, Some(Flaw::UnreadableItem));
    }

    #[test]
    fn pages_that_never_end_are_not_followed_for_ever() {
        let mut listing = Listing::default();
        let mut asked = 1;
        while let Next::Page(_) = listing.add(page(&[&format!("app-{asked}")], None, Some(true))) {
            asked += 1;
        }
        assert_eq!(asked, MAX_PAGES);
        assert_eq!(listing.finish().1, Some(Flaw::Endless));
    }
}
