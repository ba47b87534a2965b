/**
 * ACPI Machine Language as far as our DSDT needs it (ACPI 6.5 §20.2): names,
 * integers, strings, buffers, packages, scopes, devices, and the resource
 * descriptors of §6.4. Invariant: each function gives the bytes of one whole
 * term.
 */
import { u16, u32 } from "./bytes.ts";

/** Bytes of a term. */
export type Aml = readonly number[];

const Op = {
  Name: 0x08,
  Byte: 0x0a,
  Word: 0x0b,
  DWord: 0x0c,
  String: 0x0d,
  Scope: 0x10,
  Buffer: 0x11,
  Package: 0x12,
  Dual: 0x2e,
  Multi: 0x2f,
  Extended: 0x5b,
  Device: 0x82,
} as const;

/** NameString of a path as `\_SB.PCI0` (§20.2.2). */
export function path(name: string): number[] {
  const root = name.startsWith("\\");
  const segments = (root ? name.slice(1) : name).split(".")
    .filter((segment) => segment !== "");
  const prefix = segments.length === 0
    ? [0]
    : segments.length === 1
    ? []
    : segments.length === 2
    ? [Op.Dual]
    : [Op.Multi, segments.length];
  return [
    ...root ? [0x5c] : [],
    ...prefix,
    ...segments.flatMap((s) =>
      [...s.padEnd(4, "_")].map((c) => c.charCodeAt(0))
    ),
  ];
}

/** PkgLength, which counts itself, and what it counts (§20.2.4). */
function sized(content: Aml): number[] {
  if (content.length + 1 < 0x40) return [content.length + 1, ...content];
  for (let more = 1; more <= 3; more++) {
    const length = content.length + 1 + more;
    if (length >= 1 << 4 + 8 * more) continue;
    const bytes = [more << 6 | length & 0xf];
    for (let i = 0; i < more; i++) bytes.push(length >> 4 + 8 * i & 0xff);
    return [...bytes, ...content];
  }
  throw new RangeError(`an AML package of ${content.length} bytes is too long`);
}

/** Integer constant (§20.2.3). */
export function integer(value: number): number[] {
  if (value === 0 || value === 1) return [value];
  if (value <= 0xff) return [Op.Byte, value];
  if (value <= 0xffff) return [Op.Word, ...u16(value)];
  return [Op.DWord, ...u32(value)];
}
/** String constant. */
export function string(value: string): number[] {
  return [Op.String, ...[...value].map((c) => c.charCodeAt(0)), 0];
}
/** Compressed EISA identifier, as of `PNP0A03` (§19.3.4). */
export function eisaId(id: string): number[] {
  const letter = (i: number): number => id.charCodeAt(i) & 0x1f;
  const vendor = letter(0) << 10 | letter(1) << 5 | letter(2);
  const product = Number.parseInt(id.slice(3), 16);
  // Both halves are big-endian.
  return [Op.DWord, vendor >> 8, vendor & 0xff, product >> 8, product & 0xff];
}
/** Name(name, value). */
export function name(id: string, value: Aml): number[] {
  return [Op.Name, ...path(id), ...value];
}
/** Package() { … }. */
export function packageOf(...items: readonly Aml[]): number[] {
  return [Op.Package, ...sized([items.length, ...items.flat()])];
}
/** Buffer() { … }. */
export function buffer(bytes: Aml): number[] {
  return [Op.Buffer, ...sized([...integer(bytes.length), ...bytes])];
}
/** Scope (name) { … }. */
export function scope(id: string, ...terms: readonly Aml[]): number[] {
  return [Op.Scope, ...sized([...path(id), ...terms.flat()])];
}
/** Device (name) { … }. */
export function device(id: string, ...terms: readonly Aml[]): number[] {
  return [
    Op.Extended,
    Op.Device,
    ...sized([...path(id), ...terms.flat()]),
  ];
}

/** Kinds of address space in a descriptor. */
export const Space = { Memory: 0, Io: 1, Bus: 2 } as const;
/** Minimum and maximum are fixed. */
const FIXED = 0x0c;
/** Type-specific flags: writable memory, the whole I/O range, nothing for buses. */
const SPACE_FLAGS = [1, 3, 0] as const;

/** Word address space descriptor (§6.4.3.5.3): what a bridge passes on. */
export function wordRange(space: number, from: number, to: number): number[] {
  const fields = [0, from, to, 0, to - from + 1].flatMap(u16);
  return [
    0x88,
    ...u16(3 + fields.length),
    space,
    FIXED,
    SPACE_FLAGS[space],
    ...fields,
  ];
}
/** Double-word address space descriptor (§6.4.3.5.2). */
export function dwordRange(space: number, from: number, to: number): number[] {
  const fields = [0, from, to, 0, to - from + 1].flatMap(u32);
  return [
    0x87,
    ...u16(3 + fields.length),
    space,
    FIXED,
    SPACE_FLAGS[space],
    ...fields,
  ];
}
/** I/O port descriptor (§6.4.2.5): ports that the device itself uses. */
export function ports(from: number, count: number): number[] {
  return [0x47, 1, ...u16(from), ...u16(from), 1, count];
}
/** ResourceTemplate () { … }, with its end tag. */
export function resources(...descriptors: readonly Aml[]): number[] {
  return buffer([...descriptors.flat(), 0x79, 0]);
}
