/*
 * esp_ring.h - what the daemon shares with the program that receives ESP ahead of IP input.
 *
 * Addresses are in wire order.
 */
#ifndef XF_BPF_RING_H
#define XF_BPF_RING_H

#include <linux/types.h>

#define XF_RING_BYTES (8 << 20)
/* Records are of three sizes; the largest holds any IPv4 packet. */
#define XF_RING_DATA 2032
#define XF_RING_DATA_JUMBO 10224
#define XF_RING_DATA_MAX 65536
/* Bits of the IPv4 header's halfword at 6 that a fragment has: MF and the offset. */
#define XF_RING_FRAGMENT 0x3fff
#define XF_RING_PAIRS_MAX 1024

/* Who sends to whom, on which device. */
struct xf_ring_pair {
	__u32 ifindex;
	__u32 saddr_be;
	__u32 daddr_be;
};

struct xf_ring_record {
	__u32 len;
	__u32 mark;
	__u32 iif;
	__u32 unused;
	__u8 data[]; /* from the IP header on */
};

#endif
