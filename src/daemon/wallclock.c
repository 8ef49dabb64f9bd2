/*
 * The wall clock beside the engine's: the service asks for the distance of the two when it starts,
 * and tells the SAD and the SPD when the wall clock was set.
 */
#include <errno.h>
#include <time.h>
#include <unistd.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "wallclock.h"

#define TRIES 5

static uint64_t real_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * XF_NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* The engine's clock is read last: what passes in between makes the distance smaller. */
int64_t xf_wallclock_offset_ns(void)
{
	int64_t best = INT64_MIN;

	for (unsigned i = 0; i < TRIES; i++) {
		uint64_t real = real_ns();
		int64_t offset = (int64_t)(real - xf_clock_ns());

		best = offset > best ? offset : best;
	}
	return best;
}

/* It ends in a few hundred years; setting the clock cancels it. */
static int arm(const struct xf_wallclock *clock)
{
	const struct itimerspec never = { .it_value.tv_sec = 9000000000 };

	return timerfd_settime(clock->watch.fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never,
			       NULL)
		       ? -errno
		       : 0;
}

/* Armed before the clock is read: a second step in between is told, too. */
static void clock_set(void *arg, uint32_t events)
{
	struct xf_wallclock *clock = arg;
	uint64_t expirations;

	(void)events;
	if (read(clock->watch.fd, &expirations, sizeof(expirations)) < 0 && errno == EAGAIN)
		return;
	arm(clock);
	clock->stepped(clock->arg, xf_clock_ns(), xf_wallclock_offset_ns());
}

int xf_wallclock_start(struct xf_wallclock *clock, struct xf_loop *loop)
{
	int err;

	clock->watch = (struct xf_watch){
		.fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC),
		.ready = clock_set,
		.arg = clock,
	};
	err = clock->watch.fd < 0 ? -errno : arm(clock);
	if (!err)
		err = xf_loop_add(loop, &clock->watch, EPOLLIN);
	if (err)
		xf_wallclock_stop(clock);
	return err;
}

void xf_wallclock_stop(struct xf_wallclock *clock)
{
	if (clock->watch.fd >= 0)
		close(clock->watch.fd);
	clock->watch.fd = -1;
}
