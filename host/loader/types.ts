/**
 * What loading a guest results in: bytes for physical memory, the state of the
 * first vCPU at its first instruction, and symbols.
 * Invariant: plain data; whoever builds the machine copies it in.
 */
import type { AssembledImage } from "../asm/types.ts";
import type { GuestFormat, StartMode } from "../scenario/types.ts";
import type { SymbolTable } from "./symbols.ts";

export type { GuestFormat, StartMode };

/** Bytes for physical memory; RAM beside them is zero. */
export interface Segment {
  readonly physicalAddress: number;
  readonly bytes: Uint8Array;
  /** Bytes of memory taken, zero-filled behind `bytes` (.bss); ≥ its length. */
  readonly size: number;
  /** What it is, for errors: a section, `module env.txt`, `page tables`. */
  readonly name: string;
}

/** A segment register with its hidden part (SDM 3A §3.4.3). */
export interface SegmentState {
  readonly selector: number;
  readonly base: bigint;
  /** Byte-granular. */
  readonly limit: number;
  /** VMCS access-rights format (SDM 3C table 25-2). */
  readonly attributes: number;
}

/** GDTR or IDTR. */
export interface TableRegister {
  readonly base: bigint;
  readonly limit: number;
}

/** The state of the first vCPU at the guest's first instruction. */
export interface InitialState {
  readonly mode: StartMode;
  readonly rip: bigint;
  /** 16 values in encoding order (cpu/layout.ts `Gpr`). */
  readonly gpr: readonly bigint[];
  readonly rflags: number;
  readonly cr0: number;
  readonly cr3: number;
  readonly cr4: number;
  readonly efer: number;
  /** ES CS SS DS FS GS LDTR TR (cpu/layout.ts `Seg`). */
  readonly segments: readonly SegmentState[];
  readonly gdtr: TableRegister;
  readonly idtr: TableRegister;
}

/** A guest ready to be copied into a machine. */
export interface LoadedGuest {
  /** How the image was read. */
  readonly format: GuestFormat;
  readonly segments: readonly Segment[];
  readonly start: InitialState;
  readonly symbols: SymbolTable;
  /** For assembly guests: the image with its source map. */
  readonly assembled?: AssembledImage;
}

/** A file handed to the guest beside its image. */
export interface LoadedModule {
  /** Name for errors and, before `append`, on the module's command line. */
  readonly file: string;
  readonly bytes: Uint8Array;
  readonly append: string;
}

/** What every loader is told. */
export interface LoadRequest {
  /** Name of the image, for errors and the command line. */
  readonly file: string;
  readonly bytes: Uint8Array;
  /** The guest's command line behind the image's name. */
  readonly append: string;
  readonly modules: readonly LoadedModule[];
  /** Bytes of RAM, which starts at 0 and has no holes. */
  readonly memoryBytes: number;
  /** Load address of `asm` and `flat` guests. */
  readonly address?: number;
  /** Mode of the first instruction of `asm` and `flat` guests. */
  readonly mode?: StartMode;
}
