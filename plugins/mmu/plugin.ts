/**
 * The mmu plugin: binds the MMU model to the hardware and lends its silent
 * views to observers.
 */
import { definePlugin } from "../../core/mod.ts";
import { HardwareAccess, Translation } from "../../cpu/hardware.ts";
import { Access } from "../../cpu/port.ts";
import {
  Explainer,
  GuestMemoryReader,
  Mmu,
  MmuWalked,
  TlbFlushed,
} from "./api.ts";
import { MmuModel } from "./mmu.ts";

/** Memory management unit: paging, EPT, architectural TLB. */
export const mmu = definePlugin({
  name: "mmu",
  version: "1.0.0",
  doc: "Paging of every mode, extended page tables, the architectural TLB",
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
    provide.reader({
      read: (address, length) =>
        hardware.physical.readBytes(Number(address), length),
      readLinear(cpu, linear, length) {
        const context = hardware.cpus[cpu];
        const out = new Uint8Array(length);
        let done = 0;
        while (done < length) {
          const at = (linear + BigInt(done)) & 0xffff_ffff_ffff_ffffn;
          // A page is the supervisor's or (under SMAP) only the user's to read.
          const physical = model.explain(context, at, Access.System).physical ??
            model.explain(context, at, Access.User).physical;
          if (physical === undefined) break;
          const n = Math.min(length - done, 4096 - Number(at & 0xfffn));
          const bytes = hardware.physical.readBytes(physical, n);
          out.set(bytes, done);
          done += bytes.length;
          if (bytes.length < n) break;
        }
        return out.subarray(0, done);
      },
    });
    return undefined;
  },
});
