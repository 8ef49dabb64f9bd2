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

#endif
