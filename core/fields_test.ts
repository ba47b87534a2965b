/** Fields: every form of every value comes back, and what is wrong is said. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { ByteReader, ByteWriter } from "./bytes.ts";
import { list, maybe, record } from "./composite.ts";
import { bool, bytes, oneOf, text, u16, u32, u53, u64, u8 } from "./fields.ts";
import type { Field } from "./fields.ts";
import { fieldOf, fieldsOf } from "./signature.ts";

const ALL: readonly Field<unknown>[] = [
  u8(),
  u16(),
  u32(),
  u53(),
  u64(),
  bool(),
  text(),
  bytes(),
  oneOf(["read", "write", "fetch"]),
  list(u16()),
  list(list(bool())),
  maybe(u64()),
  maybe(text()),
  record({ a: u8(), b: maybe(list(u53())), c: oneOf(["x", "y"]) }),
];

function encoded(field: Field<unknown>, value: unknown): Uint8Array {
  const out = new ByteWriter(1);
  field.encode(value, out);
  return out.finish();
}

Deno.test("every field: bytes, words, JSON and signature round trips", () => {
  for (const field of ALL) {
    const twin = fieldOf(field.signature);
    assertEquals(twin.signature, field.signature);
    assert(field.samples.length >= 2);
    for (const value of [...field.samples, field.initial]) {
      assertEquals(field.check(value), undefined, field.signature);
      const raw = encoded(field, value);
      const from = new ByteReader(raw);
      assertEquals(field.decode(from), value);
      assert(from.done);
      assertEquals(twin.decode(new ByteReader(raw)), value);
      assertEquals(encoded(twin, value), raw);
      const json = JSON.parse(JSON.stringify(field.toJson(value)));
      assertEquals(field.fromJson(json), value);
      assertEquals(twin.toText(value), field.toText(value));
      if (field.words > 0) {
        const words = new Uint32Array(field.words + 2).fill(0xdeadbeef);
        field.toWords(value, words, 1);
        assertEquals(field.fromWords(words, 1), value);
        assertEquals([words[0], words.at(-1)], [0xdeadbeef, 0xdeadbeef]);
      }
    }
    for (
      let cut = 0;
      cut < encoded(field, field.samples.at(-1)).length;
      cut++
    ) {
      const short = encoded(field, field.samples.at(-1)).subarray(0, cut);
      assertThrows(() => field.decode(new ByteReader(short)));
    }
  }
});

Deno.test("random values round trip", () => {
  fc.assert(
    fc.property(
      fc.bigInt(0n, (1n << 64n) - 1n),
      fc.maxSafeNat(),
      fc.string({ unit: "grapheme" }),
      fc.uint8Array(),
      (big, safe, words, raw) => {
        const field = record({
          big: u64(),
          safe: u53(),
          words: text(),
          raw: bytes(),
        });
        const value = { big, safe, words, raw };
        const out = new ByteWriter();
        field.encode(value, out);
        assertEquals(field.decode(new ByteReader(out.finish())), value);
        assertEquals(
          field.fromJson(JSON.parse(JSON.stringify(field.toJson(value)))),
          value,
        );
        const ring = new Uint32Array(4);
        u64().toWords(big, ring, 0);
        u53().toWords(safe, ring, 2);
        assertEquals(u64().fromWords(ring, 0), big);
        assertEquals(u53().fromWords(ring, 2), safe);
      },
    ),
    { seed: 1, numRuns: 300 },
  );
});

Deno.test("values that don't fit are refused on encoding", () => {
  const wrong: [Field<unknown>, unknown[]][] = [
    [u8(), [-1, 256, 1.5, NaN, 1n, "1", undefined]],
    [u16(), [65536, -1]],
    [u32(), [2 ** 32, -1, Infinity]],
    [u53(), [2 ** 53, -1, 0.5, 1n]],
    [u64(), [-1n, 1n << 64n, 1, "1"]],
    [bool(), [0, 1, undefined]],
    [text(), ["\ud800", 5]],
    [bytes(), [[1, 2], "ab"]],
    [oneOf(["a", "b"]), ["c", 0, "constructor"]],
  ];
  for (const [field, values] of wrong) {
    for (const value of values) {
      assert(field.check(value) !== undefined);
      assertThrows(
        () => field.encode(value, new ByteWriter()),
        RangeError,
        "expected",
      );
      if (field.words === 0) continue;
      assertThrows(() => field.toWords(value, new Uint32Array(4), 0));
    }
  }
  assertThrows(() => u64().fromJson("12z"), RangeError, "expected u64");
  assertThrows(() => u8().fromJson(256), RangeError, "expected u8");
  assertThrows(() => bytes().fromJson("abc"), RangeError, "pairs");
  assertEquals(
    record({ a: u8() }).check({ a: 1, b: 2 }),
    "unknown field b: expected a",
  );
  assertEquals(list(u8()).check([1, 300]), "item 1: expected u8, found 300");
});

Deno.test("counts and integers have one encoding only", () => {
  for (const n of [0, 1, 127, 128, 16383, 16384, 0xffff_ffff]) {
    const out = new ByteWriter();
    out.count(n);
    assertEquals(new ByteReader(out.finish()).count(), n);
  }
  const bad = [[0x80, 0], [0xff, 0xff, 0xff, 0xff, 0x1f], [0x81, 0x80, 0]];
  for (const raw of bad) {
    assertThrows(() => new ByteReader(Uint8Array.from(raw)).count());
  }
  const beyond = Uint8Array.of(0, 0, 0, 0, 0, 0, 0x20, 0);
  assertThrows(() => new ByteReader(beyond).u53(), Error, "2^53");
  assertThrows(() => bool().decode(new ByteReader(Uint8Array.of(2))));
  assertThrows(() => oneOf(["a"]).decode(new ByteReader(Uint8Array.of(1))));
});

Deno.test("damaged signatures are refused with their place", () => {
  for (
    const [signature, place] of [
      ["", "at 0"],
      ["u9", "at 0"],
      ["list(u8", "at 7"],
      ["list(u8)x", "at 8"],
      ["record(a:u8,)", "at 12"],
      ["record(a-u8)", "at 8"],
      ["oneOf()", "at 6"],
      ["constructor", "at 0"],
      ["list(".repeat(50) + "u8" + ")".repeat(50), "less nesting"],
    ]
  ) {
    assertThrows(() => fieldOf(signature), RangeError, place);
  }
  assertEquals(Object.keys(fieldsOf("record(a:u8,b:list(u8))")), ["a", "b"]);
  assertEquals(fieldsOf("record()"), {});
});
