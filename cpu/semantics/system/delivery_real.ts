/**
 * Event delivery in real-address mode through the vector table at IDTR.base
 * (SDM 3A §20.1.4): FLAGS, CS and IP as words, no error code.
 */
import { Vector } from "../../arch/exceptions.ts";
import { Rflags } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import { Outcome, type OutcomeCode } from "../../isa/row.ts";
import { Seg } from "../../layout.ts";
import type { DeliveredEvent } from "../../port.ts";
import { failed, gp, readSystem } from "./common.ts";
import { pushedFlags, returnRip } from "./events.ts";
import { loadReal } from "./descriptors.ts";
import { Stack } from "./stack.ts";

/** SDM 2A INT n, REAL-ADDRESS-MODE. @returns Done with state committed, or a fault */
export function deliverReal(
  cpu: CpuContext,
  event: DeliveredEvent,
): OutcomeCode {
  const { v } = cpu;
  // The vector's four bytes lie beyond the table's limit: #GP.
  if (event.vector * 4 + 3 > v.idtrLimit) return gp(cpu, -1);
  const entry = readSystem(cpu, v.idtrBase + BigInt(event.vector * 4), 4);
  if (entry === undefined) return failed(cpu);
  const stack = Stack.current(cpu);
  const ok = stack.push(16, BigInt(pushedFlags(cpu, event))) &&
    stack.push(16, BigInt(v.segSelector(Seg.CS))) &&
    stack.push(16, returnRip(cpu, event));
  if (!ok) {
    if (v.pending?.vector === Vector.SS) v.pending.errorCode = -1;
    return failed(cpu);
  }
  stack.commit();
  v.rflags &= ~(Rflags.IF | Rflags.TF | Rflags.AC | Rflags.RF);
  loadReal(v, Seg.CS, Number(entry >> 16n) & 0xffff);
  v.rip = entry & 0xffffn;
  return Outcome.Done;
}
