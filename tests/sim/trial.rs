//! One seed: chaos with the safety invariants checked after each step, then calm with liveness within a bound.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use campos_operator::budget::Budget;
use campos_operator::clock::Clock;
use campos_operator::operator::{Ended, Operator, Settings, shutdown};
use campos_operator::platform::{Answered, Page, PageRequest, Platform, Seen};
use campos_operator::reconcile::app::AppId;
use campos_operator::reconcile::outcome::{Failure, Receipt};
use campos_operator::reconcile::reason::Reason;
use campos_operator::reconcile::state::Action;
use campos_operator::reconcile::state::Desired;
use campos_operator::reconcile::state::Observed;
use campos_operator::simulator::faults::{Endpoint, Faults};
use campos_operator::simulator::port::{InProcess, SharedWorld, lock};
use campos_operator::simulator::world::{Delivery, ListShape, Logged, World};
use campos_operator::source::Update;
use campos_operator::status::Board;
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::chaos;
use crate::dice::Dice;
use crate::model::{Files, Justified, manifest, schedule, timed};

const INTERVAL: Duration = Duration::from_secs(60);
/// Backoff cap, account probe cap, confirm timeout, a pause that was declared for at the end of chaos, two lists, and
/// slack. A pause is bounded to an hour, and a reading may be as stale as the lag and the delay of an effect.
const CALM: Duration = Duration::from_secs(300 + 30 + 120 + 3600 + 2 * 60 + 180);

/// More requests than this at one and the same moment are a storm.
const STORM: u32 = 100;

/// The most calls on one app by one cause: 300 seeds need 9. A call that fails is repeated after 1, 2, 4, .. s, and
/// causes follow each other within 40 s.
const CALLS_PER_CAUSE: usize = 14;

/// Virtual seconds since the start.
fn seconds(at: Timestamp) -> f64 {
    at.duration_since("2026-11-24T12:00:00Z".parse().unwrap()).as_secs_f64()
}

/// The platform as the operator sees it, with what must never happen watched on the way.
#[derive(Debug)]
struct Watched {
    inner: InProcess,
    clock: Clock,
    /// The moment of the last request, and how many came at it.
    pace: Arc<Mutex<(Timestamp, u32)>>,
    flying: Arc<Mutex<HashMap<AppId, Action>>>,
    overlaps: Arc<Mutex<Vec<AppId>>>,
}

/// The call on an app ends when this goes, also when the process crashes.
struct Flight(Arc<Mutex<HashMap<AppId, Action>>>, AppId);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.lock().unwrap().remove(&self.1);
    }
}

impl Watched {
    /// A storm at one moment would keep virtual time from passing: it is stilled here, and found by the next check.
    async fn pace(&self) {
        let storm = {
            let mut pace = self.pace.lock().unwrap();
            let now = self.clock.wall();
            *pace = if pace.0 == now { (now, pace.1 + 1) } else { (now, 1) };
            pace.1 > STORM
        };
        if storm {
            std::future::pending::<()>().await;
        }
    }
}

impl Platform for Watched {
    async fn list(&self, page: PageRequest) -> Result<Answered<Page>, Failure> {
        self.pace().await;
        self.inner.list(page).await
    }

    async fn get(&self, id: &AppId) -> Result<Answered<Seen>, Failure> {
        self.pace().await;
        self.inner.get(id).await
    }

    async fn act(&self, action: Action, id: &AppId) -> Result<Answered<Receipt>, Failure> {
        self.pace().await;
        if self.flying.lock().unwrap().insert(id.clone(), action).is_some() {
            self.overlaps.lock().unwrap().push(id.clone());
        }
        let _flight = Flight(self.flying.clone(), id.clone());
        self.inner.act(action, id).await
    }

    async fn whoami(&self) -> Result<Answered<()>, Failure> {
        self.pace().await;
        self.inner.whoami().await
    }
}

/// One process of the operator.
struct Process {
    task: JoinHandle<Ended>,
    updates: UnboundedSender<Update>,
    board: Board,
    // If it is dropped, no sender can stop the operator, which this test intends.
    _stopper: shutdown::Stopper,
}

pub(crate) struct Trial {
    seed: u64,
    dice: Dice,
    clock: Clock,
    /// Requests a minute.
    budget: u32,
    /// Whether each answer says how many requests are left.
    limit_headers: bool,
    world: SharedWorld,
    files: Rc<RefCell<Files>>,
    ids: Vec<AppId>,
    process: Option<Process>,
    overlaps: Arc<Mutex<Vec<AppId>>>,
    pace: Arc<Mutex<(Timestamp, u32)>>,
    /// The justified calls with the time since which they are justified, newest last.
    justified: Vec<(Timestamp, Justified)>,
    /// Starts of processes: each has its own burst, and no pause of an earlier process.
    begun: Vec<Timestamp>,
    /// The times at which another call may have become necessary, by app.
    causes: BTreeMap<AppId, Vec<Timestamp>>,
    checked: usize,
    transcript: String,
}

impl Trial {
    /// Runs a seed to its end and returns its transcript; panics where a promise is broken.
    pub(crate) fn run(seed: u64) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut trial = Self::new(seed);
            trial.chaos().await;
            trial.calm().await;
            std::mem::take(&mut trial.transcript)
        })
    }

    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let clock = Clock::simulated("2026-11-24T12:00:00Z".parse().unwrap());
        let platform = chaos::platform(&mut dice);
        let limit_headers = platform.limit_headers;
        let mut world = World::new(platform, clock.wall());
        let count = 1 + dice.below(7);
        let ids: Vec<AppId> = (0..count).map(|n| format!("id-{n}").parse().unwrap()).collect();
        for id in &ids {
            world.add(id.clone(), id.as_str(), clock.wall());
        }
        if dice.chance(20) {
            world.give_to_team(&ids[0], "team");
        }
        Self {
            seed,
            // With the small one calls wait for their turn, so that edits overtake them.
            budget: *dice.pick(&[120, 24]),
            limit_headers,
            dice,
            clock,
            world: Arc::new(Mutex::new(world)),
            files: Rc::default(),
            causes: ids.iter().map(|id| (id.clone(), vec![clock.wall()])).collect(),
            ids,
            process: None,
            overlaps: Arc::default(),
            pace: Arc::default(),
            justified: Vec::new(),
            begun: Vec::new(),
            checked: 0,
            transcript: String::new(),
        }
    }

    async fn chaos(&mut self) {
        for index in 0..self.ids.len() {
            let state = *self.dice.pick(&["Running", "Stopped"]);
            self.edit(vec![self.file(index, state, "")]);
        }
        self.begin();
        for _ in 0..30 {
            let pause =
                if self.dice.chance(30) { Duration::from_millis(self.dice.below(50)) } else { self.dice.within(40) };
            tokio::time::sleep(pause).await;
            self.step();
            self.check();
        }
    }

    fn step(&mut self) {
        let index = usize::try_from(self.dice.below(self.ids.len() as u64)).unwrap();
        let id = self.ids[index].clone();
        match self.dice.below(34) {
            26..=28 => {
                let state = *self.dice.pick(&["Running", "Stopped"]);
                self.edit(vec![self.file(index, state, "  scheduleRef: office\n")]);
            }
            29 => {
                let state = *self.dice.pick(&["Running", "Stopped"]);
                self.edit(vec![("office.yaml".to_owned(), Some(schedule(state)))]);
            }
            30 => self.break_schedule(),
            31..=33 => {
                let until = self.whole_second(120);
                let (state, other) = *self.dice.pick(&[("Running", "Stopped"), ("Stopped", "Running")]);
                let more = *self.dice.pick(&["", "  scheduleRef: office\n"]);
                let over = format!("{more}  override: {{state: {other}, until: \"{until}\"}}\n");
                self.edit(vec![self.file(index, state, &over)]);
                self.cause(index, until);
            }
            22 | 23 => self.edit_timed(index),
            24 | 25 => {
                let until = self.whole_second(120);
                let state = *self.dice.pick(&["Running", "Stopped"]);
                self.edit(vec![self.file(index, state, &format!("  suspend: {{until: \"{until}\"}}\n"))]);
                self.cause(index, until);
            }
            0..=5 => {
                let state = *self.dice.pick(&["Running", "Stopped"]);
                self.edit(vec![self.file(index, state, "")]);
            }
            6 => self.edit(vec![(format!("{index}.yaml"), None)]),
            7 => {
                let broken = *self.dice.pick(&["", "kind: [", "apiVersion: campos-operator.dev/v1\nkind: App\n"]);
                self.edit(vec![(format!("{index}.yaml"), Some(broken.to_owned()))]);
            }
            8 => {
                let more = *self.dice.pick(&["  suspend: true\n", "  policy: StopOnly\n", "  policy: ObserveOnly\n"]);
                let state = *self.dice.pick(&["Running", "Stopped"]);
                self.edit(vec![self.file(index, state, more)]);
            }
            9 => {
                // A second claim on the same app.
                let other = manifest(&format!("other-{index}"), id.as_str(), "Stopped", "");
                self.edit(vec![(format!("other-{index}.yaml"), Some(other))]);
            }
            10 => self.edit(vec![(format!("other-{index}.yaml"), None)]),
            11 => {
                // Renamed: the same app under another name, in one checkout.
                let state = *self.dice.pick(&["Running", "Stopped"]);
                let renamed = manifest(&format!("renamed-{index}"), id.as_str(), state, "");
                self.edit(vec![(format!("{index}.yaml"), Some(renamed))]);
            }
            12 | 13 => {
                let online = self.dice.chance(50);
                self.note(&format!("somebody sets {id} online={online}"));
                lock(&self.world).set_online(&id, online, self.clock.wall());
                self.cause(index, self.clock.wall());
            }
            14 => self.crash(),
            15 => {
                let available = self.dice.chance(50);
                self.send(|files| files.available(available));
            }
            16 | 17 => {
                self.note(&format!("{index}.yaml is half written"));
                self.send(|files| files.begin_write(&format!("{index}.yaml")));
            }
            _ => {
                let faults = chaos::faults(&mut self.dice);
                self.note(&format!("faults: {faults:?}"));
                self.cause_everywhere();
                lock(&self.world).set_faults(faults);
            }
        }
        if self.process.is_none() && self.dice.chance(50) {
            self.begin();
        }
    }

    /// Faults end: everything must come to rest as declared, and stay there.
    async fn calm(&mut self) {
        self.note("calm");
        lock(&self.world).set_faults(Faults::default());
        self.send(|files| files.available(true));
        self.cause_everywhere();
        self.send(Files::end_writes);
        if self.process.is_none() {
            self.begin();
        }
        // In steps, so that what happens is judged by what was justified at that time.
        for _ in 0..10 {
            tokio::time::sleep(CALM / 10).await;
            self.check();
        }
        let wall = self.clock.wall();
        let wanted = self.files.borrow().justified();
        for (id, action) in wanted.iter().filter_map(|(id, rule)| Some((id, rule.at(wall)?))) {
            let online = lock(&self.world).online(id, wall).unwrap();
            // A stop-only manifest that declares Running justifies no call and is not included.
            assert_eq!(online, action.aims_at() == Desired::Running, "L1: seed {}: {id}", self.seed);
        }
        let board = self.process.as_ref().unwrap().board.clone();
        for app in board.apps() {
            let (name, reason) = (app.name(), app.reason());
            self.note(&format!("{name}: {reason} {} {:?}", app.observed, app.next_look_at));
            let Some(spec) = app.declared.spec() else { continue };
            if wanted.get(&spec.app_id).is_some_and(|rule| rule.at(wall).is_some()) {
                let sound = matches!(reason, Reason::Settled | Reason::InvalidManifest);
                assert!(sound, "L1: seed {}: {} is {reason}", self.seed, spec.app_id);
            }
        }
        let before = self.calls();
        let lists = lock(&self.world).count(Endpoint::List);
        tokio::time::sleep(INTERVAL * 10).await;
        self.check();
        assert_eq!(before, self.calls(), "a settled fleet is left alone: seed {}", self.seed);
        let pages = self.ids.len().div_ceil(lock(&self.world).config().largest_page).max(1);
        // Without a count, one page more shows that there is no other.
        let pages = pages + usize::from(lock(&self.world).config().list == ListShape::Bare);
        let lists = lock(&self.world).count(Endpoint::List) - lists;
        assert!(lists <= 11 * pages, "{lists} pages in ten intervals: seed {}", self.seed);
        assert!(lists >= 9, "S11: observation goes on: seed {}: {lists}", self.seed);
    }

    fn calls(&self) -> usize {
        let world = lock(&self.world);
        world.count(Endpoint::Stop) + world.count(Endpoint::Start)
    }

    fn file(&self, index: usize, state: &str, more: &str) -> (String, Option<String>) {
        let text = manifest(&format!("app-{index}"), self.ids[index].as_str(), state, more);
        (format!("{index}.yaml"), Some(text))
    }

    fn edit(&mut self, changes: Vec<(String, Option<String>)>) {
        for (name, text) in &changes {
            let brief = text.as_ref().map(|text| text.lines().skip(3).collect::<Vec<_>>().join(" "));
            self.note(&format!("edit {name}: {brief:?}"));
        }
        self.cause_everywhere();
        self.send(|files| files.change(changes));
    }

    /// S17: a broken Schedule changes no app.
    fn break_schedule(&mut self) {
        let missing = schedule("Stopped") + "  except: [{calendar: none.ics, state: Stopped}]\n";
        let unread = "kind: Schedule\nmetadata: {name: office}\nspec: [".to_owned();
        let broken = self.dice.pick(&[None, Some(unread), Some(missing)]).clone();
        let before = self.files.borrow().justified();
        self.edit(vec![("office.yaml".to_owned(), broken)]);
        assert_eq!(before, self.files.borrow().justified(), "S17: seed {}", self.seed);
    }

    /// A window that begins and ends soon.
    fn edit_timed(&mut self, index: usize) {
        let from = self.whole_second(60);
        let to = from + Duration::from_secs(1 + self.dice.below(120));
        let [state, window] = [(); 2].map(|()| *self.dice.pick(&["Running", "Stopped"]));
        let text = timed(&format!("app-{index}"), self.ids[index].as_str(), state, window, from, to);
        self.edit(vec![(format!("{index}.yaml"), Some(text))]);
        self.cause(index, from);
        self.cause(index, to);
    }

    /// A whole second, at most `ahead` from now.
    fn whole_second(&mut self, ahead: u64) -> Timestamp {
        let now = Timestamp::from_second(self.clock.wall().as_second()).unwrap();
        now + Duration::from_secs(1 + self.dice.below(ahead))
    }

    fn cause(&mut self, index: usize, at: Timestamp) {
        self.causes.get_mut(&self.ids[index]).unwrap().push(at);
    }

    /// While readings are wrong or another client starts apps, every list may be a cause.
    fn cause_everywhere(&mut self) {
        let at = self.clock.wall();
        self.causes.values_mut().for_each(|causes| causes.push(at));
    }

    /// Changes the files; a running process receives the update at once.
    fn send(&mut self, change: impl FnOnce(&mut Files) -> Update) {
        let update = change(&mut self.files.borrow_mut());
        self.remember();
        if let Some(process) = &self.process {
            process.updates.send(update).unwrap();
        }
    }

    fn remember(&mut self) {
        let wall = self.clock.wall();
        self.justified.push((wall, self.files.borrow().justified()));
    }

    fn begin(&mut self) {
        self.note("begin");
        let inner = InProcess::new(self.world.clone(), self.clock, "t");
        let (flying, overlaps, pace) = (Arc::default(), self.overlaps.clone(), self.pace.clone());
        let platform = Watched { inner, clock: self.clock, pace, flying, overlaps };
        let board = Board::default();
        let settings =
            Settings { budget: Budget::PerMinute(self.budget), salt: self.dice.next(), ..Settings::default() };
        let operator = Operator::new(Arc::new(platform), settings, self.clock, board.clone());
        let (updates, inbox) = unbounded_channel();
        let (stopper, stop) = shutdown::pair();
        updates.send(self.files.borrow_mut().begin_again()).unwrap();
        self.remember();
        let task = tokio::spawn(operator.run(inbox, stop));
        self.begun.push(self.clock.wall());
        self.cause_everywhere();
        self.process = Some(Process { task, updates, board, _stopper: stopper });
    }

    fn crash(&mut self) {
        let Some(process) = self.process.take() else { return };
        self.note("crash");
        process.task.abort();
    }

    fn note(&mut self, text: &str) {
        self.say(self.clock.wall(), text);
    }

    /// A line of the transcript; aloud where one seed was declared for, so that a trial that hangs can be followed too.
    fn say(&mut self, at: Timestamp, text: &str) {
        let line = format!("{:>9.3} {text}", seconds(at));
        if std::env::var_os("SIM_SEED").is_some() {
            println!("{line}");
        }
        writeln!(self.transcript, "{line}").unwrap();
    }

    /// Every request since the last check, judged.
    fn check(&mut self) {
        let log: Vec<Logged> = lock(&self.world).log().cloned().collect();
        for index in self.checked..log.len() {
            let logged = &log[index];
            let endpoint = logged.endpoint.map_or("?".into(), |endpoint| format!("{endpoint:?}"));
            let app = logged.app.as_ref().map(ToString::to_string).unwrap_or_default();
            let text = format!("    {endpoint} {app} -> {} {:?}", logged.status, logged.delivery);
            self.say(logged.at, &text);
            self.check_cause(logged);
            self.check_rate(&log[..=index]);
            self.check_pauses(&log[..=index]);
        }
        self.checked = log.len();
        self.check_attempts(&log);
        let overlaps = self.overlaps.lock().unwrap();
        assert!(overlaps.is_empty(), "S3: seed {}: {overlaps:?}", self.seed);
        drop(overlaps);
        let storm = self.pace.lock().unwrap().1;
        assert!(storm <= STORM, "S5: seed {}: {storm} requests at one moment", self.seed);
        if let Some(process) = &self.process {
            assert!(!process.task.is_finished(), "the loop ended: seed {}", self.seed);
            self.check_board(&process.board, &log);
        }
    }

    /// S1, S2, S12, S14, S16: every call is justified by what the manifests say at that moment.
    fn check_cause(&self, logged: &Logged) {
        let action = match logged.endpoint {
            Some(Endpoint::Stop) => Action::Stop,
            Some(Endpoint::Start) => Action::Start,
            Some(Endpoint::Restart) => panic!("S1: seed {}: a restart without a cause", self.seed),
            Some(Endpoint::List | Endpoint::Get | Endpoint::Me | Endpoint::Any) | None => return,
        };
        let id = logged.app.as_ref().unwrap();
        // A call of the same millisecond as the edit was sent before it.
        let since = logged.at - Duration::from_millis(1);
        let known = self.justified.iter().enumerate().filter(|(index, (from, _))| {
            let until = self.justified.get(index + 1).map_or(Timestamp::MAX, |(next, _)| *next);
            *from <= logged.at && until >= since
        });
        let justified = known.into_iter().any(|(_, (_, rules))| {
            rules.get(id).is_some_and(|rule| [since, logged.at].iter().any(|at| rule.at(*at) == Some(action)))
        });
        assert!(justified, "S1: seed {}: {action} {id} without a cause", self.seed);
    }

    /// S5: no second holds more than the rate and the burst.
    fn check_rate(&self, log: &[Logged]) {
        let last = log.last().unwrap().at;
        let window = last - Duration::from_millis(999);
        // A process that began within this second brought a burst of its own.
        if self.begun.iter().skip(1).any(|begun| *begun >= window && *begun <= last) {
            return;
        }
        let count = log.iter().rev().take_while(|logged| logged.at >= window).count();
        // Five seconds' worth at once, as the governor promises, and what the second itself brings.
        let most = usize::try_from(self.budget * 5 / 60 + self.budget / 60 + 1).unwrap();
        assert!(count <= most, "S5: seed {}: {count} requests in a second", self.seed);
    }

    /// S6: after an answer that requests a pause, no request is sent within its scope before its end. The scope is the
    /// app, or the account: where the list or the token was refused, or a second app before anything else was answered.
    /// Between the first app's refusal and the next answer, one request to others shows which it is. Where the server
    /// says that requests are left, only the third app within a minute shows that the account is refused.
    fn check_pauses(&self, log: &[Logged]) {
        let (last, earlier) = log.split_last().unwrap();
        let recent = &earlier[earlier.len().saturating_sub(200)..];
        let arrived = |logged: &Logged| logged.at + logged.delay;
        let whole = |logged: &&Logged| matches!(logged.delivery, Delivery::Whole);
        let of_this_process =
            |logged: &&Logged| !self.begun.iter().any(|begun| *begun > logged.at && *begun <= last.at);
        let pause = |logged: &Logged| logged.pause.unwrap_or_default().min(Duration::from_secs(3600));
        let paused = recent.iter().filter(whole).filter(of_this_process).filter(|logged| logged.pause.is_some());
        for refused in paused.clone() {
            let within = last.at > arrived(refused) && last.at < arrived(refused) + pause(refused);
            // An answer to anything but the refused app shows that the refusal is that app's own.
            let answered_since = |refused: &Logged, until: Timestamp| {
                recent.iter().filter(whole).any(|other| {
                    let refusal = other.pause.is_some() || other.status == 429;
                    let after = arrived(other) >= arrived(refused) && arrived(other) <= until;
                    !refusal && other.app != refused.app && after
                })
            };
            let confirmed = || {
                let others = paused.clone().filter(|other| {
                    other.app != refused.app
                        && arrived(other) <= arrived(refused)
                        && arrived(refused) < arrived(other) + pause(other)
                        && !answered_since(other, arrived(refused))
                });
                let minute = Duration::from_secs(60);
                let apps: BTreeSet<_> = others
                    .filter(|other| !self.limit_headers || arrived(refused) < arrived(other) + minute)
                    .map(|other| &other.app)
                    .collect();
                apps.len() > usize::from(self.limit_headers)
            };
            let scope = refused.app.is_none() || last.app == refused.app || confirmed();
            assert!(!(within && scope), "S6: seed {}: a request {last:?} after {refused:?}", self.seed);
            if !scope && within && !self.limit_headers && !answered_since(refused, last.at) {
                let asked = |other: &&Logged| other.at > arrived(refused) && other.delivery == Delivery::Whole;
                let probes = recent.iter().filter(asked).filter(|other| arrived(other) > last.at).count();
                assert!(probes <= 1, "S6: seed {}: {probes} probes after {refused:?}", self.seed);
            }
        }
    }

    /// S4: a cause brings one call, and what backoff allows until the next cause.
    fn check_attempts(&self, log: &[Logged]) {
        for id in &self.ids {
            let mut causes = self.causes[id].clone();
            causes.sort_unstable();
            let calls = log
                .iter()
                .filter(|logged| logged.app.as_ref() == Some(id))
                .filter(|logged| matches!(logged.endpoint, Some(Endpoint::Stop | Endpoint::Start)));
            let mut per_cause = BTreeMap::<usize, usize>::new();
            for call in calls {
                *per_cause.entry(causes.partition_point(|cause| *cause <= call.at)).or_default() += 1;
            }
            let most = per_cause.values().max().copied().unwrap_or_default();
            assert!(most <= CALLS_PER_CAUSE, "S4: seed {}: {most} calls on {id} by one cause", self.seed);
        }
    }

    /// S7: what is reported as verified was really so at some time since the call. S8: an app is called missing only
    /// after the platform has said so of this very app, never because a list did not show it.
    fn check_board(&self, board: &Board, log: &[Logged]) {
        for app in board.apps() {
            let spec = app.declared.spec();
            if let Some(spec) = spec
                && (app.observed == Observed::Missing || app.reason() == Reason::AppNotFound)
            {
                let denied = |logged: &Logged| logged.status == 404 && logged.app.as_ref() == Some(&spec.app_id);
                assert!(log.iter().any(denied), "S8: seed {}: {} is called missing", self.seed, spec.app_id);
            }
            let (Some(spec), Some(last)) = (spec, &app.last_action) else { continue };
            if last.result != "Verified" {
                continue;
            }
            let id = &spec.app_id;
            let online = last.action == "start";
            // Readings lag: what was so shortly before the call may be what is seen after it.
            let since = last.at - Duration::from_secs(121);
            let was = lock(&self.world).was(id, online, since);
            assert!(was, "S7: seed {}: {id} was never online={online}", self.seed);
        }
    }
}
