//! The log: levels and fields of its lines, and the places where a token may be set.

use campos_operator::simulator::faults::{Endpoint, Fault, Faults, Rule};
use campos_operator::simulator::world::Config;

use crate::harness::{A, B, Daemon, Manifests, Simulator, binary, manifest, output};

/// The lines of a log that hold `text`.
fn lines(log: &str, text: &str) -> Vec<String> {
    log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

#[test]
fn a_failed_call_is_a_warning_and_every_call_names_its_trigger_and_revision() {
    let mut rule = Rule::new(Endpoint::Stop, Fault { status: Some(500), ..Fault::default() });
    rule.times = Some(1);
    let simulator = Simulator::start(
        Config { faults: Faults { rules: vec![rule], ..Faults::default() }, ..Config::default() },
        &[A],
    );
    let manifests = Manifests::new(&[("down", A, "Stopped")]);
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    daemon.wait_for("app stopped");
    daemon.wait_for("apps are as declared");
    manifests.set("down", A, "Running");
    daemon.wait_for("start accepted");
    let log = daemon.log();
    let failed = lines(&log, "stop failed");
    assert!(failed.len() == 1 && failed[0].contains(" WARN stop failed "), "{log}");
    for (line, trigger) in [("stop failed", "Start"), ("start accepted", "Edit")] {
        let line = &lines(&log, line)[0];
        assert!(line.contains(&format!(" trigger=\"{trigger}\" ")) && line.contains(" revision=\""), "{line}");
        assert!(!line.contains("revision=\"\""), "{line}");
    }
}

#[test]
fn the_summary_counts_only_settled_apps_as_declared() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests = Manifests::new(&[("up", A, "Running")]);
    let held = manifest("held", B, "Stopped") + "  suspend: true\n";
    manifests.put("held", &held);
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    daemon.wait_for("nothing is left to do, but some apps are held");
    manifests.put("held", &held.replace("Stopped", "Nonsense"));
    daemon.wait_for("manifest");
    assert_eq!(lines(&daemon.log(), "apps are as declared"), [""; 0]);

    let directory = tempfile::tempdir().unwrap();
    let once = |text: &str| {
        std::fs::write(directory.path().join("a.yaml"), text).unwrap();
        let directory = directory.path().to_str().unwrap();
        let url = simulator.url();
        let base =
            ["run", "--once", "--timeout", "20s", "--listen", "off", "--api-url", &url, "--manifests", directory];
        String::from_utf8(output(&base).stderr).unwrap()
    };
    let none = once("# nothing is declared here\n");
    assert!(none.contains("no manifest declares an app") && !none.contains("apps are as declared"), "{none}");
    let invalid = once(&(manifest("up", A, "Running") + "---\n" + &manifest("bad", B, "Nonsense")));
    assert!(invalid.contains("some apps need a person") && !invalid.contains("apps are as declared"), "{invalid}");
    let good = once(&manifest("up", A, "Running"));
    assert!(good.contains("apps are as declared"), "{good}");
}

#[test]
fn the_tempting_variable_is_refused_and_no_help_shows_a_value() {
    let secret = "a-real-token-perhaps";
    for command in [&["schema"][..], &["simulate"], &["validate", "."], &["run"], &["get"], &["completions", "bash"]] {
        let output = binary().args(command).env("CAMPOS_OPERATOR_TOKEN", secret).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        assert!(said.contains("put the token into CAMPOSCLOUD_TOKEN or a file (--token-file)"), "{said}");
        assert!(!said.contains(secret) && output.stdout.is_empty(), "{said}");
    }
    for (command, variable) in [
        ("simulate", "CAMPOS_OPERATOR_SIMULATE_TOKEN"),
        ("run", "CAMPOS_OPERATOR_API_URL"),
        ("plan", "CAMPOS_OPERATOR_API_URL"),
        ("import", "CAMPOS_OPERATOR_API_URL"),
        ("get", "CAMPOS_OPERATOR_SERVER"),
        ("explain", "CAMPOS_OPERATOR_SERVER"),
    ] {
        for help in ["--help", "-h"] {
            let output = binary().args([command, help]).env(variable, secret).output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            assert!(said.contains(variable) && !said.contains(secret), "{said}");
        }
    }
}
