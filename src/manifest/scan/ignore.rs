//! Entries that are not read: `.camposignore` files, in the syntax of gitignore, and `--exclude`.
//!
//! An ignore file hides manifests. So the reader waits for the end of a half-written one, and does not list a directory
//! whose ignore file is unreadable.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::{Bytes, read};
use crate::clock;
use crate::manifest::load::MAX_FILE;

/// Name of the ignore file. It applies to its directory and all directories below.
pub(in crate::manifest) const IGNORE_FILE: &str = ".camposignore";
/// Quiet time of an ignore file before it is read, as for a manifest that is written in place.
const QUIET: Duration = Duration::from_millis(100);
/// Maximum number of waits for `QUIET`: more changes are an error.
const LONGEST_WAIT: usize = 20;
/// Directories that are never read: they have no manifests, and may have a hundred thousand files.
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

    /// Reads the ignore file of a directory, if there is one; `is_inside` decides whether its path may be read.
    pub(super) fn read(&mut self, directory: &Path, is_inside: impl Fn(&Path) -> bool) -> Result<(), Mistake> {
        let path = directory.join(IGNORE_FILE);
        if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return Ok(());
        }
        let unreadable = |why: &str| Err(Mistake::Unreadable(format!("{IGNORE_FILE}: {why}")));
        let Ok(target) = fs::canonicalize(&path) else { return unreadable("it cannot be read") };
        if !is_inside(&target) {
            return unreadable("the link leads out of the directory of manifests");
        }
        let bytes = match stable(&target) {
            Bytes::Whole(bytes, _) if bytes.len() > MAX_FILE => return unreadable("it is larger than 256 KiB"),
            Bytes::Whole(bytes, _) => bytes,
            Bytes::Torn | Bytes::Absent => return unreadable("it is being written"),
            Bytes::Exhausted(cause) => return Err(Mistake::Exhausted(cause)),
            Bytes::Unreadable(diagnostic) => return unreadable(&diagnostic.message),
        };
        let mut builder = GitignoreBuilder::new(directory);
        let mut mistake = Ok(());
        for (number, line) in (1..).zip(String::from_utf8_lossy(&bytes).lines()) {
            let line = if number == 1 { line.trim_start_matches('\u{feff}') } else { line };
            if let Err(error) = builder.add_line(None, line) {
                mistake = mistake.and(Err(Mistake::Pattern(number, error.to_string())));
            }
        }
        if let Ok(rules) = builder.build() {
            self.files.insert(directory.to_owned(), rules);
        }
        mistake
    }

    /// Returns whether one entry is ignored. The caller checks the directories above it.
    pub(super) fn hides_entry(&self, path: &Path, is_directory: bool) -> bool {
        if is_directory && path.file_name().is_some_and(|name| NEVER.iter().any(|never| name == *never)) {
            return true;
        }
        let under = |rules: &&Gitignore| path.starts_with(rules.path());
        if self.excluded.iter().filter(under).any(|rules| rules.matched(path, is_directory).is_ignore()) {
            return true;
        }
        // The nearest file with a matching pattern decides.
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

    /// Returns whether a file below `root` is ignored, or a directory above it.
    pub(in crate::manifest) fn hides(&self, root: &Path, path: &Path) -> bool {
        let mut directories = path.ancestors().skip(1).take_while(|directory| *directory != root);
        self.hides_entry(path, false) || directories.any(|directory| self.hides_entry(directory, true))
    }
}

/// The cause why an ignore file does not apply completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mistake {
    /// The first invalid pattern, with its line. The other lines apply.
    Pattern(u32, String),
    Unreadable(String),
    /// No file descriptor is left, which proves nothing about the file.
    Exhausted(String),
}

/// The content of a file that has not changed for `QUIET`.
fn stable(path: &Path) -> Bytes {
    let name = IGNORE_FILE.into();
    for _ in 0..LONGEST_WAIT {
        let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
        match modified.ok().and_then(|modified| unrest(modified, clock::system_time())) {
            Some(rest) => thread::sleep(rest),
            None => return read(&name, path),
        }
    }
    Bytes::Torn
}

/// The rest of the quiet time of a file. A time in the future is a wrong clock, for which a wait does not help.
fn unrest(modified: SystemTime, now: SystemTime) -> Option<Duration> {
    now.duration_since(modified).ok().and_then(|age| QUIET.checked_sub(age)).filter(|rest| !rest.is_zero())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_ignore_file_is_waited_for() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(IGNORE_FILE);
        fs::write(&path, "web/\n").expect("write");
        assert_eq!(Ignored::default().read(dir.path(), |_| true), Ok(()));
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("a time");
        assert_eq!(unrest(modified, clock::system_time()), None, "it was read before it was stable");
        assert_eq!(unrest(modified, modified + Duration::from_millis(40)), Some(Duration::from_millis(60)));
        assert_eq!(unrest(modified + Duration::from_secs(60), modified), None, "a wrong clock delays nothing");
    }

    #[test]
    fn an_ignore_file_that_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let read = |inside: bool| Ignored::default().read(dir.path(), |_| inside);
        let is_unreadable = |result| matches!(result, Err(Mistake::Unreadable(_)));
        assert_eq!(read(true), Ok(()), "there is none");
        std::os::unix::fs::symlink("nowhere", dir.path().join(IGNORE_FILE)).expect("a link");
        assert!(is_unreadable(read(true)));
        fs::remove_file(dir.path().join(IGNORE_FILE)).expect("remove");
        fs::create_dir(dir.path().join(IGNORE_FILE)).expect("a directory");
        assert!(is_unreadable(read(true)));
        fs::remove_dir(dir.path().join(IGNORE_FILE)).expect("remove");
        fs::write(dir.path().join(IGNORE_FILE), "a\n".repeat(200_000)).expect("write");
        assert!(is_unreadable(read(true)));
        fs::write(dir.path().join(IGNORE_FILE), "a\n").expect("write");
        assert!(is_unreadable(read(false)));
        assert_eq!(read(true), Ok(()));
    }
}
