/**
 * Guest loaders: multiboot 1, Linux, ELF, flat binaries and assembly text.
 * Invariant: pure functions over bytes; files are read elsewhere.
 */
import { ConfigError } from "../../core/errors.ts";
import { isElf, loadElf, readElf } from "./elf.ts";
import {
  assembledSymbols,
  assembleGuest,
  loadAssembly,
  loadFlat,
} from "./flat.ts";
import { describeImage, findHeader, loadMultiboot } from "./multiboot.ts";
import { isBzImage, isVmlinux, loadLinux } from "./linux.ts";
import { SymbolTable } from "./symbols.ts";
import type { GuestFormat, LoadedGuest, LoadRequest } from "./types.ts";

export { loadElf, readElf } from "./elf.ts";
export { loadAssembled, loadAssembly, loadFlat } from "./flat.ts";
export { loadLinux } from "./linux.ts";
export { loadMultiboot } from "./multiboot.ts";
export { BOOT, BOOT_SELECTOR, DEFAULT_ADDRESS, startState } from "./start.ts";
export { readSymbolFile } from "./symbol_files.ts";
export { type SymbolPlace, SymbolTable } from "./symbols.ts";
export type {
  InitialState,
  LoadedGuest,
  LoadedModule,
  LoadRequest,
  Segment,
  SegmentState,
  TableRegister,
} from "./types.ts";

/**
 * Loads a guest. `image` looks at the file: Linux, multiboot, else ELF.
 * @throws {ConfigError} naming the file, what is wrong with it and the remedy
 */
export function loadGuest(
  format: GuestFormat,
  request: LoadRequest,
): LoadedGuest {
  switch (format) {
    case "asm":
      return loadAssembly(request);
    case "flat":
      return loadFlat(request);
    case "elf":
      return loadElf(request);
    case "linux":
      return loadLinux(request);
    case "multiboot":
      return loadMultiboot(request);
    case "image":
      return loadGuest(recognize(request.bytes, request.file), request);
  }
}

/** What kind of image a file is, where the file itself can tell. */
function recognize(
  bytes: Uint8Array,
  file: string,
): "multiboot" | "elf" | "linux" {
  if (isBzImage(bytes) || isVmlinux(bytes)) return "linux";
  if (findHeader(bytes) !== undefined) return "multiboot";
  if (isElf(bytes)) return "elf";
  throw new ConfigError(
    `load ${file}: neither a multiboot 1 image (no header in its first 8192 ` +
      `bytes) nor a Linux kernel or another ELF executable, ${
        describeImage(bytes)
      }; give one of ` +
      "these, or a scenario with `guest: { flat: … }` or `{ asm: … }`",
  );
}

/**
 * The symbols of a guest's image or source; none where the format has none.
 * Assembly source is assembled for the place that the request tells.
 */
export function readSymbols(
  format: GuestFormat,
  request: Pick<LoadRequest, "bytes" | "file" | "address" | "mode">,
): SymbolTable {
  const { bytes, file } = request;
  if (format === "asm") return assembledSymbols(assembleGuest(request));
  if (format === "flat" || !isElf(bytes)) return SymbolTable.empty;
  return readElf(bytes, file).symbols;
}
