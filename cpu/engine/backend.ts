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
  /** `CallRows.perform` came to CallEnd.Transition. */
  Transition: 7,
} as const;

/** What `CallRows.perform` came to. */
export const CallEnd = {
  /** Nothing was done: return ExecReason.Call. */
  Refused: 0,
  /** Done; nothing but the next instruction is due. */
  GoOn: 1,
  /** Done; return ExecReason.Attention. */
  Attention: 2,
  /** A fault or exit without a step: return ExecReason.Transition. */
  Transition: 3,
} as const;

/** The machine loop towards an engine that does not want to return for every `call` row. */
export interface CallRows {
  /**
   * Executes a `call` row as after ExecReason.Call. All state is canonical
   * before and after.
   * @returns one of CallEnd
   */
  perform(cpu: CpuContext, insn: Insn): number;
}

/** An execution engine. */
export interface Backend {
  readonly name: string;
  /** Set by the machine loop; an engine need not use it. */
  callRows?: CallRows;
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
  /**
   * Bytes `first` to `last` (all, without) of a physical page that has
   * PageFlag.Code were written: drop their code (takes effect at the next
   * instruction).
   */
  codeWritten(physicalPage: number, first?: number, last?: number): void;
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
