/**
 * Runs a short program and says which exception it raised first: the shape of
 * most tests of system instructions. Every gate leads to a HLT.
 */
import { EXCEPTIONS } from "../../cpu/arch/exceptions.ts";
import { ExceptionDelivered } from "../../cpu/facts.ts";
import {
  PLACE,
  SELECTOR,
  setGate,
  TestMachine,
  type TestMachineOptions,
} from "./machine.ts";

/** Where the HLT lies. */
export const HALT = 0x7f00;

/** A finished program. */
export interface Ran {
  readonly machine: TestMachine;
  /** `#GP(10)` with the error code in hexadecimal, `#UD`, or `none`. */
  readonly fault: string;
}

/** Code that enters CPL 3 at label `user`; for 64-bit programs. */
export const TO_USER_64 = `
  push ${SELECTOR.userData}
  push ${PLACE.userStack}
  push 0x202
  push ${SELECTOR.userCode64}
  lea rax, [user]
  push rax
  iretq
user:
`;

/** The same for 32-bit programs. */
export const TO_USER_32 = `
  push ${SELECTOR.userData}
  push ${PLACE.userStack}
  push 0x202
  push ${SELECTOR.userCode32}
  push user
  iretd
user:
`;

/** Runs `source`, to which a HLT is appended. */
export function runProgram(
  source: string,
  options: TestMachineOptions = {},
): Ran {
  const mode = options.mode ?? "long";
  const machine = new TestMachine(`${source}\nhlt\n`, {
    ...options,
    setup: (cpu, hardware) => {
      hardware.physical.write(HALT, 1, 0xf4n);
      for (let i = 0; i < 32; i++) {
        if (mode === "real") {
          hardware.physical.write(i * 4, 4, BigInt(HALT));
        } else {
          setGate(hardware, i, HALT, {
            wide: mode === "long",
            selector: mode === "long" ? SELECTOR.code64 : SELECTOR.code32,
          });
        }
      }
      options.setup?.(cpu, hardware);
    },
  });
  const seen = machine.collect(ExceptionDelivered);
  machine.run();
  const first = seen[0];
  if (first === undefined) return { machine, fault: "none" };
  const info = EXCEPTIONS.find((e) => e.vector === first.vector);
  const name = info?.mnemonic ?? `vector ${first.vector}`;
  const code = first.errorCode === 0xffffffff
    ? ""
    : `(${first.errorCode.toString(16)})`;
  return { machine, fault: name + code };
}
