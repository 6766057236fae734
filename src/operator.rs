//! THE SHELL: owns the loop, the clock and every task.
//!
//! Events only mean "look again". Each turn of the loop takes in whatever came (an update of the manifests, an answer),
//! decides for the apps that are due (`pass`), and sends as many requests as the limiter admits (`execute`). Nothing
//! here decides whether an app should be stopped; that is `reconcile::decide`.

pub mod describe;
pub mod execute;
pub mod fleet;
pub mod journal;
pub mod known;
pub mod looks;
pub mod observe;
pub mod pass;
pub mod queue;
pub mod report;
pub mod round;
mod scans;
pub mod shutdown;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{Id, JoinError, JoinSet};
use tracing::{debug, error};

use crate::budget::{Admission, Budget, Call, Forbidden, Lane, RateLimiter, Shift, Waiting};
use crate::clock::Clock;
use crate::platform::{Platform, Team};
use crate::reconcile::app::AppName;
use crate::reconcile::backoff::SINGLE_READS;
use crate::reconcile::decide::Gates;
use crate::reconcile::desired::Policy;
use crate::reconcile::doubt::{Doubt, ServerClock, Trust};
use crate::reconcile::moment::Moment;
use crate::reconcile::outcome::{Failure, Verdict};
use crate::reconcile::state::Action;
use crate::source::{SourceReport, Update};
use crate::status::Board;
use crate::status::history::{self, Trigger};
use crate::status::meters;
use execute::{Job, Outcome, Result as Answer};
use fleet::Fleet;
use round::Rounds;
use scans::Scans;
use shutdown::{Shutdown, Stage};

/// Stops and starts on the wire at once. The budget is the real bound; this one keeps a private server without a
/// budget from being met with ten thousand connections.
const MOST_CALLS: usize = 32;
/// Single reads on the wire at once.
const MOST_LOOKS: usize = 8;
/// In-flight calls get this long to end after the first signal: container runtimes kill after 30 s unless told otherwise.
const DRAIN: Duration = Duration::from_secs(20);

/// Single reads that come due within so long of each other wait for each other, where one list costs less than all of
/// them: fifty edits saved at once are answered, and fall due, a millisecond apart.
const GATHER: Duration = Duration::from_millis(500);

/// While the account is blocked, the token file is looked at this often: a new token is tried at once.
const TOKEN_CHECK: Duration = Duration::from_secs(2);

/// The wall clock is compared with the other one this often at least.
const CLOCK_CHECK: Duration = Duration::from_secs(10);
/// It was set if the two differ by more than this from what they differed by before.
const CLOCK_STEP: jiff::SignedDuration = jiff::SignedDuration::from_secs(1);

/// How the operator shall work. Every value is checked where it enters.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Time between lists.
    pub interval: Duration,
    /// How long an accepted call has to show.
    pub confirm_timeout: Duration,
    /// The daemon's policy.
    pub policy: Policy,
    /// Decide and report, call nothing.
    pub dry_run: bool,
    /// Requests a minute.
    pub budget: Budget,
    /// Teams whose apps are listed, too.
    pub teams: Vec<Team>,
    /// Run until settled, but no longer than this; `None` is for ever.
    pub once: Option<Duration>,
    /// `--trust-clock`: a clock that differs from the server's holds nothing.
    pub trust_clock: bool,
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
            salt: 0,
        }
    }
}

/// What a turn of the loop sent.
#[derive(Debug, Clone, Copy)]
struct Sent {
    /// The moment of the turn.
    now: Moment,
    /// Whether anything was sent.
    any: bool,
    /// When more may be sent.
    again: Option<Moment>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// A signal came; what was on the wire has ended, or was abandoned.
    Stopped,
    /// `--once`: nothing is left to do, and every app is as it shall be (or held on purpose).
    Settled,
    /// `--once`: nothing is left that time would change, but so many apps or manifests need a person.
    NeedsPerson(usize),
    /// `--once`: the time was up before.
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
    rounds: Rounds,
    /// Whether the wall clock is right.
    doubt: Doubt,
    gates: Gates,
    source: Option<SourceReport>,
    /// The last report of the source itself; `source` differs from it while no scan finishes.
    said: Option<SourceReport>,
    scans: Option<Scans>,
    /// Why the source counts as unavailable, while no scan finishes.
    stalled: Option<Arc<str>>,
    jobs: JoinSet<Outcome>,
    /// What each task is about: a task that panicked can no longer say so itself.
    tasks: HashMap<Id, Job>,
    calls: usize,
    looks: usize,
    /// Whether observation sent a page last, and not a routine read: while both wait they take turns.
    page_last: bool,
    requests: u64,
    summary_at: Moment,
    /// The wall time at which the process began, by the wall clock as it is set now.
    started: jiff::Timestamp,
    /// Whether the board shows the daemon as it is.
    reported: bool,
    /// Whether nothing was left to do the last time.
    settled: bool,
    /// How many were stalled when that was told last.
    told_stalled: usize,
    /// Answers to calls that the history does not have yet: the next decision tells what came of them.
    answers: HashMap<AppName, (Action, history::Answer)>,
}

impl<P: Platform> Operator<P> {
    /// An operator that has seen nothing yet.
    pub fn new(platform: Arc<P>, settings: Settings, clock: Clock, board: Board) -> Self {
        let limiter = RateLimiter::new(settings.budget, settings.salt);
        let rounds = Rounds::new(settings.teams.clone());
        let doubt = Doubt::new(settings.trust_clock);
        let gates = Gates { policy: settings.policy, dry_run: settings.dry_run, ..Gates::OPEN };
        Self {
            fleet: Fleet::new(settings.salt),
            limiter,
            gates,
            platform,
            settings,
            clock,
            board,
            rounds,
            doubt,
            source: None,
            said: None,
            scans: None,
            stalled: None,
            jobs: JoinSet::new(),
            tasks: HashMap::new(),
            calls: 0,
            looks: 0,
            page_last: false,
            requests: 0,
            summary_at: Moment::START + report::SUMMARY,
            started: clock.wall() - clock.now().since_start(),
            reported: false,
            settled: false,
            told_stalled: 0,
            answers: HashMap::new(),
        }
    }

    /// Watches that the source goes on: `finished` counts its scans, of which one is made each `interval`.
    #[must_use]
    pub fn follow_scans(mut self, finished: Arc<AtomicU64>, interval: Duration) -> Self {
        self.scans = Some(Scans::new(finished, interval));
        self
    }

    /// Reconciles until a signal comes, or with `once` until nothing is left to do.
    pub async fn run(mut self, mut updates: UnboundedReceiver<Update>, mut shutdown: Shutdown) -> Ended {
        let deadline = self.settings.once.map(|timeout| self.clock.now() + timeout);
        let mut source_open = true;
        loop {
            // Whatever the manifests say by now counts, before anything is sent because of what they said before.
            while let Ok(update) = updates.try_recv() {
                self.take_update(update);
            }
            let sent = self.begin_turn();
            if sent.any {
                // What was sent goes out before it is told: whoever waits for the call has waited long enough.
                tokio::task::yield_now().await;
            }
            let wake = self.end_turn(sent);
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
                Some(done) = self.jobs.join_next_with_id() => self.take_outcome(done),
                () = tokio::time::sleep_until(self.clock.instant(wake)) => {}
            }
        }
    }

    /// Where the wall clock was set, or the machine slept, what depends on the wall clock is due at another moment than
    /// was thought: everybody is looked at. Comes before each decision, so that none is made by a clock that was just set.
    fn check_clock(&mut self, now: Moment) {
        let started = self.clock.wall() - self.clock.now().since_start();
        let by = started.duration_since(self.started);
        if by.abs() > CLOCK_STEP {
            debug!("the wall clock was set, or the machine slept");
            self.started = started;
            self.fleet.all_due(now);
            self.doubt.set_forward(by);
            self.ask_for_the_time(now);
        }
        let trust = self.doubt.trust();
        self.gates.clock_doubtful = trust == Trust::Doubtful;
        self.fleet.trust_clock(trust, now);
    }

    /// Compares the wall clock with the server's, as an answer that took so long tells it.
    fn compare_clocks(&mut self, server: ServerClock, took: Duration, now: Moment) {
        let wall = self.clock.wall();
        if let Some(shift) = self.doubt.compare(server, wall - took, wall) {
            report::clock(shift);
        }
        // A request that was not answered is not repeated for this: that would be a storm.
        if matches!(server, ServerClock::At(_)) {
            self.ask_for_the_time(now);
        }
    }

    /// Reads the list out of turn where its date would settle soon whether the clock is right.
    fn ask_for_the_time(&mut self, now: Moment) {
        if self.doubt.wants_answer() {
            self.rounds.start_now(now);
        }
    }

    /// A source that hangs cannot say so.
    fn check_scans(&mut self, now: Moment) {
        let silent = self.scans.as_mut().and_then(|scans| scans.stalled(now, CLOCK_CHECK));
        if silent.is_some() == self.stalled.is_some() {
            return;
        }
        self.stalled = silent.map(|silent| {
            format!("no scan has finished for {} s: their file system does not respond", silent.as_secs()).into()
        });
        self.take_report(now);
    }

    /// Takes in the state of the source, as it is reported and as it is seen from here.
    fn take_report(&mut self, now: Moment) {
        let mut source = self.said.clone();
        if let Some(stalled) = &self.stalled {
            let source = source.get_or_insert_default();
            (source.available, source.trouble) = (false, Some(stalled.clone()));
        }
        let Some(source) = source else { return };
        report::source(self.source.as_ref(), &source);
        if self.source.as_ref().is_none_or(|known| known.available != source.available) {
            self.fleet.all_due(now);
        }
        self.source = Some(source);
        self.reported = false;
    }

    /// Decides for whoever is due, and sends what may be sent.
    fn begin_turn(&mut self) -> Sent {
        let (now, before) = (self.clock.now(), self.requests);
        self.check_scans(now);
        let gates = Gates {
            account_blocked: self.limiter.account_blocked(),
            account_forbidden: self.limiter.account_forbidden().is_some(),
            breaker_open: self.limiter.breaker_open(),
            list_unreadable: self.rounds.unreadable(),
            list_incomplete: self.rounds.incomplete(),
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

    /// Tells what came of it. Returns when to come back at the latest.
    fn end_turn(&mut self, Sent { now, again, .. }: Sent) -> Moment {
        self.pass(now);
        self.report(now);
        self.board.meters().queued(self.fleet.ready());
        self.board.progress(now, self.settings.interval);
        let wakes = [again, self.fleet.next_due(), self.limiter.paused_until(now), Some(self.summary_at)];
        let longest = now + self.settings.interval.min(CLOCK_CHECK);
        // Never at once: a wake-up that is already past was dealt with above, as far as it could be.
        let soonest = now + Duration::from_millis(1);
        wakes.into_iter().flatten().fold(longest, Moment::min).max(soonest)
    }

    fn take_update(&mut self, update: Update) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        for name in &update.removed {
            let id = self.fleet.object(name).and_then(fleet::Object::app_id);
            report::released(name, id);
            self.released(name, id, update.source.revision.clone(), wall);
            self.board.remove_app(name);
        }
        let first = self.source.as_ref().is_none_or(|known| !known.loaded);
        self.said = Some(update.source);
        self.take_report(now);
        let trigger = if first { Trigger::Start } else { Trigger::Edit };
        self.fleet.take_update(update.changed, &update.removed, self.rounds.finished_any(), trigger, now, wall);
        self.fleet.take_texts(update.texts, now);
        self.reported = false;
    }

    /// Sends requests until none waits or the limiter says so. Returns when it may be asked again.
    fn dispatch(&mut self, now: Moment) -> Option<Moment> {
        loop {
            if self.limiter.account_blocked() {
                if self.platform.token_changed() {
                    self.limiter.token_changed(now);
                }
                let look = now + TOKEN_CHECK;
                return match self.limiter.admit_token_probe(now) {
                    Admission::Go => {
                        self.send(Job::Token, now);
                        None
                    }
                    Admission::At(at) => Some(at.min(look)),
                    Admission::Later => None,
                };
            }
            let mut again = self.probe_forbidden(now);
            let waiting = self.waiting(now);
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
                let looks = self.fleet.looks();
                let gathered = looks.next().map(|at| at + GATHER);
                let later = [self.rounds.next_start(), looks.next_after(now), gathered];
                let later = later.into_iter().flatten().filter(|at| *at > now).min();
                return [again, later].into_iter().flatten().min();
            }
        }
    }

    /// Sends the one request by which it is found out whether the account may read or call its apps at last. Returns
    /// when it may be sent.
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
                    let confirmation = self.fleet.take_look(now, false);
                    confirmation.or_else(|| self.fleet.take_routine_look(now))
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

    /// Oldest wait of each lane. What is offered here is sent if it is admitted.
    fn waiting(&mut self, now: Moment) -> Waiting {
        let act = loop {
            if self.calls >= MOST_CALLS {
                break None;
            }
            let Some((name, since)) = self.fleet.first_ready() else { break None };
            // Decided again at the last moment: time may have passed since it became ready.
            if self.fleet.object(&name).is_none_or(|object| object.decided_at != now) {
                self.fleet.due_now(&name, now);
                self.pass(now);
            }
            if self.fleet.first_ready().is_some_and(|(first, _)| first == name) {
                break Some(since);
            }
        };
        let probing = self.limiter.list_is_a_probe();
        // In a bulk, one list verifies half a minute's worth of calls.
        let looks = self.fleet.looks();
        let gathered = looks.press() || looks.due_listed(now - GATHER, 1) > 0;
        let since = if self.in_a_bulk() { now - SINGLE_READS.cap } else { now };
        if !probing && gathered && self.rounds.may_start_confirming(self.due_listed_looks(since)) {
            self.rounds.start(Lane::Confirm, now);
            self.fleet.looks_are_served(now);
        }
        if self.rounds.due(now) || (probing && self.rounds.idle()) {
            self.rounds.start(Lane::Observe, now);
        }
        let look = self
            .reads_may_go()
            .then(|| self.fleet.looks().first(now, self.a_list_will_tell(now)))
            .flatten()
            .map(|(since, _)| since);
        let routine = self.routine_look(now);
        let page = |lane| self.rounds.waiting(lane);
        let confirm = [look, page(Lane::Confirm)].into_iter().flatten().min();
        let observe = [routine, page(Lane::Observe)].into_iter().flatten().min();
        Waiting { act, calls: self.fleet.ready(), confirm, observe }
    }

    /// The oldest wait of a routine read, if one may be sent.
    fn routine_look(&self, now: Moment) -> Option<Moment> {
        self.fleet.looks().first_routine(now).filter(|_| self.reads_may_go()).map(|(since, _)| since)
    }

    /// Whether single reads go out, as far as anything but the budget is concerned.
    fn reads_may_go(&self) -> bool {
        let refused = self.limiter.account_forbidden() == Some(Forbidden::Reads);
        !refused && !self.limiter.list_is_a_probe() && self.looks < MOST_LOOKS
    }

    /// Whether the calls that wait are more than what a list costs: then each single read would keep one of them back.
    fn in_a_bulk(&self) -> bool {
        self.fleet.ready() > self.rounds.pages() as usize
    }

    /// Whether single reads of apps that are on the list are left to the list: in a bulk, and where a list costs less
    /// than those that are due now or in a moment.
    fn a_list_will_tell(&self, now: Moment) -> bool {
        self.in_a_bulk() || self.due_listed_looks(now + GATHER) > self.rounds.pages() as usize
    }

    /// How many single reads that a list would serve are due, as far as it matters: up to one more than its pages.
    fn due_listed_looks(&self, until: Moment) -> usize {
        self.fleet.looks().due_listed(until, self.rounds.pages() as usize + 1)
    }

    fn send_from(&mut self, lane: Lane, now: Moment) {
        let job = match lane {
            Lane::Act => self.fleet.take_ready(now, self.clock.wall()).map(|(job, edited_at)| {
                if let Some(edited_at) = edited_at {
                    self.board.meters().edit_acted_on(now.since(edited_at));
                }
                job
            }),
            Lane::Confirm if self.rounds.waiting(Lane::Confirm).is_none() => {
                let unlisted_only = self.a_list_will_tell(now);
                self.fleet.take_look(now, unlisted_only)
            }
            Lane::Observe if self.rounds.waiting(Lane::Observe).is_none() || self.page_last => {
                self.page_last = false;
                let look = self.routine_look(now).and_then(|_| self.fleet.take_routine_look(now));
                look.or_else(|| self.take_page())
            }
            Lane::Confirm => self.take_page(),
            Lane::Observe => {
                self.page_last = true;
                self.take_page()
            }
        };
        // `waiting` offered it a moment ago, in the same turn of a loop that nobody else touches.
        let Some(job) = job else {
            error!(lane = lane.as_str(), "a request was admitted and then not there");
            return;
        };
        self.send(job, now);
    }

    fn take_page(&mut self) -> Option<Job> {
        self.rounds.take_page().map(|page| Job::Page { page })
    }

    fn send(&mut self, job: Job, now: Moment) {
        debug!(?job, "request");
        self.requests += 1;
        match &job {
            Job::Act { .. } => self.calls += 1,
            Job::Look { .. } => self.looks += 1,
            Job::Page { .. } | Job::Token => {}
        }
        let task = self.jobs.spawn(execute::carry_out(self.platform.clone(), job.clone(), self.clock, now));
        self.tasks.insert(task.id(), job);
    }

    fn take_outcome(&mut self, done: Result<(Id, Outcome), JoinError>) {
        let mut outcome = match done {
            Ok((id, outcome)) => {
                self.tasks.remove(&id);
                outcome
            }
            Err(error) => {
                let Some(job) = self.tasks.remove(&error.id()) else { return };
                // One app's panic stays its own: as far as anybody knows the call may have been made.
                error!(?job, "a task panicked; treated as a lost answer");
                execute::lost(job, self.clock.now())
            }
        };
        let now = self.clock.now();
        let wall = self.clock.wall();
        let call = match &outcome.job {
            Job::Act { id, .. } => Call::Act(id.clone()),
            Job::Look { id } => Call::Read(id.clone()),
            Job::Page { page } if page.team.is_some() => Call::TeamList,
            Job::Page { .. } => Call::List,
            Job::Token => Call::Token,
        };
        let took = now.since(outcome.sent_at);
        self.board.meters().requested(outcome.job.endpoint(), meters::code(outcome.result.http_status()), took);
        let repeats = outcome.result.repeats();
        self.requests += u64::from(repeats);
        self.limiter.charge(repeats, now);
        let server_clock = outcome.result.server_clock();
        if let Some(failure) = outcome.result.failure_mut() {
            self.limiter.judge(failure, now);
        }
        let alone = self.hear(&call, &outcome.result, now);
        let setting = fleet::Setting {
            confirm_timeout: self.settings.confirm_timeout,
            interval: self.settings.interval,
            alone,
            account_refused: self.limiter.account_forbidden().is_some(),
            list_unreadable: self.rounds.unreadable(),
        };
        self.reported = false;
        match (outcome.job, outcome.result) {
            (Job::Act { name, id, action, attempt }, Answer::Acted(result)) => {
                self.calls -= 1;
                let trigger = self.fleet.object(&name).map(|object| object.cause.as_str());
                self.fleet.take_answer(&name, &id, &result, setting, now);
                let retry_in = self.fleet.retry_in(&id, now);
                let cause = (trigger, &*self.revision());
                report::call((&name, &id), (action, attempt), cause, &result, took, retry_in);
                self.answered(name, &id, action, &result);
            }
            (Job::Look { id }, Answer::Looked(result)) => {
                self.looks -= 1;
                self.fleet.take_look_answer(&id, result, setting, outcome.sent_at, now, wall);
            }
            (Job::Page { .. }, Answer::Listed(result)) => {
                self.take_list_page(result, outcome.sent_at, now);
            }
            (Job::Token, Answer::Known(_)) => {
                if !self.limiter.account_blocked() {
                    self.rounds.start_now(now);
                }
            }
            (job, _) => error!(?job, "an answer of another kind than the question"),
        }
        // After the schedule of the next list was set.
        self.compare_clocks(server_clock, took, now);
        if self.limiter.list_is_a_probe() {
            // The schedule of its gate says when the next list may be tried: it is the probe.
            self.rounds.start_now(now);
        }
    }

    /// Lets the limiter know of an answer, and everybody of what that changes. Returns whether a refusal by the rate
    /// limit concerns the app alone.
    fn hear(&mut self, call: &Call, result: &Answer, now: Moment) -> bool {
        let failure = result.failure();
        let alone = failure.is_some_and(|failure| self.limiter.is_alone(call, failure, now));
        let shifts = match failure {
            None => self.limiter.succeeded(call, result.limits(), now),
            Some(failure) => {
                if failure.verdict == Verdict::Forbidden {
                    self.limiter.declared(self.fleet.declared());
                }
                self.limiter.failed(call, failure, now)
            }
        };
        if let Some(failure) = failure.filter(|failure| {
            failure.limits.bounded && (alone || !matches!(failure.verdict, Verdict::RateLimited { .. }))
        }) {
            report::bounded(failure);
        }
        for shift in shifts {
            report::shift(shift, failure);
            self.journal_shift(shift, failure);
            if matches!(shift, Shift::AccountForbidden(_) | Shift::AccountAllowed) {
                self.fleet.forget_refusals(now);
                self.rounds.start_now(now);
            }
        }
        alone
    }

    fn take_list_page(
        &mut self,
        result: Result<crate::platform::Answered<crate::platform::Page>, Failure>,
        sent_at: Moment,
        now: Moment,
    ) {
        let wall = self.clock.wall();
        let finished = match result {
            Ok(mut answered) => {
                self.rounds.doubt(&mut answered.value);
                let mut unchanged = Vec::new();
                for seen in &mut answered.value.apps {
                    let (id, settled) = self.fleet.see_listed(seen, sent_at, now, wall);
                    // One text for each id, however many lists it comes with.
                    seen.id = id;
                    unchanged.extend(settled);
                }
                let when = self.when(now, wall);
                self.board.touch_apps(&unchanged, |app| describe::seen_again(app, when));
                self.rounds.page(answered.value, now, wall)
            }
            Err(failure) => self.rounds.page_failed(&failure, now, wall),
        };
        let Some(finished) = finished else { return };
        let interval = self.limiter.list_interval(self.rounds.pages(), self.settings.interval);
        self.rounds.schedule(interval, self.settings.salt, now);
        report::round(&finished, interval, self.settings.interval);
        if let Some(ids) = finished.complete {
            self.fleet.take_complete_list(&ids, now);
        } else if finished.incomplete_in_a_row >= round::GIVE_UP_WAITING && !self.rounds.absent() {
            self.fleet.owe_looks_for_unseen(now);
        }
        self.fleet.forget_undeclared();
        if finished.first_complete {
            self.fleet.all_due(now);
        }
    }

    /// First signal: nothing new is sent, what is on the wire may end. Second signal, or too late: it is abandoned.
    async fn drain(mut self, mut shutdown: Shutdown) -> Ended {
        report::draining(self.jobs.len());
        // Reads change nothing, so nobody has to wait for them.
        let reads: Vec<Id> =
            self.tasks.iter().filter(|(_, job)| !matches!(job, Job::Act { .. })).map(|(id, _)| *id).collect();
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
                        // Nothing is sent any more, but the status and the history are to tell how it ended.
                        self.pass(self.clock.now());
                    }
                }
                () = tokio::time::sleep_until(self.clock.instant(deadline)) => break,
            }
        }
        report::stopped(self.tasks.values().filter(|job| matches!(job, Job::Act { .. })).count());
        self.jobs.abort_all();
        Ended::Stopped
    }

    fn ended(&self, deadline: Option<Moment>) -> Option<Ended> {
        let deadline = deadline?;
        let source = self.source.as_ref().filter(|source| source.loaded || !source.available);
        if let Some(source) = source
            && self.rounds.complete_once()
            && self.fleet.at_rest()
            && self.tasks.is_empty()
        {
            let trouble = self.fleet.stalled().max(source.problems.len()).max(usize::from(!source.available));
            return Some(if trouble == 0 { Ended::Settled } else { Ended::NeedsPerson(trouble) });
        }
        let late = self.clock.now() >= deadline;
        if late {
            report::unsettled(&self.fleet, self.rounds.trouble().map(|trouble| &**trouble));
        }
        late.then_some(Ended::TimedOut)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use jiff::Timestamp;

    use super::*;
    use crate::reconcile::desired::{Declared, Object, Place, Spec, Standing, Suspension};
    use crate::reconcile::labels::Labels;
    use crate::reconcile::state::Desired;
    use crate::simulator::faults::Endpoint;
    use crate::simulator::port::{InProcess, SharedWorld, lock};
    use crate::simulator::world::{Config, World};

    /// An app that is to be stopped when its suspension ends an hour after the start.
    fn suspended(until: Timestamp) -> Update {
        let suspend = Some(Suspension { reason: None, until: Some(until) });
        let app_id = "id".parse().unwrap();
        let spec = Spec { app_id, state: Desired::Stopped, policy: None, suspend, schedule: None };
        let name: AppName = "app".parse().unwrap();
        let (labels, annotations) = (Labels::default(), Labels::default());
        let object = Some(Arc::new(Object { name: name.clone(), labels, annotations, spec }));
        let place = Place { file: "app.yaml".into(), line: 1 };
        let declared = Declared { name, object, place, standing: Standing::Sound };
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
    async fn a_wall_clock_that_is_set_is_noticed_before_anything_is_due() {
        assert_eq!(minute_after(0, true).await, (0, 0));
        let stops = async |seconds| minute_after(seconds, true).await.0;
        assert_eq!(stops(3500).await, 0, "the suspension has not ended by the new time either");
        assert_eq!(stops(3600).await, 1, "it has");
        // The server's date says otherwise: it is asked out of turn, and nothing is called.
        let (stops, lists) = minute_after(3600, false).await;
        assert!(stops == 0 && lists > 0, "{stops} stops, {lists} lists");
    }
}
