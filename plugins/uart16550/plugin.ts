/**
 * 16550A UART (PC16550D data sheet). Transmission takes no virtual time: THRE
 * and TEMT are always set. Received bytes wait in an unbounded queue, of which
 * the receiver FIFO is the head: only a FIFO reset by the guest drops bytes, at
 * most those in the FIFO. Modem lines: DCD, DSR and CTS asserted; in loopback
 * (MCR bit 4) the guest reads what it sent and the host's bytes wait. The last
 * bytes sent are a cell, so that any keyframe has the console of its moment.
 */
import {
  arrayOf,
  bytesOf,
  definePlugin,
  optional,
  u16,
  u53,
  u8,
} from "../../core/mod.ts";
import { Devices } from "../../cpu/devices.ts";
import { Irq } from "../pic8259/api.ts";
import {
  CONSOLE_BYTES,
  UartConsole,
  UartConsumed,
  UartReceived,
  UartSent,
} from "./api.ts";

/** Register numbers. */
const REG = { Data: 0, Ier: 1, Iir: 2, Lcr: 3, Mcr: 4, Lsr: 5, Msr: 6, Scr: 7 };
const IER = { Received: 1, Transmit: 2, Line: 4, Modem: 8 };
const MCR_LOOP = 0x10;
const MCR_OUT2 = 0x08;
const LSR_IDLE = 0x60;
const MODEM_LINES = 0xb0;
const FIFO_BYTES = 16;

/** Serial port. */
export const uart16550 = definePlugin({
  name: "uart16550",
  version: "1.0.0",
  doc: "16550A serial port",
  role: "participant",
  options: {
    port: u16("First of its eight I/O ports", 0x3f8),
    irq: u8("Interrupt request line", 4),
  },
  needs: { devices: Devices, lines: optional(Irq) },
  provides: { console: UartConsole },
  emits: [UartSent, UartConsumed],
  state: {
    received: arrayOf(u8("Byte"), "Received and not read"),
    looped: arrayOf(u8("Byte"), "Sent in loopback and not read"),
    ier: u8("Interrupt enable"),
    lcr: u8("Line control"),
    mcr: u8("Modem control"),
    scratch: u8("Scratch"),
    fifo: u8("FIFO control"),
    divisorLow: u8("Divisor latch, low", 12),
    divisorHigh: u8("Divisor latch, high"),
    transmitPending: u8("A transmitter-empty interrupt was not yet seen"),
    sent: u53("Bytes sent since reset"),
    console: bytesOf(CONSOLE_BYTES, "The last of them: byte n at n mod length"),
  },
  setup({ use, options, state, emit, on, provide }) {
    const loop = (): boolean => (state.mcr & MCR_LOOP) !== 0;
    /** Bytes that the guest can read. */
    const waiting = (): number =>
      state.looped.length + (loop() ? 0 : state.received.length);
    /** Receiver FIFO trigger level (FCR bits 7:6). */
    const trigger = (): number =>
      state.fifo & 1 ? [1, 4, 8, FIFO_BYTES - 2][state.fifo >> 6] : 1;
    /**
     * Interrupt identification: priority order of the data sheet, table II.
     * Fewer bytes than the trigger level are a character timeout at once.
     */
    const identify = (): number => {
      if (state.ier & IER.Received && waiting() > 0) {
        return waiting() >= trigger() ? 0x04 : 0x0c;
      }
      if (state.ier & IER.Transmit && state.transmitPending) return 0x02;
      return 0x01;
    };
    const update = (): void => {
      const asserted = identify() !== 0x01 && (state.mcr & MCR_OUT2) !== 0;
      use.lines?.set(options.irq, asserted);
    };
    const transmit = (byte: number): void => {
      if (loop()) state.looped.push(byte);
      else {
        state.console[state.sent++ % CONSOLE_BYTES] = byte;
        emit(UartSent, { byte });
      }
      state.transmitPending = 1;
    };
    const receive = (): number => {
      if (state.looped.length > 0) return state.looped.shift() ?? 0;
      if (loop() || state.received.length === 0) return 0;
      const byte = state.received.shift() ?? 0;
      emit(UartConsumed, { byte });
      return byte;
    };
    const modemStatus = (): number => {
      if (!loop()) return MODEM_LINES;
      // Loopback: DTR→DSR, RTS→CTS, OUT1→RI, OUT2→DCD.
      return (state.mcr & 1) << 5 | (state.mcr & 2) << 3 |
        (state.mcr & 4) << 4 | (state.mcr & 8) << 4;
    };
    const read = (register: number): number => {
      const divisor = (state.lcr & 0x80) !== 0;
      switch (register) {
        case REG.Data:
          return divisor ? state.divisorLow : receive();
        case REG.Ier:
          return divisor ? state.divisorHigh : state.ier;
        case REG.Iir: {
          const id = identify();
          if (id === 0x02) state.transmitPending = 0;
          return id | (state.fifo & 1 ? 0xc0 : 0);
        }
        case REG.Lcr:
          return state.lcr;
        case REG.Mcr:
          return state.mcr;
        case REG.Lsr:
          return LSR_IDLE | (waiting() > 0 ? 1 : 0);
        case REG.Msr:
          return modemStatus();
        default:
          return state.scratch;
      }
    };
    const write = (register: number, value: number): void => {
      const divisor = (state.lcr & 0x80) !== 0;
      switch (register) {
        case REG.Data:
          if (divisor) state.divisorLow = value;
          else transmit(value);
          break;
        case REG.Ier:
          if (divisor) state.divisorHigh = value;
          else {
            // Enabling THRE while the holding register is empty interrupts at once.
            if (value & IER.Transmit && !(state.ier & IER.Transmit)) {
              state.transmitPending = 1;
            }
            state.ier = value & 0x0f;
          }
          break;
        case REG.Iir:
          if (value & 2) {
            const held = state.fifo & 1 ? FIFO_BYTES : 1;
            for (let i = 0; i < held; i++) state.received.shift();
            state.looped.clear();
          }
          state.fifo = value & 1 ? value & 0xc9 : 0;
          break;
        case REG.Lcr:
          state.lcr = value;
          break;
        case REG.Mcr:
          state.mcr = value & 0x1f;
          break;
        case REG.Scr:
          state.scratch = value;
      }
    };
    use.devices.ports("uart16550", options.port, options.port + 7, {
      in(port) {
        const value = read(port - options.port);
        update();
        return value;
      },
      out(port, _size, value) {
        write(port - options.port, value & 0xff);
        update();
      },
    });
    provide.console({
      tail() {
        const held = Math.min(state.sent, CONSOLE_BYTES);
        return Uint8Array.from(
          { length: held },
          (_, i) => state.console[(state.sent - held + i) % CONSOLE_BYTES],
        );
      },
      get sent() {
        return state.sent;
      },
      get hears() {
        return (state.ier & IER.Received) !== 0 &&
          (state.mcr & MCR_OUT2) !== 0 && !loop();
      },
    });
    on(UartReceived, ({ bytes }) => {
      for (const byte of bytes) state.received.push(byte);
      update();
    });
    return undefined;
  },
});
