/**
 * A fork in which the fatal write did not happen.
 *
 *   deno run --allow-read=. examples/10-fork.ts
 *
 * The past is never rewritten: at the moment of the bad store a new tape
 * begins, with one edit — RIP behind the store — as its first input. The other
 * future prints its message and ends well.
 */
import { machines, MemoryStore, RegisterEdited, tapeWriter } from "../mod.ts";
import { findTheWrite } from "./09-back-to-the-write.ts";
import { recordStrayWrite, symbols } from "./stray_write.ts";

/** How the two futures ended. */
export interface Futures {
  readonly past: string;
  readonly fork: string;
  readonly exitCode: number | undefined;
  readonly serial: string;
}

/** Runs the fork to its end. */
export function forkWithoutTheWrite(): Futures {
  const { step } = findTheWrite();
  const { time, reason } = recordStrayWrite();
  const fork = time.fork(
    { step, ordinal: 0 },
    [{
      event: RegisterEdited,
      payload: { vcpu: 0, register: "rip", value: symbols.get("stored")! },
    }],
    tapeWriter(new MemoryStore()),
  );
  let serial = "";
  machines.serial(fork.kernel)?.listen((byte) => {
    serial += String.fromCharCode(byte);
    return undefined;
  });
  const end = fork.kernel.run({ budgetSteps: 1_000_000 });
  fork.recorder.finish();
  return {
    past: reason,
    fork: end.reason ?? end.kind,
    exitCode: end.exitCode,
    serial,
  };
}

if (import.meta.main) {
  const { past, fork, exitCode, serial } = forkWithoutTheWrite();
  console.log(`Recorded: ${past}.`);
  console.log(`Fork:     ${fork}, exit status ${exitCode}.`);
  console.log(`The fork's serial port said ${JSON.stringify(serial)}.`);
}
