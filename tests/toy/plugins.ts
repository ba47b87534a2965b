/**
 * The toy machine's plugins: a serial port with a FIFO and an input event, a
 * timer with a random stream, an exit port, a participant that acts on facts,
 * and three observers.
 */
import {
  arrayOf,
  bytesOf,
  defineEvent,
  definePlugin,
  mapOf,
  setOf,
  u32,
  u8,
} from "../../core/mod.ts";
import type { Plugin } from "../../core/mod.ts";
import {
  ToyInterruptsService,
  ToyMemoryService,
  ToyPortWritten,
  ToyReadMask,
  ToyReadPort,
  ToyRetired,
  ToySerialReceived,
  ToySerialSent,
  ToyTicked,
  ToyWritePort,
  ToyWrote,
} from "./api.ts";
import { PORT } from "./program.ts";

/** Serial port: ports 0 to 2, interrupt line 1. */
export const toySerial: Plugin = definePlugin({
  name: "toy-serial",
  version: "1.0.0",
  doc: "A serial port with a receive FIFO",
  role: "participant",
  options: { depth: u32("Bytes that the FIFO holds; more are lost", 16) },
  needs: { interrupts: ToyInterruptsService },
  state: {
    fifo: arrayOf(u8("Received and not read")),
    lost: u32("Bytes that did not fit"),
  },
  emits: [ToySerialSent],
  setup({ on, answer, emit, state, use, options }) {
    on(ToySerialReceived, ({ bytes }) => {
      for (const byte of bytes) {
        if (state.fifo.length < options.depth) state.fifo.push(byte);
        else state.lost++;
      }
      use.interrupts.raise(1);
    });
    answer(ToyReadPort, ({ port }) => {
      if (port === PORT.serialIn) return state.fifo.shift() ?? 0;
      return port === PORT.serialCount ? state.fifo.length : undefined;
    });
    answer(ToyWritePort, ({ port, value }) => {
      if (port !== PORT.serialOut) return undefined;
      emit(ToySerialSent, { byte: value & 255 });
      return true;
    });
  },
});

/** Timer: port 8 sets the period in ns (0: off), interrupt line 0. */
export const toyTimer: Plugin = definePlugin({
  name: "toy-timer",
  version: "1.0.0",
  doc: "A periodic timer with random jitter",
  role: "participant",
  options: { jitter: u32("Random extra nanoseconds, below this; 0 none", 0) },
  needs: { interrupts: ToyInterruptsService },
  state: { period: u32("Nanoseconds; 0 off"), count: u32("Ticks so far") },
  emits: [ToyTicked],
  timers: ["tick"],
  setup({ answer, emit, state, timer, clock, random, use, options }) {
    const arm = () =>
      timer.tick.at(
        clock.now() + state.period +
          (options.jitter > 0 ? random.below(options.jitter) : 0),
      );
    answer(ToyWritePort, ({ port, value }) => {
      if (port !== PORT.timerPeriod) return undefined;
      state.period = value & 0xffff;
      if (state.period === 0) timer.tick.cancel();
      else arm();
      return true;
    });
    timer.tick.run(() => {
      state.count++;
      emit(ToyTicked, { count: state.count });
      use.interrupts.raise(0);
      arm();
    });
  },
});

/** Exit: writing port 15 ends the machine with that exit code. */
export const toyExit: Plugin = definePlugin({
  name: "toy-exit",
  version: "1.0.0",
  doc: "Ends the machine when the program says so",
  role: "participant",
  setup({ answer, stop }) {
    answer(ToyWritePort, ({ port, value }) => {
      if (port !== PORT.exit) return undefined;
      stop("program exited", value & 255);
      return true;
    });
  },
});

/** Something counted by `toyTally`. */
export const ToyTallied = defineEvent({
  name: "toy-tally.counted",
  version: 2,
  kind: "fact",
  doc: "A port was written for the n-th time",
  fields: { port: u8("Port"), times: u32("How often") },
  // Version 1 had no port.
  upcast: { 1: (old) => ({ port: 0, times: old.times }) },
});

/** Acts on facts: counts writes by port, and masks reads by the count. */
export const toyTally: Plugin = definePlugin({
  name: "toy-tally",
  version: "1.0.0",
  doc: "Counts port writes and lets the count change what port 3 reads",
  role: "participant",
  state: {
    times: mapOf(u8(), u32(), "Writes by port"),
    log: bytesOf(64, "Last ports written"),
    next: u32("Where the log goes on"),
  },
  emits: [ToyTallied],
  setup({ on, emit, answer, state }) {
    on(ToyPortWritten, ({ port }) => {
      const times = (state.times.get(port) ?? 0) + 1;
      state.times.set(port, times);
      state.log[state.next % 64] = port;
      state.next = (state.next + 1) % 0x1_0000_0000;
      if ((times & (times - 1)) === 0) emit(ToyTallied, { port, times });
    });
    answer(
      ToyReadMask,
      (soFar, { port }) => port === 3 ? soFar ^ state.next : soFar,
    );
  },
});

/** A port was written for the first time. */
export const ToyPortFound = defineEvent({
  name: "toy-watcher.port-found",
  version: 1,
  kind: "note",
  doc: "A port was written for the first time",
  fields: { port: u8("Port"), firstWord: u32("First word of RAM then") },
});

/** Observer with memory, reading RAM. */
export const toyWatcher: Plugin = definePlugin({
  name: "toy-watcher",
  version: "1.0.0",
  doc: "Notes each port written for the first time",
  role: "observer",
  needs: { memory: ToyMemoryService },
  state: { seen: setOf(u8("Ports seen")) },
  emits: [ToyPortFound],
  setup({ on, emit, use, state }) {
    on(ToyPortWritten, ({ port }) => {
      if (state.seen.has(port)) return;
      state.seen.add(port);
      emit(ToyPortFound, { port, firstWord: use.memory.read32(0) });
    });
  },
});

/** A word went from odd to even. */
export const ToyEvened = defineEvent({
  name: "toy-hot-watcher.evened",
  version: 1,
  kind: "note",
  doc: "A word of RAM went from odd to even",
  fields: { address: u32("Where"), retired: u32("Instructions seen so far") },
});

/** Observer of hot facts: forces the observed path. */
export const toyHotWatcher: Plugin = definePlugin({
  name: "toy-hot-watcher",
  version: "1.0.0",
  doc: "Watches every retire and every write",
  role: "observer",
  state: { retired: u32("Instructions seen") },
  emits: [ToyEvened],
  setup({ on, emit, state }) {
    on(ToyRetired, () => {
      state.retired = (state.retired + 1) >>> 0;
    });
    on(ToyWrote, ({ address, old, value }) => {
      if (old % 2 === 1 && value % 2 === 0) {
        emit(ToyEvened, { address, retired: state.retired });
      }
    });
  },
});

/** An observer that draws random numbers: must not shift any other stream. */
export const toyDice: Plugin = definePlugin({
  name: "toy-dice",
  version: "1.0.0",
  doc: "Draws from its stream at each tick",
  role: "observer",
  memoryless: true,
  state: { sum: u32("Of what was drawn") },
  setup({ on, random, state }) {
    on(ToyTicked, () => {
      state.sum = (state.sum + random.u32()) >>> 0;
    });
  },
});
