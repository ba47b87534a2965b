/**
 * A plugin in its own file, as anybody could publish one: it watches page walks
 * and notes each page that the guest can both write and execute (SDM 3A §4.6).
 * examples/07-third-party-plugin.yaml loads it.
 *
 * It is an observer: it may join any replay, its notes and cells lie beside the
 * tape, and no machine runs differently for it.
 */
import { defineEvent, definePlugin, mapOf, u32, u64, u8 } from "../mod.ts";
import { MmuWalked } from "../plugins/mmu/api.ts";

/** Bits of `mmu.walked`'s rights. */
const Right = { Writable: 1 << 0, NoExecute: 1 << 2 } as const;

/** A page can be written and executed. */
export const WxFound = defineEvent({
  name: "wxaudit.found",
  version: 1,
  kind: "note",
  doc: "A translation allows both writing and execution",
  fields: {
    cpu: u8("vCPU"),
    linear: u64("Linear address of the page"),
    physical: u64("Host-physical address of the page"),
    walks: u32("Walks of this page before it became so"),
  },
});

export default definePlugin({
  name: "wxaudit",
  version: "1.0.0",
  doc: "Notes pages that are writable and executable",
  role: "observer",
  emits: [WxFound],
  state: {
    walks: mapOf(u64("Linear page"), u32("Walks"), "Sound walks so far"),
    known: mapOf(u64("Linear page"), u64("Physical page"), "Noted, and where"),
  },
  setup({ on, emit, state }) {
    on(MmuWalked, ({ cpu, outcome, linear, physical, attributes }) => {
      if (outcome !== 0) return undefined;
      const walks = state.walks.get(linear) ?? 0;
      state.walks.set(linear, walks + 1);
      const both = (attributes & Right.Writable) !== 0 &&
        (attributes & Right.NoExecute) === 0;
      if (!both) state.known.delete(linear);
      else if (state.known.get(linear) !== physical) {
        state.known.set(linear, physical);
        emit(WxFound, { cpu, linear, physical, walks });
      }
      return undefined;
    });
    return undefined;
  },
});
