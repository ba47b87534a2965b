/**
 * FILD (SDM vol. 1 §8.1.2, vol. 2A): pushes a signed integer as an 80-bit
 * number, which holds every 64-bit integer exactly. FOP stays: it is recorded
 * for unmasked exceptions only (SDM vol. 1 §8.1.9.1), and none is pending.
 * Invariant: nothing changes before the operand has been read.
 */
import type { CpuContext } from "../context.ts";
import type { Insn } from "../isa/insn.ts";
import { type CallFunction, Outcome } from "../isa/row.ts";
import { Seg, VCPU } from "../layout.ts";
import { Fsw, pendingError, setControl, unavailable } from "./fpu_control.ts";
import { effectiveOffset, memoryOf, readOperand } from "./operands.ts";

const EXPONENT_BIAS = 16383;
/** Stack fault, its invalid-operation flag, and C1: overflow (§8.5.1.1). */
const IE = 1, SF = 0x40, C1 = 0x200;
/** Tags (SDM vol. 1 figure 8-7). */
const Tag = { Valid: 0, Zero: 1, Special: 2, Empty: 3 } as const;
/** Real indefinite: the masked response to invalid operation. */
const INDEFINITE = { significand: 0xc000_0000_0000_0000n, high: 0xffff };

interface Extended {
  readonly significand: bigint;
  /** Sign and exponent. */
  readonly high: number;
}

/** An integer as an 80-bit number; exact. */
export function extendedOf(value: bigint): Extended {
  if (value === 0n) return { significand: 0n, high: 0 };
  const magnitude = value < 0n ? -value : value;
  const bits = magnitude.toString(2).length;
  return {
    significand: magnitude << BigInt(64 - bits),
    high: (value < 0n ? 0x8000 : 0) | EXPONENT_BIAS + bits - 1,
  };
}

/** FILD m16int, m32int, m64int. */
export function fild(bits: 16 | 32 | 64): CallFunction {
  return (cpu, insn) => {
    if (unavailable(cpu) || pendingError(cpu)) return Outcome.Fault;
    const raw = readOperand(cpu, insn, 0, bits);
    if (cpu.access.outcome !== 0) {
      return cpu.access.outcome as typeof Outcome.Fault;
    }
    const { v } = cpu;
    recordPointers(cpu, insn);
    const fsw = v.word(VCPU.fsw);
    const top = ((fsw >> 11) - 1) & 7;
    const occupied = ((v.word(VCPU.ftw) >> top * 2) & 3) !== Tag.Empty;
    const flags = occupied ? IE | SF | C1 : 0;
    const fcw = v.word(VCPU.fcw);
    if (occupied && !(fcw & IE)) { // unmasked: the stack stays
      setControl(cpu, fcw, fsw | flags);
      return Outcome.Done;
    }
    push(
      cpu,
      top,
      occupied ? INDEFINITE : extendedOf(BigInt.asIntN(bits, raw)),
    );
    setControl(cpu, fcw, fsw & ~(Fsw.TOP | C1) | flags | top << 11);
    return Outcome.Done;
  };
}

function push(cpu: CpuContext, top: number, value: Extended): void {
  const { v } = cpu;
  v.setQuad(VCPU.x87 + top * 16, value.significand);
  v.setWord(VCPU.x87 + top * 16 + 8, value.high);
  const tag = value === INDEFINITE
    ? Tag.Special
    : value.significand === 0n
    ? Tag.Zero
    : Tag.Valid;
  const shift = top * 2;
  v.setWord(VCPU.ftw, v.word(VCPU.ftw) & ~(3 << shift) | tag << shift);
}

/** Instruction and operand pointers (SDM vol. 1 §8.1.8). */
function recordPointers(cpu: CpuContext, insn: Insn): void {
  const { v } = cpu;
  const memory = memoryOf(insn);
  v.setQuad(VCPU.fip, insn.rip);
  v.setQuad(VCPU.fdp, effectiveOffset(cpu, insn, memory));
  v.setWord(VCPU.fcs, v.segSelector(Seg.CS));
  v.setWord(VCPU.fds, v.segSelector(memory.segment));
}
