/**
 * Bit instructions (SDM vol. 1 §7.3.7, vol. 2): BT BTS BTR BTC, BSF BSR, TZCNT
 * LZCNT POPCNT, BMI1, BMI2, CRC32.
 *
 * Flags that the manual leaves undefined keep their values after BT*, BSF, BSR,
 * TZCNT and LZCNT, and are those of a logical operation after BMI rows.
 */
import { ARITHMETIC_FLAGS, Rflags } from "../arch/flags.ts";
import { OperandKind } from "../isa/insn.ts";
import type { EmitFunction, Emitter, Size } from "../isa/emitter.ts";

/** What BT and its relatives do to the bit. */
export type BitAction = "test" | "set" | "reset" | "complement";

/**
 * BT, BTS, BTR, BTC. With a register offset and a memory base the offset is
 * signed and selects a word of the bit string (SDM vol. 1 §4.3, table 3-2 of vol. 2A).
 */
export function bitTest(action: BitAction): EmitFunction {
  return (e) => {
    const size = e.size(0);
    const { operands, memory } = e.form;
    const index = e.rd(1);
    const position = e.and(index, e.k(size - 1));
    const string = operands[0].kind === OperandKind.Memory &&
      operands[1].kind !== OperandKind.Immediate && memory !== undefined;
    let value, address = undefined;
    if (string) {
      const log = size === 64 ? 6 : size === 32 ? 5 : 4;
      const word = e.sar(e.sx(index, size), e.k(log));
      const offset = e.add(e.ea(0), e.shl(word, e.k(log - 3)));
      address = e.zx(offset, e.form.addressSize);
      value = action === "test"
        ? e.ld(memory.segment, address, size)
        : e.ldRw(memory.segment, address, size);
    } else value = action === "test" ? e.rd(0) : e.rdRw(0);
    const cf = e.bit(value, position);
    if (action !== "test") {
      const mask = e.shl(e.k(1), position);
      const res = action === "set"
        ? e.or(value, mask)
        : action === "reset"
        ? e.and(value, e.not(mask))
        : e.xor(value, mask);
      if (string && address !== undefined) {
        e.st(memory.segment, address, size, res);
      } else e.wr(0, res);
    }
    e.putFl(Rflags.CF, e.b2v(cf));
  };
}

/** Puts ZF (and CF when given); the other flags keep their values. */
function zeroAndCarry<V, B>(e: Emitter<V, B>, zf: B, cf?: B): void {
  const z = e.shl(e.b2v(zf), e.k(6));
  if (cf === undefined) e.putFl(Rflags.ZF, z);
  else e.putFl(Rflags.ZF | Rflags.CF, e.or(z, e.b2v(cf)));
}

/** BSF: a zero source leaves the destination register as it was, upper half included. */
export function bsf<V, B>(e: Emitter<V, B>): void {
  const src = e.rd(1), zero = e.eq(src, e.k(0));
  e.if(e.notB(zero), () => e.wr(0, e.ctz(src)));
  zeroAndCarry(e, zero);
}

/** BSR. */
export function bsr<V, B>(e: Emitter<V, B>): void {
  const src = e.rd(1), zero = e.eq(src, e.k(0));
  e.if(e.notB(zero), () => e.wr(0, e.sub(e.k(63), e.clz(src))));
  zeroAndCarry(e, zero);
}

/** TZCNT: the operand size for zero. */
export function tzcnt<V, B>(e: Emitter<V, B>): void {
  const size = e.size(0), src = e.rd(1);
  const res = size === 64
    ? e.ctz(src)
    : e.ctz(e.or(src, e.k(1n << BigInt(size))));
  e.wr(0, res);
  zeroAndCarry(e, e.eq(res, e.k(0)), e.eq(src, e.k(0)));
}

/** LZCNT. */
export function lzcnt<V, B>(e: Emitter<V, B>): void {
  const src = e.rd(1);
  const res = e.sub(e.clz(src), e.k(64 - e.size(0)));
  e.wr(0, res);
  zeroAndCarry(e, e.eq(res, e.k(0)), e.eq(src, e.k(0)));
}

/** POPCNT: ZF for a zero source, every other flag cleared. */
export function popcnt<V, B>(e: Emitter<V, B>): void {
  const src = e.rd(1);
  e.wr(0, e.popcnt(src));
  e.putFl(ARITHMETIC_FLAGS, e.shl(e.b2v(e.eq(src, e.k(0))), e.k(6)));
}

/** ANDN: ~src1 & src2. */
export function andn<V, B>(e: Emitter<V, B>): void {
  const res = e.and(e.not(e.rd(1)), e.rd(2));
  e.wr(0, res);
  e.fLogic(e.size(0), res);
}

/** BEXTR: length and start in the control operand's second and first byte. */
export function bextr<V, B>(e: Emitter<V, B>): void {
  const src = e.rd(1), control = e.rd(2), k64 = e.k(64);
  const start = e.zx(control, 8);
  const length = e.zx(e.shr(control, e.k(8)), 8);
  const moved = e.sel(e.ltU(start, k64), e.shr(src, start), e.k(0));
  const mask = e.sub(e.shl(e.k(1), length), e.k(1));
  const res = e.sel(e.ltU(length, k64), e.and(moved, mask), moved);
  e.wr(0, res);
  e.fLogic(e.size(0), res);
}

/** BLSI: isolates the lowest set bit. */
export function blsi<V, B>(e: Emitter<V, B>): void {
  const src = e.rd(1), res = e.and(e.sub(e.k(0), src), src);
  e.wr(0, res);
  e.fRes(e.size(0), res, e.ne(src, e.k(0)), e.false());
}

/** BLSMSK: mask up to the lowest set bit. */
export function blsmsk<V, B>(e: Emitter<V, B>): void {
  const src = e.rd(1), res = e.xor(e.sub(src, e.k(1)), src);
  e.wr(0, res);
  e.fRes(e.size(0), res, e.eq(src, e.k(0)), e.false());
}

/** BLSR: resets the lowest set bit. */
export function blsr<V, B>(e: Emitter<V, B>): void {
  const src = e.rd(1), res = e.and(e.sub(src, e.k(1)), src);
  e.wr(0, res);
  e.fRes(e.size(0), res, e.eq(src, e.k(0)), e.false());
}

/** BZHI: zeroes from bit index upwards; CF when the index exceeds the size. */
export function bzhi<V, B>(e: Emitter<V, B>): void {
  const size = e.size(0), src = e.rd(1);
  const index = e.zx(e.rd(2), 8);
  const inside = e.ltU(index, e.k(size));
  const mask = e.sub(e.shl(e.k(1), index), e.k(1));
  const res = e.sel(inside, e.and(src, mask), src);
  e.wr(0, res);
  e.fRes(size, res, e.notB(inside), e.false());
}

/**
 * The six move masks of a parallel compress under `mask` (Warren, Hacker's
 * Delight §7-4): step i moves bits right by 2^i where its mask says so.
 */
function compressMoves<V, B>(e: Emitter<V, B>, mask: V): V[] {
  const moves: V[] = [];
  let m = mask;
  let below = e.shl(e.not(m), e.k(1));
  for (let i = 0; i < 6; i++) {
    let parity = below;
    for (let j = 1; j < 64; j *= 2) {
      parity = e.xor(parity, e.shl(parity, e.k(j)));
    }
    const move = e.and(parity, m);
    moves.push(move);
    m = e.or(e.xor(m, move), e.shr(move, e.k(1 << i)));
    below = e.and(below, e.not(parity));
  }
  return moves;
}

/** PEXT: gathers the bits of src1 under the mask src2. */
export function pext<V, B>(e: Emitter<V, B>): void {
  const mask = e.rd(2);
  const moves = compressMoves(e, mask);
  let x = e.and(e.rd(1), mask);
  for (let i = 0; i < 6; i++) {
    const t = e.and(x, moves[i]);
    x = e.or(e.xor(x, t), e.shr(t, e.k(1 << i)));
  }
  e.wr(0, x);
}

/** PDEP: scatters the low bits of src1 to the mask src2. */
export function pdep<V, B>(e: Emitter<V, B>): void {
  const mask = e.rd(2);
  const moves = compressMoves(e, mask);
  let x = e.rd(1);
  for (let i = 5; i >= 0; i--) {
    const t = e.shl(x, e.k(1 << i));
    x = e.or(e.and(x, e.not(moves[i])), e.and(t, moves[i]));
  }
  e.wr(0, e.and(x, mask));
}

/** CRC-32C polynomial 0x11EDC6F41, bit-reflected. */
const CASTAGNOLI = 0x82f63b78;

/** CRC32: operand 0 accumulates over operand 1, least significant bit first. */
export function crc32<V, B>(e: Emitter<V, B>): void {
  const size: Size = e.size(1);
  const polynomial = e.k(CASTAGNOLI), one = e.k(1);
  let crc = e.xor(e.zx(e.rd(0), 32), e.rd(1));
  for (let i = 0; i < size; i++) {
    const low = e.and(crc, one);
    crc = e.xor(e.shr(crc, one), e.mul(low, polynomial));
  }
  e.wr(0, e.zx(crc, 32));
}
