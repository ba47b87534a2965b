/**
 * Linux's own symbols out of its memory: the kallsyms tables (kernel sources,
 * scripts/kallsyms.c and kernel/kallsyms.c), found without knowing where the
 * kernel lies. Names are compressed by a table of 256 tokens; addresses are
 * 32-bit offsets to a base that the kernel relocates, so they are right under
 * KASLR too. Read are CONFIG_KALLSYMS_BASE_RELATIVE tables in both orders of
 * history: addresses before the names (to 6.3) or behind the tokens (since).
 * Invariant: every table found is checked against another; what does not agree
 * is not taken, and then there are no symbols rather than wrong ones.
 */
import { type MapSymbol, mapTable } from "./symbol_map.ts";
import type { SizedSymbol } from "./symbols.ts";

const TOKENS = 256;
/** Names between two markers. */
const MARKER_NAMES = 256;
const LONGEST_TOKEN = 128;
const LEAST_SYMBOLS = 1000;
const MOST_SYMBOLS = 1 << 22;
const DIGITS = "0123456789";
/** Padding of 8-aligned tables, at most. */
const ALIGN = 8;
const KERNEL_BASE = 0xffff_8000_0000_0000n;

const align = (at: number): number => (at + ALIGN - 1) & -ALIGN;

/** Places of the tables in physical memory. */
interface Tables {
  readonly count: number;
  readonly names: number;
  readonly markers: number;
  readonly tokens: readonly string[];
  /** End of the token index. */
  readonly end: number;
}

/** The symbols that the Linux kernel in `ram` holds; none if there is none. */
export function readKallsyms(ram: Uint8Array): readonly SizedSymbol[] {
  const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  for (
    let at = findDigits(ram, 0);
    at >= 0;
    at = findDigits(ram, at + 1)
  ) {
    const tables = tablesAround(ram, view, at);
    if (tables === undefined) continue;
    const symbols = symbolsOf(ram, view, tables);
    if (symbols !== undefined) return mapTable(symbols).all;
  }
  return [];
}

/** Where the tokens "0" to "9" stand one behind the other, from `from` on. */
function findDigits(ram: Uint8Array, from: number): number {
  const zero = DIGITS.charCodeAt(0);
  for (let at = ram.indexOf(zero, from); at >= 0;) {
    let i = 0;
    while (
      i < DIGITS.length && ram[at + 2 * i] === zero + i &&
      ram[at + 2 * i + 1] === 0
    ) i++;
    if (i === DIGITS.length) return at;
    at = ram.indexOf(zero, at + 1);
  }
  return -1;
}

/** The token table in which the digits stand at `digits`, and its neighbours. */
function tablesAround(
  ram: Uint8Array,
  view: DataView,
  digits: number,
): Tables | undefined {
  // tokens before "0", each ended by a zero byte, back to an aligned start
  let start = digits;
  for (let left = DIGITS.charCodeAt(0); left > 0; left--) {
    let at = start - 2; // over the zero byte that ends the token before
    const least = at - LONGEST_TOKEN;
    while (at >= 0 && at > least && ram[at] !== 0) at--;
    if (at < 0 || at === least) return undefined;
    start = at + 1;
  }
  if (start % ALIGN !== 0) return undefined;
  const tokens: string[] = [];
  const offsets: number[] = [];
  let at = start;
  for (let i = 0; i < TOKENS; i++) {
    const end = ram.indexOf(0, at);
    if (end < 0 || end - at > LONGEST_TOKEN) return undefined;
    offsets.push(at - start);
    tokens.push(String.fromCharCode(...ram.subarray(at, end)));
    at = end + 1;
  }
  const index = align(at);
  for (let i = 0; i < TOKENS; i++) {
    if (view.getUint16(index + 2 * i, true) !== offsets[i]) return undefined;
  }
  const found = namesBefore(ram, view, start);
  return found === undefined
    ? undefined
    : { ...found, tokens, end: index + 2 * TOKENS };
}

/**
 * Names and markers before the tokens: the markers end there, or (since 6.2)
 * three bytes for each symbol lie between, the order of names.
 */
function namesBefore(
  ram: Uint8Array,
  view: DataView,
  tokens: number,
): Pick<Tables, "count" | "names" | "markers"> | undefined {
  const far = tokens - (3 + 1) * MOST_SYMBOLS;
  for (let at = tokens - ALIGN; at >= 0 && at >= far; at -= ALIGN) {
    if (view.getUint32(at, true) !== 0) continue;
    const many = markersAt(view, at, tokens);
    if (many * MARKER_NAMES < LEAST_SYMBOLS) continue;
    const between = tokens - at - align(4 * many);
    const found = namesOf(ram, view, at, many);
    if (found === undefined) continue;
    if (between === 0 || between === align(3 * found.count)) return found;
  }
  return undefined;
}

/** How many markers stand at `at`: each a plausible distance from the last. */
function markersAt(view: DataView, at: number, end: number): number {
  let many = 1;
  let last = 0;
  for (let next = at + 4; next + 4 <= end; next += 4) {
    const value = view.getUint32(next, true);
    const length = value - last;
    if (length < 2 * MARKER_NAMES || length > LONGEST_TOKEN * MARKER_NAMES) {
      break;
    }
    last = value;
    many++;
  }
  return many;
}

/** The names to which `many` markers belong, right before them. */
function namesOf(
  ram: Uint8Array,
  view: DataView,
  markers: number,
  many: number,
): Pick<Tables, "count" | "names" | "markers"> | undefined {
  const most = many * MARKER_NAMES;
  const last = view.getUint32(markers + 4 * (many - 1), true);
  // from the start of the names over the last marker's to the first marker
  const first = (markers - last) & -ALIGN;
  const least = Math.max(ALIGN, first - MARKER_NAMES * LONGEST_TOKEN);
  for (let names = first; names >= least; names -= ALIGN) {
    const count = view.getUint32(names - ALIGN, true);
    if (count > most || count <= most - MARKER_NAMES) continue;
    const end = skipNames(ram, view, names, markers, count);
    if (end !== undefined && align(end) === markers) {
      return { count, names, markers };
    }
  }
  return undefined;
}

/** Length of the name at `at` in tokens, and where they start. */
function nameAt(ram: Uint8Array, at: number): { from: number; length: number } {
  // names of 128 tokens and more have a length of two bytes (since 6.1)
  const head = ram[at];
  return (head & 0x80) === 0
    ? { from: at + 1, length: head }
    : { from: at + 2, length: (head & 0x7f) | ram[at + 1] << 7 };
}

/** Where `count` names end whose markers agree; undefined if they don't. */
function skipNames(
  ram: Uint8Array,
  view: DataView,
  names: number,
  markers: number,
  count: number,
): number | undefined {
  let at = names;
  for (let i = 0; i < count; i++) {
    if (
      i % MARKER_NAMES === 0 &&
      view.getUint32(markers + i / MARKER_NAMES * 4, true) !== at - names
    ) return undefined;
    const { from, length } = nameAt(ram, at);
    at = from + length;
    if (length === 0 || at > markers) return undefined;
  }
  return at;
}

/** The symbols of checked tables; undefined if no address table agrees. */
function symbolsOf(
  ram: Uint8Array,
  view: DataView,
  tables: Tables,
): MapSymbol[] | undefined {
  const { count, names, tokens, end } = tables;
  const bytes = align(4 * count);
  const layouts = [
    // offsets, base, number, names
    { offsets: names - 2 * ALIGN - bytes, base: names - 2 * ALIGN },
    // … token index, offsets, base
    { offsets: align(end), base: align(end) + bytes },
  ];
  const layout = layouts.find(({ offsets, base }) =>
    offsets >= 0 && base + 8 <= ram.length &&
    view.getBigUint64(base, true) >= KERNEL_BASE
  );
  if (layout === undefined) return undefined;
  const base = view.getBigUint64(layout.base, true);
  const symbols: MapSymbol[] = [];
  let at = names;
  for (let i = 0; i < count; i++) {
    const { from, length } = nameAt(ram, at);
    at = from + length;
    let text = "";
    for (let t = from; t < at; t++) text += tokens[ram[t]];
    // CONFIG_KALLSYMS_ABSOLUTE_PERCPU: what isn't negative is absolute
    const offset = view.getInt32(layout.offsets + 4 * i, true);
    const address = offset >= 0 ? BigInt(offset) : base - 1n - BigInt(offset);
    symbols.push({ address, type: text[0], name: text.slice(1) });
  }
  return symbols.some(({ address }) => address >= KERNEL_BASE)
    ? symbols
    : undefined;
}
