/**
 * Test companion of the entry-check tables (a flat table itself): valid VMCSs
 * of every kind of guest, and for each row the mutation that violates it and
 * nothing else. Hypervisor models test their use of the table with these cases.
 */
import { Cr0, Cr4, Efer, Rflags } from "../../cpu/arch/flags.ts";
import { type CpuModel, parseModel } from "../../cpu/arch/models.ts";
import { ActivityState, Interruptibility } from "../../cpu/layout.ts";
import { capabilitiesOf, type VmxCapabilities } from "./capabilities.ts";
import { Entry, Exit, Pin, Primary, Secondary } from "./controls.ts";
import {
  effectiveControls,
  type EntryContext,
  type VmcsView,
} from "./entry_checks.ts";
import { GUEST_SEGMENTS, type SegmentFields } from "./entry_checks_segments.ts";
import { VmcsField as F } from "./vmcs_fields.ts";

/** Physical address that the drafts claim to lie at. */
export const DRAFT_ADDRESS = 0x9000;
const ALL_ONES = 0xffff_ffff_ffff_ffffn;
/** No canonical address, and beyond any physical width. */
const NOT_CANONICAL = 1n << 60n;

/** A VMCS in a map, with what else a check may look at. */
export class VmcsDraft implements VmcsView {
  readonly fields = new Map<number, bigint>();
  readonly memory = new Map<number, bigint>();
  longMode = true;
  readonly model: CpuModel;
  readonly capabilities: VmxCapabilities;

  constructor(model: string) {
    this.model = parseModel(model);
    this.capabilities = capabilitiesOf(this.model);
  }
  read(field: number): bigint {
    return this.fields.get(field) ?? 0n;
  }
  read32(field: number): number {
    return Number(this.read(field) & 0xffff_ffffn);
  }
  set(field: number, value: bigint | number): this {
    this.fields.set(
      field,
      BigInt(typeof value === "number" ? value >>> 0 : value),
    );
    return this;
  }
  on(field: number, bits: number): this {
    return this.set(field, this.read(field) | BigInt(bits >>> 0));
  }
  off(field: number, bits: number): this {
    return this.set(field, this.read(field) & ~BigInt(bits >>> 0));
  }
  context(): EntryContext {
    return {
      vmcs: this,
      capabilities: this.capabilities,
      model: this.model,
      controls: effectiveControls(this),
      longMode: this.longMode,
      vmcsAddress: DRAFT_ADDRESS,
      readU32: (a) => Number((this.memory.get(a) ?? 0n) & 0xffff_ffffn),
      readU64: (a) => this.memory.get(a) ?? 0n,
    };
  }
}

/** Kinds of valid VMCS. */
export type DraftKind = "long" | "pae" | "real" | "v8086" | "legacyHost";

/** A VMCS that passes every check. @param model CPU model, by default with everything */
export function validVmcs(
  kind: DraftKind = "long",
  model = "max-intel",
): VmcsDraft {
  const d = new VmcsDraft(model);
  const { pin, primary, exit, entry } = d.capabilities;
  d.set(F.PinControls, pin.must1);
  d.set(F.PrimaryControls, primary.must1 | Primary.SecondaryControls);
  d.set(F.SecondaryControls, Secondary.Ept);
  d.set(F.ExitControls, exit.must1 | Exit.HostAddressSpaceSize);
  d.set(F.EntryControls, entry.must1 | Entry.Ia32eModeGuest);
  d.set(F.Eptp, 0x101e);
  d.set(F.VmcsLinkPointer, ALL_ONES);
  const cr0 = Cr0.PE | Cr0.NE | Cr0.ET | Cr0.PG;
  d.set(F.HostCr0, cr0).set(F.GuestCr0, cr0);
  d.set(F.HostCr3, 0x2000).set(F.GuestCr3, 0x3000);
  d.set(F.HostCr4, Cr4.PAE | Cr4.VMXE).set(F.GuestCr4, Cr4.PAE | Cr4.VMXE);
  d.set(F.HostCsSelector, 8).set(F.HostTrSelector, 0x18);
  for (
    const field of [
      F.HostSsSelector,
      F.HostDsSelector,
      F.HostEsSelector,
      F.HostFsSelector,
      F.HostGsSelector,
    ]
  ) d.set(field, 0x10);
  d.set(F.HostRip, 0xffff_ffff_8000_0000n);
  const [ES, CS, SS, DS, FS, GS, LDTR, TR] = GUEST_SEGMENTS;
  const segment = (
    s: SegmentFields,
    selector: number,
    limit: number,
    rights: number,
  ): void => {
    d.set(s.selector, selector).set(s.limit, limit).set(s.attributes, rights);
  };
  segment(CS, 8, 0xffff_ffff, 0xa09b);
  for (const s of [ES, SS, DS, FS, GS]) segment(s, 0x10, 0xffff_ffff, 0xc093);
  segment(LDTR, 0x20, 0xfff, 0x82);
  segment(TR, 0x18, 0x67, 0x8b);
  d.set(F.GuestGdtrLimit, 0x7f).set(F.GuestIdtrLimit, 0xfff);
  d.set(F.GuestRip, 0x1000).set(F.GuestRflags, Rflags.Fixed1);
  d.set(F.GuestDr7, 0x400);
  if (kind === "long") return d;

  d.off(F.EntryControls, Entry.Ia32eModeGuest);
  d.set(CS.attributes, 0xc09b);
  if (kind === "real") {
    d.on(F.SecondaryControls, Secondary.UnrestrictedGuest);
    d.set(F.GuestCr0, Cr0.NE | Cr0.ET).set(F.GuestCr4, Cr4.VMXE);
    for (const s of [ES, SS, DS, FS, GS]) segment(s, 0, 0xffff, 0x93);
    segment(CS, 0, 0xffff, 0x9b);
  } else if (kind === "v8086") {
    d.set(F.GuestCr4, Cr4.VMXE);
    d.on(F.GuestRflags, Rflags.VM);
    for (const s of [ES, CS, SS, DS, FS, GS]) {
      segment(s, 0x123, 0xffff, 0xf3);
      d.set(s.base, 0x1230);
    }
  } else if (kind === "legacyHost") {
    d.longMode = false;
    d.off(F.ExitControls, Exit.HostAddressSpaceSize);
    d.set(F.HostRip, 0x8000_0000);
  }
  return d;
}

/** How one row is violated. */
export interface Violation {
  readonly base?: DraftKind;
  readonly model?: string;
  readonly mutate: (d: VmcsDraft) => unknown;
}

const [ES, CS, SS, DS, FS, GS, LDTR, TR] = GUEST_SEGMENTS;
const INJECT = 0x8000_0000;
const NMI = INJECT | 0x202;
const external = (d: VmcsDraft): VmcsDraft =>
  d.set(F.EntryInterruptionInformation, INJECT | 0x20);
const inject = (info: number) => (d: VmcsDraft): VmcsDraft =>
  d.set(F.EntryInterruptionInformation, INJECT | info);
const bit = (field: number, bits: number) => (d: VmcsDraft): VmcsDraft =>
  d.on(field, bits);
const clear = (field: number, bits: number) => (d: VmcsDraft): VmcsDraft =>
  d.off(field, bits);
const put =
  (field: number, value: bigint | number) => (d: VmcsDraft): VmcsDraft =>
    d.set(field, value);
const v = (
  mutate: (d: VmcsDraft) => unknown,
  base: DraftKind = "long",
  model?: string,
): Violation => ({ base, mutate, model });
const noEpt = (d: VmcsDraft): VmcsDraft =>
  d.off(F.SecondaryControls, Secondary.Ept);
const switching = (d: VmcsDraft): VmcsDraft =>
  d.on(F.SecondaryControls, Secondary.VmFunctions)
    .set(F.VmFunctionControls, 1).set(F.EptpListAddress, 0x6000);

const CONTROLS: Record<string, Violation> = {
  "pin.allowed": v(clear(F.PinControls, 2)),
  "primary.allowed": v(clear(F.PrimaryControls, 2)),
  "secondary.allowed": v(
    bit(F.SecondaryControls, Secondary.VirtualizeApicAccesses),
  ),
  "cr3-target-count": v(put(F.Cr3TargetCount, 5)),
  "io-bitmap-a": v((d) =>
    d.on(F.PrimaryControls, Primary.IoBitmaps).set(F.IoBitmapA, 1)
  ),
  "io-bitmap-b": v((d) =>
    d.on(F.PrimaryControls, Primary.IoBitmaps).set(F.IoBitmapB, 1n << 52n)
  ),
  "msr-bitmaps": v((d) =>
    d.on(F.PrimaryControls, Primary.MsrBitmaps).set(F.MsrBitmaps, 0x800)
  ),
  "virtual-nmis.nmi-exiting": v(bit(F.PinControls, Pin.VirtualNmis)),
  "nmi-window.virtual-nmis": v(
    bit(F.PrimaryControls, Primary.NmiWindowExiting),
  ),
  "vpid.nonzero": v(bit(F.SecondaryControls, Secondary.Vpid)),
  "eptp.memory-type": v(put(F.Eptp, 0x1019)),
  "eptp.walk-length": v(put(F.Eptp, 0x1016)),
  "eptp.accessed-dirty": v(
    put(F.Eptp, 0x105e),
    "long",
    "max-intel,-vmx-eptad",
  ),
  "eptp.reserved": v(put(F.Eptp, 0x109e)),
  "unrestricted-guest.ept": v((d) =>
    noEpt(d).on(F.SecondaryControls, Secondary.UnrestrictedGuest)
  ),
  "mode-based-execute.ept": v((d) =>
    noEpt(d).on(F.SecondaryControls, Secondary.ModeBasedExecute)
  ),
  "vm-functions.allowed": v((d) =>
    d.on(F.SecondaryControls, Secondary.VmFunctions)
      .set(F.VmFunctionControls, 2)
  ),
  "eptp-switching.ept": v((d) => noEpt(switching(d))),
  "eptp-switching.list": v((d) => switching(d).set(F.EptpListAddress, 8)),
  "tsc-scaling.multiplier": v(bit(F.SecondaryControls, Secondary.TscScaling)),
  "exit.allowed": v(clear(F.ExitControls, 1)),
  "exit.save-preemption-timer": v(
    bit(F.ExitControls, Exit.SavePreemptionTimer),
  ),
  "exit.msr-store-area": v((d) =>
    d.set(F.ExitMsrStoreCount, 1).set(F.ExitMsrStoreAddress, 8)
  ),
  "exit.msr-load-area": v((d) =>
    d.set(F.ExitMsrLoadCount, 2)
      .set(F.ExitMsrLoadAddress, (1n << 40n) - 16n)
  ),
  "entry.allowed": v(clear(F.EntryControls, 1)),
  "entry.msr-load-area": v((d) =>
    d.set(F.EntryMsrLoadCount, 1).set(F.EntryMsrLoadAddress, 1n << 45n)
  ),
  "injection.type": v(inject(0x120)),
  "injection.vector": v(inject(0x203)),
  "injection.error-code-real-mode": v(inject(0xb0d), "real"),
  "injection.error-code-excess": v(inject(0xb06)),
  "injection.error-code-missing": v(inject(0x30d)),
  "injection.reserved": v((d) =>
    d.on(F.GuestRflags, Rflags.IF)
      .set(F.EntryInterruptionInformation, INJECT | 0x1020)
  ),
  "injection.error-code-high": v((d) =>
    inject(0xb0d)(d).set(F.EntryExceptionErrorCode, 0x10000)
  ),
  "injection.instruction-length": v(inject(0x480)),
};

const HOST: Record<string, Violation> = {
  "cr0.fixed": v(clear(F.HostCr0, Cr0.NE)),
  "cr4.fixed": v(clear(F.HostCr4, Cr4.VMXE)),
  "cr3.width": v(put(F.HostCr3, NOT_CANONICAL)),
  "sysenter-esp": v(put(F.HostSysenterEsp, NOT_CANONICAL)),
  "sysenter-eip": v(put(F.HostSysenterEip, NOT_CANONICAL)),
  "pat": v((d) => d.on(F.ExitControls, Exit.LoadPat).set(F.HostPat, 0x0300)),
  "efer.reserved": v((d) =>
    d.on(F.ExitControls, Exit.LoadEfer)
      .set(F.HostEfer, Efer.LMA | Efer.LME | 2)
  ),
  "efer.lma": v((d) =>
    d.on(F.ExitControls, Exit.LoadEfer).set(F.HostEfer, Efer.LME)
  ),
  "efer.lme": v((d) =>
    d.on(F.ExitControls, Exit.LoadEfer).set(F.HostEfer, Efer.LMA)
  ),
  "es.rpl-ti": v(put(F.HostEsSelector, 0x11)),
  "cs.rpl-ti": v(put(F.HostCsSelector, 0x0c)),
  "ss.rpl-ti": v(put(F.HostSsSelector, 0x12)),
  "ds.rpl-ti": v(put(F.HostDsSelector, 0x14)),
  "fs.rpl-ti": v(put(F.HostFsSelector, 0x13)),
  "gs.rpl-ti": v(put(F.HostGsSelector, 0x17)),
  "tr.rpl-ti": v(put(F.HostTrSelector, 0x1c)),
  "cs.null": v(put(F.HostCsSelector, 0)),
  "tr.null": v(put(F.HostTrSelector, 0)),
  "ss.null": v(put(F.HostSsSelector, 0), "legacyHost"),
  "fs.base": v(put(F.HostFsBase, NOT_CANONICAL)),
  "gs.base": v(put(F.HostGsBase, NOT_CANONICAL)),
  "tr.base": v(put(F.HostTrBase, NOT_CANONICAL)),
  "gdtr.base": v(put(F.HostGdtrBase, NOT_CANONICAL)),
  "idtr.base": v(put(F.HostIdtrBase, NOT_CANONICAL)),
  "address-space.long-mode": v((d) => d.longMode = false),
  "address-space.ia32e-guest": v(
    (d) => d.on(F.EntryControls, Entry.Ia32eModeGuest),
    "legacyHost",
  ),
  "address-space.pcide": v(bit(F.HostCr4, Cr4.PCIDE), "legacyHost"),
  "address-space.rip-high": v(put(F.HostRip, 1n << 32n), "legacyHost"),
  "address-space.pae": v(clear(F.HostCr4, Cr4.PAE)),
  "address-space.rip-canonical": v(put(F.HostRip, NOT_CANONICAL)),
};

const loadEfer = (efer: number) => (d: VmcsDraft): VmcsDraft =>
  d.on(F.EntryControls, Entry.LoadEfer).set(F.GuestEfer, efer);
const user = (d: VmcsDraft): VmcsDraft =>
  d.set(CS.selector, 0x0b).set(CS.attributes, 0xa0fb)
    .set(SS.selector, 0x13).set(SS.attributes, 0xc0f3);

const GUEST: Record<string, Violation> = {
  "cr0.fixed": v(clear(F.GuestCr0, Cr0.NE)),
  "cr0.paging-needs-protection": v(bit(F.GuestCr0, Cr0.PG), "real"),
  "cr4.fixed": v(bit(F.GuestCr4, 1 << 30)),
  "debugctl.reserved": v((d) =>
    d.on(F.EntryControls, Entry.LoadDebugControls)
      .set(F.GuestDebugctl, 0x8000)
  ),
  "ia32e.paging": v((d) =>
    d.on(F.SecondaryControls, Secondary.UnrestrictedGuest)
      .off(F.GuestCr0, Cr0.PG)
  ),
  "ia32e.pae": v(clear(F.GuestCr4, Cr4.PAE)),
  "ia32e.pcide": v(bit(F.GuestCr4, Cr4.PCIDE), "pae"),
  "cr3.width": v(put(F.GuestCr3, NOT_CANONICAL)),
  "dr7.high": v((d) =>
    d.on(F.EntryControls, Entry.LoadDebugControls)
      .set(F.GuestDr7, 1n << 32n)
  ),
  "sysenter-esp": v(put(F.GuestSysenterEsp, NOT_CANONICAL)),
  "sysenter-eip": v(put(F.GuestSysenterEip, NOT_CANONICAL)),
  "pat": v((d) =>
    d.on(F.EntryControls, Entry.LoadPat).set(F.GuestPat, 8n << 56n)
  ),
  "efer.reserved": v(loadEfer(Efer.LMA | Efer.LME | Efer.SVME)),
  "efer.lma": v(loadEfer(Efer.LME)),
  "efer.lme": v(loadEfer(Efer.LMA)),
  "gdtr.base": v(put(F.GuestGdtrBase, NOT_CANONICAL)),
  "idtr.base": v(put(F.GuestIdtrBase, NOT_CANONICAL)),
  "gdtr.limit": v(put(F.GuestGdtrLimit, 0x1_0000)),
  "idtr.limit": v(put(F.GuestIdtrLimit, 0x8000_0fff)),
  "rip.high": v(put(F.GuestRip, 1n << 32n), "pae"),
  "rip.identical": v(put(F.GuestRip, NOT_CANONICAL)),
  "rflags.reserved": v(bit(F.GuestRflags, 1 << 22)),
  "rflags.fixed1": v(put(F.GuestRflags, 0)),
  "rflags.vm": v((d) =>
    d.on(F.SecondaryControls, Secondary.UnrestrictedGuest)
      .off(F.GuestCr0, Cr0.PE | Cr0.PG), "v8086"),
  "rflags.if": v(external),
  "activity.known": v(put(F.GuestActivity, 4)),
  "activity.hlt-dpl": v((d) => user(d).set(F.GuestActivity, ActivityState.Hlt)),
  "activity.blocking": v((d) =>
    d.set(F.GuestActivity, ActivityState.Hlt).on(F.GuestRflags, Rflags.IF)
      .set(F.GuestInterruptibility, Interruptibility.BySti)
  ),
  "activity.injection": v((d) =>
    inject(0x306)(d).set(F.GuestActivity, ActivityState.Hlt)
  ),
  "interruptibility.reserved": v(put(F.GuestInterruptibility, 1 << 5)),
  "interruptibility.sti-and-mov-ss": v((d) =>
    d.on(F.GuestRflags, Rflags.IF).set(F.GuestInterruptibility, 3)
  ),
  "interruptibility.sti-if": v(
    put(F.GuestInterruptibility, Interruptibility.BySti),
  ),
  "interruptibility.external": v((d) =>
    external(d).on(F.GuestRflags, Rflags.IF)
      .set(F.GuestInterruptibility, Interruptibility.ByMovSs)
  ),
  "interruptibility.nmi-mov-ss": v((d) =>
    d.set(F.EntryInterruptionInformation, NMI)
      .set(F.GuestInterruptibility, Interruptibility.ByMovSs)
  ),
  "interruptibility.smi": v(
    put(F.GuestInterruptibility, Interruptibility.BySmi),
  ),
  "interruptibility.virtual-nmi": v((d) =>
    d.on(F.PinControls, Pin.NmiExiting | Pin.VirtualNmis)
      .set(F.EntryInterruptionInformation, NMI)
      .set(F.GuestInterruptibility, Interruptibility.ByNmi)
  ),
  "pending-debug.reserved": v(put(F.GuestPendingDebug, 1 << 4)),
  "pending-debug.bs-missing": v((d) =>
    d.on(F.GuestRflags, Rflags.TF)
      .set(F.GuestInterruptibility, Interruptibility.ByMovSs)
  ),
  "pending-debug.bs-excess": v((d) =>
    d.set(F.GuestPendingDebug, 1 << 14)
      .set(F.GuestInterruptibility, Interruptibility.ByMovSs)
  ),
  "link-pointer.address": v(put(F.VmcsLinkPointer, 0x5008)),
  "link-pointer.revision": v(put(F.VmcsLinkPointer, 0x5000)),
  "link-pointer.current": v((d) => {
    d.memory.set(DRAFT_ADDRESS, BigInt(d.model.vmcsRevision));
    return d.set(F.VmcsLinkPointer, DRAFT_ADDRESS);
  }),
  "pdpte.ept": v(put(F.GuestPdpte2, 3), "pae"),
  "pdpte.memory": v((d) => noEpt(d).memory.set(0x3008, 0x201n | 0x20n), "pae"),
};

const rights = (s: SegmentFields, value: number) => put(s.attributes, value);
const ug = (d: VmcsDraft): VmcsDraft =>
  d.on(F.SecondaryControls, Secondary.UnrestrictedGuest);
/** Conforming code of DPL 0, which leaves SS's DPL free. */
const conforming = (d: VmcsDraft): VmcsDraft => d.set(CS.attributes, 0xa09f);

const SEGMENT: Record<string, Violation> = {
  "tr.ti": v(put(TR.selector, 0x1c)),
  "ldtr.ti": v(put(LDTR.selector, 0x24)),
  "ss.rpl": v((d) =>
    conforming(d).set(SS.selector, 0x11).set(SS.attributes, 0xc0b3)
  ),
  "tr.base-canonical": v(put(TR.base, NOT_CANONICAL)),
  "fs.base-canonical": v(put(FS.base, NOT_CANONICAL)),
  "gs.base-canonical": v(put(GS.base, NOT_CANONICAL)),
  "ldtr.base-canonical": v(put(LDTR.base, NOT_CANONICAL)),
  "cs.base-high": v(put(CS.base, 1n << 32n)),
  "ss.base-high": v(put(SS.base, 1n << 63n)),
  "ds.base-high": v(put(DS.base, 1n << 40n)),
  "es.base-high": v(put(ES.base, 1n << 33n)),
  "cs.dpl-data": v((d) => ug(d).set(CS.attributes, 0xc0f3)),
  "cs.dpl-non-conforming": v(rights(CS, 0xa0fb)),
  "cs.dpl-conforming": v(rights(CS, 0xa0ff)),
  "cs.d-and-l": v(rights(CS, 0xe09b)),
  "ss.dpl-rpl": v((d) => conforming(d).set(SS.attributes, 0xc0b3)),
  "ss.dpl-data-cs": v((d) =>
    ug(d).set(CS.attributes, 0xc093).set(SS.attributes, 0xc0b3)
  ),
  "ss.dpl-real-mode": v(
    (d) => d.set(CS.attributes, 0xbb).set(SS.attributes, 0xb3),
    "real",
  ),
  "ds.dpl": v(put(DS.selector, 0x13)),
  "es.dpl": v(put(ES.selector, 0x12)),
  "fs.dpl": v(put(FS.selector, 0x11)),
  "gs.dpl": v(put(GS.selector, 0x13)),
  "tr.unusable": v(bit(TR.attributes, 0x1_0000)),
};

for (const s of [ES, CS, SS, DS, FS, GS]) {
  SEGMENT[`${s.name}.v8086-base`] = v(put(s.base, 0x1240), "v8086");
  SEGMENT[`${s.name}.v8086-limit`] = v(put(s.limit, 0xfffe), "v8086");
  SEGMENT[`${s.name}.v8086-rights`] = v(put(s.attributes, 0xf7), "v8086");
}
/** A type that no rule allows for the segment. */
const BAD_TYPE = new Map([[CS, 8], [SS, 1], [LDTR, 3], [TR, 9]]);
for (const s of GUEST_SEGMENTS) {
  SEGMENT[`${s.name}.type`] = v((d) =>
    d.off(s.attributes, 0xf).on(s.attributes, BAD_TYPE.get(s) ?? 9)
  );
  SEGMENT[`${s.name}.s`] = v((d) =>
    d.set(s.attributes, d.read(s.attributes) ^ 0x10n)
  );
  SEGMENT[`${s.name}.present`] = v(clear(s.attributes, 0x80));
  SEGMENT[`${s.name}.reserved`] = v(bit(s.attributes, 0x2_0000));
  SEGMENT[`${s.name}.granularity-low`] = v((d) =>
    d.on(s.attributes, 0x8000).set(s.limit, 0x67)
  );
  SEGMENT[`${s.name}.granularity-high`] = v((d) =>
    d.off(s.attributes, 0x8000).set(s.limit, 0x10_0fff)
  );
}

function prefixed(
  prefix: string,
  cases: Record<string, Violation>,
): [string, Violation][] {
  return Object.entries(cases).map(([id, c]) => [`${prefix}.${id}`, c]);
}

/** The violation of each row, by the row's id. */
export const VIOLATIONS: ReadonlyMap<string, Violation> = new Map([
  ...prefixed("controls", CONTROLS),
  ...prefixed("host", HOST),
  ...prefixed("guest", GUEST),
  ...prefixed("guest", SEGMENT),
]);

/** Corner states that every check must accept. */
export const ACCEPTED: readonly (readonly [string, Violation])[] = [
  ["64-bit guest", v(() => {})],
  ["32-bit PAE guest", v(() => {}, "pae")],
  ["real-mode guest", v(() => {}, "real")],
  ["virtual-8086 guest", v(() => {}, "v8086")],
  ["32-bit host", v(() => {}, "legacyHost")],
  ["without EPT", v(noEpt)],
  ["MBEC with EPT", v(bit(F.SecondaryControls, Secondary.ModeBasedExecute))],
  ["EPT A/D", v(put(F.Eptp, 0x105e))],
  ["user mode", v(user)],
  [
    "unusable data segments",
    v((d) => {
      for (const s of [ES, DS, FS, GS, SS]) {
        d.set(s.attributes, 0x1_0000).set(s.selector, 0);
      }
      d.set(LDTR.attributes, 0x1_0000);
      d.set(LDTR.base, NOT_CANONICAL);
    }),
  ],
  ["data CS when unrestricted", v((d) => ug(d).set(CS.attributes, 0xc093))],
  ["HLT", v(put(F.GuestActivity, ActivityState.Hlt))],
  [
    "HLT with external interrupt",
    v((d) =>
      external(d).on(F.GuestRflags, Rflags.IF)
        .set(F.GuestActivity, ActivityState.Hlt)
    ),
  ],
  [
    "shutdown with NMI",
    v((d) =>
      d.set(F.EntryInterruptionInformation, NMI)
        .set(F.GuestActivity, ActivityState.Shutdown)
    ),
  ],
  ["wait-for-SIPI", v(put(F.GuestActivity, ActivityState.WaitForSipi))],
  [
    "#GP with error code",
    v((d) => inject(0xb0d)(d).set(F.EntryExceptionErrorCode, 0xffff)),
  ],
  ["#GP without error code in real mode", v(inject(0x30d), "real")],
  [
    "INT n of 2 bytes",
    v((d) => inject(0x480)(d).set(F.EntryInstructionLength, 2)),
  ],
  ["pending MTF", v(inject(0x700))],
  [
    "stepping over MOV SS",
    v((d) =>
      d.on(F.GuestRflags, Rflags.TF).set(F.GuestPendingDebug, 1 << 14)
        .set(F.GuestInterruptibility, Interruptibility.ByMovSs)
    ),
  ],
  [
    "branch trap instead of single step",
    v((d) =>
      d.on(F.GuestRflags, Rflags.TF).set(F.GuestDebugctl, 2)
        .set(F.GuestInterruptibility, Interruptibility.ByMovSs)
    ),
  ],
  [
    "link pointer to a VMCS",
    v((d) => {
      d.memory.set(0x5000, BigInt(d.model.vmcsRevision));
      d.set(F.VmcsLinkPointer, 0x5000);
    }),
  ],
  ["four CR3 targets", v(put(F.Cr3TargetCount, 4))],
  ["EFER loaded", v(loadEfer(Efer.LMA | Efer.LME | Efer.NXE | Efer.SCE))],
  ["EFER.LME without paging", v(loadEfer(Efer.LME), "real")],
  ["EPTP switching", v(switching)],
  ["RIP with bits above 47 alike", v(put(F.GuestRip, 0xfff0_0000_0000_0000n))],
];
