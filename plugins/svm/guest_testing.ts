/**
 * Test companion: an assembled host that runs one VMCB, through loop, decoder,
 * MMU and the reference engine, and then halts; tests look at the VMCB and may
 * run it again.
 */
import type { PayloadOf } from "../../core/event.ts";
import { Efer } from "../../cpu/arch/flags.ts";
import { ActivityState } from "../../cpu/layout.ts";
import { PLACE, TestMachine } from "../../tests/support/machine.ts";
import { SvmEntered, SvmEntryFailed, SvmExited } from "./api.ts";
import { svm } from "./plugin.ts";
import { SCRATCH } from "./scratch.ts";
import { Control, Save, Vmcb } from "./vmcb.ts";
import { longGuest, type VmcbDraft } from "./vmcb_testing.ts";

/** Where the guests keep things. */
export const AT = {
  hsave: 0x30000,
  vmcb: 0x31000,
  /** Three pages. */
  iopm: 0x20000,
  /** Two pages. */
  msrpm: 0x24000,
  guestStack: 0x28000,
  /** A page that tests use as they like. */
  data: 0x60000,
} as const;

/** What a run changes. */
export interface GuestOptions {
  readonly model?: string;
  /** The VMCB before the first VMRUN. */
  readonly vmcb?: (d: VmcbDraft, machine: TestMachine) => unknown;
  /** Host code before VMRUN, with the VMCB's address in RAX. */
  readonly before?: string;
  /** Host code after #VMEXIT. */
  readonly after?: string;
  readonly setup?: (machine: TestMachine) => void;
}

/** See the file header. */
export class SvmGuest {
  readonly machine: TestMachine;
  readonly vmcb: Vmcb;
  readonly entered: PayloadOf<typeof SvmEntered>[];
  readonly exited: PayloadOf<typeof SvmExited>[];
  readonly failed: PayloadOf<typeof SvmEntryFailed>[];

  /** @param guest code at the label `guest` */
  constructor(guest: string, options: GuestOptions = {}) {
    const source = `
start:
  mov rax, ${AT.vmcb}
  ${options.before ?? ""}
vmrun_at:
  vmrun rax
exit:
  ${options.after ?? ""}
  hlt
guest:
  ${guest}
`;
    this.machine = new TestMachine(source, {
      model: options.model ?? "max-amd",
      plugins: [{ plugin: svm }],
      constants: { DATA: BigInt(AT.data) },
    });
    const { machine } = this;
    const { v, hardware } = machine;
    v.efer |= Efer.SVME;
    v.setQuad(SCRATCH.hsave, BigInt(AT.hsave));
    const draft = longGuest(v.cr3);
    draft.set(Control.iopmBase, AT.iopm).set(Control.msrpmBase, AT.msrpm);
    draft.set(Save.rip, machine.at("guest")).set(Save.rsp, AT.guestStack);
    draft.set(Save.idtr + 8, PLACE.idt).set32(Save.idtr + 4, 0xfff);
    draft.set(Save.gdtr + 8, PLACE.gdt).set32(Save.gdtr + 4, v.gdtrLimit);
    options.vmcb?.(draft, machine);
    draft.store(hardware.physical, AT.vmcb);
    this.vmcb = new Vmcb(hardware.physical, AT.vmcb);
    options.setup?.(machine);
    this.entered = machine.collect(SvmEntered);
    this.exited = machine.collect(SvmExited);
    this.failed = machine.collect(SvmEntryFailed);
    machine.run(5000);
  }

  /** Runs the VMCB again from `start`. */
  again(): this {
    const { v } = this.machine;
    v.rip = BigInt(this.machine.at("start"));
    v.activity = ActivityState.Active;
    this.machine.run(5000);
    return this;
  }

  /** EXITCODE of the last #VMEXIT. */
  get code(): number {
    return Number(BigInt.asIntN(64, this.vmcb.read(Control.exitCode)));
  }
  get info1(): bigint {
    return this.vmcb.read(Control.exitInfo1);
  }
  get info2(): bigint {
    return this.vmcb.read(Control.exitInfo2);
  }
  label(name: string): bigint {
    return BigInt(this.machine.at(name));
  }
}
