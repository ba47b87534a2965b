/**
 * MC146818 real-time clock with its CMOS RAM (Motorola MC146818A data sheet;
 * the PC's ports 0x70 and 0x71). Date and time follow from the option `date`
 * plus virtual time, so that every run and replay reads the same. Updates take
 * no time, but UIP announces them 244 µs before. Times are kept as the guest programs them: BCD or
 * binary, 12 or 24 hours. SET stops the clock; clearing it starts the clock
 * from the time then in its registers. Periodic, alarm and update-ended
 * interrupts drive IRQ8 until register C is read.
 * Square wave and daylight saving have no observer in a PC and do nothing.
 */
import {
  arrayOf,
  bool,
  definePlugin,
  optional,
  u53,
  u8,
} from "../../core/mod.ts";
import { Devices } from "../../cpu/devices.ts";
import { Irq } from "../pic8259/api.ts";
import { civil, secondsOf } from "./calendar.ts";

/** Register numbers (data sheet, figure 12; century as in the PC's CMOS). */
const REG = {
  Seconds: 0,
  SecondsAlarm: 1,
  Minutes: 2,
  MinutesAlarm: 3,
  Hours: 4,
  HoursAlarm: 5,
  WeekDay: 6,
  Day: 7,
  Month: 8,
  Year: 9,
  A: 0xa,
  B: 0xb,
  C: 0xc,
  D: 0xd,
  Century: 0x32,
} as const;
const B = { Binary: 4, Hours24: 2, Set: 0x80 } as const;
/** Enables in B and flags in C share their places. */
const INTERRUPT = { Update: 0x10, Alarm: 0x20, Periodic: 0x40 } as const;
const IRQF = 0x80;
const VALID = 0x80;
const PM = 0x80;
/** Alarm registers from here up match anything. */
const ANY = 0xc0;
const IRQ = 8;
const SECOND = 1_000_000_000;
const CRYSTAL_HZ = 32768;
/** UIP rises this long before an update (data sheet, figure 13). */
const UPDATE_AHEAD = 244_000;
const UIP = 0x80;
/** Divider setting 010: the 32.768-kHz crystal, running. */
const A_RUNNING = 0x20;

/** Real-time clock. */
export const rtc = definePlugin({
  name: "rtc",
  version: "1.0.0",
  doc: "MC146818 real-time clock and CMOS RAM",
  role: "participant",
  options: {
    date: u53(
      "Date at virtual time 0, in seconds since 1970-01-01 00:00 UTC",
      1_767_225_600, // 2026-01-01
    ),
    // Nobody is switched on at the full second: the first update comes soon.
    phase: u53(
      "Nanoseconds of that second that had passed by then",
      990_000_000,
    ),
  },
  needs: { devices: Devices, lines: optional(Irq) },
  timers: ["second", "periodic"],
  state: {
    index: u8("Register selected by port 0x70"),
    cmos: arrayOf(u8("Byte"), "Registers and RAM; clock registers are stale"),
    /** Seconds that the clock shows at virtual time `since`. */
    base: u53("Seconds since 1970 at the moment below"),
    since: u53("Time from which they count: virtual time + phase, ns"),
    stopped: bool("SET: the registers hold"),
    flags: u8("Register C without IRQF"),
  },
  setup({ use, options, state, clock, timer }) {
    const { cmos } = state;
    for (let i = 0; i < 128; i++) cmos.push(0);
    cmos.set(REG.A, A_RUNNING | 6);
    cmos.set(REG.B, B.Hours24);
    state.base = options.date;

    const at = (register: number): number => cmos.at(register) ?? 0;
    const encode = (value: number): number =>
      at(REG.B) & B.Binary ? value : Math.floor(value / 10) << 4 | value % 10;
    const decode = (value: number): number =>
      at(REG.B) & B.Binary ? value : (value >> 4) * 10 + (value & 0xf);
    const encodeHours = (hours: number): number =>
      at(REG.B) & B.Hours24
        ? encode(hours)
        : encode(hours % 12 || 12) | (hours >= 12 ? PM : 0);
    const decodeHours = (value: number): number => {
      if (at(REG.B) & B.Hours24) return decode(value);
      return decode(value & ~PM) % 12 + (value & PM ? 12 : 0);
    };

    /** Virtual time, counted from the full second before the machine began. */
    const now = (): number => clock.now() + options.phase;
    /** Seconds shown now. */
    const seconds = (): number =>
      state.base + Math.floor((now() - state.since) / SECOND);
    const updating = (): boolean =>
      !state.stopped &&
      (now() - state.since) % SECOND >= SECOND - UPDATE_AHEAD;
    /** Puts the time into the clock registers. */
    const show = (): void => {
      if (state.stopped) return;
      const c = civil(seconds());
      cmos.set(REG.Seconds, encode(c.second));
      cmos.set(REG.Minutes, encode(c.minute));
      cmos.set(REG.Hours, encodeHours(c.hour));
      cmos.set(REG.WeekDay, encode(c.weekDay));
      cmos.set(REG.Day, encode(c.day));
      cmos.set(REG.Month, encode(c.month));
      cmos.set(REG.Year, encode(c.year % 100));
      cmos.set(REG.Century, encode(Math.floor(c.year / 100)));
    };
    /** Counts on from the time in the registers. */
    const take = (): void => {
      state.base = secondsOf({
        year: decode(at(REG.Century)) * 100 + decode(at(REG.Year)),
        month: decode(at(REG.Month)),
        day: decode(at(REG.Day)),
        hour: decodeHours(at(REG.Hours)),
        minute: decode(at(REG.Minutes)),
        second: decode(at(REG.Seconds)),
      });
      state.since = now();
    };

    const enabled = (): number => at(REG.B) & 0x70;
    const asserted = (): boolean => (state.flags & enabled()) !== 0;
    const raise = (flag: number): void => {
      state.flags |= flag;
      use.lines?.set(IRQ, asserted());
    };
    const matches = (alarm: number, register: number): boolean =>
      at(alarm) >= ANY || at(alarm) === at(register);

    /** Arms both timers for what B enables. */
    const arm = (): void => {
      const wanted = enabled();
      if (
        (wanted & (INTERRUPT.Update | INTERRUPT.Alarm)) !== 0 && !state.stopped
      ) {
        const passed = Math.floor((now() - state.since) / SECOND) + 1;
        timer.second.at(state.since + passed * SECOND - options.phase);
      } else timer.second.cancel();
      const rate = at(REG.A) & 0xf;
      if ((wanted & INTERRUPT.Periodic) !== 0 && rate !== 0) {
        // Rates 1 and 2 repeat 8 and 9 (data sheet, table 5).
        const shift = rate < 3 ? rate + 6 : rate - 1;
        const hz = CRYSTAL_HZ >> shift;
        const passed = Math.floor(clock.now() * hz / SECOND) + 1;
        timer.periodic.at(Math.ceil(passed * SECOND / hz));
      } else timer.periodic.cancel();
    };
    timer.second.run(() => {
      show();
      const alarm = matches(REG.SecondsAlarm, REG.Seconds) &&
        matches(REG.MinutesAlarm, REG.Minutes) &&
        matches(REG.HoursAlarm, REG.Hours);
      raise(INTERRUPT.Update | (alarm ? INTERRUPT.Alarm : 0));
      arm();
      return undefined;
    });
    timer.periodic.run(() => {
      raise(INTERRUPT.Periodic);
      arm();
      return undefined;
    });

    const isTime = (register: number): boolean =>
      register <= REG.Year && (register & 1) === 0 ||
      register === REG.Day || register === REG.Year ||
      register === REG.Century;
    const read = (register: number): number => {
      if (isTime(register)) show();
      if (register === REG.A) return at(REG.A) | (updating() ? UIP : 0);
      if (register === REG.C) {
        const value = state.flags | (asserted() ? IRQF : 0);
        state.flags = 0;
        use.lines?.set(IRQ, false);
        return value;
      }
      return register === REG.D ? VALID : at(register);
    };
    const write = (register: number, value: number): void => {
      switch (register) {
        case REG.A: // UIP is read-only
          cmos.set(REG.A, value & 0x7f);
          arm();
          return;
        case REG.B: {
          show();
          const held = (value & B.Set) !== 0;
          // Setting SET clears UIE (data sheet, register B).
          cmos.set(REG.B, held ? value & ~INTERRUPT.Update : value);
          if (state.stopped && !held) take();
          state.stopped = held;
          use.lines?.set(IRQ, asserted());
          arm();
          return;
        }
        case REG.C:
        case REG.D:
          return;
        default:
          if (!isTime(register)) {
            cmos.set(register, value);
            return;
          }
          show();
          cmos.set(register, value);
          if (!state.stopped) {
            take();
            arm();
          }
      }
    };

    use.devices.ports("rtc", 0x70, 0x71, {
      in: (port) => port === 0x70 ? 0xff : read(state.index),
      out(port, _size, value) {
        if (port === 0x70) state.index = value & 0x7f; // bit 7: NMI mask
        else write(state.index, value & 0xff);
      },
    });
    return undefined;
  },
});
