/**
 * The only way out of the fast path (design §7): what engines, the machine loop
 * and procedures ask of plugins. `cpu` declares these interfaces; plugins
 * implement them as services; host/machine.ts binds them. No interface here
 * names a plugin.
 */
import type { InterceptId } from "./arch/intercepts.ts";
import type { CpuContext } from "./context.ts";
import type { Insn } from "./isa/insn.ts";
import type { OutcomeCode } from "./isa/row.ts";

/** Why memory is touched; bits combine. */
export const Access = {
  Read: 0,
  Write: 1,
  Fetch: 2,
  /** Bits above: how the rights are judged. */
  /** Implicit supervisor access (descriptor tables, TSS, IDT): CPL is taken as 0, and SMAP ignores AC. */
  System: 4,
  /** Judge as CPL 3 whatever the CPL is. */
  User: 8,
  /** Read that will be followed by a write: judged and marked as a write. */
  ReadForWrite: 16,
  /** Introspection or debugger: no A/D bits, no TLB fill, no fact. */
  Silent: 32,
} as const;

/** Which data accesses to a page an engine may make silently. */
export const Grant = { Read: 1, Write: 2, Size: 4 } as const;

/** Implemented by the mmu plugin. */
export interface Translator {
  /**
   * Translates one linear page for an access.
   * @param linearPage linear address >> 12, unsigned 52 bits
   * @param offset byte within the page of the first byte touched
   * @returns host-physical page number, or a negative outcome:
   *   -1 with `cpu.v.pending` set (#PF, …), -2 with `cpu.v.stage2` set.
   */
  translate(
    cpu: CpuContext,
    linearPage: number,
    offset: number,
    access: number,
  ): number;
  /**
   * Whether an engine may touch the page silently for this access class from
   * now on (grant caches), given that translate just succeeded: the entry is
   * cached with its A/D bits set, and no debug register covers the page.
   */
  grantable(cpu: CpuContext, linearPage: number, access: number): boolean;
  /**
   * As grantable, of data, for a page that was just accessed.
   * @returns host-physical page × Grant.Size + Grant bits of what may be silent
   */
  grants(cpu: CpuContext, linearPage: number): number;
  /** MOV CR3/CR4/CR0, EFER writes: flushes what the manual demands (SDM 3A §4.10.4). */
  controlChanged(cpu: CpuContext, what: number, old: number, now: number): void;
  invlpg(cpu: CpuContext, linear: bigint): void;
  /** INVPCID types 0–3. */
  invpcid(cpu: CpuContext, type: number, pcid: number, linear: bigint): void;
  /** INVVPID/INVEPT/ASID flushes; see plugins/mmu/api.ts for kinds. */
  flush(
    cpu: CpuContext,
    kind: number,
    tag: number,
    root: number,
    linear: bigint,
  ): void;
  /** Loads PDPTEs for MOV CR/VM entry. @returns false with pending/stage2 set */
  loadPdptes(cpu: CpuContext, cr3: number): boolean;
  /** Guest-physical to host-physical page under stage 2, for structures the CPU reads by physical address. */
  translatePhysical(
    cpu: CpuContext,
    guestPhysicalPage: number,
    access: number,
  ): number;
}

/** What `Translator.controlChanged` reports. */
export const Control = {
  Cr0: 0,
  Cr3: 1,
  Cr4: 2,
  Efer: 3,
  /** PKRU or IA32_PKRS: grants end, the TLB stays (SDM 3A §4.6.2). */
  ProtectionKeys: 4,
} as const;
/** As `old` of Control.Cr3: bit 63 of the source asked not to flush (SDM 3A §4.10.4.1). */
export const CR3_NO_FLUSH = 1;

/** Implemented by the virtualization plugin in use (vmx or svm); absent otherwise. */
export interface VirtualizationPort {
  /**
   * Asked only in guest mode, for rows with an intercept bit, after the checks
   * that precede the intercept. True: a VM exit happened and state is replaced
   * (or L0 completed it); the instruction must do nothing more.
   * @param detail operand facts by id: MSR index, CR number | gpr << 8 …, port | size << 16 | in << 24 …
   */
  intercept(
    cpu: CpuContext,
    id: InterceptId,
    insn: Insn,
    detail: number,
  ): boolean;
  /** An exception is about to be delivered through the IDT. True: exited instead. */
  interceptException(cpu: CpuContext): boolean;
  /** INTR accepted at a boundary. True: exited (the interrupt stays pending unless acknowledged on exit). */
  interceptInterrupt(cpu: CpuContext): boolean;
  interceptNmi(cpu: CpuContext): boolean;
  interceptInit(cpu: CpuContext): boolean;
  /** SMI in guest mode (APM 2 §15.13.4). True: exited, and it stays latched. */
  interceptSmi?(cpu: CpuContext): boolean;
  /** A start-up IPI met a guest in wait-for-SIPI (SDM 3C §25.2). True: exited. */
  interceptSipi?(cpu: CpuContext, vector: number): boolean;
  /** `cpu.v.stage2` is set: EPT violation/misconfiguration or NPF. */
  stage2Fault(cpu: CpuContext): void;
  /** Triple fault in guest mode. */
  tripleFault(cpu: CpuContext): void;
  /** Task switch in guest mode. True: exited. `source`: 0 CALL 1 IRET 2 JMP 3 IDT gate. */
  interceptTaskSwitch(
    cpu: CpuContext,
    selector: number,
    source: number,
  ): boolean;
  /** Executes a VMX or SVM instruction. */
  execute(cpu: CpuContext, insn: Insn): OutcomeCode;
  /**
   * Boundary conditions of guest mode, in manual priority order around the
   * loop's own: called first with stage 0 (MTF, pending after VM entry), then 1
   * (NMI window), 2 (interrupt window), 3 (virtual interrupt, after the machine's
   * own). True: exited or delivered.
   */
  boundary(cpu: CpuContext, stage: number): boolean;
  /** Where an event being delivered was interrupted by a fault, for IDT-vectoring information. */
  delivering(cpu: CpuContext, event: DeliveredEvent | undefined): void;
  /** CR0/CR4 reads and writes in guest mode go through masks: the effective value seen/written. */
  readCr(cpu: CpuContext, which: number, value: number): number;
  /** RDTSC offset/scaling. */
  tscOffset(cpu: CpuContext, tsc: bigint): bigint;
  /** MOV to CR0/CR4 fixed-bit checks in VMX operation. True: #GP(0). */
  crRefused(cpu: CpuContext, which: number, value: number): boolean;
  /** VMX capability MSRs (480h–491h) and other MSRs of the plugin; undefined = no such MSR (#GP). */
  readMsr?(cpu: CpuContext, index: number): bigint | undefined;
  /** @returns false for #GP(0), undefined = no such MSR */
  writeMsr?(
    cpu: CpuContext,
    index: number,
    value: bigint,
  ): boolean | undefined;
  /** IRET leaves blocking by NMI alone: "NMI exiting" without virtual NMIs (SDM 3C §26.3). */
  keepsNmiBlocking?(cpu: CpuContext): boolean;
  /** MOV to CR0/CR4 in guest mode: the value with host-owned bits kept (SDM 3C §26.3). */
  writeCr?(cpu: CpuContext, which: number, value: number): number;
  /** A20M, INIT blocking …: whether INIT is blocked now. */
  initBlocked(cpu: CpuContext): boolean;
  /** Guest mode: INTR is to be offered to `interceptInterrupt` even when RFLAGS.IF = 0. */
  acceptsMaskedInterrupt?(cpu: CpuContext): boolean;
  /** GIF = 0 (APM 2 §15.17): INTR, NMI and INIT wait, breakpoint matches are discarded (quirks.ts: or not). */
  eventsHeld?(cpu: CpuContext): boolean;
  /** Guest mode: whether maskable interrupts of the machine are let in; RFLAGS.IF by default. */
  interruptsOpen?(cpu: CpuContext): boolean;
  /** MOV from CR8 in a guest with a virtual TPR; undefined = the machine's. */
  readCr8?(cpu: CpuContext): number | undefined;
  /** MOV to CR8 in a guest with a virtual TPR. @returns false = the machine's */
  writeCr8?(cpu: CpuContext, value: number): boolean;
  /** WRMSR to EFER: #GP(0) although the model has every bit of `value`. */
  eferRefused?(cpu: CpuContext, value: number): boolean;
  /** Last branches are being recorded: `executed` is to be told of each instruction. */
  branchRecords?(cpu: CpuContext): boolean;
  /** The instruction at `rip` has retired while branches are recorded; `insn` of a `call` row. */
  executed?(cpu: CpuContext, rip: bigint, insn: Insn | undefined): void;
  /** An event reached its handler; `rip` is the interrupted one. */
  eventDelivered?(cpu: CpuContext, rip: bigint): void;
  /** Whether RDTSCP, INVPCID … raise #UD in this guest although the CPU has them (secondary controls). */
  disabled?(cpu: CpuContext, id: InterceptId): boolean;
}

/**
 * A participant that stands outside the guest and looks at its exceptions
 * before the guest does (introspection). Only the level that runs on the bare
 * machine is asked here; in guest mode the exception bitmap decides.
 */
export interface ExceptionFilter {
  /**
   * `cpu.v.pending` is about to be delivered through the IDT. True: it was
   * taken, the vCPU goes on at its (changed) RIP without a step.
   */
  exception(cpu: CpuContext): boolean;
  /** IRET retired: registers are those of the code returned to. */
  returned(cpu: CpuContext): void;
  /**
   * EventRequest.Introspection is set; asked after traps and before NMIs.
   * True: an event was delivered.
   */
  boundary(cpu: CpuContext): boolean;
}

/** An event on its way through the IDT. */
export interface DeliveredEvent {
  vector: number;
  /** Interruption type as in the VMCS (SDM 3C table 25-17): 0 external, 2 NMI, 3 hw exception, 4 software int, 5 ICEBP, 6 software exception. */
  type: number;
  /** -1 for none. */
  errorCode: number;
  /** For types 4–6. */
  instructionLength: number;
  /** A #DB that is a fault other than an instruction breakpoint: RF is pushed as 1. */
  resumeFlag?: boolean;
}

/** Implemented by the interrupt controller in use. */
export interface InterruptController {
  /** INTA cycle: the vector to deliver (the request line is re-evaluated). */
  acknowledge(cpu: number): number;
  /** CR8 reads and writes, where a local APIC exists. */
  readTpr(cpu: number): number;
  /** INIT took effect: the local APIC's state after it (SDM 3A §11.4.7.3). */
  initialized?(cpu: number): void;
  writeTpr(cpu: number, value: number): void;
  /** The vCPU's TSC was written: deadlines in it move. */
  tscChanged?(cpu: number): void;
  /** IA32_APIC_BASE and x2APIC MSRs; undefined = not mine. */
  readMsr?(cpu: number, index: number): bigint | undefined;
  writeMsr?(cpu: number, index: number, value: bigint): boolean | undefined;
}

/** Port I/O and memory-mapped devices, implemented by the platform plugin. */
export interface DeviceBus {
  /** @returns value zero-extended; unclaimed ports read all ones */
  in(port: number, size: 1 | 2 | 4): number;
  out(port: number, size: 1 | 2 | 4, value: number): void;
  /** Whether a physical page belongs to a device rather than to RAM. */
  claims(physicalPage: number): boolean;
  /** @returns unclaimed addresses read all ones */
  read(address: number, size: 1 | 2 | 4 | 8): bigint;
  write(address: number, size: 1 | 2 | 4 | 8, value: bigint): void;
}
