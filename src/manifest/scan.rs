//! Which manifest files are there, and what are their bytes?
//!
//! Looks at the disk and remembers nothing. Never blocks on what is not a regular file, never follows a link out of the
//! tree, and says "cannot be read" where it cannot: absence is reported only for what a whole listing does not show.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::diagnostic::Diagnostic;
use super::load::MAX_FILE;

/// How deep directories may lie: more is a loop that the other checks missed, or a mistake.
const MAX_DEPTH: usize = 64;
/// A link chain longer than this is a loop (the kernel says 40).
const MAX_LINKS: usize = 40;

/// One directory of manifests (or a single file, for `validate`).
#[derive(Debug, Clone)]
pub(super) struct Root {
    /// As the user gave it; resolved anew at each look, since it may be a link that is flipped.
    pub(super) given: PathBuf,
    /// What file names begin with where there are several roots.
    pub(super) prefix: String,
}

/// The roots to look at, each once.
pub(super) fn roots(given: Vec<PathBuf>) -> Vec<Root> {
    let mut unique: Vec<PathBuf> = Vec::new();
    for path in given {
        if !unique.contains(&path) {
            unique.push(path);
        }
    }
    let several = unique.len() > 1;
    let prefix = |path: &Path| {
        if several { format!("{}/", path.to_string_lossy().trim_end_matches('/')) } else { String::new() }
    };
    unique.into_iter().map(|given| Root { prefix: prefix(&given), given }).collect()
}

/// What identifies a file's content without reading it. Trusted only for a while: see `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Print {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Print {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// What stays when a file is renamed.
    pub(super) fn file(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Whether it was modified within `span` before `wall`, or after it.
    pub(super) fn modified_within(&self, span: Duration, wall: SystemTime) -> bool {
        let since_epoch = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(span);
        self.modified.0 >= i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
    }
}

/// A file that a listing shows.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Where to read it.
    pub(super) path: PathBuf,
    /// Its print when it was listed.
    pub(super) print: Print,
}

/// The links that decide what the tree is: a ConfigMap's `..data`, git-sync's link. One swap of them is one new tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Layout {
    /// Each link and what it names.
    links: BTreeMap<PathBuf, PathBuf>,
    /// Each root, resolved, with its device and inode.
    reals: Vec<(PathBuf, u64, u64)>,
}

impl Layout {
    /// Whether a link was swapped between two looks, which publishes a finished tree at once.
    pub(super) fn swapped_since(&self, before: &Self) -> bool {
        self.links != before.links && !before.reals.is_empty()
    }

    /// The resolved roots.
    pub(super) fn reals(&self) -> impl Iterator<Item = &Path> {
        self.reals.iter().map(|(path, ..)| path.as_path())
    }

    /// The links themselves.
    pub(super) fn links(&self) -> impl Iterator<Item = &Path> {
        self.links.keys().map(PathBuf::as_path)
    }

    /// The name of the tree, where git-sync's link gives it one: a commit hash.
    pub(super) fn revision(&self) -> Option<&str> {
        let names = self.links.values().filter_map(|target| target.file_name()?.to_str());
        names.into_iter().find(|name| (7..=64).contains(&name.len()) && name.chars().all(|c| c.is_ascii_hexdigit()))
    }
}

/// What is read besides the roots, since links lead there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Outside {
    /// Directories that a link leads to.
    pub(super) trees: BTreeSet<PathBuf>,
    /// Directories with a file that a link leads to.
    pub(super) beside: BTreeSet<PathBuf>,
}

impl Outside {
    /// Whether something that happened at `path` can concern it.
    pub(super) fn concerns(&self, path: &Path) -> bool {
        self.trees.iter().chain(&self.beside).any(|outside| path.starts_with(outside) || outside.starts_with(path))
    }
}

/// What one look at all roots showed.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Manifest files by name.
    pub(super) files: BTreeMap<Arc<str>, Found>,
    /// What has a manifest's name, or hides manifests, and cannot be read.
    pub(super) oddities: BTreeMap<Arc<str>, Diagnostic>,
    /// Directories that could not be listed, by name with a slash: what was known below them is held.
    pub(super) unlisted: Vec<(String, Diagnostic)>,
    /// Entries passed over.
    pub(super) skipped: usize,
    /// Whether some files are reached through links inside the tree, where events name another path.
    pub(super) linked: bool,
    /// Directories out of the tree that links lead to, or into.
    pub(super) outside: Outside,
    /// How the tree hangs together.
    pub(super) layout: Layout,
}

/// Lists every root; with `follow_links`, also what links out of it lead to. The listing is of one tree: if a link is swapped meanwhile, it is made again.
///
/// # Errors
/// Why a root cannot be listed, for people: nothing may be concluded about any file then.
pub(super) fn list(roots: &[Root], follow_links: bool) -> Result<Listing, String> {
    for _ in 0..5 {
        let mut listing = Listing { layout: layout(roots)?, ..Listing::default() };
        let reals = listing.layout.reals.clone();
        let mut entries = HashSet::new();
        for (root, (real, ..)) in roots.iter().zip(&reals) {
            let entries = (roots.len() > 1).then_some(&mut entries);
            list_root(root, real, follow_links, &mut listing, entries)?;
        }
        let mut after = layout(roots)?;
        for (link, target) in &listing.layout.links {
            if !after.links.contains_key(link) && fs::read_link(link).is_ok_and(|now| now == *target) {
                after.links.insert(link.clone(), target.clone());
            }
        }
        if after == listing.layout {
            return Ok(listing);
        }
    }
    Err("the directory of manifests is being replaced faster than it can be read".into())
}

/// How the roots hang together at this moment.
fn layout(roots: &[Root]) -> Result<Layout, String> {
    let mut layout = Layout::default();
    for root in roots {
        let describe = |error: io::Error| format!("cannot read {}: {}", root.given.display(), reason(&error));
        links_on(&root.given, &mut layout.links);
        let real = fs::canonicalize(&root.given).map_err(describe)?;
        let metadata = fs::metadata(&real).map_err(describe)?;
        layout.reals.push((real, metadata.dev(), metadata.ino()));
    }
    Ok(layout)
}

/// Every link that is met while resolving `path`, with what it names. Works for what does not exist as far as it does.
pub(super) fn links_on(path: &Path, links: &mut BTreeMap<PathBuf, PathBuf>) {
    let Ok(absolute) = std::path::absolute(path) else { return };
    let mut rest: Vec<PathBuf> = absolute.components().rev().map(|part| PathBuf::from(part.as_os_str())).collect();
    let mut at = PathBuf::new();
    let mut met = 0;
    while let Some(part) = rest.pop() {
        match part.components().next() {
            Some(Component::ParentDir) => {
                at.pop();
                continue;
            }
            Some(Component::CurDir) | None => continue,
            Some(_) => at.push(&part),
        }
        if let Ok(target) = fs::read_link(&at) {
            met += 1;
            if met > MAX_LINKS {
                return;
            }
            links.insert(at.clone(), target.clone());
            at.pop();
            rest.extend(target.components().rev().map(|part| PathBuf::from(part.as_os_str())));
        }
    }
}

/// `entries`: what other roots listed already, where there are several. A root may lie in another, or be named twice.
fn list_root(
    root: &Root,
    real: &Path,
    follow_links: bool,
    listing: &mut Listing,
    entries: Option<&mut HashSet<PathBuf>>,
) -> Result<(), String> {
    let describe = |error: io::Error| format!("cannot read {}: {}", root.given.display(), reason(&error));
    let metadata = fs::metadata(real).map_err(describe)?;
    if metadata.is_file() {
        if entries.is_some_and(|entries| !entries.insert(real.to_owned())) {
            return Ok(());
        }
        let name: Arc<str> = root.given.to_string_lossy().into();
        listing.files.insert(name, Found { path: root.given.clone(), print: Print::of(&metadata) });
        return Ok(());
    }
    if !metadata.is_dir() {
        return Err(format!("{} is {}, not a directory", root.given.display(), kind(&metadata)));
    }
    let mut walk = Walk { real, follow_links, listing, entries, ancestors: Vec::new() };
    walk.directory(real, &root.prefix, &metadata).map_err(describe)
}

struct Walk<'a> {
    real: &'a Path,
    follow_links: bool,
    listing: &'a mut Listing,
    entries: Option<&'a mut HashSet<PathBuf>>,
    /// Device and inode of the directories above: a link to one of them is a loop.
    ancestors: Vec<(u64, u64)>,
}

impl Walk<'_> {
    fn directory(&mut self, path: &Path, name: &str, metadata: &Metadata) -> io::Result<()> {
        let entries = fs::read_dir(path)?;
        self.ancestors.push((metadata.dev(), metadata.ino()));
        for entry in entries {
            match entry {
                Ok(entry) => self.entry(&entry, name),
                Err(error) => {
                    self.ancestors.pop();
                    return Err(error);
                }
            }
        }
        self.ancestors.pop();
        Ok(())
    }

    fn entry(&mut self, entry: &fs::DirEntry, above: &str) {
        let file_name = entry.file_name();
        let path = entry.path();
        let below = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !below && self.entries.as_mut().is_some_and(|entries| !entries.insert(path.clone())) {
            return;
        }
        let Some(plain) = file_name.to_str() else {
            let shown: Arc<str> = format!("{above}{}", file_name.to_string_lossy()).into();
            self.odd(&shown, "the file's name is not UTF-8", Some("rename it"));
            return;
        };
        if plain == "..data"
            && let Ok(target) = fs::read_link(&path)
        {
            self.listing.layout.links.insert(path, target);
            self.listing.skipped += 1;
            return;
        }
        if hidden(plain) {
            self.listing.skipped += 1;
            return;
        }
        let name: Arc<str> = format!("{above}{plain}").into();
        let Ok(kind_here) = entry.file_type() else { return };
        if kind_here.is_symlink() {
            self.link(&path, plain, &name);
        } else if kind_here.is_dir() && !is_manifest(plain) {
            if let Ok(metadata) = fs::symlink_metadata(&path) {
                self.below(&path, &name, &metadata);
            }
        } else if is_manifest(plain) {
            match fs::symlink_metadata(&path) {
                Ok(metadata) => self.file(&path, &name, &metadata),
                Err(error) => self.unreadable(&name, &error),
            }
        } else {
            self.listing.skipped += 1;
        }
    }

    fn link(&mut self, path: &Path, plain: &str, name: &Arc<str>) {
        let resolved = fs::canonicalize(path).and_then(|target| Ok((fs::metadata(&target)?, target)));
        let (metadata, target) = match resolved {
            Ok(resolved) => resolved,
            Err(error) if !is_manifest(plain) && error.kind() == io::ErrorKind::NotFound => {
                self.listing.skipped += 1;
                return;
            }
            Err(error) => {
                let dangling = error.kind() == io::ErrorKind::NotFound;
                let what = if dangling {
                    "the link leads nowhere".to_owned()
                } else {
                    format!("the link cannot be followed: {}", reason(&error))
                };
                self.odd(name, &what, Some("mend the link, or remove it"));
                return;
            }
        };
        if !is_manifest(plain) && !metadata.is_dir() {
            self.listing.skipped += 1;
            return;
        }
        if !target.starts_with(self.real) {
            if !self.follow_links {
                self.odd(
                    name,
                    "the link leads out of the directory of manifests",
                    Some("copy what it leads to, give that as another --manifests, or --follow-links"),
                );
                return;
            }
            if metadata.is_dir() {
                self.listing.outside.trees.insert(target);
            } else {
                self.listing.outside.beside.extend(target.parent().map(Path::to_owned));
            }
        }
        if metadata.is_dir() && !is_manifest(plain) {
            self.listing.linked = true;
            if self.ancestors.contains(&(metadata.dev(), metadata.ino())) {
                self.odd(name, "the link leads to a directory above itself", Some("remove the link"));
            } else {
                self.below(path, name, &metadata);
            }
        } else {
            self.listing.linked = true;
            self.file(path, name, &metadata);
        }
    }

    fn below(&mut self, path: &Path, name: &Arc<str>, metadata: &Metadata) {
        if self.ancestors.len() >= MAX_DEPTH {
            self.odd(name, "directories are nested too deeply", None);
            return;
        }
        let inside = format!("{name}/");
        match self.directory(path, &inside, metadata) {
            Ok(()) => {}
            // It went between the listing above it and now; whether its files are gone is for the next look to confirm.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let diagnostic =
                    Diagnostic::about_file(name, format!("the directory cannot be read: {}", reason(&error)), None);
                self.listing.oddities.insert(name.clone(), diagnostic.clone());
                self.listing.unlisted.push((inside, diagnostic));
            }
        }
    }

    fn file(&mut self, path: &Path, name: &Arc<str>, metadata: &Metadata) {
        if metadata.is_file() {
            self.listing.files.insert(name.clone(), Found { path: path.to_owned(), print: Print::of(metadata) });
        } else {
            let what = format!("this is {}, not a file", kind(metadata));
            self.odd(name, &what, Some("a manifest is a regular file"));
        }
    }

    fn unreadable(&mut self, name: &Arc<str>, error: &io::Error) {
        if error.kind() != io::ErrorKind::NotFound {
            self.odd(name, &format!("the file cannot be read: {}", reason(error)), None);
        }
    }

    fn odd(&mut self, name: &Arc<str>, message: &str, hint: Option<&str>) {
        self.listing.oddities.insert(name.clone(), Diagnostic::about_file(name, message, hint));
    }
}

/// Whether a name is passed over without a look: dotfiles (and `..data`), backups, editors' leftovers.
pub(super) fn hidden(name: &str) -> bool {
    name.starts_with(['.', '#']) || name.ends_with('~')
}

/// Whether a name is that of a manifest.
pub(super) fn is_manifest(name: &str) -> bool {
    !hidden(name)
        && Path::new(name).extension().is_some_and(|ending| ending == "yaml" || ending == "yml" || ending == "json")
}

/// What came of reading one file.
#[derive(Debug)]
pub(super) enum Bytes {
    /// The whole of it, unchanged while it was read.
    Whole(Vec<u8>, Print),
    /// It changed while it was read, each time.
    Torn,
    /// There is no such file.
    Absent,
    /// It is there and cannot be read.
    Unreadable(Diagnostic),
}

/// Reads one file, bounded, without ever blocking on it.
pub(super) fn read(file: &Arc<str>, path: &Path) -> Bytes {
    for _ in 0..3 {
        match read_once(path) {
            Ok(Some((bytes, print))) => return Bytes::Whole(bytes, print),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Bytes::Absent,
            Err(error) => {
                let message = format!("the file cannot be read: {}", reason(&error));
                return Bytes::Unreadable(Diagnostic::about_file(file, message, None));
            }
        }
    }
    Bytes::Torn
}

fn read_once(path: &Path) -> io::Result<Option<(Vec<u8>, Print)>> {
    // O_NONBLOCK: opening a fifo that took the file's place must not hang the source.
    let mut file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let before = file.metadata()?;
    if !before.is_file() {
        return Err(io::Error::other(format!("it is {}, not a file", kind(&before))));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or(MAX_FILE).min(MAX_FILE) + 1);
    // One byte more than allowed: enough for `load` to see that it is too large.
    (&mut file).take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
    let after = file.metadata()?;
    let whole =
        Print::of(&before) == Print::of(&after) && (bytes.len() as u64 == after.len() || bytes.len() > MAX_FILE);
    Ok(whole.then(|| (bytes, Print::of(&after))))
}

fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a fifo"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "something else"
    }
}

/// An error in words, without the number.
fn reason(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == io::ErrorKind::NotFound {
        "there is no such file or directory".into()
    } else if kind == io::ErrorKind::PermissionDenied {
        "permission denied".into()
    } else if error.raw_os_error() == Some(libc::ELOOP) {
        "it leads in a circle".into()
    } else {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(make: impl FnOnce(&Path)) -> (Vec<String>, Vec<String>, usize) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        make(dir.path());
        let listing = list(&roots(vec![dir.path().to_owned()]), false).expect("it can be listed");
        let files = listing.files.keys().map(ToString::to_string).collect();
        let odd = listing.oddities.values().map(Diagnostic::one_line).collect();
        (files, odd, listing.skipped)
    }

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().expect("it has a parent")).expect("mkdir");
        fs::write(path, "x").expect("write");
    }

    #[test]
    fn what_is_a_manifest() {
        for (name, yes) in [
            ("a.yaml", true),
            ("a.yml", true),
            ("a.json", true),
            ("a.YAML", false),
            ("a.yaml~", false),
            (".a.yaml.swp", false),
            (".#a.yaml", false),
            ("#a.yaml#", false),
            ("a.yaml.bak", false),
            ("a.yaml.orig", false),
            (".hidden.yaml", false),
            ("..data", false),
            ("README.md", false),
            ("yaml", false),
        ] {
            assert_eq!(is_manifest(name), yes, "{name}");
        }
    }

    #[test]
    fn lists_recursively_and_counts_what_it_skips() {
        let (files, odd, skipped) = tree(|dir| {
            for name in ["a.yaml", "sub/b.yml", "sub/deep/c.json", ".git/d.yaml", "e.yaml~", "README.md", ".f.yaml"] {
                touch(&dir.join(name));
            }
        });
        assert_eq!(files, ["a.yaml", "sub/b.yml", "sub/deep/c.json"]);
        assert_eq!((odd.len(), skipped), (0, 4));
    }

    #[test]
    fn a_config_map_is_followed() {
        let (files, odd, _) = tree(|dir| {
            touch(&dir.join("..2026_1/a.yaml"));
            touch(&dir.join("..2026_1/team/b.yaml"));
            symlink("..2026_1", dir.join("..data")).expect("symlink");
            symlink("..data/a.yaml", dir.join("a.yaml")).expect("symlink");
            symlink("..data/team", dir.join("team")).expect("symlink");
        });
        assert_eq!((files, odd.len()), (vec!["a.yaml".to_owned(), "team/b.yaml".to_owned()], 0));
    }

    #[test]
    fn odd_things_are_told_and_never_block() {
        let (files, odd, _) = tree(|dir| {
            symlink("nowhere", dir.join("dangling.yaml")).expect("symlink");
            symlink("loop.yaml", dir.join("loop.yaml")).expect("symlink");
            symlink("/etc/hostname", dir.join("out.yaml")).expect("symlink");
            symlink(".", dir.join("self")).expect("symlink");
            fs::create_dir(dir.join("dir.yaml")).expect("mkdir");
            let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket.yaml")).expect("bind");
            let fifo = std::process::Command::new("mkfifo").arg(dir.join("fifo.yaml")).status().expect("mkfifo runs");
            assert!(fifo.success());
        });
        assert_eq!(files, Vec::<String>::new());
        insta::assert_snapshot!(odd.join("\n"), @r"
        dangling.yaml: the link leads nowhere (mend the link, or remove it)
        dir.yaml: this is a directory, not a file (a manifest is a regular file)
        fifo.yaml: this is a fifo, not a file (a manifest is a regular file)
        loop.yaml: the link cannot be followed: it leads in a circle (mend the link, or remove it)
        out.yaml: the link leads out of the directory of manifests (copy what it leads to, give that as another --manifests, or --follow-links)
        self: the link leads to a directory above itself (remove the link)
        socket.yaml: this is a socket, not a file (a manifest is a regular file)
        ");
    }

    #[test]
    fn a_fifo_that_took_a_files_place_does_not_block() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("a.yaml");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
        assert!(matches!(read(&"a.yaml".into(), &path), Bytes::Unreadable(_)));
    }

    #[test]
    fn a_missing_root_is_an_error_not_an_empty_listing() {
        assert!(list(&roots(vec!["/nowhere/at/all".into()]), false).is_err());
    }
}
