/**
 * Damaged images: every truncation and seeded changed bytes of good ELF and
 * multiboot files give a guest inside memory or a ConfigError, nothing else.
 */
import { assert } from "@std/assert";
import { ConfigError } from "../../core/errors.ts";
import { asmWith } from "../asm/mod.ts";
import { makeElf } from "./elf_testing.ts";
import { loadGuest } from "./mod.ts";

const MEMORY = 16 << 20;

function load(bytes: Uint8Array): "loaded" | "refused" {
  try {
    const guest = loadGuest("image", {
      file: "x",
      bytes,
      append: "",
      modules: [{ file: "m", bytes: new Uint8Array(9), append: "" }],
      memoryBytes: MEMORY,
    });
    for (const { physicalAddress, size, bytes } of guest.segments) {
      assert(physicalAddress >= 0 && physicalAddress + size <= MEMORY);
      assert(bytes.length <= size);
    }
    guest.symbols.show(0x200004n);
    return "loaded";
  } catch (error) {
    assert(error instanceof ConfigError, `${error}`);
    return "refused";
  }
}

const HEADER = asmWith({ bits: 32, origin: 0x100000 })`
  header: dd 0x1badb002, 0x10000, -(0x1badb002 + 0x10000)
  dd header, $$, 0, 0, start
  start: hlt
  times 32 nop`.bytes;

const parts = (bytes: Uint8Array, is64: boolean) => ({
  is64,
  entry: 0x200000,
  loads: [{ physical: 0x200000, virtual: 0x200000, bytes, size: 4096 }],
  symbols: [{ name: "start", value: 0x200004, size: 4, type: 2 }],
});
const IMAGES: Readonly<Record<string, Uint8Array>> = {
  "address fields": HEADER,
  ELF32: makeElf(parts(Uint8Array.of(0x90, 0xf4), false)),
  ELF64: makeElf(parts(Uint8Array.of(0x90, 0xf4), true)),
};

for (const [name, image] of Object.entries(IMAGES)) {
  Deno.test(`a damaged image (${name}) is loaded inside memory or refused`, () => {
    assert(load(image) === "loaded");
    const seen = { loaded: 0, refused: 0 };
    for (let n = 0; n < image.length; n++) seen[load(image.subarray(0, n))]++;
    let x = 0x9e37_79b9;
    for (let i = 0; i < 4000; i++) {
      x ^= x << 13;
      x ^= x >>> 17;
      x ^= x << 5;
      const copy = image.slice();
      copy[(x >>> 8) % copy.length] ^= 1 + (x >>> 24) % 255;
      seen[load(copy)]++;
    }
    assert(seen.refused > 50 && seen.loaded > 50, JSON.stringify(seen));
  });
}
