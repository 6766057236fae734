//! `wait`: waits until a condition holds for every chosen app. Text and exit code come from the same list.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::bar::Bar;
use super::client::{App, Daemon, Follow, NOT_LOADED};
use super::get::missing_names;
use super::text::{escape, print, print_note};
use super::{Exit, runtime};
use crate::cli::{Awaited, WaitArgs};

pub(super) fn wait(args: &WaitArgs) -> anyhow::Result<Exit> {
    let daemon = Daemon::new(&args.server.server)?;
    runtime()?.block_on(async {
        let mut waiting = Waiting { args, met: BTreeSet::new(), follow: None };
        if let Ok(ended) = tokio::time::timeout(args.timeout, waiting.until_met(daemon)).await {
            return ended;
        }
        let Some(follow) = &waiting.follow else {
            print_note(&format!(
                "error: no answer from the daemon within {:?} at {}",
                args.timeout,
                escape(&args.server.server)
            ));
            return Ok(Exit::Failed);
        };
        let mut late = waiting.late(&follow.apps);
        if late.is_empty() {
            late.push(NOT_LOADED.into());
        }
        if let Some(why) = &follow.lost {
            print_note(&format!("the daemon does not answer ({}); last known state:", escape(why)));
        }
        let what = match args.awaited {
            Awaited::Condition { condition, status } => {
                format!("these apps do not meet condition={condition}={status}:")
            }
            Awaited::Create => "no manifest declares:".to_owned(),
            Awaited::Delete => "a manifest still declares:".to_owned(),
        };
        print_note(&format!("error: after {:?} {what}{}", args.timeout, list(&late)));
        // The time ended, but not for a daemon that does not answer.
        if let Ok(Ok(Some(note))) = tokio::time::timeout(Duration::from_secs(1), follow.standby()).await {
            print_note(&note);
        }
        Ok(Exit::Failed)
    })
}

struct Waiting<'a> {
    args: &'a WaitArgs,
    /// Apps that met the condition and are printed.
    met: BTreeSet<String>,
    /// Absent until a daemon answers.
    follow: Option<Follow>,
}

impl Waiting<'_> {
    async fn until_met(&mut self, daemon: Daemon) -> anyhow::Result<Exit> {
        let report = |why: &str| print_note(&format!("waiting for the daemon: {}", escape(why)));
        let Self { args, met, follow } = self;
        let follow = follow.insert(Follow::wait_for(daemon, report).await?);
        let mut reported = false;
        let bar = Bar::new();
        // A daemon that has just started lists no apps, then some. Names and `--all` mean something only after it has
        // read its manifests.
        while !follow.complete().await.unwrap_or(false) {
            follow.next().await;
        }
        if matches!(args.awaited, Awaited::Condition { .. }) {
            missing_names(missing(&follow.apps, &args.names), &follow.apps)?;
        }
        loop {
            let apps = &follow.apps;
            for name in chosen(apps, &args.names) {
                if !met.contains(name) && lack(apps, name, args.awaited).is_none() {
                    bar.beside(|| print(&format!("{} {}\n", escape(name), done(args.awaited))))?;
                    met.insert(name.to_owned());
                }
            }
            let late = unmet(apps, args, met);
            bar.set("waiting for apps", met.len(), Some(met.len() + late.len()));
            let suspended = late.iter().filter(|name| is_suspended(apps, name)).count();
            if let (Some(name), Awaited::Condition { condition: "Ready", status: "True" }) =
                (late.iter().find(|name| !args.all && is_suspended(apps, name)), args.awaited)
            {
                let why = lack(apps, name, args.awaited).unwrap_or_default();
                print_note(&format!(
                    "error: {} is suspended, so it does not become ready:\n  {}",
                    escape(name),
                    escape(&why)
                ));
                return Ok(Exit::Failed);
            }
            let all_known = !apps.is_empty() || !args.all || args.awaited == Awaited::Delete;
            if late.len() == if args.all { suspended } else { 0 } && all_known {
                // The daemon may have restarted, and list only some of its apps.
                if args.names.is_empty() && !follow.complete().await.unwrap_or(false) {
                    follow.next().await;
                    continue;
                }
                let s = if suspended == 1 { "" } else { "s" };
                if suspended > 0 {
                    print(&format!("skipped {suspended} suspended app{s}\n"))?;
                }
                return Ok(Exit::Done);
            }
            follow.next().await;
            if let Some(why) = follow.lost.as_ref().filter(|_| !reported) {
                reported = true;
                print_note(&format!("lost the connection to the daemon: {}; retrying", escape(why)));
            }
        }
    }

    /// The apps that are late, one line each.
    fn late(&self, apps: &BTreeMap<String, App>) -> Vec<String> {
        if apps.is_empty() && self.args.names.is_empty() {
            return vec!["no manifest declares an app".into()];
        }
        let late = unmet(apps, self.args, &self.met).into_iter();
        let late = late.filter(|name| !(self.args.all && is_suspended(apps, name)));
        late.filter_map(|name| lack(apps, &name, self.args.awaited)).collect()
    }
}

fn done(awaited: Awaited) -> &'static str {
    match awaited {
        Awaited::Condition { .. } => "condition met",
        Awaited::Create => "created",
        Awaited::Delete => "deleted",
    }
}

/// The chosen apps that have not met the condition yet.
fn unmet(apps: &BTreeMap<String, App>, args: &WaitArgs, met: &BTreeSet<String>) -> Vec<String> {
    chosen(apps, &args.names).into_iter().filter(|name| !met.contains(*name)).map(str::to_owned).collect()
}

fn is_suspended(apps: &BTreeMap<String, App>, name: &str) -> bool {
    apps.get(name).is_some_and(|app| app.status.desired_because.as_deref() == Some("suspend"))
}

fn list(late: &[String]) -> String {
    late.iter().fold(String::new(), |list, app| list + "\n  " + &escape(app))
}

fn missing<'a>(apps: &BTreeMap<String, App>, names: &'a [String]) -> Vec<&'a str> {
    names.iter().map(String::as_str).filter(|name| !apps.contains_key(*name)).collect()
}

/// The named apps, or all.
fn chosen<'a>(apps: &'a BTreeMap<String, App>, names: &'a [String]) -> Vec<&'a str> {
    if names.is_empty() {
        apps.keys().map(String::as_str).collect()
    } else {
        names.iter().map(String::as_str).collect()
    }
}

/// The difference between an app and the condition, on one line; `None` if it meets the condition.
fn lack(apps: &BTreeMap<String, App>, name: &str, awaited: Awaited) -> Option<String> {
    let (condition, status) = match (awaited, apps.get(name)) {
        (Awaited::Create, Some(_)) | (Awaited::Delete, None) => return None,
        (Awaited::Create | Awaited::Condition { .. }, None) => return Some(format!("{name}: no manifest declares it")),
        (Awaited::Delete, Some(app)) => return Some(format!("{name}: {}", app.status.source.file)),
        (Awaited::Condition { condition, status }, Some(_)) => (condition, status),
    };
    let app = apps.get(name)?;
    let truth = app.truth(condition);
    // A condition of an older generation does not concern the newest text of the manifest.
    let current = app.metadata.generation == app.status.observed_generation;
    if truth == status && current {
        return None;
    }
    let (reason, message) = app.condition(condition).map_or(("-", "-"), |it| (&*it.reason, &*it.message));
    Some(format!("{name}: {condition}={truth} {reason}: {message}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::commands::text::tests::{assert_page, of_others};
    use crate::printable::tests::hostile;

    const READY: Awaited = Awaited::Condition { condition: "Ready", status: "True" };

    fn fleet(apps: &[(&str, &str, u64)]) -> BTreeMap<String, App> {
        let app = |&(name, ready, observed): &(&str, &str, u64)| -> (String, App) {
            let condition = json!({"type": "Ready", "status": ready, "reason": "Stopping", "message": "wait for it"});
            let status = json!({"conditions": [condition], "observedGeneration": observed});
            let app = json!({"metadata": {"name": name, "generation": 2}, "status": status});
            (name.to_owned(), app.try_into().unwrap())
        };
        apps.iter().map(app).collect()
    }

    proptest::proptest! {
        #[test]
        fn late_apps_are_listed_harmlessly(text in hostile()) {
            let page = |text: &str| {
                let apps = BTreeMap::from([("a".to_owned(), of_others(text))]);
                list(&["a", text].map(|name| lack(&apps, name, READY).unwrap()))
            };
            assert_page(&page(&text), &page("x"));
        }
    }

    #[test]
    fn late_apps() {
        let fleet = fleet(&[("done", "True", 2), ("late", "False", 2), ("old", "True", 1)]);
        let lack = |name: &str, awaited: Awaited| lack(&fleet, name, awaited);
        assert_eq!(lack("late", READY).as_deref(), Some("late: Ready=False Stopping: wait for it"));
        assert_eq!(lack("done", READY), None);
        assert!(lack("old", READY).is_some(), "its condition is about an older text");
        assert_eq!(lack("gone", READY).as_deref(), Some("gone: no manifest declares it"));
        assert_eq!(lack("late", Awaited::Condition { condition: "Ready", status: "False" }), None);
        assert_eq!(lack("late", Awaited::Create), None);
        assert!(lack("gone", Awaited::Create).is_some() && lack("gone", Awaited::Delete).is_none());
        assert!(lack("late", Awaited::Delete).is_some());
    }
}
