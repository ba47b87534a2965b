/** The kit passes good plugins and catches each kind of bad one. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  arrayOf,
  defineEvent,
  definePlugin,
  defineService,
  oneOf,
  text,
  u32,
  u8,
} from "../core/mod.ts";
import type { Container, Plugin, PluginUse } from "../core/mod.ts";
import {
  echoProgram,
  makeToy,
  randomProgram,
  TOY_OBSERVERS,
  TOY_PARTICIPANTS,
  ToyInterruptsService,
  ToyMemoryService,
  ToyPortWritten,
  ToyReadMask,
  ToyReadPort,
  ToySerialReceived,
  ToyTallied,
  toyTally,
  ToyTicked,
} from "../tests/toy/mod.ts";
import {
  assertConforms,
  checkPlugin,
  CHECKS,
  ConformanceError,
} from "./mod.ts";
import type { TestMachine } from "./mod.ts";

function machineFor(
  use: PluginUse,
  over: Partial<TestMachine> = {},
): TestMachine {
  return {
    load: (plugins) => makeToy({ program: echoProgram(), seed: 3n, plugins }),
    plugins: TOY_PARTICIPANTS.filter(({ plugin }) => plugin !== use.plugin),
    steps: 4000,
    inputs: [
      {
        at: 100,
        event: ToySerialReceived,
        payload: { bytes: Uint8Array.of(7, 8) },
      },
      {
        at: 900,
        event: ToySerialReceived,
        payload: { bytes: Uint8Array.of(9) },
      },
    ],
    oldPayloads: { "toy-tally.counted": { 1: { times: 4 } } },
    ...over,
  };
}

/** A program that reads ports all the time. */
const BUSY: Partial<TestMachine> = {
  load: (plugins) => makeToy({ program: randomProgram(4n), seed: 3n, plugins }),
};

Deno.test("every toy plugin conforms", () => {
  for (const use of [...TOY_PARTICIPANTS, ...TOY_OBSERVERS]) {
    const report = assertConforms(
      use,
      machineFor(use, {
        rare: use.plugin.emits.filter(({ name }) =>
          name === "toy-hot-watcher.evened"
        ),
      }),
    );
    assertEquals(report.steps, 4000);
    assertEquals(report.restores, 16);
  }
});

/** A participant whose answers show in what the program reads. */
function participant(
  over: Partial<Parameters<typeof definePlugin>[0]>,
  setup: (context: {
    mask: (value: (port: number) => number) => void;
    ticked: (handler: () => void) => void;
  }) => void,
): Plugin {
  const made = definePlugin({
    name: "subject",
    version: "1.0.0",
    doc: "Under test",
    role: "participant",
    setup({ answer, on }) {
      setup({
        mask: (value) =>
          answer(ToyReadMask, (soFar, { port }) => soFar ^ value(port)),
        ticked: (handler) =>
          on(ToyTicked, () => {
            handler();
          }),
      });
    },
  });
  return { ...made, ...over as Partial<Plugin> };
}

function found(plugin: Plugin, over: Partial<TestMachine> = {}): string {
  return checkPlugin({ plugin }, machineFor({ plugin }, over)).findings
    .map(({ check, message }) => `${check}: ${message}`).join("\n");
}

Deno.test("the honest subject has no findings", () => {
  assertEquals(found(participant({}, ({ mask }) => mask(() => 1))), "");
});

Deno.test("state outside cells is caught by restoring", () => {
  const subject = participant({}, ({ mask, ticked }) => {
    let ticks = 0;
    ticked(() => ticks++);
    mask(() => ticks & 1);
  });
  const findings = found(subject);
  assert(findings.includes("restore: restored at step"), findings);
  assert(findings.includes("keep all state in cells"), findings);
});

Deno.test("what derives from cells must be dropped on restore", () => {
  const subject = (drop: boolean) =>
    definePlugin({
      name: "subject",
      version: "1.0.0",
      doc: "Caches the parity of its ticks",
      role: "participant",
      state: { ticks: u32("Ticks") },
      setup({ answer, on, state, onRestored }) {
        let cache: number | undefined;
        on(ToyTicked, () => {
          state.ticks++;
          cache = undefined;
        });
        answer(ToyReadMask, (soFar) => soFar ^ (cache ??= state.ticks));
        if (drop) {
          onRestored(() => {
            cache = undefined;
          });
        }
      },
    });
  assertEquals(found(subject(true), BUSY), "");
  assert(found(subject(false), BUSY).includes("into a used machine"));
});

Deno.test("state shared between machines and host randomness are caught", () => {
  let shared = 0;
  const subject = participant({}, ({ mask }) => mask(() => shared++ & 255));
  // Not the echo program: it reads until it gets 0, which synchronises it.
  const findings = found(subject, BUSY);
  assert(findings.includes("twin-run: two runs of the same machine"), findings);
  assert(findings.includes("restore: restored at step"), findings);
  assert(findings.includes("tape: a recording doesn't replay"), findings);
  const random = participant({}, ({ mask }) => mask(() => Math.random() * 4));
  assert(found(random).includes("Math.random was called"));
  const clock = participant({}, ({ mask }) => mask(() => Date.now() & 3));
  assert(found(clock).includes("Date was called"));
  assert(Date.now() > 0 && Math.random() < 1, "the traps are gone");
});

Deno.test("an observer that acts is caught", () => {
  // A service that lies about being observable.
  const lying = { ...ToyInterruptsService, observable: true } as const;
  const plugin = definePlugin({
    name: "subject",
    version: "1.0.0",
    doc: "Raises a line",
    role: "observer",
    needs: { memory: ToyMemoryService },
    setup({ on, use }) {
      on(ToyTicked, () => {
        const world = use as unknown as { raise?: { raise(n: number): void } };
        world.raise?.raise(1);
      });
    },
  });
  const needs = { raise: lying };
  const load: TestMachine["load"] = (plugins) =>
    makeToy({
      program: echoProgram(),
      plugins: [...plugins, { plugin: relay(lying) }],
    });
  const findings = found({ ...plugin, needs } as Plugin, { load });
  assert(findings.includes("observer: the machine runs differently"), findings);
});

/** Provides the lying token from the honest one. */
function relay(token: { readonly name: string }): Plugin {
  const made = definePlugin({
    name: "relay",
    version: "1.0.0",
    doc: "Hands out the interrupt lines",
    role: "participant",
    needs: { interrupts: ToyInterruptsService },
    provides: { lines: defineService<{ raise(n: number): void }>("toy.lines") },
    setup({ provide, use }) {
      provide.lines(use.interrupts);
    },
  });
  return { ...made, provides: { lines: token } } as unknown as Plugin;
}

Deno.test("missing and unfinished docs, silent events, missing upcasts", () => {
  const Bare = defineEvent({
    name: "subject.bare",
    version: 3,
    kind: "fact",
    doc: "tbd",
    fields: { n: u8() },
    upcast: { 2: () => ({ n: 300 }) },
  });
  const subject = definePlugin({
    name: "subject",
    version: "1.0.0",
    doc: "",
    role: "participant",
    options: { file: text() },
    provides: { it: defineService<unknown>("subject.it") },
    state: { n: u8() },
    emits: [Bare],
    setup({ provide }) {
      provide.it(1);
    },
  });
  const findings = found(subject, {
    oldPayloads: { "subject.bare": { 2: {} } },
  });
  for (
    const expected of [
      "docs: plugin subject: doc is empty",
      "docs: option file",
      "docs: event subject.bare: doc has a placeholder",
      "docs: event subject.bare, field n",
      "docs: service subject.it",
      "docs: cell n",
      "upcasts: event subject.bare, version 1: no upcast",
      "upcasts: event subject.bare, version 2: event subject.bare",
      "coverage: event subject.bare: never emitted",
    ]
  ) assert(findings.includes(expected), `${expected}\n${findings}`);
  const tally = { plugin: toyTally };
  const untried = checkPlugin(tally, machineFor(tally, { oldPayloads: {} }));
  assertEquals(untried.findings.map(({ check }) => check), ["upcasts"]);
  assertEquals((untried.emitted.get(ToyTallied.name) ?? 0) > 0, true);
});

Deno.test("a codec that forgets is caught", () => {
  const honest = arrayOf(u8("Bytes"), "Bytes seen");
  const forgetful: typeof honest = {
    ...honest,
    make() {
      const cell = honest.make();
      return { ...cell, encode: (out) => out.count(0), reset: () => {} };
    },
  };
  const subject = definePlugin({
    name: "subject",
    version: "1.0.0",
    doc: "Remembers ports",
    role: "participant",
    state: { seen: forgetful },
    setup({ on, answer, state }) {
      on(ToyPortWritten, ({ port }) => {
        state.seen.push(port);
      });
      answer(ToyReadMask, (soFar) => soFar ^ state.seen.length);
    },
  });
  assert(found(subject, BUSY).includes("restore: restored at step"));
  const greedy: Container<unknown> = {
    ...honest,
    make() {
      const cell = honest.make();
      return {
        ...cell,
        encode(out) {
          cell.encode(out);
          out.u8(1);
        },
      };
    },
  };
  const other = { ...subject, state: { seen: greedy } };
  assert(found(other).includes("cells: cell seen: decode leaves bytes over"));
});

Deno.test("an option that only works one way is caught; errors list everything", () => {
  const subject = definePlugin({
    name: "subject",
    version: "1.0.0",
    doc: "Fails with one option",
    role: "participant",
    options: { mode: oneOf(["good", "bad"], "Mode") },
    setup({ options, answer }) {
      if (options.mode === "bad") throw new Error("not that one");
      answer(ToyReadPort, () => undefined);
    },
  });
  const thrown = assertThrows(
    () => assertConforms({ plugin: subject }, machineFor({ plugin: subject })),
    ConformanceError,
    "option mode = bad: set up plugin subject: not that one",
  );
  assertEquals(thrown.report.plugin, "subject");
  assert(CHECKS.includes(thrown.report.findings[0].check));
});
