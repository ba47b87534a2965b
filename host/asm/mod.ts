/**
 * The assembler: Intel syntax (NASM's dialect) over iced-x86's op-code tables.
 * Every non-EVEX instruction that iced lists assembles; the shortest encoding
 * is chosen (Knights Corner's MVEX ones after `cpu knc`).
 *
 * Syntax, one statement a line, `;` begins a comment:
 *   label:  .local:  name equ expr        db dw dd dq dt do  resb … reso  times n …
 *   bits 16|32|64   org a   align n[, fill]   entry l   global l   default rel|abs
 *   section .name [start=physical] [vstart=virtual] [align=n]
 *   mov rax, [fs:rbx+rcx*8+label]   lea rsi, [rel label]   jmp short|near l
 *   inc dword [x]   inc dword ptr [x]   call far [x]   jmp 8:l   [rip+label]
 *   lock rep repe repne bnd notrack, es … gs, o16 o32 o64 a16 a32 a64 in front
 *   $ here, $$ section start, 'c' "s" \`s\\n\`, 0x1f 1fh 0b1 1_000, C's operators
 *   %define %undef %assign %macro %endmacro (%1, %0, %%unique) %rep %endrep
 *   %if %elif %else %ifdef %ifndef %endif %error
 *
 * Where operands leave the size open the mode's default is meant; memory whose
 * size nothing tells is an error. `jmp far [x]` in 64-bit mode reads 16:64.
 * Invariant: pure; the same source and options give the same image.
 */
import { nearest } from "../../core/nearest.ts";
import { place } from "./layout.ts";
import { ProgramParser } from "./parse.ts";
import { preprocess, type SourceLine } from "./preprocess.ts";
import {
  type AssembledImage,
  type AssembledSection,
  type AssembleOptions,
  AssemblyError,
  type AssemblyIssue,
  type Bits,
  type LineEntry,
  LineError,
} from "./types.ts";

export { AssemblyError };
export type {
  AssembledImage,
  AssembledSection,
  AssembleOptions,
  AssemblyIssue,
  Bits,
  LineEntry,
};

const MAX_ISSUES = 20;

/**
 * Assembles source text.
 * @returns sections with load addresses, symbols, entry point and source map
 * @throws AssemblyError naming file:line:column, what was found and what is
 * accepted there, for up to 20 mistakes at once
 */
export function assemble(
  source: string,
  options: AssembleOptions = {},
): AssembledImage {
  const file = options.file ?? "<asm>";
  const constants = options.constants ?? {};
  const origin = BigInt(options.origin ?? 0);
  const issues: AssemblyIssue[] = [];
  const report = (source: SourceLine, error: LineError): void => {
    if (issues.length >= MAX_ISSUES) return;
    const message = source.note === undefined
      ? error.message
      : `${error.message} (${source.note})`;
    const { line, text } = source;
    issues.push({ file, line, column: error.column, message, text });
  };
  const stopOnIssues = (): void => {
    if (issues.length === 0) return;
    issues.sort((a, b) => a.line - b.line || a.column - b.column);
    throw new AssemblyError(issues);
  };

  const parser = new ProgramParser(options.bits ?? 64, constants);
  for (const line of preprocess(source, constants, report, options.firstLine)) {
    try {
      parser.line(line);
    } catch (error) {
      if (!(error instanceof LineError)) throw error;
      report(line, error);
    }
  }
  const { program } = parser;
  // A mistyped line may have held a label: don't add errors that follow.
  stopOnIssues();
  const placed = place(program, origin, constants, report);
  stopOnIssues();
  for (const { name, source, column } of program.globals) {
    if (!placed.symbols.has(name)) {
      report(source, undefinedName("global", name, column, placed.symbols));
    }
  }
  const entry = program.entry;
  if (entry !== undefined && !placed.symbols.has(entry.name)) {
    report(
      entry.source,
      undefinedName("entry", entry.name, entry.column, placed.symbols),
    );
  }
  reportOverlap(placed.sections, program.sections[0]?.source, report);
  stopOnIssues();

  const first = placed.sections[0];
  const entryName = entry?.name ??
    ["_start", "start"].find((n) => program.labels.has(n));
  return {
    file,
    sections: placed.sections,
    ...flatten(placed.sections, origin),
    entry: entryName === undefined
      ? first?.virtualAddress ?? origin
      : placed.symbols.get(entryName)!,
    entryBits:
      (entryName === undefined
        ? placed.lines.find((l) => l.bits !== undefined)?.bits
        : placed.labelBits.get(entryName)) ?? options.bits ?? 64,
    symbols: placed.symbols,
    labels: program.labels,
    globals: program.globals.map((g) => g.name),
    lines: placed.lines,
  };
}

function undefinedName(
  what: string,
  name: string,
  column: number,
  symbols: ReadonlyMap<string, bigint>,
): LineError {
  const near = nearest(name, symbols.keys());
  return new LineError(
    column,
    `${what} \`${name}\` isn't defined` +
      (near === undefined ? "" : `: the nearest name is \`${near}\``),
  );
}

function reportOverlap(
  sections: readonly AssembledSection[],
  source: SourceLine | undefined,
  report: (source: SourceLine, error: LineError) => void,
): void {
  const sorted = sections.filter((s) => s.size > 0)
    .sort((a, b) => a.address - b.address);
  for (let i = 1; i < sorted.length; i++) {
    const [a, b] = [sorted[i - 1], sorted[i]];
    if (a.address + a.size > b.address && source !== undefined) {
      report(
        source,
        new LineError(
          1,
          `sections ${a.name} (0x${a.address.toString(16)}, ${a.size} bytes) ` +
            `and ${b.name} (0x${b.address.toString(16)}) overlap: move one ` +
            "with org or start=",
        ),
      );
    }
  }
}

/** Largest flat image; sections further apart are not joined. */
const MAX_FLAT = 1 << 28;

function flatten(
  sections: readonly AssembledSection[],
  origin: bigint,
): { bytes: Uint8Array; origin: number } {
  const full = sections.filter((s) => s.bytes.length > 0);
  if (full.length === 0) {
    return { bytes: new Uint8Array(), origin: Number(origin) };
  }
  const low = Math.min(...full.map((s) => s.address));
  const high = Math.max(...full.map((s) => s.address + s.bytes.length));
  if (full.length === 1) return { bytes: full[0].bytes, origin: low };
  const bytes = new Uint8Array(Math.min(high - low, MAX_FLAT));
  for (const s of full) {
    const room = bytes.length - (s.address - low);
    if (room > 0) bytes.set(s.bytes.subarray(0, room), s.address - low);
  }
  return { bytes, origin: low };
}

/** A value that may stand in an {@link asm} template. */
export type AsmValue = number | bigint | string;

/** Assembles a template; values are inserted, strings as source text. */
export type AsmTag = (
  strings: TemplateStringsArray,
  ...values: readonly AsmValue[]
) => AssembledImage;

/** {@link asm} with options. */
export function asmWith(options: AssembleOptions): AsmTag {
  return (strings, ...values) =>
    assemble(
      strings.raw.reduce((text, part, i) =>
        text + showValue(values[i - 1]) + part
      ),
      options,
    );
}

/**
 * Assembles a template literal: numbers and bigints become literals (negative
 * ones in parentheses), strings are inserted as source text. 64-bit code at 0
 * unless `bits` and `org` say otherwise; see {@link asmWith} for options.
 */
export const asm: AsmTag = asmWith({ file: "asm`…`" });

function showValue(value: AsmValue): string {
  if (typeof value === "string") return value;
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    throw new RangeError(
      `asm template: ${value} is not a whole number below 2^53; pass a bigint`,
    );
  }
  return value < 0 ? `(${value})` : `${value}`;
}

/** The source-map row that covers `address`, or undefined. */
export function lineAt(
  image: AssembledImage,
  address: bigint,
): LineEntry | undefined {
  let low = 0;
  let high = image.lines.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const row = image.lines[middle];
    if (address < row.address) high = middle - 1;
    else if (address >= row.address + BigInt(row.length)) low = middle + 1;
    else return row;
  }
  return undefined;
}
