/** The emulation's state of one vCPU (cells of the plugin) and its options. */
import type { TrapCells } from "./traps.ts";

/** Why a single step is under way. */
export const StepReason = {
  None: 0,
  /** A trapped instruction runs again. */
  Rerun: 1,
  /** One instruction of a withheld page. */
  Withheld: 2,
  /** One instruction under the user view at CPL < 3. */
  User: 3,
  /** Exact mode steps the supervisor view. */
  Exact: 4,
} as const;

/** Cells of one vCPU. */
export interface MbecCells extends TrapCells {
  /** An L2 with an emulated policy has been entered. */
  active: boolean;
  view: number;
  step: number;
  /** SwitchPath that the trapped instruction stands for. */
  path: number;
  /** Page lent to the user view for one step, + 1; 0 for none. */
  lent: number;
  /** Page with a right of its own for one step, + 1 (halves.ts); 0 for none. */
  half: number;
  /** That right. */
  halfExecutes: boolean;
  /** The policy holds a leaf that only supervisor mode may execute. */
  supervisorOnly: boolean;
  readonly withheld: {
    readonly size: number;
    has(page: bigint): boolean;
    add(page: bigint): void;
    clear(): void;
    [Symbol.iterator](): Iterator<bigint>;
  };
}

/** How the emulation was configured. */
export interface MbecOptions {
  readonly strategy: "trap-all" | "entry-page-nx";
  readonly exactness: "lazy" | "exact";
}
