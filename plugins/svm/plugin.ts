/**
 * The svm plugin: AMD SVM as hardware, bound to the CPU as its virtualization
 * port, and the host's side of it as a service for a hypervisor model.
 */
import { definePlugin } from "../../core/mod.ts";
import { HardwareAccess, Virtualization } from "../../cpu/hardware.ts";
import { SvmEntered, SvmEntryFailed, SvmExited, SvmRoot } from "./api.ts";
import { rootService } from "./root.ts";
import { SvmUnit } from "./unit.ts";
import { SvmVirtualization } from "./virtualization.ts";

/** AMD SVM. Which features exist follows from the CPU model. */
export const svm = definePlugin({
  name: "svm",
  version: "1.0.0",
  doc: "AMD SVM as hardware: VMRUN, #VMEXIT, intercepts, nested paging, ASIDs",
  role: "participant",
  needs: { hardware: HardwareAccess },
  provides: { virtualization: Virtualization, root: SvmRoot },
  emits: [SvmEntered, SvmExited, SvmEntryFailed],
  setup({ use: { hardware }, provide }) {
    const unit = new SvmUnit(hardware.model, {
      dropGrants: (cpu) => hardware.dropGrants(cpu),
    });
    provide.virtualization(new SvmVirtualization(unit));
    provide.root(rootService(unit));
    return undefined;
  },
});
