/**
 * What the laws are tested on beside the toy machine: the seeded corpus of
 * random x86 programs and every scenario of examples/, each recorded once in
 * full on the reference engine when first asked for.
 */
import * as pageFault from "../../examples/02-page-fault.ts";
import * as policies from "../../examples/05-read-policies.ts";
import * as tornList from "../../examples/06-torn-list.ts";
import * as library from "../../examples/11-library.ts";
import { gmetParts, MODELS } from "../../examples/12-gmet.ts";
import {
  hvciScene,
  type Machine,
  sceneParts,
} from "../../examples/guests/scene.ts";
import {
  IntrospectListRequested,
  IntrospectRequested,
  POLICIES,
} from "../../plugins/introspect/api.ts";
import { loadPlugin } from "../../host/plugin_loader.ts";
import { machines } from "../../host/machine.ts";
import { readFilesOf } from "../../host/scenario/files.ts";
import { defineScenario } from "../../host/scenario/define.ts";
import { parseScenario } from "../../host/scenario/parse.ts";
import { makeCorpus, type Program } from "../sim/program.ts";
import { machineOf, record, type Recording, type Subject } from "../sim/run.ts";
import { DEFAULT_CADENCE } from "../../core/tape/manifest.ts";

/** The seed of the corpus; any other must do as well. */
export const CORPUS_SEED = 1n;

/** The random programs. */
export const corpus: readonly Program[] = makeCorpus(CORPUS_SEED);

/** Digests at 2^12 steps instead of 2^20: examples are short. */
const EXAMPLE_CADENCE = {
  ...DEFAULT_CADENCE,
  interval: 4096,
  digestStepsPerPage: 16,
};

/** Digests at 2^5 steps: some examples end after a hundred. */
const SHORT_CADENCE = {
  ...DEFAULT_CADENCE,
  interval: 32,
  digestStepsPerPage: 1,
};

/** The machines of the MBEC examples and the demo: hardware, both strategies. */
function sceneSubjects(): Subject[] {
  const guest = hvciScene(1);
  const kinds: readonly Machine[] = [
    { mbec: "hardware", cpu: "skylake-server" },
    { mbec: "trap-all", cpu: "haswell-server" },
    { mbec: "entry-page-nx", cpu: "haswell-server", exactness: "exact" },
  ];
  return kinds.map((kind) => ({
    name: `examples: MBEC ${kind.mbec}`,
    ...sceneParts(guest, kind),
    cadence: EXAMPLE_CADENCE,
  }));
}

/** The guest that the looking-back examples record. */
function strayWrite(): Subject {
  const at = new URL("../../examples/guests/stray-write.asm", import.meta.url);
  const asm = Deno.readTextFileSync(at);
  return {
    name: "examples: stray write",
    scenario: defineScenario({
      machine: { cpu: "qemu64", memory: "2MiB" },
      guest: { asm, at: 0x100000 },
    }),
    files: new Map(),
    cadence: EXAMPLE_CADENCE,
  };
}

/** The machines of the other programs, with what they inject as inputs. */
function programSubjects(): Subject[] {
  const common = { files: new Map(), cadence: SHORT_CADENCE };
  const [before, after] = policies.STEPS;
  const outside = POLICIES.map((policy): Subject => ({
    name: `examples: read from outside, ${policy}`,
    scenario: {
      ...policies.scenario,
      inputs: [{
        at: before,
        event: {
          name: IntrospectRequested.name,
          payload: IntrospectRequested.toJson(policies.requestOf(policy)),
        },
      }],
      steps: before + after,
    },
    uses: policies.usesWith([]),
    ...common,
  }));
  const inside = POLICIES.map((policy): Subject => ({
    name: `examples: read from inside, ${policy}`,
    scenario: { ...policies.scenario, steps: before + after },
    uses: policies.usesWith([policies.moduleOf(policy)]),
    ...common,
  }));
  const { scenario: list } = tornList;
  const walks = Array.from({ length: list.steps! - 1 }, (_, i) => ({
    at: i + 1,
    event: {
      name: IntrospectListRequested.name,
      payload: IntrospectListRequested.toJson(tornList.request),
    },
  }));
  return [
    { name: "examples: page fault", scenario: pageFault.scenario, ...common },
    ...outside,
    ...inside,
    {
      name: "examples: torn list",
      scenario: { ...list, inputs: walks },
      uses: tornList.uses,
      ...common,
    },
    {
      name: "examples: library",
      scenario: library.scenario,
      uses: library.uses,
      ...common,
    },
  ];
}

/** The scenarios of examples/, and the machines of its programs. */
export async function exampleSubjects(): Promise<Subject[]> {
  return [
    ...await yamlSubjects(),
    ...sceneSubjects(),
    strayWrite(),
    {
      name: "examples: GMET",
      ...gmetParts(MODELS.with),
      cadence: EXAMPLE_CADENCE,
    },
    ...programSubjects(),
  ];
}

async function yamlSubjects(): Promise<Subject[]> {
  const folder = new URL("../../examples/", import.meta.url);
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name)
    .filter((name) => name.endsWith(".yaml")).sort();
  const places = { catalog: machines.catalog, folders: [folder] };
  return await Promise.all(names.map(async (name): Promise<Subject> => {
    const text = Deno.readTextFileSync(new URL(name, folder));
    const { scenario } = parseScenario(text, name);
    return {
      name: `examples/${name}`,
      scenario,
      files: readFilesOf(scenario, folder),
      uses: await Promise.all(
        scenario.plugins.map((spec) => loadPlugin(spec, places)),
      ),
      cadence: EXAMPLE_CADENCE,
    };
  }));
}

const recordings = new Map<string, Recording>();

/** The subject's run on the reference, recorded in full. */
export function recordingOf(subject: Subject): Recording {
  let recording = recordings.get(subject.name);
  if (recording === undefined) {
    recording = record(machineOf(subject, "reference"), subject);
    recordings.set(subject.name, recording);
  }
  return recording;
}
