//! Trust in the machine's wall clock, from comparison with the server's `Date`.
//!
//! A clock one year ahead would apply windows and `suspend.until` too early; a board that boots in 1970 would start
//! apps. Three successive answers that differ by more than two minutes make the clock doubtful. Until then, an app that
//! was decided by a confirmed clock keeps that decision. After a start, or after the clock was set, one answer that
//! differs is enough to hold the apps whose state depends on the time.

use jiff::{SignedDuration, Timestamp};

/// Largest difference of a clock that counts as right: windows are written to the minute.
pub const TOLERANCE: SignedDuration = SignedDuration::from_mins(2);
/// Successive answers that must differ: the clock of one of several servers may be wrong.
pub const SUCCESSIVE: u32 = 3;

/// The server's clock, as an answer shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerClock {
    #[default]
    NoAnswer,
    /// The answer has no readable `Date`.
    NoDate,
    /// The answer has an `Age`: its date is that of a copy.
    Aged,
    At(Timestamp),
}

/// Trust in the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// No answer has been compared since the start, or since the clock was set.
    Unconfirmed,
    /// An answer agreed, or the server sends no date, or `--trust-clock`.
    Confirmed,
    /// Goals that depend on the time are held.
    Doubtful,
}

/// A change that the log reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockChange {
    /// The clock is ahead by this (behind, if negative).
    Doubted(SignedDuration),
    /// It agrees with the server again.
    Agrees,
}

/// Comparison of the wall clock with that of the server.
#[derive(Debug, Clone)]
pub struct ClockCheck {
    /// `--trust-clock`: nothing is held.
    trusted: bool,
    /// Successive answers that differed.
    differed: u32,
    /// Whether an answer confirmed the clock since the start, and since the clock was last set.
    confirmed: bool,
    /// Whether the clock was set beyond the tolerance since the last comparison.
    set: bool,
    /// Time that the clock is ahead of the server's (behind, if negative).
    ahead: Option<SignedDuration>,
    /// The first and the last `Date` of the server; the local time if the server sends none.
    dates: Option<(Timestamp, Timestamp)>,
}

impl ClockCheck {
    pub const fn new(trusted: bool) -> Self {
        Self { trusted, differed: 0, confirmed: false, set: false, ahead: None, dates: None }
    }

    /// Compares with an answer to a request that was sent at `sent` and answered at `received`, both by the local
    /// clock.
    pub fn compare(&mut self, server: ServerClock, sent: Timestamp, received: Timestamp) -> Option<ClockChange> {
        let date = match server {
            ServerClock::NoAnswer | ServerClock::Aged => return None,
            ServerClock::NoDate => {
                // Without a date to compare with, the local clock is trusted.
                if self.differed == 0 {
                    (self.confirmed, self.set) = (true, false);
                }
                if self.ahead.is_none() {
                    self.note_date(received);
                }
                return None;
            }
            ServerClock::At(date) => date,
        };
        self.note_date(date);
        // A slow answer was dated at some time between the two.
        let ahead = if date < sent { sent.duration_since(date) } else { received.min(date).duration_since(date) };
        self.ahead = Some(ahead);
        let was = self.differed >= SUCCESSIVE;
        if ahead.abs() > TOLERANCE {
            self.differed = (self.differed + 1).min(SUCCESSIVE);
            return (self.differed == SUCCESSIVE && !was).then_some(ClockChange::Doubted(ahead));
        }
        (self.differed, self.confirmed, self.set) = (0, true, false);
        was.then_some(ClockChange::Agrees)
    }

    fn note_date(&mut self, date: Timestamp) {
        self.dates = Some((self.dates.map_or(date, |(first, _)| first), date));
    }

    /// Forgets the dates of earlier answers.
    pub fn forget_dates(&mut self) {
        self.dates = None;
    }

    /// The first and the last time of the server that its answers showed.
    pub const fn dates(&self) -> Option<(Timestamp, Timestamp)> {
        self.dates
    }

    /// The wall clock was set forward by this, or the machine slept that long.
    pub fn set_forward(&mut self, by: SignedDuration) {
        if let Some(ahead) = &mut self.ahead {
            *ahead = ahead.saturating_add(by);
            if ahead.abs() > TOLERANCE {
                (self.confirmed, self.set) = (false, true);
            }
        }
    }

    pub const fn trust(&self) -> Trust {
        let differs = self.differed >= SUCCESSIVE || (!self.confirmed && (self.differed > 0 || self.set));
        match (self.trusted, differs, self.confirmed) {
            (true, ..) | (false, false, true) => Trust::Confirmed,
            (false, true, _) => Trust::Doubtful,
            (false, false, false) => Trust::Unconfirmed,
        }
    }

    /// Returns whether one more answer would decide, and justifies an extra request.
    pub const fn wants_answer(&self) -> bool {
        !self.confirmed && self.differed < SUCCESSIVE && (self.differed > 0 || self.set)
    }

    /// Returns whether three successive answers differed.
    pub const fn differs(&self) -> bool {
        self.differed >= SUCCESSIVE
    }

    /// Time that the clock is ahead of the server's; absent before the first comparison.
    pub const fn ahead(&self) -> Option<SignedDuration> {
        self.ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: i64 = 365 * 24 * 3600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    /// An answer that arrives at once from a server with a clock that is `behind` the local one.
    fn answer(clock_check: &mut ClockCheck, behind: i64) -> Option<ClockChange> {
        clock_check.compare(ServerClock::At(at(-behind)), at(0), at(0))
    }

    #[test]
    fn three_successive_answers_make_the_clock_doubtful_and_one_ends_it() {
        let mut clock_check = ClockCheck::new(false);
        assert_eq!(clock_check.trust(), Trust::Unconfirmed);
        assert_eq!((answer(&mut clock_check, 119), clock_check.trust()), (None, Trust::Confirmed));
        assert_eq!((answer(&mut clock_check, YEAR), clock_check.trust()), (None, Trust::Confirmed));
        assert_eq!((answer(&mut clock_check, YEAR), clock_check.trust()), (None, Trust::Confirmed));
        assert_eq!((answer(&mut clock_check, 0), clock_check.trust()), (None, Trust::Confirmed));
        assert_eq!((answer(&mut clock_check, 121), answer(&mut clock_check, 121)), (None, None));
        assert_eq!(answer(&mut clock_check, 121), Some(ClockChange::Doubted(SignedDuration::from_secs(121))));
        assert_eq!((answer(&mut clock_check, 121), clock_check.trust()), (None, Trust::Doubtful));
        assert_eq!(
            (answer(&mut clock_check, -120), clock_check.trust()),
            (Some(ClockChange::Agrees), Trust::Confirmed)
        );
        for _ in 0..3 {
            answer(&mut clock_check, -YEAR);
        }
        assert_eq!(
            (clock_check.trust(), clock_check.ahead()),
            (Trust::Doubtful, Some(SignedDuration::from_secs(-YEAR)))
        );
    }

    #[test]
    fn after_a_start_one_answer_is_enough_to_wait() {
        let mut clock_check = ClockCheck::new(false);
        answer(&mut clock_check, YEAR);
        assert_eq!(
            (clock_check.trust(), clock_check.wants_answer(), clock_check.differs()),
            (Trust::Doubtful, true, false)
        );
        answer(&mut clock_check, 0);
        assert_eq!((clock_check.trust(), clock_check.wants_answer()), (Trust::Confirmed, false));
    }

    #[test]
    fn a_clock_that_is_set_is_doubtful_until_an_answer_agrees() {
        let mut clock_check = ClockCheck::new(false);
        clock_check.set_forward(SignedDuration::from_secs(YEAR));
        assert_eq!(clock_check.trust(), Trust::Unconfirmed, "nothing was compared: it may just have been put right");
        answer(&mut clock_check, 0);
        clock_check.set_forward(SignedDuration::from_secs(100));
        assert_eq!(clock_check.trust(), Trust::Confirmed);
        clock_check.set_forward(SignedDuration::from_secs(100));
        assert_eq!((clock_check.trust(), clock_check.wants_answer()), (Trust::Doubtful, true), "small steps add up");
        answer(&mut clock_check, 0);
        assert_eq!(clock_check.trust(), Trust::Confirmed, "the machine had slept");
    }

    #[test]
    fn copies_and_slow_answers_prove_nothing_and_without_a_date_the_clock_is_trusted() {
        let mut clock_check = ClockCheck::new(false);
        for _ in 0..5 {
            clock_check.compare(ServerClock::Aged, at(0), at(0));
            clock_check.compare(ServerClock::NoAnswer, at(0), at(0));
        }
        assert_eq!((clock_check.trust(), clock_check.ahead()), (Trust::Unconfirmed, None));
        for date in [0, 500, 1000, -119, 1119] {
            clock_check.compare(ServerClock::At(at(date)), at(0), at(1000));
            assert_eq!(clock_check.trust(), Trust::Confirmed, "{date}");
        }
        let mut clock_check = ClockCheck::new(false);
        clock_check.compare(ServerClock::NoDate, at(0), at(0));
        assert_eq!((clock_check.trust(), clock_check.ahead()), (Trust::Confirmed, None));
    }

    #[test]
    fn the_first_and_the_last_date_are_known_until_they_are_forgotten() {
        let mut clock_check = ClockCheck::new(false);
        assert_eq!(clock_check.dates(), None);
        answer(&mut clock_check, 30);
        answer(&mut clock_check, 20);
        assert_eq!(clock_check.dates(), Some((at(-30), at(-20))));
        // Without a date, the local time counts only until the server sends one.
        clock_check.compare(ServerClock::NoDate, at(0), at(1));
        assert_eq!(clock_check.dates(), Some((at(-30), at(-20))));
        clock_check.forget_dates();
        answer(&mut clock_check, 10);
        assert_eq!(clock_check.dates(), Some((at(-10), at(-10))));
        let mut clock_check = ClockCheck::new(false);
        clock_check.compare(ServerClock::NoDate, at(0), at(1));
        assert_eq!(clock_check.dates(), Some((at(1), at(1))));
    }

    #[test]
    fn a_trusted_clock_holds_nothing_and_is_reported_all_the_same() {
        let mut clock_check = ClockCheck::new(true);
        answer(&mut clock_check, YEAR);
        answer(&mut clock_check, YEAR);
        assert!(answer(&mut clock_check, YEAR).is_some());
        assert_eq!((clock_check.trust(), clock_check.differs()), (Trust::Confirmed, true));
    }

    #[test]
    fn one_more_answer_is_worth_a_request_only_if_it_can_settle_the_matter() {
        let mut clock_check = ClockCheck::new(false);
        assert!(!clock_check.wants_answer(), "nothing differs");
        for expected in [true, true, false] {
            answer(&mut clock_check, YEAR);
            assert_eq!(clock_check.wants_answer(), expected);
        }
        let mut clock_check = ClockCheck::new(false);
        answer(&mut clock_check, 0);
        answer(&mut clock_check, YEAR);
        assert!(!clock_check.wants_answer(), "the clock was confirmed");
    }

    #[test]
    fn a_clock_is_set_only_beyond_the_tolerance() {
        let mut clock_check = ClockCheck::new(false);
        answer(&mut clock_check, 0);
        clock_check.set_forward(TOLERANCE);
        assert_eq!(clock_check.trust(), Trust::Confirmed);
        clock_check.set_forward(SignedDuration::from_nanos(1));
        assert_eq!(clock_check.trust(), Trust::Doubtful);
    }
}
