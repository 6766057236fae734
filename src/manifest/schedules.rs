//! Schedules that apps refer to, and their calendars: the present meaning of each name.
//!
//! Pure. A name has no meaning if it is missing, declared twice or invalid, or if a calendar is unreadable. Then the
//! store keeps the last good version of each app. A calendar without a Schedule has no effect and is not reported.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::calendar::Calendar;
use super::diagnostic::{Diagnostic, Mark, Related};
use super::load::{ParsedFile, ScheduleDocument};
use super::store::FileState;
use super::windows::{Draft, DraftExcept};
use crate::reconcile::app::AppName;
use crate::reconcile::desired::Place;
use crate::reconcile::reason::Reason;
use crate::reconcile::schedule::{Exception, Schedule, Shared};

/// The Schedule of a name, or the cause why the name has none.
pub(super) type Meaning = Result<Arc<Schedule>, Arc<str>>;

#[derive(Debug, Default)]
pub(super) struct Schedules {
    /// The documents of each file that has any.
    files: HashMap<Arc<str>, Vec<ScheduleDocument>>,
    /// Every place of a name, in order.
    places: BTreeMap<AppName, BTreeSet<(Arc<str>, Mark)>>,
    calendars: HashMap<Arc<str>, FileState>,
    /// The meaning of each name, for all apps that refer to it. [`Schedules::apply`] fills it.
    meanings: HashMap<AppName, Meaning>,
    /// The Schedules of each calendar, which need not exist.
    users: HashMap<Arc<str>, BTreeSet<AppName>>,
    /// Names whose meaning may have changed.
    touched: BTreeSet<AppName>,
}

impl Schedules {
    /// Replaces the Schedules of a file.
    pub(super) fn place(&mut self, file: &Arc<str>, parsed: Option<&ParsedFile>) {
        let before = self.files.remove(file).unwrap_or_default();
        for ScheduleDocument { name, name_at, .. } in before {
            if let Some(places) = self.places.get_mut(&name) {
                places.remove(&(file.clone(), name_at));
                if places.is_empty() {
                    self.places.remove(&name);
                }
            }
            self.touched.insert(name);
        }
        let now = parsed.map_or(&[][..], |parsed| &parsed.schedules);
        for ScheduleDocument { name, name_at, content } in now {
            self.places.entry(name.clone()).or_default().insert((file.clone(), *name_at));
            self.touched.insert(name.clone());
            for except in content.iter().flat_map(|draft| &draft.except) {
                self.users.entry(beside(file, &except.calendar)).or_default().insert(name.clone());
            }
        }
        if !now.is_empty() {
            self.files.insert(file.clone(), now.to_vec());
        }
    }

    /// Replaces a calendar.
    pub(super) fn place_calendar(&mut self, file: &Arc<str>, state: FileState) {
        self.touched.extend(self.users.get(file).into_iter().flatten().cloned());
        if matches!(state, FileState::Gone) {
            self.calendars.remove(file);
        } else {
            self.calendars.insert(file.clone(), state);
        }
    }

    /// Applies the changes. Returns the names with a new meaning, or with other diagnostics.
    pub(super) fn apply(&mut self) -> BTreeSet<AppName> {
        let touched = std::mem::take(&mut self.touched);
        for name in &touched {
            let meaning = self.read(name);
            match (self.places.contains_key(name), self.meanings.get(name)) {
                (false, _) => drop(self.meanings.remove(name)),
                // Keep the same value, so that the apps share it.
                (true, Some(before)) if *before == meaning => {}
                (true, _) => drop(self.meanings.insert(name.clone(), meaning)),
            }
        }
        touched
    }

    pub(super) fn meaning(&self, name: &AppName) -> Meaning {
        let missing = || Err(format!("there is no Schedule named {name}").into());
        self.meanings.get(name).cloned().unwrap_or_else(missing)
    }

    /// Each valid Schedule, with its file and its text.
    pub(super) fn sound(&self) -> impl Iterator<Item = (&Arc<str>, &Draft, &Schedule)> {
        self.meanings.iter().filter_map(|(name, meaning)| {
            let (file, document) = self.documents(name).next()?;
            Some((file, &**document.content.as_ref().ok()?, &**meaning.as_ref().ok()?))
        })
    }

    /// The places of a name.
    pub(super) fn places_of(&self, name: &AppName) -> impl Iterator<Item = Place> {
        self.places.get(name).into_iter().flatten().map(|(file, at)| Place { file: file.clone(), line: at.line })
    }

    /// The nearest name of a Schedule.
    pub(super) fn nearest(&self, name: &AppName) -> Option<&str> {
        super::diagnostic::nearest(name.as_str(), self.places.keys().map(AppName::as_str))
    }

    /// Number of Schedules.
    pub(super) fn count(&self) -> usize {
        self.places.len()
    }

    /// Number of calendars that no Schedule names.
    pub(super) fn unused(&self) -> usize {
        let used = self.used();
        self.calendars.keys().filter(|file| !used.contains(*file)).count()
    }

    fn read(&self, name: &AppName) -> Meaning {
        let mut documents = self.documents(name);
        let Some((file, document)) = documents.next() else { return Err("".into()) };
        if documents.next().is_some() {
            return Err(format!("the Schedule {name} is declared more than once").into());
        }
        let draft = document.content.as_ref().map_err(|cause| format!("the Schedule {name} is invalid: {cause}"))?;
        let mut schedule = draft.schedule.clone();
        for except in &draft.except {
            let events = match self.calendar(file, except) {
                Ok(calendar) => calendar.events(&schedule.zone),
                Err(problem) => return Err(format!("the Schedule {name} is invalid: {}", problem.one_line()).into()),
            };
            let DraftExcept { state, calendar, reason, .. } = except;
            schedule.except.push(Exception::new(*state, calendar.clone(), reason.clone(), events));
        }
        schedule.shared = Some(Shared { name: name.as_str().into(), file: file.clone() });
        Ok(schedule.into())
    }

    fn documents(&self, name: &AppName) -> impl Iterator<Item = (&Arc<str>, &ScheduleDocument)> {
        let places = self.places.get(name).into_iter().flatten();
        places.filter_map(|(file, at)| {
            let mut documents = self.files.get(file)?.iter();
            Some((file, documents.find(|document| document.name_at == *at)?))
        })
    }

    fn calendar(&self, file: &Arc<str>, except: &DraftExcept) -> Result<&Calendar, Box<Diagnostic>> {
        let at_schedule = |message: String, hint: &str| Diagnostic {
            line: except.at.line,
            column: except.at.column,
            length: except.at.length,
            ..Diagnostic::about_file(file, message, Some(hint))
        };
        let path = beside(file, &except.calendar);
        let cause = match self.calendars.get(&path) {
            None | Some(FileState::Gone) => {
                let hint = "add the file, or correct the name: it is relative to this file";
                return Err(at_schedule(format!("there is no calendar {}", except.calendar), hint).into());
            }
            Some(FileState::Unreadable(problem)) => problem,
            Some(FileState::Read(parsed)) => match (&parsed.calendar, parsed.diagnostics.first()) {
                (Some(calendar), _) => return Ok(calendar),
                (None, Some(problem)) => problem,
                (None, None) => {
                    return Err(at_schedule(format!("{path} is not a calendar"), "name an .ics file").into());
                }
            },
        };
        let mut problem = at_schedule(format!("the calendar {} cannot be read", except.calendar), "correct it there");
        let place = Place { file: cause.file.clone(), line: cause.line };
        problem.related.push(Related { place, message: cause.message.clone() });
        Err(problem.into())
    }

    /// The present calendars of the Schedules.
    fn used(&self) -> BTreeSet<Arc<str>> {
        let drafts = self.files.iter().flat_map(|(file, documents)| {
            documents.iter().filter_map(move |document| Some((file, document.content.as_ref().ok()?)))
        });
        let used = |(file, draft): (&Arc<str>, &Arc<Draft>)| -> Vec<Arc<str>> {
            draft.except.iter().map(|except| beside(file, &except.calendar)).collect()
        };
        drafts.flat_map(used).collect()
    }

    /// All errors between Schedules, and of their calendars.
    pub(super) fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut all = Vec::new();
        for (name, places) in self.places.iter().filter(|(_, places)| places.len() > 1) {
            for (file, at) in places {
                let others = self.places_of(name).filter(|place| place.file != *file || place.line != at.line);
                let related = others.map(|place| Related { place, message: format!("also named {name}").into() });
                let hint = "give each Schedule a name of its own, or remove all but one";
                let message = format!("the Schedule {name} is declared more than once");
                all.push(Diagnostic {
                    line: at.line,
                    column: at.column,
                    length: at.length,
                    reason: Reason::DuplicateName,
                    related: related.collect(),
                    ..Diagnostic::about_file(file, message, Some(hint))
                });
            }
        }
        for (file, documents) in &self.files {
            let drafts = documents.iter().filter_map(|document| document.content.as_ref().ok());
            let excepts = drafts.flat_map(|draft| &draft.except);
            all.extend(excepts.filter_map(|except| self.calendar(file, except).err().map(|problem| *problem)));
        }
        for file in self.used() {
            match self.calendars.get(&file) {
                Some(FileState::Read(parsed)) => all.extend(parsed.diagnostics.iter().cloned()),
                Some(FileState::Unreadable(problem)) => all.push((**problem).clone()),
                Some(FileState::Gone) | None => {}
            }
        }
        all
    }
}

/// The name of a file that is given relative to another one.
pub(super) fn beside(file: &str, path: &str) -> Arc<str> {
    let directory = file.rfind('/').map_or("", |end| &file[..=end]);
    format!("{directory}{path}").into()
}
