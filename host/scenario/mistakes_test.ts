/**
 * Each mistake an author of a scenario can make is reported at its line and
 * column with what is accepted there and the nearest spelling (design §9).
 * Invariant: a malformed scenario never gives anything but a ScenarioError.
 */
import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import fc from "fast-check";
import { defineScenario, ScenarioError } from "./define.ts";
import { parseScenario } from "./parse.ts";

const issues = (text: string): readonly string[] =>
  assertThrows(() => parseScenario(text, "a.yml"), ScenarioError).issues;

const DESIGN =
  `machine: { cpu: haswell-server, memory: 64MiB }      # no MBEC in this CPU
guest:   { asm: ./hvci.asm }
plugins: [ vmx, hypervisor, { mbec: { strategy: trap-all } }, ./my-observer.ts ]
record:  full
inputs:  [ { at: 120000, serial: "ls\\n" } ]
expect:  { exit: 0, events: { mbec.view-switched: ">= 2" } }
`;

describe("a mistake is reported at its place:", () => {
  const cases: [
    name: string,
    text: string,
    place: string,
    ...parts: string[],
  ][] = [
    [
      "unknown key",
      "machine:\n  cpu: qemu64\n  memroy: 64MiB\n",
      "a.yml:3:3: machine.memroy: ",
      'unknown key "memroy"',
      "accepted are cpu, memory, cpus, quantum, pace, platform, seed",
      "did you mean memory?",
    ],
    [
      "unknown top key",
      "guest: { asm: x }\nplugin: []\n",
      "a.yml:2:1: plugin: ",
      "did you mean plugins?",
    ],
    [
      "key far from any",
      "zzzzzz: 1\n",
      "a.yml:1:1: zzzzzz: ",
      "accepted are doc, machine, guest, plugins, record, steps, inputs, expect",
    ],
    [
      "wrong word",
      "record: ful\n",
      "a.yml:1:9: record: ",
      'expected one of inputs, boundaries, full, found "ful"',
      "did you mean full?",
    ],
    [
      "wrong platform",
      "machine: {platform: pcs}",
      "a.yml:1:21: machine.platform: ",
      "pc, lean, none",
    ],
    [
      "size without unit",
      "machine: { memory: 64 }",
      "a.yml:1:20: machine.memory: ",
      "a size with unit, as 64MiB",
      "found 64",
    ],
    [
      "size too large",
      "machine: { memory: 4GiB }",
      "a.yml:1:20: machine.memory: ",
      "64KiB to 3GiB",
      'found "4GiB"',
    ],
    [
      "size too small",
      "machine: { memory: 4KiB }",
      "a.yml:1:20: machine.memory: ",
      "64KiB to 3GiB",
    ],
    [
      "size that is no page",
      "machine: { memory: 65KiB }",
      "a.yml:1:20: machine.memory: ",
      "pages of 4KiB",
    ],
    [
      "no vCPU",
      "machine: { cpus: 0 }",
      "a.yml:1:18: machine.cpus: ",
      "from 1 to 64, found 0",
    ],
    [
      "step too long",
      "machine: { pace: 1001 }",
      "a.yml:1:18: machine.pace: ",
      "from 1 to 1000, found 1001",
    ],
    [
      "number as CPU",
      "machine: { cpu: 486 }",
      "a.yml:1:17: machine.cpu: ",
      "in quotes, found 486",
    ],
    [
      "rounded seed",
      "machine: { seed: 0x1234567890abcdef }",
      "a.yml:1:18: machine.seed: ",
      "quoted",
    ],
    [
      "negative seed",
      "machine: { seed: -1 }",
      "a.yml:1:18: machine.seed: ",
      "2^64 - 1",
    ],
    [
      "no guest format",
      "guest: { append: x }",
      "a.yml:1:8: guest: ",
      "exactly one of asm, multiboot, elf, linux, flat, image, found none",
    ],
    [
      "two guest formats",
      "guest:\n  asm: x\n  elf: y\n",
      "a.yml:2:3: guest: ",
      "found asm and elf",
    ],
    [
      "address for multiboot",
      "guest: { multiboot: x, at: 1 }",
      "a.yml:1:24: guest.at: ",
      "for asm and flat guests, this is multiboot",
    ],
    [
      "modules for asm",
      "guest: { asm: x, modules: [] }",
      "a.yml:1:18: guest.modules: ",
      "this is asm",
    ],
    [
      "initrd and modules",
      "guest: { elf: x, initrd: y, modules: [z] }",
      "a.yml:1:29: guest.modules: ",
      "says the same as initrd",
    ],
    [
      "module without path",
      "guest: { elf: x, modules: [{append: y}] }",
      "a.yml:1:28: guest.modules[0]: ",
      "with a path",
    ],
    [
      "guest as text",
      "guest: x.elf\n",
      "a.yml:1:8: guest: ",
      "a map of asm, multiboot, elf",
    ],
    [
      "plugins as a map",
      "plugins: { vmx: {} }",
      "a.yml:1:10: plugins: ",
      "a list of plugins, found a map with vmx",
    ],
    [
      "two plugins in one item",
      "plugins:\n - vmx\n - { mbec: {}, hypervisor: {} }\n",
      "a.yml:3:4: plugins[1]: ",
      "expected a plugin: ",
      "found a map with mbec, hypervisor",
    ],
    [
      "options that are no map",
      "plugins:\n - mbec: trap-all\n",
      "a.yml:2:10: plugins[0].mbec: ",
      "a map of mbec's options",
    ],
    [
      "jsr plugin",
      "plugins: ['jsr:@a/b']",
      "a.yml:1:11: plugins[0]: ",
      "download it and give its path",
    ],
    [
      "capital plugin name",
      "plugins: [VMX]",
      "a.yml:1:11: plugins[0]: ",
      'found "VMX"',
    ],
    ["number as plugin", "plugins: [1]", "a.yml:1:11: plugins[0]: ", "found 1"],
    [
      "input without step",
      "inputs:\n- serial: x\n",
      "a.yml:2:3: inputs[0]: ",
      "with a step",
    ],
    [
      "input of two kinds",
      "inputs: [{at: 1, serial: x, event: a.b}]",
      "a.yml:1:10: inputs[0]: ",
      "exactly one of serial, event",
    ],
    [
      "input of no kind",
      "inputs: [{at: 1}]",
      "a.yml:1:10: inputs[0]: ",
      "exactly one of serial, event",
    ],
    [
      "payload of serial",
      "inputs: [{at: 1, serial: x, payload: {}}]",
      "a.yml:1:29: inputs[0].payload: ",
      "belongs to event",
    ],
    [
      "byte too large",
      "inputs: [{at: 1, serial: [1, 256]}]",
      "a.yml:1:30: inputs[0].serial[1]: ",
      "0 to 255, found 256",
    ],
    [
      "negative step",
      "inputs: [{at: -1, serial: x}]",
      "a.yml:1:15: inputs[0].at: ",
      "0 or more",
    ],
    [
      "fractional step",
      "steps: 1.5",
      "a.yml:1:8: steps: ",
      "1 or more, found 1.5",
    ],
    [
      "exit status too large",
      "expect: { exit: 256 }",
      "a.yml:1:17: expect.exit: ",
      "0 to 255",
    ],
    [
      "malformed count",
      'expect: { events: { a.b: ">> 2" } }',
      'a.yml:1:26: expect.events."a.b": ',
      'a count, as 2 or ">= 2"',
    ],
    [
      "malformed event name",
      "expect: { events: { Viewswitch: 2 } }",
      "a.yml:1:21: expect.events.Viewswitch: ",
      "names no event",
    ],
    [
      "empty value",
      "machine:\nguest: { asm: x }\n",
      "a.yml:1:1: machine: ",
      "has no value: give it one or delete the key",
    ],
    ["date", "doc: 2001-01-01\n", "a.yml:1:6: doc: ", "a date (quote it"],
    [
      "list as root",
      "- vmx\n",
      "a.yml:1:1: ",
      "a scenario, a map of doc, machine",
    ],
    [
      "text as root",
      "vmx\n",
      "a.yml:1:1: ",
      "a scenario, a map of",
      'found "vmx"',
    ],
    ["empty file", "", "a.yml:1:1: ", "found nothing"],
    ["only comments", "# nothing\n", "a.yml:1:1: ", "found nothing"],
    [
      "constructor as key",
      "machine: { constructor: 1 }",
      "a.yml:1:12: machine.constructor: ",
      "unknown key",
    ],
    [
      "__proto__ as key",
      "machine:\n  __proto__: 1",
      "a.yml:2:3: machine.__proto__: ",
      "unknown key",
    ],
    [
      "NUL in text",
      'guest: { elf: "a\\0b" }',
      "a.yml:1:15: guest.elf: ",
      "without NUL",
    ],
    [
      "unclosed list",
      "plugins: [ vmx\nrecord: full\n",
      "a.yml:2:1: ",
      "not YAML: ",
    ],
    [
      "duplicate key",
      "record: full\nrecord: inputs\n",
      "a.yml:2:1: ",
      "not YAML: ",
    ],
    ["tab as indent", "machine:\n\tcpu: qemu64\n", "a.yml:2:1: ", "not YAML: "],
    ["unclosed quote", 'doc: "abc\n', "a.yml:", "not YAML: "],
    [
      "two documents",
      "record: full\n---\nrecord: full\n",
      "a.yml:",
      "not YAML: ",
    ],
    [
      "unknown anchor",
      "machine: *nope\n",
      "a.yml:1:15: ",
      "unidentified alias",
    ],
    ["unknown tag", "machine: !nope x\n", "a.yml:1:", "not YAML: "],
  ];
  for (const [name, text, place, ...parts] of cases) {
    it(name, () => {
      const found = issues(text);
      assertEquals(found.length, 1, found.join("\n"));
      assertStringIncludes(found[0], place);
      assert(found[0].startsWith(place), found[0]);
      for (const part of parts) assertStringIncludes(found[0], part);
    });
  }
  it("all of several", () => {
    const found = issues(
      "machine: { cpu: 1, memroy: x }\nrecord: none\nplugins: [1, 2]\n",
    );
    assertEquals(
      found.map((f) => f.split(" ")[0]),
      ["a.yml:1:17:", "a.yml:1:20:", "a.yml:3:11:", "a.yml:3:14:", "a.yml:2:9:"]
        .sort((a, b) =>
          found.findIndex((f) => f.startsWith(a)) -
          found.findIndex((f) => f.startsWith(b))
        ),
    );
    assertEquals(found.length, 5);
  });
  it("behind an anchor and in nested options", () => {
    const found = issues(
      "doc: &a 5\nplugins:\n  - introspect:\n      ranges:\n        - from: 1\n        - *a\nrecord: x\n",
    );
    assertEquals(found.length, 2);
    assertMatch(found[0], /^a\.yml:1:\d+: doc: expected /);
    assertMatch(found[1], /^a\.yml:7:9: record: /);
  });
  it("of a later check, by errorAt", () => {
    const file = parseScenario(DESIGN, "dir/b.yml");
    const error = file.errorAt(
      ["plugins", 2, "mbec", "strategy"],
      "unknown strategy",
    );
    assertInstanceOf(error, ScenarioError);
    assertEquals(error.code, "config");
    assertEquals(
      error.message,
      "dir/b.yml:3:49: plugins[2].mbec.strategy: unknown strategy",
    );
    // a key that isn't there is reported at its nearest parent
    assertEquals(
      file.errorAt(["guest", "append"], "x").message,
      "dir/b.yml:2:10: guest.append: x",
    );
  });
  it("of a program's object, by path", () => {
    const error = assertThrows(
      () => defineScenario({ machine: { cpus: "two" } }),
      ScenarioError,
    );
    assertEquals(
      error.message,
      'scenario.machine.cpus: expected how many vCPUs, a whole number from 1 to 64, found "two"',
    );
  });
});

describe("any text", () => {
  const lines = DESIGN.split("\n");
  const mangled = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.tuple(
      fc.nat(DESIGN.length),
      fc.nat(5),
      fc.string({ maxLength: 4, unit: "binary" }),
    )
      .map(([at, cut, put]) =>
        DESIGN.slice(0, at) + put + DESIGN.slice(at + cut)
      ),
    fc.shuffledSubarray(lines).map((l) => l.join("\n")),
    fc.json(),
  );
  it("gives a scenario or a ScenarioError with places, nothing else", () => {
    let good = 0, bad = 0;
    fc.assert(
      fc.property(mangled, (text) => {
        try {
          parseScenario(text, "a.yml");
          good++;
        } catch (error) {
          bad++;
          assertInstanceOf(error, ScenarioError, `${error}`);
          assert(error.issues.length > 0);
          for (const issue of error.issues) {
            assertMatch(issue, /^a\.yml:[1-9]\d*:[1-9]\d*: ./);
          }
        }
      }),
      { numRuns: 1000, seed: 7 },
    );
    assert(good > 50 && bad > 300, `${good} good, ${bad} bad`);
  });
});
