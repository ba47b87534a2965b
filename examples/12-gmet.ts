/**
 * The guest mode execute trap: AMD's answer to mode-based execute control.
 *
 *   deno run --allow-read=. examples/12-gmet.ts
 *
 * A guest hypervisor (L1) marks its guest's user code as the user's in the
 * nested page tables and switches GMET on in the VMCB: nothing at CPL 0 to 2 can
 * execute it, whatever the guest's own page tables say. Its guest (L2) tries
 * that in two ways, and three other things. The run is recorded, replayed, and walked back
 * to the first nested page fault; a CPU without GMET shows the difference.
 */
import {
  defineScenario,
  type EventAt,
  machines,
  MemoryStore,
  Recorder,
  TapeReader,
  tapeWriter,
  Timeline,
  verifyTape,
} from "../mod.ts";
import type { Kernel } from "../core/kernel.ts";
import { Listener } from "../core/collect.ts";
import { assemble } from "../host/asm/mod.ts";
import { ExitCode, exitCodeTitle, SvmExited } from "../plugins/svm/api.ts";
import { type SceneParts, table } from "./guests/scene.ts";

const CPU = 0;
/** With GMET and without, alike for this guest in all else. */
export const MODELS = { with: "zen3", without: "zen3,-gmet" } as const;
/** L1's nested page table (gmet.asm). */
const NPT = 0x11b000;

const asm = Deno.readTextFileSync(
  new URL("./guests/gmet.asm", import.meta.url),
);
const symbols = assemble(asm, { file: "gmet.asm" }).symbols;

/** What the run is made of, for any CPU model with SVM. */
export function gmetParts(cpu: string): SceneParts {
  return {
    scenario: defineScenario({
      machine: { cpu, memory: "2MiB" },
      guest: { asm },
    }),
    files: new Map(),
    uses: [],
  };
}

interface Exited {
  readonly code: bigint;
  readonly info1: bigint;
  readonly info2: bigint;
  readonly rip: bigint;
}

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
const isNestedFault = ({ code }: Exited): boolean =>
  code === BigInt(ExitCode.Npf);
/** A nested page fault on a page that is present. */
const isViolation = (p: Exited): boolean =>
  isNestedFault(p) && (p.info1 & 1n) !== 0n;

/** EXITINFO1 of a nested page fault in words (APM 2 §15.25.6). */
export function faultText(info1: bigint): string {
  const words = [
    info1 >> 4n & 1n ? "fetch" : info1 >> 1n & 1n ? "write" : "read",
    info1 >> 2n & 1n ? "as user" : "as supervisor",
    info1 & 1n ? "forbidden" : "absent",
  ];
  if (info1 >> 3n & 1n) words.push("reserved bit");
  words.push(info1 >> 33n & 1n ? "of a page table" : "of the page itself");
  return words.join(", ");
}

/** P, W, U, NX of a nested entry. */
export function entryText(entry: bigint): string {
  const bits = [["P", 0n], ["W", 1n], ["U", 2n], ["NX", 63n]] as const;
  return bits.map(([name, bit]) => (entry >> bit & 1n) === 1n ? name : "–")
    .join(" ");
}

/** What the example found, for its test. */
export interface Findings {
  readonly exitCode: number | undefined;
  readonly serial: string;
  /** EXITINFO1 of every nested page fault. */
  readonly faults: readonly bigint[];
  /** Status of the verification: 0 is equal. */
  readonly verified: number;
  /** Steps of the first nested page fault and of the first violation. */
  readonly firstFault: number;
  readonly firstViolation: number;
  /** P, W, U, NX of L1's nested entry for the violation. */
  readonly policy: string;
  /** The serial log of the CPU without GMET. */
  readonly without: string;
}

/** A machine of the run, and what it wrote to the serial port so far. */
function machineOn(cpu: string): { kernel: Kernel; serial: () => string } {
  const { scenario, files, uses } = gmetParts(cpu);
  const kernel = machines.create(scenario, files, { uses });
  let serial = "";
  machines.serial(kernel)?.listen((byte) => {
    serial += String.fromCharCode(byte);
    return undefined;
  });
  return { kernel, serial: () => serial };
}

/** Stands at the first event that `where` accepts, walking back from the end. */
function backToFirst(
  time: Timeline,
  where: (payload: Exited) => boolean,
): EventAt {
  time.seekEnd();
  const query = { event: SvmExited, where };
  let first = time.moment;
  for (let m = time.reverseTo(query); m !== undefined;) {
    first = m;
    m = time.reverseTo(query);
  }
  time.seek({ step: first.step, ordinal: 0 });
  const event = time.events(first.step, first.step + 1)
    .find((one) => one.event === SvmExited && where(one.payload as Exited));
  if (event === undefined) throw new Error("no such #VMEXIT on the tape");
  return event;
}

/** Runs the demonstration. */
export function demonstrateGmet(print: (text: string) => void): Findings {
  print(`1. Recorded on ${MODELS.with}: what L1 says`);
  const recorded = machineOn(MODELS.with);
  const store = new MemoryStore();
  const recorder = Recorder.start(recorded.kernel, tapeWriter(store), {
    detail: "full",
  });
  const { exitCode } = recorded.kernel.run({ untilStep: 1_000_000 });
  recorder.finish();
  const serial = recorded.serial();
  print(indent(serial.trimEnd()));

  print("\n2. The tape: every #VMEXIT of L2");
  const factory = machines.factory({ uses: [] });
  const tape = TapeReader.open(store, { verify: true });
  const time = Timeline.open(tape, factory);
  const faults: bigint[] = [];
  time.listen(
    0,
    Infinity,
    new Listener(({ step, payload }) => {
      const p = payload as Exited;
      const at = `   step ${step.toString().padStart(5)}  `;
      if (!isNestedFault(p)) print(`${at}${exitCodeTitle(Number(p.code))}`);
      else {
        faults.push(p.info1);
        print(
          `${at}nested page fault at ${hex(p.info2)}: ${faultText(p.info1)}`,
        );
      }
    }, (event) => event === SvmExited),
  );

  const verification = verifyTape(tape, factory);
  print(
    `\n3. Replayed: ${verification.frames} frames and ` +
      `${verification.digests} state digests compared, ${
        verification.status === 0
          ? "all equal"
          : `status ${verification.status}`
      }`,
  );

  const fault = backToFirst(time, isNestedFault);
  print(
    `\n4. Back to the first nested page fault, step ${fault.step}: ${
      faultText((fault.payload as Exited).info1)
    }`,
  );
  const first = backToFirst(time, isViolation);
  const { info2, rip } = first.payload as Exited;
  print(`   and to the first that the policy made, step ${first.step}`);
  let policy = "";
  const inspector = machines.inspector(
    time.kernel,
    [...symbols].map(([name, address]) => ({ name, address })),
  );
  if (inspector !== undefined) {
    const shown = ["rip", "rsp", "cs", "cr0", "cr4", "efer"];
    for (const row of inspector.registers(CPU)) {
      if (!shown.includes(row.name)) continue;
      print(`   ${row.name.padEnd(4)} ${row.value}  ${row.meaning ?? ""}`);
    }
    const page = Number(info2 >> 12n);
    const bytes = inspector.memory(NPT + page * 8, 8);
    const entry = new DataView(bytes.buffer, bytes.byteOffset)
      .getBigUint64(0, true);
    policy = entryText(entry);
    print(`   walk of ${hex(rip)}, the nested tables as second stage:`);
    const walk = inspector.walk(CPU, rip);
    print(indent(table(walk.rows.map((row) => [
      row.level,
      row.address,
      row.entry,
      row.meaning,
    ]))));
    print(
      `   L1's nested entry of page ${hex(page)} is ${hex(entry)}: ${policy}`,
    );
  }

  print(`\n5. The same guest on ${MODELS.without}`);
  const plain = machineOn(MODELS.without);
  plain.kernel.run({ untilStep: 1_000_000 });
  const without = plain.serial();
  print(indent(without.trimEnd()));
  return {
    exitCode,
    serial,
    faults,
    verified: verification.status,
    firstFault: fault.step,
    firstViolation: first.step,
    policy,
    without,
  };
}

function indent(text: string): string {
  return text.split("\n").map((line) => `   ${line}`).join("\n");
}

if (import.meta.main) {
  const { verified } = demonstrateGmet(console.log);
  if (verified !== 0) Deno.exit(1);
}
