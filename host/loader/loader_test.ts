/** Loaders: what lands in memory, the first CPU state, and what errors say. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ConfigError } from "../../core/errors.ts";
import { Gpr, Seg } from "../../cpu/layout.ts";
import { asm, asmWith, AssemblyError } from "../asm/mod.ts";
import { loadGuest, readSymbols } from "./mod.ts";
import { makeElf } from "./elf_testing.ts";
import { loadAssembled } from "./flat.ts";
import type { GuestFormat, LoadedGuest, LoadRequest } from "./types.ts";

const MIB = 1 << 20;

function request(
  bytes: Uint8Array,
  more: Partial<LoadRequest> = {},
): LoadRequest {
  return {
    file: "guest.bin",
    bytes,
    append: "",
    modules: [],
    memoryBytes: 16 * MIB,
    ...more,
  };
}

/** The memory that a guest's segments make. */
class Memory {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  constructor(guest: LoadedGuest, size = 16 * MIB) {
    this.bytes = new Uint8Array(size);
    for (const s of guest.segments) {
      this.bytes.set(s.bytes, s.physicalAddress);
    }
    this.view = new DataView(this.bytes.buffer);
  }
  u32 = (at: number): number => this.view.getUint32(at, true);
  u64 = (at: number): bigint => this.view.getBigUint64(at, true);
  text(at: number): string {
    const end = this.bytes.indexOf(0, at);
    return new TextDecoder().decode(this.bytes.subarray(at, end));
  }
}

/** A multiboot image with address fields, padded in front. */
const KLUDGE = asmWith({ origin: 0x100000, bits: 32 })`
  times 64 db 0xee
header:
  dd 0x1badb002, 0x10003, -(0x1badb002 + 0x10003)
  dd header, $$, 0, bss_end, start
start: hlt
  align 4
bss_start:
bss_end equ bss_start + 0x1000
`;

describe("multiboot", () => {
  it("loads an image with address fields", () => {
    const guest = loadGuest("multiboot", request(KLUDGE.bytes));
    const image = guest.segments[0];
    assertEquals(image.physicalAddress, 0x100000);
    assertEquals(image.bytes, KLUDGE.bytes);
    assertEquals(image.size, KLUDGE.bytes.length + 0x1000);
    assertEquals(guest.start.rip, KLUDGE.symbols.get("start"));
  });

  it("enters as the specification's §3.2 says", () => {
    const { start } = loadGuest("multiboot", request(KLUDGE.bytes));
    assertEquals(start.gpr[Gpr.RAX], 0x2badb002n);
    assertEquals(start.cr0 & 0x8000_0001, 1); // PE set, PG clear
    assertEquals(start.rflags & ((1 << 17) | (1 << 9)), 0); // VM, IF clear
    assertEquals(start.efer, 0);
    const cs = start.segments[Seg.CS];
    assertEquals([cs.base, cs.limit, cs.attributes], [
      0n,
      0xffff_ffff,
      0xc09b,
    ]);
    for (const s of [Seg.DS, Seg.ES, Seg.FS, Seg.GS, Seg.SS]) {
      const { base, limit, attributes } = start.segments[s];
      assertEquals([base, limit, attributes], [0n, 0xffff_ffff, 0xc093]);
    }
  });

  it("passes command line, modules and memory map", () => {
    const env = new TextEncoder().encode("NR_CPUS=1\n");
    const guest = loadGuest(
      "multiboot",
      request(KLUDGE.bytes, {
        file: "kernel",
        append: "smap -v",
        modules: [
          { file: "env.txt", bytes: env, append: "" },
          { file: "b", bytes: new Uint8Array(5000).fill(7), append: "x=1" },
        ],
      }),
    );
    const memory = new Memory(guest);
    const info = Number(guest.start.gpr[Gpr.RBX]);
    assertEquals(memory.u32(info), 0x4d);
    assertEquals([memory.u32(info + 4), memory.u32(info + 8)], [639, 15360]);
    assertEquals(memory.text(memory.u32(info + 16)), "kernel smap -v");
    assertEquals(memory.u32(info + 20), 2);
    const modules = memory.u32(info + 24);
    const rows = [0, 16].map((o) => [
      memory.u32(modules + o),
      memory.u32(modules + o + 4),
      memory.text(memory.u32(modules + o + 8)),
    ]);
    // Page-aligned, behind the image and its .bss.
    assertEquals(rows, [
      [0x102000, 0x102000 + env.length, "env.txt"],
      [0x103000, 0x103000 + 5000, "b x=1"],
    ]);
    assertEquals(memory.bytes.slice(0x102000, 0x10200a), env);
    const map: (bigint | number)[][] = [];
    const start = memory.u32(info + 48);
    const end = start + memory.u32(info + 44);
    for (let at = start; at < end; at += memory.u32(at) + 4) {
      map.push([memory.u64(at + 4), memory.u64(at + 12), memory.u32(at + 20)]);
    }
    assertEquals(map, [
      [0n, 0x9fc00n, 1],
      [0x9fc00n, 0x400n, 2],
      [0xf0000n, 0x10000n, 2],
      [0x100000n, BigInt(15 * MIB), 1],
    ]);
  });

  it("clears the module flag without modules", () => {
    const guest = loadGuest("multiboot", request(KLUDGE.bytes));
    const memory = new Memory(guest);
    assertEquals(memory.u32(Number(guest.start.gpr[Gpr.RBX])), 0x45);
  });

  for (const is64 of [false, true]) {
    it(`loads ELF${is64 ? 64 : 32} images with symbols`, () => {
      const code = asmWith({ bits: 32 })`
        dd 0x1badb002, 3, -(0x1badb002 + 3)
        f: hlt`.bytes;
      const bytes = makeElf({
        is64,
        entry: 0xc000_000c,
        loads: [
          { physical: 2 * MIB, virtual: 0xc000_0000, bytes: code, size: 0x500 },
        ],
        symbols: [
          { name: "f", value: 0xc000_000c, size: 1, type: 2 },
          { name: "data", value: 0xc000_0100, size: 0, type: 1 },
        ],
      });
      const guest = loadGuest("image", request(bytes));
      assertEquals(guest.format, "multiboot");
      assertEquals(guest.start.rip, BigInt(2 * MIB + 12));
      const [image] = guest.segments;
      assertEquals([image.physicalAddress, image.size], [2 * MIB, 0x500]);
      assertEquals(image.bytes, code);
      assertEquals(guest.symbols.show(0xc000_000cn), "f");
      assertEquals(guest.symbols.show(0xc000_000dn), undefined);
      assertEquals(guest.symbols.show(0xc000_0110n), "data+0x10");
      assertEquals(guest.symbols.address("data"), 0xc000_0100n);
    });
  }
});

describe("ELF", () => {
  it("starts ELF64 in long mode with its boot information in RDI", () => {
    const bytes = makeElf({
      entry: 0x200004,
      loads: [{
        physical: 0x200000,
        virtual: 0x200000,
        bytes: asm`nop`.bytes,
        size: 16,
      }],
    });
    const guest = loadGuest("image", request(bytes, { append: "a b" }));
    assertEquals([guest.format, guest.start.mode], ["elf", "long"]);
    assertEquals(guest.start.rip, 0x200004n);
    const memory = new Memory(guest);
    const info = Number(guest.start.gpr[Gpr.RDI]);
    assertEquals(memory.text(memory.u32(info + 16)), "guest.bin a b");
  });

  it("starts ELF32 in protected mode", () => {
    const bytes = makeElf({
      is64: false,
      entry: 0x200000,
      loads: [{
        physical: 0x200000,
        virtual: 0x200000,
        bytes: asm`nop`.bytes,
        size: 1,
      }],
    });
    assertEquals(loadGuest("elf", request(bytes)).start.mode, "protected");
  });
});

describe("flat images and assembly", () => {
  it("maps 4 GiB onto themselves for long mode", () => {
    const { start, segments } = loadGuest("flat", request(asm`hlt`.bytes));
    const memory = new Memory({ segments } as LoadedGuest);
    assertEquals([start.rip, start.mode], [0x100000n, "long"]);
    assertEquals([start.cr0, start.cr4, start.efer], [
      0x8000_0031,
      0x20,
      0x500,
    ]);
    for (const linear of [0n, 0x100000n, 0x1234_5678n, 0xffff_ffffn]) {
      const index = (shift: bigint): number =>
        Number((linear >> shift) & 0x1ffn) * 8;
      const address = (entry: bigint): number =>
        Number(entry & 0x000f_ffff_ffff_f000n);
      const pml4e = memory.u64(start.cr3 + index(39n));
      const pdpte = memory.u64(address(pml4e) + index(30n));
      const pde = memory.u64(address(pdpte) + index(21n));
      assertEquals([pml4e & 0xfffn, pdpte & 0xfffn, pde & 0xfffn], [
        3n,
        3n,
        0x83n,
      ]);
      assertEquals(BigInt(address(pde)) + (linear & 0x1f_ffffn), linear);
    }
  });

  it("has a GDT that agrees with the segment registers", () => {
    for (const mode of ["protected", "long"] as const) {
      const { start, segments } = loadGuest(
        "flat",
        request(asm`hlt`.bytes, { mode }),
      );
      const memory = new Memory({ segments } as LoadedGuest);
      for (const s of [Seg.CS, Seg.SS, Seg.DS]) {
        const { selector, attributes, limit, base } = start.segments[s];
        assert(selector + 7 <= start.gdtr.limit);
        const d = memory.u64(Number(start.gdtr.base) + selector);
        const rights = Number((d >> 40n) & 0xf0ffn);
        assertEquals(rights, attributes);
        assertEquals([limit, base], [0xffff_ffff, 0n]);
        assertEquals(
          d & 0xff0f_0000_ffff_ffffn & ~0xffff_0000n,
          0xf_0000_0000_ffffn,
        );
      }
    }
  });

  it("starts real-mode code at 0x7c00", () => {
    const source = new TextEncoder().encode("bits 16\nmov ax, 1\nhlt");
    const { start, segments } = loadGuest(
      "asm",
      request(source, { mode: "real" }),
    );
    assertEquals(segments.length, 1);
    assertEquals(segments[0].physicalAddress, 0x7c00);
    assertEquals([start.rip, start.cr0], [0x7c00n, 0x10]);
    assertEquals(start.segments[Seg.CS].selector, 0);
  });

  it("splits a high real-mode entry into CS:IP", () => {
    const { start } = loadGuest(
      "flat",
      request(asm`hlt`.bytes, { mode: "real", address: 0x2_0010 }),
    );
    const cs = start.segments[Seg.CS];
    assertEquals([cs.selector, cs.base, start.rip], [0x2000, 0x2_0000n, 0x10n]);
  });

  it("takes mode and entry from the source", () => {
    const source = new TextEncoder().encode(
      "bits 32\nnop\n_start: jmp _start\nsection .bss\nx: resb 64",
    );
    const guest = loadGuest("asm", request(source));
    assertEquals([guest.start.mode, guest.start.rip], ["protected", 0x100001n]);
    assertEquals(guest.segments[1].size, 64);
    assertEquals(guest.symbols.show(0x100002n), "_start+0x1");
    assertEquals(
      readSymbols("asm", request(source)).address("x"),
      guest.symbols.address("x"),
    );
  });

  it("enters a high-linked image at its load address", () => {
    const image = asm`
      section .text start=0x200000 vstart=0xffffffff80200000
      nop
      _start: hlt`;
    const guest = loadAssembled(image, 16 * MIB);
    assertEquals(guest.start.rip, 0x200001n);
    assertEquals(guest.symbols.show(0xffffffff80200001n), "_start");
  });
});

describe("bad input", () => {
  const text = (s: string): Uint8Array => new TextEncoder().encode(s);
  const withMagic = (offset: number, ...bytes: number[]): Uint8Array => {
    const image = new Uint8Array(2048);
    image.set(bytes, offset);
    return image;
  };
  const header = (flags: number): Uint8Array =>
    asm`dd 0x1badb002, ${flags}, -(0x1badb002 + ${flags})
        dd 0x100000, 0x100000, 0, 0, 7`.bytes;
  const elf = makeElf({
    entry: 0x200000,
    loads: [{
      physical: 0x200000,
      virtual: 0x200000,
      bytes: asm`nop`.bytes,
      size: 0x1000,
    }],
  });
  const low = makeElf({
    entry: 0x98000,
    loads: [{
      physical: 0x98000,
      virtual: 0x98000,
      bytes: asm`nop`.bytes,
      size: 0x1000,
    }],
  });
  const cases: [string, GuestFormat, LoadRequest, string[]][] = [
    ["text as multiboot", "multiboot", request(text("hello\n")), [
      "guest.bin",
      "multiboot header",
      "looks like text",
      "0x1badb002",
    ]],
    ["an empty file", "multiboot", request(new Uint8Array()), ["it is empty"]],
    ["bzImage", "image", request(withMagic(0x202, ...text("HdrS"))), [
      "Linux kernel (bzImage)",
    ]],
    ["gzip", "image", request(withMagic(0, 0x1f, 0x8b)), ["gzip"]],
    ["an ELF without header", "multiboot", request(elf), [
      "it is an ELF file",
      "elf, flat or asm",
    ]],
    ["video flag", "multiboot", request(header(4)), ["video mode"]],
    ["unknown flag", "multiboot", request(header(0x20)), ["0x20"]],
    ["header without ELF", "multiboot", request(header(0)), [
      "no address fields",
    ]],
    ["wrong address fields", "multiboot", request(header(0x10000)), [
      "entry_addr 0x7",
    ]],
    ["truncated ELF", "elf", request(elf.subarray(0, 100)), [
      "truncated",
      "program header 0",
    ]],
    ["ELF cut in its header", "elf", request(elf.subarray(0, 30)), [
      "the ELF header",
    ]],
    ["no ELF", "elf", request(text("MZ")), ["no ELF magic"]],
    ["ARM", "elf", request(makeElf({ machine: 40 })), ["machine 40"]],
    ["PIE", "elf", request(makeElf({ type: 3 })), ["shared/PIE", "-no-pie"]],
    ["no segments", "elf", request(makeElf({})), ["no PT_LOAD"]],
    ["little memory", "elf", request(elf, { memoryBytes: MIB }), [
      "segment 0",
      "1 MiB of memory",
      "3 MiB or more",
    ]],
    ["a guest on the page tables", "elf", request(low), [
      "the boot page tables",
      "overlaps",
      "segment 0",
    ]],
    [
      "a long command line",
      "multiboot",
      request(KLUDGE.bytes, {
        append: "x".repeat(40000),
      }),
      ["shorten --append"],
    ],
    ["an empty flat image", "flat", request(new Uint8Array()), ["empty"]],
    [
      "real mode out of reach",
      "flat",
      request(text("x"), {
        mode: "real",
        address: 0x100000,
      }),
      ["out of real mode's reach"],
    ],
    [
      "a mode against the code",
      "asm",
      request(text("bits 32\nnop"), {
        mode: "long",
      }),
      ["32-bit code", "long"],
    ],
    ["no code", "asm", request(text("; nothing")), ["no code"]],
  ];
  for (const [name, format, what, parts] of cases) {
    it(name, () => {
      const error = assertThrows(() => loadGuest(format, what), ConfigError);
      for (const part of ["guest.bin", ...parts]) {
        assert(
          error.message.includes(part),
          `expected ${JSON.stringify(part)} in: ${error.message}`,
        );
      }
    });
  }

  it("an assembly error names file, line and column", () => {
    const error = assertThrows(
      () => loadGuest("asm", request(text("nop\nmvo rax, 1"))),
      AssemblyError,
    );
    assert(error.message.startsWith("guest.bin:2:1:"), error.message);
  });
});
