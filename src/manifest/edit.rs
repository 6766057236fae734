//! Edits of one field of `spec` in the text of a file. All bytes outside the field stay.
//!
//! Pure. The tree has the place of the field. The result is parsed again, and refused unless only the field changed.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Mark};
use super::load::{self, Chunk, Content, ParsedFile};
use super::yaml::{self, Node, Value};
use crate::reconcile::app::AppName;
use crate::reconcile::desired::Object;

/// A field of `spec` and its new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub field: &'static str,
    pub value: Option<Written>,
}

/// A value of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    True,
    Text(String),
    /// Names and texts.
    Map(Vec<(&'static str, String)>),
    /// One field of a map; the other fields stay.
    Field(&'static str, String),
}

/// The reason why a file is not edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{}", .0.iter().map(Diagnostic::one_line).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Diagnostic>),
    #[error("the file declares no app with this name")]
    Absent,
    #[error("the text cannot be edited safely: {0}")]
    Unsafe(&'static str),
}

/// Returns the text with the change; the same text if it has that value already.
pub fn edit(file: &Arc<str>, text: &str, name: &AppName, change: &Change) -> Result<String, Refusal> {
    let before = load::parse(file, text.as_bytes());
    refuse_invalid(&before)?;
    let (old, old_reference) = object(&before, name).ok_or(Refusal::Absent)?;
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let edited = text[..text.len() - body.len()].to_owned() + &edit_body(body, name, change)?;
    let after = load::parse(file, edited.as_bytes());
    if refuse_invalid(&after).is_err() {
        return Err(Refusal::Unsafe("the result would not be valid"));
    }
    let (new, reference) = object(&after, name).ok_or(Refusal::Unsafe("the result would not declare the app"))?;
    if !is_same_but(old, new, change.field)
        || old_reference != reference
        || !others(&before, name).eq(others(&after, name))
    {
        return Err(Refusal::Unsafe("more than the field would change"));
    }
    Ok(if new == old { text.to_owned() } else { edited })
}

/// The lines of the change, for a person who edits the file.
pub fn by_hand(change: &Change) -> String {
    match &change.value {
        None => format!("remove `{}` from `spec`", change.field),
        Some(value) => format!("write into `spec`:\n  {}: {}", change.field, flow(value, false)),
    }
}

fn refuse_invalid(parsed: &ParsedFile) -> Result<(), Refusal> {
    let errors: Vec<Diagnostic> = parsed.diagnostics.iter().filter(|found| found.is_error()).cloned().collect();
    if errors.is_empty() { Ok(()) } else { Err(Refusal::Invalid(errors)) }
}

/// The apps, each with the Schedule that it refers to.
fn objects(parsed: &ParsedFile) -> impl Iterator<Item = (&Object, Option<&AppName>)> {
    parsed.documents.iter().filter_map(|document| match &document.content {
        Content::Good(object) => Some((&**object, None)),
        Content::Refers(object, reference) => Some((&**object, Some(&reference.name))),
        Content::Bad(_) => None,
    })
}

fn object<'a>(parsed: &'a ParsedFile, name: &AppName) -> Option<(&'a Object, Option<&'a AppName>)> {
    objects(parsed).find(|(object, _)| object.name == *name)
}

fn others<'a>(parsed: &'a ParsedFile, name: &'a AppName) -> impl Iterator<Item = (&'a Object, Option<&'a AppName>)> {
    objects(parsed).filter(move |(object, _)| object.name != *name)
}

/// Returns whether two objects differ in one field of their specs at most.
fn is_same_but(old: &Object, new: &Object, field: &str) -> bool {
    let mut old = old.clone();
    match field {
        "override" => old.spec.override_.clone_from(&new.spec.override_),
        "suspend" => old.spec.suspend.clone_from(&new.spec.suspend),
        "restart" => {
            let requested_at = new.spec.restart.as_ref().and_then(|restart| restart.requested_at);
            Arc::make_mut(old.spec.restart.get_or_insert_default()).requested_at = requested_at;
        }
        _ => return false,
    }
    old == *new
}

fn edit_body(text: &str, name: &AppName, change: &Change) -> Result<String, Refusal> {
    for chunk in load::documents(text) {
        let Ok(Some(tree)) = yaml::parse(chunk.text, chunk.first_line) else { continue };
        let Some(object) = find(&tree.root, name) else { continue };
        let Some(Node { value: Value::Map(entries), at }) = object.get("spec") else { continue };
        let source = Source::new(text);
        if let Some(Written::Field(name, text)) = &change.value
            && let Some(Node { value: Value::Map(entries), at }) =
                object.get("spec").and_then(|spec| spec.get(change.field))
        {
            let change = Change { field: name, value: Some(Written::Text(text.clone())) };
            return if source.starts(*at, "{") {
                edit_flow(&source, entries, &change)
            } else {
                edit_block(&source, &chunk, entries, &change)
            };
        }
        return if source.starts(*at, "{") {
            edit_flow(&source, entries, change)
        } else {
            edit_block(&source, &chunk, entries, change)
        };
    }
    Err(Refusal::Unsafe("the app was not found in the text"))
}

/// The object with a name: the document, or an item of a list.
fn find<'a>(node: &'a Node, name: &AppName) -> Option<&'a Node> {
    let is_it = |node: &&'a Node| {
        node.get("metadata").and_then(|metadata| metadata.get("name")).is_some_and(|found| found.says(name.as_str()))
    };
    if let Some(Value::List(items)) = node.get("items").map(|items| &items.value) {
        return items.iter().find(is_it);
    }
    Some(node).filter(is_it)
}

/// A text with its lines.
struct Source<'a> {
    text: &'a str,
    /// The beginning of each line, and the end of the text.
    starts: Vec<usize>,
}

impl<'a> Source<'a> {
    fn new(text: &'a str) -> Self {
        let mut starts = vec![0];
        starts.extend(text.match_indices('\n').map(|(at, _)| at + 1));
        if starts.last() != Some(&text.len()) {
            starts.push(text.len());
        }
        Self { text, starts }
    }

    /// The line with this number, from 1, without its end.
    fn line(&self, number: usize) -> &'a str {
        self.text[self.starts[number - 1]..self.starts[number]].trim_end_matches(['\r', '\n'])
    }

    /// The place of a mark in the text.
    fn offset(&self, at: Mark) -> usize {
        let start = self.starts[at.line as usize - 1];
        let rest = &self.text[start..];
        start + rest.char_indices().nth(at.column as usize - 1).map_or(rest.len(), |(offset, _)| offset)
    }

    fn starts(&self, at: Mark, with: &str) -> bool {
        self.text[self.offset(at)..].starts_with(with)
    }

    /// The text with a part replaced.
    fn replaced(&self, part: Range<usize>, by: &str) -> String {
        [&self.text[..part.start], by, &self.text[part.end..]].concat()
    }

    fn line_end(&self) -> &'static str {
        if self.text.contains("\r\n") { "\r\n" } else { "\n" }
    }
}

/// Edits a map that has one field on each line.
fn edit_block(
    source: &Source<'_>,
    chunk: &Chunk<'_>,
    entries: &[(Node, Node)],
    change: &Change,
) -> Result<String, Refusal> {
    let column = entries.first().map_or(1, |(key, _)| key.at.column as usize);
    let indent = " ".repeat(column - 1);
    if entries.iter().any(|(key, _)| source.line(key.at.line as usize).get(..column - 1) != Some(&indent)) {
        return Err(Refusal::Unsafe("the fields of `spec` do not begin at one column"));
    }
    let last_line = chunk.first_line as usize + chunk.text.lines().count() - 1;
    // The lines of an entry, without blank lines and comments after it.
    let lines = |index: usize| {
        let first = entries[index].0.at.line as usize;
        let is_outside = |number: &usize| {
            let line = source.line(*number);
            let depth = line.len() - line.trim_start().len();
            depth < column && !line.trim().is_empty() && !line.trim_start().starts_with('#')
        };
        let end = (first + 1..=last_line).find(is_outside).unwrap_or(last_line + 1);
        let is_content = |number: &usize| {
            let line = source.line(*number).trim();
            !line.is_empty() && !line.starts_with('#')
        };
        first..(first..end).rev().find(is_content).unwrap_or(first) + 1
    };
    let bytes = |lines: Range<usize>| source.starts[lines.start - 1]..source.starts[lines.end - 1];
    let end = source.line_end();
    let position = |field: &str| entries.iter().position(|(key, _)| key.says(field));
    match (position(change.field), &change.value) {
        (None, None) => Ok(source.text.to_owned()),
        (Some(index), None) => {
            let part = bytes(lines(index));
            // A last line without a newline stays without a newline.
            let cut = part.end == source.text.len() && !source.text.ends_with('\n');
            let start = part.start - if cut { end.len() } else { 0 };
            Ok(source.replaced(start..part.end, ""))
        }
        // A comment after the value stays.
        (Some(index), Some(Written::Text(text))) if lines(index).len() == 1 => {
            let old = &entries[index].1;
            let end = value_end(source, old).ok_or(Refusal::Unsafe("the end of the value is not clear"))?;
            Ok(source.replaced(source.offset(old.at)..end, &scalar(text, false)))
        }
        (Some(index), Some(value)) => {
            let (part, old) = (bytes(lines(index)), &entries[index].1);
            let is_block = matches!(old.value, Value::Map(_)) && !source.starts(old.at, "{");
            let ends = source.text[part.clone()].ends_with('\n');
            let new = written(
                change.field,
                value,
                &indent,
                if is_block { Some(deeper(source, old, &indent)) } else { None },
                end,
            );
            Ok(source.replaced(part, if ends { &new } else { new.trim_end_matches(['\r', '\n']) }))
        }
        (None, Some(value)) => {
            let after = anchor(entries).ok_or(Refusal::Unsafe("the map has no field"))?;
            let at = bytes(lines(after)).end;
            let new = written(change.field, value, &indent, None, end);
            if source.text[..at].ends_with('\n') {
                Ok(source.replaced(at..at, &new))
            } else {
                Ok(source.replaced(at..at, &format!("{end}{}", new.trim_end_matches(['\r', '\n']))))
            }
        }
    }
}

/// The field of a map after which a new one is written: `state` of `spec`, otherwise the last one.
fn anchor(entries: &[(Node, Node)]) -> Option<usize> {
    entries.iter().position(|(key, _)| key.says("state")).or(entries.len().checked_sub(1))
}

/// The indentation of the fields of a block.
fn deeper(source: &Source<'_>, block: &Node, indent: &str) -> String {
    let line = source.line(block.at.line as usize);
    let depth = line.len() - line.trim_start().len();
    if depth > indent.len() { line[..depth].to_owned() } else { format!("{indent}  ") }
}

/// The lines of a field.
fn written(field: &str, value: &Written, indent: &str, block: Option<String>, end: &str) -> String {
    match (value, block) {
        (Written::Map(fields), Some(inner)) => {
            let mut text = format!("{indent}{field}:{end}");
            for (name, value) in fields {
                // Writing to a String cannot fail.
                let _ = write!(text, "{inner}{name}: {}{end}", scalar(value, false));
            }
            text
        }
        (Written::True | Written::Text(_) | Written::Map(_) | Written::Field(..), _) => {
            format!("{indent}{field}: {}{end}", flow(value, false))
        }
    }
}

/// Edits a map in braces, as in JSON.
fn edit_flow(source: &Source<'_>, entries: &[(Node, Node)], change: &Change) -> Result<String, Refusal> {
    let position = |field: &str| entries.iter().position(|(key, _)| key.says(field));
    let key = |index: usize| source.offset(entries[index].0.at);
    let value_end =
        |index: usize| value_end(source, &entries[index].1).ok_or(Refusal::Unsafe("its braces are not clear"));
    let is_json = entries.first().is_some_and(|(key, _)| source.starts(key.at, "\""));
    let entry = |value: &Written| {
        let field = if is_json { format!("\"{}\"", change.field) } else { change.field.to_owned() };
        format!("{field}: {}", flow(value, is_json))
    };
    match (position(change.field), &change.value) {
        (None, None) => Ok(source.text.to_owned()),
        (Some(index), None) => {
            let part = if index > 0 { value_end(index - 1)?..value_end(index)? } else { key(0)..key(1) };
            if source.text[part.start..key(index).max(part.start)].contains('#') {
                return Err(Refusal::Unsafe("a comment between the fields would be lost"));
            }
            Ok(source.replaced(part, ""))
        }
        (Some(index), Some(value)) => Ok(source.replaced(key(index)..value_end(index)?, &entry(value))),
        (None, Some(value)) => {
            let after = anchor(entries).ok_or(Refusal::Unsafe("the map has no field"))?;
            let at = value_end(after)?;
            Ok(source.replaced(at..at, &format!(", {}", entry(value))))
        }
    }
}

/// The end of a value in braces.
fn value_end(source: &Source<'_>, node: &Node) -> Option<usize> {
    let start = source.offset(node.at);
    if matches!(node.value, Value::Scalar { .. }) {
        let rest = &source.text[start..];
        let length = node.at.length as usize;
        return Some(start + rest.char_indices().nth(length).map_or(rest.len(), |(offset, _)| offset));
    }
    let (mut depth, mut quote) = (0_usize, None);
    let mut chars = source.text[start..].char_indices();
    while let Some((offset, c)) = chars.next() {
        match (quote, c) {
            (Some('"'), '\\') => drop(chars.next()),
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '#') => return None,
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(start + offset + 1);
                }
            }
            (None, _) => {}
        }
    }
    None
}

/// A value on one line.
fn flow(value: &Written, is_json: bool) -> String {
    match value {
        Written::True => "true".to_owned(),
        Written::Text(text) => scalar(text, is_json),
        Written::Field(name, text) => flow(&Written::Map(vec![(*name, text.clone())]), is_json),
        Written::Map(fields) => {
            let quote = |name: &str| if is_json { format!("\"{name}\"") } else { name.to_owned() };
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{}: {}", quote(name), scalar(value, is_json))).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

/// A text: a plain word, or quoted in a form that is valid in JSON and YAML.
fn scalar(text: &str, is_json: bool) -> String {
    let is_word = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if is_word && !is_json && !super::schema::text_needs_quotes(text) {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn name() -> AppName {
        "bot".parse().unwrap()
    }

    fn override_() -> Change {
        let fields = [("state", "Running"), ("until", "2099-11-27T03:00:00Z"), ("reason", "hot fix"), ("by", "ana")];
        let fields = fields.map(|(name, value)| (name, value.to_owned())).to_vec();
        Change { field: "override", value: Some(Written::Map(fields)) }
    }

    fn suspend() -> Change {
        Change { field: "suspend", value: Some(Written::True) }
    }

    fn restart() -> Change {
        Change { field: "restart", value: Some(Written::Field("requestedAt", "2099-11-27T03:00:00Z".to_owned())) }
    }

    fn without(field: &'static str) -> Change {
        Change { field, value: None }
    }

    fn diff(file: &str, text: &str, change: &Change) -> String {
        match edit(&file.into(), text, &name(), change) {
            Ok(edited) if edited == text => "unchanged\n".to_owned(),
            Ok(edited) => similar::TextDiff::from_lines(text, &edited).unified_diff().context_radius(1).to_string(),
            Err(refusal) => format!("{refusal}\n"),
        }
    }

    const HEAD: &str = "apiVersion: campos-operator.dev/v1\nkind: App\nmetadata: {name: bot}\n";

    const OTHER: &str = "apiVersion: campos-operator.dev/v1\nkind: App\nmetadata: {name: other}\n\
                         spec: {appId: o, state: Stopped}\n";
    const BLOCK: &str = "spec:\n  appId: \"a1\"   # the bot\n  state: Stopped # for now\n\n  # night\n  policy: Full\n";
    const JSON: &str = "{\"apiVersion\": \"campos-operator.dev/v1\", \"kind\": \"App\",\n \"metadata\": {\"name\": \"bot\"},\n \
                        \"spec\": {\n\t\"appId\": \"a1\",\n\t\"state\": \"Stopped\"\n }\n}\n";

    /// The file of the app with this `spec`.
    fn app(spec: &str) -> String {
        format!("{HEAD}{spec}")
    }

    /// The app in a block, with more lines.
    fn block(more: &str) -> String {
        format!("{HEAD}{BLOCK}{more}")
    }

    fn writes() -> Vec<(&'static str, String)> {
        let item = block("").trim_end().replace('\n', "\n  ");
        let aliased = "apiVersion: campos-operator.dev/v1\nkind: AppList\nmetadata: {x: &x {appId: a1, state: Stopped}}\n\
                       items:\n- apiVersion: campos-operator.dev/v1\n  kind: App\n  metadata: {name: bot}\n  spec: *x\n";
        vec![
            ("a block", block("")),
            ("state is last", app("spec:\n  appId: a1\n  state: Stopped\n")),
            ("no line end", app("spec:\n  appId: a1\n  state: Stopped")),
            ("deep", app("spec:\n        appId: a1\n        state: Stopped\n# end\n")),
            ("an item of a list", format!("apiVersion: v1\nkind: List\nitems:\n- {item}")),
            (
                "replaced on one line",
                block("  override: {state: Stopped, until: 2098-01-01T00:00:00Z} # old\n  # end\n"),
            ),
            ("replaced block", block("  override:\n      state: Stopped\n      until: 2098-01-01T00:00:00Z\n")),
            ("in braces", app("spec: {appId: a1, state: Stopped} # short\n")),
            (
                "replaced in braces",
                app("spec: {override: {state: Stopped, until: \"2098-01-01T00:00:00Z\"}, appId: a1, state: Stopped}\n"),
            ),
            ("JSON", JSON.to_owned()),
            ("the second document", format!("{OTHER}---\n{}---\n# nothing\n", block(""))),
            ("CRLF", block("").replace('\n', "\r\n")),
            ("a byte order mark", format!("\u{feff}{}", block(""))),
            ("an anchor", app("spec: &x\n  appId: a1\n  state: Stopped\n")),
            ("an alias", aliased.to_owned()),
            ("invalid", block("").replace("Stopped", "stopped")),
            ("another app", OTHER.to_owned()),
        ]
    }

    fn removals() -> Vec<(&'static str, String)> {
        vec![
            ("nothing", block("")),
            ("a block", block("  suspend:\n    # why\n    reason: >\n      moved\n      away\n\n  # the end\n")),
            ("last without line end", block("  suspend: true")),
            ("first in braces", app("spec: {suspend: {reason: \"a}b\"}, appId: a1, state: Stopped}\n")),
            ("last in braces", app("spec: {appId: a1, state: Stopped, suspend: true}\n")),
            ("a comment in braces", app("spec: {appId: a1, # id\n  suspend: true, state: Stopped}\n")),
            ("quoted keys", app("\"spec\":\n  \"appId\": a1\n  'state': Stopped\n  \"suspend\": true\n")),
        ]
    }

    fn fields() -> Vec<(&'static str, String)> {
        vec![
            ("no map", block("")),
            (
                "a block",
                block("  restart:\n    cron: \"0 5 * * 0\" # on Sundays\n    whenRequired: true\n  # the end\n"),
            ),
            (
                "a field of a block",
                block("  restart:\n    requestedAt: 2098-01-01T00:00:00Z # once\n    whenRequired: true\n"),
            ),
            ("in braces", block("  restart: {cron: \"0 5 * * 0\"} # on Sundays\n")),
            ("a field in braces", block("  restart: {requestedAt: \"2098-01-01T00:00:00Z\", whenRequired: true}\n")),
            ("a map in braces", app("spec: {restart: {cron: \"0 5 * * 0\"}, appId: a1, state: Stopped}\n")),
            ("JSON", JSON.to_owned()),
        ]
    }

    #[test]
    fn edits_keep_everything_else() {
        let shown = |cases: Vec<(&str, String)>, change: &Change| {
            let case = |(title, text): &(&str, String)| {
                let file = if text.starts_with('{') { "a.json" } else { "a.yaml" };
                format!("## {title}\n{}", diff(file, text, change))
            };
            cases.iter().map(case).collect::<Vec<_>>().join("\n").replace('\r', "\\r").replace('\u{feff}', "<BOM>")
        };
        insta::assert_snapshot!("writes", shown(writes(), &override_()));
        insta::assert_snapshot!("removals", shown(removals(), &without("suspend")));
        assert_eq!(diff("a.yaml", &block("  suspend: true # why\n"), &suspend()), "unchanged\n");
        insta::assert_snapshot!("fields", shown(fields(), &restart()));
    }

    const MORE: [&str; 3] = ["policy: Full", "schedule: {timeZone: UTC, windows: []}", "suspend: {reason: 'x # y'}"];

    /// A manifest in one of many styles.
    fn style() -> impl Strategy<Value = String> {
        let lines = (
            select(vec!["  ", "    ", " "]),
            select(vec!["", " # note", "   # a: {b}"]),
            select(vec!["", "\n", "  # comment\n", "# comment\n\n"]),
            proptest::sample::subsequence(MORE.to_vec(), 0..=3),
            any::<bool>(),
            select(vec!["\n", "\r\n"]),
            any::<bool>(),
        );
        lines.prop_map(|(indent, note, between, more, state_first, end, ends)| {
            let mut fields = vec!["appId: \"12\"".to_owned(), "state: Stopped".to_owned()];
            if state_first {
                fields.reverse();
            }
            fields.extend(more.iter().map(ToString::to_string));
            let lines: Vec<String> = fields.iter().map(|field| format!("{indent}{field}{note}\n{between}")).collect();
            let text = format!("{HEAD}spec:\n{}", lines.concat());
            let text = if ends { text } else { text.trim_end().to_owned() };
            text.replace('\n', end)
        })
    }

    proptest! {
        #[test]
        fn a_field_that_is_written_and_removed_leaves_the_same_bytes(text in style()) {
            let file: Arc<str> = "a.yaml".into();
            let edited = edit(&file, &text, &name(), &override_()).unwrap();
            prop_assert_ne!(&edited, &text);
            prop_assert_eq!(edit(&file, &edited, &name(), &without("override")).unwrap(), text);
        }
    }
}
