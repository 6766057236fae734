//! The only writer of text output: escapes, tables, spans of time. Its output is also readable in a pipe.
//!
//! Foreign text (a manifest, a server, an argument) becomes a field by [`escape`]; a page of fields passes
//! `printable::page` before the output. Machine formats go through [`print_data`].

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::fd::AsFd;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use terminal_size::{Width, terminal_size_of};

use crate::manifest::diagnostic::Diagnostic;
use crate::manifest::schema::is_ambiguous;
use crate::printable;
pub(super) use crate::printable::escape;

/// Error for a reader that closed the pipe of stdout, as `| head -1` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

/// Writes a page for a person to stdout.
pub(super) fn print(page: &str) -> anyhow::Result<()> {
    print_data(&printable::page(&wrap(page, width_of(&io::stdout()))))
}

/// Width of a terminal; nothing is wrapped in a pipe.
fn width_of(stream: &impl AsFd) -> Option<usize> {
    terminal_size_of(stream).map(|(Width(width), _)| width.into()).filter(|width| *width > 0)
}

/// Breaks lines between words, so that a terminal does not break them within a word.
fn wrap(page: &str, width: Option<usize>) -> Cow<'_, str> {
    let Some(width) = width else { return page.into() };
    let is_long = |line: &str| textwrap::core::display_width(line) > width && !is_excerpt(line);
    if !page.lines().any(is_long) {
        return page.into();
    }
    let wrap = |line: &str| {
        if !is_long(line) {
            return line.to_owned();
        }
        let indent = line.len() - line.trim_start().len();
        let indent = " ".repeat(if indent * 2 > width { 0 } else { indent + 2 });
        let options = textwrap::Options::new(width)
            .subsequent_indent(&indent)
            .break_words(false)
            .word_separator(textwrap::WordSeparator::AsciiSpace)
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        textwrap::fill(line, options)
    };
    let end = if page.ends_with('\n') { "\n" } else { "" };
    (page.lines().map(wrap).collect::<Vec<_>>().join("\n") + end).into()
}

/// Whether a line shows a part of a file, with marks below it that must stay in place: `12 | text`, in any colour.
fn is_excerpt(line: &str) -> bool {
    line.trim_start_matches(|c: char| " \x1b[;m".contains(c) || c.is_ascii_digit()).starts_with('|')
}

/// Writes data for a machine to stdout. Output after a closed pipe is discarded: a closed pipe changes neither the
/// result nor the exit code.
pub(super) fn print_data(data: &str) -> anyhow::Result<()> {
    print_live(data).map(|_| ())
}

/// Writes data, or the sequences that move a terminal's cursor, for a command that ends when its reader does.
pub(super) fn print_live(data: &str) -> anyhow::Result<Result<(), Closed>> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(data.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Ok(())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Err(Closed)),
        Err(error) => Err(error).context("could not write to stdout"),
    }
}

/// Writes a page for a person to stderr, beside the data.
pub(super) fn print_note(page: &str) {
    // Without stderr there is no place to report an error.
    let _ = writeln!(io::stderr(), "{}", printable::page(&wrap(page, width_of(&io::stderr()))));
}

/// Writes an error and its causes to stderr, on one line.
pub(super) fn print_error(error: &anyhow::Error) {
    print_note(&format!("error: {}", escape(&format!("{error:#}"))));
}

/// JSON on one line, harmless on a terminal.
pub(super) fn json(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(printable::json(&serde_json::to_string(value)?).into_owned() + "\n")
}

/// JSON on several lines, harmless on a terminal.
pub(super) fn json_pretty(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(printable::json(&serde_json::to_string_pretty(value)?).into_owned() + "\n")
}

/// YAML, harmless on a terminal, and with the same meaning in YAML 1.1. A text that needs escapes is quoted, because
/// YAML has escapes only within quotes, and each line of a block would be a line of the page.
pub(super) fn yaml(value: &Value) -> anyhow::Result<String> {
    let (mut value, mut quoted) = (value.clone(), Vec::new());
    set_aside(&mut value, &mut quoted);
    let page = serde_yaml::to_string(&value)?;
    let mut parts = page.split(MARK);
    let mut text = parts.next().unwrap_or_default().to_owned();
    while let (Some(number), Some(rest)) = (parts.next(), parts.next()) {
        text += number.parse::<usize>().ok().and_then(|number| quoted.get(number)).map_or("", String::as_str);
        text += rest;
    }
    Ok(text)
}

/// Encloses the number of a text that is quoted later. A text that contains this character is quoted later, too.
const MARK: char = '\u{e000}';

fn set_aside(value: &mut Value, quoted: &mut Vec<String>) {
    let mut quote = |text: &str| {
        // JSON escapes a character beyond the first plane as two, which YAML does not join.
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        let escaped = printable::with_escapes(&text, |safe, c| {
            let _ = write!(safe, "\\U{:08x}", u32::from(c));
        });
        quoted.push(format!("\"{escaped}\""));
        format!("{MARK}{}{MARK}", quoted.len() - 1)
    };
    let set_apart =
        |text: &str| !printable::is_harmless(text) || text.trim_start().starts_with("::") || is_ambiguous(text);
    match value {
        Value::String(text) if set_apart(text) => *text = quote(text),
        Value::Array(values) => values.iter_mut().for_each(|value| set_aside(value, quoted)),
        Value::Object(fields) => {
            for key in fields.keys().filter(|key| set_apart(key)).cloned().collect::<Vec<_>>() {
                if let Some(value) = fields.remove(&key) {
                    fields.insert(quote(&key), value);
                }
            }
            fields.values_mut().for_each(|value| set_aside(value, quoted));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// One cell: its text, and the SGR code of its colour on a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    colour: Option<&'static str>,
}

impl Cell {
    pub(super) fn new(text: &str, colour: Option<&'static str>) -> Self {
        Self { text: escape(text).into_owned(), colour }
    }

    fn length(&self) -> usize {
        self.text.chars().count()
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(text, None)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) colour: bool,
    /// Width of the terminal; nothing is cut off in a pipe.
    pub(super) width: Option<usize>,
}

/// Width of each column.
pub(super) fn widths(rows: &[Vec<Cell>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column| rows.iter().filter_map(|row| row.get(column)).map(Cell::length).max().unwrap_or(0);
    (0..columns).map(width).collect()
}

/// Minimum width of the first column of a table, which is the name.
pub(super) const SHORTEST_NAME: usize = 16;

/// Aligns rows, two blanks between columns. A row that is too wide loses the end of its first column, which is the
/// name, and then the end of the line.
pub(super) fn render(rows: &[Vec<Cell>], layout: Layout) -> Vec<String> {
    let length = |text: &str| text.chars().count();
    let mut widths = widths(rows);
    if let (Some(width), Some(first)) = (layout.width, widths.first().copied()) {
        let total = widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
        widths[0] = first.saturating_sub(total.saturating_sub(width)).max(first.min(SHORTEST_NAME));
    }
    let line = |row: &Vec<Cell>| {
        let (mut line, mut used) = (String::new(), 0);
        for (column, cell) in row.iter().enumerate() {
            let left = layout.width.map_or(usize::MAX, |width| width.saturating_sub(used));
            let most = if column == 0 { widths[0].min(left) } else { left };
            let text = clip(&cell.text, most);
            // No blanks at the end of a line.
            let pad = if column + 1 == row.len() { 0 } else { widths[column] + 2 - length(&text).min(widths[column]) };
            used += length(&text) + pad;
            // Writing to a String cannot fail.
            let _ = match cell.colour.filter(|_| layout.colour) {
                Some(colour) => write!(line, "\x1b[{colour}m{text}\x1b[0m{:pad$}", ""),
                None => write!(line, "{text}{:pad$}", ""),
            };
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

pub(super) fn lines<T: AsRef<str>>(lines: impl IntoIterator<Item = T>) -> String {
    lines.into_iter().fold(String::new(), |text, line| text + line.as_ref() + "\n")
}

/// At most `most` characters of a text; the last one is `…` if there were more.
pub(super) fn clip(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain((most > 0).then_some('…')).collect()
}

/// Maximum number of printed errors; more would hide the rest of the page.
const ERRORS: usize = 100;
/// Maximum number of printed warnings.
const WARNINGS: usize = 20;

/// Diagnostics as text: errors first, then warnings; a document of another tool is one line.
pub(super) fn diagnostics(all: &[Diagnostic], colour: bool) -> String {
    let page = |diagnostic: &&Diagnostic| {
        if diagnostic.is_foreign() {
            let found = diagnostic.found.as_deref().unwrap_or_default();
            format!("warning: {}: {} ({})\n", diagnostic.location(), diagnostic.message, escape(found))
        } else {
            diagnostic.render(colour) + "\n"
        }
    };
    let mut text = String::new();
    let (errors, warnings): (Vec<&Diagnostic>, Vec<_>) = all.iter().partition(|diagnostic| diagnostic.is_error());
    for (list, most, word) in [(&errors, ERRORS, "errors"), (&warnings, WARNINGS, "warnings")] {
        text.extend(list.iter().take(most).map(page));
        if list.len() > most {
            let more = thousands(list.len() - most);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "and {more} more {word}; `campos-operator validate -o json` lists them");
        }
    }
    if warnings.iter().any(|warning| warning.is_foreign()) {
        text += "help: to skip files of other tools, name them in .camposignore or with --exclude\n";
    }
    text
}

/// A number with a thousands separator: `2,990`.
pub(super) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// A span of time as kubectl writes it: short, and never negative.
pub(super) fn span(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{minutes}m"),
        7_200..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::client::App;
    use super::json as json_line;
    use super::*;
    use crate::printable::tests::{assert_harmless, hostile};

    /// An app with `text` in each text field.
    pub(in super::super) fn of_others(text: &str) -> App {
        let condition = |kind: &str| json!({"type": kind, "status": text, "reason": text, "message": text});
        let app = json!({
            "metadata": {"name": text, "labels": {text: text, "a": text}, "annotations": {"b": text}, "generation": 1},
            "spec": {"appId": text, "policy": text, "suspend": {"reason": text}},
            "status": {
                "revision": text, "source": {"file": text, "line": 1}, "desired": text, "desiredBecause": text,
                "observed": text, "conditions": [condition("Ready"), condition("Stalled")],
                "lastAction": {"action": text, "result": text, "returnedStatus": text, "error": text},
                "nextTransition": {"at": "2026-11-24T15:00:00Z", "state": text}
            }
        });
        App::try_from(app).unwrap()
    }

    /// Fails unless the printed page is harmless, and has as many lines as that of a harmless text.
    #[track_caller]
    pub(in super::super) fn assert_page(page: &str, plain: &str) {
        let printed = printable::page(page);
        assert_harmless(&printed);
        assert_eq!(printed.lines().count(), plain.lines().count(), "{printed}");
    }

    #[test]
    fn lines_are_wrapped_between_words() {
        let page = "app-name: Ready=False ApiUnavailable: the platform does not answer\n  in a list, indented: the \
                    platform does not answer\n12 |   - {state: Running, from: \"22:00\", to: \"06:00\"}\n\
                    https://example.com/a/very/long/address/of/a/page\nshort\n";
        insta::assert_snapshot!(wrap(page, Some(30)), @r#"
        app-name: Ready=False
          ApiUnavailable: the platform
          does not answer
          in a list, indented: the
            platform does not answer
        12 |   - {state: Running, from: "22:00", to: "06:00"}
        https://example.com/a/very/long/address/of/a/page
        short
        "#);
        assert_eq!(wrap(page, None), page);
        assert_eq!(wrap(page, Some(80)), page);
    }

    proptest! {
        #[test]
        fn wrapping_changes_blanks_only(page in "([a-z:]{1,12}[ \n]{1,3}){0,40}", width in 1usize..60) {
            let wrapped = wrap(&page, Some(width));
            prop_assert!(wrapped.split_whitespace().eq(page.split_whitespace()), "{}", wrapped);
            let fits = |line: &str| line.trim_end().chars().count() <= width || !line.trim().contains(' ');
            prop_assert!(wrapped.lines().all(fits), "{}", wrapped);
        }

        #[test]
        fn yaml_is_the_same_yaml_and_harmless(text in hostile(), other in hostile()) {
            let value = json!({"a": [&text, {&*other: "\u{e000}0\u{e000}"}], "b": {"plain": "x: y"}, &*text: &other});
            let page = yaml(&value).unwrap();
            prop_assert_eq!(serde_yaml::from_str::<Value>(&page).unwrap(), value, "{}", page);
            prop_assert!(!page.contains(|c| c != '\n' && printable::acts(c)), "{:?}", page);
            assert_harmless(&page);
        }
    }

    /// Texts that a reader of YAML 1.1 takes for another type, and some that it does not.
    const TEXTS: [&str; 31] = [
        "no",
        "On",
        "y",
        "N",
        "1_000",
        "12:30",
        "1:30.5",
        "0o17",
        "017",
        "0b1",
        "0x1F",
        "1e3",
        ".5",
        "-1",
        "+1.5",
        ".inf",
        ".NaN",
        "2026-01-01",
        "2026-1-1 10:00:00",
        "<<",
        "=",
        "~",
        "null",
        "",
        " x",
        "a: b",
        "x #y",
        "two\nlines",
        "- a",
        "{a}",
        "caf\u{e9}",
    ];

    fn manifest(texts: &[&str]) -> Value {
        let notes: serde_json::Map<String, Value> =
            texts.iter().enumerate().map(|(at, text)| (format!("note-{at}"), json!(text))).collect();
        let labels: serde_json::Map<String, Value> =
            texts.iter().map(|text| ((*text).to_owned(), json!(text))).collect();
        let windows = json!([
            {"state": "Stopped", "from": "03:00", "to": "06:00", "days": "Mon-Thu", "reason": texts[0]},
            {"state": "Stopped", "from": "2099-01-01T00:00:00"},
            {"state": "Stopped", "cron": "0 12 * * 1-5", "duration": "1h"},
        ]);
        let suspend = json!({"reason": texts[0], "until": "2099-12-24T06:00:00Z"});
        json!({
            "apiVersion": "campos-operator.dev/v1", "kind": "App",
            "metadata": {"name": "app", "labels": labels, "annotations": notes},
            "spec": {"appId": "007", "state": "Running", "suspend": suspend,
                "schedule": {"timeZone": "America/Sao_Paulo", "windows": windows}},
        })
    }

    /// The object that the reader of manifests reads from a text.
    #[track_caller]
    fn object(text: &str) -> std::sync::Arc<crate::reconcile::desired::Object> {
        let file = if text.starts_with('{') { "a.json" } else { "a.yaml" };
        let parsed = crate::manifest::load::parse(&file.into(), text.as_bytes());
        assert_eq!(parsed.diagnostics, [], "{text}");
        match &parsed.documents[..] {
            [crate::manifest::load::Document { content: crate::manifest::load::Content::Good(object), .. }] => {
                object.clone()
            }
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn exported_manifests_are_read_back(text in hostile(), other in proptest::sample::select(TEXTS.to_vec())) {
            let value = manifest(&[&text, other]);
            prop_assert_eq!(object(&yaml(&value).unwrap()), object(&json_line(&value).unwrap()));
        }
    }

    #[test]
    fn ambiguous_texts_are_exported_in_quotes() {
        let value = manifest(&TEXTS);
        let page = yaml(&value).unwrap();
        assert_eq!(object(&page), object(&json_line(&value).unwrap()));
        for text in ["appId: \"007\"", "from: \"03:00\"", "note-0: \"no\"", "note-4: \"1_000\"", "\"<<\": \"<<\""] {
            assert!(page.contains(text), "{text} is not in\n{page}");
        }
    }

    /// For `.ci/run`, which loads the file with `PyYAML`, a reader of YAML 1.1, and compares.
    #[test]
    #[ignore = "writes files for another program"]
    fn write_samples_for_pyyaml() {
        use proptest::strategy::ValueTree as _;

        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/yaml11");
        std::fs::create_dir_all(&directory).unwrap();
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        for number in 0..200 {
            let text = hostile().new_tree(&mut runner).unwrap().current();
            let value = if number == 0 { manifest(&TEXTS) } else { manifest(&[&text, TEXTS[number % TEXTS.len()]]) };
            std::fs::write(directory.join(format!("{number}.yaml")), yaml(&value).unwrap()).unwrap();
            std::fs::write(directory.join(format!("{number}.json")), value.to_string()).unwrap();
        }
    }

    #[test]
    fn plain_yaml_looks_as_serde_writes_it() {
        let value = json!({"a": "x1", "b": ["x y", true, null], "c": "caf\u{e9}"});
        assert_eq!(yaml(&value).unwrap(), serde_yaml::to_string(&value).unwrap());
        assert_eq!(yaml(&json!({"a": "two\nlines \"q\""})).unwrap(), "a: \"two\\U0000000alines \\\"q\\\"\"\n");
    }

    fn rows() -> Vec<Vec<Cell>> {
        let red = Cell::new("False", Some("31"));
        vec![
            vec!["NAME".into(), "READY".into(), "REASON".into()],
            vec!["a-name-that-is-rather-long".into(), red, "Stopping".into()],
        ]
    }

    #[test]
    fn a_pipe_gets_everything() {
        let lines = render(&rows(), Layout { colour: false, width: None });
        assert_eq!(lines, ["NAME                        READY  REASON", "a-name-that-is-rather-long  False  Stopping"]);
    }

    #[test]
    fn a_terminal_gets_what_fits() {
        let lines = render(&rows(), Layout { colour: true, width: Some(34) });
        assert_eq!(lines[0], "NAME               READY  REASON");
        assert_eq!(lines[1], "a-name-that-is-r…  \x1b[31mFalse\x1b[0m  Stopping");
        let narrow = render(&rows(), Layout { colour: false, width: Some(20) });
        assert!(narrow.iter().all(|line| line.chars().count() <= 20), "{narrow:?}");
    }

    #[test]
    fn spans() {
        let at = |seconds: i64| Timestamp::UNIX_EPOCH + std::time::Duration::from_secs(seconds.unsigned_abs());
        for (seconds, text) in
            [(0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172_800, "2d"), (8_640_000, "100d")]
        {
            assert_eq!(span(at(0), at(seconds)), text);
        }
        assert_eq!(span(at(5), at(0)), "0s", "clocks differ");
    }
}
