/**
 * The local APIC timer (SDM 3A §11.5.4): one-shot and periodic counting of
 * virtual nanoseconds (a 1-GHz bus clock) over the divisor, and TSC-deadline.
 * Invariant: state is when the timer held which count, never a ticking value;
 * leaving or entering TSC-deadline mode disarms it.
 */
import type { Clock, Timer } from "../../core/mod.ts";
import { Lvt, R } from "./registers.ts";

/** The timer's cells. */
export interface TimerState {
  readonly registers: Uint32Array;
  /** Virtual time at which the timer held `timerCount`. */
  timerFrom: number;
  /** Count then; 0: the timer stands. */
  timerCount: number;
  /** IA32_TSC_DEADLINE; 0n: not armed. */
  deadline: bigint;
}

/** What the timer needs of its machine. */
export interface TimerWorld {
  readonly clock: Clock;
  readonly timer: Timer;
  /** The vCPU's TSC without a guest's offset. */
  tsc(): bigint;
  /** The LVT entry asks for its interrupt. */
  expired(): void;
}

/** See the file header. */
export class ApicTimer {
  constructor(
    private readonly state: TimerState,
    private readonly world: TimerWorld,
  ) {
    world.timer.run(() => {
      this.fire();
      return undefined;
    });
  }

  private get lvt(): number {
    return this.state.registers[R.LvtTimer];
  }
  /** The LVT entry selects TSC-deadline mode. */
  get deadlineMode(): boolean {
    return (this.lvt & Lvt.TimerMode) === Lvt.TimerDeadline;
  }
  private get divisor(): number {
    const divide = this.state.registers[R.Divide];
    const code = (divide & 3) | (divide >> 1 & 4);
    return code === 7 ? 1 : 2 << code;
  }
  private get due(): number {
    return this.state.timerFrom + this.state.timerCount * this.divisor;
  }

  /** Current-count register. */
  get remaining(): number {
    if (this.deadlineMode) return 0;
    const { timerFrom, timerCount } = this.state;
    const passed = this.world.clock.now() - timerFrom;
    return Math.max(0, timerCount - Math.floor(passed / this.divisor));
  }

  /** Counts on from `count` now; 0 stops. */
  restart(count: number): void {
    this.state.timerFrom = this.world.clock.now();
    this.state.timerCount = count;
    this.arm();
  }
  private arm(): void {
    const { timer } = this.world;
    if (this.state.timerCount === 0) timer.cancel();
    else timer.at(this.due);
  }

  /** Initial-count register written. */
  start(count: number): void {
    this.state.registers[R.InitialCount] = count;
    if (!this.deadlineMode) this.restart(count);
  }
  /** Divide-configuration register written: counting goes on from where it was. */
  divide(value: number): void {
    const left = this.remaining;
    this.state.registers[R.Divide] = value;
    if (!this.deadlineMode) this.restart(left);
  }
  /** LVT timer register written. */
  select(lvt: number): void {
    const was = this.deadlineMode;
    this.state.registers[R.LvtTimer] = lvt;
    if (was !== this.deadlineMode) this.stop();
  }
  /** Disarms both ways of counting. */
  stop(): void {
    this.state.deadline = 0n;
    this.restart(0);
  }

  /** IA32_TSC_DEADLINE; it reads 0 and ignores writes in the other modes. */
  get deadline(): bigint {
    return this.state.deadline;
  }
  set deadline(tsc: bigint) {
    if (!this.deadlineMode) return;
    this.state.deadline = tsc;
    this.world.timer.cancel();
    this.tscChanged();
  }
  /** The TSC was written, or the deadline: fires now or waits anew. */
  tscChanged(): void {
    const { state, world } = this;
    if (state.deadline === 0n) return;
    const left = state.deadline - world.tsc();
    if (left <= 0n) {
      this.fire();
      return;
    }
    const due = world.clock.now() + Number(left);
    // A deadline beyond the end of virtual time never comes.
    if (Number.isSafeInteger(due)) world.timer.at(due);
    else world.timer.cancel();
  }

  private fire(): void {
    const { state, world } = this;
    if (this.deadlineMode) {
      state.deadline = 0n;
      world.timer.cancel();
    } else {
      state.timerFrom = this.due;
      state.timerCount = this.lvt & Lvt.TimerPeriodic
        ? state.registers[R.InitialCount]
        : 0;
      this.arm();
    }
    world.expired();
  }
}
