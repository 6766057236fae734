//! Warnings about valid manifests that probably do not do what their author intends. They change no object in force.

use std::sync::Arc;

use jiff::Timestamp;

use super::diagnostic::{Diagnostic, Mark, Severity};
use super::load::ApprovalDocument;
use super::store::Store;
use super::windows::{Draft, DraftExcept};
use crate::reconcile::desired::{Declared, Policy, Spec};
use crate::reconcile::labels::refused_by_kubernetes;
use crate::reconcile::schedule::{Schedule, Span};
use crate::reconcile::state::Desired;

/// Warns about parts of manifests that have no effect, or an unexpected effect, at `at`.
pub fn warnings(store: &Store, at: Timestamp) -> Vec<Diagnostic> {
    let apps = store.declared();
    let apps = apps.iter().flat_map(|declared| of_one(store, declared, at));
    let expired = store.approvals().filter(|document| !document.approval.holds(at)).map(|document| {
        let ApprovalDocument { approval, until_at } = document;
        Diagnostic {
            line: until_at.line,
            column: until_at.column,
            length: until_at.length,
            severity: Severity::Warning,
            ..Diagnostic::about_file(
                &approval.place.file,
                format!("the approval {} is over", approval.name),
                Some("remove it: it has no effect any more"),
            )
        }
    });
    apps.chain(expired)
        .chain(store.schedules().sound().flat_map(|(file, draft, schedule)| of_shared(file, draft, schedule, at)))
        .collect()
}

/// Warns at the Schedule about windows that no app can use, and about calendars without future events.
fn of_shared(file: &Arc<str>, draft: &Draft, schedule: &Schedule, at: Timestamp) -> Vec<Diagnostic> {
    let name = schedule.shared.as_ref().map_or("", |shared| &shared.name);
    let warning = |mark: &Mark, message: String, hint| Diagnostic {
        line: mark.line,
        column: mark.column,
        length: mark.length,
        severity: Severity::Warning,
        ..Diagnostic::about_file(file, message, Some(hint))
    };
    let windows = schedule.windows.iter().zip(&draft.windows_at).enumerate().filter_map(|(index, (window, mark))| {
        let (what, hint) = of_span(schedule, index, at)?;
        Some(warning(mark, format!("window {} ({}) of the Schedule {name} {what}", index + 1, window.span), hint))
    });
    let calendars =
        schedule.except.iter().zip(&draft.except).filter_map(|(exception, DraftExcept { at: mark, .. })| {
            let is_over = exception.events().iter().all(|event| event.to <= at);
            let message = format!("the calendar {} of the Schedule {name} has no more events", exception.calendar);
            is_over.then(|| warning(mark, message, "add those of the next year, or remove it"))
        });
    windows.chain(calendars).collect()
}

fn of_one(store: &Store, declared: &Declared, at: Timestamp) -> Vec<Diagnostic> {
    let Some(spec) = declared.spec() else { return Vec::new() };
    let ([suspend_at, override_at], windows_at) = store.marks(&declared.name).unwrap_or(([None; 2], &[]));
    let warning = |mark: Option<&Mark>, message: String, hint: &str| {
        let mut warning = Diagnostic::about_file(&declared.place.file, message, Some(hint));
        let mark = mark.copied().unwrap_or(Mark { line: declared.place.line, ..Mark::START });
        warning.severity = Severity::Warning;
        (warning.line, warning.column, warning.length) = (mark.line, mark.column, mark.length);
        warning
    };
    let mut warnings = Vec::new();
    for (key, value) in declared.object.iter().flat_map(|object| object.labels.iter()) {
        if let Some(cause) = refused_by_kubernetes(key, value) {
            let message = format!("Kubernetes would refuse the label `{key}: {value}` of {}", declared.name);
            warnings.push(warning(None, message, cause));
        }
    }
    if spec.suspend.as_ref().and_then(|suspend| suspend.until).is_some_and(|until| until <= at) {
        let message = format!("the suspension of {} is over", declared.name);
        warnings.push(warning(suspend_at.as_ref(), message, "remove it when it is no longer needed"));
    }
    if spec.override_.as_ref().is_some_and(|over| !over.holds(at)) {
        let message = format!("the override of {} is over", declared.name);
        warnings.push(warning(override_at.as_ref(), message, "remove it: it has no effect any more"));
    }
    // One of the apps may not use a shared window.
    if let Some(schedule) = spec.schedule.as_ref().filter(|schedule| schedule.shared.is_none()) {
        for (index, window) in schedule.windows.iter().enumerate() {
            if let Some((what, hint)) = of_window(spec, index, at) {
                let message = format!("window {} ({}) of {} {what}", index + 1, window.span, declared.name);
                warnings.push(warning(windows_at.get(index), message, hint));
            }
        }
    }
    warnings
}

/// The warning about one window, and advice.
fn of_window(spec: &Spec, index: usize, at: Timestamp) -> Option<(&'static str, &'static str)> {
    let schedule = spec.schedule.as_ref()?;
    let window = &schedule.windows[index];
    let both_ways = schedule.windows.iter().any(|window| window.state != spec.state);
    if let Some(warning) = of_span(schedule, index, at) {
        return Some(warning);
    }
    Some(if schedule.windows[index..].iter().all(|window| window.state == spec.state) {
        (
            "has no effect: `state` says the same, and no later window says otherwise",
            "remove it, or change one of the states",
        )
    } else if index == 0 && both_ways && spec.policy == Some(Policy::ObserveOnly) {
        ("has no effect: the policy ObserveOnly forbids every call", "set `policy: Full`, or remove the schedule")
    } else if both_ways && spec.policy == Some(Policy::StopOnly) && window.state == Desired::Running {
        ("cannot start the app: the policy StopOnly forbids it", "set `policy: Full`, or remove the window")
    } else if spec.policy == Some(Policy::StopOnly) && spec.state == Desired::Running {
        (
            "stops the app for good: the policy StopOnly forbids the start afterwards",
            "set `policy: Full`, or start it by hand",
        )
    } else {
        return None;
    })
}

/// The warning about one window, for any state and policy of the app, and advice.
fn of_span(schedule: &Schedule, index: usize, at: Timestamp) -> Option<(&'static str, &'static str)> {
    let span = &schedule.windows[index].span;
    Some(if span.over().is_some_and(|end| end <= schedule.wall(at)) {
        ("is over", "remove it when it is no longer needed")
    } else if schedule.is_skipped(span) {
        ("never decides: the clock skips this time in the night of the change to daylight saving", "move it by an hour")
    } else if schedule.is_shadowed(index, at) {
        ("never decides", "earlier windows cover all of it: move it up, or remove it")
    } else if schedule.is_endless(span, at) {
        ("never ends: it begins again before it is over", "shorten its duration")
    } else if span.has_both_days() {
        (
            "begins on each of the days of the month and on each of the days of the week",
            "cron starts on days that match either field; set one of the two to `*`",
        )
    } else {
        return None;
    })
}

impl Span {
    /// Returns whether a cron pattern restricts both the day of the month and the day of the week.
    fn has_both_days(&self) -> bool {
        match self {
            Self::Cron { cron, .. } => {
                let fields: Vec<&str> = cron.as_str().split_whitespace().collect();
                let restricts = |field: usize| fields.get(field).is_some_and(|text| !text.starts_with(['*', '?']));
                restricts(2) && restricts(4)
            }
            Self::Once { .. } | Self::Recurring { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::load;
    use crate::manifest::store::FileState;

    /// The lines and messages of the warnings about an app in Berlin with these windows.
    #[track_caller]
    fn warned(state: &str, more: &str, windows: &[&str]) -> Vec<String> {
        let head = format!(
            "apiVersion: campos-operator.dev/v1\nkind: App\nmetadata: {{name: a}}\nspec:\n  appId: a1\n  state: {state}\n"
        );
        let windows = windows.iter().fold(String::new(), |all, window| all + "      - {" + window + "}\n");
        let text = format!("{head}  schedule:\n    timeZone: Europe/Berlin\n    windows:\n{windows}{more}");
        let parsed = load::parse(&"a.yaml".into(), text.as_bytes());
        assert_eq!(parsed.diagnostics, []);
        let mut store = Store::new();
        store.apply([("a.yaml".into(), FileState::Read(parsed.into()))]);
        let found = warnings(&store, "2026-11-24T12:00:00Z".parse().unwrap());
        found.iter().map(|warning| format!("{}: {}", warning.line, warning.message)).collect()
    }

    const WEEKEND: &str = "state: Stopped, from: \"Fri 21:00\", to: \"Mon 06:00\"";
    const NIGHT: &str = "state: Stopped, from: \"20:00\", to: \"08:00\"";

    #[test]
    fn labels_that_kubernetes_refuses_are_reported() {
        let text = "apiVersion: campos-operator.dev/v1\nkind: App\nmetadata: {name: a, labels: {team: Ana & Bob, x: ok}}\nspec: {appId: a1, state: Running}\n";
        let mut store = Store::new();
        store.apply([("a.yaml".into(), FileState::Read(load::parse(&"a.yaml".into(), text.as_bytes()).into()))]);
        let found = warnings(&store, "2026-11-24T12:00:00Z".parse().unwrap());
        let messages: Vec<_> = found.iter().map(|warning| &*warning.message).collect();
        assert_eq!(messages, ["Kubernetes would refuse the label `team: Ana & Bob` of a"]);
    }

    #[test]
    fn windows_without_effect_are_reported_at_their_line() {
        let saturday = "state: Running, from: \"2026-11-28T08:00\", to: \"2026-11-28T12:00\"";
        let case = |windows: &[&str], expected: &[&str]| {
            let warned = warned("Running", "", windows);
            assert_eq!(warned.len(), expected.len(), "{warned:?}");
            assert!(warned.iter().zip(expected).all(|(warned, part)| warned.contains(part)), "{warned:?}");
        };
        case(&[WEEKEND, saturday], &["11: window 2 (2026-11-28 08:00-2026-11-28 12:00) of a never decides"]);
        case(&[saturday, WEEKEND], &[]);
        case(&[NIGHT, "state: Running, cron: \"0 22 * * *\", duration: 1h"], &["11: window 2"]);
        case(&[NIGHT, "state: Running, cron: \"0 19 * * *\", duration: 2h", WEEKEND], &[]);
        case(&[NIGHT, "state: Running, from: \"22:00\", to: \"06:00\", days: Mon-Thu", WEEKEND], &["11: window 2"]);
        case(
            &["state: Stopped, from: \"2026-11-01T00:00\", to: \"2026-11-24T09:00\""],
            &["10: window 1 (2026-11-01 00:00-2026-11-24 09:00) of a is over"],
        );
        case(
            &["state: Stopped, from: \"2099-03-29T02:10\", to: \"2099-03-29T02:50\""],
            &["10: window 1 (2099-03-29 02:10-2099-03-29 02:50) of a never decides: the clock skips"],
        );
        case(&["state: Stopped, from: \"2099-03-29T02:10\", to: \"2099-03-29T03:10\""], &[]);
        case(&["state: Running, from: \"20:00\", to: \"21:00\""], &["has no effect"]);
        case(&["state: Running, from: \"20:00\", to: \"21:00\"", WEEKEND], &[]);
        case(&["state: Stopped, cron: \"0 * * * *\", duration: 2h"], &["never ends"]);
        case(&["state: Stopped, cron: \"0 0 1 * 1\", duration: 2h"], &["each of the days of the month"]);
    }

    #[test]
    fn policies_that_forbid_the_other_half_are_reported() {
        assert!(warned("Running", "  policy: StopOnly\n", &[NIGHT])[0].contains("for good"));
        let day = "state: Running, from: \"08:00\", to: \"20:00\"";
        assert!(warned("Stopped", "  policy: StopOnly\n", &[day])[0].contains("cannot start the app"));
        assert!(warned("Running", "  policy: ObserveOnly\n", &[NIGHT])[0].contains("forbids every call"));
        assert_eq!(warned("Running", "  policy: Full\n", &[NIGHT]), [] as [&str; 0]);
    }

    #[test]
    fn a_shared_schedule_is_doubted_at_its_own_place() {
        let schedule = "apiVersion: campos-operator.dev/v1\nkind: Schedule\nmetadata: {name: office}\nspec:\n  timeZone: UTC\n  windows:\n  - {state: Stopped, from: \"2026-01-01T00:00\", to: \"2026-01-02T00:00\"}\n  except:\n  - {calendar: a.ics, state: Stopped}\n";
        let event = |day: &str| format!("BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:{day}\nEND:VEVENT\nEND:VCALENDAR\n");
        let warned = |day: &str| {
            let file = |name: &str, text: &str| {
                let name: Arc<str> = name.into();
                (name.clone(), FileState::Read(load::parse(&name, text.as_bytes()).into()))
            };
            let mut store = Store::new();
            store.apply([file("office.yaml", schedule), file("a.ics", &event(day))]);
            let found = warnings(&store, "2026-11-24T12:00:00Z".parse().unwrap());
            found.iter().map(|warning| format!("{}: {}", warning.location(), warning.message)).collect::<Vec<_>>()
        };
        let over = "office.yaml:7:5: window 1 (2026-01-01 00:00-2026-01-02 00:00) of the Schedule office is over";
        let empty = "office.yaml:9:16: the calendar a.ics of the Schedule office has no more events";
        assert_eq!(warned("20261123"), [over, empty]);
        assert_eq!(warned("20261124"), [over]);
    }

    #[test]
    fn a_suspension_that_is_over_is_reported_at_its_line() {
        let over = "  suspend: {until: \"2026-11-24T12:00:00Z\"}\n";
        assert_eq!(warned("Running", over, &[NIGHT]), ["11: the suspension of a is over"]);
        assert_eq!(warned("Running", &over.replace("12:00", "12:01"), &[NIGHT]), [] as [&str; 0]);
    }

    #[test]
    fn an_approval_that_is_over_is_reported_at_its_line() {
        let warned = |until: &str| {
            let text = format!(
                "apiVersion: campos-operator.dev/v1\nkind: Approval\nmetadata: {{name: sale}}\nspec:\n  plan: 7f3a9c01b2d4\n  until: {until}\n"
            );
            let mut store = Store::new();
            store.apply([("a.yaml".into(), FileState::Read(load::parse(&"a.yaml".into(), text.as_bytes()).into()))]);
            let found = warnings(&store, "2026-11-24T12:00:00Z".parse().unwrap());
            found.iter().map(|warning| format!("{}: {}", warning.location(), warning.message)).collect::<Vec<_>>()
        };
        assert_eq!(warned("2026-11-24T12:00:00Z"), ["a.yaml:6:10: the approval sale is over"]);
        assert_eq!(warned("2026-11-24T12:00:01Z"), [""; 0]);
    }

    #[test]
    fn an_override_that_is_over_is_reported_at_its_line() {
        let over = "  override: {state: Running, until: \"2026-11-24T12:00:00Z\"}\n";
        assert_eq!(warned("Running", over, &[NIGHT]), ["11: the override of a is over"]);
        assert_eq!(warned("Running", &over.replace("12:00", "12:01"), &[NIGHT]), [] as [&str; 0]);
    }
}
