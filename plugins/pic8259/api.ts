/**
 * What the 8259 pair offers: sixteen request lines for devices, and its INTR
 * output for whoever stands next to the vCPU.
 */
import { bool, defineEvent, defineService, u8 } from "../../core/mod.ts";

/** ISA interrupt request lines 0–15. */
export interface IrqLines {
  /** Drives a line; edge or level behaviour is the controller's (ELCR). */
  set(line: number, level: boolean): void;
}
/** Token of the request lines. */
export const Irq = defineService<IrqLines>("pic8259.lines", {
  doc: "ISA interrupt request lines",
});

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
  doc: "An ISA interrupt request line changed its level",
  fields: { line: u8("0 to 15"), level: bool("Asserted") },
});
