/** Tapes in files: whole round trip, refusals in words, a device that is full. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { tapeWriter } from "../../core/recorder.ts";
import { Recorder } from "../../core/recorder.ts";
import { verifyTape } from "../../core/replayer.ts";
import { TapeReader } from "../../core/tape/reader.ts";
import { MemoryStore } from "../../core/tape/store.ts";
import {
  drive,
  recordToy,
  seededRun,
  TOY_CADENCE,
  toyFactory,
} from "../../tests/laws/toy_runs.ts";
import { makeToy } from "../../tests/toy/mod.ts";
import { FileSink, FileSource, StoreError } from "./file_store.ts";

function inFolder(test: (folder: string) => void): void {
  const folder = Deno.makeTempDirSync({ prefix: "vmtape-store-" });
  try {
    test(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

Deno.test("a tape in a file is the tape in memory, readable while it grows", () => {
  inFolder((folder) => {
    const path = `${folder}/run.tape`;
    const run = seededRun(5n, 500);
    for (const fsync of [false, true]) {
      const sink = new FileSink(path, { fsync, overwrite: fsync });
      const source = new FileSource(path);
      const kernel = makeToy(run);
      const recorder = Recorder.start(kernel, tapeWriter(sink), {
        cadence: TOY_CADENCE,
      });
      assertEquals(TapeReader.open(source).state, "torn");
      drive(kernel, {
        ...run,
        steps: 250,
        inputs: run.inputs.filter(({ at }) => at < 250),
      });
      const growing = TapeReader.open(source);
      assertEquals(growing.inputs.length, recorder.inputs);
      assert(growing.commits.length > 1);
      drive(kernel, {
        ...run,
        inputs: run.inputs.filter(({ at }) => at >= 250),
      });
      recorder.finish();
      sink.close();
      sink.close();
      const memory = recordToy(run, {}, new MemoryStore()).sink;
      assertEquals(Deno.readFileSync(path), memory.bytes());
      assertEquals(verifyTape(TapeReader.open(source), toyFactory()).status, 0);
      source.close();
      source.close();
    }
  });
});

Deno.test("refusals name the file and the remedy", () => {
  inFolder((folder) => {
    const path = `${folder}/a.tape`;
    new FileSink(path).close();
    assertThrows(
      () => new FileSink(path),
      StoreError,
      "already exists, choose",
    );
    assertThrows(
      () => new FileSink(`${folder}/no/a.tape`),
      StoreError,
      "/no/a.tape",
    );
    assertThrows(
      () => new FileSource(`${folder}/b.tape`),
      StoreError,
      "no such file",
    );
    // An empty file is a tape that was killed at birth.
    const empty = new FileSource(path);
    assertEquals(TapeReader.open(empty).state, "torn");
    empty.close();
  });
});

Deno.test({
  name: "a full device is a store error that says what to do",
  ignore: Deno.build.os !== "linux",
  fn() {
    const sink = new FileSink("/dev/full", { overwrite: true });
    const kernel = makeToy(seededRun(6n, 100));
    const error = assertThrows(
      () => Recorder.start(kernel, tapeWriter(sink)),
      StoreError,
    );
    assertEquals(error.code, "store");
    assert(/\/dev\/full.*what was committed is safe/.test(error.message));
    sink.close();
  },
});
