/**
 * A NestedContext out of maps, for unit tests of the emulation's parts: VMCS
 * fields and MSRs by number, L2 memory as one array mapped one to one.
 */
import type { CpuContext } from "../../cpu/context.ts";
import type { NestedContext } from "../hypervisor/api.ts";
import type { RootOperations, Vmcs } from "../vmx/api.ts";

/** What a test reads and writes behind the context. */
export interface Rig {
  readonly context: NestedContext;
  /** vmcs02. */
  readonly fields: Map<number, bigint>;
  readonly fields12: Map<number, bigint>;
  readonly msrs: Map<number, bigint>;
  readonly memory: Uint8Array;
  /** Pages given to `forget`, in order. */
  readonly forgotten: number[];
}

/** Makes a context over `bytes` of L2 memory. */
export function makeRig(bytes = 0x10000): Rig {
  const fields = new Map<number, bigint>();
  const fields12 = new Map<number, bigint>();
  const msrs = new Map<number, bigint>();
  const memory = new Uint8Array(bytes);
  const forgotten: number[] = [];
  const paging = { cr0: 0x80000001, cr3: 0, cr4: 0x20, efer: 0x500 };
  const operations: Partial<RootOperations> = {
    vmread: (field) => fields.get(field) ?? 0n,
    vmwrite: (field, value) => void fields.set(field, value),
    rdmsr: (index) => msrs.get(index),
  };
  const vmcs12: Partial<Vmcs> = {
    read: (field) => fields12.get(field) ?? 0n,
    read32: (field) => Number((fields12.get(field) ?? 0n) & 0xffff_ffffn),
  };
  const context: Partial<NestedContext> = {
    cpu: { index: 0 } as CpuContext,
    operations: operations as RootOperations,
    vmcs12: vmcs12 as Vmcs,
    eptp12: 0x1000n,
    paging: () => paging,
    forget: (page) => void forgotten.push(page),
    readL2(linear, length) {
      const at = Number(linear);
      return at + length <= bytes ? memory.slice(at, at + length) : undefined;
    },
    translate: (linear) =>
      linear < BigInt(bytes)
        ? { guestPage: Number(linear >> 12n), user: true }
        : undefined,
  };
  return {
    context: context as NestedContext,
    fields,
    fields12,
    msrs,
    memory,
    forgotten,
  };
}
