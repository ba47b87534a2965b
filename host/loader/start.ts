/**
 * Initial states of the first vCPU, and the boot area: what a loader leaves in
 * low memory for guests that start in long mode or get boot information.
 *
 *   0x90000          the stack begins here and grows down
 *   0x90000          GDT: null, 0x08 code64, 0x10 data, 0x18 code32
 *   0x91000–0x97fff  boot information (multiboot), from its start
 *   0x98000 PML4     0x99000 PDPT     0x9a000–0x9dfff four PDs
 *
 * All below is the guest's (kvm-unit-tests' realmode lies at 0x8000).
 * Long mode starts with the first 4 GiB mapped onto themselves by 2-MiB pages
 * (SDM 3A §4.5), supervisor, writable, executable, accessed bits clear.
 * Invariant: a state is one that the manual's entry procedures could reach.
 */
import { Seg } from "../../cpu/layout.ts";
import type {
  InitialState,
  Segment,
  SegmentState,
  StartMode,
} from "./types.ts";

/** Physical addresses of the boot area. */
export const BOOT = {
  stack: 0x90000,
  gdt: 0x90000,
  information: 0x91000,
  informationEnd: 0x98000,
  pml4: 0x98000,
  pdpt: 0x99000,
  pageDirectories: 0x9a000,
} as const;

/** Selectors of the boot GDT. */
export const BOOT_SELECTOR = {
  code64: 0x08,
  data: 0x10,
  code32: 0x18,
} as const;

/** Lowest address where guests lie by default. */
export const DEFAULT_ADDRESS = 0x100000;
/** Default address of real-mode guests: where a BIOS puts a boot sector. */
export const DEFAULT_REAL_ADDRESS = 0x7c00;

const CR0 = { PE: 1, ET: 0x10, NE: 0x20, PG: 0x8000_0000 } as const;
const CR4_PAE = 0x20;
const EFER_LME = 0x100;
const EFER_LMA = 0x400;
const RFLAGS_FIXED = 2;

/** Access rights (SDM 3C table 25-2): type, S, P; then D/B, L and G. */
const RIGHTS = {
  code16: 0x009b,
  data16: 0x0093,
  code32: 0xc09b,
  code64: 0xa09b,
  data: 0xc093,
  ldt: 0x0082,
  busyTss: 0x008b,
} as const;

const DESCRIPTORS: readonly bigint[] = [
  0n,
  0x00af_9b00_0000_ffffn, // code64
  0x00cf_9300_0000_ffffn, // data
  0x00cf_9b00_0000_ffffn, // code32
];

function flat(selector: number, attributes: number): SegmentState {
  return { selector, base: 0n, limit: 0xffff_ffff, attributes };
}

function segments(code: SegmentState, data: SegmentState): SegmentState[] {
  const all: SegmentState[] = new Array(8).fill(data);
  all[Seg.CS] = code;
  const limit = 0xffff;
  all[Seg.LDTR] = { selector: 0, base: 0n, limit, attributes: RIGHTS.ldt };
  all[Seg.TR] = { selector: 0, base: 0n, limit, attributes: RIGHTS.busyTss };
  return all;
}

/** General registers: all zero but those given by number. */
export function registers(values: Readonly<Record<number, bigint>>): bigint[] {
  return Array.from({ length: 16 }, (_, i) => values[i] ?? 0n);
}

const gdtr = { base: BigInt(BOOT.gdt), limit: DESCRIPTORS.length * 8 - 1 };

/**
 * The state at `entry` in a mode.
 * - `real`: CS:IP = 64-KiB block : offset; other segments 0 (SDM 3A §20.1)
 * - `protected`: 32-bit, flat 4-GiB segments, no paging
 * - `long`: 64-bit, the boot area's page tables and GDT
 */
export function startState(
  mode: StartMode,
  entry: bigint,
  gpr: readonly bigint[],
): InitialState {
  switch (mode) {
    case "real": {
      const base = entry & 0xf_0000n;
      const data: SegmentState = {
        selector: 0,
        base: 0n,
        limit: 0xffff,
        attributes: RIGHTS.data16,
      };
      const code: SegmentState = {
        selector: Number(base >> 4n),
        base,
        limit: 0xffff,
        attributes: RIGHTS.code16,
      };
      return {
        mode,
        rip: entry - base,
        gpr,
        rflags: RFLAGS_FIXED,
        cr0: CR0.ET,
        cr3: 0,
        cr4: 0,
        efer: 0,
        segments: segments(code, data),
        gdtr: { base: 0n, limit: 0xffff },
        idtr: { base: 0n, limit: 0x3ff },
      };
    }
    case "protected":
      return {
        mode,
        rip: entry,
        gpr,
        rflags: RFLAGS_FIXED,
        cr0: CR0.PE | CR0.ET,
        cr3: 0,
        cr4: 0,
        efer: 0,
        segments: segments(
          flat(BOOT_SELECTOR.code32, RIGHTS.code32),
          flat(BOOT_SELECTOR.data, RIGHTS.data),
        ),
        gdtr,
        idtr: { base: 0n, limit: 0 },
      };
    case "long":
      return {
        mode,
        rip: entry,
        gpr,
        rflags: RFLAGS_FIXED,
        cr0: (CR0.PG | CR0.NE | CR0.ET | CR0.PE) >>> 0,
        cr3: BOOT.pml4,
        cr4: CR4_PAE,
        efer: EFER_LME | EFER_LMA,
        segments: segments(
          flat(BOOT_SELECTOR.code64, RIGHTS.code64),
          flat(BOOT_SELECTOR.data, RIGHTS.data),
        ),
        gdtr,
        idtr: { base: 0n, limit: 0 },
      };
  }
}

/** The boot area's tables that a mode needs: none in real mode. */
export function bootTables(mode: StartMode): Segment[] {
  if (mode === "real") return [];
  const gdt = new Uint8Array(DESCRIPTORS.length * 8);
  const view = new DataView(gdt.buffer);
  DESCRIPTORS.forEach((d, i) => view.setBigUint64(i * 8, d, true));
  const tables: Segment[] = [{
    physicalAddress: BOOT.gdt,
    bytes: gdt,
    size: gdt.length,
    name: "the boot GDT",
  }];
  if (mode === "long") {
    const bytes = identityTables();
    tables.push({
      physicalAddress: BOOT.pml4,
      bytes,
      size: bytes.length,
      name: "the boot page tables",
    });
  }
  return tables;
}

/** 4 GiB mapped onto themselves: PML4, PDPT and four PDs of 2-MiB pages. */
function identityTables(): Uint8Array {
  const PRESENT_WRITABLE = 0x3n;
  const PAGE_SIZE_BIT = 0x80n;
  const bytes = new Uint8Array(6 * 4096);
  const view = new DataView(bytes.buffer);
  const put = (address: number, entry: bigint): void =>
    view.setBigUint64(address - BOOT.pml4, entry, true);
  put(BOOT.pml4, BigInt(BOOT.pdpt) | PRESENT_WRITABLE);
  for (let i = 0; i < 4; i++) {
    const directory = BOOT.pageDirectories + i * 4096;
    put(BOOT.pdpt + i * 8, BigInt(directory) | PRESENT_WRITABLE);
    for (let j = 0; j < 512; j++) {
      const frame = BigInt(i * 512 + j) << 21n;
      put(directory + j * 8, frame | PAGE_SIZE_BIT | PRESENT_WRITABLE);
    }
  }
  return bytes;
}
