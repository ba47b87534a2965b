/**
 * `deno task kut --images DIR`: the entries of a kvm-unit-tests checkout that
 * you built (never part of this project), each recorded, replayed and verified.
 * Without DIR it says what was not run.
 */
import { parseArgs } from "@std/cli/parse-args";
import { machines, messageOf, NotModelled } from "../../../mod.ts";
import { FIRST_LIGHT, KNOWN, type OurEntry, OURS } from "./known.ts";
import { machineOf } from "./machine_words.ts";
import { type EntryResult, runEntry } from "./run.ts";
import { type CfgEntry, parseCfg } from "./unittests_cfg.ts";

const DEFAULT_TIMEOUT = 300;
const HELP = `deno task kut --images DIR [options]

Runs the entries of DIR/x86/unittests.cfg (DIR: a kvm-unit-tests checkout that
you configured and built), each recorded, replayed and verified.

  --images DIR    the checkout, or its x86 folder
  --only A,B      these entries (also those of group nodefault)
  --group G       the entries of this group: vmx, svm, …; base: those that need
                  neither VMX nor SVM; first-light: those of the README
  --engine E      t0 (default) or reference; short entries that known.ts lists
                  run on both unless this is given
  --timeout S     wall seconds for one entry (${DEFAULT_TIMEOUT})
  --tapes DIR     where tapes of failures stay (default ./kut-tapes)
  --json          the report as JSON; a line for each entry goes to stderr
  --help          this

Exit status 0: none failed. Skipped entries are no failures.`;

const isVirtualization = (entry: CfgEntry): boolean =>
  /^(vmx|svm)/.test(entry.file);

/** Whether an entry is asked for. */
export function wanted(
  entry: CfgEntry,
  only: readonly string[] | undefined,
  group: string | undefined,
): boolean {
  if (entry.arch === "i386") return false;
  if (only !== undefined) return only.includes(entry.name);
  if (group === "base") return !isVirtualization(entry);
  if (group === "first-light") return FIRST_LIGHT.includes(entry.name);
  if (group !== undefined) return entry.groups.includes(group);
  return !entry.groups.includes("nodefault");
}

function line(r: EntryResult): string {
  const counts = `${r.passed} pass ${r.failed} fail ${r.skipped} skip`;
  const quirks = r.quirks.map((quirk) => `with +${quirk}`);
  return [
    r.name.padEnd(42),
    r.engine.padEnd(10),
    r.result.padEnd(13),
    counts.padEnd(26),
    String(r.steps).padStart(12),
    "steps",
    r.seconds.toFixed(1).padStart(6),
    "s ",
    [...quirks, r.why.split("\n")[0]].filter((s) => s !== "").join("; "),
  ].join(" ").trimEnd();
}

/** The checkout's x86 folder. */
function folderOf(images: string): string {
  for (const folder of [`${images}/x86`, images]) {
    try {
      Deno.statSync(`${folder}/unittests.cfg`);
      return folder;
    } catch { /* the next */ }
  }
  console.error(
    `kut: no x86/unittests.cfg in ${images}; give a kvm-unit-tests checkout ` +
      "that was configured and built",
  );
  Deno.exit(2);
}

function main(): number {
  const args = parseArgs(Deno.args, {
    string: ["images", "only", "group", "engine", "timeout", "tapes"],
    boolean: ["json", "help"],
    unknown: (word) => {
      console.error(`kut: "${word}" is no option; see --help`);
      Deno.exit(2);
    },
  });
  const word = (key: string): string | undefined =>
    args[key] === undefined ? undefined : String(args[key]);
  const images = word("images");
  const group = word("group");
  const engine = word("engine");
  if (args.help) {
    console.log(HELP);
    return 0;
  }
  if (images === undefined) {
    console.log(
      "not run: kvm-unit-tests (no --images DIR was given; see --help)",
    );
    return 0;
  }
  const folder = folderOf(images);
  const path = `${folder}/unittests.cfg`;
  const all: (CfgEntry | OurEntry)[] = [
    ...parseCfg(Deno.readTextFileSync(path), path),
    ...OURS,
  ];
  const only = word("only")?.split(",");
  for (const name of only ?? []) {
    if (!all.some((entry) => entry.name === name)) {
      console.error(`kut: no entry ${name} in ${path}`);
      return 2;
    }
  }
  const tapes = word("tapes") ?? "kut-tapes";
  Deno.mkdirSync(tapes, { recursive: true });
  const results: EntryResult[] = [];
  const entries = all.filter((entry) => wanted(entry, only, group));
  for (const [i, entry] of entries.entries()) {
    const known = KNOWN[entry.name] ?? {};
    const engines = engine !== undefined
      ? [engine]
      : known.short
      ? machines.engines
      : machines.engines.slice(0, 1);
    for (const each of engines) {
      const result = runOne(entry, each, {
        folder,
        tape: `${tapes}/${entry.name.replaceAll(" ", "-")}.${each}.tape`,
        timeout: Number(word("timeout") ?? DEFAULT_TIMEOUT),
        progress: (step) =>
          showProgress(`${i + 1}/${entries.length} ${entry.name}`, step),
      });
      clearProgress();
      results.push(result);
      if (!args.json) console.log(line(result));
      else console.error(line(result));
    }
  }
  const of = (what: string): number =>
    results.filter(({ result }) => result === what).length;
  const failed = results.length - of("pass") - of("skip");
  if (args.json) console.log(JSON.stringify({ entries: results }));
  else {
    console.log(
      `${of("pass")} passed, ${of("fail")} failed, ${of("skip")} skipped, ` +
        `${of("timeout")} timed out, ${of("not-modelled")} not modelled`,
    );
    if (failed > 0) console.log(`tapes of what did not pass: ${tapes}/`);
  }
  return failed === 0 ? 0 : 1;
}

interface Place {
  readonly folder: string;
  readonly tape: string;
  readonly timeout: number;
  readonly progress: (step: number) => void;
}

function runOne(
  entry: CfgEntry | OurEntry,
  engine: string,
  { folder, ...place }: Place,
): EntryResult {
  const known = KNOWN[entry.name] ?? {};
  try {
    const machine = machineOf(entry, known.quirks);
    const ours = "cpu" in entry ? entry : undefined;
    return runEntry({
      entry,
      machine: { ...machine, cpu: ours?.cpu ?? machine.cpu },
      known,
      image: Deno.readFileSync(`${folder}/${entry.file}`),
      engine,
      ...place,
    });
  } catch (error) {
    return {
      name: entry.name,
      engine,
      result: error instanceof NotModelled ? "not-modelled" : "fail",
      passed: 0,
      failed: 0,
      skipped: 0,
      steps: 0,
      seconds: 0,
      quirks: known.quirks ?? [],
      why: messageOf(error),
    };
  }
}

function showProgress(what: string, step: number): void {
  if (!Deno.stderr.isTerminal()) return;
  const text = `\r\x1b[K${what}: step ${(step / 1e6).toFixed(0)} M`;
  Deno.stderr.writeSync(new TextEncoder().encode(text));
}
function clearProgress(): void {
  if (!Deno.stderr.isTerminal()) return;
  Deno.stderr.writeSync(new TextEncoder().encode("\r\x1b[K"));
}

if (import.meta.main) Deno.exit(main());
