/*
 * log.h - one line to stderr, as systemd's journal and terminals like it.
 *
 * Any thread. Keys are never logged.
 */
#ifndef XF_DAEMON_LOG_H
#define XF_DAEMON_LOG_H

#include <xf/base.h>

/* The values are those of syslog(3). */
enum xf_log_level {
	XF_LOG_ERROR = 3,
	XF_LOG_WARNING = 4,
	XF_LOG_NOTICE = 5,
	XF_LOG_INFO = 6,
	XF_LOG_DEBUG = 7,
};

/* What is less important than @level is left out. Before threads start. */
void xf_log_set_level(enum xf_log_level level);

void xf_log(enum xf_log_level level, const char *fmt, ...) XF_PRINTF(2, 3);

/*
 * For lines that others can cause: of each interval the first is logged, the rest is counted and
 * told in one line at its end. All zero: nothing was logged yet. One thread at a time.
 */
struct xf_log_limit {
	uint64_t until_ns; /* of the interval; 0 = none is open */
	uint64_t more; /* lines that were left out in it */
};

#define XF_LOG_INTERVAL_NS (30 * XF_NSEC_PER_SEC)

/* May a line be logged at @now_ns? */
bool xf_log_may(struct xf_log_limit *limit, uint64_t now_ns);

/* Tell what was left out, when the interval is over: "@what: N more like it". */
void xf_log_settle(struct xf_log_limit *limit, uint64_t now_ns, const char *what);

/* When to call that; UINT64_MAX: nothing was left out. */
uint64_t xf_log_due(const struct xf_log_limit *limit);

#endif
