/**
 * Progress shows what it should where a person reads it, and nothing else:
 * throttled, silent beside a talking guest, gone without a trace.
 */
import { assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { Io } from "./io.ts";
import { Progress, scaled } from "./progress.ts";

class Screen {
  text = "";
  time = 0;
  constructor(readonly terminal: { out: boolean; err: boolean }) {}
  get io(): Io {
    return {
      out: () => {},
      err: (text) => void (this.text += text),
      isTerminal: this.terminal,
      piped: undefined,
      keys: undefined,
      onInterrupt: () => () => {},
      now: () => this.time,
      breathe: () => Promise.resolve(),
    };
  }
}

describe("progress", () => {
  it("rewrites one line, five times a second at most", () => {
    const screen = new Screen({ out: false, err: true });
    const progress = new Progress(screen.io, false);
    for (screen.time = 0; screen.time <= 1000; screen.time += 10) {
      progress.update(screen.time * 1000, "more");
    }
    assertEquals(screen.text.split("\r").length - 1, 5);
    assertMatch(screen.text, /step 1\.0 M, 1\.0 Msteps\/s, more$/);
    progress.done();
    assertEquals(screen.text.endsWith("\r\x1b[K"), true);
  });
  it("says nothing into a file, or when told to be quiet", () => {
    for (const [terminal, quiet] of [[false, false], [true, true]]) {
      const screen = new Screen({ out: false, err: terminal });
      const progress = new Progress(screen.io, quiet);
      screen.time = 5000;
      progress.update(1, "");
      progress.makeWay();
      progress.done();
      assertEquals(screen.text, "");
    }
  });
  it("keeps away from a guest that talks to the same terminal", () => {
    const screen = new Screen({ out: true, err: true });
    const progress = new Progress(screen.io, false);
    screen.time = 500;
    progress.update(1, "");
    progress.makeWay();
    const cleared = screen.text;
    screen.time = 1400;
    progress.update(2, "");
    assertEquals(screen.text, cleared);
    screen.time = 1600;
    progress.update(3, "");
    assertEquals(screen.text.length > cleared.length, true);
  });
  it("scales numbers", () => {
    assertEquals([0, 999, 1000, 1.25e6, 3e9].map(scaled), [
      "0",
      "999",
      "1.0 k",
      "1.3 M",
      "3.0 G",
    ]);
  });
});
