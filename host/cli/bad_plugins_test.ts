/**
 * Plugins that fail while the guest runs: observers that throw, answer, are
 * asynchronous or emit what they don't declare, and devices that throw.
 * Invariant: the plugin is named with what to do, the tape is closed and
 * holds the run, and replaying it comes to the same end.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { machines } from "../machine.ts";
import { Workbench } from "./cli_testing.ts";

const ROOT = new URL("../../", import.meta.url);
const HELLO = `start:
  mov dx, 0x3f8
  mov al, 65
  out dx, al
  mov al, 0
  out 0xf4, al
`;

let bench: Workbench;
beforeAll(() => {
  bench = new Workbench([], machines);
  bench.put("ok.asm", HELLO);
});
afterAll(() => bench.close());

/** A scenario around `ok.asm`; `plugins` stands in line 3 from column 10. */
const withPlugins = (plugins: string): string =>
  `machine: {memory: 2MiB, cpu: haswell-server}\nguest: {asm: ./ok.asm}\nplugins: ${plugins}\n`;

/** An observer's module. */
function observer(name: string, setup: string, spec = "", head = ""): string {
  return `import { defineEvent, definePlugin, defineService, u32 } from "${ROOT}mod.ts";
import { UartSent } from "${ROOT}plugins/uart16550/api.ts";
const Seen = defineEvent({ name: "${name}.seen", version: 1, kind: "note", doc: "A byte", fields: { n: u32("Number") } });
${head}
export default definePlugin({
  name: "${name}", version: "1.0.0", doc: "Bad on purpose", role: "observer", ${spec}
  setup({ on, emit }) { ${setup}; return undefined; },
});
`;
}

describe("a plugin that fails while the guest runs", () => {
  const runs: readonly [name: string, module: string, part: string][] = [
    [
      "throws in a handler",
      observer("h", 'on(UartSent, () => { throw new Error("boo") })'),
      "plugin h, handler of uart.sent at step 2: boo",
    ],
    [
      "answers a value",
      observer("v", "on(UartSent, () => 5 as never)"),
      "plugin v, handler of uart.sent at step 2: the handler answered a value",
    ],
    [
      "has an async handler",
      observer("a", "on(UartSent, (async () => { await 0; }) as never)"),
      "handlers are synchronous",
    ],
    [
      "emits what it doesn't declare",
      observer(
        "u",
        "on(UartSent, () => { emit(Seen as never, { n: 1 } as never); })",
      ),
      "plugin u: emit of u.seen, which its emits don't list, add the event to emits",
    ],
  ];
  for (const [name, module, part] of runs) {
    it(`${name}: named with what to do; the run is on the tape`, async () => {
      const file = `${name.replaceAll(/\W/g, "-")}.ts`;
      bench.put(file, module);
      bench.put("b.yaml", withPlugins(`[./${file}]`));
      const { status, out, err } = await bench.run("run b.yaml");
      assertEquals([status, out], [2, "A"], err);
      assertStringIncludes(err, part);
      assertStringIncludes(err, "tape b.tape holds the run");
      const info = await bench.json("info b.tape");
      assertEquals(info.state, "clean");
      assert((info.end as { step: number }).step >= 3);
      assertEquals((await bench.run("verify b.tape")).status, 0);
    });
  }
});

describe("a device that fails while the guest runs", () => {
  const device = (name: string, body: string): string =>
    `import { defineEvent, definePlugin, u32 } from "${ROOT}mod.ts";
import { Devices } from "${ROOT}cpu/devices.ts";
const Odd = defineEvent({ name: "${name}.odd", version: 1, kind: "fact", doc: "A number", fields: { n: u32("Number") } });
export default definePlugin({
  name: "${name}", version: "1.0.0", doc: "Bad on purpose", role: "participant",
  needs: { devices: Devices },
  setup({ use, emit }) {
    use.devices.ports("${name}", 5, 5, { in: () => { ${body} }, out: () => {} });
    return undefined;
  },
});
`;
  const rows: readonly [name: string, body: string, part: string][] = [
    [
      "d-throws",
      'throw new Error("boo")',
      "plugin d-throws, read of port 0x5: boo",
    ],
    [
      "d-emits",
      "emit(Odd as never, { n: 1 } as never); return 1",
      "plugin d-emits: emit of d-emits.odd, which its emits don't list",
    ],
  ];
  for (const [name, body, part] of rows) {
    it(`${name}: blamed, and the tape replays to the same failure`, async () => {
      bench.put(`${name}.ts`, device(name, body));
      bench.put("five.asm", "start:\n  nop\n  in al, 5\n  out 0xf4, al\n");
      bench.put(
        "d.yaml",
        `machine: {memory: 2MiB}\nrecord: full\nguest: {asm: ./five.asm}\nplugins: [./${name}.ts]\n`,
      );
      const { status, err } = await bench.run("run d.yaml");
      assertEquals(status, 2, err);
      assertStringIncludes(err, part);
      const verify = await bench.run("verify d.tape");
      assertEquals(verify.status, 0, verify.out + verify.err);
      const end = await bench.run("seek d.tape end --disasm --count 1");
      assertStringIncludes(end.out, "in      al, 5");
      assertStringIncludes(end.out, `machine.stopped reason="failed: ${part}`);
    });
  }
});
