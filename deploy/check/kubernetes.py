"""Checks what `kubectl kustomize` printed, beyond its schema: argv[1] is the file, argv[2] where its CRDs go for crds.mjs.

The schema says what may be written; this says what must not get lost in a patch."""

import json
import sys

import yaml

objects = [o for o in yaml.safe_load_all(open(sys.argv[1], encoding="utf-8")) if o]
custom = [o for o in objects if o["apiVersion"].startswith("monitoring.coreos.com/")]
plain = [o for o in objects if o not in custom]


def of_kind(kind):
    return [o for o in objects if o["kind"] == kind]


def must(holds, what):
    if not holds:
        sys.exit(f"{sys.argv[1]}: {what}")


must(len({o["metadata"].get("namespace") for o in objects if o["kind"] != "CustomResourceDefinition"}) == 1, "the objects are in several namespaces")
must(not of_kind("Secret"), "a Secret is in it; secrets are referred to only")
(deployment,) = of_kind("Deployment")
spec, pod = deployment["spec"], deployment["spec"]["template"]["spec"]
(environment,) = [c["env"] for c in pod["containers"] if c["name"] == "operator"]
elects = {"name": "CAMPOS_OPERATOR_LEADER_ELECT", "value": "true"} in environment
must(elects or (spec["replicas"] == 1 and spec["strategy"] == {"type": "Recreate"}), "two operators could run at once")
must(pod["terminationGracePeriodSeconds"] > 20, "killed before calls on the wire can end")
must(pod["enableServiceLinks"] is False, "service links bring CAMPOS_OPERATOR_* variables that nobody reads")
must(pod["automountServiceAccountToken"] is elects, "has a token for the cluster's API, or needs one")
must(pod["securityContext"]["runAsNonRoot"] is True, "may run as root")
must(pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, "has no seccomp profile")
volumes = {v["name"] for v in pod["volumes"]}
for container in pod["containers"] + pod.get("initContainers", []):
    name, security = container["name"], container["securityContext"]
    must(security["readOnlyRootFilesystem"] is True, f"{name} may write its root")
    must(security["allowPrivilegeEscalation"] is False, f"{name} may gain rights")
    must(security["capabilities"] == {"drop": ["ALL"]}, f"{name} keeps capabilities")
    must("memory" in container["resources"]["limits"], f"{name} may take all memory")
    must(":" in container["image"] and not container["image"].endswith(":latest"), f"{name} has no version")
    must({m["name"] for m in container["volumeMounts"]} <= volumes, f"{name} mounts a volume that is not there")
(operator,) = [c for c in pod["containers"] if c["name"] == "operator"]
for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
    must(operator[probe]["httpGet"]["port"] in {p["name"] for p in operator["ports"]}, f"{probe} asks a port that is not there")
labels = spec["template"]["metadata"]["labels"]
selectors = [s["spec"]["selector"] for s in of_kind("Service")]
selectors += [p["spec"]["selector"]["matchLabels"] for p in of_kind("PodDisruptionBudget")]
selectors += [p["spec"]["podSelector"]["matchLabels"] for p in of_kind("NetworkPolicy")]
if elects:
    # The leader sets this label on its own pod.
    labels = labels | {"campos-operator.dev/leader": "true"}
    must(all("campos-operator.dev/leader" in s["spec"]["selector"] for s in of_kind("Service")), "a Service selects standbys")
must(all(selector.items() <= labels.items() for selector in selectors), "a selector does not select the pod")
for monitor in of_kind("ServiceMonitor"):
    (service,) = of_kind("Service")
    must(monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items(), "the ServiceMonitor selects no Service")

with open(sys.argv[2], "w", encoding="utf-8") as file:
    json.dump(custom, file)
with open(sys.argv[1], "w", encoding="utf-8") as file:
    yaml.safe_dump_all(plain, file)
