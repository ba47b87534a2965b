/**
 * The `introspect` plugin (patent US20170371733A1; design §8): non-faulting
 * reads of guest memory from outside the guest and from in-guest modules.
 *
 * A request becomes cells and the fact `introspect.read-requested`; the plugin
 * itself handles that fact, so that every read happens at a consistent point
 * between two steps, whoever asked and from wherever.
 */
import {
  ConfigError,
  definePlugin,
  list,
  mapOf,
  optional,
  record,
  text,
  u16,
  u32,
  u53,
  u64,
} from "../../core/mod.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { ExceptionFiltering, HardwareAccess } from "../../cpu/hardware.ts";
import { EventRequest, GuestMode } from "../../cpu/layout.ts";
import { L1Exceptions } from "../hypervisor/api.ts";
import { Mmu } from "../mmu/api.ts";
import {
  type ErrorHandler,
  type FaultHandler,
  Introspect,
  introspectList,
  IntrospectListRequested,
  introspectModule,
  IntrospectModuleRegistered,
  IntrospectModuleReleased,
  introspectRequest,
  IntrospectRequested,
  ReadRequested,
  ReadRetried,
  WalkRequested,
} from "./api.ts";
import { Jobs } from "./jobs.ts";
import { EMITTED, Reporter } from "./report.ts";
import {
  defaultsOf,
  type GuestModule,
  JOB_FIELDS,
  type ListRequest,
  MODULE_FIELDS,
  moduleRefusalOf,
  type ReadRequest,
  refusalOf,
  RESULT_FIELDS,
} from "./requests.ts";
import { ModuleWatch } from "./watch.ts";

const NO_JOB = defaultsOf(JOB_FIELDS);

/** Non-faulting guest reads. */
export const introspect = definePlugin({
  name: "introspect",
  version: "1.0.0",
  doc: "Non-faulting reads of guest memory, from L0 and by in-guest modules",
  role: "participant",
  options: {
    maxBytes: u32("Most bytes of one request", 65_536),
    keep: u16("Results kept for whoever asks later", 64),
    patience: u53(
      "Virtual nanoseconds that the guest has to page in",
      1_000_000,
    ),
    modules: list(record(MODULE_FIELDS), "In-guest modules from the start"),
  },
  needs: {
    hardware: HardwareAccess,
    mmu: Mmu,
    l1: optional(L1Exceptions),
  },
  provides: { service: Introspect, filter: ExceptionFiltering },
  emits: EMITTED,
  timers: ["patience"],
  state: {
    nextId: u32("Id of the next request", 1),
    active: u32("Request whose fault is held or injected; 0 for none"),
    jobs: mapOf(u32("Id"), record(JOB_FIELDS), "Requests under way"),
    results: mapOf(u32("Id"), record(RESULT_FIELDS), "What became of requests"),
    modules: mapOf(text("Name"), record(MODULE_FIELDS), "In-guest modules"),
    reinjected: u32("Faults of others that were re-injected"),
    injectedModule: text("Module whose page fault the guest has"),
    injectedRip: u64("RIP of that fault"),
    injectedVa: u64("Its linear address"),
    injections: u32("How often the guest got it in a row"),
  },
  setup({ use, provide, options, state, emit, wants, on, timer, clock }) {
    const { hardware, mmu, l1 } = use;
    const { cpus } = hardware;
    const report = new Reporter(emit, wants);
    const errorHandlers = new Map<string, ErrorHandler>();
    const faultHandlers = new Map<string, FaultHandler>();
    const watch = new ModuleWatch(state, cpus, report, l1);
    const jobs = new Jobs({
      cells: state,
      cpus,
      mmu,
      report,
      errorHandlers,
      faultHandlers,
      keep: Math.max(1, options.keep),
      injectable: (cpu) =>
        l1 === undefined
          ? cpu.v.guestMode === GuestMode.None
          : l1.level(cpu.index) === 1,
      watchBoundary(cpu, wanted) {
        if (wanted) hardware.request(cpu.index, EventRequest.Introspection);
        else cpu.v.eventRequest &= ~EventRequest.Introspection;
      },
      patience(wanted) {
        if (wanted) timer.patience.at(clock.now() + options.patience);
        else timer.patience.cancel();
      },
    });
    timer.patience.run(() => {
      jobs.outOfPatience();
      return undefined;
    });

    const refusal = (request: ReadRequest | ListRequest): string | undefined =>
      refusalOf(request, {
        cpus: cpus.length,
        maxBytes: options.maxBytes,
        errorHandlers: new Set(errorHandlers.keys()),
        faultHandlers: new Set(faultHandlers.keys()),
      });
    const submit = (request: ReadRequest | ListRequest): number => {
      const id = jobs.accept(request);
      report.requested(id, request);
      return id;
    };
    const ask = (request: ReadRequest | ListRequest): number => {
      const why = refusal(request);
      if (why !== undefined) throw new ConfigError(`ask introspect for ${why}`);
      return submit(request);
    };
    const asked = (request: ReadRequest | ListRequest): undefined => {
      const why = refusal(request);
      if (why === undefined) submit(request);
      else {
        const kind = "length" in request
          ? { read: request }
          : { list: request };
        report.refused({ ...NO_JOB, ...kind }, why);
      }
      return undefined;
    };
    const badModule = (module: GuestModule): string | undefined =>
      moduleRefusalOf(module, {
        cpus: cpus.length,
        ramBytes: hardware.physical.ramBytes,
      });
    for (const module of options.modules) {
      const why = badModule(module);
      if (why === undefined) continue;
      throw new ConfigError(
        `start introspect: option modules, module ${module.name}: ${why}`,
      );
    }
    hardware.onStart(() => {
      for (const module of options.modules) watch.arm(module);
    });

    on(IntrospectRequested, asked);
    on(IntrospectListRequested, asked);
    on(IntrospectModuleRegistered, (module) => {
      const why = badModule(module);
      if (why === undefined) watch.arm(module);
      else report.disarmed(module.name, why);
      return undefined;
    });
    on(IntrospectModuleReleased, ({ name }) => {
      if (!watch.disarm(name)) report.disarmed(name, "it is not registered");
      return undefined;
    });
    on(ReadRequested, ({ id }) => {
      jobs.attempt(id);
      return undefined;
    });
    on(WalkRequested, ({ id }) => {
      jobs.attempt(id);
      return undefined;
    });
    on(ReadRetried, ({ id }) => {
      if (id !== 0) jobs.attempt(id);
      return undefined;
    });

    provide.filter({
      exception: (cpu: CpuContext) => watch.exception(cpu),
      returned(cpu: CpuContext) {
        jobs.returned(cpu);
        watch.returned(cpu);
      },
      boundary: (cpu: CpuContext) => jobs.boundary(cpu),
    });
    const name = <T>(
      handlers: Map<string, T>,
      kind: string,
      by: string,
      handler: T,
    ): void => {
      if (by === "" || handlers.has(by)) {
        throw new ConfigError(
          `name ${kind} handler ${JSON.stringify(by)}: ` +
            (by === "" ? "it needs a name" : "there is one of that name"),
        );
      }
      handlers.set(by, handler);
    };
    provide.service({
      request: (read) => ask(introspectRequest(read)),
      walk: (walk) => ask(introspectList(walk)),
      result: (id) => state.results.get(id),
      errorHandler: (by, handler) => name(errorHandlers, "error", by, handler),
      faultHandler: (by, handler) => name(faultHandlers, "fault", by, handler),
      register(asked) {
        const module = introspectModule(asked);
        const why = badModule(module);
        if (why !== undefined) {
          throw new ConfigError(
            `register module ${module.name} with introspect: ${why}`,
          );
        }
        watch.arm(module);
      },
      release: (by) => watch.disarm(by),
      reinjected: () => state.reinjected,
    });
    return undefined;
  },
});
