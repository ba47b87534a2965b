/**
 * What the kernel drives, and what it lends to it. An executor is neither
 * participant nor observer: a tape recorded by one must replay on any other,
 * so nothing of it is in digests except the canonical pages it exposes.
 */
import type { Clock } from "./clock.ts";
import type { EventToken } from "./event.ts";
import type { FirstHook, FoldHook } from "./hook.ts";
import type { At } from "./moment.ts";
import type { Random } from "./random.ts";
import type { Late, ServiceToken } from "./service.ts";

/** Bytes in a page of state. */
export const PAGE_SIZE = 4096;

/**
 * All state outside cells, as 4-KiB pages: first the state pages, then RAM.
 * RAM is zero at load unless the executor marked the page dirty: what never
 * was marked is never read.
 */
export interface PagedState {
  /** State pages and RAM pages together. */
  readonly pageCount: number;
  /** The first so many pages; always taken as dirty. */
  readonly statePages: number;
  /** Live view of page `index`; canonical after `harvestDirty`. */
  page(index: number): Uint8Array;
  /**
   * Visits each RAM page written since the last harvest (at first: since RAM
   * was zero), clears the marks and drops permissions for silent writing.
   * Brings state pages to canonical contents first.
   */
  harvestDirty(visit: (pageIndex: number) => void): void;
  /** Pages were overwritten from outside: drop everything derived. */
  restored(): void;
  /** Names a byte for blame: `vcpu0.gpr.rax`, `ram 0x1234`. */
  describe(page: number, offset: number): string;
}

/** Why `run` came back; always on a step boundary. */
export type RunOutcome =
  | { readonly kind: "limit" }
  /** Halted with nothing pending: wants virtual time to pass. */
  | { readonly kind: "idle" }
  /** The machine ended by itself (triple fault …). */
  | {
    readonly kind: "stopped";
    readonly reason: string;
    readonly exitCode?: number;
  }
  /** Wants the kernel's loop: poll the host, look at timers and inputs. */
  | { readonly kind: "yield" }
  /** 65,536 transitions without a step (law 8). */
  | {
    readonly kind: "stuck";
    readonly loop?: string;
    /** What the process shall exit with. */
    readonly exitCode?: number;
  };

/** A change from outside, delivered as an input. */
export type Edit =
  | {
    readonly kind: "memory";
    readonly physicalAddress: number;
    readonly bytes: Uint8Array;
  }
  | {
    readonly kind: "register";
    readonly vcpu: number;
    /** Name as `describe` gives it, without the vCPU: `gpr.rax`, `rip`. */
    readonly register: string;
    readonly value: bigint;
  };

/** The engine under the kernel. */
export interface Executor {
  /** `reference`, `t0` …; never in the chain. */
  readonly name: string;
  /** Its canonical pages. */
  readonly state: PagedState;
  /** Steps completed; kept in the state pages. */
  step(): number;
  /** Virtual nanoseconds of a step; 1 if not given. */
  readonly pace?: number;
  /** Idle time in ns; kept in the state pages. Virtual time = step × pace + idle. */
  idle(): number;
  /** Lets virtual time pass while halted. */
  setIdle(nanoseconds: number): void;
  /**
   * Runs to at most `limitStep`. When halted with nothing pending it answers
   * `idle`, even at the limit.
   */
  run(limitStep: number): RunOutcome;
  /**
   * Called from within `run` (by a timer armed, a stop): the running `run`
   * shall end at the first boundary at or after `limitStep`.
   */
  shorten(limitStep: number): void;
  /**
   * Which hot events are wanted (bit `token.id`), and whether a handler wants
   * them: then drain and pump after each step.
   */
  interest(hot: Uint32Array, perStep: boolean): void;
  /** Pushes the ring's words to `port.appendHot`, oldest first. */
  drain(): void;
  /**
   * Applies a change from outside.
   * @throws RangeError when there is no such register or address
   */
  edit(change: Edit): void;
  /**
   * Asked before an edit is accepted as an input: what is wrong with it, or
   * undefined.
   */
  canEdit?(change: Edit): string | undefined;
  /** Called once, after all plugins were set up. */
  start?(): void;
}

/** What the kernel lends to the executor (and the machine around it). */
export interface KernelPort {
  /** The machine's seed. */
  readonly seed: bigint;
  /** Virtual time. */
  readonly clock: Clock;
  /** The stream of the machine itself (RDRAND …). */
  readonly random: Random;
  /** Declares events that the machine emits; before `emit`. */
  declare(events: readonly EventToken[]): void;
  /** Appends a declared fact to the stream; drain the ring first. */
  emit<P>(event: EventToken<P, "fact">, payload: P): void;
  /** True when somebody records or watches the event. */
  wants(event: EventToken): boolean;
  /** Subscribes the machine itself, before all plugins. */
  on<P>(
    event: EventToken<P, "input" | "fact">,
    handler: (payload: P, at: At) => undefined,
  ): void;
  /**
   * A hot fact from the ring: `words[at … at + event.words)`, emitted during
   * step `step`.
   */
  appendHot(
    step: number,
    eventId: number,
    words: Uint32Array,
    at: number,
  ): void;
  /** Facts are waiting for handlers. */
  pending(): boolean;
  /** Delivers them; call at consistent points only. */
  pump(): void;
  /** Offers a service of the machine; before plugins load. */
  provide<T, B extends boolean>(token: ServiceToken<T, B>, service: T): void;
  /** A plugin's service; usable from `start` on. */
  service<T, B extends boolean>(token: ServiceToken<T, B>): Late<T>;
  /** Binds a hook for asking. */
  ask<A, R>(hook: FirstHook<A, R>): (args: A) => R | undefined;
  /** Binds a folding hook for asking. */
  ask<A, R>(hook: FoldHook<A, R>): (args: A) => R;
  /** True when some plugin answers the hook; usable from `start` on. */
  answered(hook: FirstHook<never, unknown> | FoldHook<never, unknown>): boolean;
  /** Ends the run at the next boundary. */
  stop(reason: string, exitCode?: number): void;
}
