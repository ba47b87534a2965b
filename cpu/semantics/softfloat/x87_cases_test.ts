/** F80 operations against results recorded on silicon (tests/cases/softfloat_x87.txt). */
import { assert, assertEquals } from "@std/assert";
import * as s from "./softfloat.ts";

const CASES = new URL(
  "../../../tests/cases/softfloat_x87.txt",
  import.meta.url,
);
const { F32, F64, F80 } = s;
/** Condition codes of FCOM by relation; C2 marks an incomplete remainder. */
const RELATION_CODES = [0x100, 0x4000, 0, 0x4500];
const C1 = 0x200, C2 = 0x400;

type Answer = [bits: bigint | undefined, codes: number];
type Operation = (env: s.FloatEnvironment, a: bigint, b: bigint) => Answer;

const rounded = (
  f: (env: s.FloatEnvironment, a: bigint, b: bigint) => bigint,
): Operation =>
(env, a, b) => {
  const bits = f(env, a, b);
  return [bits, env.roundedUp ? C1 : 0];
};
const relation = (quiet: boolean): Operation => (env, a, b) => [
  undefined,
  RELATION_CODES[s.compare(F80, env, a, b, quiet)],
];
const remainder = (nearest: boolean): Operation => (env, a, b) => {
  const { bits, quotient, complete } = s.remainder(F80, env, a, b, nearest);
  const bit = (n: bigint): boolean => (quotient >> n & 1n) === 1n;
  // Quotient bits 2, 1 and 0 go to C0, C3 and C1 (SDM 2A FPREM).
  const codes = (bit(2n) ? 0x100 : 0) | (bit(1n) ? 0x4000 : 0) |
    (bit(0n) ? C1 : 0);
  return [bits, codes | (complete ? 0 : C2)];
};

const OPERATIONS: Readonly<Record<string, Operation>> = {
  add: rounded((env, a, b) => s.add(F80, env, a, b)),
  sub: rounded((env, a, b) => s.subtract(F80, env, a, b)),
  mul: rounded((env, a, b) => s.multiply(F80, env, a, b)),
  div: rounded((env, a, b) => s.divide(F80, env, a, b)),
  sqrt: rounded((env, _, b) => s.squareRoot(F80, env, b)),
  rint: rounded((env, _, b) => {
    if (s.classOf(F80, b) === s.Class.Denormal) env.raise(s.FloatFlag.DE);
    return s.roundToIntegral(F80, env, b);
  }),
  prem: remainder(false),
  prem1: remainder(true),
  com: relation(false),
  ucom: relation(true),
  f64: rounded((env, _, b) => s.convert(F80, F64, env, b, false)),
  f32: rounded((env, _, b) => s.convert(F80, F32, env, b, false)),
  int16: rounded((env, _, b) => s.toInteger(F80, env, b, 16)),
  int32: rounded((env, _, b) => s.toInteger(F80, env, b, 32)),
  int64: rounded((env, _, b) => s.toInteger(F80, env, b, 64)),
  from64: rounded((env, _, b) => s.convert(F64, F80, env, b)),
  from32: rounded((env, _, b) => s.convert(F32, F80, env, b)),
};
/** Results with FCW.PC 0 to 3 (1 is reserved). */
const PRECISIONS = [24, 0, 53, 64];

Deno.test("F80 operations agree with silicon, flags and C1 included", () => {
  const seen = new Map<string, number>();
  for (const line of Deno.readTextFileSync(CASES).split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const [name, control, a, b, result, status] = line.split(" | ");
    const env = new s.FloatEnvironment(s.x87Nan);
    const fcw = parseInt(control, 16);
    env.masks = fcw & 0x3f;
    env.precision = PRECISIONS[fcw >> 8 & 3];
    env.rounding = fcw >> 10 & 3;
    env.wrapExponent = true;
    const value = (text: string): bigint =>
      text === "-" ? 0n : BigInt(`0x${text}`);
    const [bits, codes] = OPERATIONS[name](env, value(a), value(b));
    if (bits !== undefined) assertEquals(bits, value(result), line);
    assertEquals((env.flags | codes).toString(16), status, line);
    seen.set(name, (seen.get(name) ?? 0) + 1);
  }
  for (const name of Object.keys(OPERATIONS)) {
    assert((seen.get(name) ?? 0) >= 10, name);
  }
});
