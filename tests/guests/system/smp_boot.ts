/**
 * Debian's cloud kernel on two vCPUs with ACPI, local APICs and IOAPIC: a shell
 * that sees both, an end by ACPI power-off; its tape replays and is travelled
 * through.
 */
import { type Check, debianGuest, FOLDER, replayWhole } from "./guest.ts";
import { PROMPT, Session } from "./session.ts";
import { travelAlong } from "./travel.ts";

const TAPE = `${FOLDER}/smp.tape`;
const APPEND = "console=ttyS0 nokaslr cryptomgr.notests";

let session: Session | undefined;

function boot(): string {
  const { scenario, files } = debianGuest({
    name: "smp",
    machine: { cpu: "qemu64", memory: "128MiB", cpus: 2 },
    append: APPEND,
  });
  session = new Session(scenario, files, TAPE);
  session.expect("Linux version 6.1.");
  session.mark();
  session.expect("smp: Brought up 1 node, 2 CPUs");
  session.mark();
  session.expect(PROMPT);
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

/** The checks, in order. */
export const SMP_CHECKS: readonly Check[] = [
  { name: "smp: boots two vCPUs to a shell, powers off", run: boot },
  { name: "smp: replays with equal digests", run: () => replayWhole(TAPE) },
  { name: "smp: seeks and steps back", run: travel },
];
