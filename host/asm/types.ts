/**
 * Public shapes of the assembler: options, the assembled image and its errors.
 * Invariant: every error carries file:line:column, what was found and what is
 * accepted there; addresses of code are virtual (`bigint`), load addresses are
 * physical (`number`).
 */
import { VmtapeError } from "../../core/errors.ts";

/** Processor mode whose encodings are produced: the operand of `bits`. */
export type Bits = 16 | 32 | 64;

/** What {@link assemble} may be told beside the source text. */
export interface AssembleOptions {
  /** Address of the first section (default 0); `org` in the source wins. */
  readonly origin?: number | bigint;
  /** Mode at the start (default 64); `bits` in the source wins. */
  readonly bits?: Bits;
  /** Name shown in errors (default `<asm>`). */
  readonly file?: string;
  /** Line of `file` at which the source begins (default 1): YAML blocks. */
  readonly firstLine?: number;
  /** Symbols known from outside, as if defined with `equ` on top. */
  readonly constants?: Readonly<Record<string, number | bigint>>;
}

/** A run of bytes that is contiguous in memory. */
export interface AssembledSection {
  readonly name: string;
  /** Physical address at which the bytes are to be loaded. */
  readonly address: number;
  /** Address the code was linked for; differs only under `vstart=`. */
  readonly virtualAddress: bigint;
  /** Empty for `.bss` and other sections made of reservations only. */
  readonly bytes: Uint8Array;
  /** Bytes of memory taken, reservations included. */
  readonly size: number;
}

/** One source-map row: where the bytes of one source line went. */
export interface LineEntry {
  readonly address: bigint;
  readonly length: number;
  readonly line: number;
  /** Mode of the instruction; undefined for data. */
  readonly bits?: Bits;
}

/** The result of {@link assemble}. */
export interface AssembledImage {
  readonly file: string;
  readonly sections: readonly AssembledSection[];
  /** Bytes of all sections laid out from `origin` on, gaps zero-filled. */
  readonly bytes: Uint8Array;
  /** Lowest load address: where `bytes` belongs. */
  readonly origin: number;
  /** Address named by `entry`, else `_start`, else `start`, else the origin. */
  readonly entry: bigint;
  /** Mode in force at the entry point. */
  readonly entryBits: Bits;
  /** Labels and `equ` constants; local labels as `parent.local`. */
  readonly symbols: ReadonlyMap<string, bigint>;
  /** Names that are labels (addresses), as opposed to `equ` constants. */
  readonly labels: ReadonlySet<string>;
  /** Names listed by `global`, in order. */
  readonly globals: readonly string[];
  /** Source map, ascending by address. */
  readonly lines: readonly LineEntry[];
}

/** One complaint about one place of the source. */
export interface AssemblyIssue {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly message: string;
  /** The text of the line, for display. */
  readonly text: string;
}

/** Thrown by {@link assemble}: all complaints found, the first ones first. */
export class AssemblyError extends VmtapeError {
  override readonly name = "AssemblyError";
  /** The complaints, at most 20. */
  readonly issues: readonly AssemblyIssue[];

  constructor(issues: readonly AssemblyIssue[]) {
    super("config", issues.map(showIssue).join("\n"));
    this.issues = issues;
  }
}

function showIssue(issue: AssemblyIssue): string {
  const { file, line, column, message, text } = issue;
  const caret = " ".repeat(Math.max(0, column - 1)) + "^";
  return `${file}:${line}:${column}: ${message}\n    ${text}\n    ${caret}`;
}

/** A complaint raised while working on one line; the driver adds the file. */
export class LineError extends Error {
  readonly column: number;
  constructor(column: number, message: string) {
    super(message);
    this.column = column;
  }
}
