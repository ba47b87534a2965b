/**
 * Moving guest state between vCPU and VMCS: saving on a VM exit (SDM 3C §28.3)
 * and loading on a VM entry (SDM 3C §27.3.2). Host state has its own file.
 *
 * Nothing here checks: entry checks come before, and failures of loading PDPTEs
 * from memory are among them.
 */
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import { MsrSlot } from "../../cpu/arch/msr.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { ActivityState, Gpr, Interruptibility, Seg } from "../../cpu/layout.ts";
import type { Vcpu } from "../../cpu/vcpu.ts";
import { type ControlWords, Entry, Exit, Pin, Secondary } from "./controls.ts";
import { GUEST_SEGMENTS } from "./entry_checks_segments.ts";
import { Interruption, InterruptionType } from "./exit_reasons.ts";
import { hasFlag, setFlag, VmxFlag } from "./scratch.ts";
import type { Vmcs } from "./vmcs.ts";
import { VmcsField as F } from "./vmcs_fields.ts";

/** CR0 bits that VM entries and exits leave alone: ET, 15:6, 17, 28:19, NW, CD. */
export const CR0_KEPT = 0x7ffa_ffd0;

const PDPTES = [F.GuestPdpte0, F.GuestPdpte1, F.GuestPdpte2, F.GuestPdpte3];

/** Whether the vCPU uses PAE paging outside IA-32e mode. */
export function paePaging(v: Vcpu): boolean {
  return (v.cr0 & Cr0.PG) !== 0 && (v.cr4 & Cr4.PAE) !== 0 &&
    (v.efer & Efer.LMA) === 0;
}

/** Saves guest state into the VMCS. @param rflags the value to save, RF decided */
export function saveGuestState(
  cpu: CpuContext,
  vmcs: Vmcs,
  c: ControlWords,
  rflags: number,
): void {
  const { v } = cpu;
  vmcs.write32(F.GuestCr0, v.cr0);
  vmcs.write(F.GuestCr3, v.cr3Full);
  vmcs.write32(F.GuestCr4, v.cr4);
  if (c.exit & Exit.SaveDebugControls) {
    vmcs.write(F.GuestDr7, v.dr(7));
    vmcs.write(F.GuestDebugctl, v.msr(MsrSlot.DebugCtl));
  }
  vmcs.write(F.GuestSysenterCs, v.msr(MsrSlot.SysenterCs));
  vmcs.write(F.GuestSysenterEsp, v.msr(MsrSlot.SysenterEsp));
  vmcs.write(F.GuestSysenterEip, v.msr(MsrSlot.SysenterEip));
  if (c.exit & Exit.SavePat) vmcs.write(F.GuestPat, v.msr(MsrSlot.Pat));
  if (c.exit & Exit.SaveEfer) vmcs.write32(F.GuestEfer, v.efer);
  // IA32_VMX_MISC bit 5: EFER.LMA goes to "IA-32e mode guest".
  const entry = v.efer & Efer.LMA
    ? c.entry | Entry.Ia32eModeGuest
    : c.entry & ~Entry.Ia32eModeGuest;
  if (entry !== c.entry) vmcs.write32(F.EntryControls, entry);
  for (let s = 0; s < GUEST_SEGMENTS.length; s++) {
    const fields = GUEST_SEGMENTS[s];
    vmcs.write32(fields.selector, v.segSelector(s));
    vmcs.write(fields.base, v.segBase(s));
    vmcs.write32(fields.limit, v.segLimit(s));
    vmcs.write32(fields.attributes, v.segAttributes(s));
  }
  vmcs.write(F.GuestGdtrBase, v.gdtrBase);
  vmcs.write32(F.GuestGdtrLimit, v.gdtrLimit);
  vmcs.write(F.GuestIdtrBase, v.idtrBase);
  vmcs.write32(F.GuestIdtrLimit, v.idtrLimit);
  vmcs.write(F.GuestRsp, v.gpr(Gpr.RSP));
  vmcs.write(F.GuestRip, v.rip);
  vmcs.write32(F.GuestRflags, rflags);
  vmcs.write32(F.GuestActivity, v.activity);
  let blocking = v.interruptibility;
  if (c.pin & Pin.VirtualNmis) {
    blocking &= ~Interruptibility.ByNmi;
    if (hasFlag(v, VmxFlag.VirtualNmiBlocking)) {
      blocking |= Interruptibility.ByNmi;
    }
  }
  vmcs.write32(F.GuestInterruptibility, blocking);
  vmcs.write32(F.GuestPendingDebug, v.pendingDebug);
  if (c.secondary & Secondary.Ept && paePaging(v)) {
    for (let i = 0; i < 4; i++) vmcs.write(PDPTES[i], v.pdpte(i));
  }
}

/** Loads guest state from the VMCS, non-register state included. */
export function loadGuestState(
  cpu: CpuContext,
  vmcs: Vmcs,
  c: ControlWords,
): void {
  const { v } = cpu;
  v.cr0 = ((vmcs.read32(F.GuestCr0) & ~CR0_KEPT) | (v.cr0 & CR0_KEPT)) >>> 0;
  v.cr3Full = vmcs.read(F.GuestCr3);
  v.cr4 = vmcs.read32(F.GuestCr4);
  if (c.entry & Entry.LoadDebugControls) {
    v.setDr(7, vmcs.read(F.GuestDr7) & 0xffff_2fffn | 0x400n);
    v.setMsr(MsrSlot.DebugCtl, vmcs.read(F.GuestDebugctl));
  }
  v.setMsr(MsrSlot.SysenterCs, vmcs.read(F.GuestSysenterCs));
  v.setMsr(MsrSlot.SysenterEsp, vmcs.read(F.GuestSysenterEsp));
  v.setMsr(MsrSlot.SysenterEip, vmcs.read(F.GuestSysenterEip));
  if (c.entry & Entry.LoadPat) v.setMsr(MsrSlot.Pat, vmcs.read(F.GuestPat));
  v.efer = entryEfer(v, vmcs, c);
  for (let s = 0; s < GUEST_SEGMENTS.length; s++) {
    const fields = GUEST_SEGMENTS[s];
    v.setSegment(s, {
      selector: vmcs.read32(fields.selector),
      base: vmcs.read(fields.base),
      limit: vmcs.read32(fields.limit),
      attributes: vmcs.read32(fields.attributes),
    });
  }
  v.cpl = (v.segAttributes(Seg.SS) >>> 5) & 3;
  v.setGdtr(vmcs.read(F.GuestGdtrBase), vmcs.read32(F.GuestGdtrLimit));
  v.setIdtr(vmcs.read(F.GuestIdtrBase), vmcs.read32(F.GuestIdtrLimit));
  v.setGpr(Gpr.RSP, vmcs.read(F.GuestRsp));
  v.rip = vmcs.read(F.GuestRip);
  v.rflags = vmcs.read32(F.GuestRflags);
  if (paePaging(v)) loadPdptes(cpu, vmcs, c);
  loadNonRegisterState(cpu, vmcs, c);
}

function entryEfer(v: Vcpu, vmcs: Vmcs, c: ControlWords): number {
  if (c.entry & Entry.LoadEfer) return vmcs.read32(F.GuestEfer);
  // SDM 3C §27.3.2.1: LMA follows the control; LME too, unless PG = 0.
  const long = (c.entry & Entry.Ia32eModeGuest) !== 0;
  let efer = long ? v.efer | Efer.LMA : v.efer & ~Efer.LMA;
  if (v.cr0 & Cr0.PG) efer = long ? efer | Efer.LME : efer & ~Efer.LME;
  return efer >>> 0;
}

/** SDM 3C §27.3.2.4. */
function loadPdptes(cpu: CpuContext, vmcs: Vmcs, c: ControlWords): void {
  const { v, physical } = cpu;
  const base = Math.floor((v.cr3 % 2 ** 32) / 32) * 32;
  for (let i = 0; i < 4; i++) {
    v.setPdpte(
      i,
      c.secondary & Secondary.Ept
        ? vmcs.read(PDPTES[i])
        : physical.readU64(base + i * 8),
    );
  }
}

/** Activity, interruptibility, pending debug exceptions (SDM 3C §27.3.2.5, §27.7). */
function loadNonRegisterState(
  cpu: CpuContext,
  vmcs: Vmcs,
  c: ControlWords,
): void {
  const { v } = cpu;
  v.activity = vmcs.read32(F.GuestActivity);
  let blocking = vmcs.read32(F.GuestInterruptibility);
  const virtual = (c.pin & Pin.VirtualNmis) !== 0;
  const nmi = (blocking & Interruptibility.ByNmi) !== 0;
  setFlag(v, VmxFlag.VirtualNmiBlocking, virtual && nmi);
  // With virtual NMIs the bit says nothing about physical NMIs, which are
  // never blocked in the guest.
  if (virtual) blocking &= ~Interruptibility.ByNmi;
  v.interruptibility = blocking;
  v.pendingDebug = pendingDebugSurvives(vmcs, blocking, v.activity)
    ? vmcs.read32(F.GuestPendingDebug)
    : 0;
}

/** SDM 3C §27.7.3: when pending debug exceptions are discarded. */
function pendingDebugSurvives(
  vmcs: Vmcs,
  blocking: number,
  activity: number,
): boolean {
  const info = vmcs.read32(F.EntryInterruptionInformation);
  if (!(info & Interruption.Valid)) {
    return activity !== ActivityState.Shutdown &&
      activity !== ActivityState.WaitForSipi;
  }
  switch ((info >>> Interruption.TypeShift) & 7) {
    case InterruptionType.External:
    case InterruptionType.Nmi:
    case InterruptionType.HardwareException:
    case InterruptionType.PrivilegedSoftwareException:
      return false;
    case InterruptionType.SoftwareInterrupt:
    case InterruptionType.SoftwareException:
      return (blocking & Interruptibility.ByMovSs) !== 0;
    default:
      return true;
  }
}
