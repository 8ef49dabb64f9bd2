/*
 * event.h - what workers tell the control thread: one ring of events for each worker.
 *
 * An event is a hint. What must not be lost stays in the object that it is about, with a bit that
 * says that it was told: one event stands for all that happens until the control thread has looked.
 * So nothing is told per packet. A ring that is full loses the event, not what it is about: whoever
 * tells names a flag that is set then, and where it is set the control thread looks at every object
 * of that kind.
 *
 * Threads: one tells (the ring's worker), one takes (the control thread). Neither waits for the
 * other, and neither makes a system call: the wake does.
 */
#ifndef XF_EVENT_H
#define XF_EVENT_H

#include <xf/base.h>

#ifdef __cplusplus
extern "C" {
#endif

enum xf_event_kind {
	XF_EVENT_SA, /* @sa: the SA of that id has attention bits: xf_sad_attend() */
	/* Of whoever moves the worker's packets (src/port/packet.h). */
	XF_EVENT_NEXT_HOP, /* @data: that of this destination is not known */
	XF_EVENT_HOPS_USED, /* those that are known are in use, so they must be right */
};

#define XF_EVENT_DATA_BYTES 56

struct xf_event {
	enum xf_event_kind kind;
	union {
		uint64_t sa;
		uint8_t data[XF_EVENT_DATA_BYTES];
	};
};

/* How the control thread is told that there is something to take. Called by the worker; must not
 * block. fn NULL: nobody waits. */
struct xf_event_wake {
	void (*fn)(void *arg);
	void *arg;
};

/* Were events about one kind of objects lost? Any thread. All zero: no. */
struct xf_event_lost {
	bool any;
};

struct xf_event_ring;

/* Room for @size events, at least one. NULL: no memory. */
struct xf_event_ring *xf_event_ring_new(unsigned size, const struct xf_event_wake *wake);
void xf_event_ring_free(struct xf_event_ring *ring); /* NULL is allowed */

/*
 * Tell @event, or note in @lost that it was not: @ring is full, or NULL (no worker asks). The
 * control thread is woken, once for all that is told until it takes. Worker.
 */
void xf_event_tell(struct xf_event_ring *ring, const struct xf_event *event,
		   struct xf_event_lost *lost);

/*
 * Call @fn for each event that is there, in their order; @fn may not take. What was lost is to be
 * asked for afterwards: whatever is told or lost from the beginning of this call on wakes again.
 * Returns how many there were. Control thread.
 */
unsigned xf_event_take(struct xf_event_ring *ring,
		       void (*fn)(void *arg, const struct xf_event *event), void *arg);

/* True, once: some were lost since the last call. Control thread. */
bool xf_event_lost_take(struct xf_event_lost *lost);

#ifdef __cplusplus
}
#endif

#endif
