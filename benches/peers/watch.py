#!/usr/bin/env python3
"""A small program of watchfiles, PyYAML and httpx that stops and starts apps as their manifests say.

    CAMPOSCLOUD_TOKEN=... watch.py MANIFESTS URL

It does the operator's main job and nothing else: no retry, no check whether a call took effect, no limit of the
account. One connection stays open. watchfiles gathers changes for 50 ms before it tells of them; WATCH_STEP_MS sets
another time.
"""

import os
import sys

import httpx
import watchfiles
import yaml

ACTIONS = {"Stopped": "stop", "Running": "start"}
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def main():
    manifests, url = sys.argv[1:]
    step = int(os.environ.get("WATCH_STEP_MS", "50"))
    token = os.environ["CAMPOSCLOUD_TOKEN"]
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as client:
        for changes in watchfiles.watch(manifests, step=step):
            for path in {path for change, path in changes if change != watchfiles.Change.deleted}:
                if not path.endswith((".yaml", ".yml")):
                    continue
                try:
                    with open(path, "rb") as file:
                        spec = yaml.load(file, Loader)["spec"]
                    action = ACTIONS[spec["state"]]
                except (OSError, yaml.YAMLError, KeyError, TypeError):
                    continue
                client.post(f"/v1/apps/{spec['appId']}/{action}")


if __name__ == "__main__":
    main()
