//! Bytes of one file to its documents and diagnostics.
//!
//! Pure. Each document is read separately, so an error affects the newest version of one app only. For any bytes, this
//! ends soon and does not panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use super::calendar::{self, Calendar};
use super::diagnostic::{Diagnostic, FOREIGN, Mark, Severity};
use super::foreign::{Evidence, Foreign, foreign_text};
use super::recognize::{self, Mistakes};
use super::schema::{self, APPROVAL_KIND, Item, Kind, Reading, Reference, SCHEDULE_KIND};
use super::second_opinion;
use super::windows::Draft;
use super::yaml::{self, Finding};
use crate::reconcile::app::AppName;
use crate::reconcile::desired::Object;
use crate::reconcile::max_changes::Approval;
use crate::reconcile::reason::Reason;

/// Maximum size of a manifest file, in bytes: enough for hundreds of apps, and too small to block a parser.
pub const MAX_FILE: usize = 256 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParsedFile {
    /// The documents of kind App, in the order of the text.
    pub documents: Vec<Document>,
    /// The documents of kind Schedule.
    pub schedules: Vec<ScheduleDocument>,
    /// The valid documents of kind Approval.
    pub approvals: Vec<ApprovalDocument>,
    /// Set for a calendar.
    pub calendar: Option<Arc<Calendar>>,
    /// All errors and warnings, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
    /// Whether an object that is not among the documents is certainly not in the file. False after any error, and for a
    /// blank file, which may be half-written.
    pub conclusive: bool,
    /// Number of foreign documents that name no API: each may be the rest of a manifest.
    pub vague: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The object it declares, if its name can be read.
    pub name: Option<AppName>,
    /// Line of its first key.
    pub line: u32,
    /// Place of `metadata.name`.
    pub name_at: Mark,
    /// Place of `spec.appId`.
    pub app_id_at: Mark,
    /// Place of `spec.suspend`, if it is there.
    pub suspend_at: Option<Mark>,
    /// Place of `spec.override`, if it is there.
    pub override_at: Option<Mark>,
    /// Place of each window of `spec.schedule`.
    pub windows_at: Box<[Mark]>,
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleDocument {
    pub name: AppName,
    pub name_at: Mark,
    /// Its content, or the first of its errors.
    pub content: Result<Arc<Draft>, Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalDocument {
    pub approval: Approval,
    /// Place of `spec.until`.
    pub until_at: Mark,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Good(Arc<Object>),
    /// Valid, but without the windows of its Schedule.
    Refers(Arc<Object>, Reference),
    /// Invalid: the first of its errors, as one line with its place.
    Bad(Arc<str>),
}

/// Maximum number of reported errors of one document: enough to fix it, and few enough for a log.
const MAX_FINDINGS: usize = 100;

/// Reads the bytes of one file, called `file` in diagnostics.
pub fn parse(file: &Arc<str>, bytes: &[u8]) -> ParsedFile {
    // The parsers have no known panic. An unknown one would affect this file only, not the thread that reads all files.
    catch_unwind(AssertUnwindSafe(|| parse_checked(file, bytes))).unwrap_or_else(|_| {
        let hint = Some("simplify the file, and please report it as a bug with the file attached");
        ParsedFile::rejected(Diagnostic::about_file(file, "the YAML reader broke down over this file", hint))
    })
}

impl ParsedFile {
    pub(super) fn rejected(diagnostic: Diagnostic) -> Self {
        Self { diagnostics: vec![diagnostic], ..Self::default() }
    }
}

fn parse_checked(file: &Arc<str>, bytes: &[u8]) -> ParsedFile {
    if is_calendar(file) {
        return parse_calendar(file, bytes);
    }
    if let Some(finding) = recognize::encrypted(bytes) {
        return ParsedFile::rejected(Placer::new(file, "").place(finding));
    }
    let text = match decode(file, bytes) {
        Ok(text) => text,
        Err(finding) => return unreadable(file, &String::from_utf8_lossy(bytes), finding),
    };
    if text.trim().is_empty() {
        let mut empty = Diagnostic::about_file(
            file,
            "the file is empty",
            Some("write a manifest, or remove the file to release its apps"),
        );
        empty.severity = Severity::Warning;
        return ParsedFile::rejected(empty);
    }
    if let Some(finding) = recognize::conflict(&text) {
        return unreadable(file, &text, finding);
    }
    // Usually there is one document; the default growth would begin with four.
    let mut parsed = ParsedFile { documents: Vec::with_capacity(1), ..ParsedFile::default() };
    let mut placer = Placer::new(file, &text);
    let mut doubtful = false;
    for chunk in documents(&text) {
        for reading in read(&chunk) {
            let Reading { at, kind, name, name_at, app_id_at, item, findings, foreign, .. } = reading;
            let Reading { suspend_at, override_at, windows_at, .. } = reading;
            if let Some(foreign) = foreign {
                parsed.vague += usize::from(foreign.evidence == Evidence::Neither);
                doubtful |= foreign.evidence == Evidence::Unreadable;
                parsed.diagnostics.push(placer.warn_of(at, foreign));
                continue;
            }
            let diagnostics: Vec<Diagnostic> =
                findings.into_iter().take(MAX_FINDINGS).map(|finding| placer.place(finding)).collect();
            let first_error =
                || diagnostics.first().map_or("the document cannot be read".into(), |one| one.one_line().into());
            let item = item.filter(|_| diagnostics.is_empty());
            let mut app = |content| {
                let line = at.line;
                parsed.documents.push(Document {
                    name: name.clone(),
                    line,
                    name_at,
                    app_id_at,
                    suspend_at,
                    override_at,
                    windows_at: windows_at.clone(),
                    content,
                });
            };
            let mut schedule =
                |content| parsed.schedules.extend(name.clone().map(|name| ScheduleDocument { name, name_at, content }));
            match (item, kind) {
                (Some(Item::App(object, None)), _) => app(Content::Good(Arc::new(object))),
                (Some(Item::App(object, Some(reference))), _) => app(Content::Refers(Arc::new(object), reference)),
                (Some(Item::Schedule(draft)), _) => schedule(Ok(Arc::new(draft))),
                (Some(Item::Approval(mut approval, until_at)), _) => {
                    approval.place.file = file.clone();
                    parsed.approvals.push(ApprovalDocument { approval, until_at });
                }
                (None, Kind::App) => app(Content::Bad(first_error())),
                (None, Kind::Schedule) => schedule(Err(first_error())),
                (None, Kind::Approval) => {}
            }
            // A template with many documents is one error.
            let is_new = |new: &Diagnostic| {
                !recognize::concerns_file(&new.message)
                    || parsed.diagnostics.iter().all(|one| one.message != new.message)
            };
            let new: Vec<Diagnostic> = diagnostics.into_iter().filter(is_new).collect();
            parsed.diagnostics.extend(new);
        }
    }
    parsed.conclusive = !doubtful && !parsed.diagnostics.iter().any(Diagnostic::is_error);
    parsed
}

fn parse_calendar(file: &Arc<str>, bytes: &[u8]) -> ParsedFile {
    let text = decode(file, bytes);
    let read =
        text.as_ref().map_err(|finding| vec![finding.clone()]).and_then(|text| match recognize::conflict(text) {
            Some(finding) => Err(vec![finding]),
            None => calendar::read(text),
        });
    match read {
        Ok(calendar) => ParsedFile { calendar: Some(calendar.into()), conclusive: true, ..ParsedFile::default() },
        Err(findings) => {
            let text = String::from_utf8_lossy(bytes);
            let mut placer = Placer::new(file, &text);
            let diagnostics = findings.into_iter().take(MAX_FINDINGS).map(|finding| placer.place(finding)).collect();
            ParsedFile { diagnostics, ..ParsedFile::default() }
        }
    }
}

/// The result for an unreadable text: an invalid manifest, unless it is certainly the file of another tool.
fn unreadable(file: &Arc<str>, text: &str, finding: Finding) -> ParsedFile {
    let mut placer = Placer::new(file, text);
    ParsedFile::rejected(match foreign_text(text, Some(&finding.message)) {
        Some(foreign) => placer.warn_of(finding.at, foreign),
        None => placer.place(finding),
    })
}

/// The bytes as text, if they can be YAML.
fn decode(file: &str, bytes: &[u8]) -> Result<String, Finding> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.len() > MAX_FILE {
        return Err(Finding::new(Mark::START, format!("the file is larger than {} KiB", MAX_FILE / 1024))
            .hint("split it into several files"));
    }
    if bytes.starts_with(&[0xff, 0xfe])
        || bytes.starts_with(&[0xfe, 0xff])
        || (bytes.len() > 1 && (bytes[0] == 0) != (bytes[1] == 0))
    {
        return Err(Finding::new(Mark::START, "the file is UTF-16, not UTF-8").hint("save it as UTF-8"));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let found = format!("byte 0x{:02x}", bytes[error.valid_up_to()]);
            return Err(Finding::new(end_of(&good), "the file is not UTF-8").found(found).hint("save it as UTF-8"));
        }
    };
    let stray = |(at, c): (usize, char)| match c {
        '\n' | '\t' => false,
        '\r' => !text[at + 1..].starts_with('\n'),
        // YAML 1.1 breaks lines at the last three, YAML 1.2 does not: no two readers agree on such a file.
        '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => true,
        c => c.is_control(),
    };
    if let Some((at, c)) = text.char_indices().find(|&found| stray(found)) {
        return Err(Finding::new(end_of(&text[..at]), "a control character")
            .found(format!("U+{:04X}", u32::from(c)))
            .hint("remove it; in double quotes it can be written as an escape"));
    }
    let json = Path::new(file).extension().is_some_and(|ending| ending == "json");
    Ok(if json { yaml_of_json(text) } else { text.to_owned() })
}

/// Replaces the two elements of JSON that YAML does not have. A tab between tokens becomes a blank; a character beyond
/// the Basic Multilingual Plane, which JSON escapes as two surrogates, becomes itself.
fn yaml_of_json(text: &str) -> String {
    let mut yaml = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\t', '\\']) {
        yaml.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = if rest.starts_with('\t') {
            yaml.push(' ');
            1
        } else if let Some(c) = surrogates(rest) {
            yaml.push(c);
            12
        } else {
            // With the escaped character, so that an escaped backslash does not begin another escape.
            let escape = rest.char_indices().nth(2).map_or(rest.len(), |(next, _)| next);
            yaml.push_str(&rest[..escape]);
            escape
        };
        rest = &rest[taken..];
    }
    yaml + rest
}

/// The character of a pair of escaped surrogates, such as `\uD83D\uDE00`, at the beginning of `text`.
fn surrogates(text: &str) -> Option<char> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
    };
    let (high, low) = (unit(0)?, unit(6)?);
    let both = (0xd800..0xdc00).contains(&high) && (0xdc00..0xe000).contains(&low);
    both.then(|| char::decode_utf16([high, low]).next()?.ok())?
}

/// The mark after the end of `text`.
fn end_of(text: &str) -> Mark {
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Mark { line: u32::try_from(line).unwrap_or(u32::MAX), column: u32::try_from(column).unwrap_or(u32::MAX), length: 1 }
}

/// The text of one document, and its first line.
pub(super) struct Chunk<'a> {
    pub(super) text: &'a str,
    pub(super) first_line: u32,
}

/// Splits the text at its document markers. No scalar can contain one (YAML: "forbidden content"), so the split needs
/// no parser, and a document that is not YAML does not affect the others.
pub(super) fn documents(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut first_line, mut offset) = (0, 1, 0);
    for (line, content) in (1u32..).zip(text.split_inclusive('\n')) {
        let marker = |mark: &str| {
            content.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        };
        let next = offset + content.len();
        if marker("---") {
            chunks.push(Chunk { text: &text[start..offset], first_line });
            (start, first_line) = (offset, line);
        } else if marker("...") {
            chunks.push(Chunk { text: &text[start..offset], first_line });
            (start, first_line) = (next, line + 1);
        }
        offset = next;
    }
    chunks.push(Chunk { text: &text[start..], first_line });
    chunks.retain(|chunk| {
        let is_blank = |line: &str| {
            line.trim().is_empty()
                || line.trim_start().starts_with('#')
                || line.starts_with("%YAML ")
                || line.starts_with("%TAG ")
        };
        !chunk.text.lines().all(is_blank)
    });
    chunks
}

/// Reads the objects of one document. A text that is not YAML is one object with at most a name.
fn read(chunk: &Chunk<'_>) -> Vec<Reading> {
    let tree = match yaml::parse(chunk.text, chunk.first_line)
        .or_else(|finding| without_tabs(chunk).map(Some).ok_or(finding))
    {
        Ok(Some(tree)) => tree,
        Ok(None) => return Vec::new(),
        Err(finding) => return vec![broken(chunk, finding)],
    };
    let mut readings = schema::read(&tree.root);
    if let Some(at) = tree.tag
        && (readings.is_empty() || readings.iter().any(|reading| reading.foreign.is_none()))
    {
        let finding = Finding::new(at, "manifests have no use for YAML tags (`!..`)");
        return vec![broken(chunk, finding.hint("remove the tag; quote a value that is text"))];
    }
    for reading in readings.iter_mut().filter(|reading| !reading.findings.is_empty()) {
        let lines: Vec<u32> = reading.findings.iter().map(|finding| finding.at.line).collect();
        if let Some(cause) =
            recognize::cause(chunk.text, Mistakes { first_line: chunk.first_line, lines: &lines, is_yaml: true })
        {
            reading.findings = vec![cause];
        }
    }
    if second_opinion::is_needed(&tree, chunk.text)
        && readings.iter().any(|reading| reading.item.is_some())
        && let Err(finding) = second_opinion::agrees(&tree.root, chunk.text, chunk.first_line)
    {
        for reading in &mut readings {
            reading.item = None;
        }
        match &mut readings[..] {
            [alone] => alone.findings.push(finding),
            _ => readings.insert(0, Reading::nothing(tree.root.at, vec![finding])),
        }
    }
    readings
}

/// A document that is not YAML, or has YAML that manifests do not allow.
fn broken(chunk: &Chunk<'_>, finding: Finding) -> Reading {
    let at = Mark { line: first_content_line(chunk), ..Mark::START };
    let cause = recognize::cause(
        chunk.text,
        Mistakes { first_line: chunk.first_line, lines: &[finding.at.line], is_yaml: false },
    );
    let foreign = foreign_text(chunk.text, cause.as_ref().map(|cause| &*cause.message));
    let findings = if foreign.is_some() { Vec::new() } else { vec![cause.unwrap_or(finding)] };
    let names = |kind: &&(Kind, &str)| chunk.text.lines().any(|line| is_kind(line, kind.1));
    let kind = [(Kind::Schedule, SCHEDULE_KIND), (Kind::Approval, APPROVAL_KIND)].iter().find(names).map(|kind| kind.0);
    Reading {
        name: recover_name(chunk.text),
        kind: kind.unwrap_or(Kind::App),
        foreign,
        ..Reading::nothing(at, findings)
    }
}

/// Returns whether a line at the left margin names a kind.
fn is_kind(line: &str, kind: &str) -> bool {
    let value = line.strip_prefix("kind:").and_then(|value| value.split(" #").next());
    value.is_some_and(|value| value.trim().trim_matches(['"', '\'']) == kind)
}

/// Returns whether a file is read as a calendar.
pub(super) fn is_calendar(file: &str) -> bool {
    file.ends_with(calendar::ENDING)
}

/// The tree of a document with tabs after colons, which YAML allows and the parser does not. `second_opinion` compares
/// it with the original text, because a tab in a text of several lines would be lost.
fn without_tabs(chunk: &Chunk<'_>) -> Option<yaml::Tree> {
    let (mut plain, mut after_colon) = (String::with_capacity(chunk.text.len()), false);
    for c in chunk.text.chars() {
        let tab = after_colon && c == '\t';
        after_colon = c == ':' || tab;
        plain.push(if tab { ' ' } else { c });
    }
    (plain != chunk.text).then(|| yaml::parse(&plain, chunk.first_line).ok().flatten())?
}

/// The first accepted document of a file that `serde_yaml` reads differently: for tests and the fuzz target, since
/// `read` compares few documents.
#[cfg(any(test, fuzzing))]
pub fn disagreement(bytes: &[u8]) -> Option<String> {
    let text = decode("fuzz.yaml", bytes).ok()?;
    documents(&text).into_iter().find_map(|chunk| {
        let tree = yaml::parse(chunk.text, chunk.first_line).ok()??;
        let accepted = read(&chunk).iter().all(|reading| reading.item.is_some());
        let problem = second_opinion::agrees(&tree.root, chunk.text, chunk.first_line).err().filter(|_| accepted)?;
        Some(format!("{}: {}", problem.message, chunk.text))
    })
}

fn first_content_line(chunk: &Chunk<'_>) -> u32 {
    let blank = |line: &str| {
        let line = line.strip_prefix("---").unwrap_or(line).trim();
        line.is_empty() || line.starts_with('#')
    };
    (chunk.first_line..)
        .zip(chunk.text.lines())
        .find(|(_, line)| !blank(line))
        .map_or(chunk.first_line, |(number, _)| number)
}

/// `metadata.name` of a text that is not YAML, found by its lines, so that the object is reported as invalid.
fn recover_name(text: &str) -> Option<AppName> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("metadata:"));
    let flow = lines.next()?.strip_prefix("metadata:")?.trim();
    let value = if flow.starts_with('{') {
        flow.trim_matches(['{', '}', ' ']).split(',').find_map(|part| part.trim().strip_prefix("name:"))?
    } else {
        let mut block = lines.take_while(|line| line.starts_with([' ', '\t']) || line.trim().is_empty());
        block.find_map(|line| line.trim().strip_prefix("name:"))?
    };
    value.split(" #").next()?.trim().trim_matches(['"', '\'']).parse().ok()
}

/// Turns findings into diagnostics, with their file and the line as written.
struct Placer<'a> {
    file: &'a Arc<str>,
    lines: Vec<&'a str>,
    /// The line of the previous finding: a file may be one long line, and all its findings share the excerpt.
    last: Option<(u32, Arc<str>)>,
}

impl<'a> Placer<'a> {
    fn new(file: &'a Arc<str>, text: &'a str) -> Self {
        Self { file, lines: text.strip_prefix('\u{feff}').unwrap_or(text).lines().collect(), last: None }
    }

    fn warn_of(&mut self, at: Mark, foreign: Foreign) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..self.place(Finding::new(at, FOREIGN).found(foreign.what)) }
    }

    fn place(&mut self, finding: Finding) -> Diagnostic {
        let line = finding.at.line;
        if self.last.as_ref().is_none_or(|(last, _)| *last != line) {
            self.last = self.lines.get(line.saturating_sub(1) as usize).map(|&text| (line, text.into()));
        }
        Diagnostic {
            file: self.file.clone(),
            line,
            column: finding.at.column,
            length: finding.at.length,
            severity: Severity::Error,
            reason: Reason::InvalidManifest,
            message: finding.message.into(),
            found: finding.found.map(Into::into),
            fits: finding.fits.map(Into::into),
            hint: finding.hint.map(Into::into),
            excerpt: self.last.as_ref().map(|(_, text)| text.clone()),
            related: Vec::new(),
        }
    }
}
