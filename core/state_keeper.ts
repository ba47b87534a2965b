/**
 * All state of one machine in one place: pages, kernel state, participants'
 * cells, and apart from them observers' cells. Makes and restores keyframes
 * and digests; only ever at step boundaries.
 */
import { toHex } from "./bytes.ts";
import {
  cellBlob,
  decodeAll,
  matchBlobs,
  observerBlob,
  restoreObserver,
} from "./cell_blobs.ts";
import { combineDigest, rawDigestParts } from "./digest.ts";
import type { DigestPart } from "./digest.ts";
import { StateError } from "./errors.ts";
import type { PagedState } from "./executor.ts";
import { explain } from "./explain.ts";
import type { LivePlugin } from "./host.ts";
import { kernelStateToJson } from "./kernel_state.ts";
import type { KernelState } from "./kernel_state.ts";
import type { CellBlob, Keyframe } from "./keyframe.ts";
import type { At } from "./moment.ts";
import { PageStore } from "./pages.ts";
import type { StateDifference } from "./sink.ts";

/** Captures, restores, digests and explains. */
export class StateKeeper {
  readonly pages: PageStore;
  readonly participants: readonly LivePlugin[];
  readonly #paged: PagedState;
  readonly #live: readonly LivePlugin[];
  readonly #observers: readonly LivePlugin[];
  readonly #kernel: KernelState;
  readonly #now: () => At;

  /** @param live all plugins in load order @param now reads the clocks */
  constructor(
    paged: PagedState,
    live: readonly LivePlugin[],
    kernel: KernelState,
    now: () => At,
  ) {
    this.#paged = paged;
    this.pages = new PageStore(paged);
    this.#live = live;
    this.participants = live.filter(({ owner }) => !owner.observes);
    this.#observers = live.filter(({ owner }) => owner.observes);
    this.#kernel = kernel;
    this.#now = now;
  }

  /** Complete state. */
  capture(): Keyframe {
    const pages = this.pages.capture();
    return {
      ...this.#now(),
      pages,
      kernel: this.#kernel.encode(),
      cells: this.participants.map(cellBlob),
      observers: this.captureObservers(),
    };
  }

  /** Observers' cells and random streams. */
  captureObservers(): readonly CellBlob[] {
    return this.#observers.map(observerBlob);
  }

  /**
   * Becomes what `keyframe` holds; observers it doesn't hold keep theirs.
   * @throws StateError when it is of another machine, or damaged
   */
  restore(keyframe: Keyframe): void {
    const blobs = matchBlobs(this.participants, keyframe.cells, true);
    this.pages.restore(keyframe.pages);
    this.#kernel.decode(keyframe.kernel);
    for (const [live, blob] of blobs) {
      decodeAll(live, blob, (from) => live.cells.decode(from));
    }
    const { step, time } = this.#now();
    if (step !== keyframe.step || time !== keyframe.time) {
      throw new StateError(
        `restore the keyframe of step ${keyframe.step}, time ` +
          `${keyframe.time}: its pages say ${step}, ${time}; it is damaged`,
      );
    }
    for (const { restored } of this.participants) {
      for (const handler of restored) handler();
    }
    this.restoreObservers(keyframe.observers);
  }

  /** Restores those observers that `cells` holds. */
  restoreObservers(cells: readonly CellBlob[]): void {
    for (const [live, blob] of matchBlobs(this.#observers, cells, false)) {
      restoreObserver(live, blob);
    }
  }

  /** The digest of everything but observers, hexadecimal. */
  digest(): string {
    return combineDigest(
      rawDigestParts(this.pages, this.#kernel, this.participants),
    );
  }

  /** Its parts, hexadecimal. */
  digestParts(): readonly DigestPart[] {
    return rawDigestParts(this.pages, this.#kernel, this.participants)
      .map(({ name, digest }) => ({ name, digest: toHex(digest) }));
  }

  /** What differs between two states of this machine. */
  explain(before: Keyframe, after: Keyframe): readonly StateDifference[] {
    return explain(before, after, {
      pages: this.#paged,
      cells: new Map(
        this.#live.map(({ plugin }) => [plugin.name, plugin.state]),
      ),
      kernel: kernelStateToJson,
    });
  }
}
