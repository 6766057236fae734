//! Layout of the tree: resolved roots, and the links that decide which tree they name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use super::Root;
use super::read::reason;

/// A chain of links longer than this is a loop (the kernel's limit is 40).
const MAX_LINKS: usize = 40;

/// Links that select the tree (`..data` of a ConfigMap, the link of git-sync), and the resolved roots. One swap of a
/// link publishes one new tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::manifest) struct Layout {
    /// Each link and its target.
    pub(super) links: BTreeMap<PathBuf, PathBuf>,
    /// Each root, resolved, with its device and inode.
    pub(super) reals: Vec<(PathBuf, u64, u64)>,
}

impl Layout {
    /// Returns whether a link was swapped between two listings.
    pub(in crate::manifest) fn swapped_since(&self, before: &Self) -> bool {
        self.links != before.links && !before.reals.is_empty()
    }

    pub(in crate::manifest) fn reals(&self) -> impl Iterator<Item = &Path> {
        self.reals.iter().map(|(path, ..)| path.as_path())
    }

    /// The device of each root.
    pub(in crate::manifest) fn devices(&self) -> impl Iterator<Item = u64> {
        self.reals.iter().map(|(_, device, _)| *device)
    }

    pub(in crate::manifest) fn links(&self) -> impl Iterator<Item = &Path> {
        self.links.keys().map(PathBuf::as_path)
    }

    /// The name of the tree, if the link of git-sync has one: a commit hash.
    pub(in crate::manifest) fn revision(&self) -> Option<&str> {
        let names = self.links.values().filter_map(|target| target.file_name()?.to_str());
        names.into_iter().find(|name| (7..=64).contains(&name.len()) && name.chars().all(|c| c.is_ascii_hexdigit()))
    }
}

/// Targets of links outside the roots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::manifest) struct Outside {
    /// Directories that are targets of a link.
    pub(in crate::manifest) trees: BTreeSet<PathBuf>,
    /// Directories with a file that is the target of a link.
    pub(in crate::manifest) beside: BTreeSet<PathBuf>,
}

impl Outside {
    /// Returns whether an event at `path` can concern these targets.
    pub(in crate::manifest) fn concerns(&self, path: &Path) -> bool {
        self.trees.iter().chain(&self.beside).any(|outside| path.starts_with(outside) || outside.starts_with(path))
    }
}

/// Reads the layout of the roots.
pub(super) fn layout(roots: &[Root]) -> Result<Layout, String> {
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

/// Adds every link in the resolution of `path`, with its target, as far as the path exists.
pub(in crate::manifest) fn links_on(path: &Path, links: &mut BTreeMap<PathBuf, PathBuf>) {
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
