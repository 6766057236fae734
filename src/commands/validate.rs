//! `validate`: are these manifests sound? Without any network.

use anyhow::bail;

use super::{Exit, print};
use crate::cli::{Color, ValidateArgs};
use crate::manifest::diagnostic::Severity;
use crate::manifest::source;
use crate::telemetry;

pub(super) fn validate(args: &ValidateArgs, when: Color) -> anyhow::Result<Exit> {
    let (declared, diagnostics, report) = source::load(args.paths.clone());
    if let Some(trouble) = &report.trouble {
        bail!("reading the manifests: {trouble}");
    }
    let colour = telemetry::colour(when, &std::io::stdout());
    let text: String = diagnostics.iter().map(|diagnostic| diagnostic.render(colour) + "\n").collect();
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    let counts = [(errors, "error"), (diagnostics.len() - errors, "warning")].map(|(count, word)| plural(count, word));
    let found = format!("{} in {}", plural(declared.len(), "app"), plural(report.files, "file"));
    print(&format!("{text}{found}: {}\n", counts.join(", ")))?;
    Ok(if errors == 0 { Exit::Done } else { Exit::Failed })
}

fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}
