/** What the chipset tells other firmware: that there is PCI. */
import { defineService } from "../../core/mod.ts";

/** A PCI host bridge with configuration mechanism #1. */
export interface PciHostBridge {
  /** Buses behind it are numbered from here. */
  readonly firstBus: number;
}
/** Token of the bridge. */
export const PciHost = defineService<PciHostBridge>("i440fx.host", {
  doc: "PCI configuration space",
});
