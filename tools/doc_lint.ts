/**
 * Doc lint: every symbol that deno.json's exports make public has a doc
 * comment. `deno doc --lint` finds, this file chooses: it says too much for us
 * in three ways, each with its reason in IGNORED or `isMember`.
 * Invariant: a kind of finding that is not known here is reported.
 */
import { type Finding, report, ROOT } from "./files.ts";

/** Kinds of finding that are not for us. */
export const IGNORED: Readonly<Record<string, string>> = {
  "missing-explicit-type":
    "event tokens and plugins have inferred types on purpose (design §4)",
  "private-type-ref":
    "a plugin's api speaks of cpu/ types, which no entry point exports yet",
};

/** Whether the place is a member whose name and type say all there is to say. */
function isMember(sourceLine: string): boolean {
  return !/^\s*\d+ \| export\b/.test(sourceLine);
}

/** Reads what `deno doc --lint` printed (without colours). */
export function readFindings(output: string, root: string): Finding[] {
  const found: Finding[] = [];
  const block =
    /^error\[([\w-]+)\]: (.*)\n\s*--> (.+):(\d+):\d+\n[^\n]*\n(.*)$/gm;
  for (const [, kind, message, path, line, source] of output.matchAll(block)) {
    if (kind in IGNORED) continue;
    if (kind === "missing-jsdoc" && isMember(source)) continue;
    found.push({
      file: path.startsWith(root) ? path.slice(root.length) : path,
      line: Number(line),
      what: `${kind}: ${message}`,
      remedy: kind === "missing-jsdoc"
        ? "say above it, in /** … */, what it is (units, errors, manual section)"
        : "see `deno doc --lint`",
    });
  }
  return found;
}

/** Whether the output tells of something other than findings: a broken module. */
export function failure(output: string): string | undefined {
  const plain = /^error: (?!Found \d+ documentation lint error)(.*)$/m.exec(
    output,
  );
  return plain?.[1];
}

if (import.meta.main) {
  const config = JSON.parse(
    Deno.readTextFileSync(new URL("deno.json", ROOT)),
  ) as { exports: Record<string, string> };
  const entries = Object.values(config.exports);
  const { stdout, stderr } = new Deno.Command(Deno.execPath(), {
    args: ["doc", "--lint", ...entries],
    cwd: ROOT,
    env: { NO_COLOR: "1" },
  }).outputSync();
  const decoder = new TextDecoder();
  const output = decoder.decode(stdout) + decoder.decode(stderr);
  const broken = failure(output);
  if (broken !== undefined) console.error(`doc: ${broken}`);
  const findings = readFindings(output, ROOT.pathname);
  const status = report("doc", entries.length, findings);
  Deno.exit(broken === undefined ? status : 1);
}
