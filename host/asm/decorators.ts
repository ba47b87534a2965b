/**
 * Operand decorators of Knights Corner's MVEX instructions (Xeon Phi
 * Instruction Set Reference §2): op-mask, rounding, swizzle, conversion and
 * eviction hint, as iced-x86's formatter prints them.
 * Invariant: only forms with MVEX encoding take decorators.
 */
import {
  type Instruction,
  MvexRegMemConv as Conversion,
  Register,
  RoundingControl,
} from "iced-x86";
import type { TokenReader } from "./lexer.ts";
import { registerByName, registerClass } from "./registers.ts";
import { LineError } from "./types.ts";

/** What the decorators of one instruction say together. */
export interface Decorators {
  mask?: Register;
  rounding?: RoundingControl;
  suppressExceptions?: boolean;
  evictionHint?: boolean;
  conversion?: Conversion;
  /** Where the first one stands. */
  column?: number;
}

const CONVERSIONS: Readonly<Record<string, Conversion>> = {
  cdab: Conversion.RegSwizzleCdab,
  badc: Conversion.RegSwizzleBadc,
  dacb: Conversion.RegSwizzleDacb,
  aaaa: Conversion.RegSwizzleAaaa,
  bbbb: Conversion.RegSwizzleBbbb,
  cccc: Conversion.RegSwizzleCccc,
  dddd: Conversion.RegSwizzleDddd,
  "1to16": Conversion.MemConvBroadcast1,
  "1to8": Conversion.MemConvBroadcast1,
  "4to16": Conversion.MemConvBroadcast4,
  "4to8": Conversion.MemConvBroadcast4,
  float16: Conversion.MemConvFloat16,
  uint8: Conversion.MemConvUint8,
  sint8: Conversion.MemConvSint8,
  uint16: Conversion.MemConvUint16,
  sint16: Conversion.MemConvSint16,
};

const ROUNDINGS: Readonly<Record<string, RoundingControl>> = {
  rn: RoundingControl.RoundToNearest,
  rd: RoundingControl.RoundDown,
  ru: RoundingControl.RoundUp,
  rz: RoundingControl.RoundTowardZero,
};

/** Consumes the decorators that come next. Throws LineError. */
export function parseDecorators(reader: TokenReader, into: Decorators): void {
  for (;;) {
    const token = reader.peek();
    if (token?.kind !== "decorator") return;
    reader.next();
    into.column ??= token.column;
    const text = token.text;
    const mask = registerByName(text);
    const rounding = /^(r[nduz])(-sae)?$/.exec(text);
    if (mask !== undefined && registerClass(mask) === "k") into.mask = mask;
    else if (rounding !== null) {
      into.rounding = ROUNDINGS[rounding[1]];
      if (rounding[2] !== undefined) into.suppressExceptions = true;
    } else if (text === "sae") into.suppressExceptions = true;
    else if (text === "eh") into.evictionHint = true;
    else if (CONVERSIONS[text] !== undefined) {
      into.conversion = CONVERSIONS[text];
    } else {
      throw new LineError(
        token.column,
        `unknown decorator {${text}}: accepted are {k0}–{k7}, {rn} {rd} {ru} ` +
          `{rz} with -sae, {sae}, {eh}, ${
            Object.keys(CONVERSIONS).map((c) => `{${c}}`).join(" ")
          }`,
      );
    }
  }
}

/** Writes the decorators into an instruction. */
export function applyDecorators(
  instruction: Instruction,
  decorators: Decorators,
  hasMemory: boolean,
): void {
  const { mask, rounding } = decorators;
  // The scale of an 8-bit displacement depends on it, so it must be said.
  // Rounding takes the swizzle's place in the encoding.
  const isRounding = rounding !== undefined ||
    decorators.suppressExceptions === true;
  const conversion = decorators.conversion ??
    (hasMemory
      ? Conversion.MemConvNone
      : isRounding
      ? Conversion.None
      : Conversion.RegSwizzleNone);
  instruction.opMask = mask ?? Register.None;
  if (rounding !== undefined) instruction.roundingControl = rounding;
  if (decorators.suppressExceptions) instruction.suppressAllExceptions = true;
  if (decorators.evictionHint) instruction.isMvexEvictionHint = true;
  instruction.mvexRegMemConv = conversion;
}
