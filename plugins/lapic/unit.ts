/**
 * The local APIC of one vCPU (SDM 3A ch. 11) without its bus: register file,
 * priorities, acceptance, LVT pins, errors, and the modes of IA32_APIC_BASE.
 * Invariant: all state lies in the cells given; the INTR line follows from them
 * and from the 8259 pair.
 */
import type { Clock, Timer } from "../../core/mod.ts";
import type { CpuModel } from "../../cpu/arch/models.ts";
import { EventRequest } from "../../cpu/layout.ts";
import type { PicOutput } from "../pic8259/api.ts";
import { type ApicMessage, DeliveryMode } from "./api.ts";
import {
  Esr,
  FLAT,
  Lvt,
  LVT_MASK,
  LVTS,
  R,
  resetRegisters,
  SOFTWARE_ENABLE,
  X2APIC_READABLE,
  X2APIC_WRITABLE,
} from "./registers.ts";
import { ApicTimer, type TimerState } from "./timer.ts";

/** Bits of IA32_APIC_BASE (SDM 3A figures 11-5 and 11-26). */
export const Base = { Bsp: 0x100n, Extd: 0x400n, Enable: 0x800n } as const;
const MODE = Base.Extd | Base.Enable;
/** Address after reset. */
export const DEFAULT_BASE = 0xfee00000;

/** Cells of one unit. */
export interface UnitState extends TimerState {
  base: bigint;
  esrLatch: number;
}

/** What a unit needs of its machine. */
export interface UnitWorld {
  readonly cpu: number;
  readonly model: CpuModel;
  readonly clock: Clock;
  readonly timer: Timer;
  readonly pic: PicOutput | undefined;
  /** Level of the pair's INTR line, which is wired to every LINT0. */
  intr(): boolean;
  tsc(): bigint;
  setLine(asserted: boolean): void;
  request(event: number): void;
  startUp(vector: number): void;
  send(message: ApicMessage, shorthand: number): void;
  /** A level-triggered interrupt ended. */
  broadcastEoi(vector: number): void;
  accepted(vector: number, level: boolean): void;
  timerExpired(lvt: number): void;
}

/** See the file header. */
export class LocalApic {
  readonly timer: ApicTimer;
  private readonly r: Uint32Array;

  constructor(
    private readonly state: UnitState,
    private readonly world: UnitWorld,
  ) {
    this.r = state.registers;
    this.timer = new ApicTimer(state, {
      clock: world.clock,
      timer: world.timer,
      tsc: world.tsc,
      expired: () => {
        const lvt = this.r[R.LvtTimer];
        world.timerExpired(lvt);
        if (!(lvt & Lvt.Masked)) this.accept(lvt & 0xff, false);
      },
    });
    this.r[R.Id] = world.cpu << 24;
    resetRegisters(this.r);
  }

  // --- modes
  get enabled(): boolean {
    return (this.state.base & Base.Enable) !== 0n;
  }
  get x2(): boolean {
    return (this.state.base & MODE) === MODE;
  }
  /** Enabled by IA32_APIC_BASE and by SVR. */
  private get working(): boolean {
    return this.enabled && (this.r[R.Svr] & SOFTWARE_ENABLE) !== 0;
  }
  get base(): bigint {
    return this.state.base;
  }

  /** WRMSR to IA32_APIC_BASE (SDM 3A §11.12.5). @returns false for #GP(0) */
  setBase(value: bigint): boolean {
    const { state, world, r } = this;
    const has = world.model.has("x2apic");
    const address = BigInt(2 ** world.model.physicalAddressBits) - 0x1000n;
    const defined = address | Base.Bsp | Base.Enable | (has ? Base.Extd : 0n);
    if (value & ~defined) return false;
    const from = state.base & MODE;
    const to = value & MODE;
    if (to === Base.Extd) return false;
    if (from === MODE && to === Base.Enable) return false;
    if (from === 0n && to === MODE) return false;
    state.base = value;
    if (from !== to) {
      if (to === 0n) {
        resetRegisters(r);
        r[R.Id] = world.cpu << 24;
        state.esrLatch = 0;
        this.timer.stop();
      } else if (to === MODE) r[R.Id] = world.cpu;
    }
    this.update();
    return true;
  }

  /** INIT (SDM 3A §11.4.7.3): all but the ID and IA32_APIC_BASE. */
  initialize(): void {
    resetRegisters(this.r);
    this.state.esrLatch = 0;
    this.timer.stop();
    this.update();
  }

  // --- priorities
  private highest(first: number): number {
    for (let i = 7; i >= 0; i--) {
      const word = this.r[first + i];
      if (word) return i * 32 + 31 - Math.clz32(word);
    }
    return -1;
  }
  private setBit(first: number, vector: number, on: boolean): void {
    const bit = 1 << (vector & 31);
    if (on) this.r[first + (vector >> 5)] |= bit;
    else this.r[first + (vector >> 5)] &= ~bit;
  }
  private isSet(first: number, vector: number): boolean {
    return (this.r[first + (vector >> 5)] >>> (vector & 31) & 1) !== 0;
  }
  /** Processor-priority register (SDM 3A §11.8.3.1). */
  get ppr(): number {
    const serving = Math.max(this.highest(R.Isr), 0);
    const tpr = this.r[R.Tpr] & 0xff;
    return tpr >> 4 >= serving >> 4 ? tpr : serving & 0xf0;
  }
  private deliverable(): number {
    if (!this.working) return -1;
    const vector = this.highest(R.Irr);
    return vector >= 0 && vector >> 4 > this.ppr >> 4 ? vector : -1;
  }
  /** The 8259 pair through LINT0 as ExtINT, or straight to the bootstrap processor. */
  private external(): boolean {
    const { pic, cpu } = this.world;
    if (!pic?.asserted) return false;
    if (!this.enabled) return cpu === 0;
    const lint0 = this.r[R.Lint0];
    return (lint0 & Lvt.Masked) === 0 && modeOf(lint0) === DeliveryMode.ExtInt;
  }
  /** Drives the vCPU's INTR line. */
  update(): void {
    this.world.setLine(this.deliverable() >= 0 || this.external());
  }
  /** INTA cycle. @returns the vector; spurious: SVR's */
  acknowledge(): number {
    const vector = this.deliverable();
    if (vector < 0) {
      const given = this.external()
        ? this.world.pic?.acknowledge()
        : this.r[R.Svr] & 0xff;
      this.update();
      return given ?? -1;
    }
    this.setBit(R.Irr, vector, false);
    this.setBit(R.Isr, vector, true);
    this.update();
    return vector;
  }
  get tpr(): number {
    return this.r[R.Tpr] >> 4 & 0xf;
  }
  set tpr(priority: number) {
    this.r[R.Tpr] = priority << 4;
    this.update();
  }

  // --- acceptance
  private fail(error: number): void {
    this.state.esrLatch |= error;
    const lvt = this.r[R.LvtError];
    // An illegal vector there would only be the next error of the same kind.
    if (lvt & Lvt.Masked) return;
    if ((lvt & 0xff) < 16) this.state.esrLatch |= Esr.ReceivedIllegal;
    else this.accept(lvt & 0xff, false);
  }
  private accept(vector: number, level: boolean): void {
    if (vector < 16) {
      this.fail(Esr.ReceivedIllegal);
      return;
    }
    if (!this.working) return;
    this.setBit(R.Irr, vector, true);
    this.setBit(R.Tmr, vector, level);
    this.world.accepted(vector, level);
    this.update();
  }
  /** A message or LVT entry arrives (SDM 3A §11.5.1). */
  deliver(mode: number, vector: number, level: boolean): void {
    const { world } = this;
    switch (mode) {
      case DeliveryMode.Fixed:
      case DeliveryMode.LowestPriority:
        this.accept(vector, level);
        break;
      case DeliveryMode.Nmi:
        world.request(EventRequest.Nmi);
        break;
      case DeliveryMode.Smi:
        world.request(EventRequest.Smi);
        break;
      case DeliveryMode.Init:
        world.request(EventRequest.Init);
        break;
      case DeliveryMode.StartUp:
        world.startUp(vector);
    }
    // 3 is reserved; ExtINT means the 8259 pair, which only LINT0 is wired to.
  }
  /** Does a message mean this APIC (SDM 3A §11.6.2, §11.12.10)? */
  isMeant({ destination, wide, logical }: ApicMessage): boolean {
    if (!this.enabled) return false;
    if (destination === (wide ? 0xffffffff : 0xff)) return true;
    if (this.x2) {
      if (!logical) return destination === this.r[R.Id];
      const ldr = logicalId(this.r[R.Id]);
      return destination >>> 16 === ldr >>> 16 &&
        (destination & ldr & 0xffff) !== 0;
    }
    if (!logical) return destination === this.r[R.Id] >>> 24;
    const ldr = this.r[R.Ldr] >>> 24;
    if (this.r[R.Dfr] >>> 28 === FLAT) return (destination & ldr) !== 0;
    return destination >> 4 === ldr >> 4 && (destination & ldr & 0xf) !== 0;
  }
  /** The level of LINT0 changed, or what the entry makes of it. */
  pin(): void {
    const { r } = this;
    const lint0 = r[R.Lint0];
    const mode = modeOf(lint0);
    if (!this.enabled || lint0 & Lvt.Masked || mode === DeliveryMode.ExtInt) {
      return;
    }
    if (this.world.intr() === ((lint0 & Lvt.ActiveLow) !== 0)) return;
    if (mode === DeliveryMode.Fixed && lint0 & Lvt.Level) {
      if (lint0 & Lvt.RemoteIrr) return;
      r[R.Lint0] |= Lvt.RemoteIrr;
      this.accept(lint0 & 0xff, true);
    } else this.deliver(mode, lint0 & 0xff, false);
  }

  private endOfInterrupt(): void {
    const { r } = this;
    const vector = this.highest(R.Isr);
    if (vector < 0) return;
    this.setBit(R.Isr, vector, false);
    if (!this.isSet(R.Tmr, vector)) return;
    const lint0 = r[R.Lint0];
    if (lint0 & Lvt.RemoteIrr && (lint0 & 0xff) === vector) {
      r[R.Lint0] &= ~Lvt.RemoteIrr;
      this.pin();
    }
    this.world.broadcastEoi(vector);
  }
  /** ICR written (SDM 3A §11.6.1). */
  private sendIpi(destination: number): void {
    const low = this.r[R.IcrLow];
    const mode = modeOf(low);
    const vector = low & 0xff;
    const vectored = mode === DeliveryMode.Fixed ||
      mode === DeliveryMode.LowestPriority;
    if (vectored && vector < 16) {
      this.fail(Esr.SendIllegal);
      return;
    }
    // INIT level de-assert only set arbitration IDs, on processors that had them.
    if (mode === DeliveryMode.Init && (low & 0xc000) === 0x8000) return;
    this.world.send({
      destination,
      wide: this.x2,
      logical: (low & 1 << 11) !== 0,
      mode,
      vector,
      level: false,
    }, low >> 18 & 3);
  }

  // --- registers
  /** Value of an existing register. */
  read(register: number): number {
    switch (register) {
      case R.Ppr:
        return this.ppr;
      case R.CurrentCount:
        return this.timer.remaining;
      case R.Eoi:
        return 0;
      case R.Ldr:
        return this.x2 ? logicalId(this.r[R.Id]) : this.r[R.Ldr];
      default:
        return this.r[register];
    }
  }
  /** Writes an existing register; read-only ones stay. */
  write(register: number, value: number): void {
    const { r } = this;
    switch (register) {
      case R.Id:
      case R.Ldr:
        r[register] = value & 0xff000000;
        break;
      case R.Tpr:
        r[R.Tpr] = value & 0xff;
        break;
      case R.Eoi:
        this.endOfInterrupt();
        break;
      case R.Dfr:
        r[R.Dfr] = value | 0x0fffffff;
        break;
      case R.Svr:
        r[R.Svr] = value & 0x3ff;
        // SDM 3A §11.4.7.2: a software-disabled APIC masks its LVT.
        if (!(value & SOFTWARE_ENABLE)) {
          for (const lvt of LVTS) r[lvt] |= Lvt.Masked;
        }
        break;
      case R.Esr:
        r[R.Esr] = this.state.esrLatch;
        this.state.esrLatch = 0;
        break;
      case R.IcrLow:
        r[R.IcrLow] = value & ~(1 << 12);
        this.sendIpi(this.x2 ? r[R.IcrHigh] : r[R.IcrHigh] >>> 24);
        break;
      case R.IcrHigh:
        r[R.IcrHigh] = value & 0xff000000;
        break;
      case R.InitialCount:
        this.timer.start(value);
        break;
      case R.Divide:
        this.timer.divide(value & 0xb);
        break;
      default:
        if (register in LVT_MASK) this.writeLvt(register, value);
    }
    this.update();
  }
  private lvtMask(register: number): number {
    const deadline = register === R.LvtTimer &&
      this.world.model.has("tsc-deadline");
    return LVT_MASK[register] | (deadline ? Lvt.TimerDeadline : 0);
  }
  private writeLvt(register: number, value: number): void {
    const { r } = this;
    const next = value & this.lvtMask(register) |
      (this.working ? 0 : Lvt.Masked);
    if (register === R.LvtTimer) this.timer.select(next);
    else r[register] = next | (r[register] & Lvt.RemoteIrr);
    if (register === R.Lint0 && next & Lvt.Level) this.pin();
  }
  /** An access to an offset without a register (SDM 3A §11.5.3). */
  illegalRegister(): void {
    this.fail(Esr.IllegalRegister);
    this.update();
  }

  // --- x2APIC MSRs (SDM 3A §11.12.1)
  /** @returns undefined for #GP(0) */
  readMsr(register: number): bigint | undefined {
    if (!this.x2 || !X2APIC_READABLE.has(register)) return undefined;
    const low = BigInt(this.read(register) >>> 0);
    return register === R.IcrLow ? BigInt(this.r[R.IcrHigh]) << 32n | low : low;
  }
  /** @returns false for #GP(0) */
  writeMsr(register: number, value: bigint): boolean {
    if (!this.x2 || !(register in X2APIC_WRITABLE)) return false;
    const low = Number(value & 0xffff_ffffn);
    const high = Number(value >> 32n);
    let allowed = X2APIC_WRITABLE[register];
    if (register === R.LvtTimer) allowed |= this.lvtMask(register);
    if ((low & ~allowed) !== 0) return false;
    if (register === R.IcrLow) this.r[R.IcrHigh] = high;
    else if (high !== 0) return false;
    if (register === R.SelfIpi) this.selfIpi(low);
    else this.write(register, low);
    return true;
  }
  private selfIpi(vector: number): void {
    if (vector < 16) this.fail(Esr.SendIllegal);
    else this.accept(vector, false);
    this.update();
  }
}

const modeOf = (entry: number): number => entry >> 8 & 7;

/** x2APIC logical ID: cluster and member follow from the ID (SDM 3A §11.12.10.2). */
function logicalId(id: number): number {
  return ((id >>> 4) << 16 | 1 << (id & 0xf)) >>> 0;
}
