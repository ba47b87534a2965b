/**
 * Addresses: passes over a parsed program until no label moves, then the
 * bytes. Instructions start at their shortest and only grow, so the passes
 * end (jump relaxation). Invariant: problems count only when they persist in
 * the last pass; earlier ones may come from addresses not known yet.
 */
import { nearest } from "../../core/nearest.ts";
import { encodeInstruction } from "./encode.ts";
import {
  type Environment,
  evaluate,
  type Expr,
  isConstant,
} from "./expression.ts";
import { fits } from "./match.ts";
import type { Operand } from "./operands.ts";
import type { Item, Program, SectionText } from "./program.ts";
import type { Report, SourceLine } from "./preprocess.ts";
import { registerNames } from "./registers.ts";
import {
  type AssembledSection,
  type Bits,
  type LineEntry,
  LineError,
} from "./types.ts";

const MAX_PASSES = 200;
const MAX_REPEATS = 1 << 20;
const MAX_SECTION_BYTES = 1 << 30;

/** A program with addresses. */
export interface Placed {
  readonly sections: AssembledSection[];
  readonly symbols: Map<string, bigint>;
  readonly labelBits: Map<string, Bits>;
  readonly lines: LineEntry[];
}

/** Places a program from `origin` on. Problems go to `report`. */
export function place(
  program: Program,
  origin: bigint,
  constants: Readonly<Record<string, number | bigint>>,
  report: Report,
): Placed {
  let before = new Map<string, bigint>();
  for (let pass = 0;; pass++) {
    const run = new Pass(program, origin, constants, before);
    run.all();
    const moved = run.grew || !sameSymbols(before, run.now);
    if (!moved || pass === MAX_PASSES) {
      for (const [source, error] of run.problems) report(source, error);
      if (moved && run.problems.length === 0) {
        report(
          program.sections[0].source,
          new LineError(
            1,
            `addresses don't settle within ${MAX_PASSES} passes: a size ` +
              "depends on itself (check times, align, org and equ)",
          ),
        );
      }
      return {
        sections: run.sections,
        symbols: run.now,
        labelBits: run.labelBits,
        lines: run.lines.sort((a, b) =>
          a.address < b.address ? -1 : a.address > b.address ? 1 : 0
        ),
      };
    }
    before = run.now;
  }
}

function sameSymbols(
  a: ReadonlyMap<string, bigint>,
  b: ReadonlyMap<string, bigint>,
): boolean {
  if (a.size !== b.size) return false;
  for (const [name, value] of a) if (b.get(name) !== value) return false;
  return true;
}

/** Bytes under construction; grows by doubling. */
class ByteSink {
  #buffer = new Uint8Array(256);
  /** Bytes written so far. */
  written = 0;
  /** Bytes taken so far, trailing reservations included. */
  size = 0;

  push(bytes: Uint8Array): void {
    const end = this.size + bytes.length;
    if (end > this.#buffer.length) {
      const larger = new Uint8Array(Math.max(end, this.#buffer.length * 2));
      larger.set(this.#buffer.subarray(0, this.written));
      this.#buffer = larger;
    }
    // Reservations between data are zeros.
    this.#buffer.fill(0, this.written, this.size);
    this.#buffer.set(bytes, this.size);
    this.size = end;
    this.written = end;
  }

  /** Appends the last `length` bytes `count` times. */
  repeat(length: number, count: number): void {
    const last = this.#buffer.slice(this.size - length, this.size);
    const copies = new Uint8Array(length * count);
    for (let i = 0; i < count; i++) copies.set(last, i * length);
    this.push(copies);
  }

  bytes(): Uint8Array {
    return this.#buffer.slice(0, this.written);
  }
}

class Pass {
  readonly now = new Map<string, bigint>();
  readonly labelBits = new Map<string, Bits>();
  readonly sections: AssembledSection[] = [];
  readonly lines: LineEntry[] = [];
  readonly problems: [SourceLine, LineError][] = [];
  grew = false;

  readonly #program: Program;
  readonly #before: ReadonlyMap<string, bigint>;
  readonly #origin: bigint;
  #sink = new ByteSink();
  #base = 0n;
  #physical = 0n;
  #isCode = true;
  readonly #env: Environment;

  constructor(
    program: Program,
    origin: bigint,
    constants: Readonly<Record<string, number | bigint>>,
    before: ReadonlyMap<string, bigint>,
  ) {
    this.#program = program;
    this.#origin = origin;
    this.#before = before;
    for (const [name, value] of Object.entries(constants)) {
      this.now.set(name, BigInt(value));
    }
    const here = (): bigint => this.#here;
    const base = (): bigint => this.#base;
    this.#env = {
      symbol: (name, column) => this.#symbol(name, column),
      get here() {
        return here();
      },
      get base() {
        return base();
      },
    };
  }

  get #here(): bigint {
    return this.#base + BigInt(this.#sink.size);
  }

  all(): void {
    const order = [
      ...this.#program.sections.filter((s) => !s.isBss),
      ...this.#program.sections.filter((s) => s.isBss),
    ];
    let next = this.#origin;
    order.forEach((section, i) => {
      next = this.#section(section, next, i === 0);
    });
  }

  #section(section: SectionText, next: bigint, isFirst: boolean): bigint {
    this.#guard(section.source, () => {
      const align = section.align === undefined
        ? (isFirst ? 1n : 16n)
        : this.#alignment(section.align);
      this.#base = this.#physical = roundUp(next, align);
      if (section.start !== undefined) {
        this.#base = this.#physical = evaluate(section.start, this.#env);
      }
      if (section.vstart !== undefined) {
        this.#base = evaluate(section.vstart, this.#env);
      }
      if (
        this.#physical < 0n || this.#physical > BigInt(Number.MAX_SAFE_INTEGER)
      ) {
        throw new LineError(
          1,
          `section ${section.name} starts at ${this.#physical}: accepted are ` +
            "load addresses from 0 to 2^53-1 (vstart= may be any)",
        );
      }
    });
    this.#sink = new ByteSink();
    this.#isCode = section.isCode;
    for (const item of section.items) {
      this.#guard(item.source, () => this.#item(item));
      if (this.#sink.size > MAX_SECTION_BYTES) {
        this.problems.push([
          item.source,
          new LineError(item.column, "the section exceeds 1 GiB"),
        ]);
        break;
      }
    }
    this.sections.push({
      name: section.name,
      address: Number(BigInt.asUintN(53, this.#physical)),
      virtualAddress: this.#base,
      bytes: this.#sink.bytes(),
      size: this.#sink.size,
    });
    return this.#physical + BigInt(this.#sink.size);
  }

  #guard(source: SourceLine, work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!(error instanceof LineError)) throw error;
      this.problems.push([source, error]);
    }
  }

  #symbol(name: string, column: number): bigint {
    const value = this.now.get(name) ?? this.#before.get(name);
    if (value !== undefined) return value;
    // Defined further down, value not known yet: the best guess is "near".
    if (this.#program.defined.has(name)) return this.#here;
    const near = nearest(name, [
      ...this.#program.defined.keys(),
      ...registerNames(),
    ]);
    throw new LineError(
      column,
      `\`${name}\` isn't defined` +
        (near === undefined
          ? ": accepted are registers, labels, equ constants and numbers"
          : `: the nearest name is \`${near}\``),
    );
  }

  #item(item: Item): void {
    const start = this.#here;
    switch (item.k) {
      case "label":
        this.now.set(item.name, start);
        this.labelBits.set(item.name, item.bits);
        return;
      case "equ":
        this.now.set(item.name, evaluate(item.expr, this.#env));
        return;
      case "instruction": {
        const bytes = this.#instruction(item);
        this.#sink.push(bytes);
        this.#mapLine(item, start, bytes.length, item.text.bits);
        return;
      }
      case "data": {
        const size = this.#sink.size;
        this.#data(item);
        this.#mapLine(item, start, this.#sink.size - size, undefined);
        return;
      }
      case "reserve": {
        const count = this.#count(item.count, item.column);
        this.#sink.size += count * item.unit;
        return;
      }
      case "align": {
        const to = this.#alignment(item.to);
        const gap = Number(roundUp(start, to) - start);
        if (item.fill === undefined && !this.#isCode) this.#sink.size += gap;
        else {
          const fill = item.fill === undefined
            ? 0x90n
            : evaluate(item.fill, this.#env);
          this.#sink.push(
            new Uint8Array(gap).fill(Number(BigInt.asUintN(8, fill))),
          );
        }
        return;
      }
      case "times": {
        const count = this.#count(item.count, item.column);
        if (this.#repeatFixed(item.item, count)) return;
        if (count > MAX_REPEATS) {
          throw new LineError(
            item.column,
            `times ${count}: accepted are up to 2^20 for what is encoded ` +
              "anew each time, 2^30 bytes for plain data",
          );
        }
        for (let n = 0; n < count; n++) this.#item(item.item);
        return;
      }
    }
  }

  /** TIMES of bytes that no address influences: made once, copied. */
  #repeatFixed(item: Item, count: number): boolean {
    if (item.k !== "data") return false;
    const isFixed = item.values.every((v) =>
      v.k === "bytes" || isConstant(v.expr)
    );
    if (!isFixed || count < 2) return false;
    const start = this.#here;
    const from = this.#sink.size;
    this.#data(item);
    const once = this.#sink.size - from;
    if (once * count > MAX_SECTION_BYTES) {
      throw new LineError(
        item.column,
        `times ${count} makes ${once * count} bytes: accepted are up to 1 GiB`,
      );
    }
    this.#sink.repeat(once, count - 1);
    this.#mapLine(item, start, once * count, undefined);
    return true;
  }

  #mapLine(
    item: Item,
    address: bigint,
    length: number,
    bits: Bits | undefined,
  ): void {
    if (length === 0) return;
    const line = item.source.line;
    this.lines.push(
      bits === undefined
        ? { address, length, line }
        : { address, length, line, bits },
    );
  }

  #instruction(item: Item & { k: "instruction" }): Uint8Array {
    if (item.fixed !== undefined) return item.fixed;
    try {
      const bytes = encodeInstruction(
        item.text,
        this.#here,
        this.#env,
        item.minimum,
      );
      if (bytes.length > item.minimum) {
        item.minimum = bytes.length;
        this.grew = true;
      }
      if (item.text.operands.every(isPlaceless)) item.fixed = bytes;
      return bytes;
    } catch (error) {
      if (!(error instanceof LineError)) throw error;
      this.problems.push([item.source, error]);
      // Keep the length so that labels settle in spite of the error.
      return new Uint8Array(item.minimum);
    }
  }

  #data(item: Item & { k: "data" }): void {
    const start = this.#here;
    const env: Environment = {
      symbol: (name, column) => this.#symbol(name, column),
      here: start,
      base: this.#base,
    };
    for (const value of item.values) {
      if (value.k === "bytes") {
        this.#sink.push(value.bytes);
        continue;
      }
      const bits = item.unit * 8;
      let number = 0n;
      this.#guard(item.source, () => {
        number = evaluate(value.expr, env);
        if (!fits(number, bits)) {
          throw new LineError(
            value.column,
            `${number} doesn't fit ${bits} bits: accepted are ` +
              `${-(1n << BigInt(bits - 1))} to ${(1n << BigInt(bits)) - 1n}`,
          );
        }
      });
      const bytes = new Uint8Array(item.unit);
      let rest = BigInt.asUintN(bits, number);
      for (let i = 0; i < item.unit; i++) {
        bytes[i] = Number(rest & 0xffn);
        rest >>= 8n;
      }
      this.#sink.push(bytes);
    }
  }

  #alignment(expr: Expr): bigint {
    const value = evaluate(expr, this.#env);
    if (value < 1n || value > 1n << 30n || (value & (value - 1n)) !== 0n) {
      throw new LineError(
        1,
        `alignment ${value}: accepted are powers of two from 1 to 2^30`,
      );
    }
    return value;
  }

  #count(expr: Expr, column: number): number {
    const value = evaluate(expr, this.#env);
    if (value < 0n || value > BigInt(MAX_SECTION_BYTES)) {
      throw new LineError(
        column,
        `a count of ${value}: accepted are 0 to 2^30` +
          (value < 0n ? " (what stands before is already too long)" : ""),
      );
    }
    return Number(value);
  }
}

/** Is the encoding independent of addresses? */
function isPlaceless(operand: Operand): boolean {
  switch (operand.k) {
    case "reg":
      return true;
    case "imm":
      // Any number may be a branch target, encoded relative to the place.
      return false;
    case "far":
      return isConstant(operand.selector) && isConstant(operand.offset);
    case "mem":
      return operand.relative === undefined &&
        (operand.displacement === undefined ||
          isConstant(operand.displacement));
  }
}

function roundUp(value: bigint, to: bigint): bigint {
  return (value + to - 1n) / to * to;
}
