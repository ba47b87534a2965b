/**
 * The machine under the kernel: memory and layout, vCPU contexts, the port by
 * which facts leave, and core's `Executor` over the machine loop and an engine.
 * Plugins reach it through HardwareAccess and Devices (cpu/hardware.ts) and are
 * bound late, when all are set up.
 */
import { ConfigError, NotModelled } from "../../core/errors.ts";
import type {
  Edit,
  Executor,
  KernelPort,
  RunOutcome,
} from "../../core/executor.ts";
import { LinearAccess } from "../access.ts";
import type { CpuModel } from "../arch/models.ts";
import { resetVcpu } from "../arch/reset.ts";
import type { CpuContext } from "../context.ts";
import { Devices, DeviceSpace } from "../devices.ts";
import {
  CPU_FACTS,
  CpuRetired,
  MemWrote,
  NotModelledMet,
  RegWrote,
} from "../facts.ts";
import {
  ExceptionFiltering,
  type Hardware,
  HardwareAccess,
  Interrupts,
  Translation,
  Virtualization,
} from "../hardware.ts";
import {
  ActivityState,
  createLayout,
  EventRequest,
  type Layout,
  MACHINE,
  MAX_CPUS,
  MAX_RAM_BYTES,
  VCPU,
} from "../layout.ts";
import { PhysicalMemory } from "../physical.ts";
import type {
  DeliveredEvent,
  ExceptionFilter,
  InterruptController,
  Translator,
  VirtualizationPort,
} from "../port.ts";
import { EventRing } from "../ring.ts";
import { deliverEvent } from "../semantics/system/delivery.ts";
import { Vcpu } from "../vcpu.ts";
import type { Backend } from "./backend.ts";
import { RingFacts } from "./fact_port.ts";
import { LoopEnd, type LoopHost, MachineLoop } from "./loop.ts";
import { LayoutState } from "./paged_state.ts";
import { registerPlace } from "./registers.ts";
import { TURN_STEPS, Turns } from "./turns.ts";

/** Exit code of a triple fault (design §9). */
export const TRIPLE_FAULT_EXIT = 6;

/** What an engine is made from, when all plugins are there. */
export interface EngineWorld {
  /** The kernel's port. */
  readonly port: KernelPort;
  /** The machine's hardware. */
  readonly hardware: Hardware;
}

/** What a machine is made from. */
export interface MachineConfig {
  /** CPU model. */
  readonly model: CpuModel;
  /** Bytes of RAM, a multiple of 4096. */
  readonly ramBytes: number;
  /** vCPUs, 1 to MAX_CPUS; 1 if not given. */
  readonly cpus?: number;
  /** Steps of a vCPU's turn; TURN_STEPS if not given. */
  readonly turnSteps?: number;
  /** Virtual nanoseconds of a step; 1 if not given. */
  readonly pace?: number;
  /** Room in the layout that the engine asks for. */
  readonly engineBytes: number;
  /** Makes the engine. */
  readonly engine: (world: EngineWorld) => Backend;
  /** Loads the guest image and sets the vCPUs' initial registers. */
  readonly boot?: (hardware: Hardware) => void;
}

/** One vCPU's context: fields bound when the plugins are there. */
class Core implements CpuContext {
  readonly v: Vcpu;
  readonly access: LinearAccess;
  translator!: Translator;
  interrupts!: InterruptController;
  virtualization: VirtualizationPort | undefined;
  exceptionFilter: ExceptionFilter | undefined;
  nextRip = 0n;
  shadow = 0;
  delivering: DeliveredEvent | undefined;
  private wanted = false;

  constructor(
    readonly index: number,
    private readonly machine: MachineExecutor,
    readonly layout: Layout,
    readonly model: CpuModel,
    readonly physical: PhysicalMemory,
    readonly devices: DeviceSpace,
    readonly facts: RingFacts,
    memory: WebAssembly.Memory,
    readonly pace: number,
  ) {
    this.v = new Vcpu(memory, layout, index);
    this.access = new LinearAccess(this);
  }

  /** Waiting handlers count: every engine returns at the same boundary for them. */
  get attention(): boolean {
    return this.wanted || this.machine.port.pending();
  }
  set attention(on: boolean) {
    this.wanted = on;
  }

  time(): number {
    return this.machine.step() * this.pace + this.machine.idle();
  }
  random(): bigint {
    return this.machine.port.random.u64();
  }
  deliver(event: DeliveredEvent, payload: bigint): void {
    deliverEvent(this, event, payload);
  }
  notModelled(what: string, manual: string): never {
    const { v, index } = this;
    this.facts.emit(NotModelledMet, { cpu: index, rip: v.rip, what, manual });
    throw new NotModelled(
      `${what}, met at RIP 0x${v.rip.toString(16)} in step ${v.step}`,
      manual,
    );
  }
}

/** See the file header. */
export class MachineExecutor implements Executor, LoopHost {
  /** All of the machine's memory. */
  readonly memory: WebAssembly.Memory;
  /** Where everything lies in it. */
  readonly layout: Layout;
  readonly state: LayoutState;
  readonly pace: number;
  /** What participants get. */
  readonly hardware: Hardware;
  /** The device bus. */
  readonly devices: DeviceSpace;
  /** How facts leave. */
  readonly facts: RingFacts;
  private readonly cores: Core[];
  private readonly turns: Turns;
  private readonly ring: EventRing;
  private readonly u32: Uint32Array;
  private readonly startHandlers: (() => void)[] = [];
  private readonly restoreHandlers: (() => void)[] = [];
  private backend!: Backend;
  private loop!: MachineLoop;

  constructor(
    readonly port: KernelPort,
    private readonly config: MachineConfig,
  ) {
    const cpus = config.cpus ?? 1;
    checkCpus(cpus);
    checkMemory(config.ramBytes);
    const { model, ramBytes } = config;
    this.pace = config.pace ?? 1;
    this.layout = createLayout(cpus, ramBytes, config.engineBytes);
    const pages = this.layout.totalBytes / 65536;
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    this.u32 = new Uint32Array(this.memory.buffer);
    this.ring = new EventRing(this.memory, this.layout);
    this.facts = new RingFacts(port, this.ring);
    this.devices = new DeviceSpace(ramBytes);
    const physical = new PhysicalMemory(
      this.memory,
      this.layout,
      this.devices,
    );
    this.cores = Array.from({ length: cpus }, (_, i) =>
      new Core(
        i,
        this,
        this.layout,
        model,
        physical,
        this.devices,
        this.facts,
        this.memory,
        this.pace,
      ));
    this.turns = new Turns(
      this.memory,
      this.layout,
      this.cores,
      config.turnSteps ?? TURN_STEPS,
    );
    this.state = new LayoutState(this.memory, this.layout, {
      dropWriteGrants: () => this.backend.dropWriteGrants(),
      restored: () => this.restored(),
    });
    this.hardware = this.makeHardware(physical);
    port.declare(CPU_FACTS);
    port.provide(HardwareAccess, this.hardware);
    port.provide(Devices, this.devices);
    physical.onCodeWritten((page, first, last) =>
      this.backend.codeWritten(page, first, last)
    );
    for (const { v, index } of this.cores) {
      resetVcpu(v, model, false);
      if (index !== 0) v.activity = ActivityState.WaitForSipi;
    }
  }

  private makeHardware(physical: PhysicalMemory): Hardware {
    const { cores } = this;
    return {
      memory: this.memory,
      layout: this.layout,
      model: this.config.model,
      physical,
      cpus: cores,
      dropGrants: (cpu, page) => this.backend?.dropGrants(cpu, page),
      setInterruptLine: (cpu, asserted) => {
        const { v } = cores[cpu];
        const old = v.eventRequest;
        const now = asserted
          ? old | EventRequest.Interrupt
          : old & ~EventRequest.Interrupt;
        if (now === old) return;
        v.eventRequest = now;
        cores[cpu].attention = true;
      },
      turn: () => this.turns.index,
      nextTurn: () => this.turns.next,
      request: (cpu, event) => {
        const { v } = cores[cpu];
        // What waited for a start-up IPI before an INIT waits for another.
        if (event & EventRequest.Init) v.eventRequest &= ~EventRequest.Sipi;
        v.eventRequest |= event;
        cores[cpu].attention = true;
      },
      startUp: (cpu, vector) => {
        const { v } = cores[cpu];
        // The first one starts it; what comes before its turn is too late.
        if (v.eventRequest & EventRequest.Sipi) return;
        v.setWord(VCPU.sipiVector, vector & 0xff);
        this.hardware.request(cpu, EventRequest.Sipi);
      },
      onStart: (handler) => void this.startHandlers.push(handler),
      onRestored: (handler) => void this.restoreHandlers.push(handler),
    };
  }

  get name(): string {
    return this.backend.name;
  }

  /** Binds the plugins' services and loads the guest. */
  start(): void {
    const { port, cores } = this;
    const translator = port.service(Translation).get();
    if (translator === undefined) {
      throw new ConfigError(
        "start the machine: no plugin translates addresses; add the plugin mmu",
      );
    }
    const virtualization = port.service(Virtualization).get();
    const exceptionFilter = port.service(ExceptionFiltering).get();
    const interrupts = port.service(Interrupts).get() ??
      this.noInterruptController();
    for (const core of cores) {
      core.translator = translator;
      core.virtualization = virtualization;
      core.exceptionFilter = exceptionFilter;
      core.interrupts = interrupts;
    }
    this.backend = this.config.engine({ port, hardware: this.hardware });
    this.backend.attach(cores);
    this.loop = new MachineLoop(cores, this.turns, this.backend, this);
    this.config.boot?.(this.hardware);
  }

  private noInterruptController(): InterruptController {
    const { cores } = this;
    return {
      acknowledge: () => -1,
      readTpr: (cpu) => cores[cpu].v.word(VCPU.cr8),
      writeTpr: (cpu, value) => cores[cpu].v.setWord(VCPU.cr8, value),
    };
  }

  step(): number {
    return this.cores[0].v.step;
  }
  idle(): number {
    const at = (this.layout.state + MACHINE.idle) >>> 2;
    return this.u32[at] + this.u32[at + 1] * 2 ** 32;
  }
  setIdle(nanoseconds: number): void {
    const at = (this.layout.state + MACHINE.idle) >>> 2;
    this.u32[at] = nanoseconds >>> 0;
    this.u32[at + 1] = Math.floor(nanoseconds / 2 ** 32);
  }

  run(limitStep: number): RunOutcome {
    const started = (this.layout.state + MACHINE.started) >>> 2;
    if (this.u32[started] === 0) {
      this.u32[started] = 1;
      for (const handler of this.startHandlers) handler();
    }
    this.ring.rebase(this.step());
    const end = this.loop.run(limitStep);
    switch (end) {
      case LoopEnd.Idle:
        return { kind: "idle" };
      case LoopEnd.Shutdown:
        return {
          kind: "stopped",
          reason: "triple fault",
          exitCode: TRIPLE_FAULT_EXIT,
        };
      case LoopEnd.Stuck:
        return {
          kind: "stuck",
          loop: this.where(),
          exitCode: TRIPLE_FAULT_EXIT,
        };
      case LoopEnd.Yield:
        return { kind: "yield" };
      default:
        return { kind: "limit" };
    }
  }

  private where(): string {
    const { v, index } = this.turns.cpu;
    const mode = v.guestMode === 0 ? "" : ", in guest mode";
    const who = this.turns.several ? `vCPU ${index}: ` : "";
    return `${who}faults or exits without a step at RIP 0x${
      v.rip.toString(16)
    }, CR3 0x${v.cr3.toString(16)}${mode}`;
  }

  shorten(limitStep: number): void {
    if (limitStep < this.loop.limit) this.loop.limit = limitStep;
    for (const core of this.cores) core.attention = true;
  }

  interest(hot: Uint32Array, perStep: boolean): void {
    const wants = (id: number): boolean =>
      ((hot[id >>> 5] ?? 0) & (1 << (id & 31))) !== 0;
    const memory = wants(MemWrote.id);
    const registers = wants(RegWrote.id);
    const observed = wants(CpuRetired.id) || memory || registers;
    this.facts.select(observed, memory, registers);
    this.loop.perStep = perStep;
    // The ring counts steps by its cpu.retired records.
    this.backend.observe({ retired: observed, memory, registers });
  }

  drain(): void {
    this.facts.drain();
  }

  // --- LoopHost
  pump(_cpu: CpuContext): void {
    if (this.loop.perStep || this.ring.nearlyFull) this.drain();
    if (this.port.pending()) {
      this.drain();
      this.port.pump();
    }
  }
  waiting(): boolean {
    return this.port.pending();
  }
  rebase(): void {
    this.drain();
    this.ring.rebase(this.step());
  }

  canEdit(change: Edit): string | undefined {
    if (change.kind === "memory") {
      const end = change.physicalAddress + change.bytes.length;
      return change.physicalAddress < 0 || end > this.layout.ramBytes
        ? `memory 0x${change.physicalAddress.toString(16)}: RAM ends at 0x${
          this.layout.ramBytes.toString(16)
        }`
        : undefined;
    }
    if (change.vcpu >= this.cores.length) {
      return `vCPU ${change.vcpu}: the machine has ${this.cores.length}`;
    }
    return registerPlace(change.register) === undefined
      ? `register ${change.register}: no such register (write gpr.rax, rip, ` +
        `rflags, cs.base …)`
      : undefined;
  }

  edit(change: Edit): void {
    const wrong = this.canEdit(change);
    if (wrong !== undefined) throw new RangeError(`edit ${wrong}`);
    if (change.kind === "memory") {
      this.hardware.physical.writeBytes(change.physicalAddress, change.bytes);
      return;
    }
    const place = registerPlace(change.register)!;
    const { v } = this.cores[change.vcpu];
    if (place.bytes === 8) v.setQuad(place.offset, change.value);
    else v.setWord(place.offset, Number(change.value & 0xffff_ffffn));
    this.restored();
  }

  /** State was replaced from outside: everything derived goes. */
  private restored(): void {
    this.backend.reset();
    this.loop.reset();
    for (const core of this.cores) {
      core.v.pending = undefined;
      core.v.stage2 = undefined;
      core.delivering = undefined;
      core.attention = true;
    }
    for (const handler of this.restoreHandlers) handler();
  }
}

/** @throws ConfigError if a machine can't have so many vCPUs */
export function checkCpus(cpus: number): void {
  if (!(cpus >= 1 && cpus <= MAX_CPUS)) {
    throw new ConfigError(
      `make a machine with ${cpus} vCPUs: at most ${MAX_CPUS} are modelled; ` +
        `write cpus: ${MAX_CPUS} or fewer`,
    );
  }
}

/** @throws ConfigError if a machine can't have so much memory */
export function checkMemory(ramBytes: number): void {
  if (ramBytes <= 0 || ramBytes % 4096 !== 0) {
    throw new ConfigError(
      `make a machine with ${ramBytes} bytes of memory: it must be a multiple ` +
        `of 4096; write for example memory: 64MiB`,
    );
  }
  if (ramBytes > MAX_RAM_BYTES) {
    throw new ConfigError(
      `make a machine with ${ramBytes} bytes of memory: at most ` +
        `${MAX_RAM_BYTES} fit; write memory: 3GiB or less`,
    );
  }
}
