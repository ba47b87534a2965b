/**
 * Checks that need no running machine: documentation, event codecs, upcasts,
 * cell codecs.
 */
import {
  ByteReader,
  ByteWriter,
  fieldsOf,
  makeState,
  messageOf,
  record,
  stateToJson,
  toHex,
} from "../core/mod.ts";
import type {
  CellSpec,
  EventToken,
  Field,
  OldPayload,
  Plugin,
  StateSpecs,
} from "../core/mod.ts";
import type { CheckName, Finding } from "./report.ts";

type Add = (check: CheckName, message: string) => void;

/** Collects findings. */
export function collector(): {
  readonly findings: Finding[];
  readonly add: Add;
} {
  const findings: Finding[] = [];
  return {
    findings,
    add: (check, message) => void findings.push({ check, message }),
  };
}

const PLACEHOLDER = /\b(todo|fixme|xxx|tbd|lorem ipsum)\b/i;

function checkDoc(doc: string, subject: string, add: Add): void {
  if (doc.trim() === "") {
    add("docs", `${subject}: doc is empty, say what it is`);
  }
  if (PLACEHOLDER.test(doc)) {
    add("docs", `${subject}: doc has a placeholder (${doc}), finish it`);
  }
}

/** Everything public is documented. */
export function checkDocs(plugin: Plugin, add: Add): void {
  checkDoc(plugin.doc, `plugin ${plugin.name}`, add);
  for (const [name, field] of Object.entries(plugin.options)) {
    checkDoc(field.doc, `option ${name}`, add);
  }
  for (const event of plugin.emits) {
    checkDoc(event.doc, `event ${event.name}`, add);
    for (const [name, field] of Object.entries(event.fields)) {
      checkDoc(field.doc, `event ${event.name}, field ${name}`, add);
    }
  }
  for (const [name, service] of Object.entries(plugin.provides)) {
    checkDoc(service.doc, `service ${service.name} (provides.${name})`, add);
  }
  checkCellDocs(plugin.state, "", add);
}

function checkCellDocs(cells: StateSpecs, path: string, add: Add): void {
  for (const [name, cell] of Object.entries(cells)) {
    checkDoc(cell.doc, `cell ${path}${name}`, add);
    if (cell.is === "container" && cell.cells !== undefined) {
      checkCellDocs(cell.cells, `${path}${name}.`, add);
    }
  }
}

/** Each event's codecs agree, and its signature alone can read it. */
export function checkEvents(plugin: Plugin, add: Add): void {
  for (const event of plugin.emits) {
    const bare = record(fieldsOf(event.signature));
    for (const payload of event.samples()) {
      const subject = `event ${event.name}, payload ${event.toText(payload)}`;
      try {
        const out = new ByteWriter();
        event.encode(payload, out);
        const raw = out.finish();
        const from = new ByteReader(raw);
        const again = new ByteWriter();
        event.encode(event.decode(from), again);
        if (!from.done || toHex(again.view()) !== toHex(raw)) {
          add("events", `${subject}: bytes don't round trip`);
        }
        const json = JSON.parse(JSON.stringify(event.toJson(payload)));
        if (event.toText(event.fromJson(json)) !== event.toText(payload)) {
          add("events", `${subject}: JSON doesn't round trip`);
        }
        const read = bare.decode(new ByteReader(raw)) as OldPayload;
        if (bare.toText(read) !== event.toText(payload)) {
          add("events", `${subject}: its signature reads something else`);
        }
        checkWords(event, payload, subject, add);
      } catch (thrown) {
        add("events", `${subject}: ${messageOf(thrown)}`);
      }
    }
  }
}

function checkWords(
  event: EventToken,
  payload: unknown,
  subject: string,
  add: Add,
): void {
  if (!event.hot) return;
  const words = new Uint32Array(event.words);
  event.toWords(payload, words, 0);
  if (event.toText(event.fromWords(words, 0)) !== event.toText(payload)) {
    add("events", `${subject}: ring words don't round trip`);
  }
}

/** Every older version can be read, shown with a payload of each. */
export function checkUpcasts(
  plugin: Plugin,
  old: {
    readonly [event: string]: { readonly [version: number]: OldPayload };
  },
  add: Add,
): void {
  for (const event of plugin.emits) {
    for (let version = 1; version < event.version; version++) {
      const subject = `event ${event.name}, version ${version}`;
      if (!event.upcasts.includes(version)) {
        add("upcasts", `${subject}: no upcast, add one to its declaration`);
        continue;
      }
      const payload = old[event.name]?.[version];
      if (payload === undefined) {
        add("upcasts", `${subject}: not tried, give a payload in oldPayloads`);
        continue;
      }
      try {
        event.upcast(version, payload);
      } catch (thrown) {
        add("upcasts", `${subject}: ${messageOf(thrown)}`);
      }
    }
  }
}

/** Cells: initial and sampled states survive a round trip, reset works. */
export function checkCells(plugin: Plugin, add: Add): void {
  for (const [name, spec] of Object.entries(plugin.state)) {
    if (spec.is === "field") checkScalar(name, spec, add);
    else checkContainer(name, spec, add);
  }
}

function checkScalar(name: string, field: Field<unknown>, add: Add): void {
  for (const value of [field.initial, ...field.samples]) {
    const cell = makeState({ [name]: field });
    (cell.live as Record<string, unknown>)[name] = value;
    checkRoundTrip(name, field, cell, add);
  }
}

function checkContainer(name: string, spec: CellSpec, add: Add): void {
  const cell = makeState({ [name]: spec });
  const fresh = encode(cell);
  checkRoundTrip(name, spec, cell, add);
  cell.decode(new ByteReader(fresh));
  cell.reset();
  if (toHex(encode(cell)) !== toHex(fresh)) {
    add("cells", `cell ${name}: reset doesn't give the initial state`);
  }
}

function encode(cell: { encode(out: ByteWriter): void }): Uint8Array {
  const out = new ByteWriter();
  cell.encode(out);
  return out.finish();
}

function checkRoundTrip(
  name: string,
  spec: CellSpec,
  cell: { encode(out: ByteWriter): void },
  add: Add,
): void {
  checkBlob({ [name]: spec }, encode(cell), `cell ${name}`, add);
}

/** An encoding is read to its end and written again the same. */
export function checkBlob(
  cells: StateSpecs,
  bytes: Uint8Array,
  subject: string,
  add: Add,
): void {
  try {
    const twin = makeState(cells);
    const from = new ByteReader(bytes);
    twin.decode(from);
    if (!from.done) add("cells", `${subject}: decode leaves bytes over`);
    if (toHex(encode(twin)) !== toHex(bytes)) {
      add("cells", `${subject}: encode(decode(x)) isn't x`);
    }
    const plain = new ByteReader(bytes);
    stateToJson(cells, plain);
    if (!plain.done) add("cells", `${subject}: toJson leaves bytes over`);
  } catch (thrown) {
    add("cells", `${subject}: ${messageOf(thrown)}`);
  }
}
