//! `validate`: checks manifests without a network.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use serde_json::{Value, json};

use super::text::{diagnostics, escape, json_pretty, print, print_data};
use super::{Exit, variable};
use crate::cli::{Color, ValidateArgs, ValidateOutput};
use crate::manifest::diagnostic::{Diagnostic, Severity};
use crate::manifest::source::{self, Rules};
use crate::settings;
use crate::status;
use crate::telemetry;

pub(super) fn validate(args: &ValidateArgs, when: Color) -> anyhow::Result<Exit> {
    let mut findings = findings(&args.paths, &settings::rules(&args.rules))?;
    if args.output == ValidateOutput::Github
        && let Some(workspace) = variable("GITHUB_WORKSPACE")
    {
        findings.relative_to(Path::new(&workspace));
    }
    let colour = telemetry::colour(when, &io::stdout());
    match args.output {
        ValidateOutput::Text => print(&text(&findings, colour))?,
        ValidateOutput::Json => print_data(&json(&findings)?)?,
        // The lines are workflow commands, so they are not escaped.
        ValidateOutput::Github => print_data(&github(&findings))?,
    }
    Ok(if findings.count(Severity::Error) == 0 { Exit::Done } else { Exit::Failed })
}

#[derive(Debug)]
struct Findings {
    apps: usize,
    files: usize,
    diagnostics: Vec<Diagnostic>,
}

impl Findings {
    /// Makes absolute paths relative, because an annotation needs relative paths.
    fn relative_to(&mut self, workspace: &Path) {
        let relative = |file: &mut Arc<str>| {
            let absolute = std::path::absolute(&**file).ok();
            if let Some(below) = absolute.as_deref().and_then(|path| path.strip_prefix(workspace).ok()) {
                *file = below.to_string_lossy().into();
            }
        };
        for diagnostic in &mut self.diagnostics {
            relative(&mut diagnostic.file);
            diagnostic.related.iter_mut().for_each(|related| relative(&mut related.place.file));
        }
    }

    fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }

    /// The first diagnostics of a severity.
    fn shown(&self, severity: Severity, most: usize) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(move |diagnostic| diagnostic.severity == severity).take(most)
    }

    fn summary(&self) -> String {
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        format!(
            "{} in {}: {}, {}\n",
            plural(self.apps, "app"),
            plural(self.files, "file"),
            plural(errors, "error"),
            plural(warnings, "warning")
        )
    }
}

fn findings(paths: &[PathBuf], rules: &Rules) -> anyhow::Result<Findings> {
    let (declared, mut diagnostics, report) = source::load_with(paths.to_owned(), rules);
    if let Some(cause) = &report.cause {
        bail!("could not read the manifests: {cause}");
    }
    if let [only] = paths
        && only.is_dir()
    {
        // Diagnostics name files below the directory; a person or a tool opens the whole path.
        for diagnostic in &mut diagnostics {
            diagnostic.file = whole(only, &diagnostic.file);
            for related in &mut diagnostic.related {
                related.place.file = whole(only, &related.place.file);
            }
        }
    }
    if declared.is_empty() && report.others == 0 && !diagnostics.iter().any(Diagnostic::is_error) {
        diagnostics.insert(0, nothing(paths));
    }
    Ok(Findings { apps: declared.len(), files: report.files, diagnostics })
}

/// Error for an empty input: a wrong path or an empty pipe must not pass.
fn nothing(paths: &[PathBuf]) -> Diagnostic {
    let name = |path: &PathBuf| match path.to_str() {
        Some(source::STDIN) => "<stdin>".to_owned(),
        _ => path.to_string_lossy().into_owned(),
    };
    let places: Vec<String> = paths.iter().map(name).collect();
    let hint = "write a manifest for each app, or let `campos-operator import` write them";
    Diagnostic::about_file(&places.join(", ").into(), "no manifests found", Some(hint))
}

fn whole(directory: &Path, file: &str) -> Arc<str> {
    let path = directory.join(file);
    let plain: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    plain.to_string_lossy().into()
}

fn text(findings: &Findings, colour: bool) -> String {
    diagnostics(&findings.diagnostics, colour) + &findings.summary()
}

fn json(findings: &Findings) -> serde_json::Result<String> {
    let one = |diagnostic: &Diagnostic| -> Value {
        let related = diagnostic.related.iter().map(
            |related| json!({"path": &*related.place.file, "line": related.place.line, "message": &*related.message}),
        );
        json!({
            "path": &*diagnostic.file,
            "line": diagnostic.line,
            "column": diagnostic.column,
            "length": diagnostic.length,
            "severity": diagnostic.severity.as_str(),
            "reason": diagnostic.reason.as_str(),
            "message": &*diagnostic.message,
            "found": diagnostic.found.as_deref(),
            "fits": diagnostic.fits.as_deref(),
            "hint": diagnostic.hint.as_deref(),
            "related": related.collect::<Vec<_>>(),
        })
    };
    let report = json!({
        "apiVersion": status::API_VERSION,
        "kind": "ValidationReport",
        "valid": findings.count(Severity::Error) == 0,
        "apps": findings.apps,
        "files": findings.files,
        "errors": findings.count(Severity::Error),
        "warnings": findings.count(Severity::Warning),
        "diagnostics": findings.diagnostics.iter().map(one).collect::<Vec<_>>(),
    });
    json_pretty(&report)
}

/// Annotations; GitHub shows ten of each kind.
const MOST: usize = 100;

/// Workflow commands, which GitHub shows next to the lines of a pull request.
fn github(findings: &Findings) -> String {
    let one = |diagnostic: &Diagnostic| {
        let file = property(&escape(&diagnostic.file));
        let (line, column) = (diagnostic.line, diagnostic.column);
        let end = column.saturating_add(diagnostic.length.max(1));
        let place = match line {
            0 => format!("file={file}"),
            _ => format!("file={file},line={line},col={column},endColumn={end}"),
        };
        let mut lines = vec![escape(&diagnostic.message).into_owned()];
        lines.extend(Some(diagnostic.label()).filter(|label| !label.is_empty()));
        lines.extend(
            diagnostic
                .related
                .iter()
                .map(|related| escape(&format!("{}: {}", related.place, related.message)).into_owned()),
        );
        lines.extend(diagnostic.hint.as_ref().map(|hint| format!("help: {}", escape(hint))));
        let (severity, title) = (diagnostic.severity.as_str(), property(diagnostic.reason.as_str()));
        format!("::{severity} {place},title={title}::{}\n", encoded(&lines.join("\n")))
    };
    let errors: String = findings.shown(Severity::Error, MOST).map(one).collect();
    let warnings: String = findings.shown(Severity::Warning, MOST).map(one).collect();
    errors + &warnings + &findings.summary()
}

/// A workflow command ends with its line, and `%` begins an escape.
fn encoded(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Encodes a property, which a comma or a colon would end.
fn property(text: &str) -> String {
    encoded(text).replace(':', "%3A").replace(',', "%2C")
}

fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::text::tests::assert_page;
    use crate::manifest::diagnostic::Related;
    use crate::printable::{acts, tests::hostile};
    use crate::reconcile::desired::Place;

    fn findings() -> Findings {
        let text =
            "apiVersion: campos-operator.dev/v1\nkind: App\nmetadata: {name: a}\nspec: {appId: x, state: \"50%\"}\n";
        let (declared, mut diagnostics) = source::load_text(&"odd, name: 100%.yaml".into(), text.as_bytes());
        diagnostics.push(Diagnostic::about_file(&"b.yaml".into(), "the file is \u{1b}[2Jodd", None));
        Findings { apps: declared.len(), files: 2, diagnostics }
    }

    fn of_others(text: &str) -> Findings {
        let mut diagnostic = Diagnostic::about_file(&text.into(), text, Some(text));
        diagnostic.found = Some(text.into());
        diagnostic.fits = Some(text.into());
        let place = Place { file: text.into(), line: 1 };
        diagnostic.related = vec![Related { place, message: text.into() }];
        let mut at_a_line = diagnostic.clone();
        (at_a_line.line, at_a_line.column, at_a_line.excerpt) = (1, 1, Some(text.into()));
        Findings { apps: 1, files: 1, diagnostics: vec![diagnostic, at_a_line] }
    }

    proptest::proptest! {
        #[test]
        fn every_output_is_harmless(name in hostile()) {
            let findings = of_others(&name);
            assert_page(&text(&findings, false), &text(&of_others("x"), false));
            let page = github(&findings);
            assert_eq!(page.lines().count(), 3, "{page}");
            for line in page.lines() {
                assert!(!line.contains(acts), "{line:?}");
                let command = line.strip_prefix("::error file=");
                let (properties, _) = command.map_or(("", ""), |command| command.split_once("::").unwrap());
                assert!(properties.matches(',').count() <= 4 && !properties.contains("title=x"), "{line}");
            }
            let json = json(&findings).unwrap();
            assert!(!json.contains(|c| c != '\n' && acts(c)), "{json:?}");
            assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["diagnostics"][0]["path"], name);
        }
    }

    #[test]
    fn annotations_are_escaped() {
        insta::assert_snapshot!(github(&findings()), @r#"
        ::error file=odd%2C name%3A 100%25.yaml,line=4,col=25,endColumn=30,title=InvalidManifest::unknown state "50%25"%0Aexpected Running or Stopped
        ::error file=b.yaml,title=InvalidManifest::the file is \u{1b}[2Jodd
        1 app in 2 files: 2 errors, 0 warnings
        "#);
        assert_eq!(encoded("50% a\r\nb"), "50%25 a%0D%0Ab");
    }

    #[test]
    fn json_has_every_part() {
        insta::assert_snapshot!(json(&findings()).unwrap(), @r#"
        {
          "apiVersion": "campos-operator.dev/v1",
          "apps": 1,
          "diagnostics": [
            {
              "column": 25,
              "fits": "expected Running or Stopped",
              "found": null,
              "hint": null,
              "length": 5,
              "line": 4,
              "message": "unknown state \"50%\"",
              "path": "odd, name: 100%.yaml",
              "reason": "InvalidManifest",
              "related": [],
              "severity": "error"
            },
            {
              "column": 0,
              "fits": null,
              "found": null,
              "hint": null,
              "length": 0,
              "line": 0,
              "message": "the file is \u001b[2Jodd",
              "path": "b.yaml",
              "reason": "InvalidManifest",
              "related": [],
              "severity": "error"
            }
          ],
          "errors": 2,
          "files": 2,
          "kind": "ValidationReport",
          "valid": false,
          "warnings": 0
        }
        "#);
    }
}
