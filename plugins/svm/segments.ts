/**
 * Segment registers between vCPU and save area (APM 2 §15.5.1, appendix B): a
 * VMCB keeps twelve attribute bits, descriptor bits 47:40 and 55:52 packed; our
 * register file keeps the VMCS format with an unusable bit, which the VMCB
 * expresses as P = 0.
 */
import { Cr0, Rflags, SegmentRights as R } from "../../cpu/arch/flags.ts";
import { Seg } from "../../cpu/layout.ts";
import type { Vcpu } from "../../cpu/vcpu.ts";
import { Save, SaveSegment, type Vmcb } from "./vmcb.ts";

/** Offsets of the segments by our number (ES CS SS DS FS GS LDTR TR). */
export const SEGMENT_OFFSETS: readonly number[] = [
  Save.es,
  Save.cs,
  Save.ss,
  Save.ds,
  Save.fs,
  Save.gs,
  Save.ldtr,
  Save.tr,
];

/** Sign-extends from the widest linear address of the model. */
export function canonicalize(base: bigint, bits: number): bigint {
  return BigInt.asUintN(64, BigInt.asIntN(bits, base));
}

/** Stores a segment register. */
export function saveSegment(vmcb: Vmcb, v: Vcpu, segment: number): void {
  const at = SEGMENT_OFFSETS[segment];
  const rights = v.segAttributes(segment);
  const attributes = rights & R.Unusable
    ? 0
    : (rights & 0xff) | (rights >>> 12 & 0xf) << 8;
  vmcb.write32(
    at + SaveSegment.selector,
    v.segSelector(segment) | attributes << 16,
  );
  vmcb.write32(at + SaveSegment.limit, v.segLimit(segment));
  vmcb.write(at + SaveSegment.base, v.segBase(segment));
}

/**
 * Loads a segment register.
 * @param bits width of linear addresses: bases are sign-extended from it
 */
export function loadSegment(
  vmcb: Vmcb,
  v: Vcpu,
  segment: number,
  bits: number,
): void {
  const at = SEGMENT_OFFSETS[segment];
  const word = vmcb.read32(at + SaveSegment.selector);
  v.setSegment(segment, {
    selector: word & 0xffff,
    base: canonicalize(vmcb.read(at + SaveSegment.base), bits),
    limit: vmcb.read32(at + SaveSegment.limit),
    attributes: rightsOf(v, segment, word >>> 16),
  });
}

/** Access rights from a VMCB's attributes. CR0 and RFLAGS are the new ones. */
function rightsOf(v: Vcpu, segment: number, attributes: number): number {
  let rights = (attributes & 0xff) | (attributes >>> 8 & 0xf) << 12;
  if (segment >= Seg.LDTR) {
    return rights & R.Present ? rights : rights | R.Unusable;
  }
  const plain = !(v.cr0 & Cr0.PE) || (v.rflags & Rflags.VM) !== 0;
  if (segment === Seg.CS) {
    // Only D, L and R of CS are observed.
    rights |= R.Present | R.CodeData | R.Accessed;
    return plain ? rights : rights | R.Code;
  }
  // Real and virtual-8086 mode know no unusable segments.
  if (plain) return rights | R.Present | R.CodeData | R.Accessed;
  return rights & R.Present
    ? rights | R.CodeData | R.Accessed
    : rights | R.Unusable;
}
