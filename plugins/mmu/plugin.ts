/**
 * The mmu plugin: binds the MMU model to the hardware and lends its silent
 * views to observers.
 */
import { definePlugin } from "../../core/mod.ts";
import { HardwareAccess, Translation } from "../../cpu/hardware.ts";
import {
  Explainer,
  GuestMemoryReader,
  Mmu,
  MmuWalked,
  TlbFlushed,
} from "./api.ts";
import { MmuModel } from "./mmu.ts";
import { guestMemoryReader } from "./reader.ts";

/** Memory management unit: paging, EPT, nested paging, architectural TLB. */
export const mmu = definePlugin({
  name: "mmu",
  version: "1.1.0",
  doc:
    "Paging of every mode, extended and nested page tables, the architectural TLB",
  role: "participant",
  needs: { hardware: HardwareAccess },
  provides: {
    translation: Translation,
    mmu: Mmu,
    reader: GuestMemoryReader,
    explainer: Explainer,
  },
  emits: [MmuWalked, TlbFlushed],
  setup({ use: { hardware }, provide }) {
    const model = new MmuModel(
      hardware.memory,
      hardware.layout,
      (cpu, page) => hardware.dropGrants(cpu, page),
    );
    hardware.onRestored(() => model.restored());
    provide.translation(model);
    provide.mmu(model);
    provide.explainer({
      explain: (cpu, linear, access) =>
        model.explain(hardware.cpus[cpu], linear, access),
    });
    provide.reader(
      guestMemoryReader(model, hardware.physical, hardware.cpus),
    );
    return undefined;
  },
});
