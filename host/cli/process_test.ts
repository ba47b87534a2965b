/**
 * The command line as a process: signals, pipes, a full disk, promises that
 * plugins leave behind, and Deno's permissions. Everything else is tested
 * in-process (run_test.ts, tape_commands_test.ts, bad_*_test.ts).
 * Invariant: a child is waited for by what it prints, never by time.
 */
import {
  assert,
  assertEquals,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { ECHO } from "./cli_testing.ts";

const ROOT = new URL("../../", import.meta.url);
const MAIN = new URL("main.ts", import.meta.url).pathname;
const LOOP = `start:
  mov dx, 0x3f8
  mov al, 'x'
  out dx, al
again: jmp again
`;

let folder: string;
beforeAll(() => {
  folder = Deno.makeTempDirSync();
  Deno.writeTextFileSync(`${folder}/echo.asm`, ECHO);
  Deno.writeTextFileSync(`${folder}/loop.asm`, LOOP);
});
afterAll(() => Deno.removeSync(folder, { recursive: true }));

interface Result {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function spawn(args: readonly string[], grants = ["-A"]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", ...grants, MAIN, ...args],
    cwd: folder,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Runs a command line to its end. */
async function vmtape(
  args: readonly string[],
  stdin = "",
  grants?: string[],
): Promise<Result> {
  const child = spawn(args, grants);
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(stdin)).catch(() => {});
  await writer.close().catch(() => {});
  const { code, stdout, stderr } = await child.output();
  const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
}

describe("Ctrl-C", () => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    it(`${signal} closes the tape: status 130, and it verifies`, async () => {
      const tape = `${signal}.tape`;
      const child = spawn(["run", "loop.asm", "--tape", tape]);
      const reader = child.stdout.getReader();
      const { value } = await reader.read();
      assertEquals(new TextDecoder().decode(value), "x");
      child.kill(signal);
      assertEquals((await child.status).code, 130);
      await reader.cancel();
      await child.stdin.abort().catch(() => {});
      const err = await new Response(child.stderr).text();
      assertMatch(err, /stopped: interrupted; [\d,]+ steps, 1 input, tape/);
      const verify = await vmtape(["verify", tape]);
      assertEquals(verify.code, 0, verify.err);
      const info = JSON.parse((await vmtape(["info", tape, "--json"])).out);
      assertEquals([info.state, info.end.stopped], ["clean", true]);
    });
  }
});

describe("nohup", () => {
  it("keeps a hang-up from ending the run", async () => {
    const child = new Deno.Command("sh", {
      args: [
        ...["-c", 'trap "" HUP; exec "$@"', "sh"],
        ...[Deno.execPath(), "run", "-A", MAIN],
        ...["run", "echo.asm", "--tape", "nohup.tape"],
      ],
      cwd: folder,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    const reader = child.stdout.getReader();
    for (const key of ["a", "b"]) {
      await writer.write(new TextEncoder().encode(key));
      const { value } = await reader.read();
      assertEquals(new TextDecoder().decode(value), key);
      child.kill("SIGHUP");
    }
    await writer.write(new TextEncoder().encode("q"));
    // the guest's own end, not 130
    assertEquals((await child.status).code, 1);
    await reader.cancel();
    await writer.close().catch(() => {});
    await child.stderr.cancel();
  });
});

describe("pipes", () => {
  it("bring in serial input that is recorded and replays without them", async () => {
    const run = await vmtape(["run", "echo.asm", "--tape", "e.tape"], "hi\nq");
    assertEquals([run.code, run.out], [1, "hi\n"], run.err);
    // nobody looks at stderr: no progress there, one line of result
    assertMatch(run.err, /^vmtape run: ended: .*\n$/);
    const replay = await vmtape(["replay", "e.tape"]);
    assertEquals([replay.code, replay.out], [0, "hi\n"], replay.err);
    const events = await vmtape([
      "events",
      "e.tape",
      "--type",
      "uart.received",
    ]);
    assertMatch(events.out, /uart\.received bytes=/);
  });
  it("that close early end a listing, not in an error", async () => {
    await vmtape(["run", "echo.asm", "--tape", "b.tape"], "a long line\nq");
    const child = spawn(["events", "b.tape", "--full"]);
    await child.stdin.close();
    const reader = child.stdout.getReader();
    await reader.read();
    await reader.cancel();
    const { code } = await child.status;
    assertEquals([code, await new Response(child.stderr).text()], [0, ""]);
  });
});

/** Echoes, after a greeting that says that it is there. */
const GREET = `entry greet
greet:
  mov dx, 0x3f8
  mov al, '>'
  out dx, al
${ECHO}`;

describe("a terminal", () => {
  const script = new Deno.Command("sh", { args: ["-c", "command -v script"] })
    .outputSync().success;
  if (!script) {
    console.warn(
      "SKIPPED: a terminal: no program `script` (util-linux) makes one here",
    );
  }
  const test = script ? it : it.skip;
  test("sends its keys to the guest and is given back as it was", async () => {
    Deno.writeTextFileSync(`${folder}/greet.asm`, GREET);
    const run = [Deno.execPath(), "run", "-A", MAIN, "run", "greet.asm"];
    const child = new Deno.Command("script", {
      args: [
        "-qefc",
        `stty -g; ${run.join(" ")} --tape t.tape; echo "status $?"; stty -g`,
        "/dev/null",
      ],
      cwd: folder,
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const writer = child.stdin.getWriter();
    // Ctrl-C and Ctrl-] twice are the guest's, Ctrl-] q is ours
    const typed = ["hi\x03\x1d\x1d!", "\x1dpb", "\x1dq"];
    const answers = [">", "!", "back"];
    let out = "", from = 0;
    for await (
      const chunk of child.stdout.pipeThrough(new TextDecoderStream())
    ) {
      out += chunk;
      const at = answers.length > 0 ? out.indexOf(answers[0], from) : -1;
      if (at < 0) continue;
      from = at + answers[0].length;
      answers.shift();
      await writer.write(new TextEncoder().encode(typed.shift()));
    }
    await writer.close().catch(() => {});
    await child.status;
    const lines = out.split("\r\n").filter((line) => line !== "");
    const before = lines[0];
    assertStringIncludes(out, ">hi\x03\x1d!");
    assertMatch(out, /paused: step [\d,]+ \(1 back\)/);
    assertEquals(lines.slice(-2), ["status 130", before], out);
    assertEquals((await vmtape(["verify", "t.tape"])).code, 0);
  });
});

describe("a full disk", () => {
  it("ends the run with what to do: status 2", async () => {
    const { code, err } = await vmtape(
      ["run", "echo.asm", "--tape", "/dev/full"],
      "q",
    );
    assertEquals(code, 2, err);
    assertStringIncludes(err, "write tape /dev/full: No space left on device");
    assertStringIncludes(err, "vmtape recover");
  });
});

describe("a plugin's promise", () => {
  it("that fails later changes neither status nor tape", async () => {
    Deno.writeTextFileSync(
      `${folder}/late.ts`,
      `import { definePlugin } from "${ROOT}mod.ts";
import { UartSent } from "${ROOT}plugins/uart16550/api.ts";
export default definePlugin({
  name: "late", version: "1.0.0", doc: "Promises", role: "observer",
  setup({ on }) {
    on(UartSent, (async () => { await 0; throw new Error("too late"); }) as never);
    return undefined;
  },
});
`,
    );
    const { code, err } = await vmtape(
      ["run", "echo.asm", "--plugin", "./late.ts", "--tape", "l.tape"],
      "aq",
    );
    assertEquals(code, 2, err);
    assertStringIncludes(err, "plugin late, handler of uart.sent");
    assert(!err.includes("Uncaught"), err);
    assertEquals((await vmtape(["verify", "l.tape"])).code, 0);
  });
});

describe("Deno's permissions", () => {
  it("reading the folder and writing the tape are enough", async () => {
    const { code, err } = await vmtape(
      ["run", "echo.asm", "--tape", "p.tape"],
      "q",
      [`--allow-read=${folder},${ROOT.pathname}`, "--allow-write=p.tape"],
    );
    assertEquals(code, 1, err);
  });
  it("that are missing are named, with the flag to give", async () => {
    const { code, err } = await vmtape(
      ["run", "echo.asm", "--tape", "p2.tape"],
      "q",
      [`--allow-read=${folder},${ROOT.pathname}`],
    );
    assertEquals(code, 2, err);
    assertStringIncludes(err, "create tape p2.tape: Deno has no permission");
    assertStringIncludes(err, "--allow-write");
  });
});
