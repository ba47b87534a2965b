/**
 * Test companion: an assembled L1 that turns VMX on, builds a VMCS from a table
 * and runs the test's L2; its exit handler logs what the hardware reports and
 * resumes, through loop, decoder, MMU and the reference engine.
 */
import type { PayloadOf } from "../../core/event.ts";
import { Cr4 } from "../../cpu/arch/flags.ts";
import { MsrSlot } from "../../cpu/arch/msr.ts";
import { PLACE, SELECTOR, TestMachine } from "../../tests/support/machine.ts";
import { VmxEntered, VmxExited } from "./api.ts";
import { capabilitiesOf } from "./capabilities.ts";
import { Entry, Exit, Primary, Secondary } from "./controls.ts";
import { vmx } from "./plugin.ts";
import { VmcsField as F } from "./vmcs_fields.ts";

/** Where the guests keep things. */
export const AT = {
  /** Pairs of field and value for L1 to write, ended by a zero field. */
  fields: 0x20000,
  log: 0x24000,
  vmxon: 0x30000,
  vmcs: 0x31000,
  msrBitmap: 0x32000,
  eptList: 0x33000,
  /** EPT: identity, 4-KiB pages for the first 2 MiB. */
  ept: 0x40000,
  hostStack: 0x50000,
  /** A page that tests map as they like. */
  probe: 0x60000,
} as const;

/** Words of one log entry, in the order of LOGGED. */
const LOGGED = [
  F.ExitReason,
  F.ExitQualification,
  F.ExitInstructionLength,
  F.GuestRip,
  F.ExitInterruptionInformation,
  F.GuestPhysicalAddress,
  F.GuestLinearAddress,
  F.IdtVectoringInformation,
];

/** L1: `l2` and what follows is the test's. */
const L1 = `
  vmxon [vmxon_pointer]
  jbe failed
  vmclear [vmcs_pointer]
  jbe failed
  vmptrld [vmcs_pointer]
  jbe failed
  mov rsi, FIELDS
next_field:
  mov rax, [rsi]
  test rax, rax
  jz written
  vmwrite rax, [rsi + 8]
  jbe failed
  add rsi, 16
  jmp next_field
written:
  vmlaunch
failed:
  pushfq
  pop [flags]
  mov eax, 0x4400
  vmread [error], rax
  hlt

; HOST_RIP
exit:
  push rax
  push rbx
  push rsi
  push rdi
  mov rdi, [log_pointer]
  mov rsi, LOGGED_LIST
log_field:
  mov eax, [rsi]
  test eax, eax
  jz logged
  vmread [rdi], rax
  add rdi, 8
  add rsi, 4
  jmp log_field
logged:
  mov rbx, [log_pointer]
  mov [log_pointer], rdi
  mov eax, [rbx]
  cmp eax, 18             ; VMCALL ends the run
  je finished
  cmp eax, 48             ; EPT violation: open the page and retry
  je open_page
  cmp eax, 0
  je finished
  mov eax, 0x681e
  vmread rsi, rax
  add rsi, [rbx + 16]
  vmwrite rax, rsi
  jmp resume
open_page:
  mov rax, [rbx + 40]
  shr rax, 12
  mov rsi, EPT_PT
  or qword ptr [rsi + rax * 8], 7 + 0x400
  mov eax, 2
  invept rax, [zeros]
resume:
  pop rdi
  pop rsi
  pop rbx
  pop rax
  vmresume
  jmp failed
finished:
  hlt
  jmp finished

vmxon_pointer: dq VMXON
vmcs_pointer: dq VMCS
log_pointer: dq LOG
flags: dq 0
error: dq 0
zeros: dq 0, 0
l2:
`;

/** What a run changes. */
export interface RunOptions {
  readonly model?: string;
  /** Changes to the VMCS before L1 writes it. */
  readonly vmcs?: (
    set: (field: number, value: bigint | number) => void,
  ) => void;
  /** EPT leaf of the page at AT.probe. */
  readonly probe?: bigint;
  readonly memory?: (machine: TestMachine) => void;
}

/** One exit as L1 saw it. */
export interface LogEntry {
  readonly reason: number;
  readonly qualification: bigint;
  readonly length: number;
  readonly rip: bigint;
  readonly interruption: number;
  readonly guestPhysical: bigint;
  readonly guestLinear: bigint;
  readonly vectoring: number;
}

/** An assembled L1 with its L2, run to the end. */
export class Run {
  readonly machine: TestMachine;
  readonly log: LogEntry[] = [];
  readonly exits: PayloadOf<typeof VmxExited>[];
  readonly entries: PayloadOf<typeof VmxEntered>[];

  constructor(l2: string, options: RunOptions = {}) {
    const listAt = AT.fields + 0x3800;
    this.machine = new TestMachine(L1 + l2, {
      model: options.model ?? "max-intel",
      plugins: [{ plugin: vmx }],
      constants: {
        FIELDS: BigInt(AT.fields),
        LOG: BigInt(AT.log),
        VMXON: BigInt(AT.vmxon),
        VMCS: BigInt(AT.vmcs),
        EPT_PT: BigInt(AT.ept + 0x3000),
        LOGGED_LIST: BigInt(listAt),
        PROBE: BigInt(AT.probe),
      },
    });
    const { machine } = this;
    const { physical, model } = machine.hardware;
    machine.v.cr4 |= Cr4.VMXE;
    machine.v.setMsr(MsrSlot.FeatureControl, 5n);
    for (const region of [AT.vmxon, AT.vmcs]) {
      physical.writeU32(region, model.vmcsRevision);
    }
    LOGGED.forEach((f, i) => physical.writeU32(listAt + i * 4, f));
    const fields = this.fields(options);
    let at: number = AT.fields;
    for (const [field, value] of fields) {
      physical.writeU64(at, BigInt(field));
      physical.writeU64(at + 8, value);
      at += 16;
    }
    this.buildEpt(options.probe ?? 0x437n);
    options.memory?.(machine);
    this.exits = machine.collect(VmxExited);
    this.entries = machine.collect(VmxEntered);
    machine.run(20_000);
    const end = Number(machine.word(machine.at("log_pointer")));
    for (let e: number = AT.log; e < end; e += LOGGED.length * 8) {
      const word = (i: number): bigint => machine.word(e + i * 8);
      this.log.push({
        reason: Number(word(0)),
        qualification: word(1),
        length: Number(word(2)),
        rip: word(3),
        interruption: Number(word(4)),
        guestPhysical: word(5),
        guestLinear: word(6),
        vectoring: Number(word(7)),
      });
    }
  }

  private buildEpt(probe: bigint): void {
    const { physical } = this.machine.hardware;
    const { ept } = AT;
    for (let i = 0; i < 3; i++) {
      physical.writeU64(
        ept + i * 0x1000,
        BigInt(ept + (i + 1) * 0x1000) | 0x407n,
      );
    }
    for (let i = 0; i < 512; i++) {
      physical.writeU64(ept + 0x3000 + i * 8, BigInt(i * 4096) | 0x437n);
    }
    const frame = BigInt(AT.probe);
    physical.writeU64(
      ept + 0x3000 + (AT.probe >> 12) * 8,
      frame | probe,
    );
  }

  private fields(options: RunOptions): Map<number, bigint> {
    const { machine } = this;
    const c = capabilitiesOf(machine.hardware.model);
    const { v } = machine;
    const fields = new Map<number, bigint>();
    const set = (field: number, value: bigint | number): void => {
      fields.set(
        field,
        typeof value === "number" ? BigInt(value >>> 0) : value,
      );
    };
    set(F.PinControls, c.pin.must1);
    set(F.PrimaryControls, c.primary.must1 | Primary.SecondaryControls);
    set(F.SecondaryControls, Secondary.Ept);
    set(F.ExitControls, c.exit.must1 | Exit.HostAddressSpaceSize);
    set(F.EntryControls, c.entry.must1 | Entry.Ia32eModeGuest);
    set(F.Eptp, AT.ept | 0x1e);
    set(F.VmcsLinkPointer, 0xffff_ffff_ffff_ffffn);
    const cr4 = v.cr4 | Cr4.VMXE;
    for (const cr0 of [F.HostCr0, F.GuestCr0]) set(cr0, v.cr0);
    for (const cr3 of [F.HostCr3, F.GuestCr3]) set(cr3, v.cr3);
    for (const f of [F.HostCr4, F.GuestCr4]) set(f, cr4);
    set(F.HostCsSelector, SELECTOR.code64);
    set(F.HostTrSelector, SELECTOR.tss);
    set(F.HostSsSelector, SELECTOR.data);
    set(F.HostTrBase, PLACE.tss);
    set(F.HostGdtrBase, v.gdtrBase);
    set(F.HostIdtrBase, v.idtrBase);
    set(F.HostRsp, AT.hostStack);
    set(F.HostRip, BigInt(machine.at("exit")));
    set(F.GuestCsSelector, SELECTOR.code64);
    set(F.GuestCsLimit, 0xffff_ffff);
    set(F.GuestCsAttributes, 0xa09b);
    for (
      const [sel, limit, rights] of [
        [F.GuestSsSelector, F.GuestSsLimit, F.GuestSsAttributes],
        [F.GuestDsSelector, F.GuestDsLimit, F.GuestDsAttributes],
        [F.GuestEsSelector, F.GuestEsLimit, F.GuestEsAttributes],
        [F.GuestFsSelector, F.GuestFsLimit, F.GuestFsAttributes],
        [F.GuestGsSelector, F.GuestGsLimit, F.GuestGsAttributes],
      ]
    ) {
      set(sel, SELECTOR.data);
      set(limit, 0xffff_ffff);
      set(rights, 0xc093);
    }
    set(F.GuestLdtrAttributes, 0x1_0000);
    set(F.GuestTrSelector, SELECTOR.tss);
    set(F.GuestTrBase, PLACE.tss);
    set(F.GuestTrLimit, 0x67);
    set(F.GuestTrAttributes, 0x8b);
    set(F.GuestGdtrBase, v.gdtrBase);
    set(F.GuestGdtrLimit, v.gdtrLimit);
    set(F.GuestIdtrBase, v.idtrBase);
    set(F.GuestIdtrLimit, v.idtrLimit);
    set(F.GuestRsp, PLACE.innerStack);
    set(F.GuestRip, BigInt(machine.at("l2")));
    set(F.GuestRflags, 2);
    set(F.GuestDr7, 0x400);
    options.vmcs?.((field, value) => {
      const known = fields.get(field) ?? 0n;
      set(
        field,
        typeof value === "bigint" ? value : known | BigInt(value >>> 0),
      );
    });
    return fields;
  }

  get reasons(): number[] {
    return this.log.map((e) => e.reason);
  }
  label(name: string): bigint {
    return BigInt(this.machine.at(name));
  }
}
