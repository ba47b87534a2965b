/**
 * ELF32 and ELF64 executables for x86 (TIS ELF 1.2; System V ABI, AMD64):
 * headers, PT_LOAD segments at their physical addresses, symbol table.
 * Invariant: every offset is checked against the file before it is used.
 */
import { ConfigError } from "../../core/errors.ts";
import { Gpr } from "../../cpu/layout.ts";
import { checkSegments, hex } from "./check.ts";
import { bootInformation } from "./multiboot_info.ts";
import { BOOT, bootTables, registers, startState } from "./start.ts";
import { type SizedSymbol, SymbolTable } from "./symbols.ts";
import type { LoadedGuest, LoadRequest, Segment } from "./types.ts";

const EM_386 = 3;
const EM_X86_64 = 62;
const ET_EXEC = 2;
const PT_LOAD = 1;
const SHT_SYMTAB = 2;
const STT_FUNC = 2;

/** An executable taken apart. */
export interface ElfImage {
  readonly is64: boolean;
  /** Entry point as linked. */
  readonly entry: bigint;
  /** Entry point in physical memory. */
  readonly physicalEntry: bigint;
  readonly segments: readonly Segment[];
  readonly symbols: SymbolTable;
}

/** Does the file begin with ELF's magic number? */
export function isElf(bytes: Uint8Array): boolean {
  return bytes.length >= 20 && bytes[0] === 0x7f && bytes[1] === 0x45 &&
    bytes[2] === 0x4c && bytes[3] === 0x46;
}

/**
 * Reads an executable.
 * @throws {ConfigError} naming the file, what is wrong and the remedy
 */
export function readElf(bytes: Uint8Array, file: string): ElfImage {
  const fail = (what: string, remedy: string): ConfigError =>
    new ConfigError(`read ELF ${file}: ${what}; ${remedy}`);
  if (!isElf(bytes)) {
    throw fail("no ELF magic number at offset 0", "give an ELF executable");
  }
  const [elfClass, encoding] = [bytes[4], bytes[5]];
  if ((elfClass !== 1 && elfClass !== 2) || encoding !== 1) {
    throw fail(
      `class ${elfClass}, byte order ${encoding}`,
      "give a little-endian 32-bit or 64-bit file",
    );
  }
  const is64 = elfClass === 2;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const need = (offset: number, length: number, what: string): void => {
    if (offset + length > bytes.length) {
      throw fail(
        `${what} lies at ${hex(offset)}, the file ends at ${hex(bytes.length)}`,
        "the file is truncated, build or copy it again",
      );
    }
  };
  need(0, is64 ? 64 : 52, "the ELF header");
  const machine = view.getUint16(18, true);
  if (machine !== EM_386 && machine !== EM_X86_64) {
    throw fail(`machine ${machine}`, "give one for x86 (3) or x86-64 (62)");
  }
  const type = view.getUint16(16, true);
  if (type !== ET_EXEC) {
    const kinds = ["none", "relocatable object", "executable", "shared/PIE"];
    throw fail(
      `it is a ${kinds[type] ?? `type ${type}`} file, not a fixed executable`,
      "link it with -static -no-pie at a fixed address",
    );
  }
  const word = (offset: number): number =>
    is64 ? toNumber(view.getBigUint64(offset, true)) : view.getUint32(
      offset,
      true,
    );
  const entry = is64
    ? view.getBigUint64(24, true)
    : BigInt(view.getUint32(24, true));
  const tableAt = word(is64 ? 32 : 28);
  const entrySize = view.getUint16(is64 ? 54 : 42, true);
  const count = view.getUint16(is64 ? 56 : 44, true);
  if (count > 0 && entrySize < (is64 ? 56 : 32)) {
    throw fail(`program headers of ${entrySize} bytes`, "build it again");
  }

  const segments: Segment[] = [];
  let physicalEntry = entry;
  for (let i = 0; i < count; i++) {
    const at = tableAt + i * entrySize;
    need(at, entrySize, `program header ${i}`);
    if (view.getUint32(at, true) !== PT_LOAD) continue;
    const offset = word(at + (is64 ? 8 : 4));
    const virtual = is64
      ? view.getBigUint64(at + 16, true)
      : BigInt(view.getUint32(at + 8, true));
    const physical = word(at + (is64 ? 24 : 12));
    const fileSize = word(at + (is64 ? 32 : 16));
    const size = word(at + (is64 ? 40 : 20));
    if (size === 0) continue;
    if (fileSize > size) {
      throw fail(
        `segment ${i} has ${fileSize} bytes in the file but ${size} in memory`,
        "build it again",
      );
    }
    need(offset, fileSize, `segment ${i}`);
    segments.push({
      physicalAddress: physical,
      bytes: bytes.subarray(offset, offset + fileSize),
      size,
      name: `segment ${i}`,
    });
    if (entry >= virtual && entry < virtual + BigInt(size)) {
      physicalEntry = entry - virtual + BigInt(physical);
    }
  }
  if (segments.length === 0) {
    throw fail("it has no PT_LOAD segment", "link it into an executable");
  }
  return {
    is64,
    entry,
    physicalEntry,
    segments,
    symbols: readSymbols(bytes, view, is64),
  };
}

/** Addresses beyond 2^53 are beyond any memory: keep them large and exact enough. */
function toNumber(value: bigint): number {
  return Number(value);
}

/**
 * The symbol table: functions, objects and labels. A damaged or missing one
 * gives no symbols, since nothing but display depends on it.
 */
function readSymbols(
  bytes: Uint8Array,
  view: DataView,
  is64: boolean,
): SymbolTable {
  const at = is64 ? Number(view.getBigUint64(40, true)) : view.getUint32(
    32,
    true,
  );
  const entrySize = view.getUint16(is64 ? 58 : 46, true);
  const count = view.getUint16(is64 ? 60 : 48, true);
  const header = is64 ? 64 : 40;
  if (
    entrySize < header || count === 0 || at + count * entrySize > bytes.length
  ) return SymbolTable.empty;
  const section = (i: number) => {
    const o = at + i * entrySize;
    return {
      type: view.getUint32(o + 4, true),
      offset: is64
        ? Number(view.getBigUint64(o + 24, true))
        : view.getUint32(o + 16, true),
      size: is64
        ? Number(view.getBigUint64(o + 32, true))
        : view.getUint32(o + 20, true),
      link: view.getUint32(o + (is64 ? 40 : 24), true),
    };
  };
  const functions: SizedSymbol[] = [];
  const others: SizedSymbol[] = [];
  for (let i = 0; i < count; i++) {
    const table = section(i);
    if (table.type !== SHT_SYMTAB || table.link >= count) continue;
    const strings = section(table.link);
    const step = is64 ? 24 : 16;
    if (
      table.offset + table.size > bytes.length ||
      strings.offset + strings.size > bytes.length
    ) continue;
    for (
      let o = table.offset;
      o + step <= table.offset + table.size;
      o += step
    ) {
      const info = view.getUint8(o + (is64 ? 4 : 12));
      const defined = view.getUint16(o + (is64 ? 6 : 14), true) !== 0;
      const type = info & 0xf;
      if (!defined || type > STT_FUNC) continue;
      const name = readName(bytes, strings, view.getUint32(o, true));
      if (name === "") continue;
      const address = is64
        ? view.getBigUint64(o + 8, true)
        : BigInt(view.getUint32(o + 4, true));
      const size = is64
        ? Number(view.getBigUint64(o + 16, true))
        : view.getUint32(o + 8, true);
      (type === STT_FUNC ? functions : others).push({ name, address, size });
    }
  }
  // Of several names for one address a function's is the best.
  return new SymbolTable([...functions, ...others]);
}

function readName(
  bytes: Uint8Array,
  strings: { offset: number; size: number },
  index: number,
): string {
  if (index === 0 || index >= strings.size) return "";
  const start = strings.offset + index;
  const end = bytes.indexOf(0, start);
  const limit = strings.offset + strings.size;
  return new TextDecoder().decode(
    bytes.subarray(start, end < 0 || end > limit ? limit : end),
  );
}

/**
 * Loads an executable that isn't a multiboot image: ELF64 starts in long mode,
 * ELF32 in protected mode, at its entry point. RDI/EDI holds the address of a
 * multiboot information structure (command line, modules, memory map), which
 * is what such a guest gets as its first argument.
 */
export function loadElf(request: LoadRequest): LoadedGuest {
  const { file, memoryBytes } = request;
  const image = readElf(request.bytes, file);
  const mode = image.is64 ? "long" : "protected";
  const information = bootInformation(request, image.segments);
  const segments = [
    ...image.segments,
    ...information.segments,
    ...bootTables(mode),
  ];
  checkSegments(file, segments, memoryBytes);
  const gpr = registers({
    [Gpr.RSP]: BigInt(BOOT.stack),
    [Gpr.RDI]: BigInt(information.address),
  });
  return {
    format: "elf",
    segments,
    start: startState(mode, image.physicalEntry, gpr),
    symbols: image.symbols,
  };
}
