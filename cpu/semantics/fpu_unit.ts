/**
 * The x87 unit while one data instruction runs (SDM vol. 1 ch. 8): the register
 * stack and its faults, control and status words, the environment of softfloat,
 * instruction and operand pointers.
 * Invariant: between `begin` and `finish` only registers and tags change; the
 * status word is written once, by `finish`.
 */
import type { CpuContext } from "../context.ts";
import type { Insn } from "../isa/insn.ts";
import { Outcome, type OutcomeCode } from "../isa/row.ts";
import { Seg, VCPU } from "../layout.ts";
import { Access } from "../port.ts";
import type { Vcpu } from "../vcpu.ts";
import {
  Fsw,
  instructionPointer,
  pendingError,
  setControl,
  Tag,
  tagOf,
  unavailable,
} from "./fpu_control.ts";
import { effectiveOffset } from "./operands.ts";
import {
  F80,
  FloatEnvironment,
  FloatFlag,
  indefinite,
  x87Nan,
} from "./softfloat/softfloat.ts";

/** Condition codes in the status word (SDM vol. 1 §8.1.3.1). */
export const Code = { C0: 0x100, C1: 0x200, C2: 0x400, C3: 0x4000 } as const;
const CODES = Code.C0 | Code.C1 | Code.C2 | Code.C3;
/** Stack fault. */
const SF = 0x40;
/** Exceptions that leave everything as it was when they are not masked. */
const BEFORE = FloatFlag.IE | FloatFlag.DE | FloatFlag.ZE;
/** Significand bits by FCW.PC; 1 is reserved and acts as on AMD's processors. */
const PRECISION = [24, 24, 53, 64];

/** Masked answer to a stack fault or another invalid operation. */
export const INDEFINITE = indefinite(F80);

/** See the file header. One object serves all instructions. */
export class X87Unit {
  readonly env = new FloatEnvironment(x87Nan);
  private cpu!: CpuContext;
  private insn: Insn | undefined;
  private v!: Vcpu;
  private top = 0;
  private tags = 0;
  private fcw = 0;
  private fsw = 0;
  private stackFault = 0;

  constructor() {
    this.env.wrapExponent = true;
  }

  /** #NM and #MF; takes the state up. @returns false if one was raised */
  begin(cpu: CpuContext): boolean {
    if (unavailable(cpu) || pendingError(cpu)) return false;
    const { env } = this;
    this.cpu = cpu;
    this.insn = undefined;
    const v = this.v = cpu.v;
    const fcw = this.fcw = v.word(VCPU.fcw);
    this.fsw = v.word(VCPU.fsw);
    this.tags = v.word(VCPU.ftw);
    this.top = (this.fsw >> 11) & 7;
    this.stackFault = 0;
    env.begin();
    env.masks = fcw & 0x3f;
    env.rounding = (fcw >> 10) & 3;
    env.precision = PRECISION[(fcw >> 8) & 3];
    return true;
  }

  /** Instruction and operand pointers (SDM vol. 1 §8.1.8). */
  pointers(cpu: CpuContext, insn: Insn): void {
    const { v } = cpu;
    this.insn = insn;
    instructionPointer(cpu, insn);
    if (insn.memory === undefined) return;
    v.setQuad(VCPU.fdp, effectiveOffset(cpu, insn, insn.memory));
    v.setWord(VCPU.fds, v.segSelector(insn.memory.segment));
  }

  private physical(i: number): number {
    return (this.top + i) & 7;
  }

  /** Whether ST(i) is empty. */
  empty(i: number): boolean {
    return (this.tags >> this.physical(i) * 2 & 3) === Tag.Empty;
  }
  /** Encoding of ST(i). */
  st(i: number): bigint {
    const at = VCPU.x87 + this.physical(i) * 16;
    return BigInt(this.v.word(at + 8) & 0xffff) << 64n | this.v.quad(at);
  }
  /** Writes ST(i) and its tag. */
  set(i: number, bits: bigint): void {
    const physical = this.physical(i), at = VCPU.x87 + physical * 16;
    const significand = BigInt.asUintN(64, bits), high = Number(bits >> 64n);
    this.v.setQuad(at, significand);
    this.v.setWord(at + 8, high);
    this.tag(physical, tagOf(significand, high));
  }
  /** Empties ST(i). */
  free(i: number): void {
    this.tag(this.physical(i), Tag.Empty);
  }
  /** Pops the stack. */
  pop(): void {
    this.free(0);
    this.top = (this.top + 1) & 7;
  }
  /** Pushes a value; `full` was asked before. */
  push(bits: bigint): void {
    this.top = (this.top - 1) & 7;
    this.set(0, bits);
  }
  /** Whether a push overflows the stack. */
  get full(): boolean {
    return !this.empty(7);
  }

  private tag(physical: number, tag: number): void {
    const shift = physical * 2;
    this.tags = this.tags & ~(3 << shift) | tag << shift;
  }

  /** Stack underflow (§8.5.1.1). @returns whether it is masked */
  underflow(): boolean {
    return this.fault(0);
  }
  /** Stack overflow (§8.5.1.1). @returns whether it is masked */
  overflow(): boolean {
    return this.fault(Code.C1);
  }
  private fault(c1: number): boolean {
    this.stackFault = SF | c1;
    this.env.raise(FloatFlag.IE);
    return (this.fcw & FloatFlag.IE) !== 0;
  }

  /** An exception that stops the instruction before its first effect. */
  get blocked(): boolean {
    return (this.env.flags & ~this.fcw & BEFORE) !== 0;
  }
  /** An exception that stops a store to memory: also over- and underflow. */
  get notStored(): boolean {
    const stops = BEFORE | FloatFlag.OE | FloatFlag.UE;
    return (this.env.flags & ~this.fcw & stops) !== 0;
  }

  /**
   * Commits flags, TOP, tags and condition codes.
   * @param codes their new values, of those in `which`; a stack fault and
   *   rounding write C1 in any case
   */
  finish(codes = 0, which: number = Code.C1): OutcomeCode {
    const { env, v } = this;
    let written = codes & which, cleared = which & CODES;
    if (this.stackFault !== 0) {
      written = written & ~Code.C1 | this.stackFault;
      cleared |= Code.C1;
    } else if (env.roundedUp && env.flags & FloatFlag.PE) written |= Code.C1;
    const kept = this.fsw & ~(Fsw.TOP | cleared);
    v.setWord(VCPU.ftw, this.tags);
    const fsw = kept | env.flags | written | this.top << 11;
    setControl(this.cpu, this.fcw, fsw);
    if ((env.flags & ~this.fcw) !== 0) this.recordOpcode();
    return Outcome.Done;
  }

  /** Ends with nothing but flags and codes: an unmasked exception came first. */
  abandon(codes = 0, which: number = Code.C1): OutcomeCode {
    const { env } = this;
    env.roundedUp = false;
    if (this.blocked) env.flags &= BEFORE;
    return this.finish(codes, which);
  }

  /** FOP is recorded for unmasked exceptions only (§8.1.9.1). */
  private recordOpcode(): void {
    const { v, access } = this.cpu, { insn } = this;
    if (insn === undefined) return;
    const bits = insn.codeSize === 64 ? 64 : 32;
    const base = bits === 64 ? 0n : v.segBase(Seg.CS);
    const byte = (i: number): number => {
      const at = BigInt.asUintN(bits, base + insn.rip + BigInt(i));
      const value = access.read(at, 1, Access.Fetch | Access.Silent);
      return access.outcome === 0 ? Number(value) : 0;
    };
    for (let i = 0; i < insn.length - 1; i++) {
      const escape = byte(i);
      if ((escape & ~7) !== ESCAPE) continue;
      v.setWord(VCPU.fop, (escape & 7) << 8 | byte(i + 1));
      break;
    }
    access.outcome = 0;
    v.pending = undefined;
  }
}

/** First of the eight x87 opcodes. */
const ESCAPE = 0xd8;

/** The unit; no state of it outlives an instruction. */
export const x87 = new X87Unit();
