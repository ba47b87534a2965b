/**
 * The ONE table of offsets (design §3): where every vCPU register, TLB entry,
 * engine area and byte of RAM lies in the machine's single WebAssembly.Memory.
 *
 * Order: state pages (machine page, then per vCPU a register page and its two
 * architectural TLBs), engine-private area (never digested), page flags, RAM.
 * State pages and RAM together are the machine's `PagedState`; nothing of an
 * engine may lie in them. All u64 slots are 8-aligned.
 */

export const PAGE_SIZE = 4096;

/** Machine page: state that belongs to no single vCPU. */
export const MACHINE = {
  /** u64: steps since the start of the tape. */
  step: 0x00,
  /** u64: idle virtual nanoseconds. */
  idle: 0x08,
  /** u32: which vCPU has the turn. */
  turn: 0x10,
  /** u32: 1 after the machine was told to stop; never runs again. */
  stopped: 0x14,
  /** u32: 1 once the plugins' onStart handlers have run. */
  started: 0x18,
  /** u64: step at which the turn ends; 0 while there is only one vCPU. */
  turnEnd: 0x20,
  /** u64: linear address of the turn's last PAUSE, plus 1; 0 if it had none. */
  turnPause: 0x28,
} as const;

/** A segment register, relative to its slot. */
export const SEGMENT = {
  /** u64 */ base: 0x00,
  /** u32, byte-granular */ limit: 0x08,
  /** u32 holding 16 bits */ selector: 0x0c,
  /** u32, VMCS access-rights format (SDM 3C table 25-2), bit 16 = unusable */
  attributes: 0x10,
} as const;
export const SEGMENT_SIZE = 0x20;

/** Register page of one vCPU, relative to its start. */
export const VCPU = {
  /** 16 × u64 in encoding order. */
  gpr: 0x000,
  /** u64 that is always zero: stands for "no register". */
  zero: 0x080,
  /** u64 */ rip: 0x088,
  /** u32; canonical whenever TypeScript runs. */ rflags: 0x090,
  /** u32 */ cr0: 0x098,
  /** u64 */ cr2: 0x0a0,
  /** u64; LAM control in bits 62:61. */ cr3: 0x0a8,
  /** u32 */ cr4: 0x0b0,
  /** u32; TPR priority class when no local APIC holds it. */ cr8: 0x0b8,
  /** u64 */ xcr0: 0x0c0,
  /** u32 */ efer: 0x0c8,
  /** 8 × u64: DR0–3, (4, 5 unused), DR6, DR7. */
  dr: 0x0d0,
  /** 8 slots of SEGMENT_SIZE: ES CS SS DS FS GS LDTR TR. */
  segments: 0x110,
  /** u64 base, u32 limit at +8. */ gdtr: 0x210,
  /** u64 base, u32 limit at +8. */ idtr: 0x220,
  /** 4 × u64 */ pdpte: 0x230,
  /** u32 */ cpl: 0x250,
  /** u32, ActivityState. */ activity: 0x254,
  /** u32, VMCS interruptibility-state format (SDM 3C table 25-3). */
  interruptibility: 0x258,
  /** u32, pending debug exceptions in VMCS format (SDM 3C table 25-4). */
  pendingDebug: 0x25c,
  /** u32, GuestMode. */ guestMode: 0x260,
  /** u32, bits of EventRequest: lines asserted towards this vCPU. */
  eventRequest: 0x264,
  /** u32 VPID, or ASID in guest mode; 0 = host. */ tlbTag: 0x268,
  /** u32: vector of the latched start-up IPI (EventRequest.Sipi). */
  sipiVector: 0x26c,
  /** u64 EPTP or nCR3 in force; 0 when stage 2 is off. */
  stage2Root: 0x270,
  /** u32, Stage2Flags. */ stage2Flags: 0x278,
  /** u32: transitions without a step so far (design law 8). */
  transitions: 0x27c,
  /** MSR_SLOTS × u64, indexed by cpu/arch/msr.ts. */
  msrs: 0x280,
  /** u32s then u64s of the x87/SSE control state. */
  fcw: 0x500,
  fsw: 0x504,
  /** Full 16-bit tag word. */ ftw: 0x508,
  fop: 0x50c,
  fip: 0x510,
  fdp: 0x518,
  fcs: 0x520,
  fds: 0x524,
  mxcsr: 0x528,
  /** u32; protection-key rights for user pages (SDM 3A §4.6.2). */
  pkru: 0x52c,
  /** 8 × 16 bytes: physical x87 registers R0–R7, 80 bits used. */
  x87: 0x540,
  /** 32 × 64 bytes: room for ZMM; XMM uses the low 16 of each. */
  vector: 0x600,
  /** Scratch of the virtualization plugin in use, VIRTUALIZATION_BYTES. */
  virtualization: 0xe00,
} as const;
export const MSR_SLOTS = 80;
export const VIRTUALIZATION_BYTES = 0x200;

/** Segment register numbers; 0–5 as encoded in instructions. */
export const Seg = {
  ES: 0,
  CS: 1,
  SS: 2,
  DS: 3,
  FS: 4,
  GS: 5,
  LDTR: 6,
  TR: 7,
} as const;

/** General register numbers as encoded. */
export const Gpr = {
  RAX: 0,
  RCX: 1,
  RDX: 2,
  RBX: 3,
  RSP: 4,
  RBP: 5,
  RSI: 6,
  RDI: 7,
  R8: 8,
  R9: 9,
  R10: 10,
  R11: 11,
  R12: 12,
  R13: 13,
  R14: 14,
  R15: 15,
} as const;

/** VMCS guest activity state (SDM 3C §25.4.2). */
export const ActivityState = {
  Active: 0,
  Hlt: 1,
  Shutdown: 2,
  WaitForSipi: 3,
} as const;

/** Interruptibility state bits (SDM 3C table 25-3). */
export const Interruptibility = {
  BySti: 1,
  ByMovSs: 2,
  BySmi: 4,
  ByNmi: 8,
} as const;

/** Which hardware virtualization the vCPU is a guest of. */
export const GuestMode = { None: 0, Vmx: 1, Svm: 2 } as const;

/** Bits of VCPU.eventRequest. */
export const EventRequest = {
  /** Maskable interrupt line (INTR) is asserted. */
  Interrupt: 1,
  /** One NMI is latched. */
  Nmi: 2,
  Init: 4,
  Sipi: 8,
  /** The virtualization plugin wants its boundary check (MTF, window, timer). */
  Virtualization: 16,
  /** The virtualization plugin wants its boundary check after every step (MTF). */
  VirtualizationStep: 32,
  /** The exception filter wants its boundary check (an event to inject). */
  Introspection: 64,
  /** A system-management interrupt is latched. */
  Smi: 128,
} as const;

/** Stage-2 translation options in force. */
export const Stage2Flags = {
  /** Format is EPT (else nested page tables). */
  Ept: 1,
  /** Accessed and dirty flags for EPT (EPTP bit 6). */
  AccessedDirty: 2,
  /** Mode-based execute control. */
  Mbec: 4,
  /** Advanced VM-exit information for EPT violations (qualification bits 9–11). */
  AdvancedInformation: 8,
  /** Stage 2 is nested page tables (APM 2 §15.25); never together with Ept. */
  Npt: 1 << 4,
  /** Nested paging's format, a Format of plugins/mmu/formats.ts: 0 32-bit, 1 PAE, 2 4-level, 3 5-level. */
  NptFormatShift: 5,
  NptFormatMask: 3 << 5,
  /** EFER.NXE of the host: nested entries have the NX bit. */
  HostNxe: 1 << 7,
  /** CR4.SMEP of the host: EXITINFO1 reports instruction fetches. */
  HostSmep: 1 << 8,
  /** CR4.PSE of the host: 4-MiB pages in 32-bit nested paging. */
  HostPse: 1 << 9,
  /** Guest mode execute trap (VMCB 90h bit 3). */
  Gmet: 1 << 10,
} as const;

/**
 * Architectural TLB (design §7): direct-mapped, no recency bits, instruction
 * and data apart. Index = low bits of the linear page number, so that evictions
 * follow from addresses alone.
 */
export const ITLB_ENTRIES = 2048;
export const DTLB_ENTRIES = 4096;
export const TLB_ENTRY_SIZE = 32;
/** One entry. Attribute bits are in plugins/mmu/tlb.ts. */
export const TLB_ENTRY = {
  /** u32 linear page number, low half. */ pageLow: 0x00,
  /**
   * u32: bits 19:0 linear page number high, 27:20 host-physical page number
   * high, bit 31 valid.
   */
  pageHigh: 0x04,
  /** u32: bits 15:0 VPID/ASID, 27:16 PCID. */ tag: 0x08,
  /** u32: stage-2 root page number, low half (0 = none). */ root: 0x0c,
  /** u32 attributes. */ attributes: 0x10,
  /** u32: bits 7:0 stage-2 root page number high, above them the stage-2 mode; 0 = none. */
  rootHigh: 0x14,
  /** u32 host-physical page number, low half. */ frame: 0x18,
  /** u32 guest-physical page number, low half. */ guestFrame: 0x1c,
} as const;

const ITLB_BYTES = ITLB_ENTRIES * TLB_ENTRY_SIZE;
const DTLB_BYTES = DTLB_ENTRIES * TLB_ENTRY_SIZE;
/** Bytes of state pages per vCPU: registers, instruction TLB, data TLB. */
export const VCPU_STATE_BYTES = PAGE_SIZE + ITLB_BYTES + DTLB_BYTES;

/** Bits of one page-flag byte. */
export const PageFlag = {
  /** Written since the last harvest. */
  Dirty: 1,
  /** Some engine holds decoded code of this page. */
  Code: 2,
} as const;

/** Bytes of the event ring (a power of two). */
export const RING_BYTES = 1 << 20;

/** Addresses inside the WebAssembly.Memory of one machine. */
export interface Layout {
  readonly cpus: number;
  readonly ramBytes: number;
  /** Start of the machine page; state pages are contiguous from here. */
  readonly state: number;
  readonly statePages: number;
  /** Start of vCPU `i`'s register page. */
  vcpu(i: number): number;
  itlb(i: number): number;
  dtlb(i: number): number;
  /** Event ring: RING_BYTES, preceded by its two u32 cursors (see ring.ts). */
  readonly ring: number;
  /** Engine-private area: grant caches, records, lazy flags; never digested. */
  readonly engine: number;
  readonly engineBytes: number;
  /** One flag byte per RAM page. */
  readonly pageFlags: number;
  /** Host offset of guest-physical address 0. 64-KiB aligned. */
  readonly ram: number;
  /** Total size, a multiple of 64 KiB. */
  readonly totalBytes: number;
}

/** Most vCPUs of a machine: what the flat logical destinations of the APIC reach. */
export const MAX_CPUS = 8;

/** Largest RAM: the layout must fit a 4-GiB memory with MMIO above RAM. */
export const MAX_RAM_BYTES = 3 * 2 ** 30;

/** Computes the layout. @param engineBytes room the chosen engine asks for */
export function createLayout(
  cpus: number,
  ramBytes: number,
  engineBytes: number,
): Layout {
  const align = (n: number, to: number): number => Math.ceil(n / to) * to;
  const state = 0x1000; // page 0 stays unused: offset 0 is never a valid place
  const stateBytes = PAGE_SIZE + cpus * VCPU_STATE_BYTES;
  const ring = align(state + stateBytes, 0x1000);
  const engine = align(ring + PAGE_SIZE + RING_BYTES, 0x10000);
  const pageFlags = align(engine + engineBytes, 0x1000);
  const ram = align(pageFlags + ramBytes / PAGE_SIZE, 0x10000);
  const vcpu = (i: number): number => state + PAGE_SIZE + i * VCPU_STATE_BYTES;
  return {
    cpus,
    ramBytes,
    state,
    statePages: stateBytes / PAGE_SIZE,
    vcpu,
    itlb: (i) => vcpu(i) + PAGE_SIZE,
    dtlb: (i) => vcpu(i) + PAGE_SIZE + ITLB_BYTES,
    ring: ring + PAGE_SIZE,
    engine,
    engineBytes,
    pageFlags,
    ram,
    totalBytes: align(ram + ramBytes, 0x10000),
  };
}
