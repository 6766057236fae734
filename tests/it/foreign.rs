//! Files of other tools among the manifests, ignore files, and manifests in forms that other tools write.

use std::fs;

use campos_operator::simulator::faults::Endpoint;
use campos_operator::simulator::world::Config;

use crate::harness::{A, B, Daemon, Manifests, Simulator, manifest, output, wait_until};

#[track_caller]
fn validated(text: &str, code: i32) -> serde_json::Value {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    fs::write(&file, text).unwrap();
    let output = output(&["validate", file.to_str().unwrap(), "-o", "json"]);
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn fields_of_kubectl_are_accepted() {
    let metadata = "metadata:\n  name: app\n  creationTimestamp: null\n  uid: x\n  resourceVersion: \"1\"\n  \
                    managedFields:\n  - manager: kubectl\n  namespace: bots\n";
    let app = manifest("app", A, "Stopped").replace("metadata:\n  name: app\n", metadata);
    assert_eq!(validated(&app, 0)["apps"], 1);
    let item = app.trim_end().replace('\n', "\n  ");
    let list = format!("apiVersion: v1\nkind: List\nmetadata: {{resourceVersion: \"\"}}\nitems:\n- {item}\n");
    assert_eq!(validated(&list, 0)["apps"], 1);
    let others = list + "- apiVersion: v1\n  kind: ConfigMap\n";
    let report = validated(&others, 0);
    assert_eq!((&report["apps"], &report["warnings"]), (&1.into(), &1.into()));
    assert_eq!(validated(&manifest("app", A, "Stopped").replace("state: ", "state:\t"), 0)["apps"], 1);
    assert_eq!(validated(&format!("%TAG ! tag:a.test,2000:\n---\n{}", manifest("app", A, "Stopped")), 0)["apps"], 1);
    for until in ["2099-12-24 06:00:00Z", "2099-12-24t06:00:00z"] {
        let text = manifest("app", A, "Stopped") + &format!("  suspend: {{until: \"{until}\"}}\n");
        assert_eq!(validated(&text, 0)["apps"], 1, "{until}");
    }
}

#[test]
fn a_pipe_is_read_once() {
    let text = manifest("app", A, "Stopped");
    let piped = |command: &str| {
        let script = format!("printf '%s' \"$TEXT\" | {} {command}", env!("CARGO_BIN_EXE_campos-operator"));
        let mut shell = std::process::Command::new("bash");
        shell.args(["-c", &script]).env("TEXT", &text).output().unwrap()
    };
    for command in ["validate /dev/stdin", "validate -", "explain -f /dev/stdin", "explain -f -"] {
        let output = piped(command);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let broken = std::process::Command::new("bash")
        .args(["-c", &format!("echo 'kind: Appp' | {} validate -", env!("CARGO_BIN_EXE_campos-operator"))])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&broken.stdout).contains("<stdin>:1:"), "{broken:?}");
}

#[test]
fn an_empty_input_is_invalid() {
    let empty = tempfile::tempdir().unwrap();
    let path = empty.path().to_str().unwrap();
    let validate = output(&["validate", path]);
    assert_eq!(validate.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&validate.stdout).contains("no manifests found"), "{validate:?}");
    fs::write(empty.path().join("compose.yaml"), "services: {}\n").unwrap();
    assert_eq!(output(&["validate", path]).status.code(), Some(1), "a foreign document does not count");
    fs::remove_file(empty.path().join("compose.yaml")).unwrap();

    let simulator = Simulator::start(Config::default(), &[A]);
    let plan = output(&["plan", "--api-url", &simulator.url(), "--manifests", path]);
    assert_eq!(plan.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&plan.stderr).contains("warning: no manifests in"), "{plan:?}");
    let manifests = Manifests::new(&[]);
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    daemon.wait_for("no manifests found");
    let ready = || crate::harness::http(daemon.address(), "GET", "/readyz").0;
    wait_until("it is ready", || ready() == 200, || daemon.log());
}

/// Only events show the changes of the ignore file.
const SELDOM: [&str; 2] = ["--scan-interval", "1h"];

#[test]
fn an_ignore_file_releases_what_it_hides_and_says_how_many() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests = Manifests::new(&[("one", A, "Running"), ("two", B, "Running")]);
    let daemon = Daemon::start(&simulator, &manifests, &SELDOM);
    daemon.wait_for("apps are as declared");
    fs::write(manifests.path().join(".camposignore"), "two.yaml\n").unwrap();
    daemon.wait_for(".camposignore hides manifests in force; the operator releases their apps, unless it hides all manifests of a directory objects=1");
    daemon.wait_for("app released");
    manifests.set("two", B, "Stopped");
    fs::write(manifests.path().join(".camposignore"), "two.yml\ntwo.*\n").unwrap();
    manifests.set("one", A, "Stopped");
    daemon.wait_for("stop accepted app=\"one\"");
    assert_eq!(simulator.count(Endpoint::Stop), 1, "an ignored manifest is not read");
    // Renamed into its place, as an editor or git does it.
    fs::write(manifests.path().join("new"), "").unwrap();
    fs::rename(manifests.path().join("new"), manifests.path().join(".camposignore")).unwrap();
    daemon.wait_for("stop accepted app=\"two\"");
}

#[test]
fn an_ignore_file_that_hides_everything_is_held() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests = Manifests::new(&[("one", A, "Running"), ("two", B, "Running")]);
    let daemon = Daemon::start(&simulator, &manifests, &SELDOM);
    daemon.wait_for("apps are as declared");
    fs::write(manifests.path().join(".camposignore"), "*.yaml\n").unwrap();
    daemon.wait_for("SourceUnavailable");
    assert!(!daemon.log().contains("app released"), "{}", daemon.log());
}

/// A manifest that an ignore file hides stays hidden while the file is unreadable.
#[test]
fn an_ignore_file_that_cannot_be_read_shows_nothing() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests = Manifests::new(&[("one", A, "Running"), ("two", B, "Stopped")]);
    let ignore = manifests.path().join(".camposignore");
    fs::write(&ignore, "two.yaml\n").unwrap();
    let daemon = Daemon::start(&simulator, &manifests, &SELDOM);
    daemon.wait_for("apps are as declared");
    fs::remove_file(&ignore).unwrap();
    std::os::unix::fs::symlink("/nowhere", &ignore).unwrap();
    daemon.wait_for("SourceUnavailable");
    assert_eq!(simulator.count(Endpoint::Stop), 0, "{}", daemon.log());
}

#[test]
fn files_of_other_tools_need_no_person() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("one", A, "Stopped")]);
    fs::write(manifests.path().join("kustomization.yaml"), "resources: [one.yaml]\n").unwrap();
    fs::write(manifests.path().join("Chart.yaml"), "apiVersion: v2\nname: chart\nversion: 0.1.0\n").unwrap();
    let directory = manifests.path().to_str().unwrap();
    let once = output(&["run", "--once", "--listen", "off", "--api-url", &simulator.url(), "--manifests", directory]);
    let log = String::from_utf8_lossy(&once.stderr).into_owned();
    assert_eq!(once.status.code(), Some(0), "{log}");
    assert_eq!(log.matches("not an App manifest").count(), 2, "{log}");
}
