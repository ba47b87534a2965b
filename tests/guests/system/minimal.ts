/**
 * Debian's cloud kernel on the model `minimal`: the ten features that
 * `platform.md` found sufficient (no TSC, no APIC, no NX) take it to a shell.
 */
import { type Check, debianGuest, FOLDER } from "./guest.ts";
import { LEAN, TRIPLE_FAULT } from "./lean.ts";
import { Session } from "./session.ts";

function boot(): string {
  const { scenario, files } = debianGuest({
    name: "minimal",
    machine: { cpu: "minimal", memory: `${LEAN.megabytes}MiB` },
    append: LEAN.append,
  });
  const session = new Session(scenario, files, `${FOLDER}/minimal.tape`);
  session.expect(LEAN.prompt);
  const { step } = session.kernel.moment;
  session.ask("grep flags /proc/cpuinfo", "fpu msr pae cx8 cmov fxsr sse sse2");
  session.type("reboot -f");
  const status = session.end();
  session.finish();
  if (status !== TRIPLE_FAULT) throw new Error(`exit status ${status}`);
  return `a shell after ${(step / 1e6).toFixed(0)} M steps, reboot`;
}

/** The check. */
export const MINIMAL_CHECKS: readonly Check[] = [
  { name: "minimal: boots to a shell on ten features", run: boot },
];
