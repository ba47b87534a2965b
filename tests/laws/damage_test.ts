/**
 * Laws 5 and 7 on 200 seeded toy tapes of all details: cut anywhere they are
 * torn and keep the inputs before the cut, with a byte flipped anywhere they
 * say so; what is recovered of either replays to its end.
 */
import { assert, assertEquals } from "@std/assert";
import { RandomStream } from "../../core/mod.ts";
import { verifyTape } from "../../core/replayer.ts";
import { DETAILS } from "../../core/tape/manifest.ts";
import { TapeReader } from "../../core/tape/reader.ts";
import { recoverTape } from "../../core/tape/recover.ts";
import { MemoryStore } from "../../core/tape/store.ts";
import { seededRun, toyFactory, toyTape } from "./toy_runs.ts";

const SEEDS = 200;
const STEPS = 400;

function open(bytes: Uint8Array): TapeReader {
  return TapeReader.open(new MemoryStore(bytes), { verify: true });
}

/** Recovers `bytes` and replays what came of it. */
function recoverAndReplay(bytes: Uint8Array, about: string): TapeReader {
  const sink = new MemoryStore();
  recoverTape(new MemoryStore(bytes), sink);
  const recovered = open(sink.bytes());
  assertEquals(recovered.state, "clean", about);
  const found = verifyTape(recovered, toyFactory());
  assertEquals([found.status, found.step], [0, recovered.end.step], about);
  return recovered;
}

Deno.test("laws 5 and 7: cut tapes keep their inputs and replay", () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const detail = DETAILS[seed % DETAILS.length];
    const run = seededRun(BigInt(seed), STEPS);
    const { tape, store } = toyTape(run, { detail });
    const bytes = store.bytes();
    const random = new RandomStream(BigInt(seed), "cut");
    const first = tape.frames.find(({ ordinal }) => ordinal === 4)?.offset ?? 0;
    for (let n = 0; n < 4; n++) {
      const size = first + random.below(bytes.length - first);
      const about = `seed ${seed} cut at ${size}`;
      const cut = open(bytes.subarray(0, size));
      assertEquals([cut.state, cut.missingInputs], ["torn", 0], about);
      assertEquals(cut.inputs, tape.inputs.slice(0, cut.inputs.length), about);
      const last = cut.commits.at(-1);
      assert(last === undefined || last.inputs <= cut.inputs.length, about);
      if (n > 0) continue;
      const again = recoverAndReplay(bytes.subarray(0, size), about);
      assertEquals(again.inputs, cut.inputs, about);
      assertEquals(again.commits.length, cut.commits.length, about);
    }
  }
});

Deno.test("law 7: a flipped byte is found where it is", () => {
  let recovered = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    const detail = DETAILS[seed % DETAILS.length];
    const run = seededRun(BigInt(seed), STEPS);
    const { tape, store } = toyTape(run, { detail });
    const bytes = store.bytes().slice();
    const random = new RandomStream(BigInt(seed), "flip");
    for (let n = 0; n < 10; n++) {
      const place = 64 + random.below(bytes.length - 64);
      const mask = 1 + random.below(255);
      bytes[place] ^= mask;
      const about = `seed ${seed} byte ${place}`;
      const flipped = open(bytes);
      assert(flipped.exitStatus >= 4, about);
      assert(
        flipped.damage.some(({ offset, length }) =>
          offset <= place && place < offset + length
        ),
        about,
      );
      assertEquals(
        flipped.inputs,
        tape.inputs.slice(0, flipped.inputs.length),
        about,
      );
      if (n === 0 && flipped.firstKeyframe() !== undefined) {
        if (flipped.manifest !== undefined) {
          recoverAndReplay(bytes, about);
          recovered++;
        }
      }
      bytes[place] ^= mask;
    }
  }
  assert(recovered > SEEDS / 3, String(recovered));
});
