//! Plan for all apps: their decisions, in the order of execution.
//!
//! `plan` prints exactly what `run` does. Stops come first, since they free memory; then starts, then restarts,
//! each by name. After success the next plan is empty.

use jiff::Timestamp;

use super::app::{AppId, AppName};
use super::attempts::Attempts;
use super::decide::{Decision, Gates, Goal, decide};
use super::desired::{Spec, Target, Text};
use super::moment::Moment;
use super::reading::Reading;
use super::reason::Reason;
use super::restart::{self, Causes, RestartNeed, ServerTime};
use super::state::Action;
use super::state::Desired;
use super::state::Observed;

/// Input of a plan about one app.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub name: &'a AppName,
    /// Absent without a valid manifest.
    pub app_id: Option<&'a AppId>,
    pub goal: Goal,
    /// The trusted part of the last reading.
    pub observed: Observed,
    /// The restart that `spec.restart` requires.
    pub need: RestartNeed,
    pub past: &'a Attempts,
    pub text: Text,
    /// Whether its call counts for the limit of changes.
    pub counts: bool,
}

/// The line of a plan about one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: AppName,
    pub app_id: Option<AppId>,
    /// Absent without a known goal.
    pub desired: Option<Desired>,
    pub observed: Observed,
    pub decision: Decision,
}

/// Decisions for all apps, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Stops, then starts, then restarts, then the rest; each by name.
    pub entries: Vec<Entry>,
}

impl Plan {
    /// The calls to make, in their order.
    pub fn actions(&self) -> impl Iterator<Item = (Action, &Entry)> {
        self.entries.iter().filter_map(|entry| match entry.decision {
            Decision::Act(action) => Some((action, entry)),
            Decision::Settled(_) | Decision::Wait { .. } | Decision::Held { .. } | Decision::Stalled(_) => None,
        })
    }
}

/// Returns the restart that `spec.restart` requires, from a reading with the trusted state `observed`. An app is
/// restarted only while it is running as declared.
pub fn restart_need(
    spec: Option<&Spec>,
    goal: Goal,
    (observed, reading): (Observed, Option<&Reading>),
    sent: &Causes,
    server: Option<ServerTime>,
    wall: Timestamp,
) -> RestartNeed {
    let Goal::Known(Target { desired: Desired::Running, suspended: false, .. }) = goal else {
        return RestartNeed::Nothing;
    };
    let reading = reading.filter(|_| observed == Observed::Running);
    let restart = spec.and_then(|spec| Some((spec.restart.as_deref()?, spec.zone())));
    restart.zip(reading).map_or(RestartNeed::Nothing, |((restart, zone), reading)| {
        restart::need((restart, &zone), reading, sent, server, wall)
    })
}

/// Returns the plan for all `subjects` at `now`.
pub fn plan<'a>(subjects: impl IntoIterator<Item = Subject<'a>>, gates: Gates, now: Moment) -> Plan {
    let mut entries: Vec<Entry> = subjects
        .into_iter()
        .map(|subject| Entry {
            name: subject.name.clone(),
            app_id: subject.app_id.cloned(),
            desired: match subject.goal {
                Goal::Known(target) => Some(target.desired),
                Goal::Unknown(_) => None,
            },
            // While the list cannot be read, a 404 of a single read proves nothing.
            observed: if gates.list_unreadable && subject.observed == Observed::Missing {
                Observed::Unknown
            } else {
                subject.observed
            },
            decision: held(
                decide(subject.goal, subject.observed, subject.need, subject.past, gates_of(&subject, gates), now),
                subject.text,
            ),
        })
        .collect();
    entries.sort_by(|a, b| (rank(a.decision), &a.name).cmp(&(rank(b.decision), &b.name)));
    Plan { entries }
}

/// Holds a counted call above the limit of changes.
fn gates_of(subject: &Subject<'_>, gates: Gates) -> Gates {
    if subject.counts { gates } else { Gates { stops_held: false, starts_held: false, ..gates } }
}

/// Holds a call while a newer text is pending: it may declare the opposite.
fn held(decision: Decision, text: Text) -> Decision {
    match decision {
        Decision::Act(_) if text != Text::Stable => Decision::Wait { reason: Reason::BeingWritten, until: None },
        Decision::Act(_)
        | Decision::Settled(_)
        | Decision::Wait { .. }
        | Decision::Held { .. }
        | Decision::Stalled(_) => decision,
    }
}

fn rank(decision: Decision) -> u8 {
    match decision {
        Decision::Act(Action::Stop) => 0,
        Decision::Act(Action::Start) => 1,
        Decision::Act(Action::Restart) => 2,
        Decision::Settled(_) | Decision::Wait { .. } | Decision::Held { .. } | Decision::Stalled(_) => 3,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reconcile::desired::{Because, Policy};

    fn made(fleet: &[(AppName, Target, Observed)], gates: Gates) -> Plan {
        let past = Attempts::new(0);
        let subjects = fleet.iter().map(|(name, target, observed)| Subject {
            name,
            app_id: None,
            goal: Goal::Known(*target),
            observed: *observed,
            need: RestartNeed::Nothing,
            past: &past,
            text: Text::Stable,
            counts: true,
        });
        plan(subjects, gates, Moment::START)
    }

    /// The decision about one app that is declared Stopped.
    fn one(observed: Observed, text: Text, gates: Gates) -> Entry {
        let (past, name) = (Attempts::new(0), "a".parse().unwrap());
        let target = Target {
            desired: Desired::Stopped,
            because: Because::State,
            suspended: false,
            timed: false,
            policy: Policy::Full,
        };
        let goal = Goal::Known(target);
        let subject = Subject {
            name: &name,
            app_id: None,
            goal,
            observed,
            need: RestartNeed::Nothing,
            past: &past,
            text,
            counts: true,
        };
        plan([subject], gates, Moment::START).entries.remove(0)
    }

    #[test]
    fn a_call_waits_for_a_text_that_is_not_complete() {
        for (text, expected) in [
            (Text::Stable, Decision::Act(Action::Stop)),
            (Text::Pending, Decision::Wait { reason: Reason::BeingWritten, until: None }),
            (Text::BeingWritten, Decision::Wait { reason: Reason::BeingWritten, until: None }),
        ] {
            assert_eq!(one(Observed::Running, text, Gates::OPEN).decision, expected);
            let settled = Decision::Settled(Reason::Settled);
            assert_eq!(one(Observed::Stopped, text, Gates::OPEN).decision, settled, "there is nothing to hold");
        }
    }

    #[test]
    fn an_app_is_missing_only_if_the_list_can_be_read() {
        let unreadable = Gates { list_unreadable: true, ..Gates::OPEN };
        let entry = one(Observed::Missing, Text::Stable, unreadable);
        assert_eq!((entry.observed, entry.decision.reason()), (Observed::Unknown, Reason::NotObserved));
        let entry = one(Observed::Missing, Text::Stable, Gates::OPEN);
        assert_eq!((entry.observed, entry.decision), (Observed::Missing, Decision::Stalled(Reason::AppNotFound)));
        assert_eq!(one(Observed::Running, Text::Stable, unreadable).observed, Observed::Running);
    }

    #[test]
    fn a_plan_has_every_app_with_stops_first() {
        let app = |name: &str, desired, observed| {
            let target =
                Target { desired, because: Because::State, suspended: false, timed: false, policy: Policy::Full };
            (name.parse().unwrap(), target, observed)
        };
        let fleet = [
            app("a", Desired::Running, Observed::Running),
            app("b", Desired::Running, Observed::Stopped),
            app("d", Desired::Stopped, Observed::Running),
            app("c", Desired::Stopped, Observed::Running),
        ];
        let plan = made(&fleet, Gates::OPEN);
        assert_eq!(plan.entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["c", "d", "b", "a"]);
        let actions: Vec<_> = plan.actions().map(|(action, entry)| (action, entry.name.as_str())).collect();
        assert_eq!(actions, [(Action::Stop, "c"), (Action::Stop, "d"), (Action::Start, "b")]);
    }

    fn any_fleet() -> impl Strategy<Value = Vec<(AppName, Target, Observed)>> {
        let app = ("[a-z]{1,6}", any::<bool>(), any::<bool>(), 0..3_u8, 0..6_usize);
        proptest::collection::vec(app, 0..20).prop_map(|apps| {
            let one = |(name, running, suspended, policy, observed): (String, bool, bool, u8, usize)| {
                let desired = if running { Desired::Running } else { Desired::Stopped };
                let policy = [Policy::Full, Policy::StopOnly, Policy::ObserveOnly][usize::from(policy)];
                (
                    name.parse().unwrap(),
                    Target { desired, because: Because::State, suspended, timed: false, policy },
                    Observed::ALL[observed],
                )
            };
            apps.into_iter().map(one).collect()
        })
    }

    proptest! {
        #[test]
        fn the_plan_after_success_is_empty(fleet in any_fleet()) {
            let first = made(&fleet, Gates::OPEN);
            let done: Vec<_> = fleet
                .iter()
                .map(|(name, target, observed)| {
                    let called = first.actions().any(|(_, entry)| entry.name == *name && entry.observed == *observed);
                    let reached = match target.desired {
                        Desired::Running => Observed::Running,
                        Desired::Stopped => Observed::Stopped,
                    };
                    let acted = called && matches!(
                        (target.desired, observed),
                        (Desired::Running, Observed::Stopped) | (Desired::Stopped, Observed::Running)
                    ) && !target.suspended && target.policy != Policy::ObserveOnly
                        && !(target.policy == Policy::StopOnly && target.desired == Desired::Running);
                    (name.clone(), *target, if acted { reached } else { *observed })
                })
                .collect();
            prop_assert_eq!(made(&done, Gates::OPEN).actions().count(), 0);
        }

        #[test]
        fn stops_come_first_and_order_does_not_depend_on_the_input(fleet in any_fleet()) {
            let forward = made(&fleet, Gates::OPEN);
            let actions: Vec<Action> = forward.actions().map(|(action, _)| action).collect();
            prop_assert!(actions.is_sorted());
            let mut names: Vec<_> = fleet.iter().map(|(name, ..)| name).collect();
            names.sort();
            names.dedup();
            if names.len() == fleet.len() {
                let mut backward = fleet;
                backward.reverse();
                prop_assert_eq!(forward, made(&backward, Gates::OPEN));
            }
        }

        #[test]
        fn a_strict_daemon_calls_nothing(fleet in any_fleet()) {
            let gates = Gates { policy: Policy::ObserveOnly, ..Gates::OPEN };
            prop_assert_eq!(made(&fleet, gates).actions().count(), 0);
        }
    }
}
