/**
 * Instructions that lie across two pages of which one is the user's and one the
 * supervisor's, fetched at CPL 0 with SMEP = 0: hardware judges each page by its
 * own bit (reference §3.2). Every pair of rights, with L1 granting what it
 * first denied and without, in all arrangements; lazy runs that differ have the
 * oracle's note of the second page before.
 */
import { assert, assertEquals } from "@std/assert";
import { assemble } from "../../host/asm/mod.ts";
import {
  type HvciGuest,
  hvciGuest,
  PAGE,
  Right,
  type ScriptLine,
} from "../../examples/guests/hvci.ts";
import { ARRANGEMENTS, compare, observe } from "./harness.ts";

const { R, W, XS, XU, Grant } = Right;

/** A place where an instruction may cross. */
interface Place {
  readonly name: string;
  /** Where its first three bytes are, after `payload` (0x14d000). */
  readonly at: string;
  /** Guest-physical pages of the two halves. */
  readonly pages: readonly [number, number];
  /** Rights of each half that the guest can live with. */
  readonly rights: readonly [readonly number[], readonly number[]];
}

const ANY = [0, XS, XU, XS | XU];
const PLACES: readonly Place[] = [
  {
    name: "supervisor, then user",
    at: "payload+0xaffd",
    pages: [PAGE.K0 + 7, PAGE.U0],
    rights: [ANY, ANY],
  },
  {
    name: "user, then supervisor",
    at: "payload+0x2ffd",
    pages: [PAGE.D0 + 2, PAGE.K0],
    // K0 holds what the kernel needs.
    rights: [ANY, [XS, XS | XU]],
  },
  {
    name: "supervisor alias of user code, then user alias of the kernel's",
    at: "payload+0x42ffd",
    pages: [PAGE.U0 + 7, PAGE.K0],
    rights: [ANY, [XS, XS | XU]],
  },
];

/** MOV EAX, imm32 whose last two bytes are the next page's first. */
const CROSSING = new Uint8Array([0xb8, 0, 0]);

function guestOf(place: Place, granted: number, smep: boolean): HvciGuest {
  const policy = new Map<number, number>();
  for (let i = 0; i < 8; i++) {
    policy.set(PAGE.K0 + i, R | XS);
    policy.set(PAGE.U0 + i, R | XU);
  }
  for (let i = 0; i < 3; i++) policy.set(PAGE.D0 + i, R | W);
  const script: ScriptLine[] = [];
  const [first, second] = place.rights;
  for (const a of first) {
    for (const b of second) {
      const set = [a, b].map((rights, half) => {
        const page = place.pages[half];
        const grant = granted === half ? Grant : 0;
        const entry = page * 4096 + 0x30 + R + rights + grant;
        return `mov eax, CMD_SET\nmov ebx, ept_pt+${page * 8}\n` +
          `mov rcx, ${entry}\nvmcall`;
      });
      script.push({
        page: 1 + script.length % 6,
        code: `${set.join("\n")}\nsyscall`,
        call: place.at,
        way: script.length % 2,
      });
    }
  }
  const at = 0x14d000 + Number(place.at.split("+")[1]);
  const patches = at < 0x160000 ? [{ address: at, bytes: CROSSING }] : [];
  return hvciGuest({ policy, script, smep, patches });
}

/** Runs a guest in all arrangements. @returns exits that L1 saw without L0 */
function agree(guest: HvciGuest): number {
  const [native, ...others] = ARRANGEMENTS.map((arrangement) =>
    observe(guest, arrangement)
  );
  assertEquals(native.end.exitCode, 33);
  others.forEach((run, i) => {
    const { name, emulated } = ARRANGEMENTS[i + 1];
    const found = compare(native, run);
    if (found === undefined) return;
    assertEquals(emulated?.exactness, "lazy", `${name}: ${found.text}`);
    const [note] = run.seen.slack;
    assert(note <= found.step, `${name}: no note before: ${found.text}`);
  });
  return native.seen.exits.length;
}

for (const place of PLACES) {
  Deno.test(`across pages: ${place.name}`, () => {
    assert(agree(guestOf(place, -1, false)) > 20);
    agree(guestOf(place, 1, false));
  });
}
Deno.test("across pages: SMEP leaves nothing to judge", () => {
  agree(guestOf(PLACES[0], -1, true));
});

/** Little-endian 64-bit words. */
function quads(...values: number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 8);
  const view = new DataView(bytes.buffer);
  values.forEach((value, i) => view.setBigUint64(i * 8, BigInt(value), true));
  return bytes;
}

/**
 * D2 and D1 side by side at 0x1b0000, D1 the supervisor's, and at 0x1b2000, D1
 * the user's. A helper in K1 first executes D1 by the other mode, so that the
 * view has it, then the instruction across, then D1 by the other mode again.
 */
function warmed(userFirst: boolean): HvciGuest {
  const [D1, D2] = [PAGE.D0 + 1, PAGE.D0 + 2];
  const [USER, KERNEL] = [0x67, 0x63];
  const across = userFirst ? 0x1b0ffd : 0x1b2ffd;
  const other = userFirst ? D1 * 4096 + 2 : 0x1b1002;
  const helpers = assemble(
    `warm: call ${other}\ncold: call ${across}\ncall ${other}\nret\n`,
    { bits: 64, origin: 0x151800 },
  );
  const policy = new Map([[D1, R | W], [D2, R | W]]);
  for (let i = 0; i < 8; i++) {
    policy.set(PAGE.K0 + i, R | XS);
    policy.set(PAGE.U0 + i, R | XU);
  }
  const script: ScriptLine[] = [];
  for (const a of ANY) {
    for (const b of ANY) {
      const set = [[D2, a], [D1, b]].map(([page, rights]) =>
        `mov eax, CMD_SET\nmov ebx, ept_pt+${page * 8}\n` +
        `mov ecx, ${page * 4096 + 0x30 + R + rights}\nvmcall`
      );
      const warm = (b & (userFirst ? XU : XS)) !== 0;
      const offset = Number(helpers.symbols.get(warm ? "warm" : "cold")) -
        PAGE.D0 * 4096;
      script.push({
        page: script.length % 7,
        code: `${set.join("\n")}\nsyscall`,
        call: `payload+${offset}`,
      });
    }
  }
  return hvciGuest({
    policy,
    script,
    patches: [
      { address: 0x151800, bytes: helpers.bytes },
      { address: D2 * 4096 + 0xffd, bytes: CROSSING },
      // What is left of the immediate, and RET.
      { address: D1 * 4096, bytes: new Uint8Array([0, 0, 0xc3]) },
      {
        address: 0x143000 + 0x1b0 * 8,
        bytes: quads(
          D2 * 4096 + USER,
          D1 * 4096 + KERNEL,
          D2 * 4096 + KERNEL,
          D1 * 4096 + USER,
        ),
      },
    ],
  });
}

for (const userFirst of [true, false]) {
  const halves = userFirst ? "user, then supervisor" : "supervisor, then user";
  Deno.test(`across pages, the view knows both: ${halves}`, () => {
    assert(agree(warmed(userFirst)) > 20);
  });
}
