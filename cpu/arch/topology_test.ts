/** CPUID's view of several vCPUs: one package of single-threaded cores. */
import { assertEquals } from "@std/assert";
import { cpuid, type CpuidState } from "./cpuid.ts";
import { parseModel } from "./models.ts";

const state = (cpuIndex: number, cpuCount: number): CpuidState => ({
  cpuIndex,
  cpuCount,
  cr4: 0,
  xcr0: 1,
  xss: 0,
  apicEnabled: true,
  longMode: true,
  virtualization: false,
});
const INTEL = parseModel("max-intel");
const AMD = parseModel("qemu64");

Deno.test("leaf 1: initial APIC id, count and HTT", () => {
  for (const model of [INTEL, AMD]) {
    for (let count = 1; count <= 8; count++) {
      for (let index = 0; index < count; index++) {
        const [, b, , d] = cpuid(model, state(index, count), 1, 0);
        assertEquals(b >>> 24, index);
        assertEquals(b >>> 16 & 0xff, count === 1 ? 0 : count);
        assertEquals(d >>> 28 & 1, count === 1 ? 0 : 1);
      }
    }
  }
});

Deno.test("Intel: leaf 0BH's shift covers every id, and leaf 4 agrees", () => {
  const shifts = [0, 1, 2, 2, 3, 3, 3, 3];
  shifts.forEach((shift, i) => {
    const of = (leaf: number, subleaf: number) =>
      cpuid(INTEL, state(i, i + 1), leaf, subleaf);
    assertEquals(of(0xb, 0), [0, 1, 0x100, i]);
    assertEquals(of(0xb, 1), [shift, i + 1, 0x201, i]);
    assertEquals(of(0xb, 2), [0, 0, 2, i]);
    assertEquals(of(4, 0)[0] >>> 26, 2 ** shift - 1);
    assertEquals(of(4, 0)[0] & 0x3ffffff, 0x121);
  });
});

Deno.test("AMD: 8000_0008H counts cores, CmpLegacy says that they are", () => {
  const legacy = (count: number): number =>
    cpuid(AMD, state(0, count), 0x80000001, 0)[2] & 2;
  const cores = (count: number): number =>
    cpuid(AMD, state(0, count), 0x80000008, 0)[2];
  assertEquals([legacy(1), legacy(2)], [0, 2]);
  assertEquals([1, 2, 3, 4, 8].map(cores), [0, 0x1001, 0x2002, 0x2003, 0x3007]);
});
