/**
 * What a row of the ISA table is (design §7): the iced-x86 codes it covers and
 * either its `emit` (data path, all engines) or its `call` (one TypeScript
 * procedure shared by all engines), with the facts that decide whether it may
 * run at all. Rows are declared in cpu/isa/rows/*.ts and collected in
 * cpu/isa/table.ts; nothing else says what an instruction does.
 */
import type { CpuContext } from "../context.ts";
import type { EmitFunction, QuickFunction } from "./emitter.ts";
import type { Insn } from "./insn.ts";
import type { InterceptId } from "../arch/intercepts.ts";
import type { Feature } from "../arch/cpuid.ts";

/**
 * Result of a procedure (numeric, never an exception).
 * `Done`: commit nextRip and count a step. `Fault`: `cpu.pending` holds an
 * exception. `Exit`: a VM exit has already replaced the state: nothing to
 * commit. `Stage2`: `cpu.stage2` holds an EPT/NPT fault. `Again`: REP
 * iteration done, RIP stays, counts a step. `Halt`: Done, then idle.
 * `Yield`: Done, then another vCPU has the turn. `Spin`: Done, then as with
 * `Yield` if this instruction ended so before in this turn.
 * `Completed`: state, RIP and step are already as they must be (L0 completed
 * the instruction, task switch, …).
 */
export const Outcome = {
  Done: 0,
  Fault: 1,
  Exit: 2,
  Stage2: 3,
  Again: 4,
  Halt: 5,
  Completed: 6,
  Yield: 7,
  Spin: 8,
} as const;
export type OutcomeCode = typeof Outcome[keyof typeof Outcome];

/** A procedure over the layout's accessors. */
export type CallFunction = (cpu: CpuContext, insn: Insn) => OutcomeCode;

/** One row. Exactly one of `emit` and `call`. */
export interface Row {
  /** Manual mnemonic, e.g. "ADD"; unique in the table with `variant`. */
  readonly name: string;
  /** Tells rows of one mnemonic apart, e.g. "near", "far". */
  readonly variant?: string;
  /** iced-x86 `Code` names (`Add_rm64_r64` …) that this row implements. */
  readonly codes: readonly string[];
  readonly emit?: EmitFunction;
  readonly call?: CallFunction;
  /**
   * With `call`: its plain case, for engines that compile. `slowIf` sends every
   * other case to `call`, as privilege and interception do by themselves. The
   * reference executes `call` always, so law 2 compares the two.
   */
  readonly quick?: QuickFunction;
  /** May end the turn where there are several vCPUs; `quick` then serves one only. */
  readonly yields?: boolean;
  /** Manual reference, e.g. "SDM 2A ADD". */
  readonly manual: string;
  /** Required CPUID feature; a model without it raises #UD. */
  readonly feature?: Feature;
  /** #GP(0) unless CPL = 0 (checked before intercepts by the loop). */
  readonly privileged?: boolean;
  /** The instruction may be intercepted in a guest: the loop asks the hook. Such rows have `call`. */
  readonly intercept?: InterceptId;
  /**
   * With `intercept`: makes the checks that come before an interception (SDM 3C
   * §26.1.1) and answers the operand facts that the port is told; undefined
   * when a check failed, with the outcome in `cpu.access.outcome`.
   */
  readonly detail?: (cpu: CpuContext, insn: Insn) => number | undefined;
  /** RFLAGS.TF as the instruction leaves it decides on the single-step trap (SYSCALL, SYSRET). */
  readonly finalTrapFlag?: boolean;
  /** Ends a block: changes mode, interrupt masks or control flow out of the engine's sight. All `call` rows do. */
  readonly endsBlock?: boolean;
  /** LOCK prefix allowed with a memory destination. */
  readonly lockable?: boolean;
  /** Not valid in 64-bit mode / valid only there (#UD otherwise; iced already refuses most). */
  readonly legacyOnly?: boolean;
  readonly longOnly?: boolean;
}
