/**
 * A guest behind EPT in the MMU rig: 4-level guest tables in guest-physical
 * pages that an EPT of their own maps one to one, and one target page on an EPT
 * path that shares nothing with them, so that a case may spoil any entry of it.
 */
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import { Stage2Flags } from "../../cpu/layout.ts";
import { Access } from "../../cpu/port.ts";
import { MmuRig, type Translated } from "./mmu_rig.ts";

/** EPT entry bits (SDM 3C table 29-1 ff.). */
export const E = {
  R: 1n,
  W: 2n,
  XS: 4n,
  LEAF: 0x80n,
  A: 0x100n,
  D: 0x200n,
  XU: 0x400n,
  /** Memory type write-back of a leaf. */
  WB: 0x30n,
} as const;
/** All rights. */
export const FULL = E.R | E.W | E.XS | E.XU;

/** Page sizes by the level of the leaf: 1 = 4 KBytes, 2 = 2 MBytes, 3 = 1 GByte. */
export const LEAVES = [1, 2, 3] as const;

/** Guest-physical target: index 1, 1, 3, 5 of its EPT path. */
export const TARGET = 2 ** 39 + 2 ** 30 + 3 * 2 ** 21 + 5 * 2 ** 12;
/** Its host-physical page, by the level of the leaf. */
const HOST: readonly number[] = [0, 0x300000, 0x200000 + 0x5000, 0x605000];
const EPT = 0x100000;
/** EPT tables of the target's path by level (4 is the root). */
const PATH: readonly number[] = [0, 0x107000, 0x106000, 0x105000, EPT];
const INDEX: readonly number[] = [0, 5, 3, 1, 1];
/** EPT page table of the guest's tables. */
const IDENTITY = 0x103000;

/** Guest tables by level. */
export const GUEST: readonly number[] = [0, 0x23000, 0x22000, 0x21000, 0x20000];
const GUEST_INDEX: readonly number[] = [0, 6, 7, 8, 9];
/** Linear address that the guest maps to TARGET. */
export const LINEAR = 0x0000_0482_00e0_6123n;

/** What a case may choose. */
export interface EptOptions {
  readonly mbec?: boolean;
  readonly ad?: boolean;
  readonly advanced?: boolean;
  readonly executeOnly?: boolean;
  /** Further words for the CPU model. */
  readonly model?: string;
}

/** See the file header. */
export class EptRig {
  readonly rig: MmuRig;
  leaf = 1;

  constructor(options: EptOptions = {}) {
    const { executeOnly = true, model = "" } = options;
    this.rig = new MmuRig(
      `max-intel${executeOnly ? "" : ",-vmx-ept-execonly"}${model}`,
    );
    this.options(options);
    this.reset();
  }

  /** Stage-2 options in force. */
  options({ mbec = true, ad = false, advanced = false }: EptOptions): void {
    this.rig.nested(
      EPT,
      (mbec ? Stage2Flags.Mbec : 0) | (ad ? Stage2Flags.AccessedDirty : 0) |
        (advanced ? Stage2Flags.AdvancedInformation : 0),
    );
  }

  /** Everything allowed: both hierarchies, 64-bit mode, no flag missing. */
  reset(leaf = 1): void {
    const { rig } = this;
    const { v } = rig;
    v.cr0 = (Cr0.PE | Cr0.PG | Cr0.WP) >>> 0;
    v.cr4 = Cr4.PAE;
    v.efer = Efer.LME | Efer.LMA | Efer.NXE;
    v.cr3 = GUEST[4];
    v.cpl = 0;
    v.rflags = 2;
    rig.put(EPT, 0x101000n | FULL);
    rig.put(0x101000, 0x102000n | FULL);
    rig.put(0x102000, BigInt(IDENTITY) | FULL);
    for (let i = 0; i < 512; i++) {
      rig.put(IDENTITY + i * 8, BigInt(i) << 12n | FULL | E.WB);
    }
    this.path(leaf);
    for (let level = 4; level >= 1; level--) {
      const to = level === 1 ? TARGET : GUEST[level - 1];
      this.guest(level, BigInt(to) | 0x67n);
    }
  }

  /** Host-physical address of the target path's entry at a level. */
  at(level: number): number {
    return PATH[level] + INDEX[level] * 8;
  }
  /** Rebuilds the target's path with a leaf at `leaf` and all rights. */
  path(leaf: number): void {
    this.leaf = leaf;
    for (let level = 4; level >= leaf; level--) {
      this.rights(level, FULL);
    }
  }
  /** Sets an entry of the target's path, keeping what it points to. */
  rights(level: number, bits: bigint): void {
    const { leaf, rig } = this;
    const size = 2n ** BigInt(12 + 9 * (level - 1));
    const to = level > leaf
      ? BigInt(PATH[level - 1])
      : BigInt(HOST[leaf]) / size * size | E.WB | (leaf > 1 ? E.LEAF : 0n);
    rig.put(this.at(level), to | bits);
  }
  /** The host-physical page that TARGET leads to. */
  get host(): number {
    return HOST[this.leaf] / 4096;
  }

  /** Where the guest's entry of a level lies, guest- and host-physical. */
  guestAt(level: number): number {
    return GUEST[level] + GUEST_INDEX[level] * 8;
  }
  /** Sets the guest's entry of a level. */
  guest(level: number, value: bigint): void {
    this.rig.put(this.guestAt(level), value);
  }
  /** Makes the linear address the user's or the supervisor's. */
  user(on: boolean): void {
    this.guest(1, BigInt(TARGET) | (on ? 0x67n : 0x63n));
  }
  /** EPT entry of the page that holds a guest table. */
  tablePage(page: number): number {
    return IDENTITY + page / 4096 * 8;
  }

  /** One access to LINEAR, with nothing in the TLB. */
  access(access: number, cpl = 0, linear = LINEAR): Translated {
    const { rig } = this;
    rig.v.cpl = cpl;
    rig.mmu.flush(rig.cpu, 9, 0, 0, 0n);
    return rig.translate(linear, access);
  }
}

/** Text of an outcome: `ok`, a qualification in hexadecimal, `misconfig`, `#PF`. */
export function textOf({ frame, fault, stage2 }: Translated): string {
  if (frame >= 0) return "ok";
  if (frame === -1) return `#PF(${fault?.errorCode})`;
  if (stage2?.misconfiguration) return "misconfig";
  return (stage2?.qualification ?? 0n).toString(16).toUpperCase();
}

export { Access };
