//! Serde deserializer over a marked tree that reports every error instead of only the first.
//!
//! Serde's derive supplies the rules: the fields of each map, the optional ones, the words of each enum. An invalid
//! value is reported with its place and the valid values; an empty value replaces it, so that the rest is read, too.
//! The result counts only if the reader reported nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{Deserialize, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::diagnostic::{Mark, nearest};
use super::hints;
use super::yaml::{Finding, Node, Value, implied};

/// Collects the findings of one document.
#[derive(Default)]
pub(super) struct Reader {
    findings: RefCell<BTreeMap<Mark, Vec<Finding>>>,
    /// Fields of misspelt or misplaced keys. They are not reported as missing.
    meant: RefCell<Vec<&'static str>>,
}

impl Reader {
    /// Reads a tree. `None` only if a type requests a form of data that manifests do not use.
    pub(super) fn read<'a, T: Deserialize<'a>>(&'a self, root: &'a Node) -> Option<T> {
        T::deserialize(Place { reader: self, what: What::Node(root), field: "", map: "", at: root.at }).ok()
    }

    /// Unwraps the result of a check of `node`, or reports it at the node, unless that place has a report.
    pub(super) fn check<T>(&self, node: Option<&Node>, result: Result<T, Finding>) -> Option<T> {
        let at = node.map(|node| node.at);
        result
            .map_err(|finding| {
                if let Some(at) = at.filter(|at| !self.findings.borrow().contains_key(at)) {
                    self.report(Finding { at, ..finding });
                }
            })
            .ok()
    }

    pub(super) fn report(&self, finding: Finding) {
        self.findings.borrow_mut().entry(finding.at).or_default().push(finding);
    }

    /// Returns whether a misspelt key is one of these fields.
    pub(super) fn meant(&self, fields: &[&str]) -> bool {
        self.meant.borrow().iter().any(|meant| fields.contains(meant))
    }

    /// All findings, in the order of the text.
    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings.into_inner().into_values().flatten().collect()
    }

    /// The text of a key; `None`, and a report, if it is no text.
    fn key<'a>(&self, key: &'a Node) -> Option<&'a str> {
        let finding = match &key.value {
            Value::Scalar { text, plain: true } if &**text == "<<" => {
                Finding::new(key.at, "merge keys (`<<`) are not supported").hint("write the fields out")
            }
            Value::Scalar { text, .. } => return Some(text),
            Value::List(_) | Value::Map(_) => Finding::new(key.at, "a key must be a word")
                .found(key.kind())
                .hint("quote a value that begins with `{` or `[`"),
        };
        self.report(finding);
        None
    }

    fn repeated(&self, at: Mark, key: &str, first: Mark) {
        let finding = Finding::new(at, format!("`{}` is there twice", clip(key)));
        self.report(finding.found(format!("another one on line {}", first.line)).hint("keep one of them"));
    }

    fn unknown(&self, at: Mark, key: &str, map: &str, known: &[&'static str]) {
        let finding = Finding::new(at, format!("unknown field `{}`", clip(key)))
            .fits(format!("{map} has the fields {}", listed(known)));
        let (meant, hint) = hints::unknown(key, known);
        self.meant.borrow_mut().extend(meant);
        self.report(finding.hint(hint));
    }
}

/// A value of the tree, or a missing value, and its place.
#[derive(Clone, Copy)]
struct Place<'a> {
    reader: &'a Reader,
    what: What<'a>,
    /// Key of the entry; empty for the document and for items of a list.
    field: &'a str,
    /// Name of the map that holds the entry.
    map: &'static str,
    /// Mark of the key; mark of the map if the entry is missing.
    at: Mark,
}

#[derive(Clone, Copy)]
enum What<'a> {
    Node(&'a Node),
    /// Missing entry: an error unless the type is an `Option`.
    Missing,
    /// Part of a reported value.
    Reported,
}

impl<'a> Place<'a> {
    /// The node; `None`, and a report, if it is missing.
    fn node(self, words: &[&str]) -> Option<&'a Node> {
        match self.what {
            What::Node(node) => return Some(node),
            What::Missing if !self.reader.meant(&[self.field]) => {
                let finding = Finding::new(self.at, format!("{} has no `{}`", self.map, self.field));
                self.reader.report(finding.hint(hints::missing(self.field, words)));
            }
            What::Missing | What::Reported => {}
        }
        None
    }

    /// A text that is text for every YAML reader.
    fn text(self) -> Option<&'a str> {
        let node = self.node(&[])?;
        let finding = match &node.value {
            Value::Scalar { .. } if node.is_null() => {
                Finding::new(node.at, format!("`{}` has no value", clip(self.field)))
                    .hint("write a value, or remove the line")
            }
            Value::Scalar { text, plain } => match implied(text).filter(|_| *plain) {
                None => return Some(text),
                Some(other) => self.not_text(node).found(other).hint(match hints::fitting(self.field, text) {
                    Some(value) if value != **text => format!("write `{}: \"{value}\"`", self.field),
                    Some(value) => format!("quote it: \"{value}\""),
                    None if matches!(self.field, "from" | "to") => {
                        "a time is written \"22:00\" or \"Fri 21:00\"".to_owned()
                    }
                    None if matches!(self.field, "duration" | "warn") => hints::DURATION.to_owned(),
                    None => format!("quote it: \"{}\"", clip(text)),
                }),
            },
            Value::List(_) | Value::Map(_) => {
                self.not_text(node).found(node.kind()).hint("quote a value that begins with `{` or `[`")
            }
        };
        self.reader.report(finding);
        None
    }

    fn not_text(self, node: &Node) -> Finding {
        Finding::new(node.at, format!("`{}` must be text", clip(self.field)))
    }

    /// One of a few words, with exact spelling.
    fn word(self, words: &'static [&'static str]) -> Option<&'static str> {
        let node = self.node(words)?;
        let finding = match &node.value {
            Value::Scalar { text, .. } if words.contains(&&**text) => {
                return words.iter().find(|word| ***word == **text).copied();
            }
            Value::Scalar { .. } if node.is_null() => Finding::new(node.at, format!("`{}` has no value", self.field)),
            Value::Scalar { text, plain } => {
                let finding = Finding::new(node.at, format!("unknown {} {}", self.field, quoted(text)));
                let near = hints::synonym(self.field, text).or_else(|| nearest(text, words.iter().copied()));
                let finding = match (words, near) {
                    ([only], _) => finding.hint(format!("write `{}: {only}`", self.field)),
                    (_, Some(near)) => finding.hint(format!("did you mean `{near}`?")),
                    (_, None) => finding,
                };
                match implied(text).filter(|_| *plain) {
                    Some(other) => finding.found(format!("what YAML reads as {other}")),
                    None => finding,
                }
            }
            Value::List(_) | Value::Map(_) => {
                Finding::new(node.at, format!("`{}` is not a word", self.field)).found(node.kind())
            }
        };
        self.reader.report(finding.fits(match words {
            [only] => format!("expected `{only}`"),
            words => format!("expected {}", words.join(" or ")),
        }));
        None
    }

    /// The entries of a struct: the known entries of the map, each once, and a place for each missing field.
    fn fields(self, name: &'static str, known: &'static [&'static str]) -> Vec<(&'static str, Self)> {
        let mut fields: Vec<(&'static str, Self)> = Vec::with_capacity(known.len());
        let mut rest = Self { what: What::Reported, map: name, ..self };
        match self.node(&[]).map(|node| (node, &node.value)) {
            None => {}
            Some((_, Value::Map(entries))) => {
                rest.what = What::Missing;
                for (key, value) in entries.iter() {
                    let Some(text) = self.reader.key(key) else { continue };
                    let Some(field) = known.iter().find(|field| **field == text) else {
                        self.reader.unknown(key.at, text, name, known);
                        continue;
                    };
                    match fields.iter().find(|(there, _)| there == field) {
                        Some((_, first)) => self.reader.repeated(key.at, field, first.at),
                        None => fields.push((field, Self { what: What::Node(value), field, at: key.at, ..rest })),
                    }
                }
            }
            Some((node, Value::Scalar { .. } | Value::List(_))) => {
                let finding = if node.is_null() {
                    Finding::new(node.at, format!("{name} is empty"))
                } else {
                    Finding::new(node.at, format!("{name} is not a map")).found(node.kind())
                };
                let hint = match self.field {
                    "" if self.map.is_empty() => "begin with `apiVersion`",
                    _ => "indent its fields by two spaces, below it",
                };
                let known = listed(known);
                self.reader.report(finding.fits(format!("{name} has the fields {known}")).hint(hint));
            }
        }
        for field in known {
            if fields.iter().all(|(there, _)| there != field) {
                fields.push((field, Self { field, ..rest }));
            }
        }
        fields
    }

    /// The entries of a flat map of text to text. No value is an empty map.
    fn texts(self) -> Vec<(Self, Self)> {
        let Some(node) = self.node(&[]) else { return Vec::new() };
        let mut texts: BTreeMap<&str, (Self, Self)> = BTreeMap::new();
        match &node.value {
            Value::Map(entries) => {
                for (key, value) in entries.iter() {
                    let Some(text) = self.reader.key(key) else { continue };
                    match texts.entry(text) {
                        Entry::Occupied(first) => self.reader.repeated(key.at, text, first.get().0.at),
                        Entry::Vacant(entry) => {
                            let place = Self { field: text, at: key.at, ..self };
                            entry.insert((
                                Self { what: What::Node(key), field: "a key", ..place },
                                Self { what: What::Node(value), ..place },
                            ));
                        }
                    }
                }
            }
            Value::Scalar { .. } if node.is_null() => {}
            Value::Scalar { .. } | Value::List(_) => self.reader.report(
                Finding::new(node.at, format!("`{}` is not a map", self.field))
                    .found(node.kind())
                    .hint(format!("write `{}: {{team: support}}`", self.field)),
            ),
        }
        texts.into_values().collect()
    }

    fn items(self) -> Vec<Self> {
        let Some(node) = self.node(&[]) else { return Vec::new() };
        let Value::List(items) = &node.value else {
            if self.field == "days" && matches!(node.value, Value::Scalar { .. }) {
                return vec![self];
            }
            let finding = Finding::new(node.at, format!("`{}` is not a list", self.field)).found(node.kind());
            self.reader.report(finding.hint(hints::list(self.field)));
            return Vec::new();
        };
        let field = if self.field == "days" { self.field } else { "" };
        items.iter().map(|item| Self { what: What::Node(item), field, at: item.at, ..self }).collect()
    }

    /// A map that `true` and `false` may replace: `true` is a map without entries, `false` is none.
    fn or_bool(self, node: &Node) -> What<'a> {
        let fits = "expected `true`, `false`, or a map of `reason` and `until`";
        let finding = match &node.value {
            Value::Map(entries) if !entries.is_empty() => return self.what,
            Value::Scalar { text, plain: true } if &**text == "true" => return What::Reported,
            Value::Scalar { text, plain: true } if &**text == "false" => return What::Missing,
            Value::Map(_) => {
                Finding::new(node.at, "`suspend` is an empty map").hint("write `suspend: true` or `suspend: false`")
            }
            Value::Scalar { .. } if node.is_null() => {
                Finding::new(node.at, "`suspend` has no value").hint("write a value, or remove the line")
            }
            Value::List(_) => Finding::new(node.at, "`suspend` is neither `true` nor `false`").found("a list"),
            Value::Scalar { text, plain } => {
                self.neither(node.at, text, *plain, "a reason is written `suspend: {reason: \"..\"}`")
            }
        };
        self.reader.report(finding.fits(fits));
        What::Missing
    }

    /// `true` or `false`; `None`, and a report, for anything else.
    fn truth(self) -> Option<bool> {
        let node = self.node(&["true", "false"])?;
        let finding = match &node.value {
            Value::Scalar { text, plain: true } if &**text == "true" => return Some(true),
            Value::Scalar { text, plain: true } if &**text == "false" => return Some(false),
            Value::Scalar { .. } if node.is_null() => Finding::new(node.at, format!("`{}` has no value", self.field))
                .hint("write a value, or remove the line"),
            Value::Scalar { text, plain } => self.neither(node.at, text, *plain, "write `true`, or remove the line"),
            Value::List(_) | Value::Map(_) => {
                let finding = Finding::new(node.at, format!("`{}` is neither `true` nor `false`", self.field));
                finding.found(node.kind()).hint("write `true`, or remove the line")
            }
        };
        self.reader.report(finding.fits("expected `true` or `false`"));
        None
    }

    /// The error for a text that is neither `true` nor `false`.
    fn neither(self, at: Mark, text: &str, plain: bool, otherwise: &str) -> Finding {
        let field = self.field;
        let lower = text.trim().to_ascii_lowercase();
        let hint = match lower.as_str() {
            "true" | "false" if !plain => format!("remove the quotes: `{field}: {lower}`"),
            "true" | "yes" | "on" | "y" => "did you mean `true`?".to_owned(),
            "false" | "no" | "off" | "n" => "did you mean `false`?".to_owned(),
            _ => otherwise.to_owned(),
        };
        let found = if plain { format!("`{}`", clip(text)) } else { quoted(text) };
        Finding::new(at, format!("`{field}` is neither `true` nor `false`")).found(found).hint(hint)
    }
}

impl<'de> Deserializer<'de> for Place<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("manifests have no such type"))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let what = match self.what {
            What::Node(node) if self.field == "suspend" => self.or_bool(node),
            what @ (What::Node(_) | What::Missing) => what,
            What::Reported => What::Missing,
        };
        if matches!(what, What::Missing) {
            return visitor.visit_none();
        }
        visitor.visit_some(Self { what, ..self })
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(self.truth().unwrap_or_default())
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.text().unwrap_or_default())
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self.word(words).unwrap_or(words[0]).into_deserializer())
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(SeqDeserializer::new(self.items().into_iter()))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(MapDeserializer::new(self.texts().into_iter()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(MapDeserializer::new(self.fields(name, fields).into_iter()))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char string bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct identifier
    }
}

impl<'de> IntoDeserializer<'de> for Place<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", clip(text))
}

/// Shortens a value for messages in logs.
fn clip(text: &str) -> String {
    if text.chars().count() <= 60 { text.to_owned() } else { text.chars().take(57).chain("...".chars()).collect() }
}

/// The fields of a manifest.
fn listed(fields: &[&str]) -> String {
    fields.iter().copied().filter(|field| !hints::IGNORED.contains(field)).collect::<Vec<_>>().join(", ")
}
