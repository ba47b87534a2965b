/**
 * Architectural state that compiled code keeps in its own form: arithmetic
 * flags as a pair, and what loads and stores need to know of privilege, paging
 * and legacy segments. Taken from the layout before a run, put back after it.
 */
import {
  ARITHMETIC_FLAGS,
  Cr0,
  Cr4,
  Rflags,
  SegmentRights,
} from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import { Interruptibility, MACHINE, Seg, VCPU } from "../../layout.ts";
import { type Area, CELL, GRANT_HALF } from "./area.ts";
import { flagsFromPair, pairFromFlags } from "./flags.ts";

const FR = CELL.fr >> 2, FC = CELL.fc >> 2, SHADOW = CELL.shadow >> 2;
const DR7 = VCPU.dr + 7 * 8;
/** As a signed limit: nothing is inside. */
const NONE = (1n << 64n) - 1n;

/** See the file header. */
export class StateCells {
  private readonly cells: Int32Array;
  private readonly limits: BigUint64Array;
  /** Idle virtual nanoseconds. */
  private readonly idle: Int32Array;

  constructor(
    memory: WebAssembly.Memory,
    area: Area,
    private readonly cpu: CpuContext,
  ) {
    this.cells = new Int32Array(memory.buffer, area.cells);
    this.limits = new BigUint64Array(memory.buffer, area.cells + CELL.limits);
    const idle = cpu.layout.state + MACHINE.idle;
    this.idle = new Int32Array(memory.buffer, idle, 2);
    this.cells[SHADOW + 1] = -1;
  }

  /** Breakpoints or alignment checks are on: no access may be silent. */
  get needsReference(): boolean {
    const { v } = this.cpu;
    return (v.word(DR7) & 0xff) !== 0 ||
      (v.cpl === 3 && (v.rflags & Rflags.AC) !== 0 && (v.cr0 & Cr0.AM) !== 0);
  }

  /**
   * Puts step, RIP, RFLAGS and the STI shadow into the layout.
   * @returns whether the instruction at RIP is in the shadow of an STI of this run
   */
  settle(step: number, rip: bigint): boolean {
    const { cells, cpu: { v } } = this;
    v.step = step;
    v.rip = rip;
    const flags = flagsFromPair(
      cells[FR],
      cells[FR + 1],
      cells[FC],
      cells[FC + 1],
    );
    v.rflags = (v.rflags & ~ARITHMETIC_FLAGS) | flags;
    const high = cells[SHADOW + 1];
    if (high < 0) return false;
    cells[SHADOW + 1] = -1;
    if ((cells[SHADOW] >>> 0) + high * 2 ** 32 !== step) return false;
    v.interruptibility |= Interruptibility.BySti;
    return true;
  }

  /** The clock of a run. @param end step at which CELL.left is zero */
  setEnd(end: number): void {
    const { cells } = this;
    cells[CELL.end >> 2] = end | 0;
    cells[(CELL.end >> 2) + 1] = end / 2 ** 32;
    cells[CELL.idle >> 2] = this.idle[0];
    cells[(CELL.idle >> 2) + 1] = this.idle[1];
  }

  /** Stores why compiled code is to leave. @returns what tells it so */
  leave(record: number, reason: number): 1 {
    this.cells[CELL.reason >> 2] = reason;
    this.cells[CELL.record >> 2] = record;
    return 1;
  }

  /** Takes flags, privilege, paging mode and legacy segments. */
  enter(long: boolean): void {
    const { cells, cpu: { v } } = this;
    const { fr, fcLow, fcHigh } = pairFromFlags(v.rflags);
    cells[FR] = fr;
    cells[FR + 1] = 0;
    cells[FC] = fcLow;
    cells[FC + 1] = fcHigh;
    cells[CELL.privilege >> 2] = v.cpl === 3 ? GRANT_HALF : 0;
    cells[CELL.canonicalShift >> 2] = v.cr4 & Cr4.LA57 ? 7 : 16;
    cells[(CELL.canonicalShift >> 2) + 1] = 0;
    if (!long) this.segments();
  }

  /** How far each segment may be accessed without a second look (SDM 3A §5.3–5.5). */
  private segments(): void {
    const { v } = this.cpu;
    const checked = (v.cr0 & Cr0.PE) !== 0 && !(v.rflags & Rflags.VM);
    for (let s = Seg.ES; s <= Seg.GS; s++) {
      const attributes = v.segAttributes(s);
      const code = (attributes & SegmentRights.Code) !== 0;
      const wr = (attributes & SegmentRights.WritableReadable) !== 0;
      const down = !code &&
        (attributes & SegmentRights.ExpandDownConforming) !== 0;
      const usable = !(attributes & SegmentRights.Unusable) && !down;
      const limit = BigInt(v.segLimit(s));
      const read = usable && (!checked || !code || wr);
      const write = usable && (!checked || (!code && wr));
      this.limits[s * 2] = read ? limit : NONE;
      this.limits[s * 2 + 1] = write ? limit : NONE;
    }
  }
}
