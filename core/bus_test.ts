/** The bus: one stream, at once; handlers later, breadth-first, bounded. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Bus, MAX_DEPTH } from "./bus.ts";
import type { Owner } from "./bus.ts";
import { EventError, NotModelled, PluginError } from "./errors.ts";
import { defineEvent } from "./event.ts";
import type { EventToken } from "./event.ts";
import { u32, u64, u8 } from "./fields.ts";
import { HookTable } from "./hook_table.ts";
import { defineHook } from "./hook.ts";
import type { FactSink } from "./sink.ts";

const One = defineEvent({
  name: "bus-test.one",
  version: 1,
  kind: "fact",
  doc: "One",
  fields: { n: u32("n") },
});
const Two = defineEvent({
  name: "bus-test.two",
  version: 1,
  kind: "fact",
  doc: "Two",
  fields: { n: u32("n") },
});
const Hot = defineEvent({
  name: "bus-test.hot",
  version: 1,
  kind: "fact",
  doc: "Hot",
  fields: { a: u8("a"), b: u64("b") },
  hot: true,
});
const Note = defineEvent({
  name: "bus-test.note",
  version: 1,
  kind: "note",
  doc: "Note",
  fields: { n: u32("n") },
});

function owner(name: string, observes = false): Owner {
  return { name, observes, failed: false };
}

function makeBus(wanted: readonly EventToken[] = [One, Two, Hot, Note]) {
  const timeOf = (step: number) => step + 100;
  const clock = {
    at: 0,
    step: () => clock.at,
    now: () => timeOf(clock.at),
    timeOf,
  };
  const stream: string[] = [];
  const sink: FactSink = {
    input: (at, event, payload) =>
      void stream.push(`${at.step}/${at.time} ${event.toText(payload)}`),
    fact: (step, event, payload) =>
      void stream.push(
        `${step} ${event.name.slice(9)} ${event.toText(payload)}`,
      ),
    hot: (step, id, words, at, n) =>
      void stream.push(`${step} #${id - Hot.id} ${words.subarray(at, at + n)}`),
    note: (step, event, payload, plugin) =>
      void stream.push(`${step} ${plugin} ${event.toText(payload)}`),
    boundary() {},
    wants: (event) => wanted.includes(event),
  };
  const bus = new Bus(clock);
  for (const event of [One, Two, Hot, Note]) bus.register(event, "test");
  return { bus, clock, stream, sink };
}

Deno.test("facts reach the sink at once and handlers at the pump", () => {
  const { bus, stream, sink, clock } = makeBus();
  bus.sink = sink;
  const got: string[] = [];
  bus.subscribe(owner("a"), One, (payload, at) => {
    got.push(
      `a ${One.toText(payload as { n: number })} at ${at.step}/${at.time}`,
    );
    bus.emit(Two, { n: 10 });
  });
  bus.subscribe(owner("b"), One, () => void got.push("b"));
  bus.subscribe(owner("c"), Two, (_payload, at) => {
    got.push(`c at ${at.step}`);
    return undefined;
  });
  clock.at = 5;
  bus.emit(One, { n: 1 });
  bus.emit(One, { n: 2 });
  assertEquals(stream, ["5 one n=1", "5 one n=2"]);
  assertEquals(got, []);
  clock.at = 6;
  assert(bus.pending);
  assert(bus.pump());
  // What handlers cause belongs to the step of what they handle.
  assertEquals(stream.slice(2), ["5 two n=0xa", "5 two n=0xa"]);
  assertEquals(got, [
    "a n=1 at 5/105",
    "b",
    "a n=2 at 5/105",
    "b",
    "c at 5",
    "c at 5",
  ]);
  assert(!bus.pending && !bus.pump());
});

Deno.test("nobody interested: the payload isn't even looked at", () => {
  const { bus, stream, sink } = makeBus([Two]);
  const trap = new Proxy({}, {
    get() {
      throw new Error("looked at");
    },
  });
  bus.emit(One, trap);
  bus.sink = sink;
  bus.emit(One, trap);
  assert(!bus.wants(One) && bus.wants(Two));
  const end = bus.subscribe(owner("a"), One, () => {});
  assert(bus.wants(One));
  end();
  bus.emit(One, trap);
  assert(!bus.wants(One) && !bus.pending);
  bus.sink = undefined;
  assert(!bus.wants(Two));
  assertEquals(stream, []);
});

Deno.test("hot facts: words to the sink, objects to handlers only", () => {
  const { bus, stream, sink } = makeBus();
  bus.sink = sink;
  const ring = Uint32Array.of(9, 9, 7, 2, 1, 9);
  bus.hot(3, Hot.id, ring, 2);
  assertEquals(stream, ["3 #0 7,2,1"]);
  assertEquals(bus.hotInterest().handled, false);
  assert((bus.hotInterest().bits[Hot.id >>> 5] >>> (Hot.id & 31) & 1) === 1);
  const got: unknown[] = [];
  bus.interestChanged = false;
  const end = bus.subscribe(
    owner("a"),
    Hot,
    (payload, at) => void got.push(payload, at),
  );
  assert(bus.interestChanged && bus.hotInterest().handled);
  bus.hot(4, Hot.id, ring, 2);
  ring.fill(0);
  bus.pump();
  assertEquals(got, [{ a: 7, b: 0x1_0000_0002n }, { step: 4, time: 104 }]);
  // Emitted as an object it takes the same form.
  bus.emit(Hot, { a: 1, b: 1n << 32n });
  assertEquals(stream.at(-1), "0 #0 1,0,1");
  assertThrows(() => bus.emit(Hot, { a: 256, b: 0n }), EventError, "field a");
  end();
  bus.sink = undefined;
  assertEquals(bus.hotInterest().bits.some((word) => word !== 0), false);
});

Deno.test("a loop of events is bounded and named", () => {
  const { bus } = makeBus();
  let runs = 0;
  bus.subscribe(owner("loop"), One, () => {
    runs++;
    bus.emit(One, { n: runs });
  });
  bus.emit(One, { n: 0 });
  assertThrows(() => bus.pump(), PluginError, "set off each other in a row");
  assertEquals(runs, MAX_DEPTH);
  assert(!bus.pending);
});

Deno.test("a participant's failure is thrown, an observer's is kept", () => {
  const { bus } = makeBus();
  const got: string[] = [];
  bus.subscribe(owner("watcher", true), One, () => {
    throw new Error("oops");
  });
  bus.subscribe(owner("part"), One, () => void got.push("part"));
  bus.emit(One, { n: 1 });
  bus.pump();
  bus.emit(One, { n: 1 });
  bus.pump();
  assertEquals(got, ["part", "part"]);
  assertEquals(
    bus.observerFailure?.message,
    "plugin watcher, handler of bus-test.one at step 0: oops",
  );
  bus.subscribe(owner("rude"), Two, () => Promise.resolve());
  bus.emit(Two, { n: 1 });
  assertThrows(() => bus.pump(), PluginError, "rude, handler of bus-test.two");
  bus.subscribe(owner("honest"), Hot, () => {
    throw new NotModelled("X", "§1");
  });
  bus.emit(Hot, { a: 1, b: 1n });
  assertThrows(() => bus.pump(), NotModelled, "X is not modelled (§1)");
});

Deno.test("notes name their plugin; inputs are written ahead of handlers", () => {
  const { bus, stream, sink } = makeBus();
  bus.sink = sink;
  bus.note(Note, { n: 3 }, "watcher");
  const Input = defineEvent({
    name: "bus-test.input",
    version: 1,
    kind: "input",
    doc: "Input",
    fields: { n: u32("n") },
  });
  bus.subscribe(owner("a"), Input, () => {
    stream.push("handled");
  });
  bus.input(Input, { n: 4 });
  bus.pump();
  assertEquals(stream, ["0 watcher n=3", "0/100 n=4", "handled"]);
});

Deno.test("hooks: first answer wins, folds go on, failures name the plugin", () => {
  const First = defineHook<{ n: number }, string>({
    name: "bus-test.first",
    combine: "first",
  });
  const Fold = defineHook<number, number>({
    name: "bus-test.fold",
    combine: "fold",
    initial: 1,
  });
  const hooks = new HookTable();
  const first = hooks.ask(First);
  const fold = hooks.ask(Fold);
  assertEquals([first({ n: 1 }), fold(5)], [undefined, 1]);
  assert(!hooks.answered(First));
  hooks.answer(
    First,
    "a",
    (args) => (args as { n: number }).n > 1 ? "a" : undefined,
  );
  hooks.answer(First, "b", () => "b");
  hooks.answer(
    Fold,
    "a",
    (soFar, args) => (soFar as number) * (args as number),
  );
  hooks.answer(Fold, "b", (soFar) => (soFar as number) + 1);
  assertEquals([first({ n: 1 }), first({ n: 2 }), fold(5)], ["b", "a", 6]);
  assert(hooks.answered(First));
  hooks.answer(Fold, "c", () => {
    throw new Error("ouch");
  });
  assertThrows(
    () => fold(1),
    PluginError,
    "plugin c, answer to hook bus-test.fold: ouch",
  );
});
