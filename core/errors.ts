/**
 * Every error vmtape raises on purpose. A message has the form
 * "action, subject: current state, remedy"; `code` is what programs test and
 * what the CLI maps to an exit code. Conditions inside the guest are never
 * errors: they are numeric outcomes.
 */

/** The machine-readable classes of error. */
export type ErrorCode =
  | "assert"
  | "config"
  | "not-modelled"
  | "plugin"
  | "event"
  | "state"
  | "tape"
  | "diverged"
  | "store";

/** Base of all errors raised by vmtape on purpose. */
export class VmtapeError extends Error {
  /** Class name. */
  override readonly name: string = "VmtapeError";
  /** Made by its subclasses. */
  constructor(readonly code: ErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
  }
}

/** A scenario, option, plugin list or need that can't be satisfied. */
export class ConfigError extends VmtapeError {
  /** Class name. */
  override readonly name = "ConfigError";
  /** `message` names subject, state and remedy. */
  constructor(message: string, cause?: unknown) {
    super("config", message, cause);
  }
}

/** The guest used something that vmtape does not model (law 9). */
export class NotModelled extends VmtapeError {
  /** Class name. */
  override readonly name = "NotModelled";
  /**
   * Stops the machine rather than giving a wrong answer.
   * @param what what the guest asked for, in manual terms
   * @param manualRef the section that defines it
   */
  constructor(readonly what: string, readonly manualRef: string) {
    super("not-modelled", `${what} is not modelled (${manualRef})`);
  }
}

/** A plugin broke its contract: threw, emitted what it did not declare … */
export class PluginError extends VmtapeError {
  /** Class name. */
  override readonly name = "PluginError";
  /** `plugin` is to blame. */
  constructor(readonly plugin: string, message: string, cause?: unknown) {
    super("plugin", message, cause);
  }
}

/** A payload that does not fit its event, or a declaration that is wrong. */
export class EventError extends VmtapeError {
  /** Class name. */
  override readonly name = "EventError";
  /** `message` names subject, state and remedy. */
  constructor(message: string, cause?: unknown) {
    super("event", message, cause);
  }
}

/** State that can't be restored or encoded. */
export class StateError extends VmtapeError {
  /** Class name. */
  override readonly name = "StateError";
  /** `message` names subject, state and remedy. */
  constructor(message: string, cause?: unknown) {
    super("state", message, cause);
  }
}

/** A damaged, torn or foreign tape. */
export class TapeError extends VmtapeError {
  /** Class name. */
  override readonly name = "TapeError";
  /** `message` names subject, state and remedy. */
  constructor(message: string, cause?: unknown) {
    super("tape", message, cause);
  }
}

/**
 * Why a run ended, if `thrown` ends runs as a fact of their moment, so that a
 * replay ends there too: what isn't modelled, and plugins' mistakes.
 */
export function failureReason(thrown: unknown): string | undefined {
  if (thrown instanceof NotModelled) {
    return `not modelled: ${thrown.what} (${thrown.manualRef})`;
  }
  return thrown instanceof PluginError || thrown instanceof EventError
    ? `failed: ${thrown.message}`
    : undefined;
}

/** The text of anything thrown, for a message. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
