/**
 * The least interrupt controller that several vCPUs need, for tests that are
 * about vCPUs and not about the local APIC: one port by which any vCPU sends
 * fixed interrupts, NMI, INIT and start-up IPIs, and reads its own number.
 * Vectors wait in a bitmap for each vCPU; acknowledging one ends it.
 */
import { definePlugin, tableOf, wordsOf } from "../../core/mod.ts";
import { Devices } from "../../cpu/devices.ts";
import { HardwareAccess, Interrupts } from "../../cpu/hardware.ts";
import { EventRequest, MAX_CPUS, VCPU } from "../../cpu/layout.ts";

/** Port of the device. */
export const IPI_PORT = 0x500;
/** Bits 19:16 of what is written there; bits 15:8 target (0xff: all others), 7:0 vector. */
export const Ipi = { Fixed: 0, Nmi: 1, Init: 2, Sipi: 3 } as const;

/** The 32-bit word that sends one. */
export function ipiWord(kind: number, target: number, vector = 0): number {
  return kind << 16 | target << 8 | vector;
}

/** See the file header. */
export const ipi = definePlugin({
  name: "ipi",
  version: "1.0.0",
  doc: "Inter-processor interrupts by a port",
  role: "participant",
  needs: { hardware: HardwareAccess, devices: Devices },
  provides: { interrupts: Interrupts },
  state: {
    waiting: tableOf(
      MAX_CPUS,
      { vectors: wordsOf(8, "Bit by vector") },
      "By vCPU",
    ),
  },
  setup({ use: { hardware, devices }, provide, state }) {
    const highest = (words: ArrayLike<number>): number => {
      for (let i = 7; i >= 0; i--) {
        if (words[i] !== 0) return i * 32 + 31 - Math.clz32(words[i]);
      }
      return -1;
    };
    const update = (cpu: number): void =>
      hardware.setInterruptLine(cpu, highest(state.waiting[cpu].vectors) >= 0);
    const send = (cpu: number, kind: number, vector: number): void => {
      switch (kind) {
        case Ipi.Fixed:
          state.waiting[cpu].vectors[vector >> 5] |= 1 << (vector & 31);
          update(cpu);
          break;
        case Ipi.Nmi:
          hardware.request(cpu, EventRequest.Nmi);
          break;
        case Ipi.Init:
          hardware.request(cpu, EventRequest.Init);
          break;
        case Ipi.Sipi:
          hardware.startUp(cpu, vector);
      }
    };
    devices.ports("ipi", IPI_PORT, IPI_PORT + 3, {
      in: () => hardware.turn(),
      out(_port, size, value) {
        if (size !== 4) return;
        const target = value >> 8 & 0xff;
        const vector = value & 0xff;
        hardware.cpus.forEach(({ index }) => {
          const meant = target === 0xff
            ? index !== hardware.turn()
            : index === target;
          if (meant) send(index, value >> 16 & 0xf, vector);
        });
      },
    });
    provide.interrupts({
      acknowledge(cpu) {
        const { vectors } = state.waiting[cpu];
        const vector = highest(vectors);
        if (vector >= 0) vectors[vector >> 5] &= ~(1 << (vector & 31));
        update(cpu);
        return vector;
      },
      readTpr: (cpu) => hardware.cpus[cpu].v.word(VCPU.cr8),
      writeTpr: (cpu, value) => hardware.cpus[cpu].v.setWord(VCPU.cr8, value),
      initialized(cpu) {
        state.waiting[cpu].vectors.fill(0);
        update(cpu);
      },
    });
    return undefined;
  },
});
