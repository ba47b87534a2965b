/**
 * Traps for what a machine must never ask: clocks, entropy, the network,
 * tasks for later, and mathematical functions that differ between hosts. They
 * are set only while the machine under test runs.
 */

const FORBIDDEN: { readonly [owner: string]: readonly string[] } = {
  Math: [
    ..."random sin cos tan asin acos atan atan2 sinh cosh tanh".split(" "),
    ..."asinh acosh atanh exp expm1 log log1p log2 log10 cbrt hypot".split(" "),
  ],
  performance: ["now"],
  crypto: ["getRandomValues", "randomUUID"],
  globalThis: [
    ..."Date fetch queueMicrotask setTimeout setInterval".split(" "),
  ],
};

/** Raised inside a plugin that asks for something forbidden. */
export class ForbiddenCall extends Error {
  /** `what` was called. */
  constructor(what: string) {
    super(
      `${what} was called: it depends on the host, use the context's clock, ` +
        `random or timer, or an input`,
    );
  }
}

/** Runs `body` with all traps set. */
export function withTraps<T>(body: () => T): T {
  const undo: (() => void)[] = [];
  const world = globalThis as unknown as Record<string, unknown>;
  for (const [owner, names] of Object.entries(FORBIDDEN)) {
    const target = (owner === "globalThis" ? world : world[owner]) as object;
    for (const name of names) {
      const what = owner === "globalThis" ? name : `${owner}.${name}`;
      const trap = () => {
        throw new ForbiddenCall(what);
      };
      const old = Object.getOwnPropertyDescriptor(target, name);
      Object.defineProperty(target, name, {
        configurable: true,
        writable: true,
        value: name === "Date"
          ? new Proxy(function () {}, {
            apply: trap,
            construct: trap,
            get: trap,
          })
          : trap,
      });
      undo.push(() => {
        if (old === undefined) Reflect.deleteProperty(target, name);
        else Object.defineProperty(target, name, old);
      });
    }
  }
  try {
    return body();
  } finally {
    for (const restore of undo.reverse()) restore();
  }
}
