/**
 * What the runtimes of all modes share: device set-up, the serial handler and
 * the places of variables in their assembly text.
 */
import { AT, VAR } from "./places.ts";

/** Address of a variable, as the assembler reads it. */
export const V = (name: keyof typeof VAR): string =>
  `0x${(AT.vars + VAR[name]).toString(16)}`;

/** 8259 pair at 0x20 and 0x28 with IRQ 0 and 4 open, 8254, 16550. */
export const DEVICES = `
%macro outb 2
  mov dx, %1
  mov al, %2
  out dx, al
%endmacro
  outb 0x20, 0x11
  outb 0xa0, 0x11
  outb 0x21, 0x20
  outb 0xa1, 0x28
  outb 0x21, 4
  outb 0xa1, 2
  outb 0x21, 1
  outb 0xa1, 1
  outb 0x21, 0xee
  outb 0xa1, 0xff
  outb 0x43, 0x34
  outb 0x40, 2
  outb 0x40, 0
  outb 0x3f9, 1
  outb 0x3fc, 8
`;

/** Body of the serial interrupt's handler: echoes a byte, ends the interrupt. */
export const SERIAL = `
  mov dx, 0x3fd
  in al, dx
  test al, 1
  jz .empty
  mov dx, 0x3f8
  in al, dx
  out dx, al
.empty:
  mov al, 0x20
  out 0x20, al
`;
