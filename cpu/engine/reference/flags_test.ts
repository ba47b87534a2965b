/**
 * The flag functions against definitions worked out bit by bit: a ripple adder
 * for carries, a count of ones for parity.
 */
import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { Rflags } from "../../arch/flags.ts";
import { addFlags, conditionHolds, subFlags } from "./flags.ts";

const { CF, PF, AF, ZF, SF, OF } = Rflags;
const bitOf = (v: bigint, i: number): number => Number((v >> BigInt(i)) & 1n);

/** Adds bit by bit, noting the carries into and out of each position. */
function ripple(
  size: number,
  a: bigint,
  b: bigint,
  carry: number,
): { sum: bigint; carries: number[] } {
  const carries = [carry];
  let sum = 0n;
  for (let i = 0; i < size; i++) {
    const ones = bitOf(a, i) + bitOf(b, i) + carries[i];
    if (ones & 1) sum |= 1n << BigInt(i);
    carries.push(ones >> 1);
  }
  return { sum, carries };
}

function expected(
  size: number,
  sum: bigint,
  carries: number[],
  borrow: boolean,
): number {
  let ones = 0;
  for (let i = 0; i < 8; i++) ones += bitOf(sum, i);
  const invert = borrow ? 1 : 0;
  let flags = 0;
  if (carries[size] ^ invert) flags |= CF;
  if (ones % 2 === 0) flags |= PF;
  if (carries[4] ^ invert) flags |= AF;
  if (sum === 0n) flags |= ZF;
  if (bitOf(sum, size - 1)) flags |= SF;
  if (carries[size] !== carries[size - 1]) flags |= OF;
  return flags;
}

const operands = fc.constantFrom(8, 16, 32, 64).chain((size) => {
  const value = fc.oneof(
    fc.bigInt({ min: 0n, max: (1n << BigInt(size)) - 1n }),
    fc.constantFrom(0n, 1n, (1n << BigInt(size)) - 1n, 1n << BigInt(size - 1)),
  );
  return fc.tuple(fc.constant(size), value, value, fc.boolean());
});

Deno.test("addFlags is the ripple adder's carries", () => {
  fc.assert(
    fc.property(operands, ([size, a, b, carry]) => {
      const { sum, carries } = ripple(size, a, b, carry ? 1 : 0);
      assertEquals(
        addFlags(size, a, b, carry),
        expected(size, sum, carries, false),
      );
    }),
    { seed: 1, numRuns: 2000 },
  );
});

Deno.test("subFlags is the adder's with the inverted subtrahend", () => {
  fc.assert(
    fc.property(operands, ([size, a, b, borrow]) => {
      const mask = (1n << BigInt(size)) - 1n;
      const { sum, carries } = ripple(size, a, b ^ mask, borrow ? 0 : 1);
      assertEquals(
        subFlags(size, a, b, borrow),
        expected(size, sum, carries, true),
      );
    }),
    { seed: 2, numRuns: 2000 },
  );
});

Deno.test("condition codes compare as the manual's table says", () => {
  fc.assert(
    fc.property(operands, ([size, a, b]) => {
      const flags = subFlags(size, a, b, false);
      const sa = BigInt.asIntN(size, a), sb = BigInt.asIntN(size, b);
      const truths = [
        sa - sb !== BigInt.asIntN(size, a - b),
        a < b,
        a === b,
        a <= b,
        BigInt.asIntN(size, a - b) < 0n,
        undefined,
        sa < sb,
        sa <= sb,
      ];
      truths.forEach((truth, i) => {
        if (truth === undefined) return;
        assertEquals(conditionHolds(i * 2, flags), truth);
        assertEquals(conditionHolds(i * 2 + 1, flags), !truth);
      });
    }),
    { seed: 3, numRuns: 2000 },
  );
});
