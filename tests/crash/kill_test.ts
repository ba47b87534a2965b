/**
 * Law 5 by SIGKILL: at 50 seeded instants a child that reports each input byte
 * its guest consumed is killed; every reported byte is on its tape, the tape
 * is torn but opens, recovers and replays.
 */
import { assert, assertEquals } from "@std/assert";
import { RandomStream } from "../../core/mod.ts";
import { verifyTape } from "../../core/replayer.ts";
import { TapeReader } from "../../core/tape/reader.ts";
import { recoverTape } from "../../core/tape/recover.ts";
import { FileSink, FileSource } from "../../host/store/file_store.ts";
import { toyFactory } from "../laws/toy_runs.ts";
import { killAt } from "./harness.ts";

const KILLS = 50;
/** Children at once. */
const TOGETHER = 2;

async function killOne(number: number, folder: string): Promise<number> {
  const random = new RandomStream(BigInt(number), "kill");
  const path = `${folder}/${number}.tape`;
  const detail = number % 2 === 0 ? "full" : "boundaries";
  const remains = await killAt({
    command: Deno.execPath(),
    args: [
      "run",
      "--no-check",
      "--quiet",
      `--allow-write=${folder}`,
      new URL("toy_child.ts", import.meta.url).pathname,
      path,
      detail,
    ],
    tape: path,
    input: { event: "toy-serial.received", field: "bytes" },
  }, 1 + random.below(400));
  const { reported, recorded, tape } = remains;
  assert(reported.length > 0 && recorded.length >= reported.length);
  assertEquals(recorded.subarray(0, reported.length), reported);
  assertEquals([tape.state, tape.missingInputs], ["torn", 0]);
  if (number % 10 === 0) {
    const source = new FileSource(path);
    const sink = new FileSink(`${path}.recovered`);
    recoverTape(source, sink);
    sink.close();
    source.close();
    const again = new FileSource(`${path}.recovered`);
    const recovered = TapeReader.open(again, { verify: true });
    assertEquals(recovered.state, "clean");
    assertEquals(recovered.inputs, tape.inputs);
    const found = verifyTape(recovered, toyFactory());
    assertEquals([found.status, found.step], [0, recovered.end.step]);
    again.close();
  }
  remains.close();
  return reported.length;
}

Deno.test("a child killed at 50 instants loses no consumed input", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "vmtape-kill-" });
  try {
    let bytes = 0;
    for (let first = 0; first < KILLS; first += TOGETHER) {
      const batch = Array.from(
        { length: TOGETHER },
        (_, i) => killOne(first + i, folder),
      );
      for (const count of await Promise.all(batch)) bytes += count;
    }
    assert(bytes > 50 * KILLS, `${bytes} bytes reported`);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
