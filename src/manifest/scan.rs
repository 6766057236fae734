//! Listing of the tree: the manifest files that exist, and the files that changed.
//!
//! Keeps no state; its caller compares the files during the listing. It never blocks except on a regular file, never
//! follows a link out of the tree, and reports unreadable entries: only a complete listing proves that a file is
//! absent.

mod ignore;
mod layout;
mod print;
mod read;

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use self::ignore::Mistake;
pub use self::ignore::check_glob;
pub(super) use self::ignore::{IGNORE_FILE, Ignored};
use self::layout::layout;
pub(super) use self::layout::{Layout, Outside, links_on};
pub(super) use self::print::{FileId, Print};
pub(super) use self::read::{Bytes, read};
use self::read::{exhausted, kind, reason};
use super::diagnostic::{Diagnostic, Severity};

/// Limit for nested directories: more is a loop that the other checks missed, or an error.
const MAX_DEPTH: usize = 64;

/// The link in a mounted ConfigMap through which all its files are reached.
pub(super) const CONFIG_MAP_LINK: &str = "..data";

/// One directory of manifests (or a single file, for `validate`).
#[derive(Debug, Clone)]
pub(super) struct Root {
    /// As the user gave it; resolved for each listing, because it may be a link that is swapped.
    pub(super) given: PathBuf,
    /// Prefix of its file names, where there are several roots.
    pub(super) prefix: String,
    /// Whether it must be a directory: a file in its place is an error, not a manifest.
    pub(super) directory: bool,
}

/// The given roots, each once.
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
    unique.into_iter().map(|given| Root { prefix: prefix(&given), given, directory: false }).collect()
}

/// The files that the caller of a listing has read before.
pub(super) trait KnownFiles {
    /// Called when a listing begins, or is repeated.
    fn begin(&mut self);

    /// Called for each file. Returns whether the caller has the file with this path and print; then it is not listed.
    fn is_same(&mut self, name: &str, path: &Path, print: &Print) -> bool;
}

/// A file that a listing shows.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) print: Print,
}

/// The result of listing all roots.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Manifest files by name, without unchanged ones.
    pub(super) files: BTreeMap<Arc<str>, Found>,
    /// Entries with the name of a manifest, or able to hold manifests, that cannot be read.
    pub(super) oddities: BTreeMap<Arc<str>, Diagnostic>,
    /// Directories that could not be listed, by name with a slash: the objects below them are held.
    pub(super) unlisted: Vec<(String, Diagnostic)>,
    /// Number of other entries.
    pub(super) skipped: usize,
    /// Whether some files are reached through links inside the tree, where events name another path.
    pub(super) linked: bool,
    /// Directories out of the tree that links lead to, or into.
    pub(super) outside: Outside,
    /// Every directory that was listed, and the device it is on.
    pub(super) directories: Vec<(PathBuf, u64)>,
    /// Set if no file descriptor was left for a directory: the listing proves nothing.
    exhausted: Option<String>,
    /// Whether a file has hard links or is itself a root: it can change without an event in a directory.
    apart: bool,
    pub(super) layout: Layout,
    pub(super) ignored: Ignored,
}

/// Rules that select the entries of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Whether links may lead out of the tree.
    pub follow_links: bool,
    /// Globs of files and directories to skip, in the syntax of gitignore.
    pub exclude: Vec<String>,
}

impl Listing {
    /// Returns whether events and metadata show every change of this tree.
    ///
    /// False on a network file system, which other machines write to, and with links or hard links, which can change
    /// elsewhere.
    pub(super) fn is_local(&self) -> bool {
        let mut devices = HashSet::new();
        let mut local = |(path, device): &(PathBuf, u64)| !devices.insert(*device) || is_local_directory(path);
        let plain = !self.linked
            && !self.apart
            && self.unlisted.is_empty()
            && !self.oddities.values().any(Diagnostic::is_error);
        plain && !self.directories.is_empty() && self.directories.iter().all(&mut local)
    }
}

/// Returns whether a directory is on a file system that only this kernel writes.
fn is_local_directory(path: &Path) -> bool {
    const LOCAL: [u32; 8] = [
        0x0000_ef53, // ext2, ext3, ext4
        0x5846_5342, // XFS
        0x9123_683e, // Btrfs
        0x0102_1994, // tmpfs
        0x8584_58f6, // ramfs
        0xf2f5_2010, // F2FS
        0x2fc1_2fc1, // ZFS
        0xca45_1a4e, // bcachefs
    ];
    #[cfg(target_os = "linux")]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the kernel's magic numbers have 32 bits"
    )]
    let kind = rustix::fs::statfs(path).map(|found| found.f_type as u32).ok();
    #[cfg(not(target_os = "linux"))]
    let kind: Option<u32> = None;
    kind.is_some_and(|kind| LOCAL.contains(&kind))
}

/// Lists every root by `rules`, without files that are unchanged for `known`. The listing shows one state of the tree:
/// if a link is swapped during the listing, it is repeated.
///
/// # Errors
/// The cause why a root cannot be listed. This proves nothing about any file.
pub(super) fn list(roots: &[Root], rules: &Rules, known: &mut dyn KnownFiles) -> Result<Listing, String> {
    for _ in 0..5 {
        known.begin();
        let mut listing = Listing { layout: layout(roots)?, ..Listing::default() };
        let reals = listing.layout.reals.clone();
        let mut others = Others::default();
        for (root, (real, ..)) in roots.iter().zip(&reals) {
            listing.ignored.exclude(real, &rules.exclude);
            list_root(root, real, rules.follow_links, &mut listing, &mut others, known)?;
        }
        if let Some(cause) = listing.exhausted {
            return Err(cause);
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

/// Paths that other roots listed already: a root may lie in another, or be given twice.
#[derive(Debug, Default)]
struct Others {
    directories: HashSet<PathBuf>,
    files: HashSet<PathBuf>,
}

fn list_root(
    root: &Root,
    real: &Path,
    follow_links: bool,
    listing: &mut Listing,
    others: &mut Others,
    known: &mut dyn KnownFiles,
) -> Result<(), String> {
    let describe = |error: io::Error| {
        exhausted(&error).unwrap_or_else(|| format!("cannot read {}: {}", root.given.display(), reason(&error)))
    };
    let metadata = fs::metadata(real).map_err(describe)?;
    if metadata.is_file() && root.directory {
        return Err(format!("{} is a file, not a directory", root.given.display()));
    }
    if metadata.is_file() {
        let listed = real.parent().is_some_and(|above| others.directories.contains(above));
        if listed || !others.files.insert(real.to_owned()) {
            return Ok(());
        }
        listing.apart = true;
        let (name, print) = (root.given.to_string_lossy(), Print::of(&metadata));
        if !known.is_same(&name, &root.given, &print) {
            listing.files.insert(name.into(), Found { path: root.given.clone(), print });
        }
        return Ok(());
    }
    if !metadata.is_dir() {
        return Err(format!("{} is {}, not a directory", root.given.display(), kind(metadata.mode())));
    }
    let (path, name) = (real.to_owned(), root.prefix.clone());
    let mut walk = Walk { real, follow_links, listing, others, known, ancestors: Vec::new(), path, name };
    walk.directory().map_err(describe)
}

struct Walk<'a> {
    real: &'a Path,
    follow_links: bool,
    listing: &'a mut Listing,
    others: &'a mut Others,
    known: &'a mut dyn KnownFiles,
    /// Device and inode of the directories above: a link to one of them is a loop.
    ancestors: Vec<FileId>,
    /// Path and name of the current directory or entry: one buffer for the whole walk.
    path: PathBuf,
    name: String,
}

impl Walk<'_> {
    /// Lists the directory at `path`; the names of its files begin with `name`.
    fn directory(&mut self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mut entries = Dir::new(rustix::fs::open(&self.path, flags, Mode::empty())?)?;
        let print = Print::of_stat(&entries.stat()?);
        self.listing.directories.push((self.path.clone(), print.file().0));
        let listed = !self.others.directories.insert(self.path.clone());
        self.ancestors.push(print.file());
        self.config_map_link();
        let done = if listed { Ok(()) } else { self.ignore_file() };
        let done = done.and_then(|()| self.entries(&mut entries, listed));
        self.ancestors.pop();
        done
    }

    /// Records the target of the link of a ConfigMap, before the entries that use it are read: if it is swapped during
    /// the listing, the listing is repeated.
    fn config_map_link(&mut self) {
        let link = self.path.join(CONFIG_MAP_LINK);
        if let Ok(target) = fs::read_link(&link) {
            self.listing.layout.links.insert(link, target);
        }
    }

    /// Reads the ignore file of the current directory.
    fn ignore_file(&mut self) -> io::Result<()> {
        let (real, follow_links) = (self.real, self.follow_links);
        let mistake = self.listing.ignored.read(&self.path, |target| follow_links || target.starts_with(real));
        match mistake {
            Ok(()) => {}
            Err(Mistake::Unreadable(why)) => return Err(io::Error::other(why)),
            Err(Mistake::Exhausted(cause)) => self.listing.exhausted = Some(cause),
            Err(Mistake::Pattern(line, mistake)) => {
                let name: Arc<str> = format!("{}{IGNORE_FILE}", self.name).into();
                let hint = "write patterns as in .gitignore; the other lines of the file apply";
                let mut diagnostic =
                    Diagnostic::about_file(&name, format!("a pattern that cannot be read: {mistake}"), Some(hint));
                (diagnostic.line, diagnostic.column) = (line, 1);
                self.listing.oddities.insert(name, diagnostic);
            }
        }
        Ok(())
    }

    /// `listed`: whether another root has listed this directory.
    fn entries(&mut self, entries: &mut Dir, listed: bool) -> io::Result<()> {
        let above = self.name.len();
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let file_name = entry.file_name().to_bytes();
            if matches!(file_name, b"." | b"..") {
                continue;
            }
            self.path.push(OsStr::from_bytes(file_name));
            self.entry(entries, &entry, listed);
            self.path.pop();
            self.name.truncate(above);
        }
        Ok(())
    }

    fn entry(&mut self, above: &Dir, entry: &rustix::fs::DirEntry, listed: bool) {
        let below = entry.file_type() == FileType::Directory;
        let others = || !self.others.files.is_empty() && self.others.files.contains(&self.path);
        if !below && (listed || others()) {
            return;
        }
        let Ok(plain) = entry.file_name().to_str() else {
            self.name.push_str(&entry.file_name().to_string_lossy());
            self.odd("the file's name is not UTF-8", Some("rename it"));
            return;
        };
        if hidden(plain) {
            self.listing.skipped += 1;
            return;
        }
        if self.listing.ignored.hides_entry(&self.path, below) {
            self.listing.skipped += 1;
            return;
        }
        self.name.push_str(plain);
        let stat = || rustix::fs::statat(above.fd()?, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW);
        let mut kind_here = entry.file_type();
        if kind_here == FileType::Unknown {
            // Some file systems do not have the kind in the entry. A removed entry has none.
            let Ok(stat) = stat() else { return };
            kind_here = FileType::from_raw_mode(stat.st_mode);
        }
        if kind_here == FileType::Symlink {
            self.link(plain);
        } else if kind_here == FileType::Directory && !is_manifest(plain) {
            self.below();
        } else if is_manifest(plain) {
            match stat() {
                Ok(stat) => self.file(stat.st_mode, stat.st_nlink > 1, Print::of_stat(&stat)),
                Err(error) => self.unreadable(&error.into()),
            }
        } else {
            self.listing.skipped += 1;
            if let Some(ending) = misspelt_ending(plain) {
                self.odd(&format!("not read: the name ends in .{ending}"), Some("rename it to .yaml, .yml or .json"));
                let oddity = self.listing.oddities.get_mut(self.name.as_str());
                oddity.expect("it was just added").severity = Severity::Warning;
            }
        }
    }

    fn link(&mut self, plain: &str) {
        let resolved = fs::canonicalize(&self.path).and_then(|target| Ok((fs::metadata(&target)?, target)));
        let (metadata, target) = match resolved {
            Ok(resolved) => resolved,
            Err(error) if !is_manifest(plain) && error.kind() == io::ErrorKind::NotFound => {
                self.listing.skipped += 1;
                return;
            }
            Err(error) => {
                let dangling = error.kind() == io::ErrorKind::NotFound;
                let what = if dangling {
                    "the target of the link does not exist".to_owned()
                } else {
                    format!("the link cannot be followed: {}", reason(&error))
                };
                self.odd(&what, Some("fix the link, or remove it"));
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
                    "the link leads out of the directory of manifests",
                    Some("copy the target, set it as another --manifests, or set --follow-links"),
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
            if self.ancestors.contains(&Print::of(&metadata).file()) {
                self.odd("the link leads to a directory above itself", Some("remove the link"));
            } else {
                self.below();
            }
        } else {
            self.listing.linked = true;
            self.file(metadata.mode(), metadata.nlink() > 1, Print::of(&metadata));
        }
    }

    fn below(&mut self) {
        if self.ancestors.len() >= MAX_DEPTH {
            self.odd("directories are nested too deeply", None);
            return;
        }
        let end = self.name.len();
        self.name.push('/');
        let listed = self.directory();
        match listed {
            Ok(()) => {}
            // It was removed after the directory above was listed; the next listing decides about its files.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if let Some(cause) = exhausted(&error) => self.listing.exhausted = Some(cause),
            Err(error) => {
                let inside = self.name.clone();
                self.name.truncate(end);
                let name: Arc<str> = self.name.as_str().into();
                let diagnostic =
                    Diagnostic::about_file(&name, format!("the directory cannot be read: {}", reason(&error)), None);
                self.listing.oddities.insert(name, diagnostic.clone());
                self.listing.unlisted.push((inside, diagnostic));
            }
        }
        self.name.truncate(end);
    }

    /// `named_twice`: whether the file has hard links.
    fn file(&mut self, mode: rustix::fs::RawMode, named_twice: bool, print: Print) {
        if FileType::from_raw_mode(mode) == FileType::RegularFile {
            self.listing.apart |= named_twice;
            if !self.known.is_same(&self.name, &self.path, &print) {
                self.listing.files.insert(self.name.as_str().into(), Found { path: self.path.clone(), print });
            }
        } else {
            let what = format!("this is {}, not a file", kind(mode));
            self.odd(&what, Some("a manifest is a regular file"));
        }
    }

    fn unreadable(&mut self, error: &io::Error) {
        if error.kind() != io::ErrorKind::NotFound {
            self.odd(&format!("the file cannot be read: {}", reason(error)), None);
        }
    }

    fn odd(&mut self, message: &str, hint: Option<&str>) {
        let name: Arc<str> = self.name.as_str().into();
        let diagnostic = Diagnostic::about_file(&name, message, hint);
        self.listing.oddities.insert(name, diagnostic);
    }
}

/// Returns whether a name is ignored: dotfiles (and `..data`), backups, leftovers of editors.
pub(super) fn hidden(name: &str) -> bool {
    name.starts_with(['.', '#']) || name.ends_with('~')
}

/// Returns the ending of a name that would be a manifest in lower-case letters.
fn misspelt_ending(name: &str) -> Option<&str> {
    let ending = Path::new(name).extension()?.to_str()?;
    (!is_manifest(name) && is_manifest(&name.to_lowercase())).then_some(ending)
}

/// Returns whether a name is that of a manifest, or of a calendar that a manifest may name.
pub(super) fn is_manifest(name: &str) -> bool {
    const ENDINGS: [&str; 4] = ["yaml", "yml", "json", "ics"];
    !hidden(name) && Path::new(name).extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Has read no file.
    struct Nothing;

    impl KnownFiles for Nothing {
        fn begin(&mut self) {}

        fn is_same(&mut self, _: &str, _: &Path, _: &Print) -> bool {
            false
        }
    }

    fn tree(make: impl FnOnce(&Path)) -> (Vec<String>, Vec<String>, usize) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        make(dir.path());
        let listing =
            list(&roots(vec![dir.path().to_owned()]), &Rules::default(), &mut Nothing).expect("it can be listed");
        let files = listing.files.keys().map(ToString::to_string).collect();
        let odd = listing.oddities.values().map(Diagnostic::one_line).collect();
        (files, odd, listing.skipped)
    }

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().expect("it has a parent")).expect("mkdir");
        fs::write(path, "x").expect("write");
    }

    #[test]
    fn ignore_files_hide_entries() {
        let (files, odd, _) = tree(|dir| {
            for file in ["a.yaml", "b.yaml", "web/c.yaml", "web/deep/d.yaml", "node_modules/x/e.yaml", "keep/f.json"] {
                touch(&dir.join(file));
            }
            fs::write(dir.join(".camposignore"), "# not ours\n/web/*\n!/web/deep\n*.json\nb.yaml\n").expect("write");
            fs::write(dir.join("keep/.camposignore"), "!f.json\n").expect("write");
        });
        assert_eq!(files, ["a.yaml", "keep/f.json", "web/deep/d.yaml"]);
        assert_eq!(odd, [] as [&str; 0]);
    }

    #[test]
    fn a_broken_pattern_is_reported_at_its_line() {
        let (files, odd, _) = tree(|dir| {
            touch(&dir.join("a.yaml"));
            touch(&dir.join("b.yaml"));
            fs::write(dir.join(".camposignore"), "b.yaml\n[z-a].yaml\n").expect("write");
        });
        assert_eq!(files, ["a.yaml"], "the other lines apply");
        assert!(odd[0].starts_with(".camposignore:2:1: a pattern that cannot be read"), "{odd:?}");
    }

    #[test]
    fn excluded_globs_hide_entries() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for file in ["a.yaml", "web/b.yaml", "compose.yaml"] {
            touch(&dir.path().join(file));
        }
        let rules = Rules { exclude: vec!["web/**".into(), "compose.*".into()], ..Rules::default() };
        let listing = list(&roots(vec![dir.path().to_owned()]), &rules, &mut Nothing).expect("it can be listed");
        assert_eq!(listing.files.keys().map(ToString::to_string).collect::<Vec<_>>(), ["a.yaml"]);
    }

    #[test]
    fn manifests_are_recognized_by_their_names() {
        for (name, yes) in [
            ("a.yaml", true),
            ("a.yml", true),
            ("a.json", true),
            ("a.ics", true),
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
    fn listing_is_recursive_and_counts_skipped_entries() {
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

    /// Swaps a ConfigMap at the first file of a listing.
    struct Swap<'a> {
        root: &'a Path,
        seen: Vec<u64>,
    }

    impl KnownFiles for Swap<'_> {
        fn begin(&mut self) {
            self.seen.clear();
        }

        fn is_same(&mut self, _: &str, _: &Path, print: &Print) -> bool {
            self.seen.push(print.file().1);
            if fs::read_link(self.root.join(CONFIG_MAP_LINK)).unwrap() == *"..1" {
                symlink("..2", self.root.join("..data_tmp")).unwrap();
                fs::rename(self.root.join("..data_tmp"), self.root.join("..data")).unwrap();
            }
            false
        }
    }

    #[test]
    fn a_config_map_that_is_swapped_during_a_listing_is_listed_again() {
        // The names and the file system decide whether the link or the files are listed first.
        for names in [["a.yaml", "b.yaml"], ["c.yaml", "d.yaml"], ["e.yaml", "f.yaml"], ["g.yaml", "h.yaml"]] {
            for link_first in [true, false] {
                let dir = tempfile::tempdir().expect("a temporary directory");
                let root = dir.path();
                let link = || symlink("..1", root.join("..data")).expect("symlink");
                let mut new = Vec::new();
                if link_first {
                    link();
                }
                for name in names {
                    touch(&root.join("..1").join(name));
                    touch(&root.join("..2").join(name));
                    new.push(fs::metadata(root.join("..2").join(name)).expect("it is there").ino());
                    symlink(format!("..data/{name}"), root.join(name)).expect("symlink");
                }
                if !link_first {
                    link();
                }
                let mut swap = Swap { root, seen: Vec::new() };
                list(&roots(vec![root.to_owned()]), &Rules::default(), &mut swap).expect("it can be listed");
                swap.seen.sort_unstable();
                new.sort_unstable();
                assert_eq!(swap.seen, new, "{names:?}: files of two trees were listed as one");
            }
        }
    }

    #[test]
    fn unreadable_entries_are_reported_and_never_block() {
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
        dangling.yaml: the target of the link does not exist (fix the link, or remove it)
        dir.yaml: this is a directory, not a file (a manifest is a regular file)
        fifo.yaml: this is a fifo, not a file (a manifest is a regular file)
        loop.yaml: the link cannot be followed: it leads in a circle (fix the link, or remove it)
        out.yaml: the link leads out of the directory of manifests (copy the target, set it as another --manifests, or set --follow-links)
        self: the link leads to a directory above itself (remove the link)
        socket.yaml: this is a socket, not a file (a manifest is a regular file)
        ");
    }

    #[test]
    fn a_name_in_capitals_is_reported() {
        let (files, odd, skipped) = tree(|dir| {
            for name in ["a.YAML", "b.Yml", "c.yaml", "README.MD", ".d.YAML"] {
                touch(&dir.join(name));
            }
        });
        assert_eq!((files, skipped), (vec!["c.yaml".to_owned()], 4));
        insta::assert_snapshot!(odd.join("\n"), @r"
        a.YAML: not read: the name ends in .YAML (rename it to .yaml, .yml or .json)
        b.Yml: not read: the name ends in .Yml (rename it to .yaml, .yml or .json)
        ");
    }

    #[test]
    fn a_fifo_in_place_of_a_file_does_not_block() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("a.yaml");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
        assert!(matches!(read(&"a.yaml".into(), &path), Bytes::Unreadable(_)));
    }

    #[test]
    fn a_missing_root_is_an_error_not_an_empty_listing() {
        assert!(list(&roots(vec!["/nowhere/at/all".into()]), &Rules::default(), &mut Nothing).is_err());
    }
}
