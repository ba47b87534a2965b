/**
 * Lane functions of SSSE3, SSE4.1 and SSE4.2 integer SIMD, and of SSE3's
 * duplicating moves (SDM vol. 2).
 * Invariant: as in lanes.ts.
 */
import {
  copyOf,
  each,
  type LaneFunction,
  least,
  most,
  multiplyInto,
  pack,
  saturate,
  type View,
} from "./lanes.ts";

/** PSHUFB: bytes of the destination, chosen by the source; bit 7 clears. */
const shuffleBytes: LaneFunction = (d, { u8: y }, bytes) => {
  const x = copyOf(d).u8;
  for (let i = 0; i < bytes; i++) {
    d.u8[i] = y[i] & 0x80 ? 0 : x[y[i] & bytes - 1];
  }
};

/** PHADD/PHSUB: neighbours of the destination, then of the source. */
function horizontal(
  view: "i16" | "i32",
  f: (a: number, b: number) => number,
): LaneFunction {
  return (d, s, bytes) => {
    const n = bytes / (view === "i16" ? 4 : 8);
    const x = copyOf(d)[view], y = s[view], out = d[view];
    for (let i = 0; i < n; i++) {
      out[i] = f(x[2 * i], x[2 * i + 1]);
      out[n + i] = f(y[2 * i], y[2 * i + 1]);
    }
  };
}

/** PMADDUBSW: unsigned bytes of the destination by signed ones, saturated. */
const multiplyAddBytes: LaneFunction = (d, { i8: y }, bytes) => {
  const x = d.u8;
  for (let i = 0; i < bytes; i += 2) {
    d.i16[i / 2] = saturate(x[i] * y[i] + x[i + 1] * y[i + 1], "i16");
  }
};

const sign = (view: View): LaneFunction =>
  each(view, (a, b) => b < 0 ? -a : b === 0 ? 0 : a);
const absolute = (view: View): LaneFunction =>
  each(view, (_a, b) => Math.abs(b));

/** PALIGNR: destination above source, shifted right by whole bytes. */
const alignRight: LaneFunction = (d, { u8: y }, bytes, imm) => {
  const x = copyOf(d).u8;
  for (let i = 0; i < bytes; i++) {
    const at = i + imm;
    d.u8[i] = at < bytes ? y[at] : at < 2 * bytes ? x[at - bytes] : 0;
  }
};

/** SSSE3 with MMX and XMM forms: mnemonic, function. */
export const SSSE3: readonly (readonly [string, LaneFunction])[] = [
  ["PSHUFB", shuffleBytes],
  ["PHADDW", horizontal("i16", (a, b) => a + b)],
  ["PHADDD", horizontal("i32", (a, b) => a + b)],
  ["PHADDSW", horizontal("i16", (a, b) => saturate(a + b, "i16"))],
  ["PHSUBW", horizontal("i16", (a, b) => a - b)],
  ["PHSUBD", horizontal("i32", (a, b) => a - b)],
  ["PHSUBSW", horizontal("i16", (a, b) => saturate(a - b, "i16"))],
  ["PMADDUBSW", multiplyAddBytes],
  ["PMULHRSW", each("i16", (a, b) => ((a * b >> 14) + 1) >> 1)],
  ["PSIGNB", sign("i8")],
  ["PSIGNW", sign("i16")],
  ["PSIGND", sign("i32")],
  ["PABSB", absolute("i8")],
  ["PABSW", absolute("i16")],
  ["PABSD", absolute("i32")],
];
/** PALIGNR. */
export const PALIGNR: LaneFunction = alignRight;

/** PMULDQ: signed products of even doublewords. */
const multiplySigned: LaneFunction = (
  { u32: x, i32: a },
  { u32: y, i32: b },
) => {
  for (let i = 0; i < 4; i += 2) {
    // The unsigned product less what the signs weigh (two's complement).
    const correction = (a[i] < 0 ? y[i] : 0) + (b[i] < 0 ? x[i] : 0);
    multiplyInto(x, i, x[i], y[i]);
    x[i + 1] -= correction;
  }
};

const equalQuads: LaneFunction = ({ i32: x }, { i32: y }) => {
  for (let i = 0; i < 4; i += 2) {
    x[i] = x[i + 1] = x[i] === y[i] && x[i + 1] === y[i + 1] ? -1 : 0;
  }
};
const greaterQuads: LaneFunction = (d, s) => {
  for (let i = 0; i < 4; i += 2) {
    const a = d.i32[i + 1], b = s.i32[i + 1];
    const is = a > b || a === b && d.u32[i] > s.u32[i];
    d.i32[i] = d.i32[i + 1] = is ? -1 : 0;
  }
};

/** PHMINPOSUW: the least word and the first place that has it. */
const leastPosition: LaneFunction = (d, { u16: y }) => {
  let at = 0;
  for (let i = 1; i < 8; i++) if (y[i] < y[at]) at = i;
  d.u32.fill(0);
  d.u16[0] = y[at];
  d.u16[1] = at;
};

/** MPSADBW: eight sums of four absolute differences (SDM 2B MPSADBW). */
const sadBlocks: LaneFunction = (d, { u8: y }, _bytes, imm) => {
  const x = copyOf(d).u8;
  const from = imm & 4, block = (imm & 3) * 4;
  for (let i = 0; i < 8; i++) {
    let sum = 0;
    for (let k = 0; k < 4; k++) {
      sum += Math.abs(x[from + i + k] - y[block + k]);
    }
    d.u16[i] = sum;
  }
};

/** PMOVSX, PMOVZX: the low lanes, widened. */
function widen(
  from: "i8" | "u8" | "i16" | "u16" | "i32" | "u32",
  to: 16 | 32 | 64,
): LaneFunction {
  const signed = from[0] === "i";
  return (d, s) => {
    const y = s[from];
    if (to === 64) {
      for (let i = 0; i < 2; i++) {
        d.i32[2 * i] = y[i];
        d.i32[2 * i + 1] = signed ? y[i] >> 31 : 0;
      }
      return;
    }
    const x = to === 16 ? d.u16 : d.u32;
    for (let i = 0; i < x.length; i++) x[i] = y[i];
  };
}

/** SSE4.1 and SSE4.2 operations of two XMM operands: mnemonic, function. */
export const SSE4: readonly (readonly [string, LaneFunction])[] = [
  ["PMULDQ", multiplySigned],
  ["PMULLD", each("i32", Math.imul)],
  ["PMINSB", each("i8", least)],
  ["PMINSD", each("i32", least)],
  ["PMINUW", each("u16", least)],
  ["PMINUD", each("u32", least)],
  ["PMAXSB", each("i8", most)],
  ["PMAXSD", each("i32", most)],
  ["PMAXUW", each("u16", most)],
  ["PMAXUD", each("u32", most)],
  ["PACKUSDW", pack("i32", "u16")],
  ["PCMPEQQ", equalQuads],
  ["PHMINPOSUW", leastPosition],
];
/** SSE4.2's only one. */
export const PCMPGTQ: LaneFunction = greaterQuads;
/** With an immediate. */
export const MPSADBW: LaneFunction = sadBlocks;

/** PMOVSX and PMOVZX: suffix, bits of memory read, signed, unsigned. */
export const WIDENINGS: readonly (readonly [
  string,
  number,
  LaneFunction,
  LaneFunction,
])[] = [
  ["BW", 64, widen("i8", 16), widen("u8", 16)],
  ["BD", 32, widen("i8", 32), widen("u8", 32)],
  ["BQ", 16, widen("i8", 64), widen("u8", 64)],
  ["WD", 64, widen("i16", 32), widen("u16", 32)],
  ["WQ", 32, widen("i16", 64), widen("u16", 64)],
  ["DQ", 64, widen("i32", 64), widen("u32", 64)],
];

/** PBLENDW, BLENDPS, BLENDPD: lanes of `width` bytes where the immediate has ones. */
export function blend(width: 2 | 4 | 8): LaneFunction {
  return ({ u8: x }, { u8: y }, _bytes, imm) => {
    for (let i = 0; i < 16; i++) {
      if (imm >> Math.floor(i / width) & 1) x[i] = y[i];
    }
  };
}

/**
 * INSERTPS with a register source: word to insert, its place, words to clear.
 * From memory the source has one word and its selector counts as 0.
 */
export const INSERTPS: LaneFunction = ({ u32: x }, { u32: y }, _bytes, imm) => {
  x[imm >> 4 & 3] = y[imm >> 6];
  for (let i = 0; i < 4; i++) if (imm >> i & 1) x[i] = 0;
};

/** SSE3's duplicating moves: mnemonic, bits of memory read, function. */
export const DUPLICATES: readonly (readonly [string, number, LaneFunction])[] =
  [
    ["MOVDDUP", 64, ({ u32: x }, { u32: y }) => {
      x[0] = x[2] = y[0];
      x[1] = x[3] = y[1];
    }],
    ["MOVSLDUP", 128, ({ u32: x }, { u32: y }) => {
      x[0] = x[1] = y[0];
      x[2] = x[3] = y[2];
    }],
    ["MOVSHDUP", 128, ({ u32: x }, { u32: y }) => {
      x[0] = x[1] = y[1];
      x[2] = x[3] = y[3];
    }],
  ];
