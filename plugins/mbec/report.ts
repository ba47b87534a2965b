/** States the emulation's facts, where somebody wants them. */
import type { NestedContext } from "../hypervisor/api.ts";
import { VmcsField as F } from "../vmx/api.ts";
import { Decided, Trapped, ViewSwitched } from "./api.ts";
import type { Violation } from "./decision.ts";

/** See the file header. */
export class Reporter {
  switched(
    context: NestedContext,
    from: number,
    to: number,
    path: number,
    cpl: number,
  ): void {
    const { cpu, operations: ops } = context;
    if (!cpu.facts.wants(ViewSwitched)) return;
    const rip = ops.vmread(F.GuestRip);
    cpu.facts.emit(ViewSwitched, { cpu: cpu.index, from, to, path, cpl, rip });
  }

  trapped(context: NestedContext, path: number, vector: number): void {
    const { cpu, operations: ops } = context;
    if (!cpu.facts.wants(Trapped)) return;
    const rip = ops.vmread(F.GuestRip);
    cpu.facts.emit(Trapped, { cpu: cpu.index, path, vector, rip });
  }

  decided(
    context: NestedContext,
    row: number,
    v: Violation,
    page: number,
    view: number,
  ): void {
    const { cpu, operations: ops } = context;
    if (!cpu.facts.wants(Decided)) return;
    cpu.facts.emit(Decided, {
      cpu: cpu.index,
      row,
      view,
      cpl: v.cpl,
      access: (v.read ? 1 : 0) | (v.write ? 2 : 0) | (v.fetch ? 4 : 0),
      rights: rightsBits(v),
      guestPhysical: BigInt(page) << 12n,
      linear: ops.vmread(F.GuestLinearAddress),
    });
  }
}

/** R W XS XU as bits 0 to 3. */
export function rightsBits(
  v: { r: boolean; w: boolean; xs: boolean; xu: boolean },
): number {
  return (v.r ? 1 : 0) | (v.w ? 2 : 0) | (v.xs ? 4 : 0) | (v.xu ? 8 : 0);
}
