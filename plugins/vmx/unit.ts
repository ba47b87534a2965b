/**
 * The VMX unit of a machine: capabilities, the current VMCS of each vCPU, the
 * preemption timer's deadline and the root owner. No architectural state lives
 * here: that is in the register page (scratch.ts) and in VMCS regions.
 */
import type { CpuContext } from "../../cpu/context.ts";
import { EventRequest } from "../../cpu/layout.ts";
import type { CpuModel } from "../../cpu/arch/models.ts";
import type { RootOwner } from "./api.ts";
import { capabilitiesOf, type VmxCapabilities } from "./capabilities.ts";
import { type ControlWords, Primary } from "./controls.ts";
import { effectiveControls } from "./entry_checks.ts";
import {
  currentVmcs,
  hasFlag,
  setFlag,
  timerDeadline,
  VmxFlag,
} from "./scratch.ts";
import { Vmcs } from "./vmcs.ts";

/** MSRs as RDMSR and WRMSR see them at CPL 0. */
export interface MsrAccess {
  /** @returns undefined where RDMSR raises #GP */
  read(cpu: CpuContext, index: number): bigint | undefined;
  /** @returns false where WRMSR raises #GP */
  write(cpu: CpuContext, index: number, value: bigint): boolean;
}

/** What the unit asks of the machine around it. */
export interface UnitPort {
  readonly msrs: MsrAccess;
  /** Ends silent-access grants: translations may have changed. */
  dropGrants(cpu: number): void;
  /** Arms the plugin's timer for a virtual time, or cancels it. */
  arm(time: number | undefined): void;
}

/** See the file header. */
export class VmxUnit {
  readonly capabilities: VmxCapabilities;
  readonly msrs: MsrAccess;
  owner: RootOwner | undefined;
  /** Per vCPU: the owner is running; an exit now is its next call. */
  readonly ownerRuns: boolean[];
  readonly ownerDue: boolean[];
  /** Counts VM exits and entry failures, to notice one inside a delivery. */
  exits = 0;
  /** General registers (RSP apart) of the guest when the owner was called. */
  readonly registers: bigint[] = new Array(16).fill(0n);
  private readonly vmcses: (Vmcs | undefined)[];

  constructor(
    model: CpuModel,
    readonly cpus: readonly CpuContext[],
    readonly port: UnitPort,
  ) {
    this.capabilities = capabilitiesOf(model);
    this.msrs = port.msrs;
    this.ownerRuns = cpus.map(() => false);
    this.ownerDue = cpus.map(() => false);
    this.vmcses = cpus.map(() => undefined);
  }

  /** The current VMCS; undefined when there is none. */
  current(cpu: CpuContext): Vmcs | undefined {
    const address = currentVmcs(cpu.v);
    if (address === undefined) return undefined;
    const known = this.vmcses[cpu.index];
    if (known !== undefined && known.address === address) return known;
    return this.vmcses[cpu.index] = new Vmcs(cpu.physical, address);
  }

  /** The current VMCS in VMX non-root operation, where there always is one. */
  guest(cpu: CpuContext): Vmcs {
    const vmcs = this.current(cpu);
    if (vmcs === undefined) {
      throw new RangeError("in VMX non-root operation without current VMCS");
    }
    return vmcs;
  }

  controls(cpu: CpuContext): ControlWords {
    return effectiveControls(this.guest(cpu));
  }

  /** Whether VM exits of this vCPU go to the root owner. */
  owned(cpu: CpuContext): boolean {
    return hasFlag(cpu.v, VmxFlag.RootOwned);
  }

  /** Asks for boundary checks as the controls of the guest demand. */
  request(cpu: CpuContext, primary: number): void {
    const windows = Primary.InterruptWindowExiting | Primary.NmiWindowExiting;
    let bits = 0;
    if (primary & windows || hasFlag(cpu.v, VmxFlag.MtfPending)) {
      bits |= EventRequest.Virtualization;
    }
    if (this.timerExpired(cpu)) bits |= EventRequest.Virtualization;
    if (primary & Primary.MonitorTrapFlag) {
      bits |= EventRequest.Virtualization | EventRequest.VirtualizationStep;
    }
    const mine = EventRequest.Virtualization | EventRequest.VirtualizationStep;
    cpu.v.eventRequest = (cpu.v.eventRequest & ~mine) | bits;
    cpu.attention = true;
  }

  timerExpired(cpu: CpuContext): boolean {
    return hasFlag(cpu.v, VmxFlag.TimerRunning) &&
      cpu.time() >= timerDeadline(cpu.v);
  }

  stopTimer(cpu: CpuContext): void {
    if (!hasFlag(cpu.v, VmxFlag.TimerRunning)) return;
    setFlag(cpu.v, VmxFlag.TimerRunning, false);
    this.armTimer();
  }

  /** Arms the machine's timer for the earliest running preemption timer. */
  armTimer(): void {
    let earliest: number | undefined;
    for (const { v } of this.cpus) {
      if (!hasFlag(v, VmxFlag.TimerRunning)) continue;
      const deadline = timerDeadline(v);
      if (earliest === undefined || deadline < earliest) earliest = deadline;
    }
    this.port.arm(earliest);
  }

  /** The machine's timer fired. */
  timerFired(): void {
    let again = false;
    for (const cpu of this.cpus) {
      if (!hasFlag(cpu.v, VmxFlag.TimerRunning)) continue;
      if (this.timerExpired(cpu)) {
        cpu.v.eventRequest |= EventRequest.Virtualization;
        cpu.attention = true;
      } else again = true;
    }
    if (again) this.armTimer();
  }
}
