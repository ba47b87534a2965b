/**
 * Going back from a crash to the write that caused it.
 *
 *   deno run --allow-read=. examples/09-back-to-the-write.ts
 *
 * A guest dies of a triple fault because a pointer is garbage. We stand at the
 * end of its tape, ask for the last store to that pointer, and are there: the
 * machine as it was, with the instruction that did it.
 */
import { machines, MemWrote } from "../mod.ts";
import { recordStrayWrite, symbols } from "./stray_write.ts";

/** What the example found. */
export interface Finding {
  readonly end: string;
  readonly step: number;
  readonly value: bigint;
  readonly code: string;
}

/** Records the guest, goes to the end, and back to the cause. */
export function findTheWrite(): Finding {
  const { time, reason } = recordStrayWrite();
  const pointer = symbols.get("pointer")!;
  time.seekEnd();
  let value = 0n;
  const moment = time.reverseTo({
    event: MemWrote,
    where: (store: { physical: bigint; value: bigint }) => {
      value = store.value;
      return store.physical === pointer;
    },
  });
  if (moment === undefined) throw new Error("nobody wrote the pointer");
  time.seek({ step: moment.step, ordinal: 0 });
  const inspector = machines.inspector(time.kernel);
  const [line] = inspector?.disassemble(0, 1) ?? [];
  return { end: reason, step: moment.step, value, code: line?.text ?? "?" };
}

if (import.meta.main) {
  const { end, step, value, code } = findTheWrite();
  console.log(`The guest ended: ${end}.`);
  console.log(`The pointer was last written in step ${step}, by`);
  console.log(`    ${code}`);
  console.log(`which stored 0x${value.toString(16)}.`);
}
