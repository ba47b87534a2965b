/**
 * The vmx plugin: Intel VMX as hardware, bound to the CPU as its virtualization
 * port, and VMX root operation as a service for a hypervisor model.
 */
import { definePlugin } from "../../core/mod.ts";
import { HardwareAccess, Virtualization } from "../../cpu/hardware.ts";
import { readMsr, writeMsr } from "../../cpu/semantics/system/msr.ts";
import {
  VmxEntered,
  VmxEntryFailed,
  VmxEptpSwitched,
  VmxExited,
  VmxRoot,
} from "./api.ts";
import { rootService } from "./root.ts";
import { VmxUnit } from "./unit.ts";
import { VmxVirtualization } from "./virtualization.ts";

/** Intel VMX. Which controls exist follows from the CPU model. */
export const vmx = definePlugin({
  name: "vmx",
  version: "1.0.0",
  doc: "Intel VMX as hardware: VMCS, VM entries and exits, EPT, VPID, VMFUNC",
  role: "participant",
  needs: { hardware: HardwareAccess },
  provides: { virtualization: Virtualization, root: VmxRoot },
  emits: [VmxEntered, VmxExited, VmxEntryFailed, VmxEptpSwitched],
  timers: ["preemption"],
  setup({ use: { hardware }, provide, timer }) {
    const unit = new VmxUnit(hardware.model, hardware.cpus, {
      msrs: { read: readMsr, write: writeMsr },
      dropGrants: (cpu) => hardware.dropGrants(cpu),
      arm(time) {
        if (time === undefined) timer.preemption.cancel();
        else timer.preemption.at(time);
      },
    });
    timer.preemption.run(() => {
      unit.timerFired();
      return undefined;
    });
    provide.virtualization(new VmxVirtualization(unit));
    provide.root(rootService(unit));
    return undefined;
  },
});
