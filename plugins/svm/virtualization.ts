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
import {
  EVENT_INTERCEPTS,
  eventExit,
  type EventName,
  type EventTable,
} from "./event_intercepts.ts";
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
  /** @param events other than the architecture's in tests only */
  constructor(
    private readonly unit: SvmUnit,
    private readonly events: EventTable = EVENT_INTERCEPTS,
  ) {}

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
    // §15.12.2: INT1's #DB is the ICEBP intercept's.
    if (software && vector === Vector.DB) return false;
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

  /** #VMEXIT for an event of the table, if its intercept is on. */
  private exitOn(cpu: CpuContext, event: EventName): boolean {
    const row = eventExit(cpu.v, event, this.events);
    if (row === undefined) return false;
    cpu.v.eventRequest |= row.pending ?? 0;
    vmExit(this.unit, cpu, { code: row.bit, info1: row.info1 });
    return true;
  }

  interceptInterrupt(cpu: CpuContext): boolean {
    return this.exitOn(cpu, "intr");
  }

  interceptNmi(cpu: CpuContext): boolean {
    return this.exitOn(cpu, "nmi");
  }

  interceptSmi(cpu: CpuContext): boolean {
    return this.exitOn(cpu, "smi");
  }

  interceptInit(cpu: CpuContext): boolean {
    if (this.exitOn(cpu, "init")) return true;
    // INIT resets the processor, guest mode with it.
    abandonGuest(this.unit, cpu);
    return false;
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
    if (this.exitOn(cpu, "shutdown")) return;
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
    if (v.guestMode !== GuestMode.Svm) return false;
    const row = eventExit(v, "taskSwitch", this.events);
    if (row === undefined) return false;
    const event = cpu.delivering;
    const errorCode = event?.errorCode ?? -1;
    let info2 = errorCode >= 0 ? BigInt(errorCode) | TaskInfo.ErrorCode : 0n;
    if (source === TaskSource.Iret) info2 |= TaskInfo.Iret;
    if (source === TaskSource.Jump) info2 |= TaskInfo.Jump;
    if (v.rflags & Rflags.RF) info2 |= TaskInfo.ResumeFlag;
    vmExit(this.unit, cpu, {
      code: row.bit,
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

  /** V_NMI (§15.21.10); a physical NMI comes first. */
  private virtualNmi(cpu: CpuContext): boolean {
    const { v } = cpu;
    const intCtl = v.word(SCRATCH.intCtl);
    if (v.eventRequest & EventRequest.Nmi) return false;
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
    if (this.exitOn(cpu, "vintr")) return true;
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

  /** V_TPR stands for CR8 under V_INTR_MASKING (§15.21.2). */
  readCr8({ v }: CpuContext): number | undefined {
    const intCtl = v.word(SCRATCH.intCtl);
    return v.guestMode === GuestMode.Svm && intCtl & IntCtl.IntrMasking
      ? intCtl & IntCtl.TprMask
      : undefined;
  }

  /** A guest's write reaches V_TPR, and without V_INTR_MASKING the APIC too. */
  writeCr8(cpu: CpuContext, value: number): boolean {
    const { v } = cpu;
    if (v.guestMode !== GuestMode.Svm) return false;
    const intCtl = v.word(SCRATCH.intCtl);
    v.setWord(SCRATCH.intCtl, intCtl & ~IntCtl.TprMask | value);
    this.unit.request(cpu);
    return (intCtl & IntCtl.IntrMasking) !== 0;
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
