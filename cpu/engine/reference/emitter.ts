/**
 * The reference back end's Emitter: evaluates an `emit` function at once over
 * the accessors (design §7).
 *
 * Registers, flags and RIP are collected and committed by `commit` after the
 * function returned; after a fault the instance is poisoned: loads give zero,
 * stores and further faults do nothing, and there is no commit. No exceptions.
 */
import { Vector } from "../../arch/exceptions.ts";
import { ARITHMETIC_FLAGS, Rflags } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import type { Emitter, Size } from "../../isa/emitter.ts";
import { type Insn, type MemoryOperand, OperandKind } from "../../isa/insn.ts";
import { Seg } from "../../layout.ts";
import { Access } from "../../port.ts";
import { effectiveOffset } from "../../semantics/operands.ts";
import {
  addFlags,
  conditionHolds,
  MASK,
  resultFlags,
  subFlags,
} from "./flags.ts";
import { ValueOps } from "./values.ts";

const { CF, PF, AF, ZF, SF, OF } = Rflags;
const READ_FOR_WRITE = Access.ReadForWrite;

/** See the file header. One instance serves every instruction of a machine. */
export class ReferenceEmitter extends ValueOps
  implements Emitter<bigint, boolean> {
  readonly wantFlags = true;
  form!: Insn;
  /** 0, Outcome.Fault or Outcome.Stage2. */
  outcome = 0;
  /** A REP iteration with more to come. */
  again = false;
  private cpu!: CpuContext;
  private oldFlags = 0;
  private newFlags = 0;
  private target = 0n;
  private readonly values: bigint[] = new Array(16).fill(0n);
  private written = 0;

  /** Evaluates `insn`. @returns outcome; 0 means `commit` may be called */
  run(cpu: CpuContext, insn: Insn): number {
    this.cpu = cpu;
    this.form = insn;
    this.outcome = 0;
    this.again = false;
    this.oldFlags = this.newFlags = cpu.v.rflags;
    this.written = 0;
    this.target = this.nextRip();
    insn.row.emit!<bigint, boolean>(this);
    return this.outcome;
  }

  /**
   * Commits registers, flags and RIP; states `reg.wrote` for each general
   * register that changed, in ascending order.
   */
  commit(): void {
    const { v, facts, index } = this.cpu;
    for (let r = 0, left = this.written; left !== 0; r++, left >>= 1) {
      if ((left & 1) === 0) continue;
      const value = this.values[r];
      if (value === v.gpr(r)) continue;
      v.setGpr(r, value);
      if (facts.observed) facts.registerWrote(index, r, value);
    }
    v.rflags = this.newFlags;
    if (!this.again) v.rip = this.target;
  }

  private raise(vector: number, errorCode: number): void {
    if (this.outcome !== 0) return;
    // Unlike INT n, no `emit` row is a software exception in the sense of the IDT.
    this.outcome = this.cpu.v.raise(vector, errorCode);
  }

  // --- operands

  size(i: number): Size {
    return this.form.operands[i].size as Size;
  }

  private memory(): MemoryOperand {
    return this.form.memory!;
  }

  ea(_i: number): bigint {
    return effectiveOffset(this.cpu, this.form, this.memory());
  }

  rd(i: number): bigint {
    const operand = this.form.operands[i];
    switch (operand.kind) {
      case OperandKind.Gpr:
        return this.cpu.v.gpr(operand.reg) & MASK[operand.size];
      case OperandKind.HighByte:
        return (this.cpu.v.gpr(operand.reg) >> 8n) & 0xffn;
      case OperandKind.Memory:
        return this.ld(this.memory().segment, this.ea(i), this.size(i));
      case OperandKind.Segment:
        return BigInt(this.cpu.v.segSelector(operand.reg));
      default:
        return operand.imm;
    }
  }

  rdRw(i: number): bigint {
    return this.form.operands[i].kind === OperandKind.Memory
      ? this.ldRw(this.memory().segment, this.ea(i), this.size(i))
      : this.rd(i);
  }

  wr(i: number, value: bigint): void {
    const operand = this.form.operands[i];
    switch (operand.kind) {
      case OperandKind.Gpr:
        this.setGpr(operand.reg, operand.size as Size, value);
        return;
      case OperandKind.HighByte: {
        const old = this.pendingGpr(operand.reg);
        this.put(operand.reg, (old & ~0xff00n) | ((value & 0xffn) << 8n));
        return;
      }
      default:
        this.st(this.memory().segment, this.ea(i), this.size(i), value);
    }
  }

  // --- registers

  gpr(index: number, size: Size): bigint {
    return this.cpu.v.gpr(index) & MASK[size];
  }

  setGpr(index: number, size: Size, value: bigint): void {
    if (size >= 32) this.put(index, value & MASK[size]);
    else {
      const mask = MASK[size];
      this.put(index, (this.pendingGpr(index) & ~mask) | (value & mask));
    }
  }

  /** The register with this instruction's earlier writes in it. */
  private pendingGpr(index: number): bigint {
    return this.written & 1 << index
      ? this.values[index]
      : this.cpu.v.gpr(index);
  }

  private put(index: number, value: bigint): void {
    this.values[index] = value;
    this.written |= 1 << index;
  }

  // --- memory

  ld(segment: number, offset: bigint, size: Size): bigint {
    return this.load(segment, offset, size, Access.Read);
  }

  ldRw(segment: number, offset: bigint, size: Size): bigint {
    return this.load(segment, offset, size, READ_FOR_WRITE);
  }

  private load(
    segment: number,
    offset: bigint,
    size: Size,
    access: number,
  ): bigint {
    if (this.outcome !== 0) return 0n;
    const memory = this.cpu.access;
    const value = memory.readSegment(segment, offset, size / 8, access);
    this.outcome = memory.outcome;
    return value;
  }

  st(segment: number, offset: bigint, size: Size, value: bigint): void {
    if (this.outcome !== 0) return;
    this.outcome = this.cpu.access.writeSegment(
      segment,
      offset,
      size / 8,
      value & MASK[size],
    );
  }

  // --- flags

  private arithmetic(flags: number): void {
    this.newFlags = (this.newFlags & ~ARITHMETIC_FLAGS) | flags;
  }

  fAdd(size: Size, a: bigint, b: bigint, _res: bigint, carryIn = false): void {
    this.arithmetic(addFlags(size, a, b, carryIn));
  }

  fSub(size: Size, a: bigint, b: bigint, _res: bigint, borrowIn = false): void {
    this.arithmetic(subFlags(size, a, b, borrowIn));
  }

  fLogic(size: Size, res: bigint): void {
    this.arithmetic(resultFlags(size, res));
  }

  fInc(size: Size, res: bigint): void {
    const flags = addFlags(size, res - 1n & MASK[size], 1n, false);
    this.putFl(ARITHMETIC_FLAGS & ~CF, BigInt(flags));
  }

  fDec(size: Size, res: bigint): void {
    const flags = subFlags(size, res + 1n & MASK[size], 1n, false);
    this.putFl(ARITHMETIC_FLAGS & ~CF, BigInt(flags));
  }

  fRes(size: Size, res: bigint, cf: boolean, of: boolean): void {
    this.arithmetic(
      resultFlags(size, res) | (cf ? CF : 0) | (of ? OF : 0),
    );
  }

  fCO(cf: boolean, of: boolean): void {
    this.newFlags = (this.newFlags & ~(CF | OF)) | (cf ? CF : 0) |
      (of ? OF : 0);
  }

  putFl(mask: number, value: bigint): void {
    this.newFlags = (this.newFlags & ~mask) |
      (Number(value & 0xffffn) & mask);
  }

  getFl(): bigint {
    return BigInt(this.oldFlags & (CF | PF | AF | ZF | SF | OF));
  }

  cf(): boolean {
    return (this.oldFlags & CF) !== 0;
  }

  direction(): bigint {
    return this.oldFlags & Rflags.DF ? MASK[64] : 1n;
  }

  cond(cc: number): boolean {
    return conditionHolds(cc, this.oldFlags);
  }

  // --- control

  if(c: boolean, then: () => void, otherwise?: () => void): void {
    if (c) then();
    else otherwise?.();
  }

  faultIf(c: boolean, vector: number, errorCode = -1): void {
    if (c) this.raise(vector, errorCode);
  }

  slowIf(_c: boolean): void {}

  nextRip(): bigint {
    const { rip, length, codeSize } = this.form;
    return (rip + BigInt(length)) & MASK[codeSize === 64 ? 64 : 32];
  }

  jcc(c: boolean): void {
    if (c) this.jmpRel();
  }

  jmpRel(): void {
    this.jmp(this.form.operands[0].imm);
  }

  jmp(target: bigint): void {
    if (this.outcome !== 0) return;
    const { access, v } = this.cpu;
    const allowed = this.form.codeSize === 64
      ? access.canonical(target)
      : target <= BigInt(v.segLimit(Seg.CS));
    if (allowed) this.target = target;
    else this.raise(Vector.GP, 0);
  }

  repeatIf(again: boolean): void {
    this.again = again;
  }
}
