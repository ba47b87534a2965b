/** Events of the 16550 serial port: bytes out, bytes in. */
import { bytes, defineEvent, u8 } from "../../core/mod.ts";

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
