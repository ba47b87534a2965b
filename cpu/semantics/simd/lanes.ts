/**
 * Lane functions of integer and logical SIMD (SDM vol. 2): whole operands as
 * unsigned bigints of `bits` (64 for MMX, 128 for XMM) in, a whole result out.
 * Invariant: pure; every result fits in `bits`.
 */

/** destination, source, operand width in bits, immediate → destination. */
export type VectorFunction = (
  a: bigint,
  b: bigint,
  bits: number,
  imm: number,
) => bigint;
/** One lane; signed or unsigned as the table says. */
type Lane = (a: bigint, b: bigint) => bigint;

/** Splits into lanes of `width` bits, lowest first. */
export function split(v: bigint, bits: number, width: number): bigint[] {
  const out: bigint[] = [];
  for (let at = 0; at < bits; at += width) {
    out.push(BigInt.asUintN(width, v >> BigInt(at)));
  }
  return out;
}

/** Joins lanes, each reduced to `width` bits. */
export function join(lanes: readonly bigint[], width: number): bigint {
  let out = 0n;
  for (let i = lanes.length - 1; i >= 0; i--) {
    out = out << BigInt(width) | BigInt.asUintN(width, lanes[i]);
  }
  return out;
}

function each(width: number, signed: boolean, f: Lane): VectorFunction {
  return (a, b, bits) => {
    const x = split(a, bits, width), y = split(b, bits, width);
    return join(
      x.map((v, i) =>
        signed
          ? f(BigInt.asIntN(width, v), BigInt.asIntN(width, y[i]))
          : f(v, y[i])
      ),
      width,
    );
  };
}

function clamp(v: bigint, low: bigint, high: bigint): bigint {
  return v < low ? low : v > high ? high : v;
}

/** Saturates to `width` bits, signed or not. */
function saturate(v: bigint, width: number, signed: boolean): bigint {
  const w = BigInt(width);
  return signed
    ? clamp(v, -(1n << (w - 1n)), (1n << (w - 1n)) - 1n)
    : clamp(v, 0n, (1n << w) - 1n);
}

const add: Lane = (a, b) => a + b, sub: Lane = (a, b) => a - b;
const wrapAdd = (w: number): VectorFunction => each(w, false, add);
const wrapSub = (w: number): VectorFunction => each(w, false, sub);
function saturating(f: Lane, width: number, signed: boolean): VectorFunction {
  return each(width, signed, (a, b) => saturate(f(a, b), width, signed));
}
const equal = (w: number): VectorFunction =>
  each(w, false, (a, b) => a === b ? -1n : 0n);
const greater = (w: number): VectorFunction =>
  each(w, true, (a, b) => a > b ? -1n : 0n);
const least: Lane = (a, b) => a < b ? a : b;
const most: Lane = (a, b) => a > b ? a : b;
const average: Lane = (a, b) => (a + b + 1n) >> 1n;

function unpack(width: number, high: boolean): VectorFunction {
  return (a, b, bits) => {
    const x = split(a, bits, width), y = split(b, bits, width);
    const half = x.length / 2, from = high ? half : 0;
    const out: bigint[] = [];
    for (let i = from; i < from + half; i++) out.push(x[i], y[i]);
    return join(out, width);
  };
}

function pack(width: number, signed: boolean): VectorFunction {
  return (a, b, bits) =>
    join(
      [...split(a, bits, width), ...split(b, bits, width)].map((v) =>
        saturate(BigInt.asIntN(width, v), width / 2, signed)
      ),
      width / 2,
    );
}

/** Shift of each lane by one count, which saturates at the lane's width. */
function shift(width: number, kind: "l" | "r" | "a"): VectorFunction {
  return (a, count, bits) => {
    const low = BigInt.asUintN(64, count);
    const over = low >= BigInt(width);
    return join(
      split(a, bits, width).map((v) => {
        if (kind === "a") {
          const n = over ? BigInt(width - 1) : low;
          return BigInt.asIntN(width, v) >> n;
        }
        if (over) return 0n;
        return kind === "l" ? v << low : v >> low;
      }),
      width,
    );
  };
}

function shuffle(width: number, first: number): VectorFunction {
  return (_a, b, bits, imm) => {
    const x = split(b, bits, width), out = [...x];
    for (let i = 0; i < 4; i++) {
      out[first + i] = x[first + (imm >> i * 2 & 3)];
    }
    return join(out, width);
  };
}

/** Sum of products of neighbouring words. */
const multiplyAdd: VectorFunction = (a, b, bits) => {
  const x = split(a, bits, 16).map((v) => BigInt.asIntN(16, v));
  const y = split(b, bits, 16).map((v) => BigInt.asIntN(16, v));
  const out: bigint[] = [];
  for (let i = 0; i < x.length; i += 2) {
    out.push(x[i] * y[i] + x[i + 1] * y[i + 1]);
  }
  return join(out, 32);
};

const differences: VectorFunction = (a, b, bits) => {
  const x = split(a, bits, 8), y = split(b, bits, 8);
  const out: bigint[] = [];
  for (let i = 0; i < x.length; i += 8) {
    let sum = 0n;
    for (let j = i; j < i + 8; j++) {
      sum += x[j] > y[j] ? x[j] - y[j] : y[j] - x[j];
    }
    out.push(sum);
  }
  return join(out, 64);
};

const and: VectorFunction = (a, b) => a & b;
const or: VectorFunction = (a, b) => a | b;
const xor: VectorFunction = (a, b) => a ^ b;
const andNot: VectorFunction = (a, b, bits) => BigInt.asUintN(bits, ~a) & b;

/** Forms there are: MMX of Pentium MMX, SSE or SSE2, or XMM only. */
export type MmxForm = "mmx" | "sse" | "sse2" | undefined;

/** Integer operations: mnemonic, feature of the MMX form, function. */
export const INTEGER: readonly (readonly [string, MmxForm, VectorFunction])[] =
  [
    ["PADDB", "mmx", wrapAdd(8)],
    ["PADDW", "mmx", wrapAdd(16)],
    ["PADDD", "mmx", wrapAdd(32)],
    ["PADDQ", "sse2", wrapAdd(64)],
    ["PSUBB", "mmx", wrapSub(8)],
    ["PSUBW", "mmx", wrapSub(16)],
    ["PSUBD", "mmx", wrapSub(32)],
    ["PSUBQ", "sse2", wrapSub(64)],
    ["PADDSB", "mmx", saturating(add, 8, true)],
    ["PADDSW", "mmx", saturating(add, 16, true)],
    ["PADDUSB", "mmx", saturating(add, 8, false)],
    ["PADDUSW", "mmx", saturating(add, 16, false)],
    ["PSUBSB", "mmx", saturating(sub, 8, true)],
    ["PSUBSW", "mmx", saturating(sub, 16, true)],
    ["PSUBUSB", "mmx", saturating(sub, 8, false)],
    ["PSUBUSW", "mmx", saturating(sub, 16, false)],
    ["PMULLW", "mmx", each(16, true, (a, b) => a * b)],
    ["PMULHW", "mmx", each(16, true, (a, b) => (a * b) >> 16n)],
    ["PMULHUW", "sse", each(16, false, (a, b) => (a * b) >> 16n)],
    [
      "PMULUDQ",
      "sse2",
      each(64, false, (a, b) => BigInt.asUintN(32, a) * BigInt.asUintN(32, b)),
    ],
    ["PMADDWD", "mmx", multiplyAdd],
    ["PSADBW", "sse", differences],
    ["PAVGB", "sse", each(8, false, average)],
    ["PAVGW", "sse", each(16, false, average)],
    ["PMINUB", "sse", each(8, false, least)],
    ["PMINSW", "sse", each(16, true, least)],
    ["PMAXUB", "sse", each(8, false, most)],
    ["PMAXSW", "sse", each(16, true, most)],
    ["PCMPEQB", "mmx", equal(8)],
    ["PCMPEQW", "mmx", equal(16)],
    ["PCMPEQD", "mmx", equal(32)],
    ["PCMPGTB", "mmx", greater(8)],
    ["PCMPGTW", "mmx", greater(16)],
    ["PCMPGTD", "mmx", greater(32)],
    ["PAND", "mmx", and],
    ["PANDN", "mmx", andNot],
    ["POR", "mmx", or],
    ["PXOR", "mmx", xor],
    ["PACKSSWB", "mmx", pack(16, true)],
    ["PACKUSWB", "mmx", pack(16, false)],
    ["PACKSSDW", "mmx", pack(32, true)],
    ["PUNPCKHBW", "mmx", unpack(8, true)],
    ["PUNPCKHWD", "mmx", unpack(16, true)],
    ["PUNPCKHDQ", "mmx", unpack(32, true)],
    ["PUNPCKHQDQ", undefined, unpack(64, true)],
    ["PUNPCKLQDQ", undefined, unpack(64, false)],
  ];

/** Unpacks of low halves: their MMX forms read 32 bits of memory. */
export const UNPACK_LOW: readonly (readonly [string, VectorFunction])[] = [
  ["PUNPCKLBW", unpack(8, false)],
  ["PUNPCKLWD", unpack(16, false)],
  ["PUNPCKLDQ", unpack(32, false)],
];

/** Shifts by a count in a register, memory or an immediate. */
export const SHIFTS: readonly (readonly [string, VectorFunction])[] = [
  ["PSLLW", shift(16, "l")],
  ["PSLLD", shift(32, "l")],
  ["PSLLQ", shift(64, "l")],
  ["PSRLW", shift(16, "r")],
  ["PSRLD", shift(32, "r")],
  ["PSRLQ", shift(64, "r")],
  ["PSRAW", shift(16, "a")],
  ["PSRAD", shift(32, "a")],
];

/** Byte shifts of a whole register; the count is the second operand. */
export const BYTE_SHIFTS: readonly (readonly [string, VectorFunction])[] = [
  ["PSLLDQ", (a, n) => n > 15n ? 0n : BigInt.asUintN(128, a << 8n * n)],
  ["PSRLDQ", (a, n) => n > 15n ? 0n : a >> 8n * n],
];

/** Shuffles of the source by an immediate. */
export const PSHUFD: VectorFunction = shuffle(32, 0);
/** Words 0–3; PSHUFW and PSHUFLW. */
export const PSHUFLW: VectorFunction = shuffle(16, 0);
/** Words 4–7. */
export const PSHUFHW: VectorFunction = shuffle(16, 4);

/** SHUFPS: two lanes of the destination, two of the source. */
export const SHUFPS: VectorFunction = (a, b, bits, imm) => {
  const x = split(a, bits, 32), y = split(b, bits, 32);
  return join(
    [x[imm & 3], x[imm >> 2 & 3], y[imm >> 4 & 3], y[imm >> 6 & 3]],
    32,
  );
};
/** SHUFPD. */
export const SHUFPD: VectorFunction = (a, b, bits, imm) =>
  join([split(a, bits, 64)[imm & 1], split(b, bits, 64)[imm >> 1 & 1]], 64);

/** Logical and unpacking operations on PS and PD data, which raise no #XM. */
export const FLOAT_MOVES: readonly (readonly [string, VectorFunction])[] = [
  ["AND", and],
  ["ANDN", andNot],
  ["OR", or],
  ["XOR", xor],
];
/** UNPCKL/H of the two data types: mnemonic and function. */
export const FLOAT_UNPACKS: readonly (readonly [string, VectorFunction])[] = [
  ["UNPCKLPS", unpack(32, false)],
  ["UNPCKHPS", unpack(32, true)],
  ["UNPCKLPD", unpack(64, false)],
  ["UNPCKHPD", unpack(64, true)],
];

/** Top bit of each lane, lowest lane in bit 0. */
export function signMask(v: bigint, bits: number, width: number): bigint {
  let out = 0n;
  split(v, bits, width).forEach((lane, i) => {
    out |= (lane >> BigInt(width - 1)) << BigInt(i);
  });
  return out;
}
