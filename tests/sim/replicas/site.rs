//! The two servers, the ways of each replica to them, and the judge of each request that a replica sends.
//!
//! A request that was sent goes on without its process: it arrives although the process is killed or stopped, and its
//! answer waits for a process that is stopped. The judge uses only the times at which requests were sent, and the
//! record that the server stores, never the election's own view.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use campos_operator::clock::Clock;
use campos_operator::kubernetes::election::Leases;
use campos_operator::kubernetes::elector::{Answer, Request};
use campos_operator::platform::{Answered, Page, PageRequest, Platform, Seen};
use campos_operator::reconcile::app::AppId;
use campos_operator::reconcile::moment::Moment;
use campos_operator::reconcile::outcome::{Failure, Receipt};
use campos_operator::reconcile::state::Action;
use campos_operator::simulator::lease::LeaseServer;
use campos_operator::simulator::port::InProcess;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::gate::Gate;
use crate::dice::Dice;

/// A request to CamposCloud starts only with this much of the lease left.
const MIN_LEFT_TO_START: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Server {
    Kubernetes,
    CamposCloud,
}

/// What an API server does with the requests that arrive while it is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frozen {
    /// It handles them later, although nobody waits for the answer any more.
    Holds,
    Loses,
}

/// A call on its way, as the platform sees it: from the send until the answer, or until the process cuts it off.
#[derive(Debug)]
struct Call {
    by: Arc<str>,
    app: AppId,
    gate: Gate,
    sent: Moment,
    arrived: bool,
    /// Cut off before it arrived.
    cut: bool,
}

/// A call that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) at: Moment,
    pub(crate) by: Arc<str>,
    pub(crate) app: AppId,
    /// Time since the send of the last renewal that was answered.
    pub(crate) renewed_ago: Duration,
}

/// A change of the holder.
#[derive(Debug, Clone)]
pub(crate) struct Takeover {
    pub(crate) at: Moment,
    pub(crate) by: Arc<str>,
}

#[derive(Debug)]
struct State {
    dice: Dice,
    lease: LeaseServer,
    frozen: Option<Frozen>,
    /// The requests that a frozen server holds.
    held: Vec<oneshot::Sender<()>>,
    /// The longest time of one way, in milliseconds.
    latency: u64,
    cut: BTreeSet<(Arc<str>, Server)>,
    /// The send of the last renewal that was answered.
    renewed: BTreeMap<Arc<str>, Moment>,
    takeovers: Vec<Takeover>,
    flying: BTreeMap<usize, Call>,
    sent: Vec<Sent>,
    /// Pairs of calls of two processes at the same time.
    overlaps: usize,
    /// Such pairs where the first call has no answer for long, and its process is stopped: it cannot cut the call off.
    beyond_the_fence: usize,
    /// Promises that were broken. A panic in a task of the operator would be caught.
    broken: Vec<String>,
    transcript: String,
}

#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) clock: Clock,
    pub(crate) lease: Duration,
    state: Mutex<State>,
}

impl Site {
    pub(crate) fn new(clock: Clock, lease: Duration, dice: Dice) -> Self {
        let state = State {
            dice,
            lease: LeaseServer::default(),
            frozen: None,
            held: Vec::new(),
            latency: 30,
            cut: BTreeSet::new(),
            renewed: BTreeMap::new(),
            takeovers: Vec::new(),
            flying: BTreeMap::new(),
            sent: Vec::new(),
            overlaps: 0,
            beyond_the_fence: 0,
            broken: Vec::new(),
            transcript: String::new(),
        };
        Self { clock, lease, state: state.into() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn note(&self, text: &str) {
        let line = format!("{:>9.3} {text}", self.clock.now().since_start().as_secs_f64());
        if std::env::var_os("SIM_SEED").is_some() {
            println!("{line}");
        }
        writeln!(self.state().transcript, "{line}").unwrap();
    }

    pub(crate) fn transcript(&self) -> String {
        self.state().transcript.clone()
    }

    pub(crate) fn set_latency(&self, milliseconds: u64) {
        self.state().latency = milliseconds;
    }

    pub(crate) fn latency(&self) -> u64 {
        self.state().latency
    }

    pub(crate) fn set_cut(&self, replica: &Arc<str>, server: Server, cut: bool) {
        let key = (replica.clone(), server);
        let mut state = self.state();
        if cut {
            state.cut.insert(key)
        } else {
            state.cut.remove(&key)
        };
    }

    pub(crate) fn freeze(&self, frozen: Option<Frozen>) {
        let mut state = self.state();
        state.frozen = frozen;
        if frozen.is_none() {
            for held in state.held.drain(..) {
                // Fails if the request is gone, at the end of a test.
                let _ = held.send(());
            }
        }
    }

    pub(crate) fn holder(&self) -> Option<Arc<str>> {
        self.state().lease.record.as_ref().and_then(|record| record.holder.clone())
    }

    pub(crate) fn takeovers(&self) -> Vec<Takeover> {
        self.state().takeovers.clone()
    }

    /// The calls since the `first`, oldest first.
    pub(crate) fn sent(&self, first: usize) -> Vec<Sent> {
        self.state().sent[first..].to_vec()
    }

    pub(crate) fn count(&self) -> usize {
        self.state().sent.len()
    }

    /// The apps that have a call in flight.
    pub(crate) fn flying(&self) -> BTreeSet<AppId> {
        self.state().flying.values().map(|call| call.app.clone()).collect()
    }

    /// Overlaps, and those that no fence can prevent.
    pub(crate) fn overlaps(&self) -> (usize, usize) {
        let state = self.state();
        (state.overlaps, state.beyond_the_fence)
    }

    #[track_caller]
    pub(crate) fn check(&self, seed: u64) {
        let broken = self.state().broken.clone();
        assert!(broken.is_empty(), "seed {seed}: {broken:#?}");
    }

    async fn one_way(&self) {
        let time = {
            let mut state = self.state();
            let longest = state.latency;
            Duration::from_millis(state.dice.below(longest) + 1)
        };
        sleep(time).await;
    }

    fn is_cut(&self, replica: &Arc<str>, server: Server) -> bool {
        self.state().cut.contains(&(replica.clone(), server))
    }

    /// Waits until the API server is not frozen. Returns whether it handles the request.
    async fn thaw(&self) -> bool {
        let thawed = {
            let mut state = self.state();
            match state.frozen {
                None => return true,
                Some(Frozen::Loses) => return false,
                Some(Frozen::Holds) => {
                    let (thaw, thawed) = oneshot::channel();
                    state.held.push(thaw);
                    thawed
                }
            }
        };
        // Fails only at the end of the test.
        thawed.await.is_ok()
    }

    fn handle(&self, request: &Request) -> Answer {
        let before = self.holder();
        let answer = self.state().lease.handle(request);
        let after = self.holder();
        if before != after {
            self.note(&format!("the holder is {}", after.as_deref().unwrap_or("none")));
            let at = self.clock.now();
            self.state().takeovers.extend(after.map(|by| Takeover { at, by }));
        }
        answer
    }

    /// Judges a request to CamposCloud, which starts now. Returns its number if it is a call.
    fn begin(&self, way: &Way, call: Option<(Action, &AppId)>) -> Option<usize> {
        let (now, holder) = (self.clock.now(), self.holder());
        if let Some((action, app)) = call {
            self.note(&format!("    {}: {action} {app}", way.identity));
        }
        let mut guard = self.state();
        let state = &mut *guard;
        let what = call.map_or("a read".to_owned(), |(action, app)| format!("{action} {app}"));
        let by = &way.identity;
        if holder.as_ref() != Some(by) {
            state.broken.push(format!("{now}: {what} by {by}, but the holder is {holder:?}"));
        }
        let renewed_ago = state.renewed.get(by).map_or(Duration::MAX, |sent| now.since(*sent));
        if self.lease.saturating_sub(renewed_ago) < MIN_LEFT_TO_START {
            state.broken.push(format!("{now}: {what} by {by}, {renewed_ago:?} after its renewal was sent"));
        }
        let (_, app) = call?;
        for other in state.flying.values().filter(|other| other.by != *by) {
            if other.gate.is_stopped() && now.since(other.sent) > MIN_LEFT_TO_START {
                state.beyond_the_fence += 1;
            } else {
                state.overlaps += 1;
                state
                    .broken
                    .push(format!("{now}: {what} by {by} overlaps with that by {}, sent {}", other.by, other.sent));
            }
        }
        state.sent.push(Sent { at: now, by: by.clone(), app: app.clone(), renewed_ago });
        let call =
            Call { by: by.clone(), app: app.clone(), gate: way.gate.clone(), sent: now, arrived: false, cut: false };
        let number = state.sent.len();
        state.flying.insert(number, call);
        Some(number)
    }

    fn arrived(&self, call: Option<usize>) {
        let Some(number) = call else { return };
        let mut state = self.state();
        if let Some(call) = state.flying.get_mut(&number) {
            call.arrived = true;
            if call.cut {
                state.flying.remove(&number);
            }
        }
    }

    fn answered(&self, call: Option<usize>) {
        call.map(|number| self.state().flying.remove(&number));
    }
}

/// A process's way to the servers.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) site: Arc<Site>,
    /// The replica: partitions last longer than its processes.
    pub(crate) replica: Arc<str>,
    pub(crate) identity: Arc<str>,
    pub(crate) gate: Gate,
}

impl Way {
    async fn carry_lease(self, request: Request, back: oneshot::Sender<Result<Answer, String>>) {
        let sent = self.site.clock.now();
        self.site.one_way().await;
        if self.site.is_cut(&self.replica, Server::Kubernetes) {
            let refused = self.site.state().dice.chance(30);
            if refused {
                // Fails if nobody waits any more.
                let _ = back.send(Err("connection refused".into()));
            }
            return;
        }
        if !self.site.thaw().await {
            return;
        }
        let answer = self.site.handle(&request);
        self.site.one_way().await;
        if self.site.is_cut(&self.replica, Server::Kubernetes) {
            return;
        }
        let renewed = matches!((&request, &answer), (Request::Create(_) | Request::Replace(_), Answer::Stored(_)));
        if back.send(Ok(answer)).is_ok() && renewed {
            self.site.state().renewed.insert(self.identity, sent);
        }
    }

    /// Sends a request to CamposCloud.
    async fn reach<T: Send + 'static>(
        &self,
        call: Option<(Action, &AppId)>,
        request: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let number = self.site.begin(self, call);
        let _flight = Flight(self.site.clone(), number);
        let (back, answered) = oneshot::channel();
        let way = self.clone();
        tokio::spawn(async move {
            way.site.one_way().await;
            if way.site.is_cut(&way.replica, Server::CamposCloud) {
                way.site.answered(number);
                return;
            }
            way.site.arrived(number);
            let answer = request.await;
            way.site.answered(number);
            way.site.one_way().await;
            if !way.site.is_cut(&way.replica, Server::CamposCloud) {
                // Fails if nobody waits any more.
                let _ = back.send(answer);
            }
        });
        silent_without(answered).await
    }
}

/// Without an answer there is silence, not an error.
async fn silent_without<T>(answer: oneshot::Receiver<T>) -> T {
    match answer.await {
        Ok(answer) => answer,
        Err(_) => std::future::pending().await,
    }
}

/// The process cuts its call off when it drops this.
struct Flight(Arc<Site>, Option<usize>);

impl Drop for Flight {
    fn drop(&mut self) {
        let Some(number) = self.1 else { return };
        let mut state = self.0.state();
        if let Some(call) = state.flying.get_mut(&number) {
            call.cut = true;
            if call.arrived {
                state.flying.remove(&number);
            }
        }
    }
}

impl Leases for Way {
    async fn send(&self, request: &Request) -> Result<Answer, String> {
        let (back, answered) = oneshot::channel();
        tokio::spawn(self.clone().carry_lease(request.clone(), back));
        silent_without(answered).await
    }
}

/// CamposCloud, over the way of a process.
#[derive(Debug)]
pub(crate) struct Reached {
    pub(crate) way: Way,
    pub(crate) inner: InProcess,
}

impl Platform for Reached {
    async fn list(&self, page: PageRequest) -> Result<Answered<Page>, Failure> {
        let inner = self.inner.clone();
        self.way.reach(None, async move { inner.list(page).await }).await
    }

    async fn get(&self, id: &AppId) -> Result<Answered<Seen>, Failure> {
        let (inner, id) = (self.inner.clone(), id.clone());
        self.way.reach(None, async move { inner.get(&id).await }).await
    }

    async fn act(&self, action: Action, id: &AppId) -> Result<Answered<Receipt>, Failure> {
        let (inner, own) = (self.inner.clone(), id.clone());
        self.way.reach(Some((action, id)), async move { inner.act(action, &own).await }).await
    }

    async fn whoami(&self) -> Result<Answered<()>, Failure> {
        let inner = self.inner.clone();
        self.way.reach(None, async move { inner.whoami().await }).await
    }
}
