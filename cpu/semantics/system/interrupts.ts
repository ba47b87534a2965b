/**
 * Software interrupts: INT n, INT3, INTO, INT1 (SDM 2A INT n/INTO/INT3/INT1).
 * The whole instruction, delivery included, is one step.
 */
import { Vector } from "../../arch/exceptions.ts";
import { Rflags } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import type { Insn } from "../../isa/insn.ts";
import { Outcome, type OutcomeCode } from "../../isa/row.ts";
import { GuestMode } from "../../layout.ts";
import { failed, gp, virtual8086 } from "./common.ts";
import { deliverEvent } from "./delivery.ts";
import { EventType } from "./events.ts";
import { redirection, toProgram } from "./virtual8086.ts";

/**
 * Delivers; `Completed` when the event itself arrived, `Exit` when it turned
 * into something else (which is delivered or exited already).
 */
function software(
  cpu: CpuContext,
  insn: Insn,
  vector: number,
  type: number,
  payload = 0n,
): OutcomeCode {
  const event = {
    vector,
    type,
    errorCode: -1,
    instructionLength: insn.length,
  };
  return deliverEvent(cpu, event, payload) ? Outcome.Completed : Outcome.Exit;
}

/** Whether the exception bitmap turns this software exception into an exit. */
function intercepted(
  cpu: CpuContext,
  vector: number,
  payload = 0n,
): boolean {
  const { v } = cpu;
  if (v.guestMode === GuestMode.None || !cpu.virtualization) return false;
  v.raise(vector, -1, payload, true);
  const exited = cpu.virtualization.interceptException(cpu);
  v.pending = undefined;
  return exited;
}

/** INT n. */
export function int(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  const vector = Number(insn.operands[0].imm & 0xffn);
  if (virtual8086(v)) {
    const to = redirection(cpu, vector);
    if (to === "refused") return gp(cpu);
    if (to === "faulted") return failed(cpu);
    if (to === "program") return toProgram(cpu, vector);
  }
  return software(cpu, insn, vector, EventType.SoftwareInterrupt);
}

/** INT3. */
export function int3(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (intercepted(cpu, Vector.BP)) return Outcome.Exit;
  return software(cpu, insn, Vector.BP, EventType.SoftwareException);
}

/** INTO. */
export function into(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (!(cpu.v.rflags & Rflags.OF)) return Outcome.Done;
  if (intercepted(cpu, Vector.OF)) return Outcome.Exit;
  return software(cpu, insn, Vector.OF, EventType.SoftwareException);
}

/**
 * INT1 (ICEBP): a #DB that no DPL check guards. Debug traps that MOV SS held
 * back arrive with it, as one exception.
 */
export function int1(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  const held = BigInt(v.pendingDebug & DR6_BREAKPOINTS);
  if (intercepted(cpu, Vector.DB, held)) return Outcome.Exit;
  v.pendingDebug = 0;
  const type = EventType.PrivilegedSoftwareException;
  return software(cpu, insn, Vector.DB, type, held);
}

const DR6_BREAKPOINTS = 0xf;
