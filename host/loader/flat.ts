/**
 * Flat binaries and assembly text: bytes at an address, first byte or entry
 * label first. Invariant: the mode is what the request says, else 64-bit for
 * flat images and the mode at the entry point for assembly.
 */
import { Gpr } from "../../cpu/layout.ts";
import { assemble } from "../asm/mod.ts";
import type { AssembledImage, Bits } from "../asm/types.ts";
import { ConfigError } from "../../core/errors.ts";
import { checkSegments, hex } from "./check.ts";
import {
  BOOT,
  bootTables,
  DEFAULT_ADDRESS,
  DEFAULT_REAL_ADDRESS,
  registers,
  startState,
} from "./start.ts";
import { SymbolTable } from "./symbols.ts";
import type {
  InitialState,
  LoadedGuest,
  LoadRequest,
  Segment,
  StartMode,
} from "./types.ts";

const BITS: Readonly<Record<StartMode, Bits>> = {
  real: 16,
  protected: 32,
  long: 64,
};
const MODES: Readonly<Record<Bits, StartMode>> = {
  16: "real",
  32: "protected",
  64: "long",
};

function defaultAddress(mode: StartMode | undefined): number {
  return mode === "real" ? DEFAULT_REAL_ADDRESS : DEFAULT_ADDRESS;
}

function start(file: string, mode: StartMode, entry: bigint): InitialState {
  if (mode === "real" && entry > 0xf_ffffn) {
    throw new ConfigError(
      `load ${file}: its entry ${hex(entry)} is out of real mode's reach; ` +
        "load it below 1 MiB or start in protected or long mode",
    );
  }
  const stack = mode === "real" ? DEFAULT_REAL_ADDRESS : BOOT.stack;
  return startState(mode, entry, registers({ [Gpr.RSP]: BigInt(stack) }));
}

/** Loads bytes as they are; execution begins with the first one. */
export function loadFlat(request: LoadRequest): LoadedGuest {
  const { bytes, file, memoryBytes } = request;
  const mode = request.mode ?? "long";
  const address = request.address ?? defaultAddress(mode);
  if (bytes.length === 0) {
    throw new ConfigError(`load ${file}: the file is empty; give code`);
  }
  const segments: Segment[] = [
    { physicalAddress: address, bytes, size: bytes.length, name: "the image" },
    ...bootTables(mode),
  ];
  checkSegments(file, segments, memoryBytes);
  return {
    format: "flat",
    segments,
    start: start(file, mode, BigInt(address)),
    symbols: SymbolTable.empty,
  };
}

/** Assembles a guest's source for its load address and mode. */
export function assembleGuest(
  request: Pick<LoadRequest, "bytes" | "file" | "address" | "mode">,
): AssembledImage {
  return assemble(new TextDecoder().decode(request.bytes), {
    file: request.file,
    origin: request.address ?? defaultAddress(request.mode),
    bits: BITS[request.mode ?? "long"],
  });
}

/**
 * Assembles and loads source text. Its sections go to their load addresses;
 * execution begins at `entry`, `_start`, `start` or the first byte.
 * @throws {AssemblyError} with file:line:column for mistakes in the source
 */
export function loadAssembly(request: LoadRequest): LoadedGuest {
  return loadAssembled(
    assembleGuest(request),
    request.memoryBytes,
    request.mode,
  );
}

/** Loads what the assembler (or an `asm` template) produced. */
export function loadAssembled(
  assembled: AssembledImage,
  memoryBytes: number,
  wanted?: StartMode,
): LoadedGuest {
  const { file } = assembled;
  const mode = wanted ?? MODES[assembled.entryBits];
  if (BITS[mode] !== assembled.entryBits) {
    throw new ConfigError(
      `load ${file}: its entry is ${assembled.entryBits}-bit code, the mode ` +
        `asked for is ${mode}; write \`bits ${BITS[mode]}\` or drop the mode`,
    );
  }
  const sections: Segment[] = assembled.sections.filter((s) => s.size > 0)
    .map((s) => ({
      physicalAddress: s.address,
      bytes: s.bytes,
      size: s.size,
      name: `section ${s.name}`,
    }));
  if (sections.length === 0) {
    throw new ConfigError(`load ${file}: the source holds no code; add some`);
  }
  const segments = [...sections, ...bootTables(mode)];
  checkSegments(file, segments, memoryBytes);
  return {
    format: "asm",
    segments,
    start: start(file, mode, physicalEntry(assembled)),
    symbols: assembledSymbols(assembled),
    assembled,
  };
}

/** The entry label's load address: nothing is mapped high yet. */
function physicalEntry(image: AssembledImage): bigint {
  for (const s of image.sections) {
    const offset = image.entry - s.virtualAddress;
    if (offset >= 0n && offset < BigInt(s.size)) {
      return BigInt(s.address) + offset;
    }
  }
  return image.entry;
}

/** Labels as symbols; `equ` constants are no places. */
export function assembledSymbols(image: AssembledImage): SymbolTable {
  return new SymbolTable(
    [...image.symbols].filter(([name]) =>
      image.labels.has(name) && !name.startsWith("..@")
    ).map(([name, address]) => ({ name, address, size: 0 })),
  );
}
