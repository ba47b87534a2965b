/**
 * What the 8259 pair offers: the machine's interrupt lines for devices (the
 * ISA's sixteen, which the pair listens to, and the IOAPIC's other eight), and
 * its INTR output for whoever stands next to the vCPU.
 */
import { bool, defineEvent, defineService, u8 } from "../../core/mod.ts";

/** Interrupt lines: 0–15 of the ISA bus, 16–23 of the IOAPIC alone. */
export interface IrqLines {
  /** Drives a line; edge or level behaviour is the controllers'. */
  set(line: number, level: boolean): void;
  /** Calls `handler` whenever a line changes its level: another controller. */
  connect(handler: (line: number, level: boolean) => void): void;
}
/** Token of the lines. */
export const Irq = defineService<IrqLines>("pic8259.lines", {
  doc: "Interrupt request lines",
});

/** Interrupt lines of a PC: as many as an IOAPIC has. */
export const IRQ_LINES = 24;

/** The pair's INTR output and its INTA cycle. */
export interface PicOutput {
  readonly asserted: boolean;
  /** INTA: vector of the request now in service (spurious: IRQ7's or IRQ15's). */
  acknowledge(): number;
  /** Called whenever `asserted` may have changed. */
  connect(changed: () => void): void;
}
/** Token of the output. */
export const Pic = defineService<PicOutput>("pic8259.output", {
  doc: "INTR output of the 8259 pair and its INTA cycle",
});

/** A request line changed its level. */
export const IrqLineChanged = defineEvent({
  name: "pic8259.line-changed",
  version: 1,
  kind: "fact",
  detail: "full",
  doc: "An interrupt request line changed its level",
  fields: { line: u8("0 to 23"), level: bool("Asserted") },
});
