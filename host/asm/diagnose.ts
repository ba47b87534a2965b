/**
 * Words for instructions that can't be assembled: what was found, what is
 * accepted, and the nearest mnemonic.
 * Invariant: accepted forms are printed from iced-x86's own templates.
 */
import { formIndex, modesOf } from "./forms.ts";
import type { InstructionText } from "./encode.ts";
import { closeness, describeOperand, type Request } from "./match.ts";
import { nearest } from "../../core/nearest.ts";
import { registerClass } from "./registers.ts";
import { type Bits, LineError } from "./types.ts";

/** No form takes these operands. */
export function noMatch(text: InstructionText, request: Request): LineError {
  const { mnemonic, operands } = text;
  const found = operands.length === 0
    ? "no operands"
    : operands.map(describeOperand).join(", ");
  const mode = request.bits === 16 ? 1 : request.bits === 32 ? 2 : 4;
  const forms = text.forms.filter((f) => (f.modes & mode) !== 0);
  // The closest forms first.
  const ranked = forms.map((form) => ({ form, near: closeness(form, request) }))
    .sort((a, b) => b.near - a.near);
  const accepted = [
    ...new Set(ranked.map((r) => r.form.text.toLowerCase())),
  ];
  const list = accepted.slice(0, 8).map((t) => `\`${t}\``).join("; ") +
    (accepted.length > 8 ? `; and ${accepted.length - 8} more` : "");
  const isEvex = operands.some((o) =>
    o.k === "reg" && registerClass(o.reg) === "zmm"
  );
  const values = request.operands.filter((o) => o.k === "imm").map((o) =>
    o.k === "imm" ? ` (immediate ${o.value})` : ""
  );
  return new LineError(
    operands[0]?.column ?? text.column,
    `\`${mnemonic}\` doesn't take ${found}${values.join("")} ` +
      `in ${request.bits}-bit mode: accepted are ${list}` +
      (text.decorators.column !== undefined
        ? " (decorators in { } belong to MVEX instructions, see `cpu knc`)"
        : isEvex
        ? " (EVEX encodings are not assembled; `cpu knc` adds MVEX)"
        : ""),
  );
}

/** A prefix stands where none may. */
export function badPrefix(text: InstructionText): LineError {
  const p = text.prefixes;
  const words = (["lock", "rep", "repne", "bnd", "notrack"] as const)
    .filter((w) => p[w]).join(" ");
  return new LineError(
    p.column,
    `prefix ${words} isn't accepted by this form of \`${text.mnemonic}\`` +
      (p.lock ? ": LOCK needs a memory destination" : ""),
  );
}

/** Kinds agree but values do not fit. */
export function notEncodable(
  text: InstructionText,
  request: Request,
  reason: string,
  ip: bigint,
): LineError {
  const branch = request.operands.find((o) => o.k === "imm");
  const column = text.operands[0]?.column ?? text.column;
  if (/branch|Branch|too far/.test(reason) && branch?.k === "imm") {
    const distance = branch.value - (ip + 2n);
    return new LineError(
      column,
      `the target is ${distance} bytes away, too far for this form of ` +
        `\`${text.mnemonic}\`: a short jump reaches -128 to 127, a near one ` +
        "±2 GiB (±32 KiB in 16-bit mode)",
    );
  }
  return new LineError(
    column,
    `\`${text.mnemonic}\` can't be encoded with these operands: ${reason}`,
  );
}

/** The error for a mnemonic that doesn't exist (in this mode). */
export function unknownMnemonic(
  word: string,
  bits: Bits,
  column: number,
  others: Iterable<string>,
): LineError {
  const modes = modesOf(word);
  if (modes.length > 0) {
    return new LineError(
      column,
      `\`${word}\` doesn't exist in ${bits}-bit mode: it is accepted after ` +
        modes.map((m) => `\`bits ${m}\``).join(" or "),
    );
  }
  const near = nearest(word, [...formIndex(bits).keys(), ...others]);
  return new LineError(
    column,
    `unknown instruction or directive \`${word}\`` +
      (near === undefined ? "" : `: the nearest is \`${near}\``) +
      "; a label needs a colon",
  );
}
