/*
 * The lists of system calls, and their loading. Called by xf_privs_enter() for every thread.
 *
 * A worker's list was measured: what xf_io_run() does under all tests in network namespaces, and
 * what malloc, pthreads and the end of a thread need. It opens nothing: its descriptors are there
 * before. Only calls without conditions are on the hot path: the kernel looks those up in a bitmap.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xf/base.h>

#include "filter.h"

#define CALL(name) SCMP_SYS(name)

/* Locks, clocks, memory (mmap() and mprotect() below), the end; and what aborting says. */
static const int every_thread[] = {
	CALL(brk),
	CALL(clock_gettime),
	CALL(clock_nanosleep),
	CALL(epoll_pwait),
	CALL(epoll_wait),
	CALL(exit),
	CALL(exit_group),
	CALL(futex),
	CALL(getcpu),
	CALL(getpid),
	CALL(getrandom),
	CALL(gettid),
	CALL(gettimeofday),
	CALL(madvise),
	CALL(membarrier),
	CALL(mremap),
	CALL(munmap),
	CALL(nanosleep),
	CALL(poll),
	CALL(ppoll),
	CALL(read),
	CALL(restart_syscall),
	CALL(rseq),
	CALL(rt_sigprocmask),
	CALL(rt_sigreturn),
	CALL(sched_getaffinity),
	CALL(sched_yield),
	CALL(set_robust_list),
	CALL(write),
};

static const int worker[] = {
	CALL(readv),	CALL(recvfrom), CALL(recvmmsg), CALL(recvmsg),
	CALL(sendmmsg), CALL(sendmsg),	CALL(sendto),	CALL(writev),
};

/* ioctl(), fstat() and fstatat() where the kernel cannot tell a namespace's cookie (greet.c). */
static const int greeter[] = {
	CALL(accept4), CALL(close),	 CALL(epoll_ctl), CALL(fstat),	 CALL(getsockopt),
	CALL(ioctl),   CALL(newfstatat), CALL(recvmsg),	  CALL(sendmsg), CALL(timer_settime),
};

/*
 * Libraries that are not ours do the control thread's work, so its list goes by what a service
 * of this kind may want. What would lead out of it is missing: no program is run, no process is
 * made or looked into, no namespace entered, no file system mounted, no module loaded. Anything
 * else that is missing is answered as by a kernel that has it not, so that a newer library goes on
 * by its older way.
 */
static const int control[] = {
	/* files: the journal, /proc/sys, BTF, the routes of iproute2 */
	CALL(access),
	CALL(chmod),
	CALL(close),
	CALL(close_range),
	CALL(copy_file_range),
	CALL(dup),
	CALL(dup2),
	CALL(dup3),
	CALL(faccessat),
	CALL(faccessat2),
	CALL(fadvise64),
	CALL(fallocate),
	CALL(fchmod),
	CALL(fchmodat),
	CALL(fcntl),
	CALL(fdatasync),
	CALL(flock),
	CALL(fstat),
	CALL(fstatfs),
	CALL(fsync),
	CALL(ftruncate),
	CALL(getcwd),
	CALL(getdents64),
	CALL(linkat),
	CALL(lseek),
	CALL(lstat),
	CALL(mkdir),
	CALL(mkdirat),
	CALL(newfstatat),
	CALL(open),
	CALL(openat),
	CALL(openat2),
	CALL(pipe2),
	CALL(pread64),
	CALL(preadv),
	CALL(pwrite64),
	CALL(pwritev),
	CALL(readlink),
	CALL(readlinkat),
	CALL(readv),
	CALL(rename),
	CALL(renameat),
	CALL(renameat2),
	CALL(stat),
	CALL(statfs),
	CALL(statx),
	CALL(umask),
	CALL(unlink),
	CALL(unlinkat),
	CALL(writev),
	/* sockets */
	CALL(accept),
	CALL(accept4),
	CALL(bind),
	CALL(connect),
	CALL(getpeername),
	CALL(getsockname),
	CALL(getsockopt),
	CALL(ioctl),
	CALL(listen),
	CALL(recvfrom),
	CALL(recvmmsg),
	CALL(recvmsg),
	CALL(sendmmsg),
	CALL(sendmsg),
	CALL(sendto),
	CALL(setsockopt),
	CALL(shutdown),
	CALL(socket),
	CALL(socketpair),
	/* waiting */
	CALL(epoll_create1),
	CALL(epoll_ctl),
	CALL(eventfd2),
	CALL(inotify_add_watch),
	CALL(inotify_init1),
	CALL(inotify_rm_watch),
	CALL(pselect6),
	CALL(select),
	CALL(signalfd4),
	CALL(timerfd_create),
	CALL(timerfd_gettime),
	CALL(timerfd_settime),
	/* memory, among it that of keys */
	CALL(memfd_create),
	CALL(mincore),
	CALL(mlock),
	CALL(mlock2),
	CALL(msync),
	CALL(munlock),
	/* BPF programs and maps */
	CALL(bpf),
	/* who and where we are */
	CALL(capget),
	CALL(clock_getres),
	CALL(getegid),
	CALL(geteuid),
	CALL(getgid),
	CALL(getgroups),
	CALL(getppid),
	CALL(getrlimit),
	CALL(getrusage),
	CALL(getuid),
	CALL(prlimit64),
	CALL(rt_sigaction),
	CALL(rt_sigpending),
	CALL(sched_getparam),
	CALL(sched_getscheduler),
	CALL(setrlimit),
	CALL(sigaltstack),
	CALL(sysinfo),
	CALL(time),
	CALL(times),
	CALL(uname),
};

/* Nobody asks for these by a new library's habit. */
static const int leads_out[] = {
	CALL(chroot),	      CALL(clone),	CALL(clone3),
	CALL(delete_module),  CALL(execve),	CALL(execveat),
	CALL(finit_module),   CALL(fork),	CALL(init_module),
	CALL(io_uring_setup), CALL(kexec_load), CALL(kill),
	CALL(mount),	      CALL(pivot_root), CALL(process_vm_readv),
	CALL(ptrace),	      CALL(setns),	CALL(process_vm_writev),
	CALL(tkill),	      CALL(umount2),	CALL(unshare),
	CALL(userfaultfd),    CALL(vfork),
};

static const struct list {
	const int *calls;
	size_t n;
	bool may_map_code;
	bool foreign_code; /* only what leads out ends the process */
} lists[XF_ROLES] = {
	/* The name service and libxtables load libraries. */
	[XF_ROLE_CONTROL] = { control, XF_ARRAY_SIZE(control), .may_map_code = true,
			      .foreign_code = true },
	[XF_ROLE_WORKER] = { worker, XF_ARRAY_SIZE(worker), .may_map_code = false },
	[XF_ROLE_CRYPTO] = { NULL, 0, .may_map_code = false },
	[XF_ROLE_GREETER] = { greeter, XF_ARRAY_SIZE(greeter), .may_map_code = false },
};

static int add(scmp_filter_ctx ctx, uint32_t action, const int *calls, size_t n)
{
	int err = 0;

	for (size_t i = 0; i < n && !err; i++)
		err = seccomp_rule_add(ctx, action, calls[i], 0);
	return err;
}

/* What becomes of a call that is on no list. */
static uint32_t otherwise(const struct list *list)
{
	if (list->foreign_code && XF_FILTER_OTHERWISE == SCMP_ACT_KILL_PROCESS)
		return SCMP_ACT_ERRNO(ENOSYS);
	return XF_FILTER_OTHERWISE;
}

/* Memory that is data: what is written into it cannot be run. */
static int allow_maps(scmp_filter_ctx ctx, bool code)
{
	const struct scmp_arg_cmp no_code = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	unsigned n = code ? 0 : 1;
	int err = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, CALL(mmap), n, &no_code);

	if (!err)
		err = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, CALL(mprotect), n, &no_code);
	return err;
}

/* abort(), that a failed check ends as such: to our own threads only. */
static int allow_abort(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp self = { .arg = 0,
					   .op = SCMP_CMP_EQ,
					   .datum_a = (scmp_datum_t)getpid() };

	return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, CALL(tgkill), 1, &self);
}

static int kill_what_leads_out(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp others = { .arg = 0,
					     .op = SCMP_CMP_NE,
					     .datum_a = (scmp_datum_t)getpid() };
	int err = seccomp_rule_add_array(ctx, XF_FILTER_OTHERWISE, CALL(tgkill), 1, &others);

	return err ? err : add(ctx, XF_FILTER_OTHERWISE, leads_out, XF_ARRAY_SIZE(leads_out));
}

/*
 * Other architectures' numbers end the process like calls that are missing. The mitigation against
 * reading past stores would cost the data path much and keeps nobody out here: no foreign code
 * runs in this process.
 */
static int set_attributes(scmp_filter_ctx ctx)
{
	int err = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, XF_FILTER_OTHERWISE);

	if (!err)
		err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_LOG, 1);
	if (!err)
		err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_SSB, 1);
	/* A kernel before 4.17 knows neither of the last two. */
	return err == -EOPNOTSUPP ? 0 : err;
}

int xf_filter_load(enum xf_role role)
{
	const struct list *list = &lists[role];
	scmp_filter_ctx ctx = seccomp_init(otherwise(list));
	int err;

	if (!ctx)
		return -ENOMEM;
	err = set_attributes(ctx);
	if (!err)
		err = add(ctx, SCMP_ACT_ALLOW, every_thread, XF_ARRAY_SIZE(every_thread));
	if (!err)
		err = add(ctx, SCMP_ACT_ALLOW, list->calls, list->n);
	if (!err && otherwise(list) != XF_FILTER_OTHERWISE)
		err = kill_what_leads_out(ctx);
	if (!err)
		err = allow_maps(ctx, list->may_map_code);
	if (!err)
		err = allow_abort(ctx);
	if (!err)
		err = seccomp_load(ctx);
	seccomp_release(ctx);
	return err;
}
