//! Progress of work that takes minutes: a bulk of calls, and the first list of a large account.
//!
//! The figures are for people: no decision depends on them.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use tracing::info;

use super::fleet::{Fleet, Object};
use super::resync::Resync;
use crate::budget::RateLimiter;
use crate::reconcile::app::AppName;
use crate::reconcile::decide::Decision;
use crate::reconcile::moment::{Moment, human_duration};
use crate::reconcile::reason::Reason;
use crate::reconcile::state::Action;
use crate::status;

/// Largest number of ready calls that is not a bulk: fewer calls need no progress.
const BULK: usize = 10;
/// Interval of the lines in the log.
const LINE: Duration = Duration::from_secs(10);
/// Interval of counting. A count reads every object of the fleet.
const COUNT: Duration = Duration::from_secs(1);

/// Reasons of accepted calls that are not verified yet.
const VERIFYING: [(Reason, Action); 3] =
    [(Reason::Stopping, Action::Stop), (Reason::Starting, Action::Start), (Reason::Restarting, Action::Restart)];

/// The work in progress.
#[derive(Debug, Default)]
pub struct Progress {
    bulk: Option<Bulk>,
    list_since: Option<Moment>,
    line_at: Option<Moment>,
}

/// Many calls at once.
#[derive(Debug)]
struct Bulk {
    /// Apps whose call had its effect; a later call for the same app removes it.
    verified: BTreeSet<AppName>,
    /// Pending calls at the last count.
    pending: Pending,
    /// The action of all calls; `None` if there are several.
    action: Option<Action>,
    count_at: Moment,
}

/// Pending calls: not sent, or not verified yet.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pending {
    /// Each app, and whether the server accepted its call.
    apps: Vec<(AppName, bool)>,
    action: Option<Action>,
}

impl Pending {
    fn of<'a>(objects: impl Iterator<Item = (&'a AppName, &'a Object)>) -> Self {
        let mut actions: Vec<Option<Action>> = Vec::new();
        let mut apps = Vec::new();
        for (name, decision) in objects.filter_map(|(name, object)| Some((name, object.decision?))) {
            let (action, accepted) = match decision {
                Decision::Act(action) => (Some(action), false),
                Decision::Wait { reason, .. } => {
                    // A pause ends by itself. Retries do not extend a bulk.
                    let sent = VERIFYING.into_iter().find(|(verifying, _)| *verifying == reason);
                    if sent.is_none() && reason != Reason::RateLimited {
                        continue;
                    }
                    (sent.map(|(_, action)| action), sent.is_some())
                }
                Decision::Settled(_) | Decision::Held { .. } | Decision::Stalled(_) => continue,
            };
            apps.push((name.clone(), accepted));
            if action.is_some() && !actions.contains(&action) {
                actions.push(action);
            }
        }
        Self { apps, action: if let [action] = actions[..] { action } else { None } }
    }
}

impl Progress {
    /// Records that the call of an app had its effect.
    pub fn verified(&mut self, app: &AppName) {
        if let Some(bulk) = &mut self.bulk {
            bulk.verified.insert(app.clone());
        }
    }

    /// Updates the progress and returns it. Logs a line every ten seconds while work is in progress.
    pub fn update(
        &mut self,
        fleet: &Fleet,
        resync: &Resync,
        limiter: &RateLimiter,
        (now, wall): (Moment, Timestamp),
    ) -> Vec<status::Progress> {
        let bulk = self.bulk(fleet, now);
        let mut shown = Vec::new();
        let held = limiter.held_until(now).map_or(Duration::ZERO, |until| until.since(now));
        if let Some((action, done, accepted, total)) = bulk {
            let rate = limiter.requests_per_minute(now);
            // During a pause no call is ready.
            let calls = u32::try_from(total - accepted).unwrap_or(u32::MAX);
            let left = rate.map(|rate| held + Duration::from_mins(1).mul_f64(f64::from(calls) / rate.max(1.0)));
            shown.push((action.map_or("calls", Action::as_str), (done, Some(accepted)), total, left));
        }
        if let Some((done, total)) = resync.first_list_progress() {
            let since = *self.list_since.get_or_insert(now);
            let share = u32::try_from(total.saturating_sub(done)).ok().zip(u32::try_from(done).ok());
            let took = now.since(since);
            let left = share.filter(|_| !took.is_zero()).map(|(rest, done)| took * rest / done.max(1) + held);
            shown.push(("list", (done, None), total, left));
        }
        if shown.is_empty() {
            self.line_at = None;
        } else if now >= *self.line_at.get_or_insert(now + LINE) {
            self.line_at = Some(now + LINE);
            for (task, (done, accepted), total, left) in &shown {
                info!(task, done, accepted, total, "{}", line(task, (*done, *accepted), *total, *left));
            }
        }
        let shown = shown.into_iter().map(|(task, (done, accepted), total, left)| status::Progress {
            task,
            done,
            accepted,
            total,
            // To the second, so that the status does not change with each request.
            ends_at: left.and_then(|left| (wall + left).round(jiff::Unit::Second).ok()),
        });
        shown.collect()
    }

    /// The time of the next count: a bulk may end without another event.
    pub fn next(&self) -> Option<Moment> {
        self.bulk.as_ref().map(|bulk| bulk.count_at)
    }

    /// Returns action, verified, accepted and all calls of the bulk in progress.
    fn bulk(&mut self, fleet: &Fleet, now: Moment) -> Option<(Option<Action>, usize, usize, usize)> {
        if self.bulk.is_none() && fleet.ready() > BULK {
            let action = Pending::of(fleet.objects()).action;
            self.bulk = Some(Bulk { verified: BTreeSet::new(), pending: Pending::default(), action, count_at: now });
        }
        let bulk = self.bulk.as_mut()?;
        let is_over = bulk.pending.apps.iter().all(|(app, _)| bulk.verified.contains(app));
        if now >= bulk.count_at || is_over {
            bulk.count_at = now + COUNT;
            bulk.pending = Pending::of(fleet.objects());
            for (app, _) in &bulk.pending.apps {
                bulk.verified.remove(app);
            }
            if bulk.pending.apps.is_empty() {
                self.bulk = None;
                return None;
            }
            if bulk.pending.action.is_some() && bulk.pending.action != bulk.action {
                bulk.action = None;
            }
        }
        let [verified, accepted, total] = bulk.counts();
        Some((bulk.action, verified, accepted, total))
    }
}

impl Bulk {
    /// Returns the number of verified, accepted and all calls. Some pending calls were verified after the last count.
    fn counts(&self) -> [usize; 3] {
        let pending = self.pending.apps.iter().filter(|(app, _)| !self.verified.contains(app));
        let (verified, accepted) = (self.verified.len(), pending.clone().filter(|(_, accepted)| *accepted).count());
        [verified, verified + accepted, verified + pending.count()]
    }
}

/// Returns one line of the log: `stopped 120 of 300 (143 accepted), about 1 min 30 s left`.
fn line(task: &str, (done, accepted): (usize, Option<usize>), total: usize, left: Option<Duration>) -> String {
    let verb = match task {
        "stop" => "stopped",
        "start" => "started",
        "restart" => "restarted",
        "list" => "listed",
        _ => "verified",
    };
    let things = match task {
        "list" => " apps",
        "calls" => " calls",
        _ => "",
    };
    let left = left.filter(|left| left.as_secs() > 0);
    let left = left.map(|left| format!(", about {} left", human_duration(left))).unwrap_or_default();
    let accepted = accepted.filter(|accepted| *accepted > done);
    let accepted = accepted.map(|accepted| format!(" ({accepted} accepted)")).unwrap_or_default();
    format!("{verb} {done} of {total}{things}{accepted}{left}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verified_call_makes_no_other_call_accepted() {
        let name = |text: &str| text.parse::<AppName>().unwrap();
        let apps = vec![(name("a"), true), (name("b"), true), (name("c"), false)];
        let pending = Pending { apps, action: Some(Action::Stop) };
        let mut bulk = Bulk { verified: BTreeSet::new(), pending, action: Some(Action::Stop), count_at: Moment::START };
        assert_eq!(bulk.counts(), [0, 2, 3]);
        bulk.verified.insert(name("a"));
        assert_eq!(bulk.counts(), [1, 2, 3], "c was not sent yet");
    }

    #[test]
    fn lines_name_the_task_and_the_time_left() {
        let left = Some(Duration::from_secs(90));
        assert_eq!(line("stop", (120, Some(120)), 300, left), "stopped 120 of 300, about 1 min 30 s left");
        assert_eq!(line("stop", (0, Some(57)), 300, left), "stopped 0 of 300 (57 accepted), about 1 min 30 s left");
        assert_eq!(line("calls", (0, Some(0)), 30, None), "verified 0 of 30 calls");
        assert_eq!(line("list", (1200, None), 10_000, left), "listed 1200 of 10000 apps, about 1 min 30 s left");
    }
}
