/**
 * What an engine is to the machine loop (cpu/engine/loop.ts): something that
 * executes instructions of one vCPU until it needs the loop. Loop, procedures,
 * exception delivery and devices are shared by all engines, so that they can
 * differ only in how `emit` rows run (design law 2).
 */
import type { CpuContext } from "../context.ts";
import type { Insn } from "../isa/insn.ts";

/** Why `Backend.execute` returned. */
export const ExecReason = {
  /** Step limit reached, at a boundary. */
  Limit: 0,
  /** The instruction at RIP is a `call` row: `backend.insn`. Nothing of it has happened. */
  Call: 1,
  /** `cpu.v.pending` holds an exception of the instruction at RIP; nothing of it is committed. */
  Fault: 2,
  /** `cpu.v.stage2` holds a stage-2 fault of the instruction at RIP (or its fetch). */
  Stage2: 3,
  /** `cpu.attention` is set: some boundary work is due. */
  Attention: 4,
  /** The instruction at RIP has no row: `backend.notModelled` names it. */
  NotModelled: 5,
  /** The event ring is nearly full; drain and go on. */
  Ring: 6,
} as const;

/** An execution engine. */
export interface Backend {
  readonly name: string;
  /** Called once, with the context of every vCPU. */
  attach(cpus: readonly CpuContext[]): void;
  /**
   * Runs from the current state until the machine's step count reaches `limit`
   * or a reason to return. On return all architectural state (RFLAGS included)
   * is canonical in the layout.
   */
  execute(cpu: CpuContext, limit: number): number;
  /** After ExecReason.Call: the instruction. */
  readonly insn: Insn | undefined;
  readonly notModelled: string | undefined;
  /** Hot facts wanted by the recorder: selects quiet or observed code. */
  observe(wanted: HotFacts): void;
  /** Physical page was written and has PageFlag.Code: drop its code (takes effect at the next instruction). */
  codeWritten(physicalPage: number): void;
  /** Translations, rights, mode or debug registers changed: drop grants (all, or one linear page). */
  dropGrants(cpu: number, linearPage?: number): void;
  /** Dirty flags are about to be cleared: silent-write grants of every vCPU end. */
  dropWriteGrants(): void;
  /** State was replaced from outside (restore, edit): drop everything derived. */
  reset(): void;
}

/** Which hot facts the ring shall carry. */
export interface HotFacts {
  readonly retired: boolean;
  readonly memory: boolean;
  readonly registers: boolean;
}
