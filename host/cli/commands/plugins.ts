/**
 * `vmtape plugins`: the plugins that a scenario can name, with their options,
 * events, needs and services, out of their own declarations.
 * Invariant: everything printed comes from a plugin's declaration; a foreign
 * plugin is shown as ours are.
 */
import type { Plugin } from "../../../core/plugin.ts";
import { loadPlugin } from "../../plugin_loader.ts";
import { type Arguments, columns } from "../args.ts";
import { type Command, type Context, printJson } from "../command.ts";
import { Exit } from "../exit.ts";

/** `vmtape plugins` */
export const pluginsCommand: Command = {
  usage: {
    name: "plugins",
    summary: "list plugins, or show one with its options and events",
    positionals: [
      {
        name: "PLUGIN",
        doc: "a name, a path (./x.ts) or an npm: specifier",
        optional: true,
      },
    ],
    options: [],
    statuses: [["0", "listed"], ["2", "bad input"]],
    examples: ["plugins", "plugins mbec", "plugins ./wx_watch.ts --json"],
  },
  run: runPlugins,
};

async function runPlugins(args: Arguments, context: Context): Promise<number> {
  const { io, machines: { catalog } } = context;
  const [source] = args.positionals;
  if (source === undefined) {
    const plugins = [...catalog.values()];
    if (args.has("json")) printJson(io, plugins.map(describe));
    else {io.out(
        columns(
          plugins.map((p) => [`${p.name} ${p.version}`, `${p.role}: ${p.doc}`]),
        ),
      );}
    return Exit.ok;
  }
  const { plugin } = await loadPlugin({ source, options: {} }, {
    catalog,
    folders: [context.folder],
  });
  if (args.has("json")) printJson(io, describe(plugin));
  else io.out(page(plugin));
  return Exit.ok;
}

/** A need's or service's token name. */
function serviceName(need: Plugin["needs"][string]): string {
  return need.is === "service"
    ? need.name
    : `${need.service.name} (${need.is})`;
}

function describe(plugin: Plugin): Record<string, unknown> {
  return {
    name: plugin.name,
    version: plugin.version,
    role: plugin.role,
    memoryless: plugin.memoryless,
    doc: plugin.doc,
    options: Object.entries(plugin.options).map(([name, field]) => ({
      name,
      type: field.signature,
      doc: field.doc,
      ...(field.required
        ? { required: true }
        : { default: field.toJson(field.initial) }),
    })),
    needs: Object.values(plugin.needs).map(serviceName),
    provides: Object.values(plugin.provides).map((service) => service.name),
    emits: plugin.emits.map(({ name, version, kind, doc, fields }) => ({
      name,
      version,
      kind,
      doc,
      fields: Object.entries(fields).map(([field, { signature, doc }]) => ({
        name: field,
        type: signature,
        doc,
      })),
    })),
  };
}

function page(plugin: Plugin): string {
  const section = (title: string, rows: [string, string][]): string =>
    rows.length === 0 ? "" : `\n${title}:\n${columns(rows)}`;
  const options = Object.entries(plugin.options).map((
    [name, field],
  ): [string, string] => [
    `${name}: ${field.signature}`,
    `${field.doc} (${
      field.required ? "required" : `default ${field.toText(field.initial)}`
    })`,
  ]);
  const events = plugin.emits.flatMap((event): [string, string][] => [
    [event.name, `${event.kind}: ${event.doc}`],
    ...Object.entries(event.fields).map((
      [name, field],
    ): [string, string] => [`  ${name}: ${field.signature}`, `  ${field.doc}`]),
  ]);
  return `${plugin.name} ${plugin.version}, ${plugin.role}${
    plugin.memoryless ? ", memoryless" : ""
  }\n${plugin.doc}\n` +
    section("options", options) +
    section(
      "needs",
      Object.entries(plugin.needs).map((
        [name, need],
      ) => [name, serviceName(need)]),
    ) +
    section(
      "provides",
      Object.entries(plugin.provides).map((
        [name, service],
      ) => [name, `${service.name}: ${service.doc}`]),
    ) +
    section("emits", events);
}
