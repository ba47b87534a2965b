/**
 * Arithmetic flags as a pair of i64 without a kind (performance.md, T0):
 * FR is the result, sign-extended; FC has CF in bit 63, OF = bit 63 ^ bit 62,
 * AF in bit 3, and in bits 0 and 1 what to xor to FR's sign for SF and to the
 * parity of FR's low byte for PF. ZF = (FR = 0). Other bits of FC are noise.
 */
import { Rflags } from "../../arch/flags.ts";

const { CF, PF, AF, ZF, SF, OF } = Rflags;

/** RFLAGS bits from the halves of FR and FC. */
export function flagsFromPair(
  frLow: number,
  frHigh: number,
  fcLow: number,
  fcHigh: number,
): number {
  let p = frLow & 0xff;
  p ^= p >> 4;
  p ^= p >> 2;
  p ^= p >> 1;
  let flags = 0;
  if (fcHigh < 0) flags |= CF;
  if ((fcHigh ^ (fcHigh << 1)) < 0) flags |= OF;
  if (fcLow & 8) flags |= AF;
  if (((frHigh >>> 31) ^ fcLow) & 1) flags |= SF;
  if ((p ^ 1 ^ (fcLow >> 1)) & 1) flags |= PF;
  if ((frLow | frHigh) === 0) flags |= ZF;
  return flags;
}

/** FR (0 or 1) and the halves of FC that stand for RFLAGS bits. */
export function pairFromFlags(
  rflags: number,
): { fr: number; fcLow: number; fcHigh: number } {
  const zf = rflags & ZF ? 1 : 0, pf = rflags & PF ? 1 : 0;
  const cf = rflags & CF ? 1 : 0, of = rflags & OF ? 1 : 0;
  return {
    fr: zf ^ 1,
    fcLow: (rflags & SF ? 1 : 0) | (pf ^ zf) << 1 | (rflags & AF ? 8 : 0),
    fcHigh: cf << 31 | (cf ^ of) << 30,
  };
}
