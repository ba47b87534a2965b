/**
 * Guest memory for observers, read without any effect: by guest-physical
 * address through the stage 2 in force, by linear address through both. Stops
 * at the first page that does not translate; nothing faults, nothing is cached.
 */
import type { CpuContext } from "../../cpu/context.ts";
import type { PhysicalMemory } from "../../cpu/physical.ts";
import { Access } from "../../cpu/port.ts";
import type { GuestMemoryRead, MmuService } from "./api.ts";

/** See the file header. */
export function guestMemoryReader(
  mmu: Pick<MmuService, "explain" | "translatePhysical">,
  physical: Pick<PhysicalMemory, "readBytes">,
  cpus: readonly CpuContext[],
): GuestMemoryRead {
  const pages = (
    from: bigint,
    length: number,
    translate: (address: bigint) => number | undefined,
  ): Uint8Array => {
    const out = new Uint8Array(length);
    let done = 0;
    while (done < length) {
      const at = (from + BigInt(done)) & 0xffff_ffff_ffff_ffffn;
      const address = translate(at);
      if (address === undefined) break;
      const n = Math.min(length - done, 4096 - Number(at & 0xfffn));
      const bytes = physical.readBytes(address, n);
      out.set(bytes, done);
      done += bytes.length;
      if (bytes.length < n) break;
    }
    return out.subarray(0, done);
  };
  return {
    read: (cpu, address, length) =>
      pages(address, length, (at) => throughStage2(mmu, cpus[cpu], at)),
    readLinear: (cpu, linear, length) =>
      pages(linear, length, (at) =>
        // A page is the supervisor's or (under SMAP) only the user's to read.
        mmu.explain(cpus[cpu], at, Access.System).physical ??
          mmu.explain(cpus[cpu], at, Access.User).physical),
  };
}

/** Host-physical address, or undefined where stage 2 does not let a read through. */
function throughStage2(
  mmu: Pick<MmuService, "translatePhysical">,
  cpu: CpuContext,
  address: bigint,
): number | undefined {
  const { v } = cpu;
  const { stage2 } = v;
  const page = Number(address >> 12n);
  const frame = mmu.translatePhysical(cpu, page, Access.Read | Access.Silent);
  v.stage2 = stage2;
  return frame < 0 ? undefined : frame * 4096 + Number(address & 0xfffn);
}
