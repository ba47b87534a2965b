/**
 * What L0 does on VM exits of L1 and of L2. L1 keeps everything that VMX does
 * not force to exit; of L2's exits L0 keeps those that concern its shadow
 * hierarchies, and gives L1 the rest.
 */
import { NotModelled } from "../../core/mod.ts";
import { cpuid } from "../../cpu/arch/cpuid.ts";
import { Vector } from "../../cpu/arch/exceptions.ts";
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import { MsrSlot } from "../../cpu/arch/msr.ts";
import { TRIPLE_FAULT_EXIT } from "../../cpu/engine/executor.ts";
import { Gpr, VCPU } from "../../cpu/layout.ts";
import { xsetbv, xsetbvValue } from "../../cpu/semantics/system/information.ts";
import {
  effectiveControls,
  ENTRY_FAILURE,
  ExitReason,
  exitReasonTitle,
  FeatureControl,
  Primary,
  Secondary,
  VmcsField as F,
  VmxMsr,
} from "../vmx/api.ts";
import { Decision, ExitHandled, MISCONFIGURATION } from "./api.ts";
import { complete, injectException, readGpr, writeGprs } from "./completion.ts";
import {
  contextOf,
  eptp12Of,
  fillShadow,
  keepVectoring,
  policyOf,
} from "./context.ts";
import { exceptionOfL1 } from "./exceptions.ts";
import { vmxInstruction } from "./instructions.ts";
import { linearIsUser } from "./linear_mode.ts";
import { type L0, NO_POINTER, vmcs12Of } from "./nested_state.ts";
import { reflect } from "./reflect.ts";
import { CR0_OWNED, CR4_OWNED } from "./vmcs01.ts";
import { clearEntryEvents } from "./vmcs02.ts";

/**
 * Modelled cost of a VM exit and entry in host cycles. Statistics only: it
 * never enters virtual time. About what vmexit benches show on current CPUs.
 */
export const EXIT_COST = 1200;

/**
 * Deals with one exit.
 * @returns whether hardware shall now resume the current VMCS
 */
export function onExit(l0: L0): boolean {
  const { operations: ops, cells, cpu } = l0;
  const field = Number(ops.vmread(F.ExitReason));
  const reason = field & 0xffff;
  const level = cells.inL2 ? 2 : 1;
  let handled = true;
  if (cells.inL2) handled = exitOfL2(l0, field);
  else if (reason === ExitReason.TripleFault) {
    l0.stop("triple fault", TRIPLE_FAULT_EXIT);
    return false;
  } else if (reason === ExitReason.ExceptionOrNmi) {
    clearEntryEvents(l0);
    if (!exceptionOfL1(l0, l0.watcher)) return false;
  } else exitOfL1(l0, reason, field);
  if (handled && cpu.facts.wants(ExitHandled)) {
    cpu.facts.emit(ExitHandled, {
      cpu: cpu.index,
      level,
      reason,
      cost: EXIT_COST,
    });
  }
  return true;
}

const VMX_INSTRUCTIONS: ReadonlySet<number> = new Set([
  ExitReason.Vmcall,
  ExitReason.Vmclear,
  ExitReason.Vmlaunch,
  ExitReason.Vmptrld,
  ExitReason.Vmptrst,
  ExitReason.Vmread,
  ExitReason.Vmresume,
  ExitReason.Vmwrite,
  ExitReason.Vmxoff,
  ExitReason.Vmxon,
  ExitReason.Invept,
  ExitReason.Invvpid,
]);

function exitOfL1(l0: L0, reason: number, field: number): void {
  const { operations: ops } = l0;
  ops.vmwrite(F.EntryInterruptionInformation, 0n);
  if (field & ENTRY_FAILURE) {
    throw new Error(
      `L0 cannot enter L1: ${exitReasonTitle(reason)}, qualification ${
        ops.vmread(F.ExitQualification)
      }`,
    );
  }
  if (VMX_INSTRUCTIONS.has(reason)) return vmxInstruction(l0, reason);
  switch (reason) {
    case ExitReason.Cpuid:
      return doCpuid(l0);
    case ExitReason.Rdmsr:
      return rdmsr(l0);
    case ExitReason.Wrmsr:
      return wrmsr(l0);
    case ExitReason.ControlRegister:
      return controlRegister(l0);
    case ExitReason.Xsetbv:
      // XCR0 is L1's: L0 uses no state that it controls.
      if (xsetbvValue(l0.cpu) === undefined) {
        return injectException(l0, Vector.GP, 0);
      }
      xsetbv(l0.cpu);
      return complete(l0);
    case ExitReason.Invd:
      return complete(l0);
    case ExitReason.Vmfunc:
    case ExitReason.Getsec:
      return injectException(l0, Vector.UD);
    default:
      throw new NotModelled(
        `L0 exit of L1: ${exitReasonTitle(reason)}`,
        "SDM 3C appendix C",
      );
  }
}

function doCpuid(l0: L0): void {
  const { cpu, operations: ops } = l0;
  const apicBase = ops.rdmsr(0x1b) ?? 0n;
  const [eax, ebx, ecx, edx] = cpuid(
    cpu.model,
    {
      cpuIndex: cpu.index,
      cpuCount: cpu.layout.cpus,
      cr4: Number(ops.vmread(F.GuestCr4)),
      xcr0: Number(cpu.v.quad(VCPU.xcr0)),
      xss: Number(cpu.v.msr(MsrSlot.Xss)),
      apicEnabled: (apicBase & 0x800n) !== 0n,
      longMode: (Number(ops.vmread(F.GuestEfer)) & Efer.LMA) !== 0 &&
        (Number(ops.vmread(F.GuestCsAttributes)) & 1 << 13) !== 0,
      virtualization: true,
    },
    cpu.v.gpr32(Gpr.RAX),
    cpu.v.gpr32(Gpr.RCX),
  );
  writeGprs(l0, [
    [Gpr.RAX, BigInt(eax)],
    [Gpr.RCX, BigInt(ecx)],
    [Gpr.RDX, BigInt(edx)],
    [Gpr.RBX, BigInt(ebx)],
  ]);
  complete(l0);
}

function rdmsr(l0: L0): void {
  const index = l0.cpu.v.gpr32(Gpr.RCX);
  const value = index === VmxMsr.FeatureControl
    ? l0.cells.featureControl
    : l0.capabilities.msr(index) ?? l0.operations.rdmsr(index);
  if (value === undefined || hiddenCapability(l0, index)) {
    return injectException(l0, Vector.GP, 0);
  }
  writeGprs(l0, [
    [Gpr.RAX, value & 0xffff_ffffn],
    [Gpr.RDX, value >> 32n],
  ]);
  complete(l0);
}

/** A capability MSR that hardware has and L1's processor does not. */
function hiddenCapability(l0: L0, index: number): boolean {
  return index >= VmxMsr.Basic && index <= VmxMsr.VmFunctions &&
    l0.capabilities.msr(index) === undefined;
}

function wrmsr(l0: L0): void {
  const { cells, cpu } = l0;
  const index = cpu.v.gpr32(Gpr.RCX);
  const value = BigInt(cpu.v.gpr32(Gpr.RDX)) << 32n |
    BigInt(cpu.v.gpr32(Gpr.RAX));
  const locked = (Number(cells.featureControl) & FeatureControl.Lock) !== 0;
  const settable = BigInt(FeatureControl.Lock | FeatureControl.VmxonOutsideSmx);
  if (
    index !== VmxMsr.FeatureControl || locked || (value & ~settable) !== 0n
  ) return injectException(l0, Vector.GP, 0);
  cells.featureControl = value;
  complete(l0);
}

/**
 * MOV to CR0 or CR4 that differs from the shadow in a bit L0 owns: L0 adopts
 * that bit into the shadow and lets the instruction run again, so that hardware
 * does the rest with all its checks.
 */
function controlRegister(l0: L0): void {
  const { operations: ops, capabilities, cells } = l0;
  const qualification = Number(ops.vmread(F.ExitQualification));
  const number = qualification & 0xf;
  const type = (qualification >>> 4) & 3;
  const value = Number(
    readGpr(l0, (qualification >>> 8) & 15) & 0xffff_ffffn,
  );
  if (type !== 0 || (number !== 0 && number !== 4)) {
    throw new NotModelled(
      `L0 control-register exit of L1: ${qualification}`,
      "SDM 3C table 28-3",
    );
  }
  const owned = number === 0 ? CR0_OWNED : CR4_OWNED;
  const shadow = number === 0 ? F.Cr0Shadow : F.Cr4Shadow;
  const inVmx = cells.vmxon12 !== NO_POINTER;
  const fixed = number === 0 ? Cr0.NE : Cr4.VMXE;
  const refused = (number === 4 && (value & ~capabilities.cr4.may1) !== 0) ||
    (inVmx && (value & fixed) === 0);
  if (refused) return injectException(l0, Vector.GP, 0);
  const old = Number(ops.vmread(shadow));
  ops.vmwrite(shadow, BigInt((old & ~owned | value & owned) >>> 0));
}

/** @returns false when the exit went to L1 */
function exitOfL2(l0: L0, field: number): boolean {
  const reason = field & 0xffff;
  clearEntryEvents(l0);
  if (field & ENTRY_FAILURE) {
    reflect(l0);
    return false;
  }
  if (l0.extension !== undefined && eptp12Of(l0) !== 0n) {
    const decision = l0.extension.exited(contextOf(l0), reason);
    if (decision === Decision.Resume) return true;
    if (decision === Decision.Reflected) return false;
  }
  switch (reason) {
    case ExitReason.EptViolation:
      return violation(l0);
    case ExitReason.Rdmsr:
    case ExitReason.Wrmsr:
      return msrOfL2(l0, reason);
  }
  reflect(l0);
  return false;
}

/** A violation in the shadow: L1's policy decides whose it is. */
function violation(l0: L0): boolean {
  const { operations: ops, cells } = l0;
  const page = Math.floor(Number(ops.vmread(F.GuestPhysicalAddress)) / 4096);
  const walk = policyOf(l0, page);
  const hardware = Number(ops.vmread(F.ExitQualification));
  if (walk.kind === "misconfigured") {
    reflect(l0, MISCONFIGURATION);
    return false;
  }
  const rights = walk.kind === "mapped" ? walk.entry.rights : 0;
  if (!permitted(l0, hardware, rights)) {
    reflect(l0, { qualification: rebuiltQualification(l0, hardware, rights) });
    return false;
  }
  if (walk.kind === "mapped") fillShadow(l0, cells.view, page, walk.entry);
  keepVectoring(l0);
  return true;
}

/** Whether L1's rights allow the access that the qualification describes. */
function permitted(l0: L0, qualification: number, rights: number): boolean {
  const { operations: ops } = l0;
  if (rights === 0) return false;
  if (qualification & 4) {
    // MBEC in hardware: bit 9 or guest paging says which execute bit counts.
    return (rights &
      (userLinear(l0, ops.vmread(F.GuestLinearAddress)) ? XU : XS)) !== 0;
  }
  if (qualification & 2 && !(rights & 2)) return false;
  return !(qualification & 1) || (rights & 1) !== 0;
}

const XS = 4;
const XU = 0x400;

function userLinear(l0: L0, linear: bigint): boolean {
  return mbecInForce(l0) && linearIsUser(l0, linear);
}
function mbecInForce(l0: L0): boolean {
  const { secondary } = effectiveControls(vmcs12Of(l0));
  return (secondary & Secondary.ModeBasedExecute) !== 0;
}

/** Qualification with bits 3–6 as L1's own entries have them (reference §1.4). */
export function rebuiltQualification(
  l0: L0,
  hardware: number,
  rights: number,
): bigint {
  let q = hardware & ~0x78;
  q |= (rights & 7) << 3;
  if (mbecInForce(l0) && rights & XU) q |= 1 << 6;
  return BigInt(q);
}

/** L2's access to an MSR that only L0 intercepts behaves as on hardware. */
function msrOfL2(l0: L0, reason: number): boolean {
  const { cpu } = l0;
  const index = cpu.v.gpr32(Gpr.RCX);
  const write = reason === ExitReason.Wrmsr;
  if (wantedByL1(l0, index, write)) {
    reflect(l0);
    return false;
  }
  const value = index === VmxMsr.FeatureControl
    ? l0.cells.featureControl
    : l0.capabilities.msr(index);
  if (write || value === undefined) {
    injectException(l0, Vector.GP, 0);
    return true;
  }
  writeGprs(l0, [[Gpr.RAX, value & 0xffff_ffffn], [Gpr.RDX, value >> 32n]]);
  complete(l0);
  return true;
}

/** SDM 3C §25.6.9. */
function wantedByL1(l0: L0, index: number, write: boolean): boolean {
  const vmcs12 = vmcs12Of(l0);
  if (!(effectiveControls(vmcs12).primary & Primary.MsrBitmaps)) return true;
  const low = index < 0x2000;
  const high = index >= 0xc0000000 && index < 0xc0002000;
  if (!low && !high) return true;
  const at = Number(vmcs12.read(F.MsrBitmaps)) + (high ? 0x400 : 0) +
    (write ? 0x800 : 0) + ((index & 0x1fff) >>> 3);
  return (Number(l0.cpu.physical.read(at, 1)) & 1 << (index & 7)) !== 0;
}
