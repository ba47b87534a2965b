/**
 * A stack being pushed to or popped from inside one instruction or delivery:
 * the pointer is a copy until `commit`, so that a fault in the middle leaves
 * RSP alone (SDM 3A §6.12, SDM 1 §6.2.3).
 */
import { Vector } from "../../arch/exceptions.ts";
import { Cr0, Rflags, SegmentRights as R } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import { Gpr, Seg } from "../../layout.ts";
import { Access } from "../../port.ts";
import type { SegmentValue } from "../../vcpu.ts";
import { in64, MASK16, MASK32, MASK64, maskOf, refuse } from "./common.ts";

/** See the file header. */
export class Stack {
  /** Pointer, already masked to the stack's width. */
  sp: bigint;
  private readonly mask: bigint;

  /**
   * @param ss segment to use; undefined in 64-bit mode (flat, canonical checks)
   * @param errorCode pushed with #SS when the stack has no room
   */
  constructor(
    private readonly cpu: CpuContext,
    private readonly ss: SegmentValue | undefined,
    sp: bigint,
    private readonly errorCode = 0,
  ) {
    this.mask = ss === undefined
      ? MASK64
      : ss.attributes & R.DefaultBig
      ? MASK32
      : MASK16;
    this.sp = sp & this.mask;
  }

  /** The stack in use. */
  static current(cpu: CpuContext): Stack {
    const { v } = cpu;
    const ss = in64(v) ? undefined : v.segment(Seg.SS);
    return new Stack(cpu, ss, v.gpr(Gpr.RSP));
  }

  /**
   * Pushes a slot of `bits`, of which the low `stored` bits are written.
   * @returns false with `access.outcome` set
   */
  push(bits: number, value: bigint, stored = bits): boolean {
    const bytes = stored >> 3;
    const sp = (this.sp - BigInt(bits >> 3)) & this.mask;
    const linear = this.linear(sp, bytes);
    if (linear === undefined) return false;
    if (!this.cpu.access.aligned(linear, bytes)) return false;
    const outcome = this.cpu.access.write(
      linear,
      bytes,
      value & maskOf(stored),
      Access.Write,
    );
    if (outcome !== 0) return false;
    this.sp = sp;
    return true;
  }

  /** Reads at `offset` bytes above the pointer, which stays. */
  peek(bits: number, offset = 0): bigint | undefined {
    const bytes = bits >> 3;
    const at = (this.sp + BigInt(offset)) & this.mask;
    const linear = this.linear(at, bytes);
    if (linear === undefined) return undefined;
    if (!this.cpu.access.aligned(linear, bytes)) return undefined;
    const value = this.cpu.access.read(linear, bytes, Access.Read);
    return this.cpu.access.outcome === 0 ? value : undefined;
  }

  /** Pops at `bits`; undefined with `access.outcome` set. */
  pop(bits: number): bigint | undefined {
    const value = this.peek(bits);
    if (value !== undefined) this.drop(bits >> 3);
    return value;
  }

  /** Releases `bytes` (RET imm16). */
  drop(bytes: number): void {
    this.sp = (this.sp + BigInt(bytes)) & this.mask;
  }

  /** Writes RSP, ESP or SP. */
  commit(): void {
    const { v } = this.cpu;
    if (this.mask === MASK64) v.setGpr(Gpr.RSP, this.sp);
    else if (this.mask === MASK32) v.setGpr32(Gpr.RSP, Number(this.sp));
    else v.setGprSized(Gpr.RSP, 16, this.sp);
  }

  /** #AC at CPL 3 (SDM 3A §6.15, interrupt 17). */
  private aligned(offset: bigint, bytes: number): boolean {
    const { v } = this.cpu;
    return v.cpl !== 3 || !(v.rflags & Rflags.AC) || !(v.cr0 & Cr0.AM) ||
      ((offset + (this.ss?.base ?? 0n)) & BigInt(bytes - 1)) === 0n;
  }

  private linear(offset: bigint, bytes: number): bigint | undefined {
    const at = this.place(offset, bytes);
    if (at === undefined || this.aligned(offset, bytes)) return at;
    return refuse(this.cpu, Vector.AC, 0);
  }

  private place(offset: bigint, bytes: number): bigint | undefined {
    const { cpu, ss } = this;
    if (ss === undefined) {
      const first = cpu.access.untagged(offset);
      const end = (first + BigInt(bytes - 1)) & MASK64;
      if (!cpu.access.canonical(first) || !cpu.access.canonical(end)) {
        return refuse(cpu, Vector.SS, this.errorCode);
      }
      return first;
    }
    if (ss.attributes & R.Unusable) {
      return refuse(cpu, Vector.SS, this.errorCode);
    }
    const last = offset + BigInt(bytes - 1);
    const limit = BigInt(ss.limit);
    const expandDown = (ss.attributes & R.ExpandDownConforming) !== 0;
    const top = ss.attributes & R.DefaultBig ? MASK32 : MASK16;
    if (expandDown ? offset <= limit || last > top : last > limit) {
      return refuse(cpu, Vector.SS, this.errorCode);
    }
    return (ss.base + offset) & MASK32;
  }
}
