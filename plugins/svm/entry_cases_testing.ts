/**
 * Test companion: for every row of the VMRUN checks a case that violates it
 * alone, further states that the same row must refuse, and corner states that
 * pass. One list serves the table (entry_checks_test.ts) and VMRUN itself
 * (entry_outcomes_test.ts).
 */
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import {
  EventInfo,
  IntCtl,
  InterceptBit,
  NestedControl,
  TlbControl,
} from "./controls.ts";
import type { VmcbDraft } from "./vmcb_testing.ts";
import { Control, Save } from "./vmcb.ts";

/** Where cases have their page-directory-pointer table. */
export const PDPT = 0x1000;

/** A state to enter. */
export interface EntryCase {
  readonly change: (d: VmcbDraft) => unknown;
  /** CPU model, max-amd by default. */
  readonly model?: string;
  /** A host without long mode; `paged` or not. */
  readonly legacyHost?: { readonly paged: boolean };
  /** First of four PDPTEs, the others 0; CR3 then names PDPT. */
  readonly pdpte?: bigint;
}

/** First address beyond 40 bits. */
const LIMIT = 1n << 40n;
const nested = (d: VmcbDraft): VmcbDraft =>
  d.on(Control.nestedControl, NestedControl.Enable);
const event = (type: number, vector: number): EntryCase["change"] => (d) =>
  d.set32(Control.eventInjection, EventInfo.Valid | type << 8 | vector);
const legacy = (d: VmcbDraft): VmcbDraft =>
  d.off(Save.efer, Efer.LME | Efer.LMA);
const OLD = "max-amd,-flushbyasid";
const NO_NPT = "max-amd,-npt";

/** By row id. */
export const VIOLATIONS: ReadonlyMap<string, EntryCase> = new Map<
  string,
  EntryCase
>([
  ["intercept.vmrun", {
    change: (d) => d.intercept(InterceptBit.Vmrun, false),
  }],
  ["asid.zero", { change: (d) => d.set32(Control.asid, 0) }],
  ["iopm.address", {
    change: (d) => d.set(Control.iopmBase, LIMIT - 0x2000n),
  }],
  ["msrpm.address", {
    change: (d) => d.set(Control.msrpmBase, LIMIT - 0x2000n),
  }],
  ["tlb-control.encoding", { change: (d) => d.set32(Control.tlbControl, 2) }],
  ["event-injection.type", { change: event(1, 13) }],
  ["event-injection.exception-vector", { change: event(3, 2) }],
  ["event-injection.mode", { change: event(3, 5) }],
  ["virtual-nmi.without-nmi-intercept", {
    change: (d) => d.on(Control.intCtl, IntCtl.NmiEnable),
  }],
  ["nested.host-paging-off", {
    change: nested,
    legacyHost: { paged: false },
  }],
  ["nested.cr3", { change: (d) => nested(d).set(Control.nestedCr3, LIMIT) }],
  ["nested.guest-pat", { change: (d) => nested(d).set(Save.guestPat, 2) }],
  ["efer.svme", { change: (d) => d.off(Save.efer, Efer.SVME) }],
  ["efer.reserved", { change: (d) => d.on(Save.efer, 1 << 9) }],
  ["cr0.nw-without-cd", { change: (d) => d.on(Save.cr0, Cr0.NW) }],
  ["cr0.upper", { change: (d) => d.on(Save.cr0 + 4, 1) }],
  ["cr3.reserved", { change: (d) => d.set(Save.cr3, LIMIT) }],
  ["cr4.reserved", { change: (d) => d.on(Save.cr4, 1 << 15) }],
  ["dr6.upper", { change: (d) => d.on(Save.dr6 + 4, 1) }],
  ["dr7.upper", { change: (d) => d.on(Save.dr7 + 4, 1 << 31) }],
  ["long.without-pae", { change: (d) => d.off(Save.cr4, Cr4.PAE) }],
  ["long.without-protection", { change: (d) => d.off(Save.cr0, Cr0.PE) }],
  ["long.cs-l-and-d", { change: (d) => d.segment(Save.cs, 8, 0xe9b) }],
  ["pdptes.reserved", { change: legacy, pdpte: 0x21n }],
]);

/** Further states that the same rows must refuse. */
export const ALSO: readonly (readonly [string, EntryCase])[] = [
  ["iopm.address", { change: (d) => d.set(Control.iopmBase, LIMIT) }],
  ["msrpm.address", {
    change: (d) => d.set(Control.msrpmBase, LIMIT - 0x1001n),
  }],
  ["msrpm.address", { change: (d) => d.set(Control.msrpmBase, -1) }],
  ["intercept.vmrun", { change: (d) => d.set32(Control.intercepts + 16, 2) }],
  ["tlb-control.encoding", {
    change: (d) => d.set32(Control.tlbControl, TlbControl.FlushAsid),
    model: OLD,
  }],
  ...[5, 6, 7].map((type) =>
    ["event-injection.type", { change: event(type, 0) }] as const
  ),
  ...[9, 15, 20, 21, 22, 27, 28, 29, 31, 32, 255].map((vector) =>
    [
      "event-injection.exception-vector",
      { change: event(3, vector) },
    ] as const
  ),
  ["event-injection.mode", { change: event(3, 4) }],
  ["efer.reserved", { change: (d) => d.on(Save.efer + 4, 1) }],
  ["cr4.reserved", { change: (d) => d.on(Save.cr4 + 4, 1) }],
  ["cr4.reserved", { change: (d) => d.on(Save.cr4, Cr4.VMXE) }],
  ["cr3.reserved", { change: (d) => legacy(d).set(Save.cr3, LIMIT) }],
  ["pdptes.reserved", { change: legacy, pdpte: LIMIT | 1n }],
  ["pdptes.reserved", {
    change: (d) => nested(legacy(d)),
    model: NO_NPT,
    pdpte: 0x21n,
  }],
];

/** States that pass, by name. */
export const ACCEPTED: readonly (readonly [string, EntryCase])[] = [
  ["as it is", { change: () => {} }],
  ["maps that end before the last byte", {
    change: (d) =>
      d.set(Control.iopmBase, LIMIT - 0x3000n + 0xfffn)
        .set(Control.msrpmBase, LIMIT - 0x3000n + 0xfffn),
  }],
  ...[0, 1, 3, 7].map((kind) =>
    [`TLB control ${kind}`, {
      change: (d: VmcbDraft) => d.set32(Control.tlbControl, kind),
    }] as const
  ),
  ["TLB control 1 without FlushByAsid", {
    change: (d) => d.set32(Control.tlbControl, 1),
    model: OLD,
  }],
  ...[
    ...[0, 1, 3, 6, 7, 8, 10, 11, 12, 13, 14, 16, 17, 18, 19, 30]
      .map((vector) => [3, vector]),
    [0, 255],
    [2, 0],
    [2, 31],
    [4, 255],
  ].map(([type, vector]) =>
    [`event type ${type} vector ${vector}`, {
      change: event(type, vector),
    }] as const
  ),
  ...[4, 5].map((vector) =>
    [`event type 3 vector ${vector} in compatibility mode`, {
      change: (d: VmcbDraft) => {
        event(3, vector)(d);
        d.segment(Save.cs, 8, 0xc9b);
      },
    }] as const
  ),
  ["an event that is not valid", {
    change: (d) => d.set32(Control.eventInjection, 1 << 8 | 2),
  }],
  ["virtual NMIs with the NMI intercept", {
    change: (d) =>
      d.on(Control.intCtl, IntCtl.NmiEnable).intercept(InterceptBit.Nmi),
  }],
  ["nested paging", { change: nested }],
  ["nCR3[63:32] of a legacy host", {
    change: (d) => nested(d).set(Control.nestedCr3, LIMIT),
    legacyHost: { paged: true },
  }],
  ["nested fields without nested paging", {
    change: (d) => d.set(Control.nestedCr3, -1).set(Save.guestPat, -1),
    legacyHost: { paged: false },
  }],
  ["the nested bit on a processor without it", {
    change: (d) => nested(d).set(Save.guestPat, 2),
    model: NO_NPT,
  }],
  ["cache disabled", { change: (d) => d.on(Save.cr0, Cr0.CD | Cr0.NW) }],
  ["paged real mode", {
    change: (d) => legacy(d).off(Save.cr0, Cr0.PE).off(Save.cr4, Cr4.PAE),
  }],
  ["long mode enabled but not active", {
    change: (d) =>
      d.off(Save.cr0, (Cr0.PG | Cr0.PE) >>> 0).off(Save.cr4, Cr4.PAE),
  }],
  ["compatibility mode", { change: (d) => d.segment(Save.cs, 8, 0xc9b) }],
  ["PAE with absent PDPTEs", { change: legacy, pdpte: 0x1e6n }],
  ["PAE with PDPTEs", { change: legacy, pdpte: 0x2e19n }],
  ["PDPTEs behind nested paging", {
    change: (d) => nested(legacy(d)),
    pdpte: 0x21n,
  }],
];
