//! Which objects are in force, given what each file says now and what was good before?
//!
//! Pure. Two maps, one of files and one of names; a batch of file states costs what it touches, whatever the fleet's size.
//! Whether a claim is disputed depends on the newest texts and on what is held, never on the order of reading.
//! Nearly every object is sound and alone: of such a one only what was said of it is kept (`Settled`), which is shared
//! with whoever heard it; whatever touches it unfolds it to an `Entry` first and folds it again afterwards.
//! Invariant: an object leaves only when every file that could hold it was read whole and does not.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;

use super::diagnostic::{Diagnostic, Mark, Related, Severity};
use super::load::{Content, Document, ParsedFile};
use crate::reconcile::app::{AppId, AppName};
use crate::reconcile::desired::{Declared, Object, Place, Standing};
use crate::reconcile::reason::Reason;

/// How many places of a dispute are told; a thousand copies of one file are not to make a thousand lines of a thousand.
const PLACES_TOLD: usize = 8;

/// What is known of one file now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// It was read, well or not.
    Read(Arc<ParsedFile>),
    /// It is there and cannot be read: whatever it declared stays.
    Unreadable(Box<Diagnostic>),
    /// It is not there any more: whatever it declared is released.
    Gone,
}

/// What a batch changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Objects that are new or declared differently, by name.
    pub changed: Vec<Arc<Declared>>,
    /// Objects that no file declares any more, by name.
    pub removed: Vec<AppName>,
    /// Those of the changed objects that ask for something else than before.
    pub respecified: Vec<AppName>,
}

/// Everything the manifests declare.
#[derive(Debug, Default)]
pub struct Catalog {
    /// The objects of which each file is a bearer, or which it holds.
    files: HashMap<Arc<str>, Few<AppName>>,
    /// Objects that are sound and alone.
    settled: HashSet<Settled>,
    /// All others. A name is never in both.
    entries: HashMap<AppName, Entry>,
    claims: HashMap<AppId, Few<AppName>>,
    /// Diagnostics of files that have any, by file.
    problems: BTreeMap<Arc<str>, Vec<Diagnostic>>,
    /// Names with a dispute.
    disputes: BTreeSet<AppName>,
    /// Counts whatever may have changed what [`Catalog::diagnostics`] tells.
    troubles: u64,
}

/// Some values, each once and in order; nearly always one, which then needs no room of its own.
#[expect(clippy::box_collection, reason = "two words instead of four, twice for each object")]
#[derive(Debug, Clone)]
enum Few<T> {
    One(T),
    Many(Box<BTreeSet<T>>),
}

impl<T: Ord> Few<T> {
    fn iter(&self) -> impl Iterator<Item = &T> {
        let (one, many) = match self {
            Self::One(one) => (Some(one), None),
            Self::Many(many) => (None, Some(many.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(many) => many.len(),
        }
    }

    fn insert(&mut self, value: T) {
        match self {
            Self::One(one) if *one == value => {}
            Self::One(_) => {
                let Self::One(one) = std::mem::replace(self, Self::Many(Box::default())) else { return };
                if let Self::Many(many) = self {
                    many.extend([one, value]);
                }
            }
            Self::Many(many) => {
                many.insert(value);
            }
        }
    }

    /// The rest without `value`; nothing, if that was all.
    fn without(self, value: &T) -> Option<Self> {
        match self {
            Self::One(one) => (one != *value).then_some(Self::One(one)),
            Self::Many(mut many) => {
                many.remove(value);
                Self::of(*many)
            }
        }
    }

    fn of(mut values: BTreeSet<T>) -> Option<Self> {
        if values.len() > 1 { Some(Self::Many(Box::new(values))) } else { values.pop_first().map(Self::One) }
    }
}

/// Where in a file an object is claimed.
type Spot = (Arc<str>, u32);

#[derive(Debug, Clone)]
struct Bearer {
    name_at: Mark,
    app_id_at: Mark,
    content: Content,
}

/// An object that is sound and alone: what was said of it is its newest text, the last good one, and all it claims.
#[derive(Debug)]
struct Settled {
    said: Arc<Declared>,
    name_at: Near,
    app_id_at: Near,
}

impl Borrow<AppName> for Settled {
    fn borrow(&self) -> &AppName {
        &self.said.name
    }
}

impl Hash for Settled {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.said.name.hash(state);
    }
}

impl PartialEq for Settled {
    fn eq(&self, other: &Self) -> bool {
        self.said.name == other.said.name
    }
}

impl Eq for Settled {}

/// A mark a few lines below the beginning of its document, as nearly all are.
#[derive(Debug, Clone, Copy)]
struct Near {
    below: u16,
    column: u8,
    length: u8,
}

impl Near {
    fn new(mark: Mark, line: u32) -> Option<Self> {
        Some(Self {
            below: mark.line.checked_sub(line)?.try_into().ok()?,
            column: mark.column.try_into().ok()?,
            length: mark.length.try_into().ok()?,
        })
    }

    fn mark(self, line: u32) -> Mark {
        Mark { line: line + u32::from(self.below), column: self.column.into(), length: self.length.into() }
    }
}

/// An object in full. Sorted vectors: most hold one thing, or none.
#[derive(Debug, Default)]
struct Entry {
    /// The documents that bear the name now.
    bearers: Vec<(Spot, Bearer)>,
    /// The files that may still declare it but cannot be read whole, with the reason.
    held: Vec<(Arc<str>, Arc<str>)>,
    /// The last version in force and where it stood.
    last_good: Option<(Arc<Object>, Place)>,
    /// The ids it claims at present.
    ids: Vec<AppId>,
    /// What was last said of it.
    said: Option<Arc<Declared>>,
}

/// What is there more than once.
struct Seen<'a, T> {
    once: HashSet<&'a T>,
    again: HashSet<T>,
}

impl<T> Default for Seen<'_, T> {
    fn default() -> Self {
        Self { once: HashSet::new(), again: HashSet::new() }
    }
}

impl<'a, T: Hash + Eq + Clone> Seen<'a, T> {
    fn see(&mut self, value: &'a T) {
        if !self.once.insert(value) {
            self.again.insert(value.clone());
        }
    }
}

fn read(state: &FileState) -> Option<&ParsedFile> {
    match state {
        FileState::Read(parsed) => Some(parsed),
        FileState::Unreadable(_) | FileState::Gone => None,
    }
}

/// Puts a value in its place in a sorted vector of pairs; one with the same key goes.
fn put<K: Ord, V>(sorted: &mut Vec<(K, V)>, key: K, value: V) {
    match sorted.binary_search_by(|(known, _)| known.cmp(&key)) {
        Ok(at) => sorted[at] = (key, value),
        Err(at) => {
            // Exactly as much as is needed: a second one is rare, and the usual growth begins with four.
            if sorted.is_empty() {
                sorted.reserve_exact(1);
            }
            sorted.insert(at, (key, value));
        }
    }
}

impl Entry {
    fn unfold(Settled { said, name_at, app_id_at }: Settled) -> Self {
        let Place { file, line } = said.place.clone();
        let mut entry = Self::default();
        if let Some(object) = &said.object {
            let (name_at, app_id_at) = (name_at.mark(line), app_id_at.mark(line));
            put(
                &mut entry.bearers,
                (file, line),
                Bearer { name_at, app_id_at, content: Content::Good(object.clone()) },
            );
            entry.last_good = Some((object.clone(), said.place.clone()));
            entry.ids = vec![object.spec.app_id.clone()];
        }
        entry.said = Some(said);
        entry
    }

    /// The same in little, if it is sound, alone and told: unfolding that gives this again.
    fn folded(&self) -> Option<Settled> {
        let said = self.said.as_ref()?;
        let ((file, line), bearer, object) = self.sole()?;
        let told = said.standing == Standing::Sound
            && said.place.file == *file
            && said.place.line == *line
            && said.object.as_ref() == Some(object)
            && self.last_good.as_ref().is_some_and(|(good, place)| good == object && *place == said.place)
            && self.ids == [object.spec.app_id.clone()];
        if !told {
            return None;
        }
        let (name_at, app_id_at) = (Near::new(bearer.name_at, *line)?, Near::new(bearer.app_id_at, *line)?);
        Some(Settled { said: said.clone(), name_at, app_id_at })
    }

    /// The newest text, if there is exactly one and it is good.
    fn sole(&self) -> Option<(&Spot, &Bearer, &Arc<Object>)> {
        match (&self.bearers[..], self.held.is_empty()) {
            ([(spot, bearer)], true) => match &bearer.content {
                Content::Good(object) => Some((spot, bearer, object)),
                Content::Bad(_) => None,
            },
            _ => None,
        }
    }

    /// What it claims: the ids of its good texts, and the one in force if its newest text is not.
    fn claimed(&self) -> Vec<AppId> {
        let mut ids: Vec<AppId> = self
            .bearers
            .iter()
            .filter_map(|(_, bearer)| match &bearer.content {
                Content::Good(object) => Some(object.spec.app_id.clone()),
                Content::Bad(_) => None,
            })
            .collect();
        if !self.gone()
            && self.sole().is_none()
            && let Some((object, _)) = &self.last_good
        {
            ids.push(object.spec.app_id.clone());
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Every place that bears or holds the name.
    fn places(&self) -> impl Iterator<Item = Place> {
        let bearers = self.bearers.iter().map(|((file, line), _)| Place { file: file.clone(), line: *line });
        let held = self.held.iter().map(|(file, _)| match &self.last_good {
            Some((_, place)) if place.file == *file => place.clone(),
            _ => Place { file: file.clone(), line: 1 },
        });
        bearers.chain(held)
    }

    fn gone(&self) -> bool {
        self.bearers.is_empty() && self.held.is_empty()
    }
}

impl Catalog {
    /// Nothing declared yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what is known of some files now, as one change: a file that went and another that came with the same
    /// object are a move. Each file is there once. `at`: when that was read.
    pub fn take(&mut self, batch: impl IntoIterator<Item = (Arc<str>, FileState)>, at: Timestamp) -> Changes {
        let mut changes = Changes::default();
        let mut batch: Vec<(Arc<str>, FileState)> = batch.into_iter().collect();
        if self.files.is_empty() && self.settled.is_empty() && self.entries.is_empty() {
            batch = self.settle_lone(batch, &mut changes);
        }
        let mut touched = BTreeSet::new();
        for (file, state) in batch {
            self.place(&file, state, &mut touched);
        }
        let disturbed = self.reclaim(&touched);
        for name in &disturbed {
            self.open(name);
        }
        touched.extend(disturbed);
        for name in &touched {
            self.judge(name, at, &mut changes);
        }
        for name in &touched {
            if let Some(settled) = self.entries.get(name).and_then(Entry::folded) {
                self.entries.remove(name);
                self.settled.insert(settled);
            }
        }
        changes.changed.sort_by(|a, b| a.name.cmp(&b.name));
        changes
    }

    /// The same, where nobody asks since when a text is invalid.
    pub fn apply(&mut self, batch: impl IntoIterator<Item = (Arc<str>, FileState)>) -> Changes {
        self.take(batch, Timestamp::UNIX_EPOCH)
    }

    /// The first batch of all: objects whose name and id nothing else in it has are settled without being unfolded
    /// ten thousand at a time. Returns the rest, which then has nothing to do with them.
    fn settle_lone(&mut self, batch: Vec<(Arc<str>, FileState)>, changes: &mut Changes) -> Vec<(Arc<str>, FileState)> {
        let (mut files, mut names, mut ids) = (Seen::default(), Seen::default(), Seen::default());
        for (file, state) in &batch {
            files.see(file);
            for document in read(state).into_iter().flat_map(|parsed| &parsed.documents) {
                if let Some(name) = &document.name {
                    names.see(name);
                }
                if let Content::Good(object) = &document.content {
                    ids.see(&object.spec.app_id);
                }
            }
        }
        let (files, names, ids) = (files.again, names.again, ids.again);
        self.files.reserve(batch.len());
        self.settled.reserve(batch.len());
        self.claims.reserve(batch.len());
        changes.changed.reserve(batch.len());
        let mut rest = Vec::new();
        for (file, state) in batch {
            let parsed = read(&state).filter(|parsed| parsed.conclusive && !files.contains(&file));
            let settled: Option<Vec<Settled>> = parsed.and_then(|parsed| {
                let settle = |document: &Document| {
                    let Content::Good(object) = &document.content else { return None };
                    let name = document.name.as_ref().filter(|name| !names.contains(*name))?;
                    if ids.contains(&object.spec.app_id) {
                        return None;
                    }
                    let said = Declared {
                        name: name.clone(),
                        object: Some(object.clone()),
                        place: Place { file: file.clone(), line: document.line },
                        standing: Standing::Sound,
                    };
                    let name_at = Near::new(document.name_at, document.line)?;
                    let app_id_at = Near::new(document.app_id_at, document.line)?;
                    Some(Settled { said: Arc::new(said), name_at, app_id_at })
                };
                parsed.documents.iter().map(settle).collect()
            });
            let Some(settled) = settled else {
                rest.push((file, state));
                continue;
            };
            if let Some(members) = Few::of(settled.iter().map(|settled| settled.said.name.clone()).collect()) {
                self.files.insert(file, members);
            }
            for settled in settled {
                if let Some(object) = &settled.said.object {
                    self.claims.insert(object.spec.app_id.clone(), Few::One(object.name.clone()));
                }
                changes.changed.push(settled.said.clone());
                self.settled.insert(settled);
            }
        }
        rest
    }

    /// The entry of a name, if it is known: unfolded, if it was settled.
    fn open(&mut self, name: &AppName) -> Option<&mut Entry> {
        if let Some(settled) = self.settled.take(name) {
            self.entries.insert(name.clone(), Entry::unfold(settled));
        }
        self.entries.get_mut(name)
    }

    /// The same; a new one, if it is not.
    fn open_or_new(&mut self, name: &AppName) -> &mut Entry {
        self.open(name);
        self.entries.entry(name.clone()).or_default()
    }

    /// A file of which little can be read has another name now: what it holds, it still holds.
    pub fn rename(&mut self, from: &Arc<str>, to: &Arc<str>) {
        // A file without members may be known by its problems alone.
        self.troubles += u64::from(self.problems.remove(from).is_some());
        let Some(moved) = self.files.remove(from) else { return };
        for name in moved.iter() {
            let Some(entry) = self.open(name) else { continue };
            for (file, _) in entry.held.iter_mut().filter(|(file, _)| file == from) {
                *file = to.clone();
            }
            entry.held.sort_by(|(a, _), (b, _)| a.cmp(b));
            for ((file, _), _) in entry.bearers.iter_mut().filter(|((file, _), _)| file == from) {
                *file = to.clone();
            }
            entry.bearers.sort_by(|(a, _), (b, _)| a.cmp(b));
            if let Some((_, place)) = entry.last_good.as_mut().filter(|(_, place)| place.file == *from) {
                place.file = to.clone();
            }
        }
        self.files.insert(to.clone(), moved);
    }

    /// Everything declared, by name.
    pub fn declared(&self) -> Vec<Arc<Declared>> {
        let unsettled = self.entries.values().filter_map(|entry| entry.said.clone());
        let mut all: Vec<Arc<Declared>> =
            self.settled.iter().map(|settled| settled.said.clone()).chain(unsettled).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The files that bear a name or hold it.
    pub fn files_of(&self, name: &AppName) -> Vec<Arc<str>> {
        match self.settled.get(name) {
            Some(settled) => vec![settled.said.place.file.clone()],
            None => self.entries.get(name).into_iter().flat_map(Entry::places).map(|place| place.file).collect(),
        }
    }

    /// The objects of which a file is a bearer, or which it holds.
    pub fn members(&self, file: &str) -> impl Iterator<Item = &AppName> {
        self.files.get(file).into_iter().flat_map(Few::iter)
    }

    /// Every file with objects, and how many.
    pub fn files(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.files.iter().map(|(file, members)| (file, members.len()))
    }

    /// Changes whenever what [`Catalog::diagnostics`] tells may have: whoever asks often need not ask in vain.
    pub fn troubles(&self) -> u64 {
        self.troubles
    }

    /// Everything that is wrong, in order of file and line: with the files, and between them. No excerpts for the latter.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut all: Vec<Diagnostic> = self.problems.values().flatten().cloned().collect();
        for name in &self.disputes {
            if let Some(entry) = self.entries.get(name) {
                self.dispute_diagnostics(name, entry, &mut all);
            }
        }
        all.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        all
    }

    /// Puts one file's documents in their places.
    fn place(&mut self, file: &Arc<str>, state: FileState, touched: &mut BTreeSet<AppName>) {
        let before: Vec<AppName> = self.files.remove(file).iter().flat_map(Few::iter).cloned().collect();
        for name in &before {
            if let Some(entry) = self.open(name) {
                entry.bearers.retain(|((bearing, _), _)| bearing != file);
                entry.held.retain(|(holding, _)| holding != file);
            }
        }
        self.troubles += u64::from(self.problems.remove(file).is_some());
        touched.extend(before.iter().cloned());

        let mut members = BTreeSet::new();
        let (parsed, trouble) = match state {
            FileState::Gone => return,
            FileState::Unreadable(diagnostic) => {
                let trouble: Arc<str> = diagnostic.one_line().into();
                self.problems.insert(file.clone(), vec![*diagnostic]);
                self.troubles += 1;
                (None, Some(trouble))
            }
            FileState::Read(parsed) => {
                if !parsed.diagnostics.is_empty() {
                    self.problems.insert(file.clone(), parsed.diagnostics.clone());
                    self.troubles += 1;
                }
                let trouble = if parsed.conclusive { None } else { parsed.trouble() };
                (Some(parsed), trouble)
            }
        };
        for document in parsed.iter().flat_map(|parsed| &parsed.documents) {
            let Some(name) = &document.name else { continue };
            let bearer =
                Bearer { name_at: document.name_at, app_id_at: document.app_id_at, content: document.content.clone() };
            put(&mut self.open_or_new(name).bearers, (file.clone(), document.line), bearer);
            members.insert(name.clone());
        }
        if let Some(trouble) = trouble {
            for name in before {
                if members.insert(name.clone()) {
                    put(&mut self.open_or_new(&name).held, file.clone(), trouble.clone());
                }
            }
        }
        touched.extend(members.iter().cloned());
        if let Some(members) = Few::of(members) {
            self.files.insert(file.clone(), members);
        }
    }

    /// Brings the claims of `names` up to date. Returns every other name that claims one of the same ids.
    fn reclaim(&mut self, names: &BTreeSet<AppName>) -> BTreeSet<AppName> {
        let mut ids = BTreeSet::new();
        for name in names {
            let Some(entry) = self.entries.get_mut(name) else { continue };
            let now = entry.claimed();
            let before = std::mem::replace(&mut entry.ids, now.clone());
            for id in before.iter().filter(|id| now.binary_search(id).is_err()) {
                if let Some(rest) = self.claims.remove(id).and_then(|claimants| claimants.without(name)) {
                    self.claims.insert(id.clone(), rest);
                }
            }
            for id in now.iter().filter(|id| before.binary_search(id).is_err()) {
                self.claims
                    .entry(id.clone())
                    .and_modify(|claimants| claimants.insert(name.clone()))
                    .or_insert_with(|| Few::One(name.clone()));
            }
            ids.extend(before);
            ids.extend(now);
        }
        ids.iter().filter_map(|id| self.claims.get(id)).flat_map(Few::iter).cloned().collect()
    }

    /// Decides what is in force for one name, and notes what differs from what was said before.
    fn judge(&mut self, name: &AppName, at: Timestamp, changes: &mut Changes) {
        let Some(entry) = self.entries.get(name) else { return };
        if entry.gone() {
            let entry = self.entries.remove(name);
            self.troubles += u64::from(self.disputes.remove(name));
            if entry.is_some_and(|entry| entry.said.is_some()) {
                changes.removed.push(name.clone());
            }
            return;
        }
        let since = match entry.said.as_ref().map(|said| &said.standing) {
            Some(Standing::Invalid { since, .. }) => *since,
            Some(Standing::Sound | Standing::Conflicting { .. }) | None => at,
        };
        let standing = self.standing(name, entry, since);
        let declared = Self::declare(name, entry, standing);
        let disputed = if matches!(declared.standing, Standing::Conflicting { .. }) {
            self.disputes.insert(name.clone());
            true
        } else {
            self.disputes.remove(name)
        };
        // Even where it was one before: its places, or those of its rivals, may be others now.
        self.troubles += u64::from(disputed);
        let Some(entry) = self.entries.get_mut(name) else { return };
        if declared.standing == Standing::Sound
            && let Some((spot, _, object)) = entry.sole()
        {
            let place = Place { file: spot.0.clone(), line: spot.1 };
            entry.last_good = Some((object.clone(), place));
        }
        if entry.said.as_deref() != Some(&declared) {
            if entry.said.as_deref().is_some_and(|said| said.spec() != declared.spec()) {
                changes.respecified.push(name.clone());
            }
            let declared = Arc::new(declared);
            entry.said = Some(declared.clone());
            changes.changed.push(declared);
        }
    }

    /// `since`: since when it is invalid, if it is.
    fn standing(&self, name: &AppName, entry: &Entry, since: Timestamp) -> Standing {
        if entry.bearers.len() + entry.held.len() > 1 {
            let places: Vec<Place> = entry.places().collect();
            let message =
                format!("the name {name} is declared {} times: {}", places.len(), told(&places, Place::to_string));
            return Standing::Conflicting { reason: Reason::DuplicateName, message: message.into() };
        }
        for id in &entry.ids {
            let Some(claimants) = self.claims.get(id).filter(|claimants| claimants.len() > 1) else { continue };
            let spots: Vec<(&AppName, Place)> = claimants
                .iter()
                .take(PLACES_TOLD)
                .filter_map(|name| Some((name, self.entries.get(name)?.places().next()?)))
                .collect();
            let mut message = format!(
                "the appId {id} is claimed by {} apps: {}",
                claimants.len(),
                told(&spots, |(name, place)| format!("{name} ({place})"))
            );
            if claimants.len() > spots.len() {
                let _ = write!(message, " and {} more", claimants.len() - spots.len());
            }
            return Standing::Conflicting { reason: Reason::DuplicateAppId, message: message.into() };
        }
        match entry.bearers.first() {
            Some((_, Bearer { content: Content::Good(_), .. })) => Standing::Sound,
            Some((_, Bearer { content: Content::Bad(message), .. })) => {
                Standing::Invalid { message: message.clone(), since }
            }
            None => {
                let trouble = entry.held.first().map(|(_, trouble)| trouble.clone());
                Standing::Invalid { message: trouble.unwrap_or_default(), since }
            }
        }
    }

    fn declare(name: &AppName, entry: &Entry, standing: Standing) -> Declared {
        let place = entry.places().next().unwrap_or(Place { file: "".into(), line: 0 });
        let object = match entry.sole().filter(|_| standing == Standing::Sound) {
            Some((_, _, object)) => Some(object),
            None => entry.last_good.as_ref().map(|(object, _)| object),
        };
        Declared { name: name.clone(), object: object.cloned(), place, standing }
    }

    fn dispute_diagnostics(&self, name: &AppName, entry: &Entry, all: &mut Vec<Diagnostic>) {
        let Standing::Conflicting { reason, message } = self.standing(name, entry, Timestamp::UNIX_EPOCH) else {
            return;
        };
        let by_name = reason == Reason::DuplicateName;
        let others: Vec<Related> = if by_name {
            let related = |place| Related { place, message: format!("also named {name}").into() };
            entry.places().map(related).collect()
        } else {
            let claimants = entry.ids.iter().filter_map(|id| self.claims.get(id)).flat_map(Few::iter);
            let rivals = claimants.filter(|rival| *rival != name);
            rivals
                .take(PLACES_TOLD)
                .filter_map(|rival| {
                    let place = self.entries.get(rival)?.places().next()?;
                    Some(Related { place, message: format!("also claimed by {rival}").into() })
                })
                .collect()
        };
        let (text, hint) = if by_name {
            (
                format!("the name {name} is declared more than once"),
                "give each app a name of its own, or remove all but one",
            )
        } else {
            let id = entry.ids.iter().find(|id| self.claims.get(*id).is_some_and(|claimants| claimants.len() > 1));
            let id = id.map_or("", |id| id.as_str());
            (
                format!("the appId {id} is claimed by more than one app"),
                "an app on the platform belongs to one manifest; remove the others",
            )
        };
        for ((file, line), bearer) in &entry.bearers {
            let at = if by_name { bearer.name_at } else { bearer.app_id_at };
            let related = others.iter().filter(|related| related.place.file != *file || related.place.line != *line);
            all.push(Diagnostic {
                file: file.clone(),
                line: at.line,
                column: at.column,
                length: at.length,
                severity: Severity::Error,
                reason,
                message: text.as_str().into(),
                found: None,
                fits: None,
                hint: Some(hint.into()),
                excerpt: None,
                related: related.take(PLACES_TOLD).cloned().collect(),
            });
        }
        if entry.bearers.is_empty() {
            for (file, _) in &entry.held {
                all.push(Diagnostic { reason, ..Diagnostic::about_file(file, message.clone(), Some(hint)) });
            }
        }
    }
}

fn told<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    let mut text = items.iter().take(PLACES_TOLD).map(show).collect::<Vec<_>>().join(", ");
    if items.len() > PLACES_TOLD {
        let _ = write!(text, " and {} more", items.len() - PLACES_TOLD);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::load;

    fn good(name: &str, id: &str, state: &str) -> String {
        format!(
            "apiVersion: campos-operator.dev/v1\nkind: App\nmetadata: {{name: {name}}}\nspec: {{appId: {id}, state: {state}}}\n"
        )
    }

    fn bad(name: &str) -> String {
        format!(
            "apiVersion: campos-operator.dev/v1\nkind: App\nmetadata: {{name: {name}}}\nspec: {{appId: x, sate: Stopped}}\n"
        )
    }

    fn read(file: &str, text: &str) -> (Arc<str>, FileState) {
        let file: Arc<str> = file.into();
        let state = FileState::Read(Arc::new(load::parse(&file, text.as_bytes())));
        (file, state)
    }

    fn gone(file: &str) -> (Arc<str>, FileState) {
        (file.into(), FileState::Gone)
    }

    fn unreadable(file: &str) -> (Arc<str>, FileState) {
        let file: Arc<str> = file.into();
        (file.clone(), FileState::Unreadable(Diagnostic::about_file(&file, "permission denied", None).into()))
    }

    /// `name state standing place`, a line for each object.
    fn shown(catalog: &Catalog) -> String {
        let line = |declared: &Arc<Declared>| {
            let state = declared.spec().map_or("-".into(), |spec| format!("{} {}", spec.app_id, spec.state));
            let standing = match &declared.standing {
                Standing::Sound => "Sound".to_owned(),
                Standing::Invalid { message, .. } => format!("Invalid: {message}"),
                Standing::Conflicting { reason, message } => format!("{reason}: {message}"),
            };
            format!("{} | {state} | {standing} | {}\n", declared.name, declared.place)
        };
        catalog.declared().iter().map(line).collect()
    }

    fn names(names: &[AppName]) -> Vec<&str> {
        names.iter().map(AppName::as_str).collect()
    }

    fn changed(changes: &Changes) -> Vec<&str> {
        changes.changed.iter().map(|declared| declared.name.as_str()).collect()
    }

    #[test]
    fn identical_content_is_no_change() {
        let mut catalog = Catalog::new();
        assert_eq!(changed(&catalog.apply([read("a.yaml", &good("a", "1a", "Running"))])), ["a"]);
        assert_eq!(catalog.apply([read("a.yaml", &good("a", "1a", "Running"))]), Changes::default());
        let comment = format!("{}# a comment\n", good("a", "1a", "Running"));
        assert_eq!(catalog.apply([read("a.yaml", &comment)]), Changes::default());
    }

    #[test]
    fn since_when_a_text_is_invalid() {
        let mut catalog = Catalog::new();
        let mut since = |second, (file, state): (Arc<str>, FileState)| {
            catalog.take([(file, state)], Timestamp::from_second(second).unwrap());
            match catalog.declared().remove(0).standing {
                Standing::Invalid { since, .. } => Some(since.as_second()),
                Standing::Sound | Standing::Conflicting { .. } => None,
            }
        };
        assert_eq!(since(1, read("a.yaml", &good("a", "1a", "Running"))), None);
        assert_eq!(since(2, read("a.yaml", &bad("a"))), Some(2));
        assert_eq!(since(3, read("a.yaml", "][")), Some(2), "another mistake is still a mistake");
        assert_eq!(since(4, unreadable("a.yaml")), Some(2));
        assert_eq!(since(5, read("a.yaml", &good("a", "1a", "Running"))), None);
        assert_eq!(since(6, read("a.yaml", &bad("a"))), Some(6));
    }

    #[test]
    fn a_broken_file_that_is_renamed_still_holds() {
        let mut catalog = Catalog::new();
        catalog.apply([read("a.yaml", &format!("{}---\n{}", good("a", "1a", "Running"), good("b", "1b", "Running")))]);
        catalog.apply([read("a.yaml", &format!("{}---\n][", bad("a")))]);
        catalog.rename(&"a.yaml".into(), &"z.yaml".into());
        let changes = catalog.apply([read("z.yaml", &format!("{}---\n][", bad("a")))]);
        assert_eq!((changed(&changes), names(&changes.removed)), (vec!["a", "b"], vec![]));
        insta::assert_snapshot!(shown(&catalog), @r"
        a | 1a Running | Invalid: z.yaml:4:18: unknown field `sate` (did you mean `state`?) | z.yaml:1
        b | 1b Running | Invalid: z.yaml:4:18: unknown field `sate` (did you mean `state`?) | z.yaml:6
        ");
        catalog.apply([read("z.yaml", &good("b", "1b", "Stopped"))]);
        insta::assert_snapshot!(shown(&catalog), @"b | 1b Stopped | Sound | z.yaml:1");
        assert_eq!(names(&catalog.apply([gone("z.yaml")]).removed), ["b"]);
    }

    #[test]
    fn an_invalid_edit_keeps_the_last_good_spec() {
        let mut catalog = Catalog::new();
        catalog.apply([read("a.yaml", &good("a", "1a", "Running"))]);
        catalog.apply([read("a.yaml", &bad("a"))]);
        insta::assert_snapshot!(shown(&catalog), @"a | 1a Running | Invalid: a.yaml:4:18: unknown field `sate` (did you mean `state`?) | a.yaml:1");
        catalog.apply([read("a.yaml", "][")]);
        assert!(shown(&catalog).starts_with("a | 1a Running | Invalid: a.yaml:1:1"));
        catalog.apply([unreadable("a.yaml")]);
        insta::assert_snapshot!(shown(&catalog), @"a | 1a Running | Invalid: a.yaml: permission denied | a.yaml:1");
        catalog.apply([read("a.yaml", "")]);
        assert!(shown(&catalog).starts_with("a | 1a Running | Invalid: a.yaml: the file is empty"));
        catalog.apply([read("a.yaml", &good("a", "1a", "Stopped"))]);
        insta::assert_snapshot!(shown(&catalog), @"a | 1a Stopped | Sound | a.yaml:1");
        assert_eq!(names(&catalog.apply([gone("a.yaml")]).removed), ["a"]);
        assert_eq!(shown(&catalog), "");
    }

    #[test]
    fn never_good() {
        let mut catalog = Catalog::new();
        catalog.apply([read("a.yaml", &bad("a")), read("b.yaml", "]["), unreadable("c.yaml")]);
        insta::assert_snapshot!(shown(&catalog), @"a | - | Invalid: a.yaml:4:18: unknown field `sate` (did you mean `state`?) | a.yaml:1");
        assert_eq!(catalog.diagnostics().len(), 3);
    }

    #[test]
    fn an_error_beside_it_releases_nothing_and_a_good_neighbour_is_taken() {
        let mut catalog = Catalog::new();
        catalog.apply([read("a.yaml", &format!("{}---\n{}", good("a", "1a", "Running"), good("b", "1b", "Running")))]);
        catalog.apply([read("a.yaml", &format!("{}---\nkind: [\n", good("a", "1a", "Stopped")))]);
        let text = shown(&catalog);
        assert!(text.starts_with("a | 1a Stopped | Sound | a.yaml:1\nb | 1b Running | Invalid: a.yaml:"), "{text}");
        let changes = catalog.apply([read("a.yaml", &good("a", "1a", "Stopped"))]);
        assert_eq!(names(&changes.removed), ["b"]);
    }

    #[test]
    fn a_move_changes_the_place_only() {
        let mut catalog = Catalog::new();
        catalog.apply([read("a.yaml", &good("a", "1a", "Running"))]);
        let changes = catalog.apply([read("b.yaml", &good("a", "1a", "Running")), gone("a.yaml")]);
        assert_eq!((changed(&changes), changes.removed.len()), (vec!["a"], 0));
        insta::assert_snapshot!(shown(&catalog), @"a | 1a Running | Sound | b.yaml:1");
    }

    #[test]
    fn duplicate_names_hold_the_last_good() {
        let mut catalog = Catalog::new();
        catalog.apply([read("a.yaml", &good("a", "1a", "Running"))]);
        catalog.apply([read("b.yaml", &good("a", "1a", "Stopped"))]);
        insta::assert_snapshot!(shown(&catalog), @"a | 1a Running | DuplicateName: the name a is declared 2 times: a.yaml:1, b.yaml:1 | a.yaml:1");
        catalog.apply([read("b.yaml", &bad("a"))]);
        assert!(shown(&catalog).contains("DuplicateName"), "an invalid bearer counts");
        catalog.apply([unreadable("b.yaml")]);
        assert!(shown(&catalog).contains("DuplicateName"), "a file that may still bear it counts");
        catalog.apply([gone("b.yaml")]);
        insta::assert_snapshot!(shown(&catalog), @"a | 1a Running | Sound | a.yaml:1");
        catalog.apply([read("a.yaml", &format!("{0}---\n{0}", good("a", "1a", "Running")))]);
        insta::assert_snapshot!(shown(&catalog), @"a | 1a Running | DuplicateName: the name a is declared 2 times: a.yaml:1, a.yaml:6 | a.yaml:1");
    }

    #[test]
    fn duplicate_ids_put_all_bearers_in_error() {
        let mut catalog = Catalog::new();
        catalog.apply([read("a.yaml", &good("a", "1a", "Running"))]);
        let changes = catalog.apply([read("b.yaml", &good("b", "1a", "Stopped"))]);
        assert_eq!(changed(&changes), ["a", "b"]);
        insta::assert_snapshot!(shown(&catalog), @r"
        a | 1a Running | DuplicateAppId: the appId 1a is claimed by 2 apps: a (a.yaml:1), b (b.yaml:1) | a.yaml:1
        b | - | DuplicateAppId: the appId 1a is claimed by 2 apps: a (a.yaml:1), b (b.yaml:1) | b.yaml:1
        ");
        insta::assert_snapshot!(catalog.diagnostics()[1].render(false), @r"
        error: the appId 1a is claimed by more than one app
         --> b.yaml:4:15
         ::: a.yaml:1: also claimed by a
          = help: an app on the platform belongs to one manifest; remove the others
        ");
        // Held by a file that cannot be read: still a claim.
        catalog.apply([unreadable("a.yaml")]);
        assert_eq!(shown(&catalog).matches("DuplicateAppId").count(), 2);
        catalog.apply([gone("a.yaml")]);
        insta::assert_snapshot!(shown(&catalog), @"b | 1a Stopped | Sound | b.yaml:1");
    }

    #[test]
    fn two_apps_may_swap_their_ids_in_two_steps() {
        let mut catalog = Catalog::new();
        catalog.apply([
            read("a.yaml", &good("a", "1", "Running").replace("appId: 1", "appId: a1")),
            read("b.yaml", &good("b", "b1", "Running")),
        ]);
        catalog.apply([read("a.yaml", &good("a", "b1", "Running"))]);
        assert_eq!(shown(&catalog).matches("DuplicateAppId").count(), 2);
        catalog.apply([read("b.yaml", &good("b", "a1", "Running"))]);
        insta::assert_snapshot!(shown(&catalog), @r"
        a | b1 Running | Sound | a.yaml:1
        b | a1 Running | Sound | b.yaml:1
        ");
    }

    #[test]
    fn an_object_that_is_sound_and_alone_is_kept_in_little() {
        let kept = |catalog: &Catalog| (catalog.settled.len(), catalog.entries.len());
        let mut catalog = Catalog::new();
        let batch = [read("a.yaml", &good("a", "1a", "Running")), read("b.yaml", &good("b", "1b", "Running"))];
        assert_eq!(changed(&catalog.apply(batch)), ["a", "b"]);
        assert_eq!(kept(&catalog), (2, 0));
        catalog.apply([read("c.yaml", &good("c", "1c", "Running"))]);
        catalog.apply([read("a.yaml", &good("a", "1a", "Stopped"))]);
        assert_eq!(kept(&catalog), (3, 0));
        catalog.apply([read("b.yaml", &bad("b"))]);
        assert_eq!(kept(&catalog), (2, 1));
        catalog.apply([read("d.yaml", &good("d", "1a", "Running"))]);
        assert_eq!(kept(&catalog), (1, 3));
        catalog.apply([gone("d.yaml"), read("b.yaml", &good("b", "1b", "Running"))]);
        assert_eq!(kept(&catalog), (3, 0));
        assert_eq!(shown(&catalog).matches("Sound").count(), 3);
        catalog.apply([gone("a.yaml"), gone("b.yaml"), gone("c.yaml")]);
        assert_eq!((kept(&catalog), catalog.files.len(), catalog.claims.len()), ((0, 0), 0, 0));
    }

    #[test]
    fn where_a_dispute_is_told_does_not_depend_on_how_it_is_kept() {
        let far = |name: &str, id: &str| {
            let (blank, wide) = ("\n".repeat(70_000), " ".repeat(300));
            format!(
                "apiVersion: campos-operator.dev/v1\n{blank}kind: App\nmetadata: {{{wide}name: {name}}}\nspec: {{{wide}appId: {id}, state: Stopped}}\n"
            )
        };
        let marks = |texts: [String; 2]| {
            let mut catalog = Catalog::new();
            for (file, text) in ["a.yaml", "b.yaml"].iter().zip(texts) {
                catalog.apply([read(file, &text)]);
            }
            let at = |told: &Diagnostic| (told.line, told.column, told.length);
            catalog.diagnostics().iter().map(at).collect::<Vec<_>>()
        };
        assert_eq!(marks([good("a", "1a", "Running"), good("a", "2a", "Running")]), [(3, 18, 1), (3, 18, 1)]);
        assert_eq!(marks([good("a", "1a", "Running"), good("b", "1a", "Running")]), [(4, 15, 2), (4, 15, 2)]);
        assert_eq!(marks([far("a", "1a"), far("a", "2a")]), [(70_003, 318, 1), (70_003, 318, 1)]);
        assert_eq!(marks([far("a", "1a"), far("b", "1a")]), [(70_004, 315, 2), (70_004, 315, 2)]);
    }

    #[test]
    fn who_asks_for_troubles_only_when_they_may_have_changed_misses_none() {
        let mut catalog = Catalog::new();
        let mut before = (catalog.troubles(), catalog.diagnostics());
        let mut told = |(file, state): (Arc<str>, FileState)| {
            catalog.apply([(file, state)]);
            let after = (catalog.troubles(), catalog.diagnostics());
            let same = after.0 == before.0;
            assert!(!same || after.1 == before.1);
            before = after;
            !same
        };
        assert!(told(read("b.yaml", "][")));
        assert!(!told(read("a.yaml", &good("a", "1a", "Running"))), "what is wrong elsewhere does not matter");
        assert!(!told(read("a.yaml", &good("a", "1a", "Stopped"))));
        assert!(told(read("c.yaml", &good("c", "1a", "Stopped"))));
        assert!(told(read("a.yaml", &format!("# moved\n{}", good("a", "1a", "Stopped")))), "a rival has moved");
        assert!(told(gone("c.yaml")));
        assert!(told(gone("b.yaml")));
        assert!(!told(gone("a.yaml")));
    }

    fn states() -> impl Strategy<Value = Vec<(u8, u8, u8, u8)>> {
        prop::collection::vec((0..4u8, 0..7u8, 0..4u8, 0..4u8), 1..40)
    }

    fn state((file, kind, name, id): (u8, u8, u8, u8)) -> (Arc<str>, FileState) {
        let (file, name, id) = (format!("{file}.yaml"), format!("n{name}"), format!("i{id}"));
        match kind {
            0 => gone(&file),
            1 => unreadable(&file),
            2 => read(&file, &bad(&name)),
            3 => read(&file, "]["),
            4 => read(&file, &good(&name, &id, "Stopped")),
            5 => read(&file, &format!("{}---\n{}", good(&name, &id, "Running"), bad("n3"))),
            _ => read(&file, &good(&name, &id, "Running")),
        }
    }

    proptest! {
        /// One batch, any order: the same.
        #[test]
        fn the_order_of_reading_does_not_matter(steps in states(), seed in any::<u64>()) {
            let batch: BTreeMap<Arc<str>, FileState> = steps.iter().copied().map(state).collect();
            let mut shuffled: Vec<_> = batch.clone().into_iter().collect();
            shuffled.sort_by_key(|(file, _)| seed.rotate_left(u32::from(file.as_bytes()[0])) % 97);
            let (mut one, mut other) = (Catalog::new(), Catalog::new());
            prop_assert_eq!(one.apply(batch), other.apply(shuffled));
            prop_assert_eq!(one.diagnostics(), other.diagnostics());
        }

        /// The first batch of all goes a shorter way; it leads to the same.
        #[test]
        fn the_first_batch_is_as_any_other(steps in states()) {
            let batch: BTreeMap<Arc<str>, FileState> = steps.iter().copied().map(state).collect();
            let (mut first, mut second) = (Catalog::new(), Catalog::new());
            second.apply([read("other.yaml", &good("other", "other", "Running"))]);
            prop_assert_eq!(first.apply(batch.clone()), second.apply(batch));
            second.apply([gone("other.yaml")]);
            prop_assert_eq!(first.declared(), second.declared());
            prop_assert_eq!(first.diagnostics(), second.diagnostics());
            prop_assert_eq!((first.settled.len(), first.entries.len()), (second.settled.len(), second.entries.len()));
        }

        /// Where nothing is held, history leaves no trace but the last good spec: names, standings and places are those
        /// of a fresh start. And what was announced step by step adds up to what is declared.
        #[test]
        fn step_by_step_is_the_same_as_from_scratch(steps in states()) {
            let mut catalog = Catalog::new();
            let mut told: BTreeMap<AppName, Arc<Declared>> = BTreeMap::new();
            let mut files = BTreeMap::new();
            for step in &steps {
                let (file, state) = state(*step);
                let whole = !matches!(&state, FileState::Unreadable(_)) && !matches!(&state, FileState::Read(parsed) if !parsed.conclusive);
                let changes = catalog.apply([(file.clone(), state.clone())]);
                files.insert(file.clone(), (state, whole));
                for name in changes.removed {
                    prop_assert!(told.remove(&name).is_some(), "removed what was never told");
                }
                for declared in changes.changed {
                    told.insert(declared.name.clone(), declared);
                }
                prop_assert_eq!(&told.values().cloned().collect::<Vec<_>>(), &catalog.declared());
            }
            // Indexes hold no leftovers: applying the same state again changes nothing at all.
            for (file, (state, _)) in &files {
                prop_assert_eq!(catalog.apply([(file.clone(), state.clone())]), Changes::default());
            }
            if files.values().all(|(_, whole)| *whole) {
                let mut fresh = Catalog::new();
                fresh.apply(files.iter().map(|(file, (state, _))| (file.clone(), state.clone())));
                let view = |catalog: &Catalog| -> Vec<_> {
                    catalog.declared().into_iter().map(|d| {
                        let spec = (d.standing == Standing::Sound).then(|| d.spec().cloned());
                        (d.name.clone(), d.place.clone(), d.standing.clone(), spec)
                    }).collect()
                };
                // An object whose name is disputed also claims the app of its last good version, which only history knows.
                let disputed = fresh.declared().iter().any(
                    |declared| matches!(declared.standing, Standing::Conflicting { reason: Reason::DuplicateName, .. }));
                if !disputed {
                    prop_assert_eq!(view(&fresh), view(&catalog));
                }
            }
        }

        /// No two objects that may be acted on ever claim one app.
        #[test]
        fn no_app_has_two_masters(steps in states()) {
            let mut catalog = Catalog::new();
            for step in &steps {
                catalog.apply([state(*step)]);
                let mut masters = BTreeSet::new();
                for declared in catalog.declared() {
                    if !matches!(declared.standing, Standing::Conflicting { .. })
                        && let Some(spec) = declared.spec()
                    {
                        prop_assert!(masters.insert(spec.app_id.clone()), "{} twice", spec.app_id);
                    }
                }
            }
        }
    }
}
