/**
 * Fetch grants of one vCPU: linear pages whose blocks may be entered without
 * asking the translator (design §7), as link numbers in linear memory.
 *
 * A link number stands for one linear page, mode (privilege included), physical
 * page and generation of the code there; numbers never come back for anything
 * else. Chains to another page and jump-cache entries hold the number that they
 * were made with and are valid while the table, indexed by linear page, shows
 * it. So dropping one grant ends just the links into its page, and granting
 * the same page again (after a flush, say) makes them valid again.
 */
import type { CpuContext } from "../../context.ts";
import { Outcome } from "../../isa/row.ts";
import { ITLB_ENTRIES } from "../../layout.ts";
import { Access } from "../../port.ts";
import { ExecReason } from "../backend.ts";
import { type Area, CELL } from "./area.ts";
import { linearOf, type Mode } from "./mode.ts";
import { NO_LINK } from "./record.ts";

/**
 * Translates RIP's page as its instruction's fetch does, whoever executes it.
 * @returns ExecReason, or 0 also where RIP is beyond its limit
 */
export function fetchPage(cpu: CpuContext, mode: Mode, rip: bigint): number {
  const { access } = cpu;
  const inside = mode.codeSize === 64
    ? access.canonical(rip)
    : rip <= mode.limit;
  if (!inside) return 0;
  const linear = linearOf(mode, rip);
  const page = Number(linear >> 12n), offset = Number(linear & 0xfffn);
  access.outcome = 0;
  if (access.frame(page, offset, Access.Fetch) >= 0) return 0;
  return access.outcome === Outcome.Stage2
    ? ExecReason.Stage2
    : ExecReason.Fault;
}

/** What a link number stands for. */
interface Link {
  readonly number: number;
  readonly linearPage: number;
  readonly mode: Mode;
  readonly frame: number;
}

/** As many as the architectural TLB, by the same index: no other conflicts. */
export const FETCH_ENTRIES = ITLB_ENTRIES;
/** Distance from supervisor to user entries. */
export const FETCH_HALF = FETCH_ENTRIES * 4;
/** Grants up to which they are dropped one by one. */
const FEW = 64;
/** Most links to one physical page; with more, the oldest goes. */
const PAGE_LINKS = 16;

/** See the file header. */
export class Links {
  private readonly u32: Uint32Array;
  private readonly cells: number;
  /** By place in the table: what the number there stands for. */
  private readonly granted: (Link | undefined)[] = [];
  private byFrame = new Map<number, Link[]>();
  private last = 0;
  /** Indices of grants since all were dropped; more than FEW: too many to list. */
  private readonly recent: number[] = [];
  /** Byte offset of the half in force. */
  private half: number;
  private mode: Mode | undefined;
  /** Whose grants the halves hold. */
  private readonly modes: [Mode | undefined, Mode | undefined] = [
    undefined,
    undefined,
  ];

  constructor(
    memory: WebAssembly.Memory,
    private readonly area: Area,
    private readonly cpu: CpuContext,
  ) {
    this.u32 = new Uint32Array(memory.buffer);
    this.cells = area.cells >>> 2;
    this.half = area.fetch;
    this.granted = new Array(2 * FETCH_ENTRIES).fill(undefined);
    // Empty jump-cache entries must match no grant, not even none.
    this.u32.fill(NO_LINK, area.jump >>> 2, area.fetch >>> 2);
    this.dropAll();
  }

  /** Mode and privilege in force. */
  enter(mode: Mode): void {
    if (mode === this.mode) return;
    this.mode = mode;
    const which = mode.user ? 1 : 0;
    this.half = this.area.fetch + which * FETCH_HALF;
    this.u32[this.cells + (CELL.fetch >> 2)] = this.half;
    if (this.modes[which] === mode) return;
    this.modes[which] = mode;
    const first = which * FETCH_ENTRIES;
    this.granted.fill(undefined, first, first + FETCH_ENTRIES);
    this.u32.fill(0, this.half >>> 2, (this.half + FETCH_HALF) >>> 2);
  }

  /** Absolute offset of a linear page's place in the table. */
  place(linearPage: number): number {
    return this.half + (linearPage & (FETCH_ENTRIES - 1)) * 4;
  }

  /** The link number in force at a place; 0 for none. */
  numberAt(place: number): number {
    return this.u32[place >>> 2];
  }

  /** Physical page of a granted linear page; −1 without a grant. */
  private frameOf(linearPage: number): number {
    const link = this.granted[this.indexOf(this.place(linearPage))];
    return link !== undefined && link.linearPage === linearPage
      ? link.frame
      : -1;
  }

  /** Physical page of a linear page's code, with a grant; −1 where none may be given. */
  physicalPage(linearPage: number): number {
    const { cpu } = this;
    let frame = this.frameOf(linearPage);
    if (frame >= 0) return frame;
    const { translator, physical } = cpu;
    if (!translator.grantable(cpu, linearPage, Access.Fetch)) return -1;
    frame = translator.translate(cpu, linearPage, 0, Access.Fetch);
    if (frame < 0 || frame >= physical.ramPages) return -1;
    this.grant(linearPage, frame);
    return frame;
  }

  /** Grants a linear page of the mode in force. */
  grant(linearPage: number, frame: number): void {
    const mode = this.mode!;
    let links = this.byFrame.get(frame);
    if (links === undefined) {
      links = [];
      this.byFrame.set(frame, links);
    }
    let link = links.find((l) =>
      l.linearPage === linearPage && l.mode === mode
    );
    if (link === undefined) {
      if (links.length >= PAGE_LINKS) this.end(links.shift()!);
      link = { number: ++this.last, linearPage, mode, frame };
      links.push(link);
    }
    const place = this.place(linearPage);
    const index = this.indexOf(place);
    this.u32[place >>> 2] = link.number;
    this.granted[index] = link;
    if (this.recent.length <= FEW) this.recent.push(index);
  }

  /** Ends the grants of a linear page. */
  dropPage(linearPage: number): void {
    const index = linearPage & (FETCH_ENTRIES - 1);
    const { granted } = this;
    if (granted[index]?.linearPage === linearPage) this.clear(index);
    if (granted[index + FETCH_ENTRIES]?.linearPage === linearPage) {
      this.clear(index + FETCH_ENTRIES);
    }
  }

  /** Ends every grant. */
  dropAll(): void {
    const { granted, recent, u32 } = this;
    const start = this.area.fetch >>> 2;
    if (recent.length <= FEW) {
      for (const index of recent) {
        granted[index] = undefined;
        u32[start + index] = 0;
      }
    } else {
      granted.fill(undefined);
      u32.fill(0, start, start + 2 * FETCH_ENTRIES);
    }
    recent.length = 0;
  }

  /** Code of a physical page is no more: its link numbers never come back. */
  retire(frame: number): void {
    const links = this.byFrame.get(frame);
    if (links === undefined) return;
    this.byFrame.delete(frame);
    for (const link of links) this.end(link);
  }

  /** All code is no more. */
  retireAll(): void {
    this.byFrame.clear();
    this.dropAll();
  }

  private end(link: Link): void {
    const index = link.linearPage & (FETCH_ENTRIES - 1);
    const at = link.mode.user ? index + FETCH_ENTRIES : index;
    if (this.granted[at] === link) this.clear(at);
  }

  private clear(index: number): void {
    this.granted[index] = undefined;
    this.u32[(this.area.fetch >>> 2) + index] = 0;
  }

  private indexOf(place: number): number {
    return (place - this.area.fetch) >>> 2;
  }
}
