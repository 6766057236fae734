//! Store of all objects that the manifests declare: the text of each that is in force, and conflicts between them.
//!
//! Pure. The cost of a batch is proportional to the objects that it touches. A conflict depends on the newest texts and
//! on the held objects, never on the order of reading.
//! Invariant: an object is removed only when every file that could hold it was read completely and does not.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;

use super::diagnostic::{Diagnostic, Mark, Related, Severity};
use super::load::{ApprovalDocument, Content, ParsedFile, is_calendar};
use super::schedules::Schedules;
use super::schema::Reference;
use crate::printable::escape;
use crate::reconcile::app::{AppId, AppName};
use crate::reconcile::desired::{Declared, Object, Place, Validity};
use crate::reconcile::reason::Reason;

/// Maximum number of places in the message of a conflict: a thousand copies of a file must not write a million places.
const PLACES_SHOWN: usize = 8;

/// The newest state of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// It was read, with or without errors.
    Read(Arc<ParsedFile>),
    /// It exists and cannot be read: its objects stay in force.
    Unreadable(Box<Diagnostic>),
    /// It no longer exists: its objects are released.
    Gone,
}

/// The effect of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Objects that are new or declared differently, by name.
    pub changed: Vec<Arc<Declared>>,
    /// Objects that no file declares now, by name.
    pub removed: Vec<AppName>,
    /// Changed objects that had a spec, and now have another one.
    pub respecified: Vec<AppName>,
}

/// Everything the manifests declare.
#[derive(Debug, Default)]
pub struct Store {
    /// The objects that each file declares or holds.
    files: HashMap<Arc<str>, Vec<AppName>>,
    /// Number of vague foreign documents (see `ParsedFile`) of each file that has any, from its last good state.
    vague: HashMap<Arc<str>, usize>,
    entries: HashMap<AppName, Entry>,
    /// The objects that claim each app, in order.
    claims: HashMap<AppId, Vec<AppName>>,
    schedules: Schedules,
    /// The approvals of each file that has any. An approval in an unreadable file has no effect.
    approvals: BTreeMap<Arc<str>, Vec<ApprovalDocument>>,
    /// The apps that refer or referred to each Schedule.
    referring: HashMap<AppName, BTreeSet<AppName>>,
    /// The apps whose reference has no valid Schedule.
    unresolved: BTreeSet<AppName>,
    /// Diagnostics by file, for files that have any.
    problems: BTreeMap<Arc<str>, Vec<Diagnostic>>,
    conflicts: BTreeSet<AppName>,
    /// Counts the changes that can affect [`Store::diagnostics`].
    diagnostics_version: u64,
}

/// One document with the name of an object.
#[derive(Debug)]
struct Bearer {
    place: Place,
    name_at: Mark,
    app_id_at: Mark,
    suspend_at: Option<Mark>,
    override_at: Option<Mark>,
    windows_at: Box<[Mark]>,
    /// As written.
    content: Content,
    /// The object with its Schedule, or the cause why it is invalid.
    meaning: Result<Arc<Object>, Arc<str>>,
}

impl Bearer {
    fn resolve(&mut self, schedules: &Schedules) {
        self.meaning = match &self.content {
            Content::Good(object) => Ok(object.clone()),
            Content::Bad(message) => Err(message.clone()),
            Content::Refers(object, reference) => match schedules.meaning(&reference.name) {
                Ok(schedule) => {
                    let mut object = (**object).clone();
                    object.spec.schedule = Some(schedule);
                    Ok(object.into())
                }
                Err(cause) => {
                    let (file, at) = (escape(&self.place.file), reference.at);
                    Err(match at.line {
                        0 => format!("{file}: spec.scheduleRef: {cause}").into(),
                        line => format!("{file}:{line}:{}: {cause}", at.column).into(),
                    })
                }
            },
        };
    }

    fn reference(&self) -> Option<&Reference> {
        match &self.content {
            Content::Refers(_, reference) => Some(reference),
            Content::Good(_) | Content::Bad(_) => None,
        }
    }
}

/// One object. The vectors are sorted by place; most hold one element or none.
#[derive(Debug, Default)]
struct Entry {
    bearers: Vec<Bearer>,
    /// Files that may still declare it but cannot be read completely, with the cause.
    held: Vec<(Arc<str>, Arc<str>)>,
    /// The last version in force, and its place.
    last_good: Option<(Arc<Object>, Place)>,
    /// The ids that it claims.
    ids: Vec<AppId>,
    /// The last reported version.
    reported: Option<Arc<Declared>>,
}

impl Entry {
    /// The newest text, if there is exactly one and it is valid.
    fn sole(&self) -> Option<(&Place, &Arc<Object>)> {
        match &self.bearers[..] {
            [Bearer { place, meaning: Ok(object), .. }] if self.held.is_empty() => Some((place, object)),
            _ => None,
        }
    }

    /// The ids of its valid texts, and that of the version in force if its newest text is invalid.
    fn claimed(&self) -> Vec<AppId> {
        let good = self.bearers.iter().filter_map(|bearer| match &bearer.content {
            Content::Good(object) | Content::Refers(object, _) => Some(object),
            Content::Bad(_) => None,
        });
        let kept = self.last_good.iter().map(|(object, _)| object);
        let kept = kept.filter(|_| !self.is_gone() && self.sole().is_none());
        let mut ids: Vec<AppId> = good.chain(kept).map(|object| object.spec.app_id.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Every place that declares or holds the name.
    fn places(&self) -> impl Iterator<Item = Place> {
        let held = self.held.iter().map(|(file, _)| match &self.last_good {
            Some((_, place)) if place.file == *file => place.clone(),
            _ => Place { file: file.clone(), line: 1 },
        });
        self.bearers.iter().map(|bearer| bearer.place.clone()).chain(held)
    }

    fn is_gone(&self) -> bool {
        self.bearers.is_empty() && self.held.is_empty()
    }

    fn bear(&mut self, bearer: Bearer) {
        let key = |bearer: &Bearer| (bearer.place.file.clone(), bearer.place.line);
        let at = self.bearers.partition_point(|other| key(other) <= key(&bearer));
        // Nearly always the only one: the usual growth would begin with room for four.
        self.bearers.reserve_exact(1);
        self.bearers.insert(at, bearer);
    }

    fn hold(&mut self, file: &Arc<str>, cause: &Arc<str>) {
        let at = self.held.partition_point(|(other, _)| other <= file);
        self.held.insert(at, (file.clone(), cause.clone()));
    }
}

impl Store {
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies a batch of file states as one change: a removed file and a new file with the same object are a move. A
    /// batch has each file once. `at`: the time at which the files were read.
    pub fn take(&mut self, batch: impl IntoIterator<Item = (Arc<str>, FileState)>, at: Timestamp) -> Changes {
        let mut touched = BTreeSet::new();
        for (file, state) in batch {
            self.place_approvals(&file, &state);
            self.place(&file, state, &mut touched);
        }
        self.resolve(&mut touched);
        let rivals = self.reclaim(&touched);
        touched.extend(rivals);
        let mut changes = Changes::default();
        for name in &touched {
            self.judge(name, at, &mut changes);
        }
        changes
    }

    /// All approvals, in order of file and line.
    pub(super) fn approvals(&self) -> impl Iterator<Item = &ApprovalDocument> {
        self.approvals.values().flatten()
    }

    /// Replaces the approvals of a file.
    fn place_approvals(&mut self, file: &Arc<str>, state: &FileState) {
        let now = match state {
            FileState::Read(parsed) => &parsed.approvals[..],
            FileState::Unreadable(_) | FileState::Gone => &[],
        };
        self.approvals.remove(file);
        if !now.is_empty() {
            self.approvals.insert(file.clone(), now.to_vec());
        }
    }

    /// Resolves the references of the touched apps, and of those that refer to a Schedule that changed.
    fn resolve(&mut self, touched: &mut BTreeSet<AppName>) {
        let changed = self.schedules.apply();
        self.diagnostics_version += u64::from(!changed.is_empty());
        for schedule in changed {
            touched.extend(self.referring.get(&schedule).into_iter().flatten().cloned());
        }
        for name in touched.iter() {
            let bearers = self.entries.get_mut(name).map(|entry| &mut entry.bearers);
            let mut unresolved = false;
            for bearer in bearers.into_iter().flatten() {
                bearer.resolve(&self.schedules);
                if let Some(reference) = bearer.reference() {
                    unresolved |= bearer.meaning.is_err();
                    self.referring.entry(reference.name.clone()).or_default().insert(name.clone());
                }
            }
            let was_unresolved = self.unresolved.remove(name);
            self.diagnostics_version += u64::from(unresolved || was_unresolved);
            if unresolved {
                self.unresolved.insert(name.clone());
            }
        }
    }

    /// [`Store::take`] for callers that do not use the time of errors.
    pub fn apply(&mut self, batch: impl IntoIterator<Item = (Arc<str>, FileState)>) -> Changes {
        self.take(batch, Timestamp::UNIX_EPOCH)
    }

    /// Renames a file that can be read only in part: it still holds the same objects.
    pub fn rename(&mut self, from: &Arc<str>, to: &Arc<str>) {
        if is_calendar(from) {
            return;
        }
        // A file without objects may have problems.
        self.diagnostics_version += u64::from(self.problems.remove(from).is_some());
        let Some(moved) = self.files.remove(from) else { return };
        for name in &moved {
            let Some(entry) = self.entries.get_mut(name) else { continue };
            let held = entry.held.iter_mut().map(|(file, _)| file);
            let borne = entry.bearers.iter_mut().map(|bearer| &mut bearer.place.file);
            let good = entry.last_good.iter_mut().map(|(_, place)| &mut place.file);
            held.chain(borne).chain(good).filter(|file| *file == from).for_each(|file| *file = to.clone());
            entry.held.sort_by(|(a, _), (b, _)| a.cmp(b));
            entry.bearers.sort_by(|a, b| (&a.place.file, a.place.line).cmp(&(&b.place.file, b.place.line)));
        }
        self.files.insert(to.clone(), moved);
    }

    /// All declared objects, by name.
    pub fn declared(&self) -> Vec<Arc<Declared>> {
        let mut all: Vec<Arc<Declared>> = self.entries.values().filter_map(|entry| entry.reported.clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Places of `spec.suspend`, `spec.override` and each window of an object.
    pub fn marks(&self, name: &AppName) -> Option<([Option<Mark>; 2], &[Mark])> {
        let bearer = self.entries.get(name)?.bearers.first()?;
        Some(([bearer.suspend_at, bearer.override_at], &bearer.windows_at))
    }

    /// The files that declare a name or hold it.
    pub fn files_of(&self, name: &AppName) -> Vec<Arc<str>> {
        self.entries.get(name).into_iter().flat_map(Entry::places).map(|place| place.file).collect()
    }

    /// The objects that a file declares or holds.
    pub fn members(&self, file: &str) -> impl Iterator<Item = &AppName> {
        self.files.get(file).into_iter().flatten()
    }

    /// Number of objects that are declared or held.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn schedules(&self) -> &Schedules {
        &self.schedules
    }

    /// Every file with objects, and the number of its objects.
    pub fn files(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.files.iter().map(|(file, members)| (file, members.len()))
    }

    /// A number that changes whenever the result of [`Store::diagnostics`] may change.
    pub fn diagnostics_version(&self) -> u64 {
        self.diagnostics_version
    }

    /// All errors and warnings of files and between them, in order of file and line. Conflicts have no excerpts.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut all: Vec<Diagnostic> = self.problems.values().flatten().cloned().collect();
        for name in &self.conflicts {
            if let Some(entry) = self.entries.get(name) {
                self.conflict_diagnostics(name, entry, &mut all);
            }
        }
        all.extend(self.schedules.diagnostics());
        for entry in self.unresolved.iter().filter_map(|name| self.entries.get(name)) {
            all.extend(entry.bearers.iter().filter_map(|bearer| self.unresolved_diagnostic(bearer)));
        }
        all.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        all
    }

    fn unresolved_diagnostic(&self, bearer: &Bearer) -> Option<Diagnostic> {
        let Reference { name, at } = bearer.reference().filter(|_| bearer.meaning.is_err())?;
        let places: Vec<Place> = self.schedules.places_of(name).take(PLACES_SHOWN).collect();
        let (message, hint) = match (places.len(), self.schedules.nearest(name)) {
            (0, Some(near)) => (format!("there is no Schedule named {name}"), format!("did you mean `{near}`?")),
            (0, None) => {
                let hint = "add a document with `kind: Schedule` and this name, or read its file as well";
                (format!("there is no Schedule named {name}"), hint.to_owned())
            }
            (1, _) => (format!("the Schedule {name} is invalid"), "correct it there".to_owned()),
            (_, _) => (format!("the Schedule {name} is declared more than once"), "keep one of them".to_owned()),
        };
        let related = places.into_iter().map(|place| Related { place, message: "the Schedule".into() });
        Some(Diagnostic {
            line: at.line,
            column: at.column,
            length: at.length,
            related: related.collect(),
            ..Diagnostic::about_file(&bearer.place.file, message, Some(&hint))
        })
    }

    /// Replaces the objects that one file declares and holds.
    fn place(&mut self, file: &Arc<str>, state: FileState, touched: &mut BTreeSet<AppName>) {
        if is_calendar(file) {
            self.schedules.place_calendar(file, state);
            return;
        }
        let before = self.files.remove(file).unwrap_or_default();
        for name in &before {
            if let Some(entry) = self.entries.get_mut(name) {
                entry.bearers.retain(|bearer| bearer.place.file != *file);
                entry.held.retain(|(holding, _)| holding != file);
            }
        }
        self.diagnostics_version += u64::from(self.problems.remove(file).is_some());
        touched.extend(before.iter().cloned());

        let (parsed, problems, cause) = match state {
            FileState::Gone => {
                self.vague.remove(file);
                self.schedules.place(file, None);
                return;
            }
            FileState::Unreadable(diagnostic) => {
                let cause: Arc<str> = diagnostic.one_line().into();
                (None, vec![*diagnostic], Some(cause))
            }
            FileState::Read(parsed) => {
                let mut problems = parsed.diagnostics.clone();
                let is_declared = |name| parsed.documents.iter().any(|document| document.name.as_ref() == Some(name));
                let lost = before.iter().find(|name| !is_declared(name));
                let vaguer = parsed.vague > self.vague.get(file).copied().unwrap_or(0);
                let doubtful = !parsed.conclusive || (vaguer && lost.is_some());
                if let (true, Some(lost)) = (doubtful, lost) {
                    hold_back(&mut problems, lost);
                }
                if !doubtful && parsed.vague > 0 {
                    self.vague.insert(file.clone(), parsed.vague);
                } else if !doubtful {
                    self.vague.remove(file);
                }
                let first = problems.iter().find(|one| one.is_error()).or(problems.first());
                let cause = first.filter(|_| doubtful).map(|problem| problem.one_line().into());
                (Some(parsed), problems, cause)
            }
        };
        self.schedules.place(file, parsed.as_deref());
        if !problems.is_empty() {
            self.problems.insert(file.clone(), problems);
            self.diagnostics_version += 1;
        }
        let mut members = BTreeSet::new();
        for document in parsed.iter().flat_map(|parsed| &parsed.documents) {
            let Some(name) = &document.name else { continue };
            self.entries.entry(name.clone()).or_default().bear(Bearer {
                place: Place { file: file.clone(), line: document.line },
                name_at: document.name_at,
                app_id_at: document.app_id_at,
                suspend_at: document.suspend_at,
                override_at: document.override_at,
                windows_at: document.windows_at.clone(),
                content: document.content.clone(),
                meaning: Err("".into()),
            });
            members.insert(name.clone());
        }
        if let Some(cause) = cause {
            for name in before {
                if members.insert(name.clone()) {
                    self.entries.entry(name).or_default().hold(file, &cause);
                }
            }
        }
        touched.extend(members.iter().cloned());
        if !members.is_empty() {
            self.files.insert(file.clone(), members.into_iter().collect());
        }
    }

    /// Updates the claims of `names`. Returns all claimants of the ids concerned.
    fn reclaim(&mut self, names: &BTreeSet<AppName>) -> Vec<AppName> {
        let mut ids = BTreeSet::new();
        for name in names {
            let Some(entry) = self.entries.get_mut(name) else { continue };
            let now = entry.claimed();
            let before = std::mem::replace(&mut entry.ids, now.clone());
            for id in before.iter().filter(|id| !now.contains(id)) {
                if let Some(claimants) = self.claims.get_mut(id) {
                    claimants.retain(|claimant| claimant != name);
                    if claimants.is_empty() {
                        self.claims.remove(id);
                    }
                }
            }
            for id in now.iter().filter(|id| !before.contains(id)) {
                let claimants = self.claims.entry(id.clone()).or_default();
                claimants.reserve_exact(1);
                claimants.insert(claimants.partition_point(|claimant| claimant < name), name.clone());
            }
            ids.extend(before);
            ids.extend(now);
        }
        ids.iter().filter_map(|id| self.claims.get(id)).flatten().cloned().collect()
    }

    /// Decides which version of one object is in force, and reports the difference from the last version.
    fn judge(&mut self, name: &AppName, at: Timestamp, changes: &mut Changes) {
        let Some(entry) = self.entries.get(name) else { return };
        if entry.is_gone() {
            let entry = self.entries.remove(name);
            self.diagnostics_version += u64::from(self.conflicts.remove(name));
            if entry.is_some_and(|entry| entry.reported.is_some()) {
                changes.removed.push(name.clone());
            }
            return;
        }
        let since = match entry.reported.as_ref().map(|reported| &reported.validity) {
            Some(Validity::Invalid { since, .. }) => *since,
            Some(Validity::Valid | Validity::Conflicting { .. }) | None => at,
        };
        let validity = self.validity(name, entry, since);
        // Also if it was in conflict before: the places of the conflict may have changed.
        let is_conflict = matches!(validity, Validity::Conflicting { .. });
        let was_conflict = self.conflicts.remove(name);
        self.diagnostics_version += u64::from(is_conflict || was_conflict);
        if is_conflict {
            self.conflicts.insert(name.clone());
        }
        let Some(entry) = self.entries.get_mut(name) else { return };
        if validity == Validity::Valid
            && let Some((place, object)) = entry.sole()
        {
            entry.last_good = Some((object.clone(), place.clone()));
        }
        let declared = Declared {
            name: name.clone(),
            object: entry.last_good.as_ref().map(|(object, _)| object.clone()),
            place: entry.places().next().unwrap_or(Place { file: "".into(), line: 0 }),
            validity,
        };
        if entry.reported.as_deref() != Some(&declared) {
            if entry.reported.as_deref().is_some_and(|reported| reported.spec() != declared.spec()) {
                changes.respecified.push(name.clone());
            }
            let declared = Arc::new(declared);
            entry.reported = Some(declared.clone());
            changes.changed.push(declared);
        }
    }

    /// The first id of an object that others claim as well, and all its claimants.
    fn contested<'a>(&'a self, entry: &'a Entry) -> Option<(&'a AppId, &'a [AppName])> {
        let claimants = entry.ids.iter().filter_map(|id| Some((id, &self.claims.get(id)?[..])));
        claimants.into_iter().find(|(_, claimants)| claimants.len() > 1)
    }

    fn first_place(&self, name: &AppName) -> Option<Place> {
        self.entries.get(name)?.places().next()
    }

    /// `since`: the time since which it is invalid, if it is.
    fn validity(&self, name: &AppName, entry: &Entry, since: Timestamp) -> Validity {
        if entry.bearers.len() + entry.held.len() > 1 {
            let places = entry.places().map(|place| place.to_string());
            let count = entry.bearers.len() + entry.held.len();
            let message = format!("the name {name} is declared {count} times: {}", first_few(places, count));
            return Validity::Conflicting { reason: Reason::DuplicateName, message: message.into() };
        }
        if let Some((id, claimants)) = self.contested(entry) {
            let spots = claimants.iter().filter_map(|name| Some(format!("{name} ({})", self.first_place(name)?)));
            let count = claimants.len();
            let message = format!("the appId {id} is claimed by {count} apps: {}", first_few(spots, count));
            return Validity::Conflicting { reason: Reason::DuplicateAppId, message: message.into() };
        }
        let message = match entry.bearers.first().map(|bearer| &bearer.meaning) {
            Some(Ok(_)) => return Validity::Valid,
            Some(Err(message)) => message.clone(),
            None => entry.held.first().map(|(_, cause)| cause.clone()).unwrap_or_default(),
        };
        Validity::Invalid { message, since }
    }

    fn conflict_diagnostics(&self, name: &AppName, entry: &Entry, all: &mut Vec<Diagnostic>) {
        let Validity::Conflicting { reason, message } = self.validity(name, entry, Timestamp::UNIX_EPOCH) else {
            return;
        };
        let by_name = reason == Reason::DuplicateName;
        let (text, hint, others): (_, _, Vec<Related>) = if by_name {
            let related = |place| Related { place, message: format!("also named {name}").into() };
            let at = |bearer: &Bearer| Place { file: bearer.place.file.clone(), line: bearer.name_at.line };
            let held = entry.places().skip(entry.bearers.len());
            (
                format!("the name {name} is declared more than once"),
                "give each app a name of its own, or remove all but one",
                entry.bearers.iter().map(at).chain(held).map(related).collect(),
            )
        } else {
            let id = self.contested(entry).map_or("", |(id, _)| id.as_str());
            let rivals = entry.ids.iter().filter_map(|id| self.claims.get(id)).flatten().filter(|rival| *rival != name);
            let at = |rival: &AppName| match self.entries.get(rival)?.bearers.first() {
                Some(bearer) => Some(Place { file: bearer.place.file.clone(), line: bearer.app_id_at.line }),
                None => self.first_place(rival),
            };
            let related = |rival: &AppName| {
                Some(Related { place: at(rival)?, message: format!("also claimed by {rival}").into() })
            };
            (
                format!("the appId {id} is claimed by more than one app"),
                "an app on the platform belongs to one manifest; remove the others",
                rivals.take(PLACES_SHOWN).filter_map(related).collect(),
            )
        };
        for Bearer { place, name_at, app_id_at, .. } in &entry.bearers {
            let at = if by_name { name_at } else { app_id_at };
            let here = Place { file: place.file.clone(), line: at.line };
            all.push(Diagnostic {
                line: at.line,
                column: at.column,
                length: at.length,
                reason,
                severity: Severity::Error,
                related: others.iter().filter(|other| other.place != here).take(PLACES_SHOWN).cloned().collect(),
                ..Diagnostic::about_file(&place.file, text.as_str(), Some(hint))
            });
        }
        if entry.bearers.is_empty() {
            for (file, _) in &entry.held {
                all.push(Diagnostic { reason, ..Diagnostic::about_file(file, message.clone(), Some(hint)) });
            }
        }
    }
}

/// Makes errors of the warnings about a file that may still declare `lost`, because they hold back the newest text of
/// an app.
fn hold_back(problems: &mut [Diagnostic], lost: &AppName) {
    for problem in problems {
        if problem.is_foreign() {
            let hint = format!("this file declared {lost}: restore the manifest, or remove the file");
            problem.hint = Some(hint.into());
        }
        problem.severity = Severity::Error;
    }
}

/// The first of `count` items, and the number of the others.
fn first_few(items: impl Iterator<Item = String>, count: usize) -> String {
    let mut text = items.take(PLACES_SHOWN).collect::<Vec<_>>().join(", ");
    if count > PLACES_SHOWN {
        let _ = write!(text, " and {} more", count - PLACES_SHOWN);
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

    const OFFICE: &str = "apiVersion: campos-operator.dev/v1\nkind: Schedule\nmetadata: {name: office}\nspec:\n  timeZone: UTC\n  windows: [{state: Stopped, from: \"20:00\", to: \"08:00\"}]\n";

    fn office(calendar: &str) -> String {
        format!("{OFFICE}  except: [{{calendar: {calendar}, state: Stopped}}]\n")
    }

    fn referring(name: &str, state: &str) -> String {
        good(name, name, state).replace("state:", "scheduleRef: office, state:")
    }

    fn holidays(day: &str) -> String {
        format!("BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:Natal\nDTSTART;VALUE=DATE:{day}\nEND:VEVENT\nEND:VCALENDAR\n")
    }

    /// State, first event, and first word of the validity of an app that refers to a Schedule.
    fn meaning(store: &Store, name: &str) -> String {
        let declared = store.declared().into_iter().find(|declared| declared.name.as_str() == name).unwrap();
        let validity = match &declared.validity {
            Validity::Valid => "sound".to_owned(),
            Validity::Invalid { message, .. } => message.to_string(),
            Validity::Conflicting { reason, .. } => reason.to_string(),
        };
        let Some(spec) = declared.spec() else { return format!("nothing, {validity}") };
        let schedule = spec.schedule.as_ref().unwrap();
        let event = schedule.except.first().and_then(|except| Some(except.events().first()?.from.to_string()));
        format!("{} {}, {validity}", spec.state, event.unwrap_or_default())
    }

    fn problems(store: &Store) -> Vec<String> {
        store.diagnostics().iter().map(|one| format!("{}: {}", one.location(), one.message)).collect()
    }

    /// Each error of a Schedule, for an app that was valid before and for a new app.
    #[test]
    fn a_broken_schedule_changes_no_app() {
        let sound = || {
            let mut store = Store::new();
            store.apply([
                read("a.yaml", &referring("a", "Running")),
                read("s/office.yaml", &office("holidays.ics")),
                read("s/holidays.ics", &holidays("20261225")),
            ]);
            assert_eq!(meaning(&store, "a"), "Running 2026-12-25T00:00:00Z, sound");
            assert_eq!(problems(&store), [] as [&str; 0]);
            store
        };
        for (break_it, cause, problem) in [
            (gone("s/office.yaml"), "there is no Schedule named office", "a.yaml:4:31: there is no Schedule"),
            (read("s/office.yaml", "kind: Schedule\nmetadata: {name: office}\n]["), "is invalid", "s/office.yaml:3:"),
            (read("s/office.yaml", &office("other.ics")), "there is no calendar other.ics", "s/office.yaml:7:23"),
            (read("t/office.yaml", OFFICE), "declared more than once", "t/office.yaml:3:18"),
            (gone("s/holidays.ics"), "there is no calendar", "s/office.yaml:7:23"),
            (
                read("s/holidays.ics", "BEGIN:VCALENDAR\n"),
                "cannot be read",
                "s/holidays.ics:1:1: the calendar is cut off",
            ),
            (read("s/holidays.ics", ""), "cannot be read", "s/holidays.ics:1:1: the file is not a calendar"),
            (read("s/holidays.ics", &"x".repeat(300_000)), "cannot be read", "s/holidays.ics:1:1: the file is larger"),
            (
                read("s/holidays.ics", &holidays("20261225").replace("SUMMARY", "=======\nSUMMARY")),
                "cannot be read",
                "s/holidays.ics:3:1: an unresolved merge conflict",
            ),
            (unreadable("s/holidays.ics"), "cannot be read", "s/holidays.ics: permission denied"),
        ] {
            let mut store = sound();
            let changes = store.apply([break_it.clone()]);
            assert_eq!((names(&changes.respecified), names(&changes.removed)), (vec![], vec![]), "{cause}");
            assert!(meaning(&store, "a").starts_with("Running 2026-12-25T00:00:00Z, a.yaml:4:31: "), "{cause}");
            assert!(meaning(&store, "a").contains(cause), "{}", meaning(&store, "a"));
            let found = problems(&store);
            assert!(found.iter().any(|found| found.starts_with("a.yaml:4:31: ")), "{found:?}");
            assert!(found.iter().any(|found| found.starts_with(problem)), "{problem}: {found:?}");
            // While the Schedule is broken, an edit of the app or a new app is invalid.
            store.apply([read("a.yaml", &referring("a", "Stopped")), read("b.yaml", &referring("b", "Stopped"))]);
            assert!(meaning(&store, "a").starts_with("Running 2026-12-25T00:00:00Z, a.yaml"), "{cause}");
            assert!(meaning(&store, "b").starts_with("nothing, b.yaml:4:31: "), "{cause}");
            // Its correction brings them into force.
            store.apply([
                gone("t/office.yaml"),
                read("s/office.yaml", &office("holidays.ics")),
                read("s/holidays.ics", &holidays("20260101")),
            ]);
            for name in ["a", "b"] {
                assert_eq!(meaning(&store, name), "Stopped 2026-01-01T00:00:00Z, sound", "{cause}");
            }
            assert_eq!(problems(&store), [] as [&str; 0]);
        }
    }

    #[test]
    fn apps_share_a_schedule_and_change_with_it() {
        let mut store = Store::new();
        let apps: Vec<String> = (0..100).map(|number| format!("app-{number}")).collect();
        store.apply(apps.iter().map(|name| read(&format!("{name}.yaml"), &referring(name, "Running"))));
        assert!(meaning(&store, "app-7").starts_with("nothing, "));
        let changes = store.apply([read("office.yaml", OFFICE)]);
        assert_eq!((changes.changed.len(), changes.respecified.len()), (100, 100));
        let schedules: Vec<_> =
            store.declared().iter().map(|declared| declared.spec().unwrap().schedule.clone().unwrap()).collect();
        assert!(schedules.iter().all(|schedule| Arc::ptr_eq(schedule, &schedules[0])));
        assert_eq!(store.apply([read("office.yaml", &format!("# a comment\n{OFFICE}"))]), Changes::default());
        let changes = store.apply([read("office.yaml", &OFFICE.replace("20:00", "21:00"))]);
        assert_eq!(changes.respecified.len(), 100);
        assert_eq!((store.count(), store.schedules().count()), (100, 1));
    }

    fn approval(name: &str, plan: &str) -> String {
        format!(
            "apiVersion: campos-operator.dev/v1\nkind: Approval\nmetadata: {{name: {name}}}\nspec: {{plan: \"{plan}\", until: \"2026-11-28T00:00:00Z\", by: ana}}\n"
        )
    }

    /// Two approvals with one name both count. An unreadable file has none, because an approval releases calls.
    #[test]
    fn approvals_follow_their_files() {
        let mut store = Store::new();
        let mut plans = |file: &str, text: Option<&str>| -> Vec<String> {
            store.apply([text.map_or_else(|| gone(file), |text| read(file, text))]);
            let approvals = store.approvals().map(|document| &document.approval);
            approvals.map(|approval| format!("{} {}", approval.plan, approval.place)).collect()
        };
        let (one, two) = (approval("x", "7f3a9c01b2d4"), approval("x", "000000000000"));
        assert_eq!(plans("a.yaml", Some(&good("a", "1a", "Running"))), [""; 0]);
        let (first, second) = ("7f3a9c01b2d4 one.yaml:1", "000000000000 two.yaml:1");
        assert_eq!(plans("one.yaml", Some(&one)), [first]);
        assert_eq!(plans("one.yaml", Some(&format!("{one}# a comment\n"))), [first]);
        assert_eq!(plans("two.yaml", Some(&two)), [first, second]);
        assert_eq!(
            plans("two.yaml", Some(&format!("{two}---\nkind: [\n"))),
            [first, second],
            "the other document is bad"
        );
        assert_eq!(plans("two.yaml", Some(&two.replace("plan", "plans"))), [first]);
        assert_eq!(plans("one.yaml", None), [""; 0]);
        assert_eq!((store.count(), problems(&store).len()), (1, 1));
    }

    #[test]
    fn a_schedule_is_no_app() {
        let mut store = Store::new();
        store.apply([read("office.yaml", OFFICE), read("b.yaml", "kind: Schedule\nmetadata:\n  name: b\nspec: [")]);
        store.apply([read("other.ics", "nonsense"), read("office.ics", &holidays("20261225"))]);
        assert_eq!((store.count(), store.schedules().count(), store.schedules().unused()), (0, 2, 2));
        assert_eq!(problems(&store).len(), 1, "a calendar without a Schedule is not reported");
    }

    fn gone(file: &str) -> (Arc<str>, FileState) {
        (file.into(), FileState::Gone)
    }

    fn unreadable(file: &str) -> (Arc<str>, FileState) {
        let file: Arc<str> = file.into();
        (file.clone(), FileState::Unreadable(Diagnostic::about_file(&file, "permission denied", None).into()))
    }

    /// `name state validity place`, a line for each object.
    fn shown(store: &Store) -> String {
        let line = |declared: &Arc<Declared>| {
            let state = declared.spec().map_or("-".into(), |spec| format!("{} {}", spec.app_id, spec.state));
            let validity = match &declared.validity {
                Validity::Valid => "Valid".to_owned(),
                Validity::Invalid { message, .. } => format!("Invalid: {message}"),
                Validity::Conflicting { reason, message } => format!("{reason}: {message}"),
            };
            format!("{} | {state} | {validity} | {}\n", declared.name, declared.place)
        };
        store.declared().iter().map(line).collect()
    }

    fn names(names: &[AppName]) -> Vec<&str> {
        names.iter().map(AppName::as_str).collect()
    }

    fn changed(changes: &Changes) -> Vec<&str> {
        changes.changed.iter().map(|declared| declared.name.as_str()).collect()
    }

    #[test]
    fn identical_content_is_no_change() {
        let mut store = Store::new();
        assert_eq!(changed(&store.apply([read("a.yaml", &good("a", "1a", "Running"))])), ["a"]);
        assert_eq!(store.apply([read("a.yaml", &good("a", "1a", "Running"))]), Changes::default());
        let comment = format!("{}# a comment\n", good("a", "1a", "Running"));
        assert_eq!(store.apply([read("a.yaml", &comment)]), Changes::default());
    }

    #[test]
    fn the_time_of_an_invalid_text_is_kept() {
        let mut store = Store::new();
        let mut since = |second, (file, state): (Arc<str>, FileState)| {
            store.take([(file, state)], Timestamp::from_second(second).unwrap());
            match store.declared().remove(0).validity {
                Validity::Invalid { since, .. } => Some(since.as_second()),
                Validity::Valid | Validity::Conflicting { .. } => None,
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
        let mut store = Store::new();
        store.apply([read("a.yaml", &format!("{}---\n{}", good("a", "1a", "Running"), good("b", "1b", "Running")))]);
        store.apply([read("a.yaml", &format!("{}---\n][", bad("a")))]);
        store.rename(&"a.yaml".into(), &"z.yaml".into());
        let changes = store.apply([read("z.yaml", &format!("{}---\n][", bad("a")))]);
        assert_eq!((changed(&changes), names(&changes.removed)), (vec!["a", "b"], vec![]));
        insta::assert_snapshot!(shown(&store), @r"
        a | 1a Running | Invalid: z.yaml:4:18: unknown field `sate` (did you mean `state`?) | z.yaml:1
        b | 1b Running | Invalid: z.yaml:4:18: unknown field `sate` (did you mean `state`?) | z.yaml:6
        ");
        store.apply([read("z.yaml", &good("b", "1b", "Stopped"))]);
        insta::assert_snapshot!(shown(&store), @"b | 1b Stopped | Valid | z.yaml:1");
        assert_eq!(names(&store.apply([gone("z.yaml")]).removed), ["b"]);
    }

    #[test]
    fn an_invalid_edit_keeps_the_last_good_spec() {
        let mut store = Store::new();
        store.apply([read("a.yaml", &good("a", "1a", "Running"))]);
        store.apply([read("a.yaml", &bad("a"))]);
        insta::assert_snapshot!(shown(&store), @"a | 1a Running | Invalid: a.yaml:4:18: unknown field `sate` (did you mean `state`?) | a.yaml:1");
        store.apply([read("a.yaml", "][")]);
        assert!(shown(&store).starts_with("a | 1a Running | Invalid: a.yaml:1:1"));
        store.apply([unreadable("a.yaml")]);
        insta::assert_snapshot!(shown(&store), @"a | 1a Running | Invalid: a.yaml: permission denied | a.yaml:1");
        store.apply([read("a.yaml", "")]);
        assert!(shown(&store).starts_with("a | 1a Running | Invalid: a.yaml: the file is empty"));
        store.apply([read("a.yaml", &good("a", "1a", "Stopped"))]);
        insta::assert_snapshot!(shown(&store), @"a | 1a Stopped | Valid | a.yaml:1");
        assert_eq!(names(&store.apply([gone("a.yaml")]).removed), ["a"]);
        assert_eq!(shown(&store), "");
    }

    #[test]
    fn an_object_that_was_never_valid_has_no_spec() {
        let mut store = Store::new();
        store.apply([read("a.yaml", &bad("a")), read("b.yaml", "]["), unreadable("c.yaml")]);
        insta::assert_snapshot!(shown(&store), @"a | - | Invalid: a.yaml:4:18: unknown field `sate` (did you mean `state`?) | a.yaml:1");
        assert_eq!(store.diagnostics().len(), 3);
    }

    #[test]
    fn an_error_beside_it_releases_nothing_and_a_good_neighbour_is_taken() {
        let mut store = Store::new();
        store.apply([read("a.yaml", &format!("{}---\n{}", good("a", "1a", "Running"), good("b", "1b", "Running")))]);
        store.apply([read("a.yaml", &format!("{}---\nkind: [\n", good("a", "1a", "Stopped")))]);
        let text = shown(&store);
        assert!(text.starts_with("a | 1a Stopped | Valid | a.yaml:1\nb | 1b Running | Invalid: a.yaml:"), "{text}");
        let changes = store.apply([read("a.yaml", &good("a", "1a", "Stopped"))]);
        assert_eq!(names(&changes.removed), ["b"]);
    }

    #[test]
    fn a_move_changes_the_place_only() {
        let mut store = Store::new();
        store.apply([read("a.yaml", &good("a", "1a", "Running"))]);
        let changes = store.apply([read("b.yaml", &good("a", "1a", "Running")), gone("a.yaml")]);
        assert_eq!((changed(&changes), changes.removed.len()), (vec!["a"], 0));
        insta::assert_snapshot!(shown(&store), @"a | 1a Running | Valid | b.yaml:1");
    }

    #[test]
    fn duplicate_names_hold_the_last_good() {
        let mut store = Store::new();
        store.apply([read("a.yaml", &good("a", "1a", "Running"))]);
        store.apply([read("b.yaml", &good("a", "1a", "Stopped"))]);
        insta::assert_snapshot!(shown(&store), @"a | 1a Running | DuplicateName: the name a is declared 2 times: a.yaml:1, b.yaml:1 | a.yaml:1");
        store.apply([read("b.yaml", &bad("a"))]);
        assert!(shown(&store).contains("DuplicateName"), "an invalid bearer counts");
        store.apply([unreadable("b.yaml")]);
        assert!(shown(&store).contains("DuplicateName"), "a file that may still bear it counts");
        store.apply([gone("b.yaml")]);
        insta::assert_snapshot!(shown(&store), @"a | 1a Running | Valid | a.yaml:1");
        store.apply([read("a.yaml", &format!("{0}---\n{0}", good("a", "1a", "Running")))]);
        insta::assert_snapshot!(shown(&store), @"a | 1a Running | DuplicateName: the name a is declared 2 times: a.yaml:1, a.yaml:6 | a.yaml:1");
    }

    #[test]
    fn duplicate_ids_put_all_bearers_in_error() {
        let mut store = Store::new();
        store.apply([read("a.yaml", &good("a", "1a", "Running"))]);
        let changes = store.apply([read("b.yaml", &good("b", "1a", "Stopped"))]);
        assert_eq!(changed(&changes), ["a", "b"]);
        insta::assert_snapshot!(shown(&store), @r"
        a | 1a Running | DuplicateAppId: the appId 1a is claimed by 2 apps: a (a.yaml:1), b (b.yaml:1) | a.yaml:1
        b | - | DuplicateAppId: the appId 1a is claimed by 2 apps: a (a.yaml:1), b (b.yaml:1) | b.yaml:1
        ");
        insta::assert_snapshot!(store.diagnostics()[1].render(false), @r"
        error: the appId 1a is claimed by more than one app
         --> b.yaml:4:15
         ::: a.yaml:4: also claimed by a
          = help: an app on the platform belongs to one manifest; remove the others
        ");
        // Held by a file that cannot be read: still a claim.
        store.apply([unreadable("a.yaml")]);
        assert_eq!(shown(&store).matches("DuplicateAppId").count(), 2);
        store.apply([gone("a.yaml")]);
        insta::assert_snapshot!(shown(&store), @"b | 1a Stopped | Valid | b.yaml:1");
    }

    #[test]
    fn two_apps_may_swap_their_ids_in_two_steps() {
        let mut store = Store::new();
        store.apply([
            read("a.yaml", &good("a", "1", "Running").replace("appId: 1", "appId: a1")),
            read("b.yaml", &good("b", "b1", "Running")),
        ]);
        store.apply([read("a.yaml", &good("a", "b1", "Running"))]);
        assert_eq!(shown(&store).matches("DuplicateAppId").count(), 2);
        store.apply([read("b.yaml", &good("b", "a1", "Running"))]);
        insta::assert_snapshot!(shown(&store), @r"
        a | b1 Running | Valid | a.yaml:1
        b | a1 Running | Valid | b.yaml:1
        ");
    }

    #[test]
    fn released_objects_leave_nothing_behind() {
        let mut store = Store::new();
        store.apply([read("a.yaml", &good("a", "1a", "Running")), read("b.yaml", &bad("b"))]);
        store.apply([read("c.yaml", &good("c", "1a", "Running")), unreadable("b.yaml")]);
        store.apply([gone("a.yaml"), gone("b.yaml"), gone("c.yaml")]);
        assert_eq!((store.files.len(), store.entries.len(), store.claims.len()), (0, 0, 0));
        assert!(store.problems.is_empty() && store.conflicts.is_empty());
    }

    #[test]
    fn a_conflict_is_reported_at_the_name_or_the_id() {
        let far = |name: &str, id: &str| {
            let (blank, wide) = ("\n".repeat(70_000), " ".repeat(300));
            format!(
                "apiVersion: campos-operator.dev/v1\n{blank}kind: App\nmetadata: {{{wide}name: {name}}}\nspec: {{{wide}appId: {id}, state: Stopped}}\n"
            )
        };
        let marks = |texts: [String; 2]| {
            let mut store = Store::new();
            for (file, text) in ["a.yaml", "b.yaml"].iter().zip(texts) {
                store.apply([read(file, &text)]);
            }
            let at = |told: &Diagnostic| (told.line, told.column, told.length);
            store.diagnostics().iter().map(at).collect::<Vec<_>>()
        };
        assert_eq!(marks([good("a", "1a", "Running"), good("a", "2a", "Running")]), [(3, 18, 1), (3, 18, 1)]);
        assert_eq!(marks([good("a", "1a", "Running"), good("b", "1a", "Running")]), [(4, 15, 2), (4, 15, 2)]);
        assert_eq!(marks([far("a", "1a"), far("a", "2a")]), [(70_003, 318, 1), (70_003, 318, 1)]);
        assert_eq!(marks([far("a", "1a"), far("b", "1a")]), [(70_004, 315, 2), (70_004, 315, 2)]);
    }

    #[test]
    fn errors_are_reported_only_when_they_changed() {
        let mut store = Store::new();
        let mut before = (store.diagnostics_version(), store.diagnostics());
        let mut told = |(file, state): (Arc<str>, FileState)| {
            store.apply([(file, state)]);
            let after = (store.diagnostics_version(), store.diagnostics());
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
        assert!(told(read("c.yaml", &good("c", "1c", "Stopped"))), "the conflict ends");
        assert!(!told(gone("c.yaml")));
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
        /// The order of a batch does not matter.
        #[test]
        fn the_order_of_reading_does_not_matter(steps in states(), seed in any::<u64>()) {
            let batch: BTreeMap<Arc<str>, FileState> = steps.iter().copied().map(state).collect();
            let mut shuffled: Vec<_> = batch.clone().into_iter().collect();
            shuffled.sort_by_key(|(file, _)| seed.rotate_left(u32::from(file.as_bytes()[0])) % 97);
            let (mut one, mut other) = (Store::new(), Store::new());
            prop_assert_eq!(one.apply(batch), other.apply(shuffled));
            prop_assert_eq!(one.diagnostics(), other.diagnostics());
        }

        /// The result of a batch does not depend on other stored objects.
        #[test]
        fn the_first_batch_is_as_any_other(steps in states()) {
            let batch: BTreeMap<Arc<str>, FileState> = steps.iter().copied().map(state).collect();
            let (mut first, mut second) = (Store::new(), Store::new());
            second.apply([read("other.yaml", &good("other", "other", "Running"))]);
            prop_assert_eq!(first.apply(batch.clone()), second.apply(batch));
            second.apply([gone("other.yaml")]);
            prop_assert_eq!(first.declared(), second.declared());
            prop_assert_eq!(first.diagnostics(), second.diagnostics());
            prop_assert_eq!(first.entries.len(), second.entries.len());
        }

        /// If nothing is held, only the last good specs depend on earlier states: names, validities and places are
        /// those of a new start. The reported changes add up to the declared objects.
        #[test]
        fn step_by_step_is_the_same_as_from_scratch(steps in states()) {
            let mut store = Store::new();
            let mut told: BTreeMap<AppName, Arc<Declared>> = BTreeMap::new();
            let mut files = BTreeMap::new();
            for step in &steps {
                let (file, state) = state(*step);
                let whole = !matches!(&state, FileState::Unreadable(_)) && !matches!(&state, FileState::Read(parsed) if !parsed.conclusive);
                let changes = store.apply([(file.clone(), state.clone())]);
                files.insert(file.clone(), (state, whole));
                for name in changes.removed {
                    prop_assert!(told.remove(&name).is_some(), "removed what was never told");
                }
                for declared in changes.changed {
                    told.insert(declared.name.clone(), declared);
                }
                prop_assert_eq!(&told.values().cloned().collect::<Vec<_>>(), &store.declared());
            }
            // Indexes hold no leftovers: applying the same state again changes nothing at all.
            for (file, (state, _)) in &files {
                prop_assert_eq!(store.apply([(file.clone(), state.clone())]), Changes::default());
            }
            if files.values().all(|(_, whole)| *whole) {
                let mut fresh = Store::new();
                fresh.apply(files.iter().map(|(file, (state, _))| (file.clone(), state.clone())));
                let view = |store: &Store| -> Vec<_> {
                    store.declared().into_iter().map(|d| {
                        let spec = (d.validity == Validity::Valid).then(|| d.spec().cloned());
                        (d.name.clone(), d.place.clone(), d.validity.clone(), spec)
                    }).collect()
                };
                // An object with a name conflict also claims the app of its last good version, which only history
                // shows.
                let disputed = fresh.declared().iter().any(
                    |declared| matches!(declared.validity, Validity::Conflicting { reason: Reason::DuplicateName, .. }));
                if !disputed {
                    prop_assert_eq!(view(&fresh), view(&store));
                }
            }
        }

        /// Two objects that may cause calls never claim the same app.
        #[test]
        fn no_app_has_two_manifests_in_force(steps in states()) {
            let mut store = Store::new();
            for step in &steps {
                store.apply([state(*step)]);
                let mut masters = BTreeSet::new();
                for declared in store.declared() {
                    if !matches!(declared.validity, Validity::Conflicting { .. })
                        && let Some(spec) = declared.spec()
                    {
                        prop_assert!(masters.insert(spec.app_id.clone()), "{} twice", spec.app_id);
                    }
                }
            }
        }
    }

    #[test]
    fn a_manifest_that_loses_its_kind_is_held() {
        let mut store = Store::new();
        let mut put = |text: &str| store.apply([read("a.yaml", text)]);
        let good = crate::manifest::example("a", "id", "Stopped");
        assert_eq!(put(&good).changed.len(), 1);
        // The place held an object, and the rest of it does not name another API.
        let changes = put("metadata: {name: a}\n");
        assert_eq!((changes.removed.len(), changes.changed.len()), (0, 1));
        assert!(matches!(changes.changed[0].validity, Validity::Invalid { .. }), "{changes:?}");
        // Another API's document in its place is an edit.
        assert_eq!(put("apiVersion: v1\nkind: ConfigMap\n").removed.len(), 1);
    }

    #[test]
    fn a_foreign_document_beside_an_app_holds_nothing() {
        let mut store = Store::new();
        let mut put = |text: &str| store.apply([read("a.yaml", text)]);
        let good = crate::manifest::example("a", "id", "Stopped");
        assert_eq!(put(&format!("services: {{}}\n---\n{good}")).changed.len(), 1);
        assert_eq!(put("services: {}\n").removed.len(), 1);
    }

    /// Its content is unknown, so it releases nothing. In a place without objects, it is only a warning.
    #[test]
    fn a_file_that_cannot_be_read_is_foreign_only_where_no_app_was() {
        let chart = "apiVersion: apps/v1\nkind: Deployment\nspec: {{ .Values.x }\n";
        let good = crate::manifest::example("a", "id", "Stopped");
        for text in [chart, &"x: y\n".repeat(100_000)] {
            let mut store = Store::new();
            store.apply([read("a.yaml", text)]);
            assert_eq!(store.diagnostics().iter().map(Diagnostic::is_foreign).collect::<Vec<_>>(), [true]);
            store.apply([read("a.yaml", &good)]);
            let changes = store.apply([read("a.yaml", text)]);
            assert_eq!((changes.removed.len(), changes.changed.len()), (0, 1));
            assert!(matches!(changes.changed[0].validity, Validity::Invalid { .. }), "{changes:?}");
            assert!(store.diagnostics()[0].is_error());
            // Beside an app that is declared it is a warning again.
            store.apply([read("a.yaml", &good)]);
            if text == chart {
                store.apply([read("a.yaml", &format!("{good}---\n{text}"))]);
                assert!(!store.diagnostics()[0].is_error(), "{:?}", store.diagnostics());
            }
        }
    }
}
