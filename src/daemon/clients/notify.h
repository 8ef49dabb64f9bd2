/*
 * notify.h - tell systemd how the service is: sd_notify(3), without its library.
 *
 * Any thread.
 */
#ifndef XF_DAEMON_NOTIFY_H
#define XF_DAEMON_NOTIFY_H

#include <xf/base.h>

/* Send "READY=1" or the like to $NOTIFY_SOCKET. Nothing happens when there is none. */
void xf_notify(const char *state);

/* How often systemd wants to hear "WATCHDOG=1", halved; 0: not at all. */
uint64_t xf_notify_watchdog_ns(void);

#endif
