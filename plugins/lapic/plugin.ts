/**
 * Local APIC in xAPIC mode (SDM 3A ch. 11): priorities, LVT, timer (one-shot
 * and periodic), inter-processor interrupts, and the ExtINT path from the 8259
 * pair through LINT0. The timer counts virtual nanoseconds (a 1-GHz bus clock)
 * over its divisor.
 *
 * LINT0 starts as ExtINT, LINT1 as NMI and the APIC enabled, as firmware leaves
 * them (platform.md). x2APIC and the TSC-deadline mode are not offered.
 */
import {
  definePlugin,
  NotModelled,
  optional,
  tableOf,
  u32,
  u53,
  u64,
  wordsOf,
} from "../../core/mod.ts";
import { Devices } from "../../cpu/devices.ts";
import { HardwareAccess, Interrupts } from "../../cpu/hardware.ts";
import { EventRequest } from "../../cpu/layout.ts";
import { Pic } from "../pic8259/api.ts";
import { LapicAccepted, LapicTimerExpired } from "./api.ts";

/** Register offsets / 16 (SDM 3A table 11-1). */
const R = {
  Id: 0x02,
  Version: 0x03,
  Tpr: 0x08,
  Apr: 0x09,
  Ppr: 0x0a,
  Eoi: 0x0b,
  Ldr: 0x0d,
  Dfr: 0x0e,
  Svr: 0x0f,
  Isr: 0x10,
  Tmr: 0x18,
  Irr: 0x20,
  Esr: 0x28,
  Cmci: 0x2f,
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
} as const;
const BASE = 0xfee00000;
const APIC_BASE_MSR = 0x1b;
const BASE_BSP = 0x100n;
const BASE_EXTD = 0x400n;
const BASE_ENABLE = 0x800n;
const MASKED = 1 << 16;
const SOFTWARE_ENABLE = 0x100;
const PERIODIC = 1 << 17;
/** Delivery modes (SDM 3A §11.5.1). */
const Mode = {
  Fixed: 0,
  Lowest: 1,
  Smi: 2,
  Nmi: 4,
  Init: 5,
  Sipi: 6,
  ExtInt: 7,
};
/** Error status bits (SDM 3A figure 11-9). */
const ESR_SEND_ILLEGAL = 0x20;
const ESR_RECEIVED_ILLEGAL = 0x40;
const ESR_ILLEGAL_REGISTER = 0x80;
const MANUAL_LVT = "SDM 3A §11.5.1";
const VERSION = 0x50014;
/** Writable bits of each LVT register. */
const LVT_MASK: { readonly [register: number]: number } = {
  [R.LvtTimer]: 0x300ff,
  [R.LvtThermal]: 0x107ff,
  [R.LvtPerf]: 0x107ff,
  [R.Lint0]: 0x1a7ff,
  [R.Lint1]: 0x1a7ff,
  [R.LvtError]: 0x100ff,
};

/** Registers that exist (table 11-1); ISR, TMR and IRR have eight words each. */
const REGISTERS: ReadonlySet<number> = new Set(
  Object.values(R).filter((register) => register !== R.Cmci).flatMap((first) =>
    first === R.Isr || first === R.Tmr || first === R.Irr
      ? Array.from({ length: 8 }, (_, i) => first + i)
      : [first]
  ),
);

/** Local APIC. */
export const lapic = definePlugin({
  name: "lapic",
  version: "1.0.0",
  doc: "Local APIC (xAPIC): timer, IPIs, ExtINT from the 8259 pair",
  role: "participant",
  needs: { hardware: HardwareAccess, devices: Devices, pic: optional(Pic) },
  provides: { interrupts: Interrupts },
  emits: [LapicAccepted, LapicTimerExpired],
  timers: ["timer"],
  state: {
    units: tableOf(1, {
      base: u64("IA32_APIC_BASE", BigInt(BASE) | BASE_ENABLE | BASE_BSP),
      registers: wordsOf(64, "By offset / 16"),
      timerFrom: u53("Virtual time at which the timer held timerCount"),
      timerCount: u32("Count then; 0 = the timer stands"),
      esrLatch: u32("Errors since the last write to the ESR"),
    }, "Local APICs, by vCPU"),
  },
  setup({ use, provide, state, emit, timer, clock }) {
    const { hardware } = use;
    const present = hardware.model.has("apic");
    const unit = state.units[0];
    const r = unit.registers;
    reset();

    function reset(): void {
      r.fill(0);
      r[R.Version] = VERSION;
      r[R.Dfr] = 0xffffffff;
      r[R.Svr] = 0x1ff;
      for (const lvt of Object.keys(LVT_MASK)) r[Number(lvt)] = MASKED;
      r[R.Lint0] = Mode.ExtInt << 8;
      r[R.Lint1] = Mode.Nmi << 8;
    }
    const enabled = (): boolean => present && (unit.base & BASE_ENABLE) !== 0n;
    const working = (): boolean =>
      enabled() && (r[R.Svr] & SOFTWARE_ENABLE) !== 0;
    /** Highest vector set in a 256-bit register, or -1. */
    const highest = (first: number): number => {
      for (let i = 7; i >= 0; i--) {
        const word = r[first + i];
        if (word) return i * 32 + 31 - Math.clz32(word);
      }
      return -1;
    };
    const setBit = (first: number, vector: number, on: boolean): void => {
      const bit = 1 << (vector & 31);
      if (on) r[first + (vector >> 5)] |= bit;
      else r[first + (vector >> 5)] &= ~bit;
    };
    /** SDM 3A §11.8.3.1. */
    const ppr = (): number => {
      const serving = Math.max(highest(R.Isr), 0);
      const tpr = r[R.Tpr] & 0xff;
      return tpr >> 4 >= serving >> 4 ? tpr : serving & 0xf0;
    };
    const deliverable = (): number => {
      if (!working()) return -1;
      const vector = highest(R.Irr);
      return vector >= 0 && vector >> 4 > ppr() >> 4 ? vector : -1;
    };
    /** The 8259 pair reaches the vCPU directly, or through LINT0 as ExtINT. */
    const external = (): boolean => {
      if (!use.pic?.asserted) return false;
      if (!enabled()) return true;
      const lint0 = r[R.Lint0];
      if (lint0 & MASKED) return false;
      if (((lint0 >> 8) & 7) !== Mode.ExtInt) {
        throw new NotModelled("LINT0 in another mode than ExtINT", MANUAL_LVT);
      }
      return true;
    };
    const update = (): void =>
      hardware.setInterruptLine(0, deliverable() >= 0 || external());
    use.pic?.connect(update);

    const fail = (error: number): void => {
      unit.esrLatch |= error;
      const lvt = r[R.LvtError];
      // An illegal vector there would only be the next error of the same kind.
      if (lvt & MASKED) return;
      if ((lvt & 0xff) < 16) unit.esrLatch |= ESR_RECEIVED_ILLEGAL;
      else accept(lvt & 0xff, false);
    };
    const accept = (vector: number, level: boolean): void => {
      if (vector < 16) {
        fail(ESR_RECEIVED_ILLEGAL);
        return;
      }
      if (!working()) return;
      setBit(R.Irr, vector, true);
      setBit(R.Tmr, vector, level);
      emit(LapicAccepted, { cpu: 0, vector, level });
      update();
    };
    const deliver = (mode: number, vector: number, level: boolean): void => {
      switch (mode) {
        case Mode.Fixed:
        case Mode.Lowest:
          accept(vector, level);
          break;
        case Mode.Nmi:
          hardware.request(0, EventRequest.Nmi);
          break;
        case Mode.Init:
          hardware.request(0, EventRequest.Init);
          break;
        case Mode.Sipi:
          break; // Only a vCPU in wait-for-SIPI listens; the only one is running.
        default:
          throw new NotModelled(
            `local APIC delivery mode ${mode}`,
            "SDM 3A §11.5.1",
          );
      }
    };
    /** SDM 3A §11.6.2: does a destination mean this APIC? */
    const meansUs = (low: number, high: number): boolean => {
      const shorthand = (low >> 18) & 3;
      if (shorthand) return shorthand !== 3;
      const destination = high >>> 24;
      if (!(low & 1 << 11)) {
        return destination === r[R.Id] >>> 24 || destination === 0xff;
      }
      const ldr = r[R.Ldr] >>> 24;
      if (r[R.Dfr] >>> 28 === 0xf) return (destination & ldr) !== 0;
      return destination >> 4 === ldr >> 4 && (destination & ldr & 0xf) !== 0;
    };
    const sendIpi = (): void => {
      const low = r[R.IcrLow];
      const mode = (low >> 8) & 7;
      const vectored = mode === Mode.Fixed || mode === Mode.Lowest;
      if (vectored && (low & 0xff) < 16) {
        fail(ESR_SEND_ILLEGAL);
        return;
      }
      if (!meansUs(low, r[R.IcrHigh])) return;
      const deassert = (low & 0xc000) === 0x8000;
      if (mode === Mode.Init && deassert) return;
      deliver(mode, low & 0xff, false);
    };

    // --- timer
    const divisor = (): number => {
      const code = (r[R.Divide] & 3) | (r[R.Divide] >> 1 & 4);
      return code === 7 ? 1 : 2 << code;
    };
    const due = (): number => unit.timerFrom + unit.timerCount * divisor();
    const arm = (): void => {
      if (unit.timerCount === 0) timer.timer.cancel();
      else timer.timer.at(due());
    };
    const remaining = (): number => {
      const passed = Math.floor((clock.now() - unit.timerFrom) / divisor());
      return Math.max(0, unit.timerCount - passed);
    };
    /** Counts on from `count` now. */
    const restart = (count: number): void => {
      unit.timerFrom = clock.now();
      unit.timerCount = count;
      arm();
    };
    timer.timer.run(() => {
      const lvt = r[R.LvtTimer];
      emit(LapicTimerExpired, { cpu: 0, lvt });
      unit.timerFrom = due();
      unit.timerCount = lvt & PERIODIC ? r[R.InitialCount] : 0;
      arm();
      if (!(lvt & MASKED)) accept(lvt & 0xff, false);
      return undefined;
    });

    const read = (register: number): number => {
      switch (register) {
        case R.Ppr:
          return ppr();
        case R.CurrentCount:
          return remaining();
        case R.Eoi:
          return 0;
        default:
          return r[register];
      }
    };
    const write = (register: number, value: number): void => {
      switch (register) {
        case R.Id:
        case R.Ldr:
          r[register] = value & 0xff000000;
          break;
        case R.Tpr:
          r[R.Tpr] = value & 0xff;
          break;
        case R.Eoi: {
          const vector = highest(R.Isr);
          if (vector >= 0) setBit(R.Isr, vector, false);
          break;
        }
        case R.Dfr:
          r[R.Dfr] = value | 0x0fffffff;
          break;
        case R.Svr:
          r[R.Svr] = value & 0x3ff;
          // SDM 3A §11.4.7.2: a software-disabled APIC masks its LVT.
          if (!(value & SOFTWARE_ENABLE)) {
            for (const lvt of Object.keys(LVT_MASK)) r[Number(lvt)] |= MASKED;
          }
          break;
        case R.Esr:
          r[R.Esr] = unit.esrLatch;
          unit.esrLatch = 0;
          break;
        case R.IcrLow:
          r[R.IcrLow] = value & ~(1 << 12);
          sendIpi();
          break;
        case R.IcrHigh:
          r[R.IcrHigh] = value & 0xff000000;
          break;
        case R.InitialCount:
          r[R.InitialCount] = value;
          restart(value);
          break;
        case R.Divide: {
          const left = remaining();
          r[R.Divide] = value & 0xb;
          restart(left);
          break;
        }
        default:
          if (register in LVT_MASK) {
            r[register] = value & LVT_MASK[register] |
              (working() ? 0 : MASKED);
          }
      }
      update();
    };
    if (present) {
      use.devices.memory("lapic", BASE, 4096, {
        read(address, size) {
          if (!enabled()) return (1n << BigInt(size * 8)) - 1n;
          const offset = address - BASE;
          if (!REGISTERS.has(offset >> 4)) {
            fail(ESR_ILLEGAL_REGISTER);
            update();
            return 0n;
          }
          const value = read(offset >> 4) >>> 0;
          return BigInt(value) >> BigInt((offset & 3) * 8) &
            (1n << BigInt(size * 8)) - 1n;
        },
        write(address, size, value) {
          // SDM 3A §11.4.1: registers are written as aligned 32-bit words.
          if (!enabled() || size < 4 || (address & 0xf) !== 0) return;
          const register = address - BASE >> 4;
          if (REGISTERS.has(register)) {
            write(register, Number(value & 0xffff_ffffn));
          } else {
            fail(ESR_ILLEGAL_REGISTER);
            update();
          }
        },
      });
    }
    provide.interrupts({
      acknowledge() {
        const vector = deliverable();
        if (vector < 0) {
          const pending = external();
          const given = pending && use.pic
            ? use.pic.acknowledge()
            : r[R.Svr] & 0xff;
          update();
          return given;
        }
        setBit(R.Irr, vector, false);
        setBit(R.Isr, vector, true);
        update();
        return vector;
      },
      readTpr: () => (r[R.Tpr] >> 4) & 0xf,
      writeTpr(_cpu, value) {
        r[R.Tpr] = value << 4;
        update();
      },
      readMsr: (_cpu, index) =>
        present && index === APIC_BASE_MSR ? unit.base : undefined,
      writeMsr(_cpu, index, value) {
        if (!present || index !== APIC_BASE_MSR) return undefined;
        const allowed = BigInt(2 ** hardware.model.physicalAddressBits) - 1n &
          ~0x6ffn;
        if (value & BASE_EXTD || value & ~(allowed | BASE_BSP)) return false;
        if ((value & ~0xfffn) !== BigInt(BASE)) {
          throw new NotModelled(
            "relocation of the local APIC",
            "SDM 3A §11.4.5",
          );
        }
        if (unit.base & BASE_ENABLE && !(value & BASE_ENABLE)) {
          reset();
          restart(0);
        }
        unit.base = value;
        update();
        return true;
      },
    });
    return undefined;
  },
});
