// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * The backstop, at clsact egress of every device but lo and the TUN: drops what a policy out wants
 * protected and what nevertheless is about to leave without the daemon's mark. Its limits:
 *   - it runs behind source NAT: what was rewritten is judged by its new source;
 *   - behind fragmentation: fragments without ports match a rule with ports;
 *   - behind neighbour resolution: ARP and discovery were done for what it drops;
 *   - frames of AF_PACKET sockets are seen as well (the kernel's IPsec does not see them); the
 *     limited broadcast passes, so that DHCP clients work;
 *   - extension headers of IPv6 are followed for a few steps only; a header that is not reached
 *     matches any port;
 *   - there is no room for all policies above XF_EGRESS_RULES_MAX: then destinations alone decide.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "egress.h"

#define EXT_HEADERS_MAX 4

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct xf_egress_config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * XF_EGRESS_RULES_MAX);
	__type(key, __u32);
	__type(value, struct xf_egress_rule);
} rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, XF_EGRESS_PREFIXES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct xf_egress_prefix);
	__type(value, __u8);
} prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} dropped SEC(".maps");

/* What of a packet the rules ask for. */
struct flow {
	__u32 saddr_be[4];
	__u32 daddr_be[4];
	__u32 mark;
	__u16 sport;
	__u16 dport;
	__u8 family;
	__u8 proto;
	bool ports; /* known? */
};

static __always_inline bool load(struct __sk_buff *skb, __u32 off, void *to, __u32 len)
{
	return bpf_skb_load_bytes_relative(skb, off, to, len, BPF_HDR_START_NET) == 0;
}

static __always_inline void read_ports(struct __sk_buff *skb, struct flow *flow, __u32 off)
{
	__be16 ports[2];
	__u8 type[2];

	switch (flow->proto) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_DCCP:
	case IPPROTO_SCTP:
		if (!load(skb, off, ports, sizeof(ports)))
			return;
		flow->sport = bpf_ntohs(ports[0]);
		flow->dport = bpf_ntohs(ports[1]);
		flow->ports = true;
		return;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (!load(skb, off, type, sizeof(type)))
			return;
		flow->sport = type[0];
		flow->dport = type[1];
		flow->ports = true;
		return;
	default:
		return;
	}
}

static __always_inline bool read_ipv4(struct __sk_buff *skb, struct flow *flow)
{
	struct iphdr ip;

	if (!load(skb, 0, &ip, sizeof(ip)))
		return false;
	flow->family = 4;
	flow->saddr_be[0] = ip.saddr;
	flow->daddr_be[0] = ip.daddr;
	flow->proto = ip.protocol;
	if (!(ip.frag_off & bpf_htons(0x1fff)))
		read_ports(skb, flow, ip.ihl * 4);
	return true;
}

/* Past one extension header: false when there is none to pass. */
static __always_inline bool skip_header(struct __sk_buff *skb, struct flow *flow, __u32 *off,
					bool *fragment)
{
	__u8 hdr[4];

	if (flow->proto != IPPROTO_HOPOPTS && flow->proto != IPPROTO_ROUTING &&
	    flow->proto != IPPROTO_DSTOPTS && flow->proto != IPPROTO_FRAGMENT)
		return false;
	if (!load(skb, *off, hdr, sizeof(hdr)))
		return false;
	if (flow->proto == IPPROTO_FRAGMENT) {
		*fragment = *fragment || hdr[2] || (hdr[3] & 0xf8);
		*off += 8;
	} else {
		*off += (hdr[1] + 1) * 8;
	}
	flow->proto = hdr[0];
	return true;
}

static __always_inline bool read_ipv6(struct __sk_buff *skb, struct flow *flow)
{
	struct ipv6hdr ip;
	__u32 off = sizeof(ip);
	bool fragment = false;

	if (!load(skb, 0, &ip, sizeof(ip)))
		return false;
	flow->family = 6;
	__builtin_memcpy(flow->saddr_be, &ip.saddr, 16);
	__builtin_memcpy(flow->daddr_be, &ip.daddr, 16);
	flow->proto = ip.nexthdr;
	for (int i = 0; i < EXT_HEADERS_MAX; i++)
		if (!skip_header(skb, flow, &off, &fragment))
			break;
	if (!fragment)
		read_ports(skb, flow, off);
	return true;
}

static __always_inline bool may_match(const struct flow *flow)
{
	struct xf_egress_prefix key = {
		.bits = 32 + (flow->family == 4 ? 32 : 128),
		.family_be = bpf_htonl(flow->family),
	};

	__builtin_memcpy(key.addr_be, flow->daddr_be, sizeof(key.addr_be));
	return bpf_map_lookup_elem(&prefixes, &key) != NULL;
}

static __always_inline bool same_prefix(const __u32 *a, const __u32 *b, const __u32 *mask)
{
	__u32 diff = 0;

	for (int i = 0; i < 4; i++)
		diff |= (a[i] ^ b[i]) & mask[i];
	return diff == 0;
}

/* What is not known of the packet matches what drops and does not match what lets pass. */
static __always_inline bool ports_match(const struct xf_egress_rule *rule, const struct flow *flow)
{
	if (!rule->sport_mask && !rule->dport_mask)
		return true;
	if (!flow->ports)
		return rule->drop;
	return !((rule->sport ^ flow->sport) & rule->sport_mask) &&
	       !((rule->dport ^ flow->dport) & rule->dport_mask);
}

static __always_inline bool rule_matches(const struct xf_egress_rule *rule, const struct flow *flow)
{
	if (rule->family && rule->family != flow->family)
		return false;
	if (rule->proto && rule->proto != flow->proto)
		return false;
	return same_prefix(rule->daddr_be, flow->daddr_be, rule->dmask_be) &&
	       same_prefix(rule->saddr_be, flow->saddr_be, rule->smask_be) &&
	       (flow->mark & rule->mark_mask) == rule->mark && ports_match(rule, flow);
}

struct search {
	const struct flow *flow;
	__u32 first;
	bool drop;
};

static long try_rule(__u32 i, void *arg)
{
	struct search *search = arg;
	__u32 key = search->first + i;
	const struct xf_egress_rule *rule = bpf_map_lookup_elem(&rules, &key);

	if (!rule || !rule_matches(rule, search->flow))
		return 0;
	search->drop = rule->drop;
	return 1;
}

static __always_inline bool wants_protection(const struct xf_egress_config *cfg,
					     const struct flow *flow)
{
	__u32 active = cfg->active & 1;
	struct search search = { .flow = flow, .first = active * XF_EGRESS_RULES_MAX };
	__u32 count = cfg->count[active];

	if (count > XF_EGRESS_RULES_MAX)
		return true; /* destinations alone */
	bpf_loop(count, try_rule, &search, 0);
	return search.drop;
}

SEC("tc")
int xf_egress(struct __sk_buff *skb)
{
	struct flow flow = { .mark = skb->mark };
	__u32 zero = 0;
	const struct xf_egress_config *cfg = bpf_map_lookup_elem(&config, &zero);
	__u64 *count = bpf_map_lookup_elem(&dropped, &zero);
	bool known = false;

	if (!cfg || !count || (skb->mark & cfg->mark_bypass))
		return TC_ACT_UNSPEC;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		known = read_ipv4(skb, &flow);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		known = read_ipv6(skb, &flow);
	if (!known || (flow.family == 4 && flow.daddr_be[0] == 0xffffffff))
		return TC_ACT_UNSPEC;
	if (!may_match(&flow) || !wants_protection(cfg, &flow))
		return TC_ACT_UNSPEC;
	*count += 1;
	return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
