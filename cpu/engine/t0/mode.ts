/**
 * What the decoding of bytes and the meaning of RIP depend on: code, stack and
 * address sizes, privilege (whose links must not mix), and in legacy modes the
 * base and limit of CS. Modes are interned: equal ones are one object.
 */
import { Cr0, Rflags, SegmentRights } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import { Seg } from "../../layout.ts";

/** See the file header. */
export interface Mode {
  readonly id: number;
  /** CPL is 3. */
  readonly user: boolean;
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
  private readonly long = [longMode(0, false), longMode(1, true)] as const;

  /** The mode of a vCPU now. */
  of(cpu: CpuContext): Mode {
    const { v, access } = cpu;
    const user = v.cpl === 3;
    if (access.long) return this.long[user ? 1 : 0];
    const big = SegmentRights.DefaultBig;
    const codeSize = v.segAttributes(Seg.CS) & big ? 32 : 16;
    const stackSize = v.segAttributes(Seg.SS) & big ? 32 : 16;
    const real = (v.cr0 & Cr0.PE) === 0 || (v.rflags & Rflags.VM) !== 0;
    const base = v.segBase(Seg.CS), limit = v.segLimit(Seg.CS);
    const key = `${codeSize},${stackSize},${real},${user},${base},${limit}`;
    let mode = this.known.get(key);
    if (mode === undefined) {
      const id = this.known.size + this.long.length;
      const parts = { codeSize, stackSize, real, base } as const;
      mode = { id, user, ...parts, limit: BigInt(limit) };
      this.known.set(key, mode);
    }
    return mode;
  }
}

function longMode(id: number, user: boolean): Mode {
  const limit = (1n << 64n) - 1n;
  const parts = { codeSize: 64, stackSize: 64, real: false, base: 0n } as const;
  return { id, user, ...parts, limit };
}

/** Linear address of an offset in CS. */
export function linearOf(mode: Mode, rip: bigint): bigint {
  return mode.codeSize === 64 ? rip : (mode.base + rip) & 0xffff_ffffn;
}
