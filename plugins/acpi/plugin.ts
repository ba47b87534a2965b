/**
 * ACPI of a PC (ACPI 6.5): the tables, placed where firmware would have left
 * them, and the fixed hardware: PM1 event and control registers, PM timer, SCI,
 * sleep states S3 and S5. The machine is always in ACPI mode (no SMI_CMD).
 *
 * The real-time clock's line is also its wake signal. Tables are left out where
 * RAM ends below 1 MiB or the guest's image lies in their place.
 */
import {
  bool,
  definePlugin,
  NotModelled,
  optional,
  u16,
  u53,
  u8,
} from "../../core/mod.ts";
import { Devices } from "../../cpu/devices.ts";
import { HardwareAccess } from "../../cpu/hardware.ts";
import { Apics } from "../lapic/api.ts";
import { Irq } from "../pic8259/api.ts";
import { PciHost } from "../i440fx/api.ts";
import { AcpiSlept, AcpiWoke } from "./api.ts";
import { pmTimer, pmToggles, pmToggleTime } from "./pm_timer.ts";
import { acpiTables, Pm, SleepType, WAKING_VECTOR } from "./tables.ts";
import { sleep, wake } from "./wake.ts";

/** Bits of PM1 status and enable (tables 4.11 and 4.12). */
const Event = {
  Timer: 1 << 0,
  Global: 1 << 5,
  Rtc: 1 << 10,
  Wake: 1 << 15,
} as const;
/** What can be enabled; there are no buttons. */
const ENABLES = Event.Timer | Event.Global | Event.Rtc;
/** Bits of PM1 control (table 4.13). */
const SCI_ENABLED = 1;
const CONTROL = 0x1c02;
const SLEEP_ENABLE = 1 << 13;
const RTC_LINE = 8;

/** ACPI tables and fixed hardware. */
export const acpi = definePlugin({
  name: "acpi",
  version: "1.0.0",
  doc: "ACPI tables, PM timer, sleep states and shutdown",
  role: "participant",
  options: {
    base: u16("First port of the power-management registers", 0x600),
    sci: u8("Interrupt line of the SCI", 9),
  },
  needs: {
    hardware: HardwareAccess,
    devices: Devices,
    lines: optional(Irq),
    apics: optional(Apics),
    pci: optional(PciHost),
  },
  emits: [AcpiSlept, AcpiWoke],
  timers: ["toggle"],
  state: {
    status: u16("PM1 status without TMR_STS"),
    enable: u16("PM1 enable"),
    control: u16("PM1 control, writable bits"),
    togglesSeen: u53("Changes of the timer's bit 23 when TMR_STS was cleared"),
    asleep: bool("In S3"),
    facs: u53("Physical address of the FACS; 0 = there are no tables"),
  },
  setup({ use, options, state, clock, timer, emit, stop }) {
    const { hardware, devices, lines } = use;
    const { physical } = hardware;

    hardware.onStart(() => {
      const { address, bytes, facs } = acpiTables({
        cpus: hardware.cpus.length,
        pmBase: options.base,
        sciLine: options.sci,
        apic: use.apics !== undefined && hardware.model.has("apic"),
        pci: use.pci !== undefined,
      });
      const place = physical.readBytes(address, bytes.length);
      const free = place.length === bytes.length && place.every((b) => b === 0);
      if (!free) return;
      physical.writeBytes(address, bytes);
      state.facs = facs;
    });

    const status = (): number =>
      state.status |
      (pmToggles(clock.now()) === state.togglesSeen ? 0 : Event.Timer);
    const update = (): void => {
      lines?.set(options.sci, (status() & state.enable & ENABLES) !== 0);
      if (state.enable & Event.Timer) {
        timer.toggle.at(pmToggleTime(pmToggles(clock.now()) + 1));
      } else timer.toggle.cancel();
    };
    timer.toggle.run(() => {
      update();
      return undefined;
    });

    const goToSleep = (): void => {
      const type = state.control >> 10 & 7;
      emit(AcpiSlept, { type });
      switch (type) {
        case SleepType.S5:
          stop("the guest powered the machine off", 0);
          break;
        case SleepType.S3:
          state.asleep = true;
          sleep(hardware);
          break;
        default:
          throw new NotModelled(
            "ACPI sleep type other than S3 and S5",
            "ACPI §7.4",
          );
      }
    };
    const wakeUp = (): void => {
      state.asleep = false;
      state.status |= Event.Wake;
      const vector = physical.readU32(state.facs + WAKING_VECTOR);
      emit(AcpiWoke, { vector });
      wake(hardware, vector);
    };
    lines?.connect((line, level) => {
      if (line !== RTC_LINE || !level) return;
      state.status |= Event.Rtc;
      update();
      if (state.asleep && state.enable & Event.Rtc) wakeUp();
    });

    /** The registers as the bytes that they are. */
    const read = (at: number): number => {
      const word = (value: number, from: number): number =>
        value >>> (at - from) * 8 & 0xff;
      if (at < 2) return word(status(), 0);
      if (at < 4) return word(state.enable, 2);
      if (at < 6) return word(state.control | SCI_ENABLED, Pm.Control);
      return at < Pm.Timer ? 0 : word(pmTimer(clock.now()), Pm.Timer);
    };
    const merge = (old: number, byte: number, value: number): number =>
      old & ~(0xff << byte * 8) | value << byte * 8;
    const write = (at: number, value: number): void => {
      if (at < 2) { // Writing ones clears.
        const cleared = value << at * 8;
        state.status &= ~cleared;
        if (cleared & Event.Timer) state.togglesSeen = pmToggles(clock.now());
      } else if (at < 4) state.enable = merge(state.enable, at - 2, value);
      else if (at < 6) {
        const next = merge(state.control, at - Pm.Control, value);
        state.control = next & CONTROL;
        if (next & SLEEP_ENABLE) goToSleep();
      }
    };
    const timerPort = options.base + Pm.Timer;
    const trim = (value: number, size: number): number =>
      size === 4 ? value : value & (1 << size * 8) - 1;
    devices.ports("acpi", options.base, options.base + Pm.Bytes - 1, {
      in(port, size) {
        // The timer alone is read often.
        if (port === timerPort) return trim(pmTimer(clock.now()), size);
        let value = 0;
        for (let i = size - 1; i >= 0; i--) {
          value = value << 8 | read(port - options.base + i);
        }
        return value >>> 0;
      },
      out(port, size, value) {
        for (let i = 0; i < size; i++) {
          write(port - options.base + i, value >>> i * 8 & 0xff);
        }
        update();
      },
    });
    return undefined;
  },
});
