/**
 * Statements: turns preprocessed lines into items (labels, instructions,
 * data, reservations …) grouped by section. Addresses come later (layout.ts).
 * Invariant: every item keeps its source line and column.
 */
import {
  evaluate,
  type Expr,
  isConstant,
  parseExpression,
} from "./expression.ts";
import { unknownMnemonic } from "./diagnose.ts";
import { isInstruction, parseInstruction } from "./instruction.ts";
import { DATA, parseValues, RESERVE } from "./data.ts";
import { tokenize, TokenReader } from "./lexer.ts";
import type { OperandContext } from "./operands.ts";
import type { SourceLine } from "./preprocess.ts";
import type { Item, Program, SectionText } from "./program.ts";
import { registerByName } from "./registers.ts";
import { nearest } from "../../core/nearest.ts";
import { type Bits, LineError } from "./types.ts";

const DIRECTIVES = [
  "align",
  "alignb",
  "bits",
  "cpu",
  "default",
  "entry",
  "equ",
  "global",
  "org",
  "section",
  "segment",
  "times",
  "use16",
  "use32",
  "use64",
];
const ALL_DIRECTIVES = [...DATA.keys(), ...RESERVE.keys(), ...DIRECTIVES];

/** Collects a program line by line. */
export class ProgramParser {
  readonly program: Program = {
    sections: [],
    defined: new Map(),
    labels: new Set(),
    globals: [],
    entry: undefined,
  };
  #bits: Bits;
  #section: SectionText | undefined;
  #parent = "";
  /** `cpu knc`: Knights Corner's MVEX forms are accepted. */
  #knc = false;
  #defaultRelative = false;
  #line: SourceLine = { text: "", line: 1 };
  readonly #known = new Map<string, bigint>();
  readonly #context: OperandContext;

  constructor(
    bits: Bits,
    constants: Readonly<Record<string, number | bigint>>,
  ) {
    this.#bits = bits;
    for (const [name, value] of Object.entries(constants)) {
      this.#known.set(name, BigInt(value));
    }
    const isRelative = (): boolean => this.#defaultRelative;
    this.#context = {
      register: registerByName,
      symbol: (name) => this.#fullName(name),
      constant: (e) => this.#constant(e),
      get defaultRelative() {
        return isRelative();
      },
    };
  }

  /** Parses one line. Throws LineError; what was parsed before it stays. */
  line(source: SourceLine): void {
    this.#line = source;
    const reader = new TokenReader(
      tokenize(source.text),
      source.text.trimEnd().length + 1,
    );
    if (reader.done) return;
    // [bits 64], [org 0x7c00]: the bracketed spelling of directives.
    const bracketed = reader.at("[") &&
      ALL_DIRECTIVES.includes(reader.word(1) ?? "");
    if (bracketed) reader.next();
    this.#statement(reader, false);
    if (bracketed) reader.expect("]", "directive");
    if (!reader.done) {
      throw new LineError(
        reader.column,
        `found ${reader.found()} after the statement: expected the line's ` +
          "end or a `;` comment",
      );
    }
  }

  #fullName(name: string): string {
    return name.startsWith(".") && !name.startsWith("..")
      ? this.#parent + name
      : name;
  }

  #constant(e: Expr): bigint {
    return evaluate(e, {
      here: 0n,
      base: 0n,
      symbol: (name, column) => {
        const value = this.#known.get(name);
        if (value !== undefined) return value;
        throw new LineError(
          column,
          `\`${name}\` isn't known here: a number is needed at once, so its ` +
            "equ must stand above this line",
        );
      },
    });
  }

  #current(): SectionText {
    return this.#section ??= this.#open(".text");
  }

  #open(name: string): SectionText {
    const existing = this.program.sections.find((s) => s.name === name);
    if (existing !== undefined) return existing;
    const section: SectionText = {
      name,
      items: [],
      source: this.#line,
      start: undefined,
      vstart: undefined,
      align: undefined,
      isCode: !/^\.(data|rodata|bss)/.test(name),
      isBss: name.startsWith(".bss"),
    };
    this.program.sections.push(section);
    return section;
  }

  #define(name: string, column: number): void {
    const before = this.program.defined.get(name);
    if (before !== undefined) {
      throw new LineError(
        column,
        `\`${name}\` is already defined at line ${before.line}: rename one`,
      );
    }
    if (this.#known.has(name)) {
      throw new LineError(
        column,
        `\`${name}\` is already defined by the constants option: rename one`,
      );
    }
    this.program.defined.set(name, this.#line);
  }

  #label(written: string, column: number): void {
    if (registerByName(written.toLowerCase()) !== undefined) {
      throw new LineError(
        column,
        `\`${written}\` is a register: a label needs another name`,
      );
    }
    const name = this.#fullName(written);
    if (!written.startsWith(".")) this.#parent = written;
    this.#define(name, column);
    this.program.labels.add(name);
    this.#current().items.push({
      k: "label",
      name,
      bits: this.#bits,
      source: this.#line,
      column,
    });
  }

  #statement(reader: TokenReader, inTimes: boolean): void {
    const first = reader.peek();
    if (first === undefined) return;
    if (first.kind !== "name") {
      throw new LineError(
        first.column,
        `found ${reader.found()}: a statement starts with a label, an ` +
          "instruction or a directive",
      );
    }
    const column = first.column;
    if (!inTimes) {
      if (reader.at(":", 1)) {
        reader.next();
        reader.next();
        if (reader.word() === "equ") this.#equ(reader, first.text, column);
        else {
          this.#label(first.text, column);
          this.#statement(reader, false);
        }
        return;
      }
      if (reader.word(1) === "equ") {
        reader.next();
        this.#equ(reader, first.text, column);
        return;
      }
    }
    const word = first.text.toLowerCase();
    if (DATA.has(word) || RESERVE.has(word) || word === "times") {
      reader.next();
      this.#current().items.push(this.#placed(reader, word, column));
    } else if (DIRECTIVES.includes(word)) {
      reader.next();
      this.#directive(reader, word, column);
    } else if (isInstruction(word, this.#bits, this.#knc)) {
      this.#current().items.push(this.#instruction(reader, column));
    } else {
      const next = reader.word(1);
      if (
        !inTimes && next !== undefined &&
        (DATA.has(next) || RESERVE.has(next) || next === "times")
      ) {
        reader.next();
        this.#label(first.text, column);
        this.#statement(reader, false);
        return;
      }
      throw unknownMnemonic(word, this.#bits, column, ALL_DIRECTIVES);
    }
  }

  #equ(reader: TokenReader, written: string, column: number): void {
    reader.next();
    const name = this.#fullName(written);
    const expr = parseExpression(reader, this.#context, "equ");
    this.#define(name, column);
    try {
      this.#known.set(name, this.#constant(expr));
      if (!isConstant(expr, this.#known)) this.#known.delete(name);
    } catch (error) {
      // It depends on labels: layout will evaluate it.
      if (!(error instanceof LineError)) throw error;
    }
    this.#current().items.push({
      k: "equ",
      name,
      expr,
      source: this.#line,
      column,
    });
  }

  /** DB …, RESB …, TIMES … or an instruction: something that takes space. */
  #placed(reader: TokenReader, word: string, column: number): Item {
    const source = this.#line;
    const unit = DATA.get(word);
    if (unit !== undefined) {
      return {
        k: "data",
        unit,
        values: parseValues(reader, this.#context, word, unit),
        source,
        column,
      };
    }
    const reserved = RESERVE.get(word);
    if (reserved !== undefined) {
      const count = parseExpression(reader, this.#context, word);
      return { k: "reserve", unit: reserved, count, source, column };
    }
    if (word === "times") {
      const count = parseExpression(reader, this.#context, "times");
      const inner = reader.word();
      if (inner === undefined) {
        throw new LineError(
          reader.column,
          `times: found ${reader.found()}, expected data or an instruction`,
        );
      }
      const at = reader.column;
      if (DATA.has(inner) || RESERVE.has(inner) || inner === "times") {
        reader.next();
        const item = this.#placed(reader, inner, at);
        return { k: "times", count, item, source, column };
      }
      if (!isInstruction(inner, this.#bits, this.#knc)) {
        throw unknownMnemonic(inner, this.#bits, at, ALL_DIRECTIVES);
      }
      const item = this.#instruction(reader, at);
      return { k: "times", count, item, source, column };
    }
    return this.#instruction(reader, column);
  }

  #instruction(reader: TokenReader, column: number): Item {
    const text = parseInstruction(reader, column, this.#context, {
      bits: this.#bits,
      knc: this.#knc,
      others: ALL_DIRECTIVES,
    });
    return {
      k: "instruction",
      text,
      minimum: 0,
      fixed: undefined,
      source: this.#line,
      column,
    };
  }

  #directive(reader: TokenReader, word: string, column: number): void {
    switch (word) {
      case "bits":
      case "use16":
      case "use32":
      case "use64":
        this.#setBits(reader, word);
        return;
      case "cpu":
        if (reader.takeWord("knc")) this.#knc = true;
        else if (reader.takeWord("x64")) this.#knc = false;
        else {
          throw new LineError(
            reader.column,
            `cpu: found ${reader.found()}, accepted are x64 and knc (Knights ` +
              "Corner, adds its MVEX instructions)",
          );
        }
        return;
      case "default":
        if (reader.takeWord("rel")) this.#defaultRelative = true;
        else if (reader.takeWord("abs")) this.#defaultRelative = false;
        else {
          throw new LineError(
            reader.column,
            `default: found ${reader.found()}, accepted are rel and abs`,
          );
        }
        return;
      case "section":
      case "segment":
        this.#openSection(reader);
        return;
      case "org": {
        const start = parseExpression(reader, this.#context, "org");
        let section = this.#current();
        if (section.items.some(takesSpace) || section.start !== undefined) {
          // A further org starts a block of its own at that address.
          const count = this.program.sections.length;
          section = this.#section = this.#open(`${section.name}.org${count}`);
        }
        section.start = start;
        return;
      }
      case "align":
      case "alignb": {
        const to = parseExpression(reader, this.#context, "align");
        let fill: Expr | undefined;
        if (reader.take(",")) {
          if (!reader.takeWord("db")) reader.takeWord("nop");
          if (!reader.done) {
            fill = parseExpression(reader, this.#context, "align");
          }
        }
        const source = this.#line;
        this.#current().items.push({ k: "align", to, fill, source, column });
        return;
      }
      case "global":
      case "entry":
        do {
          const token = reader.peek();
          if (token?.kind !== "name") {
            throw new LineError(
              reader.column,
              `${word}: found ${reader.found()}, expected a label`,
            );
          }
          reader.next();
          const named = {
            name: this.#fullName(token.text),
            source: this.#line,
            column: token.column,
          };
          if (word === "entry") this.program.entry = named;
          else this.program.globals.push(named);
        } while (reader.take(","));
        return;
      default:
        throw new LineError(column, "equ needs a name in front of it");
    }
  }

  #setBits(reader: TokenReader, word: string): void {
    let value = Number(word.slice(3));
    if (word === "bits") {
      const column = reader.column;
      value = Number(
        this.#constant(parseExpression(reader, this.#context, "bits")),
      );
      if (value !== 16 && value !== 32 && value !== 64) {
        throw new LineError(
          column,
          `bits: found ${value}, accepted are 16, 32 and 64`,
        );
      }
    }
    this.#bits = value as Bits;
  }

  #openSection(reader: TokenReader): void {
    const token = reader.peek();
    if (token?.kind !== "name") {
      throw new LineError(
        reader.column,
        `section: found ${reader.found()}, expected a name such as .text`,
      );
    }
    reader.next();
    const section = this.#section = this.#open(token.text);
    while (!reader.done) {
      const key = reader.word();
      const column = reader.column;
      if (key === "start" || key === "vstart" || key === "align") {
        reader.next();
        reader.expect("=", `section ${key}`);
        section[key] = parseExpression(reader, this.#context, key);
      } else if (
        key !== undefined &&
        /^(no)?(bits|exec|write|alloc)$|^progbits$/.test(key)
      ) {
        reader.next(); // accepted and meaningless in a flat image
      } else {
        const near = key && nearest(key, ["start", "vstart", "align"]);
        throw new LineError(
          column,
          `section: found ${reader.found()}, accepted are start=, vstart= ` +
            `and align=${near ? ` (did you mean ${near}=?)` : ""}`,
        );
      }
    }
  }
}

function takesSpace(item: Item): boolean {
  return item.k !== "equ" && item.k !== "label";
}
