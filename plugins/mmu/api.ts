/**
 * What the mmu plugin offers: translation (the cpu's `Translator` port), the
 * explained walk for people, and guest-memory capabilities for plugins.
 */
import { defineEvent, defineService, u32, u64, u8 } from "../../core/mod.ts";
import { Cr4, Efer } from "../../cpu/arch/flags.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { Stage2Flags } from "../../cpu/layout.ts";
import type { Translator } from "../../cpu/port.ts";
import { formatOf } from "./formats.ts";

/** A TLB miss was walked. */
export const MmuWalked = defineEvent({
  name: "mmu.walked",
  version: 1,
  kind: "fact",
  detail: "full",
  doc: "A translation missed in the architectural TLB and was walked",
  fields: {
    cpu: u8("vCPU"),
    access: u8("Access bits: 1 write, 2 fetch, 4 system, 8 user, 16 RMW"),
    outcome: u8("0 translated, 1 page fault, 2 stage-2 fault"),
    linear: u64("Linear address of the page"),
    guestPhysical: u64("Guest-physical address of the page; 0 if faulted"),
    physical: u64("Host-physical address of the page; 0 if faulted"),
    attributes: u32(
      "Rights: bit 0 W, 1 U, 2 NX, 3 G, 4 D, 12 R2, 13 W2, 14 XS2, 15 XU2, 27:24 protection key",
    ),
  },
});

/** Entries were dropped from the architectural TLB. */
export const TlbFlushed = defineEvent({
  name: "mmu.flushed",
  version: 1,
  kind: "fact",
  detail: "full",
  doc: "Translations were dropped from the architectural TLB",
  fields: {
    cpu: u8("vCPU"),
    kind: u8("Flush.* constant"),
    tag: u32("VPID or ASID concerned"),
    linear: u64("Linear address, for single-address flushes"),
  },
});

/** Kinds of flush. */
export const Flush = {
  /** One linear address, current tag and PCID, and globals of the tag. */
  Address: 0,
  /** Current tag and PCID, except globals. */
  Pcid: 1,
  /** Everything of the current tag, globals included. */
  Tag: 2,
  /** INVVPID individual address of `tag`. */
  VpidAddress: 3,
  /** INVVPID single context / ASID. */
  VpidAll: 4,
  /** INVVPID all contexts: every non-zero tag. */
  AllVpids: 5,
  /** INVVPID single context, retaining globals. */
  VpidNonGlobal: 6,
  /** INVEPT single context: every entry made through stage-2 root `root`. */
  Root: 7,
  /** INVEPT all contexts: every entry made through any stage 2. */
  AllRoots: 8,
  /** Everything of every tag. */
  Everything: 9,
} as const;

/** One paging-structure entry met on a walk. */
export interface WalkStep {
  /** 1 guest paging, 2 stage 2. */
  readonly stage: 1 | 2;
  /** Format of the entry (formats.ts). */
  readonly format: number;
  /** Level number (formats.ts). */
  readonly level: number;
  /** Guest-physical (stage 1) or host-physical (stage 2) address of the entry. */
  readonly address: number;
  readonly value: bigint;
}

/** Result of an explained walk. */
export interface Walk {
  readonly linear: bigint;
  readonly steps: readonly WalkStep[];
  /** 0 translated, 1 page fault, 2 stage-2 fault. */
  readonly outcome: number;
  readonly guestPhysical: number | undefined;
  readonly physical: number | undefined;
  /** Attribute bits of formats.ts. */
  readonly attributes: number;
  /** #PF error code when outcome is 1. */
  readonly errorCode: number;
  /** When outcome is 2: exit qualification (EPT), EXITINFO1 (nested paging). */
  readonly qualification: bigint;
}

/** The MMU: hardware translation and its explanation. */
export interface MmuService extends Translator {
  /**
   * Walks without any effect: no A/D bits, no TLB fill, no fact.
   * @param access Access bits of cpu/port.ts
   */
  explain(cpu: CpuContext, linear: bigint, access: number): Walk;
  /** What the architectural TLB holds for an address now (possibly stale). */
  cached(
    cpu: CpuContext,
    linear: bigint,
    fetch: boolean,
  ): { frame: number; attributes: number } | undefined;
}

/** Token of the MMU. */
export const Mmu = defineService<MmuService>("mmu.translation", {
  doc: "The MMU: translation, walks explained, TLB contents",
});

/** Read-only view of guest memory for observers. Effects nothing. */
export interface GuestMemoryRead {
  /**
   * Bytes at a guest-physical address of vCPU `cpu`, through the stage 2 in
   * force (without one it is host-physical); stops at the first page that stage
   * 2 does not let a read through, and at the end of RAM.
   */
  read(cpu: number, address: bigint, length: number): Uint8Array;
  /** Bytes at a linear address of vCPU `cpu` under its current translation; stops at the first page that does not translate. */
  readLinear(cpu: number, linear: bigint, length: number): Uint8Array;
}
/** Capability to read guest memory. */
export const GuestMemoryReader = defineService<GuestMemoryRead>(
  "mmu.guest-memory-reader",
  { doc: "Reads guest memory without effect", observable: true },
);

/** The silent walk, for observers. */
export interface WalkExplainer {
  /** See MmuService.explain. @param cpu vCPU index */
  explain(cpu: number, linear: bigint, access: number): Walk;
}
/** Capability to walk guest page tables without effect. */
export const Explainer = defineService<WalkExplainer>("mmu.explainer", {
  doc: "Walks guest tables without effect",
  observable: true,
});

/**
 * What VMRUN writes to VCPU.stage2Flags for a guest with nested paging; nCR3
 * goes to VCPU.stage2Root (APM 2 §15.25.3: the host's paging mode at VMRUN is
 * that of the nested tables, and its CR0.PG is 1 by then).
 *
 * A nested page fault leaves `v.stage2` with `qualification` = EXITINFO1 and
 * `guestPhysicalAddress` = EXITINFO2; `misconfiguration` is always false.
 * @param gmet VMCB offset 90h bit 3, on a model that has the feature
 */
export function nestedPagingFlags(
  hostCr0: number,
  hostCr4: number,
  hostEfer: number,
  gmet: boolean,
): number {
  const format = formatOf(hostCr0, hostCr4, hostEfer);
  return Stage2Flags.Npt | format << Stage2Flags.NptFormatShift |
    (hostEfer & Efer.NXE ? Stage2Flags.HostNxe : 0) |
    (hostCr4 & Cr4.SMEP ? Stage2Flags.HostSmep : 0) |
    (hostCr4 & Cr4.PSE ? Stage2Flags.HostPse : 0) |
    (gmet ? Stage2Flags.Gmet : 0);
}
