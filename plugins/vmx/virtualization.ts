/**
 * VMX as the machine loop and the procedures see it: `VirtualizationPort`
 * (SDM 3C ch. 26): what in VMX non-root operation exits, is masked or shifted.
 */
import { Vector } from "../../cpu/arch/exceptions.ts";
import { Rflags } from "../../cpu/arch/flags.ts";
import { Intercept, type InterceptId } from "../../cpu/arch/intercepts.ts";
import type { CpuContext } from "../../cpu/context.ts";
import type { Insn } from "../../cpu/isa/insn.ts";
import type { OutcomeCode } from "../../cpu/isa/row.ts";
import {
  ActivityState,
  GuestMode,
  Interruptibility,
} from "../../cpu/layout.ts";
import type { DeliveredEvent, VirtualizationPort } from "../../cpu/port.ts";
import { controlsAllowed, Exit, Pin, Primary, Secondary } from "./controls.ts";
import { interruptionInformation, vmExit } from "./exit.ts";
import { ExitReason, InterruptionType } from "./exit_reasons.ts";
import { executeVmx, interceptVmx } from "./instructions.ts";
import { interceptRow } from "./intercepts.ts";
import {
  entryStep,
  hasFlag,
  setFlag,
  setNmiUnblockedIn,
  VmxFlag,
} from "./scratch.ts";
import type { VmxUnit } from "./unit.ts";
import { VmcsField as F } from "./vmcs_fields.ts";

/** Valid bits of a #DB exit qualification: B3–B0, BD, BS. */
const DEBUG_QUALIFICATION = 0x600fn;
const BLOCKED = Interruptibility.BySti | Interruptibility.ByMovSs;

/** See the file header. */
export class VmxVirtualization implements VirtualizationPort {
  constructor(private readonly unit: VmxUnit) {}

  intercept(
    cpu: CpuContext,
    id: InterceptId,
    insn: Insn,
    detail: number,
  ): boolean {
    if (cpu.v.guestMode !== GuestMode.Vmx) return false;
    if (id === Intercept.Virtualization) {
      return interceptVmx(this.unit, cpu, insn);
    }
    const row = interceptRow(id);
    if (row === undefined) return false;
    const vmcs = this.unit.guest(cpu);
    const controls = this.unit.controls(cpu);
    const question = { cpu, insn, vmcs, controls, detail };
    if (!row.exits(question)) return false;
    vmExit(this.unit, cpu, {
      reason: row.reason,
      instructionLength: insn.length,
      resumeFlag: false,
      ...row.report?.(question),
    });
    return true;
  }

  disabled(cpu: CpuContext, id: InterceptId): boolean {
    if (cpu.v.guestMode !== GuestMode.Vmx) return false;
    const { secondary } = this.unit.controls(cpu);
    if (id === Intercept.Rdtscp || id === Intercept.Rdpid) {
      return !(secondary & Secondary.Rdtscp);
    }
    if (id === Intercept.Xsaves || id === Intercept.Xrstors) {
      return !(secondary & Secondary.EnableXsaves);
    }
    if (id === Intercept.Invpcid) return !(secondary & Secondary.Invpcid);
    return false;
  }

  interceptException(cpu: CpuContext): boolean {
    const { v } = cpu;
    const pending = v.pending;
    if (v.guestMode !== GuestMode.Vmx || pending === undefined) return false;
    const vmcs = this.unit.guest(cpu);
    const { vector, errorCode, payload, software } = pending;
    let exits = (vmcs.read32(F.ExceptionBitmap) >>> vector & 1) !== 0;
    if (vector === Vector.PF) {
      // SDM 3C §25.6.3: mask and match turn the bit's meaning around.
      const masked = errorCode & vmcs.read32(F.PageFaultErrorMask);
      const equal = masked >>> 0 === vmcs.read32(F.PageFaultErrorMatch);
      exits = equal === exits;
    }
    if (!exits) return false;
    // INT1 raises #DB as a privileged software exception.
    const type = !software
      ? InterruptionType.HardwareException
      : vector === Vector.DB
      ? InterruptionType.PrivilegedSoftwareException
      : InterruptionType.SoftwareException;
    const length = software ? Number(cpu.nextRip - v.rip) : 0;
    const fault = type === InterruptionType.HardwareException &&
      vector !== Vector.DB && vector !== Vector.DF && vector !== Vector.MC;
    vmExit(this.unit, cpu, {
      reason: ExitReason.ExceptionOrNmi,
      qualification: vector === Vector.PF
        ? payload
        : vector === Vector.DB
        ? payload & DEBUG_QUALIFICATION
        : 0n,
      interruptionInfo: interruptionInformation({
        vector,
        type,
        errorCode,
        instructionLength: 0,
      }),
      interruptionErrorCode: errorCode >= 0 ? errorCode : 0,
      instructionLength: software ? length : undefined,
      resumeFlag: fault ? true : undefined,
    });
    return true;
  }

  interceptInterrupt(cpu: CpuContext): boolean {
    const c = this.unit.controls(cpu);
    if (!(c.pin & Pin.ExternalInterruptExiting)) return false;
    const acknowledge = (c.exit & Exit.AcknowledgeInterrupt) !== 0;
    const interruptionInfo = acknowledge
      ? interruptionInformation({
        vector: cpu.interrupts.acknowledge(cpu.index),
        type: InterruptionType.External,
        errorCode: -1,
        instructionLength: 0,
      })
      : 0;
    const reason = ExitReason.ExternalInterrupt;
    vmExit(this.unit, cpu, { reason, interruptionInfo });
    return true;
  }

  acceptsMaskedInterrupt(cpu: CpuContext): boolean {
    return cpu.v.guestMode === GuestMode.Vmx &&
      (this.unit.controls(cpu).pin & Pin.ExternalInterruptExiting) !== 0;
  }

  interceptNmi(cpu: CpuContext): boolean {
    if (!(this.unit.controls(cpu).pin & Pin.NmiExiting)) return false;
    vmExit(this.unit, cpu, {
      reason: ExitReason.ExceptionOrNmi,
      interruptionInfo: interruptionInformation({
        vector: Vector.NMI,
        type: InterruptionType.Nmi,
        errorCode: -1,
        instructionLength: 0,
      }),
    });
    return true;
  }

  interceptInit(cpu: CpuContext): boolean {
    vmExit(this.unit, cpu, { reason: ExitReason.Init });
    return true;
  }

  interceptSipi(cpu: CpuContext, vector: number): boolean {
    vmExit(this.unit, cpu, {
      reason: ExitReason.Sipi,
      qualification: BigInt(vector),
    });
    return true;
  }

  stage2Fault(cpu: CpuContext): void {
    const fault = cpu.v.stage2;
    if (fault === undefined) {
      throw new RangeError("stage-2 fault without its description");
    }
    const linearValid = (fault.qualification & 0x80n) !== 0n;
    vmExit(this.unit, cpu, {
      reason: fault.misconfiguration
        ? ExitReason.EptMisconfiguration
        : ExitReason.EptViolation,
      qualification: fault.misconfiguration ? 0n : fault.qualification,
      guestPhysical: fault.guestPhysicalAddress,
      guestLinear: !fault.misconfiguration && linearValid
        ? fault.guestLinearAddress
        : 0n,
      // During a delivery RF is as in the saved image, which we leave alone.
      resumeFlag: cpu.delivering === undefined ? true : undefined,
    });
  }

  tripleFault(cpu: CpuContext): void {
    vmExit(this.unit, cpu, { reason: ExitReason.TripleFault });
  }

  interceptTaskSwitch(
    cpu: CpuContext,
    selector: number,
    source: number,
  ): boolean {
    if (cpu.v.guestMode !== GuestMode.Vmx) return false;
    const instruction = cpu.delivering === undefined;
    vmExit(this.unit, cpu, {
      reason: ExitReason.TaskSwitch,
      qualification: BigInt(selector) | BigInt(source) << 30n,
      instructionLength: instruction
        ? Number(cpu.nextRip - cpu.v.rip)
        : undefined,
    });
    return true;
  }

  execute(cpu: CpuContext, insn: Insn): OutcomeCode {
    return executeVmx(this.unit, cpu, insn);
  }

  boundary(cpu: CpuContext, stage: number): boolean {
    const { v } = cpu;
    if (v.guestMode !== GuestMode.Vmx) return false;
    const c = this.unit.controls(cpu);
    switch (stage) {
      case 0:
        return this.monitorTrap(cpu, c.primary) || this.timer(cpu);
      case 1:
        return this.nmiWindow(cpu, c.primary);
      default:
        return this.interruptWindow(cpu, c.primary);
    }
  }

  private exitAt(cpu: CpuContext, reason: number): true {
    vmExit(this.unit, cpu, { reason });
    return true;
  }

  private monitorTrap(cpu: CpuContext, primary: number): boolean {
    const { v } = cpu;
    if (
      hasFlag(v, VmxFlag.MtfPending) ||
      (primary & Primary.MonitorTrapFlag && v.step > entryStep(v))
    ) return this.exitAt(cpu, ExitReason.MonitorTrapFlag);
    return false;
  }

  /** After debug traps, before NMIs, and whatever is blocked. */
  private timer(cpu: CpuContext): boolean {
    const { v } = cpu;
    const trap = v.pendingDebug !== 0 &&
      !(v.interruptibility & Interruptibility.ByMovSs);
    return !trap && this.unit.timerExpired(cpu) &&
      v.activity !== ActivityState.WaitForSipi &&
      this.exitAt(cpu, ExitReason.PreemptionTimer);
  }

  private nmiWindow(cpu: CpuContext, primary: number): boolean {
    const { v } = cpu;
    return (primary & Primary.NmiWindowExiting) !== 0 &&
      !hasFlag(v, VmxFlag.VirtualNmiBlocking) &&
      (v.interruptibility & Interruptibility.ByMovSs) === 0 &&
      v.activity !== ActivityState.WaitForSipi &&
      this.exitAt(cpu, ExitReason.NmiWindow);
  }

  private interruptWindow(cpu: CpuContext, primary: number): boolean {
    const { v } = cpu;
    return (primary & Primary.InterruptWindowExiting) !== 0 &&
      (v.rflags & Rflags.IF) !== 0 && (v.interruptibility & BLOCKED) === 0 &&
      v.activity <= ActivityState.Hlt &&
      this.exitAt(cpu, ExitReason.InterruptWindow);
  }

  delivering(_cpu: CpuContext, _event: DeliveredEvent | undefined): void {
    // IDT-vectoring information is made from `cpu.delivering` at the exit.
  }

  readCr(cpu: CpuContext, which: number, value: number): number {
    if (cpu.v.guestMode !== GuestMode.Vmx || (which !== 0 && which !== 4)) {
      return value;
    }
    const vmcs = this.unit.guest(cpu);
    const mask = vmcs.read32(which === 0 ? F.Cr0Mask : F.Cr4Mask);
    const shadow = vmcs.read32(which === 0 ? F.Cr0Shadow : F.Cr4Shadow);
    return ((value & ~mask) | (shadow & mask)) >>> 0;
  }

  writeCr(cpu: CpuContext, which: number, value: number): number {
    const { v } = cpu;
    if (v.guestMode !== GuestMode.Vmx || (which !== 0 && which !== 4)) {
      return value;
    }
    const vmcs = this.unit.guest(cpu);
    const mask = vmcs.read32(which === 0 ? F.Cr0Mask : F.Cr4Mask);
    const real = which === 0 ? v.cr0 : v.cr4;
    return ((value & ~mask) | (real & mask)) >>> 0;
  }

  tscOffset(cpu: CpuContext, tsc: bigint): bigint {
    if (cpu.v.guestMode !== GuestMode.Vmx) return tsc;
    const c = this.unit.controls(cpu);
    if (!(c.primary & Primary.TscOffsetting)) return tsc;
    const vmcs = this.unit.guest(cpu);
    // SDM 3C §26.3: scaling applies only together with offsetting.
    const scaled = c.secondary & Secondary.TscScaling
      ? (tsc * vmcs.read(F.TscMultiplier)) >> 48n
      : tsc;
    return (scaled + vmcs.read(F.TscOffset)) & 0xffff_ffff_ffff_ffffn;
  }

  crRefused(cpu: CpuContext, which: number, value: number): boolean {
    const { v } = cpu;
    if (!hasFlag(v, VmxFlag.Operation)) return false;
    if (which !== 0 && which !== 4) return false;
    const { cr0, cr4 } = this.unit.capabilities;
    if (which === 4) return !controlsAllowed(value, cr4);
    const free = v.guestMode === GuestMode.Vmx &&
        this.unit.controls(cpu).secondary & Secondary.UnrestrictedGuest
      ? 0x8000_0001
      : 0;
    return !controlsAllowed((value | free) >>> 0, cr0);
  }

  readMsr(_cpu: CpuContext, index: number): bigint | undefined {
    return this.unit.capabilities.msr(index);
  }

  writeMsr(): boolean | undefined {
    // Capability MSRs are read-only; everything else is somebody else's.
    return undefined;
  }

  keepsNmiBlocking(cpu: CpuContext): boolean {
    const { v } = cpu;
    if (v.guestMode !== GuestMode.Vmx) return false;
    const { pin } = this.unit.controls(cpu);
    if (pin & Pin.VirtualNmis) {
      if (hasFlag(v, VmxFlag.VirtualNmiBlocking)) {
        setNmiUnblockedIn(v, v.step + 1);
        setFlag(v, VmxFlag.VirtualNmiBlocking, false);
      }
      return true;
    }
    if (pin & Pin.NmiExiting) return true;
    if (v.interruptibility & Interruptibility.ByNmi) {
      setNmiUnblockedIn(v, v.step + 1);
    }
    return false;
  }

  initBlocked(cpu: CpuContext): boolean {
    // INIT is blocked in VMX root operation; in the guest it exits.
    return hasFlag(cpu.v, VmxFlag.Operation) &&
      cpu.v.guestMode === GuestMode.None;
  }
}
