/**
 * memtest86+ from its Debian package, by the Linux boot protocol, on the least
 * memory to which it can relocate itself: a whole first pass of its default
 * tests without errors, ended by a key at the serial console; and the same
 * pass in which one bit of RAM fades during the bit fade test: it is found.
 *
 * memtest86+ waits for real time (160 s of bit fade), so a step lasts 100 ns.
 */
import {
  defineScenario,
  machines,
  MemoryEdited,
  messageOf,
  Timeline,
} from "../../../mod.ts";
import { unpacked } from "./debian.ts";
import { type Check, FOLDER, replayWhole, withTape } from "./guest.ts";
import { Session } from "./session.ts";

const PACKAGE = "memtest86+";
const TAPE = `${FOLDER}/memtest.tape`;
/** From 4 MiB it needs room for itself while it tests what is below. */
const MACHINE = { cpu: "qemu64", memory: "4352KiB", pace: 100 };
/** Errors are shown by address, and no banner covers them. */
const APPEND = "console=ttyS0,115200 reportmode=address nobigstatus";
const PASS_STEPS = 8e9;
const SLICE = 50_000_000;
const ESCAPE = 0x1b;
/** Where the bit fades, in the part that the bit fade test tests: 4 MiB on. */
const FADED = 0x0042_0008;

let session: Session | undefined;

function pass(): string {
  const image = `${unpacked(PACKAGE)}/boot/memtest86+x64.bin`;
  const scenario = defineScenario({
    machine: MACHINE,
    guest: { linux: "memtest", append: APPEND },
  });
  const files = new Map([["memtest", Deno.readFileSync(image)]]);
  session = new Session(scenario, files, TAPE);
  session.expect("Memtest86+ v");
  // #1 is off by default; #2 may be over between two updates of the console.
  for (const test of ["#0 ", "#3 ", "#4 ", "#5 ", "#6 ", "#7 ", "#8 ", "#9 "]) {
    session.expect(test, PASS_STEPS);
  }
  session.expect("fade over", PASS_STEPS);
  session.mark();
  session.expect("Pass:  1", PASS_STEPS);
  session.mark();
  const { step, time } = session.kernel.moment;
  const errors = session.shown.match(/Errors: (?!0 )\S+/);
  if (errors !== null) throw new Error(errors[0]);
  if (!session.shown.includes("Status: Pass ")) throw new Error("no pass");
  machines.serial(session.kernel)!.send(Uint8Array.of(ESCAPE));
  const status = session.end();
  session.finish();
  if (status !== 0) throw new Error(`exit status ${status}`);
  return `no errors after ${(step / 1e6).toFixed(0)} M steps, ` +
    `${(time / 1e9).toFixed(0)} virtual seconds`;
}

/** Sets one bit while the bit fade test waits. */
function fade(): string {
  if (session === undefined) throw new Error("there was no pass");
  const { step } = session.marks[0];
  return withTape(TAPE, (tape) => {
    const time = Timeline.open(tape, machines.factory({ uses: [] }));
    time.seek({ step, ordinal: 0 });
    const { kernel } = time;
    // Not a fork: that would record the pass up to here once more.
    kernel.inject(MemoryEdited, {
      physicalAddress: FADED,
      bytes: Uint8Array.of(1),
    });
    let shown = "";
    machines.serial(kernel)!.listen((byte) => {
      shown += String.fromCharCode(byte);
      return undefined;
    });
    const limit = step + PASS_STEPS;
    while (!shown.includes("Pass:  1") && kernel.moment.step < limit) {
      kernel.run({ budgetSteps: SLICE });
    }
    const address = FADED.toString(16).padStart(12, "0");
    const line = new RegExp(
      ` 10 +${address} .*0000000000000000 +0000000000000001`,
    ).exec(shown);
    if (line === null || !shown.includes("Errors: 1 ")) {
      throw new Error(
        `not found; the console ends with:\n${shown.slice(-2000)}`,
      );
    }
    return `1 error, at 0x${FADED.toString(16)}`;
  });
}

/** Why the package is not there, if it is not. */
function missing(): string | undefined {
  try {
    unpacked(PACKAGE);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

/** The checks, in order. */
export const MEMTEST_CHECKS: readonly Check[] = [
  { name: "memtest86+: completes its first pass", run: pass },
  {
    name: "memtest86+: replays with equal digests",
    run: () => replayWhole(TAPE),
  },
  { name: "memtest86+: finds a bit that fades", run: fade },
].map((check) => ({ ...check, missing }));
