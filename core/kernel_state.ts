/**
 * The kernel's own part of the machine's state: whether and why it stops,
 * timers' deadlines, positions of random streams. In keyframes and digests.
 */
import { ByteReader, ByteWriter, toHex } from "./bytes.ts";
import { StateError } from "./errors.ts";
import type { Json } from "./fields.ts";
import type { RandomStream } from "./random.ts";
import type { Timers } from "./timers.ts";
import { timersToJson } from "./timers.ts";

const RUNNING = 0;
const STOPPING = 1;
const ENDED = 2;
const STAGES = ["running", "stopping", "ended"] as const;

/** Encodes and decodes what the kernel itself remembers. */
export class KernelState {
  readonly #timers: Timers;
  readonly #streams: readonly (readonly [string, RandomStream])[];
  #stage = RUNNING;
  #reason = "";
  #exitCode: number | undefined;

  constructor(
    timers: Timers,
    streams: readonly (readonly [string, RandomStream])[],
  ) {
    this.#timers = timers;
    this.#streams = streams;
  }

  get stopRequested(): boolean {
    return this.#stage !== RUNNING;
  }
  get ended(): boolean {
    return this.#stage === ENDED;
  }
  get reason(): string {
    return this.#reason;
  }
  get exitCode(): number | undefined {
    return this.#exitCode;
  }

  /** The first request counts. */
  requestStop(reason: string, exitCode?: number): void {
    if (this.#stage !== RUNNING) return;
    this.#stage = STOPPING;
    this.#reason = reason;
    this.#exitCode = exitCode;
  }
  /** The stop has been announced. */
  end(): void {
    this.#stage = ENDED;
  }

  encode(): Uint8Array {
    const out = new ByteWriter(256);
    out.u8(this.#stage);
    out.text(this.#reason);
    out.u8(this.#exitCode === undefined ? 0 : 1);
    out.u32(this.#exitCode ?? 0);
    this.#timers.encode(out);
    out.count(this.#streams.length);
    for (const [name, stream] of this.#streams) {
      out.text(name);
      stream.encode(out);
    }
    return out.finish();
  }

  /** @throws StateError when it is of a machine with other plugins */
  decode(encoded: Uint8Array): void {
    const from = new ByteReader(encoded);
    const stage = from.u8();
    const reason = from.text();
    const coded = from.u8() !== 0;
    const exitCode = from.u32();
    this.#timers.decode(from);
    const count = from.count();
    if (count !== this.#streams.length) {
      throw new StateError(
        `restore random streams: the keyframe has ${count}, this machine ` +
          `${this.#streams.length}, load the plugins of the recording`,
      );
    }
    for (const [name, stream] of this.#streams) {
      const saved = from.text();
      if (saved !== name) {
        throw new StateError(
          `restore the random stream of ${name}: the keyframe has that of ` +
            `${saved} here, load the plugins of the recording`,
        );
      }
      stream.decode(from);
    }
    this.#stage = stage;
    this.#reason = reason;
    this.#exitCode = coded ? exitCode : undefined;
  }
}

/** Encoded kernel state as plain data, for blame. */
export function kernelStateToJson(encoded: Uint8Array): Json {
  const from = new ByteReader(encoded);
  const stage = STAGES[from.u8()] ?? "damaged";
  const reason = from.text();
  const coded = from.u8() !== 0;
  const exitCode = from.u32();
  const timers = timersToJson(from);
  const random: Record<string, Json> = {};
  for (let n = from.count(); n > 0; n--) {
    const name = from.text();
    random[name] = toHex(from.raw(16));
  }
  return {
    stop: { stage, reason, exitCode: coded ? exitCode : null },
    timers,
    random,
  };
}
