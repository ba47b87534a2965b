/**
 * What all vCPUs of one T0 engine share: decoded instructions, forms, modes,
 * and the reference that stands in where there is no compiled code.
 */
import type { Backend, CallRows } from "../backend.ts";
import type { DecodeCache } from "./decoded.ts";
import type { Form, Forms } from "./form.ts";
import type { Modes } from "./mode.ts";

/** See the file header. */
export interface Shared {
  readonly memory: WebAssembly.Memory;
  readonly forms: Forms;
  readonly modes: Modes;
  readonly decoded: DecodeCache;
  readonly reference: Backend;
  /** Undefined in tests without a machine loop. */
  callRows: CallRows | undefined;
  /** Forms to have in the main function. */
  readonly hot: readonly Form[];
  /** Executions by the reference before a form is compiled. */
  readonly threshold: number;
  /** See T0Options. */
  readonly eager: boolean;
}
