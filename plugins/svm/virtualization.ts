/**
 * SVM as the machine loop and the procedures see it: `VirtualizationPort`
 * (APM 2 §15.7–15.21): what in guest mode exits, is masked or shifted, and what
 * GIF holds off.
 */
import { Vector } from "../../cpu/arch/exceptions.ts";
import { Efer, Rflags } from "../../cpu/arch/flags.ts";
import { Intercept, type InterceptId } from "../../cpu/arch/intercepts.ts";
import { DebugCtl, MsrSlot } from "../../cpu/arch/msr.ts";
import type { CpuContext } from "../../cpu/context.ts";
import type { Insn } from "../../cpu/isa/insn.ts";
import type { OutcomeCode } from "../../cpu/isa/row.ts";
import { ActivityChanged } from "../../cpu/facts.ts";
import {
  ActivityState,
  EventRequest,
  GuestMode,
  Interruptibility,
} from "../../cpu/layout.ts";
import type { DeliveredEvent, VirtualizationPort } from "../../cpu/port.ts";
import { DR6_FIXED } from "../../cpu/semantics/system/delivery.ts";
import { EventType } from "../../cpu/semantics/system/events.ts";
import { TaskSource } from "../../cpu/semantics/system/task.ts";
import { IntCtl, InterceptBit, VmCr } from "./controls.ts";
import { abandonGuest, vmExit } from "./exit.ts";
import { ExitCode } from "./exit_codes.ts";
import { executeSvm } from "./instructions.ts";
import { interceptExit } from "./intercepts.ts";
import {
  isFarTransfer,
  recordBranch,
  recordException,
  recording,
  tookNearBranch,
} from "./lbr.ts";
import { svmMsr } from "./msrs.ts";
import {
  hasFlag,
  intercepted,
  SCRATCH,
  setFlag,
  SvmFlag,
  tscRatio,
} from "./scratch.ts";
import type { SvmUnit } from "./unit.ts";

const DR7_GD = 1n << 13n;
const DR6_B = 0xfn;
/** EXITINFO2 of a task switch (APM 2 §15.14.1). */
const TaskInfo = {
  Iret: 1n << 36n,
  Jump: 1n << 38n,
  ErrorCode: 1n << 44n,
  ResumeFlag: 1n << 48n,
} as const;
const FETCH = 1n << 4n;

/** See the file header. */
export class SvmVirtualization implements VirtualizationPort {
  constructor(private readonly unit: SvmUnit) {}

  intercept(
    cpu: CpuContext,
    id: InterceptId,
    insn: Insn,
    detail: number,
  ): boolean {
    if (cpu.v.guestMode !== GuestMode.Svm) return false;
    const exit = interceptExit(id, { cpu, insn, detail });
    if (exit === undefined) {
      // Stores to the monitored line are not seen: events and MWAIT disarm.
      if (id === Intercept.Monitor) setFlag(cpu.v, SvmFlag.MonitorArmed, true);
      if (id === Intercept.Mwait) setFlag(cpu.v, SvmFlag.MonitorArmed, false);
      return false;
    }
    vmExit(this.unit, cpu, exit);
    return true;
  }

  interceptException(cpu: CpuContext): boolean {
    const { v } = cpu;
    const pending = v.pending;
    if (v.guestMode !== GuestMode.Svm || pending === undefined) return false;
    const { vector, errorCode, payload, software } = pending;
    if (!intercepted(v, InterceptBit.Exception + vector)) return false;
    if (vector === Vector.DB) {
      // §15.12.2: DR6 and DR7 are as a #DB handler would find them.
      v.setDr(6, (v.dr(6) & ~DR6_B) | DR6_FIXED | payload);
      v.setDr(7, v.dr(7) & ~DR7_GD);
      const recording = DebugCtl.LBR | DebugCtl.BTF;
      v.setMsr(MsrSlot.DebugCtl, v.msr(MsrSlot.DebugCtl) & ~recording);
    }
    const code = errorCode >= 0 ? BigInt(errorCode) : 0n;
    const fault = vector === Vector.PF;
    vmExit(this.unit, cpu, {
      code: ExitCode.Exception + vector,
      info1: code,
      info2: fault ? payload : 0n,
      nextRip: software ? cpu.nextRip : 0n,
      bytes: fault && !(code & FETCH),
    });
    return true;
  }

  /** The interrupt stays pending until the host takes it (§15.13.1). */
  interceptInterrupt(cpu: CpuContext): boolean {
    if (!intercepted(cpu.v, InterceptBit.Intr)) return false;
    vmExit(this.unit, cpu, { code: ExitCode.Intr });
    return true;
  }

  interceptNmi(cpu: CpuContext): boolean {
    if (!intercepted(cpu.v, InterceptBit.Nmi)) return false;
    // Stays pending until the host sets GIF (§15.13.2).
    cpu.v.eventRequest |= EventRequest.Nmi;
    vmExit(this.unit, cpu, { code: ExitCode.Nmi });
    return true;
  }

  interceptSmi(cpu: CpuContext): boolean {
    if (!intercepted(cpu.v, InterceptBit.Smi)) return false;
    cpu.v.eventRequest |= EventRequest.Smi;
    vmExit(this.unit, cpu, { code: ExitCode.Smi });
    return true;
  }

  interceptInit(cpu: CpuContext): boolean {
    if (!intercepted(cpu.v, InterceptBit.Init)) {
      // INIT resets the processor, guest mode with it.
      abandonGuest(this.unit, cpu);
      return false;
    }
    cpu.v.eventRequest |= EventRequest.Init;
    vmExit(this.unit, cpu, { code: ExitCode.Init });
    return true;
  }

  stage2Fault(cpu: CpuContext): void {
    const fault = cpu.v.stage2;
    if (fault === undefined) {
      throw new RangeError("stage-2 fault without its description");
    }
    vmExit(this.unit, cpu, {
      code: ExitCode.Npf,
      info1: fault.qualification,
      info2: BigInt(fault.guestPhysicalAddress),
      bytes: !(fault.qualification & FETCH),
    });
  }

  tripleFault(cpu: CpuContext): void {
    if (intercepted(cpu.v, InterceptBit.Shutdown)) {
      vmExit(this.unit, cpu, { code: ExitCode.Shutdown });
      return;
    }
    // §15.14.3: without the intercept the processor itself shuts down.
    cpu.v.activity = ActivityState.Shutdown;
    cpu.attention = true;
    cpu.facts.emit(ActivityChanged, {
      cpu: cpu.index,
      activity: ActivityState.Shutdown,
    });
  }

  interceptTaskSwitch(
    cpu: CpuContext,
    selector: number,
    source: number,
  ): boolean {
    const { v } = cpu;
    if (
      v.guestMode !== GuestMode.Svm ||
      !intercepted(v, InterceptBit.TaskSwitch)
    ) return false;
    const event = cpu.delivering;
    const errorCode = event?.errorCode ?? -1;
    let info2 = errorCode >= 0 ? BigInt(errorCode) | TaskInfo.ErrorCode : 0n;
    if (source === TaskSource.Iret) info2 |= TaskInfo.Iret;
    if (source === TaskSource.Jump) info2 |= TaskInfo.Jump;
    if (v.rflags & Rflags.RF) info2 |= TaskInfo.ResumeFlag;
    vmExit(this.unit, cpu, {
      code: ExitCode.TaskSwitch,
      info1: BigInt(selector),
      info2,
    });
    return true;
  }

  execute(cpu: CpuContext, insn: Insn): OutcomeCode {
    return executeSvm(this.unit, cpu, insn);
  }

  boundary(cpu: CpuContext, stage: number): boolean {
    if (cpu.v.guestMode !== GuestMode.Svm) return false;
    if (stage === 1) return this.virtualNmi(cpu);
    return stage === 3 && this.virtualInterrupt(cpu);
  }

  /** GIF of the virtual machine: V_GIF where it is in use, else 1. */
  private virtualGif(cpu: CpuContext): boolean {
    const intCtl = cpu.v.word(SCRATCH.intCtl);
    return !(intCtl & IntCtl.GifEnable) || (intCtl & IntCtl.Gif) !== 0;
  }

  /** V_NMI (§15.21.10). */
  private virtualNmi(cpu: CpuContext): boolean {
    const { v } = cpu;
    const intCtl = v.word(SCRATCH.intCtl);
    if (
      !(intCtl & IntCtl.NmiEnable) || !(intCtl & IntCtl.Nmi) ||
      intCtl & IntCtl.NmiMask || !this.virtualGif(cpu) ||
      v.interruptibility & Interruptibility.BySti
    ) return false;
    v.setWord(SCRATCH.intCtl, intCtl & ~IntCtl.Nmi);
    const { exits } = this.unit;
    cpu.deliver({
      vector: Vector.NMI,
      type: EventType.Nmi,
      errorCode: -1,
      instructionLength: 0,
    }, 0n);
    if (this.unit.exits === exits) {
      this.unit.virtualNmiTaken(cpu);
      this.unit.request(cpu);
    }
    return true;
  }

  /** V_IRQ (§15.21.4), asked with RFLAGS.IF = 1 and no interrupt shadow. */
  private virtualInterrupt(cpu: CpuContext): boolean {
    const { v } = cpu;
    const intCtl = v.word(SCRATCH.intCtl);
    if (!(intCtl & IntCtl.Irq) || !this.virtualGif(cpu)) return false;
    const priority = (intCtl & IntCtl.PriorityMask) >>> IntCtl.PriorityShift;
    if (
      !(intCtl & IntCtl.IgnoreTpr) && priority <= (intCtl & IntCtl.TprMask)
    ) return false;
    if (intercepted(v, InterceptBit.Vintr)) {
      vmExit(this.unit, cpu, { code: ExitCode.Vintr });
      return true;
    }
    v.setWord(SCRATCH.intCtl, intCtl & ~IntCtl.Irq);
    const { exits } = this.unit;
    cpu.deliver({
      vector: v.word(SCRATCH.intVector),
      type: EventType.External,
      errorCode: -1,
      instructionLength: 0,
    }, 0n);
    if (this.unit.exits === exits) this.unit.request(cpu);
    return true;
  }

  delivering(_cpu: CpuContext, _event: DeliveredEvent | undefined): void {}

  /** IRET: with virtual NMIs it ends V_NMI_MASK and leaves physical blocking. */
  keepsNmiBlocking(cpu: CpuContext): boolean {
    const { v } = cpu;
    const intCtl = v.word(SCRATCH.intCtl);
    if (v.guestMode !== GuestMode.Svm || !(intCtl & IntCtl.NmiEnable)) {
      return false;
    }
    v.setWord(SCRATCH.intCtl, intCtl & ~IntCtl.NmiMask);
    return true;
  }

  readCr(_cpu: CpuContext, _which: number, value: number): number {
    return value;
  }

  /** Scaled by TSC_RATIO, then offset (§15.30.5). */
  tscOffset(cpu: CpuContext, tsc: bigint): bigint {
    const { v } = cpu;
    if (v.guestMode !== GuestMode.Svm) return tsc;
    const scaled = (tsc * tscRatio(v)) >> 32n;
    return scaled + v.quad(SCRATCH.tscOffset);
  }

  crRefused(): boolean {
    return false;
  }

  /** VM_CR.SVMDIS makes EFER.SVME reserved (§15.30.1). */
  eferRefused(cpu: CpuContext, value: number): boolean {
    return (value & Efer.SVME) !== 0 &&
      (cpu.v.quad(SCRATCH.vmCr) & VmCr.SvmDisable) !== 0n;
  }

  readMsr(cpu: CpuContext, index: number): bigint | undefined {
    return svmMsr(cpu, index)?.read(cpu);
  }

  writeMsr(cpu: CpuContext, index: number, value: bigint): boolean | undefined {
    return svmMsr(cpu, index)?.write(cpu, value);
  }

  initBlocked(cpu: CpuContext): boolean {
    return this.eventsHeld(cpu);
  }

  /** GIF = 0. */
  eventsHeld(cpu: CpuContext): boolean {
    return hasFlag(cpu.v, SvmFlag.GifClear);
  }

  acceptsMaskedInterrupt(cpu: CpuContext): boolean {
    return this.interruptsOpen(cpu);
  }

  /** Whether RFLAGS.IF of the guest or, under V_INTR_MASKING, of the host lets INTR in. */
  interruptsOpen(cpu: CpuContext): boolean {
    const { v } = cpu;
    return v.word(SCRATCH.intCtl) & IntCtl.IntrMasking
      ? hasFlag(v, SvmFlag.HostIf)
      : (v.rflags & Rflags.IF) !== 0;
  }

  /** V_TPR stands for CR8 under V_INTR_MASKING. */
  readCr8(cpu: CpuContext): number | undefined {
    const intCtl = this.maskingIntCtl(cpu);
    return intCtl === undefined ? undefined : intCtl & IntCtl.TprMask;
  }

  writeCr8(cpu: CpuContext, value: number): boolean {
    const intCtl = this.maskingIntCtl(cpu);
    if (intCtl === undefined) return false;
    cpu.v.setWord(SCRATCH.intCtl, intCtl & ~IntCtl.TprMask | value);
    this.unit.request(cpu);
    return true;
  }

  private maskingIntCtl(cpu: CpuContext): number | undefined {
    const intCtl = cpu.v.word(SCRATCH.intCtl);
    return cpu.v.guestMode === GuestMode.Svm && intCtl & IntCtl.IntrMasking
      ? intCtl
      : undefined;
  }

  branchRecords(cpu: CpuContext): boolean {
    return recording(cpu.v) && cpu.model.has("lbrv");
  }

  executed(cpu: CpuContext, rip: bigint, insn: Insn | undefined): void {
    const branch = insn === undefined
      ? tookNearBranch(cpu, rip)
      : isFarTransfer(insn.row.name);
    if (branch) recordBranch(cpu.v, rip, cpu.v.rip);
  }

  eventDelivered(cpu: CpuContext, rip: bigint): void {
    if (cpu.v.guestMode === GuestMode.Svm) {
      setFlag(cpu.v, SvmFlag.MonitorArmed, false);
    }
    if (this.branchRecords(cpu)) recordException(cpu.v, rip, cpu.v.rip);
  }
}
