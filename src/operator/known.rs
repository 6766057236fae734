//! What is known of one app of the platform: what was seen of it, and what was tried?

use crate::reconcile::app::AppName;
use crate::reconcile::attempts::{Attempts, NOTHING_TRIED, Sighting};
use crate::reconcile::state::Observed;

/// One app of the platform.
#[derive(Debug, Clone)]
pub struct Known {
    /// The newest reading.
    pub sighting: Option<Sighting>,
    /// Which object speaks for it. An app in conflict has none.
    pub owner: Option<AppName>,
    /// Whether the list shows it; otherwise only a single read does.
    pub listed: bool,
    /// What was tried. Most apps were never called, and a memory of nothing takes no room.
    past: Option<Box<Attempts>>,
    salt: u64,
}

impl Known {
    /// An app of which nothing is known yet; the salt spreads its backoff.
    pub fn new(salt: u64) -> Self {
        Self { sighting: None, owner: None, listed: false, past: None, salt }
    }

    /// What was tried on it.
    pub fn past(&self) -> &Attempts {
        self.past.as_deref().unwrap_or(&NOTHING_TRIED)
    }

    /// Whether nothing is remembered: then a reading like the last one changes nothing at all.
    pub fn untried(&self) -> bool {
        self.past.is_none()
    }

    /// Changes what is remembered of it.
    pub fn remember<T>(&mut self, change: impl FnOnce(&mut Attempts) -> T) -> T {
        let nothing = Attempts::new(self.salt);
        let mut fresh = nothing.clone();
        let value = change(self.past.as_deref_mut().unwrap_or(&mut fresh));
        if self.past.is_none() && fresh != nothing {
            self.past = Some(Box::new(fresh));
        } else if self.past.as_deref() == Some(&nothing) {
            self.past = None;
        }
        value
    }

    /// What it is, as far as the newest reading is to be trusted.
    pub fn observed(&self) -> Observed {
        self.past().trusted(self.sighting.as_ref())
    }

    /// Whether the newest reading came, and tells nothing.
    pub fn is_unreadable(&self) -> bool {
        self.sighting.as_ref().is_some_and(|sighting| sighting.reading.observed == Observed::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::moment::Moment;
    use crate::reconcile::outcome::Verdict;
    use crate::reconcile::state::Action;

    #[test]
    fn a_memory_of_nothing_takes_no_room_and_is_the_same_as_one_of_its_own() {
        let mut known = Known::new(7);
        known.remember(|past| past.request_read(Moment::from_secs(1)));
        assert_eq!(known.past().read_at(), Some(Moment::from_secs(1)));
        known.remember(|past| past.begin(Action::Stop, None));
        known.remember(|past| {
            past.failed(Verdict::RateLimited { after: None }, std::time::Duration::ZERO, Moment::START);
        });
        assert!(known.past.is_none(), "{:?}", known.past);
        known.remember(|past| past.begin(Action::Stop, None));
        known.remember(|past| past.failed(Verdict::Retry, std::time::Duration::ZERO, Moment::START));
        let mut own = Attempts::new(7);
        own.begin(Action::Stop, None);
        own.failed(Verdict::Retry, std::time::Duration::ZERO, Moment::START);
        assert_eq!(known.past(), &own);
    }
}
