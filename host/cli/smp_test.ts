/**
 * Several vCPUs from the command line: scenario and image, replay on the other
 * engine, looking at one vCPU, a fork that edits the second, and a vCPU that
 * loops on faults without a step.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { machines } from "../machine.ts";
import { Workbench } from "./cli_testing.ts";

const ROOT = new URL("../../", import.meta.url);
/** vCPU 0 starts vCPU 1 by the local APIC; it sends letters, then says so. */
const TWO = `entry start
section .ap start=0x8000
bits 16
ap:
  mov dx, 0x3f8
  mov al, 'b'
  mov cx, 3
send:
  out dx, al
  inc ax
  loop send
  mov byte [0x600], 1
done: hlt
  jmp done
section .text start=0x100000
bits 64
start:
  mov eax, 0xfee00000
  mov dword [rax + 0x310], 0x1000000
  mov dword [rax + 0x300], 0x4500
  mov dword [rax + 0x300], 0x4608
wait:
  pause
  cmp byte [0x600], 0
  je wait
  mov al, 0
  out 0xf4, al
`;
const SCENARIO =
  "machine: {memory: 2MiB, cpus: 2, quantum: 50}\nrecord: full\nguest: {asm: ./two.asm, mode: long}\n";

let bench: Workbench;
beforeAll(() => {
  bench = new Workbench([], machines);
  bench.put("two.asm", TWO);
  bench.put("two.yaml", SCENARIO);
});
afterAll(() => bench.close());

describe("several vCPUs on the command line", () => {
  it("run, from a scenario and with --cpus, and replay on each engine", async () => {
    const { status, out, err } = await bench.run("run two.yaml");
    assertEquals([status, out], [1, "bcd"], err);
    for (const engine of machines.engines) {
      const { status } = await bench.run(`verify two.tape --engine ${engine}`);
      assertEquals(status, 0, engine);
    }
    const image = await bench.run(
      "run two.asm --cpus 3 --memory 2 --pace 7 --tape three.tape",
    );
    assertEquals([image.status, image.out], [1, "bcd"], image.err);
    const { machine } = await bench.json("info three.tape") as {
      machine: unknown;
    };
    assertStringIncludes(JSON.stringify(machine), '"cpus":3');
    assertStringIncludes(JSON.stringify(machine), '"pace":7');
  });

  it("show who has the turn, and each one's registers", async () => {
    await bench.run("run two.yaml");
    const { events } = await events_of("cpu.retired");
    const first = events.find(({ cpu }) => cpu === 1);
    assert(first !== undefined);
    const at = await bench.run(`seek two.tape ${first.step} --regs`);
    assertStringIncludes(at.out, "vCPU 1 of 2, has the turn");
    assertStringIncludes(at.out, "cs ");
    const other = await bench.run(`seek two.tape ${first.step} --vcpu 0`);
    assertStringIncludes(other.out, "vCPU 0 of 2, vCPU 1 has the turn");
    const code = await bench.run(
      `events two.tape --disasm --type cpu.retired --from ${first.step} --limit 2`,
    );
    assertStringIncludes(code.out, "mov     al, 0x62");
    const none = await bench.run("seek two.tape 1 --vcpu 2");
    assertEquals(none.status, 2);
    assertStringIncludes(none.err, "the machine has 2, counted from 0");
  });

  it("fork with an edit of the second one", async () => {
    await bench.run("run two.yaml");
    const { events } = await events_of("cpu.retired");
    const third = events.filter(({ cpu }) => cpu === 1)[6];
    const { status, out, err } = await bench.run(
      `fork two.tape ${third.step} --set vcpu1.rax=0x58 --out f.tape`,
    );
    assertEquals([status, out], [1, "XY"], err);
    assertEquals((await bench.run("verify f.tape")).status, 0);
    const wrong = await bench.run(
      `fork two.tape ${third.step} --set vcpu2.rax=1 --out g.tape`,
    );
    assertEquals(wrong.status, 2);
    assertStringIncludes(wrong.err, "vCPU 2: the machine has 2");
  });

  async function events_of(
    type: string,
  ): Promise<{ events: { step: number; cpu: number }[] }> {
    const { out } = await bench.run(
      `events two.tape --type ${type} --json`,
    );
    const events = out.trim().split("\n").map((line) => {
      const { step, payload } = JSON.parse(line);
      return { step, cpu: payload.cpu };
    });
    return { events };
  }
});

/** A participant that takes every exception away: its instruction runs again. */
const GREEDY = `import { definePlugin } from "${ROOT}mod.ts";
import { ExceptionFiltering } from "${ROOT}cpu/hardware.ts";
export default definePlugin({
  name: "greedy", version: "1.0.0", doc: "Swallows exceptions", role: "participant",
  provides: { filter: ExceptionFiltering },
  setup({ provide }) {
    provide.filter({ exception: () => true, returned: () => {}, boundary: () => false });
    return undefined;
  },
});
`;

describe("a guest that loops on faults without a step", () => {
  const rows = [
    ["one", "machine: {memory: 2MiB}", "start: ud2", "stuck: faults"],
    [
      "two",
      "machine: {memory: 2MiB, cpus: 2}",
      TWO.replace("mov dx, 0x3f8", "ud2"),
      "stuck: vCPU 1: faults",
    ],
  ];
  for (const [name, machine, source, reason] of rows) {
    it(`${name}: ends with status 6 and is named; it replays`, async () => {
      bench.put("greedy.ts", GREEDY);
      bench.put(`${name}.asm`, source);
      bench.put(
        `${name}.yaml`,
        `${machine}\nguest: {asm: ./${name}.asm, mode: long}\nplugins: [./greedy.ts]\n`,
      );
      const { status, err } = await bench.run(
        `run ${name}.yaml --tape stuck-${name}.tape`,
      );
      assertEquals(status, 6, err);
      assertStringIncludes(err, reason);
      const { out } = await bench.run(
        `events stuck-${name}.tape --type machine.stuck`,
      );
      assertStringIncludes(out, "without a step at RIP");
      const verify = await bench.run(`verify stuck-${name}.tape`);
      assertEquals(verify.status, 0, verify.err);
    });
  }
});
