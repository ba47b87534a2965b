/**
 * Exceptions of L1 on behalf of whoever watches them (introspection): the
 * exception bitmap of vmcs01 makes them exit; what the watcher does not take
 * is re-injected so that L1 sees what it would have seen natively (SDM 3C
 * §27.6 event injection, §28.2.4 IDT-vectoring; double faults: 3A table 6-5).
 */
import { Vector } from "../../cpu/arch/exceptions.ts";
import { Rflags } from "../../cpu/arch/flags.ts";
import { TRIPLE_FAULT_EXIT } from "../../cpu/engine/executor.ts";
import { Gpr, Interruptibility } from "../../cpu/layout.ts";
import { combine } from "../../cpu/semantics/system/delivery.ts";
import { eventOf, EventType } from "../../cpu/semantics/system/events.ts";
import { Interruption, VmcsField as F } from "../vmx/api.ts";
import type { ExceptionWatcher, L1Fault } from "./api.ts";
import { injectException } from "./completion.ts";
import type { L0 } from "./nested_state.ts";

/**
 * Deals with an exit of L1 for reason 0.
 * @returns false when L1 ended in a triple fault
 */
export function exceptionOfL1(
  l0: L0,
  watcher: ExceptionWatcher | undefined,
): boolean {
  const { operations: ops, cpu } = l0;
  const info = Number(ops.vmread(F.ExitInterruptionInformation));
  const errorCode = info & Interruption.ErrorCodeValid
    ? Number(ops.vmread(F.ExitInterruptionErrorCode))
    : -1;
  const vectoring = Number(ops.vmread(F.IdtVectoringInformation));
  const fault: L1Fault = {
    cpu,
    vector: info & 0xff,
    errorCode,
    linear: ops.vmread(F.ExitQualification),
    rip: ops.vmread(F.GuestRip),
    rsp: ops.vmread(F.GuestRsp),
    rflags: Number(ops.vmread(F.GuestRflags)),
    cr3: ops.vmread(F.GuestCr3),
    delivering: (vectoring & Interruption.Valid) !== 0,
  };
  const answer = watcher?.exception(fault);
  if (answer === undefined) return reinject(l0, fault, vectoring);
  ops.vmwrite(F.GuestRip, answer.rip);
  ops.vmwrite(F.GuestRflags, BigInt((fault.rflags & ~Rflags.RF) >>> 0));
  cpu.v.setGpr(Gpr.RAX, answer.rax);
  return true;
}

/** The exception goes on as if it had not exited. */
function reinject(l0: L0, fault: L1Fault, vectoring: number): boolean {
  const { operations: ops, cpu } = l0;
  if (fault.vector === Vector.PF) cpu.v.cr2 = fault.linear;
  let { vector, errorCode } = fault;
  if (fault.delivering) {
    const type = (vectoring & Interruption.TypeMask) >>> Interruption.TypeShift;
    if (type === EventType.Nmi) {
      // An NMI whose delivery fails has begun: NMIs are blocked natively too.
      const blocking = Number(ops.vmread(F.GuestInterruptibility));
      ops.vmwrite(
        F.GuestInterruptibility,
        BigInt(blocking | Interruptibility.ByNmi),
      );
    }
    const first = eventOf({
      vector: vectoring & 0xff,
      errorCode: -1,
      payload: 0n,
      software: false,
    });
    const next = combine({ ...first, type }, {
      vector,
      errorCode,
      payload: 0n,
      software: false,
    });
    if (next === "triple") {
      l0.stop("triple fault", TRIPLE_FAULT_EXIT);
      return false;
    }
    if (next === "double") {
      vector = Vector.DF;
      errorCode = 0;
      // The exit saved RF for the fault that #DF takes the place of.
      ops.vmwrite(F.GuestRflags, BigInt((fault.rflags & ~Rflags.RF) >>> 0));
    }
  }
  injectException(l0, vector, errorCode);
  return true;
}
