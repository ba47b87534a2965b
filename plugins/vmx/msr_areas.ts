/**
 * MSR-load and MSR-store areas of VM entries and exits (SDM 3C §25.7.2,
 * §25.8.2, §27.4, §28.4, §28.6). MSRs themselves are read and written by the
 * RDMSR and WRMSR procedures, without their CPL check.
 */
import { Msr } from "../../cpu/arch/msr.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { hostTsc } from "../../cpu/semantics/system/msr.ts";
import { MSR_AREA_LIMIT } from "./capabilities.ts";
import type { VmxUnit } from "./unit.ts";

/** MSRs that no area may load: FS and GS bases, SMM and x2APIC registers. */
function loadForbidden(index: number): boolean {
  return index === 0xc000_0100 || index === 0xc000_0101 ||
    index === 0x9b || index === 0x9e || (index >>> 8) === 8;
}

function storeForbidden(index: number): boolean {
  return index === 0x9e || (index >>> 8) === 8;
}

/** Loads an area. @returns 0, or the 1-based position of the entry that failed */
export function loadMsrArea(
  unit: VmxUnit,
  cpu: CpuContext,
  address: bigint,
  count: number,
): number {
  const { physical } = cpu;
  for (let i = 0; i < count; i++) {
    const at = Number(address) + i * 16;
    const index = physical.readU32(at);
    if (
      i >= MSR_AREA_LIMIT || physical.readU32(at + 4) !== 0 ||
      loadForbidden(index)
    ) return i + 1;
    if (!unit.msrs.write(cpu, index, physical.readU64(at + 8))) return i + 1;
  }
  return 0;
}

/** Stores an area. @returns false when an entry fails: a VMX abort */
export function storeMsrArea(
  unit: VmxUnit,
  cpu: CpuContext,
  address: bigint,
  count: number,
): boolean {
  const { physical } = cpu;
  for (let i = 0; i < count; i++) {
    const at = Number(address) + i * 16;
    const index = physical.readU32(at);
    if (
      i >= MSR_AREA_LIMIT || physical.readU32(at + 4) !== 0 ||
      storeForbidden(index)
    ) return false;
    // SDM 3C §28.4: the TSC is stored without the guest's offset.
    const value = index === Msr.TSC ? hostTsc(cpu) : unit.msrs.read(cpu, index);
    if (value === undefined) return false;
    physical.writeU64(at + 8, value);
  }
  return true;
}
