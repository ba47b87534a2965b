/**
 * The plugin host: turns a list of plugins into live ones. Order, needs and
 * options are checked first (order.ts, options.ts); then each `setup` runs
 * once, with a context that enforces at run time what types enforce at
 * compile time.
 */
import { makeState } from "./cell.ts";
import type { LiveCell } from "./cell.ts";
import type { Bus, Owner } from "./bus.ts";
import type { Clock } from "./clock.ts";
import { messageOf, PluginError, VmtapeError } from "./errors.ts";
import { eventCount } from "./event.ts";
import type { EventToken } from "./event.ts";
import type { HookTable } from "./hook_table.ts";
import type { HookToken } from "./hook.ts";
import type { At } from "./moment.ts";
import { readOptions } from "./options.ts";
import { describePlugin, loadOrder, serviceOf } from "./order.ts";
import type { Need, Plugin, PluginUse, Timer } from "./plugin.ts";
import { RandomStream } from "./random.ts";
import type { ServiceToken } from "./service.ts";
import type { Timers } from "./timers.ts";

/** A plugin that has been set up. */
export interface LivePlugin {
  readonly use: PluginUse;
  readonly plugin: Plugin;
  readonly owner: Owner;
  readonly options: { readonly [name: string]: unknown };
  readonly cells: LiveCell<unknown>;
  readonly random: RandomStream;
  /** To be called after its cells were overwritten. */
  readonly restored: (() => unknown)[];
}

/** What the host needs of the kernel. */
export interface HostWorld {
  readonly bus: Bus;
  readonly hooks: HookTable;
  readonly timers: Timers;
  readonly clock: Clock;
  readonly seed: bigint;
  /** Services; holds those of the machine from the start. */
  readonly services: Map<ServiceToken<unknown>, unknown>;
  stop(reason: string, exitCode?: number): void;
}

/**
 * Sets up all plugins.
 * @returns them in load order, observers last
 * @throws ConfigError for what is wrong with the list, PluginError for what a
 *   plugin does wrong
 */
export function loadPlugins(
  uses: readonly PluginUse[],
  world: HostWorld,
): readonly LivePlugin[] {
  const order = loadOrder(uses, new Set(world.services.keys()));
  const options = order.map((use) => readOptions(use));
  for (const { plugin } of order) {
    for (const event of plugin.emits) world.bus.register(event, plugin.name);
  }
  return order.map((use, i) => setUp(use, options[i], world));
}

function setUp(
  use: PluginUse,
  options: { readonly [name: string]: unknown },
  world: HostWorld,
): LivePlugin {
  const { plugin } = use;
  const live: LivePlugin = {
    use,
    plugin,
    owner: {
      name: plugin.name,
      observes: plugin.role === "observer",
      failed: false,
    },
    options,
    cells: makeState(plugin.state),
    random: new RandomStream(world.seed, plugin.name),
    restored: [],
  };
  const phase = { setup: true };
  const provided = new Set<string>();
  let answer: unknown;
  try {
    answer = plugin.setup(makeContext(live, world, phase, provided));
  } catch (thrown) {
    if (thrown instanceof VmtapeError) throw thrown;
    throw new PluginError(
      plugin.name,
      `set up plugin ${describePlugin(use)}: ${messageOf(thrown)}`,
      thrown,
    );
  }
  phase.setup = false;
  const refuse = (field: string, state: string, remedy: string): never => {
    throw new PluginError(
      plugin.name,
      `set up plugin ${
        describePlugin(use)
      }, field ${field}: ${state}, ${remedy}`,
    );
  };
  if (answer !== undefined) {
    refuse("setup", "it answered a value", "make it synchronous");
  }
  for (const name of Object.keys(plugin.provides)) {
    if (!provided.has(name)) {
      refuse(
        `provides.${name}`,
        "declared and not provided",
        `call provide.${name}(…) in setup`,
      );
    }
  }
  const idle = world.timers.unhandled(plugin.name);
  if (idle !== undefined) {
    refuse(
      "timers",
      `${idle} has no handler`,
      `call timer.${idle}.run(…) in setup`,
    );
  }
  return live;
}

function makeContext(
  live: LivePlugin,
  world: HostWorld,
  phase: { setup: boolean },
  provided: Set<string>,
): unknown {
  const { plugin, owner } = live;
  const { bus, hooks, clock } = world;
  const fail = (state: string, remedy: string): never => {
    throw new PluginError(
      plugin.name,
      `plugin ${plugin.name}: ${state}, ${remedy}`,
    );
  };
  const inSetup = (what: string): void => {
    if (!phase.setup) fail(`${what} after setup`, "call it in setup only");
  };
  // A byte for each event id: emit stays cheap when nobody listens.
  const declared = new Uint8Array(eventCount());
  for (const event of plugin.emits) declared[event.id] = 1;
  const checkDeclared = (event: EventToken): void => {
    if (declared[event.id] !== 1) {
      fail(
        `emit of ${event.name}, which its emits don't list`,
        "add the event to emits",
      );
    }
  };
  const common = {
    name: plugin.name,
    options: Object.freeze({ ...live.options }),
    use: resolveNeeds(plugin.needs, world.services),
    state: live.cells.live,
    random: live.random,
    clock,
    on(event: EventToken, handler: (payload: unknown, at: At) => unknown) {
      inSetup(`on(${event.name})`);
      if (!owner.observes && event.kind === "note") {
        fail(
          `on(${event.name}), an observer's note`,
          "a participant may watch inputs and facts only",
        );
      }
      bus.subscribe(owner, event, handler);
    },
    wants(event: EventToken): boolean {
      checkDeclared(event);
      return bus.wants(event);
    },
    onRestored(handler: () => unknown) {
      inSetup("onRestored");
      live.restored.push(handler);
    },
  };
  if (owner.observes) {
    const participantsOnly = (what: string) => () =>
      fail(
        `an observer can't ${what}`,
        "make it a participant or do without",
      );
    return {
      ...common,
      emit(event: EventToken, payload: unknown) {
        if (declared[event.id] !== 1) checkDeclared(event);
        bus.note(event, payload, plugin.name);
      },
      answer: participantsOnly("answer a hook"),
      ask: participantsOnly("ask a hook"),
      stop: participantsOnly("stop the machine"),
      provide: {},
      timer: {},
    };
  }
  const timer: Record<string, Timer> = {};
  for (const name of plugin.timers) {
    timer[name] = world.timers.declare(plugin.name, name);
  }
  const provide: Record<string, (service: unknown) => void> = {};
  for (const [name, token] of Object.entries(plugin.provides)) {
    provide[name] = (service) => {
      inSetup(`provide.${name}`);
      if (provided.has(name)) fail(`provide.${name} twice`, "provide it once");
      provided.add(name);
      world.services.set(token, service);
    };
  }
  return {
    ...common,
    emit(event: EventToken, payload: unknown) {
      if (declared[event.id] !== 1) checkDeclared(event);
      bus.emit(event, payload);
    },
    answer(hook: HookToken, answer: (a: unknown, b?: unknown) => unknown) {
      inSetup(`answer(${hook.name})`);
      hooks.answer(hook, plugin.name, answer);
    },
    ask: (hook: HookToken) => hooks.ask(hook),
    stop: world.stop,
    provide,
    timer,
  };
}

function resolveNeeds(
  needs: { readonly [name: string]: Need },
  services: ReadonlyMap<ServiceToken<unknown>, unknown>,
): unknown {
  const use: Record<string, unknown> = {};
  for (const [name, need] of Object.entries(needs)) {
    const token = serviceOf(need);
    use[name] = need.is === "late"
      ? { get: () => services.get(token) }
      : services.get(token);
  }
  return Object.freeze(use);
}
