/**
 * What the decoding of bytes and the meaning of RIP depend on: code, stack and
 * address sizes, and in legacy modes the base and limit of CS. Modes are
 * interned: equal ones are one object.
 */
import { Cr0, Rflags, SegmentRights } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import { Seg } from "../../layout.ts";

/** See the file header. */
export interface Mode {
  readonly id: number;
  readonly codeSize: 16 | 32 | 64;
  readonly stackSize: 16 | 32 | 64;
  /** Real-address or virtual-8086 mode. */
  readonly real: boolean;
  readonly base: bigint;
  readonly limit: bigint;
}

/** The interned modes of a machine. */
export class Modes {
  private readonly known = new Map<string, Mode>();
  private readonly long: Mode = {
    id: 0,
    codeSize: 64,
    stackSize: 64,
    real: false,
    base: 0n,
    limit: (1n << 64n) - 1n,
  };

  /** The mode of a vCPU now. */
  of(cpu: CpuContext): Mode {
    const { v, access } = cpu;
    if (access.long) return this.long;
    const big = SegmentRights.DefaultBig;
    const codeSize = v.segAttributes(Seg.CS) & big ? 32 : 16;
    const stackSize = v.segAttributes(Seg.SS) & big ? 32 : 16;
    const real = (v.cr0 & Cr0.PE) === 0 || (v.rflags & Rflags.VM) !== 0;
    const base = v.segBase(Seg.CS), limit = v.segLimit(Seg.CS);
    const key = `${codeSize},${stackSize},${real},${base},${limit}`;
    let mode = this.known.get(key);
    if (mode === undefined) {
      const id = this.known.size + 1;
      mode = { id, codeSize, stackSize, real, base, limit: BigInt(limit) };
      this.known.set(key, mode);
    }
    return mode;
  }
}

/** Linear address of an offset in CS. */
export function linearOf(mode: Mode, rip: bigint): bigint {
  return mode.codeSize === 64 ? rip : (mode.base + rip) & 0xffff_ffffn;
}
