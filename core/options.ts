/**
 * Options of a plugin: checked against its declaration, defaults filled in.
 */
import { ConfigError, messageOf } from "./errors.ts";
import type { Json } from "./fields.ts";
import { nearest } from "./nearest.ts";
import { describePlugin } from "./order.ts";
import type { PluginUse } from "./plugin.ts";

/**
 * The values of all declared options.
 * @throws ConfigError naming plugin, option, accepted values or nearest word
 */
export function readOptions(
  use: PluginUse,
): { readonly [name: string]: unknown } {
  const declared = use.plugin.options;
  const names = Object.keys(declared);
  for (const name of Object.keys(use.options ?? {})) {
    if (Object.hasOwn(declared, name)) continue;
    const near = nearest(name, names);
    throw new ConfigError(
      `set option ${name} of plugin ${describePlugin(use)}: there is no such ` +
        `option, ${
          names.length === 0
            ? "it takes none"
            : `use one of ${names.join(", ")}`
        }${near === undefined ? "" : ` (did you mean ${near}?)`}`,
    );
  }
  const values: Record<string, unknown> = {};
  for (const [name, field] of Object.entries(declared)) {
    const given = use.options?.[name];
    if (given === undefined) {
      if (field.required) {
        throw new ConfigError(
          `set option ${name} of plugin ${
            describePlugin(use)
          }: it is missing ` +
            `and has no default, give it (${field.signature}: ${field.doc})`,
        );
      }
      values[name] = field.initial;
      continue;
    }
    try {
      // A value that already has the field's own type is taken as it is.
      values[name] = field.check(given) === undefined
        ? given
        : field.fromJson(given);
    } catch (cause) {
      throw new ConfigError(
        `set option ${name} of plugin ${describePlugin(use)}: ${
          messageOf(cause)
        }`,
        cause,
      );
    }
  }
  return values;
}

/** All options as plain data, for the manifest. */
export function optionsToJson(
  use: PluginUse,
  values: { readonly [name: string]: unknown },
): Json {
  const json: Record<string, Json> = {};
  for (const [name, field] of Object.entries(use.plugin.options)) {
    json[name] = field.toJson(values[name]);
  }
  return json;
}
