/** Events: one declaration gives codec, words, forms, fingerprint, upcasts. */
import {
  assert,
  assertEquals,
  assertNotEquals,
  assertThrows,
} from "@std/assert";
import { ByteReader, ByteWriter } from "./bytes.ts";
import { list } from "./composite.ts";
import { EventError } from "./errors.ts";
import { defineEvent, eventById, fingerprintOf } from "./event.ts";
import { bool, bytes, oneOf, text, u32, u53, u64, u8 } from "./fields.ts";

const Hot = defineEvent({
  name: "test.hot",
  version: 1,
  kind: "fact",
  doc: "Goes through a ring",
  fields: {
    a: u8(),
    b: u64(),
    c: bool(),
    d: u53(),
    e: oneOf(["x", "y"]),
  },
  hot: true,
});
const Third = defineEvent({
  name: "test.third",
  version: 3,
  kind: "fact",
  doc: "Has a past",
  fields: { where: u64("Where"), why: text("Why") },
  upcast: {
    1: (old) => ({ where: old.at }),
    2: (old) => ({ ...old, why: "before version 3" }),
  },
});

Deno.test("all samples round trip as bytes, words, JSON", () => {
  for (const event of [Hot, Third]) {
    for (const payload of event.samples()) {
      const out = new ByteWriter();
      event.encode(payload as never, out);
      const from = new ByteReader(out.finish());
      assertEquals(event.decode(from), payload);
      assert(from.done);
      assertEquals(
        event.fromJson(
          JSON.parse(JSON.stringify(event.toJson(payload as never))),
        ),
        payload,
      );
    }
  }
  assertEquals(Hot.words, 7);
  assertEquals([Hot.detail, Third.detail], ["full", "boundaries"]);
  const words = new Uint32Array(9);
  for (const payload of Hot.samples()) {
    Hot.toWords(payload, words, 1);
    assertEquals(Hot.fromWords(words, 1), payload);
  }
  assertEquals(eventById(Hot.id), Hot);
  const first = { a: 1, b: 2n, c: true, d: 300, e: "y" } as const;
  assertEquals(Hot.toText(first), "a=1 b=0x2 c=yes d=0x12c e=y");
});

Deno.test("fingerprints depend on everything that layout depends on", () => {
  const signature = "record(a:u8)";
  const one = fingerprintOf("a.b", 1, "fact", signature);
  assertEquals(one.length, 16);
  assertEquals(
    defineEvent({
      name: "a.b",
      version: 1,
      kind: "fact",
      doc: "d",
      fields: { a: u8() },
    })
      .fingerprint,
    one,
  );
  const others = [
    fingerprintOf("a.c", 1, "fact", signature),
    fingerprintOf("a.b", 2, "fact", signature),
    fingerprintOf("a.b", 1, "note", signature),
    fingerprintOf("a.b", 1, "fact", "record(b:u8)"),
  ];
  for (const other of others) assertNotEquals(other, one);
});

Deno.test("old payloads are brought up, step by step", () => {
  assertEquals(Third.upcast(1, { at: 5n }), {
    where: 5n,
    why: "before version 3",
  });
  assertEquals(Third.upcast(3, { where: 1n, why: "" }), { where: 1n, why: "" });
  assertThrows(() => Third.upcast(1, { at: 5 }), EventError, "where");
  const gap = defineEvent({
    name: "test.gap",
    version: 2,
    kind: "fact",
    doc: "Forgot its past",
    fields: {},
  });
  assertThrows(() => gap.upcast(1, {}), EventError, "no upcast from 1");
});

Deno.test("errors name event and field", () => {
  assertThrows(
    () => Third.encode({ where: -1n, why: "" }, new ByteWriter()),
    EventError,
    "event test.third, field where",
  );
  assertThrows(
    () => Third.fromJson({ where: 1, whz: "" }),
    EventError,
    "unknown field whz: expected where, why",
  );
});

Deno.test("declarations that contradict themselves are refused", () => {
  const good = {
    name: "a.b",
    version: 1,
    kind: "fact",
    doc: "d",
    fields: { a: u32() },
  } as const;
  const wrong: [Parameters<typeof defineEvent>[0], string][] = [
    [{ ...good, name: "ab" }, "plugin.what-happened"],
    [{ ...good, name: "A.b" }, "lower case"],
    [{ ...good, version: 0 }, "version 0"],
    [{ ...good, doc: " " }, "doc is empty"],
    [{ ...good, fields: { "a b": u8() } }, "field a b"],
    [{ ...good, hot: true, fields: { a: bytes() } }, "fixed-size"],
    [{ ...good, hot: true, fields: { a: list(u8()) } }, "fixed-size"],
    [{ ...good, upcast: { 1: (old) => old } }, "below version 1"],
  ];
  for (const [spec, message] of wrong) {
    assertThrows(() => defineEvent(spec), EventError, message);
  }
});
