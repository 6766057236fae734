//! Relevance of file-system events: the paths that concern the tree of the last listing.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::Engine;
use crate::manifest::scan::{CONFIG_MAP_LINK, IGNORE_FILE, Root, hidden, is_manifest};

impl Engine {
    /// The name of a file below a root, if its path is that of a manifest that a listing would show.
    pub(in crate::manifest) fn name_of(&self, path: &Path) -> Option<Arc<str>> {
        let mut roots = self.roots.iter().zip(self.listing.layout.reals());
        let (root, below) = roots.find_map(|(root, real)| Some((root, path.strip_prefix(real).ok()?)))?;
        let parts: Vec<&str> = below.iter().map(OsStr::to_str).collect::<Option<_>>()?;
        let (last, above) = parts.split_last()?;
        let real = self.listing.layout.reals().find(|real| path.starts_with(real))?;
        let shown = is_manifest(last)
            && !self.listing.ignored.hides(real, path)
            && !above.iter().any(|part| hidden(part) || is_manifest(part));
        shown.then(|| format!("{}{}", root.prefix, parts.join("/")).into())
    }

    /// Returns whether an event at `path` can concern the tree. Other programs may use the directories above it.
    pub(in crate::manifest) fn concerns(&self, path: &Path) -> bool {
        let given = |root: &Root| std::path::absolute(&root.given).is_ok_and(|given| given.starts_with(path));
        let layout = &self.listing.layout;
        layout.reals().any(|real| path.starts_with(real) || real.starts_with(path))
            || layout.links().any(|link| link.starts_with(path))
            || self.listing.outside.concerns(path)
            || self.roots.iter().any(given)
    }

    /// Returns whether an entry that appeared or disappeared in the tree is neither a manifest nor a directory, such as
    /// the temporary file of an editor: it needs no scan.
    pub(in crate::manifest) fn is_beside(&self, path: &Path) -> bool {
        let named = path.file_name().and_then(OsStr::to_str);
        let named = named.is_some_and(|name| !is_manifest(name) && name != IGNORE_FILE);
        let inside = self.listing.layout.reals().any(|real| path != real && path.starts_with(real));
        let known = || self.listing.directories.iter().any(|(directory, _)| directory.starts_with(path));
        let other = || match fs::symlink_metadata(path) {
            Ok(metadata) => metadata.is_file(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        named && inside && !self.listing.linked && !known() && other()
    }

    /// Returns whether it is an ignore file of the tree, which can hide any manifest.
    pub(in crate::manifest) fn is_ignore_file(&self, path: &Path) -> bool {
        let named = path.file_name().is_some_and(|name| name == IGNORE_FILE);
        named && self.listing.layout.reals().any(|real| path.starts_with(real))
    }

    /// Returns whether an event at a path in the tree is about a hidden file.
    pub(in crate::manifest) fn is_noise(&self, path: &Path) -> bool {
        let inside = self.listing.layout.reals().find_map(|real| path.strip_prefix(real).ok());
        let ignored = |part: &OsStr| {
            part.to_str().is_some_and(|part| hidden(part) && part != CONFIG_MAP_LINK && part != IGNORE_FILE)
        };
        !self.listing.linked && inside.is_some_and(|below| below.iter().any(ignored))
    }
}
