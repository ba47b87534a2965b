/*
 * A user of Linux's KVM API (Documentation/virt/kvm/api.rst): runs a
 * real-mode and a long-mode virtual machine to their HLT and says what they
 * did. Built static by kvm_amd.ts and run in a guest of ours.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define MEMORY 0x10000
#define CODE 0x1000
#define TABLES 0x4000
#define PORT 0x42

static const uint8_t real_code[] = {
	0xb8, 0x05, 0x00,	/* mov ax, 5 */
	0x83, 0xc0, 0x25,	/* add ax, 0x25 */
	0xa2, 0x00, 0x20,	/* mov [0x2000], al */
	0xe6, PORT,		/* out PORT, al */
	0xf4,			/* hlt */
};

static const uint8_t long_code[] = {
	0x48, 0xb8, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01,
				/* mov rax, 0x0123456789abcdef */
	0x48, 0xc1, 0xe8, 0x20,	/* shr rax, 32 */
	0x89, 0x04, 0x25, 0x00, 0x20, 0x00, 0x00,
				/* mov [0x2000], eax */
	0xe6, PORT,		/* out PORT, al */
	0x31, 0xc0,		/* xor eax, eax */
	0x0f, 0xa2,		/* cpuid */
	0xf4,			/* hlt */
};

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void put64(uint8_t *at, uint64_t value)
{
	memcpy(at, &value, sizeof value);
}

/* Identity map of the first 2 MiB and 64-bit segments. */
static void enter_long_mode(uint8_t *memory, struct kvm_sregs *s)
{
	struct kvm_segment code = {
		.limit = 0xffffffff, .selector = 8, .present = 1, .type = 11,
		.s = 1, .l = 1, .g = 1,
	};
	struct kvm_segment data = code;

	put64(memory + TABLES, (TABLES + 0x1000) | 3);
	put64(memory + TABLES + 0x1000, (TABLES + 0x2000) | 3);
	put64(memory + TABLES + 0x2000, 0x83);
	data.type = 3;
	data.l = 0;
	data.db = 1;
	data.selector = 16;
	s->cs = code;
	s->ds = s->es = s->fs = s->gs = s->ss = data;
	s->cr3 = TABLES;
	s->cr4 = 0x20;
	s->cr0 = 0x80000011;
	s->efer = 0x500;
}

static int run(int kvm, const char *name, const uint8_t *code, size_t size,
	       int is_long, unsigned expected)
{
	struct kvm_userspace_memory_region region = { .memory_size = MEMORY };
	struct kvm_regs regs = { .rip = CODE, .rflags = 2, .rsp = 0x3000 };
	struct kvm_sregs sregs;
	struct kvm_run *run;
	uint8_t *memory;
	int vm, vcpu, bytes, exits = 0, told = -1;

	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		fail("KVM_CREATE_VM");
	memory = mmap(0, MEMORY, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	region.userspace_addr = (uintptr_t)memory;
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		fail("KVM_SET_USER_MEMORY_REGION");
	memcpy(memory + CODE, code, size);
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0)
		fail("KVM_CREATE_VCPU");
	bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		fail("mmap of the vCPU");
	if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
		fail("KVM_GET_SREGS");
	sregs.cs.base = sregs.cs.selector = 0;
	if (is_long)
		enter_long_mode(memory, &sregs);
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0)
		fail("KVM_SET_SREGS");
	if (ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
		fail("KVM_SET_REGS");
	for (;;) {
		if (ioctl(vcpu, KVM_RUN, 0) < 0)
			fail("KVM_RUN");
		exits++;
		if (run->exit_reason == KVM_EXIT_HLT)
			break;
		if (run->exit_reason != KVM_EXIT_IO || exits > 100) {
			printf("%s: exit reason %u\n", name, run->exit_reason);
			return 1;
		}
		if (run->io.port == PORT)
			told = *((uint8_t *)run + run->io.data_offset);
	}
	printf("%s: %d exits, port %02x, memory %02x: %s\n", name, exits, told,
	       memory[0x2000],
	       told == (int)expected && memory[0x2000] == expected ? "good"
								    : "bad");
	return told != (int)expected || memory[0x2000] != expected;
}

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR);
	int wrong;

	if (kvm < 0)
		fail("/dev/kvm");
	if (ioctl(kvm, KVM_GET_API_VERSION, 0) != 12)
		fail("KVM_GET_API_VERSION");
	wrong = run(kvm, "real mode", real_code, sizeof real_code, 0, 0x2a);
	wrong |= run(kvm, "long mode", long_code, sizeof long_code, 1, 0x67);
	printf("kvm guests %s\n", wrong ? "FAILED" : "done");
	return wrong;
}
