/**
 * RCPPS, RCPSS, RSQRTPS and RSQRTSS (SDM 2B; APM vol. 4): the relative error may
 * be up to 1.5 × 2^−12, and each implementation answers its own. Ours are those
 * of AMD's family 19h: 13 significant bits that depend on the upper 12 fraction
 * bits of the operand. They were measured, and lie within two units of the
 * reciprocal (of the root) of the middle of the operand's interval, rounded
 * down; the tables hold the measured differences, two to a hexadecimal digit.
 * Invariant: no flags, no rounding control; denormals count as zeros.
 */
import {
  Class,
  F32,
  indefinite,
  infinity,
  quieted,
  unpack,
  zero,
} from "../softfloat/softfloat.ts";

/** Reciprocals of [1, 2). */
const RECIPROCAL = `
  05555aaa05555aaa5aaaaffa05555aaa6aaaaffb5aaaafaa5aa55aaa5aaa6aaaaaaaaa
  aaaaaa6aaa5aa55a65abaa6aa6afbaaaa6afbaaaa6afaa6a65aaa6565145595a9a5569
  6aaa55695a9a9aaaabeb95a96aaa9aaaaaeaaaaaabeaaaaaaaaaaaaaaaa695695695aa
  a96a96eaaaaa96eaaaaa96aaaa6a95a6a95655eaba6a95556aaaab55aaaaab55aaaaaa
  55666aaa99aabbbb556666aa99aaaaaa99aaaaaa99aaaaaa99aa6666aabbbbaa99aaa6
  66aabaaaa6aabbaaaaaabbaaa6aabaaa6656996aaa9aaabeeb56996aaa56a9aaaa96aa
  aaab96aaaaaa96a96a9a56956956aaaaaaaa5695695696a96a96a6a96a96aaa96a96a6
  a96a5696a56955abaaaa96556569a9596a6aaa9aaaaaea9aaaaaea9aaaaaea9aaa6aaa
  5a6a69a9aababaea9a6a6aa9aabaaaaa5a6965a55a6965a59a6965a59a6965955a6565
  55aaba6aa5a65aaa9aaaaaafaa9659aa59a65aaa9aa6aaaaaaa6aaaaaaa6aaaa9aa65a
  aa59a655aa55abaaaaaaa659aa55abaaaa5aa6555a55a659aa55a69aaa55a69aaa5555
  5aaaaa55559aaaaaaaaaaeaaaaaaaa555555aaaaaaaaaaaaaaaaaa55555aaaaaaaaaaa
  aaaaaaaaaaaaaaaaaaaaaaaaaaaa5555aaaaaaaaaaaaaaaaaaa65555555aaaaaaa5aaa
  aa555aaa55555aaaaa555aaaaaa55aaaaaa55aaaaa655aaaaa555aaa65555aa555aaaa
  aaaa655aaa65aaabaaaaa55aaa55aaaaaaa6555a555569aaaaaaaaaaafaa59555a5559
  555a55aeaaabaaaaaaaaaa69aa6aaa59a65a65aeaaabaaa9aa5aa659655655a9aa5aa5
  aeaaaaaa59a55a55a9a65a65aaaa5aa5565965a55a5965a55a5965a5565955a5abaeaa
  baaaaaaaaa5a69a5a65a596565aaaaa6aa5a6965a5aaaaa6aa5a5965656aa9a5a5abaa
  a6aa5a5955556a696565696a6a6a69aaaaaaa9aaaa6a696a6a6a696a6a6a695a5a5a59
  565656aaaaaaaa696a6a5a59565656a9aa6a6a595a5656a9aa6a6a59565655696a5a56
  a9aa6a6a5696a96a6a96aaaa6a9aaaaa6aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa6a96aa
  aa6a96a96a5695695655556956aaaaaaaa6a966956aaaaaaaa6a96a96a565555555556
  9566956a96aa96aaaaab55569566956a966a96aa96aaa6aaaaaaaaaaaaab5556555655
  5695569556555655565556aaaaaaaaaaaaa6aaa6aa966a966a956695669956aaaaaaaa
  966a9a6a95669956a6aa9a6a95669956aaaaaa6a95669955a6aa9a6695565955966699
  56a6aa9a66eaaaaaaa9566595596669955a66a99565599556655995566599955665999
  55665599556655995556aaaeaaaaaaaa6aaa99aa666a9999566659995555aaaa6aaa99
  9a666659995555aaaa666a99995566aaa666aa99955566aaa6666a999555559aa66666
  aaa6aaaa999555559aa66666aaa66666aeeaaaaa9995555599955555aaa66666aaa666
  66aaa66666aaa66666
`;

/** Reciprocal roots of [1, 2). */
const ROOT_ODD = `
  5555aaaa5555aaaa5555aaaaaa65aaaa5555aaaa5555a6555555aaaaaaa5aaaa5555aa
  555555aaa65555aaaa5555aaaa5555aaa65555aa5555556555aa65aaaa65aaaaaa55a6
  55aaa5aaaaaa556555a655aa55aa65aaa5aaa6aaa6aaa6aaaaaaaaaaa6aaa6aaa6aaa5
  aa65aa65aa55a655a55555a6aaa5aa55a65565aaaaa5aa59a5aa5aa9aaaaaa5955a55a
  5965a65a69a5aa5a69a5aa5a69a6aa5a69a5a65a59a5a65a5965a556aaaaaa6aa9a6aa
  5a5965a555aaaaaa5a6965a555aaa6aa5a595a6a6a69aaaaaa55565656555a5a5a595a
  5a5a595a5a5a595a5a5a595a5a5a595a5a5a55565656aaaaaaaaa96a6a6a595a5656aa
  aaaaaa696a5a5aaaabaaaa5565595696a5a96a9aa6aaaa9565595695a5695a96a5a96a
  9aa6a96aaaa6a9aaaaa6a9aaaaa6a9aaaaa6a96a9aa6a96a96a5695695a56956eabaaa
  aaaaa6a96a56956a96aaaaaaaa56956a96aaaaabaa56956a96aa96aaaa565556956a95
  6a96aa96aaaaaaaaabaa56955695669566956a956a956a956a956a956a956a956a95aa
  aabaaaa6aaaaaa966aaa6a956aa96695566956aaaabaaa966aa96695566955a6aaaa6a
  9566a956aaaabaaa9566a956aaaaaa6a95666955a66aa966aaaaba6a99a66aa99aa6aa
  aaaaeaaaba5995566599956669999666a9999666a999a666a999a666a9999666699996
  66699995566559955565aaeaaaa9aaa66aa999966665aaaaaabb666aaaaa55666666aa
  aaaaab666666aaaaaaaabb66666aaaaaaaaabb6666666aaaaaaaaa556666666666aaaa
  aaaaaaaa556666666666666666aaaaaa999999999999999999aaaaaaaaaaaaaaaaaaaa
  aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa9999999999999999999eeee
  aaaaaaaaaaaaaaaaaa999999aaaa99956666aaaabbba9999aaaa99556666aaaaaaaa99
  996666aaaabaaa9999a666aaaabaaa99996666aaa9aaaa99556666a999aa66aaaabaaa
  999566666599995666aa999aa6aaaa9aaaeaaaab659995566699999666aa999a66aaa9
  9aa6aaaa9aaaaaaa9aaaaaaaaaaaaaaaaaaaeaaaaaaaaaaaaaaaaaaa9aaaaaaa9a9566
  a9995566999555659955aaaaeaaaa9aaaaaa99a6aaa99566a99955659955aaaaaaaa99
  a6aa9995669995aaaaeaaa99a6aa9955669955aaaaaaa99966a995aa9aaaab9956699a
  aaaaaaab99566996aaaaaaab99566996aa9a6aaa95565956a9966a9aaaaaaaab995669
  96a9966a9aaaaaaaab99565956a9966a96aa9a6aaa5565955695669956a966a996a9a6
  aa96aaaaaa9aaabaaaaaeabaeaaa956695569566995699669956996699569966a956a9
  66a956a9669956996699569966995696aa96aa96aa96a996a996a956a9569956995695
  abeaaaeaaaaaaaaa9aaa96aa96a996a956995695abeaaaaaaaaa9aaa96a996a9569956
  95aaaaaaaa96aa96a9
`;

/** Reciprocal roots of [2, 4). */
const ROOT_EVEN = `
  5695a96a6a96aaaa6aaaaaaa5555595655555956aaaaaeabaaaaaaaaaaaaaaaa6a96a9
  6a56956956aaaaaaaa6a96a96a56956956aaaaa96a569569566a96a96a956a96a996aa
  aaa9aaabaaaa955695559566956595669565956695659566956595569555aaabaaa9aa
  aaa6a9966a966995669555aaaaa6a9966a9565eaaba6a9966aa9aa955565999566a99a
  a6aaaaaa95556599956669999666a999a66aa99aa6aaa9aaaaaaa9aaaaaaa9aaaaaaa9
  aaa6aaa99aa66aa999a66669999566655995555666a6aaaaaa966666aa95555666a666
  aaaa95556666a666aaaa95555666a66666aaeaaaaaaa95566666a6666666eaaaaaaa95
  55555595555666a6666666aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
  aaaaa999999999999999999995555555aaaaaaaa9999999999995555aaaaaaa9999999
  99aaaaaaaa6999999a6aaaaaab699999966aaaaaaa599995566aa9999aaaaaaaaa5999
  55566a9999966aaaa99aaaaaaaaa5995555659995556699995566a9999566a999956aa
  aaaaaaaaaaaaaaaa9aaaaaaa9aa6aaa99a66aa999666a99956669995566599aaaaaaaa
  aa9aa6aa9996669995566595aaaaa6aaa996669995565595aa9a66aa99566995aaaaaa
  aa99566995aaaaaaaa99566995aa9a6aa995565955a9966a99aaaaaaaa99565955a996
  6a99aaaa6aa99556595599566995a9966a95aa9a6a99566956699669966a966a9a6a9a
  6a9a6a9a6aaa6aaa6aaa6aaa6aaa6aaa6aaa6aaa6aaa6aaa6a9a6a9a6a9a6a966a966a
  966996695669565956595655abaaaa6aa96a9aaa956a96a955695699aaaaaaeaa96a96
  aa956956a955555595a96a96aa95695695aaaaaaaa956a96a955555595a96a96a95559
  5695a96a96a955555695a96a96a9aaaaaaaa956956a9aaaaaaaa95695695a96a96a9aa
  aaaaaa95695695a96a96a9aaaaaaaa9569565595695695a96a96a9aaaaaaa9aaaaaaaa
  9569569565555595695695a5695695a96a5695a96a96a5a96a96a9aa6a96a9aaaa96a9
  aaaa96a9aaaa96a9aaaa96a9aaaa96a9aa6a96a9a96a96a9a96a9695a96a5695a95555
  9565aaaaaaaaa6a9aaaa96a9a96a9695a9695695956955559555aaa9aaaa96a9a96a56
  95a56955559555aaa9aa6a96a5a96956559565aaa9aa6a96a5a96956559555a6a9aa6a
  9695a569aaaaaaaa96a5a96956559555a6a9a96a56959555a6a9a96a56959555a6a9a9
  6a56959555a6a9a9695655955596a5a969aaaaaa6a9595a5a5a9a9a9aa5555959595a5
  a5a9a9a9aaaa5595959595a5a5a9a9a9aaaa555595959595a5a5a5a9a9a9a9aaaaaa55
  95959595a5a5a5a5a9a9a9a9a9aaaa55555555959595959595a5a5a5a5a5a9a9a9a9a9
  a9a9a9aaaaaaaaaa555555559595959595959595959595959595a5a5a5a5a5a5a5a5a5
  a5a5a5a5a5a5a5a5a5
`;

const INTERVALS = 4096;
/** Units of the answers, 13 significant bits below 1. */
const UNITS = 8192;

/** Answer for each interval in units: `base` of it and the measured difference. */
function table(
  differences: string,
  base: (middle: number) => number,
): Uint16Array {
  const digits = differences.replace(/\s/g, "");
  return Uint16Array.from({ length: INTERVALS }, (_, i) => {
    const digit = parseInt(digits[i >> 1], 16);
    const difference = (i & 1 ? digit >> 2 : digit & 3) - 1;
    return base(UNITS + 2 * i + 1) + difference;
  });
}

/** Largest whole number whose square is at most n < 2^31. */
function root(n: number): number {
  let r = 0;
  for (let bit = 1 << 15; bit > 0; bit >>= 1) {
    if ((r + bit) * (r + bit) <= n) r += bit;
  }
  return r;
}

/** Made when a guest first asks: few do, and every start would pay for them. */
let reciprocals: Uint16Array | undefined;
let rootsOdd: Uint16Array | undefined;
let rootsEven: Uint16Array | undefined;

/** Normal number from its exponent field and its units (4096 … 8191). */
const encoded = (sign: number, field: number, units: number): number =>
  ((sign << 31) | field << 23 | (units - INTERVALS) << 11) >>> 0;

/** Answers to operands other than positive or negative normal numbers. */
function special(
  bits: number,
  ofZero: (sign: number) => bigint,
  ofInfinity: (sign: number) => bigint,
): number {
  const wide = BigInt(bits);
  const { kind, sign } = unpack(F32, wide);
  if (kind >= Class.Quiet) return Number(quieted(F32, wide));
  return Number(kind === Class.Infinity ? ofInfinity(sign) : ofZero(sign));
}

const fieldOf = (bits: number): number => bits >>> 23 & 0xff;

/** RCPSS of one encoding. */
export function reciprocalEstimate(bits: number): number {
  const field = fieldOf(bits), sign = bits >>> 31;
  if (field === 0 || field === 255) {
    return special(bits, (s) => infinity(F32, s), (s) => zero(F32, s));
  }
  // Where the answer would be denormal it is zero.
  if (field > 252) return (sign << 31) >>> 0;
  reciprocals ??= table(RECIPROCAL, (m) => Math.floor(UNITS * UNITS / m));
  return encoded(sign, 253 - field, reciprocals[bits >>> 11 & INTERVALS - 1]);
}

/** RSQRTSS of one encoding. */
export function rootEstimate(bits: number): number {
  const field = fieldOf(bits), sign = bits >>> 31;
  if (field === 0 || field === 255) {
    return special(
      bits,
      (s) => infinity(F32, s),
      (s) => s ? indefinite(F32) : zero(F32, 0),
    );
  }
  if (sign) return Number(indefinite(F32));
  const cube = UNITS * UNITS * UNITS;
  const roots = field & 1
    ? rootsOdd ??= table(ROOT_ODD, (m) => root(cube / m))
    : rootsEven ??= table(ROOT_EVEN, (m) => root(cube / (2 * m)));
  return encoded(
    0,
    126 - ((field - 127) >> 1),
    roots[bits >>> 11 & INTERVALS - 1],
  );
}
