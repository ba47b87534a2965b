/**
 * Lane functions of AES-NI, PCLMULQDQ and the SHA extensions (SDM vol. 1 §12.13,
 * §12.20; FIPS 197, FIPS 180-4). The AES state is column-major: byte 4c + r.
 * Invariant: as in lanes.ts; the S-boxes are computed, not copied.
 */
import { copyOf, type LaneFunction } from "./lanes.ts";

/** Product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1 (FIPS 197 §4.2). */
function gf(a: number, b: number): number {
  let product = 0;
  for (; b !== 0; b >>= 1) {
    if (b & 1) product ^= a;
    a = a << 1 ^ (a & 0x80 ? 0x11b : 0);
  }
  return product;
}

/** S-box and its inverse: x^254, then the affine map (FIPS 197 §5.1.1). */
const SBOX = new Uint8Array(256), INVERSE_SBOX = new Uint8Array(256);
for (let x = 0; x < 256; x++) {
  let power = 1;
  for (let bits = 254, square = x; bits > 0; bits >>= 1) {
    if (bits & 1) power = gf(power, square);
    square = gf(square, square);
  }
  let y = 0x63;
  for (let i = 0; i < 5; i++) y ^= (power << i | power >> 8 - i) & 0xff;
  SBOX[x] = y;
  INVERSE_SBOX[y] = x;
}

/** Products of every byte with a coefficient of (Inv)MixColumns. */
const times = (factor: number): Uint8Array =>
  Uint8Array.from({ length: 256 }, (_, x) => gf(x, factor));
const MIX = [2, 3, 1, 1].map(times), UNMIX = [14, 11, 13, 9].map(times);

/** x = (Inv)MixColumns(from). */
function mixColumns(
  x: Uint8Array,
  from: Uint8Array,
  table: readonly Uint8Array[],
): void {
  for (let c = 0; c < 16; c += 4) {
    for (let r = 0; r < 4; r++) {
      let sum = 0;
      for (let k = 0; k < 4; k++) sum ^= table[k][from[c + (r + k & 3)]];
      x[c + r] = sum;
    }
  }
}

/**
 * What a byte in row `row` gives to its column: substitution and mixing in one
 * table a row.
 */
function columnTables(box: Uint8Array, mix: readonly Uint8Array[]) {
  return [0, 1, 2, 3].map((row) =>
    Uint32Array.from({ length: 256 }, (_, v) => {
      let word = 0;
      for (let r = 0; r < 4; r++) {
        word |= mix[row - r & 3][box[v]] << 8 * r;
      }
      return word >>> 0;
    })
  );
}

/** One round of encryption or decryption, the last without mixing. */
function round(decrypt: boolean, last: boolean): LaneFunction {
  const box = decrypt ? INVERSE_SBOX : SBOX;
  const plain = [1, 0, 0, 0].map(times);
  const mix = last ? plain : decrypt ? UNMIX : MIX;
  const [t0, t1, t2, t3] = columnTables(box, mix);
  // ShiftRows moves row r by r columns.
  const turn = decrypt ? 12 : 4;
  return (d, { u32: key }) => {
    const x = copyOf(d).u8, out = d.u32;
    for (let c = 0; c < 16; c += 4) {
      out[c >> 2] = t0[x[c]] ^ t1[x[c + turn + 1 & 15]] ^
        t2[x[c + 2 * turn + 2 & 15]] ^ t3[x[c + 3 * turn + 3 & 15]] ^
        key[c >> 2];
    }
  };
}

/** AESENC … AESIMC: mnemonic, function. */
export const AES: readonly (readonly [string, LaneFunction])[] = [
  ["AESENC", round(false, false)],
  ["AESENCLAST", round(false, true)],
  ["AESDEC", round(true, false)],
  ["AESDECLAST", round(true, true)],
  ["AESIMC", (d, s) => mixColumns(d.u8, s.u8, UNMIX)],
];

/** AESKEYGENASSIST (SDM 2A). */
export const AESKEYGENASSIST: LaneFunction = (d, s, _bytes, imm) => {
  for (let i = 0; i < 4; i += 2) {
    // SubWord of words 1 and 3; the next word is rotated and takes RCON.
    for (let k = 0; k < 4; k++) d.u8[i * 4 + k] = SBOX[s.u8[i * 4 + 4 + k]];
    const word = d.u32[i];
    d.u32[i + 1] = (word >>> 8 | word << 24) ^ imm;
  }
};

/** Adds (XORs) the carry-less product of two words to words i and i + 1. */
function carryless(x: Uint32Array, i: number, a: number, b: number): void {
  let low = 0, high = 0;
  for (let k = 0; k < 32; k++) {
    if (!(b >>> k & 1)) continue;
    low ^= a << k;
    if (k > 0) high ^= a >>> (32 - k);
  }
  x[i] ^= low;
  x[i + 1] ^= high;
}

/** PCLMULQDQ: the quadwords that bits 0 and 4 select. */
export const PCLMULQDQ: LaneFunction = (d, s, _bytes, imm) => {
  const a = imm & 1 ? 2 : 0, b = imm & 0x10 ? 2 : 0;
  const x = copyOf(d).u32, y = s.u32;
  d.u32.fill(0);
  for (let i = 0; i < 2; i++) {
    for (let k = 0; k < 2; k++) carryless(d.u32, i + k, x[a + i], y[b + k]);
  }
};

const rol = (x: number, n: number): number => x << n | x >>> (32 - n);
const ror = (x: number, n: number): number => rol(x, 32 - n);
const choose = (b: number, c: number, d: number): number => b & c ^ ~b & d;
const parity = (b: number, c: number, d: number): number => b ^ c ^ d;
const majority = (b: number, c: number, d: number): number =>
  b & c ^ b & d ^ c & d;
/** Function and constant of SHA-1's four times twenty rounds (FIPS 180-4 §4). */
const SHA1_ROUNDS = [
  [choose, 0x5a827999],
  [parity, 0x6ed9eba1],
  [majority, 0x8f1bbcdc],
  [parity, 0xca62c1d6],
] as const;

/** SHA1RNDS4: four rounds; A is the highest word, W0 + E the source's. */
export const SHA1RNDS4: LaneFunction = (
  { u32: x },
  { u32: w },
  _bytes,
  imm,
) => {
  const [f, k] = SHA1_ROUNDS[imm & 3];
  let d = x[0], c = x[1], b = x[2], a = x[3];
  let e = 0;
  for (let i = 0; i < 4; i++) {
    const next = f(b, c, d) + rol(a, 5) + w[3 - i] + e + k;
    e = d;
    d = c;
    c = rol(b, 30);
    b = a;
    a = next | 0;
  }
  x[0] = d;
  x[1] = c;
  x[2] = b;
  x[3] = a;
};

const sigma0 = (x: number): number => ror(x, 7) ^ ror(x, 18) ^ x >>> 3;
const sigma1 = (x: number): number => ror(x, 17) ^ ror(x, 19) ^ x >>> 10;

/** SHA's other instructions of two operands: mnemonic, function (SDM 2B). */
export const SHA: readonly (readonly [string, LaneFunction])[] = [
  ["SHA1NEXTE", ({ u32: x }, { u32: y }) => {
    const e = rol(x[3], 30);
    x.set(y);
    x[3] += e;
  }],
  ["SHA1MSG1", ({ u32: x }, { u32: y }) => {
    x[3] ^= x[1];
    x[2] ^= x[0];
    x[1] ^= y[3];
    x[0] ^= y[2];
  }],
  ["SHA1MSG2", ({ u32: x }, { u32: y }) => {
    x[3] = rol(x[3] ^ y[2], 1);
    x[2] = rol(x[2] ^ y[1], 1);
    x[1] = rol(x[1] ^ y[0], 1);
    x[0] = rol(x[0] ^ x[3], 1);
  }],
  ["SHA256MSG1", ({ u32: x }, { u32: y }) => {
    x[0] += sigma0(x[1]);
    x[1] += sigma0(x[2]);
    x[2] += sigma0(x[3]);
    x[3] += sigma0(y[0]);
  }],
  ["SHA256MSG2", ({ u32: x }, { u32: y }) => {
    x[0] += sigma1(y[2]);
    x[1] += sigma1(y[3]);
    x[2] += sigma1(x[0]);
    x[3] += sigma1(x[1]);
  }],
];

/**
 * SHA256RNDS2: two rounds. @param x C D G H and @param y A B E F, highest word
 * first; @param wk words 0 and 1 of XMM0; the result, A B E F, goes to `x`
 */
export function sha256Rounds(
  x: Uint32Array,
  y: Uint32Array,
  wk: ArrayLike<number>,
): void {
  let f = y[0], e = y[1], b = y[2], a = y[3];
  let h = x[0], g = x[1], d = x[2], c = x[3];
  for (let i = 0; i < 2; i++) {
    const one = choose(e, f, g) + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) +
      wk[i] + h;
    const two = majority(a, b, c) + (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22));
    h = g;
    g = f;
    f = e;
    e = one + d | 0;
    d = c;
    c = b;
    b = a;
    a = one + two | 0;
  }
  x[0] = f;
  x[1] = e;
  x[2] = b;
  x[3] = a;
}
