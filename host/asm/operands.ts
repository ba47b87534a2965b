/**
 * Operands and prefixes as written: types and parser. Intel syntax in NASM's
 * dialect, with MASM's `ptr` and `fs:[…]` accepted too.
 * Invariant: nothing here knows op-codes; matching is match.ts's work.
 */
import { Register } from "iced-x86";
import { LineError } from "./types.ts";
import type { TokenReader } from "./lexer.ts";
import {
  type Expr,
  isConstant,
  type NameResolver,
  parseExpression,
  type RegisterTerm,
  splitAddress,
} from "./expression.ts";
import { generalBits, registerClass } from "./registers.ts";

/** Size keywords and their bytes. */
export const SIZES: ReadonlyMap<string, number> = new Map([
  ["byte", 1],
  ["word", 2],
  ["dword", 4],
  ["fword", 6],
  ["pword", 6],
  ["qword", 8],
  ["tword", 10],
  ["tbyte", 10],
  ["oword", 16],
  ["dqword", 16],
  ["xmmword", 16],
  ["xword", 16],
  ["yword", 32],
  ["ymmword", 32],
  ["zword", 64],
  ["zmmword", 64],
]);

/** A memory operand as written. */
export interface MemoryOperandText {
  readonly k: "mem";
  readonly column: number;
  /** Bytes from a size keyword. */
  readonly size: number | undefined;
  readonly far: boolean;
  readonly segment: Register | undefined;
  readonly base: Register;
  readonly index: Register;
  readonly scale: number;
  readonly displacement: Expr | undefined;
  /** `rel`: the displacement is the address itself, encoded from RIP. */
  readonly relative: "rel" | "abs" | "rip" | undefined;
  /** Address size from the registers or a keyword inside [ ], 0 if open. */
  readonly addressBits: number;
  /** Bytes of displacement demanded by a keyword inside [ ], 0 if open. */
  readonly displacementBytes: number;
}

/** An operand as written. */
export type Operand =
  | { readonly k: "reg"; readonly column: number; readonly reg: Register }
  | {
    readonly k: "imm";
    readonly column: number;
    readonly expr: Expr;
    readonly size: number | undefined;
    readonly distance: "short" | "near" | undefined;
  }
  | {
    readonly k: "far";
    readonly column: number;
    readonly selector: Expr;
    readonly offset: Expr;
    readonly size: number | undefined;
  }
  | MemoryOperandText;

/** Prefixes as written in front of the mnemonic. */
export interface Prefixes {
  lock: boolean;
  rep: boolean;
  repne: boolean;
  bnd: boolean;
  notrack: boolean;
  xacquire: boolean;
  xrelease: boolean;
  segment: Register | undefined;
  operandBits: 0 | 16 | 32 | 64;
  addressBits: 0 | 16 | 32 | 64;
  column: number;
}

/** Prefix words, each setting its field. */
export const PREFIXES: Readonly<Record<string, Partial<Prefixes>>> = {
  lock: { lock: true },
  rep: { rep: true },
  repe: { rep: true },
  repz: { rep: true },
  repne: { repne: true },
  repnz: { repne: true },
  bnd: { bnd: true },
  notrack: { notrack: true },
  xacquire: { xacquire: true },
  xrelease: { xrelease: true },
  o16: { operandBits: 16 },
  o32: { operandBits: 32 },
  o64: { operandBits: 64 },
  data16: { operandBits: 16 },
  data32: { operandBits: 32 },
  a16: { addressBits: 16 },
  a32: { addressBits: 32 },
  a64: { addressBits: 64 },
  addr16: { addressBits: 16 },
  addr32: { addressBits: 32 },
  es: { segment: Register.ES },
  cs: { segment: Register.CS },
  ss: { segment: Register.SS },
  ds: { segment: Register.DS },
  fs: { segment: Register.FS },
  gs: { segment: Register.GS },
};

/** No prefix at all. */
export function noPrefixes(column: number): Prefixes {
  return {
    lock: false,
    rep: false,
    repne: false,
    bnd: false,
    notrack: false,
    xacquire: false,
    xrelease: false,
    segment: undefined,
    operandBits: 0,
    addressBits: 0,
    column,
  };
}

/** What the operand parser asks of its surroundings. */
export interface OperandContext extends NameResolver {
  /** Value of a factor that must be known at once (`[rax*N]`). */
  constant(e: Expr): bigint;
  /** Is `[label]` RIP-relative by default? */
  readonly defaultRelative: boolean;
}

/** Parses one operand. Throws LineError. */
export function parseOperand(
  reader: TokenReader,
  context: OperandContext,
): Operand {
  const column = reader.column;
  let size: number | undefined;
  let far = false;
  let distance: "short" | "near" | undefined;
  for (;;) {
    const word = reader.word();
    if (word === undefined) break;
    const bytes = SIZES.get(word);
    if (bytes !== undefined) size = bytes;
    else if (word === "far") far = true;
    else if (word === "short" || word === "near") distance = word;
    else if (word !== "strict" && word !== "ptr" && word !== "offset") break;
    reader.next();
  }
  if (reader.at("[")) {
    return parseMemory(reader, context, { column, size, far }, undefined);
  }
  const first = reader.peek();
  if (first?.kind === "name") {
    const reg = lookUpRegister(reader, context);
    if (reg !== undefined) {
      if (registerClass(reg) === "seg" && reader.take(":")) {
        return parseMemory(reader, context, { column, size, far }, reg);
      }
      return { k: "reg", column, reg };
    }
  }
  const expr = parseExpression(reader, context, "operand");
  if (reader.take(":")) {
    const offset = parseExpression(reader, context, "offset of far pointer");
    return { k: "far", column, selector: expr, offset, size };
  }
  return { k: "imm", column, expr, size, distance };
}

/** Consumes a register, `st(3)` included. */
function lookUpRegister(
  reader: TokenReader,
  context: NameResolver,
): Register | undefined {
  const reg = context.register(reader.word()!);
  if (reg === undefined) return undefined;
  const isStack = reader.word() === "st";
  reader.next();
  if (isStack && reader.take("(")) {
    const token = reader.peek();
    if (token?.kind !== "number" || token.value > 7n) {
      throw new LineError(
        reader.column,
        `st(…): found ${reader.found()}, accepted are 0 to 7`,
      );
    }
    reader.next();
    reader.expect(")", "st(…)");
    return Register.ST0 + Number(token.value);
  }
  return reg;
}

interface MemoryHead {
  readonly column: number;
  readonly size: number | undefined;
  readonly far: boolean;
}

function parseMemory(
  reader: TokenReader,
  context: OperandContext,
  head: MemoryHead,
  outerSegment: Register | undefined,
): MemoryOperandText {
  reader.expect("[", "memory operand");
  let segment = outerSegment;
  let relative: "rel" | "abs" | undefined;
  let inner = 0;
  for (;;) {
    const word = reader.word();
    if (word === undefined) break;
    if (word === "rel" || word === "abs") relative = word;
    else if (SIZES.has(word)) inner = SIZES.get(word)!;
    else if (word !== "nosplit") {
      const reg = context.register(word);
      if (
        reg === undefined || registerClass(reg) !== "seg" || !reader.at(":", 1)
      ) break;
      segment = reg;
      reader.next();
    }
    reader.next();
  }
  const expr = parseExpression(reader, context, "address");
  reader.expect("]", "memory operand");
  const linear = splitAddress(expr, (e) => context.constant(e));
  return finishMemory(head, segment, relative, inner, linear, context);
}

function finishMemory(
  head: MemoryHead,
  segment: Register | undefined,
  relativeWord: "rel" | "abs" | undefined,
  inner: number,
  linear: { terms: RegisterTerm[]; rest: Expr | undefined },
  context: OperandContext,
): MemoryOperandText {
  const rest = linear.rest;
  const ip = linear.terms.find((t) => registerClass(t.reg) === "ip");
  if (ip !== undefined) {
    if (linear.terms.length > 1 || ip.scale !== 1n) {
      throw new LineError(
        ip.column,
        "an address relative to the instruction pointer takes no other " +
          "register: accepted is [rip + displacement]",
      );
    }
    return {
      k: "mem",
      ...head,
      segment,
      base: Register.None,
      index: Register.None,
      scale: 1,
      displacement: rest,
      // [rip + label] means the label; [rip + 8] means 8 bytes further on.
      relative: rest === undefined || isConstant(rest) ? "rip" : "rel",
      addressBits: ip.reg === Register.EIP ? 32 : 64,
      displacementBytes: 0,
    };
  }
  const { base, index, scale } = chooseBaseAndIndex(linear.terms);
  const some = base !== Register.None ? base : index;
  const isVector = generalBits(some) === 0;
  const noRegisters = some === Register.None;
  if (!noRegisters && relativeWord === "rel") {
    throw new LineError(
      head.column,
      "`rel` takes no registers: accepted is [rel label]",
    );
  }
  return {
    k: "mem",
    ...head,
    segment,
    base,
    index,
    scale,
    displacement: rest,
    relative: !noRegisters ? undefined : relativeWord ??
      (context.defaultRelative && rest !== undefined && !isConstant(rest)
        ? "rel"
        : undefined),
    addressBits: noRegisters
      ? (inner >= 2 && inner <= 8 ? inner * 8 : 0)
      : isVector
      ? 0
      : generalBits(some),
    displacementBytes: noRegisters ? 0 : inner,
  };
}

function chooseBaseAndIndex(
  terms: readonly RegisterTerm[],
): { base: Register; index: Register; scale: number } {
  const merged: {
    reg: Register;
    scale: number;
    scaled: boolean;
    column: number;
  }[] = [];
  for (const term of terms) {
    const same = merged.find((m) => m.reg === term.reg);
    // [rax+rax] stays base + index; [rax*2+rax] becomes rax*3, split below.
    if (same !== undefined && (same.scale !== 1 || term.scale !== 1n)) {
      same.scale += Number(term.scale);
    } else {
      merged.push({
        reg: term.reg,
        scale: Number(term.scale),
        scaled: term.scaled,
        column: term.column,
      });
    }
  }
  for (const { reg, column } of merged) {
    const cls = registerClass(reg);
    if (generalBits(reg) <= 8 && !["xmm", "ymm", "zmm"].includes(cls)) {
      throw new LineError(
        column,
        `\`${Register[reg].toLowerCase()}\` can't address memory: accepted ` +
          "are 16-, 32- and 64-bit general registers and RIP",
      );
    }
  }
  if (merged.length > 2) {
    throw new LineError(
      merged[2].column,
      "too many registers in the address: accepted is " +
        "[base + index*scale + displacement]",
    );
  }
  if (merged.length === 0) {
    return { base: Register.None, index: Register.None, scale: 1 };
  }
  const [first, second] = merged;
  if (second === undefined) {
    if (generalBits(first.reg) > 0) {
      if (first.scale === 1 && !first.scaled) {
        return { base: first.reg, index: Register.None, scale: 1 };
      }
      if ([3, 5, 9].includes(first.scale)) {
        return { base: first.reg, index: first.reg, scale: first.scale - 1 };
      }
    }
    checkScale(first);
    return { base: Register.None, index: first.reg, scale: first.scale };
  }
  let [base, index] = [first, second];
  const mustSwap = base.scale !== 1 || (base.scaled && !index.scaled) ||
    generalBits(base.reg) === 0 ||
    index.reg === Register.RSP || index.reg === Register.ESP ||
    // 16-bit addressing has fixed pairs: BX or BP with SI or DI.
    base.reg === Register.SI || base.reg === Register.DI;
  if (mustSwap) [base, index] = [index, base];
  if (base.scale !== 1) {
    throw new LineError(
      base.column,
      "both registers of the address have a scale: only the index may",
    );
  }
  checkScale(index);
  return { base: base.reg, index: index.reg, scale: index.scale };
}

function checkScale(term: { scale: number; column: number }): void {
  if (![1, 2, 4, 8].includes(term.scale)) {
    throw new LineError(
      term.column,
      `scale ${term.scale} doesn't exist: accepted are 1, 2, 4 and 8`,
    );
  }
}
