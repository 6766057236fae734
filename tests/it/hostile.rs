//! Hostile names, labels and messages: every command escapes them for terminals, logs and forges.

use std::fs;
use std::process::Output;

use campos_operator::printable::acts;
use campos_operator::simulator::port::lock;
use campos_operator::simulator::world::Config;
use jiff::Timestamp;

use crate::harness::{A, B, Daemon, Manifests, Simulator, binary, manifest};

/// A command for GitHub on a line of its own, a colour, a right-to-left override, a separator, a C1, a tag.
const HOSTILE: &str = "x\n::error file=..::pwn\r\n##[error]y\u{1b}[31m\u{202e}\u{200b}\u{2028}\u{9b}2J\u{7f}\u{e0041}";

/// A text as YAML between quotes.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| format!("\\U{:08x}", u32::from(c)));
    format!("\"{}\"", escaped.collect::<String>())
}

#[track_caller]
fn assert_harmless(shown: &str) {
    for line in shown.split('\n') {
        assert!(!line.contains(acts), "{line:?} of {shown}");
        let commands = line.trim_start().starts_with("::error") || line.contains("##[");
        assert!(!commands, "{line:?} of {shown}");
    }
}

#[track_caller]
fn harmless(output: &Output) -> String {
    let shown = [&*output.stdout, &*output.stderr].map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).concat();
    assert_harmless(&shown);
    shown
}

fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().unwrap()
}

#[test]
fn a_file_name_is_not_a_command_for_a_forge() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests = Manifests::new(&[("good", B, "Stopped")]);
    let hostile = HOSTILE.replace('/', "");
    for name in [format!("{hostile}.yaml"), "other.yaml".into()] {
        fs::write(manifests.path().join(name), manifest("twin", A, "Stopped")).unwrap();
    }
    fs::write(manifests.path().join(format!("{hostile}-odd.yaml")), format!("kind: {}\n", quoted(HOSTILE))).unwrap();
    let directory = manifests.path().to_str().unwrap();
    let url = simulator.url();
    let text = harmless(&run(&["validate", directory]));
    assert!(text.contains("x\\n::error file=..::pwn") && text.contains("\\u{202e}"), "{text}");
    harmless(&run(&["validate", "-o", "json", directory]));
    let github = String::from_utf8(run(&["validate", "-o", "github", directory]).stdout).unwrap();
    for line in github.lines() {
        assert!(!line.contains(acts), "{line:?}");
        assert!(!line.starts_with("::") || line.starts_with("::error file=/"), "{line:?}");
    }
    for format in ["text", "json", "markdown"] {
        harmless(&run(&["plan", "-o", format, "--api-url", &url, "--manifests", directory]));
    }
    let once = ["run", "--once", "--timeout", "5s", "--listen", "off", "--api-url", &url, "--manifests", directory];
    for format in ["text", "json"] {
        let log = harmless(&run(&[&once[..], &["--log-format", format]].concat()));
        assert!(log.contains("DuplicateName"), "{log}");
    }
}

#[test]
fn an_error_is_one_line() {
    for arguments in [
        &[HOSTILE][..],
        &["get", "--server", HOSTILE],
        &["health", "--server", HOSTILE],
        &["explain", "-f", HOSTILE],
        &["explain", "-f", "Cargo.toml", "--at", HOSTILE],
        &["validate", HOSTILE],
        &["validate", "-o", HOSTILE],
        &["plan", "--manifests", HOSTILE],
        &["run", "--listen", "off", "--manifests", HOSTILE],
        &["run", "--interval", HOSTILE],
        &["run", "--log-level", HOSTILE],
        &["plan", "--api-url", HOSTILE],
        &["plan", "--token-file", HOSTILE],
        &["simulate", "--faults", HOSTILE],
        &["simulate", "--from", HOSTILE],
        &["import", "--out", "/proc/x\n::error::y"],
        &["wait", &format!("--for={HOSTILE}"), "a"],
    ] {
        let output = run(arguments);
        let shown = harmless(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {shown}");
        assert!(!shown.is_empty(), "{arguments:?}");
    }
}

#[test]
fn output_of_a_daemon_is_harmless() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests = Manifests::new(&[("down", A, "Stopped")]);
    let hostile = quoted(HOSTILE);
    let labels = format!("metadata:\n  labels: {{a: {hostile}}}\n  annotations: {{{hostile}: {hostile}}}");
    let held = format!("  suspend: {{reason: {hostile}}}\n");
    let text = manifest("held", B, "Stopped").replace("metadata:", &labels) + &held;
    fs::write(manifests.path().join(format!("{HOSTILE}.yaml").replace('/', "")), text).unwrap();
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    daemon.wait_for("app stopped");
    let url = format!("http://{}", daemon.address());
    for verb in [
        &["get", "-o", "wide"][..],
        &["get", "-o", "name"],
        &["get", "-o", "yaml"],
        &["get", "-o", "json"],
        &["get", HOSTILE],
        &["describe", "held"],
        &["describe", HOSTILE],
        &["history"],
        &["history", "-o", "json"],
        &["explain", "held"],
        &["wait", "--all", "--timeout", "200ms"],
        &["wait", HOSTILE, "--timeout", "200ms"],
    ] {
        let output = run(&[verb, &["--server", &url]].concat());
        let shown = harmless(&output);
        assert!(!shown.is_empty(), "{verb:?}");
    }
    // A reader of the format undoes every escape.
    let reason = |output: Output| -> String {
        let value: serde_json::Value = serde_yaml::from_slice(&output.stdout).unwrap();
        value["spec"]["suspend"]["reason"].as_str().unwrap().into()
    };
    assert_eq!(reason(run(&["get", "held", "-o", "yaml", "--server", &url])), HOSTILE);
    assert_harmless(&daemon.log());
}

#[test]
fn names_of_imported_apps_are_shown_harmlessly() {
    let simulator = Simulator::start(Config::default(), &[]);
    let now: Timestamp = simulator.clock.wall();
    lock(&simulator.world).add(A.parse().unwrap(), HOSTILE, now);
    let out = tempfile::tempdir().unwrap();
    let url = simulator.url();
    harmless(&run(&["import", "--out", out.path().to_str().unwrap(), "--api-url", &url]));
    for file in fs::read_dir(out.path()).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        assert_harmless(&text);
    }
}
