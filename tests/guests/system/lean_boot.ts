/**
 * Debian's cloud kernel on one vCPU without ACPI, PCI or local APIC (the lean
 * machine): a shell, typed commands, an end; its tape replays, is travelled
 * through, survives SIGKILL, and the reference engine agrees on windows of it.
 */
import { machines, verifyTape } from "../../../mod.ts";
import {
  type Check,
  debianGuest,
  FOLDER,
  type Guest,
  replayWhole,
  withTape,
} from "./guest.ts";
import { LEAN, TRIPLE_FAULT } from "./lean.ts";
import { Session } from "./session.ts";
import { travelAlong } from "./travel.ts";
import { compareWindows } from "./windows.ts";

const TAPE = `${FOLDER}/lean.tape`;
const KILLED = `${FOLDER}/killed.tape`;
/** Exit status of a torn tape that is usable. */
const TORN = 4;
/** On the console in mid-boot: what a recording is killed at. */
const MIDWAY = "Serial: 8250";
/** By then that is long past: the kernel does not say it. */
const MOST_STEPS = 2e9;

let made: Guest | undefined;
function guest(): Guest {
  return made ??= debianGuest({
    name: "lean",
    machine: { cpu: LEAN.cpu, memory: `${LEAN.megabytes}MiB` },
    append: LEAN.append,
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
  session.expect(LEAN.prompt);
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
  return compareWindows(TAPE, seen().marks.map(({ step }) => step)).text;
}

/** Records until the console shows MIDWAY, with keys pressed, then SIGKILL. */
async function recordAndKill(): Promise<void> {
  const { bzImage, initrd } = guest();
  const main = new URL("../../../host/cli/main.ts", import.meta.url).pathname;
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", main, "run", "--kernel", bzImage, "--initrd", initrd],
      ...["--append", LEAN.append, "--cpu", LEAN.cpu],
      ...["--memory", `${LEAN.megabytes}MiB`, "--max-steps", `${MOST_STEPS}`],
      ...["--tape", KILLED, "--record", "inputs"],
    ],
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const keys = child.stdin.getWriter();
  let shown = "", killed = false;
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    shown += text;
    if (killed) continue;
    killed = shown.includes(MIDWAY);
    if (killed) child.kill("SIGKILL");
    else await keys.write(new TextEncoder().encode("\n")).catch(() => {});
  }
  await keys.abort().catch(() => {});
  const { code, signal } = await child.status;
  if (signal !== "SIGKILL") {
    throw new Error(
      `the recording ended by itself with status ${code}; its console ends ` +
        `with:\n${shown.slice(-800)}`,
    );
  }
}

async function kill(): Promise<string> {
  await recordAndKill();
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
