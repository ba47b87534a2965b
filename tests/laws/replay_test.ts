/**
 * Laws 1, 3 and 6 on the toy machine, 200 seeded random programs each: a
 * replay gives the same frames, byte for byte; observers and detail change no
 * fact; the same run gives the same file, another engine the same chain.
 */
import {
  assert,
  assertEquals,
  assertNotEquals,
  assertThrows,
} from "@std/assert";
import { TapeError, toHex } from "../../core/mod.ts";
import { verifyTape } from "../../core/replayer.ts";
import { raiseToFull, Sidecar, SidecarWriter } from "../../core/sidecar.ts";
import { DETAILS } from "../../core/tape/manifest.ts";
import { decodeStored } from "../../core/tape/events.ts";
import type { TapeReader } from "../../core/tape/reader.ts";
import { MemoryStore } from "../../core/tape/store.ts";
import { Timeline } from "../../core/timeline.ts";
import { formatEvent } from "../../core/collect.ts";
import { TOY_OBSERVERS, TOY_PARTICIPANTS } from "../toy/mod.ts";
import { recordToy, seededRun, toyFactory, toyTape } from "./toy_runs.ts";

const SEEDS = 200;
const STEPS = 400;

Deno.test("law 1: replay gives the same frames under every detail", () => {
  let inputs = 0, digests = 0, facts = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    const detail = DETAILS[seed % DETAILS.length];
    const { tape } = toyTape(seededRun(BigInt(seed), STEPS), { detail });
    assertEquals(tape.state, "clean");
    const found = verifyTape(tape, toyFactory({ chop: seed % 7 }));
    assertEquals(
      [found.status, found.unchecked, found.step],
      [0, 0, tape.end.step],
      `seed ${seed}`,
    );
    inputs += tape.inputs.length;
    digests += found.digests;
    facts += tape.commits.at(-1)?.facts ?? 0;
  }
  // The corpus is worth something.
  const corpus = `${inputs} inputs, ${digests} digests, ${facts} facts`;
  assert(inputs > SEEDS && digests > 3 * SEEDS && facts > 50 * SEEDS, corpus);
});

Deno.test("law 3: observers change no byte of the tape", () => {
  let notes = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    const run = seededRun(BigInt(seed), STEPS);
    const plain = toyTape(run);
    const side = new MemoryStore();
    const writer = new SidecarWriter(side, { kind: "notes" });
    const watched = recordToy(
      { ...run, more: TOY_OBSERVERS },
      { detail: "full", notes: writer },
      new MemoryStore(),
    );
    assertEquals(watched.sink.bytes(), plain.store.bytes(), `seed ${seed}`);
    const { kernel, recorder } = watched;
    writer.finish(kernel, recorder.tapeId, toHex(recorder.chainHead));
    const live = [...Sidecar.open(side, plain.tape).notes()].map(formatEvent);
    notes += live.length;
    // Observers that join afterwards note the same.
    const factory = toyFactory({ more: TOY_OBSERVERS });
    const timeline = Timeline.open(plain.tape, factory);
    const later = new MemoryStore();
    raiseToFull(timeline, 0, Infinity, later);
    const derived = Sidecar.open(later, plain.tape);
    assertEquals([...derived.notes()].map(formatEvent), live, `seed ${seed}`);
  }
  assert(notes > SEEDS);
});

Deno.test("law 3: every detail is the same run; raising gives the full facts", () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const run = seededRun(BigInt(seed), STEPS);
    const full = toyTape(run, { detail: "full" });
    const known = full.kernel.events;
    const facts = [...decodeStored(full.tape, known)];
    for (const detail of ["inputs", "boundaries"] as const) {
      const { tape } = toyTape(run, { detail });
      const states = (of: TapeReader): string[] =>
        of.digests.map(({ step, state }) => `${step} ${toHex(state)}`);
      assertEquals(states(tape), states(full.tape), `seed ${seed}`);
      const kept = facts.filter(({ event }) =>
        event.kind === "input" ||
        detail === "boundaries" && event.detail === "boundaries"
      );
      assertEquals(
        [...decodeStored(tape, known)].map(({ step, event, payload }) =>
          `${step} ${event.name} ${event.toText(payload)}`
        ),
        kept.map(({ step, event, payload }) =>
          `${step} ${event.name} ${event.toText(payload)}`
        ),
        `seed ${seed}`,
      );
      const timeline = Timeline.open(tape, toyFactory());
      const from = 64 + seed, to = from + 200;
      const side = new MemoryStore();
      raiseToFull(timeline, from, to, side);
      // Read without any token: the schemas in the file suffice.
      const raised = [...Sidecar.open(side, tape).events()].map(formatEvent);
      const expected = facts.filter(({ step }) => step >= from && step < to)
        .map(formatEvent);
      assertEquals(raised, expected, `seed ${seed}`);
    }
  }
});

Deno.test("facts digests: a derived window has that of the recording", () => {
  let windows = 0;
  for (let seed = 1; seed <= 40; seed++) {
    const run = seededRun(BigInt(seed), STEPS);
    const full = toyTape(run, { detail: "full" }).tape;
    const { tape } = toyTape(run, { detail: "inputs" });
    const timeline = Timeline.open(tape, toyFactory({ chop: seed % 4 }));
    const arrivals = full.digests.filter(({ step }) => step < full.end.step);
    for (let i = 1; i < arrivals.length; i++) {
      const from = arrivals[i - 1].step, to = arrivals[i].step;
      const side = new MemoryStore();
      raiseToFull(timeline, from, to, side);
      assertEquals(
        Sidecar.open(side, tape).factsDigest,
        toHex(arrivals[i].facts),
        `seed ${seed} steps ${from} to ${to}`,
      );
      windows++;
      // It belongs to that tape only.
      assertThrows(() => Sidecar.open(side, full), TapeError, "belongs to");
      const torn = new MemoryStore(side.bytes().subarray(0, side.size - 8));
      assertThrows(() => Sidecar.open(torn, tape), TapeError, "torn");
    }
  }
  assert(windows > 80, String(windows));
});

Deno.test("law 6: the same run gives the same file, other engines the same chain", () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const run = seededRun(BigInt(seed), STEPS);
    const detail = DETAILS[seed % DETAILS.length];
    const one = toyTape(run, { detail });
    const again = toyTape(run, { detail });
    assertEquals(again.store.bytes(), one.store.bytes(), `seed ${seed}`);
    const plugins = [...TOY_PARTICIPANTS].reverse();
    const other = toyTape(
      { ...run, chop: 1 + seed % 11, name: "another engine", plugins },
      { detail },
    );
    assertEquals(other.tape.chainHead, one.tape.chainHead, `seed ${seed}`);
    assertEquals(other.tape.engine, "another engine");
    assertNotEquals(other.store.bytes(), one.store.bytes());
  }
});
