/**
 * Which of several encodings is meant: default operand size, then the
 * shortest, then the usual one. Invariant: never fewer than `minimum` bytes.
 */
import { Code, MemorySize } from "iced-x86";
import type { InstructionText } from "./encode.ts";
import type { Form } from "./forms.ts";
import { LineError } from "./types.ts";

/** An encoding that fits the text. */
export interface Candidate {
  readonly form: Form;
  readonly bytes: Uint8Array;
}

const CONTEXT_SIZED = new Set<MemorySize>([
  MemorySize.FpuEnv14,
  MemorySize.FpuEnv28,
  MemorySize.FpuState94,
  MemorySize.FpuState108,
  MemorySize.SegPtr16,
  MemorySize.SegPtr32,
  MemorySize.SegPtr64,
  MemorySize.Fword6,
  MemorySize.Fword10,
]);

/** Memory without a size is accepted only when nothing hangs on it. */
export function checkMemorySize(
  text: InstructionText,
  candidates: readonly Candidate[],
): void {
  const memory = text.operands.find((o) => o.k === "mem");
  if (memory?.k !== "mem" || memory.size !== undefined) return;
  const sizes = new Set<number>();
  for (const { form } of candidates) {
    if (form.isBranchOrStack || CONTEXT_SIZED.has(form.memorySize)) continue;
    if (form.memoryBytes !== 0) sizes.add(form.memoryBytes);
  }
  if (sizes.size < 2) return;
  const names: Readonly<Record<number, string>> = {
    1: "byte",
    2: "word",
    4: "dword",
    8: "qword",
    10: "tword",
    16: "oword",
    32: "yword",
  };
  const list = [...sizes].sort((a, b) => a - b).map((s) => names[s] ?? `${s}`);
  throw new LineError(
    memory.column,
    `\`${text.mnemonic}\` doesn't tell the size of this memory operand: ` +
      `write one of ${list.join(", ")} before the [`,
  );
}

const PLAIN_NOPS: ReadonlySet<Code> = new Set([
  Code.Reservednop_rm16_r16_0F1D,
  Code.Reservednop_rm32_r32_0F1D,
  Code.Reservednop_rm64_r64_0F1D,
]);

/** The shortest encoding of at least `minimum` bytes. */
export function choose(
  text: InstructionText,
  candidates: readonly Candidate[],
  minimum: number,
): Uint8Array {
  const sizes = new Set(candidates.map((c) => c.form.operandSize));
  sizes.delete(0);
  let rest = candidates;
  if (sizes.size > 1) {
    // The operands leave the operand size open: the mode's default is meant,
    // 64 for stack and near branches and, as in NASM, for far pointers.
    const wants64 = text.bits === 64 &&
      candidates.some(({ form }) =>
        form.operandSize === 64 &&
        (form.default64 ||
          (form.isBranchOrStack && form.memorySize === MemorySize.SegPtr64))
      );
    const wanted = wants64 ? 64 : text.bits === 16 ? 16 : 32;
    const isDefault = (form: Form): boolean =>
      form.operandSize === 0 || form.operandSize === wanted;
    const defaults = candidates.filter((c) => isDefault(c.form));
    if (defaults.length > 0) rest = defaults;
  }
  // `nop r/m, r` has many op-codes; 0F 1D means nothing else in any form.
  const plain = rest.filter((c) => PLAIN_NOPS.has(c.form.code));
  if (plain.length > 0) rest = plain;
  const long = rest.filter((c) => c.bytes.length >= minimum);
  let best: Candidate | undefined;
  for (const c of long) {
    if (
      best === undefined || c.bytes.length < best.bytes.length ||
      (c.bytes.length === best.bytes.length && best.form.unusual &&
        !c.form.unusual)
    ) best = c;
  }
  if (best !== undefined) return best.bytes;
  // Nothing is long enough any more: fill up, the layout must not shrink.
  const longest = rest.reduce((a, b) =>
    b.bytes.length > a.bytes.length ? b : a
  );
  const padded = new Uint8Array(minimum).fill(0x90);
  padded.set(longest.bytes);
  return padded;
}
