"""Writes each `run:` of the workflows argv[2:] as a file below the directory argv[1], for shellcheck."""

import pathlib
import re
import sys

import yaml

for path in sys.argv[2:]:
    workflow = yaml.safe_load(open(path, encoding="utf-8"))
    for job, body in workflow["jobs"].items():
        for number, step in enumerate(body["steps"]):
            if "run" in step:
                # What GitHub puts in place of an expression is no shell; a word stands for it.
                script = re.sub(r"\$\{\{.*?\}\}", "expression", step["run"])
                name = f"{pathlib.Path(path).stem}-{job}-{number}.sh"
                pathlib.Path(sys.argv[1], name).write_text(f"#!/bin/bash\nset -eo pipefail\n{script}\n", encoding="utf-8")
