/**
 * Bad tapes: every tape command on files that are empty, no tape, cut short,
 * damaged, missing or a folder, and on tapes whose plugins are not the ones
 * that recorded them (issue 2, "Bad input").
 * Invariant: whatever the file holds, the command names it, ends with a
 * documented status, and leaves the file as it was.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { assemble, echoProgram, jmp } from "../../tests/toy/mod.ts";
import { machines } from "../machine.ts";
import { Workbench } from "./cli_testing.ts";

/** Command lines on a tape, `@` for its name. */
const LINES = [
  "replay @",
  "verify @",
  "recover @ --out new.tape",
  "info @",
  "events @",
  "events @ --full",
  "seek @ 5",
  "back @ toy-serial.sent",
  "diff @ good.tape",
  "diff good.tape @",
  "fork @ 5 --out new.tape --max-steps 20",
];

let bench: Workbench;
let tape: Uint8Array;
beforeAll(async () => {
  bench = new Workbench();
  bench.put("echo.bin", echoProgram());
  bench.put(
    "echo.yml",
    'machine: {memory: 64KiB}\nguest: {flat: echo.bin}\nrecord: full\ninputs: [{at: 700, serial: "ab"}, {at: 900, serial: [99, 0]}]\n',
  );
  await bench.run("run echo.yml --tape good.tape");
  tape = bench.get("good.tape");
});
afterAll(() => bench.close());

async function onTape(
  line: string,
  name: string,
): Promise<{ status: number; out: string; err: string }> {
  const result = await bench.run(line.replaceAll("@", name));
  assert(!result.err.includes("internal error"), `${line}: ${result.err}`);
  return result;
}

describe("a file that is no tape", () => {
  const files: readonly [name: string, data: Uint8Array, part: string][] = [
    ["empty.tape", new Uint8Array(0), "the file is empty"],
    ["text.tape", new TextEncoder().encode("# notes\n"), "open tape"],
    ["zeros.tape", new Uint8Array(100_000), "open tape"],
    ["noise.tape", Uint8Array.from({ length: 9000 }, (_, i) => i * 97), "tape"],
  ];
  for (const [name, data, part] of files) {
    it(`${name}: status 2 from every command, and it stays as it is`, async () => {
      bench.put(name, data);
      for (const line of LINES) {
        const { status, err, out } = await onTape(line, name);
        assertEquals([status, out], [2, ""], `${line}: ${err}`);
        assertStringIncludes(err, name);
        assertStringIncludes(err, part);
      }
      assertEquals(bench.get(name), data);
    });
  }
  it("missing or a folder: status 2, and what to do", async () => {
    Deno.mkdirSync(new URL("folder", bench.folder));
    for (const line of LINES) {
      const gone = await onTape(line, "gone.tape");
      assertEquals(gone.status, 2);
      assertStringIncludes(gone.err, "open tape gone.tape: there is no such");
      const folder = await onTape(line, "folder");
      assertEquals(folder.status, 2);
      assertStringIncludes(folder.err, "open tape folder: it is a folder");
    }
  });
});

describe("a tape", () => {
  it("cut short anywhere: torn, or said to be lost, by every command", async () => {
    for (const share of [0.02, 0.3, 0.6, 0.9, 0.999]) {
      const cut = tape.slice(0, Math.floor(tape.length * share));
      bench.put("cut.tape", cut);
      for (const line of LINES.filter((l) => !/^(back|diff)/.test(l))) {
        const { status, err, out } = await onTape(line, "cut.tape");
        const context = `${line} at ${share}: ${status} ${out}${err}`;
        if (status === 2) assertStringIncludes(err, "cut.tape", context);
        else if (!line.startsWith("fork")) assertEquals(status, 4, context);
      }
      assertEquals(bench.get("cut.tape"), cut);
    }
  });
  it("damaged inside: status 5, and what it cost", async () => {
    const bad = tape.slice();
    bad[Math.floor(tape.length * 0.7)] ^= 1;
    bench.put("bad.tape", bad);
    const verify = await onTape("verify @", "bad.tape");
    assertEquals(verify.status, 5, verify.err);
    assertStringIncludes(verify.out, "lost: ");
    const recover = await onTape("recover @ --out mended.tape", "bad.tape");
    assertEquals(recover.status, 5);
    assertStringIncludes(recover.out, "lost: ");
    assertEquals((await onTape("verify @", "mended.tape")).status, 0);
    assertEquals(bench.get("bad.tape"), bad);
  });
  it("without its manifest: status 2 or 5, never a guess", async () => {
    const bad = tape.slice();
    bad[150] ^= 0xff;
    bench.put("headless.tape", bad);
    const { status, err } = await onTape("replay @", "headless.tape");
    assert(status === 2 || status === 5, err);
    assertStringIncludes(err, "headless.tape");
  });
});

describe("JSON", () => {
  it("is what every command prints, and nothing beside it", async () => {
    const lines = [
      "run echo.yml --tape j.tape",
      "replay j.tape",
      "verify j.tape",
      "recover j.tape --out j2.tape",
      "info j.tape",
      "info j.tape --manifest",
      "events j.tape",
      "events j.tape --disasm --limit 4",
      "seek j.tape 5 --regs --disasm --walk 0x10 --dump 0x0+32",
      "back j.tape toy-serial.sent",
      "diff j.tape good.tape",
      "fork j.tape 600 --out f.tape --max-steps 650",
      "plugins",
      "plugins toy-serial",
    ];
    for (const line of lines) {
      const { out, err, status } = await bench.run(`${line} --json`);
      assertEquals(err, "", line);
      assert(status === 0 || line.startsWith("run"), `${line}: ${status}`);
      const rows = out.trimEnd().split("\n");
      assert(rows.length === 1 || line.startsWith("events"), line);
      for (const row of rows) {
        assert(typeof JSON.parse(row) === "object", `${line}: ${row}`);
      }
    }
  });
});

describe("fork", () => {
  it("keeps the tape that is there when an edit is refused", async () => {
    await bench.run("fork good.tape 600 --out there.tape --max-steps 650");
    const before = bench.get("there.tape");
    for (
      const [edit, part] of [
        ["--set foo=1", "foo"],
        ["--poke 0xffffffff=00", "RAM ends at"],
        ['--input toy-serial.received={"bytes":"61"} --set x.y=1', "x.y"],
      ]
    ) {
      const { status, err } = await bench.run(
        `fork good.tape 600 --out there.tape ${edit}`,
      );
      assertEquals(status, 2, err);
      assertStringIncludes(err, "fork good.tape at 600: ");
      assertStringIncludes(err, part);
      assertEquals(bench.get("there.tape"), before);
    }
  });
  it("closes the tape at Ctrl-C", async () => {
    bench.put("loop.bin", assemble(jmp(-1)));
    await bench.run("run loop.bin --memory 64K --max-steps 1000");
    const { status, err } = await bench.run(
      "fork loop.tape 500 --out cut.tape",
      (io) => {
        let looks = 0;
        io.onBreathe = (press) => {
          if (++looks === 2) press();
        };
      },
    );
    assertEquals(status, 130, err);
    assertEquals((await bench.run("verify cut.tape")).status, 0);
  });
});

describe("seek", () => {
  it("names the end when asked for what lies behind it", async () => {
    const { status, err } = await bench.run("seek good.tape 99999999");
    assertEquals(status, 2);
    assertStringIncludes(err, "the run ends at step 918, choose an earlier");
  });
});

describe("a plugin of another version", () => {
  const ROOT = new URL("../../", import.meta.url);
  const port = (version: string, value: number): string =>
    `import { definePlugin } from "${ROOT}mod.ts";
import { Devices } from "${ROOT}cpu/devices.ts";
export default definePlugin({
  name: "answerer", version: "${version}", doc: "Answers port 5", role: "participant",
  needs: { devices: Devices },
  setup({ use }) {
    use.devices.ports("answerer", 5, 5, { in: () => ${value}, out: () => {} });
    return undefined;
  },
});
`;
  it("is named with both versions: status 6", async () => {
    const first = new Workbench([], machines);
    first.put("guest.asm", "start:\n  in al, 5\n  out 0xf4, al\n");
    first.put(
      "p.yaml",
      "machine: {memory: 2MiB}\nguest: {asm: ./guest.asm}\nplugins: [./answerer.ts]\n",
    );
    first.put("answerer.ts", port("1.0.0", 3));
    const run = await first.run("run p.yaml");
    assertEquals(run.status, 7, run.err);
    assertEquals((await first.run("verify p.tape")).status, 0);
    // a module is loaded once a process: another folder stands for another day
    const later = new Workbench([], machines);
    later.put("p.tape", first.get("p.tape"));
    later.put("answerer.ts", port("1.1.0", 4));
    for (const line of ["verify p.tape", "replay p.tape", "seek p.tape 1"]) {
      const { status, out, err } = await later.run(line);
      assertEquals(status, 6, out + err);
      assertStringIncludes(out + err, "answerer");
      assertStringIncludes(out + err, "1.0.0");
      assertStringIncludes(out + err, "1.1.0");
    }
    // what needs no machine still works
    assertEquals((await later.run("info p.tape")).status, 0);
    assertEquals((await later.run("events p.tape")).status, 0);
    Deno.removeSync(new URL("answerer.ts", later.folder));
    const gone = await later.run("verify p.tape");
    assertEquals(gone.status, 6);
    assertStringIncludes(gone.err, "load plugin ./answerer.ts");
    first.close();
    later.close();
  });
});
