//! The shell: one loop that owns the state and every task.
//!
//! ```text
//!  threads                    the loop (one task, one writer)                 readers
//!  -------                    -------------------------------                 -------
//!  source --Update---------->  take_update                   --> status board --> http (thread): pages, events, metrics
//!    (watch, scan, parse)      pass: decide (reconcile)                     \--> service (thread): systemd
//!  signals --Stage--------->   dispatch: rate limiter        --> history (thread): entries to disk
//!                              end_iteration: publish, wake  --> log (thread): lines to stderr
//!  requests (tasks) --Outcome-> take_outcome
//!       ^------- Job: page, single read, call, token
//! ```
//! An event only means "check again". Each iteration of the loop takes the updates and outcomes that arrived, decides
//! for the apps that are scheduled now, and sends the requests that the rate limiter admits. Nothing here decides
//! whether an app is stopped; `reconcile::decide` does.

pub mod app_record;
pub mod describe;
pub mod execute;
pub mod fleet;
pub mod journal;
pub mod lead;
pub mod limit;
pub mod observe;
pub mod order;
pub mod pass;
pub mod progress;
pub mod queue;
pub mod reads;
pub mod report;
pub mod resync;
mod scans;
pub mod shutdown;
pub mod undeclared;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tracing::{debug, error};

use crate::budget::{Admission, Budget, Call, Forbidden, Lane, LimiterEvent, RateLimiter, Waiting};
use crate::clock::Clock;
use crate::platform::{Platform, Team};
use crate::reconcile::app::AppName;
use crate::reconcile::backoff::SINGLE_READS;
use crate::reconcile::clock_check::{ClockCheck, ServerClock, Trust};
use crate::reconcile::decide::{Decision, Gates};
use crate::reconcile::desired::{Declared, Policy};
use crate::reconcile::max_changes::Limits;
use crate::reconcile::moment::Moment;
use crate::reconcile::outcome::{Failure, Verdict};
use crate::reconcile::plan::Entry;
use crate::reconcile::restart::ServerTime;
use crate::reconcile::state::Action;
use crate::source::{SourceReport, Update};
use crate::status::Board;
use crate::status::history::{self, Trigger};
use crate::status::meters;
use execute::{Job, JobResult, Outcome};
use fleet::Fleet;
use lead::Leadership;
use limit::Changes;
use resync::Resync;
use scans::Scans;
use shutdown::{Shutdown, Stage};

/// Calls in flight at once. The budget is the usual bound; without one, this protects a private server from
/// ten thousand connections.
const MOST_CALLS: usize = 32;
/// Single reads in flight at once.
const MOST_READS: usize = 8;
/// Time for calls in flight to end after the first signal: container runtimes kill after 30 s by default.
const DRAIN: Duration = Duration::from_secs(20);

/// Single reads that are scheduled within this time wait for each other if one list costs less than all of them: the
/// answers to fifty edits saved at once arrive a millisecond apart.
const GATHER: Duration = Duration::from_millis(500);

/// Interval of checks of the token file while the account is blocked: a new token is tried at once.
const TOKEN_CHECK: Duration = Duration::from_secs(2);

/// Longest interval between comparisons of the wall clock with the monotonic one.
const CLOCK_CHECK: Duration = Duration::from_secs(10);
/// A larger change of their difference means that the wall clock was set.
const CLOCK_STEP: jiff::SignedDuration = jiff::SignedDuration::from_secs(1);

/// Settings of the operator. Every value is checked where it enters.
#[derive(Debug, Clone)]
pub struct Settings {
    pub interval: Duration,
    /// Time for an accepted call to take effect.
    pub confirm_timeout: Duration,
    pub policy: Policy,
    /// Decides and reports without calls.
    pub dry_run: bool,
    pub budget: Budget,
    /// Teams that have their apps listed, too.
    pub teams: Vec<Team>,
    /// Maximum duration of a run with `--once`; `None` without `--once`.
    pub once: Option<Duration>,
    /// `--trust-clock`: a clock that differs from the server's holds nothing.
    pub trust_clock: bool,
    /// The most calls that edits may cause.
    pub limits: Limits,
    /// Spreads backoff and probes; any number.
    pub salt: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            confirm_timeout: Duration::from_secs(120),
            policy: Policy::Full,
            dry_run: false,
            budget: Budget::PerMinute(crate::budget::DEFAULT_BUDGET),
            teams: Vec::new(),
            once: None,
            trust_clock: false,
            limits: Limits::default(),
            salt: 0,
        }
    }
}

/// The result of the first half of an iteration.
#[derive(Debug, Clone, Copy)]
struct Sent {
    now: Moment,
    any: bool,
    /// Time at which more requests may be sent.
    again: Option<Moment>,
}

/// A request in flight.
#[derive(Debug)]
struct Task {
    job: Job,
    sent_at: Moment,
    handle: AbortHandle,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// A signal arrived; calls in flight ended or were abandoned.
    Stopped,
    /// `--once`: nothing is left to do, and every app is as declared (or held on purpose).
    Settled,
    /// `--once`: nothing is left to do, but this number of apps or manifests need a person.
    NeedsPerson(usize),
    /// `--once`: `--timeout` ended first.
    TimedOut,
}

/// The operator: one loop, one writer of everything it owns.
pub struct Operator<P> {
    platform: Arc<P>,
    settings: Settings,
    clock: Clock,
    board: Board,
    fleet: Fleet,
    limiter: RateLimiter,
    resync: Resync,
    clock_check: ClockCheck,
    gates: Gates,
    changes: Changes,
    progress: progress::Progress,
    undeclared: undeclared::Names,
    source: Option<SourceReport>,
    /// The last report of the source itself; `source` differs from it while no scan finishes.
    last_report: Option<SourceReport>,
    scans: Option<Scans>,
    /// Leader election; `None` without `--leader-elect`.
    lead: Option<watch::Receiver<Leadership>>,
    /// Leadership in the last iteration.
    leadership: Leadership,
    /// Start of this leader term; readings that were requested earlier are ignored.
    led_since: Moment,
    /// Why the source is unavailable, while no scan finishes.
    stalled: Option<Arc<str>>,
    jobs: JoinSet<Outcome>,
    /// The requests in flight, by task: a task that panicked cannot report which request it made.
    tasks: HashMap<Id, Task>,
    calls: usize,
    reads: usize,
    /// Whether the last `observe` request was a page: pages and routine reads alternate while both wait.
    page_last: bool,
    requests: u64,
    summary_at: Moment,
    /// The wall time at which the process began, by the wall clock as it is set now.
    started: jiff::Timestamp,
    /// Whether the published status of the daemon is up to date.
    reported: bool,
    /// The published progress.
    reported_progress: Vec<crate::status::Progress>,
    /// Whether the last report found nothing left to do.
    was_idle: bool,
    /// The number of stalled apps in the last report that found nothing left to do.
    reported_stalled: usize,
    /// Answers to calls that are not in the history yet: the next decision adds their result.
    answers: HashMap<AppName, (Action, history::Answer)>,
    /// Decisions that are neither logged nor on the board yet, each with the decision before it.
    unpublished: Vec<(Entry, Option<Decision>)>,
}

impl<P: Platform> Operator<P> {
    pub fn new(platform: Arc<P>, settings: Settings, clock: Clock, board: Board) -> Self {
        let limiter = RateLimiter::new(settings.budget, settings.salt);
        let resync = Resync::new(settings.teams.clone());
        let clock_check = ClockCheck::new(settings.trust_clock);
        let gates = Gates { policy: settings.policy, dry_run: settings.dry_run, ..Gates::OPEN };
        Self {
            fleet: Fleet::new(settings.salt),
            limiter,
            gates,
            changes: Changes::new(settings.limits),
            progress: progress::Progress::default(),
            undeclared: undeclared::Names::default(),
            platform,
            settings,
            clock,
            board,
            resync,
            clock_check,
            source: None,
            last_report: None,
            scans: None,
            lead: None,
            leadership: Leadership::default(),
            led_since: Moment::START,
            stalled: None,
            jobs: JoinSet::new(),
            tasks: HashMap::new(),
            calls: 0,
            reads: 0,
            page_last: false,
            requests: 0,
            summary_at: Moment::START + report::SUMMARY,
            started: clock.wall() - clock.now().since_start(),
            reported: false,
            reported_progress: Vec::new(),
            was_idle: false,
            reported_stalled: 0,
            answers: HashMap::new(),
            unpublished: Vec::new(),
        }
    }

    /// Checks that the source keeps scanning: `finished` counts its scans, one for each `interval`.
    #[must_use]
    pub fn follow_scans(mut self, finished: Arc<AtomicU64>, interval: Duration) -> Self {
        self.scans = Some(Scans::new(finished, interval));
        self
    }

    /// Sends requests only while this process leads.
    #[must_use]
    pub fn follow_leader(mut self, lead: watch::Receiver<Leadership>) -> Self {
        self.gates.standby = true;
        self.lead = Some(lead);
        self
    }

    /// The published form of the leadership.
    fn leader(&self) -> Option<crate::status::Leader> {
        self.lead.as_ref().map(|_| self.leadership.published())
    }

    /// Takes the leadership of this process. A new leader starts from readings that it requests itself.
    fn check_leader(&mut self, now: Moment) {
        let Some(lead) = self.lead.as_ref().map(|lead| lead.borrow().clone()) else { return };
        if lead == self.leadership {
            return;
        }
        let is_new_term = lead.term != self.leadership.term;
        if is_new_term {
            self.led_since = now;
            // Metrics from before may not show a restart that the last leader sent.
            self.clock_check.forget_dates();
            self.resync.start_now(now);
        }
        if is_new_term || lead.is_standby() {
            self.fleet.forget_readings(now);
        }
        if self.gates.standby == lead.may_send {
            self.gates.standby = !lead.may_send;
            self.fleet.all_due(now);
        }
        self.reported = false;
        self.leadership = lead;
    }

    /// Reconciles until a signal arrives, or with `once` until nothing is left to do.
    pub async fn run(mut self, mut updates: UnboundedReceiver<Update>, mut shutdown: Shutdown) -> Ended {
        let deadline = self.settings.once.map(|timeout| self.clock.now() + timeout);
        let mut source_open = true;
        loop {
            // Apply all updates before sending any request.
            while let Ok(update) = updates.try_recv() {
                self.take_update(update);
            }
            let sent = self.begin_iteration();
            if sent.any {
                // Yield so that the request is written before status work.
                tokio::task::yield_now().await;
            }
            let wake = self.end_iteration(sent);
            if let Some(ended) = self.ended(deadline) {
                return ended;
            }
            let wake = deadline.map_or(wake, |deadline| wake.min(deadline));
            tokio::select! {
                biased;
                stage = shutdown.changed() => match stage {
                    Stage::Running => {}
                    Stage::Draining | Stage::Aborting => return self.drain(shutdown).await,
                },
                update = updates.recv(), if source_open => match update {
                    Some(update) => self.take_update(update),
                    None => source_open = false,
                },
                () = lead::changed(&mut self.lead) => {}
                Some(done) = self.jobs.join_next_with_id() => self.take_outcome(done),
                () = tokio::time::sleep_until(self.clock.instant(wake)) => {}
            }
        }
    }

    /// Decides for every app again after the wall clock was set or the machine slept: times computed before are wrong.
    /// Runs before each decision, so that no decision uses a clock that was just set.
    fn check_clock(&mut self, now: Moment) {
        let started = self.clock.wall() - self.clock.now().since_start();
        let by = started.duration_since(self.started);
        if by.abs() > CLOCK_STEP {
            debug!("the wall clock was set, or the machine slept");
            self.started = started;
            self.fleet.all_due(now);
            self.clock_check.set_forward(by);
            self.request_server_time(now);
        }
        let server = self
            .clock_check
            .dates()
            .map(|(first, last)| ServerTime { now: last, trusted_from: first + self.settings.confirm_timeout });
        self.fleet.set_server_time(server);
        let trust = self.clock_check.trust();
        self.gates.clock_doubtful = trust == Trust::Doubtful;
        self.fleet.trust_clock(trust, now);
    }

    /// Compares the wall clock with the server's `Date`; the answer took `took`.
    fn compare_clock(&mut self, server: ServerClock, took: Duration, now: Moment) {
        let wall = self.clock.wall();
        if let Some(change) = self.clock_check.compare(server, wall - took, wall) {
            report::clock(change);
        }
        // Only after an answer with a date; otherwise a server that fails would receive a request for each failure.
        if matches!(server, ServerClock::At(_)) {
            self.request_server_time(now);
        }
    }

    /// Starts a resync at once if one more `Date` decides whether the clock is right.
    fn request_server_time(&mut self, now: Moment) {
        if self.clock_check.wants_answer() {
            self.resync.start_now(now);
        }
    }

    /// Detects a blocked source, which cannot report itself.
    fn check_scans(&mut self, now: Moment) {
        let silent = self.scans.as_mut().and_then(|scans| scans.stalled(now, CLOCK_CHECK));
        if silent.is_some() == self.stalled.is_some() {
            return;
        }
        self.stalled = silent.map(|silent| {
            format!("no scan has finished for {} s: their file system does not answer", silent.as_secs()).into()
        });
        self.take_report(now);
    }

    /// Combines the source's own report with the check of its scans.
    fn take_report(&mut self, now: Moment) {
        let mut source = self.last_report.clone();
        if let Some(stalled) = &self.stalled {
            let source = source.get_or_insert_default();
            (source.available, source.cause) = (false, Some(stalled.clone()));
        }
        let Some(source) = source else { return };
        report::source(self.source.as_ref(), &source);
        if self.source.as_ref().is_none_or(|known| known.available != source.available) {
            self.fleet.all_due(now);
        }
        self.source = Some(source);
        self.reported = false;
    }

    /// Decides for the apps that are scheduled now, and sends the requests that are admitted.
    fn begin_iteration(&mut self) -> Sent {
        let (now, before) = (self.clock.now(), self.requests);
        self.check_scans(now);
        self.check_leader(now);
        let gates = Gates {
            account_blocked: self.limiter.account_blocked(),
            account_forbidden: self.limiter.account_forbidden().is_some(),
            breaker_open: self.limiter.breaker_open(),
            list_unreadable: self.resync.unreadable(),
            list_incomplete: self.resync.incomplete(),
            paused_until: self.limiter.paused_until(now),
            probe_at: self.limiter.held_until(now),
            ..self.gates
        };
        if gates != self.gates {
            self.gates = gates;
            self.fleet.all_due(now);
        }
        self.pass(now);
        let again = self.dispatch(now);
        Sent { now, any: self.requests > before, again }
    }

    /// Publishes status and returns the next wake-up.
    fn end_iteration(&mut self, Sent { now, again, .. }: Sent) -> Moment {
        self.publish(now);
        self.pass(now);
        self.publish(now);
        self.report(now);
        self.board.meters().queued(self.fleet.ready());
        self.board.heartbeat(now, self.settings.interval);
        let held = self.changes.next();
        let (pause, count) = (self.limiter.paused_until(now), self.progress.next());
        let wakes = [again, self.fleet.next_due(), pause, count, Some(self.summary_at), held];
        let longest = now + self.settings.interval.min(CLOCK_CHECK);
        // At least 1 ms: past wake-ups were handled above.
        let soonest = now + Duration::from_millis(1);
        wakes.into_iter().flatten().fold(longest, Moment::min).max(soonest)
    }

    fn take_update(&mut self, update: Update) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        for name in &update.removed {
            let id = self.fleet.object(name).and_then(fleet::Object::app_id);
            report::released(name, id);
            self.released(name, id, update.source.revision.clone(), wall);
            self.changes.released(name);
            self.board.remove_app(name);
        }
        let first = self.source.as_ref().is_none_or(|known| !known.loaded);
        self.last_report = Some(update.source);
        self.take_report(now);
        let trigger = if first { Trigger::Start } else { Trigger::Edit };
        let is_other_app = |declared: &Arc<Declared>| {
            let before = self.fleet.object(&declared.name).and_then(fleet::Object::app_id);
            before != declared.spec().map(|spec| &spec.app_id)
        };
        if !update.removed.is_empty() || update.changed.iter().any(is_other_app) {
            self.undeclared.manifests_changed();
        }
        self.fleet.take_update(update.changed, &update.removed, self.resync.finished_any(), trigger, now, wall);
        self.fleet.take_texts(update.texts, now);
        self.changes.edited();
        self.reported = false;
    }

    /// Sends requests until none waits or the rate limiter admits no more. Returns the time of the next try.
    fn dispatch(&mut self, now: Moment) -> Option<Moment> {
        if self.gates.standby {
            return None;
        }
        loop {
            if self.limiter.account_blocked() {
                if self.platform.token_changed() {
                    self.limiter.token_changed(now);
                }
                let check = now + TOKEN_CHECK;
                return match self.limiter.admit_token_probe(now) {
                    Admission::Go => {
                        self.send(Job::Token, now);
                        None
                    }
                    Admission::At(at) => Some(at.min(check)),
                    Admission::Later => None,
                };
            }
            let mut again = self.probe_forbidden(now);
            let call = self.decide_first_call(now);
            self.start_resync(now);
            let waiting = self.waiting(call, now);
            let mut sent = false;
            for lane in self.limiter.order(&waiting, now) {
                match self.limiter.admit(lane, now) {
                    Admission::Go => {
                        let since = waiting.since(lane).unwrap_or(now);
                        self.board.meters().waited(lane.as_str(), now.since(since));
                        self.send_from(lane, now);
                        sent = true;
                        break;
                    }
                    Admission::At(at) => again = Some(again.map_or(at, |known: Moment| known.min(at))),
                    Admission::Later => {}
                }
            }
            if !sent {
                let reads = self.fleet.reads();
                let gathered = reads.next().map(|at| at + GATHER);
                let later = [self.resync.next_start(), reads.next_after(now), gathered];
                let later = later.into_iter().flatten().filter(|at| *at > now).min();
                return [again, later].into_iter().flatten().min();
            }
        }
    }

    /// Sends the one probe of a refused account, or returns the time at which it may be sent.
    fn probe_forbidden(&mut self, now: Moment) -> Option<Moment> {
        let kind = self.limiter.account_forbidden().filter(|kind| *kind != Forbidden::List)?;
        let at = self.limiter.forbidden_probe_at()?;
        if now < at {
            return Some(at);
        }
        match self.limiter.admit_forbidden_probe(now) {
            Admission::Go => {
                let gates = Gates { account_forbidden: false, breaker_open: false, ..self.gates };
                let (wall, limiter) = (self.clock.wall(), &self.limiter);
                let job = if kind == Forbidden::Reads {
                    let confirmation = self.fleet.take_read(now, false);
                    confirmation.or_else(|| self.fleet.take_routine_read(now))
                } else {
                    self.fleet.take_probe(gates, |id| limiter.is_known_forbidden(id), now, wall)
                };
                match job {
                    Some(job) => self.send(job, now),
                    None => self.limiter.nothing_forbidden_is_pending(),
                }
                None
            }
            Admission::At(at) => Some(at),
            Admission::Later => None,
        }
    }

    /// Returns the oldest wait of a call, after deciding again for its app: time may have passed since it became ready.
    fn decide_first_call(&mut self, now: Moment) -> Option<Moment> {
        if self.calls >= MOST_CALLS {
            return None;
        }
        loop {
            let (name, since) = self.fleet.first_ready()?;
            if self.fleet.object(&name).is_none_or(|object| object.decided_at != now) {
                self.fleet.due_now(&name, now);
                self.pass(now);
            }
            if self.fleet.first_ready().is_some_and(|(first, _)| first == name) {
                return Some(since);
            }
        }
    }

    /// Starts a resync that is scheduled, is the probe, or costs less than the single reads that it replaces.
    fn start_resync(&mut self, now: Moment) {
        let probing = self.limiter.list_is_a_probe();
        // In a bulk, one list verifies the calls of the last 30 s.
        let reads = self.fleet.reads();
        let gathered = reads.any_urgent() || reads.due_listed(now - GATHER, 1) > 0;
        let since = if self.in_a_bulk() { now - SINGLE_READS.cap } else { now };
        if !probing && gathered && self.resync.may_start_confirming(self.count_replaceable_reads(since)) {
            self.resync.start(Lane::Confirm, now);
            self.fleet.mark_replaced_reads_sent(now);
        }
        if self.resync.due(now) || (probing && self.resync.idle()) {
            self.resync.start(Lane::Observe, now);
        }
    }

    /// Oldest wait of each lane; `act` is that of the first call.
    fn waiting(&self, act: Option<Moment>, now: Moment) -> Waiting {
        let read = self
            .may_send_reads()
            .then(|| self.fleet.reads().first(now, self.list_replaces_reads(now)))
            .flatten()
            .map(|(since, _)| since);
        let routine = self.routine_read(now);
        let page = |lane| self.resync.waiting(lane);
        let confirm = [read, page(Lane::Confirm)].into_iter().flatten().min();
        let observe = [routine, page(Lane::Observe)].into_iter().flatten().min();
        Waiting { act, calls: self.fleet.ready(), confirm, observe }
    }

    /// The oldest wait of a routine read, if one may be sent.
    fn routine_read(&self, now: Moment) -> Option<Moment> {
        self.fleet.reads().first_routine(now).filter(|_| self.may_send_reads()).map(|(since, _)| since)
    }

    /// Returns whether single reads may be sent, apart from the budget.
    fn may_send_reads(&self) -> bool {
        let refused = self.limiter.account_forbidden() == Some(Forbidden::Reads);
        !refused && !self.limiter.list_is_a_probe() && self.reads < MOST_READS
    }

    /// Returns whether more calls wait than a list has pages: then each single read would delay a call.
    fn in_a_bulk(&self) -> bool {
        self.fleet.ready() > self.resync.pages() as usize
    }

    /// Returns whether the list replaces single reads of listed apps: in a bulk, and if it costs less than the reads
    /// that are scheduled within [`GATHER`].
    fn list_replaces_reads(&self, now: Moment) -> bool {
        self.in_a_bulk() || self.count_replaceable_reads(now + GATHER) > self.resync.pages() as usize
    }

    /// The number of single reads scheduled until `until` that a list would replace; at most one more than its pages.
    fn count_replaceable_reads(&self, until: Moment) -> usize {
        self.fleet.reads().due_listed(until, self.resync.pages() as usize + 1)
    }

    fn send_from(&mut self, lane: Lane, now: Moment) {
        let job = match lane {
            Lane::Act => self.fleet.take_ready(now, self.clock.wall()).map(|(job, edited_at)| {
                if let Some(edited_at) = edited_at {
                    self.board.meters().edit_acted_on(now.since(edited_at));
                }
                job
            }),
            Lane::Confirm if self.resync.waiting(Lane::Confirm).is_none() => {
                let unlisted_only = self.list_replaces_reads(now);
                self.fleet.take_read(now, unlisted_only)
            }
            Lane::Observe if self.resync.waiting(Lane::Observe).is_none() || self.page_last => {
                self.page_last = false;
                let read = self.routine_read(now).and_then(|_| self.fleet.take_routine_read(now));
                read.or_else(|| self.take_page(now))
            }
            Lane::Confirm => self.take_page(now),
            Lane::Observe => {
                self.page_last = true;
                self.take_page(now)
            }
        };
        // `waiting` found it in the same iteration of the loop, which is the only writer.
        let Some(job) = job else {
            error!(lane = lane.as_str(), "bug: the rate limiter admitted a request that does not exist");
            return;
        };
        self.send(job, now);
    }

    fn take_page(&mut self, now: Moment) -> Option<Job> {
        self.resync.take_page(now).map(|page| Job::Page { page })
    }

    fn send(&mut self, job: Job, now: Moment) {
        debug!(?job, "request");
        self.requests += 1;
        self.board.meters().sent(1, now);
        match &job {
            Job::Act { name, action, .. } => {
                self.calls += 1;
                self.changes.sent(name, *action, now);
            }
            Job::Read { .. } => self.reads += 1,
            Job::Page { .. } | Job::Token => {}
        }
        let handle = self.jobs.spawn(execute::carry_out(self.platform.clone(), job.clone(), self.clock, now));
        self.tasks.insert(handle.id(), Task { job, sent_at: now, handle });
    }

    fn take_outcome(&mut self, done: Result<(Id, Outcome), JoinError>) {
        let mut outcome = match done {
            Ok((id, outcome)) => {
                // `abandon_pages` removed this page, but its task ended before the abort.
                if self.tasks.remove(&id).is_none() {
                    return;
                }
                outcome
            }
            Err(error) => {
                let Some(Task { job, .. }) = self.tasks.remove(&error.id()) else { return };
                // Failures are isolated per app: the call may have been made.
                error!(
                    ?job,
                    "bug: a request task panicked; its answer counts as lost, and the app is read before its next call"
                );
                execute::lost(job, "the task that made the request panicked", self.clock.now())
            }
        };
        let now = self.clock.now();
        let wall = self.clock.wall();
        let call = match &outcome.job {
            Job::Act { id, .. } => Call::Act(id.clone()),
            Job::Read { id } => Call::Read(id.clone()),
            Job::Page { page } if page.team.is_some() => Call::TeamList,
            Job::Page { .. } => Call::List,
            Job::Token => Call::Token,
        };
        let took = now.since(outcome.sent_at);
        self.board.meters().requested(outcome.job.endpoint(), meters::code(outcome.result.http_status()), took);
        let repeats = outcome.result.repeats();
        self.requests += u64::from(repeats);
        self.board.meters().sent(repeats, now);
        self.limiter.charge(repeats, now);
        if let Some(failure) = outcome.result.failure_mut() {
            self.limiter.judge(failure, now);
        }
        let only_this_app = self.note_answer(&call, &outcome.result, now);
        // The limiter takes the result as it is. The apps ignore it: it was requested before this leader term.
        if outcome.sent_at < self.led_since && !matches!(outcome.job, Job::Act { .. }) {
            outcome = execute::lost(outcome.job, "requested before this process became the leader", now);
        }
        let server_clock = outcome.result.server_clock();
        let context = fleet::AnswerContext {
            confirm_timeout: self.settings.confirm_timeout,
            interval: self.settings.interval,
            only_this_app,
            account_refused: self.limiter.account_forbidden().is_some(),
            list_unreadable: self.resync.unreadable(),
        };
        self.reported = false;
        match (outcome.job, outcome.result) {
            (Job::Act { name, id, action, attempt }, JobResult::Acted(result)) => {
                self.calls -= 1;
                let trigger = self.fleet.object(&name).map(|object| object.notes.cause.as_str());
                self.fleet.take_answer(&name, &id, &result, context, now);
                let retry_in = self.fleet.retry_in(&id, now);
                let cause = (trigger, &*self.revision());
                report::call((&name, &id), (action, attempt), cause, &result, took, retry_in);
                self.answered(name, &id, action, &result);
            }
            (Job::Read { id }, JobResult::Read(result)) => {
                self.reads -= 1;
                self.fleet.take_read_answer(&id, result, context, outcome.sent_at, now, wall);
            }
            (Job::Page { page }, JobResult::Listed(result)) => {
                self.take_list_page(page.number, result, outcome.sent_at, now);
            }
            (Job::Token, JobResult::Token(_)) => {
                if !self.limiter.account_blocked() {
                    self.resync.start_now(now);
                }
            }
            (job, _) => error!(?job, "bug: the answer does not fit the request"),
        }
        // After the next resync is scheduled, because this may start it earlier.
        self.compare_clock(server_clock, took, now);
        if self.limiter.list_is_a_probe() {
            // The gate schedules the probe, which is the next list.
            self.resync.start_now(now);
        }
    }

    /// Passes an answer to the rate limiter and reports what changed. Returns whether a rate limit concerns only this
    /// app.
    fn note_answer(&mut self, call: &Call, result: &JobResult, now: Moment) -> bool {
        let failure = result.failure();
        let only_this_app = failure.is_some_and(|failure| self.limiter.is_per_app_limit(call, failure, now));
        let events = match failure {
            None => self.limiter.succeeded(call, result.limits(), now),
            Some(failure) => {
                if failure.verdict == Verdict::Forbidden {
                    self.limiter.declared(self.fleet.declared());
                }
                self.limiter.failed(call, failure, now)
            }
        };
        if let Some(failure) = failure.filter(|failure| {
            failure.limits.bounded && (only_this_app || !matches!(failure.verdict, Verdict::RateLimited { .. }))
        }) {
            report::bounded(failure);
        }
        for event in events {
            report::limiter_event(event, failure);
            self.record_limiter_event(event, failure);
            if matches!(event, LimiterEvent::AccountForbidden(_) | LimiterEvent::AccountAllowed) {
                self.fleet.forget_refusals(now);
                self.resync.start_now(now);
            }
        }
        only_this_app
    }

    fn take_list_page(
        &mut self,
        number: u32,
        result: Result<crate::platform::Answered<crate::platform::Page>, Failure>,
        sent_at: Moment,
        now: Moment,
    ) {
        let wall = self.clock.wall();
        let finished = match result {
            Ok(mut answered) => {
                let contradicted = self.resync.mark_contradictions(&mut answered.value);
                let mut unchanged = Vec::new();
                for seen in &mut answered.value.apps {
                    // A contradiction replaces the older reading, even if this page was requested first.
                    let valid_from = if contradicted.contains(&seen.id) { now } else { sent_at };
                    let (id, settled) = self.fleet.take_listed(seen, valid_from, now, wall);
                    // Share one text for each id among all lists.
                    seen.id = id;
                    let is_declared = self.fleet.app(&seen.id).is_some_and(|known| known.owner.is_some());
                    self.undeclared.take(seen, is_declared);
                    unchanged.extend(settled);
                }
                let when = self.when(now, wall);
                self.board.update_apps(&unchanged, |app| describe::reading_unchanged(app, when));
                self.resync.page(number, answered.value, now, wall)
            }
            Err(failure) => self.resync.page_failed(number, &failure, now, wall),
        };
        self.abandon_pages(now);
        let Some(finished) = finished else { return };
        let interval = self.limiter.list_interval(self.resync.pages(), self.settings.interval);
        self.resync.schedule(interval, self.settings.salt, now);
        report::resync(&finished, interval, self.settings.interval);
        if let Some(ids) = finished.complete {
            self.undeclared.take_complete_list(&ids);
            self.fleet.take_complete_list(&ids, now);
        } else if finished.incomplete_in_a_row >= resync::GIVE_UP_WAITING && !self.resync.absent() {
            self.fleet.request_reads_of_unseen(now);
        }
        self.fleet.forget_undeclared();
        if finished.first_complete {
            self.fleet.all_due(now);
        }
    }

    /// Aborts the requests for pages of a list that has ended.
    fn abandon_pages(&mut self, now: Moment) {
        let (resync, meters) = (&self.resync, self.board.meters());
        let before = self.tasks.len();
        self.tasks.retain(|_, task| {
            let is_awaited = !matches!(&task.job, Job::Page { page } if !resync.is_awaited(page));
            if !is_awaited {
                task.handle.abort();
                meters.requested(task.job.endpoint(), meters::code(None), now.since(task.sent_at));
            }
            is_awaited
        });
        if self.tasks.len() < before {
            // One of them may have been a probe.
            self.limiter.abandoned();
        }
    }

    /// Shuts down: sends nothing new and waits for calls in flight until the second signal or the deadline.
    async fn drain(mut self, mut shutdown: Shutdown) -> Ended {
        report::draining(self.jobs.len());
        // Reads change nothing: do not wait for them.
        let reads: Vec<Id> =
            self.tasks.iter().filter(|(_, task)| !matches!(task.job, Job::Act { .. })).map(|(id, _)| *id).collect();
        for id in reads {
            self.tasks.remove(&id);
        }
        let deadline = self.clock.now() + DRAIN;
        while !self.tasks.is_empty() && shutdown.stage() != Stage::Aborting {
            tokio::select! {
                biased;
                _ = shutdown.changed() => {}
                Some(done) = self.jobs.join_next_with_id() => {
                    let known = match &done {
                        Ok((id, _)) => self.tasks.contains_key(id),
                        Err(error) => self.tasks.contains_key(&error.id()),
                    };
                    if known {
                        self.take_outcome(done);
                        // No request is sent now, but the status and the history record the result.
                        self.pass(self.clock.now());
                        self.publish(self.clock.now());
                    }
                }
                () = tokio::time::sleep_until(self.clock.instant(deadline)) => break,
            }
        }
        report::stopped(self.tasks.values().filter(|task| matches!(task.job, Job::Act { .. })).count());
        self.jobs.abort_all();
        Ended::Stopped
    }

    fn ended(&self, deadline: Option<Moment>) -> Option<Ended> {
        let deadline = deadline?;
        let source = self.source.as_ref().filter(|source| source.loaded || !source.available);
        if let Some(source) = source
            && self.resync.complete_once()
            && self.fleet.is_idle()
            && self.tasks.is_empty()
        {
            let needs = self.fleet.stalled() + self.changes.held_count();
            let count = needs.max(source.errors).max(usize::from(!source.available));
            return Some(if count == 0 { Ended::Settled } else { Ended::NeedsPerson(count) });
        }
        let late = self.clock.now() >= deadline;
        if late {
            report::unsettled(&self.fleet, self.resync.incomplete_cause().map(|cause| &**cause));
        }
        late.then_some(Ended::TimedOut)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use jiff::Timestamp;

    use super::*;
    use crate::reconcile::desired::{Object, Place, Spec, Suspension, Validity};
    use crate::reconcile::labels::Labels;
    use crate::reconcile::state::Desired;
    use crate::simulator::faults::Endpoint;
    use crate::simulator::port::{InProcess, SharedWorld, lock};
    use crate::simulator::world::{Config, World};

    /// An app whose manifest declares Stopped, and whose suspension ends an hour after the start.
    fn suspended(until: Timestamp) -> Update {
        let suspend = Some(Suspension { reason: None, until: Some(until) });
        let spec = Spec { suspend, ..Spec::new("id".parse().unwrap(), Desired::Stopped) };
        let name: AppName = "app".parse().unwrap();
        let (labels, annotations) = (Labels::default(), Labels::default());
        let object = Some(Arc::new(Object { name: name.clone(), labels, annotations, spec }));
        let place = Place { file: "app.yaml".into(), line: 1 };
        let declared = Declared { name, object, place, validity: Validity::Valid };
        let source = SourceReport { loaded: true, available: true, ..SourceReport::default() };
        Update { changed: vec![declared.into()], removed: Vec::new(), texts: Vec::new(), source }
    }

    /// The stops and the lists of a minute in which the wall clock is set forward by `seconds`.
    async fn minute_after(seconds: i64, trust_clock: bool) -> (usize, usize) {
        let start: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let ahead: &'static AtomicI64 = Box::leak(Box::default());
        let clock = Clock::simulated(start);
        let mut world = World::new(Config::default(), start);
        world.add("id".parse().unwrap(), "app", start);
        let world = SharedWorld::new(world.into());
        let token = lock(&world).config().token.clone();
        let platform = InProcess::new(world.clone(), clock, token);
        let settings = Settings { interval: Duration::from_secs(7200), trust_clock, ..Settings::default() };
        let operator = Operator::new(platform.into(), settings, clock.set_forward_by(ahead), Board::default());
        let (updates, inbox) = tokio::sync::mpsc::unbounded_channel();
        let (_stopper, signals) = shutdown::pair();
        updates.send(suspended(start + Duration::from_secs(3600))).unwrap();
        tokio::spawn(operator.run(inbox, signals));
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(lock(&world).count(Endpoint::Stop), 0);
        lock(&world).clear_log();
        ahead.store(seconds, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let world = lock(&world);
        (world.count(Endpoint::Stop), world.count(Endpoint::List))
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_change_is_detected_before_any_decision() {
        assert_eq!(minute_after(0, true).await, (0, 0));
        let stops = async |seconds| minute_after(seconds, true).await.0;
        assert_eq!(stops(3500).await, 0, "the suspension has not ended by the new time either");
        assert_eq!(stops(3600).await, 1, "it has");
        // The server's date differs: a resync starts at once, and no call is sent.
        let (stops, lists) = minute_after(3600, false).await;
        assert!(stops == 0 && lists > 0, "{stops} stops, {lists} lists");
    }
}
