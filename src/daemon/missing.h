/*
 * missing.h - what a daemon that runs does without, because the kernel or its privileges lack it.
 *
 * Control thread.
 */
#ifndef XF_DAEMON_MISSING_H
#define XF_DAEMON_MISSING_H

#include "service.h"

/*
 * Look for it, say each in a line of the log, remember it in service->missing. After
 * xf_service_start(), and before xf_privs_enter(), for capabilities are looked at.
 */
void xf_missing_find(struct xf_service *service);

/* The same later, of what may have changed since (forwarding): what is new is said. */
void xf_missing_find_again(struct xf_service *service);

/* The sentence of bit @i of service->missing; NULL: there is no such bit. */
const char *xf_missing_text(unsigned i);

#endif
