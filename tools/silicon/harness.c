/*
 * Native harness: runs one user-mode instruction at a time on the real CPU and
 * reports the state after it. Built by generate.ts with gcc; no part of the
 * product. Every register, the flags and the x87/SSE state are loaded by
 * returning from a signal with an edited frame, and read back from the next
 * signal's frame (AMD APM vol. 2 ch. 8, SDM vol. 3 ch. 6: fault frames).
 * The pages lie at addresses given by the caller; the code page is filled with
 * INT3, so that an instruction that completes always traps at once.
 * Invariant: the state left by one case never reaches the next one.
 *
 * usage: harness CODE DATA READONLY STACK < requests > answers
 *   (hexadecimal page addresses; both streams little-endian, see below)
 * request: u64 rip, gpr[16], rflags, fsBase, gsBase, cs, ds, es; u32 hasFx;
 *          [512 bytes]; u32 count; count * { u64 address; u32 length; bytes }
 * answer:  u64 vector (~0 none, ~1 timeout), errorCode, cr2, rip, gpr[16],
 *          rflags, fsBase, gsBase; u16 es cs ss ds fs gs; 512 bytes;
 *          u32 count; count * { u64 address; u32 length; bytes }
 * gpr order: RAX RCX RDX RBX RSP RBP RSI RDI R8..R15.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 4, FX = 512, NONE = -1, TIMEOUT = -2 };
enum phase { IDLE, START, RUN };

struct request {
  uint64_t rip, gpr[16], rflags, fsBase, gsBase, cs, ds, es;
};
struct answer {
  uint64_t vector, errorCode, cr2, rip, gpr[16], rflags, fsBase, gsBase;
  uint16_t selector[6];
};

static const int gprIndex[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP,
                                 REG_RBP, REG_RSI, REG_RDI, REG_R8,  REG_R9,
                                 REG_R10, REG_R11, REG_R12, REG_R13, REG_R14,
                                 REG_R15};

static uint64_t address[PAGES];       /* CODE DATA READONLY STACK */
static uint8_t *alias[PAGES];         /* always writable views of them */
static uint8_t before[PAGES][PAGE];
static struct request request;
static struct answer answer;
static uint8_t fxIn[FX], fxOut[FX];
static int hasFx;
static volatile enum phase phase;
static unsigned long mainFs, mainGs;
static gregset_t mainRegs;
static uint8_t mainFx[FX];

static void die(const char *what) {
  fprintf(stderr, "harness: %s\n", what);
  exit(2);
}

/* Runs on the alternate stack, with whatever FS base, selectors and flags the
 * case left behind: those are put right before anything else. */
static void handler(int signal, siginfo_t *info, void *context) {
  unsigned long fs, gs;
  uint16_t ds, es, fsSel, gsSel, zero = 0;
  __asm__ volatile("pushq $0x202; popfq" ::: "memory", "cc");
  __asm__ volatile("rdfsbase %0; rdgsbase %1" : "=r"(fs), "=r"(gs));
  __asm__ volatile("mov %%ds,%0; mov %%es,%1; mov %%fs,%2; mov %%gs,%3"
                   : "=r"(ds), "=r"(es), "=r"(fsSel), "=r"(gsSel));
  if (ds) __asm__ volatile("mov %0,%%ds" ::"r"(zero));
  if (es) __asm__ volatile("mov %0,%%es" ::"r"(zero));
  if (fsSel) __asm__ volatile("mov %0,%%fs" ::"r"(zero));
  if (gsSel) __asm__ volatile("mov %0,%%gs" ::"r"(zero));
  __asm__ volatile("wrfsbase %0; wrgsbase %1" ::"r"(mainFs), "r"(mainGs));

  ucontext_t *uc = context;
  greg_t *g = uc->uc_mcontext.gregs;
  uint8_t *fx = (uint8_t *)uc->uc_mcontext.fpregs;
  (void)info;

  if (phase == START) {
    memcpy(mainRegs, g, sizeof mainRegs);
    memcpy(mainFx, fx, FX);
    for (int i = 0; i < 16; i++) g[gprIndex[i]] = request.gpr[i];
    g[REG_RIP] = request.rip;
    g[REG_EFL] = request.rflags;
    static const uint8_t clean[24] = {0x7f, 3, [24 - 1] = 0};
    if (hasFx) {
      memcpy(fx, fxIn, 416);
    } else {
      memset(fx, 0, 416);
      memcpy(fx, clean, 2);
      fx[24] = 0x80, fx[25] = 0x1f;
    }
    /* XSTATE_BV: the kernel's XRSTOR makes it XINUSE, so what is in its
     * initial configuration must be told to be (SDM vol. 1 13.6, 13.8). */
    static const uint8_t zero[256];
    uint64_t *inUse = (uint64_t *)(fx + FX);
    *inUse &= ~3ull;
    if (memcmp(fx, clean, 24) || memcmp(fx + 32, zero, 128)) *inUse |= 1;
    if (memcmp(fx + 160, zero, 256)) *inUse |= 2;
    /* 0x23: compatibility mode. Sigreturn leaves DS and ES to us. */
    g[REG_CSGSFS] = (g[REG_CSGSFS] & ~0xffffll) | (greg_t)request.cs;
    uint16_t newDs = request.ds, newEs = request.es;
    __asm__ volatile("mov %0,%%ds; mov %1,%%es" ::"r"(newDs), "r"(newEs));
    phase = RUN;
    __asm__ volatile("wrfsbase %0; wrgsbase %1" ::"r"(request.fsBase),
                     "r"(request.gsBase));
    return;
  }
  if (phase != RUN) {
    static const char m[] = "harness: stray signal\n";
    if (write(2, m, sizeof m - 1)) {}
    _exit(3);
  }
  answer.vector = signal == SIGALRM ? (uint64_t)TIMEOUT : (uint64_t)g[REG_TRAPNO];
  answer.errorCode = g[REG_ERR];
  answer.cr2 = answer.vector == 14 ? (uint64_t)g[REG_CR2] : 0;
  answer.rip = g[REG_RIP];
  for (int i = 0; i < 16; i++) answer.gpr[i] = g[gprIndex[i]];
  answer.rflags = g[REG_EFL];
  answer.fsBase = fs;
  answer.gsBase = gs;
  uint64_t sel = g[REG_CSGSFS];
  answer.selector[0] = es;
  answer.selector[1] = sel & 0xffff;
  answer.selector[2] = sel >> 48;
  answer.selector[3] = ds;
  answer.selector[4] = fsSel;
  answer.selector[5] = gsSel;
  memcpy(fxOut, fx, FX);
  memcpy(g, mainRegs, sizeof mainRegs);
  memcpy(fx, mainFx, 416);
  *(uint64_t *)(fx + FX) |= 3;
  g[REG_RIP] += 2; /* over the UD2 that began the case */
  phase = IDLE;
}

static void take(void *to, size_t n) {
  if (fread(to, 1, n, stdin) != n) die("request cut short");
}
static void give(const void *from, size_t n) {
  if (fwrite(from, 1, n, stdout) != n) die("cannot write the answer");
}

static void mapPages(char **argv) {
  static const int rights[PAGES] = {PROT_READ | PROT_EXEC,
                                    PROT_READ | PROT_WRITE, PROT_READ,
                                    PROT_READ | PROT_WRITE};
  for (int i = 0; i < PAGES; i++) {
    int fd = memfd_create("silicon", 0);
    if (fd < 0 || ftruncate(fd, PAGE)) die("memfd_create");
    address[i] = strtoull(argv[1 + i], 0, 16);
    alias[i] = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    void *p = mmap((void *)address[i], PAGE, rights[i],
                   MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd, 0);
    if (alias[i] == MAP_FAILED || p != (void *)address[i]) die("mmap");
    close(fd);
  }
}

static void overlay(void) {
  uint64_t at;
  uint32_t count, length;
  for (int i = 0; i < PAGES; i++) memset(alias[i], i ? 0 : 0xcc, PAGE);
  take(&count, 4);
  while (count--) {
    take(&at, 8);
    take(&length, 4);
    int i = 0;
    while (i < PAGES && !(at >= address[i] && at + length <= address[i] + PAGE))
      i++;
    if (i == PAGES) die("memory of a request outside the pages");
    take(alias[i] + (at - address[i]), length);
  }
  for (int i = 0; i < PAGES; i++) memcpy(before[i], alias[i], PAGE);
}

static void changes(void) {
  static uint8_t out[PAGES * PAGE * 16];
  size_t used = 0;
  uint32_t count = 0;
  for (int i = 0; i < PAGES; i++)
    for (uint32_t o = 0; o < PAGE;) {
      if (before[i][o] == alias[i][o]) {
        o++;
        continue;
      }
      uint32_t end = o + 1;
      while (end < PAGE && before[i][end] != alias[i][end]) end++;
      uint64_t at = address[i] + o;
      uint32_t length = end - o;
      memcpy(out + used, &at, 8);
      memcpy(out + used + 8, &length, 4);
      memcpy(out + used + 12, alias[i] + o, length);
      used += 12 + length;
      count++;
      o = end;
    }
  give(&count, 4);
  give(out, used);
}

int main(int argc, char **argv) {
  if (argc != 5) die("usage: harness CODE DATA READONLY STACK");
  mapPages(argv);
  stack_t stack = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
  sigaltstack(&stack, 0);
  struct sigaction action = {.sa_sigaction = handler,
                             .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGALRM};
  for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
    sigaction(signals[i], &action, 0);
  __asm__ volatile("rdfsbase %0; rdgsbase %1" : "=r"(mainFs), "=r"(mainGs));

  while (fread(&request, 1, sizeof request, stdin) == sizeof request) {
    uint32_t fx;
    take(&fx, 4);
    hasFx = fx;
    if (hasFx) take(fxIn, FX);
    overlay();
    struct itimerval limit = {.it_value = {.tv_sec = 1}}, off = {};
    setitimer(ITIMER_REAL, &limit, 0);
    phase = START;
    __asm__ volatile("ud2" ::: "memory");
    setitimer(ITIMER_REAL, &off, 0);
    give(&answer, offsetof(struct answer, selector));
    give(answer.selector, sizeof answer.selector);
    give(fxOut, FX);
    changes();
  }
  return 0;
}
