/**
 * The world in which a silicon vector runs: page layout, default registers,
 * selectors. Shared by the native harness (which gets the addresses on its
 * command line), the generator, the parser and the engines that are judged.
 * 64-bit mode (compatibility mode where CS is 23H), CPL 3, CR0.AM = 1,
 * CR4.FSGSBASE = 1, CR4.OSFXSR = 1, CR4.OSXSAVE = 1, XCR0 with x87 and SSE, SMEP
 * and SMAP irrelevant (user accesses only).
 * Invariant: a line in tests/cases/silicon states only what differs from here.
 */

/** Bytes in each page of the environment; everything else is not mapped. */
export const PAGE_SIZE = 4096;

/** One mapped user page: linear address and rights beyond "user, readable". */
export interface EnvironmentPage {
  readonly name: "code" | "data" | "readOnly" | "stack";
  readonly address: number;
  readonly writable: boolean;
  readonly executable: boolean;
  /** The byte that fills it before the case's own memory is written. */
  readonly fill: number;
}

/** The mapped pages, in the order the harness takes them. */
export const PAGES: readonly EnvironmentPage[] = [
  {
    name: "code",
    address: 0x10000000,
    writable: false,
    executable: true,
    fill: 0xcc,
  },
  {
    name: "data",
    address: 0x20000000,
    writable: true,
    executable: false,
    fill: 0,
  },
  {
    name: "readOnly",
    address: 0x20010000,
    writable: false,
    executable: false,
    fill: 0,
  },
  {
    name: "stack",
    address: 0x30000000,
    writable: true,
    executable: false,
    fill: 0,
  },
];

/** Page addresses by name. */
export const CODE = PAGES[0].address;
export const DATA = PAGES[1].address;
export const READ_ONLY = PAGES[2].address;
export const STACK = PAGES[3].address;

/** RIP before a case unless its line says otherwise. */
export const START = CODE + 0x800;

/** RFLAGS before a case unless its line says otherwise: IF and bit 1. */
export const DEFAULT_RFLAGS = 0x202;

/** Names of the general registers, in architectural order. */
export const GPR_NAMES = [
  "rax",
  "rcx",
  "rdx",
  "rbx",
  "rsp",
  "rbp",
  "rsi",
  "rdi",
  "r8",
  "r9",
  "r10",
  "r11",
  "r12",
  "r13",
  "r14",
  "r15",
] as const;

/** Names of the segment registers, in architectural order. */
export const SELECTOR_NAMES = ["es", "cs", "ss", "ds", "fs", "gs"] as const;

/** Selectors before every case: 64-bit user code, user data, nulls. */
export const DEFAULT_SELECTORS: readonly number[] = [0, 0x33, 0x2b, 0, 0, 0];

/**
 * The descriptor table that the vectors with selectors need: 0x23 32-bit user
 * code, 0x2b user data, 0x33 64-bit user code (all flat, accessed, DPL 3);
 * 0x10 64-bit kernel code, 0x18 kernel data (DPL 0); LDTR is null. Values are
 * the descriptors as two little-endian halves joined.
 */
export const DESCRIPTORS: ReadonlyMap<number, bigint> = new Map([
  [0x08, 0x00cf9b000000ffffn],
  [0x10, 0x00af9b000000ffffn],
  [0x18, 0x00cf93000000ffffn],
  [0x20, 0x00cffb000000ffffn],
  [0x28, 0x00cff3000000ffffn],
  [0x30, 0x00affb000000ffffn],
]);

/** Limit of that descriptor table in bytes, as GDTR holds it. */
export const GDT_LIMIT = 0x7f;

/** Interrupt vectors whose gates have DPL 3 (INT n); all others have DPL 0. */
export const USER_GATES: readonly number[] = [3, 4];

/** Default of general register `index`: its number plus one in every byte. */
export function defaultGpr(index: number): bigint {
  if (index === 4) return BigInt(STACK + 0x800);
  return 0x0101010101010101n * BigInt(index + 1);
}
