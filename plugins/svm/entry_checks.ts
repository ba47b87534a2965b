/**
 * The consistency checks of VMRUN as table rows (APM 2 §15.5.1 and the sections
 * that add to it): one row, one condition; the outcome of each is VMEXIT_INVALID.
 *
 * Invariants: a predicate reads nothing but its VmrunContext; every row can be
 * violated alone (entry_checks_test.ts proves it, and that flipping or dropping
 * a predicate is noticed).
 */
import { cr4Defined } from "../../cpu/arch/control_bits.ts";
import { EXCEPTIONS, Vector } from "../../cpu/arch/exceptions.ts";
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import type { CpuModel } from "../../cpu/arch/models.ts";
import {
  EventInfo,
  EventInfoType,
  IntCtl,
  InterceptBit,
  NestedControl,
  TlbControl,
} from "./controls.ts";
import { Control, Save, SaveSegment, type VmcbView } from "./vmcb.ts";

/** What a check may know. */
export interface VmrunContext {
  readonly vmcb: VmcbView;
  readonly model: CpuModel;
  /** CR0 of the host. */
  readonly hostCr0: number;
  /** EFER.LMA of the host. */
  readonly hostLong: boolean;
  /** EFER bits that the processor has. */
  readonly eferDefined: number;
  /** Physical memory, for the PDPTEs of PAE guests without nested paging. */
  readU64(address: number): bigint;
}

/** One check. */
export interface VmrunCheck {
  /** Unique name, e.g. `cr0.nw-without-cd`. */
  readonly id: string;
  readonly manual: string;
  /** True when the VMCB passes. */
  readonly valid: (c: VmrunContext) => boolean;
}

const CODE_LONG = 1 << 9;
const CODE_DEFAULT_BIG = 1 << 10;
/** Offset of a map's last byte: four vectors of 2 KiB; 64K + 3 bits. */
const MSRPM_LAST = 0x1fff;
const IOPM_LAST = 0x2000;
/** Vectors that are exceptions: no NMI, none reserved, #SX but no #VC, #HV, #CP. */
const EXCEPTION_VECTORS: ReadonlySet<number> = new Set([
  ...EXCEPTIONS.map(({ vector }) => vector)
    .filter((n) => n !== Vector.NMI && n < Vector.VE),
  30,
]);
/** Bits 2:1 and 8:5 of a PDPTE. */
const PDPTE_RESERVED = 0x1e6n;

const intercept = (c: VmrunContext, bit: number): boolean =>
  (c.vmcb.read32(Control.intercepts + (bit >>> 5) * 4) >>> (bit & 31) & 1) !==
    0;
const nested = (c: VmrunContext): boolean =>
  c.model.has("npt") &&
  (c.vmcb.read32(Control.nestedControl) & NestedControl.Enable) !== 0;
const beyond = (c: VmrunContext, value: bigint): boolean =>
  value >> BigInt(c.model.physicalAddressBits) !== 0n;
/** A u64 field names no physical address (widths are 32 bits and more). */
const fieldBeyond = (c: VmrunContext, offset: number): boolean =>
  c.vmcb.read32(offset + 4) >= 2 ** (c.model.physicalAddressBits - 32);
const has = (c: VmrunContext, offset: number, bits: number): boolean =>
  (c.vmcb.read32(offset) & bits) !== 0;
const high = (c: VmrunContext, offset: number): boolean =>
  c.vmcb.read32(offset + 4) !== 0;

/**
 * A permission map extends to no address "greater than or equal to the maximum
 * supported physical address" (§15.5.1): it may not contain the last byte.
 */
function mapFits(c: VmrunContext, offset: number, last: number): boolean {
  if (fieldBeyond(c, offset)) return false;
  const page = Math.floor(c.vmcb.read32(offset) / 4096) * 4096;
  const base = c.vmcb.read32(offset + 4) * 2 ** 32 + page;
  return base + last < 2 ** c.model.physicalAddressBits - 1;
}

/** EFER.LME and CR0.PG: the guest would run in long mode. */
const long = (c: VmrunContext): boolean =>
  has(c, Save.efer, Efer.LME) && has(c, Save.cr0, Cr0.PG);

const codeAttributes = (c: VmrunContext): number =>
  c.vmcb.read32(Save.cs + SaveSegment.selector) >>> 16;

/** Each byte is a memory type: 0, 1 or 4–7. */
function patValid(c: VmrunContext): boolean {
  for (const half of [Save.guestPat, Save.guestPat + 4]) {
    const types = c.vmcb.read32(half);
    for (let i = 0; i < 32; i += 8) {
      const type = types >>> i & 0xff;
      if (type > 7 || type === 2 || type === 3) return false;
    }
  }
  return true;
}

/** PDPTEs that a PAE guest without nested paging loads now. */
function pdptesValid(c: VmrunContext): boolean {
  const pae = has(c, Save.cr0, Cr0.PG) && has(c, Save.cr4, Cr4.PAE) &&
    !has(c, Save.efer, Efer.LME);
  if (!pae || nested(c)) return true;
  const base = c.vmcb.read32(Save.cr3) & ~0x1f;
  for (let i = 0; i < 4; i++) {
    const entry = c.readU64((base >>> 0) + i * 8);
    if (!(entry & 1n)) continue;
    if (entry & PDPTE_RESERVED || beyond(c, entry)) return false;
  }
  return true;
}

function eventType(c: VmrunContext): number | undefined {
  const event = c.vmcb.read32(Control.eventInjection);
  return event & EventInfo.Valid
    ? (event & EventInfo.TypeMask) >>> EventInfo.TypeShift
    : undefined;
}

/** Vector of an injected exception. */
function injectedException(c: VmrunContext): number | undefined {
  return eventType(c) === EventInfoType.Exception
    ? c.vmcb.read32(Control.eventInjection) & EventInfo.VectorMask
    : undefined;
}

/** The guest would run in 64-bit mode. */
const in64 = (c: VmrunContext): boolean =>
  long(c) && (codeAttributes(c) & CODE_LONG) !== 0;

const CONTROL_CHECKS: readonly VmrunCheck[] = [
  {
    id: "intercept.vmrun",
    manual: "APM 2 §15.5.1",
    valid: (c) => intercept(c, InterceptBit.Vmrun),
  },
  {
    id: "asid.zero",
    manual: "APM 2 §15.5.1",
    valid: (c) => c.vmcb.read32(Control.asid) !== 0,
  },
  {
    id: "iopm.address",
    manual: "APM 2 §15.5.1, §15.10.1",
    valid: (c) => mapFits(c, Control.iopmBase, IOPM_LAST),
  },
  {
    id: "msrpm.address",
    manual: "APM 2 §15.5.1, §15.11",
    valid: (c) => mapFits(c, Control.msrpmBase, MSRPM_LAST),
  },
  {
    id: "tlb-control.encoding",
    manual: "APM 2 §15.16.2 table 15-9",
    valid: (c) => {
      const kind = c.vmcb.read32(Control.tlbControl) & 0xff;
      if (kind === TlbControl.Nothing || kind === TlbControl.FlushAll) {
        return true;
      }
      return c.model.has("flushbyasid") &&
        (kind === TlbControl.FlushAsid ||
          kind === TlbControl.FlushAsidNonGlobal);
    },
  },
  {
    id: "event-injection.type",
    manual: "APM 2 §15.20",
    valid: (c) => {
      const type = eventType(c);
      return type === undefined || type === EventInfoType.Interrupt ||
        (type >= EventInfoType.Nmi && type <= EventInfoType.SoftwareInterrupt);
    },
  },
  {
    id: "event-injection.exception-vector",
    manual: "APM 2 §15.20, table 8-1",
    valid: (c) => {
      const vector = injectedException(c);
      return vector === undefined || EXCEPTION_VECTORS.has(vector);
    },
  },
  {
    id: "event-injection.mode",
    manual: "APM 2 §15.20",
    // BOUND and INTO do not exist in 64-bit mode.
    valid: (c) => {
      const vector = injectedException(c);
      return (vector !== Vector.BR && vector !== Vector.OF) || !in64(c);
    },
  },
  {
    id: "virtual-nmi.without-nmi-intercept",
    manual: "APM 2 §15.21.10",
    valid: (c) =>
      !c.model.has("vnmi") || !has(c, Control.intCtl, IntCtl.NmiEnable) ||
      intercept(c, InterceptBit.Nmi),
  },
  {
    id: "nested.host-paging-off",
    manual: "APM 2 §15.25.3",
    valid: (c) => !nested(c) || (c.hostCr0 & Cr0.PG) !== 0,
  },
  {
    id: "nested.cr3",
    manual: "APM 2 §15.25.4",
    valid: (c) =>
      !nested(c) || !c.hostLong || !fieldBeyond(c, Control.nestedCr3),
  },
  {
    id: "nested.guest-pat",
    manual: "APM 2 §15.25.4",
    valid: (c) => !nested(c) || patValid(c),
  },
];

const STATE_CHECKS: readonly VmrunCheck[] = [
  {
    id: "efer.svme",
    manual: "APM 2 §15.5.1",
    valid: (c) => has(c, Save.efer, Efer.SVME),
  },
  {
    id: "efer.reserved",
    manual: "APM 2 §15.5.1, §3.1.7",
    valid: (c) =>
      !high(c, Save.efer) &&
      (c.vmcb.read32(Save.efer) & ~c.eferDefined) === 0,
  },
  {
    id: "cr0.nw-without-cd",
    manual: "APM 2 §15.5.1",
    valid: (c) => has(c, Save.cr0, Cr0.CD) || !has(c, Save.cr0, Cr0.NW),
  },
  {
    id: "cr0.upper",
    manual: "APM 2 §15.5.1",
    valid: (c) => !high(c, Save.cr0),
  },
  {
    id: "cr3.reserved",
    manual: "APM 2 §15.5.1, §5.3.2",
    valid: (c) => !fieldBeyond(c, Save.cr3),
  },
  {
    id: "cr4.reserved",
    manual: "APM 2 §15.5.1, §3.1.3",
    valid: (c) =>
      !high(c, Save.cr4) &&
      (c.vmcb.read32(Save.cr4) & ~(cr4Defined(c.model) & ~Cr4.VMXE)) === 0,
  },
  {
    id: "dr6.upper",
    manual: "APM 2 §15.5.1",
    valid: (c) => !high(c, Save.dr6),
  },
  {
    id: "dr7.upper",
    manual: "APM 2 §15.5.1",
    valid: (c) => !high(c, Save.dr7),
  },
  {
    id: "long.without-pae",
    manual: "APM 2 §15.5.1",
    valid: (c) => !long(c) || has(c, Save.cr4, Cr4.PAE),
  },
  {
    id: "long.without-protection",
    manual: "APM 2 §15.5.1",
    valid: (c) => !long(c) || has(c, Save.cr0, Cr0.PE),
  },
  {
    id: "long.cs-l-and-d",
    manual: "APM 2 §15.5.1",
    valid: (c) => {
      if (!long(c) || !has(c, Save.cr4, Cr4.PAE)) return true;
      const both = CODE_LONG | CODE_DEFAULT_BIG;
      return (codeAttributes(c) & both) !== both;
    },
  },
  {
    id: "pdptes.reserved",
    manual: "APM 2 §15.25.10, §5.3.3",
    valid: pdptesValid,
  },
];

/** Every check, in the order in which they are judged. */
export const VMRUN_CHECKS: readonly VmrunCheck[] = [
  ...CONTROL_CHECKS,
  ...STATE_CHECKS,
];

/** The first check that the context fails. */
export function firstFailure(
  c: VmrunContext,
  checks: readonly VmrunCheck[] = VMRUN_CHECKS,
): VmrunCheck | undefined {
  for (const check of checks) if (!check.valid(c)) return check;
  return undefined;
}
