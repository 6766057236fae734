//! Lanes of requests, and the order in which waiting lanes are served.
//!
//! Calls for a few apps go before every read. While a longer bulk of calls waits, one token in four is for reads.

use std::time::Duration;

use crate::reconcile::moment::Moment;

/// Calls for at most this number of apps go before every read.
const FEW_CALLS: usize = 10;
/// While more calls wait, each fourth token is for a read.
const READ_SHARE: u32 = 4;

/// Purpose of a request, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Stop, start or restart.
    Act,
    /// Reads that verify a call, or that an edit waits for.
    Confirm,
    /// The list, and routine reads of apps that it does not show.
    Observe,
}

impl Lane {
    pub const ALL: [Self; 3] = [Self::Act, Self::Confirm, Self::Observe];

    /// Label of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Act => "act",
            Self::Confirm => "confirm",
            Self::Observe => "observe",
        }
    }

    /// Wait after which a read goes before newer reads of the lane above, but never before a call.
    const fn starvation_limit(self) -> Duration {
        match self {
            Self::Act => Duration::ZERO,
            Self::Confirm => Duration::from_secs(5),
            Self::Observe => Duration::from_secs(15),
        }
    }
}

/// Oldest wait per lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    pub act: Option<Moment>,
    /// Number of apps for which a call waits.
    pub calls: usize,
    pub confirm: Option<Moment>,
    pub observe: Option<Moment>,
}

impl Waiting {
    pub const fn since(&self, lane: Lane) -> Option<Moment> {
        match lane {
            Lane::Act => self.act,
            Lane::Confirm => self.confirm,
            Lane::Observe => self.observe,
        }
    }

    /// The waiting lanes in the order in which to serve them, after `calls_in_a_row` calls without a read between them.
    pub(super) fn order(&self, calls_in_a_row: u32, now: Moment) -> impl Iterator<Item = Lane> + use<> {
        let mut reads: Vec<(bool, Lane)> = [Lane::Confirm, Lane::Observe]
            .into_iter()
            .filter_map(|lane| self.since(lane).map(|since| (now.since(since) < lane.starvation_limit(), lane)))
            .collect();
        let bulk = self.calls > FEW_CALLS;
        if !bulk {
            reads.sort_unstable();
        }
        let act = self.act.map(|_| Lane::Act);
        let a_read_is_next = bulk && calls_in_a_row + 1 >= READ_SHARE;
        let (first, last) = if a_read_is_next { (None, act) } else { (act, None) };
        first.into_iter().chain(reads.into_iter().map(|(_, lane)| lane)).chain(last)
    }
}
