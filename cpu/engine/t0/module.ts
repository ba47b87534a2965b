/**
 * The generated interpreter of one vCPU and one choice of hot facts: a main
 * function that dispatches by br_table to the forms inside it, and all other
 * forms as functions of a table, compiled when they have proved to be needed.
 *
 * `run(record)` executes from a record whose block has been accounted for in
 * CELL.left, until something must be done in TypeScript (CELL.reason).
 */
import {
  FunctionBody,
  I32,
  I64,
  Mem,
  Op,
  type ValueType,
  VOID,
  WasmModule,
} from "../wasm.ts";
import { Leave } from "./area.ts";
import { FormGenerator } from "./codegen.ts";
import type { Form } from "./form.ts";
import {
  enterBlock,
  type Flow,
  type Functions,
  Locals,
  observes,
  type Target,
} from "./generator.ts";
import { Helpers } from "./helpers.ts";
import {
  CROSSING,
  FIRST_FORM,
  PSEUDO,
  RECORD,
  RECORD_BYTES,
} from "./record.ts";

/** Slow paths in TypeScript: (record, SlowInfo) → 0, or not 0 after a fault. */
export interface SlowPaths {
  load(record: number, info: number): number;
  store(record: number, info: number): number;
  /** Executes a `call` row. @returns 0 to go on behind it, or not 0 to leave: the reason is stored */
  procedure(record: number): number;
}

/**
 * Compiled modules by what they were made for: machines alike share them, and
 * with them what the host has optimised. Grows with distinct forms only.
 */
const COMPILED = new Map<string, WebAssembly.Module>();

/** Most temporaries of a form in the main function (see Locals). */
export const LEAN = 6;

const TABLE_STEP = 1024;
const FORM_TYPE: [ValueType[], ValueType[]] = [[I32], [I32]];

/** See the file header. */
export class Code {
  /** Executes from a record. */
  readonly run: (record: number) => void;
  private readonly table: WebAssembly.Table;
  private readonly fallback: () => void;
  private readonly compiled = new Set<number>();
  private readonly key: string;
  /** Modules made so far, for tests and measurements. */
  modules = 0;

  constructor(
    private readonly memory: WebAssembly.Memory,
    private readonly target: Target,
    private readonly slow: SlowPaths,
    hot: readonly Form[],
  ) {
    this.table = new WebAssembly.Table({ initial: 0, element: "anyfunc" });
    this.key = JSON.stringify(target);
    // Forms of several instructions serve where no fact of each is wanted.
    const inline = observes(target)
      ? hot.filter((form) => form.plain === undefined)
      : hot;
    const names = inline.map((form) => `${form.id}:${form.key}`).join();
    const { exports: { single, fallback } } = this.instantiate("single", () => {
      const { module, functions } = this.module();
      const fallback = module.function(this.fallbackForm(functions), [I32]);
      module.exportFunction("fallback", fallback);
      module.exportFunction("single", module.function(dispatch(module), [I32]));
      return module;
    });
    const { exports } = this.instantiate(`main ${names}`, () => {
      const module = new WasmModule();
      const single = module.importFunction("t0", "single", ...FORM_TYPE);
      const { functions } = this.module(module);
      const main = this.main(functions, inline, single);
      module.exportFunction("run", module.function(main, []));
      return module;
    }, { single });
    this.run = exports.run as (record: number) => void;
    this.fallback = fallback as () => void;
    for (const form of inline) this.compiled.add(form.id);
  }

  /** Whether a form has code; else the reference stands in. */
  has(form: Form): boolean {
    return this.compiled.has(form.id);
  }

  /** Makes room in the dispatch table for form numbers below `count`. */
  reserve(count: number): void {
    while (this.table.length < count) {
      const start = this.table.grow(TABLE_STEP);
      for (let i = start; i < start + TABLE_STEP; i++) {
        this.table.set(i, this.fallback);
      }
    }
  }

  /** Compiles a form as a function. */
  compile(form: Form): void {
    this.compiled.add(form.id);
    this.reserve(form.id + 1);
    const { exports } = this.instantiate(form.key, () => {
      const { module, functions } = this.module();
      const index = module.function(this.single(functions, form), [I32]);
      module.exportFunction("form", index);
      return module;
    });
    this.table.set(form.id, exports.form as () => void);
  }

  /** What every module begins with. */
  private module(
    module = new WasmModule(),
  ): { module: WasmModule; functions: Functions } {
    const load = module.importFunction("t0", "load", [I32, I32], [I32]);
    const store = module.importFunction("t0", "store", [I32, I32], [I32]);
    const procedure = module.importFunction("t0", "procedure", [I32], [I32]);
    // With the constant part declared, constant addresses need no bounds check.
    const end = this.target.area.poolEnd;
    module.importMemory("t0", "memory", Math.ceil(end / 65536));
    module.importTable("t0", "table", 0);
    const helpers = new Helpers(module, this.target);
    return { module, functions: { load, store, procedure, helpers } };
  }

  /** Instantiates the module called `name`, making it if this is the first of its kind. */
  private instantiate(
    name: string,
    make: () => WasmModule,
    more: WebAssembly.ModuleImports = {},
  ): WebAssembly.Instance {
    this.modules++;
    const { memory, table, slow } = this;
    const imports = {
      memory,
      table,
      load: (record: number, info: number) => slow.load(record, info),
      store: (record: number, info: number) => slow.store(record, info),
      procedure: (record: number) => slow.procedure(record),
      ...more,
    };
    const key = `${this.key} ${name}`;
    let compiled = COMPILED.get(key);
    if (compiled === undefined) {
      compiled = new WebAssembly.Module(make().encode());
      COMPILED.set(key, compiled);
    }
    return new WebAssembly.Instance(compiled, { t0: imports });
  }

  /** A form as (record) → next record, or 0 to leave. */
  private single(functions: Functions, form: Form): FunctionBody {
    const locals = new Locals(new FunctionBody([I32]));
    const { body } = locals;
    const leave = (): void => void body.i32(0).op(Op.return);
    const flow: Flow = {
      advance: () =>
        void body.get(0).i32(RECORD_BYTES).op(Op.i32_add).op(Op.return),
      again: () => void body.get(0).op(Op.return),
      enter: (next) => {
        enterBlock(body, this.target, next, locals.take(I32), leave);
        body.get(next).op(Op.return);
      },
      leave,
    };
    const head = body.local(I64);
    body.get(0).mem(Mem.i64_load, 0).set(head);
    new FormGenerator(locals, this.target, functions, flow, head).form(form);
    body.op(Op.unreachable);
    return body;
  }

  /** Stands in the table for every form without code. */
  private fallbackForm(functions: Functions): FunctionBody {
    const body = new FunctionBody([I32]);
    const flow: Flow = {
      advance: () => {},
      again: () => {},
      enter: () => {},
      leave: () => void body.i32(0).op(Op.return),
    };
    new FormGenerator(new Locals(body), this.target, functions, flow, 0)
      .leaveFor(Leave.Reference);
    body.op(Op.unreachable);
    return body;
  }

  /** @param single index of the function that executes a form of the table */
  private main(
    functions: Functions,
    hot: readonly Form[],
    single: number,
  ): FunctionBody {
    const body = new FunctionBody([I32]);
    const record = 0;
    const locals = new Locals(body);
    const left = body.local(I32), head = body.local(I64);
    let next = 0, entry = 0;
    const leave = (): void => void body.op(Op.return);
    const again = (): void => void body.br(body.level() - next);
    const flow: Flow = {
      advance: () => {
        body.get(record).i32(RECORD_BYTES).op(Op.i32_add).set(record);
        again();
      },
      again,
      enter: (block) =>
        void body.get(block).set(record).br(body.level() - entry),
      leave,
    };
    const generator = new FormGenerator(
      locals,
      this.target,
      functions,
      flow,
      head,
    );
    const cases: { id: number; write: () => void }[] = [
      { id: PSEUDO.stop, write: () => generator.leaveFor(Leave.Stop) },
      {
        id: PSEUDO.call,
        write: () => {
          generator.procedure();
          locals.release();
        },
      },
      {
        id: PSEUDO.reference,
        write: () => generator.leaveFor(Leave.Reference),
      },
      {
        id: PSEUDO.crossing,
        write: () => {
          body.get(record).mem(Mem.i32_load, CROSSING.number);
          body.get(record).mem(Mem.i32_load, CROSSING.place);
          body.mem(Mem.i32_load, 0).op(Op.i32_ne).if();
          generator.leaveFor(Leave.Reference);
          body.end();
          flow.advance();
        },
      },
      {
        id: PSEUDO.endLocal,
        write: () => {
          generator.chain(RECORD.next, true);
          locals.release();
        },
      },
      {
        id: PSEUDO.endFar,
        write: () => {
          generator.chain(RECORD.next, false);
          locals.release();
        },
      },
      ...hot.map((form) => ({
        id: form.id,
        write: () => generator.form(form),
      })),
    ];
    body.loop(VOID);
    next = body.level();
    body.block();
    entry = body.level();
    body.block(); // the indirect case
    for (let i = 0; i < cases.length; i++) body.block();
    const depths: number[] = [];
    const size = Math.max(FIRST_FORM, ...cases.map((c) => c.id + 1));
    for (let id = 0; id < size; id++) depths.push(cases.length);
    cases.forEach((c, i) => depths[c.id] = i);
    body.get(record).mem(Mem.i64_load, 0).tee(head);
    body.op(Op.i32_wrap_i64).i32(0xffff).op(Op.i32_and);
    body.brTable(depths, cases.length);
    for (const c of cases) {
      body.end();
      c.write();
      body.op(Op.unreachable);
    }
    body.end();
    body.get(record).call(single).tee(record).brIf(body.level() - next);
    leave();
    body.end();
    enterBlock(body, this.target, record, left, leave);
    body.br(body.level() - next);
    body.end();
    return body;
  }
}

/**
 * (record) → next record, by the table's function of its form. In an instance of
 * its own, because V8 takes the first few targets of an indirect call for the
 * only ones, and compiles the function around it anew when another comes: half
 * a second and more for the main one.
 */
function dispatch(module: WasmModule): FunctionBody {
  const body = new FunctionBody([I32]);
  body.get(0).get(0).mem(Mem.i32_load16_u, 0);
  body.callIndirect(module.type(...FORM_TYPE));
  return body;
}

/** Temporaries that a form's quiet code takes. */
export function temporariesOf(form: Form): number {
  const places = {
    read: 0,
    write: 0,
    jump: 0,
    fetch: 0,
    pool: 0,
    poolEnd: 0,
    rips: 0,
  };
  const target: Target = {
    ...{ cpu: 0, vcpu: 0, ram: 0, ring: 0, area: { cells: 0, ...places } },
    ...{ retired: false, memory: false, registers: false },
  };
  const locals = new Locals(new FunctionBody([I32]));
  const helpers = new Helpers(new WasmModule(), target);
  const nothing = (): void => {};
  new FormGenerator(
    locals,
    target,
    { load: 0, store: 0, procedure: 0, helpers },
    { advance: nothing, again: nothing, enter: nothing, leave: nothing },
    0,
  ).form(form);
  return locals.made;
}
