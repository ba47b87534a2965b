/**
 * `vmtape run` from end to end on toy machines: results, statuses, recording,
 * piped input, Ctrl-C, time-outs, expectations, and every kind of bad input.
 * Invariant: each test states the exit status, and what a reader relies on in
 * the output, not its every word.
 */
import {
  assert,
  assertEquals,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import {
  assemble,
  echoProgram,
  jmp,
  mystery,
  spin,
} from "../../tests/toy/mod.ts";
import { Workbench } from "./cli_testing.ts";

let bench: Workbench;
const SCENARIO = `machine: { memory: 64KiB }
guest: { flat: echo.bin }
record: full
inputs:
  - { at: 700, serial: "ab" }
  - { at: 900, serial: [99, 0] }
`;

beforeAll(() => {
  bench = new Workbench();
  bench.put("echo.bin", echoProgram());
  bench.put("echo.yml", SCENARIO);
  bench.put("loop.bin", assemble(jmp(-1)));
});
afterAll(() => bench.close());

describe("run", () => {
  it("runs a scenario to its end, streams serial, records, gives the guest's code", async () => {
    const { status, out, err } = await bench.run("run echo.yml");
    assertEquals(out, "abc");
    assertEquals(status % 2, 1, `${status} is the toy's own`);
    assertMatch(
      err,
      /ended: program exited; [\d,]+ steps, 2 inputs, tape echo\.tape \(/,
    );
  });
  it("gives the same tape each time, bit for bit", async () => {
    await bench.run("run echo.yml --tape again.tape --quiet");
    assertEquals(bench.get("again.tape"), bench.get("echo.tape"));
  });
  it("prints JSON and nothing else", async () => {
    const { out, err, status } = await bench.run(
      "run echo.yml --no-tape --json",
    );
    const result = JSON.parse(out);
    assertEquals(err, "");
    assertEquals([result.serial, result.kind, result.status], [
      "abc",
      "ended",
      status,
    ]);
  });
  it("stops at --max-steps", async () => {
    const { status, err } = await bench.run(
      "run loop.bin --no-tape --memory 64K --max-steps 12_345",
    );
    assertEquals(status, 0);
    assertMatch(err, /stopped: the limit of 12345 steps; 12,345 steps/);
  });
  it("records piped input", async () => {
    const { status, out } = await bench.run(
      "run echo.bin --memory 64K --tape piped.tape --max-steps 100000",
      (io) => {
        io.piped = (async function* () {
          yield new TextEncoder().encode("hi");
          await Promise.resolve();
          yield Uint8Array.of(33, 0);
        })();
      },
    );
    assertEquals(out, "hi!");
    assert(status > 0);
    const replay = await bench.run("replay piped.tape");
    assertEquals([replay.status, replay.out], [0, "hi!"]);
  });
  it("closes the tape at Ctrl-C", async () => {
    const { status, err } = await bench.run(
      "run loop.bin --memory 64K --tape cut.tape",
      (io) => {
        let looks = 0;
        io.onBreathe = (press) => {
          if (++looks === 3) press();
        };
      },
    );
    assertEquals(status, 130);
    assertStringIncludes(err, "stopped: interrupted");
    assertEquals((await bench.run("verify cut.tape")).status, 0);
    const info = await bench.json("info cut.tape");
    assertEquals([info.state, info.inputs], ["clean", 1]);
  });
  it("gives up at --timeout", async () => {
    const { status } = await bench.run(
      "run loop.bin --memory 64K --no-tape --timeout 1",
      (io) => {
        io.tick = 100;
      },
    );
    assertEquals(status, 124);
  });
  it("ends when nothing can wake the machine", async () => {
    bench.put(
      "halt.yml",
      "machine: {memory: 64KiB}\nguest: {flat: halted.bin}\n",
    );
    bench.put("halted.bin", Uint8Array.of(11, 0, 0, 0));
    const { status, err } = await bench.run("run halt.yml");
    assertEquals(status, 0);
    assertStringIncludes(err, "halted and nothing can wake it");
    assertEquals((await bench.run("verify halt.tape")).status, 0);
  });
  it("tells what is not modelled, with the tape closed", async () => {
    bench.put("mystery.bin", assemble(mystery()));
    const { status, err } = await bench.run("run mystery.bin --memory 64K");
    assertEquals(status, 4, err);
    assertStringIncludes(err, "not modelled");
    assertEquals((await bench.run("info mystery.tape")).status, 0);
  });
  it("names a loop without a step", async () => {
    bench.put("spin.bin", assemble(spin()));
    const { err } = await bench.run("run spin.bin --memory 64K --no-tape");
    assertStringIncludes(err, "stuck");
  });
  it("judges expectations", async () => {
    const met = SCENARIO +
      'expect: { serial: "abc", events: { toy-serial.sent: 3, toy-timer.ticked: ">= 1" } }\n';
    bench.put("met.yml", met);
    assert((await bench.run("run met.yml --no-tape")).status !== 10);
    bench.put(
      "unmet.yml",
      SCENARIO +
        'expect: { exit: 77, serial: xyz, events: { toy-serial.sent: "< 3" } }\n',
    );
    const { status, err } = await bench.run("run unmet.yml --no-tape");
    assertEquals(status, 10);
    assertMatch(err, /not as expected: exit: expected 77, found \d+\n/);
    assertStringIncludes(
      err,
      "not as expected: events: expected toy-serial.sent < 3, found 3\n",
    );
    assertStringIncludes(
      err,
      'not as expected: serial: expected "xyz" in the output\n',
    );
  });
});

describe("bad input to run", () => {
  const cases: [
    name: string,
    line: string,
    files: Record<string, string>,
    ...parts: string[],
  ][] = [
    ["no argument", "run", {}, "needs a scenario (FILE.yml) or an image"],
    [
      "missing scenario",
      "run nope.yml",
      {},
      "run nope.yml: there is no such file",
    ],
    [
      "missing image",
      "run --kernel nope.bin",
      {},
      "read nope.bin: there is no such file",
    ],
    ["two images", "run echo.bin --kernel loop.bin", {}, "both name an image"],
    [
      "image and scenario",
      "run echo.yml --kernel loop.bin",
      {},
      "both name a guest",
    ],
    [
      "malformed YAML",
      "run b.yml",
      { "b.yml": "machine: [\n" },
      "b.yml:2:1: not YAML",
    ],
    [
      "unknown key",
      "run b.yml",
      { "b.yml": "machine: {cpuu: x}\n" },
      "b.yml:1:11: machine.cpuu: unknown key",
      "did you mean cpu?",
    ],
    ["missing guest file", "run b.yml", {
      "b.yml": "machine: {memory: 64KiB}\nguest: {flat: gone.bin}\n",
    }, "b.yml:2:15: guest.flat: read gone.bin: there is no such file"],
    [
      "unknown plugin",
      "run b.yml",
      { "b.yml": "plugins: [toy-dicee]\n" },
      "b.yml:1:11: plugins[0]:",
      "did you mean toy-dice?",
    ],
    [
      "missing plugin file",
      "run b.yml",
      { "b.yml": "plugins: [./gone.ts]\n" },
      "b.yml:1:11: plugins[0]:",
      "there is no file",
    ],
    ["plugin that is none", "run b.yml", {
      "b.yml": "plugins: [./p.ts]\n",
      "p.ts": "export const x = 1;\n",
    }, "it exports no plugin (but x)"],
    ["plugin that throws", "run b.yml", {
      "b.yml": "plugins: [./q.ts]\n",
      "q.ts": 'throw new Error("boo");\n',
    }, "load plugin ./q.ts: boo"],
    [
      "unknown option",
      "run b.yml",
      { "b.yml": "plugins: [{toy-watcher: {depht: 1}}]\n" },
      "toy-watcher",
      "depht",
    ],
    ["unknown event in expect", "run b.yml --no-tape", {
      "b.yml": "expect: {events: {toy.nope: 1}}\n",
    }, "no plugin of this machine declares toy.nope"],
    ["fact as input", "run b.yml --no-tape", {
      "b.yml": "inputs: [{at: 1, event: toy.retired}]\n",
    }, "toy.retired is a fact"],
    ["wrong payload", "run b.yml --no-tape", {
      "b.yml":
        "inputs: [{at: 1, event: toy-serial.received, payload: {bytes: 5}}]\n",
    }, "toy-serial.received"],
    [
      "unknown record policy",
      "run echo.yml --record ful",
      {},
      "--record takes one of inputs, boundaries, full",
      "did you mean full?",
    ],
    [
      "unknown engine",
      "run echo.yml --engine t9",
      {},
      "--engine takes one of toy, chopped",
    ],
    [
      "bad memory",
      "run echo.bin --memory 64XB",
      {},
      "--memory: expected a size",
    ],
    ["bad seed", "run echo.bin --seed 5x", {}, "--seed"],
    [
      "bad step count",
      "run echo.bin --max-steps 0",
      {},
      "--max-steps takes a whole number of 1 or more",
    ],
    [
      "tape over a file that is none",
      "run echo.yml --tape echo.bin",
      {},
      "the file there is no tape and would be lost",
    ],
    [
      "tape in no folder",
      "run echo.yml --tape no/where.tape",
      {},
      "no/where.tape",
    ],
    [
      "option twice",
      "run echo.yml --tape a --tape b",
      {},
      "--tape is given 2 times",
    ],
    [
      "too many arguments",
      "run echo.yml more",
      {},
      'does not know what to do with "more"',
    ],
  ];
  for (const [name, line, files, ...parts] of cases) {
    it(`${name}: status 2, and what, where and the remedy`, async () => {
      for (const [file, text] of Object.entries(files)) bench.put(file, text);
      const { status, out, err } = await bench.run(line);
      assertEquals(status, 2, err);
      assertEquals(out, "");
      for (const part of parts) assertStringIncludes(err, part);
      assert(!err.includes("internal error"), err);
    });
  }
  it("leaves the file that is no tape as it was", () => {
    assertEquals(bench.get("echo.bin"), echoProgram());
  });
});
