/**
 * Multiboot 1 images (Multiboot Specification 0.6.96): header search, ELF32,
 * ELF64 and address-field (a.out kludge) images, machine state at entry (§3.2):
 * EAX = 0x2BADB002, EBX = information structure, protected mode, no paging.
 * Invariant: an image that isn't multiboot is told apart with what it is.
 */
import { ConfigError } from "../../core/errors.ts";
import { Gpr } from "../../cpu/layout.ts";
import { checkSegments, hex } from "./check.ts";
import { isElf, readElf } from "./elf.ts";
import { bootInformation } from "./multiboot_info.ts";
import { BOOT, bootTables, registers, startState } from "./start.ts";
import { SymbolTable } from "./symbols.ts";
import type { LoadedGuest, LoadRequest, Segment } from "./types.ts";

/** First word of the header. */
export const HEADER_MAGIC = 0x1bad_b002;
/** EAX at entry. */
export const BOOTLOADER_MAGIC = 0x2bad_b002;
/** The header lies 4-aligned within this many bytes. */
const SEARCH_BYTES = 8192;
const HEADER_FLAG = { video: 1 << 2, addresses: 1 << 16 } as const;
/** Flags 0–15 that a loader must understand or refuse. */
const KNOWN_REQUIREMENTS = 0x3;

/** The multiboot header. */
export interface MultibootHeader {
  /** Offset in the file. */
  readonly offset: number;
  readonly flags: number;
}

/** Finds the header, or undefined. */
export function findHeader(bytes: Uint8Array): MultibootHeader | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = Math.min(SEARCH_BYTES, bytes.length) - 12;
  for (let offset = 0; offset <= end; offset += 4) {
    if (view.getUint32(offset, true) !== HEADER_MAGIC) continue;
    const flags = view.getUint32(offset + 4, true);
    const checksum = view.getUint32(offset + 8, true);
    if (((HEADER_MAGIC + flags + checksum) >>> 0) === 0) {
      return { offset, flags };
    }
  }
  return undefined;
}

/** What a file is, in words, when it is none of ours. */
export function describeImage(bytes: Uint8Array): string {
  const begins = (...magic: number[]): boolean =>
    magic.every((b, i) => bytes[i] === b);
  const text = (from: number, word: string): boolean =>
    [...word].every((c, i) => bytes[from + i] === c.charCodeAt(0));
  if (bytes.length === 0) return "it is empty";
  if (text(0x202, "HdrS")) return "it is a Linux kernel (bzImage)";
  if (isElf(bytes)) return "it is an ELF file";
  if (begins(0x1f, 0x8b)) return "it is compressed with gzip";
  if (begins(0x28, 0xb5, 0x2f, 0xfd)) return "it is compressed with zstd";
  if (begins(0xfd, 0x37, 0x7a, 0x58, 0x5a)) return "it is compressed with xz";
  if (begins(0x4d, 0x5a)) return "it is a DOS, Windows or EFI program";
  if (bytes[510] === 0x55 && bytes[511] === 0xaa) return "it is a boot sector";
  if (text(0, "070701")) return "it is a cpio archive (an initrd?)";
  if (text(0, "#!")) return "it is a script";
  if (bytes.subarray(0, 512).every((b) => b === 9 || b === 10 || b >= 0x20)) {
    return "it looks like text";
  }
  return "its kind is unknown";
}

/**
 * Loads a multiboot image with its modules.
 * @throws {ConfigError} naming the file, what it is instead, and the remedy
 */
export function loadMultiboot(request: LoadRequest): LoadedGuest {
  const { bytes, file, memoryBytes } = request;
  const header = findHeader(bytes);
  if (header === undefined) {
    throw new ConfigError(
      `load ${file} as multiboot: no multiboot header in its first ` +
        `${SEARCH_BYTES} bytes, ${describeImage(bytes)}; give a multiboot 1 ` +
        "image (magic 0x1badb002), or name the format: elf, flat or asm",
    );
  }
  const { flags } = header;
  if ((flags & HEADER_FLAG.video) !== 0) {
    throw new ConfigError(
      `load ${file} as multiboot: it requires a video mode (flag 2), the ` +
        "machine has no display; build it without that flag",
    );
  }
  if ((flags & 0xffff & ~KNOWN_REQUIREMENTS) !== 0) {
    throw new ConfigError(
      `load ${file} as multiboot: header flags ${hex(flags)} require what ` +
        "multiboot 1 doesn't define; only bits 0, 1 and 16 may be set",
    );
  }
  const image = (flags & HEADER_FLAG.addresses) !== 0
    ? readAddressFields(bytes, file, header)
    : readElfImage(bytes, file);
  const information = bootInformation(request, image.segments);
  const segments = [
    ...image.segments,
    ...information.segments,
    ...bootTables("protected"),
  ];
  checkSegments(file, segments, memoryBytes);
  const gpr = registers({
    [Gpr.RAX]: BigInt(BOOTLOADER_MAGIC),
    [Gpr.RBX]: BigInt(information.address),
    // §3.2 leaves ESP undefined; a valid stack harms nobody.
    [Gpr.RSP]: BigInt(BOOT.stack),
  });
  return {
    format: "multiboot",
    segments,
    start: startState("protected", image.entry, gpr),
    symbols: image.symbols,
  };
}

interface ReadImage {
  readonly entry: bigint;
  readonly segments: readonly Segment[];
  readonly symbols: SymbolTable;
}

function readElfImage(bytes: Uint8Array, file: string): ReadImage {
  if (!isElf(bytes)) {
    throw new ConfigError(
      `load ${file} as multiboot: the header has no address fields (flag 16) ` +
        `and the file is no ELF, ${describeImage(bytes)}; set the address ` +
        "fields or link an ELF executable",
    );
  }
  const { physicalEntry, segments, symbols } = readElf(bytes, file);
  if (physicalEntry > 0xffff_ffffn) {
    throw new ConfigError(
      `load ${file} as multiboot: its entry ${hex(physicalEntry)} lies above ` +
        "4 GiB, out of 32-bit mode's reach; link it lower",
    );
  }
  return { entry: physicalEntry, segments, symbols };
}

/** §3.1.3: the header itself says where the image belongs. */
function readAddressFields(
  bytes: Uint8Array,
  file: string,
  header: MultibootHeader,
): ReadImage {
  const fail = (what: string): ConfigError =>
    new ConfigError(
      `load ${file} as multiboot: ${what}; correct the header's address fields`,
    );
  if (header.offset + 32 > bytes.length) throw fail("the header is truncated");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const field = (i: number): number =>
    view.getUint32(header.offset + 12 + 4 * i, true);
  const [headerAddress, load, loadEnd, bssEnd, entry] = [0, 1, 2, 3, 4].map(
    field,
  );
  const offset = header.offset - (headerAddress - load);
  if (load > headerAddress || offset < 0) {
    throw fail(
      `load_addr ${hex(load)} and header_addr ${hex(headerAddress)} put the ` +
        "image's start outside the file",
    );
  }
  const length = loadEnd === 0 ? bytes.length - offset : loadEnd - load;
  if (length < 0 || offset + length > bytes.length) {
    throw fail(
      `load_end_addr ${hex(loadEnd)} needs ${
        offset + length
      } bytes of a file ` +
        `of ${bytes.length}`,
    );
  }
  const size = bssEnd === 0 ? length : bssEnd - load;
  if (size < length) {
    throw fail(`bss_end_addr ${hex(bssEnd)} lies before the loaded bytes' end`);
  }
  if (entry < load || entry >= load + size) {
    throw fail(`entry_addr ${hex(entry)} lies outside the image`);
  }
  return {
    entry: BigInt(entry),
    segments: [{
      physicalAddress: load,
      bytes: bytes.subarray(offset, offset + length),
      size,
      name: "the image",
    }],
    symbols: isElf(bytes) ? symbolsOrNone(bytes, file) : SymbolTable.empty,
  };
}

function symbolsOrNone(bytes: Uint8Array, file: string): SymbolTable {
  try {
    return readElf(bytes, file).symbols;
  } catch (error) {
    if (error instanceof ConfigError) return SymbolTable.empty;
    throw error;
  }
}
