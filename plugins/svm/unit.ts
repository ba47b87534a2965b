/**
 * The SVM unit of a machine. No architectural state lives here: that is in the
 * register page (scratch.ts), in VMCBs and in the host save area.
 */
import type { CpuModel } from "../../cpu/arch/models.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { EventRequest, Interruptibility } from "../../cpu/layout.ts";
import { IntCtl } from "./controls.ts";
import type { SvmRootOwner } from "./api.ts";
import { hasFlag, SCRATCH, SvmFlag } from "./scratch.ts";

/** What the unit asks of the machine around it. */
export interface UnitPort {
  /** Ends silent-access grants: translations may have changed. */
  dropGrants(cpu: number): void;
}

/** See the file header. */
export class SvmUnit {
  /** Counts #VMEXITs, to notice one inside a delivery. */
  exits = 0;
  owner: SvmRootOwner | undefined;
  /** Per vCPU: the owner is running; an exit now is its next call. */
  readonly ownerRuns: boolean[] = [];
  readonly ownerDue: boolean[] = [];
  /** General registers of the guest when the owner was called. */
  readonly registers: bigint[] = new Array(16).fill(0n);

  constructor(
    readonly model: CpuModel,
    readonly port: UnitPort,
  ) {}

  /** Whether #VMEXITs of this vCPU go to the root owner. */
  owned(cpu: CpuContext): boolean {
    return hasFlag(cpu.v, SvmFlag.RootOwned);
  }

  /** Asks for boundary checks while a virtual interrupt or NMI is pending. */
  request(cpu: CpuContext): void {
    const { v } = cpu;
    const intCtl = v.word(SCRATCH.intCtl);
    const virtualNmi = IntCtl.Nmi | IntCtl.NmiEnable;
    if (intCtl & IntCtl.Irq || (intCtl & virtualNmi) === virtualNmi) {
      v.eventRequest |= EventRequest.Virtualization;
    } else v.eventRequest &= ~EventRequest.Virtualization;
    cpu.attention = true;
  }

  /** A virtual NMI reached its handler: V_NMI_MASK stands for NMI blocking. */
  virtualNmiTaken(cpu: CpuContext): void {
    const { v } = cpu;
    v.interruptibility &= ~Interruptibility.ByNmi;
    v.setWord(SCRATCH.intCtl, v.word(SCRATCH.intCtl) | IntCtl.NmiMask);
  }
}
