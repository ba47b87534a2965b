/**
 * Law 5 with a real x86 guest behind the command line (issue: "Crash"): a
 * child runs `vmtape run` on a guest that sends each serial byte back as soon
 * as it has read it; killed at 50 seeded instants, every byte that it sent back
 * is on the recovered tape, and the recovered tape replays. Ctrl-C closes the
 * tape properly.
 */
import { assert, assertEquals } from "@std/assert";
import { RandomStream } from "../../core/mod.ts";
import { verifyTape } from "../../core/replayer.ts";
import { TapeReader } from "../../core/tape/reader.ts";
import { recoverTape } from "../../core/tape/recover.ts";
import { MemoryStore } from "../../core/tape/store.ts";
import { machines } from "../../host/machine.ts";
import { UartConsumed } from "../../plugins/uart16550/api.ts";
import { inputBytes } from "./harness.ts";

const KILLS = 50;
/** Children at once. */
const TOGETHER = 2;
/** Chunks on their way to a child beyond those that it has answered. */
const AHEAD = 3;
/** Bytes that a child is killed after, at most. */
const MOST_BYTES = 160;
const INPUT = { event: "uart.received", field: "bytes" } as const;

const here = (file: string): string => new URL(file, import.meta.url).pathname;

function start(tape: string, record: string): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-check",
      "--quiet",
      "-A",
      here("../../host/cli/main.ts"),
      "run",
      here("echo.yaml"),
      "--tape",
      tape,
      "--record",
      record,
      "--quiet",
    ],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
}

/**
 * Feeds the child until it has sent `bytes` back, then signals it; goes on
 * reading until it is dead.
 * @returns what it was given and what it sent back
 */
async function feedAndSignal(
  child: Deno.ChildProcess,
  bytes: number,
  signal: Deno.Signal,
  random: RandomStream,
): Promise<{ given: number[]; sent: number[]; code: number }> {
  const writer = child.stdin.getWriter();
  const given: number[] = [], sent: number[] = [];
  const feed = (): void => {
    const chunk = Uint8Array.from(
      { length: 1 + random.below(7) },
      () => random.below(256),
    );
    given.push(...chunk);
    // The child may be dead by now.
    writer.write(chunk).catch(() => {});
  };
  for (let n = 0; n < AHEAD; n++) feed();
  let signalled = false;
  for await (const chunk of child.stdout) {
    sent.push(...chunk);
    feed();
    if (sent.length < bytes || signalled) continue;
    signalled = true;
    // Not waited for: it goes on until the signal arrives.
    child.kill(signal);
  }
  const { code } = await child.status;
  await writer.abort().catch(() => {});
  return { given, sent, code };
}

/** Replays a tape; answers the bytes that the guest consumed in the replay. */
function replay(tape: TapeReader): number[] {
  const consumed: number[] = [];
  const found = verifyTape(tape, (manifest) => {
    const kernel = machines.factory({ uses: [] })(manifest);
    kernel.watch(UartConsumed, ({ byte }) => void consumed.push(byte));
    return kernel;
  });
  assertEquals(
    [found.status, found.complete, found.step],
    [0, true, tape.end.step],
  );
  return consumed;
}

function open(path: string): TapeReader {
  return TapeReader.open(new MemoryStore(Deno.readFileSync(path)), {
    verify: true,
  });
}

async function killOne(number: number, folder: string): Promise<number> {
  const random = new RandomStream(BigInt(number), "x86-kill");
  const path = `${folder}/${number}.tape`;
  const record = ["inputs", "boundaries", "full"][number % 3];
  const child = start(path, record);
  const { given, sent } = await feedAndSignal(
    child,
    1 + random.below(MOST_BYTES),
    "SIGKILL",
    random,
  );
  const about = `child ${number}`;
  const torn = open(path);
  assertEquals([torn.state, torn.missingInputs], ["torn", 0], about);
  const store = new MemoryStore();
  recoverTape(new MemoryStore(Deno.readFileSync(path)), store);
  const recovered = TapeReader.open(store, { verify: true });
  assertEquals(recovered.state, "clean", about);
  const recorded = [...inputBytes(recovered, INPUT)];
  assertEquals(sent, given.slice(0, sent.length), about);
  assertEquals(recorded, given.slice(0, recorded.length), about);
  assert(recorded.length >= sent.length, about);
  // The replay consumes nothing that was never there.
  const consumed = replay(recovered);
  assertEquals(consumed, recorded.slice(0, consumed.length), about);
  return sent.length;
}

async function inFolder(
  work: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = Deno.makeTempDirSync({ prefix: "vmtape-x86-kill-" });
  try {
    await work(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

Deno.test("an x86 guest killed at 50 instants loses no consumed byte", () =>
  inFolder(async (folder) => {
    let bytes = 0;
    for (let first = 0; first < KILLS; first += TOGETHER) {
      const batch = Array.from(
        { length: TOGETHER },
        (_, i) => killOne(first + i, folder),
      );
      for (const count of await Promise.all(batch)) bytes += count;
    }
    assert(bytes > 20 * KILLS, `${bytes} bytes reported`);
  }));

Deno.test("Ctrl-C closes the tape properly", () =>
  inFolder(async (folder) => {
    for (const record of ["inputs", "full"]) {
      const path = `${folder}/${record}.tape`;
      const random = new RandomStream(3n, "x86-interrupt");
      const { given, sent, code } = await feedAndSignal(
        start(path, record),
        60,
        "SIGINT",
        random,
      );
      assertEquals(code, 130);
      const tape = open(path);
      assertEquals([tape.state, tape.exitStatus], ["clean", 0]);
      assert(tape.end.closed && tape.end.stopped);
      const recorded = [...inputBytes(tape, INPUT)];
      assertEquals(recorded, given.slice(0, recorded.length));
      assert(recorded.length >= sent.length && sent.length >= 60);
      // Nothing that the guest sent is missing in the replay.
      const consumed = replay(tape);
      assertEquals(consumed.slice(0, sent.length), sent);
    }
  }));
