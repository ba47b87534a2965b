/**
 * VM-entry checks on guest segment registers (SDM 3C §27.3.1.2): selectors,
 * bases, limits and access rights, in virtual-8086 mode and outside it, with
 * the relaxations of an unrestricted guest. Failures exit with reason 33.
 */
import { Cr0, Rflags, SegmentRights as Rights } from "../../cpu/arch/flags.ts";
import { canonical } from "./check_values.ts";
import { Entry, Secondary } from "./controls.ts";
import type { EntryCheck, EntryContext } from "./entry_checks.ts";
import { EntryFailureQualification } from "./exit_reasons.ts";
import { VmcsField } from "./vmcs_fields.ts";

const MANUAL = "SDM 3C §27.3.1.2";

function row(
  id: string,
  valid: (c: EntryContext) => boolean,
): EntryCheck {
  return {
    id: `guest.${id}`,
    group: 2,
    manual: MANUAL,
    valid,
    qualification: EntryFailureQualification.None,
  };
}

/** The four fields of one segment register. */
export interface SegmentFields {
  readonly name: string;
  readonly selector: number;
  readonly base: number;
  readonly limit: number;
  readonly attributes: number;
}

const names = [
  ["es", "Es"],
  ["cs", "Cs"],
  ["ss", "Ss"],
  ["ds", "Ds"],
  ["fs", "Fs"],
  ["gs", "Gs"],
  ["ldtr", "Ldtr"],
  ["tr", "Tr"],
] as const;

/** Guest segment fields in the layout's order: ES CS SS DS FS GS LDTR TR. */
export const GUEST_SEGMENTS: readonly SegmentFields[] = names.map(
  ([name, field]) => ({
    name,
    selector: VmcsField[`Guest${field}Selector`],
    base: VmcsField[`Guest${field}Base`],
    limit: VmcsField[`Guest${field}Limit`],
    attributes: VmcsField[`Guest${field}Attributes`],
  }),
);
const [ES, CS, SS, DS, FS, GS, LDTR, TR] = GUEST_SEGMENTS;
const CODE_AND_DATA = [ES, CS, SS, DS, FS, GS];

const has = (word: number, bit: number): boolean => (word & bit) !== 0;
const v8086 = (c: EntryContext): boolean =>
  has(c.vmcs.read32(VmcsField.GuestRflags), Rflags.VM);
const ug = (c: EntryContext): boolean =>
  has(c.controls.secondary, Secondary.UnrestrictedGuest);
const ia32e = (c: EntryContext): boolean =>
  has(c.controls.entry, Entry.Ia32eModeGuest);
const selector = (c: EntryContext, s: SegmentFields): number =>
  c.vmcs.read32(s.selector);
const rights = (c: EntryContext, s: SegmentFields): number =>
  c.vmcs.read32(s.attributes);
const typeOf = (c: EntryContext, s: SegmentFields): number =>
  rights(c, s) & Rights.TypeMask;
const dpl = (c: EntryContext, s: SegmentFields): number =>
  (rights(c, s) >>> Rights.DplShift) & 3;
const rpl = (c: EntryContext, s: SegmentFields): number => selector(c, s) & 3;

/** CS and TR are judged always, the others only when usable. */
const judged = (c: EntryContext, s: SegmentFields): boolean =>
  s === CS || s === TR || !has(rights(c, s), Rights.Unusable);
/** Judged by the rules outside virtual-8086 mode (LDTR, TR: always). */
const ordinary = (c: EntryContext, s: SegmentFields): boolean =>
  (s === LDTR || s === TR || !v8086(c)) && judged(c, s);

/** Access-rights bits 11:8 and 31:17. */
const RESERVED = 0xfffe_0f00;

const CS_TYPES = [9, 11, 13, 15];
const isCode = (type: number): boolean => (type & 8) !== 0;

function typeValid(c: EntryContext, s: SegmentFields): boolean {
  const type = typeOf(c, s);
  switch (s) {
    case CS:
      return CS_TYPES.includes(type) || (type === 3 && ug(c));
    case SS:
      return type === 3 || type === 7;
    case LDTR:
      return type === 2;
    case TR:
      return type === 11 || (type === 3 && !ia32e(c));
    default:
      // Accessed; and readable if code.
      return (type & 1) !== 0 && (!isCode(type) || (type & 2) !== 0);
  }
}

/** G = 0 when a low limit bit is 0; G = 1 when a high limit bit is 1. */
function granularityLow(c: EntryContext, s: SegmentFields): boolean {
  return (c.vmcs.read32(s.limit) & 0xfff) === 0xfff ||
    !has(rights(c, s), Rights.Granularity);
}
function granularityHigh(c: EntryContext, s: SegmentFields): boolean {
  return (c.vmcs.read32(s.limit) >>> 20) === 0 ||
    has(rights(c, s), Rights.Granularity);
}

function ordinaryRows(s: SegmentFields): EntryCheck[] {
  const system = s === LDTR || s === TR;
  const when = (
    id: string,
    valid: (c: EntryContext) => boolean,
  ): EntryCheck => row(`${s.name}.${id}`, (c) => !ordinary(c, s) || valid(c));
  return [
    when("type", (c) => typeValid(c, s)),
    when("s", (c) => has(rights(c, s), Rights.CodeData) !== system),
    when("present", (c) => has(rights(c, s), Rights.Present)),
    when("reserved", (c) => (rights(c, s) & RESERVED) === 0),
    when("granularity-low", (c) => granularityLow(c, s)),
    when("granularity-high", (c) => granularityHigh(c, s)),
  ];
}

/** DPL ≥ RPL for data and non-conforming code, without unrestricted guest. */
function dataDplRow(s: SegmentFields): EntryCheck {
  return row(
    `${s.name}.dpl`,
    (c) =>
      !ordinary(c, s) || ug(c) || typeOf(c, s) > 11 || dpl(c, s) >= rpl(c, s),
  );
}

const canonicalBase = (
  s: SegmentFields,
  when: (c: EntryContext) => boolean = () => true,
): EntryCheck =>
  row(
    `${s.name}.base-canonical`,
    (c) => !when(c) || canonical(c.vmcs.read(s.base), c.model),
  );
const base32 = (s: SegmentFields): EntryCheck =>
  row(
    `${s.name}.base-high`,
    (c) => !judged(c, s) || c.vmcs.read(s.base) >> 32n === 0n,
  );

/** Rows on guest segment registers. */
export const SEGMENT_CHECKS: readonly EntryCheck[] = [
  row("tr.ti", (c) => !has(selector(c, TR), 4)),
  row("ldtr.ti", (c) => !judged(c, LDTR) || !has(selector(c, LDTR), 4)),
  row("ss.rpl", (c) => v8086(c) || ug(c) || rpl(c, SS) === rpl(c, CS)),
  ...CODE_AND_DATA.map((s) =>
    row(
      `${s.name}.v8086-base`,
      (c) => !v8086(c) || c.vmcs.read(s.base) === BigInt(selector(c, s) << 4),
    )
  ),
  canonicalBase(TR),
  canonicalBase(FS),
  canonicalBase(GS),
  canonicalBase(LDTR, (c) => judged(c, LDTR)),
  base32(CS),
  base32(SS),
  base32(DS),
  base32(ES),
  ...CODE_AND_DATA.map((s) =>
    row(
      `${s.name}.v8086-limit`,
      (c) => !v8086(c) || c.vmcs.read32(s.limit) === 0xffff,
    )
  ),
  ...CODE_AND_DATA.map((s) =>
    row(`${s.name}.v8086-rights`, (c) => !v8086(c) || rights(c, s) === 0xf3)
  ),
  ...GUEST_SEGMENTS.flatMap(ordinaryRows),
  row(
    "cs.dpl-data",
    (c) => v8086(c) || typeOf(c, CS) !== 3 || dpl(c, CS) === 0,
  ),
  row(
    "cs.dpl-non-conforming",
    (c) =>
      v8086(c) || (typeOf(c, CS) !== 9 && typeOf(c, CS) !== 11) ||
      dpl(c, CS) === dpl(c, SS),
  ),
  row(
    "cs.dpl-conforming",
    (c) =>
      v8086(c) || (typeOf(c, CS) !== 13 && typeOf(c, CS) !== 15) ||
      dpl(c, CS) <= dpl(c, SS),
  ),
  row("cs.d-and-l", (c) =>
    v8086(c) || !ia32e(c) ||
    !has(rights(c, CS), Rights.Long) || !has(rights(c, CS), Rights.DefaultBig)),
  row("ss.dpl-rpl", (c) => v8086(c) || ug(c) || dpl(c, SS) === rpl(c, SS)),
  row(
    "ss.dpl-data-cs",
    (c) => v8086(c) || !ug(c) || typeOf(c, CS) !== 3 || dpl(c, SS) === 0,
  ),
  row("ss.dpl-real-mode", (c) =>
    v8086(c) || !ug(c) || typeOf(c, CS) === 3 ||
    has(c.vmcs.read32(VmcsField.GuestCr0), Cr0.PE) || dpl(c, SS) === 0),
  dataDplRow(DS),
  dataDplRow(ES),
  dataDplRow(FS),
  dataDplRow(GS),
  row("tr.unusable", (c) => !has(rights(c, TR), Rights.Unusable)),
];
