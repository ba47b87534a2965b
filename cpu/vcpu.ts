/**
 * One vCPU's registers through typed views of the layout: the accessors that
 * procedures, plugins and debuggers use. No state of its own apart from what
 * lives only inside one instruction (`pending`, `stage2`).
 *
 * u64 registers are `bigint`, 32-bit control values unsigned `number`, CR3 a
 * `number` of its address and PCID. Writers here do not check anything: checks are the procedures'.
 */
import { type Layout, MACHINE, SEGMENT, SEGMENT_SIZE, VCPU } from "./layout.ts";

/** An exception that an instruction or delivery raised and nobody delivered yet. */
export interface PendingException {
  vector: number;
  /** Pushed error code, or -1 for none. */
  errorCode: number;
  /** Linear address for #PF (goes to CR2 at delivery), DR6 bits for #DB, else 0n. */
  payload: bigint;
  /** True for INT3/INTO/BOUND-like software exceptions (matters for IDT checks and event type). */
  software: boolean;
}

/** A stage-2 (EPT or nested page table) fault that stopped a translation. */
export interface Stage2Fault {
  /** True: EPT misconfiguration / NPT reserved bit; false: violation. */
  misconfiguration: boolean;
  /** Exit qualification (EPT) or EXITINFO1 low half (NPT). */
  qualification: bigint;
  guestPhysicalAddress: number;
  /** Valid when qualification bit 7 is set. */
  guestLinearAddress: bigint;
}

/** Segment register contents, as read or to be written. */
export interface SegmentValue {
  selector: number;
  base: bigint;
  limit: number;
  /** VMCS access-rights format. */
  attributes: number;
}

/** Register accessors of one vCPU. */
export class Vcpu {
  readonly index: number;
  /** Byte offset of the register page. */
  readonly base: number;
  readonly u32: Uint32Array;
  readonly u64: BigUint64Array;
  readonly view: DataView;
  private readonly w: number;
  private readonly q: number;
  private readonly machine: number;

  /** Set by whoever returns Outcome.Fault; taken by the machine loop. */
  pending: PendingException | undefined;
  /** Set by whoever returns Outcome.Stage2; taken by the machine loop. */
  stage2: Stage2Fault | undefined;

  /** @param memory the machine's memory, for engines that compile code over it */
  constructor(
    readonly memory: WebAssembly.Memory,
    layout: Layout,
    index: number,
  ) {
    this.index = index;
    this.base = layout.vcpu(index);
    this.u32 = new Uint32Array(memory.buffer);
    this.u64 = new BigUint64Array(memory.buffer);
    this.view = new DataView(memory.buffer);
    this.w = this.base >>> 2;
    this.q = this.base >>> 3;
    this.machine = layout.state;
  }

  /** Steps of the whole machine. */
  get step(): number {
    const at = (this.machine + MACHINE.step) >>> 2;
    return this.u32[at] + this.u32[at + 1] * 2 ** 32;
  }
  set step(n: number) {
    const at = (this.machine + MACHINE.step) >>> 2;
    this.u32[at] = n >>> 0;
    this.u32[at + 1] = Math.floor(n / 2 ** 32);
  }

  word(offset: number): number {
    return this.u32[this.w + (offset >>> 2)];
  }
  setWord(offset: number, value: number): void {
    this.u32[this.w + (offset >>> 2)] = value;
  }
  quad(offset: number): bigint {
    return this.u64[this.q + (offset >>> 3)];
  }
  setQuad(offset: number, value: bigint): void {
    this.u64[this.q + (offset >>> 3)] = value;
  }

  /** 64-bit general register. */
  gpr(i: number): bigint {
    return this.u64[this.q + i];
  }
  setGpr(i: number, value: bigint): void {
    this.u64[this.q + i] = value;
  }
  /** Low 32 bits of a general register, unsigned. */
  gpr32(i: number): number {
    return this.u32[this.w + i * 2];
  }
  /** A 32-bit register write: clears the upper half. */
  setGpr32(i: number, value: number): void {
    this.u32[this.w + i * 2] = value;
    this.u32[this.w + i * 2 + 1] = 0;
  }
  /** Write at an operand size: 8 (low byte) and 16 merge, 32 zero-extends. */
  setGprSized(i: number, size: number, value: bigint): void {
    if (size === 64) this.setGpr(i, value);
    else if (size === 32) this.setGpr32(i, Number(value & 0xffff_ffffn));
    else {
      const mask = size === 16 ? 0xffffn : 0xffn;
      this.setGpr(i, (this.gpr(i) & ~mask) | (value & mask));
    }
  }

  get rip(): bigint {
    return this.quad(VCPU.rip);
  }
  set rip(v: bigint) {
    this.setQuad(VCPU.rip, v);
  }
  get rflags(): number {
    return this.word(VCPU.rflags);
  }
  set rflags(v: number) {
    this.setWord(VCPU.rflags, v);
  }
  get cr0(): number {
    return this.word(VCPU.cr0);
  }
  set cr0(v: number) {
    this.setWord(VCPU.cr0, v);
  }
  get cr2(): bigint {
    return this.quad(VCPU.cr2);
  }
  set cr2(v: bigint) {
    this.setQuad(VCPU.cr2, v);
  }
  get cr3(): number {
    const at = this.w + (VCPU.cr3 >>> 2);
    return this.u32[at] + (this.u32[at + 1] & 0xfffff) * 2 ** 32;
  }
  set cr3(v: number) {
    this.setQuad(VCPU.cr3, BigInt(v));
  }
  /** CR3 with its LAM control bits, as software reads it. */
  get cr3Full(): bigint {
    return this.quad(VCPU.cr3);
  }
  set cr3Full(v: bigint) {
    this.setQuad(VCPU.cr3, v);
  }
  get cr4(): number {
    return this.word(VCPU.cr4);
  }
  set cr4(v: number) {
    this.setWord(VCPU.cr4, v);
  }
  get efer(): number {
    return this.word(VCPU.efer);
  }
  set efer(v: number) {
    this.setWord(VCPU.efer, v);
  }
  get cpl(): number {
    return this.word(VCPU.cpl);
  }
  set cpl(v: number) {
    this.setWord(VCPU.cpl, v);
  }
  get activity(): number {
    return this.word(VCPU.activity);
  }
  set activity(v: number) {
    this.setWord(VCPU.activity, v);
  }
  get interruptibility(): number {
    return this.word(VCPU.interruptibility);
  }
  set interruptibility(v: number) {
    this.setWord(VCPU.interruptibility, v);
  }
  get pendingDebug(): number {
    return this.word(VCPU.pendingDebug);
  }
  set pendingDebug(v: number) {
    this.setWord(VCPU.pendingDebug, v);
  }
  get guestMode(): number {
    return this.word(VCPU.guestMode);
  }
  set guestMode(v: number) {
    this.setWord(VCPU.guestMode, v);
  }
  get eventRequest(): number {
    return this.word(VCPU.eventRequest);
  }
  set eventRequest(v: number) {
    this.setWord(VCPU.eventRequest, v);
  }

  dr(i: number): bigint {
    return this.quad(VCPU.dr + i * 8);
  }
  setDr(i: number, v: bigint): void {
    this.setQuad(VCPU.dr + i * 8, v);
  }
  /** MSR storage slot (cpu/arch/msr.ts). */
  msr(slot: number): bigint {
    return this.quad(VCPU.msrs + slot * 8);
  }
  setMsr(slot: number, v: bigint): void {
    this.setQuad(VCPU.msrs + slot * 8, v);
  }
  pdpte(i: number): bigint {
    return this.quad(VCPU.pdpte + i * 8);
  }
  setPdpte(i: number, v: bigint): void {
    this.setQuad(VCPU.pdpte + i * 8, v);
  }

  segBase(s: number): bigint {
    return this.quad(VCPU.segments + s * SEGMENT_SIZE + SEGMENT.base);
  }
  setSegBase(s: number, v: bigint): void {
    this.setQuad(VCPU.segments + s * SEGMENT_SIZE + SEGMENT.base, v);
  }
  segLimit(s: number): number {
    return this.word(VCPU.segments + s * SEGMENT_SIZE + SEGMENT.limit);
  }
  segSelector(s: number): number {
    return this.word(VCPU.segments + s * SEGMENT_SIZE + SEGMENT.selector);
  }
  segAttributes(s: number): number {
    return this.word(VCPU.segments + s * SEGMENT_SIZE + SEGMENT.attributes);
  }
  segment(s: number): SegmentValue {
    return {
      selector: this.segSelector(s),
      base: this.segBase(s),
      limit: this.segLimit(s),
      attributes: this.segAttributes(s),
    };
  }
  setSegment(s: number, v: SegmentValue): void {
    const at = VCPU.segments + s * SEGMENT_SIZE;
    this.setQuad(at + SEGMENT.base, v.base);
    this.setWord(at + SEGMENT.limit, v.limit);
    this.setWord(at + SEGMENT.selector, v.selector);
    this.setWord(at + SEGMENT.attributes, v.attributes);
  }

  get gdtrBase(): bigint {
    return this.quad(VCPU.gdtr);
  }
  get gdtrLimit(): number {
    return this.word(VCPU.gdtr + 8);
  }
  setGdtr(base: bigint, limit: number): void {
    this.setQuad(VCPU.gdtr, base);
    this.setWord(VCPU.gdtr + 8, limit);
  }
  get idtrBase(): bigint {
    return this.quad(VCPU.idtr);
  }
  get idtrLimit(): number {
    return this.word(VCPU.idtr + 8);
  }
  setIdtr(base: bigint, limit: number): void {
    this.setQuad(VCPU.idtr, base);
    this.setWord(VCPU.idtr + 8, limit);
  }

  /** Records an exception; for `return cpu.raise(…)` where Outcome.Fault (1) is due. */
  raise(vector: number, errorCode = -1, payload = 0n, software = false): 1 {
    this.pending = { vector, errorCode, payload, software };
    return 1;
  }
}
