/**
 * Exit statuses of the command line (design §5, §9). A guest's own codes are
 * odd (`(value << 1) | 1`, as QEMU's isa-debug-exit); ours are even, so that a
 * script can tell a guest's verdict from the machine's.
 * Invariant: every status that a command can end with has a row here.
 */
import { TapeStatus } from "../../core/tape/reader.ts";

/** Statuses by meaning. */
export const Exit = {
  /** The run ended, or the tapes are equal. */
  ok: 0,
  badInput: 2,
  /** Tape commands: what came out is not what the tape says. */
  diverged: TapeStatus.diverged,
  /** `run`: the guest used something that isn't modelled. */
  notModelled: 4,
  /** Tape commands: the tape has no end, but can be used. */
  torn: TapeStatus.torn,
  /** Tape commands: damaged inside. */
  damaged: TapeStatus.damaged,
  /** `run`: triple fault, or a loop without a step. */
  guestDied: 6,
  /** Tape commands: a plugin is missing or has another version. */
  incompatible: TapeStatus.incompatible,
  internal: 8,
  /** `run`: the scenario's expectations were not met. */
  unexpected: 10,
  /** `run --timeout` cut it (as timeout(1)). */
  timeout: 124,
  /** Ctrl-C, SIGTERM or SIGHUP (as shells do: 128 + SIGINT). */
  interrupted: 130,
} as const;

/** Statuses of `run`, for its help. */
export const RUN_STATUSES: readonly (readonly [string, string])[] = [
  ["odd", "the guest's own: (value << 1) | 1 of its write to port 0xf4"],
  ["0", "the run ended"],
  ["2", "bad input"],
  ["4", "the guest used something that is not modelled"],
  ["6", "triple fault, or a fault loop without a step"],
  ["8", "internal error"],
  ["10", "an expectation of the scenario was not met"],
  ["124", "cut by --timeout"],
  ["130", "Ctrl-C, SIGTERM, SIGHUP, or left by the escape key and q"],
];

/** Statuses of the tape commands, for their help. */
export const TAPE_STATUSES: readonly (readonly [string, string])[] = [
  ["0", "equal, or done"],
  ["2", "bad input"],
  ["3", "diverged"],
  ["4", "torn but usable"],
  ["5", "damaged inside"],
  ["6", "a plugin is missing or incompatible"],
  ["8", "internal error"],
];
