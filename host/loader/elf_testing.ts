/**
 * Test support: writes small ELF files field by field (TIS ELF 1.2).
 * Invariant: shares no code with the reader under test.
 */

/** What the file shall contain. */
export interface ElfParts {
  is64?: boolean;
  machine?: number;
  type?: number;
  entry?: number;
  loads?: {
    physical: number;
    virtual: number;
    bytes: Uint8Array;
    size: number;
  }[];
  symbols?: { name: string; value: number; size: number; type: number }[];
}

/** Writes an ELF file with program headers, symbols and strings. */
export function makeElf(parts: ElfParts): Uint8Array {
  const is64 = parts.is64 ?? true;
  const loads = parts.loads ?? [];
  const symbols = parts.symbols ?? [];
  const header = is64 ? 64 : 52;
  const programHeader = is64 ? 56 : 32;
  const out: number[] = [];
  const word = (at: number, value: number, size: number): void => {
    for (let i = 0; i < size; i++) {
      out[at + i] = Number((BigInt(value) >> BigInt(8 * i)) & 0xffn);
    }
  };
  let at = header + loads.length * programHeader;
  const offsets = loads.map((l) => {
    const mine = at;
    l.bytes.forEach((b, i) => out[mine + i] = b);
    at += l.bytes.length;
    return mine;
  });
  loads.forEach((l, i) => {
    const p = header + i * programHeader;
    word(p, 1, 4);
    if (is64) {
      word(p + 8, offsets[i], 8);
      word(p + 16, l.virtual, 8);
      word(p + 24, l.physical, 8);
      word(p + 32, l.bytes.length, 8);
      word(p + 40, l.size, 8);
    } else {
      word(p + 4, offsets[i], 4);
      word(p + 8, l.virtual, 4);
      word(p + 12, l.physical, 4);
      word(p + 16, l.bytes.length, 4);
      word(p + 20, l.size, 4);
    }
  });
  let names = "\0";
  const symbolSize = is64 ? 24 : 16;
  const table = at;
  [undefined, ...symbols].forEach((s, i) => {
    const o = table + i * symbolSize;
    word(o + symbolSize - 1, 0, 1);
    if (s === undefined) return;
    word(o, names.length, 4);
    names += s.name + "\0";
    word(o + (is64 ? 4 : 12), 0x10 | s.type, 1);
    word(o + (is64 ? 6 : 14), 1, 2);
    word(o + (is64 ? 8 : 4), s.value, is64 ? 8 : 4);
    word(o + (is64 ? 16 : 8), s.size, is64 ? 8 : 4);
  });
  const tableSize = (symbols.length + 1) * symbolSize;
  const strings = table + tableSize;
  [...names].forEach((c, i) => out[strings + i] = c.charCodeAt(0));
  const sections = strings + names.length;
  const sectionHeader = is64 ? 64 : 40;
  const rows = [[0, 0, 0, 0], [2, table, tableSize, 2], [
    3,
    strings,
    names.length,
    0,
  ]];
  rows.forEach(([type, offset, size, link], i) => {
    const o = sections + i * sectionHeader;
    word(o + 4, type, 4);
    word(o + (is64 ? 24 : 16), offset, 4);
    word(o + (is64 ? 32 : 20), size, 4);
    word(o + (is64 ? 40 : 24), link, 4);
    word(o + sectionHeader - 1, 0, 1);
  });
  word(0, 0x464c457f, 4);
  word(4, is64 ? 2 : 1, 1);
  word(5, 1, 1);
  word(16, parts.type ?? 2, 2);
  word(18, parts.machine ?? (is64 ? 62 : 3), 2);
  word(24, parts.entry ?? 0, is64 ? 8 : 4);
  word(is64 ? 32 : 28, header, 4);
  word(is64 ? 40 : 32, sections, 4);
  word(is64 ? 54 : 42, programHeader, 2);
  word(is64 ? 56 : 44, loads.length, 2);
  word(is64 ? 58 : 46, sectionHeader, 2);
  word(is64 ? 60 : 48, 3, 2);
  return Uint8Array.from(out, (b) => b ?? 0);
}
