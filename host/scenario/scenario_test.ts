/**
 * Scenarios out of YAML: what a good one means (design §9), and the small
 * readers of sizes, counts and spellings below it.
 * Invariant: equal scenarios come out of YAML and out of a program's object.
 */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { defineScenario } from "./define.ts";
import { parseScenario } from "./parse.ts";
import { readInitrd, readSize } from "./schema.ts";
import { didYouMean } from "./spelling.ts";

const parse = (text: string) => parseScenario(text, "a.yml").scenario;

const DESIGN =
  `machine: { cpu: haswell-server, memory: 64MiB }      # no MBEC in this CPU
guest:   { asm: ./hvci.asm }
plugins: [ vmx, hypervisor, { mbec: { strategy: trap-all } }, ./my-observer.ts ]
record:  full
inputs:  [ { at: 120000, serial: "ls\\n" } ]
expect:  { exit: 0, events: { mbec.view-switched: ">= 2" } }
`;

describe("a good scenario", () => {
  it("means what design §9's example says", () => {
    assertEquals(parse(DESIGN), {
      doc: "",
      machine: {
        cpu: "haswell-server",
        memory: 64 << 20,
        cpus: 1,
        platform: "pc",
        seed: 0n,
      },
      guest: { format: "asm", path: "./hvci.asm", append: "", modules: [] },
      plugins: [
        { source: "vmx", options: {} },
        { source: "hypervisor", options: {} },
        { source: "mbec", options: { strategy: "trap-all" } },
        { source: "./my-observer.ts", options: {} },
      ],
      record: "full",
      inputs: [{ at: 120000, serial: new TextEncoder().encode("ls\n") }],
      expect: {
        exit: 0,
        events: { "mbec.view-switched": { comparison: ">=", count: 2 } },
        serial: [],
      },
    });
  });
  it("needs nothing", () => {
    assertEquals(parse("{}").machine, {
      cpu: "max-intel",
      memory: 64 << 20,
      cpus: 1,
      platform: "pc",
      seed: 0n,
    });
    assertEquals(parse("{}").record, "boundaries");
    assertEquals(parse("{}").guest, undefined);
  });
  it("takes assembly text in a block, at an address and in a mode", () => {
    const { guest } = parse(
      "guest:\n  mode: real\n  at: 0x7c00\n  asm: |\n    hlt\n    hlt\n",
    );
    assertEquals(guest, {
      format: "asm",
      text: "hlt\nhlt\n",
      append: "",
      modules: [],
      address: 0x7c00,
      mode: "real",
    });
  });
  it("takes modules as a list or as QEMU's words", () => {
    const modules = [{ path: "env", append: "" }, {
      path: "b,c",
      append: "x y",
    }];
    assertEquals(
      parse('guest: { multiboot: k, append: a b, initrd: "env,b,,c x y" }')
        .guest?.modules,
      modules,
    );
    assertEquals(
      parse(
        'guest: { multiboot: k, modules: [env, {path: "b,c", append: x y}] }',
      ).guest?.modules,
      modules,
    );
    assertEquals(readInitrd(""), []);
  });
  it("takes seeds that no number can hold, in quotes", () => {
    assertEquals(
      parse('machine: { seed: "0xffffffffffffffff" }').machine.seed,
      0xffff_ffff_ffff_ffffn,
    );
    assertEquals(parse("machine: { seed: 0x10 }").machine.seed, 16n);
  });
  it("puts inputs into the order of their steps, equal ones as written", () => {
    const { inputs } = parse(
      "inputs: [{at: 9, serial: [65]}, {at: 3, event: machine.interrupted}, {at: 9, serial: B}]",
    );
    assertEquals(inputs.map((i) => i.at), [3, 9, 9]);
    assertEquals(inputs[0].event, { name: "machine.interrupted", payload: {} });
    assertEquals([inputs[1].serial, inputs[2].serial], [
      Uint8Array.of(65),
      Uint8Array.of(66),
    ]);
  });
  it("reads counts with every comparison", () => {
    const { events } = parse(
      'expect: { events: { a.b: 2, a.c: "3", a.d: "!= 1", a.e: "<4", a.f-g: ">= 5" } }',
    ).expect;
    assertEquals(events, {
      "a.b": { comparison: "==", count: 2 },
      "a.c": { comparison: "==", count: 3 },
      "a.d": { comparison: "!=", count: 1 },
      "a.e": { comparison: "<", count: 4 },
      "a.f-g": { comparison: ">=", count: 5 },
    });
  });
  it("is the same from a program's object", () => {
    assertEquals(
      defineScenario({
        machine: { cpu: "qemu64" },
        guest: { flat: "x.bin", at: 4096 },
        plugins: ["vmx"],
      }).guest,
      { format: "flat", path: "x.bin", append: "", modules: [], address: 4096 },
    );
  });
});

describe("sizes", () => {
  it("have binary units", () => {
    assertEquals(readSize("64MiB"), 64 << 20);
    assertEquals(readSize("1 GiB"), 1 << 30);
    assertEquals(readSize("128K"), 128 << 10);
    assertEquals(readSize("64", "MiB"), 64 << 20);
    for (
      const bad of [
        "64",
        "64MB",
        "-1MiB",
        "1.5GiB",
        "",
        "MiB",
        "99999999999GiB",
      ]
    ) {
      assertEquals(typeof readSize(bad), "string", bad);
    }
  });
});

describe("spelling", () => {
  it("suggests only what is near", () => {
    const words = ["replay", "record"];
    assertEquals(didYouMean("recrod", words), "; did you mean record?");
    assertEquals(didYouMean("Replay", words), "; did you mean replay?");
    assertEquals(didYouMean("boundaries", words), "");
  });
});
