/*
 * ptrace_shim.c - lets user-mode-linux 6.1 run on CPUs whose register state it does not know.
 *
 * It saves and restores its processes' extended registers (NT_X86_XSTATE) through a buffer that
 * ends after AVX-512. Where the CPU has more (AMX), the host's kernel refuses a set that is shorter
 * than the whole, and the first process dies. Here such a set is completed: the host's own current
 * state, with the known part replaced and only the known components marked valid.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define XSTATE_NOTE 0x202
#define XSTATE_BV_OFFSET 512
#define KNOWN_COMPONENTS 0xe7 /* x87, SSE, AVX, AVX-512 */

static char state[1 << 14];

static long set_xstate(long pid, void *note, struct iovec *given)
{
	struct iovec whole = { state, sizeof(state) };
	uint64_t valid;

	if (syscall(SYS_ptrace, (long)PTRACE_GETREGSET, pid, note, &whole) < 0)
		return -1;
	if (given->iov_len >= whole.iov_len)
		return syscall(SYS_ptrace, (long)PTRACE_SETREGSET, pid, note, given);
	memcpy(state, given->iov_base, given->iov_len);
	memcpy(&valid, state + XSTATE_BV_OFFSET, sizeof(valid));
	valid &= KNOWN_COMPONENTS;
	memcpy(state + XSTATE_BV_OFFSET, &valid, sizeof(valid));
	return syscall(SYS_ptrace, (long)PTRACE_SETREGSET, pid, note, &whole);
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list args;
	long pid, word;
	void *addr, *data;

	va_start(args, request);
	pid = va_arg(args, int);
	addr = va_arg(args, void *);
	data = va_arg(args, void *);
	va_end(args);
	if (request == PTRACE_SETREGSET && addr == (void *)XSTATE_NOTE)
		return set_xstate(pid, addr, data);
	if (request != PTRACE_PEEKTEXT && request != PTRACE_PEEKDATA && request != PTRACE_PEEKUSER)
		return syscall(SYS_ptrace, (long)request, pid, addr, data);
	/* The system call stores the word; the library function returns it. */
	if (syscall(SYS_ptrace, (long)request, pid, addr, &word) < 0)
		return -1;
	errno = 0;
	return word;
}
