/**
 * Symbols of a guest: from an address to `name+offset` and back.
 * Invariant: sorted by address; of several names for one address the first
 * listed wins, so that lookups are deterministic.
 */
import type { GuestSymbol } from "../machines.ts";

/** A symbol; `size` 0 means that it reaches to the next one. */
export interface SizedSymbol extends GuestSymbol {
  readonly size: number;
}

/** A place as a symbol and a distance from it. */
export interface SymbolPlace {
  readonly name: string;
  readonly offset: bigint;
}

/** A sorted list of symbols. */
export class SymbolTable {
  /** All symbols, ascending by address. */
  readonly all: readonly SizedSymbol[];
  readonly #byName = new Map<string, bigint>();

  constructor(symbols: Iterable<SizedSymbol>) {
    this.all = [...symbols].map((symbol, i) => ({ symbol, i }))
      .sort((a, b) =>
        a.symbol.address < b.symbol.address
          ? -1
          : a.symbol.address > b.symbol.address
          ? 1
          : a.i - b.i
      )
      .map(({ symbol }) => symbol);
    for (const { name, address } of this.all) {
      if (!this.#byName.has(name)) this.#byName.set(name, address);
    }
  }

  /** A table without symbols. */
  static readonly empty: SymbolTable = new SymbolTable([]);

  /** The address of a name, or undefined. */
  address(name: string): bigint | undefined {
    return this.#byName.get(name);
  }

  /**
   * The symbol that covers `address`: the last one at or below it, unless its
   * stated size ends before.
   */
  lookup(address: bigint): SymbolPlace | undefined {
    let low = 0;
    let high = this.all.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.all[middle].address <= address) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return undefined;
    let i = low - 1;
    while (i > 0 && this.all[i - 1].address === this.all[i].address) i--;
    const { name, address: start, size } = this.all[i];
    const offset = address - start;
    if (size > 0 && offset >= BigInt(size)) return undefined;
    return { name, offset };
  }

  /** `name+0x12`, `name`, or undefined. */
  show(address: bigint): string | undefined {
    const place = this.lookup(address);
    if (place === undefined) return undefined;
    return place.offset === 0n
      ? place.name
      : `${place.name}+0x${place.offset.toString(16)}`;
  }
}
