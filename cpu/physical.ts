/**
 * Host-physical memory: RAM in the layout, everything above it the device bus.
 *
 * The one place where TypeScript writes RAM. Invariant: every write marks its
 * page dirty and, where an engine holds code of that page, tells the engine
 * (design §7: a store into code takes effect at the next instruction, from any
 * writer).
 */
import { type Layout, PAGE_SIZE, PageFlag } from "./layout.ts";
import type { DeviceBus } from "./port.ts";

/** Told of bytes `first` to `last` of a page that holds decoded code. */
export type CodeListener = (
  physicalPage: number,
  first: number,
  last: number,
) => void;

/** Reads and writes by host-physical address (a safe integer). */
export class PhysicalMemory {
  readonly ramBytes: number;
  readonly ramPages: number;
  /** All of RAM; index = physical address. Writers must use `write…`. */
  readonly ram: Uint8Array;
  /** After `load` and `loadAcross`: bits 63:32. */
  high = 0;
  private readonly view: DataView;
  private readonly flags: Uint8Array;
  /** One u64, whole and as its halves: splitting so makes no BigInt. */
  private readonly wide = new BigUint64Array(1);
  private readonly halves = new Uint32Array(this.wide.buffer);
  private codeWritten: CodeListener = () => {};
  private codeMarked: (page: number) => void = () => {};

  constructor(
    memory: WebAssembly.Memory,
    layout: Layout,
    private readonly devices: DeviceBus,
  ) {
    this.ramBytes = layout.ramBytes;
    this.ramPages = layout.ramBytes / PAGE_SIZE;
    this.ram = new Uint8Array(memory.buffer, layout.ram, layout.ramBytes);
    this.view = new DataView(memory.buffer, layout.ram, layout.ramBytes);
    this.flags = new Uint8Array(
      memory.buffer,
      layout.pageFlags,
      this.ramPages,
    );
  }

  /** The engine to tell when a page that holds decoded code is written. */
  onCodeWritten(tell: CodeListener): void {
    this.codeWritten = tell;
  }

  isRam(address: number): boolean {
    return address < this.ramBytes;
  }

  /** The engine to tell when a page begins to hold decoded code: silent writes to it end. */
  onCodeMarked(tell: (physicalPage: number) => void): void {
    this.codeMarked = tell;
  }

  /** Marks a page as holding decoded code. */
  markCode(page: number): void {
    if (this.flags[page] & PageFlag.Code) return;
    this.flags[page] |= PageFlag.Code;
    this.codeMarked(page);
  }
  /** PageFlag bits of a RAM page. */
  pageFlags(page: number): number {
    return this.flags[page];
  }
  /** A page goes on holding decoded code, with no silent writes since. */
  keepCode(page: number): void {
    this.flags[page] |= PageFlag.Code;
  }
  clearCode(page: number): void {
    this.flags[page] &= ~PageFlag.Code;
  }

  /** Little-endian read of 1, 2, 4 or 8 bytes that do not cross a page. */
  read(address: number, size: number): bigint {
    const low = this.load(address, size);
    if (size < 8) return BigInt(low);
    this.halves[0] = low;
    this.halves[1] = this.high;
    return this.wide[0];
  }

  /** Little-endian write of 1, 2, 4 or 8 bytes that do not cross a page. */
  write(address: number, size: number, value: bigint): void {
    this.wide[0] = value;
    this.store(address, size, this.halves[0], this.halves[1]);
  }

  /** As `read`, without BigInt: the low half; `high` has the other. */
  load(address: number, size: number): number {
    this.high = 0;
    if (address + size > this.ramBytes) {
      const value = this.devices.read(address, size as 1 | 2 | 4 | 8);
      this.high = Number(value >> 32n);
      return Number(value & 0xffff_ffffn);
    }
    switch (size) {
      case 1:
        return this.ram[address];
      case 2:
        return this.view.getUint16(address, true);
      case 4:
        return this.view.getUint32(address, true);
      default:
        this.high = this.view.getUint32(address + 4, true);
        return this.view.getUint32(address, true);
    }
  }

  /** As `write`, of a value's halves. */
  store(address: number, size: number, low: number, high: number): void {
    if (address + size > this.ramBytes) {
      let value = BigInt(low);
      if (size === 8) value |= BigInt(high) << 32n;
      else if (size < 4) value &= size === 1 ? 0xffn : 0xffffn;
      this.devices.write(address, size as 1 | 2 | 4 | 8, value);
      return;
    }
    switch (size) {
      case 1:
        this.ram[address] = low;
        break;
      case 2:
        this.view.setUint16(address, low, true);
        break;
      case 4:
        this.view.setUint32(address, low, true);
        break;
      default:
        this.view.setUint32(address, low, true);
        this.view.setUint32(address + 4, high, true);
    }
    this.touch(address / PAGE_SIZE | 0, address, size);
  }

  /**
   * As `load`, of bytes from `first` to its page's end and from `second` on.
   * Devices see bytes.
   */
  loadAcross(first: number, second: number, size: number): number {
    const head = PAGE_SIZE - first % PAGE_SIZE;
    let low = 0, high = 0;
    for (let i = 0; i < size; i++) {
      const at = i < head ? first + i : second + i - head;
      const byte = at < this.ramBytes
        ? this.ram[at]
        : Number(this.devices.read(at, 1));
      if (i < 4) low |= byte << (8 * i);
      else high |= byte << (8 * i);
    }
    this.high = high >>> 0;
    return low >>> 0;
  }

  /** As `store`, to where loadAcross reads. */
  storeAcross(
    first: number,
    second: number,
    size: number,
    low: number,
    high: number,
  ): void {
    const head = PAGE_SIZE - first % PAGE_SIZE;
    for (let i = 0; i < size; i++) {
      const at = i < head ? first + i : second + i - head;
      const byte = (i < 4 ? low : high) >>> (8 * i) & 0xff;
      if (at < this.ramBytes) this.ram[at] = byte;
      else this.devices.write(at, 1, BigInt(byte));
    }
    if (first < this.ramBytes) this.touch(first / PAGE_SIZE | 0, first, head);
    if (second < this.ramBytes) {
      this.touch(second / PAGE_SIZE | 0, second, size - head);
    }
  }

  /** What a store there replaces; 0 for the bytes of a device. */
  ramAcross(first: number, second: number, size: number): bigint {
    const head = PAGE_SIZE - first % PAGE_SIZE;
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) {
      const at = i < head ? first + i : second + i - head;
      value = value << 8n | BigInt(at < this.ramBytes ? this.ram[at] : 0);
    }
    return value;
  }

  /** Low or only half of a structure word; all ones outside RAM. */
  readU32(address: number): number {
    return address + 4 <= this.ramBytes
      ? this.view.getUint32(address, true)
      : Number(this.devices.read(address, 4));
  }
  writeU32(address: number, value: number): void {
    if (address + 4 > this.ramBytes) {
      this.devices.write(address, 4, BigInt(value >>> 0));
      return;
    }
    this.view.setUint32(address, value, true);
    this.touch(address / PAGE_SIZE | 0, address, 4);
  }
  readU64(address: number): bigint {
    return this.read(address, 8);
  }
  writeU64(address: number, value: bigint): void {
    this.write(address, 8, value);
  }

  /** Copies bytes into RAM (loaders, DMA). @throws RangeError outside RAM */
  writeBytes(address: number, bytes: Uint8Array): void {
    if (address + bytes.length > this.ramBytes) {
      throw new RangeError(
        `cannot write ${bytes.length} bytes at 0x${
          address.toString(16)
        }: RAM ends at 0x${this.ramBytes.toString(16)}`,
      );
    }
    this.ram.set(bytes, address);
    const last = (address + bytes.length - 1) / PAGE_SIZE | 0;
    for (let page = address / PAGE_SIZE | 0; page <= last; page++) {
      this.touch(page, address, bytes.length);
    }
  }

  /** A copy of `length` bytes; shorter where RAM ends. */
  readBytes(address: number, length: number): Uint8Array {
    return this.ram.slice(address, address + length);
  }

  /** `size` bytes at `address` were written, in this page and maybe others. */
  private touch(page: number, address: number, size: number): void {
    const flags = this.flags[page];
    if (flags !== PageFlag.Dirty) {
      this.flags[page] = flags | PageFlag.Dirty;
      if (flags & PageFlag.Code) {
        const first = address - page * PAGE_SIZE;
        this.codeWritten(
          page,
          Math.max(first, 0),
          Math.min(first + size, PAGE_SIZE) - 1,
        );
      }
    }
  }
}
