/**
 * Result bits that are the recording host's own: its clock, its entropy, its
 * name. They are recorded as zero and never compared; what surrounds them is:
 * the cleared upper halves, the other registers, the flags (SDM 2A CPUID; 2B
 * RDPID, RDRAND, RDSEED, RDTSC, RDTSCP; 2D XGETBV).
 * Invariant: a mask covers nothing that the manuals define.
 */
import { type Instruction, RegisterExt } from "iced-x86";
import type { Form } from "./rows.ts";

const LOW_HALF = 0xffff_ffffn;
const [RAX, RCX, RDX, RBX] = [0, 1, 2, 3];

/** Registers whose low halves are the host's, by mnemonic. */
const LOW_HALVES: ReadonlyMap<string, readonly number[]> = new Map([
  ["Rdtsc", [RAX, RDX]],
  ["Rdtscp", [RAX, RCX, RDX]],
  ["Xgetbv", [RAX, RDX]],
  ["Cpuid", [RAX, RBX, RCX, RDX]],
]);
const WHOLE_DESTINATION = /^(Rdrand|Rdseed)$/;
const CARRY = 1;

/** Masks by general register number of what the host alone decides. */
export function hostBitsOf(
  { mnemonic, vendor }: Pick<Form, "mnemonic" | "vendor">,
  instruction: Instruction,
): Map<number, bigint> {
  if (mnemonic === "Xgetbv" && vendor === "GenuineIntel") {
    // All but x87 and SSE are the host's own components.
    return new Map([[RAX, LOW_HALF & ~3n], [RDX, LOW_HALF]]);
  }
  const low = LOW_HALVES.get(mnemonic);
  if (low) return new Map(low.map((r) => [r, LOW_HALF]));
  const register = instruction.op0Register;
  if (mnemonic === "Rdpid") {
    return new Map([[RegisterExt.number(register), LOW_HALF]]);
  }
  if (!WHOLE_DESTINATION.test(mnemonic)) return new Map();
  const bits = BigInt(RegisterExt.size(register) * 8);
  return new Map([[RegisterExt.number(register), (1n << bits) - 1n]]);
}

/** True when the host had no entropy to give, which no model does. */
export function ranDry(mnemonic: string, rflags: number): boolean {
  return WHOLE_DESTINATION.test(mnemonic) && (rflags & CARRY) === 0;
}
