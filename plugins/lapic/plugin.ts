/**
 * Local APICs, one for each vCPU (SDM 3A ch. 11): xAPIC registers in memory,
 * x2APIC registers as MSRs, IPIs between them, messages of the IOAPIC, timers,
 * and the 8259 pair at every LINT0.
 *
 * The bootstrap processor's starts as firmware leaves it: enabled, LINT0 as
 * ExtINT, LINT1 as NMI (platform.md). Which unit an access in memory reaches is
 * the vCPU's whose turn it is and IA32_APIC_BASE's of that one.
 */
import {
  bool,
  definePlugin,
  NotModelled,
  optional,
  tableOf,
  u32,
  u53,
  u64,
  wordsOf,
} from "../../core/mod.ts";
import { MsrSlot } from "../../cpu/arch/msr.ts";
import { Devices } from "../../cpu/devices.ts";
import { HardwareAccess, Interrupts } from "../../cpu/hardware.ts";
import { MAX_CPUS } from "../../cpu/layout.ts";
import { Pic } from "../pic8259/api.ts";
import {
  type ApicMessage,
  Apics,
  DeliveryMode,
  LapicAccepted,
  LapicTimerExpired,
} from "./api.ts";
import { firmwareRegisters, XAPIC_REGISTERS } from "./registers.ts";
import { Base, DEFAULT_BASE, LocalApic } from "./unit.ts";

const APIC_BASE_MSR = 0x1b;
const TSC_DEADLINE_MSR = 0x6e0;
const X2APIC_FIRST = 0x800;
const X2APIC_LAST = 0x8ff;
const PAGE = 0xfffn;
const MASK64 = 0xffff_ffff_ffff_ffffn;
/** Destination shorthands of the ICR. */
const Shorthand = { None: 0, Self: 1, All: 2, AllButSelf: 3 } as const;

/** Local APICs. */
export const lapic = definePlugin({
  name: "lapic",
  version: "2.0.0",
  doc: "Local APICs (xAPIC, x2APIC): timers, IPIs, the 8259 pair at LINT0",
  role: "participant",
  needs: { hardware: HardwareAccess, devices: Devices, pic: optional(Pic) },
  provides: { interrupts: Interrupts, bus: Apics },
  emits: [LapicAccepted, LapicTimerExpired],
  timers: [
    "timer0",
    "timer1",
    "timer2",
    "timer3",
    "timer4",
    "timer5",
    "timer6",
    "timer7",
  ],
  state: {
    intr: bool("Level of the 8259 pair's INTR line as seen last"),
    units: tableOf(MAX_CPUS, {
      base: u64("IA32_APIC_BASE", BigInt(DEFAULT_BASE) | Base.Enable),
      registers: wordsOf(64, "By offset / 16"),
      timerFrom: u53("Virtual time at which the timer held timerCount"),
      timerCount: u32("Count then; 0 = the timer stands"),
      deadline: u64("IA32_TSC_DEADLINE; 0 = not armed"),
      esrLatch: u32("Errors since the last write to the ESR"),
    }, "Local APICs, by vCPU"),
  },
  setup({ use, provide, state, emit, timer, clock }) {
    const { hardware, pic } = use;
    const { cpus, model, physical } = hardware;
    const present = model.has("apic");
    const timers = [
      timer.timer0,
      timer.timer1,
      timer.timer2,
      timer.timer3,
      timer.timer4,
      timer.timer5,
      timer.timer6,
      timer.timer7,
    ];
    // A timer that no vCPU has never fires, but must have its handler.
    for (const unused of timers.slice(cpus.length)) {
      unused.run(() => undefined);
    }
    const eoiHandlers: ((vector: number) => void)[] = [];

    const deliver = (targets: readonly LocalApic[], m: ApicMessage): void => {
      if (m.mode !== DeliveryMode.LowestPriority || targets.length < 2) {
        for (const unit of targets) unit.deliver(m.mode, m.vector, m.level);
        return;
      }
      // SDM 3A §11.6.2.4; among equals the lowest vCPU, so that replays agree.
      const lowest = targets.reduce((a, b) => b.ppr < a.ppr ? b : a);
      lowest.deliver(m.mode, m.vector, m.level);
    };
    const send = (
      from: number,
      message: ApicMessage,
      shorthand: number,
    ): void => {
      const targets = units.filter((unit, cpu) => {
        switch (shorthand) {
          case Shorthand.Self:
            return cpu === from;
          case Shorthand.All:
            return unit.enabled;
          case Shorthand.AllButSelf:
            return cpu !== from && unit.enabled;
          default:
            return unit.isMeant(message);
        }
      });
      deliver(targets, message);
    };
    const units: readonly LocalApic[] = cpus.map((_, cpu) =>
      new LocalApic(state.units[cpu], {
        cpu,
        model,
        clock,
        timer: timers[cpu],
        pic,
        intr: () => state.intr,
        tsc: () =>
          BigInt(clock.now()) + cpus[cpu].v.msr(MsrSlot.TscAdjust) & MASK64,
        setLine: (asserted) => hardware.setInterruptLine(cpu, asserted),
        request: (event) => hardware.request(cpu, event),
        startUp: (vector) => hardware.startUp(cpu, vector),
        send: (message, shorthand) => send(cpu, message, shorthand),
        broadcastEoi: (vector) => {
          for (const handler of eoiHandlers) handler(vector);
        },
        accepted: (vector, level) =>
          emit(LapicAccepted, { cpu, vector, level }),
        timerExpired: (lvt) => emit(LapicTimerExpired, { cpu, lvt }),
      })
    );
    state.units[0].base |= Base.Bsp;
    firmwareRegisters(state.units[0].registers);
    // A CPU without APIC has the pair at its INTR pin.
    if (!present) { for (const unit of state.units) unit.base = 0n; }

    pic?.connect(() => {
      const asserted = pic.asserted;
      if (asserted !== state.intr) {
        state.intr = asserted;
        for (const unit of units) unit.pin();
      }
      for (const unit of units) unit.update();
    });

    /** The unit of the vCPU whose access runs. */
    const here = (): LocalApic => units[hardware.turn()];
    const pageOf = (unit: LocalApic): number => Number(unit.base >> 12n);
    if (present) {
      use.devices.movable("lapic", {
        covers: (page) => {
          const unit = here();
          return unit.enabled && !unit.x2 && pageOf(unit) === page;
        },
        read(address, size) {
          const offset = address & 0xfff;
          if (!XAPIC_REGISTERS.has(offset >> 4)) {
            here().illegalRegister();
            return 0n;
          }
          const value = here().read(offset >> 4) >>> 0;
          return BigInt(value) >> BigInt((offset & 3) * 8) &
            (1n << BigInt(size * 8)) - 1n;
        },
        write(address, size, value) {
          // SDM 3A §11.4.1: registers are written as aligned 32-bit words.
          const offset = address & 0xfff;
          if (size < 4 || (offset & 0xf) !== 0) return;
          if (XAPIC_REGISTERS.has(offset >> 4)) {
            here().write(offset >> 4, Number(value & 0xffff_ffffn));
          } else here().illegalRegister();
        },
      });
    }
    provide.bus({
      send: (message) => {
        deliver(units.filter((unit) => unit.isMeant(message)), message);
      },
      onEndOfInterrupt: (handler) => void eoiHandlers.push(handler),
    });
    provide.interrupts({
      acknowledge: (cpu) => units[cpu].acknowledge(),
      readTpr: (cpu) => units[cpu].tpr,
      writeTpr(cpu, value) {
        units[cpu].tpr = value;
      },
      initialized: (cpu) => units[cpu].initialize(),
      tscChanged: (cpu) => units[cpu].timer.tscChanged(),
      readMsr(cpu, index) {
        if (!present) return undefined;
        if (index === APIC_BASE_MSR) return units[cpu].base;
        if (index === TSC_DEADLINE_MSR) return units[cpu].timer.deadline;
        return index >= X2APIC_FIRST && index <= X2APIC_LAST
          ? units[cpu].readMsr(index - X2APIC_FIRST)
          : undefined;
      },
      writeMsr(cpu, index, value) {
        if (!present) return undefined;
        const unit = units[cpu];
        if (index === APIC_BASE_MSR) {
          if (!unit.setBase(value)) return false;
          const here = unit.enabled && !unit.x2;
          if (here && physical.isRam(Number(value & ~PAGE))) {
            throw new NotModelled(
              "local APIC registers in place of RAM",
              "SDM 3A §11.4.5",
            );
          }
          return true;
        }
        if (index === TSC_DEADLINE_MSR) {
          unit.timer.deadline = value;
          unit.update();
          return true;
        }
        return index >= X2APIC_FIRST && index <= X2APIC_LAST
          ? unit.writeMsr(index - X2APIC_FIRST, value)
          : undefined;
      },
    });
    return undefined;
  },
});
