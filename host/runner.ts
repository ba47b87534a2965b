/**
 * Runs a machine to its end as a scenario says: in slices, so that the host
 * is polled (design law 8), with scheduled inputs at their steps, recording,
 * and the scenario's expectations judged. Front ends give it their world.
 * Invariant: how the run is sliced changes no fact; whatever ends it, the tape
 * is closed with everything the machine consumed on it.
 */
import { toHex } from "../core/bytes.ts";
import {
  ConfigError,
  messageOf,
  NotModelled,
  VmtapeError,
} from "../core/errors.ts";
import type { EventToken } from "../core/event.ts";
import type { Json } from "../core/fields.ts";
import type { Kernel } from "../core/kernel.ts";
import { MachineInterrupted } from "../core/machine_events.ts";
import { Recorder, tapeWriter } from "../core/recorder.ts";
import type { StopInfo } from "../core/sink.ts";
import type { ByteSink } from "../core/tape/store.ts";
import type { SerialPort } from "./machines.ts";
import { didYouMean } from "./scenario/spelling.ts";
import type {
  CountBound,
  Expectation,
  RecordPolicy,
  Scenario,
  ScheduledInput,
} from "./scenario/types.ts";

/** Slices aim at this long between two looks at the world. */
const SLICE_MS = 40;
const SLICE_STEPS: readonly [least: number, first: number, most: number] = [
  1 << 10,
  1 << 16,
  1 << 26,
];

/** The world of a run. */
export interface RunWorld {
  /** Bytes that the guest sent since the last call. */
  serial(bytes: Uint8Array): void;
  progress(step: number): void;
  now(): number;
  breathe(): Promise<void>;
  /** Bytes from outside for the guest's serial port, since the last call. */
  received(): Uint8Array | undefined;
  /** Resolves when `received` or `ending` may answer something new; undefined if that can't happen. */
  more(): Promise<void> | undefined;
  /**
   * Asked at each step boundary where the host looks at the world: if the run
   * shall stand still here, resolves when it shall go on.
   * @param inputs recorded so far
   */
  hold?(inputs: number): Promise<void> | undefined;
  /** Whether the run shall be cut short, and why. */
  ending(): "interrupt" | "timeout" | undefined;
}

/** How to record. */
export interface Recording {
  readonly sink: ByteSink;
  readonly detail: RecordPolicy;
  /** What a replay by this host wants to find again. */
  readonly host?: Json;
}

/** How a run ended. */
export interface RunResult {
  /** ended: by the guest; steps: at the limit; waiting: halted for good. */
  readonly kind:
    | "ended"
    | "steps"
    | "waiting"
    | "interrupt"
    | "timeout"
    | "not-modelled";
  readonly reason: string;
  /** What the guest (or the machine) wants the process to exit with. */
  readonly exitCode?: number;
  readonly step: number;
  readonly time: number;
  readonly inputs: number;
  readonly serial: Uint8Array;
  /** Expectations that were not met, one line each. */
  readonly unmet: readonly string[];
  /** The tape's chain head in hexadecimal, if there is a tape. */
  readonly chainHead?: string;
}

/** Gathers a guest's bytes. */
class SerialLog {
  #bytes = new Uint8Array(4096);
  #length = 0;
  #taken = 0;

  push(byte: number): undefined {
    if (this.#length === this.#bytes.length) {
      const grown = new Uint8Array(this.#length * 2);
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    this.#bytes[this.#length++] = byte;
  }

  /** What came since the last call. */
  take(): Uint8Array {
    const bytes = this.#bytes.slice(this.#taken, this.#length);
    this.#taken = this.#length;
    return bytes;
  }

  all(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }
}

/** Runs one scenario's machine. */
export class Runner {
  readonly #log = new SerialLog();
  readonly #counts = new Map<string, number>();
  readonly #pending: ScheduledInput[];
  #sliceSteps: number = SLICE_STEPS[1];
  #cut: "interrupt" | "timeout" | undefined;

  /**
   * @throws {ConfigError} if the scenario names events or a port that the
   *   machine doesn't have
   */
  constructor(
    private readonly kernel: Kernel,
    private readonly scenario: Scenario,
    private readonly port: SerialPort | undefined,
    private readonly world: RunWorld,
  ) {
    this.#pending = [...scenario.inputs];
    for (const input of this.#pending) this.#prepare(input);
    for (const name of Object.keys(scenario.expect.events)) {
      const event = this.#event(name, "expect.events");
      this.#counts.set(name, 0);
      kernel.watch(
        event,
        () => void this.#counts.set(name, this.#counts.get(name)! + 1),
      );
    }
    port?.listen((byte) => this.#log.push(byte));
  }

  /** Runs to the end; `recording` says where the tape goes. */
  async run(recording?: Recording): Promise<RunResult> {
    const { kernel } = this;
    const recorder = recording &&
      Recorder.start(kernel, tapeWriter(recording.sink), {
        detail: recording.detail,
        host: recording.host,
      });
    let info: StopInfo | NotModelled;
    try {
      info = await this.#loop(recorder);
    } catch (error) {
      this.#showSerial();
      if (!(error instanceof NotModelled)) {
        if (recorder !== undefined) closeAfter(error, recorder);
        throw error;
      }
      info = error;
    }
    this.#showSerial();
    recorder?.finish();
    return this.#result(info, recorder);
  }

  #event(name: string, where: string): EventToken {
    const event = this.kernel.events.get(name);
    if (event !== undefined) return event;
    throw new ConfigError(
      `${where}: no plugin of this machine declares ${name}${
        didYouMean(name, this.kernel.events.keys())
      }`,
    );
  }

  /** Turns a scheduled input into the call that injects it. */
  #prepare(input: ScheduledInput): () => void {
    if (input.serial !== undefined) {
      const { port } = this;
      const bytes = input.serial;
      if (port !== undefined) return () => port.send(bytes);
      throw new ConfigError(
        "inputs: serial needs a serial port, add uart16550 to plugins or use platform: pc",
      );
    }
    const { name, payload } = input.event!;
    const event = this.#event(name, "inputs");
    if (event.kind !== "input") {
      throw new ConfigError(
        `inputs: ${name} is a ${event.kind}, only inputs can be scheduled`,
      );
    }
    const value = event.fromJson(payload);
    return () =>
      this.kernel.inject(event as EventToken<unknown, "input">, value);
  }

  async #loop(recorder: Recorder | undefined): Promise<StopInfo> {
    const { kernel, world } = this;
    const limit = this.scenario.steps ?? Number.MAX_SAFE_INTEGER;
    for (;;) {
      const held = world.hold?.(recorder?.inputs ?? 0);
      if (held !== undefined) await held;
      this.#takeInputs();
      const next = this.#pending[0];
      const untilStep = Math.min(limit, next?.at ?? limit);
      const before = { step: kernel.moment.step, now: world.now() };
      const info = kernel.run({
        budgetSteps: this.#sliceSteps,
        ...(untilStep < Number.MAX_SAFE_INTEGER ? { untilStep } : {}),
      });
      this.#adapt(info.step - before.step, world.now() - before.now);
      this.#showSerial();
      if (info.kind === "stopped") return info;
      if (info.kind === "step" && info.step >= limit) return info;
      // an input is due; one for a later step comes now if nothing else can wake the machine
      const due = info.kind === "step" || info.kind === "waiting";
      if (due && next !== undefined && this.#cut === undefined) {
        this.#pending.shift();
        this.#prepare(next)();
        continue;
      }
      world.progress(info.step);
      if (info.kind === "waiting" && kernel.queued === 0) {
        const more = world.more();
        if (more === undefined) return info;
        await more;
      } else await world.breathe();
    }
  }

  /** Injects what came from outside. */
  #takeInputs(): void {
    const { kernel, world } = this;
    if (this.#cut === undefined) {
      this.#cut = world.ending();
      if (this.#cut !== undefined) kernel.inject(MachineInterrupted, {});
    }
    const bytes = world.received();
    if (bytes !== undefined && bytes.length > 0 && this.#cut === undefined) {
      this.port?.send(bytes);
    }
  }

  #adapt(steps: number, ms: number): void {
    if (steps === 0) return;
    const [least, , most] = SLICE_STEPS;
    const wanted = ms < 1 ? this.#sliceSteps * 4 : steps * SLICE_MS / ms;
    this.#sliceSteps = Math.max(least, Math.min(most, Math.floor(wanted)));
  }

  #showSerial(): void {
    const bytes = this.#log.take();
    if (bytes.length > 0) this.world.serial(bytes);
  }

  #result(
    info: StopInfo | NotModelled,
    recorder: Recorder | undefined,
  ): RunResult {
    const common = {
      ...this.kernel.moment,
      inputs: recorder?.inputs ?? 0,
      serial: this.#log.all(),
      ...(recorder === undefined
        ? {}
        : { chainHead: toHex(recorder.chainHead) }),
    };
    if (info instanceof NotModelled) {
      return {
        ...common,
        kind: "not-modelled",
        reason: messageOf(info),
        unmet: [],
      };
    }
    const kind = info.kind === "stopped"
      ? this.#cut ?? "ended"
      : info.kind === "waiting"
      ? "waiting"
      : "steps";
    const reason = {
      ended: info.reason ?? "",
      steps: `the limit of ${this.scenario.steps} steps`,
      waiting: "the machine is halted and nothing can wake it",
      interrupt: "interrupted",
      timeout: "timed out",
    }[kind];
    const cut = kind === "interrupt" || kind === "timeout";
    return {
      ...common,
      kind,
      reason,
      ...(info.exitCode === undefined || cut
        ? {}
        : { exitCode: info.exitCode }),
      unmet: unmet(this.scenario.expect, {
        exit: info.exitCode ?? 0,
        counts: this.#counts,
        serial: new TextDecoder().decode(common.serial),
      }),
    };
  }
}

/**
 * Closes the tape of a run that `error` ended. The store itself may be what
 * failed: then the tape stays torn, and `error` says so already.
 */
function closeAfter(error: unknown, recorder: Recorder): void {
  try {
    recorder.finish();
  } catch (second) {
    if (error instanceof VmtapeError && error.code === "store") return;
    throw new AggregateError(
      [error, second],
      `${messageOf(error)}; closing the tape failed too: ${messageOf(second)}`,
    );
  }
}

const HOLDS: Readonly<
  Record<CountBound["comparison"], (count: number, bound: number) => boolean>
> = {
  "==": (a, b) => a === b,
  "!=": (a, b) => a !== b,
  ">=": (a, b) => a >= b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  "<": (a, b) => a < b,
};

/** Expectations that don't hold, one line each. */
export function unmet(
  expect: Expectation,
  found: {
    readonly exit: number;
    readonly counts: ReadonlyMap<string, number>;
    readonly serial: string;
  },
): string[] {
  const lines: string[] = [];
  if (expect.exit !== undefined && expect.exit !== found.exit) {
    lines.push(`exit: expected ${expect.exit}, found ${found.exit}`);
  }
  for (const [name, { comparison, count }] of Object.entries(expect.events)) {
    const seen = found.counts.get(name) ?? 0;
    if (!HOLDS[comparison](seen, count)) {
      lines.push(
        `events: expected ${name} ${comparison} ${count}, found ${seen}`,
      );
    }
  }
  for (const text of expect.serial) {
    if (!found.serial.includes(text)) {
      lines.push(`serial: expected ${JSON.stringify(text)} in the output`);
    }
  }
  return lines;
}
