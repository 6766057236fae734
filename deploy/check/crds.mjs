// Checks custom resources of the Prometheus operator, which Kubernetes' own schemas do not know. Types and what is
// missing are found; an unknown field is not, as a cluster would drop it too.
import { readFile } from "node:fs/promises";
import * as models from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

for (const path of process.argv.slice(2)) {
  for (const object of JSON.parse(await readFile(path, "utf8"))) {
    new models[object.kind](object).validate();
    console.log(`${path}: ${object.kind}/${object.metadata.name} fits`);
  }
}
