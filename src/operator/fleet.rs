//! The loop's memory of objects and apps, without I/O.
//!
//! Objects are keyed by name; readings and attempts by the platform's id. A renamed object does not forget the call in
//! flight, so an app has never more than one call in flight.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::app_record::AppRecord;
use super::execute::Job;
use super::journal::Notes;
use super::order::{Calls, Order};
use super::queue::Queue;
use super::reads::{Kind, Reads};
use crate::platform::listing::MAX_ITEMS;
use crate::platform::{Answered, Seen};
use crate::reconcile::app::{AppId, AppName};
use crate::reconcile::attempts::{Attempts, Effect, TimedReading};
use crate::reconcile::clock_check::Trust;
use crate::reconcile::decide::{Decision, Gates, Goal};
use crate::reconcile::desired::{Declared, Policy, Spec, Target, Text, Validity};
use crate::reconcile::max_changes::{self, CountedCall, PlanId};
use crate::reconcile::moment::Moment;
use crate::reconcile::outcome::{Failure, Receipt, Verdict};
use crate::reconcile::plan::{Entry, Subject, plan, restart_need};
use crate::reconcile::reading::Reading;
use crate::reconcile::reason::Reason;
use crate::reconcile::redacted::Redacted;
use crate::reconcile::restart::{RestartNeed, ServerTime};
use crate::reconcile::state::Action;
use crate::reconcile::state::Desired;
use crate::reconcile::state::Observed;
use crate::status::app::LastAction;
use crate::status::history::Trigger;

/// An update of at most this number of apps is an edit and goes before a bulk; a larger one is a checkout or a first
/// load.
const EDIT_AT_MOST: usize = 16;

/// One object of the manifests with its last decision.
#[derive(Debug, Clone)]
pub struct Object {
    pub declared: Arc<Declared>,
    /// Counts changes of the spec, from 1.
    pub generation: u64,
    pub decision: Option<Decision>,
    pub decided_at: Moment,
    pub observed: Observed,
    pub last_action: Option<Arc<LastAction>>,
    /// The desired state of the last pass.
    desired_before: Option<Desired>,
    /// Whether the last pass found it suspended.
    suspended_before: bool,
    /// Last time-dependent target that a trusted clock gave; used while the clock is doubtful.
    last_trusted_target: Option<Target>,
    pub notes: Notes,
    order: Order,
    /// Whether the next call counts as caused by an edit. Cleared when the app settles, is called or approved, at a
    /// transition, and at the end of a suspension.
    is_edited: bool,
}

/// Facts about the account and the settings when an answer arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerContext {
    /// Time for an accepted call to take effect.
    pub confirm_timeout: Duration,
    pub interval: Duration,
    /// A rate limit concerns only this app.
    pub only_this_app: bool,
    /// A refusal is the account's.
    pub account_refused: bool,
    pub list_unreadable: bool,
}

#[derive(Debug, Default)]
pub struct Fleet {
    objects: BTreeMap<AppName, Box<Object>>,
    apps: HashMap<AppId, Box<AppRecord>>,
    due: Queue<AppName>,
    reads: Reads,
    ready: Calls,
    /// Objects without a decision, or with one that is not final: a call or a wait.
    pending: BTreeSet<AppName>,
    /// Apps with a newer text that is not accepted yet.
    texts: HashMap<AppName, Text>,
    /// Trust in the wall clock.
    trust: Option<Trust>,
    /// The server's time; absent before its first answer.
    server: Option<ServerTime>,
    /// Empty attempts, for objects without an app.
    no_calls: Attempts,
    salt: u64,
}

impl Fleet {
    /// An empty fleet; the salt spreads the backoff of its apps.
    pub fn new(salt: u64) -> Self {
        Self { salt, ..Self::default() }
    }

    /// Sets the trust in the wall clock. After a change, every object is decided again.
    pub fn trust_clock(&mut self, trust: Trust, now: Moment) {
        if self.trust.replace(trust) != Some(trust) {
            self.all_due(now);
        }
    }

    /// Sets the server's time, which decides whether a restart is required.
    pub fn set_server_time(&mut self, server: Option<ServerTime>) {
        self.server = server;
    }

    /// Returns the restart that `spec.restart` of an object requires.
    fn restart_need(&self, object: &Object, wall: Timestamp) -> RestartNeed {
        let (spec, goal) = (object.declared.spec(), self.goal(object, wall));
        let Some(known) = object.app_id().and_then(|id| self.apps.get(id)) else { return RestartNeed::Nothing };
        let reading = (known.observed(), known.timed_reading.as_ref().map(|timed_reading| &timed_reading.reading));
        restart_need(spec, goal, reading, known.past.restarted(), self.server, wall)
    }

    /// The goal of an object at `wall`; while the clock is doubtful, the last one that a trusted clock gave.
    pub fn goal(&self, object: &Object, wall: Timestamp) -> Goal {
        match (Goal::of(&object.declared, wall), object.last_trusted_target) {
            (Goal::Known(target), Some(trusted)) if target.timed && self.trust == Some(Trust::Doubtful) => {
                Goal::Known(Target { timed: false, ..trusted })
            }
            (goal, _) => goal,
        }
    }

    pub fn objects(&self) -> impl Iterator<Item = (&AppName, &Object)> {
        self.objects.iter().map(|(name, object)| (name, &**object))
    }

    pub fn object(&self, name: &AppName) -> Option<&Object> {
        self.objects.get(name).map(|object| &**object)
    }

    pub fn notes(&mut self, name: &AppName) -> Option<&mut Notes> {
        self.objects.get_mut(name).map(|object| &mut object.notes)
    }

    /// Returns whether the newest reading of an app does not show whether the app is running.
    pub fn is_unreadable(&self, name: &AppName) -> bool {
        let id = self.objects.get(name).and_then(|object| object.app_id());
        id.and_then(|id| self.apps.get(id)).is_some_and(|known| known.is_unreadable())
    }

    pub fn app(&self, id: &AppId) -> Option<&AppRecord> {
        self.apps.get(id).map(|known| &**known)
    }

    pub fn past(&self, object: &Object) -> &Attempts {
        object.app_id().and_then(|id| self.apps.get(id)).map_or(&self.no_calls, |known| &known.past)
    }

    /// Takes an update of the manifests. With `listed_before` an app that no list showed is read singly at once.
    /// `trigger` distinguishes an edit from the first load.
    pub fn take_update(
        &mut self,
        changed: Vec<Arc<Declared>>,
        removed: &[AppName],
        listed_before: bool,
        trigger: Trigger,
        now: Moment,
        wall: Timestamp,
    ) {
        for name in removed {
            self.release(name);
        }
        let edit = changed.len() <= EDIT_AT_MOST;
        // Release all old owners first: two objects may swap their apps in one update.
        for declared in &changed {
            self.disown(&declared.name);
        }
        for declared in changed {
            let name = declared.name.clone();
            let before = self.objects.remove(&name);
            let spec_changed = before.as_ref().is_none_or(|before| before.declared.spec() != declared.spec());
            let target = declared.spec().map(|spec| spec.target(wall));
            let desired = target.map(|target| target.desired);
            let mut object = before.unwrap_or_else(|| Box::new(Object::new(declared.clone())));
            object.generation += u64::from(spec_changed);
            object.notes.triggered(trigger);
            object.declared = declared;
            if spec_changed {
                object.order.spec_changed(trigger == Trigger::Edit, edit, now);
                (object.last_trusted_target, object.desired_before) = (None, desired);
                object.suspended_before = target.is_some_and(|target| target.suspended);
                object.is_edited = true;
            } else {
                object.order.spec_unchanged();
            }
            let owned = object.app_id().cloned();
            if object.decision.is_none() {
                self.pending.insert(name.clone());
            }
            self.objects.insert(name.clone(), object);
            if let Some(id) = owned {
                let known = self.app_or_new(&id);
                known.owner = Some(name.clone());
                if let Some(desired) = desired.filter(|_| spec_changed) {
                    known.past.target_changed(desired, now);
                }
                if known.timed_reading.is_none() && listed_before {
                    if edit { known.past.request_urgent_read(now) } else { known.past.request_read(now) }
                }
            }
            self.due.push(&name, now);
        }
    }

    /// Takes the states of the newest texts.
    pub fn take_texts(&mut self, texts: Vec<(AppName, Text)>, now: Moment) {
        for (name, text) in texts {
            self.due.push(&name, now);
            match text {
                Text::Stable => self.texts.remove(&name),
                Text::Pending | Text::BeingWritten => self.texts.insert(name, text),
            };
        }
    }

    /// The state of the newest text of an object.
    pub fn text(&self, name: &AppName) -> Text {
        self.texts.get(name).copied().unwrap_or_default()
    }

    /// Takes an app of a list page that was requested at `requested_at`. Returns its shared id, and its object if that
    /// is settled and the reading did not change: then there is nothing to decide.
    pub fn take_listed(
        &mut self,
        seen: &Seen,
        requested_at: Moment,
        now: Moment,
        wall: Timestamp,
    ) -> (AppId, Option<AppName>) {
        let kept = self.apps.get_key_value(&seen.id).map(|(id, known)| (id.clone(), known.listed));
        let (id, listed) = kept.unwrap_or_else(|| (seen.id.clone(), false));
        if !listed {
            self.app_or_new(&id).listed = true;
            self.queue_read(&id);
        }
        if let Some(owner) = self.take_unchanged(&id, &seen.reading, requested_at, wall) {
            return (id, Some(owner));
        }
        self.take_reading(&id, seen.reading.clone(), requested_at, now, wall);
        (id, None)
    }

    /// Takes a reading that equals the last one, of a settled app that was never called: all apps of a settled fleet.
    /// Returns the object that declares it; `None` if the reading may change a decision.
    fn take_unchanged(
        &mut self,
        id: &AppId,
        reading: &Reading,
        requested_at: Moment,
        wall: Timestamp,
    ) -> Option<AppName> {
        let known = self.apps.get_mut(id).filter(|known| known.past.is_empty())?;
        let owner = known.owner.clone()?;
        let timed_reading = known.timed_reading.as_mut().filter(|last| last.requested_at <= requested_at)?;
        let object = self.objects.get(&owner)?;
        if !matches!(object.decision, Some(Decision::Settled(_)))
            || object.observed != reading.observed
            || timed_reading.reading.restart_required != reading.restart_required
        {
            return None;
        }
        *timed_reading = TimedReading { reading: reading.clone(), requested_at, received_at: wall };
        Some(owner)
    }

    /// Takes a reading of a list page or a single read that was sent at `requested_at`.
    fn take_reading(&mut self, id: &AppId, reading: Reading, requested_at: Moment, now: Moment, wall: Timestamp) {
        let known = self.app_or_new(id);
        // Answers may overtake each other: the answer to the later request wins.
        if known.timed_reading.as_ref().is_some_and(|timed_reading| timed_reading.requested_at > requested_at) {
            return;
        }
        known.timed_reading = Some(TimedReading { reading, requested_at, received_at: wall });
        self.owner_due(id, now);
        self.owner_triggered(id, Trigger::Observation);
    }

    pub fn take_read_answer(
        &mut self,
        id: &AppId,
        result: Result<Answered<Seen>, Failure>,
        context: AnswerContext,
        requested_at: Moment,
        now: Moment,
        wall: Timestamp,
    ) {
        let failure = match result {
            Ok(answered) => return self.take_reading(id, answered.value.reading, requested_at, now, wall),
            Err(failure) => failure,
        };
        if failure.verdict == Verdict::NotFound && !context.list_unreadable {
            return self.take_reading(id, Reading::new(Observed::Missing), requested_at, now, wall);
        }
        let (interval, pause) = (context.interval, failure.limits.retry_after);
        let past = &mut self.app_or_new(id).past;
        match failure.verdict {
            Verdict::Forbidden if !context.account_refused => past.read_refused(Reason::Forbidden, interval, now),
            Verdict::Unexpected => past.read_refused(Reason::UnexpectedAnswer, interval, now),
            Verdict::NotFound => past.read_later(interval, now),
            Verdict::RateLimited { after } if context.only_this_app => past.app_refused(after.unwrap_or_default(), now),
            // The read stays pending, at its next time.
            Verdict::Forbidden | Verdict::RateLimited { .. } | Verdict::AccountBlocked => {}
            Verdict::LookAgain | Verdict::Locked | Verdict::Retry | Verdict::LostAnswer => {
                past.read_failed(now);
                if let Some(pause) = pause {
                    past.hold(pause, now);
                }
            }
        }
        self.queue_read(id);
        self.owner_due(id, now);
    }

    /// Requests a single read of each declared app that a complete list does not show; until then the app is not
    /// Missing.
    pub fn take_complete_list(&mut self, ids: &BTreeSet<AppId>, now: Moment) {
        self.apps.retain(|id, known| {
            known.listed = ids.contains(id);
            // A manifest may declare it again before its pause ends.
            let is_busy = known.past.in_flight().is_some() || known.past.is_held(now);
            known.listed || known.owner.is_some() || is_busy
        });
        let unseen: Vec<AppId> = self.owned().filter(|(_, known)| !known.listed).map(|(id, _)| id.clone()).collect();
        for id in unseen {
            self.request_read(&id, now);
        }
    }

    /// Forgets the apps that no object declares, if there are more than a list may have. This bounds the memory against
    /// a server that returns different apps each time. An app that is declared later is read singly.
    pub fn forget_undeclared(&mut self) {
        if self.apps.len() > MAX_ITEMS {
            self.apps.retain(|_, known| known.owner.is_some() || known.past.in_flight().is_some());
            self.apps.shrink_to(MAX_ITEMS);
        }
    }

    /// Requests a single read of each app that no incomplete list showed. A pending read keeps its time, so that a list
    /// that fails often does not repeat the read earlier.
    pub fn request_reads_of_unseen(&mut self, now: Moment) {
        let unseen = self.owned().filter(|(_, known)| known.timed_reading.is_none() && known.past.read_at().is_none());
        let unseen: Vec<AppId> = unseen.map(|(id, _)| id.clone()).collect();
        for id in unseen {
            self.request_read(&id, now);
        }
    }

    pub fn take_answer(
        &mut self,
        name: &AppName,
        id: &AppId,
        result: &Result<Answered<Receipt>, Failure>,
        context: AnswerContext,
        now: Moment,
    ) {
        let past = &mut self.app_or_new(id).past;
        match result {
            Ok(answered) => past.accepted(answered.value.date, context.confirm_timeout, now),
            Err(failure) if past.is_lost_restart(failure.verdict) => {
                past.accepted(None, context.confirm_timeout, now);
            }
            Err(failure) => {
                let accounts = failure.verdict == Verdict::Forbidden && context.account_refused;
                // Not this app's failure.
                let verdict = if accounts { Verdict::AccountBlocked } else { failure.verdict };
                past.failed(verdict, context.interval, now);
                match (verdict, failure.limits.retry_after) {
                    (Verdict::RateLimited { after }, _) if context.only_this_app => {
                        past.app_refused(after.unwrap_or_default(), now);
                    }
                    (Verdict::RateLimited { .. } | Verdict::AccountBlocked, _) | (_, None) => {}
                    (_, Some(pause)) => past.hold(pause, now),
                }
            }
        }
        if let Some(last) = self.objects.get_mut(name).and_then(|object| object.last_action.as_mut()).map(Arc::make_mut)
        {
            match result {
                Ok(Answered { value: receipt, .. }) => {
                    last.result = "Accepted".into();
                    last.http_status = Some(receipt.http_status);
                    last.returned_status = receipt.status.as_ref().map(Redacted::shared);
                    last.returned_online = receipt.online;
                }
                Err(failure) => {
                    last.result = failure.verdict.as_str().into();
                    last.http_status = failure.http_status;
                    last.error = Some(failure.message.shared());
                }
            }
        }
        if let Some(object) = self.objects.get_mut(name) {
            object.notes.triggered(Trigger::Answer);
        }
        self.due.push(name, now);
        self.owner_due(id, now);
        self.owner_triggered(id, Trigger::Answer);
    }

    /// Passes the newest reading and the time to the attempts of each of `names`. Returns what changed.
    pub fn note(&mut self, names: &[AppName], now: Moment, wall: Timestamp) -> Vec<(AppName, AppId, Effect)> {
        let mut effects = Vec::new();
        for name in names {
            let Some(object) = self.objects.get(name) else { continue };
            let Goal::Known(target) = self.goal(object, wall) else { continue };
            // A doubtful clock changes no desired state.
            let is_doubtful = target.timed && self.trust == Some(Trust::Doubtful);
            let need = self.restart_need(object, wall);
            let Some(object) = self.objects.get_mut(name) else { continue };
            let desired = object.desired_before.filter(|_| is_doubtful).unwrap_or(target.desired);
            let Some(id) = object.app_id().cloned() else { continue };
            let Some(known) = self.apps.get_mut(&id) else { continue };
            if object.desired_before.is_some_and(|desired_before| desired_before != desired) {
                // A transition of its schedule: as good as an edit.
                known.past.target_changed(desired, now);
                object.order.transitioned();
                object.is_edited = false;
            }
            object.desired_before = Some(desired);
            if !is_doubtful {
                // A suspension ended by time: no edit causes the next call.
                object.is_edited &= target.suspended || !object.suspended_before;
                object.suspended_before = target.suspended;
            }
            let observed = known.observed();
            let reading =
                known.timed_reading.as_ref().filter(|_| observed != Observed::Unknown).map(|seen| &seen.reading);
            if reading.is_some_and(|reading| reading.restart_required == Some(false)) {
                known.past.no_restart_required();
            }
            let running_since = reading.and_then(|reading| reading.running_since);
            let Some(effect) = known.past.note(desired, observed, (running_since, need), now) else { continue };
            if let (Effect::Verified(_), Some(proof)) = (effect, known.timed_reading.clone()) {
                known.past.verified_by(&proof);
            }
            let result = match effect {
                Effect::Verified(_) => Some("Verified"),
                Effect::NotEffective(_) => Some("NotEffective"),
                Effect::Contested(_) => None,
            };
            effects.push((name.clone(), id, effect));
            if let (Some(last), Some(result)) = (object.last_action.as_mut().map(Arc::make_mut), result) {
                last.result = result.into();
            }
        }
        effects
    }

    /// The call that an object needs because of an edit, and that counts for the limit of changes.
    pub fn counted_call(&self, name: &AppName, gates: Gates, wall: Timestamp) -> Option<CountedCall> {
        let object = self.objects.get(name).filter(|object| object.is_edited)?;
        let known = object.app_id().and_then(|id| self.apps.get(id))?;
        let goal = self.goal(object, wall);
        let need = match known.timed_reading {
            Some(_) => CountedCall::Certain(max_changes::needed(goal, known.observed(), gates)?),
            // A refused read never shows the state, so no call follows.
            None if known.past.because().is_some() => return None,
            // Not read yet: it may need the call.
            None => CountedCall::Possible(max_changes::needed(goal, max_changes::opposite(goal)?, gates)?),
        };
        let is_transition = object.declared.spec().is_some_and(|spec| max_changes::is_transition(spec, wall));
        (!is_transition).then_some(need)
    }

    /// Approves the call of an object: it no longer counts.
    pub fn approve(&mut self, name: &AppName, now: Moment) {
        if let Some(object) = self.objects.get_mut(name) {
            object.is_edited = false;
            self.due.push(name, now);
        }
    }

    /// The number of objects whose apps may be called.
    pub fn callable(&self, gates: Gates, wall: Timestamp) -> usize {
        let is_callable = |object: &Object| match self.goal(object, wall) {
            Goal::Known(target) => !target.suspended && target.policy.min(gates.policy) != Policy::ObserveOnly,
            Goal::Unknown(_) => false,
        };
        self.objects.values().filter(|object| is_callable(object)).count()
    }

    /// The id of the plan that the objects in force make.
    pub fn plan_id(&self) -> PlanId {
        PlanId::of(self.objects.values().filter_map(|object| object.declared.spec()))
    }

    /// The inputs of a plan for `names`.
    pub fn subjects<'a>(
        &'a self,
        names: &'a [AppName],
        gates: Gates,
        wall: Timestamp,
    ) -> impl Iterator<Item = Subject<'a>> {
        names.iter().filter_map(move |name| {
            let object = self.objects.get(name)?;
            let known = object.app_id().and_then(|id| self.apps.get(id));
            Some(Subject {
                name,
                app_id: object.declared.spec().map(|spec| &spec.app_id),
                goal: self.goal(object, wall),
                observed: known.map_or(Observed::Unknown, |known| known.observed()),
                need: self.restart_need(object, wall),
                past: self.past(object),
                text: self.text(name),
                counts: (gates.stops_held || gates.starts_held) && self.counted_call(name, gates, wall).is_some(),
            })
        })
    }

    /// Takes a decision: queues its call and the next wake-up. Returns the decision before it.
    pub fn decided(&mut self, entry: &Entry, now: Moment, wall: Timestamp) -> Option<Decision> {
        let object = self.objects.get_mut(&entry.name)?;
        let before = object.decision.replace(entry.decision);
        object.decided_at = now;
        object.observed = entry.observed;
        if self.trust == Some(Trust::Confirmed) {
            object.last_trusted_target =
                object.declared.spec().map(|spec| spec.target(wall)).filter(|target| target.timed);
        }
        match entry.decision {
            Decision::Settled(_) | Decision::Held { .. } | Decision::Stalled(_) => self.pending.remove(&entry.name),
            Decision::Act(_) | Decision::Wait { .. } => self.pending.insert(entry.name.clone()),
        };
        let id = object.app_id().cloned();
        let known = id.as_ref().and_then(|id| self.apps.get(id));
        let rank = match entry.decision {
            Decision::Act(action) => {
                let repeated = known.is_some_and(|known| known.past.next_attempt() > 1);
                Some(object.order.rank(action, repeated, now))
            }
            Decision::Settled(_) => {
                object.order.settled();
                object.is_edited = false;
                None
            }
            Decision::Wait { .. } | Decision::Held { .. } | Decision::Stalled(_) => None,
        };
        self.ready.set(&entry.name, &mut object.order, rank);
        let spec = object.declared.spec();
        let changes = spec.map(|spec| [spec.next_change(wall), spec.next_restart(wall)]);
        let change = changes.into_iter().flatten().flatten().min().map(|at| {
            let wait = Duration::try_from(at.duration_since(wall)).unwrap_or_default();
            now + wait
        });
        let wake = known.and_then(|known| known.past.wake_at()).filter(|at| *at > now);
        self.due.set(&entry.name, [change, wake].into_iter().flatten().min());
        if let Some(id) = &id {
            self.queue_read(id);
        }
        before
    }

    pub fn take_due(&mut self, now: Moment) -> Vec<AppName> {
        self.due.take_due(now)
    }

    pub fn next_due(&self) -> Option<Moment> {
        self.due.next()
    }

    /// Forgets all readings.
    pub fn forget_readings(&mut self, now: Moment) {
        for known in self.apps.values_mut() {
            known.timed_reading = None;
        }
        self.all_due(now);
    }

    pub fn all_due(&mut self, now: Moment) {
        for name in self.objects.keys() {
            self.due.push(name, now);
        }
    }

    pub fn due_now(&mut self, name: &AppName, now: Moment) {
        self.due.push(name, now);
    }

    /// The next call, and the time since which it waits.
    pub fn first_ready(&self) -> Option<(AppName, Moment)> {
        self.ready.first().map(|(rank, name)| (name.clone(), rank.since))
    }

    /// Takes the probe of an account that may not call its apps: a call on an app that was not `refused`, if there is
    /// one.
    pub fn take_probe(
        &mut self,
        gates: Gates,
        refused: impl Fn(&AppId) -> bool,
        now: Moment,
        wall: Timestamp,
    ) -> Option<Job> {
        let names: Vec<AppName> = self.objects.keys().cloned().collect();
        let plan = plan(self.subjects(&names, gates, wall), gates, now);
        let known = |entry: &Entry| entry.app_id.as_ref().is_none_or(&refused);
        let (action, entry) = plan.actions().min_by_key(|(_, entry)| known(entry))?;
        self.begin(action, &entry.name.clone(), now, wall).map(|(job, _)| job)
    }

    /// Forgets the refusals of single apps, when the refusal of the account begins or ends.
    pub fn forget_refusals(&mut self, now: Moment) {
        self.apps.values_mut().for_each(|known| known.past.forget_refusal());
        self.all_due(now);
    }

    pub fn declared(&self) -> usize {
        self.owned().count()
    }

    /// Takes the first call: it is in flight from here on. Returns with it the time of the edit of which it is the
    /// first call.
    pub fn take_ready(&mut self, now: Moment, wall: Timestamp) -> Option<(Job, Option<Moment>)> {
        let (rank, name) = self.ready.first().cloned()?;
        self.ready.set(&name, &mut self.objects.get_mut(&name)?.order, None);
        self.begin(rank.action, &name, now, wall)
    }

    fn begin(&mut self, action: Action, name: &AppName, now: Moment, wall: Timestamp) -> Option<(Job, Option<Moment>)> {
        let need = self.objects.get(name).map(|object| self.restart_need(object, wall));
        let object = self.objects.get_mut(name)?;
        let edited_at = object.order.begin();
        object.is_edited = false;
        object.notes.call_begins();
        let id = object.app_id()?.clone();
        let known = self.apps.get_mut(&id)?;
        let attempt = known.past.next_attempt();
        let basis = known.timed_reading.clone();
        match (action, need) {
            (Action::Restart, Some(RestartNeed::Restart(causes))) => known.past.begin_restart(causes, basis.as_ref()),
            // Decided in the same iteration of the loop, so this does not happen.
            (Action::Restart, _) => return None,
            (Action::Stop | Action::Start, _) => known.past.begin(action, basis.as_ref()),
        }
        object.last_action = Some(Arc::new(LastAction {
            action: action.as_str().into(),
            at: wall,
            attempt,
            result: "InFlight".into(),
            http_status: None,
            returned_status: None,
            returned_online: None,
            error: None,
        }));
        self.due.push(name, now);
        Some((Job::Act { name: name.clone(), id, action, attempt }, edited_at))
    }

    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// Marks the reads that a new list replaces as sent.
    pub fn mark_replaced_reads_sent(&mut self, now: Moment) {
        for id in self.reads.all_due_listed(now) {
            self.read_sent(&id, now);
        }
    }

    /// Takes the first single read; with `unlisted_only`, of an app that no list shows.
    pub fn take_read(&mut self, now: Moment, unlisted_only: bool) -> Option<Job> {
        let (_, id) = self.reads.first(now, unlisted_only)?;
        let id = id.clone();
        self.read_sent(&id, now);
        Some(Job::Read { id })
    }

    pub fn take_routine_read(&mut self, now: Moment) -> Option<Job> {
        let (_, id) = self.reads.first_routine(now)?;
        let id = id.clone();
        self.read_sent(&id, now);
        Some(Job::Read { id })
    }

    fn read_sent(&mut self, id: &AppId, now: Moment) {
        if let Some(known) = self.apps.get_mut(id) {
            known.past.read_sent(now);
        }
        self.queue_read(id);
    }

    pub fn retry_in(&self, id: &AppId, now: Moment) -> Option<Duration> {
        self.apps.get(id)?.past.gate(now).map(|(_, until)| until.since(now))
    }

    /// Returns whether nothing is pending: no call, wait or text.
    pub fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.pending.is_empty() && self.texts.is_empty()
    }

    /// Number of apps that need a person.
    pub fn stalled(&self) -> usize {
        self.objects.values().filter(|object| matches!(object.decision, Some(Decision::Stalled(_)))).count()
    }

    /// The apps that an object declares.
    fn owned(&self) -> impl Iterator<Item = (&AppId, &AppRecord)> {
        self.apps.iter().filter(|(_, known)| known.owner.is_some()).map(|(id, known)| (id, &**known))
    }

    fn app_or_new(&mut self, id: &AppId) -> &mut AppRecord {
        let salt = self.salt;
        self.apps.entry(id.clone()).or_insert_with(|| {
            let mut hasher = DefaultHasher::new();
            (salt, id.as_str()).hash(&mut hasher);
            Box::new(AppRecord::new(hasher.finish()))
        })
    }

    fn request_read(&mut self, id: &AppId, now: Moment) {
        self.app_or_new(id).past.request_read(now);
        self.queue_read(id);
    }

    /// Queues the pending read of an app. An app without an owner has none.
    fn queue_read(&mut self, id: &AppId) {
        let known = self.apps.get(id).filter(|known| known.owner.is_some());
        let (at, kind) = known.map_or((None, Kind::default()), |known| {
            let (past, listed) = (&known.past, known.listed);
            (past.read_at(), Kind { listed, urgent: past.read_is_urgent(), routine: past.read_is_routine() })
        });
        self.reads.set(id, at, kind);
    }

    fn owner_due(&mut self, id: &AppId, now: Moment) {
        if let Some(name) = self.apps.get(id).and_then(|known| known.owner.as_ref()) {
            self.due.push(name, now);
        }
    }

    fn owner_triggered(&mut self, id: &AppId, trigger: Trigger) {
        let owner = self.apps.get(id).and_then(|known| known.owner.as_ref());
        if let Some(object) = owner.and_then(|name| self.objects.get_mut(name)) {
            object.notes.triggered(trigger);
        }
    }

    /// Removes an object; its app stays as it is.
    fn release(&mut self, name: &AppName) {
        self.disown(name);
        self.due.set(name, None);
        self.pending.remove(name);
        self.texts.remove(name);
        self.objects.remove(name);
    }

    fn disown(&mut self, name: &AppName) {
        let Some(object) = self.objects.get_mut(name) else { return };
        self.ready.set(name, &mut object.order, None);
        if let Some(id) = object.app_id().cloned()
            && let Some(known) = self.apps.get_mut(&id).filter(|known| known.owner.as_ref() == Some(name))
        {
            known.owner = None;
            self.queue_read(&id);
        }
    }
}

impl Object {
    fn new(declared: Arc<Declared>) -> Self {
        Self {
            declared,
            generation: 0,
            decision: None,
            decided_at: Moment::START,
            observed: Observed::Unknown,
            last_action: None,
            desired_before: None,
            suspended_before: false,
            last_trusted_target: None,
            notes: Notes::default(),
            order: Order::default(),
            is_edited: false,
        }
    }

    /// The app that this object declares; `None` while it is in conflict, or if it was never valid.
    pub fn app_id(&self) -> Option<&AppId> {
        match self.declared.validity {
            Validity::Conflicting { .. } => None,
            Validity::Valid | Validity::Invalid { .. } => self.declared.spec().map(|Spec { app_id, .. }| app_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::desired::{Object as Valid, Override, Place, Suspension};
    use crate::reconcile::labels::Labels;
    use crate::reconcile::outcome::RateLimitHeaders;
    use crate::reconcile::restart::Restart;

    const CONTEXT: AnswerContext = AnswerContext {
        confirm_timeout: Duration::from_secs(120),
        interval: Duration::from_secs(60),
        only_this_app: false,
        account_refused: false,
        list_unreadable: false,
    };

    fn at(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    fn wall(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn id(id: &str) -> AppId {
        id.parse().unwrap()
    }

    fn name(name: &str) -> AppName {
        name.parse().unwrap()
    }

    fn reading(observed: Observed) -> Reading {
        Reading::new(observed)
    }

    fn declared(object: &str, app: &str, state: Desired, suspend: Option<Suspension>) -> Arc<Declared> {
        declared_with(object, app, state, suspend, None)
    }

    fn declared_with(
        object: &str,
        app: &str,
        state: Desired,
        suspend: Option<Suspension>,
        override_: Option<Override>,
    ) -> Arc<Declared> {
        let spec = Spec { policy: Some(Policy::Full), suspend, override_, ..Spec::new(id(app), state) };
        let (labels, annotations) = (Labels::default(), Labels::default());
        let valid = Valid { name: name(object), labels, annotations, spec };
        let place = Place { file: "x.yaml".into(), line: 1 };
        Arc::new(Declared { name: name(object), object: Some(Arc::new(valid)), place, validity: Validity::Valid })
    }

    /// A fleet with one object per app, each to be stopped and none observed yet.
    fn fleet(apps: &[&str]) -> Fleet {
        let mut fleet = Fleet::new(7);
        let objects = apps.iter().map(|app| declared(app, app, Desired::Stopped, None)).collect();
        fleet.take_update(objects, &[], false, Trigger::Start, at(0), wall(0));
        fleet
    }

    /// A page of the list shows an app, in answer to a request sent at `requested_at`.
    fn list(fleet: &mut Fleet, app: &str, observed: Observed, requested_at: u64) {
        let seen = Seen { id: id(app), name: None, reading: reading(observed), memory_mb: None };
        fleet.take_listed(&seen, at(requested_at), at(requested_at), wall(0));
    }

    /// A single read shows an app, in answer to a request sent at `requested_at`.
    fn read(fleet: &mut Fleet, app: &str, observed: Observed, requested_at: u64) {
        let value = Seen { id: id(app), name: None, reading: reading(observed), memory_mb: None };
        let answered = Answered { value, limits: RateLimitHeaders::default(), repeats: 0 };
        fleet.take_read_answer(&id(app), Ok(answered), CONTEXT, at(requested_at), at(requested_at), wall(0));
    }

    fn failure(verdict: Verdict) -> Failure {
        Failure { verdict, http_status: None, message: "no".into(), limits: RateLimitHeaders::default(), repeats: 0 }
    }

    fn accepted() -> Answered<Receipt> {
        let value = Receipt { http_status: 200, status: None, online: None, date: None, oddity: None };
        Answered { value, limits: RateLimitHeaders::default(), repeats: 0 }
    }

    /// Decides for every app that is scheduled now, as a pass does.
    fn decide(fleet: &mut Fleet, now: u64, wall: Timestamp) {
        let due = fleet.take_due(at(now));
        fleet.note(&due, at(now), wall);
        for entry in plan(fleet.subjects(&due, Gates::OPEN, wall), Gates::OPEN, at(now)).entries {
            fleet.decided(&entry, at(now), wall);
        }
    }

    fn observed(fleet: &Fleet, app: &str) -> Observed {
        fleet.app(&id(app)).map_or(Observed::Unknown, AppRecord::observed)
    }

    fn send(fleet: &mut Fleet, now: u64) -> Option<(AppName, Action)> {
        match fleet.take_ready(at(now), wall(0))? {
            (Job::Act { name, action, .. }, _) => Some((name, action)),
            (job, _) => panic!("{job:?}"),
        }
    }

    /// Two answers in the order in which they arrive, with the times at which their requests were sent.
    #[test]
    fn the_answer_to_the_later_request_wins() {
        use Observed::{Running, Stopped};
        let answers: [fn(&mut Fleet, &str, Observed, u64); 2] = [list, read];
        for first in answers {
            for second in answers {
                for (requested, last) in [((5, 3), Running), ((3, 5), Stopped), ((5, 5), Stopped)] {
                    let mut fleet = fleet(&["a"]);
                    first(&mut fleet, "a", Running, requested.0);
                    decide(&mut fleet, 6, wall(0));
                    second(&mut fleet, "a", Stopped, requested.1);
                    assert_eq!(observed(&fleet, "a"), last, "{requested:?}");
                    // Also where the older one agrees with the last decision.
                    decide(&mut fleet, 7, wall(0));
                    first(&mut fleet, "a", last, 1);
                    assert_eq!(
                        fleet.app(&id("a")).unwrap().timed_reading.as_ref().unwrap().requested_at,
                        at(requested.0.max(requested.1))
                    );
                }
            }
        }
    }

    #[test]
    fn a_call_in_flight_outlives_its_manifest_and_its_list_entry() {
        for forget in [(|fleet| fleet.take_complete_list(&BTreeSet::new(), at(5))) as fn(&mut Fleet), |fleet| {
            for number in 0..=MAX_ITEMS {
                list(fleet, &format!("other-{number}"), Observed::Running, 5);
            }
            fleet.forget_undeclared();
            assert!(fleet.app(&id("other-1")).is_none(), "apps that no manifest declares are forgotten");
        }] {
            let mut fleet = fleet(&["a"]);
            list(&mut fleet, "a", Observed::Running, 1);
            decide(&mut fleet, 2, wall(0));
            assert_eq!(send(&mut fleet, 2), Some((name("a"), Action::Stop)));
            fleet.take_update(Vec::new(), &[name("a")], true, Trigger::Edit, at(3), wall(0));
            forget(&mut fleet);
            // Declared again under another name: no second call before the first is answered.
            let again = declared("b", "a", Desired::Stopped, None);
            fleet.take_update(vec![again], &[], true, Trigger::Edit, at(6), wall(0));
            list(&mut fleet, "a", Observed::Running, 6);
            decide(&mut fleet, 7, wall(0));
            assert_eq!(send(&mut fleet, 7), None);
            fleet.take_answer(
                &name("b"),
                &id("a"),
                &Err(failure(Verdict::RateLimited { after: None })),
                CONTEXT,
                at(8),
            );
            decide(&mut fleet, 8, wall(0));
            assert_eq!(send(&mut fleet, 8), Some((name("b"), Action::Stop)));
        }
        let mut fleet = fleet(&["a"]);
        list(&mut fleet, "a", Observed::Running, 1);
        fleet.take_update(Vec::new(), &[name("a")], true, Trigger::Edit, at(3), wall(0));
        fleet.take_complete_list(&BTreeSet::new(), at(5));
        assert!(fleet.app(&id("a")).is_none(), "without a call in flight it is forgotten");
    }

    /// A restart without an answer counts as accepted: its effect is awaited, and it is not sent again.
    #[test]
    fn a_lost_restart_is_verified_and_not_repeated() {
        // Requested for 0 s; the app has been running since an earlier time.
        let second = |second: i64| Some(wall(0) + jiff::SignedDuration::from_secs(second));
        let mut fleet = Fleet::new(7);
        fleet.set_server_time(Some(ServerTime { now: wall(0), trusted_from: second(-200).unwrap() }));
        let restart = Restart { requested_at: second(0), ..Restart::default() };
        let object = declared("a", "a", Desired::Running, None);
        let mut valid = (**object.object.as_ref().unwrap()).clone();
        valid.spec.restart = Some(Arc::new(restart));
        let object = Declared { object: Some(valid.into()), ..(*object).clone() };
        fleet.take_update(vec![object.into()], &[], false, Trigger::Start, at(0), wall(0));
        let list = |fleet: &mut Fleet, since, now: u64| {
            let (taken_at, running_since) = (second(i64::try_from(now).unwrap()), second(since));
            let reading = Reading { taken_at, running_since, ..Reading::new(Observed::Running) };
            let seen = Seen { id: id("a"), name: None, reading, memory_mb: None };
            fleet.take_listed(&seen, at(now), at(now), wall(0));
            decide(fleet, now, wall(0));
            fleet.object(&name("a")).unwrap().decision.unwrap()
        };
        assert_eq!(list(&mut fleet, -100, 1), Decision::Act(Action::Restart));
        assert_eq!(send(&mut fleet, 1), Some((name("a"), Action::Restart)));
        fleet.take_answer(&name("a"), &id("a"), &Err(failure(Verdict::LostAnswer)), CONTEXT, at(2));
        let decision = list(&mut fleet, -100, 3);
        assert!(matches!(decision, Decision::Wait { reason: Reason::Restarting, .. }), "{decision:?}");
        assert_eq!(list(&mut fleet, 2, 4), Decision::Settled(Reason::Settled));
        assert_eq!(fleet.object(&name("a")).unwrap().last_action.as_ref().unwrap().result, "Verified");
    }

    #[test]
    fn a_pause_of_an_app_outlives_its_manifest() {
        let mut fleet = fleet(&["a"]);
        let limits = RateLimitHeaders { retry_after: Some(Duration::from_secs(60)), ..RateLimitHeaders::default() };
        let refused = Failure { limits, ..failure(Verdict::Retry) };
        fleet.take_read_answer(&id("a"), Err(refused), CONTEXT, at(1), at(1), wall(0));
        fleet.take_update(Vec::new(), &[name("a")], true, Trigger::Edit, at(2), wall(0));
        fleet.take_complete_list(&BTreeSet::new(), at(3));
        let again = declared("a", "a", Desired::Stopped, None);
        fleet.take_update(vec![again], &[], true, Trigger::Edit, at(4), wall(0));
        decide(&mut fleet, 4, wall(0));
        assert_eq!(fleet.reads().next(), Some(at(61)));
        fleet.take_update(Vec::new(), &[name("a")], true, Trigger::Edit, at(5), wall(0));
        fleet.take_complete_list(&BTreeSet::new(), at(61));
        assert!(fleet.app(&id("a")).is_none(), "its pause is over");
    }

    #[test]
    fn a_suspension_ends_at_exactly_its_end() {
        let suspend = Suspension { reason: None, until: Some(wall(100)) };
        let mut fleet = Fleet::new(7);
        let object = declared("a", "a", Desired::Stopped, Some(suspend));
        fleet.take_update(vec![object], &[], false, Trigger::Start, at(0), wall(0));
        list(&mut fleet, "a", Observed::Running, 1);
        decide(&mut fleet, 1, wall(1));
        let held = Decision::Held { reason: Reason::Suspended, instead_of: Action::Stop };
        assert_eq!((fleet.object(&name("a")).unwrap().decision, fleet.next_due()), (Some(held), Some(at(100))));
        fleet.all_due(at(99));
        decide(&mut fleet, 99, wall(99));
        assert_eq!((fleet.object(&name("a")).unwrap().decision, fleet.next_due()), (Some(held), Some(at(100))));
        decide(&mut fleet, 100, wall(100));
        assert_eq!(fleet.object(&name("a")).unwrap().decision, Some(Decision::Act(Action::Stop)));
    }

    /// The limit of changes: a transition that began while the process ran never counts, also long afterwards.
    #[test]
    fn a_transition_that_this_process_observed_never_counts() {
        let until = wall(100);
        let suspended = Suspension { reason: None, until: Some(until) };
        let over = Override { state: Desired::Running, until, reason: None, by: None };
        for (suspend, override_) in [(Some(suspended), None), (None, Some(over))] {
            for (first_pass, counts) in [(1, false), (7_000, true)] {
                let mut fleet = Fleet::new(7);
                let object = declared_with("a", "a", Desired::Stopped, suspend.clone(), override_.clone());
                fleet.take_update(vec![object], &[], false, Trigger::Start, at(0), wall(first_pass));
                list(&mut fleet, "a", Observed::Running, 1);
                for (moment, second) in [(1, first_pass), (2, 7_000)] {
                    fleet.all_due(at(moment));
                    let due = fleet.take_due(at(moment));
                    fleet.note(&due, at(moment), wall(second));
                }
                let counted = fleet.counted_call(&name("a"), Gates::OPEN, wall(7_000));
                let expected = counts.then_some(CountedCall::Certain(Action::Stop));
                assert_eq!(counted, expected, "{suspend:?} {override_:?} {first_pass}");
            }
        }
    }

    #[test]
    fn an_edit_that_ends_a_suspension_counts() {
        let mut fleet = Fleet::new(7);
        let suspended = declared("a", "a", Desired::Stopped, Some(Suspension::default()));
        fleet.take_update(vec![suspended], &[], false, Trigger::Start, at(0), wall(0));
        list(&mut fleet, "a", Observed::Running, 1);
        decide(&mut fleet, 1, wall(0));
        assert_eq!(fleet.counted_call(&name("a"), Gates::OPEN, wall(0)), None);
        let resumed = declared("a", "a", Desired::Stopped, None);
        fleet.take_update(vec![resumed], &[], true, Trigger::Edit, at(2), wall(0));
        let due = fleet.take_due(at(2));
        fleet.note(&due, at(2), wall(0));
        assert_eq!(fleet.counted_call(&name("a"), Gates::OPEN, wall(0)), Some(CountedCall::Certain(Action::Stop)));
    }

    /// Failed calls: whether a single read follows at once or not at all.
    #[test]
    fn a_lost_answer_leaves_a_read_pending_until_a_fresh_reading_proves_something() {
        for (verdict, reads) in [
            (Verdict::LostAnswer, Some(at(3))),
            (Verdict::LookAgain, Some(at(3))),
            (Verdict::Retry, None),
            (Verdict::Locked, None),
            (Verdict::AccountBlocked, None),
        ] {
            let mut fleet = fleet(&["a"]);
            list(&mut fleet, "a", Observed::Running, 1);
            decide(&mut fleet, 2, wall(0));
            send(&mut fleet, 2).unwrap();
            fleet.take_answer(&name("a"), &id("a"), &Err(failure(verdict)), CONTEXT, at(3));
            decide(&mut fleet, 3, wall(0));
            assert_eq!(fleet.reads().next(), reads, "{verdict:?}");
            assert_eq!(fleet.first_ready().is_some(), verdict == Verdict::AccountBlocked, "{verdict:?}");
        }
    }

    #[test]
    fn an_app_that_no_list_shows_is_missing_only_after_its_own_read() {
        let mut fleet = fleet(&["a", "b"]);
        list(&mut fleet, "b", Observed::Stopped, 1);
        fleet.take_complete_list(&[id("b")].into(), at(1));
        decide(&mut fleet, 1, wall(0));
        assert_eq!(observed(&fleet, "a"), Observed::Unknown);
        assert_eq!(fleet.take_read(at(1), true), None);
        assert_eq!(fleet.take_routine_read(at(1)), Some(Job::Read { id: id("a") }));
        let unreadable = AnswerContext { list_unreadable: true, ..CONTEXT };
        for (context, last) in [(unreadable, Observed::Unknown), (CONTEXT, Observed::Missing)] {
            fleet.take_read_answer(&id("a"), Err(failure(Verdict::NotFound)), context, at(2), at(2), wall(0));
            assert_eq!(observed(&fleet, "a"), last);
        }
    }

    #[test]
    fn edits_go_first_then_stops_then_the_longest_waiting() {
        let mut fleet = fleet(&["a", "b"]);
        let bulk =
            (0..=EDIT_AT_MOST).map(|n| declared(&format!("c{n:02}"), &format!("c{n:02}"), Desired::Running, None));
        fleet.take_update(bulk.collect(), &[], false, Trigger::Start, at(0), wall(0));
        list(&mut fleet, "c00", Observed::Stopped, 1);
        list(&mut fleet, "b", Observed::Running, 1);
        decide(&mut fleet, 1, wall(0));
        list(&mut fleet, "a", Observed::Running, 2);
        decide(&mut fleet, 2, wall(0));
        let edit = declared("c01", "c01", Desired::Stopped, None);
        list(&mut fleet, "c01", Observed::Running, 2);
        fleet.take_update(vec![edit], &[], true, Trigger::Edit, at(3), wall(0));
        decide(&mut fleet, 3, wall(0));
        let order: Vec<_> = std::iter::from_fn(|| send(&mut fleet, 3)).map(|(name, _)| name).collect();
        // `fleet` made its objects by an update small enough to count as an edit.
        assert_eq!(order, ["c01", "b", "a", "c00"].map(name));
    }

    #[test]
    fn two_objects_that_swap_their_apps_in_one_update_own_them_afterwards() {
        let mut fleet = fleet(&["a", "b"]);
        let swapped = [("a", "b"), ("b", "a")].map(|(object, app)| declared(object, app, Desired::Running, None));
        fleet.take_update(swapped.into(), &[], true, Trigger::Edit, at(1), wall(0));
        for (object, app) in [("a", "b"), ("b", "a")] {
            assert_eq!(fleet.app(&id(app)).unwrap().owner, Some(name(object)));
        }
        fleet.take_answer(&name("a"), &id("b"), &Ok(accepted()), CONTEXT, at(2));
        assert_eq!(fleet.declared(), 2);
    }
}
