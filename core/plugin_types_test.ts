/**
 * What must not compile. Each `@ts-expect-error` is an assertion: `deno check`
 * fails when the misuse below it becomes legal. At run time the host refuses
 * the same things again (host_test.ts).
 */
import { assertEquals } from "@std/assert";
import { arrayOf, setOf } from "./cell.ts";
import { defineEvent } from "./event.ts";
import { bool, oneOf, u64, u8 } from "./fields.ts";
import { defineHook } from "./hook.ts";
import { definePlugin } from "./plugin.ts";
import { defineService, late, optional } from "./service.ts";

const Walked = defineEvent({
  name: "types.walked",
  version: 1,
  kind: "fact",
  doc: "A walk",
  fields: { gpa: u64("Address"), level: u8("Level"), ok: bool("Done") },
});
const Twin = defineEvent({
  name: "types.twin",
  version: 1,
  kind: "fact",
  doc: "Same fields, another event",
  fields: { gpa: u64("Address"), level: u8("Level"), ok: bool("Done") },
});
const Remark = defineEvent({
  name: "types.remark",
  version: 1,
  kind: "note",
  doc: "A remark",
  fields: { gpa: u64("Address") },
});
const Ask = defineHook<{ gpa: number }, "yes" | "no">({
  name: "types.ask",
  combine: "first",
});
const Sum = defineHook<{ gpa: number }, number>({
  name: "types.sum",
  combine: "fold",
  initial: 0,
});
interface Reader {
  read(at: number): number;
}
interface Writer {
  write(at: number, value: number): void;
}
const ReaderService = defineService<Reader>("types.reader", {
  observable: true,
});
const WriterService = defineService<Writer>("types.writer");

const good = definePlugin({
  name: "good",
  version: "1.0.0",
  doc: "Uses everything as meant",
  role: "participant",
  options: {
    strategy: oneOf(["a", "b"], "Which way", "a"),
    depth: u8("How deep", 4),
  },
  needs: {
    reader: ReaderService,
    maybe: optional(WriterService),
    later: late(WriterService),
  },
  provides: { writer: WriterService },
  state: { n: u8("Count"), fifo: arrayOf(u8("Bytes")), seen: setOf(u64("X")) },
  emits: [Walked],
  timers: ["tick"],
  setup({ on, emit, use, provide, answer, ask, state, timer, options }) {
    on(Walked, ({ gpa, level }, at) => {
      state.n = level + at.step;
      if (gpa === 0n) return;
      state.fifo.push(use.reader.read(Number(gpa)));
      state.seen.add(gpa);
      use.maybe?.write(0, 1);
      use.later.get()?.write(0, 1);
    });
    provide.writer({ write() {} });
    answer(Ask, ({ gpa }) => gpa > 3 ? "yes" : undefined);
    answer(Sum, (soFar, { gpa }) => soFar + gpa);
    const question = ask(Ask);
    timer.tick.run(() => {
      const strategy: "a" | "b" = options.strategy;
      if (question({ gpa: options.depth }) === "yes" && strategy === "a") {
        emit(Walked, { gpa: 1n, level: 2, ok: true });
      }
    });
  },
});

const misused = definePlugin({
  name: "misused",
  version: "1.0.0",
  doc: "Everything here is refused by the compiler",
  role: "participant",
  needs: { reader: ReaderService, maybe: optional(WriterService) },
  state: { n: u8("Count"), fifo: arrayOf(u8("Bytes")) },
  provides: { writer: WriterService },
  emits: [Walked],
  timers: ["tick"],
  setup({ on, emit, use, provide, answer, state, timer }) {
    // @ts-expect-error an async handler answers a Promise
    on(Walked, async () => {});
    // @ts-expect-error a handler answers nothing
    on(Walked, () => 1);
    // @ts-expect-error no such field
    on(Walked, ({ gpb }) => void gpb);
    // @ts-expect-error a participant can't depend on an observer's note
    on(Remark, () => {});
    // @ts-expect-error number for u64
    emit(Walked, { gpa: 1, level: 1, ok: true });
    // @ts-expect-error unknown field
    emit(Walked, { gpa: 1n, level: 1, ok: true, extra: 1 });
    // @ts-expect-error missing field
    emit(Walked, { gpa: 1n, level: 1 });
    // @ts-expect-error not in emits, though its payload is the same
    emit(Twin, { gpa: 1n, level: 1, ok: true });
    // @ts-expect-error wrong type of answer
    answer(Ask, () => 1);
    // @ts-expect-error an async answer
    answer(Sum, () => Promise.resolve(1));
    // @ts-expect-error may be unmet
    use.maybe.write(0, 1);
    // @ts-expect-error not in needs
    use.other;
    // @ts-expect-error not in provides
    provide.reader;
    // @ts-expect-error not the declared interface
    provide.writer({ read: () => 1 });
    // @ts-expect-error wrong type for the cell
    state.n = 1n;
    // @ts-expect-error a container stays
    state.fifo = [];
    // @ts-expect-error no such timer
    timer.tock;
    // @ts-expect-error an async timer handler
    timer.tick.run(async () => {});
  },
});

const observer = definePlugin({
  name: "observer",
  version: "1.0.0",
  doc: "Watches",
  role: "observer",
  needs: { reader: ReaderService },
  state: { seen: setOf(u64("X")) },
  emits: [Remark],
  setup({ on, emit, use, state }) {
    on(Walked, ({ gpa }) => {
      if (state.seen.has(gpa)) return;
      state.seen.add(gpa);
      emit(Remark, { gpa: BigInt(use.reader.read(0)) });
    });
    on(Remark, () => {});
  },
});

definePlugin({
  name: "observer-answers",
  version: "1.0.0",
  doc: "An observer can answer no hook, ask none, stop nothing",
  role: "observer",
  // @ts-expect-error an observer has no answer
  setup({ answer }) {
    void answer;
  },
});
definePlugin({
  name: "observer-emits",
  version: "1.0.0",
  doc: "An observer can emit no fact",
  role: "observer",
  // @ts-expect-error a fact
  emits: [Walked],
  setup() {},
});
definePlugin({
  name: "participant-notes",
  version: "1.0.0",
  doc: "A participant makes facts, not notes",
  role: "participant",
  // @ts-expect-error a note
  emits: [Remark],
  setup() {},
});
definePlugin({
  name: "observer-provides",
  version: "1.0.0",
  doc: "An observer can provide nothing",
  role: "observer",
  // @ts-expect-error provides
  provides: { writer: WriterService },
  setup() {},
});
definePlugin({
  name: "observer-writes",
  version: "1.0.0",
  doc: "An observer can't have a capability to write",
  role: "observer",
  // @ts-expect-error not observable
  needs: { writer: WriterService },
  setup() {},
});
definePlugin({
  name: "observer-timer",
  version: "1.0.0",
  doc: "An observer's timer would move idle time",
  role: "observer",
  // @ts-expect-error timers
  timers: ["tick"],
  setup() {},
});
definePlugin({
  name: "async-setup",
  version: "1.0.0",
  doc: "Setup is synchronous",
  role: "participant",
  // @ts-expect-error answers a Promise
  async setup() {},
});

Deno.test("what is meant compiles, and the rest is refused", () => {
  assertEquals([good.name, misused.name, observer.role], [
    "good",
    "misused",
    "observer",
  ]);
  assertEquals(observer.emits[0].kind, "note");
});
