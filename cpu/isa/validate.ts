/**
 * Checks that the ISA table is well formed: what no type can say. Called when
 * the table is built, and by tests with broken tables.
 */
import type { Row } from "./row.ts";

/** Name and variant, as messages show a row. */
export function rowLabel(row: Row): string {
  return row.variant === undefined ? row.name : `${row.name} (${row.variant})`;
}

/** Every problem found, as text naming the row; empty when all is well. */
export function validateRows(rows: readonly Row[]): string[] {
  const problems: string[] = [];
  const names = new Set<string>();
  const codes = new Map<string, string>();
  for (const row of rows) {
    const label = rowLabel(row);
    const complain = (what: string): void => {
      problems.push(`row ${label} ${what}`);
    };
    if (names.has(label)) complain("exists twice");
    names.add(label);
    if ((row.emit === undefined) === (row.call === undefined)) {
      complain("needs exactly one of emit and call");
    }
    if (row.quick !== undefined && row.call === undefined) {
      complain("has a quick case but no call");
    }
    if (row.codes.length === 0) complain("covers no code");
    for (const code of row.codes) {
      const other = codes.get(code);
      if (other !== undefined) complain(`and row ${other} both cover ${code}`);
      codes.set(code, label);
    }
    if (row.intercept !== undefined && row.call === undefined) {
      complain("has an intercept but no call");
    }
    if (row.privileged && row.call === undefined) {
      complain("is privileged but has no call");
    }
    if (row.legacyOnly && row.longOnly) {
      complain("is both legacyOnly and longOnly");
    }
    if (row.manual === "") complain("has no manual reference");
  }
  return problems;
}
