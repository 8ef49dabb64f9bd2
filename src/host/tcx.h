/*
 * tcx.h - programs at devices by BPF links (Linux 6.6): they need no queueing discipline, run
 * before the filters of any, and only who has the link takes them away.
 *
 * A link goes with its last descriptor or pin (pins.h). It goes with its device into another
 * network namespace; when the device is gone, it is one of no device.
 *
 * Control thread. Functions return 0 or -errno.
 */
#ifndef XF_HOST_TCX_H
#define XF_HOST_TCX_H

#include <stdbool.h>
#include <stdint.h>

/* Linux's numbers, which libbpf's headers of 6.1 do not have. */
enum xf_tcx_side { XF_TCX_INGRESS = 46, XF_TCX_EGRESS = 47 };

#define XF_TCX_MAX 64 /* programs on one side of a device; Linux's */

/* What is on one side of a device, in the order in which it runs. */
struct xf_tcx_seen {
	unsigned n;
	uint32_t prog[XF_TCX_MAX]; /* by their ids */
	uint32_t link[XF_TCX_MAX]; /* that holds it there; 0: none does */
};

/* -EINVAL: this kernel has no tcx. -ENODEV: no such device in this namespace. */
int xf_tcx_query(uint32_t ifindex, enum xf_tcx_side side, struct xf_tcx_seen *out);

/* The place of something in @ids, or -1. */
int xf_tcx_find(const uint32_t ids[XF_TCX_MAX], unsigned n, uint32_t id);

/* Put a program before all others. A descriptor of the link, which is the caller's, or -errno. */
int xf_tcx_link(uint32_t ifindex, enum xf_tcx_side side, int prog_fd);

/* Of a link: its id and the device that it is at, here or in another namespace (0: gone). -EINVAL:
 * it is none of tcx. */
struct xf_tcx_info {
	uint32_t id;
	uint32_t ifindex;
};
int xf_tcx_info(int link, struct xf_tcx_info *out);

/* The id of a program; 0: it cannot be read. */
uint32_t xf_tcx_program_id(int prog_fd);

/* Is the name of program @id that, or does it begin so? Asking takes CAP_SYS_ADMIN. -errno. */
int xf_tcx_is_named(uint32_t id, const char *name);

#endif
