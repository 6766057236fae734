//! Diagnostics: an error or a warning about a manifest, its place, and a valid value.
//!
//! Pure values. [`Diagnostic::render`] is for terminals, [`Diagnostic::one_line`] for logs and conditions. Printed text
//! has no control characters, so a manifest cannot move the cursor of a terminal.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::printable::{aligned, escape};
use crate::reconcile::desired::Place;
use crate::reconcile::reason::Reason;

/// Length of the part of a long line that an excerpt shows, in characters.
const EXCERPT_WIDTH: usize = 140;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The document, or the whole file, is not in force.
    Error,
    /// The readable part is in force.
    Warning,
}

impl Severity {
    /// The word at the head of a rendered diagnostic.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A token in a text. Lines and columns count from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    pub line: u32,
    pub column: u32,
    /// Length in characters; the token ends within its line.
    pub length: u32,
}

impl Mark {
    /// The first character of a text, for findings about the whole of it.
    pub const START: Self = Self { line: 1, column: 1, length: 1 };
}

/// Another place that belongs to a diagnostic, such as the second use of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Related {
    pub place: Place,
    pub message: Arc<str>,
}

/// One error or warning about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The name of the file: relative to its directory of manifests.
    pub file: Arc<str>,
    /// Line from 1; 0 for the whole file (it cannot be read).
    pub line: u32,
    /// Column from 1, in characters; 0 for the whole file.
    pub column: u32,
    /// Number of characters that the carets cover.
    pub length: u32,
    pub severity: Severity,
    /// The reason in the status of the objects.
    pub reason: Reason,
    /// One sentence without a full stop.
    pub message: Arc<str>,
    pub found: Option<Arc<str>>,
    pub fits: Option<Arc<str>>,
    /// The next step.
    pub hint: Option<Arc<str>>,
    /// The line as written, if it is known.
    pub excerpt: Option<Arc<str>>,
    pub related: Vec<Related>,
}

/// Message about a document of another tool.
pub const FOREIGN: &str = "not an App manifest";

impl Diagnostic {
    /// Returns whether it is about a foreign document. Each one is printed on one line, because there may be thousands.
    pub fn is_foreign(&self) -> bool {
        !self.is_error() && &*self.message == FOREIGN
    }

    /// A diagnostic about a whole file.
    pub fn about_file(file: &Arc<str>, message: impl Into<Arc<str>>, hint: Option<&str>) -> Self {
        Self {
            file: file.clone(),
            line: 0,
            column: 0,
            length: 0,
            severity: Severity::Error,
            reason: Reason::InvalidManifest,
            message: message.into(),
            found: None,
            fits: None,
            hint: hint.map(Into::into),
            excerpt: None,
            related: Vec::new(),
        }
    }

    /// `file:line:column`, or only the file.
    pub fn location(&self) -> String {
        if self.line == 0 {
            escape(&self.file).into_owned()
        } else {
            format!("{}:{}:{}", escape(&self.file), self.line, self.column)
        }
    }

    /// `file:line:column: message (hint)`: for logs and conditions.
    pub fn one_line(&self) -> String {
        let mut line = format!("{}: {}", self.location(), escape(&self.message));
        if let Some(hint) = &self.hint {
            let _ = write!(line, " ({})", escape(hint));
        }
        line
    }

    /// The form for terminals, in the style of rustc, with a newline at the end. No information depends on the colour.
    pub fn render(&self, colour: bool) -> String {
        let paint =
            |code: &str, text: &str| if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
        let head = match self.severity {
            Severity::Error => "1;31",
            Severity::Warning => "1;33",
        };
        let mut out =
            format!("{}{}\n", paint(head, self.severity.as_str()), paint("1", &format!(": {}", escape(&self.message))));
        let gutter = if self.line == 0 { 1 } else { self.line.to_string().len() };
        let bar = paint("1;34", "|");
        let _ = writeln!(out, "{:gutter$}{} {}", "", paint("1;34", "-->"), self.location());
        if let (Some(excerpt), 1..) = (&self.excerpt, self.line) {
            let (shown, column) = window(excerpt, self.column);
            let _ = writeln!(out, "{:gutter$} {bar}", "");
            let _ = writeln!(out, "{} {bar} {shown}", paint("1;34", &format!("{:gutter$}", self.line)));
            let room = EXCERPT_WIDTH.saturating_sub(column).max(1);
            let carets = "^".repeat((self.length.max(1) as usize).min(room));
            let label = self.label();
            let carets = paint(head, format!("{carets} {label}").trim_end());
            let _ = writeln!(out, "{:gutter$} {bar} {:column$}{carets}", "", "");
        } else if !self.label().is_empty() {
            let _ = writeln!(out, "{:gutter$} {} {}", "", paint("1;34", "="), self.label());
        }
        for related in &self.related {
            let _ = writeln!(
                out,
                "{:gutter$}{} {}: {}",
                "",
                paint("1;34", ":::"),
                escape(&related.place.to_string()),
                escape(&related.message)
            );
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(
                out,
                "{:gutter$} {} {}",
                "",
                paint("1;34", "="),
                format_args!("{} {}", paint("1", "help:"), escape(hint))
            );
        }
        out
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The found and the expected value, if they are known.
    pub fn label(&self) -> String {
        match (&self.found, &self.fits) {
            (Some(found), Some(fits)) => escape(&format!("found {found}; {fits}")).into_owned(),
            (Some(found), None) => escape(&format!("found {found}")).into_owned(),
            (None, Some(fits)) => escape(fits).into_owned(),
            (None, None) => String::new(),
        }
    }
}

/// The part of a long line that surrounds the token, and the token's offset in it.
fn window(excerpt: &str, column: u32) -> (String, usize) {
    let column = (column as usize).saturating_sub(1);
    let skip = column.saturating_sub(EXCERPT_WIDTH / 2);
    let shown: String = excerpt.chars().skip(skip).take(EXCERPT_WIDTH).collect();
    (aligned(&shown), column - skip)
}

/// The word of `known` that is nearest to `typed`.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = typed.trim().to_lowercase().replace(['_', '-'], "");
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&wanted, &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance <= (word.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Diagnostic {
        Diagnostic {
            file: "bots/ticket-bot.yaml".into(),
            line: 7,
            column: 3,
            length: 4,
            severity: Severity::Error,
            reason: Reason::InvalidManifest,
            message: "unknown field `sate`".into(),
            found: None,
            fits: Some("`spec` has the fields appId, state".into()),
            hint: Some("did you mean `state`?".into()),
            excerpt: Some("  sate: Stopped".into()),
            related: vec![],
        }
    }

    #[test]
    fn renders_like_rustc() {
        insta::assert_snapshot!(example().render(false), @r"
        error: unknown field `sate`
         --> bots/ticket-bot.yaml:7:3
          |
        7 |   sate: Stopped
          |   ^^^^ `spec` has the fields appId, state
          = help: did you mean `state`?
        ");
        assert_eq!(example().one_line(), "bots/ticket-bot.yaml:7:3: unknown field `sate` (did you mean `state`?)");
    }

    #[test]
    fn colour_only_adds() {
        let mut plain = String::new();
        let mut rest = example().render(true);
        while let Some(at) = rest.find("\x1b[") {
            plain.push_str(&rest[..at]);
            let end = rest[at..].find('m').expect("an SGR sequence ends in m");
            rest = rest[at + end + 1..].to_owned();
        }
        plain.push_str(&rest);
        assert_eq!(plain, example().render(false));
    }

    #[test]
    fn a_manifest_cannot_move_the_cursor() {
        let mut nasty = example();
        nasty.excerpt = Some("  sate: \x1b[2J".into());
        nasty.message = "a\x07b".into();
        assert!(!nasty.render(false).contains(['\x1b', '\x07']));
        assert!(!nasty.one_line().contains(['\x1b', '\x07']));
    }

    #[test]
    fn long_lines_are_cut_around_the_token() {
        let mut long = example();
        long.excerpt = Some(format!("{}HERE{}", "x".repeat(5000), "y".repeat(5000)).into());
        (long.column, long.length) = (5001, 4);
        let shown = long.render(false);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[3].find("HERE"), lines[4].find("^^^^"));
        assert!(lines[3].len() < 200);
    }

    #[test]
    fn nearest_word() {
        let words = ["appId", "state", "policy", "suspend"];
        for (typed, meant) in [
            ("sate", Some("state")),
            ("State", Some("state")),
            ("app_id", Some("appId")),
            ("appid", Some("appId")),
            ("suspended", Some("suspend")),
            ("replicas", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, words), meant, "{typed:?}");
        }
    }
}
