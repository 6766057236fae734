//! Leader election over one Lease, as a state machine: the next request, and the holder of the lease.
//!
//! Pure. All times are those of this process, by a clock that counts suspend time (`CLOCK_BOOTTIME`); times in the
//! record are never compared with it. The holder counts its lease from the send of a renewal, another process from its
//! receipt, so the lease of the holder always ends first. A standby counts only the time between two successful reads:
//! an API server that does not answer changes no leader.

use std::sync::Arc;
use std::time::Duration;

use super::SHORTEST_LEASE as SHORTEST;
use crate::reconcile::moment::Moment;

/// Minimum time of the lease that must be left to start a call.
pub const MIN_LEFT_TO_START: Duration = Duration::from_secs(10);
/// Time before the end of the lease at which a call is cut off.
pub const CUT_OFF_MARGIN: Duration = Duration::from_secs(1);
/// Time between reads of a standby: it takes over within a second of a release.
pub const READ: Duration = Duration::from_millis(750);
/// `duration` of a record that its holder released, as client-go writes it: an edit by a person is no release.
pub const RELEASED: Duration = Duration::from_secs(1);
/// Time before a failed request is sent again.
pub const RETRY: Duration = Duration::from_secs(2);

/// The fields of a Lease that the election uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// `None`: released.
    pub holder: Option<Arc<str>>,
    pub duration: Duration,
    /// Number of changes of the holder.
    pub transitions: u32,
    /// `resourceVersion`; a write with an older one is refused.
    pub version: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Read,
    /// Creates the Lease, which does not exist.
    Create(Record),
    /// Replaces the version of the record.
    Replace(Record),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The record as it is stored now.
    Stored(Record),
    /// The record does not exist.
    Absent,
    /// Another process wrote earlier.
    Conflict,
    /// No answer, or an error: the write may have succeeded.
    Failed,
}

/// State of the lease, from the answers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum StoredLease {
    Nothing,
    Absent,
    Stored(Record),
}

#[derive(Debug)]
pub struct Elector {
    identity: Arc<str>,
    duration: Duration,
    stored: StoredLease,
    /// Time for which reads have shown the same record, or none.
    unchanged: Duration,
    /// Longest lease of another process that held the record and did not release it. It counts even if a person has edited
    /// or deleted the record: that process sends calls until its next renewal.
    rival: Option<Duration>,
    /// Writes in a row that did not acquire the lease.
    lost_writes: u32,
    /// Time of the last answer, if it was no error.
    answered_at: Option<Moment>,
    /// End of the lease that this process holds.
    until: Option<Moment>,
    /// Number of times that this process acquired the lease.
    term: u64,
}

impl Elector {
    pub fn new(identity: Arc<str>, duration: Duration) -> Self {
        let stored = StoredLease::Nothing;
        let unchanged = Duration::ZERO;
        Self {
            identity,
            duration,
            stored,
            unchanged,
            rival: None,
            lost_writes: 0,
            answered_at: None,
            until: None,
            term: 0,
        }
    }

    pub fn identity(&self) -> &Arc<str> {
        &self.identity
    }

    /// The process that holds the lease by the newest record.
    pub fn holder(&self) -> Option<&Arc<str>> {
        match &self.stored {
            StoredLease::Stored(record) => record.holder.as_ref(),
            StoredLease::Nothing | StoredLease::Absent => None,
        }
    }

    /// Whether the last request was answered.
    pub fn is_readable(&self) -> bool {
        self.answered_at.is_some()
    }

    pub fn term(&self) -> u64 {
        self.term
    }

    /// End of the lease of this process, even if it has passed.
    pub fn until(&self) -> Option<Moment> {
        self.until
    }

    /// The request to send now.
    pub fn request(&self) -> Request {
        let mut mine =
            Record { holder: Some(self.identity.clone()), duration: self.duration, transitions: 0, version: "".into() };
        match &self.stored {
            StoredLease::Nothing => Request::Read,
            StoredLease::Absent if self.has_rival_ended() => Request::Create(mine),
            StoredLease::Absent => Request::Read,
            StoredLease::Stored(record) if self.may_take(record) => {
                let same = record.holder.as_ref() == Some(&self.identity);
                mine.transitions = record.transitions.saturating_add(u32::from(!same));
                mine.version = record.version.clone();
                Request::Replace(mine)
            }
            StoredLease::Stored(_) => Request::Read,
        }
    }

    /// The request that releases the lease, if this process holds it.
    pub fn release(&mut self) -> Option<Request> {
        self.until.take()?;
        match &self.stored {
            StoredLease::Stored(record) if record.holder.as_ref() == Some(&self.identity) => {
                Some(Request::Replace(Record { holder: None, duration: RELEASED, ..record.clone() }))
            }
            StoredLease::Nothing | StoredLease::Absent | StoredLease::Stored(_) => None,
        }
    }

    fn may_take(&self, record: &Record) -> bool {
        record.holder.as_ref() == Some(&self.identity) || self.has_rival_ended()
    }

    fn has_rival_ended(&self) -> bool {
        self.rival.is_none_or(|lease| self.unchanged >= lease)
    }

    /// Takes from a record how long another process may believe that it leads.
    fn note_rival(&mut self, record: &Record) {
        match &record.holder {
            Some(holder) if *holder == self.identity => self.rival = None,
            Some(holder) => {
                let longest = self.rival.filter(|_| self.holder().is_none_or(|before| before == holder));
                self.rival = longest.max(Some(record.duration.max(SHORTEST)));
            }
            None if record.duration <= RELEASED => self.rival = None,
            None => {}
        }
    }

    /// Counts the time since the last answer if both show the same. Time without answers does not count.
    fn count(&mut self, same: bool, now: Moment) {
        self.unchanged = match self.answered_at {
            Some(before) if same => self.unchanged.saturating_add(now.since(before)),
            None if same => self.unchanged,
            Some(_) | None => Duration::ZERO,
        };
        self.answered_at = Some(now);
    }

    /// Time until the next request after a write that did not acquire the lease: a server that refuses each write is not
    /// flooded.
    fn lost_write(&mut self) -> Duration {
        self.lost_writes = self.lost_writes.saturating_add(1);
        if self.lost_writes == 1 { Duration::ZERO } else { RETRY }
    }

    /// Takes the answer to `request`, sent at `sent` and received at `now`. Returns the time until the next request.
    pub fn answered(&mut self, request: &Request, answer: Answer, sent: Moment, now: Moment) -> Duration {
        let wrote = !matches!(request, Request::Read);
        match answer {
            Answer::Stored(record) => {
                let same = matches!(&self.stored, StoredLease::Stored(stored) if stored.version == record.version);
                self.count(same, now);
                self.note_rival(&record);
                if record.holder.as_ref() != Some(&self.identity) {
                    self.until = None;
                } else if wrote {
                    if self.until.is_none_or(|until| until <= sent) {
                        self.term += 1;
                    }
                    self.until = Some(sent + self.duration);
                }
                self.stored = StoredLease::Stored(record);
                let mine = self.holder() == Some(&self.identity);
                match (mine, wrote) {
                    (true, true) => {
                        self.lost_writes = 0;
                        self.duration / 3
                    }
                    // A write of this process whose answer was lost, or the lease is free.
                    (true, false) => Duration::ZERO,
                    (false, true) => self.lost_write().max(self.next_read()),
                    (false, false) => self.next_read(),
                }
            }
            Answer::Absent if !matches!(request, Request::Create(_)) => {
                self.count(self.stored == StoredLease::Absent, now);
                (self.stored, self.until) = (StoredLease::Absent, None);
                if wrote { self.lost_write() } else { self.next_read() }
            }
            Answer::Conflict => {
                self.count(false, now);
                self.stored = StoredLease::Nothing;
                self.lost_write()
            }
            // A record that can be neither read nor created: there is no such namespace.
            Answer::Absent | Answer::Failed => {
                self.answered_at = None;
                RETRY
            }
        }
    }

    /// Earlier if the record ends earlier.
    fn next_read(&self) -> Duration {
        READ.min(self.rival.unwrap_or_default().saturating_sub(self.unchanged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::lease::LeaseServer as Server;

    const LEASE: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    fn elector(name: &str) -> Elector {
        Elector::new(name.into(), LEASE)
    }

    /// One request whose answer takes no time.
    fn step(elector: &mut Elector, server: &mut Server, now: Moment) -> Duration {
        let request = elector.request();
        let answer = server.handle(&request);
        elector.answered(&request, answer, now, now)
    }

    fn fail(elector: &mut Elector, now: Moment) -> Duration {
        let request = elector.request();
        elector.answered(&request, Answer::Failed, now, now)
    }

    fn holds(elector: &Elector, now: Moment) -> bool {
        elector.until().is_some_and(|until| now < until)
    }

    #[test]
    fn the_first_process_creates_the_lease_and_renews_it_each_third() {
        let (mut server, mut a) = (Server::default(), elector("a"));
        assert_eq!(step(&mut a, &mut server, at(0)), Duration::ZERO);
        assert_eq!(step(&mut a, &mut server, at(0)), LEASE / 3);
        assert_eq!((a.until(), a.term()), (Some(at(30)), 1));
        assert_eq!(step(&mut a, &mut server, at(10)), LEASE / 3);
        assert_eq!((a.until(), a.term()), (Some(at(40)), 1));
        assert_eq!(server.record.as_ref().unwrap().transitions, 0);
    }

    #[test]
    fn the_lease_is_measured_from_the_send_of_the_renewal() {
        let (mut server, mut a) = (Server::default(), elector("a"));
        step(&mut a, &mut server, at(0));
        let request = a.request();
        let answer = server.handle(&request);
        a.answered(&request, answer, at(1), at(5));
        assert_eq!(a.until(), Some(at(31)));
    }

    #[test]
    fn a_standby_takes_over_a_lease_that_did_not_change_for_its_length() {
        let (mut server, mut a, mut b) = (Server::default(), elector("a"), elector("b"));
        step(&mut a, &mut server, at(0));
        step(&mut a, &mut server, at(0));
        let mut now = at(3);
        while !holds(&b, now) {
            now = now + step(&mut b, &mut server, now);
            assert!(now < at(100));
            assert!(!(holds(&a, now) && holds(&b, now)), "two holders at {now:?}");
        }
        assert!(now >= at(33), "{now:?}");
        assert_eq!(server.record.as_ref().unwrap().transitions, 1);
        // The old holder wakes up.
        step(&mut a, &mut server, now);
        step(&mut a, &mut server, now);
        assert_eq!((a.until(), a.holder().map(|holder| &**holder)), (None, Some("b")));
    }

    #[test]
    fn an_api_server_without_answers_changes_no_leader() {
        let (mut server, mut a, mut b) = (Server::default(), elector("a"), elector("b"));
        step(&mut a, &mut server, at(0));
        step(&mut a, &mut server, at(0));
        step(&mut b, &mut server, at(5));
        step(&mut b, &mut server, at(7));
        for second in (8..70).step_by(2) {
            assert_eq!(fail(&mut a, at(second)), RETRY);
            assert_eq!(fail(&mut b, at(second)), RETRY);
        }
        assert!(!holds(&a, at(70)), "its lease has ended meanwhile");
        step(&mut b, &mut server, at(70));
        assert_eq!(b.request(), Request::Read);
        step(&mut a, &mut server, at(71));
        assert_eq!((a.until(), a.term()), (Some(at(101)), 2), "the same leader, in a new term");
        step(&mut b, &mut server, at(72));
        assert_eq!(b.holder().map(|holder| &**holder), Some("a"));
    }

    #[test]
    fn a_lost_answer_to_a_renewal_costs_a_read_and_no_lease() {
        let (mut server, mut a) = (Server::default(), elector("a"));
        step(&mut a, &mut server, at(0));
        step(&mut a, &mut server, at(0));
        let request = a.request();
        server.handle(&request);
        a.answered(&request, Answer::Failed, at(10), at(12));
        assert_eq!(a.until(), Some(at(30)), "only an answer renews");
        assert_eq!(step(&mut a, &mut server, at(14)), Duration::ZERO, "a conflict");
        assert_eq!(a.until(), Some(at(30)));
        assert_eq!(step(&mut a, &mut server, at(14)), Duration::ZERO, "a read");
        assert_eq!(step(&mut a, &mut server, at(14)), LEASE / 3);
        assert_eq!((a.until(), a.term()), (Some(at(44)), 1));
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let (mut server, mut a, mut b) = (Server::default(), elector("a"), elector("b"));
        step(&mut a, &mut server, at(0));
        step(&mut a, &mut server, at(0));
        step(&mut b, &mut server, at(1));
        let next = step(&mut b, &mut server, at(2));
        assert!(next < Duration::from_secs(1), "{next:?}");
        let release = a.release().unwrap();
        server.handle(&release);
        assert_eq!((a.until(), a.release()), (None, None));
        assert_eq!(step(&mut b, &mut server, at(3)), Duration::ZERO);
        step(&mut b, &mut server, at(3));
        assert_eq!(b.until(), Some(at(33)));
    }

    #[test]
    fn of_two_that_take_over_at_once_one_gets_it() {
        let (mut server, mut b, mut c) = (Server::default(), elector("b"), elector("c"));
        server.record = Some(Record { version: "x".into(), ..Record::default() });
        for elector in [&mut b, &mut c] {
            step(elector, &mut server, at(0));
        }
        let late = c.request();
        step(&mut b, &mut server, at(0));
        let answer = server.handle(&late);
        assert_eq!(answer, Answer::Conflict);
        c.answered(&late, answer, at(0), at(0));
        step(&mut c, &mut server, at(0));
        assert!(holds(&b, at(1)) && !holds(&c, at(1)));
    }

    #[test]
    fn an_edited_or_deleted_record_does_not_end_the_lease_of_its_holder() {
        for edit in ["delete", "no holder", "short"] {
            let (mut server, mut a, mut b) = (Server::default(), elector("a"), elector("b"));
            step(&mut a, &mut server, at(0));
            step(&mut a, &mut server, at(0));
            step(&mut b, &mut server, at(1));
            let record = server.record.as_mut().unwrap();
            record.version = "edited".into();
            match edit {
                "delete" => server.record = None,
                "no holder" => record.holder = None,
                _ => record.duration = Duration::from_secs(2),
            }
            let mut now = at(2);
            while !holds(&b, now) {
                now = now + step(&mut b, &mut server, now).max(Duration::from_millis(1));
                assert!(!(holds(&a, now) && holds(&b, now)), "{edit}: two holders at {now:?}");
            }
            let taken = b.until().unwrap();
            assert!(taken >= at(62) && taken < at(64), "{edit}: the lease ends at {taken:?}");
        }
    }

    #[test]
    fn a_server_that_refuses_each_write_is_not_flooded() {
        let namespace_missing = |_: &Request| Answer::Absent;
        let always_conflict = |request: &Request| match request {
            Request::Read => Answer::Stored(Record { version: "x".into(), ..Record::default() }),
            Request::Create(_) | Request::Replace(_) => Answer::Conflict,
        };
        let ignored = |_: &Request| Answer::Stored(Record { version: "x".into(), ..Record::default() });
        let servers: [&dyn Fn(&Request) -> Answer; 3] = [&namespace_missing, &always_conflict, &ignored];
        for (number, server) in servers.into_iter().enumerate() {
            let (mut a, mut now, mut requests) = (elector("a"), at(0), 0);
            while now < at(60) {
                let request = a.request();
                now = now + a.answered(&request, server(&request), now, now);
                requests += 1;
                assert!(requests <= 70, "server {number}: {requests} requests by {now:?}");
            }
            assert_eq!(a.until(), None);
        }
    }

    #[test]
    fn a_deleted_lease_is_lost_and_created_again() {
        let (mut server, mut a) = (Server::default(), elector("a"));
        step(&mut a, &mut server, at(0));
        step(&mut a, &mut server, at(0));
        server.record = None;
        step(&mut a, &mut server, at(10));
        assert_eq!(a.until(), None);
        step(&mut a, &mut server, at(10));
        assert_eq!((a.until(), a.term()), (Some(at(40)), 2));
    }
}
