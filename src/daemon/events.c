/*
 * One eventfd for all workers. The engine passes on what is about SAs by itself; what the port's
 * workers tell comes here. The service opens this before its engine, and starts it with the loop.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "events.h"

int xf_events_open(struct xf_events *events)
{
	*events = (struct xf_events){ .watch.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	return events->watch.fd < 0 ? -errno : 0;
}

void xf_events_wake(const struct xf_events *events)
{
	const uint64_t one = 1;

	/* It can only fail when it is full, and then somebody woke it already. */
	if (write(events->watch.fd, &one, sizeof(one)) < 0)
		return;
}

static void take(void *arg, const struct xf_event *event)
{
	struct xf_events *events = arg;

	switch (event->kind) {
	case XF_EVENT_NEXT_HOP:
	case XF_EVENT_HOPS_USED:
		events->hops = true;
		xf_packet_take(events->cfg.packet, event, events->now_ns);
		break;
	case XF_EVENT_SA: /* the engine's */
		break;
	}
}

static void dispatch(struct xf_events *events, uint64_t now_ns)
{
	struct xf_packet *packet = events->cfg.packet;

	events->now_ns = now_ns;
	events->hops = false;
	xf_engine_take_events(events->cfg.engine, take, events);
	if (packet && (xf_packet_has_lost(packet) || events->hops))
		xf_packet_dispatch(packet, now_ns);
	events->cfg.taken(events->cfg.arg, now_ns);
}

static void ready(void *arg, uint32_t epoll_events)
{
	struct xf_events *events = arg;
	uint64_t count;

	(void)epoll_events;
	if (read(events->watch.fd, &count, sizeof(count)) < 0)
		return;
	dispatch(events, xf_clock_ns());
}

int xf_events_start(struct xf_events *events, const struct xf_events_config *cfg,
		    struct xf_loop *loop)
{
	events->cfg = *cfg;
	events->watch.ready = ready;
	events->watch.arg = events;
	return xf_loop_add(loop, &events->watch, EPOLLIN);
}

void xf_events_close(struct xf_events *events)
{
	if (events->watch.fd >= 0)
		close(events->watch.fd);
	events->watch.fd = -1;
}
