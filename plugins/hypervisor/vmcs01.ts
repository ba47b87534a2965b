/**
 * vmcs01: the VMCS in which L0 runs L1. L1 gets the whole machine except L0's
 * memory: exits are only those that VMX forces (CPUID, VMX instructions …) and
 * those by which L0 offers VMX again (capability MSRs, CR4.VMXE, CR0.NE).
 */
import { Cr0, Cr4, Efer, SegmentRights } from "../../cpu/arch/flags.ts";
import { Msr } from "../../cpu/arch/msr.ts";
import { Gpr, Seg } from "../../cpu/layout.ts";
import type { Vcpu } from "../../cpu/vcpu.ts";
import {
  capabilitiesOf,
  Entry,
  Exit,
  FeatureControl,
  Primary,
  Secondary,
  VmcsField as F,
  type VmxCapabilities,
  VmxMsr,
} from "../vmx/api.ts";
import type { L0 } from "./nested_state.ts";
import { eptpOf } from "./shadow.ts";
import { Ept, mapPage } from "./tables.ts";

/** L1's tag in the TLB: L2s get L1's own VPIDs, or VPID_L2_DEFAULT. */
export const VPID_L1 = 0xffff;
export const VPID_L2_DEFAULT = 0xfffe;
/** CR0 and CR4 bits that VMX operation fixes and L1 may see differently. */
export const CR0_OWNED = Cr0.NE;
export const CR4_OWNED = Cr4.VMXE;
const HOST_CS = 0x08;
const HOST_TR = 0x10;
const PAGES_2M = 2 ** 9;

/** Segment fields of the guest-state area, in the order of `Seg`. */
export const GUEST_SEGMENT_FIELDS = [
  [F.GuestEsSelector, F.GuestEsBase, F.GuestEsLimit, F.GuestEsAttributes],
  [F.GuestCsSelector, F.GuestCsBase, F.GuestCsLimit, F.GuestCsAttributes],
  [F.GuestSsSelector, F.GuestSsBase, F.GuestSsLimit, F.GuestSsAttributes],
  [F.GuestDsSelector, F.GuestDsBase, F.GuestDsLimit, F.GuestDsAttributes],
  [F.GuestFsSelector, F.GuestFsBase, F.GuestFsLimit, F.GuestFsAttributes],
  [F.GuestGsSelector, F.GuestGsBase, F.GuestGsLimit, F.GuestGsAttributes],
  [
    F.GuestLdtrSelector,
    F.GuestLdtrBase,
    F.GuestLdtrLimit,
    F.GuestLdtrAttributes,
  ],
  [F.GuestTrSelector, F.GuestTrBase, F.GuestTrLimit, F.GuestTrAttributes],
] as const;

/** Takes the processor into VMX operation and enters L1 from its initial state. */
export function startL1(l0: L0): void {
  const { cpu, cells, operations: ops, pool } = l0;
  const hardware = capabilitiesOf(cpu.model);
  const take = (): number => {
    const page = pool.take();
    if (page === undefined) {
      throw new Error("L0's memory is too small to start");
    }
    return page;
  };
  cells.vmxonRegion = take();
  cells.vmcs01 = take();
  cells.vmcs02 = take();
  cells.msrBitmap01 = take();
  cells.msrBitmap02 = take();
  cells.ept01 = take();
  buildEpt01(l0);
  buildMsrBitmap01(l0);
  for (const region of [cells.vmxonRegion, cells.vmcs01, cells.vmcs02]) {
    cpu.physical.writeU32(region, cpu.model.vmcsRevision);
  }
  ops.wrmsr(
    Msr.FEATURE_CONTROL,
    BigInt(FeatureControl.Lock | FeatureControl.VmxonOutsideSmx),
  );
  const initial = takeGuestState(cpu.v);
  becomeHost(cpu.v, cells.ept01);
  check("VMXON", ops.vmxon(cells.vmxonRegion));
  for (const vmcs of [cells.vmcs02, cells.vmcs01]) {
    check("VMCLEAR", ops.vmclear(vmcs));
    check("VMPTRLD", ops.vmptrld(vmcs));
    writeHostState(l0);
  }
  for (const [field, value] of initial) ops.vmwrite(field, value);
  writeControls01(l0, hardware);
  check("VM entry", ops.resume());
}

function check(what: string, result: number): void {
  if (result !== 0) throw new Error(`L0's ${what} failed with error ${result}`);
}

/** Guest memory one to one; everything else too, but not L0's own. */
function buildEpt01(l0: L0): void {
  const { cpu, pool, cells } = l0;
  const bits = Ept.R | Ept.W | Ept.X | Ept.WriteBack;
  const map = (page: number, to: number, level: number): void => {
    if (!mapPage(cpu.physical, pool, cells.ept01, page, to, bits, level)) {
      throw new Error("L0's memory is too small for L1's page tables");
    }
  };
  const guestPages = l0.guestBytes / 4096;
  const end = 2 ** 20; // 4 GiB: RAM and memory-mapped devices lie below it
  for (let page = 0; page < end; page += PAGES_2M) {
    const owned = page + PAGES_2M > guestPages &&
      page < cpu.physical.ramPages;
    if (!owned) map(page, page, 2);
    else {
      for (let i = 0; i < PAGES_2M; i++) {
        const inside = page + i;
        const hidden = inside >= guestPages && inside < cpu.physical.ramPages;
        map(inside, hidden ? l0.nowhere : inside, 1);
      }
    }
  }
}

/** Reads of capability MSRs and all use of IA32_FEATURE_CONTROL exit. */
function buildMsrBitmap01(l0: L0): void {
  setReadExits(l0, l0.cells.msrBitmap01);
}

/** Sets L0's own bits in an MSR bitmap page (SDM 3C §25.6.9). */
export function setReadExits(l0: L0, bitmap: number): void {
  const set = (at: number, index: number): void => {
    const word = bitmap + at + (index >>> 5) * 4;
    const { physical } = l0.cpu;
    physical.writeU32(word, physical.readU32(word) | 1 << (index & 31));
  };
  set(0, VmxMsr.FeatureControl);
  set(0x800, VmxMsr.FeatureControl);
  for (let msr: number = VmxMsr.Basic; msr <= VmxMsr.VmFunctions; msr++) {
    set(0, msr);
    set(0x800, msr);
  }
}

/** The vCPU's state as guest-state fields. */
function takeGuestState(v: Vcpu): [number, bigint][] {
  const fields: [number, bigint][] = [
    [F.GuestCr0, BigInt((v.cr0 | CR0_OWNED) >>> 0)],
    [F.GuestCr3, v.cr3Full],
    [F.GuestCr4, BigInt((v.cr4 | CR4_OWNED) >>> 0)],
    [F.Cr0Shadow, BigInt(v.cr0)],
    [F.Cr4Shadow, BigInt(v.cr4)],
    [F.Cr0Mask, BigInt(CR0_OWNED)],
    [F.Cr4Mask, BigInt(CR4_OWNED)],
    [F.GuestEfer, BigInt(v.efer)],
    [F.GuestDr7, v.dr(7)],
    [F.GuestRsp, v.gpr(Gpr.RSP)],
    [F.GuestRip, v.rip],
    [F.GuestRflags, BigInt(v.rflags)],
    [F.GuestGdtrBase, v.gdtrBase],
    [F.GuestGdtrLimit, BigInt(v.gdtrLimit)],
    [F.GuestIdtrBase, v.idtrBase],
    [F.GuestIdtrLimit, BigInt(v.idtrLimit)],
    [F.VmcsLinkPointer, 0xffff_ffff_ffff_ffffn],
  ];
  GUEST_SEGMENT_FIELDS.forEach(([selector, base, limit, attributes], s) => {
    const value = v.segment(s);
    fields.push(
      [selector, BigInt(value.selector)],
      [base, value.base],
      [limit, BigInt(value.limit)],
      [attributes, BigInt(value.attributes)],
    );
  });
  return fields;
}

/** A minimal IA-32e host: nothing of it is ever fetched or walked. */
function becomeHost(v: Vcpu, cr3: number): void {
  v.cr0 = (Cr0.PE | Cr0.PG | Cr0.NE | Cr0.ET) >>> 0;
  v.cr3 = cr3;
  v.cr4 = Cr4.PAE | Cr4.VMXE;
  v.efer = Efer.LME | Efer.LMA;
  v.rflags = 2;
  v.cpl = 0;
  const attributes = SegmentRights.Present | SegmentRights.CodeData;
  v.setSegment(Seg.CS, {
    selector: HOST_CS,
    base: 0n,
    limit: 0xffff_ffff,
    attributes: attributes | SegmentRights.Long | SegmentRights.Granularity |
      0xb,
  });
}

/** Host state of vmcs01 and vmcs02 alike: the owner stands in for HOST_RIP. */
function writeHostState(l0: L0): void {
  const { operations: ops, cells } = l0;
  const pat = ops.rdmsr(Msr.PAT) ?? 0n;
  const fields: [number, bigint][] = [
    [F.HostCr0, BigInt((Cr0.PE | Cr0.PG | Cr0.NE | Cr0.ET) >>> 0)],
    [F.HostCr3, BigInt(cells.ept01)],
    [F.HostCr4, BigInt(Cr4.PAE | Cr4.VMXE)],
    [F.HostEfer, BigInt(Efer.LME | Efer.LMA)],
    [F.HostPat, pat],
    [F.HostCsSelector, BigInt(HOST_CS)],
    [F.HostTrSelector, BigInt(HOST_TR)],
  ];
  for (const [field, value] of fields) ops.vmwrite(field, value);
  ops.vmwrite(F.VmcsLinkPointer, 0xffff_ffff_ffff_ffffn);
}

function writeControls01(l0: L0, hardware: VmxCapabilities): void {
  const { operations: ops, cells, cpu } = l0;
  const secondary = Secondary.Ept | Secondary.UnrestrictedGuest |
    Secondary.Vpid | Secondary.Rdtscp | Secondary.Invpcid |
    Secondary.EnableXsaves;
  const long = (cpu.v.efer & Efer.LMA) !== 0 &&
    (Number(ops.vmread(F.GuestEfer)) & Efer.LMA) !== 0;
  const fields: [number, number][] = [
    [F.PinControls, hardware.pin.must1],
    [
      F.PrimaryControls,
      hardware.primary.must1 | Primary.MsrBitmaps | Primary.SecondaryControls,
    ],
    [F.SecondaryControls, secondary & hardware.secondary.may1],
    [F.ExitControls, exitControls(hardware)],
    [
      F.EntryControls,
      hardware.entry.must1 | Entry.LoadEfer | Entry.LoadPat |
      Entry.LoadDebugControls | (long ? Entry.Ia32eModeGuest : 0),
    ],
    [F.ExceptionBitmap, cells.exceptionBitmap],
    [F.Vpid, VPID_L1],
  ];
  for (const [field, value] of fields) ops.vmwrite(field, BigInt(value >>> 0));
  ops.vmwrite(F.MsrBitmaps, BigInt(cells.msrBitmap01));
  ops.vmwrite(F.Eptp, eptpOf(cells.ept01));
  ops.vmwrite(F.GuestPat, ops.rdmsr(Msr.PAT) ?? 0n);
}

/** L0's own VM-exit controls, in every VMCS it runs. */
export function exitControls(hardware: VmxCapabilities): number {
  return (hardware.exit.must1 | Exit.HostAddressSpaceSize | Exit.SaveEfer |
    Exit.LoadEfer | Exit.SavePat | Exit.LoadPat | Exit.SaveDebugControls) >>> 0;
}
