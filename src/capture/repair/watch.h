/*
 * watch.h - what somebody else does to our table, rules, routes, TUN and filters, as the kernel
 * tells of it.
 *
 * nftables says who closed a transaction (NFTA_GEN_PROC_PID), so this process's own are known by
 * its thread: the one that opens the watch must be the one that changes rules. The others' events
 * are only reasons to look. Control thread. Functions return 0 or -errno.
 */
#ifndef XF_CAPTURE_WATCH_H
#define XF_CAPTURE_WATCH_H

#include "capture/ops.h"

struct xf_watcher;

int xf_watcher_new(const struct xf_io_names *names, struct xf_watcher **out,
		   struct xf_io_error *error);
/* No filters of devices but the TUN's are ours: what becomes of them is not told. */
void xf_watcher_ignore_filters(struct xf_watcher *watcher, bool ignore);

void xf_watcher_free(struct xf_watcher *watcher); /* NULL is allowed */

/* Readable when xf_watcher_read() has work. */
int xf_watcher_fd(const struct xf_watcher *watcher);

/*
 * Elements of ours in great number are events as well, and there is room for so many only: take
 * them in between. What others did is told by the next xf_watcher_read().
 */
void xf_watcher_keep_up(struct xf_watcher *watcher);

/* Call @tell for each event that could concern us. */
void xf_watcher_read(struct xf_watcher *watcher,
		     void (*tell)(void *arg, const struct xf_capture_event *event), void *arg);

/* Is the rule set of nftables of another generation than the last that was told of? */
bool xf_watcher_missed(struct xf_watcher *watcher);

#endif
