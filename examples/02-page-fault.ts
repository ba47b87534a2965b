/**
 * One page fault, seen from every side.
 *
 *   deno run --allow-read=. examples/02-page-fault.ts
 *
 * A guest touches a page that its tables don't map. On the tape of that run we
 * stand before the fault and look at the walk that fails; read every fact of
 * the delivery, from the failed walk to the frame on the stack; follow the
 * guest's own handler; and stand behind the instruction that ran again, where
 * the same walk succeeds and has left its accessed bits.
 */
import {
  assemble,
  type CodeRow,
  defineScenario,
  type EventAt,
  ExceptionDelivered,
  formatEvent,
  machines,
  MemoryStore,
  Recorder,
  TapeReader,
  tapeWriter,
  Timeline,
  type WalkRow,
} from "../mod.ts";

const path = new URL("./guests/paging.asm", import.meta.url);
const source = Deno.readTextFileSync(path);
const address = 0x100000;
const symbols = assemble(source, { bits: 64, origin: address }).symbols;
const CPU = 0;

/** A walk as the inspector shows it. */
export interface ShownWalk {
  readonly rows: readonly WalkRow[];
  readonly result: string;
}

/** The fault from every side. */
export interface PageFault {
  readonly step: number;
  readonly linear: bigint;
  readonly errorCode: number;
  readonly instruction: CodeRow;
  readonly walkBefore: ShownWalk;
  /** Everything that happened in the step of the delivery. */
  readonly delivery: readonly EventAt[];
  /** The handler's instructions, in order. */
  readonly handler: readonly string[];
  readonly walkAfter: ShownWalk;
}

/** The machine and its guest. */
export const scenario = defineScenario({
  machine: { cpu: "qemu64", memory: "4MiB", platform: "none" },
  guest: { asm: source, at: address },
  steps: 200,
});

/** Records the guest and takes its first page fault apart. */
export function takeApart(): PageFault {
  const kernel = machines.create(scenario, new Map(), { uses: [] });
  const store = new MemoryStore();
  const recorder = Recorder.start(kernel, tapeWriter(store), {
    detail: "full",
  });
  kernel.run({ untilStep: scenario.steps });
  recorder.finish();

  const time = Timeline.open(
    TapeReader.open(store),
    machines.factory({ uses: [] }),
  );
  const names = [...symbols].filter(([name]) => !name.endsWith("_end"))
    .map(([name, at]) => ({ name, address: at }));
  const inspect = () => machines.inspector(time.kernel, names)!;
  let fault = { payload: 0n, errorCode: 0, rip: 0n };
  const moment = time.runTo({
    event: ExceptionDelivered,
    where: (delivered: typeof fault) => {
      fault = delivered;
      return true;
    },
  });
  if (moment === undefined) throw new Error("the guest met no page fault");
  const { step } = moment;
  const linear = fault.payload;

  time.seek({ step, ordinal: 0 });
  const walkBefore = inspect().walk(CPU, linear);
  const [instruction] = inspect().disassemble(CPU, 1);
  const delivery = time.events(step, step + 1);

  const handler: string[] = [];
  for (;;) {
    time.step();
    const [row] = inspect().disassemble(CPU, 1);
    if (row.address === instruction.address) break;
    handler.push(`${row.symbol ?? row.address}: ${row.text}`);
  }
  time.step(); // the read again, now with success
  return {
    step,
    linear,
    errorCode: fault.errorCode,
    instruction,
    walkBefore,
    delivery,
    handler,
    walkAfter: inspect().walk(CPU, linear),
  };
}

function showWalk({ rows, result }: ShownWalk): void {
  for (const { level, address, entry, meaning } of rows) {
    console.log(
      `  ${level.padEnd(12)} ${address.padEnd(10)} ${entry}  ${meaning}`,
    );
  }
  console.log(`  → ${result}`);
}

if (import.meta.main) {
  const fault = takeApart();
  const hex = (n: bigint | number): string => `0x${n.toString(16)}`;
  console.log(`Step ${fault.step}, the instruction:`);
  console.log(`  ${fault.instruction.symbol}: ${fault.instruction.text}`);
  console.log(`\nThe walk of ${hex(fault.linear)} before:`);
  showWalk(fault.walkBefore);
  console.log(`\nThe delivery (error code ${hex(fault.errorCode)}):`);
  for (const event of fault.delivery) console.log(`  ${formatEvent(event)}`);
  console.log("\nThe guest's handler:");
  for (const line of fault.handler) console.log(`  ${line}`);
  console.log(`\nThe walk of ${hex(fault.linear)} after:`);
  showWalk(fault.walkAfter);
}
