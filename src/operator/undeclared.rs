//! The apps of the account that no manifest declares.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::fleet::Fleet;
use crate::platform::Seen;
use crate::reconcile::app::AppId;
use crate::reconcile::redacted::Redacted;
use crate::status::{Undeclared, UndeclaredApp};

/// Apps that are published with their names.
const PUBLISHED: usize = 100;

/// Names of the apps that the list shows and that no manifest declares.
#[derive(Debug, Default)]
pub struct Names {
    apps: HashMap<AppId, Option<Redacted>>,
    /// Whether the published form is out of date.
    is_changed: bool,
    shown: Option<Arc<Undeclared>>,
}

impl Names {
    /// Takes an app of the list.
    pub fn take(&mut self, seen: &Seen, is_declared: bool) {
        if is_declared {
            self.is_changed |= self.apps.remove(&seen.id).is_some();
        } else if self.apps.get(&seen.id) != Some(&seen.name) {
            self.apps.insert(seen.id.clone(), seen.name.clone());
            self.is_changed = true;
        }
    }

    /// Takes the ids of a complete list.
    pub fn take_complete_list(&mut self, ids: &BTreeSet<AppId>) {
        self.apps.retain(|id, _| ids.contains(id));
        self.is_changed = true;
    }

    /// Marks the names as changed after an edit.
    pub fn manifests_changed(&mut self) {
        self.is_changed = true;
    }

    /// The published form; `None` before the first complete list.
    pub fn published(&mut self, fleet: &Fleet) -> Option<Arc<Undeclared>> {
        if std::mem::take(&mut self.is_changed) {
            let mut apps: Vec<(&AppId, &Option<Redacted>)> =
                self.apps.iter().filter(|(id, _)| fleet.app(id).is_none_or(|known| known.owner.is_none())).collect();
            apps.sort_unstable();
            let app = |(id, name): &(&AppId, &Option<Redacted>)| UndeclaredApp {
                app_id: id.as_str().into(),
                name: name.as_ref().map(Redacted::shared),
            };
            let shown = apps.iter().take(PUBLISHED).map(app).collect();
            self.shown = Some(Arc::new(Undeclared { count: apps.len(), apps: shown }));
        }
        self.shown.clone()
    }
}
