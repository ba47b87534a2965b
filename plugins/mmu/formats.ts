/**
 * Paging formats as data (SDM 3A §4.3–4.5, 3C §29.3.2): which levels a walk
 * visits, from the root down, and what an entry's bits mean. The walker is one;
 * only these rows differ.
 */
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";

/** Level numbers, as distance from the page: 1 = PTE … 5 = PML5E. */
export const Level = { Pte: 1, Pde: 2, Pdpte: 3, Pml4e: 4, Pml5e: 5 } as const;

/** Manual names of the levels, by number. */
export const LEVEL_NAMES: readonly string[] = [
  "",
  "PTE",
  "PDE",
  "PDPTE",
  "PML4E",
  "PML5E",
];

/** Paging formats. */
export const Format = {
  /** 32-bit paging: 4-byte entries. */
  Legacy32: 0,
  Pae: 1,
  FourLevel: 2,
  FiveLevel: 3,
  Ept: 4,
} as const;

/** One format. */
export interface PagingFormat {
  readonly id: number;
  readonly name: string;
  /** Level of the table that the root points to. */
  readonly top: number;
  /** Width of the addresses that a walk translates. */
  readonly addressBits: number;
  readonly entryBytes: 4 | 8;
  /** Entries of a table. */
  readonly entries: number;
  /** log2 of that. */
  readonly indexBits: number;
  /** Pages that one entry maps, by level. */
  readonly pages: readonly number[];
}

function pagingFormat(
  id: number,
  name: string,
  top: number,
  addressBits: number,
  entryBytes: 4 | 8,
): PagingFormat {
  const indexBits = entryBytes === 8 ? 9 : 10;
  const entries = 1 << indexBits;
  const pages = [0, 1];
  while (pages.length <= top) pages.push(pages[pages.length - 1] * entries);
  const table = { entryBytes, entries, indexBits, pages };
  return { id, name, top, addressBits, ...table };
}

/** By Format. */
export const FORMATS: readonly PagingFormat[] = [
  pagingFormat(Format.Legacy32, "32-bit", 2, 32, 4),
  pagingFormat(Format.Pae, "PAE", 3, 32, 8),
  pagingFormat(Format.FourLevel, "4-level", 4, 48, 8),
  pagingFormat(Format.FiveLevel, "5-level", 5, 57, 8),
  pagingFormat(Format.Ept, "EPT", 4, 48, 8),
];

/** Index of the entry that translates a page, in a table of `level`. */
export function indexOf(
  { entries, indexBits }: PagingFormat,
  level: number,
  page: number,
): number {
  const shift = (level - 1) * indexBits;
  // Bit operations see 32 bits only; there are up to 52.
  const index = shift + indexBits <= 32
    ? page >>> shift
    : Math.floor(page / 2 ** 18) >>> (shift - 18);
  return index & (entries - 1);
}

/** Paging format in force, or -1 with paging off. */
export function formatOf(cr0: number, cr4: number, efer: number): number {
  if (!(cr0 & Cr0.PG)) return -1;
  if (!(cr4 & Cr4.PAE)) return Format.Legacy32;
  if (!(efer & Efer.LMA)) return Format.Pae;
  return cr4 & Cr4.LA57 ? Format.FiveLevel : Format.FourLevel;
}

/** Physical address of the first table, from the two halves of CR3 or nCR3. */
export function rootAddress(format: number, low: number, high: number): number {
  // 32-bit and PAE paging ignore CR3[63:32] (SDM 3A tables 4-3 and 4-7).
  if (format === Format.Legacy32) return low - low % 4096;
  if (format === Format.Pae) return low - low % 32;
  return (high & 0xfffff) * 2 ** 32 + (low - low % 4096);
}

/** Low bits of a paging-structure entry (SDM 3A tables 4-5, 4-15 ff.). */
export const Entry = {
  P: 1,
  RW: 2,
  US: 4,
  A: 1 << 5,
  D: 1 << 6,
  PS: 1 << 7,
  G: 1 << 8,
} as const;
/** Bit 63, in the high half. */
export const ENTRY_XD_HIGH = 0x80000000;

/** Low bits of an EPT entry (SDM 3C tables 29-1 ff.). */
export const EptEntry = {
  R: 1,
  W: 2,
  /** Execute; with MBEC execute for supervisor-mode linear addresses. */
  X: 4,
  /** Memory type, leaf only. */
  TypeShift: 3,
  TypeMask: 7 << 3,
  Leaf: 1 << 7,
  A: 1 << 8,
  D: 1 << 9,
  /** Execute for user-mode linear addresses, with MBEC. */
  XU: 1 << 10,
} as const;

/** Rights and attributes of a translation, as the TLB keeps them. */
export const Attribute = {
  /** Guest paging. */
  W: 1 << 0,
  U: 1 << 1,
  NX: 1 << 2,
  G: 1 << 3,
  /** A store needs no further A/D update at any stage. */
  D: 1 << 4,
  /** Page size: 0 4K, 1 2M, 2 4M, 3 1G, at bits 6:5. */
  SizeShift: 5,
  SizeMask: 3 << 5,
  /**
   * Stage 2; all set when it is off. XS2 and XU2 are execution for supervisor-
   * and user-mode addresses (MBEC), or for CPL 0–2 and CPL 3 (GMET), else alike.
   */
  R2: 1 << 12,
  W2: 1 << 13,
  XS2: 1 << 14,
  XU2: 1 << 15,
  /** Protection key, bits 27:24; 0 outside 4- and 5-level paging. */
  KeyShift: 24,
} as const;
/** Stage-2 attributes of a vCPU without stage 2. */
export const STAGE2_ALL = Attribute.R2 | Attribute.W2 | Attribute.XS2 |
  Attribute.XU2;
