/*
 * noqueue.h - no queueing discipline between those who send by the TUN and its ring.
 *
 * The device never asks its discipline to wait: packets stand in its ring, and what does not fit is
 * dropped. So the one that a device gets by itself only costs each packet its time. One that
 * somebody has chosen for it, a shaper, stays.
 *
 * Control thread, or before there are threads.
 */
#ifndef XF_PORT_NOQUEUE_H
#define XF_PORT_NOQUEUE_H

/* The device @ifindex has none from now on. A kernel that cannot do without one keeps it. */
void xf_noqueue_make(int ifindex);

#endif
