/**
 * Which events a command is about: `--type` and `--where`, read once and
 * applied to events of a machine or of a tape.
 * Invariant: a name or field that no event has is a UsageError, never a filter
 * that silently matches nothing.
 */
import type { EventToken } from "../../core/event.ts";
import { didYouMean } from "../scenario/spelling.ts";
import { type OptionSpec, readWhole, UsageError } from "./args.ts";

/** Options that make an {@link EventFilter}. */
export const FILTER_OPTIONS: readonly OptionSpec[] = [
  {
    name: "type",
    value: "NAME",
    doc: "only these events: vmx.exited, or vmx.* for all of a plugin",
    many: true,
  },
  {
    name: "where",
    value: "FIELD=VALUE",
    doc: "only events whose field has this value",
    many: true,
  },
];

/** One condition on a payload's field. */
interface Condition {
  readonly field: string;
  readonly value: string;
}

/** Reads `FIELD=VALUE`. */
function condition(text: string): Condition {
  const match = /^([a-zA-Z]\w*)=(.*)$/s.exec(text);
  if (match === null) {
    throw new UsageError(
      `--where takes FIELD=VALUE, as vector=14, found ${JSON.stringify(text)}`,
    );
  }
  return { field: match[1], value: match[2] };
}

/** Whether a payload's value is what was written: numbers by value, the rest as text. */
function equals(found: unknown, written: string): boolean {
  if (typeof found === "number") return readWhole(written) === found;
  if (typeof found === "bigint") {
    return /^(\d+|0x[\da-f]+)$/i.test(written) && BigInt(written) === found;
  }
  if (typeof found === "boolean") {
    return found
      ? /^(true|yes|1)$/.test(written)
      : /^(false|no|0)$/.test(written);
  }
  return String(found) === written;
}

/** A choice among the events of one machine. */
export class EventFilter {
  readonly #names: ReadonlySet<string> | undefined;
  readonly #conditions: readonly Condition[];

  /** @throws {UsageError} for a name, pattern or field that no event has */
  constructor(
    types: readonly string[],
    wheres: readonly string[],
    events: ReadonlyMap<string, EventToken>,
  ) {
    this.#conditions = wheres.map(condition);
    this.#names = types.length === 0
      ? undefined
      : new Set(types.flatMap((type) => namesOf(type, events)));
    const chosen = [...events.values()].filter((e) =>
      this.#names?.has(e.name) ?? true
    );
    for (const { field } of this.#conditions) {
      const fields = new Set(chosen.flatMap((e) => Object.keys(e.fields)));
      if (!fields.has(field)) {
        throw new UsageError(
          `--where ${field}: none of these events has such a field${
            didYouMean(field, fields)
          }; fields are ${[...fields].join(", ")}`,
        );
      }
    }
  }

  /** Whether events of this name can pass. */
  wants(name: string): boolean {
    return this.#names?.has(name) ?? true;
  }

  /** Whether this event passes. */
  matches(name: string, payload: unknown): boolean {
    return this.wants(name) && this.payloadMatches(payload);
  }

  /** Whether a payload fulfils every condition. */
  payloadMatches(payload: unknown): boolean {
    const bag = payload as Record<string, unknown>;
    return this.#conditions.every(({ field, value }) =>
      Object.hasOwn(bag, field) && equals(bag[field], value)
    );
  }
}

/** The names that `type` stands for. */
export function namesOf(
  type: string,
  events: ReadonlyMap<string, EventToken>,
): string[] {
  const names = [...events.keys()];
  const found = type.endsWith("*")
    ? names.filter((name) => name.startsWith(type.slice(0, -1)))
    : names.filter((name) => name === type);
  if (found.length > 0) return found;
  throw new UsageError(
    `no plugin of this machine declares the event ${type}${
      didYouMean(type, names)
    }`,
  );
}
