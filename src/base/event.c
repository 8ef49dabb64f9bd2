/*
 * Rings of events, of one writer and one reader each: workers tell, the control thread takes.
 *
 * "told" is why no wake is missed. The worker sets it after it has told, and wakes when it was not
 * set; the control thread takes it back before it looks. Whichever of the two came first, either
 * the worker wakes, or the control thread sees what was told.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include <xf/event.h>

struct xf_event_ring {
	/* Constant. */
	struct xf_event *events;
	unsigned size;
	struct xf_event_wake wake;
	/* Written by the worker, read by both: how many were told, ... */
	_Alignas(XF_CACHE_LINE) _Atomic uint64_t head;
	/* ... and by the control thread: how many were taken. */
	_Alignas(XF_CACHE_LINE) _Atomic uint64_t tail;
	_Atomic bool told;
};

struct xf_event_ring *xf_event_ring_new(unsigned size, const struct xf_event_wake *wake)
{
	struct xf_event_ring *ring = aligned_alloc(XF_CACHE_LINE, sizeof(*ring));

	if (!ring)
		return NULL;
	memset(ring, 0, sizeof(*ring));
	ring->events = calloc(size, sizeof(*ring->events));
	if (!ring->events) {
		free(ring);
		return NULL;
	}
	ring->size = size;
	ring->wake = *wake;
	return ring;
}

void xf_event_ring_free(struct xf_event_ring *ring)
{
	if (!ring)
		return;
	free(ring->events);
	free(ring);
}

/* False: it is full. */
static bool put(struct xf_event_ring *ring, const struct xf_event *event)
{
	uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

	if (head - atomic_load_explicit(&ring->tail, memory_order_acquire) == ring->size)
		return false;
	ring->events[head % ring->size] = *event;
	atomic_store_explicit(&ring->head, head + 1, memory_order_release);
	return true;
}

void xf_event_tell(struct xf_event_ring *ring, const struct xf_event *event,
		   struct xf_event_lost *lost)
{
	if (!ring || !put(ring, event))
		__atomic_store_n(&lost->any, true, __ATOMIC_RELEASE);
	if (ring && !atomic_exchange_explicit(&ring->told, true, memory_order_acq_rel) &&
	    ring->wake.fn)
		ring->wake.fn(ring->wake.arg);
}

unsigned xf_event_take(struct xf_event_ring *ring,
		       void (*fn)(void *arg, const struct xf_event *event), void *arg)
{
	uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
	unsigned n;

	atomic_exchange_explicit(&ring->told, false, memory_order_acq_rel);
	n = (unsigned)(atomic_load_explicit(&ring->head, memory_order_acquire) - tail);
	for (unsigned i = 0; i < n; i++) {
		const struct xf_event event = ring->events[tail % ring->size];

		atomic_store_explicit(&ring->tail, ++tail, memory_order_release);
		fn(arg, &event);
	}
	return n;
}

bool xf_event_lost_take(struct xf_event_lost *lost)
{
	return __atomic_load_n(&lost->any, __ATOMIC_RELAXED) &&
	       __atomic_exchange_n(&lost->any, false, __ATOMIC_ACQ_REL);
}
