/**
 * Laws 5 and 7 on the golden toy tape: every truncation point opens as torn
 * with exactly the surviving inputs; 10,000 seeded single-byte flips are each
 * detected at their place; what is recovered replays; a disk that fills up at
 * any write loses nothing committed and no consumed input.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  RandomStream,
  sameBytes,
  sha256,
  TapeError,
  toHex,
  VmtapeError,
} from "../../core/mod.ts";
import { Recorder, tapeWriter } from "../../core/recorder.ts";
import { verifyTape } from "../../core/replayer.ts";
import { frameBytes, FrameType } from "../../core/tape/frames.ts";
import { TapeReader } from "../../core/tape/reader.ts";
import type { InputRecord } from "../../core/tape/payloads.ts";
import { recoverTape } from "../../core/tape/recover.ts";
import { MemoryStore } from "../../core/tape/store.ts";
import { makeToy, ToySerialReceived } from "../toy/mod.ts";
import {
  drive,
  recordToy,
  seededRun,
  TOY_CADENCE,
  toyFactory,
} from "../laws/toy_runs.ts";
import {
  GOLDEN_HASH,
  GOLDEN_TAPE,
  type GoldenHash,
  goldenRun,
} from "./golden.ts";
import { DiskFull, FullStore } from "./stores.ts";

function recordGolden(): Uint8Array {
  const options = { detail: "full" } as const;
  const { sink } = recordToy(goldenRun(), options, new MemoryStore());
  return sink.bytes().slice();
}

if (Deno.env.get("VMTAPE_BLESS") === "1") {
  const bytes = recordGolden();
  const tape = TapeReader.open(new MemoryStore(bytes));
  const hash: GoldenHash = {
    chainHead: tape.chainHead,
    sha256: toHex(sha256(bytes)),
    deno: Deno.version.deno,
  };
  Deno.writeFileSync(GOLDEN_TAPE, bytes);
  Deno.writeTextFileSync(GOLDEN_HASH, `${JSON.stringify(hash, null, 2)}\n`);
}
const golden = Deno.readFileSync(GOLDEN_TAPE);

function open(bytes: Uint8Array, verify = true): TapeReader {
  return TapeReader.open(new MemoryStore(bytes), { verify });
}

/** Are `some` the first of `all`? (assertEquals is slow for 10,000 times.) */
function samePrefix(
  some: readonly InputRecord[],
  all: readonly InputRecord[],
): boolean {
  return some.every((one, i) => {
    const other = all[i];
    return one.ordinal === other.ordinal && one.step === other.step &&
      one.time === other.time && one.type === other.type &&
      one.waiting === other.waiting && sameBytes(one.payload, other.payload);
  });
}

Deno.test("golden: today's recorder writes the committed tape", () => {
  const expected: GoldenHash = JSON.parse(Deno.readTextFileSync(GOLDEN_HASH));
  const today = recordGolden();
  assertEquals(open(today).chainHead, expected.chainHead);
  assertEquals(open(golden).chainHead, expected.chainHead);
  // zstd of another Deno may pack the same bytes otherwise.
  if (Deno.version.deno === expected.deno) {
    assertEquals(toHex(sha256(golden)), expected.sha256);
    assertEquals(today, golden);
  }
});

Deno.test("golden: opens by index and by scan alike, and replays", () => {
  const scanned = open(golden);
  const indexed = open(golden, false);
  assertEquals([scanned.state, indexed.state], ["clean", "clean"]);
  assertEquals(indexed.frames, scanned.frames);
  assertEquals(indexed.inputs, scanned.inputs);
  assertEquals(indexed.end, scanned.end);
  assertEquals(scanned.inputs.length, goldenRun().inputs.length);
  assert(scanned.end.stopped);
  const found = verifyTape(scanned, toyFactory());
  assertEquals([found.status, found.unchecked], [0, 0]);
});

Deno.test("every truncation point is torn and keeps its inputs", () => {
  const whole = open(golden);
  const ends = whole.frames.filter(({ type }) => type === FrameType.input)
    .map(({ offset, storedLength }) => offset + frameBytes(storedLength));
  for (let size = 0; size < golden.length; size++) {
    const tape = open(golden.subarray(0, size), size % 16 === 0);
    const survive = ends.filter((end) => end <= size).length;
    assert(
      tape.state === "torn" && tape.exitStatus === 4 &&
        tape.inputs.length === survive && tape.missingInputs === 0,
      `cut at ${size}: ${tape.state}, ${tape.inputs.length} of ${survive}`,
    );
    assert(samePrefix(tape.inputs, whole.inputs));
    const place = tape.damage[0];
    assert(place.offset <= size && place.offset + place.length >= size);
    assert(tape.lost().length > 0);
    if (size % 211 !== 0 || tape.keyframes.length === 0) continue;
    const sink = new MemoryStore();
    const recovery = recoverTape(
      new MemoryStore(golden.subarray(0, size)),
      sink,
    );
    assertEquals(recovery.inputs, survive);
    const recovered = TapeReader.open(sink, { verify: true });
    assertEquals([recovered.state, recovered.inputs.length], [
      "clean",
      survive,
    ]);
    assertEquals(
      verifyTape(recovered, toyFactory()).status,
      0,
      `cut at ${size}`,
    );
  }
  assertEquals(open(golden).state, "clean");
});

Deno.test("10,000 single-byte flips: each detected at its place", () => {
  const whole = open(golden);
  const random = new RandomStream(7n, "flips");
  const bytes = golden.slice();
  let recovered = 0, lostInputs = 0, refused = 0;
  for (let n = 0; n < 10_000; n++) {
    const place = random.below(bytes.length);
    const mask = 1 + random.below(255);
    bytes[place] ^= mask;
    let tape: TapeReader | undefined;
    try {
      tape = open(bytes);
    } catch (error) {
      assert(error instanceof TapeError && place < 64, `byte ${place}`);
      refused++;
    }
    if (tape !== undefined) {
      assert(tape.exitStatus === 4 || tape.exitStatus === 5, `byte ${place}`);
      assert(
        tape.damage.some((d) =>
          d.offset <= place && place < d.offset + Math.max(d.length, 1)
        ),
        `byte ${place} damaged, reported: ${tape.lost().join("; ")}`,
      );
      // What is believed is a prefix of the truth.
      assert(samePrefix(tape.inputs, whole.inputs), `byte ${place}`);
      const lost = whole.inputs.length - tape.inputs.length;
      if (lost > 0) lostInputs++;
      if (n % 80 === 0) {
        const sink = new MemoryStore();
        try {
          recoverTape(new MemoryStore(bytes), sink);
          const again = TapeReader.open(sink, { verify: true });
          assertEquals([again.state, again.inputs], ["clean", tape.inputs]);
          const found = verifyTape(again, toyFactory());
          assertEquals(found.status, 0, `byte ${place}`);
          recovered++;
        } catch (error) {
          if (!(error instanceof TapeError)) throw error;
        }
      }
    }
    bytes[place] ^= mask;
  }
  assertEquals(bytes, golden);
  assert(recovered > 60 && lostInputs > 100, `${recovered} ${lostInputs}`);
  assert(refused < 100);
});

Deno.test("replay of a damaged tape says 5, of a torn one 4", () => {
  const whole = open(golden);
  const lane = whole.frames.find(({ type }) => type === FrameType.lane);
  assert(lane !== undefined);
  const bytes = golden.slice();
  bytes[lane.offset + 50] ^= 1;
  const damaged = verifyTape(open(bytes), toyFactory());
  assertEquals(damaged.status, 5);
  assert(damaged.unchecked > 0 && damaged.frames > 5);
  const torn = open(golden.subarray(0, golden.length - 1));
  assertEquals(verifyTape(torn, toyFactory()).status, 4);
});

Deno.test("a disk full at any write loses nothing committed", () => {
  const run = seededRun(11n, 500);
  for (let failAt = 0, failed = true; failed; failAt++) {
    const store = new FullStore(failAt);
    const consumed: number[][] = [];
    const acknowledged: number[] = [];
    failed = false;
    try {
      const kernel = makeToy(run);
      kernel.watch(ToySerialReceived, ({ bytes }) => {
        consumed.push([...bytes]);
        return undefined;
      });
      const recorder = Recorder.start(kernel, tapeWriter(store), {
        cadence: TOY_CADENCE,
        detail: "full",
      });
      drive(kernel, run);
      recorder.finish();
    } catch (error) {
      assert(error instanceof VmtapeError, String(error));
      assert(
        error.code === "store" && error.cause instanceof DiskFull,
        `${error.code} ${error}`,
      );
      failed = true;
    }
    acknowledged.push(store.flushed);
    const tape = open(store.bytes().slice());
    assertEquals(tape.state, failed ? "torn" : "clean", `write ${failAt}`);
    const before = open(store.bytes().slice(0, store.flushed));
    assertEquals(tape.commits.length, before.commits.length);
    const onTape = tape.inputs.map(({ payload }) => [...payload.subarray(1)]);
    assert(tape.inputs.length >= consumed.length);
    assertEquals(onTape.slice(0, consumed.length), consumed);
    if (tape.keyframes.length === 0) {
      assertThrows(() => recoverTape(store, new MemoryStore()), TapeError);
      continue;
    }
    const sink = new MemoryStore();
    recoverTape(store, sink);
    const recovered = TapeReader.open(sink, { verify: true });
    assertEquals(recovered.inputs, tape.inputs);
    assertEquals(recovered.commits.length, tape.commits.length);
    if (failAt % 5 === 0) {
      assertEquals(verifyTape(recovered, toyFactory()).status, 0);
    }
    assert(failAt < 500);
  }
});
