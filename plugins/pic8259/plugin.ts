/**
 * Two cascaded 8259A interrupt controllers (Intel 8259A data sheet) with the
 * edge/level control registers of the PC (ports 0x4D0, 0x4D1).
 *
 * Fully nested mode, specific and non-specific EOI, rotation, automatic EOI,
 * special mask mode and poll-free reads of IRR and ISR. Special fully nested
 * mode and the poll command are not modelled.
 */
import { definePlugin, NotModelled, tableOf, u32, u8 } from "../../core/mod.ts";
import { Devices } from "../../cpu/devices.ts";
import { Irq, IrqLineChanged, Pic } from "./api.ts";

const MASTER = 0;
const SLAVE = 1;
const CASCADE_LINE = 2;
const DATA_SHEET = "Intel 8259A data sheet";

/** 8259 pair. */
export const pic8259 = definePlugin({
  name: "pic8259",
  version: "1.0.0",
  doc: "The PC's pair of 8259A interrupt controllers",
  role: "participant",
  needs: { devices: Devices },
  provides: { lines: Irq, output: Pic },
  emits: [IrqLineChanged],
  state: {
    levels: u32("Levels of the request lines"),
    chips: tableOf(2, {
      irr: u8("Interrupt request register"),
      isr: u8("In-service register"),
      imr: u8("Interrupt mask register"),
      elcr: u8("Level-triggered lines"),
      base: u8("Vector of IR0"),
      icw: u8("Next initialization word expected, 0 = none"),
      needsIcw4: u8("ICW1 announced ICW4"),
      single: u8("ICW1 said there is no cascade"),
      readIsr: u8("OCW3 selected the ISR for reads"),
      autoEoi: u8("Automatic end of interrupt"),
      rotateAutoEoi: u8("Rotate on automatic EOI"),
      specialMask: u8("Special mask mode"),
      lowest: u8("Line with the lowest priority", 7),
    }, "Master and slave"),
  },
  setup({ use, provide, state, emit, wants }) {
    const { chips } = state;
    let changed = (): void => {};
    const listeners: ((line: number, level: boolean) => void)[] = [];

    /** Highest-priority set line of `bits` in the chip's rotation, or -1. */
    const first = (chip: number, bits: number): number => {
      for (let i = 1; i <= 8; i++) {
        const line = (chips[chip].lowest + i) & 7;
        if (bits & 1 << line) return line;
      }
      return -1;
    };
    const rank = (chip: number, line: number): number =>
      (line - chips[chip].lowest - 1) & 7;
    /** Line that the chip requests now, or -1. */
    const requested = (chip: number): number => {
      const c = chips[chip];
      const line = first(chip, c.irr & ~c.imr);
      if (line < 0) return -1;
      const masked = c.specialMask ? c.isr & ~c.imr : c.isr;
      const serving = first(chip, masked);
      return serving < 0 || rank(chip, line) < rank(chip, serving) ? line : -1;
    };
    const cascade = (): void => {
      const bit = 1 << CASCADE_LINE;
      if (requested(SLAVE) >= 0) chips[MASTER].irr |= bit;
      else chips[MASTER].irr &= ~bit;
    };
    const update = (): void => {
      cascade();
      changed();
    };
    const drive = (line: number, level: boolean): void => {
      const was = (state.levels & 1 << line) !== 0;
      if (was === level) return;
      state.levels ^= 1 << line;
      if (wants(IrqLineChanged)) emit(IrqLineChanged, { line, level });
      if (line < 16) {
        const c = chips[line >> 3];
        const bit = 1 << (line & 7);
        if (level) c.irr |= bit;
        // An edge request also ends when its line falls before INTA (data sheet, "IR triggering").
        else c.irr &= ~bit;
        update();
      }
      for (const listener of listeners) listener(line, level);
    };
    /** INTA at one chip. @returns line, or -1 when spurious */
    const serve = (chip: number): number => {
      const c = chips[chip];
      const line = requested(chip);
      if (line < 0) return -1;
      const level = c.elcr & 1 << line || (chip === MASTER &&
        line === CASCADE_LINE);
      if (!level) c.irr &= ~(1 << line);
      if (!c.autoEoi) c.isr |= 1 << line;
      else if (c.rotateAutoEoi) c.lowest = line;
      return line;
    };
    const end = (chip: number, line: number, rotate: boolean): void => {
      if (line < 0) return;
      chips[chip].isr &= ~(1 << line);
      if (rotate) chips[chip].lowest = line;
    };

    const command = (chip: number, value: number): void => {
      const c = chips[chip];
      if (value & 0x10) { // ICW1
        Object.assign(c, {
          irr: 0,
          isr: 0,
          imr: 0,
          autoEoi: 0,
          rotateAutoEoi: 0,
          specialMask: 0,
          readIsr: 0,
          lowest: 7,
          icw: 2,
          needsIcw4: value & 1,
          single: value & 2,
        });
        // Level-triggered lines that are high request again at once.
        c.irr = (state.levels >> chip * 8) & c.elcr;
      } else if (value & 0x08) { // OCW3
        if (value & 4) throw new NotModelled("8259 poll command", DATA_SHEET);
        if (value & 2) c.readIsr = value & 1;
        if (value & 0x40) c.specialMask = value & 0x20;
      } else { // OCW2
        const rotate = (value & 0x80) !== 0;
        const specific = (value & 0x40) !== 0;
        const line = value & 7;
        if (value & 0x20) {
          // In special mask mode a masked ISR bit is out of reach of it.
          const reach = c.specialMask ? c.isr & ~c.imr : c.isr;
          end(chip, specific ? line : first(chip, reach), rotate);
        } else if (rotate && specific) c.lowest = line;
        else if (!specific) c.rotateAutoEoi = rotate ? 1 : 0;
      }
      update();
    };
    const data = (chip: number, value: number): void => {
      const c = chips[chip];
      switch (c.icw) {
        case 0:
          c.imr = value;
          break;
        case 2:
          c.base = value & 0xf8;
          c.icw = c.single ? (c.needsIcw4 ? 4 : 0) : 3;
          break;
        case 3:
          c.icw = c.needsIcw4 ? 4 : 0;
          break;
        case 4:
          if (value & 0x10) {
            throw new NotModelled("8259 special fully nested mode", DATA_SHEET);
          }
          c.autoEoi = value & 2;
          c.icw = 0;
      }
      update();
    };

    [0x20, 0xa0].forEach((port, chip) => {
      use.devices.ports("pic8259", port, port + 1, {
        in: (at) => {
          const c = chips[chip];
          if (at & 1) return c.imr;
          return c.readIsr ? c.isr : c.irr;
        },
        out: (at, _size, value) => {
          if (at & 1) data(chip, value & 0xff);
          else command(chip, value & 0xff);
        },
      });
    });
    use.devices.ports("pic8259", 0x4d0, 0x4d1, {
      in: (at) => chips[at & 1].elcr,
      out: (at, _size, value) => {
        // IRQ 0, 1, 2, 8 and 13 are always edge-triggered on a PC.
        const c = chips[at & 1];
        c.elcr = value & (at & 1 ? 0xde : 0xf8);
        c.irr |= (state.levels >> (at & 1) * 8) & c.elcr;
        update();
      },
    });

    provide.lines({
      set: drive,
      connect: (handler) => void listeners.push(handler),
    });
    provide.output({
      get asserted() {
        return requested(MASTER) >= 0;
      },
      acknowledge() {
        const line = serve(MASTER);
        let vector = chips[MASTER].base + (line < 0 ? 7 : line);
        if (line === CASCADE_LINE) {
          const slave = serve(SLAVE);
          vector = chips[SLAVE].base + (slave < 0 ? 7 : slave);
        }
        update();
        return vector;
      },
      connect(handler) {
        changed = handler;
      },
    });
    return undefined;
  },
});
