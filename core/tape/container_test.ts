/**
 * The container: preamble, frames, lanes, pages, index, schemas. Round trips
 * over seeded values, and refusals with their reasons.
 */
import {
  assert,
  assertEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { ByteReader, ByteWriter, sameBytes } from "../bytes.ts";
import { TapeError, VmtapeError } from "../errors.ts";
import { defineEvent } from "../event.ts";
import { bytes, text, u32, u64, u8 } from "../fields.ts";
import { isZeroPage, Page, sha256, ZERO_PAGE } from "../keyframe.ts";
import { crc32 as crcOf } from "./crc.ts";
import { RandomStream } from "../random.ts";
import { LaneEncoder, SchemaTable } from "./encoder.ts";
import {
  decodeHeader,
  decodePayload,
  decodePreamble,
  encodeFrame,
  encodePreamble,
  Feature,
  frameBytes,
  FrameFlag,
  FrameType,
  frameTypeName,
  HEADER_BYTES,
  MAX_RAW_BYTES,
  PREAMBLE_BYTES,
} from "./frames.ts";
import { INDEX_EVERY } from "./index.ts";
import { decodeLane, LANE_CUT_BYTES, LaneBuilder } from "./lanes.ts";
import { canonicalJson, decodeManifest } from "./manifest.ts";
import { PAGES_PER_FRAME, PageStore } from "./pages.ts";
import { TapeReader } from "./reader.ts";
import { payloadReader, schemaOf, tokenOf } from "./schema.ts";
import { MemoryStore } from "./store.ts";
import { chainNext, chainStart, TapeWriter } from "./writer.ts";

const ID = Uint8Array.from(sha256(Uint8Array.of(1)));

function randomBytes(random: RandomStream, length: number): Uint8Array {
  return Uint8Array.from({ length }, () => random.below(256));
}

Deno.test("preamble: round trip, and what is wrong with others", () => {
  const encoded = encodePreamble({
    required: Feature.zstd,
    optional: 9,
    id: ID,
  });
  assertEquals(encoded.length, PREAMBLE_BYTES);
  assertEquals(decodePreamble(encoded), {
    required: Feature.zstd,
    optional: 9,
    id: ID.slice(0, 24),
  });
  const text = new TextEncoder().encode("machine: { cpu: qemu64 }\n".repeat(4));
  assertThrows(
    () => TapeReader.open(new MemoryStore(text)),
    TapeError,
    "does not start like a tape",
  );
  const future = encodePreamble({ required: 0x40, optional: 0, id: ID });
  assertThrows(
    () => TapeReader.open(new MemoryStore(future)),
    TapeError,
    "requires features 0x40",
  );
  const side = encodePreamble({
    required: Feature.sidecar,
    optional: 0,
    id: ID,
  });
  assertThrows(
    () => TapeReader.open(new MemoryStore(side)),
    TapeError,
    "sidecar",
  );
});

Deno.test("frames: round trip, padding, suffix; every flipped byte is seen", () => {
  const random = new RandomStream(1n, "frames");
  for (let n = 0; n < 60; n++) {
    const raw = n % 2 === 0
      ? randomBytes(random, random.below(300))
      : new Uint8Array(random.below(2000)).fill(n);
    const type = [FrameType.lane, FrameType.input, FrameType.index][n % 3];
    const position = random.below(2 ** 31) * (n % 2 === 0 ? 1 : 2 ** 20);
    const whole = encodeFrame(
      { type, position, count: n, ordinal: 7, continues: n % 5 === 0 },
      raw,
    );
    assertEquals(whole.length % 8, 0);
    const header = decodeHeader(whole, 640);
    assert(header !== undefined);
    assertEquals(
      [header.type, header.position, header.count, header.ordinal],
      [type, position, n, 7],
    );
    assertEquals(header.rawLength, raw.length);
    assertEquals(frameBytes(header.storedLength), whole.length);
    assertEquals(
      (header.flags & FrameFlag.critical) !== 0,
      type !== FrameType.index,
    );
    assertEquals((header.flags & FrameFlag.continues) !== 0, n % 5 === 0);
    assertEquals(decodePayload(header, whole.subarray(HEADER_BYTES)), raw);
    // From the end backwards: the last 8 bytes give the frame's length.
    const view = new DataView(whole.buffer);
    assertEquals(view.getUint32(whole.length - 8, true), whole.length);
    for (let i = 0; i < whole.length; i += 1 + random.below(9)) {
      whole[i] ^= 0x10;
      const again = decodeHeader(whole, 0);
      const payload = again &&
        decodePayload(again, whole.subarray(HEADER_BYTES));
      assert(again === undefined || "error" in (payload ?? {}), `byte ${i}`);
      whole[i] ^= 0x10;
    }
  }
  assertThrows(() =>
    encodeFrame(
      { type: FrameType.lane, position: 0, count: 0, ordinal: 0 },
      new Uint8Array(MAX_RAW_BYTES + 1),
    ), RangeError);
  assertEquals(frameTypeName(FrameType.page), "page");
  assertEquals(frameTypeName(99), "type 99");
});

Deno.test("lanes: random events come back, whatever the batching", () => {
  const random = new RandomStream(3n, "lanes");
  for (let n = 0; n < 30; n++) {
    const lane = new LaneBuilder();
    const events: {
      step: number;
      type: number;
      data: Uint8Array | Uint32Array;
    }[] = [];
    let step = random.below(1e9) * 4096;
    const position = step;
    const count = 1 + random.below(300);
    for (let i = 0; i < count; i++) {
      const type = random.below(6);
      if (type < 3) {
        const data = Uint32Array.from(
          { length: type + 1 },
          () => random.below(3) === 0 ? random.u32() : random.below(9),
        );
        // The ring: words lie anywhere in a larger array.
        const ring = new Uint32Array(16);
        ring.set(data, 5);
        lane.words(step, type, ring, 5, data.length);
        events.push({ step, type, data });
      } else {
        const data = randomBytes(random, random.below(20));
        lane.payload(step, type, data);
        events.push({ step, type, data });
      }
      step += random.below(3) === 0 ? random.below(1e6) : random.below(2);
    }
    const bound = lane.size;
    const cut = lane.cut();
    assert(cut !== undefined);
    assert(cut.raw.length <= bound, `${cut.raw.length} over ${bound}`);
    assertEquals([cut.position, cut.count], [position, count]);
    const read = decodeLane(cut.raw, cut.position);
    assertEquals(
      read.map((one) => ({
        step: one.step,
        type: one.type,
        data: one.words === undefined
          ? Uint8Array.from(one.bytes ?? [])
          : Uint32Array.from(one.words),
      })),
      events,
    );
    assertEquals(lane.cut(), undefined);
    // Cut short anywhere they are refused, not misread.
    assertThrows(() => decodeLane(cut.raw.subarray(0, cut.raw.length - 1), 0));
  }
});

const Sample = defineEvent({
  name: "sample.taken",
  version: 2,
  kind: "fact",
  doc: "A sample",
  fields: { what: text("What"), many: u32("How many") },
  upcast: { 1: (old) => ({ what: String(old.what), many: 1 }) },
});

Deno.test("encoder: lanes are cut by bytes alone and hold everything", () => {
  const store = new MemoryStore();
  const writer = new TapeWriter(store, ID);
  const encoder = new LaneEncoder(writer, new SchemaTable(writer));
  const random = new RandomStream(4n, "cuts");
  const payload = () => ({
    what: "x".repeat(random.below(400)),
    many: random.u32(),
  });
  const sent = Array.from(
    { length: 3000 },
    (_, i) => ({ step: 2 * i, ...payload() }),
  );
  for (const { step, what, many } of sent) {
    encoder.event(step, Sample, { what, many });
  }
  // One event larger than a frame.
  const large = { step: 6001, what: "y".repeat(3 * MAX_RAW_BYTES), many: 1 };
  encoder.event(large.step, Sample, large);
  // A gap of more than 32 bits of steps.
  const late = { step: 2 ** 40, what: "late", many: 2 };
  encoder.event(late.step, Sample, late);
  encoder.flush();
  writer.end({
    step: 2 ** 40,
    time: 2 ** 40,
    stopped: false,
    waiting: false,
    failed: false,
    closed: true,
  });
  const tape = TapeReader.open(store, { verify: true });
  assertEquals(tape.state, "clean");
  const lanes = tape.frames.filter(({ type }) => type === FrameType.lane);
  assert(lanes.length > 4);
  assert(lanes.every(({ rawLength }) => rawLength <= MAX_RAW_BYTES));
  assert(lanes[0].rawLength > LANE_CUT_BYTES / 2);
  const read = payloadReader(tape.schemas[0], Sample);
  const got = [...tape.events()].map((event) => ({
    step: event.step,
    ...(read(event) as { what: string; many: number }),
  }));
  const all = [...sent, large, late];
  assertEquals(got.length, all.length);
  all.forEach(({ step, what, many }, i) => {
    assert(
      got[i].step === step && got[i].what === what && got[i].many === many,
      `event ${i}`,
    );
  });
  const window = [...tape.events(1000, 1010)].map(({ step }) => step);
  assertEquals(window, [1000, 1002, 1004, 1006, 1008]);
  assertThrows(() => encoder.event(5, Sample, late), VmtapeError, "order");
});

Deno.test("schemas: without the plugin, through upcasts, or refused", () => {
  const old = tokenOf({
    id: 0,
    name: "sample.taken",
    version: 1,
    kind: "fact",
    detail: "boundaries",
    words: 0,
    signature: "record(what:text)",
    fingerprint: "not looked at here",
  });
  const out = new ByteWriter();
  old.encode({ what: "old" }, out);
  const schema = schemaOf(old, 0);
  assertEquals(payloadReader(schema, old)({ bytes: out.finish() }), {
    what: "old",
  });
  assertEquals(payloadReader(schema, Sample)({ bytes: out.finish() }), {
    what: "old",
    many: 1,
  });
  const newer = schemaOf(
    defineEvent({
      name: "sample.taken",
      version: 3,
      kind: "fact",
      doc: "Newer",
      fields: { what: u8() },
    }),
    0,
  );
  const error = assertThrows(() => payloadReader(newer, Sample), TapeError);
  assertStringIncludes(error.message, "version 3");
  const hot = defineEvent({
    name: "sample.hot",
    version: 1,
    kind: "fact",
    doc: "Hot",
    fields: { a: u64("A"), b: u8("B") },
    hot: true,
  });
  const words = new Uint32Array(3);
  hot.toWords({ a: 5n << 40n, b: 7 }, words, 0);
  assertEquals(
    payloadReader(schemaOf(hot, 1), tokenOf(schemaOf(hot, 1)))({ words }),
    {
      a: 5n << 40n,
      b: 7,
    },
  );
});

Deno.test("pages: stored once by content, numbered by first use", () => {
  const store = new MemoryStore();
  const writer = new TapeWriter(store, ID);
  const pages = new PageStore(writer);
  const page = (n: number) =>
    new Page(new Uint8Array(4096).fill(n & 255, n >> 8));
  assertEquals(pages.add(ZERO_PAGE), 0);
  assertEquals(pages.add(new Page(new Uint8Array(4096))), 0);
  const many = Array.from({ length: 200 }, (_, i) => page(i + 1));
  const ids = many.map((one) => pages.add(one));
  assertEquals(ids, many.map((_, i) => i + 1));
  assertEquals(pages.add(page(7)), 7);
  pages.flush();
  assertEquals(pages.add(page(9)), 9);
  assertEquals(pages.add(page(1000)), 201);
  pages.flush();
  const tape = TapeReader.open(store);
  assertEquals(tape.state, "torn");
  const frames = tape.frames.filter(({ type }) => type === FrameType.page);
  assertEquals(frames.map(({ count }) => count), [
    PAGES_PER_FRAME,
    PAGES_PER_FRAME,
    PAGES_PER_FRAME,
    200 - 3 * PAGES_PER_FRAME,
    1,
  ]);
  many.forEach((one, i) => assert(sameBytes(tape.page(i + 1), one.bytes)));
  assert(sameBytes(tape.page(201), page(1000).bytes));
  assert(isZeroPage(tape.page(0)));
  assertThrows(() => tape.page(202), TapeError, "not on the tape");
});

Deno.test("index: a long tape opens the same with and without it", () => {
  const store = new MemoryStore();
  const writer = new TapeWriter(store, ID);
  const raw = new Uint8Array(300).fill(1);
  for (let i = 0; i < 2 * INDEX_EVERY + 10; i++) {
    writer.frame(i % 3 === 0 ? FrameType.note : FrameType.lane, i, 1, raw);
  }
  writer.end({
    step: 5,
    time: 6,
    stopped: true,
    waiting: false,
    failed: false,
    closed: true,
  });
  let reads = 0;
  const counting = {
    size: store.size,
    read(offset: number, length: number) {
      reads++;
      return store.read(offset, length);
    },
  };
  const indexed = TapeReader.open(counting);
  assert(reads < 20, `${reads} reads`);
  const scanned = TapeReader.open(store, { verify: true });
  assertEquals(indexed.frames, scanned.frames);
  assertEquals(indexed.end, scanned.end);
  assertEquals([indexed.state, scanned.state], ["clean", "clean"]);
  assert(scanned.frames.length > 2 * INDEX_EVERY + 12);
  // A flip in a frame that the index vouches for is found when it is read.
  const flipped = store.bytes().slice();
  flipped[indexed.frames[1].offset + HEADER_BYTES + 2] ^= 1;
  const lazy = TapeReader.open(new MemoryStore(flipped));
  assertEquals(lazy.state, "clean");
  [...lazy.payloads(FrameType.lane)];
  assertEquals(lazy.state, "damaged");
  // A flip in the index itself costs only the scan.
  const last = scanned.frames.findLast(({ type }) => type === FrameType.index);
  const noIndex = store.bytes().slice();
  noIndex[(last?.offset ?? 0) + HEADER_BYTES + 3] ^= 1;
  const walked = TapeReader.open(new MemoryStore(noIndex));
  assertEquals(walked.state, "damaged");
  assertEquals(walked.frames.length, scanned.frames.length - 1);
});

Deno.test("chain: a forged frame with right CRCs is found at the next commit", () => {
  const store = new MemoryStore();
  const writer = new TapeWriter(store, ID);
  const body = (n: number) => new Uint8Array(40).fill(n);
  writer.frame(FrameType.lane, 1, 1, body(0));
  assertEquals(
    writer.chainHead,
    chainNext(chainStart(), FrameType.lane, 1, 1, body(0)),
  );
  const at = writer.offset;
  writer.frame(FrameType.lane, 2, 1, body(1));
  const commit = new ByteWriter();
  commit.raw(writer.chainHead);
  commit.u53(0);
  commit.u53(0);
  writer.frame(FrameType.commit, 2, 1, commit.finish());
  const open = (bytes: Uint8Array) =>
    TapeReader.open(new MemoryStore(bytes), { verify: true });
  assertEquals(open(store.bytes()).state, "torn");
  const forged = store.bytes().slice();
  const frame = { type: FrameType.lane, position: 2, count: 1, ordinal: 1 };
  forged.set(encodeFrame(frame, body(2)), at);
  const tape = open(forged);
  assertEquals(tape.state, "damaged");
  assertStringIncludes(tape.lost().join(), "vouches for another chain");
  // A frame cut out whole is missed by its number.
  const end = at + frameBytes(40);
  const cut = new Uint8Array([
    ...store.bytes().subarray(0, at),
    ...store.bytes().subarray(end),
  ]);
  assertStringIncludes(open(cut).lost().join(), "frame 2 stands where frame 1");
});

Deno.test("frames of unknown types: ancillary ones are skipped, critical ones refused", () => {
  for (const critical of [false, true]) {
    const store = new MemoryStore();
    new TapeWriter(store, ID);
    const type = 77 as FrameType;
    const raw = encodeFrame(
      { type, position: 0, count: 0, ordinal: 0 },
      Uint8Array.of(1),
    );
    // encodeFrame marks what it does not know as critical.
    const view = new DataView(raw.buffer);
    if (!critical) {
      raw[5] = 0;
      const plain = encodeFrame(
        { type: FrameType.engine, position: 0, count: 0, ordinal: 0 },
        Uint8Array.of(1),
      );
      raw.set(plain);
      raw[4] = 77;
      view.setUint32(36, crcOf(raw.subarray(0, 36)), true);
    }
    store.append(raw);
    if (critical) {
      assertThrows(() => TapeReader.open(store), TapeError, "type 77");
    } else {
      const tape = TapeReader.open(store);
      assertEquals([tape.state, tape.frames.length], ["torn", 1]);
    }
  }
});

Deno.test("canonical JSON has one text, manifests must be ours", () => {
  assertEquals(
    canonicalJson({ b: [1, { z: null, y: "é" }], a: undefined, "0": true }),
    '{"0":true,"b":[1,{"y":"é","z":null}]}',
  );
  assertThrows(() => canonicalJson({ a: 1n }), TypeError);
  assertThrows(
    () => decodeManifest(new TextEncoder().encode("{}")),
    RangeError,
  );
});

Deno.test("an input longer than a frame goes through", () => {
  const Big = defineEvent({
    name: "big.arrived",
    version: 1,
    kind: "input",
    doc: "Much arrived",
    fields: { data: bytes("It") },
  });
  const out = new ByteWriter();
  const data = randomBytes(new RandomStream(5n, "big"), 3 * MAX_RAW_BYTES + 5);
  Big.encode({ data }, out);
  const store = new MemoryStore();
  const writer = new TapeWriter(store, ID);
  writer.frame(FrameType.input, 3, 1, out.finish());
  const tape = TapeReader.open(store, { verify: true });
  const [one] = [...tape.payloads(FrameType.input)];
  assertEquals(tape.frames.length, 4);
  assert(sameBytes(Big.decode(new ByteReader(one.raw)).data, data));
  // Its last part torn: it was not consumed, so it is not there.
  const torn = new MemoryStore(store.bytes().subarray(0, store.size - 9));
  assertEquals([...TapeReader.open(torn).payloads(FrameType.input)], []);
});
