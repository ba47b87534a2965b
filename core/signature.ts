/**
 * Signatures read back into fields, so that a tape's in-band schema is enough
 * to read its payloads. Grammar: `u8 u16 u32 u64 u53 bool text bytes`,
 * `oneOf(a|b)`, `list(F)`, `maybe(F)`, `record(name:F,…)`.
 * Invariant: `fieldOf(f.signature)` has the bytes and text of `f`.
 */
import { list, maybe, record } from "./composite.ts";
import { bool, bytes, oneOf, text, u16, u32, u53, u64, u8 } from "./fields.ts";
import type { Field, Fields } from "./fields.ts";

const ATOMS: { readonly [name: string]: () => Field<unknown> } = {
  u8: () => u8(),
  u16: () => u16(),
  u32: () => u32(),
  u53: () => u53(),
  u64: () => u64(),
  bool: () => bool(),
  text: () => text(),
  bytes: () => bytes(),
};

/** Nesting at which a signature is taken to be damaged. */
const MAX_DEPTH = 32;

class Parser {
  at = 0;
  constructor(readonly source: string) {}

  fail(expected: string): never {
    throw new RangeError(
      `read the layout ${
        JSON.stringify(this.source)
      } at ${this.at}: expected ` +
        expected,
    );
  }
  word(pattern: RegExp, expected: string): string {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.source)?.[0];
    if (found === undefined || found === "") this.fail(expected);
    this.at += found.length;
    return found;
  }
  take(mark: string): void {
    if (this.source[this.at] !== mark) this.fail(mark);
    this.at++;
  }

  field(depth: number): Field<unknown> {
    if (depth > MAX_DEPTH) this.fail("less nesting");
    const name = this.word(/[A-Za-z0-9]+/y, "the name of a field type");
    if (Object.hasOwn(ATOMS, name)) return ATOMS[name]();
    if (!["oneOf", "list", "maybe", "record"].includes(name)) {
      this.at -= name.length;
      this.fail("a known field type");
    }
    this.take("(");
    const field = this.inside(name, depth);
    this.take(")");
    return field;
  }

  inside(name: string, depth: number): Field<unknown> {
    if (name === "list") return list(this.field(depth + 1));
    if (name === "maybe") return maybe(this.field(depth + 1));
    if (name === "record") return record(this.members(depth + 1));
    const words = this.word(/[A-Za-z0-9_.#+|-]+/y, "words").split("|");
    return oneOf(words as [string, ...string[]]);
  }

  members(depth: number): Fields {
    const fields: Record<string, Field<unknown>> = {};
    while (this.source[this.at] !== ")") {
      if (Object.keys(fields).length > 0) this.take(",");
      const name = this.word(/[A-Za-z][A-Za-z0-9]*/y, "a field's name");
      this.take(":");
      fields[name] = this.field(depth);
    }
    return fields;
  }

  end(): void {
    if (this.at !== this.source.length) this.fail("the end");
  }
}

/**
 * The field that a signature describes, without documentation.
 * @throws RangeError naming the place that can't be read
 */
export function fieldOf(signature: string): Field<unknown> {
  const parser = new Parser(signature);
  const field = parser.field(0);
  parser.end();
  return field;
}

/**
 * The fields of a `record(…)` signature, as `EventToken.signature` has it.
 * @throws RangeError naming the place that can't be read
 */
export function fieldsOf(signature: string): Fields {
  const parser = new Parser(signature);
  if (parser.word(/[A-Za-z]+/y, "record") !== "record") parser.fail("record");
  parser.take("(");
  const fields = parser.members(0);
  parser.take(")");
  parser.end();
  return fields;
}
