/**
 * `call` rows on T0: the machine loop executes them (cpu/engine/loop.ts), so
 * that they are the same on every engine. State is canonical before and after.
 */
import type { CpuContext } from "../../context.ts";
import type { Insn } from "../../isa/insn.ts";
import { CallEnd, type CallRows, ExecReason } from "../backend.ts";
import type { StateCells } from "./state.ts";

/** Has the loop execute a row. @returns reason to return to it; −1 to go on */
export function performRow(
  cpu: CpuContext,
  rows: CallRows | undefined,
  state: StateCells,
  insn: Insn,
): number {
  switch (rows?.perform(cpu, insn)) {
    case CallEnd.GoOn:
      return state.needsReference ? ExecReason.Attention : -1;
    case CallEnd.Attention:
      return ExecReason.Attention;
    case CallEnd.Transition:
      return ExecReason.Transition;
    default:
      return ExecReason.Call;
  }
}
