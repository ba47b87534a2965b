/**
 * `defineHook`: a question that the machine asks while it works, with a
 * declared rule for combining answers. Use a hook when several plugins may
 * have a say, a service when exactly one does, an event when it has happened.
 * Answerers run in load order; only participants may answer or ask.
 */
import { ConfigError } from "./errors.ts";

/** The first answer that isn't undefined wins. */
export interface FirstHook<A, R> {
  /** Tells declarations apart. */
  readonly is: "hook";
  /** `plugin.question`. */
  readonly name: string;
  /** What is asked, and when. */
  readonly doc: string;
  /** How answers combine. */
  readonly combine: "first";
  /** Phantom: never called. */
  typed?(args: A): R | undefined;
}

/** Each answerer maps the value of those before it. */
export interface FoldHook<A, R> {
  /** Tells declarations apart. */
  readonly is: "hook";
  /** `plugin.question`. */
  readonly name: string;
  /** What is asked, and when. */
  readonly doc: string;
  /** How answers combine. */
  readonly combine: "fold";
  /** Value when nobody answers. */
  readonly initial: R;
  /** Phantom: never called. */
  typed?(args: A): R;
}

/** Any hook. */
export type HookToken<A = unknown, R = unknown> =
  | FirstHook<A, R>
  | FoldHook<A, R>;
/** Answers a `first` hook, or passes with undefined. */
export type FirstAnswer<A, R> = (args: A) => R | undefined;
/** Maps the value so far of a `fold` hook. */
export type FoldAnswer<A, R> = (soFar: R, args: A) => R;

/** Declares a `first` hook: arguments `A`, answer `R`. */
export function defineHook<A, R>(
  spec: {
    readonly name: string;
    readonly doc?: string;
    readonly combine: "first";
  },
): FirstHook<A, R>;
/** Declares a `fold` hook: arguments `A`, folded value `R`. */
export function defineHook<A, R>(
  spec: {
    readonly name: string;
    readonly doc?: string;
    readonly combine: "fold";
    readonly initial: R;
  },
): FoldHook<A, R>;
export function defineHook<A, R>(
  spec: {
    readonly name: string;
    readonly doc?: string;
    readonly combine: "first" | "fold";
    readonly initial?: R;
  },
): HookToken<A, R> {
  if (!/^[a-z0-9-]+(\.[a-z0-9-]+)+$/.test(spec.name)) {
    throw new ConfigError(
      `define hook ${spec.name}: the name must be plugin.question in lower case`,
    );
  }
  const doc = spec.doc ?? "";
  return spec.combine === "first"
    ? { is: "hook", name: spec.name, doc, combine: "first" }
    : {
      is: "hook",
      name: spec.name,
      doc,
      combine: "fold",
      initial: spec.initial as R,
    };
}
