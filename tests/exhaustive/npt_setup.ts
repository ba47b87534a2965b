/**
 * A guest behind nested paging in the MMU rig, for every format that the host's
 * tables can have: 4-level guest tables in guest-physical pages that the nested
 * tables map one to one, and one target page on a nested path that shares
 * nothing with them below the root, so that a case may spoil any entry of it.
 */
import { type CpuModel, parseModel } from "../../cpu/arch/models.ts";
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import { Access } from "../../cpu/port.ts";
import { nestedPagingFlags } from "../../plugins/mmu/api.ts";
import { MmuRig, type Translated } from "./mmu_rig.ts";
import type { GuestAccess, Host } from "./npt_oracle.ts";
import {
  type Controls,
  type Cpuid,
  type Mode,
  MODES,
  readEntries,
  type Reading,
} from "./paging_oracle.ts";

/** Entry bits. */
export const N = {
  P: 1n,
  W: 2n,
  U: 4n,
  A: 0x20n,
  D: 0x40n,
  PS: 0x80n,
} as const;
export const NX = 1n << 63n;
/** Everything allowed (without GMET). */
export const FULL = N.P | N.W | N.U;

/** Guest-physical target of each host format: another entry at every level. */
const TARGETS: Readonly<Record<string, number>> = {
  "32-bit": 0x0140_5000,
  "PAE": 0x4060_5000,
  "4-level": 2 ** 39 + 2 ** 30 + 3 * 2 ** 21 + 5 * 2 ** 12,
  "5-level": 2 ** 48 + 2 ** 39 + 2 ** 30 + 3 * 2 ** 21 + 5 * 2 ** 12,
};
/** Host-physical base of the target, aligned to any page size. */
const HOST = 0x80_0000_0000;
const HOST_LEGACY = 0x8000_0000;
const ROOT = 0x100000;
const PATH = 0x110000;
const IDENTITY = 0x120000;
/** Guest tables by level. */
export const GUEST: readonly number[] = [0, 0x23000, 0x22000, 0x21000, 0x20000];
const GUEST_INDEX: readonly number[] = [0, 6, 7, 8, 9];
/** Linear address that the guest maps to the target. */
export const LINEAR = 0x0000_0482_00e0_6123n;
const KINDS = [
  ["read", Access.Read],
  ["write", Access.Write],
  ["write", Access.ReadForWrite],
  ["fetch", Access.Fetch],
] as const;

/** Every access that a guest can make, at every CPL. */
export const ACCESSES: readonly {
  readonly access: number;
  readonly attempt: GuestAccess;
}[] = [0, 1, 2, 3].flatMap((cpl) =>
  KINDS.map(([kind, access]) => ({ access, attempt: { kind, cpl } }))
);
/** Host controls by the bits of `n`: NXE, SMEP, GMET. */
export function hostOf(n: number): Host {
  return {
    nxe: (n & 1) !== 0,
    smep: (n & 2) !== 0,
    gmet: (n & 4) !== 0,
  };
}

/** An AMD CPU with 52 physical address bits, which give PML5Es a use. */
export function wideModel(flags = ""): CpuModel {
  const model = parseModel(`qemu64,+pdpe1gb,+smep,+la57${flags}`);
  return { ...model, physicalAddressBits: 52 };
}

/** See the file header. */
export class NptRig {
  readonly rig: MmuRig;
  /** Guest-physical target. */
  readonly target: number;
  readonly cpuid: Cpuid;
  /** Number of the top level: 2 to 5. */
  readonly top: number;
  leaf = 1;
  private host: Host = hostOf(1);
  private pse = true;
  private entries: bigint[] = [];

  constructor(readonly mode: Mode, model: string | CpuModel = wideModel()) {
    this.rig = new MmuRig(model);
    this.target = TARGETS[mode.name];
    this.top = mode.levels.length;
    const own = this.rig.cpu.model;
    this.cpuid = {
      maxPhyAddr: own.physicalAddressBits,
      pse36: own.has("pse36"),
      pages1G: own.has("pdpe1gb"),
      amd: true,
    };
    this.reset();
  }

  /** What the host has in force at VMRUN. */
  hosted(host: Host, pse = true): void {
    this.host = host;
    this.pse = pse;
    const { mode } = this;
    const long = mode === MODES.four || mode === MODES.five;
    const flags = nestedPagingFlags(
      (Cr0.PE | Cr0.PG) >>> 0,
      (mode === MODES.legacy ? 0 : Cr4.PAE) | (pse ? Cr4.PSE : 0) |
        (mode === MODES.five ? Cr4.LA57 : 0) | (host.smep ? Cr4.SMEP : 0),
      (long ? Efer.LME | Efer.LMA : 0) | (host.nxe ? Efer.NXE : 0),
      host.gmet,
    );
    this.rig.nestedPaging(ROOT, flags);
  }

  private get width(): number {
    return this.mode.entryBytes === 8 ? 9 : 10;
  }
  private index(level: number, address: number): number {
    const page = Math.floor(address / 4096);
    return Math.floor(page / 2 ** ((level - 1) * this.width)) %
      2 ** this.width;
  }
  /** Bytes of a page whose leaf is at `level`. */
  bytes(level: number): number {
    return 2 ** (12 + (level - 1) * this.width);
  }
  private put(at: number, value: bigint): void {
    this.rig.put(at, value, this.mode.entryBytes);
  }

  /** Everything allowed: both hierarchies, 64-bit guest, no flag missing. */
  reset(leaf = 1): void {
    const { rig, mode, top } = this;
    const { v } = rig;
    v.cr0 = (Cr0.PE | Cr0.PG | Cr0.WP) >>> 0;
    v.cr4 = Cr4.PAE;
    v.efer = Efer.LME | Efer.LMA | Efer.NXE;
    v.cr3 = GUEST[4];
    v.cpl = 0;
    v.rflags = 2;
    this.hosted(this.host, this.pse);
    // Guest-physical 0 to 2 MiB as it is.
    for (let level = top; level > 1; level--) {
      const table = level === top ? this.rootTable() : IDENTITY + level * 4096;
      this.put(table, BigInt(IDENTITY + (level - 1) * 4096) | FULL | 0x60n);
    }
    for (let i = 0; i < 512; i++) {
      const at = IDENTITY + 4096 + i * mode.entryBytes;
      this.put(at, BigInt(i) << 12n | FULL | 0x60n);
    }
    if (mode === MODES.pae) {
      rig.put(ROOT, BigInt(this.rootTable()) | 1n);
      rig.put(ROOT + 8, BigInt(PATH + top * 4096) | 1n);
      this.put(PATH + top * 4096, 0n);
    }
    this.path(leaf);
    for (let level = 4; level >= 1; level--) {
      const to = level === 1 ? this.target : GUEST[level - 1];
      rig.put(this.guestAt(level), BigInt(to) | 0x67n);
    }
  }
  private rootTable(): number {
    return this.mode === MODES.pae ? IDENTITY + 0x4000 : ROOT;
  }

  /** Host-physical address of the target path's entry at a level. */
  at(level: number): number {
    const table = level === this.top && this.mode !== MODES.pae
      ? ROOT
      : PATH + level * 4096;
    return table + this.index(level, this.target) * this.mode.entryBytes;
  }
  /** Rebuilds the target's path with a leaf at `leaf` and all rights. */
  path(leaf: number): void {
    this.leaf = leaf;
    for (let level = this.top; level >= leaf; level--) this.set(level, FULL);
  }
  /** Sets an entry of the target's path, keeping what it points to. */
  set(level: number, bits: bigint): void {
    const { leaf, mode } = this;
    let to = BigInt(PATH + (level - 1) * 4096);
    if (level === leaf) {
      to = mode === MODES.legacy ? BigInt(HOST_LEGACY) : BigInt(HOST);
      if (level === 1) to += 0x5000n;
      else to |= N.PS;
    }
    const value = to | bits;
    this.entries[this.top - level] = value;
    this.put(this.at(level), value);
  }
  /** Puts the path back as it was set, A and D flags included. */
  restore(): void {
    for (let level = this.top; level >= this.leaf; level--) {
      this.put(this.at(level), this.entries[this.top - level]);
    }
  }
  /** The target path's entries now, top level first. */
  now(): bigint[] {
    const entries: bigint[] = [];
    for (let level = this.top; level >= this.leaf; level--) {
      entries.push(this.rig.get(this.at(level), this.mode.entryBytes));
    }
    return entries;
  }

  /** What memory holds for the target, however its entries were spoiled. */
  chain(): bigint[] {
    const { mode, rig, top } = this;
    const address = mode.entryBytes === 8 ? 0xf_ffff_ffff_f000n : 0xffff_f000n;
    const entries: bigint[] = [];
    let at = this.at(top);
    for (let level = top; level >= 1; level--) {
      const entry = rig.get(at, mode.entryBytes);
      entries.push(entry);
      at = Number(entry & address) +
        this.index(level - 1, this.target) * mode.entryBytes;
    }
    return entries;
  }

  /** Where the guest's entry of a level lies, guest- and host-physical. */
  guestAt(level: number): number {
    return GUEST[level] + GUEST_INDEX[level] * 8;
  }
  /** Nested leaf entry of the page that holds a guest table. */
  tablePage(page: number): number {
    return IDENTITY + 4096 + page / 4096 * this.mode.entryBytes;
  }

  /** What the manual makes of entries, top level first. */
  read(entries: readonly bigint[], guestPhysical: number): Reading {
    const controls: Controls = {
      nxe: this.host.nxe,
      pse: this.pse,
      pge: false,
      wp: true,
      smep: this.host.smep,
      smap: false,
      ac: false,
    };
    const { mode, cpuid } = this;
    return readEntries(mode, entries, BigInt(guestPhysical), controls, cpuid);
  }

  /** One access to LINEAR, with nothing in the TLB. */
  access(access: number, cpl = 0, linear = LINEAR): Translated {
    const { rig } = this;
    rig.v.cpl = cpl;
    rig.mmu.flush(rig.cpu, 9, 0, 0, 0n);
    return rig.translate(linear, access);
  }
}

/** Text of an outcome: `ok`, EXITINFO1 in hexadecimal, or `#PF`. */
export function textOf({ frame, fault, stage2 }: Translated): string {
  if (frame >= 0) return "ok";
  if (frame === -1) return `#PF(${fault?.errorCode})`;
  return infoText(stage2?.qualification);
}
/** EXITINFO1 as two words; `ok` for none. */
export function infoText(info: bigint | undefined): string {
  if (info === undefined) return "ok";
  const low = (info & 0xffff_ffffn).toString(16).toUpperCase();
  return `${info >> 32n}_${low.padStart(8, "0")}`;
}

export { Access };
