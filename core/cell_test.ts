/** Cells: a restored container behaves exactly as the original. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { ByteReader, ByteWriter } from "./bytes.ts";
import {
  arrayOf,
  bytesOf,
  makeState,
  mapOf,
  setOf,
  stateSignature,
  stateToJson,
  struct,
  tableOf,
  wordsOf,
} from "./cell.ts";
import { list } from "./composite.ts";
import { bool, bytes, oneOf, text, u32, u64, u8 } from "./fields.ts";

const CELLS = {
  n: u32("A scalar", 7),
  on: bool("Another", true),
  mode: oneOf(["a", "b"], "Mode", "b"),
  fifo: arrayOf(u8("Bytes")),
  seen: setOf(u64("Pages")),
  names: mapOf(text(), list(u8()), "Lists by name"),
  ram: bytesOf(5, "Small"),
  words: wordsOf(3, "Wider"),
  inner: struct({ deep: u8("Deep"), more: arrayOf(text()) }, "Group"),
  vcpus: tableOf(2, { apic: u32("Id"), lines: setOf(u8()) }, "By vCPU"),
};

function encode(cell: { encode(out: ByteWriter): void }): Uint8Array {
  const out = new ByteWriter();
  cell.encode(out);
  return out.finish();
}

function fill(live: ReturnType<typeof makeState<typeof CELLS>>["live"]): void {
  live.n = 1;
  live.on = false;
  live.mode = "a";
  live.fifo.push(1, 2, 3);
  live.fifo.shift();
  live.seen.add(9n).add(1n).add(5n);
  live.seen.delete(1n);
  live.names.set("z", [1]).set("a", []);
  live.ram.set([1, 2], 3);
  live.words[2] = 0xffff_ffff;
  live.inner.deep = 200;
  live.inner.more.push("x");
  live.vcpus[1].apic = 3;
  live.vcpus[1].lines.add(4);
}

Deno.test("state: initial values, round trip, reset", () => {
  const one = makeState(CELLS);
  assertEquals([one.live.n, one.live.on, one.live.mode], [7, true, "b"]);
  const fresh = encode(one);
  fill(one.live);
  const filled = encode(one);
  const two = makeState(CELLS);
  two.decode(new ByteReader(filled));
  assertEquals(encode(two), filled);
  assertEquals([...two.live.seen], [9n, 5n]);
  assertEquals([...two.live.names.keys()], ["z", "a"]);
  assertEquals(two.live.fifo.toArray(), [2, 3]);
  assertEquals(two.live.inner.more.at(0), "x");
  assertEquals([...two.live.vcpus[1].lines], [4]);
  // The same live objects stay in plugins' hands.
  const { fifo, ram } = two.live;
  two.decode(new ByteReader(fresh));
  assertEquals([fifo.length, ram[3]], [0, 0]);
  one.reset();
  assertEquals(encode(one), fresh);
  assertEquals(stateToJson(CELLS, new ByteReader(filled)), {
    n: 1,
    on: false,
    mode: "a",
    fifo: [2, 3],
    seen: ["0x9", "0x5"],
    names: { '"z"': [1], '"a"': [] },
    ram: [0, 0, 0, 1, 2],
    words: [0, 0, 0xffff_ffff],
    inner: { deep: 200, more: ["x"] },
    vcpus: [{ apic: 0, lines: [] }, { apic: 3, lines: [4] }],
  });
});

Deno.test("state: unknown cells and replaced containers are refused", () => {
  const { live } = makeState(CELLS);
  const loose = live as unknown as Record<string, unknown>;
  assertThrows(() => loose.typo = 1, TypeError);
  assertThrows(() => loose.fifo = [], TypeError);
  assertThrows(() => setOf(bytes()), RangeError, "keys must be");
  assertThrows(() => mapOf(list(u8()), u8()), RangeError, "keys must be");
  const cell = makeState({ n: u8() });
  cell.live.n = 256;
  assertThrows(() => encode(cell), RangeError, "expected u8");
});

Deno.test("signatures tell layouts apart", () => {
  assertEquals(
    stateSignature({ a: u8(), b: setOf(u64()), c: bytesOf(4) }),
    "struct(a:u8,b:set(u64),c:bytes(4))",
  );
  assert(stateSignature({ a: u8() }) !== stateSignature({ b: u8() }));
});

type Op = readonly ["push" | "shift" | "pop" | "set" | "delete", number];

Deno.test("containers: a copy made anywhere goes on as the original", () => {
  const specs = {
    list: arrayOf(u8()),
    set: setOf(u8()),
    map: mapOf(u8(), u8()),
  };
  const apply = (
    live: ReturnType<typeof makeState<typeof specs>>["live"],
    [op, n]: Op,
  ) => {
    if (op === "push") {
      live.list.push(n);
      live.set.add(n);
    } else if (op === "shift") {
      const first = [...live.set][0];
      if (first !== undefined) live.set.delete(first);
      live.list.shift();
    } else if (op === "pop") live.list.pop();
    else if (op === "set") live.map.set(n, live.list.length & 255);
    else live.map.delete(n);
  };
  const op = fc.tuple(
    fc.constantFrom("push", "shift", "pop", "set", "delete"),
    fc.nat(6),
  ) as fc.Arbitrary<Op>;
  fc.assert(
    fc.property(fc.array(op), fc.array(op), (before, after) => {
      const one = makeState(specs);
      const two = makeState(specs);
      for (const step of before) apply(one.live, step);
      two.decode(new ByteReader(encode(one)));
      for (const step of after) {
        apply(one.live, step);
        apply(two.live, step);
      }
      assertEquals(encode(two), encode(one));
    }),
    { seed: 2, numRuns: 200 },
  );
});
