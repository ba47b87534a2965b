/**
 * The guest runtime around a random program's body: boot, handlers that resume
 * at the next slot after any fault, interrupt handlers, and an L1 that runs the
 * program as its L2. Assembled once per mode.
 * Invariant: handlers rely on nothing that the body may have changed: in 64-bit
 * mode they have stacks of their own (IST), elsewhere they load what they use.
 */
import type { AssembledImage, Bits } from "../../host/asm/types.ts";
import { assemble } from "../../host/asm/mod.ts";
import { AT } from "./places.ts";
import { PROTECTED, REAL } from "./runtime_legacy.ts";
import { LONG } from "./runtime_long.ts";

/** The mode that a program's body runs in. */
export type BodyMode = "long" | "protected" | "real";

/** Where a real-mode program lies. */
export const REAL_AT = {
  runtime: 0x1000,
  vars: 0x1800,
  /** Copied to address 0 by the boot code. */
  vectors: 0x1c00,
  stack: 0x2800,
  data: 0x3000,
  body: 0x4000,
  end: 0x8000,
} as const;

const images = new Map<BodyMode, AssembledImage>();

/** The runtime of a mode. */
export function runtimeOf(mode: BodyMode): AssembledImage {
  let image = images.get(mode);
  if (image === undefined) {
    const bits: Bits = mode === "long" ? 64 : mode === "protected" ? 32 : 16;
    image = assemble(
      mode === "long" ? LONG : mode === "protected" ? PROTECTED : REAL,
      {
        bits,
        file: `${mode} runtime`,
        origin: mode === "real" ? REAL_AT.runtime : AT.runtime,
        constants: {
          REAL_STACK: BigInt(REAL_AT.stack),
          REAL_VARS: BigInt(REAL_AT.vars),
          REAL_BODY: BigInt(REAL_AT.body),
          REAL_VECTORS: BigInt(REAL_AT.vectors),
        },
      },
    );
    images.set(mode, image);
  }
  return image;
}
