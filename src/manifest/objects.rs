//! Objects of an API to `Declared`: the same reader as for files, with field paths instead of lines.
//!
//! Pure. Each object is rendered as JSON with one value for each line, so that the line of an error identifies its
//! field. Its file in the store is its resource and name, such as `apps/ticket-bot`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::diagnostic::{Diagnostic, Mark};
use super::load::{self, Content, ParsedFile};
use super::schema::{API_VERSION, APPROVAL_KIND, KIND, SCHEDULE_KIND};
use super::store::{Changes, FileState, Store};
use crate::source::{SourceReport, Update};

/// The resources, with the kind of each.
pub const RESOURCES: [(&str, &str); 3] = [("apps", KIND), ("schedules", SCHEDULE_KIND), ("approvals", APPROVAL_KIND)];

/// Maximum number of problems in a report.
const PROBLEMS: usize = 100;
/// No line, because the message names the field.
const NOWHERE: Mark = Mark { line: 0, column: 0, length: 0 };
/// Annotation with the copy of the object that `kubectl apply` keeps.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// All objects of the API, and their declarations.
#[derive(Debug, Default)]
pub struct Objects {
    store: Store,
    /// Names of the objects of each resource.
    names: BTreeMap<&'static str, BTreeSet<Arc<str>>>,
    batch: BTreeMap<Arc<str>, FileState>,
}

impl Objects {
    /// The number of objects of a resource.
    pub fn count(&self, resource: &'static str) -> usize {
        self.names.get(resource).map_or(0, BTreeSet::len)
    }

    /// Takes an object that is new or changed; `metadata` and `spec` are those of the stored object.
    pub fn put(&mut self, resource: &'static str, name: &str, object: &Value) {
        let file: Arc<str> = format!("{resource}/{name}").into();
        self.names.entry(resource).or_default().insert(name.into());
        let state = FileState::Read(Arc::new(read(&file, resource, object)));
        self.batch.insert(file, state);
    }

    /// Takes the deletion of an object.
    pub fn remove(&mut self, resource: &'static str, name: &str) {
        if self.names.entry(resource).or_default().remove(name) {
            self.batch.insert(format!("{resource}/{name}").into(), FileState::Gone);
        }
    }

    /// Takes the deletion of all objects of a resource except `kept`.
    pub fn retain(&mut self, resource: &'static str, kept: &BTreeSet<Arc<str>>) {
        let gone: Vec<Arc<str>> = self.names.entry(resource).or_default().difference(kept).cloned().collect();
        for name in gone {
            self.remove(resource, &name);
        }
    }

    /// The diagnostics of the objects.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        self.store.diagnostics()
    }

    /// Applies the objects, as one change.
    pub fn update(&mut self, at: Timestamp) -> Update {
        let Changes { changed, removed, .. } = self.store.take(std::mem::take(&mut self.batch), at);
        let problems = self.store.diagnostics();
        let errors = problems.iter().filter(|problem| problem.is_error());
        let source = SourceReport {
            objects: self.store.count(),
            others: self.store.schedules().count() + self.store.approvals().count(),
            errors: errors.clone().count(),
            warnings: problems.len() - errors.clone().count(),
            approvals: self.store.approvals().map(|document| document.approval.clone()).collect(),
            problems: errors.take(PROBLEMS).map(|problem| problem.one_line().into()).collect(),
            ..SourceReport::default()
        };
        Update { changed, removed, texts: Vec::new(), source }
    }
}

fn read(file: &Arc<str>, resource: &str, object: &Value) -> ParsedFile {
    let kind = RESOURCES.iter().find(|(one, _)| *one == resource).map_or("", |(_, kind)| kind);
    let mut page = Page::default();
    page.map(
        [("apiVersion", &API_VERSION.into()), ("kind", &kind.into()), ("metadata", &metadata(object))]
            .into_iter()
            .chain(object.get("spec").map(|spec| ("spec", spec))),
        "",
    );
    let mut parsed = load::parse(file, page.text.as_bytes());
    for diagnostic in &mut parsed.diagnostics {
        let field = (diagnostic.line as usize).checked_sub(1).and_then(|line| page.fields.get(line));
        if let Some(field) = field.filter(|field| !field.is_empty()) {
            diagnostic.message = format!("{field}: {}", diagnostic.message).into();
        }
        (diagnostic.line, diagnostic.column, diagnostic.length, diagnostic.excerpt) = (0, 0, 0, None);
    }
    if object["spec"].get("except").is_some() && parsed.schedules.iter().any(|schedule| schedule.content.is_ok()) {
        let hint = "write the events as windows, or keep this Schedule in a directory";
        let message = "spec.except: calendars are files, and the Kubernetes API has none";
        parsed.diagnostics.push(Diagnostic::about_file(file, message, Some(hint)));
        parsed.conclusive = false;
    }
    let cause: Option<Arc<str>> = parsed.diagnostics.iter().find(|one| one.is_error()).map(|one| one.one_line().into());
    for document in &mut parsed.documents {
        document.line = 0;
        (document.name_at, document.app_id_at) = (NOWHERE, NOWHERE);
        (document.suspend_at, document.override_at) = (None, None);
        match (&mut document.content, &cause) {
            (Content::Bad(message), Some(cause)) => *message = cause.clone(),
            (Content::Refers(_, reference), _) => reference.at = NOWHERE,
            (Content::Good(_) | Content::Bad(_), _) => {}
        }
    }
    for schedule in &mut parsed.schedules {
        schedule.name_at = NOWHERE;
        if let Some(cause) = &cause {
            schedule.content = Err(cause.clone());
        }
    }
    for document in &mut parsed.approvals {
        (document.until_at, document.approval.place.line) = (NOWHERE, 0);
    }
    parsed
}

/// The parts of `metadata` that belong to a manifest.
fn metadata(object: &Value) -> Value {
    let mut metadata = serde_json::Map::new();
    for field in ["name", "labels", "annotations"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.remove(LAST_APPLIED);
    }
    metadata.into()
}

/// JSON with one value for each line, and the field of each line.
#[derive(Default)]
struct Page {
    text: String,
    fields: Vec<String>,
}

impl Page {
    fn line(&mut self, text: &str, field: &str) {
        self.text.push_str(text);
        self.text.push('\n');
        self.fields.push(field.to_owned());
    }

    fn map<'a>(&mut self, entries: impl Iterator<Item = (&'a str, &'a Value)>, field: &str) {
        self.line("{", field);
        for (at, (key, value)) in entries.enumerate() {
            let below = if field.is_empty() { key.to_owned() } else { format!("{field}.{key}") };
            let comma = if at == 0 { "" } else { ", " };
            let _ = write!(self.text, "{comma}{}: ", Value::from(key)); // writing to a String cannot fail
            self.value(value, &below);
        }
        self.line("}", field);
    }

    fn value(&mut self, value: &Value, field: &str) {
        match value {
            Value::Object(entries) if !entries.is_empty() => {
                self.map(entries.iter().map(|(key, value)| (&**key, value)), field);
            }
            Value::Array(items) if !items.is_empty() => {
                self.line("[", field);
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        self.text.push_str(", ");
                    }
                    self.value(item, &format!("{field}[{at}]"));
                }
                self.line("]", field);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                self.line(&value.to_string(), field);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::reconcile::app::AppName;
    use crate::reconcile::desired::Validity;

    fn app(name: &str, id: &str, spec: &Value) -> Value {
        let mut object = json!({"metadata": {"name": name, "uid": "x", "labels": {"team": "a"}}, "spec": {"appId": id, "state": "Stopped"}});
        for (field, value) in spec.as_object().unwrap() {
            object["spec"][field] = value.clone();
        }
        object
    }

    fn validity(update: &Update, name: &str) -> String {
        let declared = update.changed.iter().find(|declared| declared.name.as_str() == name).unwrap();
        match &declared.validity {
            Validity::Valid => "sound".into(),
            Validity::Invalid { message, .. } | Validity::Conflicting { message, .. } => message.to_string(),
        }
    }

    fn update(objects: &mut Objects) -> Update {
        objects.update(Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn errors_name_the_field() {
        let zone = |zone: &str| json!({"schedule": {"timeZone": zone, "windows": [{"state": "Running", "from": "22:00", "to": "06:00"}]}});
        let mut objects = Objects::default();
        objects.put("apps", "a", &app("a", "a1", &zone("Mars/Olympus")));
        objects.put("apps", "b", &app("b", "b1", &json!({"sate": "Stopped"})));
        objects.put("apps", "c", &app("c", "c1", &zone("Europe/Berlin")));
        let window = json!({"schedule": {"timeZone": "UTC", "windows": [{"state": "Running", "from": "22:00", "to": "06:00"}, {"state": "Stopped", "from": "Fri"}]}});
        objects.put("apps", "d", &app("d", "d1", &window));
        objects.put(
            "apps",
            "e",
            &app("e", "e1", &json!({"suspend": {"reason": "a \" b \u{1f600}", "until": "tomorrow"}})),
        );
        let update = update(&mut objects);
        assert!(validity(&update, "a").starts_with("apps/a: spec.schedule.timeZone: "), "{}", validity(&update, "a"));
        assert!(validity(&update, "b").starts_with("apps/b: spec.sate: "), "{}", validity(&update, "b"));
        assert_eq!(validity(&update, "c"), "sound");
        assert!(validity(&update, "d").starts_with("apps/d: spec.schedule.windows[1]"), "{}", validity(&update, "d"));
        assert!(validity(&update, "e").starts_with("apps/e: spec.suspend.until: "), "{}", validity(&update, "e"));
        assert_eq!((update.source.objects, update.source.errors), (5, 4), "{:?}", update.source.problems);
    }

    #[test]
    fn an_invalid_edit_keeps_the_last_good_version_and_a_deletion_releases() {
        let mut objects = Objects::default();
        objects.put("apps", "a", &app("a", "a1", &json!({})));
        update(&mut objects);
        objects.put("apps", "a", &app("a", "a1", &json!({"state": "off"})));
        let bad = update(&mut objects);
        assert!(validity(&bad, "a").starts_with("apps/a: spec.state: "), "{}", validity(&bad, "a"));
        assert!(bad.changed[0].spec().is_some());
        objects.remove("apps", "a");
        assert_eq!(update(&mut objects).removed.len(), 1);
        objects.put("apps", "b", &app("b", "b1", &json!({})));
        objects.put("apps", "c", &app("c", "c1", &json!({})));
        update(&mut objects);
        objects.retain("apps", &BTreeSet::from(["c".into()]));
        assert_eq!(update(&mut objects).removed.iter().map(AppName::as_str).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn objects_refer_to_schedules_and_conflict() {
        let mut objects = Objects::default();
        let windows = json!([{"state": "Running", "from": "22:00", "to": "06:00"}]);
        let schedule = json!({"metadata": {"name": "office"}, "spec": {"timeZone": "UTC", "windows": windows}});
        objects.put("apps", "a", &app("a", "a1", &json!({"scheduleRef": "office"})));
        let first = update(&mut objects);
        assert!(validity(&first, "a").starts_with("apps/a: "), "{}", validity(&first, "a"));
        objects.put("schedules", "office", &schedule);
        assert_eq!(validity(&update(&mut objects), "a"), "sound");
        let mut calendar = schedule.clone();
        calendar["spec"]["except"] = json!([{"calendar": "holidays.ics", "state": "Stopped"}]);
        objects.put("schedules", "office", &calendar);
        let refused = update(&mut objects);
        let problems = refused.source.problems.join("\n");
        assert!(problems.contains("schedules/office: spec.except: calendars are files"), "{problems}");
        objects.put("apps", "b", &app("b", "a1", &json!({})));
        let twice = update(&mut objects);
        assert!(validity(&twice, "b").contains("a (apps/a), b (apps/b)"), "{}", validity(&twice, "b"));
    }

    #[test]
    fn approvals_are_read() {
        let mut objects = Objects::default();
        let spec = json!({"plan": "7f3a9c01b2d4", "until": "2099-01-01T00:00:00Z"});
        objects.put("approvals", "x", &json!({"metadata": {"name": "x"}, "spec": spec}));
        assert_eq!(update(&mut objects).source.approvals.len(), 1);
        objects.remove("approvals", "x");
        assert_eq!(update(&mut objects).source.approvals.len(), 0);
    }
}
