/**
 * The few ordinary instructions that are procedures rather than data paths
 * (SDM vol. 2 ENTER, CMPXCHG16B, CLD, STD, PAUSE): they loop, check linear
 * alignment, or write flags outside the arithmetic ones.
 */
import { Vector } from "../arch/exceptions.ts";
import { Rflags } from "../arch/flags.ts";
import type { CpuContext } from "../context.ts";
import type { Insn } from "../isa/insn.ts";
import { Outcome, type OutcomeCode } from "../isa/row.ts";
import { Gpr, Seg } from "../layout.ts";
import { Access } from "../port.ts";
import { effectiveOffset, memoryOf, sizeMask } from "./operands.ts";

const { RAX, RCX, RDX, RBX, RSP, RBP } = Gpr;
const MASK64 = sizeMask(64);

/** PAUSE once nothing intercepted it: who spins waits for another vCPU. */
export function pause(): OutcomeCode {
  return Outcome.Spin;
}

/** CLD. */
export function cld(cpu: CpuContext): OutcomeCode {
  cpu.v.rflags &= ~Rflags.DF;
  return Outcome.Done;
}

/** STD. */
export function std(cpu: CpuContext): OutcomeCode {
  cpu.v.rflags |= Rflags.DF;
  return Outcome.Done;
}

/**
 * ENTER: pushes the frame pointer, copies `level` − 1 outer frame pointers and
 * releases room. A write with the final stack pointer must be possible.
 */
export function enter(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v, access } = cpu;
  const room = insn.operands[0].imm;
  const level = Number(insn.operands[1].imm & 31n);
  const bytes = insn.operandSize / 8, step = BigInt(bytes);
  const width = sizeMask(insn.stackSize);
  const truncated = sizeMask(insn.operandSize);
  let sp = v.gpr(RSP) & width;
  const push = (value: bigint): boolean => {
    sp = (sp - step) & width;
    return access.writeSegment(Seg.SS, sp, bytes, value & truncated) === 0;
  };
  if (!push(v.gpr(RBP))) return access.outcome as OutcomeCode;
  const frame = sp;
  let outer = v.gpr(RBP) & width;
  for (let i = 1; i < level; i++) {
    outer = (outer - step) & width;
    const value = access.readSegment(Seg.SS, outer, bytes);
    if (access.outcome !== 0 || !push(value)) {
      return access.outcome as OutcomeCode;
    }
  }
  if (level > 0 && !push(frame)) return access.outcome as OutcomeCode;
  sp = (sp - room) & width;
  access.outcome = 0;
  const linear = access.linear(Seg.SS, sp, bytes, true);
  if (linear === undefined) return access.outcome as OutcomeCode;
  const probed = access.probe(linear, bytes, Access.Write);
  if (probed !== 0) return probed as OutcomeCode;
  v.setGprSized(RBP, insn.operandSize, frame & truncated);
  v.setGprSized(RSP, insn.stackSize, sp);
  return Outcome.Done;
}

/** CMPXCHG16B: #GP(0) unless the linear address is 16-byte aligned. */
export function cmpxchg16b(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v, access } = cpu;
  const memory = memoryOf(insn);
  const offset = effectiveOffset(cpu, insn, memory);
  access.outcome = 0;
  const linear = access.linear(memory.segment, offset, 16, true);
  if (linear === undefined) return access.outcome as OutcomeCode;
  if (linear & 15n) return v.raise(Vector.GP, 0);
  const low = access.read(linear, 8, Access.ReadForWrite);
  if (access.outcome !== 0) return access.outcome as OutcomeCode;
  const next = (linear + 8n) & MASK64;
  const high = access.read(next, 8, Access.ReadForWrite);
  if (access.outcome !== 0) return access.outcome as OutcomeCode;
  const equal = low === v.gpr(RAX) && high === v.gpr(RDX);
  // As CMPXCHG, it writes whatever the comparison says.
  access.write(linear, 8, equal ? v.gpr(RBX) : low);
  if (access.outcome !== 0) return access.outcome as OutcomeCode;
  access.write(next, 8, equal ? v.gpr(RCX) : high);
  if (access.outcome !== 0) return access.outcome as OutcomeCode;
  if (equal) v.rflags |= Rflags.ZF;
  else {
    v.setGpr(RAX, low);
    v.setGpr(RDX, high);
    v.rflags &= ~Rflags.ZF;
  }
  return Outcome.Done;
}
