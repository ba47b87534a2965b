/**
 * Random x86 programs (design §2, tests of the laws): seeded guests in real,
 * protected and long mode and as an L2, whose slots hold random instances of
 * every code of the ISA table and idioms, among handlers that always go on at
 * the next slot, with timer interrupts and serial input.
 * Invariant: the corpus is a function of its seed alone.
 */
import { RandomStream } from "../../core/mod.ts";
import { parseModel } from "../../cpu/arch/models.ts";
import { assemble } from "../../host/asm/mod.ts";
import type { Bits } from "../../host/asm/types.ts";
import type { ScenarioFiles } from "../../host/machines.ts";
import type { Scenario, StartMode } from "../../host/scenario/types.ts";
import { Deck, type Form, FormChoice } from "./forms.ts";
import { type Deed, type Idiom, IDIOMS, PTE_BYTES } from "./idioms.ts";
import { randomInstance } from "./instance.ts";
import {
  ALIAS_OFFSET,
  type Image,
  makeImage,
  type Settings,
} from "./memory.ts";
import { addNested } from "./nested.ts";
import { addNestedSvm } from "./nested_svm.ts";
import { AT, DATA_BYTES, SLOT } from "./places.ts";
import { type BodyMode, REAL_AT } from "./runtime.ts";

/** Steps after which a program is cut off. */
export const PROGRAM_STEPS = 2500;
/** The same for nested ones, whose L1 takes many. */
const NESTED_STEPS = 4000;
const RAM_BYTES = 0x180000;

/** One program. */
export interface Program {
  readonly name: string;
  readonly mode: BodyMode;
  readonly nested: boolean;
  readonly scenario: Scenario;
  readonly files: ScenarioFiles;
  /** What its idioms were there for. */
  readonly deeds: ReadonlySet<Deed>;
}

/** How many programs of each kind a corpus has. */
export interface Shares {
  readonly long: number;
  readonly nested: number;
  readonly protected: number;
  readonly real: number;
}

/** The corpus of the law tests. */
export const SHARES: Shares = {
  long: 110,
  nested: 60,
  protected: 35,
  real: 15,
};

/** CPU models of the programs, in turn. */
export const MODELS: readonly string[] = [
  "max-intel",
  "skylake-server",
  "max-amd",
  "haswell-server",
  "max-intel",
  "qemu64",
];
/** CPU models of the nested ones: VMX's or SVM's L1 runs there. */
export const NESTED_MODELS: readonly string[] = [
  "skylake-server",
  "max-intel",
  "max-amd",
  "haswell-server",
  "zen3",
];

const BITS: Readonly<Record<BodyMode, Bits>> = {
  long: 64,
  protected: 32,
  real: 16,
};

const STRINGS = /^(Movs|Cmps|Stos|Lods|Scas|Ins|Outs)[bwdq]_/;
const VALUES = [
  0n,
  1n,
  0x7fn,
  0x80n,
  0xffn,
  0x7fffn,
  0x8000n,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  0x7fff_ffff_ffff_ffffn,
  0x8000_0000_0000_0000n,
  0xffff_ffff_ffff_ffffn,
  0x0000_8000_0000_0000n,
];

const idiomBytes = new Map<string, Uint8Array>();

/** Makes the programs of one corpus, in order. */
class Generator {
  readonly #random: RandomStream;
  readonly #forms: Readonly<Record<BodyMode, FormChoice>>;
  readonly #idioms = new Map<string, Deck<Idiom>>();
  #deeds = new Set<Deed>();
  /** Of the program being made. */
  #model = parseModel(MODELS[0]);

  constructor(seed: bigint) {
    this.#random = new RandomStream(seed, "x86-program");
    const choice = (mode: BodyMode): FormChoice =>
      new FormChoice(mode, BITS[mode], this.#random);
    this.#forms = {
      long: choice("long"),
      protected: choice("protected"),
      real: choice("real"),
    };
    for (const mode of ["long", "protected", "real"] as const) {
      for (const zone of ["kernel", "user"] as const) {
        const fitting = IDIOMS.filter((idiom) =>
          idiom.modes.includes(mode) &&
          (idiom.zone === "any" || idiom.zone === zone)
        );
        this.#idioms.set(`${mode} ${zone}`, new Deck(fitting, this.#random));
      }
    }
  }

  program(index: number, mode: BodyMode, nested: boolean): Program {
    const random = this.#random;
    this.#deeds = new Set();
    const models = nested ? NESTED_MODELS : MODELS;
    const cpu = models[index % models.length];
    this.#model = parseModel(cpu);
    const slots = mode === "real"
      ? { kernel: 70, user: 0 }
      : { kernel: 50 + random.below(30), user: 25 + random.below(20) };
    const body = mode === "real" ? REAL_AT.body : AT.kernelBody;
    const settings = settingsOf(mode, cpu, random, {
      kernelEnd: body + slots.kernel * SLOT,
      userEnd: AT.userBody + slots.user * SLOT,
    });
    const image = makeImage(mode, settings, random);
    this.#zone(image, mode, "kernel", body, slots.kernel, index);
    if (mode !== "real") {
      this.#zone(image, mode, "user", AT.userBody, slots.user, index);
    }
    if (nested) {
      const add = this.#model.has("svm") ? addNestedSvm : addNested;
      add(image, cpu, settings, random);
    }
    const name = `${nested ? "nested" : mode} ${index} (${cpu})`;
    const start: StartMode = mode;
    const inputs = Array.from({ length: random.below(4) }, () => ({
      at: 100 + random.below(1000),
      serial: Uint8Array.from(
        { length: 1 + random.below(3) },
        () => random.below(256),
      ),
    })).sort((a, b) => a.at - b.at);
    return {
      name,
      mode,
      nested,
      deeds: this.#deeds,
      files: new Map([["program", image.bytes]]),
      scenario: {
        doc: name,
        machine: {
          cpu,
          memory: RAM_BYTES,
          cpus: 1,
          platform: "pc",
          seed: BigInt(index),
        },
        guest: {
          format: "flat",
          path: "program",
          append: "",
          modules: [],
          address: image.base,
          mode: start,
        },
        plugins: [],
        record: "full",
        steps: nested ? NESTED_STEPS : PROGRAM_STEPS,
        inputs,
        expect: { events: {}, serial: [] },
      },
    };
  }

  #zone(
    image: Image,
    mode: BodyMode,
    zone: "kernel" | "user",
    start: number,
    slots: number,
    index: number,
  ): void {
    const random = this.#random;
    let slot = 0;
    // The last slot hands over: its handler goes to the other zone or ends.
    while (slot < slots - 1) {
      const at = start + slot * SLOT;
      const share = zone === "kernel" ? 2 : 5;
      if (random.below(share) === 0) {
        const idiom = this.#idioms.get(`${mode} ${zone}`)!.draw();
        if (idiom.texts.length > slots - 1 - slot) continue;
        slot += this.#idiom(image, mode, zone, idiom, at);
        continue;
      }
      const late = zone === "kernel" && index % 4 === 0 && slot >= slots - 5;
      this.#instance(image, mode, zone, at, late);
      slot++;
    }
    image.put(start + slot * SLOT, [0x0f, 0x0b]);
  }

  /** A place in the zone's data: at a page's end, aligned, or anywhere. */
  #data(mode: BodyMode, zone: "kernel" | "user"): number {
    const random = this.#random;
    if (mode === "real") return REAL_AT.data + 16 + random.below(0x300);
    // Kernel code uses either side's data.
    const base = zone === "user" || random.below(4) === 0
      ? AT.userData
      : AT.kernelData;
    switch (random.below(6)) {
      case 0:
        return base + 0x1000 * (1 + random.below(3)) - random.below(16);
      case 1:
        return base + random.below(DATA_BYTES - 0x400);
      default:
        return base + 16 * (1 + random.below(0x38)) +
          0x1000 * random.below(4);
    }
  }

  #idiom(
    image: Image,
    mode: BodyMode,
    zone: "kernel" | "user",
    idiom: Idiom,
    start: number,
  ): number {
    const random = this.#random;
    if (idiom.deed !== undefined) this.#deeds.add(idiom.deed);
    const own = zone === "user" ? AT.userData : AT.kernelData;
    // Few different values, so that texts need be assembled once only.
    const data = mode === "real"
      ? REAL_AT.data + 16
      : own + 0x10 + 0x800 * random.below(2);
    const page = (random.below(2) ? AT.userData : AT.kernelData) +
      0x1000 * random.below(2);
    const n = [0x05, 0x5a, 0xff][random.below(3)];
    idiom.texts.forEach((text, i) => {
      const at = start + i * SLOT;
      const constants = {
        D: BigInt(data),
        PAGE: BigInt(page),
        PTE: BigInt(AT.pt + (page >> 12) * PTE_BYTES[mode]),
        N: BigInt(n),
        ALIAS: BigInt(ALIAS_OFFSET),
        BITS: BigInt(BITS[mode]),
      };
      // 64-bit code is relative to RIP: one assembly serves every slot.
      const origin = mode === "long" ? 0 : at;
      const key = `${mode} ${origin} ${data} ${page} ${n} ${text}`;
      let bytes = idiomBytes.get(key);
      if (bytes === undefined) {
        bytes = assemble(text, { bits: BITS[mode], origin, constants }).bytes;
        if (bytes.length > SLOT - 2) {
          throw new RangeError(`idiom of ${bytes.length} bytes: ${text}`);
        }
        idiomBytes.set(key, bytes);
      }
      image.put(at, toSlot(bytes));
    });
    return idiom.texts.length;
  }

  #instance(
    image: Image,
    mode: BodyMode,
    zone: "kernel" | "user",
    start: number,
    late: boolean,
  ): void {
    const random = this.#random;
    const bytes: number[] = [];
    const load = (register: number, value: number): void => {
      if (register >= 8) bytes.push(0x41);
      bytes.push(0xb8 | register & 7, value & 0xff, value >> 8 & 0xff);
      if (mode !== "real") bytes.push(value >> 16 & 0xff, value >>> 24);
    };
    let most = random.below(3) === 0 ? 2 : 1, vector = false;
    for (let n = 0; n < most; n++) {
      const before = bytes.length;
      const form: Form = this.#forms[mode].draw(
        late ? "late" : zone,
        this.#model,
        vector,
      );
      // There are many of them, and they seldom stop what follows.
      vector = form.vector;
      if (vector) most = 4;
      const data = this.#data(mode, zone);
      if (random.below(3) === 0) this.#value(bytes, mode);
      if (STRINGS.test(form.name)) {
        load(6, this.#data(mode, zone));
        load(7, data);
        load(1, random.below(6));
      } else if (/^I?div/.test(form.name) && random.below(2) === 0) {
        load(2, 0);
      } else if (/^Xlat/.test(form.name)) load(3, data);
      else if (/_(CL|r32|r64)$|^Loop|^J.?cxz/.test(form.name)) {
        load(1, random.below(40));
      }
      const made = this.#encode(form, mode, zone, data, start + bytes.length);
      if (made === undefined) continue;
      const { align } = made;
      if (made.base >= 0) load(made.base, data & -align);
      if (made.index >= 0) load(made.index, random.below(24) & -align);
      bytes.push(...made.bytes);
      // What a taken branch leaps over.
      bytes.push(0x8d, 0x40, 0x01);
      if (bytes.length > SLOT - 2) {
        bytes.length = before;
        break;
      }
    }
    image.put(start, toSlot(bytes));
  }

  #encode(
    form: Form,
    mode: BodyMode,
    zone: "kernel" | "user",
    data: number,
    ip: number,
  ) {
    const { code, name } = form;
    const stackPointer = mode === "long" || zone === "user";
    for (let attempt = 0; attempt < 8; attempt++) {
      const made = randomInstance(code, name, BITS[mode], this.#random, {
        data,
        ip,
        stackPointer,
      });
      if (made !== undefined) return made;
    }
    return undefined;
  }

  /** Loads some register with an interesting or random value. */
  #value(bytes: number[], mode: BodyMode): void {
    const random = this.#random;
    let register = random.below(mode === "long" ? 16 : 8);
    if (register === 4) register = 0;
    let value = random.below(2) === 0
      ? random.u64()
      : VALUES[random.below(VALUES.length)];
    if (mode === "long") {
      bytes.push(register >= 8 ? 0x49 : 0x48);
    }
    bytes.push(0xb8 | register & 7);
    const size = mode === "long" ? 8 : mode === "protected" ? 4 : 2;
    for (let i = 0; i < size; i++) {
      bytes.push(Number(value & 0xffn));
      value >>= 8n;
    }
  }
}

/** Pads with a jump to the next slot, or NOPs. */
function toSlot(bytes: ArrayLike<number>): number[] {
  const slot = Array.from(bytes);
  const rest = SLOT - slot.length;
  if (rest >= 2) slot.push(0xeb, rest - 2);
  while (slot.length < SLOT) slot.push(0x90);
  return slot;
}

function settingsOf(
  mode: BodyMode,
  cpu: string,
  random: RandomStream,
  ends: Pick<Settings, "kernelEnd" | "userEnd">,
): Settings {
  const model = parseModel(cpu);
  const bit = (wanted: boolean, value: number): number =>
    wanted && random.below(2) === 0 ? value : 0;
  const cr4 = (model.has("fxsr") ? 0x200 : 0) | bit(true, 8) |
    bit(model.has("pge"), 0x80) | bit(true, 0x400) |
    bit(model.has("umip"), 0x800) | bit(model.has("fsgsbase"), 0x10000) |
    bit(model.has("pcid") && mode === "long", 0x20000) |
    bit(model.has("xsave"), 0x40000) | bit(model.has("xsave"), 0x40000) |
    bit(model.has("pku"), 0x400000) |
    bit(model.has("smep"), 0x100000) | bit(model.has("smap"), 0x200000);
  const paged = mode === "long" || random.below(5) !== 0;
  return {
    cr0: (0x20 | bit(true, 0x10000) | bit(true, 0x40000) |
      (paged && mode !== "long" ? 0x8000_0000 : 0)) >>> 0,
    cr4: mode === "protected" ? cr4 | 0x10 : cr4,
    efer: (model.has("nx") ? 0x801 : 1) | bit(model.has("svm"), 0x1000),
    timer: random.below(3) === 0 ? 0 : 100 + random.below(400),
    ...ends,
  };
}

/** The programs of a seed. */
export function makeCorpus(seed: bigint, shares: Shares = SHARES): Program[] {
  const generator = new Generator(seed);
  const programs: Program[] = [];
  const add = (count: number, mode: BodyMode, nested: boolean): void => {
    for (let i = 0; i < count; i++) {
      programs.push(generator.program(i, mode, nested));
    }
  };
  add(shares.long, "long", false);
  add(shares.nested, "long", true);
  add(shares.protected, "protected", false);
  add(shares.real, "real", false);
  return programs;
}
