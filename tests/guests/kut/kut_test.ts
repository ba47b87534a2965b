/**
 * The reading of unittests.cfg and of QEMU's words, on text of our own in the
 * file's syntax; the entries themselves need a checkout and are run by
 * `deno task kut --images DIR`.
 */
import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../../mod.ts";
import { parseModel } from "../../../cpu/arch/models.ts";
import { KNOWN } from "./known.ts";
import { machineOf } from "./machine_words.ts";
import { wanted } from "./main.ts";
import { type CfgEntry, parseCfg, shellWords } from "./unittests_cfg.ts";

const CFG = `
# a comment
[plain]
file = plain.flat

[many]
file=many.flat
smp = 3
test_args = "one 'two" three'four five'
qemu_params = """-cpu max,+svm,-no_such \\
 -m 4g
"""
groups = svm nodefault
arch = x86_64
timeout = 10
[old]
file = old.flat
arch = i386
extra_params = -cpu qemu64,-nx,host-phys-bits=off,phys-bits=36
`;

const [plain, many, old] = parseCfg(CFG, "x.cfg");

Deno.test("unittests.cfg: keys, quotes, several lines", () => {
  assertEquals(plain, {
    name: "plain",
    file: "plain.flat",
    smp: 1,
    args: "",
    params: [],
    groups: [],
    arch: "",
  });
  assertEquals(many.args, "one 'two threefour five");
  assertEquals(many.params, ["-cpu", "max,+svm,-no_such", "-m", "4g"]);
  assertEquals([many.smp, many.groups], [3, ["svm", "nodefault"]]);
  assertEquals(shellWords(`a "b c"d 'e'`), ["a", "b cd", "e"]);
});

Deno.test("unittests.cfg: what is not understood is named", () => {
  const wrong: [string, string][] = [
    ["file = x", "x.cfg:1:"],
    ["[a]\nfile = x\ncolour = red", "x.cfg:3:"],
    ["[a]\nsmp = 2", "entry a"],
    ['[a]\nfile = x\nqemu_params = """-m', "never closed"],
  ];
  for (const [text, message] of wrong) {
    assertThrows(() => parseCfg(text, "x.cfg"), ConfigError, message);
  }
});

Deno.test("QEMU's words name a machine of ours", () => {
  assertEquals(machineOf(plain), {
    cpu: "qemu64,vendor=GenuineIntel",
    memory: 128,
  });
  assertEquals(machineOf(many), { cpu: "max-amd,-rdpru,+svm", memory: 3072 });
  assertEquals(machineOf(old), {
    cpu: "qemu64,-nx,phys-bits=36",
    memory: 128,
  });
  assertEquals(parseModel(machineOf(old).cpu).physicalAddressBits, 36);
  const wide = { ...plain, params: ["-cpu", "max,host-phys-bits,+vmx"] };
  assertEquals(machineOf(wide).cpu, "max-intel,phys-bits=52,+vmx");
  const unknown: CfgEntry = { ...plain, params: ["-cpu", "Pentium9"] };
  assertThrows(() => machineOf(unknown), Error, "Pentium9");
});

Deno.test("quirks that an entry needs are asked for, of a model with SVM", () => {
  const quirky = Object.entries(KNOWN).filter(([, { quirks }]) => quirks);
  assertEquals(quirky.map(([name]) => name), ["svm", "svm_no_npt"]);
  for (const [name, { quirks }] of quirky) {
    const params = ["-cpu", "max,+svm,-npt"];
    const { cpu } = machineOf({ ...many, name, params }, quirks);
    assertEquals(cpu, "max-amd,-rdpru,+svm,-npt,+kvm-gif-breakpoints");
    assertEquals([...parseModel(cpu).quirks], quirks);
  }
});

Deno.test("what is asked for", () => {
  const names = (only?: string[], group?: string): string[] =>
    [plain, many, old].filter((entry) => wanted(entry, only, group))
      .map(({ name }) => name);
  assertEquals(names(), ["plain"]);
  assertEquals(names(undefined, "svm"), ["many"]);
  assertEquals(names(["many", "old"]), ["many"]);
  assertEquals(names(undefined, "base"), ["plain", "many"]);
});
