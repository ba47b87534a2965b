/**
 * Assertions about vmtape itself; always on. A failure is a bug here or in a
 * plugin, never a guest condition and never bad user input.
 */
import { VmtapeError } from "./errors.ts";

/** An internal invariant does not hold. */
export class AssertionFailed extends VmtapeError {
  /** Class name. */
  override readonly name = "AssertionFailed";
  /** `what` should have held. */
  constructor(what: string) {
    super("assert", `internal invariant broken: ${what}`);
  }
}

/**
 * States that `condition` holds.
 * @throws AssertionFailed naming `what`
 */
export function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new AssertionFailed(what);
}

/** States that this point is never reached (exhaustive switches). */
export function unreachable(value: never, what: string): never {
  throw new AssertionFailed(`${what}: ${String(value)}`);
}
