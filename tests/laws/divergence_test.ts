/**
 * Divergence on the toy machine: a participant that behaves otherwise after a
 * while is found, at the right moment, with the right blame, whatever the tape
 * stored; two builds are bisected to the very step; other machines are refused.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import {
  defineEvent,
  definePlugin,
  type Plugin,
  VmtapeError,
} from "../../core/mod.ts";
import {
  diffBuilds,
  diffRuns,
  formatDivergence,
  type Twins,
} from "../../core/divergence.ts";
import { verifyTape } from "../../core/replayer.ts";
import type { TapeReader } from "../../core/tape/reader.ts";
import { Timeline } from "../../core/timeline.ts";
import {
  TOY_PARTICIPANTS,
  ToyPortWritten,
  ToyTallied,
  toyTally,
} from "../toy/mod.ts";
import { seededRun, toyFactory, toyTape } from "./toy_runs.ts";

/** Port writes that the wrong tally counts rightly. */
const RIGHT_WRITES = 5;
const SEED = 21n;
const STEPS = 900;

/** toyTally by name, version and cells, which skips every later port. */
const wrongTally: Plugin = {
  ...toyTally,
  setup(context) {
    const { emit, state, answer } = context as unknown as {
      emit: (event: unknown, payload: unknown) => void;
      state: { times: Map<number, number>; log: Uint8Array; next: number };
      answer: (hook: unknown, answer: unknown) => void;
    };
    let seen = 0;
    toyTally.setup({
      ...context as object,
      on: (
        event: unknown,
        handler: (payload: unknown, at: unknown) => void,
      ) => {
        (context as { on: (e: unknown, h: unknown) => void }).on(
          event,
          (payload: { port: number }, at: unknown) => {
            // Cells are all that counts across restores.
            seen = [...state.times].reduce((sum, [, times]) => sum + times, 0);
            const port = seen < RIGHT_WRITES ? payload.port : 14;
            handler({ ...payload, port }, at);
            return undefined;
          },
        );
      },
      emit,
      state,
      answer,
    } as never);
  },
};

const wrongPlugins = TOY_PARTICIPANTS.map((use) =>
  use.plugin === toyTally ? { ...use, plugin: wrongTally } : use
);
const wrongFactory = toyFactory({ plugins: wrongPlugins });

/** The step of the first write that the wrong tally takes for port 14. */
function firstWrong(): number {
  const { tape } = toyTape(seededRun(SEED, STEPS));
  const timeline = Timeline.open(tape, toyFactory());
  const writes = timeline.events(0, STEPS)
    .filter(({ event }) => event === ToyPortWritten);
  assert(writes.length > RIGHT_WRITES + 2);
  assert((writes[RIGHT_WRITES].payload as { port: number }).port !== 14);
  return writes[RIGHT_WRITES].step;
}

Deno.test("a wrong participant is found by the first fact that differs", () => {
  const { tape } = toyTape(seededRun(SEED, STEPS), { detail: "full" });
  const found = verifyTape(tape, wrongFactory);
  assertEquals(found.status, 3);
  const divergence = found.divergence;
  assert(divergence !== undefined && divergence.kind === "facts");
  // The count of another port announces itself at powers of two.
  assert(divergence.moment.step >= firstWrong());
  assert(divergence.equalUpTo <= divergence.moment.step);
  const text = formatDivergence(divergence);
  assertStringIncludes(text, `diverged at ${divergence.moment.step}`);
  assertStringIncludes(text, "expected");
  assertStringIncludes(text, "actual");
  assertEquals(divergence.before.length, 16);
  if (divergence.expected?.event === ToyTallied) {
    assertEquals(divergence.blame[0].plugin, "toy-tally");
  }
});

Deno.test("without stored facts the state is blamed: plugin and cell", () => {
  const { tape } = toyTape(seededRun(SEED, STEPS), { detail: "inputs" });
  const found = verifyTape(tape, wrongFactory);
  assertEquals(found.status, 3);
  const divergence = found.divergence;
  assert(divergence !== undefined && divergence.kind === "state");
  assert(divergence.equalUpTo <= firstWrong());
  assert(divergence.moment.step >= firstWrong());
  const blamed = divergence.blame.map(({ plugin, cell }) =>
    `${plugin}.${cell}`
  );
  assert(
    blamed.includes("toy-tally.times") || blamed.includes("toy-tally.log"),
    formatDivergence(divergence),
  );
});

Deno.test("two builds are bisected to the step, with blame", () => {
  for (const detail of ["inputs", "full"] as const) {
    const { tape } = toyTape(seededRun(SEED, STEPS), { detail });
    assertEquals(
      diffBuilds(tape, toyFactory(), toyFactory({ chop: 3 })),
      undefined,
    );
    const found = diffBuilds(tape, toyFactory(), wrongFactory);
    assert(found !== undefined);
    // The write of step s shows in the state from s + 1 on.
    assertEquals(found.equalUpTo, firstWrong());
    const blamed = found.blame.map(({ plugin, cell }) => `${plugin}.${cell}`);
    assert(blamed.every((name) => name.startsWith("toy-tally.")), `${blamed}`);
    assert(blamed.includes("toy-tally.times"));
  }
});

Deno.test("another machine is refused with the first difference", () => {
  const { tape } = toyTape(seededRun(SEED, STEPS));
  const missing = verifyTape(
    tape,
    toyFactory({ plugins: TOY_PARTICIPANTS.slice(1) }),
  );
  assertEquals(missing.status, 6);
  assertStringIncludes(
    missing.incompatible ?? "",
    "participants, toy-serial: the tape has",
  );
  const newer = TOY_PARTICIPANTS.map((use) =>
    use.plugin === toyTally
      ? { ...use, plugin: { ...toyTally, version: "2.0.0" } }
      : use
  );
  const other = verifyTape(tape, toyFactory({ plugins: newer }));
  assertEquals(other.status, 6);
  assertStringIncludes(
    other.incompatible ?? "",
    'participants, toy-tally, version: the tape has "1.0.0", this build has ' +
      '"2.0.0"',
  );
  try {
    Timeline.open(tape, toyFactory({ plugins: newer }));
    assert(false, "refused");
  } catch (error) {
    assert(error instanceof VmtapeError && error.code === "config");
  }
});

Deno.test("an observer of events that the machine lacks may join", () => {
  const foreign = defineEvent({
    name: "elsewhere.happened",
    version: 1,
    kind: "fact",
    doc: "Of a plugin that is not loaded",
    fields: {},
  });
  const observer = definePlugin({
    name: "hopeful",
    version: "1.0.0",
    doc: "Watches for what never happens here",
    role: "observer",
    setup({ on }) {
      on(foreign, () => undefined);
    },
  });
  const { tape } = toyTape(seededRun(SEED, 200));
  const more = [observer];
  assertEquals(verifyTape(tape, toyFactory({ more })).status, 0);
});

Deno.test("diff: two tapes of one machine part at the first other input", () => {
  const run = seededRun(SEED, STEPS);
  const { at } = run.inputs[1];
  const inputs = run.inputs.map((input) =>
    input.at === at ? { at, bytes: [...input.bytes, 99] } : input
  );
  const left = toyTape(run).tape;
  const right = toyTape({ ...run, inputs }).tape;
  const twins = (a: TapeReader, b: TapeReader): Twins => ({
    left: Timeline.open(a, toyFactory()),
    right: Timeline.open(b, toyFactory()),
  });
  const found = diffRuns(twins(left, right));
  assert(found !== undefined && found.kind === "facts");
  assertEquals(found.moment.step, at);
  assertEquals(found.expected?.event.name, "toy-serial.received");
  assertStringIncludes(formatDivergence(found), "toy-serial, fifo");
  assertEquals(diffRuns(twins(left, left)), undefined);
  const shorter = toyTape({ ...run, steps: STEPS - 100 }).tape;
  const end = diffRuns(twins(left, shorter));
  assert(end !== undefined && end.equalUpTo === shorter.end.step);
});

Deno.test("a host that has seen enough stops a verification", () => {
  const { tape } = toyTape(seededRun(SEED, STEPS));
  let asked = 0;
  const found = verifyTape(tape, toyFactory(), {
    budgetSteps: 100,
    progress: (step, end) => {
      asked++;
      assert(step < end);
      return step < 300;
    },
  });
  assertEquals([found.status, found.complete], [0, false]);
  assert(asked >= 3 && found.step >= 300 && found.step < STEPS);
});
