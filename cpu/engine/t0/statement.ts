/**
 * What one form does, in order: the tree of statements that emit.ts records
 * and codegen.ts turns into WebAssembly. Effects (loads, stores, faults) happen
 * where they stand; commits (registers, flags, branches) at the end.
 */
import type { Node } from "./node.ts";

/** A general register as a destination. */
export interface Target {
  /** Its byte offset, as the record says; undefined for a fixed one. */
  readonly place: Node | undefined;
  /** Fixed register number. */
  readonly register: number;
}

/** Memory access through a segment. */
export interface AccessPlace {
  readonly segment: number;
  readonly offset: Node;
  /** Bytes. */
  readonly size: number;
}

/** Load; `write` judges and marks as for a write. */
export interface Load extends AccessPlace {
  readonly kind: "load";
  readonly value: Node;
  readonly write: boolean;
  /** Some later store goes to the same place. */
  reused: boolean;
}
/** Store; `probe` is the load that already checked the place. */
export interface Store extends AccessPlace {
  readonly kind: "store";
  readonly value: Node;
  readonly probe: Load | undefined;
}
export interface FaultIf {
  readonly kind: "fault";
  readonly condition: Node;
  readonly vector: number;
  readonly errorCode: number;
}
export interface SlowIf {
  readonly kind: "slow";
  readonly condition: Node;
}
export interface If {
  readonly kind: "if";
  readonly condition: Node;
  readonly then: readonly Statement[];
  readonly otherwise: readonly Statement[];
}
export interface SetRegister {
  readonly kind: "register";
  readonly target: Target;
  /** Bits. */
  readonly size: number;
  readonly value: Node;
}
/** System state: a field of the vCPU page. */
export interface SetField {
  readonly kind: "field";
  /** In the vCPU page. */
  readonly offset: number;
  /** Bits. */
  readonly size: number;
  readonly value: Node;
}
/** A control cell, 64 bits. */
export interface SetCell {
  readonly kind: "cell";
  readonly offset: number;
  readonly value: Node;
}
/** Load of a linear address that is granted; else the instruction is a slow case. */
export interface Peek {
  readonly kind: "peek";
  readonly linear: Node;
  /** Bytes. */
  readonly size: number;
  readonly value: Node;
}
/** New FR and FC. */
export interface SetFlags {
  readonly kind: "flags";
  readonly fr: Node | undefined;
  readonly fc: Node | undefined;
}
export interface Repeat {
  readonly kind: "repeat";
  readonly again: Node;
}
/** Where control goes: exactly one of `condition` (jcc), `target` (indirect) or neither (direct). */
export interface Branch {
  readonly kind: "branch";
  readonly condition: Node | undefined;
  readonly target: Node | undefined;
}
export type Statement =
  | Load
  | Store
  | FaultIf
  | SlowIf
  | If
  | SetRegister
  | SetField
  | SetCell
  | Peek
  | SetFlags
  | Repeat
  | Branch;

/** Whether a list commits anything, at any depth. */
export function commits(list: readonly Statement[]): boolean {
  return list.some((s) =>
    s.kind === "register" || s.kind === "field" || s.kind === "cell" ||
    s.kind === "flags" || s.kind === "branch" || s.kind === "repeat" ||
    (s.kind === "if" && (commits(s.then) || commits(s.otherwise)))
  );
}

/** Every statement of a list, in order, at any depth. */
export function* walk(list: readonly Statement[]): Generator<Statement> {
  for (const s of list) {
    yield s;
    if (s.kind === "if") {
      yield* walk(s.then);
      yield* walk(s.otherwise);
    }
  }
}
