/**
 * The command line on toy machines, every command but run: replay, verify, info,
 * events, seek, back, diff, fork, recover, with real tapes in a real folder.
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
  inp,
  out as toPort,
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

beforeAll(async () => {
  bench = new Workbench();
  bench.put("echo.bin", echoProgram());
  bench.put("echo.yml", SCENARIO);
  await bench.run("run echo.yml");
  await bench.run("run echo.yml --tape again.tape");
});
afterAll(() => bench.close());

describe("replay and verify", () => {
  it("find a tape equal to its run", async () => {
    const replay = await bench.run("replay echo.tape");
    assertEquals([replay.status, replay.out], [0, "abc"]);
    assertStringIncludes(replay.err, "echo.tape: equal to step ");
    const verify = await bench.run("verify echo.tape");
    assertEquals([verify.status, verify.err], [0, ""]);
    assertMatch(
      verify.out,
      /equal to step [\d,]+: [1-9]\d* frames and [1-9]\d* digests compared/,
    );
  });
  it("let observers join", async () => {
    assertEquals(
      (await bench.run(
        "verify echo.tape --plugin toy-watcher --plugin toy-dice",
      )).status,
      0,
    );
  });
  it("refuse participants that were not recorded", async () => {
    const { status, err } = await bench.run(
      "verify echo.tape --plugin toy-tally",
    );
    assertEquals(status, 2);
    assertStringIncludes(err, "only observers can join a recorded run");
  });
  it("tell torn, damaged, foreign and missing tapes apart", async () => {
    const tape = bench.get("echo.tape");
    bench.put("torn.tape", tape.slice(0, tape.length - 60));
    assertEquals((await bench.run("verify torn.tape")).status, 4);
    const damaged = tape.slice();
    damaged[Math.floor(tape.length / 2)] ^= 0x10;
    bench.put("damaged.tape", damaged);
    const { status, out } = await bench.run("verify damaged.tape");
    assertEquals(status, 5, out);
    assertStringIncludes(out, "lost: bytes ");
    for (const name of ["echo.bin", "nope.tape"]) {
      const { status, err } = await bench.run(`verify ${name}`);
      assertEquals(status, 2, err);
      assertStringIncludes(err, name);
    }
  });
  it("say which plugin is missing or of another version", async () => {
    const other = new Workbench();
    other.put("echo.tape", bench.get("echo.tape"));
    const { machines } = other;
    Object.assign(machines, {
      factory: () => () =>
        bench.machines.create(
          {
            doc: "",
            machine: {
              cpu: "",
              memory: 1 << 16,
              cpus: 1,
              platform: "pc",
              seed: 5n,
            },
            plugins: [],
            record: "full",
            inputs: [],
            expect: { events: {}, serial: [] },
          },
          new Map(),
          { uses: [] },
        ),
    });
    const { status, out } = await other.run("verify echo.tape");
    assertEquals(status, 6);
    assertStringIncludes(out, "seed");
    const seek = await other.run("seek echo.tape 1");
    assertEquals(seek.status, 6);
    other.close();
  });
});

describe("recover", () => {
  it("makes a whole tape of a torn one", async () => {
    const tape = bench.get("echo.tape");
    bench.put("crashed.tape", tape.slice(0, tape.length - 100));
    const { status, out } = await bench.run("recover crashed.tape");
    assertEquals(status, 4);
    assertMatch(out, /crashed\.recovered\.tape: to step [\d,]+, 2 inputs/);
    assertEquals((await bench.run("verify crashed.recovered.tape")).status, 0);
    assertEquals(bench.get("crashed.tape"), tape.slice(0, tape.length - 100));
  });
  it("does not write over itself", async () => {
    const { status, err } = await bench.run(
      "recover echo.tape --out ./echo.tape",
    );
    assertEquals(status, 2);
    assertStringIncludes(err, "can't be written over itself");
  });
});

describe("info", () => {
  it("describes a tape without running it", async () => {
    const { status, out } = await bench.run("info echo.tape");
    assertEquals(status, 0);
    for (
      const part of [
        "flat echo.bin",
        "toy-serial 1.0.0 (depth=16)",
        "policy full, engine toy",
        "2 inputs",
        "the machine ended",
      ]
    ) {
      assertStringIncludes(out, part);
    }
    const json = await bench.json("info echo.tape --check");
    assertEquals([json.state, json.detail, json.inputs], ["clean", "full", 2]);
    assertStringIncludes(
      (await bench.run("info echo.tape --manifest")).out,
      '"format":"vmtape"',
    );
  });
});

describe("events", () => {
  const lines = async (line: string): Promise<string[]> => {
    const { status, out, err } = await bench.run(line);
    assertEquals(status, 0, err);
    return out.split("\n").slice(0, -1);
  };
  it("lists what is stored, and the same when derived", async () => {
    const stored = await lines("events echo.tape --quiet");
    assert(stored.length > 100);
    assertEquals(await lines("events echo.tape --full"), stored);
  });
  it("filters by name, pattern, field, window and number", async () => {
    const sent = await lines("events echo.tape --type toy-serial.sent");
    assertEquals(sent.map((l) => l.replace(/^\S+ /, "")), [
      "toy-serial.sent byte=0x61",
      "toy-serial.sent byte=0x62",
      "toy-serial.sent byte=0x63",
    ]);
    assertEquals(
      (await lines("events echo.tape --type toy-serial.*")).length,
      5,
    );
    assertEquals(
      await lines("events echo.tape --type toy-serial.sent --where byte=98"),
      [sent[1]],
    );
    assertEquals(
      await lines("events echo.tape --type toy-serial.sent --limit 2 --full"),
      sent.slice(0, 2),
    );
    const moment = sent[1].split(" ")[0];
    assertEquals(
      (await lines(`events echo.tape --type toy-serial.sent --from ${moment}`))[
        0
      ],
      sent[1],
    );
    assertEquals(
      await lines(
        `events echo.tape --type toy-serial.sent --to ${moment} --full`,
      ),
      [sent[0]],
    );
  });
  it("shows code and notes", async () => {
    const code = await lines("events echo.tape --disasm --from 2 --to 4");
    assertMatch(code[0], /^2 0x8: out$/);
    assert(code.some((l) => l.startsWith("    2")), code.join("\n"));
    const notes = await lines(
      "events echo.tape --plugin toy-watcher --type toy-watcher.*",
    );
    assert(
      notes.length > 0 &&
        notes.every((l) => l.includes("[toy-watcher] toy-watcher.port-found")),
      notes.join("\n"),
    );
  });
  it("prints one JSON object a line", async () => {
    const [first] = await lines(
      "events echo.tape --type toy-serial.sent --json",
    );
    const { event, kind, payload } = JSON.parse(first);
    assertEquals([event, kind, payload], ["toy-serial.sent", "fact", {
      byte: 97,
    }]);
  });
  it("knows which names and fields there are", async () => {
    for (
      const [line, part] of [
        [
          "events echo.tape --type toy-serial.snet",
          "did you mean toy-serial.sent?",
        ],
        [
          "events echo.tape --type toy-serial.sent --where bite=1",
          "did you mean byte?",
        ],
        ["events echo.tape --where byte", "takes FIELD=VALUE"],
        ["events echo.tape --from x", "--from takes a moment"],
      ]
    ) {
      const { status, err } = await bench.run(line);
      assertEquals(status, 2);
      assertStringIncludes(err, part);
    }
  });
});

describe("seek and back", () => {
  it("show the machine at a moment", async () => {
    const { status, out } = await bench.run("seek echo.tape 2");
    assertEquals(status, 0);
    assertMatch(out, /^moment 2 of [\d,]+ steps, virtual time 2 ns\n/);
    assertMatch(out, /registers:\n {2}r0 +0x1f4\n/);
    assertMatch(out, /code:\n {2}0x8 .* out\n/);
    assertStringIncludes(out, "events of this step:\n");
  });
  it("show walks and memory when asked", async () => {
    const { out } = await bench.run(
      "seek echo.tape 2 --walk 0x1000 --dump 0x0+20",
    );
    assertStringIncludes(
      out,
      "walk of 0x1000:\n  toy  0x0: 0x0  flat\n  = 0x1000\n",
    );
    assertMatch(out, /00000000 {2}10 00 09 00 .*\n {2}00000010 {2}/);
    assert(!out.includes("registers:"));
  });
  it("go to the end", async () => {
    const { out } = await bench.run("seek echo.tape end --regs");
    assertMatch(out, /^moment 918(\.\d+)? of 918 steps/);
  });
  it("go back to the last such event", async () => {
    const { status, out } = await bench.run("back echo.tape toy-serial.sent");
    assertEquals(status, 0);
    assertMatch(out, /> \S+ toy-serial\.sent byte=0x63\n/);
    const twice = await bench.run("back echo.tape toy-serial.sent --times 3");
    assertMatch(twice.out, /> \S+ toy-serial\.sent byte=0x61\n/);
    const where = await bench.run(
      "back echo.tape toy-serial.sent --where byte=0x62",
    );
    assertMatch(where.out, /> \S+ toy-serial\.sent byte=0x62\n/);
  });
  it("say when there is none", async () => {
    const { status, err } = await bench.run(
      "back echo.tape toy-serial.sent --from 3",
    );
    assertEquals(status, 2);
    assertStringIncludes(
      err,
      "go back from 3: there is no such toy-serial.sent event before it",
    );
    const four = await bench.run("back echo.tape toy-serial.sent --times 4");
    assertStringIncludes(four.err, "only 3 such toy-serial.sent events");
  });
});

describe("fork and diff", () => {
  it("record another future, and find where it parts", async () => {
    // the parent reads 'a' after step 700; the fork has other input there
    const fork = await bench.run([
      "fork",
      "echo.tape",
      "600",
      "--input",
      'toy-serial.received={"bytes":"7a00"}',
    ]);
    assertEquals(fork.out, "z", fork.err);
    assertStringIncludes(fork.err, "tape echo.fork.tape");
    assertEquals((await bench.run("verify echo.fork.tape")).status, 0);
    const info = await bench.json("info echo.fork.tape");
    assertEquals((info.parent as { step: number }).step, 600);
    const { status, out } = await bench.run("diff echo.tape echo.fork.tape");
    assertEquals(status, 3);
    assertMatch(out, /diverged at \d+/);
    assertStringIncludes(out, "toy-serial.received");
  });
  it("change memory", async () => {
    const fork = await bench.run(
      "fork echo.tape 600 --poke 0x900=01020304 --out poked.tape --max-steps 650",
    );
    assertEquals(fork.status, 0, fork.err);
    const { out } = await bench.run("seek poked.tape 650 --dump 0x900+4");
    assertStringIncludes(out, "01 02 03 04");
    assertStringIncludes(
      (await bench.run("seek echo.tape 650 --dump 0x900+4")).out,
      "00 00 00 00",
    );
  });
  it("find equal runs equal", async () => {
    const { status, out } = await bench.run("diff echo.tape again.tape");
    assertEquals(status, 0);
    assertMatch(out, /^equal to step [\d,]+\n$/);
  });
  it("refuse nonsense", async () => {
    for (
      const [line, part] of [
        ["fork echo.tape 600 --poke 0x900", "--poke takes PA=BYTES"],
        ["fork echo.tape 600 --set rax", "--set takes REG=VALUE"],
        ["fork echo.tape 600 --input toy.nope={}", "EVENT one of"],
        ["fork echo.tape 99999999", "the run ends at step"],
        ["fork echo.tape 600 --out echo.tape", "can't be written over itself"],
      ]
    ) {
      const { status, err } = await bench.run(line);
      assertEquals(status, 2, err);
      assertStringIncludes(err, part);
    }
  });
});

describe("a plugin in its own file", () => {
  const code = (answer: number): string =>
    `import { definePlugin } from "${new URL(
      "../../core/mod.ts",
      import.meta.url,
    )}";
import { ToyReadPort } from "${new URL(
      "../../tests/toy/mod.ts",
      import.meta.url,
    )}";
export default definePlugin({
  name: "answerer", version: "1.0.0", doc: "Answers port 5", role: "participant",
  setup({ answer }) { answer(ToyReadPort, ({ port }) => port === 5 ? ${answer} : undefined); },
});
`;
  it("is part of the machine, and of its replay", async () => {
    const own = new Workbench();
    own.put("answerer.ts", code(65));
    own.put("five.bin", assemble(inp(1, 5), toPort(1, 0), toPort(1, 15)));
    own.put(
      "five.yml",
      "machine: {memory: 64KiB}\nguest: {flat: five.bin}\nplugins: [./answerer.ts]\n",
    );
    const run = await own.run("run five.yml");
    assertEquals([run.status, run.out], [65, "A"], run.err);
    assertEquals((await own.run("verify five.tape")).status, 0);
    assertStringIncludes(
      (await own.run("info five.tape")).out,
      "answerer 1.0.0",
    );
    assertStringIncludes(
      (await own.run("plugins ./answerer.ts")).out,
      "Answers port 5",
    );
    own.put("other.ts", code(66));
    Deno.removeSync(new URL("answerer.ts", own.folder));
    const gone = await own.run("verify five.tape");
    assertEquals(gone.status, 6, gone.err);
    assertStringIncludes(
      gone.err,
      "load plugin ./answerer.ts: there is no file",
    );
    own.close();
  });
  it("is told apart from other code of the same name and version", async () => {
    const own = new Workbench();
    own.put("answerer.ts", code(65));
    own.put("five.bin", assemble(inp(1, 5), toPort(1, 0), toPort(1, 15)));
    own.put(
      "five.yml",
      "machine: {memory: 64KiB}\nguest: {flat: five.bin}\nplugins: [./answerer.ts]\n",
    );
    await own.run("run five.yml --quiet");
    // a module is loaded once a process: another folder stands for another day
    const later = new Workbench();
    later.put("five.tape", own.get("five.tape"));
    later.put("answerer.ts", code(66));
    const { status, out } = await later.run("verify five.tape");
    assertEquals(status, 6);
    assertStringIncludes(out, "answerer");
    own.close();
    later.close();
  });
});

describe("plugins", () => {
  it("lists ours and shows one", async () => {
    const { out } = await bench.run("plugins");
    assertMatch(out, /toy-serial 1\.0\.0 +participant: A serial port/);
    const one = await bench.run("plugins toy-serial");
    assertMatch(
      one.out,
      /depth: u32 +Bytes that the FIFO holds; more are lost \(default 0x10\)/,
    );
    assertStringIncludes(one.out, "toy-serial.sent");
    const json = await bench.json("plugins toy-watcher");
    assertEquals([json.role, json.needs], ["observer", ["toy.memory"]]);
  });
});

describe("help and version", () => {
  it("are there for every command", async () => {
    const { status, out } = await bench.run("--help");
    assertEquals(status, 0);
    for (
      const name
        of "run replay verify recover info events seek back diff fork plugins"
          .split(" ")
    ) {
      assertMatch(out, new RegExp(`\n  ${name} +\\w`));
      const page = await bench.run(`${name} --help`);
      assertEquals(page.status, 0);
      for (
        const part of [
          `usage: vmtape ${name}`,
          "--json",
          "exit status:",
          "examples:",
        ]
      ) {
        assertStringIncludes(page.out, part);
      }
    }
    assertMatch((await bench.run("--version")).out, /^vmtape \d+\.\d+\.\d+\n$/);
  });
  it("come with mistakes", async () => {
    const unknown = await bench.run("rnu x");
    assertEquals(unknown.status, 2);
    assertStringIncludes(unknown.err, "did you mean run?");
    const option = await bench.run("info echo.tape --jsno");
    assertEquals(option.status, 2);
    assertStringIncludes(option.err, "did you mean --json?");
    assertEquals((await bench.run([])).status, 2);
  });
});
