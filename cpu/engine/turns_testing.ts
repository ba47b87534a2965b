/**
 * Machines of several vCPUs for the tests of turns: turns of 50 steps, an IPI
 * port, every vCPU with the state of the first, and who retired in which order.
 */
import { ipi, IPI_PORT, ipiWord } from "../../tests/support/ipi.ts";
import {
  referenceEngine,
  TestMachine,
  type TestMachineOptions,
} from "../../tests/support/machine.ts";
import { t0Engine } from "../../tests/laws/compare_engines.ts";
import { CpuRetired } from "../facts.ts";
import { ActivityState, Gpr } from "../layout.ts";
import type { Vcpu } from "../vcpu.ts";
import { t0EngineBytes } from "./t0/engine.ts";

export const BOTH = [
  { name: "reference", engine: referenceEngine },
  { name: "t0", engine: t0Engine(0) },
];

export const send = (kind: number, target: number, vector = 0): string => `
  mov dx, ${IPI_PORT}
  mov eax, ${ipiWord(kind, target, vector)}
  out dx, eax
`;

export function machine(
  source: string,
  options: TestMachineOptions = {},
): TestMachine {
  return new TestMachine(source, {
    cpus: 2,
    turnSteps: 50,
    engineBytes: t0EngineBytes(options.cpus ?? 2),
    plugins: [{ plugin: ipi }],
    ...options,
  });
}

/** Gives vCPU `index` the state of vCPU 0 and another RIP. */
export function join(m: TestMachine, index: number, label: string): Vcpu {
  const { v } = m.hardware.cpus[index];
  const from = m.v;
  for (let s = 0; s < 8; s++) v.setSegment(s, from.segment(s));
  v.setGdtr(from.gdtrBase, from.gdtrLimit);
  v.setIdtr(from.idtrBase, from.idtrLimit);
  v.cr0 = from.cr0;
  v.cr3 = from.cr3;
  v.cr4 = from.cr4;
  v.efer = from.efer;
  v.rip = BigInt(m.at(label));
  v.setGpr(Gpr.RSP, 0x6800n - BigInt(index * 0x100));
  v.activity = ActivityState.Active;
  return v;
}

/** Runs of one vCPU in the order of retirement: [vCPU, steps]. */
export function turnsOf(m: TestMachine): [number, number][] {
  const turns: [number, number][] = [];
  m.kernel.watch(CpuRetired, ({ cpu }) => {
    const last = turns.at(-1);
    if (last?.[0] === cpu) last[1]++;
    else turns.push([cpu, 1]);
    return undefined;
  });
  return turns;
}
