//! A model of the source of manifests: files by name, judged by the same store as real ones.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use campos_operator::manifest::store::{FileState, Store};
use campos_operator::manifest::{example, load};
use campos_operator::reconcile::app::{AppId, AppName};
use campos_operator::reconcile::desired::{Declared, Policy, Text, Validity};
use campos_operator::reconcile::state::Action;
use campos_operator::reconcile::state::Desired;
use campos_operator::source::{SourceReport, Update};
use jiff::Timestamp;

/// The manifests on the pretend disk.
#[derive(Debug, Default)]
pub(crate) struct Files {
    texts: BTreeMap<String, String>,
    store: Store,
    /// Files that a process is writing to: no call is sent for their older objects.
    writing: BTreeSet<String>,
}

/// Annotation of a manifest by [`timed`]: the times of its window, for an oracle that does not use the code under test.
const TIMES: &str = "sim.test/times";

/// The calls that the manifests justify, by app.
pub(crate) type Justified = HashMap<AppId, Rule>;

/// The calls that one manifest justifies, by the time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rule {
    state: Desired,
    policy: Policy,
    /// The end of the suspension; the greatest timestamp for one without an end.
    suspended_until: Option<Timestamp>,
    /// A window with a state of its own: from, to.
    window: Option<(Timestamp, Timestamp, Desired)>,
    /// The state of the Schedule that it refers to, whose window has no end.
    shared: Option<Desired>,
    /// The override: its state and its end.
    over: Option<(Desired, Timestamp)>,
}

impl Rule {
    pub(crate) fn at(&self, wall: Timestamp) -> Option<Action> {
        let window = self.window.filter(|(from, to, _)| *from <= wall && wall < *to);
        let over = self.over.filter(|(_, until)| wall < *until).map(|(state, _)| state);
        let desired = over.or(window.map(|(.., state)| state)).or(self.shared).unwrap_or(self.state);
        let suspended = self.suspended_until.is_some_and(|until| wall < until);
        let allowed = match self.policy {
            Policy::Full => true,
            Policy::StopOnly => desired == Desired::Stopped,
            Policy::ObserveOnly => false,
        };
        (allowed && !suspended).then(|| Action::toward(desired))
    }
}

impl Files {
    /// Changes files, all at once; `None` removes one. Returns what the source says then.
    pub(crate) fn change(&mut self, changes: Vec<(String, Option<String>)>) -> Update {
        let texts: Vec<_> = changes.iter().flat_map(|(name, _)| self.end_write(name)).collect();
        let batch: Vec<_> = changes
            .into_iter()
            .map(|(name, text)| {
                let key: Arc<str> = name.as_str().into();
                let state = match &text {
                    Some(text) => FileState::Read(Arc::new(load::parse(&key, text.as_bytes()))),
                    None => FileState::Gone,
                };
                match text {
                    Some(text) => self.texts.insert(name, text),
                    None => self.texts.remove(&name),
                };
                (key, state)
            })
            .collect();
        let changes = self.store.apply(batch);
        Update { changed: changes.changed, removed: changes.removed, texts, source: self.report(true) }
    }

    /// A process begins to write to a file, in place: its text is half written until the next change of the file.
    pub(crate) fn begin_write(&mut self, name: &str) -> Update {
        self.writing.insert(name.to_owned());
        let texts = self.store.members(name).map(|app| (app.clone(), Text::BeingWritten)).collect();
        Update { changed: Vec::new(), removed: Vec::new(), texts, source: self.report(true) }
    }

    /// Every file is closed as it was.
    pub(crate) fn end_writes(&mut self) -> Update {
        let names: Vec<String> = self.writing.iter().cloned().collect();
        let texts = names.iter().flat_map(|name| self.end_write(name)).collect();
        Update { changed: Vec::new(), removed: Vec::new(), texts, source: self.report(true) }
    }

    fn end_write(&mut self, name: &str) -> Vec<(AppName, Text)> {
        let written = self.writing.remove(name);
        self.store.members(name).filter(|_| written).map(|app| (app.clone(), Text::Stable)).collect()
    }

    /// The directory went away, or came back.
    pub(crate) fn available(&self, available: bool) -> Update {
        Update { changed: Vec::new(), removed: Vec::new(), texts: Vec::new(), source: self.report(available) }
    }

    /// The first update of a source after its start, without last good versions.
    pub(crate) fn begin_again(&mut self) -> Update {
        self.store = Store::new();
        self.writing.clear();
        let texts: Vec<_> = self.texts.clone().into_iter().map(|(name, text)| (name, Some(text))).collect();
        let mut update = self.change(texts);
        update.changed = self.store.declared();
        update
    }

    pub(crate) fn declared(&self) -> Vec<Arc<Declared>> {
        self.store.declared()
    }

    /// The calls that the manifests justify, derived from the specs and not by the operator's own decision.
    pub(crate) fn justified(&self) -> Justified {
        let rule = |declared: &Arc<Declared>| {
            let spec = declared.spec().filter(|_| !matches!(declared.validity, Validity::Conflicting { .. }))?;
            if self.writing.contains(&*declared.place.file) {
                return None;
            }
            let times = declared.object.as_ref().and_then(|object| object.annotations.get(TIMES));
            let window = times.map(|times| {
                let [from, to, state] = times.split(' ').collect::<Vec<_>>().try_into().unwrap();
                let state = if state == "Running" { Desired::Running } else { Desired::Stopped };
                (from.parse().unwrap(), to.parse().unwrap(), state)
            });
            let suspended_until = spec.suspend.as_ref().map(|suspend| suspend.until.unwrap_or(Timestamp::MAX));
            let policy = spec.policy.unwrap_or(Policy::Full);
            let shared = spec.schedule.as_ref().filter(|schedule| schedule.shared.is_some());
            let shared = shared.map(|schedule| schedule.windows[0].state);
            let over = spec.override_.as_ref().map(|over| (over.state, over.until));
            Some((spec.app_id.clone(), Rule { state: spec.state, policy, suspended_until, window, shared, over }))
        };
        self.store.declared().iter().filter_map(rule).collect()
    }

    fn report(&self, available: bool) -> SourceReport {
        SourceReport {
            available,
            cause: (!available).then(|| "unmounted".into()),
            loaded: true,
            revision: "simulated".into(),
            files: self.texts.len(),
            ..SourceReport::default()
        }
    }
}

/// A sound manifest.
pub(crate) fn manifest(name: &str, id: &str, state: &str, more: &str) -> String {
    example(name, id, state) + more
}

/// A Schedule with one window, which began long ago.
pub(crate) fn schedule(state: &str) -> String {
    format!(
        "apiVersion: campos-operator.dev/v1\nkind: Schedule\nmetadata: {{name: office}}\nspec:\n  timeZone: UTC\n  windows: [{{state: {state}, from: \"2026-01-01T00:00:00\"}}]\n"
    )
}

/// A sound manifest with a window from one moment to another.
pub(crate) fn timed(name: &str, id: &str, state: &str, window: &str, from: Timestamp, to: Timestamp) -> String {
    let (local_from, local_to) = (from.to_string(), to.to_string());
    let (local_from, local_to) = (local_from.trim_end_matches('Z'), local_to.trim_end_matches('Z'));
    let span = format!("{{state: {window}, from: \"{local_from}\", to: \"{local_to}\"}}");
    let schedule = format!("  schedule:\n    timeZone: UTC\n    windows: [{span}]\n");
    let annotated = format!("{name}\n  annotations: {{{TIMES}: \"{from} {to} {window}\"}}");
    manifest(&annotated, id, state, &schedule)
}
