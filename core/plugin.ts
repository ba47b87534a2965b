/**
 * `definePlugin`: one declaration from which the host knows everything about a
 * plugin before running a line of it: needs, services, cells, events, timers,
 * options. The types of `setup`'s argument follow from it, so that misuse is a
 * compile error: an async handler, an undeclared emit, a wrong payload, an
 * observer that answers a hook or emits a fact. The host checks all of it
 * again at load, for plugins that were not type-checked.
 */
import type { StateOf, StateSpecs } from "./cell.ts";
import type { Clock } from "./clock.ts";
import type { EventKind, EventToken, PayloadOf } from "./event.ts";
import type { Field } from "./fields.ts";
import type { FirstAnswer, FirstHook, FoldAnswer, FoldHook } from "./hook.ts";
import type { At } from "./moment.ts";
import type { Random } from "./random.ts";
import type { Late, LateNeed, OptionalNeed, ServiceToken } from "./service.ts";

/** participant: part of the machine; observer: only watches. */
export type Role = "participant" | "observer";

/** The kinds of event that a role may emit. */
export type Emittable<R extends Role> = R extends "observer" ? "note" : "fact";
/** The kinds of event that a role may watch. */
export type Watchable<R extends Role> = R extends "observer" ? EventKind
  : "input" | "fact";

/** A service, optional or late need. */
export type Need<Observable extends boolean = boolean> =
  | ServiceToken<unknown, Observable>
  | OptionalNeed<unknown, Observable>
  | LateNeed<unknown, Observable>;
/** Named needs; observers may need observable services only. */
export type Needs<R extends Role = Role> = {
  readonly [name: string]: Need<R extends "observer" ? true : boolean>;
};
/** Named services that a participant provides. */
export type Provides = { readonly [name: string]: ServiceToken<unknown> };
/** Options by name: a field's initial value is the default. */
export type OptionSpecs = { readonly [name: string]: Field<unknown> };

/** What `use` holds. */
export type UseOf<N> = {
  readonly [K in keyof N]: N[K] extends ServiceToken<infer T> ? T
    : N[K] extends OptionalNeed<infer T> ? T | undefined
    : N[K] extends LateNeed<infer T> ? Late<T>
    : never;
};
/** What `provide` holds: one function for each declared service. */
export type ProvideOf<V> = {
  readonly [K in keyof V]: V[K] extends ServiceToken<infer T>
    ? (service: T) => void
    : never;
};
/** What `options` holds. */
export type OptionsOf<O> = {
  readonly [K in keyof O]: O[K] extends Field<infer T> ? T : never;
};

/** A declared timer. Its deadline is kernel state. */
export interface Timer {
  /** Names what happens; to be called once, in `setup`. */
  run(handler: (at: At) => undefined): void;
  /**
   * Arms it for virtual time `time` (ns), replacing an earlier deadline; at or
   * before now means at the next step boundary.
   */
  at(time: number): void;
  /** Disarms it. */
  cancel(): void;
  /** Virtual time at which it fires, or undefined when not armed. */
  readonly deadline: number | undefined;
}

/** What every plugin's `setup` gets. Functions need no `this`. */
export interface Context<
  R extends Role,
  O extends OptionSpecs,
  N,
  S extends StateSpecs,
  E extends readonly EventToken[],
> {
  /** The plugin's own name. */
  readonly name: string;
  /** Checked values, defaults filled in. */
  readonly options: OptionsOf<O>;
  /** Services by the names in `needs`. */
  readonly use: UseOf<N>;
  /** Live cells by the names in `state`. */
  readonly state: StateOf<S>;
  /** The plugin's own stream. */
  readonly random: Random;
  /** Virtual time. */
  readonly clock: Clock;
  /**
   * Calls `handler` after each such event, at the next consistent point. It
   * returns nothing; `at` says when the event was emitted.
   */
  readonly on: <P>(
    event: EventToken<P, Watchable<R>>,
    handler: (payload: P, at: At) => undefined,
  ) => void;
  /** Appends a declared event to the stream at once. */
  readonly emit: <T extends E[number]>(event: T, payload: PayloadOf<T>) => void;
  /**
   * True when somebody records or watches it: only for skipping the making of
   * a payload, never for anything that state depends on.
   */
  readonly wants: (event: E[number]) => boolean;
  /** Runs after cells were restored: drop what was derived from them. */
  readonly onRestored: (handler: () => undefined) => void;
}

/** What a participant's `setup` gets in addition. */
export interface ParticipantContext<
  O extends OptionSpecs,
  N,
  V,
  S extends StateSpecs,
  E extends readonly EventToken[],
  T extends readonly string[],
> extends Context<"participant", O, N, S, E> {
  /** Provides a declared service: `provide.tlb(implementation)`. */
  readonly provide: ProvideOf<V>;
  /** Declared timers by name. */
  readonly timer: { readonly [K in T[number]]: Timer };
  /** Answers a hook; answerers run in load order. */
  readonly answer: {
    <A, Q>(hook: FirstHook<A, Q>, answer: FirstAnswer<A, Q>): void;
    <A, Q>(hook: FoldHook<A, Q>, answer: FoldAnswer<A, Q>): void;
  };
  /** Binds a hook for asking; call the result from handlers and services. */
  readonly ask: {
    <A, Q>(hook: FirstHook<A, Q>): (args: A) => Q | undefined;
    <A, Q>(hook: FoldHook<A, Q>): (args: A) => Q;
  };
  /**
   * Ends the run at the next step boundary. The stop is machine state.
   * @param exitCode what the process shall exit with, if the guest said so
   */
  readonly stop: (reason: string, exitCode?: number) => void;
}

/** What `setup` of that role gets. */
export type ContextFor<
  R extends Role,
  O extends OptionSpecs,
  N,
  V,
  S extends StateSpecs,
  E extends readonly EventToken[],
  T extends readonly string[],
> = R extends "observer" ? Context<"observer", O, N, S, E>
  : ParticipantContext<O, N, V, S, E, T>;

/** Only participants may declare this. */
export type ParticipantOnly<R extends Role> = R extends "observer" ? never
  : unknown;

/** What `definePlugin` takes. */
export interface PluginSpec<
  R extends Role,
  O extends OptionSpecs,
  N extends Needs<R>,
  V extends Provides,
  S extends StateSpecs,
  E extends readonly EventToken<unknown, Emittable<R>>[],
  T extends readonly string[],
> {
  /** Lower-case letters, digits and dashes; unique in a machine. */
  readonly name: string;
  /** Semantic version; a replay needs the same. */
  readonly version: string;
  /** What it does, in a sentence. */
  readonly doc: string;
  /** Part of the machine, or only watching. */
  readonly role: R;
  /** Observer whose state at a moment doesn't depend on what came before. */
  readonly memoryless?: boolean;
  /** Options by name: fields whose initial value is the default. */
  readonly options?: O;
  /** Services wanted, by the names they get in `use`. */
  readonly needs?: N;
  /** Services offered, by the names they get in `provide`. */
  readonly provides?: V & ParticipantOnly<R>;
  /** Mutable state by name; nothing else may change over time. */
  readonly state?: S;
  /** Every event it emits. */
  readonly emits?: E;
  /** Names of its timers. */
  readonly timers?: T & ParticipantOnly<R>;
  /** Wires it up, once; everything later happens in handlers. */
  setup(context: ContextFor<R, O, N, V, S, E, T>): undefined;
}

/** A plugin as hosts see it; made by `definePlugin` only. */
export interface Plugin {
  /** Tells declarations apart. */
  readonly is: "plugin";
  /** Lower-case letters, digits and dashes; unique in a machine. */
  readonly name: string;
  /** Semantic version. */
  readonly version: string;
  /** What it does, in a sentence. */
  readonly doc: string;
  /** Part of the machine, or only watching. */
  readonly role: Role;
  /** Observer without a past. */
  readonly memoryless: boolean;
  /** Declared options. */
  readonly options: OptionSpecs;
  /** Declared needs. */
  readonly needs: { readonly [name: string]: Need };
  /** Declared services. */
  readonly provides: Provides;
  /** Declared cells. */
  readonly state: StateSpecs;
  /** Declared events. */
  readonly emits: readonly EventToken[];
  /** Declared timers. */
  readonly timers: readonly string[];
  /** For the host only. */
  setup(context: unknown): unknown;
}

/** One plugin as used in a machine. */
export interface PluginUse {
  /** The plugin itself. */
  readonly plugin: Plugin;
  /** Values for declared options; the rest take their defaults. */
  readonly options?: { readonly [name: string]: unknown };
  /** Where it was loaded from, for messages. */
  readonly from?: string;
  /** SHA-256 of its code, hexadecimal; part of the manifest when known. */
  readonly digest?: string;
}

/** Declares a plugin. Misuse that types don't catch is reported at load. */
export function definePlugin<
  R extends Role,
  O extends OptionSpecs = Record<never, never>,
  N extends Needs<R> = Record<never, never>,
  V extends Provides = Record<never, never>,
  S extends StateSpecs = Record<never, never>,
  const E extends readonly EventToken<unknown, Emittable<R>>[] = readonly [],
  const T extends readonly string[] = readonly [],
>(spec: PluginSpec<R, O, N, V, S, E, T>): Plugin {
  return {
    is: "plugin",
    name: spec.name,
    version: spec.version,
    doc: spec.doc,
    role: spec.role,
    memoryless: spec.memoryless === true,
    options: spec.options ?? {},
    needs: spec.needs ?? {},
    provides: spec.provides ?? {},
    state: spec.state ?? {},
    emits: spec.emits ?? [],
    timers: spec.timers ?? [],
    setup: (context) => spec.setup(context as ContextFor<R, O, N, V, S, E, T>),
  };
}
