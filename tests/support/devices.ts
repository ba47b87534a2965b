/**
 * Devices under test: a whole machine whose vCPU spins with interrupts off,
 * while the test plays the guest's accesses itself and moves virtual time.
 */
import type { PluginUse } from "../../core/plugin.ts";
import type { EventToken } from "../../core/event.ts";
import { EventRequest } from "../../cpu/layout.ts";
import {
  Irq,
  type IrqLines,
  Pic,
  type PicOutput,
} from "../../plugins/pic8259/api.ts";
import { TestMachine } from "./machine.ts";

/** See the file header. */
export class DeviceBench {
  readonly machine: TestMachine;

  constructor(plugins: readonly PluginUse[], model?: string, cpus = 1) {
    this.machine = new TestMachine("spin: jmp spin", {
      plugins,
      cpus,
      ...(model === undefined ? {} : { model }),
    });
    this.machine.run(1);
  }

  in(port: number, size: 1 | 2 | 4 = 1): number {
    const value = this.machine.executor.devices.in(port, size);
    this.settle();
    return value;
  }
  out(port: number, value: number, size: 1 | 2 | 4 = 1): void {
    this.machine.executor.devices.out(port, size, value);
    this.settle();
  }
  read(address: number, size: 1 | 2 | 4 | 8 = 4): number {
    const value = Number(this.machine.executor.devices.read(address, size));
    this.settle();
    return value;
  }
  write(address: number, value: number, size: 1 | 2 | 4 | 8 = 4): void {
    this.machine.executor.devices.write(address, size, BigInt(value));
    this.settle();
  }

  /** Handlers of facts run, as the machine has it after a step. */
  settle(): void {
    const { port } = this.machine.executor;
    if (port.pending()) port.pump();
  }

  /** Virtual time in ns. */
  get now(): number {
    return this.machine.executor.step() + this.machine.executor.idle();
  }
  /** Lets time pass up to `ns`; timers that fall due on the way fire in order. */
  until(ns: number): void {
    const { machine } = this;
    this.settle();
    if (ns <= this.now) return;
    machine.executor.setIdle(ns - machine.executor.step());
    // Timers that are due fire at the boundary; no step is left to run.
    machine.kernel.run({ budgetSteps: 0 });
  }
  /** Lets `ns` pass. */
  pass(ns: number): void {
    this.until(this.now + ns);
  }

  /** The INTR line of the vCPU. */
  get interrupt(): boolean {
    return (this.machine.v.eventRequest & EventRequest.Interrupt) !== 0;
  }
  /** The vCPU takes the interrupt. */
  acknowledge(): number {
    const vector = this.machine.cpu.interrupts.acknowledge(0);
    this.settle();
    return vector;
  }

  collect<P>(event: EventToken<P>): P[] {
    return this.machine.collect(event);
  }
  /** The 8259 pair's request lines. */
  get lines(): IrqLines {
    const lines = this.machine.executor.port.service(Irq).get();
    if (lines === undefined) throw new RangeError("no pic8259 plugin");
    return lines;
  }
  /** The 8259 pair's output. */
  get pic(): PicOutput {
    const pic = this.machine.executor.port.service(Pic).get();
    if (pic === undefined) throw new RangeError("no pic8259 plugin");
    return pic;
  }
}
