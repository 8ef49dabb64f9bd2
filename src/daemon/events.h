/*
 * events.h - what workers tell (xf/event.h): the one place where the control thread takes it.
 *
 * Control thread, but for xf_events_wake(). Functions return 0 or -errno.
 */
#ifndef XF_DAEMON_EVENTS_H
#define XF_DAEMON_EVENTS_H

#include <xf/path.h>

#include "port/packet.h"

#include "loop.h"

/* Where events go. */
struct xf_events_config {
	struct xf_engine *engine;
	struct xf_packet *packet; /* NULL: there is none, and nobody tells of next hops */
	/* All were taken: what follows from them is due. */
	void (*taken)(void *arg, uint64_t now_ns);
	void *arg;
};

struct xf_events {
	struct xf_events_config cfg;
	struct xf_watch watch; /* of an eventfd; fd < 0: not open */
	/* While they are taken. */
	uint64_t now_ns;
	bool hops; /* some are about next hops */
};

/* Before the first worker, which wakes; nothing is taken yet. */
int xf_events_open(struct xf_events *events);

/* Take events from @loop. */
int xf_events_start(struct xf_events *events, const struct xf_events_config *cfg,
		    struct xf_loop *loop);

/* The loop is not asked any more, and no worker is left. */
void xf_events_close(struct xf_events *events);

/* There is something to take. Any thread; does not block. */
void xf_events_wake(const struct xf_events *events);

#endif
