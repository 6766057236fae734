//! `spec.restart` and the verb `restart`.

use std::fs;
use std::process::Output;

use campos_operator::manifest::example;
use campos_operator::simulator::faults::Endpoint;
use campos_operator::simulator::port::lock;
use campos_operator::simulator::world::Config;
use jiff::SignedDuration;

use crate::harness::{A, Daemon, Manifests, Simulator, binary, wait_until};

/// An app that has been running for an hour.
fn running() -> (Simulator, Manifests) {
    let simulator = Simulator::start(Config::default(), &[]);
    lock(&simulator.world).add(A.parse().unwrap(), "bot", simulator.clock.wall() - SignedDuration::from_hours(1));
    (simulator, Manifests::new(&[("bot", A, "Running")]))
}

fn restart(manifests: &Manifests, more: &[&str]) -> Output {
    binary().args(["restart", "bot", "--manifests"]).arg(manifests.path()).args(more).output().unwrap()
}

#[test]
fn a_restart_that_is_requested_in_the_manifest_is_made_once() {
    let (simulator, manifests) = running();
    let daemon = Daemon::start(&simulator, &manifests, &["--interval", "1s", "--confirm-timeout", "2s"]);
    daemon.wait_for("apps are as declared");
    let output = restart(&manifests, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    daemon.wait_for("restart accepted");
    daemon.wait_for("app restarted");
    assert!(daemon.log().contains("reason=\"Restarting\""), "{}", daemon.log());
    // Another process finds that the app was started since.
    drop(daemon);
    let daemon = Daemon::start(&simulator, &manifests, &["--interval", "1s", "--confirm-timeout", "2s"]);
    daemon.wait_for("apps are as declared");
    let lists = simulator.count(Endpoint::List);
    wait_until("several lists", || simulator.count(Endpoint::List) > lists + 4, || daemon.log());
    assert_eq!((simulator.count(Endpoint::Restart), simulator.count(Endpoint::Stop)), (1, 0));
}

#[test]
fn a_plan_shows_the_restart() {
    let (simulator, manifests) = running();
    restart(&manifests, &[]);
    let mut command = binary();
    command.args(["plan", "--api-url", &simulator.url(), "--manifests"]).arg(manifests.path());
    let page = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(page.contains("~ restart bot  Running -> Running  spec.restart\n"), "{page}");
    assert!(page.contains("Plan: 0 to stop, 0 to start, 1 to restart, 0 stuck"), "{page}");
    assert_eq!(simulator.count(Endpoint::Restart), 0);
}

#[test]
fn a_restart_that_would_have_no_effect_is_refused() {
    let manifests = Manifests::new(&[]);
    for (spec, state, words) in [
        ("  suspend: {reason: moving}\n", "Running", "bot is suspended (moving), so a restart would have no effect"),
        ("  policy: StopOnly\n", "Running", "bot has the policy StopOnly, which does not allow a restart"),
        ("", "Stopped", "bot is declared Stopped by state"),
    ] {
        let text = example("bot", A, state) + spec;
        manifests.put("bot", &text);
        let output = restart(&manifests, &[]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && error.contains(words), "{error}");
        assert_eq!(fs::read_to_string(manifests.file("bot")).unwrap(), text);
    }
    let text = example("bot", A, "Running") + "  restart: {cron: \"0 5 * * 0\"} # on Sundays\n";
    manifests.put("bot", &text);
    let output = restart(&manifests, &["--dry-run"]);
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(page.contains("\n+  restart: {cron: \"0 5 * * 0\", requestedAt: \"20"), "{page}");
    assert_eq!(fs::read_to_string(manifests.file("bot")).unwrap(), text);
}
