/**
 * Shapes of a parsed program: items grouped by section, as parse.ts produces
 * and layout.ts consumes them. Invariant: source order within a section.
 */
import type { InstructionText } from "./encode.ts";
import type { Expr } from "./expression.ts";
import type { SourceLine } from "./preprocess.ts";
import type { Bits } from "./types.ts";

/** One element of a data directive. */
export type DataValue =
  | { readonly k: "expr"; readonly expr: Expr; readonly column: number }
  | { readonly k: "bytes"; readonly bytes: Uint8Array };

/** What a statement puts into its section. */
export type Item =
  & { readonly source: SourceLine; readonly column: number }
  & (
    | { readonly k: "label"; readonly name: string; readonly bits: Bits }
    | { readonly k: "equ"; readonly name: string; readonly expr: Expr }
    | {
      readonly k: "instruction";
      readonly text: InstructionText;
      /** Length reached so far; layout only grows it. */
      minimum: number;
      /** Bytes that no address influences, once known. */
      fixed: Uint8Array | undefined;
    }
    | {
      readonly k: "data";
      readonly unit: number;
      readonly values: readonly DataValue[];
    }
    | { readonly k: "reserve"; readonly unit: number; readonly count: Expr }
    | {
      readonly k: "align";
      readonly to: Expr;
      readonly fill: Expr | undefined;
    }
    | { readonly k: "times"; readonly count: Expr; readonly item: Item }
  );

/** A section as declared. */
export interface SectionText {
  readonly name: string;
  readonly items: Item[];
  readonly source: SourceLine;
  start: Expr | undefined;
  vstart: Expr | undefined;
  align: Expr | undefined;
  readonly isCode: boolean;
  readonly isBss: boolean;
}

/** A whole program, parsed. */
export interface Program {
  readonly sections: SectionText[];
  /** All names defined, with the line of their definition. */
  readonly defined: Map<string, SourceLine>;
  readonly labels: Set<string>;
  readonly globals: { name: string; source: SourceLine; column: number }[];
  entry: { name: string; source: SourceLine; column: number } | undefined;
}
