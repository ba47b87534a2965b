/**
 * Instructions with intricate semantics against definitions of one line or one
 * loop, on seeded random operands: wide division, bit gathering, CRC, rotates
 * through carry, double shifts, decimal adjustment.
 */
import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { parseModel } from "../../cpu/arch/models.ts";
import { ReferenceEngine } from "../../cpu/engine/reference/reference.ts";
import { createDecoder } from "../../plugins/decoder/decode.ts";
import { BareMachine } from "./bare_machine.ts";

const CODE = 0x1000;
const M64 = (1n << 64n) - 1n;
const base = parseModel("max-intel");
const model = { ...base, has: () => true };

function machineOf(bits: 32 | 64): BareMachine {
  const machine = new BareMachine(new ReferenceEngine(createDecoder(model)), {
    model,
    bits,
  });
  machine.map(CODE);
  return machine;
}
const m64 = machineOf(64), m32 = machineOf(32);

interface Outcome {
  readonly gpr: (i: number) => bigint;
  readonly flags: number;
  readonly fault: number;
}

function execute(
  machine: BareMachine,
  code: readonly number[],
  registers: Readonly<Record<number, bigint>>,
  flags = 2,
): Outcome {
  const { v } = machine.cpu;
  machine.poke(CODE, Uint8Array.from(code));
  v.rip = BigInt(CODE);
  v.rflags = flags;
  for (const [r, value] of Object.entries(registers)) {
    v.setGpr(Number(r), value);
  }
  const result = machine.step();
  return {
    gpr: (i) => v.gpr(i),
    flags: v.rflags,
    fault: result.kind === "fault" ? result.fault.vector : -1,
  };
}

const u64 = fc.oneof(
  fc.bigInt({ min: 0n, max: M64 }),
  fc.bigInt({ min: 0n, max: 0xffn }),
  fc.nat(63).map((n) => 1n << BigInt(n)),
  fc.constantFrom(0n, M64, 1n << 63n, (1n << 63n) - 1n, 0xffff_ffffn),
);
const OPTIONS = { seed: 20261123, numRuns: 1500 };

Deno.test("DIV r64 is the quotient of 128 bits by 64", () => {
  fc.assert(
    fc.property(u64, u64, u64, (high, low, d) => {
      const got = execute(m64, [0x48, 0xf7, 0xf1], { 0: low, 1: d, 2: high });
      const n = high << 64n | low;
      if (d === 0n || n / d > M64) assertEquals(got.fault, 0);
      else assertEquals([got.gpr(0), got.gpr(2)], [n / d, n % d]);
    }),
    OPTIONS,
  );
});

Deno.test("DIV r64 with quotients that need every correction step", () => {
  fc.assert(
    fc.property(u64, u64, u64, (q, d, r) => {
      if (d === 0n) return;
      const n = q * d + r % d;
      const registers = { 0: n & M64, 1: d, 2: n >> 64n };
      const got = execute(m64, [0x48, 0xf7, 0xf1], registers);
      assertEquals([got.gpr(0), got.gpr(2)], [q, r % d]);
    }),
    OPTIONS,
  );
});

Deno.test("IDIV r64 truncates towards zero", () => {
  fc.assert(
    fc.property(u64, u64, u64, (q, d, r) => {
      const sq = BigInt.asIntN(64, q), sd = BigInt.asIntN(64, d);
      if (sd === 0n) return;
      const size = sd < 0n ? -sd : sd;
      const rest = (r % size) * (sq * sd < 0n ? -1n : 1n);
      const n = sq * sd + rest;
      const registers = {
        0: BigInt.asUintN(64, n),
        1: d,
        2: BigInt.asUintN(64, n >> 64n),
      };
      const got = execute(m64, [0x48, 0xf7, 0xf9], registers);
      const wanted = n / sd;
      if (wanted !== BigInt.asIntN(64, wanted)) assertEquals(got.fault, 0);
      else {
        assertEquals(BigInt.asIntN(64, got.gpr(0)), wanted);
        assertEquals(BigInt.asIntN(64, got.gpr(2)), n % sd);
      }
    }),
    OPTIONS,
  );
});

Deno.test("IDIV r64 overflows exactly when the quotient does not fit", () => {
  fc.assert(
    fc.property(u64, u64, u64, (high, low, d) => {
      const n = BigInt.asIntN(128, high << 64n | low);
      const sd = BigInt.asIntN(64, d);
      const got = execute(m64, [0x48, 0xf7, 0xf9], { 0: low, 1: d, 2: high });
      const fits = sd !== 0n && n / sd === BigInt.asIntN(64, n / sd);
      assertEquals(got.fault, fits ? -1 : 0);
    }),
    OPTIONS,
  );
});

Deno.test("PEXT gathers and PDEP scatters bit by bit", () => {
  fc.assert(
    fc.property(u64, u64, (source, mask) => {
      let gathered = 0n, scattered = 0n, n = 0n;
      for (let i = 0n; i < 64n; i++) {
        if (!((mask >> i) & 1n)) continue;
        gathered |= ((source >> i) & 1n) << n;
        scattered |= ((source >> n) & 1n) << i;
        n++;
      }
      const registers = { 1: source, 2: mask };
      const pext = execute(m64, [0xc4, 0xe2, 0xf2, 0xf5, 0xc2], registers);
      assertEquals(pext.gpr(0), gathered);
      const pdep = execute(m64, [0xc4, 0xe2, 0xf3, 0xf5, 0xc2], registers);
      assertEquals(pdep.gpr(0), scattered);
    }),
    OPTIONS,
  );
});

Deno.test("CRC32 of the check string is E3069283", () => {
  let crc = 0xffff_ffffn;
  for (const byte of new TextEncoder().encode("123456789")) {
    const code = [0xf2, 0x0f, 0x38, 0xf0, 0xc1];
    crc = execute(m64, code, { 0: crc, 1: BigInt(byte) }).gpr(0);
  }
  assertEquals(crc ^ 0xffff_ffffn, 0xe3069283n);
  fc.assert(
    fc.property(u64, u64, (start, data) => {
      const wide = [0xf2, 0x48, 0x0f, 0x38, 0xf1, 0xc1];
      let bytewise = start;
      for (let i = 0n; i < 8n; i++) {
        const registers = { 0: bytewise, 1: (data >> i * 8n) & 0xffn };
        bytewise = execute(m64, [0xf2, 0x0f, 0x38, 0xf0, 0xc1], registers)
          .gpr(0);
      }
      assertEquals(execute(m64, wide, { 0: start, 1: data }).gpr(0), bytewise);
    }),
    { ...OPTIONS, numRuns: 300 },
  );
});

/** Opcode prefix bytes and operand size. */
const SIZES = [
  { size: 8, prefix: [], opcode: 0xd2 },
  { size: 16, prefix: [0x66], opcode: 0xd3 },
  { size: 32, prefix: [], opcode: 0xd3 },
  { size: 64, prefix: [0x48], opcode: 0xd3 },
];

Deno.test("RCL and RCR move one bit at a time", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...SIZES),
      u64,
      fc.nat(255),
      fc.boolean(),
      fc.boolean(),
      ({ size, prefix, opcode }, value, count, carry, left) => {
        const n = BigInt(size), mask = (1n << n) - 1n;
        let v = value & mask, c = carry ? 1n : 0n;
        for (let i = 0; i < (count & (size === 64 ? 63 : 31)); i++) {
          if (left) {
            const out = v >> (n - 1n);
            v = (v << 1n | c) & mask;
            c = out;
          } else {
            const out = v & 1n;
            v = v >> 1n | c << (n - 1n);
            c = out;
          }
        }
        const code = [...prefix, opcode, left ? 0xd0 : 0xd8];
        const registers = { 0: value, 1: BigInt(count) };
        const got = execute(m64, code, registers, 2 | (carry ? 1 : 0));
        assertEquals(got.gpr(0) & mask, v);
        assertEquals(BigInt(got.flags & 1), c);
      },
    ),
    { ...OPTIONS, numRuns: 4000 },
  );
});

Deno.test("SHLD and SHRD shift in the other operand's bits one at a time", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...SIZES.slice(1)),
      u64,
      u64,
      fc.nat(255),
      fc.boolean(),
      ({ size, prefix }, value, other, cl, left) => {
        const count = cl & (size === 64 ? 63 : 31);
        if (count > size) return; // undefined
        const n = BigInt(size), mask = (1n << n) - 1n;
        let v = value & mask, o = other & mask, c = -1n;
        for (let i = 0; i < count; i++) {
          if (left) {
            c = v >> (n - 1n);
            v = (v << 1n | o >> (n - 1n)) & mask;
            o = (o << 1n) & mask;
          } else {
            c = v & 1n;
            v = v >> 1n | (o & 1n) << (n - 1n);
            o >>= 1n;
          }
        }
        const code = [...prefix, 0x0f, left ? 0xa5 : 0xad, 0xd0];
        const registers = { 0: value, 1: BigInt(cl), 2: other };
        const got = execute(m64, code, registers, 0x8d7);
        assertEquals(got.gpr(0) & mask, v);
        if (count === 0) assertEquals(got.flags, 0x8d7);
        else assertEquals(BigInt(got.flags & 1), c);
      },
    ),
    { ...OPTIONS, numRuns: 4000 },
  );
});

Deno.test("DAA and DAS add and subtract packed decimals", () => {
  const pack = (n: number): number => Math.floor(n / 10) << 4 | n % 10;
  for (let a = 0; a < 100; a++) {
    for (let b = 0; b < 100; b++) {
      for (const carry of [0, 1]) {
        // ADC AL, CL; DAA. SBB AL, CL; DAS.
        const registers = { 0: BigInt(pack(a)), 1: BigInt(pack(b)) };
        const added = execute(m32, [0x10, 0xc8], registers, 2 | carry);
        const sum = execute(m32, [0x27], {}, added.flags);
        const n = a + b + carry;
        assertEquals(sum.gpr(0), BigInt(pack(n % 100)));
        assertEquals(sum.flags & 1, n > 99 ? 1 : 0);
        const less = execute(m32, [0x18, 0xc8], registers, 2 | carry);
        const difference = execute(m32, [0x2f], {}, less.flags);
        const m = a - b - carry;
        assertEquals(difference.gpr(0), BigInt(pack((m + 200) % 100)));
        assertEquals(difference.flags & 1, m < 0 ? 1 : 0);
      }
    }
  }
});
