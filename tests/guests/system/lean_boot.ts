/**
 * Debian's cloud kernel on one vCPU without ACPI, PCI or local APIC (the lean
 * machine): a shell, typed commands, an end; its tape replays, is travelled
 * through, survives SIGKILL, and the reference engine agrees on windows of it.
 */
import { machines, Timeline, verifyTape } from "../../../mod.ts";
import {
  type Check,
  debianGuest,
  FOLDER,
  type Guest,
  replayWhole,
  withTape,
} from "./guest.ts";
import { PROMPT, Session } from "./session.ts";
import { travelAlong } from "./travel.ts";

const TAPE = `${FOLDER}/lean.tape`;
const KILLED = `${FOLDER}/killed.tape`;
/** What `reboot=t` makes of a reboot. */
const TRIPLE_FAULT = 6;
const APPEND = "console=ttyS0 reboot=t nokaslr cryptomgr.notests";
/** Seconds. */
const KILL_AFTER = "7";
/** As a shell tells SIGKILL. */
const KILLED_STATUS = 137;
/** Exit status of a torn tape that is usable. */
const TORN = 4;
/** Steps of a window that the reference engine runs again. */
const WINDOW = 20_000;

let made: Guest | undefined;
function guest(): Guest {
  return made ??= debianGuest({
    name: "lean",
    machine: { cpu: "qemu64,-apic", memory: "128MiB" },
    append: APPEND,
  });
}

let session: Session | undefined;

function boot(): string {
  const { scenario, files } = guest();
  session = new Session(scenario, files, TAPE);
  session.expect("Linux version 6.1.");
  session.mark();
  session.expect("Freeing unused kernel");
  session.mark();
  session.expect(PROMPT);
  session.mark();
  const { step } = session.kernel.moment;
  session.ask("uname -srm", "Linux 6.1.");
  session.ask("echo $((6 * 7))", "42");
  session.ask("cat /proc/cpuinfo", "model name");
  session.ask("ls /proc/1", "cmdline");
  session.type("reboot -f");
  const status = session.end();
  session.finish();
  if (status !== TRIPLE_FAULT) throw new Error(`exit status ${status}`);
  return `a shell after ${(step / 1e6).toFixed(0)} M steps, 4 commands, reboot`;
}

function seen(): Session {
  if (session === undefined) throw new Error("there was no boot");
  return session;
}

function replay(): string {
  seen();
  return replayWhole(TAPE);
}

function travel(): string {
  return travelAlong(TAPE, seen().marks);
}

function engines(): string {
  const { marks } = seen();
  return withTape(TAPE, (tape) => {
    const [t0, reference] = ["t0", "reference"].map((engine) =>
      Timeline.open(tape, machines.factory({ engine, uses: [] }))
    );
    let windows = 0;
    for (const { step } of marks) {
      const near = tape.keyframes.findLast((frame) => frame.step <= step);
      if (near === undefined) continue;
      const end = { step: near.step + WINDOW, ordinal: 0 };
      const states = [t0, reference].map((time) => {
        time.seek(end);
        return time.kernel.stateDigest();
      });
      if (states[0] !== states[1]) {
        throw new Error(`${WINDOW} steps from ${near.step} differ`);
      }
      windows++;
    }
    if (windows === 0) throw new Error("the tape has no keyframes");
    return `${windows} windows of ${WINDOW} steps equal on both`;
  });
}

/** Kills a recording process in mid-boot. */
function kill(): string {
  const { bzImage, initrd } = guest();
  const main = new URL("../../../host/cli/main.ts", import.meta.url).pathname;
  const words = [
    ...["run", "--kernel", bzImage, "--initrd", initrd, "--append", APPEND],
    ...["--memory", "128", "--cpu", "qemu64,-apic"],
    ...["--tape", KILLED, "--record", "inputs"],
  ];
  // Somebody presses a key every second; SIGKILL comes from outside.
  const script = 'while sleep 1; do echo; done | timeout -s KILL "$@"';
  const { code } = new Deno.Command("bash", {
    args: [
      ...["-c", script, "bash", KILL_AFTER, Deno.execPath()],
      ...["run", "-A", main, ...words],
    ],
    stdout: "null",
    stderr: "null",
  }).outputSync();
  if (code !== KILLED_STATUS) {
    throw new Error(`the recording ended by itself with status ${code}`);
  }
  return withTape(KILLED, (tape) => {
    if (tape.state !== "torn") throw new Error(`the tape is ${tape.state}`);
    const found = verifyTape(tape, machines.factory({ uses: [] }));
    const last = tape.inputs.at(-1);
    if (
      found.status !== TORN || !found.complete || last === undefined ||
      last.step === 0 || found.step < last.step
    ) {
      throw new Error(
        `status ${found.status} at step ${found.step}; the last of ` +
          `${tape.inputs.length} inputs is at step ${last?.step}`,
      );
    }
    return `${tape.inputs.length} inputs, replays to the last at step ` +
      `${(last.step / 1e6).toFixed(0)} M`;
  });
}

/** In this order: the later ones look at the first one's tape. */
export const LEAN_CHECKS: readonly Check[] = [
  { name: "lean: boots to a shell, takes commands, ends", run: boot },
  { name: "lean: replays with equal digests", run: replay },
  { name: "lean: seeks and steps back", run: travel },
  { name: "lean: windows on the reference engine", run: engines },
  { name: "lean: survives SIGKILL", run: kill },
];
