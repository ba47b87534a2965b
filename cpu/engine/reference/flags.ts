/**
 * The arithmetic flags by their definitions (SDM vol. 1 §3.4.3.1, vol. 2 of each
 * instruction), as RFLAGS bits. Inputs are unsigned; results may have garbage
 * above the operand size.
 */
import { Rflags } from "../../arch/flags.ts";

const { CF, PF, AF, ZF, SF, OF } = Rflags;

/** All ones at each size in bits. */
export const MASK: Readonly<Record<number, bigint>> = {
  8: 0xffn,
  16: 0xffffn,
  32: 0xffff_ffffn,
  64: 0xffff_ffff_ffff_ffffn,
};

/** Parity of a byte: PF where it is even. */
const PARITY: readonly number[] = Array.from({ length: 256 }, (_, byte) => {
  let ones = 0;
  for (let b = byte; b !== 0; b >>= 1) ones += b & 1;
  return ones % 2 === 0 ? PF : 0;
});

/** SF, ZF and PF of a result. */
export function resultFlags(size: number, result: bigint): number {
  const r = result & MASK[size];
  let flags = PARITY[Number(r & 0xffn)];
  if (r === 0n) flags |= ZF;
  if (r >> BigInt(size - 1)) flags |= SF;
  return flags;
}

/** All six flags of a + b + carry. */
export function addFlags(
  size: number,
  a: bigint,
  b: bigint,
  carry: boolean,
): number {
  const mask = MASK[size], top = BigInt(size - 1);
  const x = a & mask, y = b & mask;
  const sum = x + y + (carry ? 1n : 0n), r = sum & mask;
  let flags = resultFlags(size, r);
  if (sum > mask) flags |= CF;
  if ((x ^ y ^ r) & 0x10n) flags |= AF;
  if (((x ^ r) & (y ^ r)) >> top) flags |= OF;
  return flags;
}

/** All six flags of a − b − borrow. */
export function subFlags(
  size: number,
  a: bigint,
  b: bigint,
  borrow: boolean,
): number {
  const mask = MASK[size], top = BigInt(size - 1);
  const x = a & mask, y = b & mask;
  const difference = x - y - (borrow ? 1n : 0n), r = difference & mask;
  let flags = resultFlags(size, r);
  if (difference < 0n) flags |= CF;
  if ((x ^ y ^ r) & 0x10n) flags |= AF;
  if (((x ^ y) & (x ^ r)) >> top) flags |= OF;
  return flags;
}

/** Whether condition code `cc` holds (SDM vol. 2 appendix B.1.4). */
export function conditionHolds(cc: number, flags: number): boolean {
  const less = ((flags & SF) !== 0) !== ((flags & OF) !== 0);
  let holds: boolean;
  switch (cc >> 1) {
    case 0:
      holds = (flags & OF) !== 0;
      break;
    case 1:
      holds = (flags & CF) !== 0;
      break;
    case 2:
      holds = (flags & ZF) !== 0;
      break;
    case 3:
      holds = (flags & (CF | ZF)) !== 0;
      break;
    case 4:
      holds = (flags & SF) !== 0;
      break;
    case 5:
      holds = (flags & PF) !== 0;
      break;
    case 6:
      holds = less;
      break;
    default:
      holds = less || (flags & ZF) !== 0;
  }
  return (cc & 1) === 0 ? holds : !holds;
}
