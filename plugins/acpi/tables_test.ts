/**
 * The tables as a guest reads them: found by signature, summing to zero,
 * linked; fields at the specification's offsets (ACPI 6.5 §5.2); the DSDT
 * parsed by a reader of its own.
 */
import { assert, assertEquals } from "@std/assert";
import { acpiTables, type PcDescription, TABLES_AT } from "./tables.ts";

const PC: PcDescription = {
  cpus: 3,
  pmBase: 0x600,
  sciLine: 9,
  apic: true,
  pci: true,
};

class Firmware {
  readonly view: DataView;
  constructor(readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer);
  }
  u8(at: number): number {
    return this.bytes[at - TABLES_AT];
  }
  u16(at: number): number {
    return this.view.getUint16(at - TABLES_AT, true);
  }
  u32(at: number): number {
    return this.view.getUint32(at - TABLES_AT, true);
  }
  u64(at: number): number {
    return Number(this.view.getBigUint64(at - TABLES_AT, true));
  }
  text(at: number, length: number): string {
    return String.fromCharCode(
      ...this.bytes.subarray(at - TABLES_AT, at - TABLES_AT + length),
    );
  }
  sum(at: number, length: number): number {
    return this.bytes.subarray(at - TABLES_AT, at - TABLES_AT + length)
      .reduce((a, b) => a + b, 0) & 0xff;
  }
  /** Addresses in the XSDT by signature; the RSDT says the same. */
  tables(): Map<string, number> {
    const rsdp = TABLES_AT;
    assertEquals(this.text(rsdp, 8), "RSD PTR ");
    assertEquals(this.sum(rsdp, 20), 0);
    assertEquals(this.sum(rsdp, 36), 0);
    assertEquals([this.u8(rsdp + 15), this.u32(rsdp + 20)], [2, 36]);
    const rsdt = this.u32(rsdp + 16);
    const xsdt = this.u64(rsdp + 24);
    this.check(rsdt, "RSDT");
    this.check(xsdt, "XSDT");
    const count = (this.u32(xsdt + 4) - 36) / 8;
    assertEquals((this.u32(rsdt + 4) - 36) / 4, count);
    const found = new Map<string, number>();
    for (let i = 0; i < count; i++) {
      const at = this.u64(xsdt + 36 + i * 8);
      assertEquals(this.u32(rsdt + 36 + i * 4), at);
      const signature = this.text(at, 4);
      this.check(at, signature);
      found.set(signature, at);
    }
    return found;
  }
  check(at: number, signature: string): void {
    assertEquals(this.text(at, 4), signature);
    assertEquals(this.sum(at, this.u32(at + 4)), 0, signature);
  }
}

const read = (pc: PcDescription): Firmware =>
  new Firmware(acpiTables(pc).bytes);

Deno.test("all within the 64 KiB below 1 MiB, RSDP where guests look", () => {
  const { address, bytes } = acpiTables({ ...PC, cpus: 8 });
  assertEquals(address, 0xf0000);
  assert(bytes.length < 0xfe00, "below the firmware's handlers");
  assertEquals([...read(PC).tables().keys()], ["FACP", "APIC"]);
  assertEquals([...read({ ...PC, apic: false }).tables().keys()], ["FACP"]);
});

Deno.test("FADT: registers, their lengths, reset register, FACS and DSDT twice", () => {
  const f = read(PC);
  const fadt = f.tables().get("FACP")!;
  assertEquals(f.u32(fadt + 4), 244);
  const facs = f.u32(fadt + 36);
  assertEquals(facs, acpiTables(PC).facs);
  assertEquals(facs % 64, 0);
  assertEquals(f.text(facs, 4), "FACS");
  assertEquals(f.u32(facs + 4), 64);
  assertEquals(f.u64(fadt + 132), facs);
  const dsdt = f.u32(fadt + 40);
  f.check(dsdt, "DSDT");
  assertEquals(f.u64(fadt + 140), dsdt);
  assertEquals(f.u16(fadt + 46), 9);
  assertEquals(f.u32(fadt + 48), 0, "no SMI_CMD");
  const registers: [number, number, number, number, number][] = [
    // 32-bit field, its length field, extended field, port, bits
    [56, 88, 148, 0x600, 32],
    [64, 89, 172, 0x604, 16],
    [76, 91, 208, 0x608, 32],
  ];
  for (const [field, length, extended, port, bits] of registers) {
    assertEquals(f.u32(fadt + field), port);
    assertEquals(f.u8(fadt + length), bits / 8);
    assertEquals(f.u8(fadt + extended), 1, "I/O space");
    assertEquals(f.u8(fadt + extended + 1), bits);
    assertEquals(f.u64(fadt + extended + 4), port);
  }
  for (const absent of [60, 68, 72, 80, 84]) {
    assertEquals(f.u32(fadt + absent), 0);
  }
  assertEquals(f.u8(fadt + 108), 0x32);
  const RESET = 1 << 10;
  assertEquals(f.u32(fadt + 112) & RESET, RESET);
  assertEquals(f.u64(fadt + 120), 0xcf9);
  assertEquals(f.u8(fadt + 128), 6);
  const plain = read({ ...PC, pci: false });
  const other = plain.tables().get("FACP")!;
  assertEquals(plain.u32(other + 112) & RESET, 0);
  assertEquals(plain.u64(other + 120), 0);
});

Deno.test("MADT: a local APIC for each vCPU, IOAPIC, overrides, NMI", () => {
  const f = read(PC);
  const madt = f.tables().get("APIC")!;
  assertEquals(f.u32(madt + 36), 0xfee00000);
  assertEquals(f.u32(madt + 40), 1);
  const end = madt + f.u32(madt + 4);
  const entries: number[][] = [];
  for (let at = madt + 44; at < end; at += f.u8(at + 1)) {
    entries.push(Array.from({ length: f.u8(at + 1) }, (_, i) => f.u8(at + i)));
  }
  assertEquals(entries, [
    [0, 8, 0, 0, 1, 0, 0, 0],
    [0, 8, 1, 1, 1, 0, 0, 0],
    [0, 8, 2, 2, 1, 0, 0, 0],
    [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
    [2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
    [2, 10, 0, 9, 9, 0, 0, 0, 0xd, 0],
    [4, 6, 0xff, 0, 0, 1],
  ]);
});

/** Reads AML back into an outline; knows only what it must. */
class Outline {
  private at: number;
  private readonly out: string[] = [];
  constructor(private readonly f: Firmware, private start: number) {
    this.at = start;
  }
  read(end: number): string[] {
    while (this.at < end) this.out.push(this.term());
    assertEquals(this.at, end);
    return this.out;
  }
  private next(): number {
    return this.f.u8(this.at++);
  }
  private length(): number {
    const from = this.at;
    const lead = this.next();
    const more = lead >> 6;
    let value = more === 0 ? lead & 0x3f : lead & 0xf;
    for (let i = 0; i < more; i++) value |= this.next() << 4 + 8 * i;
    return from + value;
  }
  private path(): string {
    let text = "";
    if (this.f.u8(this.at) === 0x5c) {
      text = "\\";
      this.at++;
    }
    let count = 1;
    if (this.f.u8(this.at) === 0x2e) {
      count = 2;
      this.at++;
    } else if (this.f.u8(this.at) === 0) {
      this.at++;
      return text;
    }
    const parts: string[] = [];
    for (let i = 0; i < count; i++) {
      parts.push(this.f.text(this.at, 4));
      this.at += 4;
    }
    return text + parts.join(".");
  }
  private list(end: number): string {
    const items: string[] = [];
    while (this.at < end) items.push(this.term());
    assertEquals(this.at, end, "a package ends with its last term");
    return items.join(" ");
  }
  private number(size: number): string {
    let value = 0;
    for (let i = 0; i < size; i++) value += this.next() * 2 ** (8 * i);
    return value.toString(16);
  }
  private term(): string {
    const op = this.next();
    switch (op) {
      case 0:
      case 1:
        return `${op}`;
      case 0x08:
        return `${this.path()}=${this.term()}`;
      case 0x0a:
        return this.number(1);
      case 0x0b:
        return this.number(2);
      case 0x0c:
        return this.number(4);
      case 0x0d: {
        let text = "";
        for (let c = this.next(); c !== 0; c = this.next()) {
          text += String.fromCharCode(c);
        }
        return `"${text}"`;
      }
      case 0x10: {
        const end = this.length();
        return `scope ${this.path()} { ${this.list(end)} }`;
      }
      case 0x11: {
        const end = this.length();
        const size = this.term();
        const bytes = end - this.at;
        assertEquals(bytes.toString(16), size);
        this.at = end;
        return `buffer(${bytes})`;
      }
      case 0x12: {
        const end = this.length();
        const count = this.next();
        const items = this.list(end);
        return `[${count}: ${items}]`;
      }
      case 0x5b: {
        assertEquals(this.next(), 0x82);
        const end = this.length();
        return `device ${this.path()} { ${this.list(end)} }`;
      }
      default:
        throw new RangeError(`op 0x${op.toString(16)} at ${this.at - 1}`);
    }
  }
}

function outline(pc: PcDescription): string[] {
  const f = read(pc);
  const dsdt = f.u32(f.tables().get("FACP")! + 40);
  return new Outline(f, dsdt + 36).read(dsdt + f.u32(dsdt + 4));
}

Deno.test("DSDT: sleep types, CPUs, the PCI root", () => {
  assertEquals(outline({ ...PC, cpus: 2 }), [
    "\\_S3_=[4: 1 1 0 0]",
    "\\_S5_=[4: 0 0 0 0]",
    'scope \\_SB_ { device C000 { _HID="ACPI0007" _UID=0 } ' +
    'device C001 { _HID="ACPI0007" _UID=1 } ' +
    "device PCI0 { _HID=30ad041 _UID=0 _BBN=0 _PRT=[0: ] _CRS=buffer(110) } }",
  ]);
  for (let cpus = 1; cpus <= 8; cpus++) {
    const [, , scope] = outline({ ...PC, cpus, pci: false });
    assertEquals(scope.split("device").length - 1, cpus);
  }
});
