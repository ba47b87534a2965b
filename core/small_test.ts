/** The small parts: moments, random streams, spelling, errors, assertions. */
import { assertEquals, assertThrows } from "@std/assert";
import { assert, AssertionFailed, unreachable } from "./assert.ts";
import { ByteReader, ByteWriter, fromHex, sameBytes, toHex } from "./bytes.ts";
import { ConfigError, NotModelled, VmtapeError } from "./errors.ts";
import { compareMoments, formatMoment, parseMoment } from "./moment.ts";
import { nearest } from "./nearest.ts";
import { RandomStream } from "./random.ts";

Deno.test("moments: order and text", () => {
  const texts = ["0", "0.1", "7", "7.3", "7.10", "1200"];
  const moments = texts.map(parseMoment);
  assertEquals(moments.map(formatMoment), texts);
  assertEquals(moments.toReversed().sort(compareMoments), moments);
  assertEquals(parseMoment("1_000.2"), { step: 1000, ordinal: 2 });
  for (
    const bad of ["", "x", "1.", "-1", "1.2.3", "_", "9999999999999999999"]
  ) {
    assertThrows(() => parseMoment(bad), RangeError, "expected a moment");
  }
});

Deno.test("random: xoshiro128**, by name and seed, saved and restored", () => {
  // From state 1, 2, 3, 4: the first outputs by the definition of xoshiro128**
  // (rotl(s1 * 5, 7) * 9), worked out by hand for the first two.
  const one = new RandomStream(0n, "x");
  const state = new ByteWriter();
  for (const word of [1, 2, 3, 4]) state.u32(word);
  one.decode(new ByteReader(state.finish()));
  assertEquals([one.u32(), one.u32()], [11520, 0]);
  const draw = (seed: bigint, name: string) => {
    const stream = new RandomStream(seed, name);
    return [stream.u32(), stream.u32(), stream.u64()];
  };
  assertEquals(draw(1n, "a"), draw(1n, "a"));
  assertEquals(
    new Set([draw(1n, "a"), draw(1n, "b"), draw(2n, "a")].map(String)).size,
    3,
  );
  const stream = new RandomStream(3n, "a");
  stream.u32();
  const out = new ByteWriter();
  stream.encode(out);
  const copy = new RandomStream(9n, "z");
  copy.decode(new ByteReader(out.finish()));
  assertEquals([copy.u64(), copy.below(10)], [stream.u64(), stream.below(10)]);
  const counts = new Array(6).fill(0);
  for (let i = 0; i < 6000; i++) counts[stream.below(6)]++;
  assertEquals(counts.every((n) => n > 850 && n < 1150), true);
  assertEquals(stream.below(1), 0);
  for (const bad of [0, 1.5, -1, 2 ** 33]) {
    assertThrows(() => stream.below(bad), RangeError);
  }
});

Deno.test("spelling, hexadecimal, comparison", () => {
  assertEquals(nearest("stratgy", ["strategy", "depth"]), "strategy");
  assertEquals(nearest("Uart16550", ["uart16550"]), "uart16550");
  assertEquals(nearest("zzzzzz", ["strategy", "depth"]), undefined);
  assertEquals(toHex(fromHex("00ffA1")), "00ffa1");
  for (const bad of ["0", "0g", "x"]) {
    assertThrows(() => fromHex(bad), RangeError);
  }
  assertEquals(sameBytes(Uint8Array.of(1), Uint8Array.of(1)), true);
  assertEquals(sameBytes(Uint8Array.of(1), Uint8Array.of(1, 2)), false);
  assertEquals(sameBytes(Uint8Array.of(1), Uint8Array.of(2)), false);
});

Deno.test("errors carry code, cause and words", () => {
  const error = new NotModelled("LOADALL", "80286 manual");
  assertEquals(
    [error.code, error.message, error instanceof VmtapeError],
    ["not-modelled", "LOADALL is not modelled (80286 manual)", true],
  );
  const cause = new Error("deep");
  assertEquals(new ConfigError("x", cause).cause, cause);
  assert(true, "fine");
  assertThrows(() => assert(false, "x = y"), AssertionFailed, "x = y");
  assertThrows(
    () => unreachable(1 as never, "kind"),
    AssertionFailed,
    "kind: 1",
  );
});
