//! Replicas with leader election over a Lease in a fake Kubernetes API server.

use campos_operator::simulator::faults::Endpoint;
use campos_operator::simulator::world::Config;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::harness::{A, B, Daemon, Manifests, Simulator, binary, http, wait_until};

fn replica(cluster: &Cluster, simulator: &Simulator, manifests: &Manifests) -> Daemon {
    let mut command = binary();
    command.args(["run", "--leader-elect", "--lease-duration", "15s", "--listen", "127.0.0.1:0"]);
    command.args(["--api-url", &simulator.url(), "--manifests"]).arg(manifests.path());
    command.env("KUBECONFIG", cluster.config());
    Daemon::spawn(command)
}

fn labelled(cluster: &Cluster, pod: &str) -> Value {
    cluster.get("pods", pod).unwrap()["metadata"]["labels"]["campos-operator.dev/leader"].clone()
}

#[test]
fn the_leader_labels_its_pod() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("a", A, "Running")]);
    let cluster = Cluster::start();
    let start = |pod: &str| {
        let label = serde_json::json!({"campos-operator.dev/leader": "true"});
        cluster.put("pods", serde_json::json!({"metadata": {"name": pod, "labels": label}}));
        let mut command = binary();
        command.args(["run", "--leader-elect", "--pod-name", pod, "--listen", "127.0.0.1:0"]);
        command.args(["--api-url", &simulator.url(), "--manifests"]).arg(manifests.path());
        command.env("KUBECONFIG", cluster.config());
        Daemon::spawn(command)
    };
    let mut first = start("one");
    wait_until("the first leads", || leads(&first), || first.log());
    let second = start("two");
    wait_until("the label of the standby is removed", || labelled(&cluster, "two") == "false", || second.log());
    assert_eq!(labelled(&cluster, "one"), "true");
    first.signal("-TERM");
    assert!(first.ends().success());
    wait_until("the second has the label", || labelled(&cluster, "two") == "true", || second.log());
}

fn json(daemon: &Daemon, path: &str) -> Value {
    serde_json::from_str(&http(daemon.address(), "GET", path).1).unwrap()
}

fn leads(daemon: &Daemon) -> bool {
    json(daemon, "/api/v1/status")["leader"]["leading"] == true
}

#[test]
fn only_the_leader_sends_and_a_standby_takes_over_after_sigterm() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests = Manifests::new(&[("a", A, "Stopped")]);
    let cluster = Cluster::start();
    let mut first = replica(&cluster, &simulator, &manifests);
    wait_until("the app is stopped", || !simulator.online(A), || first.log());
    assert!(leads(&first));
    let second = replica(&cluster, &simulator, &manifests);
    let ready = || http(second.address(), "GET", "/readyz").0 == 200;
    wait_until("the standby is ready", ready, || second.log());
    let app = json(&second, "/api/v1/apps/a");
    assert_eq!(app["status"]["observed"], "Unknown", "{app:#}");
    assert_eq!(app["status"]["conditions"][0]["reason"], "Standby", "{app:#}");
    let leader = json(&second, "/api/v1/status")["leader"].clone();
    let lease = cluster.get("leases", "campos-operator").unwrap();
    assert_eq!((&leader["leading"], &leader["holder"]), (&false.into(), &lease["spec"]["holderIdentity"]));
    assert_ne!(leader["identity"], leader["holder"]);
    let output = binary().args(["get", "--server", &format!("http://{}", second.address())]).output().unwrap();
    let note = String::from_utf8(output.stderr).unwrap();
    assert!(
        note.contains(&format!("this is a standby; the leader is {}", leader["holder"].as_str().unwrap())),
        "{note}"
    );
    let metrics = |daemon: &Daemon| http(daemon.address(), "GET", "/metrics").1;
    assert!(
        metrics(&first).contains("campos_operator_leader 1") && metrics(&second).contains("campos_operator_leader 0")
    );
    let lists = simulator.count(Endpoint::List);

    manifests.set("b", B, "Stopped");
    wait_until("the leader stops the other app", || !simulator.online(B), || first.log());
    first.signal("-TERM");
    assert!(first.ends().success());
    assert!(first.log().contains("released the Lease"), "{}", first.log());
    wait_until("the standby leads", || leads(&second), || second.log());
    assert!(lists >= 1 && cluster.count("PUT leases") >= 2);
    let settled = || json(&second, "/api/v1/apps/b")["status"]["conditions"][0]["reason"] == "Settled";
    wait_until("it reads the apps itself", settled, || second.log());
    assert_eq!(simulator.calls().len(), 2, "{:?}", simulator.calls());
}

#[test]
fn a_leader_that_is_killed_is_replaced_when_its_lease_ends() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("a", A, "Running")]);
    let cluster = Cluster::start();
    let first = replica(&cluster, &simulator, &manifests);
    wait_until("the first leads", || leads(&first), || first.log());
    let second = replica(&cluster, &simulator, &manifests);
    second.wait_for("the leader changed");
    cluster.freeze(true);
    second.wait_for("could not read or renew the Lease");
    assert!(!leads(&second));
    cluster.freeze(false);
    second.wait_for("the Lease is readable again");
    assert!(!leads(&second));
    drop(first);
    manifests.set("a", A, "Stopped");
    wait_until("the second leads and stops the app", || leads(&second) && !simulator.online(A), || second.log());
    assert_eq!(cluster.get("leases", "campos-operator").unwrap()["spec"]["leaseTransitions"], 1);
}
