/*
 * The thread of greeter.h. Started and asked by clients.c: one for root's socket, one for the
 * socket of the group that the configuration names, so that its members cannot keep root out.
 *
 * Whatever ends a stranger's descriptor (close(), a datagram with more of them than there is room
 * for, the end of a connection with datagrams that nobody read) may wait in the kernel: a TCP
 * socket with SO_LINGER does for as long as its owner liked. Such a wait ends with a signal, so a
 * timer sends one to this thread while it serves a connection.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "greet.h"
#include "greeter.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/thread/thread.h"

/* No step of serving takes so long, unless it waits; from then on a signal each ... */
#define PATIENCE_NS 20000000
#define KNOCK_NS 1000000
#define KNOCK_SIGNAL SIGALRM

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* Somebody who has connected. */
struct guest {
	int fd;
	uint32_t uid;
	uint32_t gid;
	int32_t pid;
	uint64_t deadline_ns;
};

/* Kinds of log lines. */
enum line { LINE_REFUSED, LINE_SILENT, LINE_CROWDED, LINES };

static const char *const kinds_of_lines[LINES] = {
	[LINE_REFUSED] = "netlink clients that were refused",
	[LINE_SILENT] = "connections that said nothing",
	[LINE_CROWDED] = "connections that were too many",
};

struct xf_greeter {
	/* Constant once the thread runs. */
	struct xf_greeter_config cfg;
	pthread_t thread;
	int listener;
	int stop; /* eventfd */
	int near; /* the control thread's end of the pair */
	int far; /* the greeter's */

	_Atomic uint64_t refused;

	/* The greeter's thread. */
	int epoll;
	timer_t knocking;
	unsigned n;
	struct guest guests[XF_GREETER_MAX]; /* in the order of their deadlines */
	struct xf_log_limit limits[LINES];
};

static void knock(int signal)
{
	(void)signal;
}

/* From @delay_ns on, signals end what waits; 0: no more. */
static void set_knocking(const struct xf_greeter *greeter, long delay_ns)
{
	const struct itimerspec its = { .it_value.tv_nsec = delay_ns,
					.it_interval.tv_nsec = delay_ns ? KNOCK_NS : 0 };

	timer_settime(greeter->knocking, 0, &its, NULL);
}

static bool may_log(struct xf_greeter *greeter, enum line line)
{
	return xf_log_may(&greeter->limits[line], xf_clock_ns());
}

static void count_refused(struct xf_greeter *greeter)
{
	atomic_fetch_add_explicit(&greeter->refused, 1, memory_order_relaxed);
}

/* Closing alone takes nothing out of the epoll set that the control thread has open, too: until it
 * is closed there, what the client does next would wake this thread without end. */
static void forget(struct xf_greeter *greeter, unsigned i)
{
	epoll_ctl(greeter->epoll, EPOLL_CTL_DEL, greeter->guests[i].fd, NULL);
	close(greeter->guests[i].fd);
	greeter->n--;
	memmove(&greeter->guests[i], &greeter->guests[i + 1],
		(greeter->n - i) * sizeof(greeter->guests[0]));
}

static void refuse(struct xf_greeter *greeter, int fd, int err)
{
	count_refused(greeter);
	xf_greet_answer(fd, greeter->cfg.run, err, 0);
}

static void dismiss_oldest(struct xf_greeter *greeter)
{
	const struct guest *guest = &greeter->guests[0];

	if (may_log(greeter, LINE_SILENT))
		xf_log(XF_LOG_NOTICE, "a connection of pid %d, uid %u, said nothing and is closed",
		       guest->pid, guest->uid);
	refuse(greeter, guest->fd, -ETIMEDOUT);
	forget(greeter, 0);
}

static unsigned count_of(const struct xf_greeter *greeter, uint32_t uid)
{
	unsigned n = 0;

	for (unsigned i = 0; i < greeter->n; i++)
		n += greeter->guests[i].uid == uid;
	return n;
}

/* 0, or why @guest is not even listened to. */
static int admit(struct xf_greeter *greeter, struct guest *guest)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = guest->fd };
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(guest->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return -errno;
	guest->uid = cred.uid;
	guest->gid = cred.gid;
	guest->pid = cred.pid;
	if (greeter->cfg.counted && cred.uid && count_of(greeter, cred.uid) >= XF_GREETER_QUOTA) {
		if (may_log(greeter, LINE_CROWDED))
			xf_log(XF_LOG_NOTICE, "uid %u has %u connections and says nothing on them",
			       cred.uid, XF_GREETER_QUOTA);
		return -EUSERS;
	}
	if (greeter->n == XF_GREETER_MAX)
		dismiss_oldest(greeter);
	return epoll_ctl(greeter->epoll, EPOLL_CTL_ADD, guest->fd, &event) ? -errno : 0;
}

static void receive_guest(struct xf_greeter *greeter)
{
	struct guest guest = { .deadline_ns = xf_clock_ns() + XF_GREETER_WAIT_NS };
	int err;

	guest.fd = accept4(greeter->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (guest.fd < 0)
		return;
	err = admit(greeter, &guest);
	if (!err) {
		greeter->guests[greeter->n++] = guest;
		return;
	}
	refuse(greeter, guest.fd, err);
	close(guest.fd);
}

/* To the control thread, which answers; its queue is not waited for. */
static int hand_on(const struct xf_greeter *greeter, const struct guest *guest, int end)
{
	const struct xf_greeted greeted = { .uid = guest->uid,
					    .gid = guest->gid,
					    .pid = guest->pid };
	ssize_t n = xf_peer_send(greeter->far, &greeted, sizeof(greeted), (int[]){ end, guest->fd },
				 2, MSG_DONTWAIT);

	return n < 0 ? (int)n : 0;
}

/* One hello a connection. */
static void greet(struct xf_greeter *greeter, unsigned i)
{
	const struct guest *guest = &greeter->guests[i];
	struct xf_greet_fds fds;
	int err = xf_greet_read(guest->fd, greeter->cfg.run, &fds);

	if (err == -EAGAIN)
		return;
	if (!err && fds.end >= 0)
		err = hand_on(greeter, guest, fds.end);
	else if (!err)
		xf_greet_answer(guest->fd, greeter->cfg.run, 0, greeter->cfg.bypass_mark);
	if (err) {
		if (may_log(greeter, LINE_REFUSED))
			xf_log(XF_LOG_NOTICE, "a netlink client, pid %d of uid %u, was refused: %s",
			       guest->pid, guest->uid, strerror(-err));
		refuse(greeter, guest->fd, err);
	}
	forget(greeter, i);
	if (fds.end >= 0)
		close(fds.end);
	for (unsigned k = 0; k < XF_PEER_FDS; k++) {
		if (fds.others[k] >= 0)
			close(fds.others[k]);
	}
}

static void serve(struct xf_greeter *greeter, int fd)
{
	unsigned i = 0;

	if (fd == greeter->listener) {
		receive_guest(greeter);
		return;
	}
	while (i < greeter->n && greeter->guests[i].fd != fd)
		i++;
	if (i < greeter->n)
		greet(greeter, i);
}

/* What is due at @now_ns; returns when the next is. */
static uint64_t act_on_time(struct xf_greeter *greeter, uint64_t now_ns)
{
	uint64_t due = UINT64_MAX;

	while (greeter->n && greeter->guests[0].deadline_ns <= now_ns)
		dismiss_oldest(greeter);
	if (greeter->n)
		due = greeter->guests[0].deadline_ns;
	for (unsigned i = 0; i < LINES; i++) {
		struct xf_log_limit *limit = &greeter->limits[i];

		xf_log_settle(limit, now_ns, kinds_of_lines[i]);
		if (xf_log_due(limit) < due)
			due = xf_log_due(limit);
	}
	return due;
}

static int wait_ms(uint64_t due_ns)
{
	uint64_t now_ns = xf_clock_ns();

	if (due_ns == UINT64_MAX)
		return -1;
	return due_ns <= now_ns ? 0 : (int)((due_ns - now_ns) / 1000000 + 1);
}

/* One event at a time: what it ends cannot be the next in a list. */
static void run(void *arg)
{
	struct xf_greeter *greeter = arg;
	uint64_t due_ns = UINT64_MAX;

	for (;;) {
		struct epoll_event event;
		int n = epoll_wait(greeter->epoll, &event, 1, wait_ms(due_ns));

		if (n == 1 && event.data.fd == greeter->stop)
			return;
		set_knocking(greeter, PATIENCE_NS);
		if (n == 1)
			serve(greeter, event.data.fd);
		due_ns = act_on_time(greeter, xf_clock_ns());
		set_knocking(greeter, 0);
	}
}

static int compare_ints(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* A table of descriptors of our own, with nothing in it but what greeting takes. */
static int keep_few_descriptors(const struct xf_greeter *greeter)
{
	int kept[] = { STDERR_FILENO, greeter->listener, greeter->stop, greeter->far,
		       greeter->cfg.run->netns_fd };
	size_t n = XF_ARRAY_SIZE(kept);

	if (unshare(CLONE_FILES))
		return -errno;
	qsort(kept, n, sizeof(kept[0]), compare_ints);
	for (size_t i = 0; i < n; i++) {
		unsigned first = (unsigned)kept[i] + 1;
		unsigned last = i + 1 < n ? (unsigned)kept[i + 1] - 1 : ~0u;

		if (first <= last && close_range(first, last, 0))
			return -errno;
	}
	return 0;
}

static int watch(const struct xf_greeter *greeter, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	return epoll_ctl(greeter->epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

/* In the thread, while it may still do anything. */
static int prepare(void *arg)
{
	struct xf_greeter *greeter = arg;
	struct sigevent to_us = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = KNOCK_SIGNAL };
	int err = keep_few_descriptors(greeter);

	to_us.sigev_notify_thread_id = gettid();
	if (!err && timer_create(CLOCK_MONOTONIC, &to_us, &greeter->knocking))
		err = -errno;
	if (err)
		return err;
	greeter->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (greeter->epoll < 0)
		return -errno;
	err = watch(greeter, greeter->listener);
	return err ? err : watch(greeter, greeter->stop);
}

static int open_descriptors(struct xf_greeter *greeter)
{
	const struct xf_greeter_config *cfg = &greeter->cfg;
	int pair[2];

	greeter->listener = xf_rundir_listen(cfg->path, SOCK_SEQPACKET, cfg->mode, cfg->group);
	if (greeter->listener < 0)
		return greeter->listener;
	greeter->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (greeter->stop < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		return -errno;
	greeter->near = pair[0];
	greeter->far = pair[1];
	return 0;
}

static int start(struct xf_greeter *greeter)
{
	const struct xf_thread_config cfg = { .name = "greeter",
					      .role = XF_ROLE_GREETER,
					      .prepare = prepare,
					      .run = run,
					      .arg = greeter };
	const struct sigaction knocked = { .sa_handler = knock };
	int err = open_descriptors(greeter);

	if (!err && sigaction(KNOCK_SIGNAL, &knocked, NULL))
		err = -errno;
	return err ? err : xf_thread_start(&cfg, &greeter->thread);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

int xf_greeter_new(const struct xf_greeter_config *cfg, struct xf_greeter **out)
{
	struct xf_greeter *greeter = calloc(1, sizeof(*greeter));
	int err;

	if (!greeter)
		return -ENOMEM;
	greeter->cfg = *cfg;
	greeter->listener = greeter->stop = greeter->near = greeter->far = -1;
	err = start(greeter);
	/* These are the thread's alone now. Its listener must not be ours to close at the end:
	 * connections that nobody took may hold anything. */
	if (greeter->listener >= 0)
		close(greeter->listener);
	if (greeter->far >= 0)
		close(greeter->far);
	if (err) {
		close_fd(&greeter->stop);
		close_fd(&greeter->near);
		free(greeter);
		return err;
	}
	*out = greeter;
	return 0;
}

/* What the thread has open goes with it: a thread that ends waits for no descriptor. */
void xf_greeter_free(struct xf_greeter *greeter)
{
	const uint64_t one = 1;

	if (!greeter)
		return;
	while (write(greeter->stop, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	pthread_join(greeter->thread, NULL);
	close(greeter->stop);
	close(greeter->near);
	free(greeter);
}

int xf_greeter_fd(const struct xf_greeter *greeter)
{
	return greeter->near;
}

int xf_greeter_take(const struct xf_greeter *greeter, struct xf_greeted *out, int fds[2])
{
	unsigned nfds;
	ssize_t n = xf_peer_recv(greeter->near, out, sizeof(*out), fds, &nfds, MSG_DONTWAIT);

	if (n == sizeof(*out) && nfds == 2)
		return 0;
	while (nfds)
		close(fds[--nfds]);
	return n < 0 ? (int)n : -EPROTO;
}

uint64_t xf_greeter_refused(const struct xf_greeter *greeter)
{
	return atomic_load_explicit(&greeter->refused, memory_order_relaxed);
}
