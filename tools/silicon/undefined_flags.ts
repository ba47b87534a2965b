/**
 * Which flags (and results) the manuals leave undefined, by mnemonic: SDM
 * vol. 2 and APM vol. 3, "Flags Affected" of each instruction. A flag counts as
 * undefined if the SDM says so; where the two differ the note tells.
 * Invariant: tests/silicon/undefined_flags_test.ts holds the unconditional rows
 * against iced's own table.
 */

/** RFLAGS bits. */
export const CF = 1, PF = 4, AF = 0x10, ZF = 0x40, SF = 0x80, OF = 0x800;

/** What decides about a shift: operand width in bits and the masked count. */
export interface ShiftContext {
  readonly width: number;
  readonly count: number;
}

/** One row: mnemonics, their undefined flags, and where that is written. */
export interface UndefinedFlagsRow {
  readonly mnemonics: readonly string[];
  /** Mask, or a rule when it depends on a shift's width and count. */
  readonly mask: number | ((context: ShiftContext) => number);
  readonly manual: string;
}

// A count of zero leaves every flag alone; OF is defined for a count of one.
const rotate = ({ count }: ShiftContext): number => count > 1 ? OF : 0;

const shift = ({ width, count }: ShiftContext): number =>
  count === 0 ? 0 : AF | (count > 1 ? OF : 0) | (count >= width ? CF : 0);

const arithmeticShift = ({ count }: ShiftContext): number =>
  count === 0 ? 0 : AF | (count > 1 ? OF : 0);

const doubleShift = ({ width, count }: ShiftContext): number =>
  count === 0
    ? 0
    : count > width
    ? CF | PF | AF | ZF | SF | OF
    : AF | (count > 1 ? OF : 0);

/** The table. Mnemonics not listed leave no flag undefined. */
export const UNDEFINED_FLAGS: readonly UndefinedFlagsRow[] = [
  {
    mnemonics: ["And", "Or", "Xor", "Test"],
    mask: AF,
    manual: "SDM vol. 2 AND, OR, XOR, TEST",
  },
  {
    mnemonics: ["Mul", "Imul"],
    mask: SF | ZF | AF | PF,
    manual: "SDM vol. 2 MUL, IMUL",
  },
  {
    mnemonics: ["Div", "Idiv"],
    mask: CF | OF | SF | ZF | AF | PF,
    manual: "SDM vol. 2 DIV, IDIV",
  },
  {
    mnemonics: ["Bt", "Bts", "Btr", "Btc"],
    mask: OF | SF | AF | PF,
    manual: "SDM vol. 2 BT (ZF unaffected; APM: also ZF undefined)",
  },
  {
    mnemonics: ["Bsf", "Bsr"],
    mask: CF | OF | SF | AF | PF,
    manual: "SDM vol. 2 BSF, BSR",
  },
  {
    mnemonics: ["Tzcnt", "Lzcnt"],
    mask: OF | SF | PF | AF,
    manual: "SDM vol. 2 TZCNT, LZCNT",
  },
  {
    mnemonics: ["Andn", "Blsi", "Blsmsk", "Blsr", "Bzhi"],
    mask: AF | PF,
    manual: "SDM vol. 2 ANDN, BLSI, BLSMSK, BLSR, BZHI",
  },
  {
    mnemonics: ["Bextr"],
    mask: AF | SF | PF,
    manual: "SDM vol. 2 BEXTR",
  },
  {
    mnemonics: ["Rol", "Ror", "Rcl", "Rcr"],
    mask: rotate,
    manual: "SDM vol. 2 RCL/RCR/ROL/ROR",
  },
  {
    mnemonics: ["Shl", "Sal", "Shr"],
    mask: shift,
    manual: "SDM vol. 2 SAL/SAR/SHL/SHR",
  },
  {
    mnemonics: ["Sar"],
    mask: arithmeticShift,
    manual: "SDM vol. 2 SAL/SAR/SHL/SHR (CF holds the sign beyond the width)",
  },
  {
    mnemonics: ["Daa", "Das"],
    mask: OF,
    manual: "SDM vol. 2 DAA, DAS",
  },
  {
    mnemonics: ["Aaa", "Aas"],
    mask: OF | SF | ZF | PF,
    manual: "SDM vol. 2 AAA, AAS",
  },
  {
    mnemonics: ["Aam", "Aad"],
    mask: OF | AF | CF,
    manual: "SDM vol. 2 AAM, AAD",
  },
  {
    mnemonics: ["Shld", "Shrd"],
    mask: doubleShift,
    manual: "SDM vol. 2 SHLD, SHRD (beyond the width the result is undefined)",
  },
];

const byMnemonic = new Map(
  UNDEFINED_FLAGS.flatMap((row) => row.mnemonics.map((m) => [m, row])),
);

/**
 * Undefined flags of `mnemonic` (iced's name) for one execution; `context` is
 * needed by shifts and rotates only.
 */
export function undefinedFlags(
  mnemonic: string,
  context?: ShiftContext,
): number {
  const row = byMnemonic.get(mnemonic);
  if (!row) return 0;
  if (typeof row.mask === "number") return row.mask;
  if (!context) throw new Error(`${mnemonic}: a shift needs width and count`);
  return row.mask(context);
}

/**
 * Flags that a fault in a repeated `mnemonic` leaves to the vendor: the SDM
 * (vol. 2 REP) puts RFLAGS back to before the instruction, AMD's CPUs keep
 * those of the last whole iteration.
 */
export function undefinedAfterFault(mnemonic: string): number {
  return /^(Cmps|Scas)[bwdq]$/.test(mnemonic) ? CF | PF | AF | ZF | SF | OF : 0;
}

/** True for the mnemonics whose mask depends on width and count. */
export function needsShiftContext(mnemonic: string): boolean {
  return typeof byMnemonic.get(mnemonic)?.mask === "function";
}

/**
 * True when the destination itself is undefined, so that no vector may be
 * recorded: SHLD/SHRD of 16 bits by more than 16 (SDM vol. 2), BSWAP of a
 * 16-bit register (SDM vol. 2 BSWAP).
 */
export function resultUndefined(
  mnemonic: string,
  context: ShiftContext,
): boolean {
  if (mnemonic === "Bswap") return context.width === 16;
  return (mnemonic === "Shld" || mnemonic === "Shrd") &&
    context.count > context.width;
}
