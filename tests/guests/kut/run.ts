/**
 * Runs one kvm-unit-tests entry: records it into a file, replays and verifies
 * the tape, and judges by the exit status (x86/run there: 1 pass, 77 skip) and
 * by what known.ts knows. The tape of a failure stays.
 */
import {
  defineScenario,
  type Kernel,
  machines,
  messageOf,
  NotModelled,
  type PluginUse,
  Recorder,
  type Scenario,
  TapeReader,
  tapeWriter,
  verifyTape,
} from "../../../mod.ts";
import { FileSink, FileSource } from "../../../host/store/file_store.ts";
import type { Known } from "./known.ts";
import type { Machine } from "./machine_words.ts";
import type { CfgEntry } from "./unittests_cfg.ts";

const SLICE = 10_000_000;
const EXIT_PASS = 1;
const EXIT_SKIP = 77;

/** How an entry ended. */
export type Result = "pass" | "fail" | "skip" | "timeout" | "not-modelled";

/** One row of the report. */
export interface EntryResult {
  readonly name: string;
  readonly engine: string;
  readonly result: Result;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly steps: number;
  readonly seconds: number;
  /** Quirks of the CPU model it ran on (known.ts). */
  readonly quirks: readonly string[];
  /** Why it is no pass, for people. */
  readonly why: string;
}

/** What to run. */
export interface Job {
  readonly entry: CfgEntry;
  readonly machine: Machine;
  readonly known: Known;
  readonly image: Uint8Array;
  readonly engine: string;
  /** Wall seconds. */
  readonly timeout: number;
  /** Where the tape is written. */
  readonly tape: string;
  readonly progress: (step: number) => void;
}

class TimeOut extends Error {}

function usesOf({ plugins }: Scenario): PluginUse[] {
  return plugins.map(({ source, options }) => {
    const plugin = machines.catalog.get(source);
    if (plugin === undefined) throw new Error(`no plugin ${source}`);
    return { plugin, options };
  });
}

function drive(kernel: Kernel, job: Job): number | undefined {
  const deadline = performance.now() + job.timeout * 1000;
  for (;;) {
    const info = kernel.run({ budgetSteps: SLICE });
    if (info.kind === "stopped") return info.exitCode;
    if (info.kind === "waiting") throw new Error("halted for good");
    job.progress(info.step);
    if (performance.now() > deadline) {
      throw new TimeOut(`no end in ${job.timeout} s`);
    }
  }
}

/** Why the guest's words are no pass, or "". */
function judge(serial: string, known: Known): string {
  const told = /^SUMMARY: (\d+) tests(.*)$/m.exec(serial);
  const passes = count(serial, "PASS");
  if (known.passes !== undefined) {
    if (passes < known.passes) return `expected ${known.passes} PASS lines`;
    if (count(serial, "SKIP") > 0) return "something was skipped";
  }
  if (known.summary === undefined) return "";
  return Number(told?.[1]) === known.summary && told?.[2] === ""
    ? ""
    : `expected ${known.summary} tests; the guest says ${told?.[0]}`;
}

function count(serial: string, word: string): number {
  return serial.split("\n").filter((line) => line.startsWith(word)).length;
}

/** Runs, records, replays, verifies and judges. */
export function runEntry(job: Job): EntryResult {
  const { entry, machine, engine, known } = job;
  const started = performance.now();
  let serial = "";
  let kernel: Kernel | undefined;
  let result: Result = "fail";
  let why = "";
  let sink: FileSink | undefined;
  try {
    const environ = [
      `NR_CPUS=${entry.smp}`,
      `MEMSIZE=${machine.memory}`,
      `TEST_DEVICE=${known.testDevice ?? 1}`,
      "",
    ].join("\n");
    const scenario = defineScenario({
      machine: {
        cpu: machine.cpu,
        memory: `${machine.memory}MiB`,
        cpus: entry.smp,
        pace: known.pace ?? 1,
      },
      guest: {
        multiboot: entry.file,
        modules: ["env.txt"],
        ...(entry.args === "" ? {} : { append: entry.args }),
      },
      plugins: ["testdev", ...(known.plugins ?? [])],
      record: "inputs",
    });
    const files = new Map([
      [entry.file, job.image],
      ["env.txt", new TextEncoder().encode(environ)],
    ]);
    kernel = machines.create(scenario, files, {
      engine,
      uses: usesOf(scenario),
    });
    machines.serial(kernel)?.listen((byte) => {
      serial += String.fromCharCode(byte);
      return undefined;
    });
    sink = new FileSink(job.tape, { overwrite: true });
    const recorder = Recorder.start(kernel, tapeWriter(sink), {
      detail: "inputs",
    });
    let exitCode: number | undefined;
    try {
      exitCode = drive(kernel, job);
    } finally {
      recorder.finish();
      sink.close();
    }
    if (exitCode === EXIT_SKIP) result = "skip";
    else if (exitCode !== EXIT_PASS) why = `exit status ${exitCode}`;
    else why = verify(job) || judge(serial, known);
    if (exitCode === EXIT_PASS && why === "") result = "pass";
  } catch (error) {
    why = messageOf(error);
    if (error instanceof TimeOut) result = "timeout";
    if (error instanceof NotModelled) result = "not-modelled";
  } finally {
    sink?.close();
  }
  if (sink !== undefined && (result === "pass" || result === "skip")) {
    Deno.removeSync(job.tape);
  }
  if (result === "skip") why = lastLine(serial, "SKIP");
  return {
    name: entry.name,
    engine,
    result,
    passed: count(serial, "PASS"),
    failed: count(serial, "FAIL"),
    skipped: count(serial, "SKIP"),
    steps: kernel?.moment.step ?? 0,
    seconds: (performance.now() - started) / 1000,
    quirks: known.quirks ?? [],
    why,
  };
}

function lastLine(serial: string, word: string): string {
  return serial.split("\n").filter((line) => line.startsWith(word)).at(-1) ??
    "";
}

/** Why the tape does not replay, or "". */
function verify({ tape, engine }: Job): string {
  const source = new FileSource(tape);
  try {
    const found = verifyTape(
      TapeReader.open(source),
      machines.factory({ engine, uses: [] }),
    );
    return found.status === 0 && found.complete
      ? ""
      : `the replay ended with status ${found.status}`;
  } finally {
    source.close();
  }
}
