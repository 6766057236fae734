//! `validate`: are these manifests sound? Without any network.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::{Exit, print};
use crate::cli::{Color, ValidateArgs};
use crate::manifest::catalog::{Catalog, FileState};
use crate::manifest::diagnostic::{Diagnostic, Severity};
use crate::manifest::{load, source};
use crate::telemetry;

/// The largest file that is read; the parser refuses it and says so well before.
const LARGEST: u64 = 4 << 20;

pub(super) fn validate(args: &ValidateArgs, when: Color) -> anyhow::Result<Exit> {
    let (directories, files): (Vec<PathBuf>, Vec<PathBuf>) = args.paths.iter().cloned().partition(|path| path.is_dir());
    let mut found = check_files(&files)?;
    if !directories.is_empty() {
        let (declared, diagnostics, report) = source::load(directories);
        if let Some(trouble) = &report.trouble {
            bail!("reading the manifests: {trouble}");
        }
        found.apps += declared.len();
        found.files += report.files;
        found.diagnostics.extend(diagnostics);
    }
    let colour = telemetry::colour(when, &std::io::stdout());
    let mut text: String = found.diagnostics.iter().map(|diagnostic| diagnostic.render(colour) + "\n").collect();
    let errors = found.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    let warnings = found.diagnostics.len() - errors;
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    text += &format!("{} in {}: {}", plural(found.apps, "app"), plural(found.files, "file"), plural(errors, "error"));
    if warnings > 0 {
        text += &format!(", {}", plural(warnings, "warning"));
    }
    print(&(text + "\n"))?;
    Ok(if errors == 0 { Exit::Done } else { Exit::Failed })
}

/// What was found in files and directories.
#[derive(Debug, Default)]
struct Found {
    apps: usize,
    files: usize,
    diagnostics: Vec<Diagnostic>,
}

/// Checks single files together, so that one name in two of them is found.
fn check_files(paths: &[PathBuf]) -> anyhow::Result<Found> {
    let mut catalog = Catalog::new();
    let mut texts = Vec::new();
    for path in paths {
        let bytes = read(path).with_context(|| format!("reading {}", path.display()))?;
        let name: Arc<str> = path.display().to_string().into();
        catalog.apply([(name.clone(), FileState::Read(Arc::new(load::parse(&name, &bytes))))]);
        texts.push((name, bytes));
    }
    let mut diagnostics = catalog.diagnostics();
    for diagnostic in &mut diagnostics {
        let Some((_, bytes)) = texts.iter().find(|(name, _)| *name == diagnostic.file) else { continue };
        let text = String::from_utf8_lossy(bytes);
        let line = diagnostic.line.checked_sub(1).and_then(|index| text.lines().nth(index as usize));
        diagnostic.excerpt = diagnostic.excerpt.take().or_else(|| line.map(Into::into));
    }
    Ok(Found { apps: catalog.declared().len(), files: paths.len(), diagnostics })
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        bail!("neither a file nor a directory");
    }
    if metadata.len() > LARGEST {
        bail!("{} bytes are far too many for a manifest", metadata.len());
    }
    Ok(fs::read(path)?)
}
