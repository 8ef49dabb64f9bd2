/* What workers and what they share have counted, summed for threads.c of the daemon. */
#include "port/backend.h"

_Static_assert(sizeof(struct xf_io_counters) == sizeof(struct xf_io_stats), "one layout");

static const struct xf_counter_desc descs[] = { XF_IO_COUNTERS(XF_COUNTER_DESC,
							       struct xf_io_stats) };
const struct xf_counter_group xf_io_counters = { "io", descs, XF_ARRAY_SIZE(descs) };

void xf_io_add_stats(const struct xf_io *io, struct xf_io_stats *sums)
{
	xf_counters_add(&xf_io_counters, &io->count, sums);
}

void xf_io_shared_add_stats(const struct xf_io_shared *shared, struct xf_io_stats *sums)
{
	const struct xf_ring *ring = shared->ring->ring;

	xf_counters_add(&xf_io_counters, &shared->count, sums);
	if (ring)
		sums->ring_full += xf_ring_full(ring);
}

void xf_io_add_queue(const struct xf_io *io, struct xf_io_queues *sums)
{
	sums->marks += io->tun.marks;
	sums->supers += io->tun.supers;
	sums->udp_supers += io->tun.udp_supers;
	sums->steered += io->tun.steered;
}
