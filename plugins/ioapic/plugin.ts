/**
 * I/O APIC (Intel 82093AA data sheet) with the EOI register of version 20h
 * (Intel ICH data sheets, "EOIR"): 24 pins, redirection table, index and data
 * registers in memory.
 *
 * A PC's lines come in at the pins of their numbers, but line 0 (the timer) at
 * pin 2, and the cascade nowhere. An edge that meets a masked entry is lost
 * (data sheet §3.2.4, interrupt mask); a level is looked at again whenever the
 * entry changes or an EOI ends its interrupt.
 */
import {
  definePlugin,
  NotModelled,
  u32,
  u53,
  u8,
  wordsOf,
} from "../../core/mod.ts";
import { Devices } from "../../cpu/devices.ts";
import { Apics, DeliveryMode } from "../lapic/api.ts";
import { Irq, IRQ_LINES } from "../pic8259/api.ts";
import { IoapicSent } from "./api.ts";

const DATA_SHEET = "Intel 82093AA data sheet";
/** Address after reset on a PC. */
export const IOAPIC_BASE = 0xfec00000;
/** Offsets in its page. */
const Window = { Index: 0, Data: 0x10, Eoi: 0x40 } as const;
/** Index values. */
const Register = { Id: 0, Version: 1, Arbitration: 2, Table: 0x10 } as const;
const ID_MASK = 0x0f000000;
/** Highest entry, and the version that has the EOI register. */
const VERSION = (IRQ_LINES - 1) << 16 | 0x20;
/** Bits of the low word of an entry. */
const Entry = {
  Logical: 1 << 11,
  ActiveLow: 1 << 13,
  RemoteIrr: 1 << 14,
  Level: 1 << 15,
  Masked: 1 << 16,
  Writable: 0x1afff,
} as const;
const HIGH_WRITABLE = 0xff000000;

/** I/O APIC. */
export const ioapic = definePlugin({
  name: "ioapic",
  version: "1.0.0",
  doc: "82093AA I/O APIC with 24 pins",
  role: "participant",
  options: {
    base: u53("Physical address of its page", IOAPIC_BASE),
    id: u8("Its ID after reset, 0 to 15"),
  },
  needs: { devices: Devices, lines: Irq, apics: Apics },
  emits: [IoapicSent],
  state: {
    index: u8("Register selected"),
    id: u32("ID register"),
    levels: u32("Levels of the pins"),
    low: wordsOf(IRQ_LINES, "Redirection entries, bits 31:0"),
    high: wordsOf(IRQ_LINES, "Redirection entries, bits 63:32"),
  },
  setup({ use, options, state, emit }) {
    const { apics, lines, devices } = use;
    state.id = (options.id & 0xf) << 24;
    state.low.fill(Entry.Masked);
    const modeOf = (entry: number): number => entry >> 8 & 7;
    /** Fixed and lowest priority can be level-triggered; the others are edges. */
    const isLevel = (entry: number): boolean =>
      (entry & Entry.Level) !== 0 &&
      modeOf(entry) <= DeliveryMode.LowestPriority;
    const active = (pin: number): boolean =>
      ((state.levels >>> pin & 1) !== 0) !==
        ((state.low[pin] & Entry.ActiveLow) !== 0);

    const send = (pin: number): void => {
      const entry = state.low[pin];
      const mode = modeOf(entry);
      const vector = entry & 0xff;
      const level = isLevel(entry);
      if (mode === DeliveryMode.ExtInt) {
        throw new NotModelled("IOAPIC delivery mode ExtINT", DATA_SHEET);
      }
      emit(IoapicSent, { pin, vector, mode, level });
      apics.send({
        destination: state.high[pin] >>> 24,
        wide: false,
        logical: (entry & Entry.Logical) !== 0,
        mode,
        vector,
        level,
      });
    };
    /** Sends a level that nobody has been told of. */
    const look = (pin: number): void => {
      const entry = state.low[pin];
      if (!isLevel(entry) || entry & (Entry.Masked | Entry.RemoteIrr)) return;
      if (!active(pin)) return;
      state.low[pin] |= Entry.RemoteIrr;
      send(pin);
    };
    const endOfInterrupt = (vector: number): void => {
      for (let pin = 0; pin < IRQ_LINES; pin++) {
        const entry = state.low[pin];
        if ((entry & 0xff) !== vector || !(entry & Entry.RemoteIrr)) continue;
        state.low[pin] &= ~Entry.RemoteIrr;
        look(pin);
      }
    };
    apics.onEndOfInterrupt(endOfInterrupt);
    lines.connect((line, level) => {
      // The 8259 pair's cascade has no pin; the timer has its place.
      if (line === 2) return;
      const pin = line === 0 ? 2 : line;
      const bit = 1 << pin;
      state.levels = level ? state.levels | bit : state.levels & ~bit;
      const entry = state.low[pin];
      if (isLevel(entry)) look(pin);
      else if (active(pin) && !(entry & Entry.Masked)) send(pin);
    });

    const read = (register: number): number => {
      switch (register) {
        case Register.Id:
        case Register.Arbitration:
          return state.id;
        case Register.Version:
          return VERSION;
      }
      const entry = register - Register.Table;
      if (entry < 0 || entry >= IRQ_LINES * 2) return 0;
      return (entry & 1 ? state.high : state.low)[entry >> 1];
    };
    const write = (register: number, value: number): void => {
      if (register === Register.Id) state.id = value & ID_MASK;
      const entry = register - Register.Table;
      if (entry < 0 || entry >= IRQ_LINES * 2) return;
      const pin = entry >> 1;
      if (entry & 1) {
        state.high[pin] = value & HIGH_WRITABLE;
        return;
      }
      const kept = state.low[pin] & Entry.RemoteIrr;
      state.low[pin] = value & Entry.Writable | kept;
      // Remote IRR has a meaning for levels only.
      if (!isLevel(state.low[pin])) state.low[pin] &= ~Entry.RemoteIrr;
      look(pin);
    };
    devices.memory("ioapic", options.base, 4096, {
      read(address, size) {
        const at = address - options.base;
        const place = at & ~3;
        if (place === Window.Eoi) return 0n;
        let value = 0xffffffff;
        if (place === Window.Index) value = state.index;
        else if (place === Window.Data) value = read(state.index) >>> 0;
        return BigInt(value) >> BigInt((at & 3) * 8) &
          (1n << BigInt(size * 8)) - 1n;
      },
      write(address, size, value) {
        const word = Number(value & 0xffff_ffffn);
        switch (address - options.base) {
          case Window.Index:
            state.index = word & 0xff;
            break;
          case Window.Data:
            // The data register takes whole words only.
            if (size >= 4) write(state.index, word);
            break;
          case Window.Eoi:
            endOfInterrupt(word & 0xff);
        }
      },
    });
    return undefined;
  },
});
