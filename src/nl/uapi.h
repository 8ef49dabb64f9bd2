/*
 * uapi.h - the kernel's XFRM netlink interface: the system's header, and what Linux 6.18 added to
 * it since. Newer names carry our prefix, so that a newer system header does not clash.
 */
#ifndef XF_NL_UAPI_H
#define XF_NL_UAPI_H

#include <linux/netlink.h>
#include <linux/xfrm.h>

enum {
	XF_XFRMA_MTIMER_THRESH = 32,
	XF_XFRMA_SA_DIR = 33, /* u8: enum xf_sa_dir */
	XF_XFRMA_NAT_KEEPALIVE_INTERVAL, /* u32, seconds */
	XF_XFRMA_SA_PCPU, /* u32 */
	XF_XFRMA_IPTFS_DROP_TIME, /* u32, microseconds */
	XF_XFRMA_IPTFS_REORDER_WINDOW, /* u16, packets */
	XF_XFRMA_IPTFS_DONT_FRAG, /* flag */
	XF_XFRMA_IPTFS_INIT_DELAY, /* u32, microseconds */
	XF_XFRMA_IPTFS_MAX_QSIZE, /* u32, bytes */
	XF_XFRMA_IPTFS_PKT_SIZE, /* u32, bytes */
	XF_XFRMA_MAX = XF_XFRMA_IPTFS_PKT_SIZE,
};

#define XF_XFRM_MODE_IPTFS 5
#define XF_XFRM_MODE_MAX 6
#define XF_XFRM_MSG_MAX 0x28 /* XFRM_MSG_GETDEFAULT */
#define XF_XFRM_MAX_DEPTH 6
#define XF_XFRM_OFFLOAD_PACKET 4
#define XF_XFRM_USERPOLICY_BLOCK 1
#define XF_XFRM_USERPOLICY_ACCEPT 2
#define XF_IPSEC_PROTO_ANY 255

#endif
