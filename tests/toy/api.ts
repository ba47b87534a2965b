/**
 * The toy machine's vocabulary: a 32-bit byte-code machine that is nothing
 * like x86, so that core/ is tested without it. Registers r0 to r7, a program
 * counter, one interrupt vector, 16 I/O ports answered by plugins.
 */
import {
  bytes,
  defineEvent,
  defineHook,
  defineService,
  u32,
  u8,
} from "../../core/mod.ts";

/** Hot: one instruction retired. */
export const ToyRetired = defineEvent({
  name: "toy.retired",
  version: 1,
  kind: "fact",
  doc: "An instruction retired",
  fields: { pc: u32("Its address"), op: u8("Its operation code") },
  hot: true,
});
/** Hot: one word of RAM was written. */
export const ToyWrote = defineEvent({
  name: "toy.wrote",
  version: 1,
  kind: "fact",
  doc: "A word of RAM was written",
  fields: {
    address: u32("Byte address, a multiple of 4"),
    old: u32("Word before"),
    value: u32("Word after"),
  },
  hot: true,
});
/** The program wrote to a port. */
export const ToyPortWritten = defineEvent({
  name: "toy.port-written",
  version: 1,
  kind: "fact",
  doc: "The program wrote to an I/O port",
  fields: { port: u8("Port"), value: u32("What was written") },
});
/** The program read a port. */
export const ToyPortRead = defineEvent({
  name: "toy.port-read",
  version: 1,
  kind: "fact",
  doc: "The program read an I/O port",
  fields: { port: u8("Port"), value: u32("What it got") },
});
/** An interrupt was delivered; it counts as a step. */
export const ToyInterrupted = defineEvent({
  name: "toy.interrupted",
  version: 1,
  kind: "fact",
  doc: "An interrupt was delivered",
  fields: { line: u8("Its line"), pc: u32("Where the program was") },
});

/** Bytes for the serial port, from outside. */
export const ToySerialReceived = defineEvent({
  name: "toy-serial.received",
  version: 1,
  kind: "input",
  doc: "Bytes arrived on the serial line",
  fields: { bytes: bytes("What arrived") },
});
/** The program sent a byte. */
export const ToySerialSent = defineEvent({
  name: "toy-serial.sent",
  version: 1,
  kind: "fact",
  doc: "The program sent a byte on the serial line",
  fields: { byte: u8("The byte") },
});
/** The timer ticked. */
export const ToyTicked = defineEvent({
  name: "toy-timer.ticked",
  version: 1,
  kind: "fact",
  doc: "The timer ticked and raised its line",
  fields: { count: u32("Ticks so far") },
});

/** Answered by the device behind a port; unanswered reads give all ones. */
export const ToyReadPort = defineHook<{ readonly port: number }, number>({
  name: "toy.read-port",
  combine: "first",
});
/** Answered with true by the device behind a port. */
export const ToyWritePort = defineHook<
  { readonly port: number; readonly value: number },
  true
>({ name: "toy.write-port", combine: "first" });
/** Every plugin may change what a read gives; folds from 0. */
export const ToyReadMask = defineHook<{ readonly port: number }, number>({
  name: "toy.read-mask",
  combine: "fold",
  initial: 0,
});

/** Raises interrupt lines. */
export interface ToyInterrupts {
  /** @param line 0 to 31 */
  raise(line: number): void;
}
export const ToyInterruptsService = defineService<ToyInterrupts>(
  "toy.interrupts",
);

/** Reads RAM. */
export interface ToyMemory {
  read32(address: number): number;
}
export const ToyMemoryService = defineService<ToyMemory>("toy.memory", {
  observable: true,
});
