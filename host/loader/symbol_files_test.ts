/**
 * Files of symbols told apart by their contents, the tables made of them, and
 * kallsyms found in a RAM laid out by an encoder of its own (the three orders
 * of tables that kernels have had).
 */
import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ConfigError } from "../../core/errors.ts";
import { makeElf } from "./elf_testing.ts";
import { readKallsyms } from "./kallsyms.ts";
import { readSymbolFile } from "./symbol_files.ts";
import { mapTable } from "./symbol_map.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

const MAP = `0000000000000000 D __per_cpu_start
000000000002d000 A __per_cpu_end
ffffffff81000000 T _text
ffffffff81000000 T startup_64
ffffffff81000120 t verify_cpu
ffffffff81000300 D data_page
ffffffffc0000000 t module_code [a_module]
`;

describe("readSymbolFile", () => {
  it("reads System.map and kallsyms", () => {
    const table = readSymbolFile(bytes(MAP), "System.map");
    const names = [
      0xffffffff81000000n,
      0xffffffff81000123n,
      0xffffffff81000301n,
      0xffffffffc0000001n,
      // covered by nothing: user space, beyond the last of an image
      0x401000n,
      0xffffffff90000000n,
      0xffffffffc0001000n,
    ].map((address) => table.show(address));
    assertEquals(names, [
      "startup_64",
      "verify_cpu+0x3",
      "data_page+0x1",
      "module_code+0x1",
      undefined,
      undefined,
      undefined,
    ]);
  });
  it("keeps low addresses where the image is a low one", () => {
    const table = readSymbolFile(
      bytes("0000000000400000 T start\n0000000000400010 t next\n"),
      "nm.txt",
    );
    assertEquals(table.show(0x400004n), "start+0x4");
  });
  it("reads ELF", () => {
    const table = readSymbolFile(elf(["f"]), "vmlinux");
    assertEquals(table.show(0x1004n), "f+0x4");
  });
  const bad: Record<string, [Uint8Array, string]> = {
    "Debian's stub of a System.map": [
      bytes(
        "ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package\n",
      ),
      'not "address type name"',
    ],
    "prose": [bytes("hello\nworld\n"), "the file is no ELF image"],
    "a bad line": [bytes(`${MAP}oops\n`), 'line 8 is "oops"'],
    "hidden addresses": [
      bytes("0000000000000000 T a\n0000000000000000 T b\n"),
      "kptr_restrict",
    ],
    "nothing": [bytes(""), "empty"],
    "one line": [bytes("ffffffff81000000 T a\n"), "names nothing"],
    "binary": [Uint8Array.of(1, 2, 0, 4), "neither an ELF image nor text"],
    "a stripped ELF image": [elf([]), "stripped"],
    "a bzImage": [bzImage(), "compressed Linux kernel"],
  };
  for (const [name, [data, message]] of Object.entries(bad)) {
    it(`refuses ${name}`, () => {
      const error = assertThrows(
        () => readSymbolFile(data, "some.file"),
        ConfigError,
        message,
      );
      assertEquals(
        error.message.startsWith("read symbols of some.file:"),
        true,
      );
    });
  }
});

function elf(names: readonly string[]): Uint8Array {
  return makeElf({
    entry: 0x1000,
    loads: [{
      physical: 0x1000,
      virtual: 0x1000,
      bytes: new Uint8Array(16),
      size: 16,
    }],
    symbols: names.map((name) => ({ name, value: 0x1000, size: 16, type: 2 })),
  });
}

function bzImage(): Uint8Array {
  const image = new Uint8Array(1024);
  image.set([0x55, 0xaa], 0x1fe);
  image.set(bytes("HdrS"), 0x202);
  return image;
}

/** Orders of kallsyms' tables: to 6.1, 6.2 and 6.3, since 6.4. */
const ORDERS = ["early", "seqs", "late"] as const;

/** Lays out kallsyms as scripts/kallsyms.c does, tokens being single letters. */
function kallsyms(
  order: typeof ORDERS[number],
  symbols: readonly { address: bigint; type: string; name: string }[],
): Uint8Array {
  const base = 0xffffffff81000000n;
  const tables: Uint8Array[] = [];
  const table = (length: number, write: (view: DataView) => void): void => {
    const data = new Uint8Array((length + 7) & -8);
    write(new DataView(data.buffer));
    tables.push(data);
  };
  const texts = symbols.map(({ type, name }) => bytes(type + name));
  const offsets = (): void => {
    table(
      4 * symbols.length,
      (view) =>
        symbols.forEach(({ address }, i) =>
          view.setInt32(
            4 * i,
            Number(address < base ? address : base - 1n - address),
            true,
          )
        ),
    );
    table(8, (view) => view.setBigUint64(0, base, true));
  };
  if (order !== "late") offsets();
  table(4, (view) => view.setUint32(0, symbols.length, true));
  const names: number[] = [];
  const markers: number[] = [];
  texts.forEach((text, i) => {
    if (i % 256 === 0) markers.push(names.length);
    if (text.length < 128) names.push(text.length);
    else names.push(text.length & 0x7f | 0x80, text.length >> 7);
    names.push(...text);
  });
  table(names.length, (view) => new Uint8Array(view.buffer).set(names));
  table(
    4 * markers.length,
    (view) => markers.forEach((m, i) => view.setUint32(4 * i, m, true)),
  );
  if (order === "seqs") {
    table(3 * symbols.length, (view) => {
      for (let i = 0; i < 3 * symbols.length; i++) view.setUint8(i, i * 7 + 1);
    });
  }
  // token n is the character n where names have it, else a longer one
  const tokens = Array.from(
    { length: 256 },
    (_, i) => i > 32 && i < 127 ? String.fromCharCode(i) : `tok${i}`,
  );
  const places: number[] = [];
  let text = "";
  for (const token of tokens) {
    places.push(text.length);
    text += `${token}\0`;
  }
  table(text.length, (view) => new Uint8Array(view.buffer).set(bytes(text)));
  table(
    512,
    (view) => places.forEach((p, i) => view.setUint16(2 * i, p, true)),
  );
  if (order === "late") offsets();
  const size = tables.reduce((n, t) => n + t.length, 0);
  const ram = new Uint8Array(0x10000 + size + 0x1000);
  // something that looks like digits, and is no table
  ram.set(bytes("0\0" + [..."123456789"].join("\0") + "\0"), 0x100);
  let at = 0x10000;
  for (const one of tables) {
    ram.set(one, at);
    at += one.length;
  }
  return ram;
}

describe("readKallsyms", () => {
  const symbols = [
    { address: 0x1000n, type: "A", name: "per_cpu_thing" },
    ...Array.from({ length: 3000 }, (_, i) => ({
      address: 0xffffffff81000000n + BigInt(16 * i),
      type: i % 3 === 0 ? "T" : "t",
      name: `function_${i}${i === 700 ? "x".repeat(180) : ""}`,
    })),
  ];
  const expected = mapTable(symbols).all;
  for (const order of ORDERS) {
    it(`finds the tables in the order ${order}`, () => {
      assertEquals(readKallsyms(kallsyms(order, symbols)), expected);
    });
    it(`takes no table that does not agree with the others (${order})`, () => {
      const whole = kallsyms(order, symbols);
      // a broken length early among the names breaks every marker behind it
      const at = new TextDecoder("latin1").decode(whole).indexOf("Tfunction_0");
      whole[at - 1]++;
      assertEquals(readKallsyms(whole), []);
    });
  }
  it("finds nothing where nothing is", () => {
    assertEquals(readKallsyms(new Uint8Array(1 << 16)), []);
  });
});
