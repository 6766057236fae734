//! Warnings about valid manifests that are probably mistakes. They have no effect on what is in force.

use std::sync::Arc;

use jiff::Timestamp;

use super::diagnostic::{Diagnostic, Severity};
use crate::reconcile::desired::Declared;

/// Warns about windows that never decide, and about windows that are over at `at`.
pub fn doubts(declared: &[Arc<Declared>], at: Timestamp) -> Vec<Diagnostic> {
    declared.iter().flat_map(|declared| of_one(declared, at)).collect()
}

fn of_one(declared: &Declared, at: Timestamp) -> Vec<Diagnostic> {
    let Some(schedule) = declared.spec().and_then(|spec| spec.schedule.as_ref()) else { return Vec::new() };
    let shadowed = schedule.shadowed();
    let now = schedule.wall(at);
    let doubt = |index: usize| {
        let window = &schedule.windows[index];
        let named = format!("window {} ({}) of {}", index + 1, window.span, declared.name);
        let over = window.span.over().filter(|end| *end <= now);
        let (message, hint) = if shadowed.contains(&index) {
            (format!("{named} never decides"), "earlier windows cover all of it: move it up, or remove it")
        } else if over.is_some() {
            (format!("{named} is over"), "remove it when it is no longer needed")
        } else {
            return None;
        };
        let mut doubt = Diagnostic::about_file(&declared.place.file, message, Some(hint));
        (doubt.severity, doubt.line, doubt.column) = (Severity::Warning, declared.place.line, 1);
        Some(doubt)
    };
    (0..schedule.windows.len()).filter_map(doubt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::source::load_text;

    #[test]
    fn windows_without_effect_are_reported() {
        let text = "\
apiVersion: campos-operator.dev/v1
kind: App
metadata: {name: a}
spec:
  appId: a1
  state: Running
  schedule:
    timeZone: America/Sao_Paulo
    windows:
      - {state: Stopped, from: \"2026-11-01T00:00\", to: \"2026-11-24T09:00\"}
      - {state: Stopped, from: \"20:00\", to: \"08:00\"}
      - {state: Running, from: \"22:00\", to: \"06:00\", days: Mon-Thu}
      - {state: Running, from: \"06:00\", to: \"09:00\", days: Mon-Thu}
";
        let (declared, diagnostics) = load_text(&Arc::from("a.yaml"), text.as_bytes());
        assert_eq!(diagnostics, []);
        let told = |at: &str| {
            let doubts = doubts(&declared, at.parse().unwrap());
            doubts.iter().map(|doubt| doubt.message.to_string()).collect::<Vec<_>>()
        };
        let shadowed = "window 3 (Mon-Thu 22:00-06:00) of a never decides";
        assert_eq!(told("2026-11-24T11:59:00Z"), [shadowed]);
        assert_eq!(
            told("2026-11-24T12:00:00Z"),
            ["window 1 (2026-11-01 00:00-2026-11-24 09:00) of a is over", shadowed]
        );
    }
}
