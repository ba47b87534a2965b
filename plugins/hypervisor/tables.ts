/**
 * Extended page tables as L0 writes and reads them in physical memory (SDM 3C
 * §29.3.2). Reading L1's EPT repeats the hardware's judgement of presence and
 * misconfiguration on L1's own entries, for the features that L1 was offered.
 */
import { PAGE_SIZE } from "../../cpu/layout.ts";
import type { PhysicalMemory } from "../../cpu/physical.ts";
import type { PolicyWalk } from "./api.ts";
import type { PagePool } from "./memory.ts";

/** Bits of EPT entries. */
export const Ept = {
  R: 1,
  W: 2,
  X: 4,
  Leaf: 0x80,
  XU: 0x400,
  /** Memory type write-back at bits 5:3. */
  WriteBack: 6 << 3,
  TypeMask: 7 << 3,
} as const;
const LEVELS = 4;

/** Index of `page` in the table at `level`. */
function indexAt(page: number, level: number): number {
  return Math.floor(page / 2 ** (9 * (level - 1))) & 511;
}

/** Page number in an entry. */
function pageIn(low: number, high: number): number {
  return (high & 0xfffff) * 2 ** 20 + (low >>> 12);
}

/** Writes an entry that points to `page`. */
function put(
  physical: PhysicalMemory,
  at: number,
  page: number,
  bits: number,
): void {
  physical.writeU32(at, (page % 2 ** 20) * PAGE_SIZE + bits);
  physical.writeU32(at + 4, Math.floor(page / 2 ** 20));
}

/**
 * Maps a page (or at `level` 2 or 3 a large one) in the hierarchy at `root`.
 * Tables on the way allow everything, so that leaves alone decide.
 * @returns false when the pool is empty
 */
export function mapPage(
  physical: PhysicalMemory,
  pool: PagePool,
  root: number,
  guestPage: number,
  page: number,
  bits: number,
  level = 1,
  tableRights: number = Ept.R | Ept.W | Ept.X,
): boolean {
  let table = root;
  for (let at = LEVELS; at > level; at--) {
    const entry = table + indexAt(guestPage, at) * 8;
    const low = physical.readU32(entry);
    if (low & Ept.R) {
      table = pageIn(low, physical.readU32(entry + 4)) * PAGE_SIZE;
      continue;
    }
    const fresh = pool.take();
    if (fresh === undefined) return false;
    put(physical, entry, fresh / PAGE_SIZE, tableRights);
    table = fresh;
  }
  put(
    physical,
    table + indexAt(guestPage, level) * 8,
    page,
    bits | (level > 1 ? Ept.Leaf : 0),
  );
  return true;
}

/** Clears the 4-KiB leaf of a page, if there is one. */
export function unmapPage(
  physical: PhysicalMemory,
  root: number,
  guestPage: number,
): void {
  let table = root;
  for (let level = LEVELS; level > 1; level--) {
    const entry = table + indexAt(guestPage, level) * 8;
    const low = physical.readU32(entry);
    if (!(low & Ept.R) || low & Ept.Leaf) return;
    table = pageIn(low, physical.readU32(entry + 4)) * PAGE_SIZE;
  }
  put(physical, table + indexAt(guestPage, 1) * 8, 0, 0);
}

/** Gives every page of a hierarchy of 4-KiB leaves back to the pool. */
export function freeTables(
  physical: PhysicalMemory,
  pool: PagePool,
  table: number,
  level = LEVELS,
): void {
  if (level > 1) {
    for (let i = 0; i < 512; i++) {
      const low = physical.readU32(table + i * 8);
      if (!(low & Ept.R) || low & Ept.Leaf) continue;
      const below = pageIn(low, physical.readU32(table + i * 8 + 4));
      freeTables(physical, pool, below * PAGE_SIZE, level - 1);
    }
  }
  pool.give(table);
}

/** What L1's EPT may contain. */
export interface PolicyFormat {
  readonly executeOnly: boolean;
  /** L1 set "mode-based execute control". */
  readonly mbec: boolean;
  /** 2^(MAXPHYADDR − 12). */
  readonly pages: number;
}

/** Walks L1's EPT for one L2 guest-physical page (SDM 3C §29.3.3). */
export function walkPolicy(
  physical: PhysicalMemory,
  eptp: bigint,
  guestPage: number,
  format: PolicyFormat,
): PolicyWalk {
  const present = 7 | (format.mbec ? Ept.XU : 0);
  let table = Number(eptp >> 12n & 0xff_ffff_ffffn) * PAGE_SIZE;
  let rights = present;
  if (guestPage >= 2 ** 36) return { kind: "absent" };
  for (let level = LEVELS; level >= 1; level--) {
    const at = table + indexAt(guestPage, level) * 8;
    const low = physical.readU32(at);
    const high = physical.readU32(at + 4);
    if (!(low & present)) return { kind: "absent" };
    const leaf = level === 1 || (level <= 3 && (low & Ept.Leaf) !== 0);
    const page = pageIn(low, high);
    const executes = low & (Ept.X | (format.mbec ? Ept.XU : 0));
    const type = (low & Ept.TypeMask) >> 3;
    const span = 2 ** (9 * (level - 1));
    const bad = (!(low & Ept.R) &&
      ((low & Ept.W) !== 0 || (executes !== 0 && !format.executeOnly))) ||
      page >= format.pages ||
      (leaf
        ? type === 2 || type === 3 || type === 7 || page % span !== 0
        : (low & 0x78) !== 0 || (level === LEVELS && (low & Ept.Leaf) !== 0));
    if (bad) return { kind: "misconfigured" };
    rights &= low;
    if (leaf) {
      // Without MBEC the one execute bit stands for both modes.
      if (!format.mbec && rights & Ept.X) rights |= Ept.XU;
      return {
        kind: "mapped",
        entry: {
          rights: rights & (7 | Ept.XU),
          page: page + guestPage % span,
          memoryType: low & Ept.TypeMask,
          sizeShift: (level - 1) * 9,
        },
      };
    }
    table = page * PAGE_SIZE;
  }
  return { kind: "absent" };
}
