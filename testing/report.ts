/**
 * What the conformance kit takes and gives. Checks never throw by themselves:
 * they add findings, so that one run tells an author everything.
 */
import { VmtapeError } from "../core/mod.ts";
import type { EventToken, Kernel, OldPayload, PluginUse } from "../core/mod.ts";

/** An input for the machine under test. */
export interface TestInput {
  /** Step at which it arrives, or earlier if the machine waits for inputs. */
  readonly at: number;
  /** Its type. */
  readonly event: EventToken<unknown, "input">;
  /** Its contents. */
  readonly payload: unknown;
}

/** A machine in which the plugin under test has something to do. */
export interface TestMachine {
  /**
   * Loads a fresh machine with exactly these plugins, listed in this order;
   * same program, seed and memory every time.
   */
  load(plugins: readonly PluginUse[]): Kernel;
  /** The plugins beside the one under test. */
  readonly plugins: readonly PluginUse[];
  /** Ascending by `at`. */
  readonly inputs?: readonly TestInput[];
  /** How far to run; the machine may end earlier. */
  readonly steps: number;
  /** Moments at which to save and restore; default 8. */
  readonly restores?: number;
  /** Declared events that this machine can't provoke. */
  readonly rare?: readonly EventToken[];
  /** Payloads of older versions, by event name and version. */
  readonly oldPayloads?: {
    readonly [event: string]: { readonly [version: number]: OldPayload };
  };
}

/** The checks of the kit, in the order in which they run. */
export const CHECKS = [
  "docs",
  "events",
  "upcasts",
  "cells",
  "options",
  "twin-run",
  "restore",
  "tape",
  "load-order",
  "observer",
  "coverage",
] as const;
/** Name of a check. */
export type CheckName = typeof CHECKS[number];

/** Something that a check found. */
export interface Finding {
  /** Which check found it. */
  readonly check: CheckName;
  /** Subject: what is wrong, remedy. */
  readonly message: string;
}

/** The outcome of all checks on one plugin. */
export interface ConformanceReport {
  /** Its name. */
  readonly plugin: string;
  /** Everything found; empty when it conforms. */
  readonly findings: readonly Finding[];
  /** Steps that the straight run made. */
  readonly steps: number;
  /** Events that the plugin emitted in it, by name. */
  readonly emitted: ReadonlyMap<string, number>;
  /** Saved states that were restored and run to the end. */
  readonly restores: number;
}

/** Thrown by `assertConforms`. */
export class ConformanceError extends VmtapeError {
  /** `report` tells all. */
  constructor(readonly report: ConformanceReport) {
    const lines = report.findings.map(({ check, message }) =>
      `  ${check}: ${message}`
    );
    super(
      "plugin",
      `check plugin ${report.plugin}: ${report.findings.length} findings\n` +
        lines.join("\n"),
    );
  }
}
