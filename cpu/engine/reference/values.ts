/**
 * PureOps over BigInt and boolean: values are unsigned 64-bit. Division by zero
 * gives zero, because an instruction whose #DE is already recorded goes on
 * being evaluated without effect.
 */
import type { PureOps, Size } from "../../isa/emitter.ts";
import { MASK } from "./flags.ts";

const M64 = MASK[64];
const signed = (a: bigint): bigint => BigInt.asIntN(64, a);
const count = (n: bigint): bigint => n & 63n;

/** See the file header. */
export class ValueOps implements PureOps<bigint, boolean> {
  k(n: bigint | number): bigint {
    return BigInt.asUintN(64, BigInt(n));
  }
  add(a: bigint, b: bigint): bigint {
    return (a + b) & M64;
  }
  sub(a: bigint, b: bigint): bigint {
    return (a - b) & M64;
  }
  mul(a: bigint, b: bigint): bigint {
    return (a * b) & M64;
  }
  mulHighU(a: bigint, b: bigint): bigint {
    return (a * b) >> 64n;
  }
  mulHighS(a: bigint, b: bigint): bigint {
    return ((signed(a) * signed(b)) >> 64n) & M64;
  }
  and(a: bigint, b: bigint): bigint {
    return a & b;
  }
  or(a: bigint, b: bigint): bigint {
    return a | b;
  }
  xor(a: bigint, b: bigint): bigint {
    return a ^ b;
  }
  not(a: bigint): bigint {
    return a ^ M64;
  }
  shl(a: bigint, n: bigint): bigint {
    return (a << count(n)) & M64;
  }
  shr(a: bigint, n: bigint): bigint {
    return a >> count(n);
  }
  sar(a: bigint, n: bigint): bigint {
    return (signed(a) >> count(n)) & M64;
  }
  rotl(a: bigint, n: bigint): bigint {
    const by = count(n);
    return ((a << by) | (a >> (64n - by))) & M64;
  }
  divU(a: bigint, b: bigint): bigint {
    return b === 0n ? 0n : a / b;
  }
  divS(a: bigint, b: bigint): bigint {
    return b === 0n ? 0n : (signed(a) / signed(b)) & M64;
  }
  remU(a: bigint, b: bigint): bigint {
    return b === 0n ? 0n : a % b;
  }
  remS(a: bigint, b: bigint): bigint {
    return b === 0n ? 0n : (signed(a) % signed(b)) & M64;
  }
  clz(a: bigint): bigint {
    const high = Number(a >> 32n);
    return BigInt(
      high !== 0 ? Math.clz32(high) : 32 + Math.clz32(Number(a & 0xffff_ffffn)),
    );
  }
  ctz(a: bigint): bigint {
    if (a === 0n) return 64n;
    return 63n - this.clz(a & -a);
  }
  popcnt(a: bigint): bigint {
    let n = 0n;
    for (let v = a; v !== 0n; v &= v - 1n) n++;
    return n;
  }
  zx(a: bigint, size: Size): bigint {
    return a & MASK[size];
  }
  sx(a: bigint, size: Size): bigint {
    return BigInt.asIntN(size, a) & M64;
  }
  eq(a: bigint, b: bigint): boolean {
    return a === b;
  }
  ne(a: bigint, b: bigint): boolean {
    return a !== b;
  }
  ltU(a: bigint, b: bigint): boolean {
    return a < b;
  }
  ltS(a: bigint, b: bigint): boolean {
    return signed(a) < signed(b);
  }
  true(): boolean {
    return true;
  }
  false(): boolean {
    return false;
  }
  notB(a: boolean): boolean {
    return !a;
  }
  andB(a: boolean, b: boolean): boolean {
    return a && b;
  }
  orB(a: boolean, b: boolean): boolean {
    return a || b;
  }
  xorB(a: boolean, b: boolean): boolean {
    return a !== b;
  }
  b2v(a: boolean): bigint {
    return a ? 1n : 0n;
  }
  sel(c: boolean, a: bigint, b: bigint): bigint {
    return c ? a : b;
  }
  bit(a: bigint, n: bigint): boolean {
    return ((a >> count(n)) & 1n) === 1n;
  }
}
