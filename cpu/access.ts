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
import { PAGE_SIZE, Seg, SEGMENT, SEGMENT_SIZE, VCPU } from "./layout.ts";
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
/** LAM_U57 and LAM_U48 in the high half of CR3. */
const LAM_CR3_HIGH = 3 << 29;
/** Pages of 4 GiB; the first pages that are not canonical. */
const PAGES_4G = 2 ** 20, UPPER_48 = 2 ** 35, UPPER_57 = 2 ** 44;

/** See the file header. */
export class LinearAccess {
  /** Outcome of the last access: 0, Outcome.Fault or Outcome.Stage2. */
  outcome = 0;
  /** Halves of what readAt read. */
  low = 0;
  high = 0;
  /** Linear page and byte in it, after locate. */
  page = 0;
  byte = 0;
  /** One u64, whole and as its halves: splitting so makes no BigInt. */
  private readonly wide = new BigUint64Array(1);
  private readonly halves = new Uint32Array(this.wide.buffer);

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
    const control = (v.word(VCPU.cr3 + 4) & LAM_CR3_HIGH) >>> 29;
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

  /**
   * As `linear`, by halves of the offset, which is how compiled code hands it
   * over; the address goes to `page` and `byte`.
   * @returns false with `outcome` set
   */
  locate(
    segment: number,
    low: number,
    high: number,
    size: number,
    write: boolean,
  ): boolean {
    const { v } = this.cpu;
    if (!this.long || this.masksPointers) {
      this.outcome = 0;
      const offset = this.joined(low, high);
      const linear = this.linear(segment, offset, size, write);
      if (linear === undefined) return false;
      this.split(linear);
      return true;
    }
    if (segment >= Seg.FS) {
      const base = VCPU.segments + segment * SEGMENT_SIZE + SEGMENT.base;
      const sum = low + v.word(base);
      low = sum >>> 0;
      high = (high + v.word(base + 4) + (sum > low ? 1 : 0)) >>> 0;
    }
    const wide = (v.cr4 & Cr4.LA57) !== 0;
    const page = high * PAGES_4G + (low >>> 12);
    const byte = low & (PAGE_SIZE - 1);
    // All bits from the highest address bit up are equal (SDM 1 §3.3.7.1).
    const sign = high >> (wide ? 24 : 15);
    const ends = byte + size > PAGE_SIZE &&
      page + 1 === (wide ? UPPER_57 : UPPER_48);
    if ((sign !== 0 && sign !== -1) || ends) {
      this.refuse(segment);
      return false;
    }
    this.page = page;
    this.byte = byte;
    return true;
  }

  /** Linear-address masking may concern data pointers. */
  private get masksPointers(): boolean {
    const { v } = this.cpu;
    return (v.word(VCPU.cr3 + 4) & LAM_CR3_HIGH) !== 0 ||
      (v.cr4 & Cr4.LAM_SUP) !== 0;
  }

  private split(linear: bigint): void {
    const { halves } = this;
    this.wide[0] = linear;
    this.page = halves[1] * PAGES_4G + (halves[0] >>> 12);
    this.byte = halves[0] & (PAGE_SIZE - 1);
  }

  private joined(low: number, high: number): bigint {
    this.halves[0] = low;
    this.halves[1] = high;
    return this.wide[0];
  }

  /** Linear address of a byte of a page. */
  private addressOf(page: number, byte: number): bigint {
    return this.joined(
      page % PAGES_4G * PAGE_SIZE + byte,
      Math.floor(page / PAGES_4G),
    );
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
    this.split(linear);
    if (this.readAt(this.page, this.byte, size, access) !== 0) return 0n;
    return size === 8 ? this.joined(this.low, this.high) : BigInt(this.low);
  }

  /** Linear write of 1, 2, 4 or 8 bytes. @returns outcome */
  write(
    linear: bigint,
    size: number,
    value: bigint,
    access: number = Access.Write,
  ): number {
    this.wide[0] = value;
    const low = this.halves[0], high = this.halves[1];
    this.split(linear);
    return this.writeAt(this.page, this.byte, size, low, high, access);
  }

  /**
   * Reads 1, 2, 4 or 8 bytes at a byte of a linear page into `low` and `high`.
   * @returns outcome
   */
  readAt(page: number, byte: number, size: number, access: number): number {
    this.outcome = 0;
    const frame = this.frame(page, byte, access);
    if (frame < 0) return this.outcome;
    const { physical } = this.cpu;
    const first = frame * PAGE_SIZE + byte;
    if (byte + size <= PAGE_SIZE) {
      this.low = physical.load(first, size);
    } else {
      const next = this.frame(this.following(page, access), 0, access);
      if (next < 0) return this.outcome;
      this.low = physical.loadAcross(first, next * PAGE_SIZE, size);
    }
    this.high = physical.high;
    if (!(access & Access.Silent)) this.breakpoints(page, byte, size, false);
    return 0;
  }

  /** As readAt, of a store. @returns outcome */
  writeAt(
    page: number,
    byte: number,
    size: number,
    low: number,
    high: number,
    access: number,
  ): number {
    this.outcome = 0;
    const frame = this.frame(page, byte, access | Access.Write);
    if (frame < 0) return this.outcome;
    const { physical, facts } = this.cpu;
    const first = frame * PAGE_SIZE + byte;
    if (byte + size <= PAGE_SIZE) {
      if (facts.observed) {
        const old = physical.isRam(first) ? physical.read(first, size) : 0n;
        this.wrote(page, byte, first, size, this.joined(low, high), old);
      }
      physical.store(first, size, low, high);
    } else {
      const after = this.following(page, access);
      const next = this.frame(after, 0, access | Access.Write);
      if (next < 0) return this.outcome;
      const second = next * PAGE_SIZE;
      if (facts.observed) {
        const old = physical.ramAcross(first, second, size);
        this.wrote(page, byte, first, size, this.joined(low, high), old);
      }
      physical.storeAcross(first, second, size, low, high);
    }
    if (!(access & Access.Silent)) this.breakpoints(page, byte, size, true);
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

  /** States a store whose bytes are not there yet. */
  private wrote(
    page: number,
    byte: number,
    first: number,
    size: number,
    value: bigint,
    old: bigint,
  ): void {
    const { facts, index } = this.cpu;
    const linear = this.addressOf(page, byte);
    facts.memoryWrote(index, linear, first, size, value, old);
  }

  /** Data breakpoints become pending debug exceptions (SDM 3B §18.2.5). */
  private breakpoints(
    page: number,
    byte: number,
    size: number,
    write: boolean,
  ): void {
    const { v } = this.cpu;
    const dr7 = v.word(VCPU.dr + 7 * 8);
    if ((dr7 & 0xff) === 0) return;
    const linear = this.addressOf(page, byte);
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
