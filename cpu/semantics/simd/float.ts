/**
 * What all SSE floating-point procedures share: operands in scratch lanes, the
 * environment that MXCSR makes, and how exceptions end (SDM vol. 1 §10.2.3,
 * §11.5). The flags of all lanes are collected; when one of IE, DE and ZE is
 * unmasked, only these three are reported (§11.5.2); MXCSR keeps the flags of a
 * faulting instruction, its destination stays.
 * Invariant: nothing outside the scratch lanes changes before `settle` agrees.
 */
import { Vector } from "../../arch/exceptions.ts";
import { Cr4 } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import { type Insn, OperandKind } from "../../isa/insn.ts";
import { VCPU } from "../../layout.ts";
import { FloatEnvironment, sseNan } from "../softfloat/softfloat.ts";
import { complete, readVector, simdUnavailable } from "./operands.ts";

/** MXCSR bits (SDM vol. 1 figure 10-3); flags in bits 5:0, masks in 12:7. */
const DAZ = 0x40, FTZ = 0x8000, MASK_SHIFT = 7, RC_SHIFT = 13;
const FLAGS = 0x3f;
/** Exceptions found before any result is computed: invalid, denormal, zero divide. */
const PRE_COMPUTATION = 7;

const lanes = new ArrayBuffer(48);
/** Three registers of scratch: destination, source, result; 32-bit words. */
export const words: Uint32Array = new Uint32Array(lanes);
/** The same as f32 lanes, */
export const singles: Float32Array = new Float32Array(lanes);
/** as f64 lanes, */
export const doubles: Float64Array = new Float64Array(lanes);
/** and as 64-bit lanes. */
export const quads: BigUint64Array = new BigUint64Array(lanes);
/** First word of each register in `words` and `singles`; half of it elsewhere. */
export const Scratch = { Destination: 0, Source: 4, Result: 8 } as const;

/** The one environment of all instructions. */
export const env: FloatEnvironment = new FloatEnvironment(sseNan);

/** Fills the environment from MXCSR. */
export function beginFloat(cpu: CpuContext): void {
  const mxcsr = cpu.v.word(VCPU.mxcsr);
  env.begin();
  env.rounding = mxcsr >> RC_SHIFT & 3;
  env.masks = mxcsr >> MASK_SHIFT & FLAGS;
  env.denormalsAreZeros = (mxcsr & DAZ) !== 0;
  env.flushToZero = (mxcsr & FTZ) !== 0;
}

/** Merges the flags into MXCSR. @returns false: #XM (or #UD) was raised */
export function settle(cpu: CpuContext): boolean {
  let { flags } = env;
  if (flags === 0) return true;
  const { v } = cpu;
  const unmasked = flags & ~env.masks;
  if (unmasked & PRE_COMPUTATION) flags &= PRE_COMPUTATION;
  v.setWord(VCPU.mxcsr, v.word(VCPU.mxcsr) | flags);
  if (unmasked === 0) return true;
  v.raise(v.cr4 & Cr4.OSXMMEXCPT ? Vector.XM : Vector.UD);
  return false;
}

/** Copies an XMM register to the scratch lanes. */
function loadXmm(cpu: CpuContext, register: number, at: number): void {
  const from = VCPU.vector + register * 64;
  for (let i = 0; i < 4; i++) words[at + i] = cpu.v.word(from + 4 * i);
}

/** Copies the result lanes to an XMM register. */
export function storeXmm(cpu: CpuContext, register: number, count = 4): void {
  const to = VCPU.vector + register * 64;
  for (let i = 0; i < count; i++) {
    cpu.v.setWord(to + 4 * i, words[Scratch.Result + i]);
  }
}

/**
 * Checks availability, loads operand 1 as the source (zero-extended) and, if it
 * is an XMM register, operand 0 as the destination; begins the environment.
 * @returns false: faulted; `outcomeOf` tells how
 */
export function loadOperands(cpu: CpuContext, insn: Insn): boolean {
  cpu.access.outcome = 0;
  if (simdUnavailable(cpu, insn)) return false;
  const [destination, source] = insn.operands;
  if (source.kind === OperandKind.Xmm) {
    loadXmm(cpu, source.reg, Scratch.Source);
  } else {
    const value = readVector(cpu, insn, 1);
    if (cpu.access.outcome !== 0) return false;
    quads[Scratch.Source / 2] = value;
    quads[Scratch.Source / 2 + 1] = value >> 64n;
  }
  if (destination.kind === OperandKind.Xmm) {
    loadXmm(cpu, destination.reg, Scratch.Destination);
  }
  beginFloat(cpu);
  return true;
}

export { complete };
