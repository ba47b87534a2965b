/**
 * Whatever the source is, the assembler answers with an image or with an
 * AssemblyError whose places lie in the source: seeded mash of real words.
 */
import { assert } from "@std/assert";
import { assemble, AssemblyError } from "./mod.ts";

const WORDS =
  ("mov add jmp call push lea rep lock db dw dq times equ org align section " +
    "bits resb global entry default cpu %define %assign %macro %endmacro %rep " +
    "%endrep %if %else %endif %ifdef rax eax al st0 xmm1 k1 ds cr0 rip st [ ] ( " +
    ") { } + - * / % << >> ~ ! & | ^ , : = ; $ $$ 0x10 -1 1 255 1.5 1to16 'a' " +
    '"bc" `\\n` short near far rel abs byte word qword ptr a: b: .c: a b .c knc ' +
    ".text 16 32 64 %1 %%x 0x1g 99999999999999999999 st(9) fadd movsb vaddps")
    .split(" ");

Deno.test("any mash of words gives an image or placed errors", () => {
  let x = 0x2545_f491;
  const random = (n: number): number => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % n;
  };
  let images = 0;
  let errors = 0;
  for (let round = 0; round < 1500; round++) {
    const lines = Array.from(
      { length: 1 + random(3) },
      () =>
        Array.from({ length: 1 + random(4) }, () => WORDS[random(WORDS.length)])
          .join(random(4) === 0 ? "" : " "),
    );
    const source = lines.join("\n");
    try {
      assemble(source);
      images++;
    } catch (error) {
      assert(error instanceof AssemblyError, `${source}\n${error}`);
      errors++;
      assert(error.issues.length > 0);
      for (const { line, column, message } of error.issues) {
        assert(line >= 1 && line <= lines.length, `${source}\n${error}`);
        assert(column >= 1 && message.length > 0, `${source}\n${error}`);
      }
    }
  }
  assert(images > 10 && errors > 1000, `${images} images, ${errors} errors`);
});
