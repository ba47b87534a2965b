/**
 * How facts leave the CPU: hot ones as words to the ring, the others to the
 * bus. Whoever emits drains the ring first, so that the stream is in order.
 */
import type { EventToken } from "../../core/event.ts";
import type { KernelPort } from "../../core/executor.ts";
import type { FactPort } from "../facts.ts";
import type { EventRing } from "../ring.ts";

/** See the file header. */
export class RingFacts implements FactPort {
  observed = false;
  private memory = false;
  private registers = false;

  constructor(
    private readonly port: KernelPort,
    private readonly ring: EventRing,
  ) {}

  /** Which hot facts go to the ring; retires always do when any does. */
  select(observed: boolean, memory: boolean, registers: boolean): void {
    this.observed = observed;
    this.memory = memory;
    this.registers = registers;
  }

  retired(cpu: number, rip: bigint): void {
    if (this.observed) this.ring.retired(cpu, rip);
  }
  memoryWrote(
    cpu: number,
    linear: bigint,
    physical: number,
    size: number,
    value: bigint,
    old: bigint,
  ): void {
    if (this.memory) {
      this.ring.memory(cpu, linear, physical, size, value, old);
    }
  }
  registerWrote(cpu: number, register: number, value: bigint): void {
    if (this.registers) this.ring.register(cpu, register, value);
  }
  wants(event: EventToken<never>): boolean {
    return this.port.wants(event as EventToken);
  }
  emit<P>(event: EventToken<P>, payload: P): void {
    this.drain();
    this.port.emit(event as EventToken<P, "fact">, payload);
  }
  /** Empties the ring into the stream. */
  drain(): void {
    if (this.ring.empty) return;
    this.ring.drain((step, event, words, at) =>
      this.port.appendHot(step, (event as EventToken).id, words, at)
    );
  }
}
