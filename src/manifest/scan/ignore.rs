//! Entries that are not read: `.camposignore` files, in the syntax of gitignore, and `--exclude`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Name of the ignore file. It applies to its directory and everything below.
pub(in crate::manifest) const IGNORE_FILE: &str = ".camposignore";
/// The largest ignore file that is read, in bytes.
const MAX_FILE: u64 = 256 * 1024;
/// Directories that are never read: they hold no manifests, and may hold a hundred thousand files.
const NEVER: [&str; 1] = ["node_modules"];

/// The rules of one listing.
#[derive(Debug, Default)]
pub(in crate::manifest) struct Ignored {
    /// The ignore file of each directory that has one.
    files: BTreeMap<PathBuf, Gitignore>,
    /// `--exclude`, for each root.
    excluded: Vec<Gitignore>,
}

impl Ignored {
    /// Adds `--exclude` for a root.
    pub(super) fn exclude(&mut self, root: &Path, globs: &[String]) {
        let mut builder = GitignoreBuilder::new(root);
        for glob in globs {
            // A bad glob is an error of the command line.
            let _ = builder.add_line(None, glob);
        }
        self.excluded.extend(builder.build().ok().filter(|rules| !rules.is_empty()));
    }

    /// Reads the ignore file of a directory, if there is one. Returns its first mistake, with its line.
    pub(super) fn read(&mut self, directory: &Path) -> Result<(), (u32, String)> {
        let path = directory.join(IGNORE_FILE);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() && metadata.len() <= MAX_FILE => {}
            Ok(metadata) if metadata.is_file() => return Err((0, "the file is larger than 256 KiB".into())),
            Ok(_) => return Err((0, "it is not a file".into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err((0, super::reason(&error))),
        }
        let bytes = fs::read(&path).map_err(|error| (0, super::reason(&error)))?;
        let mut builder = GitignoreBuilder::new(directory);
        let mut mistake = Ok(());
        for (number, line) in (1..).zip(String::from_utf8_lossy(&bytes).lines()) {
            let line = if number == 1 { line.trim_start_matches('\u{feff}') } else { line };
            if let Err(error) = builder.add_line(None, line) {
                mistake = mistake.and(Err((number, error.to_string())));
            }
        }
        if let Ok(rules) = builder.build() {
            self.files.insert(directory.to_owned(), rules);
        }
        mistake
    }

    /// Whether one entry is ignored. The directories above it are the caller's matter.
    pub(super) fn hides_entry(&self, path: &Path, is_directory: bool) -> bool {
        if is_directory && path.file_name().is_some_and(|name| NEVER.iter().any(|never| name == *never)) {
            return true;
        }
        let under = |rules: &&Gitignore| path.starts_with(rules.path());
        if self.excluded.iter().filter(under).any(|rules| rules.matched(path, is_directory).is_ignore()) {
            return true;
        }
        // The nearest file that says something about it decides.
        let above = if self.files.is_empty() { None } else { path.parent() };
        let nearest = above.into_iter().flat_map(Path::ancestors).find_map(|directory| {
            match self.files.get(directory)?.matched(path, is_directory) {
                Match::Ignore(_) => Some(true),
                Match::Whitelist(_) => Some(false),
                Match::None => None,
            }
        });
        nearest.unwrap_or(false)
    }

    /// Whether a file below `root` is ignored, or a directory above it.
    pub(in crate::manifest) fn hides(&self, root: &Path, path: &Path) -> bool {
        let mut directories = path.ancestors().skip(1).take_while(|directory| *directory != root);
        self.hides_entry(path, false) || directories.any(|directory| self.hides_entry(directory, true))
    }
}

/// Checks a glob of `--exclude`.
pub fn check_glob(glob: &str) -> Result<String, String> {
    let mut builder = GitignoreBuilder::new("");
    if glob.trim().is_empty() {
        return Err("expected a pattern as in .gitignore, such as web/** or *.json".into());
    }
    builder.add_line(None, glob).map_err(|error| error.to_string())?;
    Ok(glob.to_owned())
}
