/** CPU models: flags, errors, and what CPUID tells of each. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../core/errors.ts";
import { cpuid, CpuidRegister, type CpuidState, FEATURES } from "./cpuid.ts";
import type { Feature } from "./cpuid.ts";
import {
  CPU_MODELS,
  MODELLED_FEATURES,
  parseModel,
  VMX_FEATURES,
} from "./models.ts";
import { QUIRKS } from "./quirks.ts";

const STATE: CpuidState = {
  cpuIndex: 0,
  cpuCount: 1,
  cr4: 0,
  xcr0: 1,
  xss: 0,
  apicEnabled: true,
  longMode: true,
  virtualization: true,
};

Deno.test("every model shows only what is modelled, and long mode", () => {
  for (const name of Object.keys(CPU_MODELS)) {
    const model = parseModel(name);
    for (const f of model.features) assert(MODELLED_FEATURES.has(f), f);
    for (const f of ["lm", "pae", "sse2", "fxsr", "msr"] as const) {
      assert(model.has(f), `${name} lacks ${f}`);
    }
  }
});

Deno.test("the models differ where the design says so", () => {
  assertEquals(parseModel("qemu64").vendor, "AuthenticAMD");
  assert(!parseModel("haswell-server").hasVmx("vmx-mbec"));
  assert(parseModel("skylake-server").hasVmx("vmx-mbec"));
  assert(parseModel("max-intel").has("la57"));
  assertEquals(parseModel("max-intel").linearAddressBits, 57);
  assertEquals(parseModel("max-intel,-la57").linearAddressBits, 48);
});

Deno.test("each feature bit appears in its leaf exactly when the model shows it", () => {
  const leaves: Feature[] = Object.keys(FEATURES) as Feature[];
  for (const name of Object.keys(CPU_MODELS)) {
    const model = parseModel(name);
    for (const f of leaves) {
      const at = FEATURES[f];
      if (
        at.leaf >
          (at.leaf >= 0x80000000 ? model.maxExtendedLeaf : model.maxLeaf)
      ) {
        continue;
      }
      if (at.leaf === 0xd || f === "ht") continue;
      const got = cpuid(model, STATE, at.leaf, at.subleaf)[at.register];
      assertEquals(
        (got >>> at.bit) & 1,
        model.features.has(f) ? 1 : 0,
        `${name} ${f}`,
      );
    }
  }
});

Deno.test("leaves without subleaves don't look at ECX", () => {
  const model = parseModel("qemu64");
  for (const leaf of [0, 1, 0x80000000, 0x80000001, 0x80000008]) {
    assertEquals(
      cpuid(model, STATE, leaf, 0xc0000101),
      cpuid(model, STATE, leaf, 0),
    );
  }
});

Deno.test("feature bits and VMX capability bits are unique", () => {
  const seen = new Map<string, string>();
  for (const [name, f] of Object.entries(FEATURES)) {
    const key = `${f.leaf}.${f.subleaf}.${f.register}.${f.bit}`;
    assertEquals(seen.get(key), undefined, `${name} and ${seen.get(key)}`);
    seen.set(key, name);
  }
  const bits = Object.values(VMX_FEATURES).map((f) => `${f.msr}.${f.bit}`);
  assertEquals(new Set(bits).size, bits.length);
});

Deno.test("bits that follow the machine: APIC, SYSCALL, VMX, OSXSAVE, limits", () => {
  const m = parseModel("skylake-server");
  const bit = (leaf: number, reg: number, n: number, s: CpuidState): number =>
    (cpuid(m, s, leaf, 0)[reg] >>> n) & 1;
  const { EBX, ECX, EDX } = CpuidRegister;
  assertEquals(bit(1, EDX, 9, STATE), 1);
  assertEquals(bit(1, EDX, 9, { ...STATE, apicEnabled: false }), 0);
  assertEquals(bit(0x80000001, EDX, 11, STATE), 1);
  assertEquals(bit(0x80000001, EDX, 11, { ...STATE, longMode: false }), 0);
  assertEquals(bit(1, ECX, 5, { ...STATE, virtualization: false }), 0);
  assertEquals(bit(1, ECX, 27, { ...STATE, cr4: 1 << 18 }), 1);
  assertEquals(cpuid(m, STATE, 1, 0)[EBX] >>> 8 & 0xff, 8);
  assertEquals(cpuid(m, STATE, 0x80000008, 0)[0], 40 | 48 << 8);
  // Beyond the maximum: Intel repeats the highest basic leaf, AMD answers zero.
  assertEquals(cpuid(m, STATE, 0x40000000, 0), cpuid(m, STATE, 0xd, 0));
  const amd = parseModel("qemu64");
  assertEquals(cpuid(amd, STATE, 0x40000000, 0), [0, 0, 0, 0]);
  assertEquals(cpuid(amd, STATE, 0x80000002, 0)[0] & 0xff, 0x76);
});

Deno.test("minimal shows ten features and has what long mode brings", () => {
  const m = parseModel("minimal");
  assertEquals(m.features.size, 10);
  assert(m.has("tsc") && m.has("pge"));
  assert(!m.has("nx") && !m.has("apic"));
  assert(!parseModel("minimal,-tsc").has("tsc"));
  for (const name of Object.keys(CPU_MODELS)) {
    const { features, hidden } = parseModel(name);
    for (const f of hidden) {
      assert(!features.has(f) && MODELLED_FEATURES.has(f), `${name} ${f}`);
    }
  }
});

Deno.test("flags and settings", () => {
  const m = parseModel(
    "skylake-server,-pcid,+la57,phys-bits=36,vendor=AuthenticAMD",
  );
  assert(!m.has("pcid"));
  assert(m.has("invpcid"), "kvm-unit-tests asks for one without the other");
  assert(m.has("la57"));
  assertEquals([m.physicalAddressBits, m.vendor], [36, "AuthenticAMD"]);
  assert(!parseModel("skylake-server,vmx-mbec=off").hasVmx("vmx-mbec"));
  assertEquals(parseModel("skylake-server,-vmx").vmx.size, 0);
});

Deno.test("quirks are there when asked for, and nothing else changes", () => {
  for (const name of Object.keys(CPU_MODELS)) {
    assertEquals(parseModel(name).quirks.size, 0, name);
  }
  for (const [quirk, { needs }] of Object.entries(QUIRKS)) {
    const plain = parseModel("max-amd");
    const quirky = parseModel(`max-amd,+${quirk}`);
    assertEquals([...quirky.quirks], [quirk]);
    assertEquals(quirky.features, plain.features);
    const off = [`+${quirk},-${quirk}`, `+${quirk},-${needs}`, `${quirk}=off`];
    for (const words of off) {
      assertEquals(parseModel(`max-amd,${words}`).quirks.size, 0, words);
    }
    for (const lacking of [`max-amd,-${needs}`, "qemu64", "max-intel"]) {
      assertThrows(
        () => parseModel(`${lacking},+${quirk}`),
        ConfigError,
        `flag "${quirk}" needs "${needs}"`,
      );
    }
    assert(!(quirk in FEATURES) && !(quirk in VMX_FEATURES));
  }
});

Deno.test("errors name the word and the nearest spelling", () => {
  const fails = (spec: string, ...parts: string[]): void => {
    const e = assertThrows(() => parseModel(spec), ConfigError);
    for (const part of parts) {
      assert(e.message.includes(part), `"${e.message}" lacks ${part}`);
    }
  };
  fails("skylake-servr", "skylake-server");
  fails("skylake-server,+smepp", '"smepp"', '"smep"');
  fails("max-amd,+kvm-gif-breakpoint", '"kvm-gif-breakpoints"');
  fails("skylake-server,pcid", '"+pcid"');
  fails("skylake-server,+avx2", '"avx2"', "not modelled");
  fails("skylake-server,-xsave,+xsaveopt", '"xsave"');
  fails("skylake-server,phys-bit=3", '"phys-bits"');
  fails("skylake-server,phys-bits=99", "phys-bits=99");
  fails("qemu64,vendor=Cyrix", "Cyrix");
});
