/**
 * Linux kernels by the 64-bit boot protocol (Documentation/arch/x86/boot.rst,
 * "64-bit Boot Protocol"): bzImage, whose protected-mode part is entered 0x200
 * bytes in and unpacks itself, and vmlinux, entered at its ELF entry point.
 * RSI points to the zero page: setup header, command line, initrd, e820 map.
 * No firmware runs. Several initrds are laid one behind the other, 4-aligned.
 * Invariant: kernel (with the room it unpacks in), initrd and boot area are
 * disjoint and inside RAM.
 */
import { ConfigError } from "../../core/errors.ts";
import { Gpr, Seg } from "../../cpu/layout.ts";
import { checkSegments, hex, roundUp } from "./check.ts";
import { type ElfImage, isElf, readElf } from "./elf.ts";
import { describeImage } from "./multiboot.ts";
import { memoryMap } from "./multiboot_info.ts";
import { BOOT, bootTables, registers, startState } from "./start.ts";
import { SymbolTable } from "./symbols.ts";
import type {
  InitialState,
  LoadedGuest,
  LoadRequest,
  Segment,
} from "./types.ts";

/** Offsets of the setup header's fields, the same in image and zero page. */
export const SETUP = {
  setupSectors: 0x1f1,
  bootFlag: 0x1fe,
  /** The jump over the header; its operand tells where the header ends. */
  jump: 0x200,
  magic: 0x202,
  version: 0x206,
  typeOfLoader: 0x210,
  loadFlags: 0x211,
  ramdiskImage: 0x218,
  ramdiskSize: 0x21c,
  commandLine: 0x228,
  initrdAddressMax: 0x22c,
  kernelAlignment: 0x230,
  relocatable: 0x234,
  xloadFlags: 0x236,
  commandLineSize: 0x238,
  preferredAddress: 0x258,
  initSize: 0x260,
} as const;

/** Other fields of the zero page. */
export const ZERO_PAGE = { e820Entries: 0x1e8, e820Table: 0x2d0 } as const;

/** "HdrS" */
const MAGIC = 0x5372_6448;
const BOOT_FLAG = 0xaa55;
/** First protocol version whose header says where a 64-bit entry is (2.12). */
const LEAST_VERSION = 0x020c;
/** Version told for a vmlinux, which carries no header. */
const VMLINUX_VERSION = 0x020f;
const XLF_KERNEL_64 = 1;
/** Loaded high: the protected-mode part lies at or above 1 MiB. */
const LOADED_HIGH = 1;
/** `type_of_loader` without an assigned number. */
const LOADER_UNDEFINED = 0xff;
const SECTOR = 512;
const ENTRY_64 = 0x200;
const E820_ENTRY = 20;
/** Highest last byte of an initrd when the header doesn't say. */
const INITRD_MAX = 0x7fff_ffff;
const VMLINUX_COMMAND_LINE = 2047;

/** `__BOOT_CS` and `__BOOT_DS`, which the protocol fixes. */
const SELECTOR = { code: 0x10, data: 0x18 } as const;
const DESCRIPTORS: readonly bigint[] = [
  0n,
  0n,
  0x00af_9b00_0000_ffffn,
  0x00cf_9300_0000_ffffn,
];

const ZERO_PAGE_AT = BOOT.information;
const COMMAND_LINE_AT = ZERO_PAGE_AT + 4096;

/** Is the file a Linux image with a setup header (bzImage, zImage)? */
export function isBzImage(bytes: Uint8Array): boolean {
  return bytes.length >= 0x268 && u32(bytes, SETUP.magic) === MAGIC &&
    u16(bytes, SETUP.bootFlag) === BOOT_FLAG;
}

/** Is it an uncompressed kernel: ELF64 with a note by Linux or for Xen? */
export function isVmlinux(bytes: Uint8Array): boolean {
  if (!isElf(bytes) || bytes[4] !== 2 || bytes.length < 64) return false;
  const PT_NOTE = 4;
  const at = Number(view(bytes).getBigUint64(32, true));
  const [size, count] = [u16(bytes, 54), u16(bytes, 56)];
  if (size < 56) return false;
  for (let i = 0; i < count; i++) {
    const header = at + i * size;
    if (header + 56 > bytes.length) return false;
    if (u32(bytes, header) !== PT_NOTE) continue;
    const from = Number(view(bytes).getBigUint64(header + 8, true));
    const length = Number(view(bytes).getBigUint64(header + 32, true));
    if (noteNames(bytes, from, from + length).some(isKernelNote)) return true;
  }
  return false;
}

const isKernelNote = (name: string): boolean =>
  name === "Linux" || name === "Xen";

/** The owners of the notes in a part of the file (TIS ELF 1.2, "Note Section"). */
function noteNames(bytes: Uint8Array, from: number, end: number): string[] {
  const names: string[] = [];
  for (let at = from; at + 12 <= Math.min(end, bytes.length);) {
    const nameSize = u32(bytes, at);
    const name = bytes.subarray(at + 12, at + 12 + Math.max(0, nameSize - 1));
    names.push(new TextDecoder().decode(name));
    at += 12 + roundUp(nameSize, 4) + roundUp(u32(bytes, at + 4), 4);
  }
  return names;
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
const u16 = (bytes: Uint8Array, at: number): number =>
  view(bytes).getUint16(at, true);
const u32 = (bytes: Uint8Array, at: number): number =>
  view(bytes).getUint32(at, true);

/** A kernel taken apart. */
interface KernelImage {
  readonly segments: readonly Segment[];
  readonly entry: bigint;
  /** The setup header from 0x1f1 on. */
  readonly header: Uint8Array;
  readonly commandLineSize: number;
  readonly initrdMax: number;
  readonly symbols: SymbolTable;
}

/**
 * Loads a kernel with its initrds and command line.
 * @throws {ConfigError} naming the file, what is wrong with it and the remedy
 */
export function loadLinux(request: LoadRequest): LoadedGuest {
  const { bytes, file, memoryBytes } = request;
  const kernel = isElf(bytes)
    ? readVmlinux(readElf(bytes, file), file)
    : readBzImage(bytes, file);
  const commandLine = commandLineOf(request, kernel.commandLineSize);
  const initrd = placeInitrd(request, kernel);
  const zeroPage = makeZeroPage(kernel.header, initrd, memoryBytes);
  const tables = bootTables("long").filter(({ physicalAddress }) =>
    physicalAddress !== BOOT.gdt
  );
  const segments: Segment[] = [
    ...kernel.segments,
    ...initrd === undefined ? [] : [initrd],
    segment(ZERO_PAGE_AT, zeroPage, "the zero page"),
    segment(COMMAND_LINE_AT, commandLine, "the command line"),
    segment(BOOT.gdt, gdt(), "the boot GDT"),
    ...tables,
  ];
  checkSegments(file, segments, memoryBytes);
  return {
    format: "linux",
    segments,
    start: entryState(kernel.entry),
    symbols: kernel.symbols,
  };
}

function segment(at: number, bytes: Uint8Array, name: string): Segment {
  return { physicalAddress: at, bytes, size: bytes.length, name };
}

function gdt(): Uint8Array {
  const bytes = new Uint8Array(DESCRIPTORS.length * 8);
  DESCRIPTORS.forEach((d, i) => view(bytes).setBigUint64(i * 8, d, true));
  return bytes;
}

/** 64-bit mode, interrupts off, RSI at the zero page, `__BOOT_CS`/`__BOOT_DS`. */
function entryState(entry: bigint): InitialState {
  const state = startState(
    "long",
    entry,
    registers({
      [Gpr.RSI]: BigInt(ZERO_PAGE_AT),
      [Gpr.RSP]: BigInt(BOOT.stack),
    }),
  );
  const segments = state.segments.map((s, i) =>
    i === Seg.LDTR || i === Seg.TR
      ? s
      : { ...s, selector: i === Seg.CS ? SELECTOR.code : SELECTOR.data }
  );
  return {
    ...state,
    segments,
    gdtr: { base: BigInt(BOOT.gdt), limit: DESCRIPTORS.length * 8 - 1 },
  };
}

function readBzImage(bytes: Uint8Array, file: string): KernelImage {
  const fail = (what: string, remedy: string): ConfigError =>
    new ConfigError(`load ${file} as Linux kernel: ${what}; ${remedy}`);
  if (!isBzImage(bytes)) {
    throw fail(
      `no setup header (HdrS at 0x202), ${describeImage(bytes)}`,
      "give a bzImage or a vmlinux, or name the format: multiboot, elf, flat " +
        "or asm",
    );
  }
  const version = u16(bytes, SETUP.version);
  if (
    version < LEAST_VERSION ||
    (u16(bytes, SETUP.xloadFlags) & XLF_KERNEL_64) === 0
  ) {
    throw fail(
      `boot protocol ${version >> 8}.${version & 0xff}, no 64-bit entry point`,
      "give an x86-64 kernel of version 3.8 or later",
    );
  }
  // 0 means 4 (boot.rst, setup_sects).
  const sectors = bytes[SETUP.setupSectors] || 4;
  const code = bytes.subarray((sectors + 1) * SECTOR);
  if (code.length <= ENTRY_64) {
    throw fail(
      `its setup takes ${
        sectors + 1
      } sectors, the file has ${bytes.length} bytes`,
      "the file is truncated, build or copy it again",
    );
  }
  const preferred = Number(
    view(bytes).getBigUint64(SETUP.preferredAddress, true),
  );
  // The operand of the short jump counts from the byte behind it.
  const headerEnd = SETUP.magic + bytes[SETUP.jump + 1];
  return {
    segments: [{
      physicalAddress: preferred,
      bytes: code,
      size: Math.max(code.length, u32(bytes, SETUP.initSize)),
      name: "the kernel and the room to unpack it",
    }],
    entry: BigInt(preferred + ENTRY_64),
    header: bytes.slice(SETUP.setupSectors, headerEnd),
    commandLineSize: u32(bytes, SETUP.commandLineSize),
    initrdMax: u32(bytes, SETUP.initrdAddressMax),
    symbols: SymbolTable.empty,
  };
}

/** An uncompressed kernel gets the header that its bzImage would have had. */
function readVmlinux(image: ElfImage, file: string): KernelImage {
  if (!image.is64) {
    throw new ConfigError(
      `load ${file} as Linux kernel: it is a 32-bit ELF file; give an x86-64 ` +
        "vmlinux or a bzImage",
    );
  }
  const page = new Uint8Array(0x268);
  const v = view(page);
  v.setUint16(SETUP.bootFlag, BOOT_FLAG, true);
  v.setUint32(SETUP.magic, MAGIC, true);
  v.setUint16(SETUP.version, VMLINUX_VERSION, true);
  v.setUint32(SETUP.kernelAlignment, 0x20_0000, true);
  return {
    segments: image.segments,
    entry: image.physicalEntry,
    header: page.slice(SETUP.setupSectors),
    commandLineSize: VMLINUX_COMMAND_LINE,
    initrdMax: INITRD_MAX,
    symbols: image.symbols,
  };
}

function commandLineOf(request: LoadRequest, most: number): Uint8Array {
  const text = new TextEncoder().encode(request.append);
  const room = Math.min(most, BOOT.informationEnd - COMMAND_LINE_AT - 1);
  if (text.length > room) {
    throw new ConfigError(
      `load ${request.file}: its command line has ${text.length} bytes, the ` +
        `kernel takes ${room}; shorten --append`,
    );
  }
  const bytes = new Uint8Array(text.length + 1);
  bytes.set(text);
  return bytes;
}

/** As high as kernel and memory allow, so that it is out of the kernel's way. */
function placeInitrd(
  { modules, memoryBytes, file }: LoadRequest,
  kernel: KernelImage,
): Segment | undefined {
  if (modules.length === 0) return undefined;
  for (const module of modules) {
    if (module.append !== "") {
      throw new ConfigError(
        `load ${file}: initrd ${module.file} has a command line ` +
          `(${module.append}), which Linux has no place for; put it in --append`,
      );
    }
  }
  const size = modules.reduce((n, m) => roundUp(n, 4) + m.bytes.length, 0);
  const bytes = new Uint8Array(size);
  let next = 0;
  for (const module of modules) {
    bytes.set(module.bytes, roundUp(next, 4));
    next = roundUp(next, 4) + module.bytes.length;
  }
  const top = Math.min(kernel.initrdMax + 1, memoryBytes);
  const at = Math.floor((top - size) / 4096) * 4096;
  const end = Math.max(
    ...kernel.segments.map((s) => s.physicalAddress + s.size),
  );
  if (at < end) {
    const need = Math.ceil((end + roundUp(size, 4096)) / (1 << 20));
    throw new ConfigError(
      `load ${file}: kernel (up to ${hex(end)}) and initrd (${size} bytes) ` +
        `don't fit below ${hex(top)}; give the machine ${need} MiB of memory ` +
        "or more, or a smaller initrd",
    );
  }
  return segment(at, bytes, "the initrd");
}

function makeZeroPage(
  header: Uint8Array,
  initrd: Segment | undefined,
  memoryBytes: number,
): Uint8Array {
  const page = new Uint8Array(4096);
  const v = view(page);
  page.set(header, SETUP.setupSectors);
  page[SETUP.typeOfLoader] = LOADER_UNDEFINED;
  page[SETUP.loadFlags] |= LOADED_HIGH;
  v.setUint32(SETUP.commandLine, COMMAND_LINE_AT, true);
  v.setUint32(SETUP.ramdiskImage, initrd?.physicalAddress ?? 0, true);
  v.setUint32(SETUP.ramdiskSize, initrd?.size ?? 0, true);
  const map = memoryMap(memoryBytes);
  page[ZERO_PAGE.e820Entries] = map.length;
  map.forEach(({ base, length, type }, i) => {
    const at = ZERO_PAGE.e820Table + i * E820_ENTRY;
    v.setBigUint64(at, BigInt(base), true);
    v.setBigUint64(at + 8, BigInt(length), true);
    v.setUint32(at + 16, type, true);
  });
  return page;
}
