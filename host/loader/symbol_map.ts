/**
 * From a list of "address type name", as System.map and kallsyms have it, to a
 * table that can be looked up: what such lists leave out is made up for here.
 * Invariant: an address is only named after a symbol that can cover it: none
 * is named after per-CPU offsets or absolute constants, nor anything beyond
 * the last symbol's page.
 */
import { type SizedSymbol, SymbolTable } from "./symbols.ts";

/** One line of such a list. */
export interface MapSymbol {
  readonly address: bigint;
  /** nm's letter: t and T code, A absolute … */
  readonly type: string;
  readonly name: string;
}

/** Where the upper half of the canonical addresses begins. */
const UPPER_HALF = 0xffff_8000_0000_0000n;
/** Reach of a symbol behind which no other follows. */
const LAST_BYTES = 4096n;
/** A gap this long lies between two images, not inside a function. */
const LONGEST_BYTES = 1n << 24n;

const isCode = (type: string): boolean => /[tw]/i.test(type);

/** The table of a list. */
export function mapTable(symbols: readonly MapSymbol[]): SymbolTable {
  const isKernel = symbols.some(({ address, type }) =>
    isCode(type) && address >= UPPER_HALF
  );
  const kept = symbols.filter(({ address, type }) =>
    isKernel ? address >= UPPER_HALF : type.toUpperCase() !== "A"
  );
  // of several names for an address, one of code, and not a section's mark
  const rank = ({ type, name }: MapSymbol): number =>
    (isCode(type) ? 0 : 2) + (name.startsWith("_") ? 1 : 0);
  const sorted = kept.map((symbol, i) => ({ symbol, i })).sort((a, b) =>
    a.symbol.address < b.symbol.address
      ? -1
      : a.symbol.address > b.symbol.address
      ? 1
      : rank(a.symbol) - rank(b.symbol) || a.i - b.i
  ).map(({ symbol }) => symbol);
  const sized: SizedSymbol[] = [];
  let next: bigint | undefined;
  for (let i = sorted.length - 1; i >= 0; i--) {
    const { name, address } = sorted[i];
    const later = sorted[i + 1]?.address;
    if (later !== undefined && later !== address) next = later;
    const reach = next === undefined || next - address > LONGEST_BYTES
      ? LAST_BYTES
      : next - address;
    sized.push({ name, address, size: Number(reach) });
  }
  return new SymbolTable(sized.reverse());
}
