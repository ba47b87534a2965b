/**
 * A chain of paging-structure entries in the MMU rig, one table a level, and
 * the comparison of one walk with the oracle: physical page, error code, CR2,
 * and every accessed and dirty flag.
 */
import { Cr0, Cr4, Efer, Rflags } from "../../cpu/arch/flags.ts";
import { Access } from "../../cpu/port.ts";
import { Walker } from "../../plugins/mmu/walk.ts";
import { MmuRig } from "./mmu_rig.ts";
import {
  allowed,
  type Attempt,
  type Controls,
  type Cpuid,
  errorCode,
  type Mode,
  MODES,
  readEntries,
  type Reading,
} from "./paging_oracle.ts";

const TABLE = 0x10000;
/** Different indexes at every level, in the high half where there is one. */
const LINEAR: Readonly<Record<string, bigint>> = {
  "32-bit": 0xc0c0_3abcn,
  "PAE": 0xc0c0_3abcn,
  "4-level": 0xffff_8281_c0e0_8abcn,
  "5-level": 0xff01_8281_c0e0_8abcn,
};

/** One access as the MMU takes it and as the oracle takes it. */
export interface Case {
  readonly access: number;
  readonly attempt: Attempt;
}

/** Every access kind at CPL 0 and 3, and what the processor reads for itself. */
export const CASES: readonly Case[] = [0, 1, 3].flatMap((cpl) => {
  const one = (
    access: number,
    kind: Attempt["kind"],
    implicit = false,
  ): Case => ({ access, attempt: { kind, implicit, cpl } });
  const explicit = [
    one(Access.Read, "read"),
    one(Access.Write, "write"),
    one(Access.ReadForWrite, "write"),
    one(Access.Fetch, "fetch"),
  ];
  // CPL 1 differs from CPL 0 in nothing (§4.6): one kind is enough.
  if (cpl === 1) return explicit.slice(3);
  return [
    ...explicit,
    one(Access.System, "read", true),
    one(Access.System | Access.Write, "write", true),
  ];
});
/** Judged as CPL 3 although CPL is 0. */
export const AS_USER: Case = {
  access: Access.User,
  attempt: { kind: "read", implicit: false, cpl: 3 },
};

/** See the file header. */
export class Chain {
  readonly rig: MmuRig;
  readonly linear: bigint;
  readonly walker = new Walker();
  readonly cpuid: Cpuid;
  compared = 0;
  private controls: Controls | undefined;
  private readonly places: readonly number[];
  private entries: readonly bigint[] = [];
  private reading: Reading = { kind: "absent" };
  /** How many entries lie in our tables. */
  private attached = 0;

  constructor(readonly mode: Mode, model = "max-intel") {
    this.rig = new MmuRig(model);
    const { v, cpu } = this.rig;
    this.cpuid = {
      maxPhyAddr: cpu.model.physicalAddressBits,
      pse36: cpu.model.has("pse36"),
      pages1G: cpu.model.has("pdpe1gb"),
      amd: cpu.model.vendor === "AuthenticAMD",
    };
    this.linear = LINEAR[mode.name];
    const { linear } = this;
    const depth = mode.levels.length;
    const width = mode.entryBytes === 8 ? 9n : 10n;
    this.places = mode.levels.map((_, i) => {
      const shift = 12n + width * BigInt(depth - 1 - i);
      const index = Number((linear >> shift) & ((1n << width) - 1n));
      return this.table(i) + index * mode.entryBytes;
    });
    // Bits that 32-bit paging ignores in CR3.
    v.cr3 = mode === MODES.legacy ? 2 ** 36 + TABLE + 0x18 : TABLE;
    if (mode === MODES.pae) {
      v.cr3 = 0x40;
      v.setPdpte(Number(linear >> 30n), BigInt(TABLE) | 1n);
    }
  }

  /** Physical address of the table at a level, counted from the top. */
  table(i: number): number {
    return TABLE + i * 0x1000;
  }

  /** Sets CR0, CR4, EFER and RFLAGS.AC. */
  control(c: Controls): void {
    const { v } = this.rig;
    const { mode } = this;
    this.controls = c;
    v.cr0 = (Cr0.PE | Cr0.PG | (c.wp ? Cr0.WP : 0)) >>> 0;
    v.cr4 = (mode === MODES.legacy ? 0 : Cr4.PAE) |
      (mode === MODES.five ? Cr4.LA57 : 0) | (c.pse ? Cr4.PSE : 0) |
      (c.pge ? Cr4.PGE : 0) | (c.smep ? Cr4.SMEP : 0) |
      (c.smap ? Cr4.SMAP : 0);
    const long = mode === MODES.four || mode === MODES.five;
    v.efer = (long ? Efer.LME | Efer.LMA : 0) | (c.nxe ? Efer.NXE : 0);
    v.rflags = 2 | (c.ac ? Rflags.AC : 0);
  }

  /** Puts the entries in place, without A and D flags of their own. */
  set(entries: readonly bigint[]): void {
    this.entries = entries;
    this.restore();
  }
  private restore(): void {
    const { rig, mode, places, entries } = this;
    for (let i = 0; i < places.length; i++) {
      rig.put(places[i], entries[i], mode.entryBytes);
    }
  }

  /**
   * After `set` and `control`: what the manual makes of the entries. One that
   * points elsewhere than at our next table leads to unclaimed memory, where
   * everything reads as ones.
   */
  read(): Reading {
    const { mode, linear, cpuid, controls } = this;
    const wide = mode.entryBytes === 8;
    const address = wide ? 0xf_ffff_ffff_f000n : 0xffff_f000n;
    const ones = wide ? 0xffff_ffff_ffff_ffffn : 0xffff_ffffn;
    const entries = [...this.entries];
    this.attached = entries.length;
    for (let i = 1; i < entries.length; i++) {
      if ((entries[i - 1] & address) === BigInt(this.table(i))) continue;
      entries.fill(ones, i);
      this.attached = i;
      break;
    }
    return this.reading = readEntries(
      mode,
      entries,
      linear,
      controls!,
      cpuid,
    );
  }

  /** Walks and compares. @returns what differs, or undefined */
  compare({ access, attempt }: Case): string | undefined {
    const { rig, linear, walker, reading, mode } = this;
    const { v, cpu } = rig;
    const controls = this.controls!;
    this.compared++;
    v.cpl = access & Access.User ? 0 : attempt.cpl;
    v.pending = undefined;
    const frame = walker.walk(
      cpu,
      Number(linear >> 12n),
      Number(linear & 0xfffn),
      access,
    );
    const fine = reading.kind === "page" && allowed(reading, attempt, controls);
    if (fine) {
      if (frame !== Number(reading.physical >> 12n)) {
        return this.tell(`frame ${frame}`, reading, access);
      }
      const wrong = this.flags(attempt.kind === "write", reading.used);
      this.restore();
      return wrong && this.tell(wrong, reading, access);
    }
    const code = errorCode(reading, attempt, controls, mode);
    const pending = rig.raised();
    if (
      frame !== -1 || pending?.vector !== 14 || pending.errorCode !== code ||
      pending.payload !== linear
    ) {
      return this.tell(
        `#PF(${pending?.errorCode}) where #PF(${code}) is due`,
        reading,
        access,
      );
    }
    // A fault sets no flag in our model, whatever hardware may do (§4.8).
    const touched = this.flags(false, 0);
    return touched && this.tell(touched, reading, access);
  }

  /** A in the first `used` entries, D in the last of them for a write (§4.8). */
  private flags(write: boolean, used: number): string | undefined {
    const { rig, mode, places, entries } = this;
    for (let i = 0; i < places.length; i++) {
      let due = entries[i];
      if (i < used && i < this.attached) {
        due |= write && i === used - 1 ? 0x60n : 0x20n;
      }
      const now = rig.get(places[i], mode.entryBytes);
      if (now !== due) {
        return `${mode.levels[i]} ${now.toString(16)}, due ${due.toString(16)}`;
      }
    }
    return undefined;
  }

  private tell(what: string, reading: Reading, access: number): string {
    const { mode, entries, controls, rig } = this;
    return `${mode.name} [${entries.map((e) => e.toString(16))}] access ${
      access.toString(2)
    } cpl ${rig.v.cpl} ${JSON.stringify(controls)}: ${what}; oracle ${
      JSON.stringify(
        reading,
        (_k, v) => typeof v === "bigint" ? v.toString(16) : v,
      )
    }`;
  }
}

/** The controls numbered by the bits of `n`: WP, SMEP, SMAP, AC, NXE. */
export function controlsOf(n: number, more: Partial<Controls> = {}): Controls {
  return {
    wp: (n & 1) !== 0,
    smep: (n & 2) !== 0,
    smap: (n & 4) !== 0,
    ac: (n & 8) !== 0,
    nxe: (n & 16) !== 0,
    pse: true,
    pge: true,
    ...more,
  };
}
