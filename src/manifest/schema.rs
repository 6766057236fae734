//! What may be written in a manifest, and what is wrong with one that says something else?
//!
//! The types are the YAML as written; `serde_yaml` fills them, unknown fields being errors. [`read`] fills the same types
//! from the marked tree and finds *everything* that is wrong, each with its place and what would fit. `load` takes a
//! document only if both agree, so neither reader's leniency (a duplicate label, an unquoted number that is taken for
//! text) decides which app is stopped.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, IgnoredAny, MapAccess, Visitor};

use super::diagnostic::{Mark, nearest};
use super::windows::{SCHEDULE, Schedule};
use super::yaml::{Finding, Node, Value, implied};
use crate::reconcile::app::{AppId, AppName, Malformed};
use crate::reconcile::desired::{self, Desired};

/// The `apiVersion` of every manifest.
pub const API_VERSION: &str = "campos-operator.dev/v1";
/// The `kind` of every manifest.
pub const KIND: &str = "App";
/// The `kind` of a document that holds several.
pub(super) const LIST_KIND: &str = "AppList";

/// A manifest of campos-operator: what one app on CamposCloud shall be.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "App")]
pub struct Manifest {
    /// Always campos-operator.dev/v1.
    #[schemars(extend("const" = API_VERSION))]
    pub api_version: String,
    /// Always App.
    #[schemars(extend("const" = KIND))]
    pub kind: String,
    /// Who it is.
    pub metadata: Metadata,
    /// What is asked for.
    pub spec: Spec,
    /// Ignored, so that what the status API exports can be applied again.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub status: IgnoredAny,
}

/// Who it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// A DNS-1123 label, unique among the manifests: lower-case letters, digits and '-', at most 63.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub name: String,
    /// Free, for choosing apps. Values are text: quote numbers and words such as yes.
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
    /// Free notes. Values are text: quote numbers and words such as yes.
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Counted by the daemon and ignored here, so that what the status API exports can be applied again.
    #[serde(default)]
    pub generation: Option<u64>,
}

/// Several manifests in one document, as the status API exports them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ManifestList {
    api_version: String,
    kind: String,
    #[serde(default)]
    metadata: IgnoredAny,
    /// Each to be read as a [`Manifest`].
    pub(super) items: Vec<serde_yaml::Value>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Spec {
    /// The app's _id on CamposCloud, unique among the manifests. Quote one that YAML would read as a number.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,128}$"))]
    pub app_id: String,
    /// What the app shall be.
    pub state: State,
    /// Which calls are allowed for the app; the daemon's --policy also holds, the stricter of the two wins.
    #[serde(default)]
    #[schemars(with = "Policy")]
    pub policy: Option<Policy>,
    /// Hands off: observed and reported, never called. True, or why and until when.
    #[serde(default)]
    #[schemars(with = "Suspend")]
    pub suspend: Option<Suspend>,
    /// Windows of time in which the app shall be something else.
    #[serde(default)]
    #[schemars(with = "Schedule")]
    pub schedule: Option<Schedule>,
}

/// `spec.state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum State {
    /// Online.
    Running,
    /// Not online.
    Stopped,
}

/// `spec.policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Policy {
    /// Stop and start.
    Full,
    /// Stop, but never start.
    StopOnly,
    /// Look and report; never call.
    ObserveOnly,
}

/// `spec.suspend`: `true`, `false`, or who said so and until when.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(untagged, deny_unknown_fields)]
pub enum Suspend {
    /// Until further notice, or not at all.
    Plain(bool),
    /// With a reason, an end, or both.
    #[schemars(extend("minProperties" = 1))]
    Because {
        /// Why.
        #[schemars(default, with = "String")]
        reason: Option<String>,
        /// When it ends by itself: RFC 3339, with its zone, such as 2026-12-24T06:00:00Z.
        #[schemars(default, with = "String", extend("format" = "date-time"), regex(pattern = RFC_3339))]
        until: Option<String>,
    },
}

/// What a moment looks like, for editors that know patterns but not formats.
const RFC_3339: &str = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}.*([Zz]|[+-]\d{2}(:?\d{2})?)$";

// By hand: an untagged enum would lose line and column, and `serde_yaml` would call every mistake in it the same.
impl<'de> Deserialize<'de> for Suspend {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Suspend;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or a map of `reason` and `until`")
            }

            fn visit_bool<E: de::Error>(self, whole: bool) -> Result<Suspend, E> {
                Ok(Suspend::Plain(whole))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Suspend, A::Error> {
                let (mut reason, mut until) = (None, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "reason" if reason.is_some() => return Err(de::Error::duplicate_field("reason")),
                        "until" if until.is_some() => return Err(de::Error::duplicate_field("until")),
                        "reason" => reason = Some(map.next_value()?),
                        "until" => until = Some(map.next_value()?),
                        other => return Err(de::Error::unknown_field(other, &["reason", "until"])),
                    }
                }
                Ok(Suspend::Because { reason, until })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl TryFrom<Manifest> for desired::Object {
    type Error = Malformed;

    fn try_from(manifest: Manifest) -> Result<Self, Malformed> {
        let suspend = match manifest.spec.suspend {
            None | Some(Suspend::Plain(false)) => None,
            Some(Suspend::Plain(true)) => Some(desired::Suspension::default()),
            Some(Suspend::Because { reason, until }) => Some(desired::Suspension {
                reason: reason.map(Into::into),
                // `read` refused whatever is not a time; were it to slip through, a suspension without end is the
                // careful reading.
                until: until.and_then(|until| until.parse().ok()),
            }),
        };
        Ok(Self {
            name: manifest.metadata.name.parse()?,
            labels: manifest.metadata.labels.unwrap_or_default().into(),
            annotations: manifest.metadata.annotations.unwrap_or_default().into(),
            spec: desired::Spec {
                app_id: manifest.spec.app_id.parse()?,
                state: match manifest.spec.state {
                    State::Running => Desired::Running,
                    State::Stopped => Desired::Stopped,
                },
                policy: manifest.spec.policy.map(|policy| match policy {
                    Policy::Full => desired::Policy::Full,
                    Policy::StopOnly => desired::Policy::StopOnly,
                    Policy::ObserveOnly => desired::Policy::ObserveOnly,
                }),
                suspend,
                schedule: manifest.spec.schedule.and_then(|schedule| schedule.read()).map(Into::into),
            },
        })
    }
}

/// What could be read of one document.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The whole of it, if nothing is wrong.
    pub(super) manifest: Option<Manifest>,
    /// `metadata.name`, if that much can be read, whatever else is wrong.
    pub(super) name: Option<(AppName, Mark)>,
    /// Where `spec.appId` stands, if it is one.
    pub(super) app_id_at: Option<Mark>,
    /// Everything that is wrong, in the order of the text.
    pub(super) findings: Vec<Finding>,
}

const TOP: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
const LIST: [&str; 4] = ["apiVersion", "kind", "metadata", "items"];
const METADATA: [&str; 4] = ["name", "labels", "annotations", "generation"];
const SPEC: [&str; 5] = ["appId", "state", "policy", "suspend", "schedule"];
const SUSPEND: [&str; 2] = ["reason", "until"];

/// Reads one document's tree and finds all that is wrong with it.
pub(super) fn read(root: &Node) -> Reading {
    let mut reader = Reader::default();
    let manifest = reader.manifest(root);
    let Reader { mut findings, name, app_id_at, .. } = reader;
    findings.sort_by_key(|finding| finding.at);
    Reading { manifest: manifest.filter(|_| findings.is_empty()), name, app_id_at, findings }
}

/// The items of a list of apps, and what is wrong with the list itself; `None` if the document is something else.
pub(super) fn read_list(root: &Node) -> Option<(Rc<[Node]>, Vec<Finding>)> {
    let Value::Map(entries) = &root.value else { return None };
    let word = |node: &Node, word: &str| matches!(&node.value, Value::Scalar { text, .. } if &**text == word);
    if !entries.iter().any(|(key, value)| word(key, "kind") && word(value, LIST_KIND)) {
        return None;
    }
    let mut reader = Reader::default();
    let mut items: Rc<[Node]> = Rc::default();
    if let Some(fields) = reader.fields(root, root.at, "a list of apps", &LIST) {
        reader.fixed(&fields, "apiVersion", API_VERSION);
        match reader.required(&fields, "items") {
            Some(Node { value: Value::List(nodes), .. }) => items = nodes.clone(),
            Some(node) => reader.report(Finding::new(node.at, "`items` is not a list").found(kind_of(node))),
            None => {}
        }
    }
    Some((items, reader.findings))
}

#[derive(Default)]
pub(super) struct Reader {
    findings: Vec<Finding>,
    /// Fields that a misspelt or misplaced one was meant to be: that they are missing need not be said as well.
    meant: Vec<&'static str>,
    name: Option<(AppName, Mark)>,
    app_id_at: Option<Mark>,
}

/// The entries of one map that are known, each once.
pub(super) struct Fields<'a> {
    pub(super) at: Mark,
    of: &'static str,
    entries: BTreeMap<&'static str, (Mark, &'a Node)>,
}

impl Reader {
    fn manifest(&mut self, root: &Node) -> Option<Manifest> {
        if let Value::List(_) = root.value {
            self.report(
                Finding::new(root.at, "a list at the top of a document")
                    .fits("a manifest is a map")
                    .hint("write one document for each app, separated by lines of `---`"),
            );
            return None;
        }
        let before = self.findings.len();
        let top = self.fields(root, root.at, "a manifest", &TOP)?;
        if let Some(Node { at, value: Value::Scalar { text, .. } }) = top.get("kind")
            && !text.eq_ignore_ascii_case(KIND)
        {
            // Something else altogether: what a manifest would have to say is no help there.
            self.findings.truncate(before);
            let finding = Finding::new(*at, format!("unknown kind {}", quoted(text))).fits(format!("`{KIND}` fits"));
            self.report(if &**text == "List" {
                finding.hint("write one document for each app, separated by lines of `---`")
            } else {
                finding.hint(format!("write `kind: {KIND}`, or move the file out of the directory of manifests"))
            });
            return None;
        }
        let api_version = self.fixed(&top, "apiVersion", API_VERSION);
        let kind = self.fixed(&top, "kind", KIND);
        let metadata = self.required(&top, "metadata").and_then(|node| self.metadata(node, top.at_of("metadata")));
        let spec = self.required(&top, "spec").and_then(|node| self.spec(node, top.at_of("spec")));
        Some(Manifest { api_version: api_version?, kind: kind?, metadata: metadata?, spec: spec?, status: IgnoredAny })
    }

    fn metadata(&mut self, node: &Node, at: Mark) -> Option<Metadata> {
        let fields = self.fields(node, at, "`metadata`", &METADATA)?;
        let name = self.required(&fields, "name").and_then(|node| {
            let text = self.text(node, "name")?;
            match text.parse::<AppName>() {
                Ok(name) => {
                    self.name = Some((name, node.at));
                    Some(text)
                }
                Err(problem) => {
                    let mut finding = Finding::new(node.at, format!("the name {problem}")).found(quoted(&text));
                    if let Some(fitting) = as_name(&text) {
                        finding = finding.hint(format!("`{fitting}` would do"));
                    }
                    self.report(finding);
                    None
                }
            }
        });
        let labels = fields.get("labels").map(|node| self.texts(node, "labels"));
        let annotations = fields.get("annotations").map(|node| self.texts(node, "annotations"));
        let generation = fields.get("generation").and_then(|node| self.generation(node));
        let (labels, annotations) = (labels.unwrap_or_default(), annotations.unwrap_or_default());
        Some(Metadata { name: name?, labels, annotations, generation })
    }

    /// A number that is read for the sake of exported objects alone.
    fn generation(&mut self, node: &Node) -> Option<u64> {
        let number = match &node.value {
            Value::Scalar { text, plain: true } => text.parse().ok(),
            Value::Scalar { plain: false, .. } | Value::List(_) | Value::Map(_) => None,
        };
        if number.is_none() {
            self.report(
                Finding::new(node.at, "`generation` is not a whole number")
                    .found(kind_of(node))
                    .hint("remove the line: the daemon counts by itself"),
            );
        }
        number
    }

    fn spec(&mut self, node: &Node, at: Mark) -> Option<Spec> {
        let fields = self.fields(node, at, "`spec`", &SPEC)?;
        let app_id = self.required(&fields, "appId").and_then(|node| {
            let text = self.text(node, "appId")?;
            match text.parse::<AppId>() {
                Ok(_) => {
                    self.app_id_at = Some(node.at);
                    Some(text)
                }
                Err(problem) => {
                    self.report(
                        Finding::new(node.at, format!("the app id {problem}"))
                            .found(quoted(&text))
                            .hint("copy the app's `_id` from CamposCloud, such as 60c72b2f9b1e8d001c8e4f3a"),
                    );
                    None
                }
            }
        });
        let state = self.required(&fields, "state").and_then(|node| self.state(node));
        let policy = fields.get("policy").map(|node| {
            let words = [("Full", Policy::Full), ("StopOnly", Policy::StopOnly), ("ObserveOnly", Policy::ObserveOnly)];
            self.word(node, "policy", &words, |typed| match typed {
                "observe" | "readonly" | "none" => Some("ObserveOnly"),
                "stop" => Some("StopOnly"),
                "all" => Some("Full"),
                _ => None,
            })
        });
        let suspend = fields.get("suspend").map(|node| self.suspend(node));
        let schedule = fields.get("schedule").map(|node| self.schedule(node, fields.at_of("schedule")));
        Some(Spec {
            app_id: app_id?,
            state: state?,
            policy: all(policy)?,
            suspend: all(suspend)?,
            schedule: all(schedule)?,
        })
    }

    pub(super) fn state(&mut self, node: &Node) -> Option<State> {
        let words = [("Running", State::Running), ("Stopped", State::Stopped)];
        let (stop, start) = (
            ["off", "no", "false", "stop", "down", "halted", "offline", "paused", "n", "0"],
            ["on", "yes", "true", "start", "started", "up", "run", "online", "y", "1"],
        );
        self.word(node, "state", &words, |typed| {
            if stop.contains(&typed) {
                Some("Stopped")
            } else if start.contains(&typed) {
                Some("Running")
            } else {
                None
            }
        })
    }

    fn suspend(&mut self, node: &Node) -> Option<Suspend> {
        let fits = "`true`, `false`, or a map of `reason` and `until` fits";
        match &node.value {
            Value::Scalar { text, plain: true } if &**text == "true" => Some(Suspend::Plain(true)),
            Value::Scalar { text, plain: true } if &**text == "false" => Some(Suspend::Plain(false)),
            Value::Scalar { text, plain } => {
                let finding = if node.is_null() {
                    Finding::new(node.at, "`suspend` has no value").fits(fits).hint("write a value, or remove the line")
                } else {
                    let finding =
                        Finding::new(node.at, "`suspend` is neither yes nor no").found(shown(text, *plain)).fits(fits);
                    let lower = text.trim().to_ascii_lowercase();
                    match lower.as_str() {
                        "true" | "false" if !plain => finding.hint(format!("remove the quotes: `suspend: {lower}`")),
                        "true" | "yes" | "on" | "y" => finding.hint("did you mean `true`?"),
                        "false" | "no" | "off" | "n" => finding.hint("did you mean `false`?"),
                        _ => finding.hint("a reason is written `suspend: {reason: \"..\"}`"),
                    }
                };
                self.report(finding);
                None
            }
            Value::List(_) => {
                self.report(Finding::new(node.at, "`suspend` is neither yes nor no").found("a list").fits(fits));
                None
            }
            Value::Map(entries) if entries.is_empty() => {
                self.report(
                    Finding::new(node.at, "`suspend` is an empty map")
                        .fits(fits)
                        .hint("write `suspend: true` or `suspend: false`"),
                );
                None
            }
            Value::Map(_) => {
                let fields = self.fields(node, node.at, "`suspend`", &SUSPEND)?;
                let reason = fields.get("reason").map(|node| self.text(node, "reason"));
                let until = fields.get("until").map(|node| self.time(node, "until"));
                Some(Suspend::Because { reason: all(reason)?, until: all(until)? })
            }
        }
    }

    /// The known fields of a map; everything else in it is reported.
    pub(super) fn fields<'a>(
        &mut self,
        node: &'a Node,
        at: Mark,
        of: &'static str,
        known: &[&'static str],
    ) -> Option<Fields<'a>> {
        let Value::Map(entries) = &node.value else {
            let finding = if node.is_null() {
                Finding::new(node.at, format!("{of} is empty"))
            } else {
                Finding::new(node.at, format!("{of} is not a map")).found(kind_of(node))
            };
            let hint = if of == "a manifest" {
                "begin with `apiVersion`"
            } else {
                "indent its fields by two spaces, below it"
            };
            self.report(finding.fits(format!("{of} knows {}", list(known))).hint(hint));
            return None;
        };
        let mut fields = Fields { at, of, entries: BTreeMap::new() };
        for (key, value) in entries.iter() {
            let Some(text) = self.key(key) else { continue };
            match known.iter().find(|&&field| field == text) {
                Some(&field) => match fields.entries.get(field) {
                    Some((first, _)) => {
                        let line = first.line;
                        self.report(
                            Finding::new(key.at, format!("`{field}` is there twice"))
                                .found(format!("another one on line {line}"))
                                .hint("keep one of them"),
                        );
                    }
                    None => {
                        fields.entries.insert(field, (key.at, value));
                    }
                },
                None => self.unknown(key.at, text, of, known),
            }
        }
        Some(fields)
    }

    fn unknown(&mut self, at: Mark, text: &str, of: &'static str, known: &[&'static str]) {
        // What is read for the sake of exported objects alone is nothing that a person should write.
        let offered: Vec<&str> = known.iter().copied().filter(|field| *field != "generation").collect();
        let finding =
            Finding::new(at, format!("unknown field `{}`", clip(text))).fits(format!("{of} knows {}", list(&offered)));
        let owners = [
            ("`metadata`", &METADATA[..]),
            ("`spec`", &SPEC[..]),
            ("`suspend`", &SUSPEND[..]),
            ("`schedule`", &SCHEDULE[..]),
            ("a manifest", &TOP[..]),
        ];
        let elsewhere =
            owners.iter().find_map(|(owner, fields)| fields.iter().find(|&&field| field == text).map(|&f| (*owner, f)));
        let near = known.iter().find(|&&field| nearest(text, known.iter().copied()) == Some(field));
        let finding = if let Some((owner, field)) = elsewhere {
            self.meant.push(field);
            finding.hint(match owner {
                "a manifest" => format!("`{text}` belongs at the left margin"),
                owner => format!("`{text}` belongs under {owner}"),
            })
        } else if let Some(field) = near {
            self.meant.push(field);
            finding.hint(format!("did you mean `{field}`?"))
        } else if text == "id" || text == "_id" {
            self.meant.push("appId");
            finding.hint("did you mean `appId`?")
        } else {
            finding.hint("remove it; free notes belong in `metadata.annotations` or in a comment")
        };
        self.report(finding);
    }

    fn key<'a>(&mut self, key: &'a Node) -> Option<&'a str> {
        match &key.value {
            Value::Scalar { text, plain: true } if &**text == "<<" => {
                self.report(Finding::new(key.at, "merge keys (`<<`) are not supported").hint("write the fields out"));
                None
            }
            Value::Scalar { text, .. } => Some(text),
            Value::List(_) | Value::Map(_) => {
                let hint = "quote a value that begins with `{` or `[`";
                self.report(Finding::new(key.at, "a key must be a word").found(kind_of(key)).hint(hint));
                None
            }
        }
    }

    pub(super) fn required<'a>(&mut self, fields: &Fields<'a>, field: &'static str) -> Option<&'a Node> {
        let found = fields.get(field);
        if found.is_none() && !self.meant.contains(&field) {
            let hint = match field {
                "apiVersion" => format!("add `apiVersion: {API_VERSION}`"),
                "kind" => format!("add `kind: {KIND}`"),
                "metadata" => "add `metadata: {name: ..}`".to_owned(),
                "spec" => "add `spec:` with `appId` and `state`".to_owned(),
                "name" => "add `name: ` with a name that is unique in the directory".to_owned(),
                "timeZone" => "add `timeZone: ` with an IANA name, such as America/Sao_Paulo or UTC".to_owned(),
                "windows" => "add `windows:` with one `- {state: .., from: .., to: ..}` for each".to_owned(),
                "items" => "add `items:` with a list of apps".to_owned(),
                "appId" => "add `appId: ` with the app's `_id` on CamposCloud".to_owned(),
                _ => "add `state: Running` or `state: Stopped`".to_owned(),
            };
            self.report(Finding::new(fields.at, format!("{} has no `{field}`", fields.of)).hint(hint));
        }
        found
    }

    /// A text, which must not be an unquoted word that YAML reads as something else.
    pub(super) fn text(&mut self, node: &Node, field: &str) -> Option<String> {
        match &node.value {
            Value::Scalar { .. } if node.is_null() => {
                self.report(
                    Finding::new(node.at, format!("`{}` has no value", clip(field)))
                        .hint("write a value, or remove the line"),
                );
                None
            }
            Value::Scalar { text, plain } => match implied(text).filter(|_| *plain) {
                Some(other) => {
                    self.report(
                        Finding::new(node.at, format!("`{}` must be text", clip(field)))
                            .found(other)
                            .hint(format!("quote it: \"{}\"", clip(text))),
                    );
                    None
                }
                None => Some(text.as_ref().to_owned()),
            },
            Value::List(_) | Value::Map(_) => {
                self.report(
                    Finding::new(node.at, format!("`{}` must be text", clip(field)))
                        .found(kind_of(node))
                        .hint("quote a value that begins with `{` or `[`"),
                );
                None
            }
        }
    }

    /// `labels`, `annotations`: a flat map of text to text. Nothing at all is an empty map.
    fn texts(&mut self, node: &Node, field: &'static str) -> Option<BTreeMap<String, String>> {
        if node.is_null() {
            return None;
        }
        let Value::Map(entries) = &node.value else {
            self.report(
                Finding::new(node.at, format!("`{field}` is not a map"))
                    .found(kind_of(node))
                    .hint(format!("write `{field}: {{team: support}}`")),
            );
            return None;
        };
        let mut texts = BTreeMap::new();
        let mut lines: BTreeMap<&str, u32> = BTreeMap::new();
        for (key, value) in entries.iter() {
            let Some(name) = self.key(key) else { continue };
            if let Some(line) = lines.insert(name, key.at.line) {
                self.report(
                    Finding::new(key.at, format!("`{}` is there twice", clip(name)))
                        .found(format!("another one on line {line}"))
                        .hint("keep one of them"),
                );
                continue;
            }
            let Some(name) = self.text(key, "a key") else { continue };
            if let Some(text) = self.text(value, &name) {
                texts.insert(name, text);
            }
        }
        Some(texts)
    }

    fn fixed(&mut self, fields: &Fields<'_>, field: &'static str, only: &str) -> Option<String> {
        let node = self.required(fields, field)?;
        let text = self.text(node, field)?;
        if text != only {
            self.report(
                Finding::new(node.at, format!("unknown {field} {}", quoted(&text)))
                    .fits(format!("`{only}` fits"))
                    .hint(format!("write `{field}: {only}`")),
            );
            return None;
        }
        Some(text)
    }

    /// One of a few words, spelt exactly.
    fn word<T: Copy>(
        &mut self,
        node: &Node,
        field: &str,
        words: &[(&'static str, T)],
        meant: impl Fn(&str) -> Option<&'static str>,
    ) -> Option<T> {
        let names: Vec<&'static str> = words.iter().map(|(name, _)| *name).collect();
        let fits = format!("{} fits", list(&names).replace(", ", " or "));
        match &node.value {
            Value::Scalar { text, plain } => {
                if let Some((_, value)) = words.iter().find(|(name, _)| **name == **text) {
                    return Some(*value);
                }
                if node.is_null() {
                    self.report(Finding::new(node.at, format!("`{field}` has no value")).fits(fits));
                    return None;
                }
                let lower = text.trim().to_lowercase();
                let mut finding = Finding::new(node.at, format!("unknown {field} {}", quoted(text))).fits(fits);
                if *plain && implied(text) == Some("a boolean") {
                    finding = finding.found("what YAML reads as a boolean");
                }
                if let Some(word) = meant(&lower).or_else(|| nearest(text, names)) {
                    finding = finding.hint(format!("did you mean `{word}`?"));
                }
                self.report(finding);
            }
            Value::List(_) | Value::Map(_) => {
                self.report(Finding::new(node.at, format!("`{field}` is not a word")).found(kind_of(node)).fits(fits));
            }
        }
        None
    }

    /// A moment with its offset, as RFC 3339 writes it.
    fn time(&mut self, node: &Node, field: &str) -> Option<String> {
        let text = self.text(node, field)?;
        let bytes = text.as_bytes();
        let shaped = bytes.len() >= 20 && bytes[10] == b'T' && !text.contains('[');
        match text.parse::<Timestamp>() {
            Ok(_) if shaped => Some(text),
            parsed => {
                let mut finding = Finding::new(node.at, format!("`{field}` is not a time")).found(quoted(&text));
                finding = finding.fits("RFC 3339 fits, such as 2026-12-24T02:00:00Z");
                let local = text.parse::<jiff::civil::DateTime>().is_ok() && parsed.is_err();
                self.report(if local && text.len() > 10 {
                    finding.hint("say in which zone: end it in `Z` or in an offset such as `-03:00`")
                } else if local {
                    finding.hint("add a time of day and a zone: `T00:00:00Z`")
                } else {
                    finding.hint("year-month-dayThour:minute:second, then `Z` or an offset")
                });
                None
            }
        }
    }

    /// Whether a misspelt field was taken for one of these.
    pub(super) fn meant(&self, fields: &[&'static str]) -> bool {
        self.meant.iter().any(|meant| fields.contains(meant))
    }

    pub(super) fn report(&mut self, finding: Finding) {
        self.findings.push(finding);
    }
}

impl<'a> Fields<'a> {
    pub(super) fn get(&self, field: &str) -> Option<&'a Node> {
        self.entries.get(field).map(|(_, node)| *node)
    }

    pub(super) fn at_of(&self, field: &str) -> Mark {
        self.entries.get(field).map_or(self.at, |(at, _)| *at)
    }
}

/// An absent field is fine, a present one must have been read.
#[expect(clippy::option_option, reason = "outer: is it written at all; inner: could it be read")]
pub(super) fn all<T>(field: Option<Option<T>>) -> Option<Option<T>> {
    match field {
        None => Some(None),
        Some(Some(value)) => Some(Some(value)),
        Some(None) => None,
    }
}

pub(super) fn kind_of(node: &Node) -> &'static str {
    match &node.value {
        Value::Scalar { .. } => "a single value",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
    }
}

pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", clip(text))
}

fn shown(text: &str, plain: bool) -> String {
    if plain { format!("`{}`", clip(text)) } else { quoted(text) }
}

/// A value is quoted in messages, and messages stand in logs: keep them short.
fn clip(text: &str) -> String {
    if text.chars().count() <= 60 { text.to_owned() } else { text.chars().take(57).chain("...".chars()).collect() }
}

fn list(words: &[&str]) -> String {
    words.join(", ")
}

/// Whether YAML would read a word of letters, digits, `_` and `-` as something else than text, were it not quoted.
pub fn text_needs_quotes(word: &str) -> bool {
    implied(word).is_some() || !word.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// The DNS-1123 label nearest to what was typed.
pub fn as_name(text: &str) -> Option<String> {
    let mut name = String::new();
    for c in text.trim().to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' => name.push(c),
            _ if name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    let name: String = name.trim_matches('-').chars().take(63).collect();
    let name = name.trim_matches('-');
    name.parse::<AppName>().ok().map(|name| name.as_str().to_owned())
}
