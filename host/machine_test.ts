/**
 * The state in which a machine starts: what firmware has done before a loader's
 * guest runs (host/machine.ts).
 */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { MachineExecutor } from "../cpu/engine/executor.ts";
import { VCPU } from "../cpu/layout.ts";
import { machines } from "./machine.ts";
import { defineScenario } from "./scenario/define.ts";

describe("a machine starts", () => {
  it("with FNINIT executed on every vCPU", () => {
    const scenario = defineScenario({
      machine: { cpu: "qemu64", memory: "2MiB", cpus: 2 },
      guest: { asm: "cli\nhlt", at: 0x100000 },
    });
    const { executor } = machines.create(scenario, new Map(), { uses: [] });
    if (!(executor instanceof MachineExecutor)) throw new Error("no machine");
    for (const { v } of executor.hardware.cpus) {
      const words = [VCPU.fcw, VCPU.fsw, VCPU.ftw].map((at) => v.word(at));
      assertEquals(words, [0x37f, 0, 0xffff]);
    }
  });

  it("so that x87 code needs no FNINIT of its own", () => {
    // CR0.NE = 0: an unmasked exception would stop the machine (FERR#).
    const asm = `
      mov rax, cr0
      and eax, ~0x20
      mov cr0, rax
      fld1
      fild dword [ten]
      fdivp st1, st0
      fstp qword [sum]
      mov eax, [sum + 4]
      shr eax, 24
      out 0xf4, al
      hlt
      ten: dd 10
      sum: dq 0`;
    const scenario = defineScenario({
      machine: { cpu: "qemu64", memory: "2MiB" },
      guest: { asm, at: 0x100000 },
    });
    const kernel = machines.create(scenario, new Map(), { uses: [] });
    const info = kernel.run({ untilStep: 1000 });
    // 0.1 is 3FB99999…, inexact; the exit status is value << 1 | 1.
    assertEquals(info.kind, "stopped");
    assertEquals(info.kind === "stopped" && info.exitCode, 0x3f << 1 | 1);
  });
});
