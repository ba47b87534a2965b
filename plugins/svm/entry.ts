/**
 * VMRUN after its fault checks and intercept (APM 2 §15.5.1): host state into
 * the host save area, control fields into the processor, consistency checks,
 * TLB control, guest state, GIF = 1, event injection.
 */
import { Rflags } from "../../cpu/arch/flags.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { GuestMode, VCPU } from "../../cpu/layout.ts";
import { eferDefined } from "../../cpu/semantics/system/msr.ts";
import { Flush, nestedPagingFlags } from "../mmu/api.ts";
import { SvmEntered, SvmEntryFailed } from "./api.ts";
import {
  EventInfo,
  IntCtl,
  NestedControl,
  TlbControl,
  VirtualExtension,
} from "./controls.ts";
import { firstFailure, VMRUN_CHECKS } from "./entry_checks.ts";
import { inject } from "./events.ts";
import { invalidExit } from "./exit.ts";
import { loadGuestState, paePaging } from "./guest_state.ts";
import { hostLong, saveHostRecords, saveHostState } from "./host_state.ts";
import { loadRecords } from "./lbr.ts";
import { hasFlag, SCRATCH, setFlag, SvmFlag } from "./scratch.ts";
import type { SvmUnit } from "./unit.ts";
import { Control, Vmcb } from "./vmcb.ts";

const PAGE_MASK = ~0xfffn;
/** Tags in the TLB have 16 bits; all ASIDs above share the last. */
const LAST_TAG = 0xffff;

/**
 * Runs the guest of a VMCB. The instruction counts as one step, whether the
 * guest is entered or not.
 * @param address 4-KiB-aligned physical address of the VMCB
 * @param owner by the root owner: no instruction, no step
 */
export function vmrun(
  unit: SvmUnit,
  cpu: CpuContext,
  address: number,
  owner = false,
): void {
  const { v, model } = cpu;
  const vmcb = new Vmcb(cpu.physical, address);
  const instruction = v.rip;
  v.setQuad(SCRATCH.vmcb, BigInt(address));
  saveHostState(cpu, cpu.nextRip, v.rflags);
  const check = firstFailure({
    vmcb,
    model,
    hostCr0: v.cr0,
    hostLong: hostLong(cpu),
    eferDefined: eferDefined(cpu),
    readU64: (at) => cpu.physical.readU64(at),
  });
  if (!owner) {
    if (cpu.facts.observed) cpu.facts.retired(cpu.index, instruction);
    v.step += 1;
  }
  if (check !== undefined) {
    if (cpu.facts.wants(SvmEntryFailed)) {
      cpu.facts.emit(SvmEntryFailed, {
        cpu: cpu.index,
        vmcb: BigInt(address),
        check: VMRUN_CHECKS.indexOf(check) + 1,
        owner,
      });
    }
    invalidExit(unit, cpu, vmcb);
    return;
  }
  loadControls(cpu, vmcb);
  const stage2 = nestedPaging(cpu, vmcb);
  setFlag(v, SvmFlag.HostIf, (v.rflags & Rflags.IF) !== 0);
  setFlag(v, SvmFlag.GifClear, false);
  v.guestMode = GuestMode.Svm;
  const asid = vmcb.read32(Control.asid);
  const tag = Math.min(asid, LAST_TAG);
  v.setWord(VCPU.tlbTag, tag);
  v.setWord(VCPU.stage2Flags, stage2);
  v.setQuad(
    VCPU.stage2Root,
    stage2 === 0 ? 0n : vmcb.read(Control.nestedCr3) & ~0x1fn,
  );
  loadGuestState(cpu, vmcb);
  if (hasFlag(v, SvmFlag.LbrVirtual)) {
    saveHostRecords(cpu);
    loadRecords(vmcb, v);
  }
  controlTlb(cpu, vmcb, asid, tag);
  if (paePaging(v)) cpu.translator.loadPdptes(cpu, v.cr3);
  unit.port.dropGrants(cpu.index);
  unit.request(cpu);
  const info = vmcb.read32(Control.eventInjection);
  const injected = (info & EventInfo.Valid) !== 0;
  if (cpu.facts.wants(SvmEntered)) {
    cpu.facts.emit(SvmEntered, {
      cpu: cpu.index,
      vmcb: BigInt(address),
      asid,
      nestedCr3: stage2 === 0 ? 0n : vmcb.read(Control.nestedCr3),
      rip: v.rip,
      injected: injected ? info : 0,
      owner,
    });
  }
  if (injected) inject(unit, cpu, vmcb, info);
}

/** Copies the control fields that rule the running guest. */
function loadControls(cpu: CpuContext, vmcb: Vmcb): void {
  const { v, model } = cpu;
  for (let i = 0; i < 6; i++) {
    const at = i * 4;
    v.setWord(SCRATCH.intercepts + at, vmcb.read32(Control.intercepts + at));
  }
  v.setQuad(SCRATCH.iopm, vmcb.read(Control.iopmBase) & PAGE_MASK);
  v.setQuad(SCRATCH.msrpm, vmcb.read(Control.msrpmBase) & PAGE_MASK);
  v.setQuad(SCRATCH.tscOffset, vmcb.read(Control.tscOffset));
  let intCtl = vmcb.read32(Control.intCtl);
  if (!model.has("vgif")) intCtl &= ~IntCtl.GifEnable;
  if (!model.has("vnmi")) intCtl &= ~IntCtl.NmiEnable;
  v.setWord(SCRATCH.intCtl, intCtl);
  v.setWord(SCRATCH.intVector, vmcb.read32(Control.intVector) & 0xff);
  const filter = model.has("pause-filter");
  const count = filter ? vmcb.read16(Control.pauseCount) : 0;
  v.setWord(SCRATCH.pauseCount, count);
  v.setWord(SCRATCH.pauseLeft, count);
  v.setWord(
    SCRATCH.pauseThreshold,
    filter && model.has("pfthreshold")
      ? vmcb.read16(Control.pauseThreshold)
      : 0,
  );
  v.setQuad(SCRATCH.lastPause, 0n);
  const extensions = vmcb.read32(Control.virtualExtensions);
  setFlag(
    v,
    SvmFlag.LbrVirtual,
    model.has("lbrv") && (extensions & VirtualExtension.Lbr) !== 0,
  );
  setFlag(
    v,
    SvmFlag.VmloadVirtual,
    model.has("v-vmsave-vmload") &&
      (extensions & VirtualExtension.VmloadVmsave) !== 0,
  );
}

/**
 * Stage-2 options of nested paging, from the host's control registers, which
 * are still in place (APM 2 §15.25.3); 0 when it is off.
 */
function nestedPaging(cpu: CpuContext, vmcb: Vmcb): number {
  const { v, model } = cpu;
  const control = vmcb.read32(Control.nestedControl);
  const on = model.has("npt") && (control & NestedControl.Enable) !== 0;
  setFlag(v, SvmFlag.NestedPaging, on);
  if (!on) return 0;
  const gmet = model.has("gmet") && (control & NestedControl.Gmet) !== 0;
  return nestedPagingFlags(v.cr0, v.cr4, v.efer, gmet);
}

/** TLB_CONTROL (APM 2 §15.16.2). */
function controlTlb(
  cpu: CpuContext,
  vmcb: Vmcb,
  asid: number,
  tag: number,
): void {
  const { translator } = cpu;
  switch (vmcb.read32(Control.tlbControl) & 0xff) {
    case TlbControl.FlushAll:
      translator.flush(cpu, Flush.Everything, 0, 0, 0n);
      return;
    case TlbControl.FlushAsid:
      translator.flush(cpu, Flush.VpidAll, tag, 0, 0n);
      return;
    case TlbControl.FlushAsidNonGlobal:
      translator.flush(cpu, Flush.VpidNonGlobal, tag, 0, 0n);
      return;
    default:
      if (asid > LAST_TAG) translator.flush(cpu, Flush.VpidAll, tag, 0, 0n);
  }
}
