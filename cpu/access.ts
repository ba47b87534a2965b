/**
 * Linear and segmented memory access from TypeScript, with every check of the
 * manual (SDM 3A ch. 5 segment checks, §4 paging through the translator, §6.15
 * #AC, §18.2 data breakpoints). Used by procedures, the reference engine and
 * the slow paths of the compiled engines.
 *
 * Faults are outcomes: after a failed access `outcome` is Outcome.Fault or
 * Outcome.Stage2 (with `v.pending` or `v.stage2` set), the returned value is 0n
 * and nothing was written. A store that crosses a page is translated whole
 * before its first byte is written.
 */
import { Vector } from "./arch/exceptions.ts";
import { Cr0, Cr4, Efer, Rflags, SegmentRights } from "./arch/flags.ts";
import type { CpuContext } from "./context.ts";
import { Outcome } from "./isa/row.ts";
import { Seg, VCPU } from "./layout.ts";
import { Access } from "./port.ts";

const MASK64 = 0xffff_ffff_ffff_ffffn;
const MASK32 = 0xffff_ffffn;
/** Ends of the canonical halves at both widths. */
const LOW_48 = 0x7fff_ffff_ffffn, HIGH_48 = 0xffff_8000_0000_0000n;
const LOW_57 = 0xff_ffff_ffff_ffffn, HIGH_57 = 0xff00_0000_0000_0000n;
/** Bits 62:57 and 62:48. */
const LAM_U57_MASK = 0x7e00_0000_0000_0000n;
const LAM_U48_MASK = 0x7fff_0000_0000_0000n;
/** The highest address bits below them. */
const BIT_56 = 1n << 56n, BIT_47 = 1n << 47n;

/** See the file header. */
export class LinearAccess {
  /** Outcome of the last access: 0, Outcome.Fault or Outcome.Stage2. */
  outcome = 0;
  private readonly scratch = new DataView(new ArrayBuffer(16));

  constructor(private readonly cpu: CpuContext) {}

  /** Whether the vCPU executes 64-bit code (EFER.LMA and CS.L). */
  get long(): boolean {
    const v = this.cpu.v;
    return (v.efer & Efer.LMA) !== 0 &&
      (v.segAttributes(Seg.CS) & SegmentRights.Long) !== 0;
  }

  /** Whether `linear`, of 64 bits, is canonical for the paging mode in force (SDM 1 §3.3.7.1). */
  canonical(linear: bigint): boolean {
    // Comparisons, unlike shifts, make no BigInt.
    return this.cpu.v.cr4 & Cr4.LA57
      ? linear <= LOW_57 || linear >= HIGH_57
      : linear <= LOW_48 || linear >= HIGH_48;
  }

  /**
   * A data pointer of 64-bit code without its metadata (linear-address masking,
   * ISE ch. on LAM): bits 62:48 or 62:57 become copies of the bit below them.
   * Metadata never reaches translation, CR2 or breakpoints.
   */
  untagged(linear: bigint): bigint {
    const { v } = this.cpu;
    const control = v.word(VCPU.cr3 + 4) >>> 29 & 3;
    const ofSupervisor = v.cr4 & Cr4.LAM_SUP;
    if ((control | ofSupervisor) === 0) return linear;
    let wide: boolean;
    if (linear >> 63n !== 0n) {
      if (!ofSupervisor) return linear;
      wide = (v.cr4 & Cr4.LA57) !== 0;
    } else {
      if (control === 0) return linear;
      wide = (control & 1) !== 0;
    }
    const metadata = wide ? LAM_U57_MASK : LAM_U48_MASK;
    return linear & (wide ? BIT_56 : BIT_47)
      ? linear | metadata
      : linear & ~metadata;
  }

  /**
   * Linear address of a segmented access, or undefined with `outcome` set.
   * @param size bytes; @param write judges the segment type as for a store
   */
  linear(
    segment: number,
    offset: bigint,
    size: number,
    write: boolean,
  ): bigint | undefined {
    const { v } = this.cpu;
    if (this.long) {
      const base = segment >= Seg.FS ? v.segBase(segment) : 0n;
      const linear = this.untagged((base + offset) & MASK64);
      const last = (linear + BigInt(size - 1)) & MASK64;
      if (!this.canonical(linear) || !this.canonical(last)) {
        return this.refuse(segment);
      }
      return linear;
    }
    const attributes = v.segAttributes(segment);
    const protectedMode = (v.cr0 & Cr0.PE) !== 0 && !(v.rflags & Rflags.VM);
    if (attributes & SegmentRights.Unusable) return this.refuse(segment);
    if (protectedMode) {
      const code = (attributes & SegmentRights.Code) !== 0;
      const wr = (attributes & SegmentRights.WritableReadable) !== 0;
      if (write ? code || !wr : code && !wr) return this.refuse(segment);
    }
    const limit = BigInt(v.segLimit(segment));
    const last = offset + BigInt(size - 1);
    const expandDown = (attributes &
      (SegmentRights.Code | SegmentRights.ExpandDownConforming)) ===
      SegmentRights.ExpandDownConforming;
    if (expandDown) {
      const top = attributes & SegmentRights.DefaultBig ? MASK32 : 0xffffn;
      if (offset <= limit || last > top) return this.refuse(segment);
    } else if (last > limit) {
      return this.refuse(segment);
    }
    return (v.segBase(segment) + offset) & MASK32;
  }

  private refuse(segment: number): undefined {
    this.outcome = this.cpu.v.raise(
      segment === Seg.SS ? Vector.SS : Vector.GP,
      0,
    );
    return undefined;
  }

  /** Segmented read of 1, 2, 4 or 8 bytes at the current privilege. */
  readSegment(
    segment: number,
    offset: bigint,
    size: number,
    access: number = Access.Read,
  ): bigint {
    this.outcome = 0;
    const linear = this.linear(
      segment,
      offset,
      size,
      (access & Access.ReadForWrite) !== 0,
    );
    if (linear === undefined) return 0n;
    if (!this.aligned(linear, size)) return 0n;
    return this.read(linear, size, access);
  }

  /** Segmented write. @returns outcome */
  writeSegment(
    segment: number,
    offset: bigint,
    size: number,
    value: bigint,
    access: number = Access.Write,
  ): number {
    this.outcome = 0;
    const linear = this.linear(segment, offset, size, true);
    if (linear === undefined) return this.outcome;
    if (!this.aligned(linear, size)) return this.outcome;
    return this.write(linear, size, value, access);
  }

  /**
   * #AC (SDM 3A §6.15, interrupt 17): CPL 3, CR0.AM, RFLAGS.AC.
   * @returns false with `outcome` set
   */
  aligned(linear: bigint, size: number): boolean {
    const { v } = this.cpu;
    if (
      size > 1 && (v.rflags & Rflags.AC) !== 0 && v.cpl === 3 &&
      (v.cr0 & Cr0.AM) !== 0 && (linear & BigInt(size - 1)) !== 0n
    ) {
      this.outcome = v.raise(Vector.AC, 0);
      return false;
    }
    return true;
  }

  /** Linear read of 1, 2, 4 or 8 bytes. */
  read(linear: bigint, size: number, access: number = Access.Read): bigint {
    this.outcome = 0;
    const offset = Number(linear & 0xfffn);
    const page = Number(linear >> 12n);
    const frame = this.frame(page, offset, access);
    if (frame < 0) return 0n;
    let value: bigint;
    if (offset + size <= 4096) {
      value = this.cpu.physical.read(frame * 4096 + offset, size);
    } else {
      const next = this.frame(this.following(page, access), 0, access);
      if (next < 0) return 0n;
      const head = 4096 - offset;
      for (let i = 0; i < size; i++) {
        const at = i < head
          ? frame * 4096 + offset + i
          : next * 4096 + i - head;
        this.scratch.setUint8(i, Number(this.cpu.physical.read(at, 1)));
      }
      value = this.scratch.getBigUint64(0, true) &
        ((1n << BigInt(size * 8)) - 1n);
    }
    if (!(access & Access.Silent)) this.breakpoints(linear, size, false);
    return value;
  }

  /** Linear write of 1, 2, 4 or 8 bytes. @returns outcome */
  write(
    linear: bigint,
    size: number,
    value: bigint,
    access: number = Access.Write,
  ): number {
    this.outcome = 0;
    const offset = Number(linear & 0xfffn);
    const page = Number(linear >> 12n);
    const frame = this.frame(page, offset, access | Access.Write);
    if (frame < 0) return this.outcome;
    const { physical, facts, index } = this.cpu;
    const first = frame * 4096 + offset;
    if (offset + size <= 4096) {
      if (facts.observed) {
        const old = physical.isRam(first) ? physical.read(first, size) : 0n;
        facts.memoryWrote(index, linear, first, size, value, old);
      }
      physical.write(first, size, value);
    } else {
      const next = this.frame(
        this.following(page, access),
        0,
        access | Access.Write,
      );
      if (next < 0) return this.outcome;
      const head = 4096 - offset;
      const at = (i: number): number =>
        i < head ? first + i : next * 4096 + i - head;
      if (facts.observed) {
        this.scratch.setBigUint64(0, 0n, true);
        for (let i = 0; i < size; i++) {
          if (physical.isRam(at(i))) {
            this.scratch.setUint8(i, Number(physical.read(at(i), 1)));
          }
        }
        const old = this.scratch.getBigUint64(0, true);
        facts.memoryWrote(index, linear, first, size, value, old);
      }
      for (let i = 0; i < size; i++) {
        physical.write(at(i), 1, (value >> BigInt(i * 8)) & 0xffn);
      }
    }
    if (!(access & Access.Silent)) this.breakpoints(linear, size, true);
    return 0;
  }

  /**
   * Checks that `size` bytes can be written without writing them (probe before
   * a multi-part store such as FXSAVE or a task switch). @returns outcome
   */
  probe(linear: bigint, size: number, access: number): number {
    this.outcome = 0;
    let page = Number(linear >> 12n);
    const last = Number(((linear + BigInt(size - 1)) & MASK64) >> 12n);
    let offset = Number(linear & 0xfffn);
    for (;;) {
      if (this.frame(page, offset, access) < 0) return this.outcome;
      if (page === last) return 0;
      page = this.following(page, access);
      offset = 0;
    }
  }

  /** Translates; sets `outcome` on failure. @returns host-physical page or −1 */
  frame(linearPage: number, offset: number, access: number): number {
    const frame = this.cpu.translator.translate(
      this.cpu,
      linearPage,
      offset,
      access,
    );
    if (frame >= 0) return frame;
    this.outcome = frame === -1 ? Outcome.Fault : Outcome.Stage2;
    return -1;
  }

  /**
   * Next linear page: wraps at 4 GiB outside 64-bit mode, else at 2^64. Tables
   * that the processor reads itself lie anywhere in IA-32e mode (SDM 3A §3.5.2).
   */
  private following(page: number, access: number): number {
    const next = page + 1;
    if (next === 2 ** 52) return 0;
    if (next !== 2 ** 20 || this.long) return next;
    const wide = (access & Access.System) !== 0 &&
      (this.cpu.v.efer & Efer.LMA) !== 0;
    return wide ? next : 0;
  }

  /** Data breakpoints become pending debug exceptions (SDM 3B §18.2.5). */
  private breakpoints(linear: bigint, size: number, write: boolean): void {
    const { v } = this.cpu;
    const dr7 = Number(v.dr(7) & MASK32);
    if ((dr7 & 0xff) === 0) return;
    for (let i = 0; i < 4; i++) {
      if (((dr7 >>> (i * 2)) & 3) === 0) continue;
      const control = (dr7 >>> (16 + i * 4)) & 0xf;
      const type = control & 3;
      if (type !== 3 && !(type === 1 && write)) continue;
      const length = BigInt([1, 2, 8, 4][control >> 2]);
      const at = v.dr(i) & ~(length - 1n);
      if (linear < at + length && at < linear + BigInt(size)) {
        v.pendingDebug |= (1 << i) | PENDING_BREAKPOINT;
        this.cpu.attention = true;
      }
    }
  }
}

/** Pending-debug bit 12: at least one enabled breakpoint was met (SDM 3C table 25-4). */
export const PENDING_BREAKPOINT = 1 << 12;
