/*
 * wallclock.h - by how much the wall clock is ahead of the engine's, and when that changes.
 *
 * Control thread. The distance is of nanoseconds, and rather too small than too large: no time
 * that is made of it is ever in the future.
 */
#ifndef XF_DAEMON_WALLCLOCK_H
#define XF_DAEMON_WALLCLOCK_H

#include "loop.h"

/* Wall clock minus xf_clock_ns(), now. */
int64_t xf_wallclock_offset_ns(void);

struct xf_wallclock {
	/* Somebody has set the clock: from @now_ns on it is ahead by @offset_ns. */
	void (*stepped)(void *arg, uint64_t now_ns, int64_t offset_ns);
	void *arg;
	struct xf_watch watch; /* ours; fd < 0: not started */
};

/* Call stepped() from @loop whenever the clock was set. 0 or -errno. */
int xf_wallclock_start(struct xf_wallclock *clock, struct xf_loop *loop);
void xf_wallclock_stop(struct xf_wallclock *clock);

#endif
