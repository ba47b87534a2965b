/**
 * The golden toy run: a small echo session, recorded in full. Its tape is in
 * tests/golden/; `VMTAPE_BLESS=1 deno test -A tests/crash` writes it anew.
 */
import { echoProgram } from "../toy/mod.ts";
import type { ToyRun } from "../laws/toy_runs.ts";

export const GOLDEN_TAPE = new URL("../golden/toy_echo.tape", import.meta.url);
export const GOLDEN_HASH = new URL("../golden/toy_echo.json", import.meta.url);

/** What the golden hash file states. */
export interface GoldenHash {
  /** Equal on every Deno and engine. */
  readonly chainHead: string;
  /** SHA-256 of the file, on the Deno that wrote it. */
  readonly sha256: string;
  readonly deno: string;
}

/** "vmtape" typed slowly, then the byte 0 that ends the program. */
export function goldenRun(): ToyRun {
  const inputs = [...new TextEncoder().encode("vmtape\n"), 0].map((
    byte,
    i,
  ) => ({
    at: 40 + 57 * i,
    bytes: [byte],
  }));
  return { program: echoProgram(), seed: 42n, steps: 600, inputs, ramPages: 4 };
}
