/**
 * 8254 programmable interval timer (Intel 8254 data sheet) and the PC's port
 * 0x61 (channel 2 gate, speaker data, channel 2 output).
 *
 * Counting is a function of virtual time, not of polling: a channel remembers
 * when its count was loaded. The clock is 1,193,182 Hz; virtual nanoseconds are
 * converted with integer arithmetic so that replays agree to the last tick.
 * Channel 0 drives IRQ0. BCD counting is not modelled. At step 0 all channels
 * count down from 65536 in mode 3, as firmware leaves them: Linux without TSC
 * waits for a loaded channel 0. Its interrupts begin when it is programmed.
 */
import {
  bool,
  definePlugin,
  NotModelled,
  optional,
  tableOf,
  u16,
  u53,
  u8,
} from "../../core/mod.ts";
import { Devices } from "../../cpu/devices.ts";
import { Irq } from "../pic8259/api.ts";

/** Input clock in Hz. */
const HZ = 1_193_182;
const SECOND = 1_000_000_000;
const DATA_SHEET = "Intel 8254 data sheet";

/** Ticks of the input clock in `ns`, rounded down, without losing precision. */
export function ticksIn(ns: number): number {
  const seconds = Math.floor(ns / SECOND);
  return seconds * HZ + Math.floor((ns - seconds * SECOND) * HZ / SECOND);
}

/** Smallest number of ns in which `ticks` ticks have passed. */
export function nanosecondsFor(ticks: number): number {
  const seconds = Math.floor(ticks / HZ);
  return seconds * SECOND +
    Math.ceil((ticks - seconds * HZ) * SECOND / HZ);
}

/** Interval timer. */
export const pit8254 = definePlugin({
  name: "pit8254",
  version: "1.1.0",
  doc: "8254 interval timer and port 0x61",
  role: "participant",
  needs: { devices: Devices, lines: optional(Irq) },
  timers: ["channel0"],
  state: {
    channels: tableOf(3, {
      mode: u8("Operating mode 0 to 5; firmware left OUT high", 3),
      access: u8("1 low byte, 2 high byte, 3 both", 3),
      count: u53("Initial count, 1 to 65536", 65536),
      loadedAt: u53("Tick at which counting began"),
      counting: bool("A count was loaded; firmware did", true),
      held: u53("Ticks counted when a falling gate stopped mode 0 or 4"),
      triggered: bool("Mode 1 or 5: the gate rose"),
      gate: bool("Gate input", true),
      latch: u16("Latched count"),
      latched: u8("Bytes of the latch still to be read"),
      status: u16("Latched status | 0x100 when one waits"),
      readHigh: bool("Next read is the high byte"),
      writeHigh: bool("Next write is the high byte"),
      written: u8("Low byte waiting for its high byte"),
    }, "Counters 0 to 2"),
    speaker: u8("Port 0x61 bits 1:0"),
  },
  setup({ use, state, clock, timer }) {
    const { channels } = state;
    channels[2].gate = false;
    const now = (): number => ticksIn(clock.now());
    const periodic = (mode: number): boolean => mode === 2 || mode === 3;
    /** Modes 1 and 5 count from a rising gate, not from the load. */
    const triggeredMode = (mode: number): boolean => mode === 1 || mode === 5;

    /** Ticks counted since the load or trigger; -1 while nothing counts. */
    const passed = (i: number): number => {
      const c = channels[i];
      if (!c.counting) return -1;
      if (triggeredMode(c.mode)) return c.triggered ? now() - c.loadedAt : -1;
      if (c.gate) return now() - c.loadedAt;
      return periodic(c.mode) ? 0 : c.held;
    };
    /** Ticks of mode 3 with OUT high: the longer half of an odd count. */
    const half = (count: number): number => Math.ceil(count / 2);

    /** Current value of the counting element. */
    const current = (i: number): number => {
      const { count, mode } = channels[i];
      const ticks = passed(i);
      if (ticks < 0) return count & 0xffff;
      if (!periodic(mode)) return (count - ticks) & 0xffff;
      const phase = ticks % count;
      if (mode === 2) return (count - phase) & 0xffff;
      // Mode 3 counts down by two from the even number, twice a period.
      const high = half(count);
      return ((count & ~1) - 2 * (phase < high ? phase : phase - high)) &
        0xffff;
    };
    const output = (i: number): boolean => {
      const { count, mode, gate } = channels[i];
      const ticks = passed(i);
      if (ticks < 0) return mode !== 0;
      switch (mode) {
        case 0:
        case 1:
          return ticks >= count;
        case 2:
          return !gate || ticks % count !== count - 1;
        case 3:
          return !gate || ticks % count < half(count);
        default:
          return ticks !== count;
      }
    };
    /** Arms the virtual timer for channel 0's next rising edge; its gate is tied high. */
    const arm = (): void => {
      const { count, mode, loadedAt } = channels[0];
      const ticks = passed(0);
      // Mode 4 is low for one tick at the end, then rises.
      const length = mode === 4 ? count + 1 : count;
      if (ticks >= 0 && periodic(mode)) {
        const periods = Math.floor(ticks / count) + 1;
        timer.channel0.at(nanosecondsFor(loadedAt + periods * count));
      } else if (ticks >= 0 && ticks < length) {
        timer.channel0.at(nanosecondsFor(loadedAt + length));
      } else timer.channel0.cancel();
    };
    timer.channel0.run(() => {
      use.lines?.set(0, false);
      use.lines?.set(0, true);
      arm();
      return undefined;
    });

    const load = (i: number, value: number): void => {
      const c = channels[i];
      c.count = value === 0 ? 65536 : value;
      c.counting = true;
      if (triggeredMode(c.mode)) return;
      c.loadedAt = now();
      c.held = 0;
      if (i === 0) {
        if (c.mode === 0) use.lines?.set(0, false);
        arm();
      }
    };
    const control = (value: number): void => {
      const select = value >> 6;
      if (select === 3) { // Read-back command
        for (let i = 0; i < 3; i++) {
          if (!(value & 2 << i)) continue;
          if (!(value & 0x20)) latchCount(i);
          if (!(value & 0x10)) latchStatus(i);
        }
        return;
      }
      const access = (value >> 4) & 3;
      if (access === 0) {
        latchCount(select);
        return;
      }
      if (value & 1) throw new NotModelled("8254 BCD counting", DATA_SHEET);
      const mode = (value >> 1) & 7;
      const c = channels[select];
      const was = output(select);
      c.mode = mode > 5 ? mode - 4 : mode;
      c.access = access;
      c.counting = false;
      c.triggered = false;
      c.held = 0;
      c.readHigh = access === 2;
      c.writeHigh = access === 2;
      c.latched = 0;
      if (select === 0) {
        // OUT rises where it was low: an edge of its own.
        if (was !== (c.mode !== 0)) use.lines?.set(0, c.mode !== 0);
        arm();
      }
    };
    const latchCount = (i: number): void => {
      const c = channels[i];
      if (c.latched) return;
      c.latch = current(i);
      c.latched = c.access === 3 ? 2 : 1;
      c.readHigh = c.access === 2;
    };
    const latchStatus = (i: number): void => {
      const c = channels[i];
      if (c.status) return;
      c.status = 0x100 | (output(i) ? 0x80 : 0) | (c.counting ? 0 : 0x40) |
        c.access << 4 | c.mode << 1;
    };
    const read = (i: number): number => {
      const c = channels[i];
      if (c.status) {
        const status = c.status & 0xff;
        c.status = 0;
        return status;
      }
      const value = c.latched ? c.latch : current(i);
      const byte = c.readHigh ? value >> 8 : value & 0xff;
      if (c.access === 3) c.readHigh = !c.readHigh;
      if (c.latched) c.latched--;
      return byte;
    };
    const write = (i: number, value: number): void => {
      const c = channels[i];
      if (c.access === 1) load(i, value);
      else if (c.access === 2) load(i, value << 8);
      else if (!c.writeHigh) {
        c.written = value;
        c.writeHigh = true;
        // Mode 0: writing the first byte stops counting.
        if (c.mode === 0) c.counting = false;
      } else {
        c.writeHigh = false;
        load(i, value << 8 | c.written);
      }
    };

    use.devices.ports("pit8254", 0x40, 0x43, {
      in: (port) => port === 0x43 ? 0xff : read(port - 0x40),
      out(port, _size, value) {
        if (port === 0x43) control(value & 0xff);
        else write(port - 0x40, value & 0xff);
      },
    });
    use.devices.ports("pit8254", 0x61, 0x61, {
      in: () =>
        state.speaker | (output(2) ? 0x20 : 0) |
        // Refresh toggles every 15.085 µs.
        (Math.floor(clock.now() / 15_085) & 1) << 4,
      out(_port, _size, value) {
        state.speaker = value & 3;
        const gate = (value & 1) !== 0;
        const c = channels[2];
        if (gate === c.gate) return;
        if (!gate) c.held = Math.max(0, passed(2));
        c.gate = gate;
        if (!gate) return;
        // A rising gate goes on in modes 0 and 4, restarts the others.
        c.loadedAt = now() - (c.mode === 0 || c.mode === 4 ? c.held : 0);
        c.triggered = c.counting;
      },
    });
    return undefined;
  },
});
