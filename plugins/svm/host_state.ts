/**
 * Host state: VMRUN saves it in the host save area at VM_HSAVE_PA (APM 2
 * §15.5.1, §15.30.4), #VMEXIT restores it from there (§15.6). The area's format
 * is the processor's own; ours is the save area of a VMCB, hidden segment parts
 * included, so that keyframes and restores need nothing else.
 */
import { Cr0, Efer, Rflags } from "../../cpu/arch/flags.ts";
import { MsrSlot } from "../../cpu/arch/msr.ts";
import type { CpuContext } from "../../cpu/context.ts";
import {
  ActivityState,
  Gpr,
  GuestMode,
  Interruptibility,
  Seg,
  VCPU,
} from "../../cpu/layout.ts";
import { paePaging } from "./guest_state.ts";
import { loadRecords, saveRecords } from "./lbr.ts";
import { hasFlag, SCRATCH, SvmFlag } from "./scratch.ts";
import { loadSegment, saveSegment } from "./segments.ts";
import { Save, SaveSegment, Vmcb } from "./vmcb.ts";

const SWITCHED = [Seg.ES, Seg.CS, Seg.SS, Seg.DS];

/** The host save area of a vCPU. */
export function hostArea(cpu: CpuContext): Vmcb {
  const address = Number(cpu.v.quad(SCRATCH.hsave));
  if (!cpu.physical.isRam(address + 4095)) {
    cpu.notModelled("VM_HSAVE_PA outside RAM", "APM 2 §15.30.4");
  }
  return new Vmcb(cpu.physical, address);
}

/** Saves what #VMEXIT restores. @param nextRip of VMRUN */
export function saveHostState(
  cpu: CpuContext,
  nextRip: bigint,
  rflags: number,
): void {
  const { v } = cpu;
  const area = hostArea(cpu);
  for (const segment of SWITCHED) saveSegment(area, v, segment);
  area.write32(Save.gdtr + SaveSegment.limit, v.gdtrLimit);
  area.write(Save.gdtr + SaveSegment.base, v.gdtrBase);
  area.write32(Save.idtr + SaveSegment.limit, v.idtrLimit);
  area.write(Save.idtr + SaveSegment.base, v.idtrBase);
  area.write(Save.efer, BigInt(v.efer));
  area.write(Save.cr0, BigInt(v.cr0));
  area.write(Save.cr3, v.quad(VCPU.cr3));
  area.write(Save.cr4, BigInt(v.cr4));
  area.write(Save.rflags, BigInt(rflags));
  area.write(Save.rip, nextRip);
  area.write(Save.rsp, v.gpr(Gpr.RSP));
  area.write(Save.rax, v.gpr(Gpr.RAX));
  area.write(Save.guestPat, v.msr(MsrSlot.Pat));
}

/** Saves the host's branch records, for guests with LBR virtualization. */
export function saveHostRecords(cpu: CpuContext): void {
  saveRecords(hostArea(cpu), cpu.v);
}

/**
 * Restores host state and ends guest mode.
 * @returns false when the host's PDPTEs have become invalid: shutdown
 */
export function loadHostState(cpu: CpuContext): boolean {
  const { v } = cpu;
  const area = hostArea(cpu);
  // §15.6: the saved VM flag is ignored, and PE is set whatever was saved.
  v.rflags = (area.read32(Save.rflags) & ~Rflags.VM | Rflags.Fixed1) >>> 0;
  v.cr0 = (area.read32(Save.cr0) | Cr0.PE) >>> 0;
  v.cr4 = area.read32(Save.cr4);
  v.efer = area.read32(Save.efer);
  v.setQuad(VCPU.cr3, area.read(Save.cr3));
  const bits = cpu.model.linearAddressBits;
  for (const segment of SWITCHED) loadSegment(area, v, segment, bits);
  v.setGdtr(
    area.read(Save.gdtr + SaveSegment.base),
    area.read32(Save.gdtr + SaveSegment.limit),
  );
  v.setIdtr(
    area.read(Save.idtr + SaveSegment.base),
    area.read32(Save.idtr + SaveSegment.limit),
  );
  v.setGpr(Gpr.RSP, area.read(Save.rsp));
  v.setGpr(Gpr.RAX, area.read(Save.rax));
  v.rip = area.read(Save.rip);
  v.cpl = 0;
  v.setDr(7, 0x400n);
  v.activity = ActivityState.Active;
  v.interruptibility &= Interruptibility.ByNmi;
  v.pendingDebug = 0;
  if (hasFlag(v, SvmFlag.NestedPaging)) {
    v.setMsr(MsrSlot.Pat, area.read(Save.guestPat));
  }
  if (hasFlag(v, SvmFlag.LbrVirtual)) loadRecords(area, v);
  v.guestMode = GuestMode.None;
  v.setWord(VCPU.tlbTag, 0);
  v.setQuad(VCPU.stage2Root, 0n);
  v.setWord(VCPU.stage2Flags, 0);
  if (!paePaging(v)) return true;
  if (!cpu.translator.loadPdptes(cpu, v.cr3)) {
    v.pending = undefined;
    return false;
  }
  return true;
}

/** The host runs in long mode. */
export function hostLong(cpu: CpuContext): boolean {
  return (cpu.v.efer & Efer.LMA) !== 0;
}
