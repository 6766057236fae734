"""Tests the operator on a real API server: argv[1] is the server, argv[2] the operator.

The server has CustomResourceDefinitions only, so Lease and Event are custom resources here, and there are no pods."""

import datetime
import glob
import json
import os
import re
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import yaml

server, operator = sys.argv[1:3]
work = tempfile.mkdtemp(prefix="campos-apiserver-")
started = []
no_checks = ssl._create_unverified_context()
GROUP = "/apis/campos-operator.dev/v1/namespaces/campos"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(name, *command, **environment):
    log = open(f"{work}/{name}.log", "w", encoding="utf-8")
    process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment)
    started.append(process)
    return process


def log(name):
    return open(f"{work}/{name}.log", encoding="utf-8").read()


def wait(what, holds, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = holds()
        if value:
            return value
        time.sleep(0.02)
    for process in started:
        process.kill()
    sys.exit(f"waited in vain until {what}; logs: {work}")


def request(method, path, body=None, kind="application/json", address=None):
    data = None if body is None else json.dumps(body, default=lambda one: one.isoformat()).encode()
    asked = urllib.request.Request((address or api) + path, data, {"content-type": kind}, method=method)
    try:
        with urllib.request.urlopen(asked, context=no_checks, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")
    except (OSError, ValueError):
        return 0, {}


def apply(plural, thing):
    path = f"{GROUP}/{plural}/{thing['metadata']['name']}?fieldManager=test&force=true"
    return request("PATCH", path, thing, "application/apply-patch+yaml")


def must(holds, what):
    if not holds:
        for process in started:
            process.kill()
        sys.exit(f"{what}; logs: {work}")


etcd, peer, secure, platform = (free_port() for _ in range(4))
client_url, peer_url = f"http://127.0.0.1:{etcd}", f"http://127.0.0.1:{peer}"
start("etcd", "etcd", "--data-dir", f"{work}/etcd", "--listen-client-urls", client_url, "--advertise-client-urls", client_url,
      "--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url, "--initial-cluster", f"default={peer_url}")


def kubeconfig(name, address):
    cluster = {"server": address, "insecure-skip-tls-verify": True}
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "test", "users": [{"name": "test", "user": {}}],
              "clusters": [{"name": "test", "cluster": cluster}],
              "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "campos"}}]}
    with open(f"{work}/{name}", "w", encoding="utf-8") as file:
        yaml.safe_dump(config, file)
    return f"{work}/{name}"


# There is no core API; nothing of this test needs it.
start("apiserver", server, "--kubeconfig", kubeconfig("no-core", "http://127.0.0.1:1"), "--etcd-servers", client_url,
      "--bind-address", "127.0.0.1", "--secure-port", str(secure), "--cert-dir", f"{work}/certs")
api = f"https://127.0.0.1:{secure}"
crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
wait("the API server answers", lambda: request("GET", crds)[0] == 200)

# The CRDs are admitted: structural schemas, CEL rules and their cost.
definitions = list(yaml.safe_load_all(subprocess.run([operator, "schema", "--crd"], check=True, capture_output=True).stdout))
anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
for group, plural, kind in [("coordination.k8s.io", "leases", "Lease"), ("events.k8s.io", "events", "Event")]:
    definitions.append({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}", "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"}},
        "spec": {"group": group, "names": {"plural": plural, "kind": kind}, "scope": "Namespaced",
                 "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}]}})
for definition in filter(None, definitions):
    name = definition["metadata"]["name"]
    code, answer = request("POST", crds, definition)
    must(code == 201, f"{name} is refused: {answer.get('message')}")

    def established():
        conditions = request("GET", f"{crds}/{name}")[1].get("status", {}).get("conditions") or []
        return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)

    wait(f"{name} is established", established)
wait("Apps are served", lambda: request("GET", f"{GROUP}/apps")[0] == 200)
print(f"{len(definitions)} CRDs are established")

# Every bundled manifest is accepted; what the operator's own reader refuses is refused, too.
plurals = {"App": "apps", "Schedule": "schedules", "Approval": "approvals"}
count = 0
for path in sorted(glob.glob("manifests/**/*.*", recursive=True)):
    if not path.endswith((".yaml", ".yml", ".json")):
        continue
    for thing in yaml.safe_load_all(open(path, encoding="utf-8")):
        if thing and thing.get("kind") in plurals:
            code, answer = apply(plurals[thing["kind"]], thing)
            must(code in (200, 201), f"{path} is refused: {answer.get('message')}")
            count += 1
wrong = [{"state": "Off"}, {"state": "stopped"}, {"policy": "x"}, {"sched": {}}, {"suspend": "yes"}, {"appId": "a b"},
         {"scheduleRef": "x", "schedule": {"timeZone": "UTC", "windows": []}}, {"schedule": {"windows": []}},
         {"override": {"state": "Running"}}]
for number, spec in enumerate(wrong):
    thing = {"apiVersion": "campos-operator.dev/v1", "kind": "App", "metadata": {"name": f"wrong-{number}"},
             "spec": {"appId": "x", "state": "Stopped"} | spec}
    code, answer = request("POST", f"{GROUP}/apps?fieldValidation=Strict", thing)
    must(code in (400, 422), f"{spec} is accepted")
for suspend in (True, False, {"reason": "x", "until": "2099-01-01T00:00:00Z"}):
    thing = {"apiVersion": "campos-operator.dev/v1", "kind": "App", "metadata": {"name": "suspended"},
             "spec": {"appId": "suspended", "state": "Stopped", "suspend": suspend}}
    code, answer = apply("apps", thing)
    must(code in (200, 201), f"suspend: {suspend} is refused: {answer.get('message')}")
request("DELETE", f"{GROUP}/apps/suspended")
print(f"{count} bundled objects are accepted, {len(wrong)} wrong ones refused")

# Two replicas: one leads, stops what is declared, and writes status and Events.
token = "simulated-token-0000"
start("simulator", operator, "simulate", "--from", "manifests", "--listen", f"127.0.0.1:{platform}", "--token", token)
replicas = {}


def replica(name):
    port = free_port()
    process = start(name, operator, "run", "--source", "kubernetes", "--leader-elect", "--lease-duration", "15s", "--interval", "10s",
                    "--api-budget", "unlimited", "--api-url", f"http://127.0.0.1:{platform}", "--listen", f"127.0.0.1:{port}",
                    KUBECONFIG=kubeconfig("config", api), CAMPOSCLOUD_TOKEN=token)
    replicas[name] = (process, f"http://127.0.0.1:{port}")


def leads(name):
    return (request("GET", "/api/v1/status", address=replicas[name][1])[1].get("leader") or {}).get("leading") is True


def ready(name):
    conditions = (request("GET", f"{GROUP}/apps/{name}")[1].get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


replica("first")
wait("the first replica leads", lambda: leads("first"))
replica("second")
wait("ticket-bot is ready", lambda: ready("ticket-bot"))
events = request("GET", "/apis/events.k8s.io/v1/namespaces/campos/events")[1]["items"]
must(any(one["reason"] == "StopAccepted" and one["regarding"]["name"] == "ticket-bot" for one in events), "there is no Event")


def declare(state):
    """Applies a state of ticket-bot. Returns the time before the request."""
    at = datetime.datetime.now(datetime.timezone.utc)
    spec = {"appId": "60c72b2f9b1e8d001c8e4f3a", "state": state}
    code, _ = request("PATCH", f"{GROUP}/apps/ticket-bot?fieldManager=test", {"spec": spec}, "application/merge-patch+json")
    must(code == 200, "an edit is refused")
    return at


LINE = re.compile(r'^(\S+)\s+INFO (?:stop|start) accepted app="ticket-bot".* duration_ms=(\d+)', re.M)


def calls():
    """Time at which each call for ticket-bot was sent, by replica."""
    found = []
    for name in replicas:
        for at, took in LINE.findall(re.sub(r"\x1b\[[0-9;]*m", "", log(name))):
            sent = datetime.datetime.fromisoformat(at.replace("Z", "+00:00")) - datetime.timedelta(milliseconds=int(took))
            found.append((sent, name))
    return sorted(found)


def edited(state):
    before = len(calls())
    at = declare(state)
    sent, name = wait("the edit is called", lambda: calls()[before:] or None)[0]
    wait("it is verified", lambda: ready("ticket-bot") and request("GET", f"{GROUP}/apps/ticket-bot")[1]["status"]["observed"] == state)
    return (sent - at).total_seconds(), name


delays = [edited(state)[0] for _ in range(15) for state in ("Running", "Stopped")]
print(f"PATCH to POST, 30 edits: p50 {statistics.median(delays) * 1e3:.0f} ms, max {max(delays) * 1e3:.0f} ms")


def failover(what, end, longest):
    """Ends the leader, edits an app, and waits for the call of the other replica."""
    (leader,) = [name for name in replicas if leads(name)]
    end(replicas[leader][0])
    begin = time.monotonic()
    state = "Running" if request("GET", f"{GROUP}/apps/ticket-bot")[1]["spec"]["state"] == "Stopped" else "Stopped"
    before = [call for call in calls() if call[1] == leader]
    declare(state)
    (other,) = [name for name in replicas if name != leader]
    wait(f"the other replica leads after {what}", lambda: leads(other))
    took = time.monotonic() - begin
    wait("the edit is called", lambda: calls() and calls()[-1][1] == other)
    must(took <= longest, f"{what}: the takeover took {took:.1f} s")
    must([call for call in calls() if call[1] == leader] == before, f"{what}: the old leader made a call")
    print(f"takeover after {what}: {took:.1f} s")
    wait("the app is ready", lambda: ready("ticket-bot"))
    return leader


first = failover("SIGTERM", lambda process: process.send_signal(signal.SIGTERM), 3)
del replicas[first]
replica("third")
wait("the third replica is up", lambda: request("GET", "/api/v1/status", address=replicas["third"][1])[0] == 200)
paused = failover("SIGSTOP", lambda process: process.send_signal(signal.SIGSTOP), 17.5)
replicas[paused][0].send_signal(signal.SIGCONT)
wait("the paused replica is a standby", lambda: request("GET", "/api/v1/status", address=replicas[paused][1])[0] == 200 and not leads(paused))
failover("kill -9", lambda process: process.kill(), 17.5)
for process in started:
    process.kill()
