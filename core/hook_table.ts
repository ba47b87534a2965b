/**
 * Who answers which hook. Answer lists are filled while plugins load and are
 * fixed afterwards; askers hold the list itself, so asking is a plain loop.
 */
import { messageOf, PluginError, VmtapeError } from "./errors.ts";
import type { FoldAnswer, HookToken } from "./hook.ts";

interface Answerer {
  readonly plugin: string;
  // Called with (args) for `first`, (soFar, args) for `fold`.
  readonly answer: (a: unknown, b?: unknown) => unknown;
}

/** All hooks of one machine. */
export class HookTable {
  readonly #answerers = new Map<HookToken, Answerer[]>();

  #list(hook: HookToken): Answerer[] {
    let list = this.#answerers.get(hook);
    if (list === undefined) this.#answerers.set(hook, list = []);
    return list;
  }

  /** Adds an answer after those of plugins loaded before. */
  answer(
    hook: HookToken,
    plugin: string,
    answer: (a: unknown, b?: unknown) => unknown,
  ): void {
    this.#list(hook).push({ plugin, answer });
  }

  /** True when some plugin answers. */
  answered(hook: HookToken): boolean {
    return this.#list(hook).length > 0;
  }

  /** The function that asks. */
  ask(hook: HookToken): (args: unknown) => unknown {
    const list = this.#list(hook);
    if (hook.combine === "first") {
      return (args) => {
        for (const { plugin, answer } of list) {
          try {
            const found = answer(args);
            if (found !== undefined) return found;
          } catch (thrown) {
            throw blame(hook, plugin, thrown);
          }
        }
        return undefined;
      };
    }
    const { initial } = hook;
    return (args) => {
      let value = initial;
      for (const { plugin, answer } of list) {
        try {
          value = (answer as FoldAnswer<unknown, unknown>)(value, args);
        } catch (thrown) {
          throw blame(hook, plugin, thrown);
        }
      }
      return value;
    };
  }
}

function blame(hook: HookToken, plugin: string, thrown: unknown): Error {
  if (thrown instanceof VmtapeError) return thrown;
  return new PluginError(
    plugin,
    `plugin ${plugin}, answer to hook ${hook.name}: ${messageOf(thrown)}`,
    thrown,
  );
}
