//! The manifest as written: one set of types that the reader fills, and that yields the JSON Schema.
//!
//! `reader` fills the types, and reports all invalid values. The conversion to the types of the core checks rules that no
//! type can express: the form of a name, of an id, of a time, of a window.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::diagnostic::{Mark, nearest};
use super::foreign::{Foreign, foreign};
use super::hints;
pub use super::hints::as_name;
use super::reader::{Reader, quoted};
use super::restarts::Restart;
use super::windows::{Draft, Schedule, SharedSchedule};
use super::yaml::{self, Finding, Node, Value};
use crate::reconcile::app::{AppId, AppName};
use crate::reconcile::desired::{self, Object, Place, Policy, Suspension};
use crate::reconcile::max_changes::{Approval, PlanId};
use crate::reconcile::state::Desired;

/// The `apiVersion` of every manifest.
pub const API_VERSION: &str = "campos-operator.dev/v1";
/// The `kind` of every manifest.
pub const KIND: &str = "App";
/// The `kind` of a document with several manifests.
pub(super) const LIST_KIND: &str = "AppList";
/// The `kind` of shared windows.
pub(super) const SCHEDULE_KIND: &str = "Schedule";
/// The `kind` of an approval of a plan.
pub(super) const APPROVAL_KIND: &str = "Approval";
/// All kinds.
pub const KINDS: [&str; 4] = [KIND, SCHEDULE_KIND, APPROVAL_KIND, LIST_KIND];

/// A manifest of campos-operator: the desired state of one app on CamposCloud.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "a manifest", rename_all = "camelCase")]
#[schemars(rename = "App")]
pub struct Manifest<'a> {
    /// Always campos-operator.dev/v1.
    #[schemars(with = "String", extend("const" = API_VERSION))]
    pub api_version: ApiVersion,
    /// Always App.
    #[schemars(with = "String", extend("const" = KIND))]
    pub kind: AppKind,
    /// Name, labels and annotations.
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
    /// The desired state and its conditions.
    pub spec: Spec<'a>,
    /// Ignored, so that an object from the status API can be applied again.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub status: IgnoredAny,
}

/// Windows that several apps share: each app refers to them with `scheduleRef`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "a Schedule", rename_all = "camelCase")]
#[schemars(rename = "Schedule")]
pub struct ScheduleManifest<'a> {
    /// Always campos-operator.dev/v1.
    #[schemars(with = "String", extend("const" = API_VERSION))]
    pub api_version: ApiVersion,
    /// Always Schedule.
    #[schemars(with = "String", extend("const" = SCHEDULE_KIND))]
    pub kind: ScheduleKind,
    /// Name, labels and annotations.
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
    /// The windows and their exceptions.
    pub spec: SharedSchedule<'a>,
    /// Ignored.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub status: IgnoredAny,
}

/// Approval of one plan: releases the calls that are held because they change too many apps.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "an Approval", rename_all = "camelCase")]
#[schemars(rename = "Approval")]
pub struct ApprovalManifest<'a> {
    /// Always campos-operator.dev/v1.
    #[schemars(with = "String", extend("const" = API_VERSION))]
    pub api_version: ApiVersion,
    /// Always Approval.
    #[schemars(with = "String", extend("const" = APPROVAL_KIND))]
    pub kind: ApprovalKind,
    /// Name, labels and annotations.
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
    /// The plan, and the end of the approval.
    pub spec: ApprovalSpec<'a>,
    /// Ignored.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub status: IgnoredAny,
}

/// The plan, and the end of the approval.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "`spec` of an Approval")]
pub struct ApprovalSpec<'a> {
    /// The id from `plan` or the log: 12 hex digits. Quote an id that YAML would read as a number.
    #[schemars(regex(pattern = r"^[0-9a-f]{12}$"))]
    pub plan: &'a str,
    /// End: RFC 3339, with its zone, such as 2026-12-24T06:00:00Z.
    #[schemars(regex(pattern = RFC_3339))]
    pub until: &'a str,
    /// Reason.
    #[serde(default)]
    #[schemars(with = "String")]
    pub reason: Option<&'a str>,
    /// Author.
    #[serde(default)]
    #[schemars(with = "String")]
    pub by: Option<&'a str>,
}

/// Several manifests in one document, as the status API returns them.
// Each item is read separately.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "a list of apps", rename_all = "camelCase")]
#[schemars(rename = "AppList")]
#[expect(dead_code, reason = "read to find mistakes; the items are read from the tree")]
pub(super) struct ManifestList {
    #[schemars(with = "String", extend("const" = API_VERSION))]
    api_version: ApiVersion,
    #[schemars(with = "String", extend("const" = LIST_KIND))]
    kind: ListKind,
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    metadata: IgnoredAny,
    #[schemars(with = "Vec<serde_json::Value>")]
    items: Vec<IgnoredAny>,
}

/// Objects in one document, as `kubectl get -o yaml` writes them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "a list", rename_all = "camelCase")]
#[schemars(rename = "List")]
#[expect(dead_code, reason = "read to find mistakes; the items are read from the tree")]
pub(super) struct KubernetesList {
    #[schemars(with = "String", extend("const" = "v1"))]
    api_version: IgnoredAny,
    #[schemars(with = "String", extend("const" = "List"))]
    kind: IgnoredAny,
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    metadata: IgnoredAny,
    #[schemars(with = "Vec<serde_json::Value>")]
    items: Vec<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
pub enum ApiVersion {
    #[serde(rename = "campos-operator.dev/v1")]
    V1,
}

#[derive(Debug, Deserialize)]
pub enum AppKind {
    App,
}

#[derive(Debug, Deserialize)]
pub enum ScheduleKind {
    Schedule,
}

#[derive(Debug, Deserialize)]
pub enum ApprovalKind {
    Approval,
}

#[derive(Debug, Deserialize)]
enum ListKind {
    AppList,
}

/// Name, labels and annotations.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "`metadata`", rename_all = "camelCase")]
pub struct Metadata<'a> {
    /// A DNS-1123 label, unique among the manifests: lower-case letters, digits and '-', at most 63.
    #[schemars(regex(pattern = NAME))]
    pub name: &'a str,
    /// Labels to select apps. Values are text: quote numbers and words such as yes.
    #[serde(borrow)]
    pub labels: Option<BTreeMap<&'a str, &'a str>>,
    /// Notes. Values are text: quote numbers and words such as yes.
    #[serde(borrow)]
    pub annotations: Option<BTreeMap<&'a str, &'a str>>,
    // The status API writes `generation`, and Kubernetes (`kubectl get -o yaml`) the rest. All of it is ignored.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub generation: IgnoredAny,
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub creation_timestamp: IgnoredAny,
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub deletion_grace_period_seconds: IgnoredAny,
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub deletion_timestamp: IgnoredAny,
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub finalizers: IgnoredAny,
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub generate_name: IgnoredAny,
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub managed_fields: IgnoredAny,
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub namespace: IgnoredAny,
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub owner_references: IgnoredAny,
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub resource_version: IgnoredAny,
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub self_link: IgnoredAny,
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub uid: IgnoredAny,
}

/// The desired state and its conditions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "`spec`", rename_all = "camelCase")]
#[schemars(transform = one_schedule)]
pub struct Spec<'a> {
    /// The _id of the app on CamposCloud, unique among the manifests. Quote an id that YAML would read as a number.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,128}$"))]
    pub app_id: &'a str,
    /// The desired state of the app.
    pub state: Desired,
    /// Allowed calls; the stricter of this policy and --policy of the daemon applies.
    #[serde(default)]
    #[schemars(with = "Policy")]
    pub policy: Option<Policy>,
    /// Suspends the app: the operator observes and reports it, and sends no call. true, or a reason and an end.
    #[serde(borrow, default)]
    #[schemars(with = "Suspend")]
    pub suspend: Option<Suspend<'a>>,
    /// Another desired state until a time; takes precedence over `schedule` and `state`.
    #[serde(borrow, default, rename = "override")]
    #[schemars(with = "Override")]
    pub override_: Option<Override<'a>>,
    /// Windows of time with another desired state.
    #[serde(borrow, default)]
    #[schemars(with = "Schedule")]
    pub schedule: Option<Schedule<'a>>,
    /// The name of a Schedule, instead of `schedule`.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = NAME))]
    pub schedule_ref: Option<&'a str>,
    /// Restarts of the app while it is running: at a time, by a pattern, or when the platform reports that it needs one.
    #[serde(borrow, default)]
    #[schemars(with = "Restart")]
    pub restart: Option<Restart<'a>>,
}

/// Form of a name, for editors.
const NAME: &str = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";

/// `schedule` and `scheduleRef` exclude each other.
fn one_schedule(schema: &mut Schema) {
    schema.insert("not".to_owned(), serde_json::json!({"required": ["schedule", "scheduleRef"]}));
}

/// A suspension with a reason, an end, or both.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "`suspend`")]
#[schemars(extend("minProperties" = 1), transform = or_bool)]
pub struct Suspend<'a> {
    /// Reason.
    #[serde(default)]
    #[schemars(with = "String")]
    pub reason: Option<&'a str>,
    /// End of the suspension: RFC 3339, with its zone, such as 2026-12-24T06:00:00Z.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = RFC_3339))]
    pub until: Option<&'a str>,
}

/// Another desired state until a time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "`override`")]
pub struct Override<'a> {
    /// The desired state until the end.
    pub state: Desired,
    /// End: RFC 3339, with its zone, such as 2026-12-24T06:00:00Z.
    #[schemars(regex(pattern = RFC_3339))]
    pub until: &'a str,
    /// Reason.
    #[serde(default)]
    #[schemars(with = "String")]
    pub reason: Option<&'a str>,
    /// Author.
    #[serde(default)]
    #[schemars(with = "String")]
    pub by: Option<&'a str>,
}

/// Pattern of a time, for editors that support patterns but not formats.
pub(super) const RFC_3339: &str = r"^[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|[12][0-9]))[Tt ]([01][0-9]|2[0-3]):[0-5][0-9](:([0-5][0-9]|60)([.,][0-9]{1,9})?)?([Zz]|[+-]([01][0-9]|2[0-5])(:?[0-5][0-9](:?[0-5][0-9])?)?)$";

/// `true` is the map without entries, `false` is no map (see `Reader`).
fn or_bool(schema: &mut Schema) {
    let plain = json_schema!({"description": "Until further notice, or not at all.", "type": "boolean"});
    *schema = json_schema!({"oneOf": [plain, schema.clone()]});
}

/// The content of one valid document.
pub(super) enum Item {
    App(Object, Option<Reference>),
    Schedule(Draft),
    /// Without the name of its file, and the place of `spec.until`.
    Approval(Approval, Mark),
}

/// The kind of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    App,
    Schedule,
    Approval,
}

/// `spec.scheduleRef` of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub name: AppName,
    pub at: Mark,
}

/// The readable parts of one object.
pub(super) struct Reading {
    pub(super) at: Mark,
    pub(super) kind: Kind,
    /// `metadata.name`, if it can be read.
    pub(super) name: Option<AppName>,
    /// Place of the name, otherwise of the object.
    pub(super) name_at: Mark,
    /// Place of `spec.appId`, otherwise of the object.
    pub(super) app_id_at: Mark,
    /// Places of `spec.suspend`, of `spec.override` and of each window, for warnings.
    pub(super) suspend_at: Option<Mark>,
    pub(super) override_at: Option<Mark>,
    pub(super) windows_at: Box<[Mark]>,
    /// The complete object, if it has no error.
    pub(super) item: Option<Item>,
    /// All errors, in the order of the text.
    pub(super) findings: Vec<Finding>,
    /// Set for a foreign document.
    pub(super) foreign: Option<Foreign>,
}

impl Reading {
    pub(super) fn nothing(at: Mark, findings: Vec<Finding>) -> Self {
        Self {
            at,
            kind: Kind::App,
            name: None,
            name_at: at,
            app_id_at: at,
            suspend_at: None,
            override_at: None,
            windows_at: Box::default(),
            item: None,
            findings,
            foreign: None,
        }
    }
}

impl Reading {
    /// Takes the result of `reader`: a document with errors has no value.
    fn checked(mut self, reader: Reader) -> Self {
        self.findings = reader.into_findings();
        self.item = self.item.filter(|_| self.findings.is_empty());
        self
    }
}

/// Reads the tree of one document: one object, or each item of a list of apps. An error in one item does not affect the
/// others.
pub(super) fn read(root: &Node) -> Vec<Reading> {
    let says = |field: &str, word: &str| root.get(field).is_some_and(|node| node.says(word));
    // As `kubectl get -o yaml` writes it.
    let of_kubernetes = says("kind", "List") && says("apiVersion", "v1");
    if !says("kind", LIST_KIND) && !of_kubernetes {
        return vec![read_object(root)];
    }
    let reader = Reader::default();
    if of_kubernetes {
        reader.read::<KubernetesList>(root);
    } else {
        reader.read::<ManifestList>(root);
    }
    let findings = reader.into_findings();
    let items = match root.get("items").map(|items| &items.value) {
        Some(Value::List(items)) => &**items,
        Some(Value::Scalar { .. } | Value::Map(_)) | None => &[],
    };
    let mut readings: Vec<Reading> = items.iter().map(read_object).collect();
    if !findings.is_empty() {
        // An error of the list itself concerns all items; none of them is in force.
        for item in &mut readings {
            item.item = None;
        }
        readings.insert(0, Reading::nothing(root.at, findings));
    }
    readings
}

fn read_object(root: &Node) -> Reading {
    if let Some(foreign) = foreign(root) {
        return Reading { foreign: Some(foreign), ..Reading::nothing(root.at, Vec::new()) };
    }
    if let Some(finding) = not_a_manifest(root) {
        return Reading::nothing(root.at, vec![finding]);
    }
    if root.get("kind").is_some_and(|kind| kind.says(SCHEDULE_KIND)) {
        return read_schedule(root);
    }
    if root.get("kind").is_some_and(|kind| kind.says(APPROVAL_KIND)) {
        return read_approval(root);
    }
    let reader = Reader::default();
    let mut reading = Reading::nothing(root.at, Vec::new());
    if let Some(Manifest { metadata, spec, .. }) = reader.read(root) {
        let node = |map: &str, field: &str| root.get(map)?.get(field);
        let (name_node, app_id_node) = (node("metadata", "name"), node("spec", "appId"));
        let name = reader.check(name_node, app_name(metadata.name));
        let app_id = reader.check(app_id_node, app_id(spec.app_id));
        let suspend = spec.suspend.map(|suspend| Suspension {
            reason: suspend.reason.map(Into::into),
            until: suspend
                .until
                .and_then(|until| reader.check(node("spec", "suspend")?.get("until"), moment("until", until))),
        });
        let override_ = spec.override_.and_then(|over| {
            let until = reader.check(node("spec", "override")?.get("until"), moment("until", over.until))?;
            let (reason, by) = (over.reason.map(Into::into), over.by.map(Into::into));
            Some(desired::Override { state: over.state, until, reason, by })
        });
        let schedule = spec.schedule.and_then(|schedule| schedule.read(node("spec", "schedule")?, &reader));
        let restart = spec.restart.and_then(|restart| restart.read(node("spec", "restart")?, &reader));
        let reference = spec.schedule_ref.and_then(|name| {
            let at = node("spec", "scheduleRef");
            if node("spec", "schedule").is_some() {
                let both = Finding::new(Mark::START, "`schedule` and `scheduleRef` exclude each other");
                return reader.check(at, Err(both.hint("keep one of them")));
            }
            Some(Reference { name: reader.check(at, app_name(name))?, at: at?.at })
        });
        let at = |node: Option<&Node>, read: bool| node.filter(|_| read).map_or(root.at, |node| node.at);
        reading.name_at = at(name_node, name.is_some());
        reading.app_id_at = at(app_id_node, app_id.is_some());
        reading.suspend_at = node("spec", "suspend").map(|node| node.at);
        reading.override_at = node("spec", "override").map(|node| node.at);
        if let Some(Value::List(windows)) = node("spec", "schedule").and_then(|node| Some(&node.get("windows")?.value))
        {
            reading.windows_at = windows.iter().map(|window| window.at).collect();
        }
        reading.name.clone_from(&name);
        let object = name.zip(app_id).map(|(name, app_id)| Object {
            name,
            labels: metadata.labels.unwrap_or_default().into(),
            annotations: metadata.annotations.unwrap_or_default().into(),
            spec: desired::Spec {
                app_id,
                state: spec.state,
                override_,
                policy: spec.policy,
                suspend,
                schedule: schedule.map(Arc::new),
                restart: restart.map(Arc::new),
            },
        });
        reading.item = object.map(|object| Item::App(object, reference));
    }
    reading.checked(reader)
}

fn read_schedule(root: &Node) -> Reading {
    let reader = Reader::default();
    let mut reading = Reading { kind: Kind::Schedule, ..Reading::nothing(root.at, Vec::new()) };
    if let Some(ScheduleManifest { metadata, spec, .. }) = reader.read(root) {
        let name_node = root.get("metadata").and_then(|metadata| metadata.get("name"));
        reading.name = reader.check(name_node, app_name(metadata.name));
        reading.name_at = name_node.map_or(root.at, |node| node.at);
        reading.item = root.get("spec").and_then(|node| spec.read(node, &reader)).map(Item::Schedule);
    }
    reading.checked(reader)
}

fn read_approval(root: &Node) -> Reading {
    let reader = Reader::default();
    let mut reading = Reading { kind: Kind::Approval, ..Reading::nothing(root.at, Vec::new()) };
    if let Some(ApprovalManifest { metadata, spec, .. }) = reader.read(root) {
        let node = |map: &str, field: &str| root.get(map)?.get(field);
        let name = reader.check(node("metadata", "name"), app_name(metadata.name));
        let plan = reader.check(node("spec", "plan"), plan(spec.plan));
        let until = reader.check(node("spec", "until"), moment("until", spec.until));
        let place = Place { file: "".into(), line: root.at.line };
        let (reason, by) = (spec.reason.map(Into::into), spec.by.map(Into::into));
        let until_at = node("spec", "until").map_or(root.at, |node| node.at);
        reading.item = name
            .zip(plan)
            .zip(until)
            .map(|((name, plan), until)| Item::Approval(Approval { name, plan, until, reason, by, place }, until_at));
    }
    reading.checked(reader)
}

/// The error of a document that is no manifest; errors of single fields would not help.
fn not_a_manifest(root: &Node) -> Option<Finding> {
    let documents = "write one document for each app, separated by lines of `---`";
    match &root.value {
        Value::List(_) => {
            Some(Finding::new(root.at, "a list at the top of a document").fits("a manifest is a map").hint(documents))
        }
        Value::Map(_) => {
            let kind = root.get("kind")?;
            let Value::Scalar { text, .. } = &kind.value else { return None };
            let hint = if kind.says("List") {
                documents.to_owned()
            } else if let Some(meant) = nearest(text, [KIND, SCHEDULE_KIND, APPROVAL_KIND]) {
                format!("did you mean `{meant}`?")
            } else {
                format!("write `kind: {KIND}`, or leave the document out")
            };
            let finding = Finding::new(kind.at, format!("unknown kind {}", quoted(text)));
            let known = text.eq_ignore_ascii_case(KIND) || kind.says(SCHEDULE_KIND) || kind.says(APPROVAL_KIND);
            let fits = format!("expected `{KIND}`, `{SCHEDULE_KIND}` or `{APPROVAL_KIND}`");
            (!known).then(|| finding.fits(fits).hint(hint))
        }
        Value::Scalar { .. } => None,
    }
}

fn plan(text: &str) -> Result<PlanId, Finding> {
    text.parse().map_err(|problem| {
        let finding = Finding::new(Mark::START, format!("`plan` {problem}")).found(quoted(text));
        finding.hint("copy the id from `campos-operator plan`, or from the log")
    })
}

fn app_name(text: &str) -> Result<AppName, Finding> {
    text.parse().map_err(|problem| {
        let finding = Finding::new(Mark::START, format!("the name {problem}")).found(quoted(text));
        match as_name(text) {
            Some(fitting) => finding.hint(format!("`{fitting}` would do")),
            None => finding,
        }
    })
}

fn app_id(text: &str) -> Result<AppId, Finding> {
    text.parse().map_err(|problem| {
        Finding::new(Mark::START, format!("the app id {problem}"))
            .found(quoted(text))
            .hint("copy the app's `_id` from CamposCloud, such as 60c72b2f9b1e8d001c8e4f3a")
    })
}

/// A time with its offset, in the form of RFC 3339.
pub(super) fn moment(field: &str, text: &str) -> Result<Timestamp, Finding> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() > 13 && b"Tt ".contains(&bytes[10]) && bytes[13] == b':' && !text.contains('[');
    let parsed = text.parse::<Timestamp>();
    parsed.clone().ok().filter(|_| shaped).ok_or_else(|| {
        let local = parsed.is_err() && text.parse::<jiff::civil::DateTime>().is_ok();
        Finding::new(Mark::START, format!("`{field}` is not a time"))
            .found(quoted(text))
            .fits("expected RFC 3339, such as 2026-12-24T02:00:00Z")
            .hint(match (local, text.len() > 10) {
                (true, true) => "say in which zone: end it in `Z` or in an offset such as `-03:00`",
                (true, false) => "add a time of day and a zone: `T00:00:00Z`",
                (false, _) => "year-month-dayThour:minute:second, then `Z` or an offset",
            })
    })
}

/// The probable desired state of another word.
pub fn state_meant(typed: &str) -> Option<&'static str> {
    hints::synonym("state", typed).or_else(|| nearest(typed, ["Running", "Stopped"]))
}

/// Returns whether a YAML reader may read an unquoted text as another type.
pub fn is_ambiguous(text: &str) -> bool {
    yaml::is_ambiguous(text)
}

/// Returns whether a word of letters, digits, `_` and `-` must be quoted to be text in YAML.
pub fn text_needs_quotes(word: &str) -> bool {
    is_ambiguous(word) || !word.starts_with(|c: char| c.is_ascii_alphanumeric())
}
