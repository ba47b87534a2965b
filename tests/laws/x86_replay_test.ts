/**
 * Laws 1, 2 and 6 on random x86 programs and on the examples: a replay gives
 * the same frames byte for byte; so does every other engine, quiet and
 * observed; the same run gives the same file.
 */
import { assert, assertEquals } from "@std/assert";
import { formatDivergence } from "../../core/divergence.ts";
import { type Verification, verifyTape } from "../../core/replayer.ts";
import type { TapeReader } from "../../core/tape/reader.ts";
import { EAGER_T0, ENGINES, type EngineUnderTest } from "../sim/engines.ts";
import { machineOf, record, type Recording, type Subject } from "../sim/run.ts";
import { corpus, exampleSubjects, recordingOf } from "./x86_subjects.ts";

const examples = await exampleSubjects();
const REFERENCE = "reference";

/** Replays and fails with the divergence, if any. */
function replay(
  tape: TapeReader,
  engine: EngineUnderTest,
  subject: Subject,
): Verification {
  const found = verifyTape(tape, engine.factory(subject.uses));
  const why = found.divergence === undefined
    ? found.incompatible ?? ""
    : formatDivergence(found.divergence);
  assertEquals(
    [found.status, found.unchecked, found.complete],
    [0, 0, true],
    `${subject.name} on ${engine.name}: ${why}`,
  );
  return found;
}

function engineNamed(name: string): EngineUnderTest {
  const engine = ENGINES.find((one) => one.name === name);
  assert(engine !== undefined, `no engine ${name}`);
  return engine;
}

Deno.test("law 1: a replay gives the same facts and digests", () => {
  const reference = engineNamed(REFERENCE);
  let digests = 0, frames = 0, inputs = 0;
  for (const subject of [...corpus, ...examples]) {
    const { tape } = recordingOf(subject);
    assertEquals(tape.state, "clean", subject.name);
    const found = replay(tape, reference, subject);
    assertEquals(found.step, tape.end.step, subject.name);
    digests += found.digests;
    frames += found.frames;
    inputs += tape.inputs.length;
  }
  // What was compared is worth something.
  const compared = `${digests} digests, ${frames} frames, ${inputs} inputs`;
  assert(digests > 5 * corpus.length && inputs > corpus.length, compared);
});

const quiet = new Map<Subject, Recording>();

/** The subject's run on the reference, with its inputs and digests only. */
function quietOf(subject: Subject): Recording {
  let recording = quiet.get(subject);
  if (recording === undefined) {
    const kernel = machineOf(subject, REFERENCE);
    recording = record(kernel, subject, { detail: "inputs" });
    quiet.set(subject, recording);
  }
  return recording;
}

for (const engine of [...ENGINES, EAGER_T0]) {
  if (engine.name === REFERENCE) continue;
  const subjects = engine === EAGER_T0 ? corpus : [...corpus, ...examples];
  Deno.test(`law 2: ${engine.name}, observed, does what the reference does`, () => {
    for (const subject of subjects) {
      replay(recordingOf(subject).tape, engine, subject);
    }
  });
  Deno.test(`law 2: ${engine.name}, quiet, has the reference's states`, () => {
    for (const subject of subjects) {
      const { tape } = quietOf(subject);
      const found = replay(tape, engine, subject);
      assertEquals(found.digests, tape.digests.length, subject.name);
    }
  });
}

Deno.test("law 6: the same run gives the same file", () => {
  for (const subject of [...corpus, ...examples]) {
    const one = recordingOf(subject);
    const again = record(machineOf(subject, REFERENCE), subject);
    assertEquals(again.ending, one.ending, subject.name);
    assert(sameBytes(again.store.bytes(), one.store.bytes()), subject.name);
  }
});

Deno.test("law 6: another engine's file has the same chain", () => {
  for (
    const subject of [...corpus.filter((_, i) => i % 5 === 0), ...examples]
  ) {
    const one = recordingOf(subject);
    for (const { name } of ENGINES) {
      if (name === REFERENCE) continue;
      const other = record(machineOf(subject, name), subject);
      assertEquals(other.tape.engine, name);
      assertEquals(other.chainHead, one.chainHead, subject.name);
    }
  }
});

/** assertEquals would compare megabytes one by one. */
function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
