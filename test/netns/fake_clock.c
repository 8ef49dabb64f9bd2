/*
 * A wall clock that a test may step, for a daemon that has this preloaded: FAKE_CLOCK names a file
 * with nanoseconds to add, and a FIFO beside it, FAKE_CLOCK.set, that tells of each step as a
 * timerfd with TFD_TIMER_CANCEL_ON_SET would. The machine's own clock is left alone.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <sys/timerfd.h>

static int told_by = -1;

static int64_t ahead_ns(void)
{
	FILE *f = fopen(getenv("FAKE_CLOCK"), "r");
	long long ns = 0;

	if (f && fscanf(f, "%lld", &ns) != 1)
		ns = 0;
	if (f)
		fclose(f);
	return ns;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
	static int (*real)(clockid_t, struct timespec *);
	int64_t ns;
	int err;

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
	err = real(id, ts);
	if (err || id != CLOCK_REALTIME)
		return err;
	ns = ts->tv_sec * 1000000000ll + ts->tv_nsec + ahead_ns();
	ts->tv_sec = ns / 1000000000;
	ts->tv_nsec = ns % 1000000000;
	return 0;
}

int timerfd_create(clockid_t id, int flags)
{
	static int (*real)(clockid_t, int);
	char path[256];

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "timerfd_create");
	if (id != CLOCK_REALTIME)
		return real(id, flags);
	snprintf(path, sizeof(path), "%s.set", getenv("FAKE_CLOCK"));
	told_by = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	return told_by;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old)
{
	static int (*real)(int, int, const struct itimerspec *, struct itimerspec *);

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "timerfd_settime");
	return fd == told_by ? (flags & TFD_TIMER_CANCEL_ON_SET ? 0 : -1)
			     : real(fd, flags, new, old);
}
