/**
 * Data directives: DB, DW, DD, DQ, DT, DO with numbers, strings, floating
 * point and `?`. Invariant: a string fills whole units, zero-padded.
 */
import { type NameResolver, parseExpression } from "./expression.ts";
import { stringBytes, type TokenReader } from "./lexer.ts";
import type { DataValue } from "./program.ts";
import { LineError } from "./types.ts";

/** Data directives and the bytes of their unit. */
export const DATA: ReadonlyMap<string, number> = new Map([
  ["db", 1],
  ["dw", 2],
  ["dd", 4],
  ["dq", 8],
  ["dt", 10],
  ["do", 16],
]);
/** Reservation directives and the bytes of their unit. */
export const RESERVE: ReadonlyMap<string, number> = new Map([
  ["resb", 1],
  ["resw", 2],
  ["resd", 4],
  ["resq", 8],
  ["rest", 10],
  ["reso", 16],
]);
/** The values of a data directive, up to the line's end. */
export function parseValues(
  reader: TokenReader,
  names: NameResolver,
  word: string,
  unit: number,
): DataValue[] {
  const values: DataValue[] = [];
  do {
    const token = reader.peek();
    if (token === undefined) {
      throw new LineError(reader.column, `${word}: a value is missing`);
    }
    const ends = reader.peek(1) === undefined || reader.at(",", 1);
    const negative = reader.at("-") && reader.peek(1)?.kind === "float";
    if (token.kind === "string" && ends) {
      reader.next();
      const raw = stringBytes(token.text);
      const bytes = new Uint8Array(Math.ceil(raw.length / unit) * unit);
      bytes.set(raw);
      values.push({ k: "bytes", bytes });
    } else if (token.kind === "float" || negative) {
      if (negative) reader.next();
      const number = reader.next();
      const value = Number(number.text.replaceAll("_", ""));
      values.push({
        k: "bytes",
        bytes: floatBytes(negative ? -value : value, unit, number.column),
      });
    } else if (token.kind === "name" && token.text === "?" && ends) {
      reader.next();
      values.push({ k: "bytes", bytes: new Uint8Array(unit) });
    } else {
      const expr = parseExpression(reader, names, word);
      values.push({ k: "expr", expr, column: token.column });
    }
  } while (reader.take(",") && !reader.done);
  return values;
}

function floatBytes(value: number, unit: number, column: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(8));
  if (unit === 4) view.setFloat32(0, value, true);
  else if (unit === 8) view.setFloat64(0, value, true);
  else {
    throw new LineError(
      column,
      "a number with a decimal point: accepted in dd (single precision) and " +
        "dq (double precision)",
    );
  }
  return new Uint8Array(view.buffer, 0, unit);
}
