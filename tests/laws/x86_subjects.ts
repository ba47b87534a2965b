/**
 * What the laws are tested on beside the toy machine: the seeded corpus of
 * random x86 programs and every scenario of examples/, each recorded once in
 * full on the reference engine when first asked for.
 */
import {
  hvciScene,
  type Machine,
  sceneParts,
} from "../../examples/guests/scene.ts";
import { loadPlugin } from "../../host/plugin_loader.ts";
import { machines } from "../../host/machine.ts";
import { readFilesOf } from "../../host/scenario/files.ts";
import { defineScenario, parseScenario } from "../../host/scenario/parse.ts";
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

/** The scenarios of examples/, and the machines of its programs. */
export async function exampleSubjects(): Promise<Subject[]> {
  return [...await yamlSubjects(), ...sceneSubjects(), strayWrite()];
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
