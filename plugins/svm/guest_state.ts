/**
 * Guest state between vCPU and VMCB: what VMRUN loads (APM 2 §15.5.1) and
 * #VMEXIT saves (§15.6). FS, GS, TR, LDTR and the system-call MSRs are VMLOAD's
 * and VMSAVE's (vmload.ts).
 *
 * Nothing here checks: entry_checks.ts comes before.
 */
import { Cr0, Cr4, Efer, Rflags } from "../../cpu/arch/flags.ts";
import { MsrSlot } from "../../cpu/arch/msr.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { ActivityState, Gpr, Interruptibility, Seg } from "../../cpu/layout.ts";
import type { Vcpu } from "../../cpu/vcpu.ts";
import { hasFlag, SCRATCH, SvmFlag } from "./scratch.ts";
import { canonicalize, loadSegment, saveSegment } from "./segments.ts";
import { Control, Save, SaveSegment, type Vmcb } from "./vmcb.ts";

/** CR0 bits that exist. */
export const CR0_DEFINED = (Cr0.PE | Cr0.MP | Cr0.EM | Cr0.TS | Cr0.ET |
  Cr0.NE | Cr0.WP | Cr0.AM | Cr0.NW | Cr0.CD | Cr0.PG) >>> 0;
/** Segments that VMRUN and #VMEXIT switch. */
const SWITCHED = [Seg.ES, Seg.CS, Seg.SS, Seg.DS];
const RFLAGS_DEFINED = 0x3f7fd5;
const SHADOW = Interruptibility.BySti | Interruptibility.ByMovSs;
const DR6_ONES = 0xffff0ff0n;
const DR7_ONES = 0x400n;
const CR3_LONG = 0x000f_ffff_ffff_ffffn;

/** Whether the vCPU uses PAE paging outside long mode. */
export function paePaging(v: Vcpu): boolean {
  return (v.cr0 & Cr0.PG) !== 0 && (v.cr4 & Cr4.PAE) !== 0 &&
    (v.efer & Efer.LMA) === 0;
}

/** Loads guest state. Control fields are in the scratch already. */
export function loadGuestState(cpu: CpuContext, vmcb: Vmcb): void {
  const { v } = cpu;
  const bits = cpu.model.linearAddressBits;
  v.rflags = (vmcb.read32(Save.rflags) & RFLAGS_DEFINED | Rflags.Fixed1) >>> 0;
  v.cr0 = (vmcb.read32(Save.cr0) & CR0_DEFINED | Cr0.ET) >>> 0;
  const efer = vmcb.read32(Save.efer);
  // LMA follows LME and PG, whatever its image says.
  const long = (efer & Efer.LME) !== 0 && (v.cr0 & Cr0.PG) !== 0;
  v.efer = (long ? efer | Efer.LMA : efer & ~Efer.LMA) >>> 0;
  v.cr4 = vmcb.read32(Save.cr4);
  const cr3 = vmcb.read(Save.cr3);
  v.cr3 = Number(cr3 & (long ? CR3_LONG : 0xffff_ffffn));
  v.cr2 = vmcb.read(Save.cr2);
  v.setDr(6, vmcb.read(Save.dr6) & 0xffff_ffffn | DR6_ONES);
  v.setDr(7, vmcb.read(Save.dr7) & 0xffff_23ffn | DR7_ONES);
  for (const segment of SWITCHED) loadSegment(vmcb, v, segment, bits);
  const real = !(v.cr0 & Cr0.PE);
  const virtual = !real && (v.rflags & Rflags.VM) !== 0;
  v.cpl = real ? 0 : virtual ? 3 : vmcb.read8(Save.cpl) & 3;
  v.setGdtr(
    canonicalize(vmcb.read(Save.gdtr + SaveSegment.base), bits),
    vmcb.read32(Save.gdtr + SaveSegment.limit) & 0xffff,
  );
  v.setIdtr(
    canonicalize(vmcb.read(Save.idtr + SaveSegment.base), bits),
    vmcb.read32(Save.idtr + SaveSegment.limit) & 0xffff,
  );
  v.setGpr(Gpr.RSP, vmcb.read(Save.rsp));
  v.setGpr(Gpr.RAX, vmcb.read(Save.rax));
  v.rip = vmcb.read(Save.rip);
  v.activity = ActivityState.Active;
  v.pendingDebug = 0;
  const nmi = v.interruptibility & Interruptibility.ByNmi;
  v.interruptibility = nmi |
    (vmcb.read32(Control.interruptShadow) & 1 ? Interruptibility.BySti : 0);
  if (hasFlag(v, SvmFlag.NestedPaging)) {
    v.setMsr(MsrSlot.Pat, vmcb.read(Save.guestPat));
  }
}

/** Saves guest state and the control fields that the processor changes. */
export function saveGuestState(cpu: CpuContext, vmcb: Vmcb): void {
  const { v } = cpu;
  for (const segment of SWITCHED) saveSegment(vmcb, v, segment);
  vmcb.write32(Save.gdtr + SaveSegment.limit, v.gdtrLimit);
  vmcb.write(Save.gdtr + SaveSegment.base, v.gdtrBase);
  vmcb.write32(Save.idtr + SaveSegment.limit, v.idtrLimit);
  vmcb.write(Save.idtr + SaveSegment.base, v.idtrBase);
  vmcb.write(Save.efer, BigInt(v.efer));
  vmcb.write(Save.cr0, BigInt(v.cr0));
  vmcb.write(Save.cr2, v.cr2);
  vmcb.write(Save.cr3, BigInt(v.cr3));
  vmcb.write(Save.cr4, BigInt(v.cr4));
  vmcb.write(Save.dr6, v.dr(6));
  vmcb.write(Save.dr7, v.dr(7));
  vmcb.write(Save.rflags, BigInt(v.rflags));
  vmcb.write(Save.rip, v.rip);
  vmcb.write(Save.rsp, v.gpr(Gpr.RSP));
  vmcb.write(Save.rax, v.gpr(Gpr.RAX));
  vmcb.write8(Save.cpl, v.cpl);
  if (hasFlag(v, SvmFlag.NestedPaging)) {
    vmcb.write(Save.guestPat, v.msr(MsrSlot.Pat));
  }
  vmcb.write32(Control.intCtl, v.word(SCRATCH.intCtl));
  const shadow = vmcb.read32(Control.interruptShadow) & ~1;
  vmcb.write32(
    Control.interruptShadow,
    v.interruptibility & SHADOW ? shadow | 1 : shadow,
  );
}
