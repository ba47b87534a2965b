/**
 * vmtape as a library: a machine from TypeScript, without CLI or files.
 *
 *   deno run --allow-read=. examples/11-library.ts
 *
 * Assembles a guest, adds an observer written on the spot, runs it under
 * recording, checks the tape by replaying it, and then asks the past: what was
 * in the registers when the sum passed a hundred?
 */
import {
  asm,
  defineEvent,
  definePlugin,
  defineScenario,
  machines,
  MemoryStore,
  MemWrote,
  Recorder,
  RegWrote,
  TapeReader,
  tapeWriter,
  Timeline,
  u32,
  u64,
  verifyTape,
} from "../mod.ts";

const SUMS = 0x200000;
/** Sums of 1 … 20, each stored. */
const source = `
start:
    mov rdi, ${SUMS}
    xor eax, eax
    mov ecx, 1
  next:
    add rax, rcx
    mov [rdi], rax
    add rdi, 8
    inc ecx
    cmp ecx, 20
    jbe next
    hlt
`;

/** An observer's remark on a store. */
const SumStored = defineEvent({
  name: "sums.stored",
  version: 1,
  kind: "note",
  doc: "The guest stored a sum",
  fields: { index: u32("Which one"), sum: u64("Its value") },
});

/** Watches the guest's stores. */
const sums = definePlugin({
  name: "sums",
  version: "1.0.0",
  doc: "Notes each sum that the guest stores",
  role: "observer",
  emits: [SumStored],
  setup({ on, emit }) {
    on(MemWrote, ({ physical, value }) => {
      emit(SumStored, { index: (Number(physical) - SUMS) / 8, sum: value });
      return undefined;
    });
    return undefined;
  },
});

/** What the example found. */
export interface Answers {
  readonly sums: readonly bigint[];
  /** Exit status of the verification: 0 is equal. */
  readonly verified: number;
  readonly chainHead: string;
  /** Step in which the sum passed a hundred, and RAX and RCX there. */
  readonly step: number;
  readonly rax: bigint;
  readonly rcx: bigint;
}

/** The machine and its guest. */
export const scenario = defineScenario({
  machine: { cpu: "skylake-server", memory: "4MiB", platform: "none" },
  guest: { asm: source },
});
/** The plugins that the machine needs. */
export const uses = [{ plugin: sums }];

/** Runs, records, verifies and asks. */
export function sumAndLookBack(): Answers {
  const kernel = machines.create(scenario, new Map(), { uses });
  const noted: bigint[] = [];
  kernel.watch(SumStored, ({ sum }) => void noted.push(sum));

  const store = new MemoryStore();
  const recorder = Recorder.start(kernel, tapeWriter(store), {
    detail: "inputs",
  });
  kernel.run();
  recorder.finish();

  const tape = TapeReader.open(store, { verify: true });
  const factory = machines.factory({ uses: [] });
  const { status } = verifyTape(tape, factory);

  // The tape holds inputs only; the facts are derived from it when asked for.
  const time = Timeline.open(tape, factory);
  const found = time.runTo({
    event: RegWrote,
    where: (wrote: { register: number; value: bigint }) =>
      wrote.register === 0 && wrote.value > 100n,
  });
  if (found === undefined) throw new Error("the sum never passed a hundred");
  time.seek({ step: found.step + 1, ordinal: 0 });
  const registers = machines.inspector(time.kernel)!.registers(0);
  const value = (name: string): bigint =>
    BigInt(registers.find((row) => row.name === name)!.value);
  return {
    sums: noted,
    verified: status,
    chainHead: tape.chainHead,
    step: found.step,
    rax: value("rax"),
    rcx: value("rcx"),
  };
}

if (import.meta.main) {
  // The tag assembles on its own, too.
  const { bytes } = asm`mov eax, ${42}`;
  console.log(`mov eax, 42 is ${bytes.length} bytes.`);
  const { sums, verified, chainHead, step, rax, rcx } = sumAndLookBack();
  console.log(`The guest stored ${sums.length} sums, at last ${sums.at(-1)}.`);
  console.log(`Replayed: ${verified === 0 ? "equal" : `status ${verified}`}.`);
  console.log(`Chain head ${chainHead}.`);
  console.log(`Step ${step}: adding ${rcx} made the sum ${rax}.`);
}
