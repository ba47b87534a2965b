/**
 * Design law 2: T0, quiet and observed, against the reference on random
 * programs, with every form compiled and with the usual mixture.
 */
import { assertEquals } from "@std/assert";
import { definePlugin } from "../../core/mod.ts";
import { Devices } from "../../cpu/devices.ts";
import { HardwareAccess } from "../../cpu/hardware.ts";
import type { Vcpu } from "../../cpu/vcpu.ts";
import { t0EngineBytes } from "../../cpu/engine/t0/engine.ts";
import { PLACE, referenceEngine, TestMachine } from "../support/machine.ts";
import { difference, t0Engine } from "./compare_engines.ts";
import { dataProgram } from "./data_programs.ts";
import {
  crossingProgram,
  randomProgram,
  stringProgram,
} from "./random_programs.ts";

const HOT = ["cpu.retired", "mem.wrote", "reg.wrote"];
const OBSERVED: readonly (readonly string[])[] = [
  [],
  [...HOT, "mmu.", "exception."],
  ["mem.wrote"],
];

for (const mode of ["long", "protected"] as const) {
  for (let seed = 0; seed < 3; seed++) {
    const facts = OBSERVED[seed];
    const what = facts.length ? `observed by ${facts.join(", ")}` : "quiet";
    Deno.test(`T0 is the reference: ${mode} program ${seed}, ${what}`, () => {
      const how = {
        mode,
        steps: 4000,
        stride: 300,
        facts,
        threshold: seed * 4,
      };
      assertEquals(difference(randomProgram(seed, mode), how), undefined);
    });
  }
}

for (const mode of ["long", "protected"] as const) {
  for (const seed of [11, 12, 13]) {
    Deno.test(`T0 with all forms of several instructions: ${mode} ${seed}`, () => {
      const how = {
        ...{ mode, steps: 3000, stride: 40, facts: [] },
        ...{ threshold: 0, eager: true },
      };
      assertEquals(difference(randomProgram(seed, mode), how), undefined);
    });
  }
}

for (const stride of [7, 600, 40_000]) {
  Deno.test(`T0 repeats strings as the reference does, stops within ${stride}`, () => {
    const how = {
      mode: "long" as const,
      steps: 30_000 + 10 * stride,
      stride,
      facts: [],
    };
    assertEquals(difference(stringProgram(stride), how), undefined);
  });
}

for (let seed = 0; seed < 4; seed++) {
  for (const facts of [[], HOT]) {
    Deno.test(`T0 is the reference where code crosses pages: ${seed} ${facts}`, () => {
      const how = { mode: "long" as const, steps: 6000, stride: 90, facts };
      const eager = seed % 2 === 1;
      assertEquals(
        difference(crossingProgram(seed), { ...how, eager }),
        undefined,
      );
    });
  }
}

for (let seed = 0; seed < 8; seed++) {
  const facts = seed % 4 === 3 ? [...HOT, "mmu.", "exception."] : [];
  Deno.test(`T0 loads and stores as the reference does: ${seed} ${facts}`, () => {
    const how = {
      ...{ mode: "long" as const, steps: 12_000, stride: 200, facts },
      ...{ threshold: 0, eager: seed % 2 === 0 },
    };
    assertEquals(difference(dataProgram(seed), how), undefined);
  });
}

Deno.test("a device that is accessed finds RIP and step exact, above 4 GiB too", () => {
  const DEVICE = 0x300000;
  const seen = [referenceEngine, t0Engine(0)].map((engine) => {
    const told: string[] = [];
    const tell = (v: Vcpu, what: string): void =>
      void told.push(`${what} ${v.step} ${v.rip.toString(16)}`);
    const device = definePlugin({
      name: "device",
      version: "1.0.0",
      doc: "Notes where the vCPU is",
      role: "participant",
      needs: { devices: Devices, hardware: HardwareAccess },
      setup({ use: { devices, hardware } }): undefined {
        devices.memory("device", DEVICE, 4096, {
          read: (_, size) => {
            tell(hardware.cpus[0].v, `read ${size}`);
            return 5n;
          },
          write: (_, size, value) =>
            tell(hardware.cpus[0].v, `write ${size} ${value}`),
        });
      },
    });
    const machine = new TestMachine(
      `bits 64
       mov r8, 0xffff800000200000 + high
       mov ecx, 3
       mov ebx, ${DEVICE}
       low: mov rax, [rbx]
       jmp r8
       high: add [rbx + 8], eax
       mov [rbx + 2], ax
       cmp byte [rbx], 5
       jnz high
       movzx edx, word [rbx + 4094]
       dec ecx
       jz done
       mov edx, low
       jmp rdx
       done:
       hlt`,
      {
        engine,
        engineBytes: t0EngineBytes(1),
        plugins: [{ plugin: device }],
        // 2 MiB further up, so that the two pages of code share no slot.
        setup: (_, { physical }) => {
          physical.writeU64(PLACE.tables + 256 * 8, 0x1a007n);
          physical.writeU64(0x1a000, 0x1b007n);
          physical.writeU64(0x1b008, 0x87n);
        },
      },
    );
    machine.run(400);
    return told;
  });
  assertEquals(seen[0].length, 18);
  const high = seen[0].filter((line) => line.includes(" ffff8000"));
  assertEquals(high.length, 15);
  assertEquals(seen[1], seen[0]);
});
