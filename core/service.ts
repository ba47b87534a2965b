/**
 * `defineService`: a typed token for direct calls, provided by exactly one
 * participant (or the executor) and resolved once at load. Services are
 * capabilities: reading and writing are different tokens, and a plugin gets
 * only what its `needs` name. An observer may need only services declared
 * `observable`: their methods change no state.
 */
import { ConfigError } from "./errors.ts";

/** Names an interface `T`; made by `defineService` only. */
export interface ServiceToken<T, Observable extends boolean = boolean> {
  /** Tells needs apart. */
  readonly is: "service";
  /** `plugin.thing`. */
  readonly name: string;
  /** What it offers. */
  readonly doc: string;
  /** No method changes machine state: observers may use it. */
  readonly observable: Observable;
  /** Phantom: never called. */
  typed?(service: T): T;
}

/** A need that may stay unmet; when met, the provider loads first. */
export interface OptionalNeed<T, Observable extends boolean = boolean> {
  /** Tells needs apart. */
  readonly is: "optional";
  /** What is needed. */
  readonly service: ServiceToken<T, Observable>;
}

/**
 * A need that does not order loading (for cycles, as hardware and its root
 * owner): `use.x.get()` works from the end of loading on.
 */
export interface LateNeed<T, Observable extends boolean = boolean> {
  /** Tells needs apart. */
  readonly is: "late";
  /** What is needed. */
  readonly service: ServiceToken<T, Observable>;
}

/** What `use` holds for a late need. */
export interface Late<T> {
  /** The service, or undefined when no plugin provides it. */
  get(): T | undefined;
}

/** Declares a service that observers may use: no method changes state. */
export function defineService<T>(
  name: string,
  spec: { readonly doc?: string; readonly observable: true },
): ServiceToken<T, true>;
/** Declares a service for participants. */
export function defineService<T>(
  name: string,
  spec?: { readonly doc?: string; readonly observable?: false },
): ServiceToken<T, false>;
export function defineService<T>(
  name: string,
  spec: { readonly doc?: string; readonly observable?: boolean } = {},
): ServiceToken<T, boolean> {
  if (!/^[a-z0-9-]+(\.[a-z0-9-]+)+$/.test(name)) {
    throw new ConfigError(
      `define service ${name}: the name must be plugin.thing in lower case`,
    );
  }
  return {
    is: "service",
    name,
    doc: spec.doc ?? "",
    observable: spec.observable === true,
  };
}

/** Marks a need that may stay unmet: `use.x` is then undefined. */
export function optional<T, B extends boolean>(
  service: ServiceToken<T, B>,
): OptionalNeed<T, B> {
  return { is: "optional", service };
}

/** Marks a need that is looked up after loading and does not order it. */
export function late<T, B extends boolean>(
  service: ServiceToken<T, B>,
): LateNeed<T, B> {
  return { is: "late", service };
}
