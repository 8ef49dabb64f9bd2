/*
 * missing.h - what a daemon that runs does without, because the kernel or its privileges lack it.
 *
 * Control thread.
 */
#ifndef XF_DAEMON_MISSING_H
#define XF_DAEMON_MISSING_H

#include "capture/capture.h"
#include "host/forwarding.h"

#include "daemon/thread/threads.h"

struct xf_missing {
	/* Where it is looked for; all of it outlives this. */
	const struct xf_threads *threads;
	struct xf_capture *capture;
	const struct xf_forwarding *forwarding;
	enum xf_capture_mode mode;

	uint32_t bits; /* what was found the last time */
};

/*
 * Look for it, say each in a line of the log, remember it in @missing->bits. After
 * xf_service_start(), and before xf_privs_enter(), for capabilities are looked at.
 */
void xf_missing_find(struct xf_missing *missing);

/* The same later, of what may have changed since (forwarding): what is new is said. */
void xf_missing_find_again(struct xf_missing *missing);

/* The sentence of bit @i; NULL: there is no such bit. */
const char *xf_missing_text(unsigned i);

#endif
