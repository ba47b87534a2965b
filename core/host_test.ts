/** The plugin host: order, needs, options, and what plugins may not do. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { makeToy, randomProgram, TOY_PARTICIPANTS } from "../tests/toy/mod.ts";
import { ConfigError, PluginError, VmtapeError } from "./errors.ts";
import { defineEvent } from "./event.ts";
import { bool, oneOf, required, text, u32, u64, u8 } from "./fields.ts";
import { defineHook } from "./hook.ts";
import type { Kernel } from "./kernel.ts";
import { definePlugin } from "./plugin.ts";
import type { Plugin, PluginUse } from "./plugin.ts";
import { defineService, late, optional } from "./service.ts";
import type { ServiceToken } from "./service.ts";

interface Named {
  readonly name: string;
}
const A = defineService<Named>("host-test.a", { observable: true });
const B = defineService<Named>("host-test.b", { observable: true });
const C = defineService<Named>("host-test.c");

function load(...plugins: readonly (Plugin | PluginUse)[]): Kernel {
  return makeToy({ program: randomProgram(1n), plugins });
}

function refused(
  message: string,
  ...plugins: readonly (Plugin | PluginUse)[]
): VmtapeError {
  return assertThrows(() => load(...plugins), VmtapeError, message);
}

function plugin(
  name: string,
  needs: { readonly [name: string]: ServiceToken<Named> } = {},
  provides?: ServiceToken<Named>,
): Plugin {
  return definePlugin({
    name,
    version: "1.0.0",
    doc: name,
    role: "participant",
    needs,
    provides: (provides === undefined ? {} : { it: provides }) as {
      readonly [name: string]: ServiceToken<Named>;
    },
    setup({ provide, use }) {
      for (const key of Object.keys(needs)) assert(use[key].name !== name);
      provide.it?.({ name });
    },
  });
}

const order = (kernel: Kernel) => kernel.plugins.map(({ name }) => name);

Deno.test("order: needs first, ties by name, observers last, lists don't matter", () => {
  const watcher = definePlugin({
    name: "a-watcher",
    version: "1.0.0",
    doc: "Watches",
    role: "observer",
    needs: { a: A },
    setup() {},
  });
  const plugins = [
    plugin("b-user", { a: A, b: B }),
    plugin("z-provides-a", {}, A),
    plugin("m-provides-b", { a: A }, B),
    plugin("c-alone"),
    watcher,
  ];
  const expected = [
    "z-provides-a",
    "m-provides-b",
    "b-user",
    "c-alone",
    "a-watcher",
  ];
  assertEquals(order(load(...plugins)), expected);
  assertEquals(order(load(...plugins.toReversed())), expected);
  const manifest = load(...plugins).manifest();
  assertEquals(
    manifest.participants.map(({ name }) => name),
    expected.slice(0, 4),
  );
});

Deno.test("optional needs order loading, late needs don't", () => {
  const seen: unknown[] = [];
  const asks = definePlugin({
    name: "a-asks",
    version: "1.0.0",
    doc: "Uses what is there",
    role: "participant",
    needs: { b: optional(B), a: late(A), c: optional(C) },
    provides: { c2: defineService<Named>("host-test.c2") },
    setup({ use, provide }) {
      seen.push(use.b?.name, use.c, use.a.get()?.name);
      provide.c2({
        get name() {
          return use.a.get()?.name ?? "none";
        },
      });
      late_ = () => use.a.get()?.name;
    },
  });
  let late_ = (): string | undefined => undefined;
  const kernel = load(asks, plugin("z-b", {}, B), plugin("z-a", {}, A));
  assertEquals(order(kernel), ["z-b", "a-asks", "z-a"]);
  assertEquals(seen, ["z-b", undefined, undefined]);
  assertEquals(late_(), "z-a");
});

Deno.test("lists that can't be loaded: plugin, field and remedy are named", () => {
  refused(
    "load plugin x, field needs.a: no loaded plugin provides service " +
      "host-test.a, add the plugin that does (usually host-test)",
    plugin("x", { a: A }),
  );
  refused(
    "did you mean host-test.b",
    plugin("x", { a: A }),
    plugin("y", {}, B),
  );
  refused(
    "under another token of the same name",
    plugin("x", { a: defineService<Named>("host-test.b") }),
    plugin("y", {}, B),
  );
  refused(
    "order the plugins: x → y → x need each other's services, declare one",
    plugin("x", { a: A }, B),
    plugin("y", { b: B }, A),
  );
  refused("has the same name, list it once", plugin("x"), plugin("x"));
  refused(
    "field provides.it: service host-test.a is already provided by x",
    plugin("x", {}, A),
    plugin("y", {}, A),
  );
  refused("field name", plugin("X"));
  refused("use lower-case", plugin("kernel"));
  refused("is no version", { plugin: { ...plugin("x"), version: "1" } });
  refused("it is not a plugin", {
    plugin: {} as Plugin,
    from: "./mine.ts",
  });
});

const configured = definePlugin({
  name: "configured",
  version: "1.2.3",
  doc: "Takes options",
  role: "participant",
  options: {
    strategy: oneOf(["trap-all", "entry-page-nx"], "Which way"),
    depth: u8("How deep", 4),
    base: u64("Where", 0x1000n),
    verbose: bool("Say more"),
    file: required(text("Which file")),
  },
  state: { saw: text("What the options were") },
  setup({ options, state }) {
    state.saw = [
      options.strategy,
      options.depth,
      options.base,
      options.verbose,
      options.file,
    ].join();
  },
});

Deno.test("options: defaults, conversions, manifest, errors", () => {
  const kernel = load({ plugin: configured, options: { file: "f" } });
  assertEquals(kernel.manifest().participants[0], {
    name: "configured",
    version: "1.2.3",
    options: {
      strategy: "trap-all",
      depth: 4,
      base: "0x1000",
      verbose: false,
      file: "f",
    },
    state: "struct(saw:text)",
  });
  const other = load({
    plugin: configured,
    options: { strategy: "entry-page-nx", depth: 9, base: "0x20", file: "g" },
    digest: "ab",
  });
  assertEquals(other.manifest().participants[0].digest, "ab");
  assertEquals(
    new TextDecoder().decode(other.capture().cells[0].bytes.subarray(1)),
    "entry-page-nx,9,32,false,g",
  );
  const use = (options: PluginUse["options"]): PluginUse => ({
    plugin: configured,
    options,
    from: "./configured.ts",
  });
  refused(
    "set option stratgy of plugin configured (./configured.ts): there is no " +
      "such option, use one of strategy, depth, base, verbose, file (did you " +
      "mean strategy?)",
    use({ file: "f", stratgy: "a" }),
  );
  refused("option file of plugin configured", use({}));
  refused("it is missing and has no default", use({}));
  refused("expected u8", use({ file: "f", depth: 256 }));
  refused(
    "expected one of trap-all, entry-page-nx",
    use({
      file: "f",
      strategy: "trap",
    }),
  );
  refused("it takes none", { plugin: plugin("x"), options: { a: 1 } });
});

const Fact = defineEvent({
  name: "host-test.happened",
  version: 1,
  kind: "fact",
  doc: "Something happened",
  fields: { n: u32("n") },
});
const Other = defineEvent({
  name: "host-test.other",
  version: 1,
  kind: "fact",
  doc: "Something else",
  fields: { n: u32("n") },
});
const Note = defineEvent({
  name: "host-test.noted",
  version: 1,
  kind: "note",
  doc: "A remark",
  fields: { n: u32("n") },
});
const Question = defineHook<number, number>({
  name: "host-test.question",
  combine: "first",
});

/** A plugin that types would refuse. */
function untyped(over: Partial<Plugin>): Plugin {
  return {
    ...plugin("rogue"),
    setup: () => undefined,
    ...over,
  };
}

Deno.test("what types refuse is refused at load as well", () => {
  refused(
    "field emits: host-test.noted is of kind note",
    untyped({ emits: [Note] }),
  );
  const observer = { role: "observer" } as const;
  refused("is of kind fact", untyped({ ...observer, emits: [Fact] }));
  refused(
    "an observer provides no service",
    untyped({ ...observer, provides: { a: A } }),
  );
  refused("observer's timer", untyped({ ...observer, timers: ["t"] }));
  refused(
    "may change state",
    untyped({ ...observer, needs: { c: optional(C) } }),
  );
  refused("it answered a value", untyped({ setup: () => Promise.resolve() }));
  refused("declared and not provided", untyped({ provides: { a: A } }));
  refused("tick has no handler", untyped({ timers: ["tick"] }));
  refused(
    "set up plugin rogue (./r.ts): ouch",
    {
      plugin: untyped({
        setup() {
          throw new Error("ouch");
        },
      }),
      from: "./r.ts",
    },
  );
  // A context whose types are ignored.
  type Loose = { [member: string]: (...args: unknown[]) => unknown };
  const doing = (setup: (context: Loose) => void, over: Partial<Plugin> = {}) =>
    untyped({
      ...over,
      setup(context) {
        setup(context as Loose);
      },
    });
  refused(
    "plugin rogue: emit of host-test.other, which its emits don't list",
    doing(({ emit }) => emit(Other, { n: 1 }), { emits: [Fact] }),
  );
  refused(
    "an observer can't answer a hook",
    doing(
      ({ answer }) => answer(Question, () => 1),
      observer,
    ),
  );
  refused(
    "an observer can't ask a hook",
    doing(({ ask }) => ask(Question), observer),
  );
  refused("an observer can't stop", doing(({ stop }) => stop("x"), observer));
  refused("an observer's note", doing(({ on }) => on(Note, () => {})));
  let later: (() => void) | undefined;
  load(doing(({ on }) => {
    later = () => on(Fact, () => {});
  }));
  assertThrows(
    () => later?.(),
    PluginError,
    "on(host-test.happened) after setup",
  );
});

Deno.test("two declarations of one event name are refused", () => {
  const twin = defineEvent({
    name: "host-test.happened",
    version: 2,
    kind: "fact",
    doc: "Another one",
    fields: {},
  });
  refused(
    "another declaration has the same name (version 1, this one 2)",
    untyped({ name: "one", emits: [Fact] }),
    untyped({ name: "two", emits: [twin] }),
  );
});

Deno.test("the toy machine's manifest is the same for any list order", () => {
  const one = load(...TOY_PARTICIPANTS).manifest();
  assertEquals(load(...TOY_PARTICIPANTS.toReversed()).manifest(), one);
  assertEquals(JSON.parse(JSON.stringify(one)), one);
  const names = one.events.map(({ name }) => name);
  assertEquals(names, names.toSorted());
  assert(names.includes("machine.started") && names.includes("toy.retired"));
  assert(one.events.every(({ kind }) => kind !== "note"));
  assert(ConfigError.name.length > 0);
});
