/**
 * Spoiled cases: an instruction that cannot even be fetched or decoded as it
 * stands (SDM vol. 2 §2.1.1, §2.3.11; vol. 3 §6.15).
 * Invariant: such a case has its outcome before any operand is looked at.
 */
import { type Instruction, OpCodeOperandKind as K, OpKind } from "iced-x86";
import { CODE, PAGE_SIZE } from "../../tests/silicon/environment.ts";
import type { Draft } from "./cases.ts";
import type { Random } from "./random.ts";

/** Longest instruction (SDM vol. 2 §2.3.11). */
const MAX_LENGTH = 15;

/**
 * Spoils a case on purpose: LOCK where it is not allowed (#UD), more than 15
 * bytes (#GP), or an instruction that begins in the code page and would end in
 * none (#PF on the fetch). Such a case has its outcome before any operand is
 * looked at.
 */
export function malform(d: Draft, ins: Instruction, rng: Random): Draft {
  const dice = rng.below(3);
  const locked = ins.hasLockPrefix ||
    (d.form.opCode.canUseLockPrefix && ins.op0Kind === OpKind.Memory) ||
    d.form.operands.includes(K.cr_reg) ||
    // Seen here: LOCK VERW with a memory operand runs (its register form and
    // LOCK VERR are #UD). Why is not known; no vector judges by it.
    (d.form.mnemonic === "Verw" && ins.op0Kind === OpKind.Memory);
  if (dice === 0 && !locked) {
    const code = Uint8Array.of(0xf0, ...d.code);
    return { ...d, code, disassembly: `(bad lock) ${d.disassembly}` };
  }
  if (dice === 1) {
    const padding = new Array<number>(MAX_LENGTH + 1 - d.code.length).fill(
      0x2e,
    );
    const code = Uint8Array.of(...padding, ...d.code);
    return { ...d, code, disassembly: `(too long) ${d.disassembly}` };
  }
  if (d.code.length < 2) return d;
  const inside = 1 + rng.below(d.code.length - 1);
  // A prefix of the bytes must not be an instruction itself: it never is, a
  // valid encoding needs all its bytes.
  const before = { ...d.before, rip: BigInt(CODE + PAGE_SIZE - inside) };
  return { ...d, before, disassembly: `(cut off) ${d.disassembly}` };
}
