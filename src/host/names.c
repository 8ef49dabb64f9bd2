/*
 * The defaults, and sentences about errors. Called by whoever opens or sets something.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "host/names.h"

const struct xf_io_names xf_io_names_default = {
	.tun = XF_TUN_NAME,
	.mark_capture = XF_MARK_CAPTURE,
	.mark_bypass = XF_MARK_BYPASS,
	.table = XF_ROUTE_TABLE,
	.rule_priority = XF_RULE_PRIORITY,
	.bpffs = XF_BPFFS,
};

int xf_io_fail(struct xf_io_error *error, int err, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (!error)
		return err;
	va_start(ap, fmt);
	n = vsnprintf(error->text, sizeof(error->text), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(error->text))
		snprintf(error->text + n, sizeof(error->text) - (size_t)n, ": %s", strerror(-err));
	return err;
}
