/**
 * `deno task guests --images DIR [--only NAME,…] [--json]`: runs kvm-unit-tests
 * images (built elsewhere, never part of this project), records each, replays
 * and verifies its tape, and prints a table. Without DIR it says what was not
 * run. Exit status 1 if any failed.
 */
import { parseArgs } from "@std/cli/parse-args";
import {
  defineScenario,
  type Kernel,
  machines,
  MemoryStore,
  messageOf,
  type PluginUse,
  Recorder,
  type Scenario,
  TapeReader,
  tapeWriter,
  verifyTape,
} from "../../mod.ts";
import { type GuestRow, GUESTS } from "./table.ts";

/** Steps after which a guest is given up. */
const STEP_LIMIT = 20_000_000_000;
const SLICE = 20_000_000;
const EXIT_PASS = 1;

/** How one guest ended. */
export interface GuestResult {
  readonly name: string;
  readonly engine: string;
  readonly result: "pass" | "fail";
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly steps: number;
  readonly seconds: number;
  readonly why: string;
}

/** Runs, records, replays and verifies one guest on one engine. */
export function runGuest(
  row: GuestRow,
  image: Uint8Array,
  engine: string,
): GuestResult {
  const started = performance.now();
  const environ = `NR_CPUS=1\nMEMSIZE=${row.memory}\nTEST_DEVICE=1\n`;
  const scenario = defineScenario({
    machine: { cpu: row.cpu, memory: `${row.memory}MiB` },
    guest: {
      multiboot: row.image,
      modules: ["env.txt"],
      ...(row.append === "" ? {} : { append: row.append }),
    },
    plugins: row.plugins ?? [],
    record: "inputs",
  });
  const files = new Map([
    [row.image, image],
    ["env.txt", new TextEncoder().encode(environ)],
  ]);
  const kernel = machines.create(scenario, files, {
    engine,
    uses: usesOf(scenario),
  });
  let serial = "";
  machines.serial(kernel)?.listen((byte) => {
    serial += String.fromCharCode(byte);
    return undefined;
  });
  const store = new MemoryStore();
  const recorder = Recorder.start(kernel, tapeWriter(store), {
    detail: "inputs",
  });
  let why = "";
  let exitCode: number | undefined;
  try {
    exitCode = runToStop(kernel);
    recorder.finish();
    const verified = verifyTape(
      TapeReader.open(store),
      machines.factory({ engine, uses: [] }),
    );
    if (verified.status !== 0 || !verified.complete) {
      why = `the replay ended with status ${verified.status}`;
    }
  } catch (error) {
    why = messageOf(error);
  }
  const count = (word: string): number =>
    serial.split("\n").filter((line) => line.startsWith(word)).length;
  const passed = count("PASS");
  const failed = count("FAIL");
  const enough = row.least ? passed >= row.passes : passed === row.passes;
  if (why === "" && exitCode !== EXIT_PASS) why = `exit status ${exitCode}`;
  if (why === "" && failed > 0) why = `${failed} FAIL lines`;
  const told = /^SUMMARY: (\d+) tests(.*)$/m.exec(serial);
  if (why === "" && row.summary !== undefined && told?.[2] !== "") {
    why = `the guest says: ${told?.[0] ?? "no summary"}`;
  }
  if (
    why === "" && row.summary !== undefined &&
    Number(told?.[1]) !== row.summary
  ) {
    why = `expected ${row.summary} tests, the guest says ${told?.[1]}`;
  }
  if (why === "" && !enough) why = `expected ${row.passes} PASS lines`;
  return {
    name: row.name,
    engine,
    result: why === "" ? "pass" : "fail",
    passed,
    failed,
    skipped: count("SKIP"),
    steps: kernel.moment.step,
    seconds: (performance.now() - started) / 1000,
    why,
  };
}

/** Our own plugins that a row adds. */
function usesOf(scenario: Scenario): PluginUse[] {
  return scenario.plugins.map(({ source, options }) => {
    const plugin = machines.catalog.get(source);
    if (plugin === undefined) throw new Error(`no plugin ${source}`);
    return { plugin, options };
  });
}

function runToStop(kernel: Kernel): number | undefined {
  for (;;) {
    const info = kernel.run({ budgetSteps: SLICE });
    if (info.kind === "stopped") return info.exitCode;
    if (info.kind === "waiting") throw new Error("halted for good");
    if (info.step > STEP_LIMIT) {
      throw new Error(`no end in ${STEP_LIMIT} steps`);
    }
  }
}

function line(result: GuestResult): string {
  const { name, engine, result: end, passed, failed, skipped } = result;
  const counts = `${passed} pass ${failed} fail ${skipped} skip`;
  return `${name.padEnd(18)} ${engine.padEnd(10)} ${end.padEnd(5)} ${
    counts.padEnd(26)
  } ${String(result.steps).padStart(12)} steps ${
    result.seconds.toFixed(1).padStart(6)
  } s  ${result.why}`;
}

if (import.meta.main) {
  const args = parseArgs(Deno.args, {
    string: ["images", "only"],
    boolean: ["json", "help"],
  });
  if (args.help) {
    console.log(
      "deno task guests --images DIR [--only NAME,…] [--json]\n" +
        "DIR holds kvm-unit-tests' x86/*.flat images, built by you.",
    );
    Deno.exit(0);
  }
  if (!args.images) {
    console.log(
      "not run: no --images DIR with kvm-unit-tests' x86/*.flat was given\n" +
        GUESTS.map((row) => `  not run: ${row.name}`).join("\n"),
    );
    Deno.exit(0);
  }
  const only = args.only === undefined
    ? undefined
    : String(args.only).split(",");
  const results: GuestResult[] = [];
  for (const row of GUESTS) {
    if (only && !only.includes(row.name)) continue;
    const image = Deno.readFileSync(`${args.images}/${row.image}`);
    const engines = row.short ? machines.engines : machines.engines.slice(0, 1);
    for (const engine of engines) {
      const result = runGuest(row, image, engine);
      results.push(result);
      if (!args.json) console.log(line(result));
    }
  }
  const failed = results.filter((r) => r.result === "fail").length;
  if (args.json) console.log(JSON.stringify({ entries: results }));
  else console.log(`${results.length - failed} passed, ${failed} failed`);
  Deno.exit(failed === 0 ? 0 : 1);
}
