/**
 * One instruction as written: prefixes, mnemonic, operands, decorators, and
 * the forms that the mnemonic names. Invariant: knows no addresses.
 */
import { type Decorators, parseDecorators } from "./decorators.ts";
import { unknownMnemonic } from "./diagnose.ts";
import type { InstructionText } from "./encode.ts";
import { type Form, formIndex, pseudoOperation } from "./forms.ts";
import type { TokenReader } from "./lexer.ts";
import {
  noPrefixes,
  type Operand,
  type OperandContext,
  parseOperand,
  PREFIXES,
} from "./operands.ts";
import { type Bits, LineError } from "./types.ts";

/** What decides which mnemonics exist. */
export interface InstructionSet {
  readonly bits: Bits;
  /** `cpu knc` is in force. */
  readonly knc: boolean;
  /** Further words for "the nearest is". */
  readonly others: readonly string[];
}

/** Is the word a prefix or a mnemonic? */
export function isInstruction(word: string, bits: Bits, knc: boolean): boolean {
  return PREFIXES[word] !== undefined || formIndex(bits, knc).has(word) ||
    word === "movabs" || pseudoOperation(word) !== undefined;
}

/** Parses an instruction; the reader stands on its first word. */
export function parseInstruction(
  reader: TokenReader,
  column: number,
  context: OperandContext,
  { bits, knc, others }: InstructionSet,
): InstructionText {
  const prefixes = noPrefixes(column);
  let token = reader.next();
  let word = token.text.toLowerCase();
  while (PREFIXES[word] !== undefined) {
    Object.assign(prefixes, PREFIXES[word]);
    if (reader.word() === undefined) {
      throw new LineError(
        reader.column,
        `found ${reader.found()} after the prefix \`${word}\`: expected ` +
          "an instruction",
      );
    }
    token = reader.next();
    word = token.text.toLowerCase();
  }
  const to = reader.takeWord("to");
  const operands: Operand[] = [];
  const decorators: Decorators = {};
  if (!reader.done) {
    do {
      // `vaddps zmm1, zmm2, zmm3, {rn-sae}`: rounding stands by itself.
      if (reader.peek()?.kind !== "decorator") {
        operands.push(parseOperand(reader, context));
      }
      parseDecorators(reader, decorators);
    } while (reader.take(","));
  }
  let forms: readonly Form[] | undefined = formIndex(bits, knc)
    .get(word);
  if (word === "movabs") {
    forms = formIndex(bits, knc).get("mov")?.filter((f) =>
      f.kinds.some((k) => k.name === "imm64" || k.name === "mem_offs")
    );
  }
  if (forms === undefined) {
    const pseudo = pseudoOperation(word);
    forms = pseudo && formIndex(bits, knc).get(pseudo.mnemonic);
    if (pseudo === undefined || forms === undefined) {
      throw unknownMnemonic(word, bits, token.column, others);
    }
    operands.push({
      k: "imm",
      column: token.column,
      expr: { k: "num", value: pseudo.imm },
      size: undefined,
      distance: undefined,
    });
  }
  return {
    mnemonic: word,
    column: token.column,
    operands,
    prefixes,
    bits,
    to,
    decorators,
    forms,
  };
}
