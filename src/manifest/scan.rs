//! Which manifest files are there, and what are their bytes?
//!
//! Looks at the disk and remembers nothing; what its caller knows already is compared on the way and not listed. Never blocks on what is not a regular file, never follows a link out of the
//! tree, and says "cannot be read" where it cannot: absence is reported only for what a whole listing does not show.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

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
    /// Whether it has to be a directory: a file in its place is a mistake, not a manifest.
    pub(super) directory: bool,
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
    unique.into_iter().map(|given| Root { prefix: prefix(&given), given, directory: false }).collect()
}

/// Device and inode of a file.
pub(super) type FileId = (u32, u64);

/// What identifies a file's content without reading it. Trusted only for a while: see `source`.
///
/// There is one for each file: moments are nanoseconds (until 2262), sizes end at 4 GiB, of which no manifest comes near.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Print {
    inode: u64,
    modified: i64,
    changed: i64,
    size: u32,
    device: u32,
}

/// One moment as a number. What does not fit is at the end of time, and nothing that is in the future is trusted.
fn moment(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// A device in 32 bits, which is what Linux has: the upper half of its number in user space is empty.
#[expect(clippy::cast_possible_truncation, reason = "both halves count")]
fn device(device: u64) -> u32 {
    (device ^ (device >> 32)) as u32
}

impl Print {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            modified: moment(metadata.mtime(), metadata.mtime_nsec()),
            changed: moment(metadata.ctime(), metadata.ctime_nsec()),
            size: u32::try_from(metadata.len()).unwrap_or(u32::MAX),
            device: device(metadata.dev()),
        }
    }

    #[expect(clippy::useless_conversion, reason = "the types of these fields differ from one processor to the next")]
    fn of_stat(stat: &rustix::fs::Stat) -> Self {
        let nanoseconds = |nanoseconds| i64::try_from(nanoseconds).unwrap_or_default();
        Self {
            inode: stat.st_ino.into(),
            modified: moment(stat.st_mtime.into(), nanoseconds(stat.st_mtime_nsec)),
            changed: moment(stat.st_ctime.into(), nanoseconds(stat.st_ctime_nsec)),
            size: u32::try_from(stat.st_size).unwrap_or(u32::MAX),
            device: device(stat.st_dev.into()),
        }
    }

    /// The device and the inode: what stays when a file is renamed.
    pub(super) fn file(&self) -> FileId {
        (self.device, self.inode)
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Whether it was modified within `span` before `wall`, or after it.
    pub(super) fn modified_within(&self, span: Duration, wall: SystemTime) -> bool {
        self.modified >= before(span, wall)
    }

    /// Whether anything about it changed then. A writer can set the time of the modification, but not this one.
    pub(super) fn changed_within(&self, span: Duration, wall: SystemTime) -> bool {
        self.modified.max(self.changed) >= before(span, wall)
    }

    /// The print of the file that is at `path` now.
    pub(super) fn at(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }
}

/// The whole second that lies `span` before `wall`.
fn before(span: Duration, wall: SystemTime) -> i64 {
    let since_epoch = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(span);
    moment(i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX), 0)
}

/// What the caller of a listing knows already.
pub(super) trait Known {
    /// The listing begins, perhaps anew.
    fn begin(&mut self);

    /// A file is there. Whether it is known at this very path with this print, so that nothing needs to be done.
    fn is_same(&mut self, name: &str, path: &Path, print: &Print) -> bool;
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

    /// The device that each root is on.
    pub(super) fn devices(&self) -> impl Iterator<Item = u64> {
        self.reals.iter().map(|(_, device, _)| *device)
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
    /// Manifest files by name, but for those that are the same as before.
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
    /// Every directory that was listed, and the device it is on.
    pub(super) directories: Vec<(PathBuf, u32)>,
    /// Why nothing may be concluded from the listing, where no file descriptor was left for a directory.
    exhausted: Option<String>,
    /// Whether a file has names elsewhere, or is itself what was given: it can change without its directory telling.
    apart: bool,
    /// How the tree hangs together.
    pub(super) layout: Layout,
}

impl Listing {
    /// Whether the kernel sees whatever is written to this tree, and says so in events and metadata.
    ///
    /// Others write to a network's file system without it. And only for plain trees: what links lead to, or hard links,
    /// can be changed elsewhere.
    pub(super) fn is_local(&self) -> bool {
        let mut devices = HashSet::new();
        let mut local = |(path, device): &(PathBuf, u32)| !devices.insert(*device) || is_local_directory(path);
        let plain = !self.linked && !self.apart && self.oddities.is_empty() && self.unlisted.is_empty();
        plain && !self.directories.is_empty() && self.directories.iter().all(&mut local)
    }
}

/// Whether a directory is on a file system that only this kernel writes to. What is not known is not.
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

/// Lists every root; with `follow_links`, also what links out of it lead to. Files that are `known` to be the same are
/// left out. The listing is of one tree: if a link is swapped meanwhile, it is made again.
///
/// # Errors
/// Why a root cannot be listed, for people: nothing may be concluded about any file then.
pub(super) fn list(roots: &[Root], follow_links: bool, known: &mut dyn Known) -> Result<Listing, String> {
    for _ in 0..5 {
        known.begin();
        let mut listing = Listing { layout: layout(roots)?, ..Listing::default() };
        let reals = listing.layout.reals.clone();
        let mut others = Others::default();
        for (root, (real, ..)) in roots.iter().zip(&reals) {
            list_root(root, real, follow_links, &mut listing, &mut others, known)?;
        }
        if let Some(trouble) = listing.exhausted {
            return Err(trouble);
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

/// What other roots listed already, where there are several. A root may lie in another, or be named twice.
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
    known: &mut dyn Known,
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
    known: &'a mut dyn Known,
    /// Device and inode of the directories above: a link to one of them is a loop.
    ancestors: Vec<(u32, u64)>,
    /// The directory or the entry that is looked at, and what it is called. One of each for the whole walk.
    path: PathBuf,
    name: String,
}

impl Walk<'_> {
    /// Lists the directory at `path`; `name` is what the names of its files begin with.
    fn directory(&mut self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mut entries = Dir::new(rustix::fs::open(&self.path, flags, Mode::empty())?)?;
        let print = Print::of_stat(&entries.stat()?);
        self.listing.directories.push((self.path.clone(), print.device));
        let listed = !self.others.directories.insert(self.path.clone());
        self.ancestors.push(print.file());
        let done = self.entries(&mut entries, listed);
        self.ancestors.pop();
        done
    }

    /// `listed`: whether another root has told of this directory's files.
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
        if plain == "..data"
            && let Ok(target) = fs::read_link(&self.path)
        {
            self.listing.layout.links.insert(self.path.clone(), target);
            self.listing.skipped += 1;
            return;
        }
        if hidden(plain) {
            self.listing.skipped += 1;
            return;
        }
        self.name.push_str(plain);
        let look = || rustix::fs::statat(above.fd()?, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW);
        let mut kind_here = entry.file_type();
        if kind_here == FileType::Unknown {
            // Some file systems do not say; one that is not there any more has no kind.
            let Ok(stat) = look() else { return };
            kind_here = FileType::from_raw_mode(stat.st_mode);
        }
        if kind_here == FileType::Symlink {
            self.link(plain);
        } else if kind_here == FileType::Directory && !is_manifest(plain) {
            self.below();
        } else if is_manifest(plain) {
            match look() {
                Ok(stat) => self.file(stat.st_mode, stat.st_nlink > 1, Print::of_stat(&stat)),
                Err(error) => self.unreadable(&error.into()),
            }
        } else {
            self.listing.skipped += 1;
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
                    "the link leads nowhere".to_owned()
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
            // It went between the listing above it and now; whether its files are gone is for the next look to confirm.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if let Some(trouble) = exhausted(&error) => self.listing.exhausted = Some(trouble),
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

    /// `named_twice`: whether it has hard links.
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
    /// This process, or the machine, has no file descriptor left: says nothing of the file.
    Exhausted(String),
    /// It is there and cannot be read.
    Unreadable(Diagnostic),
}

/// What to report where an error says that no file descriptor is left: that is about this process, not about a file.
fn exhausted(error: &io::Error) -> Option<String> {
    let (whose, limit) = match error.raw_os_error() {
        Some(libc::EMFILE) => ("this process", "raise its limit (LimitNOFILE=, ulimit -n)"),
        Some(libc::ENFILE) => ("this machine", "raise fs.file-max"),
        _ => return None,
    };
    Some(format!("cannot read the manifests: too many open files in {whose}; {limit}"))
}

/// Reads one file, bounded, without ever blocking on it.
pub(super) fn read(file: &Arc<str>, path: &Path) -> Bytes {
    for _ in 0..3 {
        match read_once(path) {
            Ok(Some((bytes, print))) => return Bytes::Whole(bytes, print),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Bytes::Absent,
            Err(error) => {
                if let Some(trouble) = exhausted(&error) {
                    return Bytes::Exhausted(trouble);
                }
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
        return Err(io::Error::other(format!("it is {}, not a file", kind(before.mode()))));
    }
    // One byte more than allowed: enough for `load` to see that it is too large. And one more than there are: a single
    // call shows that this is the end.
    let mut bytes = vec![0; usize::try_from(before.len()).unwrap_or(MAX_FILE).min(MAX_FILE) + 1];
    let read = match file.read(&mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
        read => read?,
    };
    let end = read < bytes.len() && read as u64 == before.len();
    bytes.truncate(read);
    if !end {
        (&mut file).take((MAX_FILE + 1).saturating_sub(read) as u64).read_to_end(&mut bytes)?;
    }
    let after = file.metadata()?;
    let whole =
        Print::of(&before) == Print::of(&after) && (bytes.len() as u64 == after.len() || bytes.len() > MAX_FILE);
    Ok(whole.then(|| (bytes, Print::of(&after))))
}

fn kind(mode: rustix::fs::RawMode) -> &'static str {
    match FileType::from_raw_mode(mode) {
        FileType::Directory => "a directory",
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::RegularFile | FileType::Symlink | FileType::Unknown => "something else",
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

    /// Knows no file.
    struct Nothing;

    impl Known for Nothing {
        fn begin(&mut self) {}

        fn is_same(&mut self, _: &str, _: &Path, _: &Print) -> bool {
            false
        }
    }

    fn tree(make: impl FnOnce(&Path)) -> (Vec<String>, Vec<String>, usize) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        make(dir.path());
        let listing = list(&roots(vec![dir.path().to_owned()]), false, &mut Nothing).expect("it can be listed");
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
        dangling.yaml: the link leads nowhere (fix the link, or remove it)
        dir.yaml: this is a directory, not a file (a manifest is a regular file)
        fifo.yaml: this is a fifo, not a file (a manifest is a regular file)
        loop.yaml: the link cannot be followed: it leads in a circle (fix the link, or remove it)
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
        assert!(list(&roots(vec!["/nowhere/at/all".into()]), false, &mut Nothing).is_err());
    }
}
