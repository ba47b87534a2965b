/**
 * The Linux boot protocol with synthetic images: where kernel, zero page,
 * command line and initrd land, the state at entry, and what errors say.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../core/errors.ts";
import { Gpr, Seg } from "../../cpu/layout.ts";
import { makeElf } from "./elf_testing.ts";
import { isBzImage, isVmlinux } from "./linux.ts";
import { loadGuest } from "./mod.ts";
import type { LoadedGuest, LoadedModule, LoadRequest } from "./types.ts";

const MIB = 1 << 20;
const SETUP_SECTORS = 3;
const PREFERRED = 0x100_0000;

/** A bzImage of `code` bytes of 0xcc behind three setup sectors and a boot sector. */
function bzImage(
  fields: { version?: number; xload?: number; code?: number } = {},
): Uint8Array {
  const setup = (SETUP_SECTORS + 1) * 512;
  const bytes = new Uint8Array(setup + (fields.code ?? 0x1000));
  bytes.fill(0xcc, setup);
  const view = new DataView(bytes.buffer);
  bytes[0x1f1] = SETUP_SECTORS;
  view.setUint16(0x1fe, 0xaa55, true);
  bytes.set([0xeb, 0x66], 0x200); // the header ends at 0x268
  bytes.set(new TextEncoder().encode("HdrS"), 0x202);
  view.setUint16(0x206, fields.version ?? 0x20f, true);
  bytes[0x211] = 0x01;
  view.setUint32(0x22c, 0x7fff_ffff, true);
  view.setUint16(0x236, fields.xload ?? 0x7f, true);
  view.setUint32(0x238, 255, true);
  view.setBigUint64(0x258, BigInt(PREFERRED), true);
  view.setUint32(0x260, 8 * MIB, true);
  view.setUint32(0x264, 0x12345678, true);
  // Behind the header: nothing of this may reach the zero page.
  bytes.fill(0xee, 0x268, 0x2c0);
  return bytes;
}

/** An ELF64 kernel with a note of `owner`. */
function vmlinux(owner: string): Uint8Array {
  const name = new TextEncoder().encode(owner + "\0");
  const note = new Uint8Array(12 + 8 + 4);
  const noteView = new DataView(note.buffer);
  noteView.setUint32(0, name.length, true);
  noteView.setUint32(4, 4, true);
  noteView.setUint32(8, 0x100, true);
  note.set(name, 12);
  const load = { physical: PREFERRED, virtual: 0x8100_0000 };
  const bytes = makeElf({
    entry: PREFERRED,
    loads: [
      { ...load, bytes: Uint8Array.of(0xf4), size: 0x2000 },
      { physical: 0, virtual: 0, bytes: note, size: note.length },
    ],
  });
  new DataView(bytes.buffer).setUint32(64 + 56, 4, true); // PT_NOTE
  return bytes;
}

function request(
  bytes: Uint8Array,
  more: Partial<LoadRequest> = {},
): LoadRequest {
  return {
    file: "kernel",
    bytes,
    append: "",
    modules: [],
    memoryBytes: 64 * MIB,
    ...more,
  };
}

function initrd(size: number, fill: number, append = ""): LoadedModule {
  return { file: "initrd", bytes: new Uint8Array(size).fill(fill), append };
}

/** RAM as the guest finds it. */
function memoryOf(guest: LoadedGuest): { ram: Uint8Array; view: DataView } {
  const ram = new Uint8Array(64 * MIB);
  for (const s of guest.segments) ram.set(s.bytes, s.physicalAddress);
  return { ram, view: new DataView(ram.buffer) };
}

const text = (ram: Uint8Array, at: number): string =>
  new TextDecoder().decode(ram.subarray(at, ram.indexOf(0, at)));

Deno.test("bzImage: the protected-mode part at its preferred address, entry 0x200 in", () => {
  const guest = loadGuest("image", request(bzImage()));
  assertEquals(guest.format, "linux");
  assertEquals(guest.start.rip, BigInt(PREFERRED + 0x200));
  const [kernel] = guest.segments;
  assertEquals(kernel.physicalAddress, PREFERRED);
  assertEquals([kernel.bytes.length, kernel.size], [0x1000, 8 * MIB]);
  assert(kernel.bytes.every((b) => b === 0xcc));
});

Deno.test("entry state: long mode, __BOOT_CS and __BOOT_DS, RSI at the zero page", () => {
  const guest = loadGuest("linux", request(bzImage()));
  const { start } = guest;
  assertEquals([start.mode, start.rflags], ["long", 2]);
  assertEquals([start.cr0 >>> 31, start.cr4, start.efer], [1, 0x20, 0x500]);
  assertEquals(start.segments[Seg.CS].selector, 0x10);
  for (const s of [Seg.DS, Seg.ES, Seg.SS]) {
    assertEquals(start.segments[s].selector, 0x18);
  }
  const { view } = memoryOf(guest);
  for (const s of [Seg.CS, Seg.DS]) {
    const { selector, attributes } = start.segments[s];
    const at = Number(start.gdtr.base) + selector;
    assert(selector + 7 <= start.gdtr.limit);
    assertEquals(view.getUint16(at + 5, true) & 0xf0ff, attributes);
  }
  const page = Number(start.gpr[Gpr.RSI]);
  assertEquals(view.getUint32(page + 0x202, true), 0x5372_6448);
});

Deno.test("zero page: header copied to its end only, loader fields, e820", () => {
  const guest = loadGuest(
    "linux",
    request(bzImage(), { append: "console=ttyS0 quiet" }),
  );
  const { ram, view } = memoryOf(guest);
  const page = Number(guest.start.gpr[Gpr.RSI]);
  assertEquals(view.getUint32(page + 0x264, true), 0x12345678);
  assertEquals(ram[page + 0x268], 0);
  assertEquals([ram[page + 0x210], ram[page + 0x211]], [0xff, 1]);
  assertEquals(
    text(ram, view.getUint32(page + 0x228, true)),
    "console=ttyS0 quiet",
  );
  assertEquals(
    [view.getUint32(page + 0x218, true), view.getUint32(page + 0x21c, true)],
    [0, 0],
  );
  const rows = Array.from({ length: ram[page + 0x1e8] }, (_, i) => {
    const at = page + 0x2d0 + 20 * i;
    return [
      view.getBigUint64(at, true),
      view.getBigUint64(at + 8, true),
      view.getUint32(at + 16, true),
    ];
  });
  assertEquals(rows, [
    [0n, 0x9fc00n, 1],
    [0x9fc00n, 0x400n, 2],
    [0xf0000n, 0x10000n, 2],
    [0x100000n, BigInt(63 * MIB), 1],
  ]);
});

Deno.test("initrds: one behind the other, 4-aligned, at the top of memory", () => {
  const guest = loadGuest(
    "linux",
    request(bzImage(), { modules: [initrd(5001, 1), initrd(100, 2)] }),
  );
  const { ram, view } = memoryOf(guest);
  const page = Number(guest.start.gpr[Gpr.RSI]);
  const at = view.getUint32(page + 0x218, true);
  assertEquals(view.getUint32(page + 0x21c, true), 5004 + 100);
  assertEquals([at % 4096, at], [0, 64 * MIB - 2 * 4096]);
  assertEquals([...ram.subarray(at + 5000, at + 5005)], [1, 0, 0, 0, 2]);
  assertEquals(ram[at + 5103], 2);
});

Deno.test("an initrd stays below the header's limit", () => {
  const image = bzImage();
  new DataView(image.buffer).setUint32(0x22c, 0x37f_ffff, true);
  const guest = loadGuest(
    "linux",
    request(image, { modules: [initrd(4096, 1)] }),
  );
  const segment = guest.segments.find((s) => s.name === "the initrd");
  assertEquals(segment?.physicalAddress, 0x380_0000 - 4096);
});

Deno.test("vmlinux: ELF segments, ELF entry, a header of its own", () => {
  for (const owner of ["Linux", "Xen"]) {
    const guest = loadGuest("image", request(vmlinux(owner), { append: "a" }));
    assertEquals(guest.format, "linux");
    assertEquals(guest.start.rip, BigInt(PREFERRED));
    const { ram, view } = memoryOf(guest);
    const page = Number(guest.start.gpr[Gpr.RSI]);
    assertEquals(view.getUint32(page + 0x202, true), 0x5372_6448);
    assertEquals(text(ram, view.getUint32(page + 0x228, true)), "a");
  }
});

Deno.test("recognition: notes of others, plain ELF and other files are no Linux", () => {
  assert(!isVmlinux(vmlinux("GNU")));
  assert(!isVmlinux(makeElf({})));
  assert(!isVmlinux(bzImage()));
  assert(!isBzImage(vmlinux("Linux")));
  assert(!isBzImage(new Uint8Array(0x400)));
  assertEquals(loadGuest("image", request(vmlinux("GNU"))).format, "elf");
});

Deno.test("a damaged note table is no crash", () => {
  const image = vmlinux("Linux");
  for (let length = 0; length < image.length; length += 7) {
    isVmlinux(image.subarray(0, length));
    isBzImage(image.subarray(0, length));
  }
  new DataView(image.buffer).setBigUint64(64 + 56 + 8, 1n << 60n, true);
  assert(!isVmlinux(image));
});

const REFUSED: [string, LoadRequest, string[]][] = [
  ["text", request(new TextEncoder().encode("hello\n")), [
    "kernel",
    "HdrS",
    "looks like text",
    "give a bzImage or a vmlinux",
  ]],
  ["an old protocol", request(bzImage({ version: 0x20a })), ["2.10", "3.8"]],
  ["a 32-bit kernel", request(bzImage({ xload: 0 })), ["no 64-bit entry"]],
  ["a truncated file", request(bzImage({ code: 0x100 })), ["truncated"]],
  [
    "ELF32",
    request(makeElf({
      is64: false,
      loads: [{
        physical: PREFERRED,
        virtual: PREFERRED,
        bytes: new Uint8Array(4),
        size: 4,
      }],
    })),
    ["32-bit ELF", "x86-64"],
  ],
  ["a long command line", request(bzImage(), { append: "x".repeat(256) }), [
    "256 bytes",
    "takes 255",
    "shorten --append",
  ]],
  [
    "a command line for an initrd",
    request(bzImage(), {
      modules: [initrd(1, 1, "debug")],
    }),
    ["initrd", "(debug)", "--append"],
  ],
  [
    "too little memory for the kernel",
    request(bzImage(), {
      memoryBytes: 16 * MIB,
    }),
    ["unpack", "24 MiB or more"],
  ],
  [
    "too little memory for the initrd",
    request(bzImage(), {
      memoryBytes: 25 * MIB,
      modules: [initrd(2 * MIB, 1)],
    }),
    ["don't fit", "26 MiB"],
  ],
];

for (const [what, bad, words] of REFUSED) {
  Deno.test(`refused: ${what}`, () => {
    const error = assertThrows(() => loadGuest("linux", bad), ConfigError);
    for (const word of words) {
      assert(error.message.includes(word), `${word}\nnot in\n${error.message}`);
    }
  });
}
