/**
 * VMLOAD and VMSAVE (APM 2 §15.5.2): FS, GS, TR and LDTR with their hidden
 * parts, KernelGSBase and the system-call MSRs.
 */
import { MsrSlot } from "../../cpu/arch/msr.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { Seg } from "../../cpu/layout.ts";
import { canonicalize, loadSegment, saveSegment } from "./segments.ts";
import { Save, type Vmcb } from "./vmcb.ts";

const SEGMENTS = [Seg.FS, Seg.GS, Seg.TR, Seg.LDTR];
/** MSR slot and save-area offset. */
const MSRS: readonly (readonly [slot: number, offset: number])[] = [
  [MsrSlot.Star, Save.star],
  [MsrSlot.Lstar, Save.lstar],
  [MsrSlot.Cstar, Save.cstar],
  [MsrSlot.Fmask, Save.sfmask],
  [MsrSlot.SysenterCs, Save.sysenterCs],
  [MsrSlot.SysenterEsp, Save.sysenterEsp],
  [MsrSlot.SysenterEip, Save.sysenterEip],
];

/** VMLOAD. */
export function vmload(cpu: CpuContext, vmcb: Vmcb): void {
  const { v } = cpu;
  const bits = cpu.model.linearAddressBits;
  for (const segment of SEGMENTS) loadSegment(vmcb, v, segment, bits);
  v.setMsr(
    MsrSlot.KernelGsBase,
    canonicalize(vmcb.read(Save.kernelGsBase), bits),
  );
  for (const [slot, at] of MSRS) v.setMsr(slot, vmcb.read(at));
}

/** VMSAVE. */
export function vmsave(cpu: CpuContext, vmcb: Vmcb): void {
  const { v } = cpu;
  for (const segment of SEGMENTS) saveSegment(vmcb, v, segment);
  vmcb.write(Save.kernelGsBase, v.msr(MsrSlot.KernelGsBase));
  for (const [slot, at] of MSRS) vmcb.write(at, v.msr(slot));
}
