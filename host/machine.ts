/**
 * Makes machines: from a scenario (guest image, platform, plugins) or from a
 * tape's manifest, whose state then comes from the tape.
 * Invariant: everything that a replay must match goes through the kernel's
 * manifest; the engine's choice does not.
 */
import { createHash } from "node:crypto";
import { ConfigError } from "../core/errors.ts";
import type { KernelPort } from "../core/executor.ts";
import type { Json } from "../core/fields.ts";
import { Kernel } from "../core/kernel.ts";
import type { PluginUse } from "../core/plugin.ts";
import type { Late } from "../core/service.ts";
import type { TapeManifest } from "../core/tape/manifest.ts";
import { parseModel } from "../cpu/arch/models.ts";
import type { CpuContext } from "../cpu/context.ts";
import type { Backend } from "../cpu/engine/backend.ts";
import {
  checkCpus,
  checkMemory,
  type EngineWorld,
  MachineExecutor,
} from "../cpu/engine/executor.ts";
import { ReferenceEngine } from "../cpu/engine/reference/reference.ts";
import { T0Engine, t0EngineBytes } from "../cpu/engine/t0/engine.ts";
import { TURN_STEPS } from "../cpu/engine/turns.ts";
import type { Hardware } from "../cpu/hardware.ts";
import { MAX_RAM_BYTES } from "../cpu/layout.ts";
import { initialize as initializeX87 } from "../cpu/semantics/fpu_control.ts";
import {
  DecoderService,
  type InstructionDecoder,
} from "../plugins/decoder/api.ts";
import { L0_RESERVE_BYTES } from "../plugins/hypervisor/api.ts";
import { Mmu, type MmuService } from "../plugins/mmu/api.ts";
import {
  UartConsole,
  type UartConsoleService,
} from "../plugins/uart16550/api.ts";
import { CATALOG, platformUses } from "./catalog.ts";
import { consoleOf } from "./console.ts";
import { HardwareInspector } from "./inspector.ts";
import {
  type LoadedGuest,
  loadGuest,
  readSymbolFile,
  readSymbols,
} from "./loader/mod.ts";
import {
  type GuestSymbol,
  type Inspector,
  type MachineOptions,
  type Machines,
  MisfitError,
  type ScenarioFiles,
} from "./machines.ts";
import { didYouMean } from "./scenario/spelling.ts";
import type { GuestSpec, Path, Scenario } from "./scenario/types.ts";

const MIB = 1 << 20;

/** An engine by name. */
interface EngineKind {
  readonly name: string;
  /** Room that it needs in the machine's memory for so many vCPUs. */
  readonly bytes: (cpus: number) => number;
  readonly make: (world: EngineWorld) => Backend;
}

function decoderOf({ port, hardware }: EngineWorld): InstructionDecoder {
  const factory = port.service(DecoderService).get();
  if (factory === undefined) {
    throw new ConfigError(
      "start the machine: no plugin decodes instructions; add the plugin decoder",
    );
  }
  return factory.create(hardware.model);
}

/** Engines, the fastest first. */
const ENGINES: readonly EngineKind[] = [
  {
    name: "t0",
    bytes: t0EngineBytes,
    make: (world) => new T0Engine(decoderOf(world)),
  },
  {
    name: "reference",
    bytes: () => 0,
    make: (world) => new ReferenceEngine(decoderOf(world)),
  },
];

function engineOf(name: string | undefined): EngineKind {
  if (name === undefined) return ENGINES[0];
  const found = ENGINES.find((engine) => engine.name === name);
  if (found !== undefined) return found;
  const names = ENGINES.map((engine) => engine.name);
  throw new ConfigError(
    `choose engine ${name}: there is no such engine; use ${names.join(" or ")}${
      didYouMean(name, names)
    }`,
  );
}

/** What the manifest says of the machine; a replay is made from it. */
interface MachineRecord {
  readonly cpu: string;
  readonly ramBytes: number;
  readonly cpus: number;
  /** Steps of a vCPU's turn; only where there are several. */
  readonly quantum?: number;
  /** Virtual nanoseconds of a step; only where it isn't 1. */
  readonly pace?: number;
  /** SHA-256 of everything that was loaded, by name. */
  readonly images: { readonly [name: string]: string };
}

/** What is behind a kernel of ours. */
interface Insides {
  readonly hardware: Hardware;
  readonly mmu: Late<MmuService>;
  readonly console: Late<UartConsoleService>;
}
const insides = new WeakMap<Kernel, Insides>();

function load(
  record: MachineRecord,
  plugins: readonly PluginUse[],
  seed: bigint,
  engineName: string | undefined,
  guest: LoadedGuest | undefined,
): Kernel {
  const engine = engineOf(engineName);
  const model = parseModel(record.cpu);
  let made: Insides | undefined;
  const kernel = Kernel.load({
    plugins,
    seed,
    machine: { ...record, images: { ...record.images } } as Json,
    executor: (port: KernelPort) => {
      const executor = new MachineExecutor(port, {
        model,
        ramBytes: record.ramBytes,
        cpus: record.cpus,
        turnSteps: record.quantum,
        pace: record.pace,
        engineBytes: engine.bytes(record.cpus),
        engine: engine.make,
        boot: (hardware) => {
          if (guest !== undefined) boot(hardware, guest);
        },
      });
      made = {
        hardware: executor.hardware,
        mmu: port.service(Mmu),
        console: port.service(UartConsole),
      };
      return executor;
    },
  });
  if (made !== undefined) insides.set(kernel, made);
  return kernel;
}

/**
 * Copies the guest into RAM and the initial state into vCPU 0. Every vCPU has
 * executed FNINIT, as firmware does: after reset all x87 exceptions are unmasked
 * and all registers in use (SDM 3A table 9-1), which guests do not expect.
 */
function boot(hardware: Hardware, guest: LoadedGuest): void {
  hardware.cpus.forEach(initializeX87);
  for (const { physicalAddress, bytes } of guest.segments) {
    if (bytes.length > 0) hardware.physical.writeBytes(physicalAddress, bytes);
  }
  const { v }: CpuContext = hardware.cpus[0];
  const { start } = guest;
  v.cr0 = start.cr0 >>> 0;
  v.cr3 = start.cr3;
  v.cr4 = start.cr4 >>> 0;
  v.efer = start.efer >>> 0;
  v.rflags = start.rflags >>> 0;
  v.rip = start.rip;
  start.gpr.forEach((value, i) => v.setGpr(i, value));
  start.segments.forEach((segment, s) => v.setSegment(s, segment));
  v.setGdtr(start.gdtr.base, start.gdtr.limit);
  v.setIdtr(start.idtr.base, start.idtr.limit);
  v.cpl = 0;
}

const hash = (bytes: Uint8Array): string =>
  createHash("sha256").update(bytes).digest("hex");

function bytesOf(
  files: ScenarioFiles,
  path: string,
  what: string,
): Uint8Array {
  const bytes = files.get(path);
  if (bytes === undefined) {
    throw new ConfigError(
      `load ${what} ${path}: its bytes were not given; read the file first`,
    );
  }
  return bytes;
}

/** Loads a scenario's guest. */
function loadOf(
  scenario: Scenario,
  guest: GuestSpec,
  files: ScenarioFiles,
): { loaded: LoadedGuest; images: Record<string, string> } {
  const bytes = guest.path === undefined
    ? new TextEncoder().encode(guest.text ?? "")
    : bytesOf(files, guest.path, "guest");
  const file = guest.path ?? "guest text";
  const modules = guest.modules.map(({ path, append }) => ({
    file: path,
    append,
    bytes: bytesOf(files, path, "module"),
  }));
  const images: Record<string, string> = { guest: hash(bytes) };
  modules.forEach(({ bytes: b }, i) => images[`module${i}`] = hash(b));
  if (guest.append !== "") {
    images.append = hash(new TextEncoder().encode(guest.append));
  }
  const loaded = loadGuest(guest.format, {
    file,
    bytes,
    append: guest.append,
    modules,
    memoryBytes: scenario.machine.memory,
    address: guest.address,
    mode: guest.mode,
  });
  return { loaded, images };
}

/** Runs `make`; what it refuses is blamed on one place of the scenario. */
function blaming<T>(at: Path, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw error instanceof ConfigError ? new MisfitError(at, error) : error;
  }
}

function create(
  scenario: Scenario,
  files: ScenarioFiles,
  options: MachineOptions,
): Kernel {
  const { machine, guest } = scenario;
  const model = blaming(["machine", "cpu"], () => parseModel(machine.cpu));
  blaming(["machine", "cpus"], () => checkCpus(machine.cpus));
  const plugins = platformUses(model, machine.platform, options.uses);
  const nested = plugins.some(({ plugin }) => plugin.name === "hypervisor");
  blaming(["machine", "memory"], () => {
    if (nested && machine.memory + L0_RESERVE_BYTES > MAX_RAM_BYTES) {
      throw new ConfigError(
        `make a machine with plugin hypervisor: it needs ${
          L0_RESERVE_BYTES / MIB
        } MiB beside the guest's ${machine.memory / MIB} MiB; write memory: ${
          (MAX_RAM_BYTES - L0_RESERVE_BYTES) / MIB
        }MiB or less`,
      );
    }
    checkMemory(machine.memory);
  });
  const { loaded, images } = guest === undefined
    ? { loaded: undefined, images: {} }
    : blaming(
      ["guest", guest.format],
      () => loadOf(scenario, guest, files),
    );
  return load(
    {
      cpu: machine.cpu,
      ramBytes: machine.memory + (nested ? L0_RESERVE_BYTES : 0),
      cpus: machine.cpus,
      ...(machine.cpus > 1 ? { quantum: machine.quantum ?? TURN_STEPS } : {}),
      ...((machine.pace ?? 1) > 1 ? { pace: machine.pace } : {}),
      images,
    },
    plugins,
    machine.seed,
    options.engine,
    loaded,
  );
}

/** A participant as a manifest names it. */
interface Recorded {
  readonly name: string;
  readonly options: { readonly [name: string]: unknown };
}

function fromManifest(
  manifest: TapeManifest,
  options: MachineOptions,
): Kernel {
  const recorded = manifest.machine as unknown as {
    readonly seed: string;
    readonly machine: MachineRecord;
    readonly participants: readonly Recorded[];
  };
  const given = new Map(options.uses.map((use) => [use.plugin.name, use]));
  const plugins: PluginUse[] = recorded.participants.map((participant) => {
    const { name } = participant;
    const use = given.get(name);
    given.delete(name);
    const plugin = use?.plugin ?? CATALOG.get(name);
    if (plugin === undefined) {
      throw new ConfigError(
        `load plugin ${name} of the tape: it is none of ours; name its file ` +
          "with --plugin",
      );
    }
    return { ...use, plugin, options: participant.options };
  });
  return load(
    recorded.machine,
    [...plugins, ...given.values()],
    BigInt(recorded.seed),
    options.engine,
    undefined,
  );
}

/** The machines of this project. */
export const machines: Machines = {
  catalog: CATALOG,
  engines: ENGINES.map((engine) => engine.name),
  create,
  factory: (options) => (manifest) => fromManifest(manifest, options),
  serial: (kernel) => consoleOf(kernel, insides.get(kernel)?.console.get()),
  symbols: (guest, bytes): readonly GuestSymbol[] =>
    readSymbols(guest.format, { file: guest.path ?? "guest text", bytes })
      .all,
  symbolFile: (file, bytes) => readSymbolFile(bytes, file).all,
  inspector(kernel, symbols): Inspector | undefined {
    const inside = insides.get(kernel);
    const mmu = inside?.mmu.get();
    return inside === undefined || mmu === undefined
      ? undefined
      : new HardwareInspector(inside.hardware, mmu, symbols);
  },
};
