/*
 * chores.h - what the control thread does by time and between requests: what has expired, what is
 * due, memory that has become free.
 *
 * Control thread.
 */
#ifndef XF_DAEMON_CHORES_H
#define XF_DAEMON_CHORES_H

#include <xf/path.h>

#include "changes.h"
#include "host_watch.h"
#include "missing.h"

struct xf_chores {
	/* What there is to do; all of it outlives this. */
	struct xf_loop *loop;
	struct xf_engine *engine;
	struct xf_changes *changes;
	struct xf_host_watch *host;
	struct xf_missing *missing;
	uint64_t watchdog_ns; /* 0 = systemd does not ask */

	size_t entries; /* SAs and policies, at most since memory was given back */
};

/* Act on what is due, and have @arg's (a struct xf_chores) loop wait for what is next. After
 * whatever has happened. */
void xf_chores_do(void *arg, uint64_t now_ns);

/* For the loop (struct xf_loop_config), likewise. */
void xf_chores_timer(void *arg, uint64_t now_ns);
void xf_chores_idle(void *arg);

#endif
