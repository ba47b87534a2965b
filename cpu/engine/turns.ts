/**
 * Whose turn it is (design §6): vCPUs run one after another, each for a fixed
 * number of steps of the machine. A turn ends early when its vCPU halts, waits in
 * MWAIT, or spins: comes from one PAUSE to the same one. A PAUSE on the way to
 * something else does not end it. Turn, end and last PAUSE lie in the machine
 * page, so they are digested, restored and the same on every engine, and they
 * change only where state alone says so. A machine with one vCPU has no turns
 * and its machine page says nothing of them.
 */
import type { CpuContext } from "../context.ts";
import { type Layout, MACHINE } from "../layout.ts";
import { codeAddress } from "../semantics/system/common.ts";
import { asleep } from "./boundary.ts";

/** Steps of a turn where the machine's configuration says nothing else. */
export const TURN_STEPS = 4096;

/** See the file header. */
export class Turns {
  /** More than one vCPU. */
  readonly several: boolean;
  private readonly u32: Uint32Array;
  private readonly u64: BigUint64Array;
  private readonly at: number;

  /** @param steps of a turn */
  constructor(
    memory: WebAssembly.Memory,
    layout: Layout,
    private readonly cpus: readonly CpuContext[],
    private readonly steps: number,
  ) {
    this.several = cpus.length > 1;
    this.u32 = new Uint32Array(memory.buffer);
    this.u64 = new BigUint64Array(memory.buffer);
    this.at = layout.state;
    if (this.several) this.end = steps;
  }

  /** Index of the vCPU that has the turn. */
  get index(): number {
    return this.u32[(this.at + MACHINE.turn) >>> 2];
  }
  set index(cpu: number) {
    this.u32[(this.at + MACHINE.turn) >>> 2] = cpu;
  }
  /** The vCPU that has the turn. */
  get cpu(): CpuContext {
    return this.cpus[this.index];
  }

  /** Step at which the turn ends. */
  get end(): number {
    if (!this.several) return Infinity;
    const at = (this.at + MACHINE.turnEnd) >>> 2;
    return this.u32[at] + this.u32[at + 1] * 2 ** 32;
  }
  set end(step: number) {
    const at = (this.at + MACHINE.turnEnd) >>> 2;
    this.u32[at] = step >>> 0;
    this.u32[at + 1] = Math.floor(step / 2 ** 32);
  }

  /** Index of the vCPU that would run next: the turn may be over, or its vCPU halted. */
  get next(): number {
    const { cpus, index } = this;
    const { step } = cpus[index].v;
    if (step < this.end && !asleep(cpus[index])) return index;
    for (let i = 1; i <= cpus.length; i++) {
      const other = (index + i) % cpus.length;
      if (!asleep(cpus[other])) return other;
    }
    return index;
  }

  /** The vCPU whose index was set begins its turn. */
  begin(step: number): void {
    this.end = step + this.steps;
    this.lastPause = 0n;
  }

  /** A PAUSE retired on the vCPU that has the turn. @param rip of the PAUSE */
  pause({ v }: CpuContext, rip: bigint): void {
    if (!this.several) return;
    // PAUSE is two bytes long: it never lies at the last address.
    const place = codeAddress(v, rip) + 1n;
    if (this.lastPause === place) this.giveUp(v.step);
    else this.lastPause = place;
  }

  private get lastPause(): bigint {
    return this.u64[(this.at + MACHINE.turnPause) >>> 3];
  }
  private set lastPause(place: bigint) {
    this.u64[(this.at + MACHINE.turnPause) >>> 3] = place;
  }

  /** The vCPU gives up the rest of its turn, or has another if no other wants one. */
  giveUp(step: number): void {
    if (!this.several) return;
    const { cpus, index } = this;
    const wanted = cpus.some((cpu, i) => i !== index && !asleep(cpu));
    if (wanted) this.end = step;
    else this.begin(step);
  }
}
