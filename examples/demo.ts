/**
 * The demonstration: `deno task demo`, or
 *
 *   deno run --allow-read=. examples/demo.ts
 *
 * A guest hypervisor with an HVCI-like policy runs on a CPU without mode-based
 * execute control. The emulation carries it, everything is on the tape; the
 * tape is replayed and verified; we go back to the first violation and look
 * around; and hardware is compared with both strategies of the emulation.
 */
import {
  type EventAt,
  machines,
  MemoryStore,
  Recorder,
  TapeReader,
  tapeWriter,
  Timeline,
  verifyTape,
} from "../mod.ts";
import { NestedReflected } from "../plugins/hypervisor/api.ts";
import {
  Decided,
  SWITCH_PATH_TITLES,
  ViewSwitched,
} from "../plugins/mbec/api.ts";
import { DECISION_TABLE } from "../plugins/mbec/decision.ts";
import { ExitReason, exitReasonTitle } from "../plugins/vmx/api.ts";
import { Listener } from "../core/collect.ts";
import { sideBySide, STRATEGIES } from "./04-mbec-emulated.ts";
import { difference } from "./guests/guest_visible.ts";
import { hvciScene, machineFor, runScene, table } from "./guests/scene.ts";

const CPU = 0;
const ROUNDS = 2;
const VIEWS = ["user", "supervisor"];
/** What L0 offers again is what it has itself, so that L1 finds one processor. */
const COMMON = "skylake-server,-vmx-eptad,-vmx-vmfunc,-vmx-eptp-switching";
/** L1's EPT entry of a page (hvci.asm). */
const EPT_PT = 0x10f000;

type Print = (text: string) => void;

interface Reflected {
  readonly reason: number;
  readonly qualification: bigint;
  readonly guestPhysical: bigint;
  readonly linear: bigint;
  readonly rip: bigint;
}

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** What the demonstration found, for its test. */
export interface Findings {
  readonly exitCode: number | undefined;
  readonly violations: number;
  readonly switches: number;
  /** Status of the verification: 0 is equal. */
  readonly verified: number;
  readonly firstViolation: EventAt | undefined;
  /** R, W, XS, XU of L1's EPT entry for it. */
  readonly policy: string;
  /** What the guest saw differently under each strategy; undefined: nothing. */
  readonly differences: readonly (string | undefined)[];
}

/** One line of the timeline. */
function describe(one: EventAt): string | undefined {
  const at = `step ${one.step.toString().padStart(5)}`;
  if (one.event === ViewSwitched) {
    const p = one.payload as {
      from: number;
      to: number;
      path: number;
      cpl: number;
      rip: bigint;
    };
    return `${at}  view ${VIEWS[p.from]} → ${VIEWS[p.to]} by ${
      SWITCH_PATH_TITLES[p.path]
    }, CPL ${p.cpl}, RIP ${hex(p.rip)}`;
  }
  if (one.event !== NestedReflected) return undefined;
  const p = one.payload as Reflected;
  if (p.reason !== ExitReason.EptViolation) return undefined;
  return `${at}  VIOLATION reflected to L1: linear ${hex(p.linear)}, GPA ${
    hex(p.guestPhysical)
  }, qualification ${hex(p.qualification)}`;
}

function isViolation(payload: Reflected): boolean {
  return payload.reason === ExitReason.EptViolation;
}

/** R W XS XU of an EPT entry, in words. */
function rightsText(entry: bigint): string {
  const bits = [["R", 0n], ["W", 1n], ["XS", 2n], ["XU", 10n]] as const;
  return bits.map(([name, bit]) => (entry >> bit & 1n) === 1n ? name : "–")
    .join(" ");
}

/** Runs the demonstration. */
export function demonstrate(print: Print): Findings {
  const guest = hvciScene(ROUNDS);
  const machine = { mbec: "trap-all", cpu: "haswell-server" } as const;

  print("1. Recording: haswell-server, no MBEC in hardware, strategy trap-all");
  const kernel = machineFor(guest, machine);
  let line = "";
  machines.serial(kernel)?.listen((byte) => {
    if (byte !== 10) line += String.fromCharCode(byte);
    else {
      print(`   serial: ${line}`);
      line = "";
    }
    return undefined;
  });
  const store = new MemoryStore();
  const recorder = Recorder.start(kernel, tapeWriter(store), {
    detail: "full",
  });
  const end = kernel.run({ untilStep: 10_000_000 });
  recorder.finish();
  const tape = TapeReader.open(store, { verify: true });
  print(
    `   ${end.reason}; ${end.step} steps, tape of ${store.size} bytes, ` +
      `chain head ${tape.chainHead.slice(0, 16)}…`,
  );

  print("\n2. Timeline: view switches and reflected violations");
  const factory = machines.factory({ uses: [] });
  const time = Timeline.open(tape, factory);
  let violations = 0;
  let switches = 0;
  time.listen(
    0,
    Infinity,
    new Listener((one) => {
      const text = describe(one);
      if (text === undefined) return;
      if (one.event === ViewSwitched) switches++;
      else violations++;
      print(`   ${text}`);
    }, (event) => event === ViewSwitched || event === NestedReflected),
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

  time.seekEnd();
  const query = { event: NestedReflected, where: isViolation };
  let first = time.moment;
  for (let m = time.reverseTo(query); m !== undefined;) {
    first = m;
    m = time.reverseTo(query);
  }
  time.seek({ step: first.step, ordinal: 0 });
  const around = time.events(first.step, first.step + 1);
  const event = around.find((one) => one.event === NestedReflected);
  print(`\n4. Back to the first violation: step ${first.step}`);
  let policy = "";
  const inspector = machines.inspector(
    time.kernel,
    [...guest.symbols].map(([name, address]) => ({ name, address })),
  );
  if (event !== undefined && inspector !== undefined) {
    const p = event.payload as Reflected;
    const shown = ["rip", "rsp", "rax", "rbx", "cs", "ss", "cr0", "cr4"];
    for (const row of inspector.registers(CPU)) {
      if (!shown.includes(row.name)) continue;
      print(`   ${row.name.padEnd(4)} ${row.value}  ${row.meaning ?? ""}`);
    }
    const walk = inspector.walk(CPU, p.linear);
    print(`   walk of ${hex(p.linear)}, L0's shadow as second stage:`);
    print(indent(table(walk.rows.map((row) => [
      row.level,
      row.address,
      row.entry,
      row.meaning,
    ]))));
    const page = Number(p.guestPhysical >> 12n);
    const bytes = inspector.memory(EPT_PT + page * 8, 8);
    const entry = new DataView(bytes.buffer, bytes.byteOffset)
      .getBigUint64(0, true);
    policy = rightsText(entry);
    print(
      `   policy: L1's EPT entry of page ${hex(page)} is ${
        hex(entry)
      }: ${policy}`,
    );
    for (const one of around) {
      if (one.event !== Decided) continue;
      const { row } = one.payload as { row: number };
      const doc = DECISION_TABLE.find((r) => r.row === row)?.doc;
      print(`   decision row ${row}: ${doc}`);
    }
    print(`   given to L1 as: ${exitReasonTitle(p.reason)}`);
  }

  print(`\n5. One processor with and without MBEC in hardware (${COMMON})`);
  const hardware = runScene(guest, { mbec: "hardware", cpu: COMMON });
  const emulated = STRATEGIES.map((strategy) =>
    runScene(guest, { mbec: strategy, cpu: `${COMMON},-vmx-mbec` })
  );
  const differences = emulated.map((run) =>
    difference(hardware.seen, run.seen)?.text
  );
  print(indent(sideBySide(
    ["hardware", ...STRATEGIES],
    [hardware, ...emulated],
  )));
  print("");
  STRATEGIES.forEach((strategy, i) => {
    const facts = emulated[i].seen.stream.length;
    const found = differences[i];
    print(
      `   ${strategy}: ${facts} guest-visible facts ` +
        (found === undefined ? "equal hardware's" : `differ: ${found}`),
    );
  });
  return {
    exitCode: end.exitCode,
    violations,
    switches,
    verified: verification.status,
    firstViolation: event,
    policy,
    differences,
  };
}

function indent(text: string): string {
  return text.split("\n").map((line) => `   ${line}`).join("\n");
}

if (import.meta.main) {
  const { verified, differences } = demonstrate(console.log);
  if (verified !== 0 || differences.some((d) => d !== undefined)) Deno.exit(1);
}
