/**
 * The table of VMRUN checks: every row is violated by its case and by that case
 * no other row; corner states pass; and a row whose predicate were flipped or
 * let everything pass would be noticed by these very cases.
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import { parseModel } from "../../cpu/arch/models.ts";
import {
  EventInfo,
  IntCtl,
  InterceptBit,
  NestedControl,
  TlbControl,
} from "./controls.ts";
import {
  firstFailure,
  VMRUN_CHECKS,
  type VmrunCheck,
  type VmrunContext,
} from "./entry_checks.ts";
import { contextOf, longGuest, type VmcbDraft } from "./vmcb_testing.ts";
import { Control, Save } from "./vmcb.ts";

interface Case {
  readonly change: (d: VmcbDraft) => unknown;
  readonly host?: Partial<VmrunContext>;
}

/** First address beyond 40 bits. */
const LIMIT = 1n << 40n;
const nested = (d: VmcbDraft): VmcbDraft =>
  d.on(Control.nestedControl, NestedControl.Enable);
const event = (type: number, vector: number): Case["change"] => (d) =>
  d.set32(Control.eventInjection, EventInfo.Valid | type << 8 | vector);
const legacy = (d: VmcbDraft): VmcbDraft =>
  d.off(Save.efer, Efer.LME | Efer.LMA);
const memory = (entry: bigint): Partial<VmrunContext> => ({
  readU64: (at) => at === 0x1000 ? entry : 0n,
});
const OLD = { model: parseModel("max-amd,phys-bits=40,-flushbyasid") };
const NO_NPT = { model: parseModel("max-amd,phys-bits=40,-npt") };

const VIOLATIONS: ReadonlyMap<string, Case> = new Map<string, Case>([
  ["intercept.vmrun", {
    change: (d) => d.intercept(InterceptBit.Vmrun, false),
  }],
  ["asid.zero", { change: (d) => d.set32(Control.asid, 0) }],
  ["iopm.address", {
    change: (d) => d.set(Control.iopmBase, LIMIT - 0x2000n),
  }],
  ["msrpm.address", {
    change: (d) => d.set(Control.msrpmBase, LIMIT - 1n),
  }],
  ["tlb-control.encoding", { change: (d) => d.set32(Control.tlbControl, 2) }],
  ["event-injection.type", { change: event(1, 13) }],
  ["event-injection.exception-vector", { change: event(3, 2) }],
  ["virtual-nmi.without-nmi-intercept", {
    change: (d) => d.on(Control.intCtl, IntCtl.NmiEnable),
  }],
  ["nested.host-paging-off", {
    change: nested,
    host: { hostCr0: Cr0.PE, hostLong: false },
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
  ["pdptes.reserved", { change: legacy, host: memory(0x21n) }],
]);

/** Further states that the same rows must refuse. */
const ALSO: readonly (readonly [string, Case])[] = [
  ["intercept.vmrun", { change: (d) => d.set32(Control.intercepts + 16, 2) }],
  ["tlb-control.encoding", {
    change: (d) => d.set32(Control.tlbControl, TlbControl.FlushAsid),
    host: OLD,
  }],
  ...[5, 6, 7].map((type) =>
    ["event-injection.type", { change: event(type, 0) }] as const
  ),
  ["event-injection.exception-vector", { change: event(3, 32) }],
  ["efer.reserved", { change: (d) => d.on(Save.efer + 4, 1) }],
  ["cr4.reserved", { change: (d) => d.on(Save.cr4 + 4, 1) }],
  ["cr4.reserved", { change: (d) => d.on(Save.cr4, Cr4.VMXE) }],
  ["cr3.reserved", { change: (d) => legacy(d).set(Save.cr3, LIMIT) }],
  ["pdptes.reserved", { change: legacy, host: memory(LIMIT | 1n) }],
  ["pdptes.reserved", {
    change: (d) => nested(legacy(d)),
    host: { ...memory(0x21n), ...NO_NPT },
  }],
];

const ACCEPTED: readonly (readonly [string, Case])[] = [
  ["as it is", { change: () => {} }],
  ["maps that end with memory", {
    change: (d) =>
      d.set(Control.iopmBase, LIMIT - 0x3000n)
        .set(Control.msrpmBase, LIMIT - 0x2000n + 0xfffn),
  }],
  ...[0, 1, 3, 7].map((kind) =>
    [`TLB control ${kind}`, {
      change: (d: VmcbDraft) => d.set32(Control.tlbControl, kind),
    }] as const
  ),
  ["TLB control 1 without FlushByAsid", {
    change: (d) => d.set32(Control.tlbControl, 1),
    host: OLD,
  }],
  ...[[0, 255], [2, 0], [3, 0], [3, 31], [4, 255]].map(([type, vector]) =>
    [`event type ${type} vector ${vector}`, {
      change: event(type, vector),
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
    host: { hostLong: false },
  }],
  ["nested fields without nested paging", {
    change: (d) => d.set(Control.nestedCr3, -1).set(Save.guestPat, -1),
    host: { hostCr0: Cr0.PE },
  }],
  ["the nested bit on a processor without it", {
    change: (d) => nested(d).set(Save.guestPat, 2),
    host: NO_NPT,
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
  ["PAE with absent PDPTEs", { change: legacy, host: memory(0x1e6n) }],
  ["PAE with PDPTEs", { change: legacy, host: memory(0x2e19n) }],
  ["PDPTEs behind nested paging", {
    change: (d) => nested(legacy(d)),
    host: memory(0x21n),
  }],
];

function violated(c: Case, checks: readonly VmrunCheck[]): string[] {
  const draft = longGuest();
  c.change(draft);
  const context = contextOf(draft, c.host);
  return checks.filter((row) => !row.valid(context)).map((row) => row.id);
}

/** What is wrong with a table, judged by all cases. */
function faults(checks: readonly VmrunCheck[]): string[] {
  const wrong: string[] = [];
  for (const [id, c] of [...VIOLATIONS, ...ALSO]) {
    const ids = violated(c, checks);
    if (ids.length !== 1 || ids[0] !== id) {
      wrong.push(`${id}: case violates [${ids}]`);
    }
  }
  for (const [name, c] of ACCEPTED) {
    const ids = violated(c, checks);
    if (ids.length > 0) wrong.push(`${name}: refused by [${ids}]`);
  }
  return wrong;
}

describe("VMRUN checks", () => {
  it("have unique names, a manual section and a case each", () => {
    const ids = VMRUN_CHECKS.map((row) => row.id);
    assertEquals(new Set(ids).size, ids.length);
    assertEquals([...VIOLATIONS.keys()].toSorted(), ids.toSorted());
    for (const row of VMRUN_CHECKS) assert(/^APM 2 §15/.test(row.manual));
  });

  it("are each violated alone by their case; corner states pass", () => {
    assertEquals(faults(VMRUN_CHECKS), []);
  });

  it("are noticed when any one predicate is flipped or always true", () => {
    VMRUN_CHECKS.forEach((row, i) => {
      const flipped = VMRUN_CHECKS.with(i, {
        ...row,
        valid: (c) => !row.valid(c),
      });
      assert(faults(flipped).length > 0, `flipping ${row.id} goes unnoticed`);
      const lax = VMRUN_CHECKS.with(i, { ...row, valid: () => true });
      assert(faults(lax).length > 0, `dropping ${row.id} goes unnoticed`);
    });
  });

  it("answer with the first row that fails", () => {
    const draft = longGuest().set32(Control.asid, 0).off(Save.efer, Efer.SVME);
    assertEquals(firstFailure(contextOf(draft))?.id, "asid.zero");
    assertEquals(firstFailure(contextOf(longGuest())), undefined);
  });
});
