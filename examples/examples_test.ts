/**
 * Every example, found by its name: scenarios meet their expectations and
 * replay on each engine; programs run by the very line at their head, and need
 * each permission that it gives them. The four examples about tapes are also
 * asked for what they found.
 * Invariant: an example added to this folder is tested without a word here.
 */
import {
  assert,
  assertEquals,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { TestIo } from "../host/cli/cli_testing.ts";
import { main } from "../host/cli/main.ts";
import { machines } from "../host/machine.ts";
import { recordKillRecover } from "./08-record-kill-recover.ts";
import { findTheWrite } from "./09-back-to-the-write.ts";
import { forkWithoutTheWrite } from "./10-fork.ts";

const HERE = new URL("./", import.meta.url);
const ROOT = new URL("../", HERE);
const names = [...Deno.readDirSync(HERE)].map(({ name }) => name).sort();
const scenarios = names.filter((name) => /^\d\d-.*\.yaml$/.test(name));
const programs = names.filter((name) =>
  /^(\d\d-.*|demo)\.ts$/.test(name) && !name.endsWith("_test.ts")
);

/** The command lines at an example's head: what follows `deno run`. */
function headLines(name: string): string[][] {
  const head = Deno.readTextFileSync(new URL(name, HERE)).slice(0, 2000);
  return [...head.matchAll(/^(?: \*|#) +deno run (.+)$/gm)].map(([, line]) =>
    line.split(/ +/)
  );
}

let folder: URL;
beforeAll(() => {
  folder = new URL(`file://${Deno.makeTempDirSync()}/`);
});
afterAll(() => Deno.removeSync(folder, { recursive: true }));

/** Runs a command line of vmtape in-process. */
async function vmtape(
  ...args: string[]
): Promise<{ status: number; out: string; err: string }> {
  const io = new TestIo();
  const status = await main(args, {
    io,
    folder,
    machines: () => Promise.resolve(machines),
  });
  return { status, out: io.stdout, err: io.stderr };
}

/** Runs a program as its head says. */
async function deno(
  args: readonly string[],
): Promise<{ success: boolean; out: string; err: string }> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", ...args],
    cwd: ROOT,
    stdin: "null",
  }).output();
  const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
  return { success, out: text(stdout), err: text(stderr) };
}

describe("scenarios", () => {
  it("are there", () => assert(scenarios.length >= 2, scenarios.join()));
  for (const name of scenarios) {
    it(`${name} is as expected, and replays on each engine`, async () => {
      const path = new URL(name, HERE).pathname;
      const run = await vmtape("run", path, "--json");
      const { unmet, kind } = JSON.parse(run.out || "{}");
      assertEquals(unmet, [], run.err);
      assertMatch(kind, /^(ended|steps|waiting)$/);
      assertMatch(
        Deno.readTextFileSync(path),
        /^expect:/m,
        "a scenario that expects nothing shows nothing",
      );
      const tape = name.replace(/yaml$/, "tape");
      for (const engine of machines.engines) {
        const verify = await vmtape("verify", tape, "--engine", engine);
        assertEquals(verify.status, 0, verify.out + verify.err);
      }
    });
    it(`${name} gives the line that runs it, with its least permissions`, () => {
      const tape = name.replace(/yaml$/, "tape");
      assertEquals(headLines(name)[0], [
        "--allow-read=.",
        `--allow-write=${tape}`,
        "host/cli/main.ts",
        "run",
        `examples/${name}`,
      ]);
    });
  }
});

describe("README", () => {
  it("shows a first run's real output", async () => {
    const text = Deno.readTextFileSync(new URL("README.md", ROOT));
    const [, block] = /## A first run\n\n```text\n([^]*?)```/.exec(text)!;
    Deno.mkdirSync(new URL("examples", folder));
    const hello = "examples/01-hello.yaml";
    Deno.copyFileSync(new URL(hello, ROOT), new URL(hello, folder));
    const commands = block.split(/^\$ npx -y deno@\S+ task vmtape /m).slice(1);
    assert(commands.length >= 3, block);
    for (const command of commands) {
      const [line, ...shown] = command.trimEnd().split("\n");
      const { out, err } = await vmtape(...line.split(" "));
      // the manifest's size changes with each plugin's declarations
      const sizeless = (text: string): string =>
        text.replace(/\([\d.]+ kB\)/, "(… kB)");
      const found = (out + err).trimEnd().split("\n").map(sizeless);
      // `…` stands for the rest
      const rest = shown.indexOf("…");
      const [wanted, seen] = rest < 0
        ? [shown.map(sizeless), found]
        : [shown.slice(0, rest), found.slice(0, rest)];
      assertEquals(seen, wanted, `after ${line}`);
    }
  });
});

describe("programs", () => {
  it("are there", () => assert(programs.length >= 8, programs.join()));
  for (const name of programs) {
    it(`${name} runs by the line at its head`, async () => {
      const [line, ...others] = headLines(name);
      assertEquals(others, [], "one line starts an example");
      assertEquals(line.at(-1), `examples/${name}`);
      const { success, out, err } = await deno(line);
      assert(success, err);
      assert(out.trim().length > 0, `it prints nothing: ${err}`);
    });
    it(`${name} needs each permission of that line`, async () => {
      const [line] = headLines(name);
      const grants = line.filter((word) => word.startsWith("--allow"));
      for (const grant of grants) {
        const { success } = await deno(line.filter((word) => word !== grant));
        assert(!success, `it also runs without ${grant}`);
      }
    });
  }
});

describe("examples about tapes", () => {
  it("08: what the guest consumed is on the recovered tape", async () => {
    const inside = Deno.makeTempDirSync({ dir: ROOT.pathname });
    try {
      const remains = await recordKillRecover(inside);
      assertEquals(remains, {
        echoed: "time travel\n",
        status: 4,
        recovered: "time travel\n",
        verified: 0,
      });
    } finally {
      Deno.removeSync(inside, { recursive: true });
    }
  });
  it("09: the store that caused the triple fault", () => {
    const { end, value, code, step } = findTheWrite();
    assertEquals([end, value], ["triple fault", 0x6666666666666666n]);
    assertStringIncludes(code, "mov");
    assertStringIncludes(code, "[rdi], rax");
    assert(step > 0);
  });
  it("10: the future without it ends well", () => {
    assertEquals(forkWithoutTheWrite(), {
      past: "triple fault",
      fork: "the guest wrote to the debug-exit port",
      exitCode: 1,
      serial: "all is well\n",
    });
  });
});
