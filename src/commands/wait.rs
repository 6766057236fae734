//! `wait`: until a condition holds for every app that was named. Text and exit code come from the same list of laggards.

use std::collections::BTreeMap;

use super::client::{App, Daemon, Follow, NOT_LOADED};
use super::get::missing_names;
use super::text::{escape, print, tell};
use super::{Exit, runtime};
use crate::cli::{Awaited, WaitArgs};

pub(super) fn wait(args: &WaitArgs) -> anyhow::Result<Exit> {
    let daemon = Daemon::new(&args.server.server)?;
    runtime()?.block_on(async {
        let mut follow = Follow::start(daemon).await?;
        let mut told = false;
        let holds = async {
            // A daemon that has just been started knows of no app yet, then of some: a name is wrong, and all are all, only
            // once it has read its manifests.
            while !follow.whole().await? {
                follow.next().await;
            }
            missing_names(missing(&follow.apps, &args.names), &follow.apps)?;
            while !awaiting(&follow.apps, &args.names, args.awaited).is_empty() {
                follow.next().await;
                if let Some(why) = follow.lost.as_ref().filter(|_| !told) {
                    told = true;
                    tell(&format!("lost the daemon, trying again: {}", escape(why)));
                }
                if awaiting(&follow.apps, &args.names, args.awaited).is_empty() {
                    // It may have been started anew meanwhile, and these be some of its apps again.
                    while !follow.whole().await.unwrap_or(false) {
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
        let mut laggards = awaiting(&follow.apps, &args.names, args.awaited);
        if laggards.is_empty() {
            laggards.push(NOT_LOADED.into());
        }
        if let Some(why) = &follow.lost {
            tell(&format!("the daemon does not answer, what follows is the last that it said: {}", escape(why)));
        }
        let Awaited { condition, status } = args.awaited;
        let after = args.timeout;
        tell(&format!("error: after {after:?} condition {condition}={status} does not hold for:{}", list(&laggards)));
        Ok(Exit::Failed)
    })
}

/// Each on a line of its own.
fn list(laggards: &[String]) -> String {
    laggards.iter().fold(String::new(), |list, laggard| list + "\n  " + &escape(laggard))
}

fn missing<'a>(apps: &BTreeMap<String, App>, names: &'a [String]) -> Vec<&'a str> {
    names.iter().map(String::as_str).filter(|name| !apps.contains_key(*name)).collect()
}

/// The apps that it is about: those named, or all.
fn chosen<'a>(apps: &'a BTreeMap<String, App>, names: &'a [String]) -> Vec<&'a str> {
    if names.is_empty() {
        apps.keys().map(String::as_str).collect()
    } else {
        names.iter().map(String::as_str).collect()
    }
}

/// What is still missing, one line for each app. Of an empty fleet nothing holds: a daemon that has just been started
/// knows of no app yet, and that is not what anybody waits for.
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
        // What is known of an older text of the manifest says nothing about the newest.
        let current = app.0.pointer("/metadata/generation") == app.0.pointer("/status/observedGeneration");
        if truth == awaited.status && current {
            return None;
        }
        let said = |field| app.condition(awaited.condition).and_then(|known| known[field].as_str()).unwrap_or("-");
        Some(format!("{name}: {}={truth} {}: {}", awaited.condition, said("reason"), said("message")))
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
        let app = |&(name, ready, observed): &(&str, &str, u64)| {
            let condition = json!({"type": "Ready", "status": ready, "reason": "Stopping", "message": "wait for it"});
            let status = json!({"conditions": [condition], "observedGeneration": observed});
            (name.to_owned(), App(json!({"metadata": {"name": name, "generation": 2}, "status": status})))
        };
        apps.iter().map(app).collect()
    }

    proptest::proptest! {
        #[test]
        fn who_is_missing_is_named_harmlessly(text in hostile()) {
            let told = |text: &str| {
                let apps = BTreeMap::from([("a".to_owned(), of_others(text))]);
                list(&awaiting(&apps, &["a".into(), text.into()], READY))
            };
            assert_page(&told(&text), &told("x"));
        }
    }

    #[test]
    fn who_is_missing() {
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
