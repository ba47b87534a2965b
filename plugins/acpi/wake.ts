/**
 * Sleep in S3 and the way back (ACPI 6.5 §7.4.2.4, §16.1): vCPUs stand still;
 * on waking all of them are as after RESET and firmware's FNINIT (host/
 * machine.ts), the bootstrap processor starts in real mode at the firmware
 * waking vector, memory is as it was.
 * Invariant: what is done to a vCPU here is what the INIT of the boundary does,
 * and RESET's MSRs, so that translations and grants end as there.
 */
import { NotModelled } from "../../core/mod.ts";
import { Msr } from "../../cpu/arch/msr.ts";
import { resetVcpu } from "../../cpu/arch/reset.ts";
import type { Hardware } from "../../cpu/hardware.ts";
import { ActivityState, GuestMode, Seg } from "../../cpu/layout.ts";
import { Control } from "../../cpu/port.ts";
import { initialize as initializeX87 } from "../../cpu/semantics/fpu_control.ts";

/** IA32_APIC_BASE after RESET (SDM 3A §11.4.4). */
const APIC_ON = 0xfee00800n;
const APIC_BOOTSTRAP = 0x100n;

/** Stops every vCPU where it stands. */
export function sleep(hardware: Hardware): void {
  for (const { v } of hardware.cpus) {
    if (v.guestMode !== GuestMode.None) {
      throw new NotModelled(
        "suspend to RAM by a guest in guest mode",
        "ACPI §16.1",
      );
    }
    v.activity = ActivityState.WaitForSipi;
    v.eventRequest = 0;
  }
}

/** Resets every vCPU; the first one starts at `vector`. */
export function wake(hardware: Hardware, vector: number): void {
  for (const cpu of hardware.cpus) {
    const { v, translator, index } = cpu;
    const { cr0, cr4, efer } = v;
    resetVcpu(v, cpu.model, false);
    initializeX87(cpu);
    if (index !== 0) v.activity = ActivityState.WaitForSipi;
    translator.controlChanged(cpu, Control.Cr0, cr0, v.cr0);
    translator.controlChanged(cpu, Control.Cr4, cr4, v.cr4);
    translator.controlChanged(cpu, Control.Efer, efer, v.efer);
    hardware.dropGrants(index);
    // The local APIC: off and on again, at its place and in xAPIC mode.
    const bootstrap = index === 0 ? APIC_BOOTSTRAP : 0n;
    cpu.interrupts.writeMsr?.(index, Msr.APIC_BASE, bootstrap);
    cpu.interrupts.writeMsr?.(index, Msr.APIC_BASE, APIC_ON | bootstrap);
    cpu.attention = true;
  }
  const { v } = hardware.cpus[0];
  v.setSegment(Seg.CS, {
    ...v.segment(Seg.CS),
    selector: vector >>> 4 & 0xffff,
    base: BigInt((vector >>> 4 & 0xffff) << 4),
  });
  v.rip = BigInt(vector & 0xf);
}
