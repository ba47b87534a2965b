/**
 * Which instructions of a block may leave the arithmetic flags alone, because
 * later ones of the block set them anew before anything can read them
 * (performance.md §T0, dead-flag forms).
 *
 * Invariant: an instruction that may leave compiled code before its end (load,
 * store, fault) needs all flags before it and never loses its own, so that
 * whoever looks from outside finds RFLAGS exact.
 */
import { CELL } from "./area.ts";
import { Kind, type Node } from "./node.ts";
import { type Statement, walk } from "./statement.ts";

/** Bits of a set of flag cells. */
export const FR = 1, FC = 2;
const ALL = FR | FC;

/** What a form means to the flag cells. */
export interface FlagUse {
  /** Always set anew. */
  readonly writes: number;
  /** Read, by flag results too. */
  readonly reads: number;
  /** Read by a form that leaves the flags alone. */
  readonly dataReads: number;
  /** May leave before its end. */
  readonly exits: boolean;
}

function readsOf(node: Node | undefined, seen: Set<Node>): number {
  if (node === undefined || seen.has(node)) return 0;
  seen.add(node);
  if (node.kind === Kind.Cell) {
    const cell = Number(node.value);
    return cell === CELL.fr ? FR : cell === CELL.fc ? FC : 0;
  }
  return node.args.reduce((set, arg) => set | readsOf(arg, seen), 0);
}

/** From what the form's `emit` function recorded. */
export function flagUse(statements: readonly Statement[]): FlagUse {
  let writes = 0, exits = false, other = 0, own = 0;
  const read = (node: Node | undefined): number => readsOf(node, new Set());
  for (const s of statements) {
    if (s.kind !== "flags") continue;
    if (s.fr) writes |= FR;
    if (s.fc) writes |= FC;
  }
  for (const s of walk(statements)) {
    switch (s.kind) {
      case "flags":
        own |= read(s.fr) | read(s.fc);
        break;
      case "field":
      case "cell":
        other |= read(s.value);
        break;
      case "register":
        other |= read(s.value) | read(s.target.place);
        break;
      case "if":
        other |= read(s.condition);
        break;
      case "branch": // at the block's end, after all commits
        other |= read(s.condition) | read(s.target);
        break;
      default: // memory, faults, repetition
        exits = true;
    }
  }
  return { writes, reads: own | other, dataReads: other, exits };
}

/**
 * @param uses of the block's instructions, in order
 * @returns for each whether it may leave the flags alone
 */
export function deadFlags(uses: readonly FlagUse[]): boolean[] {
  const dead = new Array<boolean>(uses.length).fill(false);
  let live = ALL;
  for (let i = uses.length - 1; i >= 0; i--) {
    const { writes, reads, dataReads, exits } = uses[i];
    if (exits) {
      live = ALL;
      continue;
    }
    if (writes !== 0 && (writes & live) === 0) {
      dead[i] = true;
      live |= dataReads;
    } else live = (live & ~writes) | reads;
  }
  return dead;
}
