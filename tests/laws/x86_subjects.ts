/**
 * What the laws are tested on beside the toy machine: the seeded corpus of
 * random x86 programs and every scenario of examples/, each recorded once in
 * full on the reference engine when first asked for.
 */
import { loadPlugin } from "../../host/plugin_loader.ts";
import { machines } from "../../host/machine.ts";
import { readFilesOf } from "../../host/scenario/files.ts";
import { parseScenario } from "../../host/scenario/parse.ts";
import { makeCorpus, type Program } from "../sim/program.ts";
import { machineOf, record, type Recording, type Subject } from "../sim/run.ts";
import { DEFAULT_CADENCE } from "../../core/tape/manifest.ts";

/** The seed of the corpus; any other must do as well. */
export const CORPUS_SEED = 1n;

/** The random programs. */
export const corpus: readonly Program[] = makeCorpus(CORPUS_SEED);

/** The scenarios of examples/. */
export async function exampleSubjects(): Promise<Subject[]> {
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
      // Digests at 2^12 steps instead of 2^20: examples are short.
      cadence: { ...DEFAULT_CADENCE, interval: 4096, digestStepsPerPage: 16 },
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
