/**
 * x87 control instructions and EMMS (SDM vol. 1 §8.1, vol. 2): control, status
 * and tag words and the #NM and #MF rules, with no arithmetic. Environments and
 * images are in fpu_image.ts.
 */
import { Vector } from "../arch/exceptions.ts";
import { Cr0 } from "../arch/flags.ts";
import type { CpuContext } from "../context.ts";
import { type Insn, OperandKind } from "../isa/insn.ts";
import { type CallFunction, Outcome, type OutcomeCode } from "../isa/row.ts";
import { Gpr, Seg, VCPU } from "../layout.ts";
import { readOperand, writeOperand } from "./operands.ts";

/** Status word bits (SDM vol. 1 §8.1.3). */
export const Fsw = {
  exceptions: 0x3f,
  ES: 0x80,
  B: 0x8000,
  TOP: 0x3800,
} as const;
/** Tags (SDM vol. 1 figure 8-7). */
export const Tag = { Valid: 0, Zero: 1, Special: 2, Empty: 3 } as const;

/** Tag of a register that is not empty, by its contents. */
export function tagOf(significand: bigint, high: number): number {
  const exponent = high & 0x7fff;
  if (exponent === 0) return significand === 0n ? Tag.Zero : Tag.Special;
  if (exponent === 0x7fff) return Tag.Special;
  return significand >> 63n ? Tag.Valid : Tag.Special;
}

/** Condition code C1: cleared where nothing over- or underflowed. */
const C1 = 0x200;
/** Values after FNINIT (SDM vol. 1 table 8-1). */
const FCW_INIT = 0x37f;
/** Control word bits that can be written; bit 6 reads as one. */
const FCW_WRITABLE = 0x1f3f, FCW_FIXED = 0x40;

/** #NM for an x87 instruction: CR0.EM or CR0.TS (SDM 3A §2.5). */
export function unavailable(cpu: CpuContext): boolean {
  if ((cpu.v.cr0 & (Cr0.EM | Cr0.TS)) === 0) return false;
  cpu.v.raise(Vector.NM);
  return true;
}

/** An unmasked exception is pending: #MF, for the waiting instructions. */
export function pendingError(cpu: CpuContext): boolean {
  if ((cpu.v.word(VCPU.fsw) & Fsw.ES) === 0) return false;
  if ((cpu.v.cr0 & Cr0.NE) === 0) {
    return cpu.notModelled(
      "x87 error reporting through FERR# (CR0.NE = 0)",
      "SDM vol. 1 §8.7.2",
    );
  }
  cpu.v.raise(Vector.MF);
  return true;
}

/** ES and B follow from flags and masks (SDM vol. 1 §8.1.3.3). */
function withSummary(fsw: number, fcw: number): number {
  const unmasked = fsw & ~fcw & Fsw.exceptions;
  const cleared = fsw & ~(Fsw.ES | Fsw.B);
  return unmasked === 0 ? cleared : cleared | Fsw.ES | Fsw.B;
}

/** Writes control and status words; the summary bits follow. */
export function setControl(
  cpu: Pick<CpuContext, "v">,
  fcw: number,
  fsw: number,
): void {
  const control = (fcw & FCW_WRITABLE) | FCW_FIXED;
  cpu.v.setWord(VCPU.fcw, control);
  cpu.v.setWord(VCPU.fsw, withSummary(fsw & 0xffff, control));
}

/** The state after FNINIT; register contents stay. */
export function initialize(cpu: CpuContext): void {
  const { v } = cpu;
  v.setWord(VCPU.fcw, FCW_INIT);
  v.setWord(VCPU.fsw, 0);
  v.setWord(VCPU.ftw, 0xffff);
  v.setWord(VCPU.fop, 0);
  v.setQuad(VCPU.fip, 0n);
  v.setQuad(VCPU.fdp, 0n);
  v.setWord(VCPU.fcs, 0);
  v.setWord(VCPU.fds, 0);
}

/** FNINIT. */
export function fninit(cpu: CpuContext): OutcomeCode {
  if (unavailable(cpu)) return Outcome.Fault;
  initialize(cpu);
  return Outcome.Done;
}

/** FNCLEX: clears the exception flags, ES, SF and B. */
export function fnclex(cpu: CpuContext): OutcomeCode {
  if (unavailable(cpu)) return Outcome.Fault;
  cpu.v.setWord(VCPU.fsw, cpu.v.word(VCPU.fsw) & 0x7f00);
  return Outcome.Done;
}

/** The last instruction's address: of any but those of SDM vol. 1 §8.3.11. */
export function instructionPointer(cpu: CpuContext, insn: Insn): void {
  cpu.v.setQuad(VCPU.fip, insn.rip);
  cpu.v.setWord(VCPU.fcs, cpu.v.segSelector(Seg.CS));
}

/** FNOP and the no-operations left from the 8087 and 80287. */
export function fnop(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (unavailable(cpu)) return Outcome.Fault;
  if (insn.row.name !== "FNOP") return Outcome.Done;
  if (pendingError(cpu)) return Outcome.Fault;
  instructionPointer(cpu, insn);
  return Outcome.Done;
}

/** WAIT: #NM only when both CR0.MP and CR0.TS are set. */
export function fwait(cpu: CpuContext): OutcomeCode {
  const both = Cr0.MP | Cr0.TS;
  if ((cpu.v.cr0 & both) === both) return cpu.v.raise(Vector.NM);
  return pendingError(cpu) ? Outcome.Fault : Outcome.Done;
}

/**
 * EMMS: empties all tags and clears TOP, like every MMX instruction (SDM 3A
 * §13.2). #UD under CR0.EM, #NM under CR0.TS.
 */
export function emms(cpu: CpuContext): OutcomeCode {
  if (cpu.v.cr0 & Cr0.EM) return cpu.v.raise(Vector.UD);
  if (cpu.v.cr0 & Cr0.TS) return cpu.v.raise(Vector.NM);
  if (pendingError(cpu)) return Outcome.Fault;
  cpu.v.setWord(VCPU.ftw, 0xffff);
  cpu.v.setWord(VCPU.fsw, cpu.v.word(VCPU.fsw) & ~Fsw.TOP);
  return Outcome.Done;
}

/** FNSTCW. */
export function fnstcw(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (unavailable(cpu)) return Outcome.Fault;
  return writeOperand(cpu, insn, 0, BigInt(cpu.v.word(VCPU.fcw)), 16);
}

/** FNSTSW to memory or AX. */
export function fnstsw(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (unavailable(cpu)) return Outcome.Fault;
  const value = BigInt(cpu.v.word(VCPU.fsw));
  if (insn.operands[0].kind === OperandKind.Memory) {
    return writeOperand(cpu, insn, 0, value, 16);
  }
  cpu.v.setGprSized(Gpr.RAX, 16, value);
  return Outcome.Done;
}

/** FLDCW. */
export function fldcw(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (unavailable(cpu) || pendingError(cpu)) return Outcome.Fault;
  const value = readOperand(cpu, insn, 0, 16);
  if (cpu.access.outcome !== 0) return cpu.access.outcome as OutcomeCode;
  setControl(cpu, Number(value), cpu.v.word(VCPU.fsw));
  return Outcome.Done;
}

/** FINCSTP, FDECSTP: TOP moves, tags stay. */
export function moveTop(by: 1 | -1): CallFunction {
  return (cpu, insn) => {
    if (unavailable(cpu) || pendingError(cpu)) return Outcome.Fault;
    instructionPointer(cpu, insn);
    const fsw = cpu.v.word(VCPU.fsw);
    const top = ((fsw >> 11) + by) & 7;
    // C1 is cleared (SDM 2A FINCSTP).
    cpu.v.setWord(VCPU.fsw, (fsw & ~(Fsw.TOP | C1)) | top << 11);
    return Outcome.Done;
  };
}

/** FFREE: the tag of ST(i) becomes empty. */
export function ffree(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (unavailable(cpu) || pendingError(cpu)) return Outcome.Fault;
  instructionPointer(cpu, insn);
  const fsw = cpu.v.word(VCPU.fsw);
  const physical = ((fsw >> 11) + insn.operands[0].reg) & 7;
  cpu.v.setWord(VCPU.ftw, cpu.v.word(VCPU.ftw) | 3 << physical * 2);
  cpu.v.setWord(VCPU.fsw, fsw & ~C1);
  return Outcome.Done;
}
