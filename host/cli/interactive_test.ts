/**
 * A person at the terminal of `vmtape run`, on real machines: keys become
 * recorded inputs, the escape key's commands, pausing and stepping back, and
 * that the terminal is given back however the run ends.
 * Invariant: what was typed is all on the tape: it replays without a terminal.
 */
import {
  assert,
  assertEquals,
  assertMatch,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { machines } from "../machine.ts";
import { UsageError } from "./args.ts";
import { ECHO, type TestIo, TestKeys, Workbench } from "./cli_testing.ts";
import { Keyboard, readEscape } from "./keyboard.ts";

const HALT = "  cli\n  hlt\n";

let bench: Workbench;
beforeAll(() => {
  bench = new Workbench([], machines);
  bench.put("echo.asm", ECHO);
  bench.put("halt.asm", HALT);
});
afterAll(() => bench.close());

/** Runs with a keyboard; each text is typed at one look at the world. */
async function typing(line: string, ...texts: string[]) {
  const keys = new TestKeys();
  const result = await bench.run(line, (io: TestIo) => {
    io.keys = keys;
    io.tick = 1000; // slow, so that slices stay short
    io.onBreathe = () => {
      const text = texts.shift();
      if (text !== undefined) keys.press(text);
    };
  });
  return { ...result, keys };
}

const bytes = (text: string): number[] => [...new TextEncoder().encode(text)];

describe("keys", () => {
  it("are recorded inputs of the guest, and replay without a terminal", async () => {
    const { status, out, err, keys } = await typing(
      "run echo.asm --tape k.tape",
      "h",
      "i^C",
      "q",
    );
    assertEquals([status, out], [1, "hi\x03"], err);
    assertEquals([keys.opened, keys.raw], [1, false]);
    assertEquals(err.match(/Ctrl-\] q leaves/g)?.length, 1, err);
    const events = await bench.run("events k.tape --type uart.received --json");
    assertEquals(
      events.out.trim().split("\n").map((l) => JSON.parse(l).payload.bytes),
      ["68", "6903", "71"],
    );
    const replay = await bench.run("replay k.tape");
    assertEquals([replay.status, replay.out], [0, "hi\x03"], replay.err);
  });
  it("leave by the escape key and q: 130, and the tape is whole", async () => {
    const { status, keys, err } = await typing(
      "run echo.asm --tape l.tape",
      "a^]q",
    );
    assertEquals([status, keys.raw], [130, false], err);
    assertEquals((await bench.run("verify l.tape")).status, 0);
    assertEquals((await bench.json("info l.tape")).state, "clean");
  });
  it("send the escape key itself when it is pressed twice", async () => {
    const { out } = await typing("run echo.asm --no-tape", "^]", "^]q");
    assertEquals(out, "\x1d");
  });
  it("may have another escape key", async () => {
    const { status, out, err } = await typing(
      "run echo.asm --no-tape --escape ^A",
      "^]",
      "^Aq",
    );
    assertEquals([status, out], [130, "\x1d"]);
    assertStringIncludes(err, "Ctrl-A q leaves");
  });
  it("list themselves at h, and at a key that means nothing", async () => {
    for (const key of ["h", "x"]) {
      const { out } = await typing("run echo.asm --no-tape", `^]${key}q`);
      assertMatch(out, /Ctrl-\] q +end the run/);
    }
  });
  it("stay out of it: --no-keys, --json, no serial port", async () => {
    for (
      const line of [
        "run echo.asm --no-tape --no-keys --max-steps 100",
        "run echo.asm --no-tape --json --max-steps 100",
        "run halt.asm --no-tape --platform none --max-steps 100",
      ]
    ) {
      const { keys, err } = await typing(line);
      assertEquals(keys.opened, 0, line);
      assert(!err.includes("leaves"), line);
    }
  });
  it("don't keep a machine waiting that no key can wake", async () => {
    const { err, keys } = await typing("run halt.asm --no-tape");
    assertStringIncludes(err, "nothing can wake it");
    assertEquals([keys.opened, keys.raw], [1, false]);
  });
  it("are let go when the run fails", async () => {
    const { status, keys } = await typing("run echo.asm --tape /dev/full", "q");
    assertEquals([status, keys.opened, keys.raw], [2, 1, false]);
  });
  it("need a control key to escape", async () => {
    assertEquals(readEscape("ctrl-a"), { code: 1, name: "Ctrl-A" });
    assertEquals(readEscape("^]").code, 0x1d);
    for (const text of ["x", "^", "ctrl-1", "^@", ""]) {
      assertThrows(() => readEscape(text), UsageError, "--escape takes");
    }
    const { status } = await typing("run echo.asm --no-tape --escape x");
    assertEquals(status, 2);
  });
});

describe("pausing", () => {
  it("steps back and forward through the run so far, then goes on", async () => {
    const { status, out, err, keys } = await typing(
      "run echo.asm --tape p.tape",
      "a",
      "bc",
      "^]pb2bfr9999999999b9999999999ffp",
      "dq",
    );
    assertEquals([status, keys.raw], [1, false], err);
    const views = [
      ...out.matchAll(/\[paused: step ([\d,]+)(?: \(([\d,]+) back\))?/g),
    ];
    const at = views.map((view) => Number(view[1].replaceAll(",", "")));
    const present = at[0];
    assertEquals(
      at,
      [present, present - 1, present - 3, present - 2, 0, present, present],
    );
    assertEquals(views.map((view) => view[2]).slice(0, 4), [
      undefined,
      "1",
      "3",
      "2",
    ]);
    assertStringIncludes(out, "the run starts here");
    assertStringIncludes(out, "this is the present");
    assertMatch(out, /registers at step [\d,]+:[^]*rip +0x/);
    assertMatch(out, /<start|<wait/);
    const consoles = [...out.matchAll(/ \| (.*)\r\n/g)].map((m) => m[1]);
    assertEquals(consoles.slice(0, 5), ["abc", "abc", "abc", "abc", ""]);
    assert(out.endsWith("d"), out.slice(-40));
    // what was shown is what the finished tape has there
    const shown = [...out.matchAll(/\n (0x[0-9a-f]+)/g)].map((m) => m[1]);
    assertEquals(shown.length, at.length);
    for (const [i, step] of at.entries()) {
      const { code } = await bench.json(`seek p.tape ${step} --disasm`);
      assertEquals(shown[i], (code as { address: string }[])[0].address);
    }
    assertEquals((await bench.run("verify p.tape")).status, 0);
    assertEquals((await bench.json("info p.tape")).inputs, 3);
    const replay = await bench.run("replay p.tape");
    assertEquals([replay.status, replay.out], [0, "abcd"]);
  });
  it("says why there is no past without a tape", async () => {
    const { out, status } = await typing(
      "run echo.asm --no-tape",
      "^]pbpq",
    );
    assertEquals(status, 1);
    assertStringIncludes(out, "nothing is recorded");
  });
  it("ends at a signal", async () => {
    const keys = new TestKeys();
    const { status } = await bench.run("run echo.asm --no-tape", (io) => {
      io.keys = keys;
      io.tick = 1000;
      let first = true;
      io.onBreathe = (interrupt) => {
        if (first) {
          keys.press("^]p");
          setTimeout(interrupt, 0);
        }
        first = false;
      };
    });
    assertEquals([status, keys.raw], [130, false]);
  });
  it("leaves at q", async () => {
    const { status } = await typing("run echo.asm --tape q.tape", "^]pbq");
    assertEquals(status, 130);
    assertEquals((await bench.run("verify q.tape")).status, 0);
  });
});

describe("Keyboard", () => {
  const typed = (...texts: string[]) => {
    const keyboard = new Keyboard(0x1d);
    const found: unknown[] = [];
    for (const text of texts) {
      keyboard.push(Uint8Array.from(bytes(text)));
      for (let i = 0; i < 20 && keyboard.waiting; i++) {
        const command = keyboard.command();
        if (command !== undefined) {
          found.push(`${command.count}${command.command}`);
          if (command.command === "pause") keyboard.paused = !keyboard.paused;
        }
        const guest = keyboard.guest();
        if (guest !== undefined) {
          found.push(new TextDecoder().decode(guest));
        }
      }
    }
    return found;
  };
  it("keeps the order of bytes and commands, however they arrive", () => {
    const whole = "ab\x1dpbq12f\x1dp\x1d\x1dcd";
    const expected = [
      "ab",
      "1pause",
      "1back",
      "1leave",
      "12forward",
      "1pause",
      "\x1dcd",
    ];
    assertEquals(typed(whole), expected);
    assertEquals(
      typed(...whole).join("").replace("\x1dcd", ""),
      expected.join("").replace("\x1dcd", ""),
    );
  });
});

describe("the console of a moment", () => {
  it("is shown by seek and back as it was then", async () => {
    await typing("run echo.asm --tape c.tape", "one\n", "two\n\x1b[1mred", "q");
    const found = await bench.run(
      "events c.tape --type uart.sent --where byte=0x0a --json",
    );
    const [first] = found.out.split("\n").map((l) => l && JSON.parse(l).step);
    const seek = await bench.run(`seek c.tape ${first + 1} --console`);
    assertEquals(seek.out.split("\nconsole:\n")[1].split("\n\n")[0], "  one");
    const end = await bench.run("seek c.tape end");
    assertStringIncludes(end.out, "\nconsole:\n  one\n  two\n  red\n");
    const json = await bench.json("seek c.tape end --console");
    assertEquals(json.console, "one\ntwo\n\x1b[1mred");
    const back = await bench.json("back c.tape uart.sent --times 3");
    assertEquals(json.console, `${back.console}red`);
  });
});
