/**
 * The ISA table (design §7): every row there is, and the row of each iced-x86
 * code name. Whoever adds a file of rows appends its array to SOURCES.
 */
import { BIT_ROWS } from "./rows/bits.ts";
import { CONTROL_ROWS } from "./rows/control.ts";
import { FPU_CONTROL_ROWS } from "./rows/fpu_control.ts";
import { FPU_DATA_ROWS } from "./rows/fpu_data.ts";
import { INTEGER_ROWS } from "./rows/integer.ts";
import { MOVE_ROWS } from "./rows/move.ts";
import { SIMD_FLOAT_ROWS } from "./rows/simd_float.ts";
import { SIMD_INTEGER_ROWS } from "./rows/simd_integer.ts";
import { SIMD_MOVE_ROWS } from "./rows/simd_move.ts";
import { SIMD_SSE4_ROWS } from "./rows/simd_sse4.ts";
import { SYSTEM_CONTROL_ROWS } from "./rows/system_control.ts";
import { SYSTEM_TRANSFER_ROWS } from "./rows/system_transfer.ts";
import { XSAVE_ROWS } from "./rows/xsave.ts";
import type { Row } from "./row.ts";
import { validateRows } from "./validate.ts";

/** Row arrays, in table order. Append only: `rowIndex` is this order. */
const SOURCES: readonly (readonly Row[])[] = [
  INTEGER_ROWS,
  BIT_ROWS,
  MOVE_ROWS,
  CONTROL_ROWS,
  FPU_CONTROL_ROWS,
  SYSTEM_TRANSFER_ROWS,
  SYSTEM_CONTROL_ROWS,
  SIMD_MOVE_ROWS,
  SIMD_INTEGER_ROWS,
  SIMD_SSE4_ROWS,
  XSAVE_ROWS,
  SIMD_FLOAT_ROWS,
  FPU_DATA_ROWS,
];

/** All rows; an instruction's `rowIndex` is its row's place here. */
export const ROWS: readonly Row[] = SOURCES.flat();

const problems = validateRows(ROWS);
if (problems.length > 0) {
  throw new Error(
    `build the ISA table: ${problems.join("; ")}; correct cpu/isa/rows/`,
  );
}

const byCode = new Map<string, number>();
ROWS.forEach((row, i) => row.codes.forEach((code) => byCode.set(code, i)));

/** Index of the row that implements an iced-x86 code, or −1. */
export function rowIndexOf(codeName: string): number {
  return byCode.get(codeName) ?? -1;
}
