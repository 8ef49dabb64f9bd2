/*
 * What a thread of each kind may still do. Each case runs in a child of its own, for what a filter
 * takes away is gone, and what is not allowed ends the process.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <seccomp.h>
#include <cmocka.h>

#include <xf/base.h>

#include "daemon/thread/privs.h"
#include "daemon/thread/thread.h"

static int fds[2]; /* a socket pair from before the filter */

static void do_socket(void)
{
	syscall(SYS_socket, AF_INET, SOCK_DGRAM, 0);
}

static void do_openat(void)
{
	syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY);
}

static void do_execve(void)
{
	syscall(SYS_execve, "/bin/true", NULL, NULL);
}

static void do_clone(void)
{
	if (syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) == 0)
		_exit(0);
}

static void do_ptrace(void)
{
	syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
}

static void do_setns(void)
{
	syscall(SYS_setns, -1, CLONE_NEWNET);
}

static void do_mount(void)
{
	syscall(SYS_mount, NULL, NULL, NULL, 0, NULL);
}

static void do_bpf(void)
{
	syscall(SYS_bpf, 0, NULL, 0);
}

static void do_ioctl(void)
{
	syscall(SYS_ioctl, fds[0], 0, 0);
}

static void do_setsockopt(void)
{
	syscall(SYS_setsockopt, fds[0], SOL_SOCKET, SO_MARK, NULL, 0);
}

static void do_sendmsg(void)
{
	struct msghdr msg = { .msg_name = NULL };

	syscall(SYS_sendmsg, fds[0], &msg, MSG_DONTWAIT);
}

static void do_recvmmsg(void)
{
	syscall(SYS_recvmmsg, fds[0], NULL, 0, MSG_DONTWAIT, NULL);
}

static void do_write(void)
{
	syscall(SYS_write, fds[0], "", 1);
}

static void do_map_code(void)
{
	syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void do_make_code(void)
{
	syscall(SYS_mprotect, NULL, 4096, PROT_READ | PROT_EXEC);
}

static void do_map_data(void)
{
	syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void do_kill_another(void)
{
	syscall(SYS_tgkill, getppid(), getppid(), 0);
}

static void do_abort(void)
{
	/* Of the case's own process: nothing is sent with signal 0. */
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0);
}

static void do_malloc(void)
{
	void *volatile mem = malloc((size_t)8 << 20);

	free(mem);
}

/* No flags: EINVAL of the call itself, where it is made. */
static void do_unknown(void)
{
	int expected = XF_FILTER_OTHERWISE == SCMP_ACT_KILL_PROCESS ? ENOSYS : EINVAL;

	_exit(syscall(SYS_mlockall, 0) < 0 && errno == expected ? 0 : 1);
}

#define ON(role) (1u << (role))
#define ALL (ON(XF_ROLES) - 1)

/* Who may; everybody else dies. */
static const struct {
	const char *name;
	void (*call)(void);
	unsigned allowed;
} cases[] = {
	{ "socket", do_socket, ON(XF_ROLE_CONTROL) },
	{ "openat", do_openat, ON(XF_ROLE_CONTROL) },
	{ "execve", do_execve, 0 },
	{ "clone", do_clone, 0 },
	{ "ptrace", do_ptrace, 0 },
	{ "setns", do_setns, 0 },
	{ "mount", do_mount, 0 },
	{ "bpf", do_bpf, ON(XF_ROLE_CONTROL) },
	{ "ioctl", do_ioctl, ON(XF_ROLE_CONTROL) | ON(XF_ROLE_GREETER) },
	{ "setsockopt", do_setsockopt, ON(XF_ROLE_CONTROL) },
	{ "sendmsg", do_sendmsg, ALL & ~ON(XF_ROLE_CRYPTO) },
	{ "recvmmsg", do_recvmmsg, ON(XF_ROLE_CONTROL) | ON(XF_ROLE_WORKER) },
	{ "write", do_write, ALL },
	{ "mmap of code", do_map_code, ON(XF_ROLE_CONTROL) },
	{ "mprotect to code", do_make_code, ON(XF_ROLE_CONTROL) },
	{ "mmap of data", do_map_data, ALL },
	{ "tgkill of another process", do_kill_another, 0 },
	{ "tgkill of its own", do_abort, ALL },
	{ "malloc", do_malloc, ALL },
	{ "one that no list has", do_unknown, ON(XF_ROLE_CONTROL) },
};

/* The exit status of a child that becomes a thread of @role and calls @call; 100: it cannot. */
static int try_as(enum xf_role role, void (*call)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		if (xf_privs_enter(role))
			_exit(100);
		call();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static bool dies(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

static bool ends_well(int status)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void each_kind_may_do_what_it_needs_and_no_more(void **state)
{
	bool kills = XF_FILTER_OTHERWISE == SCMP_ACT_KILL_PROCESS;

	(void)state;
	for (size_t i = 0; i < XF_ARRAY_SIZE(cases); i++) {
		for (unsigned role = 0; role < XF_ROLES; role++) {
			bool may = !kills || (cases[i].allowed & ON(role));
			int status = try_as((enum xf_role)role, cases[i].call);

			if (may ? ends_well(status) : dies(status))
				continue;
			fail_msg("%s in a thread of kind %u: status %#x", cases[i].name, role,
				 (unsigned)status);
		}
	}
}

/* A line of /proc/self/task/TID/status; what stands behind the colon, as a number to @base. */
static unsigned long long status_of(pid_t tid, const char *field, int base)
{
	char path[64];
	char line[256];
	unsigned long long value = ~0ull;
	size_t len = strlen(field);
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, field, len) && line[len] == ':')
			value = strtoull(line + len + 1, NULL, base);
	}
	fclose(f);
	return value;
}

/* A thread that waits for a byte, and whose preparation saw it with its starter's rights. */
struct probe {
	int pipe[2];
	pid_t tid;
	int opened;
	int err;
};

static int prepare(void *arg)
{
	struct probe *probe = arg;

	probe->tid = (pid_t)syscall(SYS_gettid);
	probe->opened = open("/dev/null", O_RDONLY);
	return probe->err;
}

static void wait_for_byte(void *arg)
{
	struct probe *probe = arg;
	char byte;

	while (read(probe->pipe[0], &byte, 1) < 0)
		;
}

static struct xf_thread_config config_of(struct probe *probe)
{
	return (struct xf_thread_config){ .name = "probe",
					  .role = XF_ROLE_WORKER,
					  .prepare = prepare,
					  .run = wait_for_byte,
					  .arg = probe };
}

static void a_thread_is_confined_before_it_runs(void **state)
{
	struct probe probe = { .err = 0 };
	struct xf_thread_config cfg = config_of(&probe);
	pthread_t id;

	(void)state;
	assert_int_equal(pipe(probe.pipe), 0);
	assert_int_equal(xf_thread_start(&cfg, &id), 0);
	assert_true(probe.opened >= 0);
	assert_int_equal(status_of(probe.tid, "NoNewPrivs", 10), 1);
	assert_int_equal(status_of(probe.tid, "Seccomp", 10), 2);
	assert_int_equal(status_of(probe.tid, "CapInh", 16), 0);
	assert_int_equal(status_of(probe.tid, "CapAmb", 16), 0);
	/* Its starter is as before. */
	assert_int_equal(status_of(getpid(), "Seccomp", 10), 0);
	assert_int_equal(write(probe.pipe[1], "x", 1), 1);
	assert_int_equal(pthread_join(id, NULL), 0);
	close(probe.opened);
	close(probe.pipe[0]);
	close(probe.pipe[1]);
}

static void a_thread_that_cannot_prepare_never_runs(void **state)
{
	/* It would wait for ever. */
	struct probe probe = { .pipe = { -1, -1 }, .err = -EDOM };
	struct xf_thread_config cfg = config_of(&probe);
	pthread_t id;

	(void)state;
	assert_int_equal(xf_thread_start(&cfg, &id), -EDOM);
	close(probe.opened);
}

/* No core file, and nobody's debugger but root's. */
static void memory_is_not_dumped(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0)
		_exit(xf_privs_init() ? 100 : prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(ends_well(status));
}

static void inherited_descriptors_are_closed(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0) {
		close(STDIN_FILENO);
		if (dup2(fds[0], 200) != 200 || dup2(fds[0], 3) != 3 || dup2(fds[0], 4) != 4)
			_exit(1);
		/* As systemd says that 3 is for us. */
		char text[16];
		snprintf(text, sizeof(text), "%d", getpid());
		setenv("LISTEN_PID", text, 1);
		setenv("LISTEN_FDS", "1", 1);
		if (xf_privs_close_inherited())
			_exit(2);
		if (fcntl(3, F_GETFD) < 0 || fcntl(4, F_GETFD) >= 0 || fcntl(200, F_GETFD) >= 0)
			_exit(3);
		/* What is opened next does not become standard input. */
		_exit(open("/dev/null", O_RDONLY) > STDERR_FILENO ? 0 : 4);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(ends_well(status));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_kind_may_do_what_it_needs_and_no_more),
		cmocka_unit_test(a_thread_is_confined_before_it_runs),
		cmocka_unit_test(a_thread_that_cannot_prepare_never_runs),
		cmocka_unit_test(memory_is_not_dumped),
		cmocka_unit_test(inherited_descriptors_are_closed),
	};

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
