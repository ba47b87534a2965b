/**
 * What SDM 3A chapter 4 says of one linear access, written from its tables and
 * not from plugins/mmu: §4.3 (32-bit), §4.4 (PAE), §4.5 (4- and 5-level) for
 * what an entry means and which bits are reserved, §4.6.1 for rights, §4.7 for
 * the error code. Entries are plain bigints, top level first; nothing is cached.
 */

/** A paging mode: its levels from the root down. PAE starts below the PDPTEs. */
export interface Mode {
  readonly name: string;
  readonly levels: readonly ("PML5E" | "PML4E" | "PDPTE" | "PDE" | "PTE")[];
  readonly entryBytes: 4 | 8;
}

/** All modes. */
export const MODES = {
  legacy: { name: "32-bit", levels: ["PDE", "PTE"], entryBytes: 4 },
  pae: { name: "PAE", levels: ["PDE", "PTE"], entryBytes: 8 },
  four: {
    name: "4-level",
    levels: ["PML4E", "PDPTE", "PDE", "PTE"],
    entryBytes: 8,
  },
  five: {
    name: "5-level",
    levels: ["PML5E", "PML4E", "PDPTE", "PDE", "PTE"],
    entryBytes: 8,
  },
} as const satisfies Record<string, Mode>;

/** Control bits that decide how an entry reads and who may do what. */
export interface Controls {
  readonly nxe: boolean;
  readonly pse: boolean;
  readonly pge: boolean;
  readonly wp: boolean;
  readonly smep: boolean;
  readonly smap: boolean;
  readonly ac: boolean;
}

/** What CPUID says. */
export interface Cpuid {
  readonly maxPhyAddr: number;
  readonly pse36: boolean;
  readonly pages1G: boolean;
  /** AMD: bit 8 of a PML4E and PML5E is reserved too (APM 2 §5.3.3). */
  readonly amd: boolean;
}

/** A page that the entries map. */
export interface Mapping {
  readonly kind: "page";
  /** How many entries were used. */
  readonly used: number;
  readonly w: boolean;
  readonly u: boolean;
  readonly xd: boolean;
  readonly global: boolean;
  readonly dirty: boolean;
  /** Physical address of the linear address. */
  readonly physical: bigint;
  readonly pageBytes: bigint;
}

/** What the entries say; `absent` is P = 0, `reserved` a reserved bit set. */
export type Reading = Mapping | { readonly kind: "absent" | "reserved" };

const bits = (high: number, low: number): bigint =>
  high < low ? 0n : ((1n << BigInt(high - low + 1)) - 1n) << BigInt(low);
const PAGE: Readonly<Record<string, bigint>> = {
  PTE: 1n << 12n,
  PDPTE: 1n << 30n,
};

/** Reserved bits of an entry that is present, and whether it maps a page. */
function shape(
  mode: Mode,
  level: string,
  entry: bigint,
  c: Controls,
  id: Cpuid,
): { reserved: bigint; page: bigint | undefined } {
  const ps = (entry & 0x80n) !== 0n;
  const m = id.maxPhyAddr;
  if (mode.name === "32-bit") {
    if (level === "PTE") return { reserved: 0n, page: 1n << 12n };
    if (!ps || !c.pse) return { reserved: 0n, page: undefined };
    // Table 4-4: 21:(M−19) reserved, M = min(40, MAXPHYADDR) with PSE-36.
    const width = id.pse36 ? Math.min(40, m) : 32;
    return { reserved: bits(21, width - 19), page: 1n << 22n };
  }
  const top = mode.name === "PAE" ? 62 : 51;
  const common = bits(top, m) | (c.nxe ? 0n : 1n << 63n);
  switch (level) {
    case "PML5E":
    case "PML4E":
      return {
        reserved: common | (id.amd ? 0x180n : 0x80n),
        page: undefined,
      };
    case "PDPTE":
      if (!ps) return { reserved: common, page: undefined };
      if (!id.pages1G) return { reserved: common | 0x80n, page: undefined };
      return { reserved: common | bits(29, 13), page: PAGE.PDPTE };
    case "PDE":
      if (!ps) return { reserved: common, page: undefined };
      return { reserved: common | bits(20, 13), page: 1n << 21n };
    default:
      return { reserved: common, page: PAGE.PTE };
  }
}

/** Reads entries, top level first, for a linear address. */
export function readEntries(
  mode: Mode,
  entries: readonly bigint[],
  linear: bigint,
  c: Controls,
  id: Cpuid,
): Reading {
  let w = true;
  let u = true;
  let xd = false;
  for (let i = 0; i < mode.levels.length; i++) {
    const entry = entries[i];
    if (!(entry & 1n)) return { kind: "absent" };
    const { reserved, page } = shape(mode, mode.levels[i], entry, c, id);
    if (entry & reserved) return { kind: "reserved" };
    w = w && (entry & 2n) !== 0n;
    u = u && (entry & 4n) !== 0n;
    xd = xd || (mode.entryBytes === 8 && entry >> 63n === 1n);
    if (page === undefined) continue;
    const within = linear & (page - 1n);
    let base = entry & bits(51, 12) & ~(page - 1n);
    if (mode.name === "32-bit" && page > 4096n) {
      base = (entry & bits(31, 22)) | ((entry & bits(20, 13)) << 19n);
    }
    return {
      kind: "page",
      used: i + 1,
      w,
      u,
      xd,
      global: c.pge && (entry & 0x100n) !== 0n,
      dirty: (entry & 0x40n) !== 0n,
      physical: base | within,
      pageBytes: page,
    };
  }
  throw new Error("a chain of entries without a page");
}

/** One access. */
export interface Attempt {
  readonly kind: "read" | "write" | "fetch";
  /** Made by the processor for itself: descriptor tables, TSS, IDT. */
  readonly implicit: boolean;
  readonly cpl: number;
}

/** §4.6: user-mode access. */
export function userMode(a: Attempt): boolean {
  return a.cpl === 3 && !a.implicit;
}

/** §4.6.1. */
export function allowed(
  page: { w: boolean; u: boolean; xd: boolean },
  a: Attempt,
  c: Controls,
): boolean {
  if (userMode(a)) {
    if (!page.u) return false;
    if (a.kind === "read") return true;
    return a.kind === "write" ? page.w : !page.xd;
  }
  if (a.kind === "fetch") {
    // User-mode addresses: SMEP. Both: XD.
    return page.u ? !c.smep && !page.xd : !page.xd;
  }
  if (page.u && c.smap && (a.implicit || !c.ac)) return false;
  return a.kind === "read" || page.w || !c.wp;
}

/** §4.7. */
export function errorCode(
  reading: Reading,
  a: Attempt,
  c: Controls,
  mode: Mode,
): number {
  let code = reading.kind === "absent" ? 0 : 1;
  if (a.kind === "write") code |= 2;
  if (userMode(a)) code |= 4;
  if (reading.kind === "reserved") code |= 8;
  const nx = mode.name !== "32-bit" && c.nxe;
  if (a.kind === "fetch" && (c.smep || nx)) code |= 16;
  return code;
}
