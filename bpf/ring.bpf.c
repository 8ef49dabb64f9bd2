// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * At tcx ingress of devices that peers are behind: ESP from such a peer to this host goes into a
 * ring and no further, whole or in fragments: the kernel would bring those by another way, and what
 * came later would overtake them. Everything else, options and VLAN tags included, goes on to the
 * kernel as if nothing were here. A full ring drops what comes, as a full socket does: were it to
 * go on, it would overtake what is in the ring. The link goes when the daemon goes.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "esp_ring.h"

#define ESP_MIN 16

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, XF_RING_BYTES);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, XF_RING_PAIRS_MAX);
	__type(key, struct xf_ring_pair);
	__type(value, __u32);
} pairs SEC(".maps");

__u32 on;
__u64 full; /* packets that found no room */

/* IP input would drop a header with a wrong sum. */
static __always_inline bool sum_is_right(const struct iphdr *ip)
{
	const __u16 *half = (const void *)ip;
	__u32 sum = 0;

	for (int i = 0; i < 10; i++)
		sum += half[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return ((sum & 0xffff) + (sum >> 16)) == 0xffff;
}

/*
 * Its length, or 0: it is not one that is taken. Devices of pairs are Ethernet; from the start of
 * the frame what lies in pages is read as well.
 */
static __always_inline __u32 take(struct __sk_buff *skb)
{
	struct xf_ring_pair pair = { .ifindex = skb->ifindex };
	struct iphdr ip;
	__u32 len;
	__u32 min = sizeof(ip) + ESP_MIN;

	if (!on || skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present ||
	    skb->pkt_type != PACKET_HOST || skb->gso_size)
		return 0;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return 0;
	len = bpf_ntohs(ip.tot_len);
	if (ip.frag_off & bpf_htons(XF_RING_FRAGMENT))
		min = sizeof(ip) + 1; /* the last one may be as short */
	if (ip.version != 4 || ip.ihl != 5 || ip.protocol != IPPROTO_ESP || len < min ||
	    !sum_is_right(&ip))
		return 0;
	pair.saddr_be = ip.saddr;
	pair.daddr_be = ip.daddr;
	return bpf_map_lookup_elem(&pairs, &pair) ? len : 0;
}

/* @room is a constant, at least @len. */
static __always_inline int put(struct __sk_buff *skb, __u32 len, const __u32 room)
{
	struct xf_ring_record *record = bpf_ringbuf_reserve(&ring, sizeof(*record) + room, 0);

	if (!record) {
		__sync_fetch_and_add(&full, 1);
		return TC_ACT_SHOT;
	}
	record->len = len;
	record->mark = skb->mark;
	record->iif = skb->ifindex;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, record->data, len)) {
		bpf_ringbuf_discard(record, 0);
		return TC_ACT_UNSPEC;
	}
	bpf_ringbuf_submit(record, 0);
	return TC_ACT_SHOT;
}

SEC("tc")
int xf_ring(struct __sk_buff *skb)
{
	__u32 len = take(skb);

	if (len == 0 || len >= XF_RING_DATA_MAX)
		return TC_ACT_UNSPEC;
	if (len <= XF_RING_DATA)
		return put(skb, len, XF_RING_DATA);
	if (len <= XF_RING_DATA_JUMBO)
		return put(skb, len, XF_RING_DATA_JUMBO);
	return put(skb, len, XF_RING_DATA_MAX);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
