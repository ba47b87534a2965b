/**
 * A world for tests of the command line: an Io that remembers, a folder of its
 * own, and Machines that makes toy machines (tests/toy) or real ones, so that
 * every command runs in-process on real tapes.
 * Invariant: nothing is mocked below Machines: kernel, tape and files are real.
 */
import { Kernel } from "../../core/kernel.ts";
import type { EventToken } from "../../core/event.ts";
import type { Plugin, PluginUse } from "../../core/plugin.ts";
import {
  OP,
  TOY_OBSERVERS,
  TOY_PARTICIPANTS,
  toyConfig,
  ToySerialReceived,
  ToySerialSent,
} from "../../tests/toy/mod.ts";
import type { Inspector, Machines } from "../machines.ts";
import type { Io, Keys } from "./io.ts";
import { main } from "./main.ts";

/** Sends back what it gets, until "q". */
export const ECHO = `start:
  mov dx, 0x3f8 + 5
wait:
  in al, dx
  test al, 1
  jz wait
  mov dx, 0x3f8
  in al, dx
  cmp al, 'q'
  je done
  out dx, al
  jmp start
done:
  mov al, 0
  out 0xf4, al
`;

/** A keyboard that a test presses; knows whether the terminal is raw. */
export class TestKeys implements Keys {
  raw = false;
  /** How often it was made raw. */
  opened = 0;
  #handler: (bytes: Uint8Array) => void = () => {};

  open(handler: (bytes: Uint8Array) => void): () => void {
    this.raw = true;
    this.opened++;
    this.#handler = handler;
    return () => void (this.raw = false);
  }

  /** Types: `^]` and so on are control keys. */
  press(text: string): void {
    const bytes = text.replace(
      /\^([@-_])/g,
      (_, key: string) => String.fromCharCode(key.charCodeAt(0) & 0x1f),
    );
    this.#handler(new TextEncoder().encode(bytes));
  }
}

/** An Io that keeps what is written. */
export class TestIo implements Io {
  readonly isTerminal = { out: false, err: false };
  piped: AsyncIterable<Uint8Array> | undefined;
  keys: TestKeys | undefined;
  /** Called at each look at the world; may press Ctrl-C. */
  onBreathe: (pressInterrupt: () => void) => void = () => {};
  /** Milliseconds that pass at each look at the clock. */
  tick = 1;
  #out: number[] = [];
  #err = "";
  #now = 0;
  #handlers = new Set<() => void>();

  out(data: string | Uint8Array): void {
    this.#out.push(
      ...(typeof data === "string" ? new TextEncoder().encode(data) : data),
    );
  }
  err(text: string): void {
    this.#err += text;
  }
  onInterrupt(handler: () => void): () => void {
    this.#handlers.add(handler);
    return () => this.#handlers.delete(handler);
  }
  now(): number {
    return this.#now += this.tick;
  }
  breathe(): Promise<void> {
    this.onBreathe(() => this.#handlers.forEach((handler) => handler()));
    return new Promise((resolve) => setTimeout(resolve, 0));
  }
  /** Everything on standard output. */
  get stdout(): string {
    return new TextDecoder().decode(Uint8Array.from(this.#out));
  }
  /** Everything on standard error. */
  get stderr(): string {
    return this.#err;
  }
}

const OPS = new Map(
  Object.entries(OP).map(([name, op]) => [op as number, name]),
);

/** Reads a toy machine. */
function toyInspector(kernel: Kernel): Inspector {
  const { statePages } = kernel.executor.state;
  const word = (at: number): number =>
    new DataView(kernel.capture().pages.page(0).bytes.slice().buffer)
      .getUint32(at, true);
  const memory = (from: number, length: number): Uint8Array => {
    const bytes: number[] = [];
    const { pages } = kernel.capture();
    for (let at = from; at < from + length; at++) {
      const page = statePages + Math.floor(at / 4096);
      if (page >= pages.pageCount) break;
      bytes.push(pages.page(page).bytes[at % 4096]);
    }
    return Uint8Array.from(bytes);
  };
  const hex = (value: number): string => `0x${value.toString(16)}`;
  return {
    cpus: 1,
    turn: 0,
    registers: () => [
      ...Array.from({ length: 8 }, (_, i) => ({
        name: `r${i}`,
        value: hex(word(4 * i)),
      })),
      { name: "pc", value: hex(word(32)) },
    ],
    walk: (_cpu, linear) => ({
      rows: [{ level: "toy", address: "0x0", entry: "0x0", meaning: "flat" }],
      result: `0x${linear.toString(16)}`,
    }),
    disassemble: (_cpu, count) => {
      const pc = word(32);
      return Array.from({ length: count }, (_, i) => {
        const bytes = memory(pc + 4 * i, 4);
        return {
          address: hex(pc + 4 * i),
          bytes: [...bytes].map((b) => b.toString(16).padStart(2, "0")).join(
            "",
          ),
          text: OPS.get(bytes[0]) ?? "?",
        };
      });
    },
    memory,
    guestSymbols: () => [],
    name: () => {},
  };
}

/** Machines that makes toys; the guest is a flat image of toy code. */
export function toyMachines(catalog: readonly Plugin[] = []): Machines {
  const plugins = [...TOY_PARTICIPANTS, ...TOY_OBSERVERS].map((u) => u.plugin);
  const load = (
    program: Uint8Array,
    ramPages: number,
    seed: bigint,
    uses: readonly PluginUse[],
  ): Kernel => {
    const config = toyConfig({ program, ramPages, seed, more: uses });
    return Kernel.load({ ...config, machine: { toy: 1, ramPages } });
  };
  return {
    catalog: new Map([...plugins, ...catalog].map((p) => [p.name, p])),
    engines: ["toy", "chopped"],
    create(scenario, files, { uses }) {
      const program = files.get(scenario.guest?.path ?? "") ??
        new Uint8Array(0);
      const { memory, seed } = scenario.machine;
      return load(program, memory / 4096, seed, uses);
    },
    factory: ({ uses }) => (manifest) => {
      const { machine, seed, participants } = manifest.machine as unknown as {
        machine: { ramPages: number };
        seed: string;
        participants: { name: string }[];
      };
      const own = new Set(TOY_PARTICIPANTS.map((u) => u.plugin.name));
      const more = participants.filter(({ name }) => !own.has(name))
        .map(({ name }) => catalog.find((p) => p.name === name))
        .filter((p) => p !== undefined)
        .map((plugin) => ({ plugin }));
      return load(new Uint8Array(0), machine.ramPages, BigInt(seed), [
        ...more,
        ...uses,
      ]);
    },
    serial: (kernel) => ({
      send: (bytes) => kernel.inject(ToySerialReceived, { bytes }),
      listen: (handler) =>
        kernel.watch(
          ToySerialSent as EventToken<{ readonly byte: number }>,
          ({ byte }) => handler(byte),
        ),
      tail: () => new Uint8Array(0),
      hears: () => true,
    }),
    symbols: () => [],
    symbolFile: () => [],
    inspector: toyInspector,
  };
}

/** A temporary folder in which command lines are run. */
export class Workbench {
  readonly folder: URL;
  readonly machines: Machines;

  /** @param machines what commands run on; toys by default */
  constructor(
    catalog: readonly Plugin[] = [],
    machines: Machines = toyMachines(catalog),
  ) {
    this.folder = new URL(`file://${Deno.makeTempDirSync()}/`);
    this.machines = machines;
  }

  /** Writes a file of the folder. */
  put(name: string, data: string | Uint8Array): void {
    const url = new URL(name, this.folder);
    if (typeof data === "string") Deno.writeTextFileSync(url, data);
    else Deno.writeFileSync(url, data);
  }

  /** Reads a file of the folder. */
  get(name: string): Uint8Array {
    return Deno.readFileSync(new URL(name, this.folder));
  }

  /** Runs a command line; words are split at spaces. */
  async run(
    line: string | readonly string[],
    prepare: (io: TestIo) => void = () => {},
  ): Promise<{ status: number; out: string; err: string }> {
    const io = new TestIo();
    prepare(io);
    const args = typeof line === "string" ? line.split(" ") : line;
    const status = await main(args, {
      io,
      folder: this.folder,
      machines: () => Promise.resolve(this.machines),
    });
    return { status, out: io.stdout, err: io.stderr };
  }

  /** Runs a command line that must end with `status`, and reads its JSON. */
  async json(line: string, status = 0): Promise<Record<string, unknown>> {
    const result = await this.run(line + " --json");
    if (result.status !== status) {
      throw new Error(`${line}: status ${result.status}: ${result.err}`);
    }
    return JSON.parse(result.out);
  }

  /** Removes the folder. */
  close(): void {
    Deno.removeSync(this.folder, { recursive: true });
  }
}
