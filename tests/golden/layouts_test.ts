// A layout that changes without a new version would make old tapes unreadable:
// every event's line must be the blessed one (VMTAPE_BLESS=1 rewrites the file,
// for review as a diff).
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { allEvents } from "../../tools/event_docs.ts";

const FILE = new URL("./layouts.txt", import.meta.url);

describe("event layouts", () => {
  it("are the blessed ones", async () => {
    const lines = (await allEvents())
      .map((e) => `${e.name}@${e.version} ${e.kind} ${e.signature}`).sort();
    const text = lines.join("\n") + "\n";
    if (Deno.env.get("VMTAPE_BLESS") === "1") {
      Deno.writeTextFileSync(FILE, text);
    }
    assertEquals(
      text.split("\n"),
      Deno.readTextFileSync(FILE).split("\n"),
      "bump the version of the event that changed, then run `deno task bless`",
    );
  });
});
