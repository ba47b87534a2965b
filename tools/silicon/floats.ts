/**
 * Modes for vectors of SSE floating-point instructions: MXCSR with any rounding,
 * DAZ, FTZ and unmasked exceptions; TOP and tags for MMX forms. Their operands
 * come from seeds (tests/silicon/seeded_floats.ts).
 * Invariant: nothing here looks at what the CPU answers.
 */
import { OpKind, RegisterExt } from "iced-x86";
import {
  FLOAT_SEED,
  floatSeed,
  LaneType,
} from "../../tests/silicon/seeded_floats.ts";
import type { Work } from "./cases.ts";
import type { Random } from "./random.ts";
import type { Form } from "./rows.ts";

/** Mnemonics (as iced-x86 writes them) of floating-point instructions. */
export const FLOAT_MNEMONIC =
  /^(Add|Sub|Mul|Div|Sqrt|Min|Max|Cmp|Round|Rcp|Rsqrt|Comi|Ucomi|Addsub|Hadd|Hsub|Dp)[ps][sd]$|^Cvt/;
const FLAG_WRITER = /^U?comi/i;

/** Whether a form is one of these: CMPSD is a string instruction too. */
export function isFloat(form: Pick<Form, "mnemonic" | "name">): boolean {
  return FLOAT_MNEMONIC.test(form.mnemonic) && /mm/.test(form.name);
}

/** File of a floating-point mnemonic's vectors. */
export function floatFile(mnemonic: string): string {
  return mnemonic.startsWith("Cvt") ? "simd_convert" : "simd_float";
}

/** Seeds of x87 cases. */
const X87_SEEDS = 0x400;

/** A seed for x87 registers and operands of every format. */
export function x87Seed(rng: Random): number {
  return FLOAT_SEED + rng.below(X87_SEEDS) * 4 + LaneType.Extended;
}

/** Instructions that push: ST(7) must be empty, mostly. */
const PUSHES = /^F(ld|ild|bld|xtract|ptan|sincos)/;

/** Control, status and tag words of an x87 data case. */
export function x87State({ rng, state: { fpu }, form }: Work): void {
  if (form.seededFile !== "x87_data") return;
  fpu.fcw = 0x7f | rng.pick([0, 2, 3, 3, 3]) << 8 | rng.below(4) << 10;
  if (rng.chance(25)) fpu.fcw &= ~(1 << rng.below(6));
  else if (rng.chance(8)) fpu.fcw &= ~rng.below(64);
  const top = rng.chance(15) ? rng.below(8) : 0;
  fpu.fsw = top << 11 | (rng.chance(30) ? rng.below(8) << 8 : 0);
  // Flags that stand already, as far as they are masked.
  if (rng.chance(20)) fpu.fsw |= rng.below(64) & fpu.fcw;
  fpu.ftw = 0xff;
  if (PUSHES.test(form.mnemonic) && rng.chance(90)) {
    fpu.ftw &= ~(1 << ((top + 7) & 7));
  }
  if (rng.chance(12)) fpu.ftw &= rng.below(256);
}

const ONE_OR_MORE = 0x3fff, QUARTER_OR_MORE = 0x3ffd;

/** Whether the manual leaves the result of these operands open. */
export function leftOpen(mnemonic: string, st0: bigint): boolean {
  const exponent = Number(st0 >> 64n) & 0x7fff;
  if (exponent === 0x7fff) return false;
  // |ST(0)| above 1, and above 1 − √½ (SDM 2A F2XM1, FYL2XP1).
  if (mnemonic === "F2xm1") return exponent >= ONE_OR_MORE;
  return mnemonic === "Fyl2xp1" && exponent >= QUARTER_OR_MORE;
}

/** A seed whose lanes suit the source of the form. */
export function seedFor(rng: Random, form: Form): number {
  const source = /^cvtt?(..)2/i.exec(form.mnemonic)?.[1] ??
    form.mnemonic.slice(-2);
  const type = source[1] === "s"
    ? LaneType.Single
    : source[1] === "d"
    ? LaneType.Double
    : LaneType.Integer;
  return floatSeed(rng, source === "dq" ? LaneType.Integer : type);
}

function mxcsr(rng: Random): number {
  let value = 0x1f80 | rng.below(4) << 13;
  if (rng.chance(20)) value |= 0x40;
  if (rng.chance(20)) value |= 0x8000;
  if (rng.chance(10)) value |= rng.below(64);
  if (rng.chance(25)) value &= ~(0x80 << rng.below(6));
  else if (rng.chance(12)) value &= ~(rng.below(64) << 7);
  return value;
}

/** MXCSR, and the x87 state where an MMX register is named. */
export function floatState(w: Work): void {
  const { rng, instruction: ins, state: { fpu }, form } = w;
  if (!isFloat(form)) return;
  fpu.mxcsr = mxcsr(rng);
  if (FLAG_WRITER.test(form.mnemonic)) w.state.rflags |= rng.pick([0, 0x8d5]);
  const mmx = form.operands.some((_, i) =>
    ins.opKind(i) === OpKind.Register && RegisterExt.isMM(ins.opRegister(i))
  );
  // The memory forms that could name one show that nothing happens.
  if (!mmx && !/mm_mmm64/.test(form.name)) return;
  fpu.ftw = rng.chance(50) ? 0 : rng.below(256);
  // Another TOP renames every ST(i): such cases are long.
  fpu.fsw = rng.chance(15) ? rng.below(8) << 11 : 0;
  if (rng.chance(6)) {
    fpu.fcw &= ~1;
    fpu.fsw |= 0x8081;
  }
}
