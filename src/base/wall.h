/*
 * wall.h - what the wall clock said at a time of the engine's clock.
 *
 * The engine's clock runs on evenly, and lifetimes go by it. The wall clock, which people are
 * shown, may be stepped; what happened before keeps the time that it had then, as in the kernel,
 * which notes the wall clock's seconds when something happens. Here the distance of the two clocks
 * is noted whenever it changes: so a packet needs no second clock, and an SA no second time.
 *
 * One writer, readers anywhere. Steps are seldom: of more than XF_WALL_STEPS the first are
 * forgotten, and what happened before counts by the oldest that is known.
 */
#ifndef XF_BASE_WALL_H
#define XF_BASE_WALL_H

#include <stdatomic.h>

#include <xf/base.h>

#define XF_WALL_STEPS 8u

struct xf_wall {
	_Atomic uint32_t last; /* number of the last step; the first one is the clock's setting */
	struct {
		_Atomic uint64_t since_ns; /* of the engine's clock */
		_Atomic int64_t offset_ns; /* wall clock minus engine's clock, from then on */
	} steps[XF_WALL_STEPS];
};

static inline void xf_wall_init(struct xf_wall *wall, int64_t offset_ns)
{
	*wall = (struct xf_wall){ .steps[0].offset_ns = offset_ns };
}

/* From @now_ns on the wall clock is ahead by @offset_ns. */
static inline void xf_wall_step(struct xf_wall *wall, uint64_t now_ns, int64_t offset_ns)
{
	uint32_t step = atomic_load_explicit(&wall->last, memory_order_relaxed) + 1;
	uint32_t i = step % XF_WALL_STEPS;

	atomic_store_explicit(&wall->steps[i].since_ns, now_ns, memory_order_relaxed);
	atomic_store_explicit(&wall->steps[i].offset_ns, offset_ns, memory_order_relaxed);
	atomic_store_explicit(&wall->last, step, memory_order_release);
}

static inline uint32_t xf_wall_last(const struct xf_wall *wall)
{
	return atomic_load_explicit(&wall->last, memory_order_acquire);
}

/* By how much the wall clock is ahead after step number @step. */
static inline int64_t xf_wall_offset_ns(const struct xf_wall *wall, uint32_t step)
{
	return atomic_load_explicit(&wall->steps[step % XF_WALL_STEPS].offset_ns,
				    memory_order_relaxed);
}

/* By how much it was ahead at @time_ns. */
static inline int64_t xf_wall_offset_at(const struct xf_wall *wall, uint64_t time_ns)
{
	uint32_t last = xf_wall_last(wall), step = last;

	while (step > 0 && last - step < XF_WALL_STEPS - 1 &&
	       atomic_load_explicit(&wall->steps[step % XF_WALL_STEPS].since_ns,
				    memory_order_relaxed) > time_ns)
		step--;
	return xf_wall_offset_ns(wall, step);
}

/* Seconds of the wall clock; 0 is as early as it gets. */
static inline uint64_t xf_wall_s(int64_t time_ns, int64_t offset_ns)
{
	int64_t wall_ns = time_ns + offset_ns;

	return wall_ns < 0 ? 0 : (uint64_t)wall_ns / XF_NSEC_PER_SEC;
}

#endif
