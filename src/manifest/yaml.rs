//! Tree of a YAML document with a mark on every node, made from the events of `saphyr-parser`.
//!
//! `reader` fills the types of `schema` from it. Bounded: the parser refuses deep nesting and many aliases
//! while it reads.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::diagnostic::Mark;

/// Limit for nested values. A valid manifest needs 4.
pub(super) const MAX_DEPTH: usize = 64;
/// Limit for the aliases (`*name`) of a document.
pub(super) const MAX_ALIASES: usize = 100;

/// Error at a mark; becomes a `Diagnostic` with the file and its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) at: Mark,
    pub(super) message: Box<str>,
    pub(super) found: Option<Box<str>>,
    pub(super) fits: Option<Box<str>>,
    pub(super) hint: Option<Box<str>>,
}

impl Finding {
    pub(super) fn new(at: Mark, message: impl Into<Box<str>>) -> Self {
        Self { at, message: message.into(), found: None, fits: None, hint: None }
    }

    pub(super) fn found(mut self, found: impl Into<Box<str>>) -> Self {
        self.found = Some(found.into());
        self
    }

    pub(super) fn fits(mut self, fits: impl Into<Box<str>>) -> Self {
        self.fits = Some(fits.into());
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<Box<str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: Mark,
    pub(super) value: Value,
}

/// Shared, because an alias is the same node: an alias bomb stays as small as its text.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Scalar { text: Rc<str>, plain: bool },
    List(Rc<[Node]>),
    Map(Rc<[(Node, Node)]>),
}

impl Node {
    /// The value of a key of a map: the first, if there are several.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(node, _)| node.says(key)).map(|(_, value)| value)
    }

    /// Returns whether the node is this word, quoted or not.
    pub(super) fn says(&self, word: &str) -> bool {
        matches!(&self.value, Value::Scalar { text, .. } if &**text == word)
    }

    /// The kind of value, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// Returns whether the node is an unquoted null, or empty.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }
}

struct Open {
    at: Mark,
    anchor: usize,
    /// Levels below this one so far, with those behind aliases: the drop of the tree recurses over them.
    height: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    Map(Vec<(Node, Node)>, Option<Node>),
}

pub(super) struct Tree {
    pub(super) root: Node,
    /// Whether a key has several lines, which not every YAML parser allows.
    pub(super) odd_keys: bool,
    /// The first tag. Manifests have none; files of other tools do.
    pub(super) tag: Option<Mark>,
}

/// The tree of one document; `None` if it has only blanks and comments.
///
/// `first_line`: the line of the file on which `text` begins, from 1.
///
/// # Errors
/// The first error: text that is not YAML, or that manifests do not allow (too many aliases, too deep).
pub(super) fn parse(text: &str, first_line: u32) -> Result<Option<Tree>, Finding> {
    let mark = |span: &Span| mark(span, first_line);
    let mut open: Vec<Open> = Vec::new();
    let mut anchors: HashMap<usize, (Node, usize)> = HashMap::new();
    let mut aliases = 0;
    let (mut root, mut odd_keys, mut first_tag) = (None, false, None);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| not_yaml(text, first_line, &error))?;
        let at = mark(&span);
        let (node, anchor, height) = match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                continue;
            }
            Event::Scalar(value, style, anchor, tag) => {
                first_tag = first_tag.or(tag.map(|_| at));
                let value = Value::Scalar { text: value.as_ref().into(), plain: style == ScalarStyle::Plain };
                (Node { at, value }, anchor, 0)
            }
            Event::Alias(anchor) => {
                aliases += 1;
                if aliases > MAX_ALIASES {
                    return Err(Finding::new(at, format!("more than {MAX_ALIASES} aliases in one document"))
                        .hint("write the values out; a manifest is short"));
                }
                let Some((target, height)) = anchors.get(&anchor) else {
                    return Err(Finding::new(at, "this alias stands inside the very value that it names")
                        .hint("write the value out"));
                };
                (Node { at, value: target.value.clone() }, 0, *height)
            }
            Event::SequenceStart(anchor, tag) => {
                first_tag = first_tag.or(tag.map(|_| at));
                open.push(Open { at, anchor, height: 0, inside: Inside::List(Vec::new()) });
                refuse_depth(open.len(), at)?;
                continue;
            }
            Event::MappingStart(anchor, tag) => {
                first_tag = first_tag.or(tag.map(|_| at));
                open.push(Open { at, anchor, height: 0, inside: Inside::Map(Vec::new(), None) });
                refuse_depth(open.len(), at)?;
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open { at, anchor, height, inside }) => {
                    let value = match inside {
                        Inside::List(items) => Value::List(items.into()),
                        Inside::Map(entries, _) => Value::Map(entries.into()),
                    };
                    (Node { at, value }, anchor, height + 1)
                }
                None => return Err(Finding::new(at, "this closes nothing")),
            },
        };
        refuse_depth(open.len() + height, at)?;
        if anchor != 0 {
            anchors.insert(anchor, (node.clone(), height));
        }
        let Some(parent) = open.last_mut() else {
            root = Some(node);
            continue;
        };
        parent.height = parent.height.max(height);
        match &mut parent.inside {
            Inside::List(items) => items.push(node),
            Inside::Map(entries, key) => match key.take() {
                None => {
                    odd_keys |= span.start.line() != span.end.line();
                    *key = Some(node);
                }
                Some(key) => entries.push((key, node)),
            },
        }
    }
    Ok(root.filter(|node| !node.is_null() || has_content(text)).map(|root| Tree { root, odd_keys, tag: first_tag }))
}

/// Returns whether a document has content: `~` and `null` are content, a comment is not.
fn has_content(text: &str) -> bool {
    text.lines()
        .map(|line| line.strip_prefix("---").unwrap_or(line).trim())
        .any(|line| !line.is_empty() && !line.starts_with('#'))
}

fn refuse_depth(depth: usize, at: Mark) -> Result<(), Finding> {
    if depth > MAX_DEPTH {
        return Err(Finding::new(at, format!("nested more than {MAX_DEPTH} levels deep")).hint("a manifest needs four"));
    }
    Ok(())
}

fn mark(span: &Span, first_line: u32) -> Mark {
    let (start, end) = (&span.start, &span.end);
    let length = if start.line() == end.line() { end.col().saturating_sub(start.col()) } else { 1 };
    Mark { line: line(start.line(), first_line), column: number(start.col() + 1), length: number(length.max(1)) }
}

fn line(line: usize, first_line: u32) -> u32 {
    number(line.max(1)).saturating_add(first_line - 1)
}

fn number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Replaces an error of the parser by an error with a hint.
fn not_yaml(text: &str, first_line: u32, error: &saphyr_parser::ScanError) -> Finding {
    let marker = error.marker();
    let mut at = Mark { line: line(marker.line(), first_line), column: number(marker.col() + 1), length: 1 };
    // The parser reports a tab only at the next key; the error is the tab.
    let relative = (at.line - first_line) as usize;
    for candidate in [relative, relative + 1, relative.wrapping_sub(1)] {
        let Some(content) = text.lines().nth(candidate) else { continue };
        let indent: String = content.chars().take_while(|c| matches!(c, ' ' | '\t')).collect();
        if let Some(tab) = indent.chars().position(|c| c == '\t') {
            at = Mark { line: first_line.saturating_add(number(candidate)), column: number(tab + 1), length: 1 };
            return Finding::new(at, "a tab in the indentation")
                .hint("indent with spaces; YAML does not allow tabs there");
        }
    }
    let info = error.info();
    let finding = Finding::new(at, format!("not valid YAML: {info}"));
    if info.contains("mapping values are not allowed") {
        finding.hint("indent this line like its neighbours; quote a value that contains `: `")
    } else if info.contains("anchor") || info.contains("alias") {
        finding.hint("an alias `*name` needs an anchor `&name` before it, in the same document")
    } else if info.contains("quote") || info.contains("scalar") {
        finding.hint("close the quotes, or indent the following lines further")
    } else {
        finding.hint("check the indentation and the brackets here and on the line before")
    }
}

/// The type that YAML 1.1 or 1.2 gives to an unquoted word, if that is not text.
pub(super) fn implied(text: &str) -> Option<&'static str> {
    let digits = |text: &str, digit: fn(char) -> bool| !text.is_empty() && text.chars().all(|c| digit(c) || c == '_');
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "" | "~" | "null" => return Some("nothing (null)"),
        "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" => return Some("a boolean"),
        ".inf" | "+.inf" | "-.inf" | ".nan" => return Some("a number"),
        _ => {}
    }
    let unsigned = lower.strip_prefix(['+', '-']).unwrap_or(&lower);
    let prefixed = unsigned.strip_prefix("0x").is_some_and(|rest| digits(rest, |c| c.is_ascii_hexdigit()))
        || unsigned.strip_prefix("0o").is_some_and(|rest| digits(rest, |c| c.is_digit(8)))
        || unsigned.strip_prefix("0b").is_some_and(|rest| digits(rest, |c| c.is_digit(2)));
    let sexagesimal =
        unsigned.split(':').count() > 1 && unsigned.split(':').all(|part| digits(part, |c| c.is_ascii_digit()));
    let decimal = || {
        let (mantissa, exponent) = unsigned.split_once('e').map_or((unsigned, None), |(m, e)| (m, Some(e)));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let part = |text: &str| text.is_empty() || digits(text, |c| c.is_ascii_digit());
        let exponent = exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e), |c| c.is_ascii_digit()));
        part(whole)
            && part(fraction)
            && exponent
            && mantissa.chars().any(|c| c.is_ascii_digit())
            && !whole.starts_with('_')
    };
    (prefixed || sexagesimal || decimal()).then_some("a number")
}

/// Returns whether a YAML reader, of version 1.1 or 1.2, may read an unquoted text as another type: `no`, `1_000`,
/// `12:30`, `2026-11-24`, `<<`.
pub(super) fn is_ambiguous(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits =
        |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    let date = digits(0..4) && bytes.get(4) == Some(&b'-') && digits(5..6);
    let clock = text.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && text.chars().all(|c| c.is_ascii_digit() || "+-_:.".contains(c));
    implied(text).is_some() || date || clock || matches!(text, "<<" | "=")
}

#[cfg(test)]
mod tests {
    #[test]
    fn ambiguous_texts() {
        for text in [
            "no",
            "Y",
            "1_000",
            "12:30",
            "1:30.5",
            "2026-11-24",
            "2026-1-1 10:00",
            "2026-11-24T10:00",
            "<<",
            "=",
            "~",
            "",
            ".5",
        ] {
            assert!(is_ambiguous(text), "{text:?}");
        }
        for text in ["ticket-bot", "60c72b2f9b1e8d001c8e4f3a", "v1.2", "a=b", "Fri 21:00", "1h30m", "2026a"] {
            assert!(!is_ambiguous(text), "{text:?}");
        }
    }

    use super::*;

    #[test]
    fn words_that_yaml_does_not_read_as_text() {
        for word in [
            "123",
            "123456789012345678901234",
            "60e123456789012345678901",
            "0x1f",
            "1_000",
            "0o17",
            "0b1",
            "-5",
            "+.5",
            "1.5e-3",
            "12:30",
            ".inf",
            ".NaN",
        ] {
            assert_eq!(implied(word), Some("a number"), "{word}");
        }
        for word in ["yes", "No", "ON", "off", "true", "False", "y", "N"] {
            assert_eq!(implied(word), Some("a boolean"), "{word}");
        }
        for word in ["", "~", "null", "NULL"] {
            assert_eq!(implied(word), Some("nothing (null)"), "{word}");
        }
        for word in
            ["60c72b2f9b1e8d001c8e4f3a", "support", "e5", "1e", "1e5f", "_1", "2026-11-24", "v1.2.3", "1.2.3", "-", "."]
        {
            assert_eq!(implied(word), None, "{word}");
        }
    }

    #[test]
    fn marks_point_at_tokens() {
        let tree = parse("a: 1\nbé: {c: \"dd\"}\n", 10).expect("is YAML").expect("has content");
        let Value::Map(entries) = &tree.root.value else { panic!("a map") };
        let (key, value) = &entries[1];
        assert_eq!(key.at, Mark { line: 11, column: 1, length: 2 });
        let Value::Map(inner) = &value.value else { panic!("a map") };
        assert_eq!(inner[0].1.at, Mark { line: 11, column: 9, length: 4 });
    }
}
