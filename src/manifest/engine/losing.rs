//! Protection against losing everything: a root that loses all its objects at once keeps them in force.
//!
//! An unmounted directory looks like a directory whose manifests were all deleted. An edit rarely removes the last two
//! objects within a scan interval; it may remove one, unless the device of the root changed, too. The removal of fewer
//! than all objects is a normal edit. A file that no longer declares an object counts as removed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::{Engine, GONE_AFTER, GONE_AT_LAST};
use crate::manifest::scan::Root;
use crate::manifest::store::FileState;
use crate::reconcile::app::AppName;

/// Losses by root, and the data to detect one. Roots are identified by their index.
#[derive(Debug, Default)]
pub(super) struct Losses {
    lost: BTreeMap<usize, Loss>,
    /// Files that declared objects and now declare none, the time of the change, and their new state. They release
    /// their objects as late as removed files, because others may follow.
    emptying: BTreeMap<Arc<str>, (Instant, FileState)>,
    /// The device of each root when it last had manifests.
    devices: Vec<Option<u64>>,
    /// Recent releases: time, root, number of objects.
    released: Vec<(Instant, usize, usize)>,
}

/// A root that lost all its objects at once.
#[derive(Debug)]
struct Loss {
    /// Number of objects that it held.
    objects: usize,
    /// Files that still exist, and no longer declare an object.
    emptied: BTreeSet<Arc<str>>,
}

impl Engine {
    /// Releases the missing files of each root, unless the root has lost all its objects.
    pub(super) fn release_missing(&mut self, devices: Vec<u64>, now: Instant) {
        self.losses.devices.resize(devices.len(), None);
        for (root, device) in devices.into_iter().enumerate() {
            let Some(objects) = self.losing(root) else {
                if self.store.files().any(|(file, _)| self.root_of(file) == root) {
                    self.losses.devices[root] = Some(device);
                }
                self.regain(root, now);
                self.release(root, now);
                continue;
            };
            let unmounted = self.losses.devices[root].is_some_and(|before| before != device);
            if self.is_loss(root, objects, unmounted, now) {
                self.losses.lost.entry(root).or_insert_with(|| Loss { objects, emptied: BTreeSet::new() });
            } else {
                self.release(root, now);
            }
        }
    }

    /// Delays the release of objects whose files no longer declare them: more files may follow.
    pub(super) fn defer_emptied(&mut self, now: Instant) {
        let (store, emptying) = (&self.store, &mut self.losses.emptying);
        emptying.retain(|file, _| !self.batch.contains_key(file));
        let elsewhere: HashSet<AppName> = self.batch.values().flat_map(names).cloned().collect();
        let keeps = |file: &str| store.members(file).any(|name| !elsewhere.contains(name));
        if !self.allow_empty {
            let deferred = self.batch.extract_if(.., |file, state| is_emptied(state) && keeps(file));
            emptying.extend(deferred.map(|(file, state)| (file, (now, state))));
        }
        // Objects that moved to another file are not lost, and must not be declared twice.
        let moved = emptying.extract_if(.., |file, _| !keeps(file));
        self.batch.extend(moved.map(|(file, (_, state))| (file, state)));
    }

    /// Keeps the objects of the last files of a root in force, if the new texts declare none.
    pub(super) fn hold_emptied(&mut self, now: Instant) {
        let Losses { lost, emptying, .. } = &self.losses;
        let affected: BTreeSet<usize> =
            emptying.keys().map(|file| self.root_of(file)).chain(lost.keys().copied()).collect();
        for root in affected {
            let Some(objects) = self.losing(root) else {
                self.regain(root, now);
                continue;
            };
            if self.is_loss(root, objects, false, now) {
                let Losses { lost, emptying, .. } = &mut self.losses;
                let loss = lost.entry(root).or_insert_with(|| Loss { objects, emptied: BTreeSet::new() });
                let emptied = emptying.extract_if(.., |file, _| root_of(&self.roots, file) == root);
                loss.emptied.extend(emptied.map(|(file, _)| file));
            }
        }
    }

    /// Returns whether a root whose last `objects` disappear has lost them, or has lost all its objects before.
    fn is_loss(&self, root: usize, objects: usize, unmounted: bool, now: Instant) -> bool {
        let recent =
            |(at, from, _): &&(Instant, usize, usize)| *from == root && now.duration_since(*at) <= self.together;
        let before: usize = self.losses.released.iter().filter(recent).map(|(_, _, objects)| objects).sum();
        self.losses.lost.contains_key(&root)
            || (!self.allow_empty && objects > 0 && (unmounted || objects + before > 1))
    }

    /// Number of objects that a root loses if all missing files are released; `None` if some of its objects remain.
    fn losing(&self, root: usize) -> Option<usize> {
        let Losses { lost, emptying, .. } = &self.losses;
        let lost = lost.get(&root);
        let nothing_gone = self.missing.is_empty() && emptying.is_empty() && lost.is_none();
        if nothing_gone && !self.batch.values().any(declares_nothing) {
            return None;
        }
        let mut elsewhere = HashSet::new();
        for (file, state) in &self.batch {
            let mut names = names(state).peekable();
            if names.peek().is_some() && self.root_of(file) == root {
                return None;
            }
            elsewhere.extend(names);
        }
        let mut objects = 0;
        for (file, _) in self.store.files().filter(|(file, _)| self.root_of(file) == root) {
            let gone = self.missing.contains_key(file)
                || emptying.contains_key(file)
                || self.batch.get(file).is_some_and(declares_nothing)
                || lost.is_some_and(|loss| loss.emptied.contains(file));
            if !gone {
                return None;
            }
            objects += self.store.members(file).filter(|name| !elsewhere.contains(name)).count();
        }
        (objects > 0).then_some(objects)
    }

    /// Ends a loss, because some objects of the root exist again: the missing objects are a normal edit that begins
    /// now.
    fn regain(&mut self, root: usize, now: Instant) {
        let Some(loss) = self.losses.lost.remove(&root) else { return };
        for file in loss.emptied {
            // With another hash, so that the next scan reads it again.
            self.tracked.track(&file, None, 0, None, false);
        }
        let roots = &self.roots;
        self.missing.iter_mut().filter(|(file, _)| root_of(roots, file) == root).for_each(|(_, since)| *since = now);
    }

    /// Releases the files of a root that are missing long enough, unless more files are disappearing now.
    fn release(&mut self, root: usize, now: Instant) {
        let here = |file: &Arc<str>, since: &Instant| (self.root_of(file) == root).then(|| (file.clone(), *since));
        let missing = self.missing.iter().filter_map(|(file, since)| here(file, since));
        let emptied = self.losses.emptying.iter().filter_map(|(file, (since, _))| here(file, since));
        let leaving: Vec<(Arc<str>, Instant)> = missing.chain(emptied).collect();
        let newest = leaving.iter().map(|(_, since)| *since).max().unwrap_or(now);
        let at_rest = !self.is_pending() && now.duration_since(newest) >= GONE_AFTER;
        self.losses.released.retain(|(at, ..)| now.duration_since(*at) <= self.together);
        for (file, since) in leaving {
            if !at_rest && now.duration_since(since) < GONE_AT_LAST {
                continue;
            }
            let objects = self.store.members(&file).count();
            self.losses.released.push((now, root, objects));
            match self.losses.emptying.remove(&file) {
                Some((_, state)) if !self.missing.contains_key(&file) => {
                    self.batch.entry(file).or_insert(state);
                }
                _ => self.gone(&file),
            }
        }
    }

    fn root_of(&self, file: &str) -> usize {
        root_of(&self.roots, file)
    }

    /// Returns whether the release of a file is pending.
    pub(in crate::manifest) fn is_releasing(&self) -> bool {
        let mut files = self.missing.keys().chain(self.losses.emptying.keys());
        files.any(|file| !self.losses.lost.contains_key(&self.root_of(file)))
    }

    /// Returns whether the manifests cannot be read, or a root has lost all of them.
    pub(in crate::manifest) fn is_unavailable(&self) -> bool {
        self.cause.is_some() || !self.losses.lost.is_empty()
    }

    /// One sentence for each root that has lost all its objects.
    pub(super) fn losses(&self) -> Vec<String> {
        let sentence = |(root, loss): (&usize, &Loss)| {
            let (root, objects) = (self.roots[*root].given.display(), loss.objects);
            let all = if objects == 1 { "the only manifest".into() } else { format!("all {objects} manifests") };
            format!(
                "{all} under {root} disappeared, and stay in force; if this is intended, restart, or set --allow-empty"
            )
        };
        self.losses.lost.iter().map(sentence).collect()
    }

    /// Roots without objects.
    pub(in crate::manifest) fn empty_roots(&self) -> impl Iterator<Item = &Root> {
        let used: HashSet<usize> = self.store.files().map(|(file, _)| self.root_of(file)).collect();
        self.roots.iter().enumerate().filter(move |(at, _)| !used.contains(at)).map(|(_, root)| root)
    }
}

/// The root of a file; the innermost root if roots are nested.
fn root_of(roots: &[Root], file: &str) -> usize {
    if roots.len() < 2 {
        return 0;
    }
    let matching = roots.iter().enumerate().filter(|(_, root)| file.starts_with(root.prefix.as_str()));
    matching.max_by_key(|(_, root)| root.prefix.len()).map_or(0, |(at, _)| at)
}

/// The names in a file.
fn names(state: &FileState) -> impl Iterator<Item = &AppName> {
    let parsed = match state {
        FileState::Read(parsed) => Some(parsed),
        FileState::Unreadable(_) | FileState::Gone => None,
    };
    parsed.into_iter().flat_map(|parsed| &parsed.documents).filter_map(|document| document.name.as_ref())
}

/// Returns whether a file was read completely and declares no object.
fn is_emptied(state: &FileState) -> bool {
    match state {
        FileState::Read(parsed) => parsed.conclusive && names(state).next().is_none(),
        FileState::Unreadable(_) | FileState::Gone => false,
    }
}

fn declares_nothing(state: &FileState) -> bool {
    matches!(state, FileState::Gone) || is_emptied(state)
}
