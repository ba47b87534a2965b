/**
 * Searching a tape: the stored lanes give the same moments as running again,
 * at every detail, and save the running where they hold the event.
 */
import { assert, assertEquals } from "@std/assert";
import { seededRun, toyFactory, toyTape } from "../tests/laws/toy_runs.ts";
import { ToyPortWritten, ToySerialSent } from "../tests/toy/mod.ts";
import { holdsAll } from "./stored_search.ts";
import { TapeReader } from "./tape/reader.ts";
import { MemoryStore } from "./tape/store.ts";
import { type EventQuery, Timeline } from "./timeline.ts";

const STEPS = 400;
const DETAILS = ["inputs", "boundaries", "full"] as const;
const QUERIES: readonly EventQuery[] = [
  { event: ToyPortWritten },
  {
    event: ToyPortWritten.name,
    where: ({ port }: { port: number }) => port % 2 === 1,
  },
  // Looks at the moment: stored ordinals would mislead it.
  { event: ToyPortWritten, where: (_: never, at) => at.ordinal % 2 === 0 },
  { event: ToySerialSent },
];

Deno.test("every detail finds the same moments, forwards and backwards", () => {
  let found = 0;
  for (let seed = 1n; seed <= 3n; seed++) {
    const run = seededRun(seed, STEPS);
    for (const query of QUERIES) {
      const seen = DETAILS.map((detail) => {
        const { tape } = toyTape(run, { detail });
        const time = Timeline.open(tape, toyFactory());
        const forward = [], backward = [];
        for (let at = time.runTo(query); at; at = time.runTo(query)) {
          forward.push(at);
        }
        time.seekEnd();
        for (let at = time.reverseTo(query); at; at = time.reverseTo(query)) {
          backward.unshift(at);
        }
        assertEquals(backward, forward, `seed ${seed}, ${detail}`);
        return forward;
      });
      assertEquals(seen[1], seen[0], `seed ${seed}`);
      assertEquals(seen[2], seen[0], `seed ${seed}`);
      found += seen[0].length;
    }
  }
  assert(found > 40, `${found}`);
});

Deno.test("stored lanes save running again", () => {
  let saved = 0;
  for (let seed = 1n; seed <= 12n; seed++) {
    const run = seededRun(seed, STEPS);
    const cost = DETAILS.map((detail) => {
      const { tape } = toyTape(run, { detail });
      const time = Timeline.open(tape, toyFactory());
      time.seekEnd();
      const before = time.executedSteps;
      const query = { event: ToyPortWritten, where: () => false };
      assertEquals(time.reverseTo(query), undefined);
      return time.executedSteps - before;
    });
    saved += cost[0] - cost[1];
    assert(cost[1] <= cost[0] && cost[2] <= cost[0], `${cost}`);
  }
  assert(saved > 12 * STEPS / 2, `${saved}`);
});

Deno.test("a tape that lost something is not believed to hold all", () => {
  const { tape, store } = toyTape(seededRun(1n, STEPS));
  assert(holdsAll(tape, ToyPortWritten));
  const bytes = store.bytes();
  const torn = new MemoryStore();
  torn.append(bytes.slice(0, bytes.length - 40));
  const read = TapeReader.open(torn);
  assertEquals(read.state, "torn");
  assert(!holdsAll(read, ToyPortWritten));
});
