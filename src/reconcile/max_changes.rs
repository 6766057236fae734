//! The limit of mass edits: `--max-stops` and `--max-starts`, and the approvals that release what they hold.
//!
//! Pure and level-based. A call counts if an edit causes it: not a transition of a schedule, a drift or a retry. Above
//! the limit, none of the counted calls is sent until the tree is changed or approved.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};

use super::app::AppName;
use super::decide::{Gates, Goal};
use super::desired::{Place, Policy, Spec, Target};
use super::moment::Moment;
use super::schedule::Schedule;
use super::state::{Action, Desired, Observed};

/// Age up to which a change of the target counts as a transition.
const TRANSITION: SignedDuration = SignedDuration::from_hours(1);
/// Time for which a sent call counts, so that a loop of single edits stays below the limit.
const REMEMBERED: Duration = Duration::from_mins(10);
/// Number of calls that a percentage always allows.
const LEAST: usize = 5;

/// Maximum number of calls that edits may cause at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Count(usize),
    /// Percentage of the declared apps.
    Percent(u8),
}

impl Limit {
    /// The number of calls for a number of apps.
    pub fn of(self, apps: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (apps * usize::from(percent)).div_ceil(100).max(LEAST),
        }
    }
}

impl FromStr for Limit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "expected a number of apps, such as 20, or a percentage of them, such as 25%";
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.parse().ok().filter(|percent| *percent <= 100);
                percent.map(Self::Percent).ok_or(expected)
            }
            None => text.parse().map(Self::Count).map_err(|_| expected),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Both limits; none by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    pub stops: Option<Limit>,
    pub starts: Option<Limit>,
}

impl Limits {
    pub fn of(self, action: Action) -> Option<Limit> {
        match action {
            Action::Stop => self.stops,
            Action::Start => self.starts,
            Action::Restart => None,
        }
    }

    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// Id of the stops that the manifests declare, independent of the observed states: the first 12 hexadecimal digits of a
/// hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlanId(u64);

impl PlanId {
    const DIGITS: usize = 12;

    /// The id of the specs that declare Stopped in `state`, an override, a window or an exception.
    pub fn of<'a>(specs: impl Iterator<Item = &'a Spec>) -> Self {
        // Thousands of apps may share one schedule with thousands of holidays.
        let mut schedules = HashMap::new();
        let asking = specs.filter(|spec| declares_stopped(spec));
        let mut lines: Vec<String> = asking.map(|spec| deciding_fields(spec, &mut schedules)).collect();
        lines.sort_unstable();
        Self::hash(&lines.concat())
    }

    fn hash(text: &str) -> Self {
        let hash = digest(&SHA256, text.as_bytes());
        let first = hash.as_ref().iter().take(Self::DIGITS / 2);
        Self(first.fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$x}", self.0, width = Self::DIGITS)
    }
}

/// The text is not 12 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAPlanId;

impl fmt::Display for NotAPlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is not the id of a plan: 12 of the digits 0-9 and a-f")
    }
}

impl std::error::Error for NotAPlanId {}

impl FromStr for PlanId {
    type Err = NotAPlanId;

    fn from_str(text: &str) -> Result<Self, NotAPlanId> {
        let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if text.len() != Self::DIGITS || !text.bytes().all(digit) {
            return Err(NotAPlanId);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| NotAPlanId)
    }
}

fn declares_stopped(spec: &Spec) -> bool {
    let windows = spec.schedule.iter().flat_map(|schedule| &schedule.windows).map(|window| window.state);
    let exceptions = spec.schedule.iter().flat_map(|schedule| &schedule.except).map(|exception| exception.state);
    let override_ = spec.override_.as_ref().map(|over| over.state);
    [Some(spec.state), override_]
        .into_iter()
        .flatten()
        .chain(windows)
        .chain(exceptions)
        .any(|state| state == Desired::Stopped)
}

/// The fields that decide about the state, on one line.
fn deciding_fields(spec: &Spec, schedules: &mut HashMap<*const Schedule, PlanId>) -> String {
    let mut line = format!("{} {}", spec.app_id.as_str(), spec.state);
    // Writing to a String cannot fail.
    if let Some(over) = &spec.override_ {
        let _ = write!(line, " override {} {}", over.state, over.until);
    }
    if let Some(schedule) = &spec.schedule {
        let hash = *schedules.entry(Arc::as_ptr(schedule)).or_insert_with(|| PlanId::hash(&windows(schedule)));
        let _ = write!(line, " schedule {hash}");
    }
    line + "\n"
}

fn windows(schedule: &Schedule) -> String {
    let mut text = schedule.zone_name.to_string();
    // Writing to a String cannot fail.
    for exception in &schedule.except {
        let _ = write!(text, " [{}", exception.state);
        for event in exception.events() {
            let _ = write!(text, " {}/{}", event.from, event.to);
        }
        text.push(']');
    }
    for window in &schedule.windows {
        let _ = write!(text, " [{} {}]", window.state, window.span);
    }
    text
}

/// A person's approval of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    pub name: AppName,
    pub plan: PlanId,
    pub until: Timestamp,
    pub reason: Option<Arc<str>>,
    pub by: Option<Arc<str>>,
    pub place: Place,
}

impl Approval {
    /// Returns whether the approval is in force at `wall`.
    pub fn holds(&self, wall: Timestamp) -> bool {
        wall < self.until
    }

    /// Returns whether the approval releases the calls of a plan at `wall`.
    pub fn releases(&self, plan: &PlanId, wall: Timestamp) -> bool {
        self.plan == *plan && self.holds(wall)
    }
}

/// Returns whether time changed the target of a spec less than an hour before `wall`: a window began or ended, or an
/// override or a suspension ended.
pub fn is_transition(spec: &Spec, wall: Timestamp) -> bool {
    let Ok(mut at) = wall.checked_sub(TRANSITION) else { return false };
    let now = spec.target(wall);
    let mut before = spec.target(at);
    // A cron window begins at most once a minute.
    for _ in 0..200 {
        let Some(next) = spec.next_change(at).filter(|next| *next <= wall) else { return false };
        let target = spec.target(next);
        let has_turned = target.desired != before.desired || target.suspended != before.suspended;
        if has_turned && target.desired == now.desired && !target.suspended {
            return true;
        }
        (at, before) = (next, target);
    }
    true
}

/// The call that an app needs, and that only the limit, the account or a backoff can hold.
pub fn needed(goal: Goal, observed: Observed, gates: Gates) -> Option<Action> {
    let Goal::Known(target) = goal else { return None };
    let action = match (target.desired, observed) {
        (Desired::Stopped, Observed::Running) => Action::Stop,
        (Desired::Running, Observed::Stopped) => Action::Start,
        _ => return None,
    };
    let allowed = match target.policy.min(gates.policy) {
        Policy::Full => true,
        Policy::StopOnly => action == Action::Stop,
        Policy::ObserveOnly => false,
    };
    (allowed && !target.suspended && !(gates.clock_doubtful && target.timed)).then_some(action)
}

/// The state in which an app needs a call.
pub fn opposite(goal: Goal) -> Option<Observed> {
    match goal {
        Goal::Known(Target { desired: Desired::Stopped, .. }) => Some(Observed::Running),
        Goal::Known(Target { desired: Desired::Running, .. }) => Some(Observed::Stopped),
        Goal::Unknown(_) => None,
    }
}

/// A call that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountedCall {
    /// A reading shows that the app needs the call.
    Certain(Action),
    /// The app was not read since the start.
    Possible(Action),
}

/// The apps that need an action.
#[derive(Debug, Default)]
struct Waiting {
    certain: BTreeSet<AppName>,
    possible: BTreeSet<AppName>,
}

/// The counted calls: pending ones, and those sent in the last 10 minutes.
#[derive(Debug, Default)]
pub struct Counted {
    stops: Waiting,
    starts: Waiting,
    sent: VecDeque<(Moment, Action)>,
}

impl Counted {
    fn of(&self, action: Action) -> &Waiting {
        match action {
            Action::Stop => &self.stops,
            // A restarted app is running, so it needs no start.
            Action::Start | Action::Restart => &self.starts,
        }
    }

    fn of_mut(&mut self, action: Action) -> &mut Waiting {
        match action {
            Action::Stop => &mut self.stops,
            Action::Start | Action::Restart => &mut self.starts,
        }
    }

    /// The apps that are known to need an action.
    pub fn waiting(&self, action: Action) -> &BTreeSet<AppName> {
        &self.of(action).certain
    }

    /// Sets the counted call that an app needs now, if any.
    pub fn set(&mut self, name: &AppName, need: Option<CountedCall>) {
        for action in [Action::Stop, Action::Start] {
            let Waiting { certain, possible } = self.of_mut(action);
            certain.remove(name);
            possible.remove(name);
            match need {
                Some(CountedCall::Certain(needed)) if needed == action => drop(certain.insert(name.clone())),
                Some(CountedCall::Possible(needed)) if needed == action => drop(possible.insert(name.clone())),
                Some(_) | None => {}
            }
        }
    }

    /// Counts a sent call.
    pub fn sent(&mut self, name: &AppName, action: Action, now: Moment) {
        if self.of_mut(action).certain.remove(name) {
            self.sent.push_back((now, action));
        }
    }

    pub fn forget(&mut self, now: Moment) {
        while self.sent.front().is_some_and(|(at, _)| now.since(*at) >= REMEMBERED) {
            self.sent.pop_front();
        }
    }

    /// Number of counted calls that were sent in the last 10 minutes.
    pub fn sent_lately(&self, action: Action) -> usize {
        self.sent.iter().filter(|(_, sent)| *sent == action).count()
    }

    /// Returns whether the limit holds the calls of an action. Apps that were not read yet count, too:
    /// otherwise a start would send the first calls before the number of calls is known.
    pub fn exceeds(&self, action: Action, limit: Limit, apps: usize) -> bool {
        let Waiting { certain, possible } = self.of(action);
        !certain.is_empty() && certain.len() + possible.len() + self.sent_lately(action) > limit.of(apps)
    }

    /// Returns whether the calls that apps certainly need exceed the limit.
    pub fn is_certain(&self, action: Action, limit: Limit, apps: usize) -> bool {
        let waiting = self.waiting(action).len();
        waiting > 0 && waiting + self.sent_lately(action) > limit.of(apps)
    }

    /// The time at which the oldest sent call stops counting.
    pub fn next(&self) -> Option<Moment> {
        self.sent.front().map(|(at, _)| *at + REMEMBERED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::desired::{Because, Override, Suspension};
    use crate::reconcile::schedule::{Span, Window};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn spec(id: &str, state: Desired) -> Spec {
        Spec::new(id.parse().unwrap(), state)
    }

    /// Running, with a window of Stopped.
    fn scheduled(id: &str, from: i64, to: i64) -> Spec {
        let wall = |second| at(second).to_zoned(jiff::tz::TimeZone::UTC).datetime();
        let span = Span::Once { from: wall(from), to: Some(wall(to)) };
        let window = Window { state: Desired::Stopped, span, reason: None, warn: None };
        let schedule = Some(Arc::new(Schedule::new("UTC", vec![window]).unwrap()));
        Spec { schedule, ..spec(id, Desired::Running) }
    }

    #[test]
    fn limits_are_numbers_or_percentages() {
        for (text, apps, most) in [
            ("0", 10, 0),
            ("20", 10, 20),
            ("25%", 1_000, 250),
            ("25%", 41, 11),
            ("25%", 4, 5),
            ("0%", 100, 5),
            ("100%", 7, 7),
        ] {
            let limit: Limit = text.parse().unwrap();
            assert_eq!((limit.of(apps), limit.to_string()), (most, text.to_owned()));
        }
        for text in ["", "%", "101%", "-1", "ten", "5.5%"] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_plan_id_depends_on_what_the_manifests_ask_for() {
        let id = |specs: &[Spec]| PlanId::of(specs.iter());
        let tree = [spec("a", Desired::Stopped), spec("b", Desired::Running), scheduled("c", 0, 100)];
        let known = id(&tree);
        assert_eq!(known.to_string().parse(), Ok(known));
        let [a, b, c] = tree.clone();
        assert_eq!(id(&[c.clone(), a.clone(), b.clone()]), known, "the order is that of the ids");
        assert_eq!(id(&[a.clone(), c.clone()]), known, "an app that asks for Running only is no part");
        let suspended = Spec { suspend: Some(Suspension::default()), ..a.clone() };
        assert_eq!(id(&[suspended, b.clone(), c.clone()]), known, "a suspension decides no state");
        let over = Override { state: Desired::Stopped, until: at(9), reason: None, by: None };
        for changed in [
            vec![spec("a", Desired::Running), b.clone(), c.clone()],
            vec![a.clone(), spec("b", Desired::Stopped), c.clone()],
            vec![a.clone(), b.clone(), scheduled("c", 0, 101)],
            vec![a.clone(), Spec { override_: Some(over), ..b }, c.clone()],
            vec![spec("z", Desired::Stopped), c],
        ] {
            assert_ne!(id(&changed), known, "{changed:?}");
        }
        for wrong in ["7f3a9c01b2d", "7F3A9C01B2D4", "7f3a9c01b2dg", "7f3a9c01b2d45"] {
            assert!(wrong.parse::<PlanId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_approval_is_for_one_plan_and_a_time() {
        let plan = PlanId::of([spec("a", Desired::Stopped)].iter());
        let place = Place { file: "x".into(), line: 1 };
        let (name, until) = ("a".parse().unwrap(), at(10));
        let approval = Approval { name, plan, until, reason: None, by: None, place };
        assert!(approval.releases(&plan, at(9)) && !approval.releases(&plan, at(10)));
        assert!(!approval.releases(&PlanId::of([spec("b", Desired::Stopped)].iter()), at(9)));
    }

    #[test]
    fn a_change_by_time_within_the_last_hour_is_a_transition() {
        let window = scheduled("a", 0, 10_000);
        for (second, expected) in [(-1, false), (0, true), (3_599, true), (3_600, false), (9_999, false)] {
            assert_eq!(is_transition(&window, at(second)), expected, "{second}");
        }
        assert!(is_transition(&window, at(10_100)), "its end");
        // A short window of Running between: the stop at its end is a transition, too.
        let mut short = scheduled("a", 0, 600);
        short.state = Desired::Stopped;
        Arc::make_mut(short.schedule.as_mut().unwrap()).windows[0].state = Desired::Running;
        assert!(is_transition(&short, at(700)) && !is_transition(&short, at(4_300)));
        let suspended =
            Spec { suspend: Some(Suspension { reason: None, until: Some(at(0)) }), ..spec("a", Desired::Stopped) };
        assert!(is_transition(&suspended, at(1)) && !is_transition(&suspended, at(3_601)));
        assert!(!is_transition(&spec("a", Desired::Stopped), at(0)));
        let over = Override { state: Desired::Running, until: at(0), reason: None, by: None };
        let over = Spec { override_: Some(over), ..spec("a", Desired::Stopped) };
        assert!(!is_transition(&over, at(-1)) && is_transition(&over, at(1)) && !is_transition(&over, at(3_601)));
    }

    #[test]
    fn held_apps_need_no_call() {
        let target = Target {
            desired: Desired::Stopped,
            because: Because::State,
            suspended: false,
            timed: true,
            policy: Policy::Full,
        };
        let needed = |target, gates| needed(Goal::Known(target), Observed::Running, gates);
        assert_eq!(needed(target, Gates::OPEN), Some(Action::Stop));
        assert_eq!(needed(Target { suspended: true, ..target }, Gates::OPEN), None);
        assert_eq!(needed(Target { policy: Policy::ObserveOnly, ..target }, Gates::OPEN), None);
        assert_eq!(needed(target, Gates { clock_doubtful: true, ..Gates::OPEN }), None);
        assert_eq!(needed(target, Gates { account_blocked: true, ..Gates::OPEN }), Some(Action::Stop));
    }

    #[test]
    fn apps_that_no_reading_has_shown_hold_the_first_calls_of_a_start() {
        let (mut counted, limit) = (Counted::default(), Limit::Count(2));
        let name = |number: usize| format!("app-{number}").parse::<AppName>().unwrap();
        for number in 0..4 {
            counted.set(&name(number), Some(CountedCall::Possible(Action::Stop)));
        }
        assert!(!counted.exceeds(Action::Stop, limit, 4), "there is nothing to hold");
        counted.set(&name(0), Some(CountedCall::Certain(Action::Stop)));
        assert!(counted.exceeds(Action::Stop, limit, 4) && !counted.is_certain(Action::Stop, limit, 4));
        // The others prove to be stopped.
        counted.set(&name(1), None);
        counted.set(&name(2), None);
        assert!(!counted.exceeds(Action::Stop, limit, 4));
    }

    #[test]
    fn calls_that_were_sent_count_for_ten_minutes() {
        let (mut counted, limit) = (Counted::default(), Limit::Count(2));
        let name = |text: &str| text.parse::<AppName>().unwrap();
        let minute = |minute: u64| Moment::from_secs(minute * 60);
        for app in ["a", "b"] {
            counted.set(&name(app), Some(CountedCall::Certain(Action::Stop)));
            assert!(!counted.exceeds(Action::Stop, limit, 100));
            counted.sent(&name(app), Action::Stop, minute(1));
        }
        // A loop of single edits.
        counted.set(&name("c"), Some(CountedCall::Certain(Action::Stop)));
        assert!(counted.exceeds(Action::Stop, limit, 100) && !counted.exceeds(Action::Start, limit, 100));
        assert_eq!(counted.next(), Some(minute(11)));
        counted.forget(minute(10));
        assert!(counted.exceeds(Action::Stop, limit, 100));
        counted.forget(minute(11));
        assert!(!counted.exceeds(Action::Stop, limit, 100));
        // A revert: nothing waits, so nothing is held.
        counted.set(&name("c"), None);
        assert!(!counted.exceeds(Action::Stop, Limit::Count(0), 100));
    }
}
