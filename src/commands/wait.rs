//! `wait`: waits until a condition holds for every chosen app. Text and exit code come from the same list.

use std::collections::BTreeMap;

use super::client::{App, Daemon, Follow, NOT_LOADED};
use super::get::missing_names;
use super::text::{escape, print, print_note};
use super::{Exit, runtime};
use crate::cli::{Awaited, WaitArgs};

pub(super) fn wait(args: &WaitArgs) -> anyhow::Result<Exit> {
    let daemon = Daemon::new(&args.server.server)?;
    runtime()?.block_on(async {
        let mut follow = Follow::start(daemon).await?;
        let mut reported = false;
        let holds = async {
            // A daemon that has just started lists no apps, then some. Names and `--all` mean something only after it has
            // read its manifests.
            while !follow.complete().await? {
                follow.next().await;
            }
            missing_names(missing(&follow.apps, &args.names), &follow.apps)?;
            while !awaiting(&follow.apps, &args.names, args.awaited).is_empty() {
                follow.next().await;
                if let Some(why) = follow.lost.as_ref().filter(|_| !reported) {
                    reported = true;
                    print_note(&format!("lost the connection to the daemon: {}; retrying", escape(why)));
                }
                if awaiting(&follow.apps, &args.names, args.awaited).is_empty() {
                    // The daemon may have restarted meanwhile, and list only some of its apps.
                    while !follow.complete().await.unwrap_or(false) {
                        follow.next().await;
                    }
                }
            }
            anyhow::Ok(())
        };
        if let Ok(ended) = tokio::time::timeout(args.timeout, holds).await {
            ended?;
            let names: Vec<&str> = chosen(&follow.apps, &args.names);
            print(&names.iter().fold(String::new(), |text, name| text + &escape(name) + " condition met\n"))?;
            return Ok(Exit::Done);
        }
        let mut late = awaiting(&follow.apps, &args.names, args.awaited);
        if late.is_empty() {
            late.push(NOT_LOADED.into());
        }
        if let Some(why) = &follow.lost {
            print_note(&format!("the daemon does not answer ({}); its last answers:", escape(why)));
        }
        let Awaited { condition, status } = args.awaited;
        let after = args.timeout;
        print_note(&format!("error: after {after:?} condition {condition}={status} does not hold for:{}", list(&late)));
        Ok(Exit::Failed)
    })
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

/// The apps for which the condition does not hold yet, one line each. No condition holds for an empty fleet, since a
/// daemon that has just started lists no apps.
fn awaiting(apps: &BTreeMap<String, App>, names: &[String], awaited: Awaited) -> Vec<String> {
    let chosen = chosen(apps, names);
    if chosen.is_empty() {
        return vec!["no manifest declares an app".into()];
    }
    let missing = |name: &str| {
        let Some(app) = apps.get(name) else {
            return Some(format!("{name}: no manifest declares it"));
        };
        let truth = app.truth(awaited.condition);
        // A condition of an older generation says nothing about the newest text of the manifest.
        let current = app.metadata.generation == app.status.observed_generation;
        if truth == awaited.status && current {
            return None;
        }
        let (reason, message) = app.condition(awaited.condition).map_or(("-", "-"), |it| (&*it.reason, &*it.message));
        Some(format!("{name}: {}={truth} {reason}: {message}", awaited.condition))
    };
    chosen.into_iter().filter_map(missing).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::commands::text::tests::{assert_page, of_others};
    use crate::printable::tests::hostile;

    const READY: Awaited = Awaited { condition: "Ready", status: "True" };

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
                list(&awaiting(&apps, &["a".into(), text.into()], READY))
            };
            assert_page(&page(&text), &page("x"));
        }
    }

    #[test]
    fn late_apps() {
        let fleet = fleet(&[("done", "True", 2), ("late", "False", 2), ("old", "True", 1)]);
        let all = awaiting(&fleet, &[], READY);
        assert_eq!(all.len(), 2, "{all:?}");
        assert_eq!(all[0], "late: Ready=False Stopping: wait for it");
        assert_eq!(awaiting(&fleet, &["done".into()], READY), [""; 0]);
        assert_eq!(awaiting(&fleet, &["gone".into()], READY), ["gone: no manifest declares it"]);
        assert_eq!(awaiting(&fleet, &["late".into()], Awaited { condition: "Ready", status: "False" }), [""; 0]);
        assert_eq!(awaiting(&BTreeMap::new(), &[], READY), ["no manifest declares an app"]);
    }
}
