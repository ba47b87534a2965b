/**
 * Which rows the vectors cover: rows are mnemonics (iced's names) that a row of
 * the ISA table implements and whose feature a CPU model shows. A row that no
 * processor of ours could record has its reason in ROWS*.txt and its place in
 * the manual in the ISA table.
 * Invariant: every such row is covered or has a reason.
 */
import { Code, Instruction, Mnemonic } from "iced-x86";
import { CPU_MODELS, parseModel } from "../../cpu/arch/models.ts";
import type { Row } from "../../cpu/isa/row.ts";
import { ROWS } from "../../cpu/isa/table.ts";
import type { RowCount } from "./compare.ts";

/** Vectors that a row has at least. */
export const ENOUGH = 50;

/** One row that a CPU model shows. */
export interface Coverage {
  readonly mnemonic: string;
  readonly vectors: number;
  /** Why there are none; empty if there are, or if nobody said. */
  readonly reason: string;
  /** Where the manual has it. */
  readonly manual: string;
}

const codes = Code as unknown as Readonly<Record<string, Code>>;

function mnemonicOf(code: string): string {
  const instruction = Instruction.create(codes[code]);
  const mnemonic = Mnemonic[instruction.mnemonic];
  instruction.free();
  return mnemonic;
}

/** The rows that any CPU model shows, in the ISA table's order. */
export function shownRows(): ReadonlyMap<string, Row> {
  const models = Object.keys(CPU_MODELS).map((name) => parseModel(name));
  const shown = new Map<string, Row>();
  for (const row of ROWS) {
    const { feature } = row;
    if (feature !== undefined && !models.some((m) => m.has(feature))) continue;
    for (const code of row.codes) {
      const mnemonic = mnemonicOf(code);
      if (!shown.has(mnemonic)) shown.set(mnemonic, row);
    }
  }
  return shown;
}

/** What `recorded` (readRows) covers of them. */
export function coverage(recorded: readonly RowCount[]): Coverage[] {
  const counts = new Map(recorded.map((r) => [r.mnemonic, r]));
  return [...shownRows()].map(([mnemonic, row]) => {
    const count = counts.get(mnemonic);
    return {
      mnemonic,
      vectors: count?.cases ?? 0,
      reason: count?.reason ?? "",
      manual: row.manual,
    };
  });
}
