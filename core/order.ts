/**
 * Load order: participants topologically by `needs`, ties by name; observers
 * after them, by name. The order depends on names and needs alone, never on
 * the order in which plugins were listed. Everything wrong with a list of
 * plugins is found here, before any plugin runs.
 */
import { ConfigError } from "./errors.ts";
import { nearest } from "./nearest.ts";
import type { Need, Plugin, PluginUse } from "./plugin.ts";
import type { ServiceToken } from "./service.ts";

const NAME = /^[a-z][a-z0-9-]*$/;
const RESERVED = new Set(["machine", "kernel", "host"]);

/** The service that a need names. */
export function serviceOf(need: Need): ServiceToken<unknown> {
  return need.is === "service" ? need : need.service;
}

/** `mbec (./mbec.ts)`: a plugin in a message. */
export function describePlugin(use: PluginUse): string {
  return use.from === undefined
    ? use.plugin.name
    : `${use.plugin.name} (${use.from})`;
}

/**
 * The uses in load order.
 * @param offered services that the machine itself provides
 * @throws ConfigError naming plugin, field and remedy
 */
export function loadOrder(
  uses: readonly PluginUse[],
  offered: ReadonlySet<ServiceToken<unknown>>,
): readonly PluginUse[] {
  const byName = new Map<string, PluginUse>();
  for (const use of uses) {
    const { name } = use.plugin;
    checkShape(use);
    const other = byName.get(name);
    if (other !== undefined) {
      throw new ConfigError(
        `load plugin ${describePlugin(use)}: ${
          describePlugin(other)
        } has the ` +
          `same name, list it once`,
      );
    }
    byName.set(name, use);
  }
  const sorted = [...byName.values()].sort((a, b) =>
    a.plugin.name < b.plugin.name ? -1 : 1
  );
  const providers = findProviders(sorted, offered);
  const participants = sorted.filter((use) =>
    use.plugin.role === "participant"
  );
  const observers = sorted.filter((use) => use.plugin.role === "observer");
  const order: PluginUse[] = [];
  const done = new Set<PluginUse>();
  const visit = (use: PluginUse, path: readonly PluginUse[]): void => {
    if (done.has(use)) return;
    if (path.includes(use)) throw cycle(path.slice(path.indexOf(use)));
    const before = dependencies(use.plugin, providers)
      .sort((a, b) => a.plugin.name < b.plugin.name ? -1 : 1);
    for (const one of before) visit(one, [...path, use]);
    done.add(use);
    order.push(use);
  };
  for (const use of [...participants, ...observers]) {
    checkNeeds(use, providers, offered);
  }
  // Depth first over sorted names, so ties fall by name.
  for (const use of participants) visit(use, []);
  return [...order, ...observers];
}

function checkShape(use: PluginUse): void {
  const plugin = use.plugin;
  const refuse = (field: string, state: string, remedy: string): never => {
    throw new ConfigError(
      `load plugin ${describePlugin(use)}, field ${field}: ${state}, ${remedy}`,
    );
  };
  if (plugin?.is !== "plugin") {
    throw new ConfigError(
      `load plugin ${
        use.from ?? "(unnamed)"
      }: it is not a plugin, export the ` +
        `result of definePlugin`,
    );
  }
  if (!NAME.test(plugin.name) || RESERVED.has(plugin.name)) {
    refuse(
      "name",
      `${JSON.stringify(plugin.name)} is not usable`,
      `use lower-case letters, digits and dashes, and none of ${
        [...RESERVED].join(", ")
      }`,
    );
  }
  if (!/^\d+\.\d+\.\d+/.test(plugin.version)) {
    refuse(
      "version",
      `${JSON.stringify(plugin.version)} is no version`,
      "use major.minor.patch",
    );
  }
  const kind = plugin.role === "observer" ? "note" : "fact";
  for (const event of plugin.emits) {
    if (event.kind !== kind) {
      refuse(
        "emits",
        `${event.name} is of kind ${event.kind}`,
        `${plugin.role}s emit ${kind}s only`,
      );
    }
  }
  if (plugin.role !== "observer") return;
  if (Object.keys(plugin.provides).length > 0) {
    refuse(
      "provides",
      "an observer provides no service",
      "make it a participant or take the field out",
    );
  }
  if (plugin.timers.length > 0) {
    refuse(
      "timers",
      "an observer's timer would move the machine's idle time",
      "watch machine.idled or other events instead",
    );
  }
  for (const [name, need] of Object.entries(plugin.needs)) {
    const service = serviceOf(need);
    if (!service.observable) {
      refuse(
        `needs.${name}`,
        `service ${service.name} may change state`,
        "an observer may need only services defined as observable",
      );
    }
  }
}

type Providers = ReadonlyMap<ServiceToken<unknown>, PluginUse>;

function findProviders(
  sorted: readonly PluginUse[],
  offered: ReadonlySet<ServiceToken<unknown>>,
): Providers {
  const providers = new Map<ServiceToken<unknown>, PluginUse>();
  for (const use of sorted) {
    for (const [name, service] of Object.entries(use.plugin.provides)) {
      const other = providers.get(service);
      if (other !== undefined || offered.has(service)) {
        throw new ConfigError(
          `load plugin ${
            describePlugin(use)
          }, field provides.${name}: service ` +
            `${service.name} is already provided by ${
              other === undefined ? "the machine" : describePlugin(other)
            }, load only one of them`,
        );
      }
      providers.set(service, use);
    }
  }
  return providers;
}

function dependencies(plugin: Plugin, providers: Providers): PluginUse[] {
  const found: PluginUse[] = [];
  for (const need of Object.values(plugin.needs)) {
    if (need.is === "late") continue;
    const provider = providers.get(serviceOf(need));
    if (provider !== undefined) found.push(provider);
  }
  return found;
}

function checkNeeds(
  use: PluginUse,
  providers: Providers,
  offered: ReadonlySet<ServiceToken<unknown>>,
): void {
  for (const [name, need] of Object.entries(use.plugin.needs)) {
    if (need.is !== "service" || providers.has(need) || offered.has(need)) {
      continue;
    }
    const twin = [...providers.keys(), ...offered].find((one) =>
      one.name === need.name
    );
    if (twin !== undefined) {
      throw new ConfigError(
        `load plugin ${describePlugin(use)}, field needs.${name}: service ` +
          `${need.name} is provided under another token of the same name, ` +
          `import the token from one module`,
      );
    }
    const available = [...providers.keys(), ...offered].map((one) => one.name);
    const near = nearest(need.name, available);
    throw new ConfigError(
      `load plugin ${describePlugin(use)}, field needs.${name}: no loaded ` +
        `plugin provides service ${need.name}, add the plugin that does ` +
        `(usually ${need.name.split(".")[0]})${
          near === undefined ? "" : `; did you mean ${near}`
        }`,
    );
  }
}

function cycle(path: readonly PluginUse[]): ConfigError {
  const names = [...path, path[0]].map((use) => use.plugin.name).join(" → ");
  return new ConfigError(
    `order the plugins: ${names} need each other's services, declare one of ` +
      `these needs as late(…)`,
  );
}
