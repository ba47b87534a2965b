/**
 * The port that the kernel lends to the executor: the machine's own access to
 * bus, hooks and services, before and beside all plugins.
 */
import type { Bus, Owner } from "./bus.ts";
import type { Clock } from "./clock.ts";
import { EventError } from "./errors.ts";
import type { EventToken, PayloadOf } from "./event.ts";
import type { Edit, Executor, KernelPort } from "./executor.ts";
import type { HookTable } from "./hook_table.ts";
import type { HookToken } from "./hook.ts";
import {
  MachineInterrupted,
  MemoryEdited,
  RegisterEdited,
} from "./machine_events.ts";
import type { At } from "./moment.ts";
import type { RandomStream } from "./random.ts";
import type { ServiceToken } from "./service.ts";

/** What a port reaches. */
export interface PortWorld {
  readonly seed: bigint;
  readonly clock: Clock;
  readonly bus: Bus;
  readonly hooks: HookTable;
  readonly services: Map<ServiceToken<unknown>, unknown>;
  readonly random: RandomStream;
  stop(reason: string, exitCode?: number): void;
}

/** Makes the port of one machine. */
export function makePort(world: PortWorld): KernelPort {
  const { bus, hooks, services } = world;
  const owner: Owner = { name: "machine", observes: false, failed: false };
  const port = {
    seed: world.seed,
    clock: world.clock,
    random: world.random,
    declare(events: readonly EventToken[]) {
      for (const event of events) bus.register(event, "machine");
    },
    emit(event: EventToken, payload: unknown) {
      if (!bus.isRegistered(event)) undeclared(event);
      bus.emit(event, payload);
    },
    wants: (event: EventToken) => bus.wants(event),
    on: (event: EventToken, handler: (payload: unknown, at: At) => unknown) =>
      void bus.subscribe(owner, event, handler),
    appendHot: (step: number, id: number, words: Uint32Array, at: number) =>
      bus.hot(step, id, words, at),
    pending: () => bus.pending,
    pump: () => void bus.pump(),
    provide: (token: ServiceToken<unknown>, service: unknown) =>
      void services.set(token, service),
    service: (token: ServiceToken<unknown>) => ({
      get: () => services.get(token),
    }),
    ask: (hook: HookToken) => hooks.ask(hook),
    answered: (hook: HookToken) => hooks.answered(hook),
    stop: world.stop,
  };
  // The generic signatures of KernelPort, over the untyped tables here.
  return port as unknown as KernelPort;
}

/** Exit code of a run ended by Ctrl-C. */
const INTERRUPTED_CODE = 130;

/** Acts on the inputs that every machine understands. */
export function subscribeKernel(
  bus: Bus,
  executor: Executor,
  stop: (reason: string, exitCode: number) => void,
): void {
  const owner: Owner = { name: "kernel", observes: false, failed: false };
  const on = <P>(event: EventToken<P>, handler: (payload: P) => undefined) =>
    void bus.subscribe(
      owner,
      event,
      handler as (payload: unknown) => undefined,
    );
  on(MachineInterrupted, () => {
    stop("interrupted", INTERRUPTED_CODE);
  });
  const edit = (event: EventToken, payload: unknown) => {
    const change = editOf(event, payload);
    if (change !== undefined) executor.edit(change);
  };
  on(MemoryEdited, (payload) => edit(MemoryEdited, payload) as undefined);
  on(RegisterEdited, (payload) => edit(RegisterEdited, payload) as undefined);
}

/** The edit that an input stands for, or undefined. */
function editOf(event: EventToken, payload: unknown): Edit | undefined {
  if (event === MemoryEdited) {
    return { kind: "memory", ...payload as PayloadOf<typeof MemoryEdited> };
  }
  return event === RegisterEdited
    ? { kind: "register", ...payload as PayloadOf<typeof RegisterEdited> }
    : undefined;
}

/** What is wrong with an input's payload, or undefined. */
export function inputRefusal(
  executor: Executor,
  event: EventToken,
  payload: unknown,
): string | undefined {
  const change = editOf(event, payload);
  return event.check(payload) ??
    (change === undefined ? undefined : executor.canEdit?.(change));
}

/**
 * Refuses an input before it gets onto a tape.
 * @throws EventError when nothing here takes it, or its payload is wrong
 */
export function checkInput(
  bus: Bus,
  executor: Executor,
  event: EventToken,
  payload: unknown,
): void {
  if (!bus.isRegistered(event)) {
    throw new EventError(
      `inject ${event.name}: no plugin of this machine takes it, load the ` +
        `plugin ${event.name.split(".")[0]}`,
    );
  }
  if (event.kind !== "input") {
    throw new EventError(
      `inject ${event.name}: it is a ${event.kind}, only inputs come from ` +
        `outside`,
    );
  }
  const wrong = inputRefusal(executor, event, payload);
  if (wrong !== undefined) {
    throw new EventError(`inject ${event.name}: ${wrong}`);
  }
}

function undeclared(event: EventToken): never {
  throw new EventError(
    `machine emits ${event.name}: it is not declared, add it to port.declare`,
  );
}
