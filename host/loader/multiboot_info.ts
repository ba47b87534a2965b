/**
 * The multiboot information structure (Multiboot Specification 0.6.96 §3.3):
 * memory sizes, command line, modules, memory map. Modules follow the image,
 * page-aligned; the structure lies in the boot area.
 * Invariant: `flags` says only what is filled in: 0x45, with modules 0x4d.
 */
import { ConfigError } from "../../core/errors.ts";
import { hex, roundUp } from "./check.ts";
import { BOOT } from "./start.ts";
import type { LoadRequest, Segment } from "./types.ts";

const FLAG = {
  memory: 0x1,
  commandLine: 0x4,
  modules: 0x8,
  map: 0x40,
} as const;
/** Offsets in the structure. */
const INFO = {
  flags: 0,
  memLower: 4,
  memUpper: 8,
  commandLine: 16,
  modulesCount: 20,
  modulesAddress: 24,
  mapLength: 44,
  mapAddress: 48,
  size: 120,
} as const;
const MODULE_SIZE = 16;
const MAP_ENTRY_SIZE = 24;

/** Memory types of the map. */
export const MemoryType = { Available: 1, Reserved: 2 } as const;

/** One range of the memory map. */
export interface MemoryRange {
  readonly base: number;
  readonly length: number;
  readonly type: number;
}

/** A PC's memory map: the BIOS areas below 1 MiB are reserved. */
export function memoryMap(memoryBytes: number): MemoryRange[] {
  const { Available, Reserved } = MemoryType;
  const map: MemoryRange[] = [
    { base: 0, length: Math.min(memoryBytes, 0x9fc00), type: Available },
    { base: 0x9fc00, length: 0x400, type: Reserved },
    { base: 0xf0000, length: 0x10000, type: Reserved },
  ];
  if (memoryBytes > 0x100000) {
    map.push({
      base: 0x100000,
      length: memoryBytes - 0x100000,
      type: Available,
    });
  }
  return map;
}

/** Boot information placed in memory. */
export interface BootInformation {
  /** Physical address of the structure. */
  readonly address: number;
  readonly segments: readonly Segment[];
}

/**
 * Builds the structure and places the modules behind `image`.
 * @throws {ConfigError} when command lines exceed the boot area
 */
export function bootInformation(
  request: LoadRequest,
  image: readonly Segment[],
): BootInformation {
  const { memoryBytes, modules, file } = request;
  const segments: Segment[] = [];
  const address = BOOT.information;
  const bytes = new Uint8Array(BOOT.informationEnd - address);
  const view = new DataView(bytes.buffer);
  let free = INFO.size;
  const text = (value: string): number => {
    const raw = new TextEncoder().encode(value);
    if (free + raw.length + 1 > bytes.length) {
      throw new ConfigError(
        `load ${file}: command lines and modules take more than the ` +
          `${bytes.length} bytes at ${hex(address)}; shorten --append`,
      );
    }
    bytes.set(raw, free);
    const at = address + free;
    free += raw.length + 1;
    return at;
  };
  const put = (offset: number, value: number): void =>
    view.setUint32(offset, value, true);
  const table = (entries: number, size: number): number => {
    const at = roundUp(free, 8);
    free = at + entries * size;
    return at;
  };

  let flags = FLAG.memory | FLAG.commandLine | FLAG.map;
  put(INFO.memLower, Math.min(memoryBytes, 0x9fc00) >> 10);
  put(INFO.memUpper, Math.max(0, memoryBytes - 0x100000) / 1024);

  const map = memoryMap(memoryBytes);
  const mapAt = table(map.length, MAP_ENTRY_SIZE);
  map.forEach(({ base, length, type }, i) => {
    // `size` doesn't count itself and stands in front of the entry.
    const at = mapAt + i * MAP_ENTRY_SIZE;
    put(at, MAP_ENTRY_SIZE - 4);
    view.setBigUint64(at + 4, BigInt(base), true);
    view.setBigUint64(at + 12, BigInt(length), true);
    put(at + 20, type);
  });
  put(INFO.mapAddress, address + mapAt);
  put(INFO.mapLength, map.length * MAP_ENTRY_SIZE);

  if (modules.length > 0) {
    flags |= FLAG.modules;
    if (free + (modules.length + 1) * MODULE_SIZE > bytes.length) {
      throw new ConfigError(
        `load ${file}: ${modules.length} modules don't fit the boot ` +
          "information; give fewer",
      );
    }
    const tableAt = table(modules.length, MODULE_SIZE);
    put(INFO.modulesCount, modules.length);
    put(INFO.modulesAddress, address + tableAt);
    let next = Math.max(
      0x100000,
      ...image.map((s) => s.physicalAddress + s.size),
    );
    modules.forEach((module, i) => {
      const start = roundUp(next, 4096);
      next = start + module.bytes.length;
      segments.push({
        physicalAddress: start,
        bytes: module.bytes,
        size: module.bytes.length,
        name: `module ${module.file}`,
      });
      const at = tableAt + i * MODULE_SIZE;
      put(at, start);
      put(at + 4, next);
      put(at + 8, text(commandLine(module.file, module.append)));
    });
  }
  put(INFO.commandLine, text(commandLine(file, request.append)));
  put(INFO.flags, flags);
  segments.push({
    physicalAddress: address,
    bytes: bytes.subarray(0, free),
    size: free,
    name: "the boot information",
  });
  return { address, segments };
}

/** As QEMU and GRUB do: the file, then its arguments. */
function commandLine(file: string, append: string): string {
  return append === "" ? file : `${file} ${append}`;
}
