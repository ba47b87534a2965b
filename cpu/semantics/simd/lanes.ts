/**
 * Lane functions of MMX, SSE and SSE2 integer and logical SIMD (SDM vol. 2):
 * the destination's and the source's lanes in, the result in the destination's.
 * Invariant: typed-array and Number arithmetic only; the source is not changed;
 * an MMX operand is the low 8 bytes.
 */

/** Sixteen bytes seen as lanes of every width, lowest first. */
export interface Lanes {
  readonly u8: Uint8Array;
  readonly i8: Int8Array;
  readonly u16: Uint16Array;
  readonly i16: Int16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly u64: BigUint64Array;
  readonly i64: BigInt64Array;
}

/** Room for one operand. */
export function makeLanes(): Lanes {
  const b = new ArrayBuffer(16);
  return {
    u8: new Uint8Array(b),
    i8: new Int8Array(b),
    u16: new Uint16Array(b),
    i16: new Int16Array(b),
    u32: new Uint32Array(b),
    i32: new Int32Array(b),
    u64: new BigUint64Array(b),
    i64: new BigInt64Array(b),
  };
}

/**
 * d = f(d, s): destination, source, operand size in bytes (8 or 16), immediate.
 */
export type LaneFunction = (
  d: Lanes,
  s: Lanes,
  bytes: number,
  imm: number,
) => void;

/** The views of lanes that a lane-wise function may name. */
export type View = "u8" | "i8" | "u16" | "i16" | "u32" | "i32";
/** One lane of each operand; the view it is stored through truncates. */
type Lane = (a: number, b: number) => number;

/** Bytes of a lane. */
export const LANE_BYTES: Readonly<Record<View, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
};

/**
 * Applies `f` to each pair of lanes. One loop a view: shared by all views, the
 * typed-array accesses would be an order of magnitude slower.
 */
export function each(view: View, f: Lane): LaneFunction {
  switch (view) {
    case "u8":
      return ({ u8: x }, { u8: y }, bytes) => {
        for (let i = 0; i < bytes; i++) x[i] = f(x[i], y[i]);
      };
    case "i8":
      return ({ i8: x }, { i8: y }, bytes) => {
        for (let i = 0; i < bytes; i++) x[i] = f(x[i], y[i]);
      };
    case "u16":
      return ({ u16: x }, { u16: y }, bytes) => {
        for (let i = 0; i < bytes >> 1; i++) x[i] = f(x[i], y[i]);
      };
    case "i16":
      return ({ i16: x }, { i16: y }, bytes) => {
        for (let i = 0; i < bytes >> 1; i++) x[i] = f(x[i], y[i]);
      };
    case "u32":
      return ({ u32: x }, { u32: y }, bytes) => {
        for (let i = 0; i < bytes >> 2; i++) x[i] = f(x[i], y[i]);
      };
    default:
      return ({ i32: x }, { i32: y }, bytes) => {
        for (let i = 0; i < bytes >> 2; i++) x[i] = f(x[i], y[i]);
      };
  }
}

const SCRATCH = makeLanes();
/** A copy of `from`, for functions that write before they have read all. */
export function copyOf(from: Lanes): Lanes {
  SCRATCH.u32.set(from.u32);
  return SCRATCH;
}

const LIMITS: Readonly<Record<View, readonly [number, number]>> = {
  u8: [0, 0xff],
  i8: [-0x80, 0x7f],
  u16: [0, 0xffff],
  i16: [-0x8000, 0x7fff],
  u32: [0, 0xffff_ffff],
  i32: [-0x8000_0000, 0x7fff_ffff],
};

/** `v` within what a lane of the view can hold. */
export function saturate(v: number, view: View): number {
  const low = LIMITS[view][0], high = LIMITS[view][1];
  return v < low ? low : v > high ? high : v;
}

const add: Lane = (a, b) => a + b, sub: Lane = (a, b) => a - b;
function saturating(view: View, f: Lane): LaneFunction {
  const low = LIMITS[view][0], high = LIMITS[view][1];
  return each(view, (a, b) => {
    const v = f(a, b);
    return v < low ? low : v > high ? high : v;
  });
}
const equal: Lane = (a, b) => a === b ? -1 : 0;
const greater: Lane = (a, b) => a > b ? -1 : 0;
/** The lesser and the greater of two. */
export const least: Lane = (a, b) => a < b ? a : b;
/** See `least`. */
export const most: Lane = (a, b) => a > b ? a : b;
const average: Lane = (a, b) => (a + b + 1) >> 1;

/** PADDQ, PSUBQ: carries between halves as Numbers. */
const addQuads: LaneFunction = ({ u32: x }, { u32: y }, bytes) => {
  for (let i = 0; i < bytes / 4; i += 2) {
    const low = x[i] + y[i];
    x[i] = low;
    x[i + 1] += y[i + 1] + (low > 0xffff_ffff ? 1 : 0);
  }
};
const subtractQuads: LaneFunction = ({ u32: x }, { u32: y }, bytes) => {
  for (let i = 0; i < bytes / 4; i += 2) {
    const borrow = x[i] < y[i] ? 1 : 0;
    x[i] -= y[i];
    x[i + 1] -= y[i + 1] + borrow;
  }
};

/** The 64-bit product of two unsigned 32-bit numbers into words i and i + 1. */
export function multiplyInto(
  x: Uint32Array,
  i: number,
  a: number,
  b: number,
): void {
  const aHigh = a >>> 16, aLow = a & 0xffff;
  const bHigh = b >>> 16, bLow = b & 0xffff;
  const low = aLow * bLow;
  const middle = aHigh * bLow + (low >>> 16);
  const cross = aLow * bHigh + (middle % 0x10000);
  x[i] = (cross % 0x10000) * 0x10000 + (low & 0xffff);
  x[i + 1] = aHigh * bHigh + Math.floor(middle / 0x10000) +
    Math.floor(cross / 0x10000);
}

const multiplyQuads: LaneFunction = ({ u32: x }, { u32: y }, bytes) => {
  for (let i = 0; i < bytes / 4; i += 2) multiplyInto(x, i, x[i], y[i]);
};

/** Interleaves lanes of the low or high halves; a 64-bit lane is two words. */
function unpack(width: 1 | 2 | 4 | 8, high: boolean): LaneFunction {
  return (d, s, bytes) => {
    const x = copyOf(d).u8, y = s.u8, out = d.u8;
    let at = 0;
    for (let i = high ? bytes / 2 : 0; at < bytes; i += width) {
      for (let k = 0; k < width; k++) {
        out[at + k] = x[i + k];
        out[at + width + k] = y[i + k];
      }
      at += 2 * width;
    }
  };
}

/** Saturates lanes of `from` to `to`, destination's first. */
export function pack(from: "i16" | "i32", to: View): LaneFunction {
  return (d, s, bytes) => {
    const n = bytes / LANE_BYTES[from];
    const x = copyOf(d)[from], y = s[from], out = d[to];
    for (let i = 0; i < n; i++) out[i] = saturate(x[i], to);
    for (let i = 0; i < n; i++) out[n + i] = saturate(y[i], to);
  };
}

/** Shift of each lane by the low 64 bits of the source. */
function shift(width: 16 | 32, kind: "l" | "r" | "a"): LaneFunction {
  const view = `${kind === "a" ? "i" : "u"}${width}` as const;
  return (d, { u32: y }, bytes) => {
    const x = d[view], n = bytes * 8 / width, low = y[0], high = y[1];
    const over = high !== 0 || low >= width;
    const count = over ? width - 1 : low;
    for (let i = 0; i < n; i++) {
      if (kind === "a") x[i] >>= count;
      else if (over) x[i] = 0;
      else x[i] = kind === "l" ? x[i] << count : x[i] >>> count;
    }
  };
}

function shiftQuads(left: boolean): LaneFunction {
  return ({ u32: x }, { u32: y }, bytes) => {
    const count = y[0], high = y[1];
    const over = high !== 0 || count > 63;
    const n = count & 31, far = count >= 32;
    for (let i = 0; i < bytes / 4; i += 2) {
      const lo = x[i], hi = x[i + 1];
      if (over) x[i] = x[i + 1] = 0;
      else if (left) {
        x[i + 1] = far ? lo << n : n === 0 ? hi : hi << n | lo >>> (32 - n);
        x[i] = far ? 0 : lo << n;
      } else {
        x[i] = far ? hi >>> n : n === 0 ? lo : lo >>> n | hi << (32 - n);
        x[i + 1] = far ? 0 : hi >>> n;
      }
    }
  };
}

/** Byte shift of the whole register; the count is the source. */
function shiftBytes(left: boolean): LaneFunction {
  return ({ u8 }, { u32: y }) => {
    const n = y[0] > 15 ? 16 : y[0];
    if (left) {
      u8.copyWithin(n, 0, 16 - n);
      u8.fill(0, 0, n);
    } else {
      u8.copyWithin(0, n, 16);
      u8.fill(0, 16 - n, 16);
    }
  };
}

/** Words `first` … `first` + 3 of the source, chosen by an immediate. */
function shuffleWords(first: number): LaneFunction {
  return ({ u32, u16: x }, s, _bytes, imm) => {
    u32.set(s.u32);
    for (let i = 0; i < 4; i++) {
      x[first + i] = s.u16[first + (imm >> i * 2 & 3)];
    }
  };
}

/** Sum of products of neighbouring words. */
const multiplyAdd: LaneFunction = (d, { i16: y }, bytes) => {
  const x = d.i16;
  for (let i = 0; i < bytes / 4; i++) {
    d.i32[i] = x[2 * i] * y[2 * i] + x[2 * i + 1] * y[2 * i + 1];
  }
};

const differences: LaneFunction = (d, { u8: y }, bytes) => {
  for (let i = 0; i < bytes; i += 8) {
    let sum = 0;
    for (let k = i; k < i + 8; k++) sum += Math.abs(d.u8[k] - y[k]);
    d.u32[i / 4] = sum;
    d.u32[i / 4 + 1] = 0;
  }
};

// Those that every string function uses: no call a lane.
const and: LaneFunction = ({ i32: x }, { i32: y }) => {
  for (let i = 0; i < 4; i++) x[i] &= y[i];
};
const or: LaneFunction = ({ i32: x }, { i32: y }) => {
  for (let i = 0; i < 4; i++) x[i] |= y[i];
};
const xor: LaneFunction = ({ i32: x }, { i32: y }) => {
  for (let i = 0; i < 4; i++) x[i] ^= y[i];
};
const equalBytes: LaneFunction = ({ i32: x }, { i32: y }) => {
  for (let i = 0; i < 4; i++) {
    // Bit 7 of each byte of `zero` that is 0, then the whole byte.
    const zero = x[i] ^ y[i];
    const high = ~((zero & 0x7f7f7f7f) + 0x7f7f7f7f | zero | 0x7f7f7f7f);
    x[i] = high | (high - (high >>> 7 & 0x01010101));
  }
};
const leastBytes: LaneFunction = ({ u8: x }, { u8: y }) => {
  for (let i = 0; i < 16; i++) if (y[i] < x[i]) x[i] = y[i];
};
const mostBytes: LaneFunction = ({ u8: x }, { u8: y }) => {
  for (let i = 0; i < 16; i++) if (y[i] > x[i]) x[i] = y[i];
};
const addWords: LaneFunction = ({ i32: x }, { i32: y }) => {
  for (let i = 0; i < 4; i++) x[i] += y[i];
};
const andNot = each("i32", (a, b) => ~a & b);

/** Forms there are: MMX of Pentium MMX, SSE or SSE2, or XMM only. */
export type MmxForm = "mmx" | "sse" | "sse2" | undefined;

/** Integer operations: mnemonic, feature of the MMX form, function. */
export const INTEGER: readonly (readonly [string, MmxForm, LaneFunction])[] = [
  ["PADDB", "mmx", each("u8", add)],
  ["PADDW", "mmx", each("u16", add)],
  ["PADDD", "mmx", addWords],
  ["PADDQ", "sse2", addQuads],
  ["PSUBB", "mmx", each("u8", sub)],
  ["PSUBW", "mmx", each("u16", sub)],
  ["PSUBD", "mmx", each("u32", sub)],
  ["PSUBQ", "sse2", subtractQuads],
  ["PADDSB", "mmx", saturating("i8", add)],
  ["PADDSW", "mmx", saturating("i16", add)],
  ["PADDUSB", "mmx", saturating("u8", add)],
  ["PADDUSW", "mmx", saturating("u16", add)],
  ["PSUBSB", "mmx", saturating("i8", sub)],
  ["PSUBSW", "mmx", saturating("i16", sub)],
  ["PSUBUSB", "mmx", saturating("u8", sub)],
  ["PSUBUSW", "mmx", saturating("u16", sub)],
  ["PMULLW", "mmx", each("i16", (a, b) => a * b)],
  ["PMULHW", "mmx", each("i16", (a, b) => (a * b) >> 16)],
  ["PMULHUW", "sse", each("u16", (a, b) => (a * b) >>> 16)],
  ["PMULUDQ", "sse2", multiplyQuads],
  ["PMADDWD", "mmx", multiplyAdd],
  ["PSADBW", "sse", differences],
  ["PAVGB", "sse", each("u8", average)],
  ["PAVGW", "sse", each("u16", average)],
  ["PMINUB", "sse", leastBytes],
  ["PMINSW", "sse", each("i16", least)],
  ["PMAXUB", "sse", mostBytes],
  ["PMAXSW", "sse", each("i16", most)],
  ["PCMPEQB", "mmx", equalBytes],
  ["PCMPEQW", "mmx", each("u16", equal)],
  ["PCMPEQD", "mmx", each("i32", equal)],
  ["PCMPGTB", "mmx", each("i8", greater)],
  ["PCMPGTW", "mmx", each("i16", greater)],
  ["PCMPGTD", "mmx", each("i32", greater)],
  ["PAND", "mmx", and],
  ["PANDN", "mmx", andNot],
  ["POR", "mmx", or],
  ["PXOR", "mmx", xor],
  ["PACKSSWB", "mmx", pack("i16", "i8")],
  ["PACKUSWB", "mmx", pack("i16", "u8")],
  ["PACKSSDW", "mmx", pack("i32", "i16")],
  ["PUNPCKHBW", "mmx", unpack(1, true)],
  ["PUNPCKHWD", "mmx", unpack(2, true)],
  ["PUNPCKHDQ", "mmx", unpack(4, true)],
  ["PUNPCKHQDQ", undefined, unpack(8, true)],
  ["PUNPCKLQDQ", undefined, unpack(8, false)],
];

/** Unpacks of low halves: their MMX forms read 32 bits of memory. */
export const UNPACK_LOW: readonly (readonly [string, LaneFunction])[] = [
  ["PUNPCKLBW", unpack(1, false)],
  ["PUNPCKLWD", unpack(2, false)],
  ["PUNPCKLDQ", unpack(4, false)],
];

/** Shifts by a count in a register, memory or an immediate. */
export const SHIFTS: readonly (readonly [string, LaneFunction])[] = [
  ["PSLLW", shift(16, "l")],
  ["PSLLD", shift(32, "l")],
  ["PSLLQ", shiftQuads(true)],
  ["PSRLW", shift(16, "r")],
  ["PSRLD", shift(32, "r")],
  ["PSRLQ", shiftQuads(false)],
  ["PSRAW", shift(16, "a")],
  ["PSRAD", shift(32, "a")],
];

/** Byte shifts of a whole register. */
export const BYTE_SHIFTS: readonly (readonly [string, LaneFunction])[] = [
  ["PSLLDQ", shiftBytes(true)],
  ["PSRLDQ", shiftBytes(false)],
];

/** Doublewords of the source, chosen by an immediate. */
export const PSHUFD: LaneFunction = ({ u32: x }, { u32: y }, _bytes, imm) => {
  for (let i = 0; i < 4; i++) x[i] = y[imm >> i * 2 & 3];
};
/** Words 0–3; PSHUFW and PSHUFLW. */
export const PSHUFLW: LaneFunction = shuffleWords(0);
/** Words 4–7. */
export const PSHUFHW: LaneFunction = shuffleWords(4);

/** SHUFPS: two lanes of the destination, two of the source. */
export const SHUFPS: LaneFunction = ({ u32: x }, { u32: y }, _bytes, imm) => {
  const first = x[imm & 3], second = x[imm >> 2 & 3];
  const third = y[imm >> 4 & 3], fourth = y[imm >> 6 & 3];
  x[0] = first;
  x[1] = second;
  x[2] = third;
  x[3] = fourth;
};
/** SHUFPD. */
export const SHUFPD: LaneFunction = (d, s, _bytes, imm) => {
  const x = copyOf(d).u32, out = d.u32;
  const a = (imm & 1) * 2, b = (imm >> 1 & 1) * 2;
  out[0] = x[a];
  out[1] = x[a + 1];
  out[2] = s.u32[b];
  out[3] = s.u32[b + 1];
};

/** Logical operations on PS and PD data, which raise no #XM. */
export const FLOAT_MOVES: readonly (readonly [string, LaneFunction])[] = [
  ["AND", and],
  ["ANDN", andNot],
  ["OR", or],
  ["XOR", xor],
];
/** UNPCKL/H of the two data types: mnemonic and function. */
export const FLOAT_UNPACKS: readonly (readonly [string, LaneFunction])[] = [
  ["UNPCKLPS", unpack(4, false)],
  ["UNPCKHPS", unpack(4, true)],
  ["UNPCKLPD", unpack(8, false)],
  ["UNPCKHPD", unpack(8, true)],
];

/** Top bit of each lane, lowest lane in bit 0. */
export function signMask(v: Lanes, bytes: number, width: number): number {
  let out = 0;
  for (let i = 0; i < bytes / width; i++) {
    out |= (v.u8[i * width + width - 1] >> 7) << i;
  }
  return out;
}
