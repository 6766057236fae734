//! The page, `get -w` and the API agree at each stop of a scripted run, where nothing changes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use campos_operator::simulator::faults::{Endpoint, Fault, Faults};
use campos_operator::simulator::port::lock;
use campos_operator::simulator::world::Config;
use serde_json::Value;

use super::browser::{Browser, Scheme};
use super::harness::{A, B, Daemon, Manifests, Simulator, Watch, http, manifest};
use super::{DEADLINE, LIVE};

const C: &str = "60c72b2f9b1e8d001c8e4f3c";
const UNKNOWN: &str = "640000000000000000000001";

/// name -> desired, observed, reason.
type Fleet = BTreeMap<String, String>;

const SHOWN: &str = "Object.fromEntries([...document.querySelectorAll('.rows [role=row]')].map((row) => [row.dataset.name,
    ['.desired :last-child', '.observed :last-child', '.reason .badge :last-child'].map((part) => row.querySelector(part).textContent).join(' ')]))";

fn shown(app: &Value) -> (String, String) {
    let text = |pointer| app.pointer(pointer).and_then(Value::as_str).unwrap_or("–").to_owned();
    let conditions = app.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.and_then(|all| all.iter().find(|one| one["type"] == "Ready"));
    let reason = ready.and_then(|ready| ready["reason"].as_str()).unwrap_or("Unknown");
    (text("/metadata/name"), format!("{} {} {reason}", text("/status/desired"), text("/status/observed")))
}

struct Readers<'a> {
    daemon: SocketAddr,
    page: &'a Browser,
    watch: Watch,
    /// The apps that `get -w` has printed so far.
    watched: Fleet,
}

impl Readers<'_> {
    fn api(&self) -> Fleet {
        let list: Value = serde_json::from_str(&http(self.daemon, "GET", "/api/v1/apps").1).unwrap();
        list["items"].as_array().unwrap().iter().map(shown).collect()
    }

    async fn page(&self) -> Fleet {
        serde_json::from_value(self.page.ask(SHOWN).await).unwrap()
    }

    fn watch(&mut self) -> Fleet {
        for line in self.watch.lines.try_iter() {
            let app: Value = serde_json::from_str(&line).unwrap();
            let (name, state) = shown(&app);
            if app["removed"] == true {
                self.watched.remove(&name);
            } else {
                self.watched.insert(name, state);
            }
        }
        self.watched.clone()
    }

    /// Waits until the API says `wanted`, then until all three agree on the whole fleet.
    async fn agree(&mut self, name: &str, wanted: &str) {
        let step = Duration::from_millis(20);
        for _ in 0..DEADLINE.as_millis() / step.as_millis() {
            let api = self.api();
            let there = api.get(name).map_or("", |state| state) == wanted;
            if there && self.page().await == api && self.watch() == api {
                return;
            }
            tokio::time::sleep(step).await;
        }
        let (api, page, watch) = (self.api(), self.page().await, self.watch());
        panic!("no agreement on {name}: {wanted}\napi   {api:?}\npage  {page:?}\nwatch {watch:?}");
    }
}

#[tokio::test]
#[ignore = "needs chromium, chromedriver and axe-core: .ci/run installs and runs it"]
async fn the_page_and_the_terminal_agree_with_the_api_at_each_stop() {
    let simulator = Simulator::start(Config::default(), &[A, B, C]);
    let manifests = Manifests::new(&[("one", A, "Running"), ("two", B, "Running"), ("three", C, "Stopped")]);
    let daemon = Daemon::start(&simulator, &manifests, &["--interval", "1s", "--api-budget", "unlimited"]);
    let address = daemon.address();
    let page = Browser::start().await;
    page.look(1280, 900, Scheme::Light).await;
    page.open(&format!("http://{address}")).await;
    page.until(LIVE).await;
    let watch = Watch::start(&format!("http://{address}"), &["-o", "json"]);
    // A line for each app to begin with, then one for each change.
    let mut readers = Readers { daemon: address, page: &page, watched: Fleet::new(), watch };
    readers.agree("three", "Stopped Stopped Settled").await;

    let faults = |on, fault| lock(&simulator.world).set_faults(Faults::always(on, fault));
    // A call that hangs: all three show that it is being stopped.
    faults(Endpoint::Stop, Fault { hang: true, ..Fault::default() });
    manifests.set("one", A, "Stopped");
    readers.agree("one", "Stopped Running Stopping").await;
    // A call that fails: all three show the retry.
    faults(Endpoint::Start, Fault { status: Some(500), ..Fault::default() });
    manifests.set("three", C, "Running");
    readers.agree("three", "Running Stopped BackingOff").await;
    // Changed back during the wait, and the server works again.
    lock(&simulator.world).set_faults(Faults::default());
    manifests.set("three", C, "Stopped");
    readers.agree("three", "Stopped Stopped Settled").await;
    // An app that the platform does not have, a suspension, a file that breaks, one that is gone.
    manifests.put("four", &manifest("four", UNKNOWN, "Running"));
    readers.agree("four", "Running Missing AppNotFound").await;
    manifests.put("two", &(manifest("two", B, "Stopped") + "  suspend: true\n"));
    readers.agree("two", "Stopped Running Suspended").await;
    manifests.put("three", "kind: App\n");
    readers.agree("three", "Stopped Stopped InvalidManifest").await;
    std::fs::remove_file(manifests.file("four")).unwrap();
    readers.agree("four", "").await;
    // Another client starts it, and it is stopped again; then the whole directory is empty.
    manifests.set("three", C, "Stopped");
    lock(&simulator.world).set_online(&C.parse().unwrap(), true, simulator.clock.wall());
    readers.agree("three", "Stopped Stopped Settled").await;
    page.no_errors().await;
    page.end().await;
}
