/** Events of the 16550 serial port: bytes out, bytes in; and its console. */
import { bytes, defineEvent, defineService, u8 } from "../../core/mod.ts";

/** What the guest sent lately, as machine state. */
export interface UartConsoleService {
  /** The last bytes sent, oldest first: at most {@link CONSOLE_BYTES}. */
  tail(): Uint8Array;
  /** Bytes sent since reset. */
  readonly sent: number;
  /** Whether a byte from outside would raise an interrupt. */
  readonly hears: boolean;
}

/** Bytes that the console remembers. */
export const CONSOLE_BYTES = 2048;

/** The console of the serial port: the same from whichever keyframe. */
export const UartConsole = defineService<UartConsoleService>("uart.console", {
  doc: "The last bytes that the guest sent",
  observable: true,
});

/** The guest sent a byte. */
export const UartSent = defineEvent({
  name: "uart.sent",
  version: 1,
  kind: "fact",
  doc: "The guest transmitted a byte on the serial port",
  fields: { byte: u8("Byte") },
});

/** Bytes for the guest arrived from outside. */
export const UartReceived = defineEvent({
  name: "uart.received",
  version: 1,
  kind: "input",
  doc: "Bytes arrived at the serial port from outside",
  fields: { bytes: bytes("Bytes, in order") },
});

/** The guest read a received byte. */
export const UartConsumed = defineEvent({
  name: "uart.consumed",
  version: 1,
  kind: "fact",
  doc: "The guest read a received byte from the serial port",
  fields: { byte: u8("Byte") },
});
