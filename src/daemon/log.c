/* Log lines, and how many of those that others can cause. Called from everywhere. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "log.h"

#define LINE_MAX_BYTES 1024

static enum xf_log_level threshold = XF_LOG_INFO;

void xf_log_set_level(enum xf_log_level level)
{
	threshold = level;
}

void xf_log(enum xf_log_level level, const char *fmt, ...)
{
	char line[LINE_MAX_BYTES];
	va_list ap;
	int n;

	if (level > threshold)
		return;
	/* sd-daemon(3): the journal takes the level from a prefix. */
	if (getenv("JOURNAL_STREAM"))
		n = snprintf(line, sizeof(line), "<%d>", level);
	else
		n = snprintf(line, sizeof(line), "xfrmd: ");
	va_start(ap, fmt);
	n += vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, ap);
	va_end(ap);
	if ((size_t)n > sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	/* One write a line, so that lines of several threads do not mix. */
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return;
}

bool xf_log_may(struct xf_log_limit *limit, uint64_t now_ns)
{
	if (now_ns < limit->until_ns) {
		limit->more++;
		return false;
	}
	limit->until_ns = now_ns + XF_LOG_INTERVAL_NS;
	return true;
}

void xf_log_settle(struct xf_log_limit *limit, uint64_t now_ns, const char *what)
{
	if (now_ns < xf_log_due(limit))
		return;
	xf_log(XF_LOG_NOTICE, "%s: %" PRIu64 " more like it", what, limit->more);
	limit->more = 0;
}

uint64_t xf_log_due(const struct xf_log_limit *limit)
{
	return limit->more ? limit->until_ns : UINT64_MAX;
}
