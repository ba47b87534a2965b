/**
 * Who waits gives up its turn (cpu/engine/turns.ts): PAUSE where it comes round
 * to itself, MWAIT always. The same on both engines, and after a restore
 * between two PAUSEs.
 */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Ipi } from "../../tests/support/ipi.ts";
import type { TestMachine } from "../../tests/support/machine.ts";
import { Gpr, MACHINE } from "../layout.ts";
import { BOTH, join, machine, send, turnsOf } from "./turns_testing.ts";

/** Reads what the machine page says of the turn's last PAUSE. */
function pauseWord(m: TestMachine): () => bigint {
  const { memory, layout } = m.hardware;
  const words = new BigUint64Array(memory.buffer);
  return () => words[(layout.state + MACHINE.turnPause) >>> 3];
}

for (const { name, engine } of BOTH) {
  describe(`several vCPUs on ${name}`, () => {
    it("give up their turn when they come to the same PAUSE again", () => {
      const m = machine(
        `
        a: pause
        cmp byte [0x600], 0
        je a
        hlt
        b: mov ecx, 30
        l: loop l
        mov byte [0x600], 1
        hlt
        `,
        { engine },
      );
      join(m, 1, "b");
      const turns = turnsOf(m);
      assertEquals(m.run(1000).kind, "waiting");
      assertEquals(turns, [[0, 4], [1, 33], [0, 3]]);
    });

    it("keep their turn at PAUSEs on their way", () => {
      const m = machine(
        `
        pause
        pause
        call f
        pause
        mov byte [0x600], 1
        hlt
        f: pause
        ret
        b: movzx ebx, byte [0x600]
        hlt
        `,
        { engine },
      );
      const v = join(m, 1, "b");
      const turns = turnsOf(m);
      assertEquals(m.run(1000).kind, "waiting");
      assertEquals(turns, [[0, 8], [1, 2]]);
      assertEquals(v.gpr(Gpr.RBX), 1n);
    });

    it("begin each turn without a PAUSE, on whichever vCPU it was", () => {
      // 50 steps come round to the PAUSE once, whoever runs them.
      const round = "pause\ntimes 48 nop\njmp";
      const m = machine(`a: ${round} a`, { engine });
      join(m, 1, "a");
      const turns = turnsOf(m);
      m.run(200);
      assertEquals(turns, [[0, 50], [1, 50], [0, 50], [1, 50]]);
    });

    it("tell PAUSEs apart by their linear address", () => {
      const m = machine(
        `
        ${send(Ipi.Sipi, 1, 0x20)}
        a: jmp a
        `,
        { engine },
      );
      // 2000:0000 pause, jmp 2001:0000 (pause, jmp 2000:0010).
      const far = (ip: number, cs: number): number[] => [
        ...[0xf3, 0x90, 0xea, ip, 0, cs & 255, cs >> 8],
      ];
      const { physical } = m.hardware;
      physical.writeBytes(0x20000, Uint8Array.from(far(0, 0x2001)));
      physical.writeBytes(0x20010, Uint8Array.from(far(0x10, 0x2000)));
      const turns = turnsOf(m);
      m.run(100);
      // The same offset at another base is another PAUSE, the same address
      // through another selector is the same.
      assertEquals(turns.map(([cpu, steps]) => cpu === 1 ? steps : cpu), [
        0,
        5,
        0,
      ]);
    });

    it("give up their turn with MWAIT, each time", () => {
      const m = machine(
        `
        monitor
        mwait
        mwait
        hlt
        b: jmp b
        `,
        { engine },
      );
      join(m, 1, "b");
      const turns = turnsOf(m);
      m.run(103);
      assertEquals(turns, [[0, 2], [1, 50], [0, 1], [1, 50]]);
    });

    it("have another turn where the others sleep, without its PAUSE", () => {
      const m = machine("a: pause\njmp a", { engine });
      const word = pauseWord(m);
      m.run(1);
      assertEquals(word(), BigInt(m.at("a") + 1));
      m.run(2);
      assertEquals(word(), 0n);
      m.run(2);
      assertEquals(word(), BigInt(m.at("a") + 1));
    });

    it("go on between two PAUSEs after a restore as without one", () => {
      const source = `
        a: lock inc dword [0x600]
        pause
        mov ebx, [0x600]
        jmp a
        b: inc rcx
        mov edx, [0x600]
        jmp b
      `;
      const one = machine(source, { engine });
      const two = machine(source, { engine });
      for (const m of [one, two]) join(m, 1, "b");
      one.run(3);
      assertEquals(pauseWord(one)(), BigInt(one.at("a") + 9));
      const half = one.kernel.capture();
      one.run(300);
      // Its own turn has met no PAUSE yet, or another's.
      for (const steps of [1, 60]) {
        two.run(steps);
        two.kernel.restore(half);
        two.run(300);
        assertEquals(two.kernel.stateDigest(), one.kernel.stateDigest());
      }
    });
  });
}
