/**
 * Registers of the local APIC as tables (SDM 3A tables 11-1 and 11-6): place,
 * writable bits, which exist in x2APIC mode, and the state after reset.
 * Invariant: register numbers are MMIO offset / 16 = x2APIC MSR − 800h.
 */
import { DeliveryMode } from "./api.ts";

/** Register numbers. */
export const R = {
  Id: 0x02,
  Version: 0x03,
  Tpr: 0x08,
  Apr: 0x09,
  Ppr: 0x0a,
  Eoi: 0x0b,
  Rrd: 0x0c,
  Ldr: 0x0d,
  Dfr: 0x0e,
  Svr: 0x0f,
  Isr: 0x10,
  Tmr: 0x18,
  Irr: 0x20,
  Esr: 0x28,
  IcrLow: 0x30,
  IcrHigh: 0x31,
  LvtTimer: 0x32,
  LvtThermal: 0x33,
  LvtPerf: 0x34,
  Lint0: 0x35,
  Lint1: 0x36,
  LvtError: 0x37,
  InitialCount: 0x38,
  CurrentCount: 0x39,
  Divide: 0x3e,
  SelfIpi: 0x3f,
} as const;

/** Bits of an LVT register. */
export const Lvt = {
  Masked: 1 << 16,
  /** LINT0 and LINT1, read-only: accepted and not ended. */
  RemoteIrr: 1 << 14,
  /** Pin is active low. */
  ActiveLow: 1 << 13,
  Level: 1 << 15,
  TimerPeriodic: 1 << 17,
  TimerDeadline: 1 << 18,
  TimerMode: 3 << 17,
} as const;
/** SVR bit 8. */
export const SOFTWARE_ENABLE = 0x100;
/** Error status bits (SDM 3A figure 11-9). */
export const Esr = {
  SendIllegal: 0x20,
  ReceivedIllegal: 0x40,
  IllegalRegister: 0x80,
} as const;
/** Six LVT entries, no suppression of EOI broadcasts. */
export const VERSION = 0x50014;
/** DFR 31:28 of the flat model. */
export const FLAT = 0xf;

/** Writable bits of each LVT register; the timer's mode bits follow the model. */
export const LVT_MASK: { readonly [register: number]: number } = {
  [R.LvtTimer]: 0x300ff,
  [R.LvtThermal]: 0x107ff,
  [R.LvtPerf]: 0x107ff,
  [R.Lint0]: 0x1a7ff,
  [R.Lint1]: 0x1a7ff,
  [R.LvtError]: 0x100ff,
};
/** Numbers of the LVT registers. */
export const LVTS: readonly number[] = Object.keys(LVT_MASK).map(Number);
/** Bits of an LVT register that only the APIC sets: delivery status, remote IRR. */
export const LVT_READ_ONLY = 0x5000;

const wide = new Set<number>([R.Isr, R.Tmr, R.Irr]);
const every = (first: number): number[] =>
  wide.has(first) ? Array.from({ length: 8 }, (_, i) => first + i) : [first];

/** Registers of xAPIC mode; any other offset is an illegal register address. */
export const XAPIC_REGISTERS: ReadonlySet<number> = new Set(
  Object.values(R).filter((n) => n !== R.SelfIpi && n !== R.Rrd)
    .flatMap(every),
);

/** Registers that x2APIC mode lets RDMSR read (SDM 3A table 11-6). */
export const X2APIC_READABLE: ReadonlySet<number> = new Set(
  Object.values(R).filter((n) =>
    n !== R.Apr && n !== R.Rrd && n !== R.Dfr && n !== R.IcrHigh &&
    n !== R.Eoi && n !== R.SelfIpi
  ).flatMap(every),
);

/**
 * Bits of the low word that WRMSR may set in x2APIC mode, by register; the
 * high word is reserved in all but the ICR, where it is the destination.
 */
export const X2APIC_WRITABLE: { readonly [register: number]: number } = {
  [R.Tpr]: 0xff,
  [R.Eoi]: 0,
  [R.Svr]: 0x3ff,
  [R.Esr]: 0,
  [R.IcrLow]: 0xccfff,
  ...Object.fromEntries(
    LVTS.map((n) => [n, LVT_MASK[n] | LVT_READ_ONLY]),
  ),
  [R.InitialCount]: 0xffffffff,
  [R.Divide]: 0xb,
  [R.SelfIpi]: 0xff,
};

/** Everything but the ID as power-up and INIT leave it (SDM 3A §11.4.7.1). */
export function resetRegisters(r: Uint32Array): void {
  const id = r[R.Id];
  r.fill(0);
  r[R.Id] = id;
  r[R.Version] = VERSION;
  r[R.Dfr] = 0xffffffff;
  r[R.Svr] = 0xff;
  for (const lvt of LVTS) r[lvt] = Lvt.Masked;
}

/** As firmware leaves the bootstrap processor's (platform.md): enabled, virtual wire mode. */
export function firmwareRegisters(r: Uint32Array): void {
  r[R.Svr] = 0x1ff;
  r[R.Lint0] = DeliveryMode.ExtInt << 8;
  r[R.Lint1] = DeliveryMode.Nmi << 8;
}
