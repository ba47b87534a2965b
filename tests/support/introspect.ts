/**
 * The machine of introspection's tests: 64-bit guest, first GiB identity
 * mapped, and a window of 4-KiB pages at `WINDOW` whose entries a test sets.
 */
import type { PluginUse, StopInfo } from "../../core/mod.ts";
import type { CpuContext } from "../../cpu/context.ts";
import type { Hardware } from "../../cpu/hardware.ts";
import { TestMachine, type TestMachineOptions } from "./machine.ts";
import {
  IntrospectListRequested,
  IntrospectRequested,
  type ListRequest,
  ReadCompleted,
  type ReadRequest,
  WalkCompleted,
} from "../../plugins/introspect/api.ts";
import { introspect } from "../../plugins/introspect/plugin.ts";
import {
  defaultsOf,
  LIST_FIELDS,
  READ_FIELDS,
} from "../../plugins/introspect/requests.ts";

/** Linear address of the window: its own page table. */
export const WINDOW = 0x4000_0000n;
const WINDOW_PD = 0x14000;
const WINDOW_PT = 0x15000;
/** Physical memory free for a test's pages. */
export const FRAMES = 0x100000;
/** Present, writable, user. */
export const PWU = 7n;

/** Puts the window's tables into an otherwise identity-mapped guest. */
export function mapWindow(hardware: Hardware): void {
  const { physical } = hardware;
  physical.writeU64(0x11000 + 8, BigInt(WINDOW_PD) | PWU);
  physical.writeU64(WINDOW_PD, BigInt(WINDOW_PT) | PWU);
}

/** Address of the entry that maps page `page` of the window. */
export function entryAt(page: number): number {
  return WINDOW_PT + page * 8;
}

/** Sets the entry of page `page`: frame `page` of FRAMES with these bits, or 0n. */
export function setEntry(hardware: Hardware, page: number, bits: bigint): void {
  const frame = bits === 0n ? 0n : BigInt(FRAMES + page * 4096);
  hardware.physical.writeU64(entryAt(page), frame | bits);
}

/** A machine with introspection. */
export class Rig extends TestMachine {
  readonly reads = this.collect(ReadCompleted);
  readonly walks = this.collect(WalkCompleted);

  constructor(
    source: string,
    options: TestMachineOptions & {
      readonly introspect?: Record<string, unknown>;
      readonly others?: readonly PluginUse[];
      readonly pages?: readonly bigint[];
    } = {},
  ) {
    super(source, {
      ...options,
      plugins: [
        { plugin: introspect, options: options.introspect ?? {} },
        ...(options.others ?? []),
      ],
      setup(cpu: CpuContext, hardware: Hardware) {
        mapWindow(hardware);
        (options.pages ?? []).forEach((bits, page) =>
          setEntry(hardware, page, bits)
        );
        const fill = new Uint8Array(16 * 4096);
        for (let i = 0; i < fill.length; i++) {
          fill[i] = (i * 7 + (i >> 8)) & 255;
        }
        hardware.physical.writeBytes(FRAMES, fill);
        options.setup?.(cpu, hardware);
      },
    });
  }

  /** Asks for a read as an input. */
  ask(
    read: Pick<ReadRequest, "linear" | "length"> & Partial<ReadRequest>,
  ): void {
    this.kernel.inject(IntrospectRequested, {
      ...defaultsOf(READ_FIELDS),
      ...read,
    });
  }

  /** Asks for a list walk as an input. */
  askList(
    list: Pick<ListRequest, "head" | "nodeBytes"> & Partial<ListRequest>,
  ): void {
    this.kernel.inject(IntrospectListRequested, {
      ...defaultsOf(LIST_FIELDS),
      ...list,
    });
  }

  /** Delivers what was asked without a step. */
  settle(): StopInfo {
    return this.kernel.run({ stopWhen: (kernel) => kernel.queued === 0 });
  }

  /** What physical memory holds at window address `linear`. */
  bytesAt(linear: bigint, length: number): Uint8Array {
    return this.hardware.physical.readBytes(
      FRAMES + Number(linear - WINDOW),
      length,
    );
  }

  /** Whether the entry of page `page` has its A bit. */
  accessed(page: number): boolean {
    return (this.word(entryAt(page)) & 0x20n) !== 0n;
  }
}

/** A page-fault handler that maps the window's page at CR2 and counts in R15. */
export const PAGE_IN = `
  pagein:
    push rax
    push rbx
    mov rax, cr2
    shr rax, 12
    and eax, 511
    mov rbx, rax
    shl rbx, 12
    add rbx, ${FRAMES + 7}
    mov [rax * 8 + ${WINDOW_PT}], rbx
    inc r15
    pop rbx
    pop rax
    add rsp, 8
    iretq
`;
