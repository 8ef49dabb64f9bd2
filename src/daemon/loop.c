#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <xf/rcu.h>

#include "loop.h"

struct xf_loop {
	struct xf_loop_config cfg;
	struct xf_watch timer;
	int epoll;
	bool stop;
};

uint64_t xf_clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * XF_NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void timer_ready(void *arg, uint32_t events)
{
	struct xf_loop *loop = arg;
	uint64_t expirations;

	(void)events;
	if (read(loop->timer.fd, &expirations, sizeof(expirations)) < 0)
		return;
	loop->cfg.timer(loop->cfg.arg, xf_clock_ns());
}

int xf_loop_new(const struct xf_loop_config *cfg, struct xf_loop **out)
{
	struct xf_loop *loop = calloc(1, sizeof(*loop));
	int err;

	if (!loop)
		return -ENOMEM;
	loop->cfg = *cfg;
	loop->timer.ready = timer_ready;
	loop->timer.arg = loop;
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	loop->timer.fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	if (loop->epoll < 0 || loop->timer.fd < 0)
		err = -errno;
	else
		err = xf_loop_add(loop, &loop->timer, EPOLLIN);
	if (err) {
		xf_loop_free(loop);
		return err;
	}
	*out = loop;
	return 0;
}

void xf_loop_free(struct xf_loop *loop)
{
	if (!loop)
		return;
	if (loop->timer.fd >= 0)
		close(loop->timer.fd);
	if (loop->epoll >= 0)
		close(loop->epoll);
	free(loop);
}

static int change(struct xf_loop *loop, int op, struct xf_watch *watch, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = watch };

	return epoll_ctl(loop->epoll, op, watch->fd, &ev) ? -errno : 0;
}

int xf_loop_add(struct xf_loop *loop, struct xf_watch *watch, uint32_t events)
{
	return change(loop, EPOLL_CTL_ADD, watch, events);
}

int xf_loop_modify(struct xf_loop *loop, struct xf_watch *watch, uint32_t events)
{
	return change(loop, EPOLL_CTL_MOD, watch, events);
}

void xf_loop_remove(struct xf_loop *loop, struct xf_watch *watch)
{
	change(loop, EPOLL_CTL_DEL, watch, 0);
}

void xf_loop_set_deadline(struct xf_loop *loop, uint64_t at_ns)
{
	struct itimerspec its = { 0 };

	if (at_ns != UINT64_MAX) {
		its.it_value.tv_sec = (time_t)(at_ns / XF_NSEC_PER_SEC);
		its.it_value.tv_nsec = (long)(at_ns % XF_NSEC_PER_SEC);
		/* Zero would disarm it. */
		if (at_ns == 0)
			its.it_value.tv_nsec = 1;
	}
	timerfd_settime(loop->timer.fd, TFD_TIMER_ABSTIME, &its, NULL);
}

/*
 * One event at a time, so that what a handler removes or frees cannot be next in a list of events
 * already taken. epoll goes round: nobody starves.
 */
static int next_event(struct xf_loop *loop, struct epoll_event *ev)
{
	int n = epoll_wait(loop->epoll, ev, 1, 0);

	if (n)
		return n;
	loop->cfg.idle(loop->cfg.arg);
	xf_read_offline();
	n = epoll_wait(loop->epoll, ev, 1, -1);
	xf_read_online();
	return n;
}

void xf_loop_run(struct xf_loop *loop)
{
	xf_read_register();
	while (!loop->stop) {
		struct epoll_event ev;
		const struct xf_watch *watch;

		if (next_event(loop, &ev) != 1)
			continue;
		watch = ev.data.ptr;
		watch->ready(watch->arg, ev.events);
	}
	xf_read_unregister();
}

void xf_loop_stop(struct xf_loop *loop)
{
	loop->stop = true;
}
