/*
 * device.h - devices whose packets any worker reads: links, which come and go while workers run.
 *
 * A link is a TUN with one queue. What comes out of it is captured, whatever its mark, and it is
 * protected or dropped: never sent on in clear. No program of ours stands in front of it, so its
 * packets bring no marks (meta.h).
 *
 * Threads: the control thread.
 */
#ifndef XF_PORT_DEVICE_H
#define XF_PORT_DEVICE_H

#include "port/io.h"

/* What a batch came out of. It is known of each of its packets: oif, if_id, realm. */
struct xf_port_device {
	uint32_t ifindex; /* not 0 */
	uint32_t if_id; /* that the policies of its packets have; 0: those without one */
	uint64_t link; /* its number, never that of another one; 0: not a link */
};

/*
 * Read from @device, which @fd is attached to, non-blocking and with IFF_VNET_HDR. @fd is closed
 * by this module, also on an error. Sets @device->link. -ENOSPC: there are too many.
 */
int xf_device_add(struct xf_io_shared *shared, int fd, struct xf_port_device *device,
		  struct xf_io_error *error);

/*
 * Read no more from the device with number @link. Its descriptor is closed, and its memory used
 * again, by the xf_rcu_drain() that follows. 0 or -ENOENT: there is none, or not any more.
 */
int xf_device_remove(struct xf_io_shared *shared, uint64_t link);

#endif
