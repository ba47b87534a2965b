/**
 * Debian's cloud kernel on two vCPUs with ACPI, local APICs and IOAPIC: a shell
 * that sees both, an end by ACPI power-off; its tape replays, is travelled
 * through, and the reference engine agrees on windows of it.
 */
import { ActivityChanged } from "../../../mod.ts";
import { type Check, debianGuest, FOLDER, replayWhole } from "./guest.ts";
import { LEAN } from "./lean.ts";
import { Session } from "./session.ts";
import { travelAlong } from "./travel.ts";
import { compareWindows } from "./windows.ts";

const TAPE = `${FOLDER}/smp.tape`;
/** As LEAN's; it ends by ACPI. */
const APPEND = "console=ttyS0 nokaslr cryptomgr.notests";
/** Activity state (SDM 3C §25.4.2). */
const ACTIVE = 0;

let session: Session | undefined;
/** Steps at which the second vCPU started, or woke. */
let wakes: readonly number[] = [];

function boot(): string {
  const { scenario, files } = debianGuest({
    name: "smp",
    machine: { cpu: "qemu64", memory: `${LEAN.megabytes}MiB`, cpus: 2 },
    append: APPEND,
  });
  session = new Session(scenario, files, TAPE);
  wakes = session.steps(
    ActivityChanged,
    ({ cpu, activity }) => cpu === 1 && activity === ACTIVE,
  );
  session.expect("Linux version 6.1.");
  session.mark();
  session.expect("smp: Brought up 1 node, 2 CPUs");
  session.mark();
  session.expect(LEAN.prompt);
  session.mark();
  const { step } = session.kernel.moment;
  session.ask("nproc", "2");
  session.ask("grep -c processor /proc/cpuinfo", "2");
  session.ask("cat /proc/interrupts", "IO-APIC");
  session.type("poweroff -f");
  const status = session.end();
  session.finish();
  if (status !== 0) throw new Error(`exit status ${status}`);
  return `a shell after ${
    (step / 1e6).toFixed(0)
  } M steps, both vCPUs, power-off`;
}

function travel(): string {
  if (session === undefined) throw new Error("there was no boot");
  return travelAlong(TAPE, session.marks);
}

function engines(): string {
  if (session === undefined) throw new Error("there was no boot");
  const starts = session.marks.map(({ step }) => step);
  const { text, cpus } = compareWindows(TAPE, [wakes[0], ...starts]);
  if (cpus.size !== 2) throw new Error("only one vCPU ran in the windows");
  return text;
}

/** The checks, in order. */
export const SMP_CHECKS: readonly Check[] = [
  { name: "smp: boots two vCPUs to a shell, powers off", run: boot },
  { name: "smp: replays with equal digests", run: () => replayWhole(TAPE) },
  { name: "smp: seeks and steps back", run: travel },
  { name: "smp: windows on the reference engine", run: engines },
];
