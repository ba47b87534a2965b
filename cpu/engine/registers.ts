/**
 * Names of everything in a vCPU's register page, from the table of offsets: for
 * blame (`describe`), debugger edits and examples. Names are `gpr.rax`, `rip`,
 * `cs.selector`, `msr.IA32_PAT` …
 */
import { MSRS } from "../arch/msr.ts";
import { SEGMENT, SEGMENT_SIZE, VCPU } from "../layout.ts";

/** A named place in the register page. */
export interface RegisterPlace {
  /** As messages and edits write it. */
  readonly name: string;
  /** From the start of the register page. */
  readonly offset: number;
  /** 4 or 8 for registers that may be edited; larger areas are only described. */
  readonly bytes: number;
}

const GPRS = [
  ...["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"],
  ...["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"],
];
const SEGMENTS = ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"];

function places(): RegisterPlace[] {
  const out: RegisterPlace[] = [];
  const add = (name: string, offset: number, bytes: number): void => {
    out.push({ name, offset, bytes });
  };
  GPRS.forEach((name, i) => add(`gpr.${name}`, VCPU.gpr + i * 8, 8));
  add("rip", VCPU.rip, 8);
  add("rflags", VCPU.rflags, 4);
  add("cr0", VCPU.cr0, 4);
  add("cr2", VCPU.cr2, 8);
  add("cr3", VCPU.cr3, 8);
  add("cr4", VCPU.cr4, 4);
  add("cr8", VCPU.cr8, 4);
  add("xcr0", VCPU.xcr0, 8);
  add("efer", VCPU.efer, 4);
  for (let i = 0; i < 8; i++) add(`dr${i}`, VCPU.dr + i * 8, 8);
  SEGMENTS.forEach((name, i) => {
    const at = VCPU.segments + i * SEGMENT_SIZE;
    add(`${name}.base`, at + SEGMENT.base, 8);
    add(`${name}.limit`, at + SEGMENT.limit, 4);
    add(`${name}.selector`, at + SEGMENT.selector, 4);
    add(`${name}.attributes`, at + SEGMENT.attributes, 4);
  });
  for (const name of ["gdtr", "idtr"] as const) {
    add(`${name}.base`, VCPU[name], 8);
    add(`${name}.limit`, VCPU[name] + 8, 4);
  }
  for (let i = 0; i < 4; i++) add(`pdpte${i}`, VCPU.pdpte + i * 8, 8);
  for (
    const name of [
      "cpl",
      "activity",
      "interruptibility",
      "pendingDebug",
      "guestMode",
      "eventRequest",
      "tlbTag",
      "stage2Flags",
      "transitions",
      "fcw",
      "fsw",
      "ftw",
      "fop",
      "fcs",
      "fds",
      "mxcsr",
      "pkru",
    ] as const
  ) add(name, VCPU[name], 4);
  for (const name of ["stage2Root", "fip", "fdp"] as const) {
    add(name, VCPU[name], 8);
  }
  for (const m of MSRS) {
    if (m.slot >= 0) add(`msr.${m.name}`, VCPU.msrs + m.slot * 8, 8);
  }
  for (let i = 0; i < 8; i++) add(`x87.r${i}`, VCPU.x87 + i * 16, 16);
  for (let i = 0; i < 32; i++) add(`vector.${i}`, VCPU.vector + i * 64, 64);
  add("virtualization", VCPU.virtualization, 0x200);
  return out.sort((a, b) => a.offset - b.offset);
}

/** Every place, by ascending offset. */
export const REGISTER_PLACES: readonly RegisterPlace[] = places();

const BY_NAME = new Map(REGISTER_PLACES.map((p) => [p.name, p]));

/** The place of a register that may be edited, or undefined. */
export function registerPlace(name: string): RegisterPlace | undefined {
  const place = BY_NAME.get(name);
  return place !== undefined && place.bytes <= 8 ? place : undefined;
}

/** Names a byte of the register page. */
export function describeRegister(offset: number): string {
  for (const p of REGISTER_PLACES) {
    if (offset >= p.offset && offset < p.offset + p.bytes) {
      const rest = offset - p.offset;
      return p.bytes > 8 && rest > 0 ? `${p.name}+${rest}` : p.name;
    }
  }
  return `register page +0x${offset.toString(16)}`;
}
