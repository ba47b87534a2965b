/**
 * A VMCS in its region of physical memory (SDM 3C §25.2): field access by
 * encoding at the offsets of vmcs_fields.ts.
 *
 * The processor keeps nothing of a VMCS elsewhere, so a region is always
 * current. Accesses are no `mem.wrote` facts: to software a VMCS is opaque.
 * Software outside the hardware (a hypervisor model reading its guest's VMCS)
 * uses the same class, so that both write one format.
 */
import type { PhysicalMemory } from "../../cpu/physical.ts";
import type { VmcsView } from "./entry_checks.ts";
import {
  fieldMask,
  fieldOffset,
  findField,
  VMCS_REGION,
} from "./vmcs_fields.ts";

/** Read and write access to a VMCS. */
export class Vmcs implements VmcsView {
  /** @param address physical address of the region, in RAM */
  constructor(
    private readonly physical: PhysicalMemory,
    readonly address: number,
  ) {}

  read(field: number): bigint {
    return this.physical.readU64(this.address + fieldOffset(field));
  }
  read32(field: number): number {
    return this.physical.readU32(this.address + fieldOffset(field));
  }
  /** Writes the low bits that the field can hold. */
  write(field: number, value: bigint): void {
    const found = findField(field);
    if (found === undefined) return;
    this.physical.writeU64(
      this.address + found.row.offset,
      value & fieldMask(found.row),
    );
  }
  write32(field: number, value: number): void {
    this.write(field, BigInt(value >>> 0));
  }

  get revision(): number {
    return this.physical.readU32(this.address + VMCS_REGION.revision);
  }
  set revision(value: number) {
    this.physical.writeU32(this.address + VMCS_REGION.revision, value);
  }
  set abortIndicator(value: number) {
    this.physical.writeU32(this.address + VMCS_REGION.abortIndicator, value);
  }
  /** A LaunchState. */
  get launchState(): number {
    return this.physical.readU32(this.address + VMCS_REGION.launchState);
  }
  set launchState(value: number) {
    this.physical.writeU32(this.address + VMCS_REGION.launchState, value);
  }
}
