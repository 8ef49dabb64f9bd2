// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Programs for every device but lo and ports of bridges. They outlive the daemon.
 *
 * The backstop, at egress: what a policy out wants protected, and what nevertheless is about to
 * leave without the daemon's mark, goes to the TUN, or nowhere where that cannot be. It stands
 * behind source NAT, so it catches what NAT brings into a policy; what NAT has taken out of one,
 * while nothing else kept it, goes nowhere, unless it is in another one now for certain
 * (docs/decisions/0036). Its limits:
 *   - behind fragmentation: all fragments match a policy with ports; the engine puts them together;
 *   - behind neighbour resolution: ARP and discovery were done for what it takes;
 *   - frames of AF_PACKET sockets are seen as well (the kernel's IPsec does not see them); the
 *     limited broadcast passes, so that DHCP clients work;
 *   - extension headers of IPv6 are followed for a few steps only; a header that is not reached
 *     matches any protocol and port;
 *   - where there is no room for all policies, destinations alone decide.
 *
 * Its part on the TUN: what NAT takes out of a policy on the way there goes nowhere either.
 *
 * The ingress twin: drops plaintext that a policy in or fwd wants protected. It stands before
 * defragmentation, routing and NAT, so it decides less than the twin in netfilter
 * (bpf/twin.bpf.c), and sleeps as long as the process lives that holds that one.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define XF_SOURCE struct __sk_buff

static __always_inline bool load_bytes(struct __sk_buff *skb, __u32 off, void *to, __u32 len)
{
	return bpf_skb_load_bytes_relative(skb, off, to, len, BPF_HDR_START_NET) == 0;
}

#include "classify.h"
#include "nat.h"
#include "tun_meta.h"

/* May it read the kernel's memory? The loader says so: a locked-down kernel lets nobody. */
const volatile bool reads_kernel = true;

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, XF_BPF_PREFIXES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct xf_bpf_prefix);
	__type(value, __u8);
} prefixes SEC(".maps");

/* A socket of the daemon, as long as the process lives and holds the twin in netfilter. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} holder SEC(".maps");

__noinline bool read_flow(struct __sk_buff *skb, struct flow *flow)
{
	if (!flow)
		return false;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return read_ipv4(skb, flow);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return read_ipv6(skb, flow);
	return false;
}

static __always_inline bool may_match(const struct flow *flow)
{
	struct xf_bpf_prefix key = {
		.bits = 32 + (flow->family == 4 ? 32 : 128),
		.family_be = bpf_htonl(flow->family),
	};

	__builtin_memcpy(key.addr_be, flow->daddr_be, sizeof(key.addr_be));
	return bpf_map_lookup_elem(&prefixes, &key) != NULL;
}

enum sender { SOMEBODY, BYPASS, SENT_ON, QUESTION };

/*
 * Rules of others may write mark and priority of a packet, those of its socket not. What has no
 * socket (an answer to SYN has not, nor what a tunnel of the host has made) is believed unless this
 * host has received it. Two sockets of the daemon's are told apart: by which it sends on what no
 * policy wanted, and by which it asks what NAT makes of a packet (src/port/ask.c), which has both
 * bits.
 */
static __always_inline enum sender sender_of(struct __sk_buff *skb, const struct xf_bpf_config *cfg)
{
	struct bpf_sock *sk = skb->sk;

	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	if (!sk)
		return (skb->mark & cfg->mark_bypass) && !skb->ingress_ifindex ? BYPASS : SOMEBODY;
	if (!(sk->mark & cfg->mark_bypass))
		return SOMEBODY;
	if (sk->mark & cfg->mark_capture)
		return QUESTION;
	return sk->priority == XF_META_PRIORITY_SENT_ON ? SENT_ON : BYPASS;
}

static __always_inline bool is_multicast(const struct flow *flow)
{
	__u32 first = bpf_ntohl(flow->daddr_be[0]);

	return flow->family == 4 ? first >> 28 == 0xe || first == 0xffffffff : first >> 24 == 0xff;
}

/*
 * The capture bit of a packet says nothing here: behind our chains rules of others may set it. What
 * comes out of the TUN again has a socket of ours, so nothing goes round.
 */
static __always_inline int capture(struct __sk_buff *skb, const struct xf_bpf_config *cfg,
				   const struct flow *flow)
{
	if (!cfg->tun_ifindex || is_multicast(flow)) {
		count(XF_BPF_EGRESS_DROPPED);
		return TC_ACT_SHOT;
	}
	skb->mark |= cfg->mark_capture;
	/* It has had its NAT: if no policy wants it after all, it is sent on as it is. */
	skb->priority = XF_META_PRIORITY_TRANSLATED;
	count(XF_BPF_EGRESS_CAPTURED);
	return bpf_redirect(cfg->tun_ifindex, 0);
}

/* A piece of a datagram tells no ports, but its entry does: those that it has by now. */
static __always_inline void read_entry_ports(const struct xf_bpf_nat *at, const struct nat *nat,
					     struct flow *flow)
{
	__u8 proto = 0;
	__u8 type[2];

	read_kernel(&proto, sizeof(proto), nat->before + at->proto);
	if (!flow->piece || proto != flow->proto)
		return;
	if (has_ports(proto)) {
		read_port(&flow->sport, nat->after + at->dport);
		read_port(&flow->dport, nat->after + at->sport);
		flow->ports = true;
	} else if (is_icmp(proto) && read_kernel(type, sizeof(type), nat->before + at->dport)) {
		flow->sport = type[0];
		flow->dport = type[1];
		flow->ports = true;
	}
}

/* Did a policy want it before @nat gave it another source? */
static __always_inline bool was_refused(const struct xf_bpf_config *cfg, const struct nat *nat,
					const struct flow *after)
{
	struct flow flow = *after;

	undo_source(&cfg->nat, nat, &flow);
	return is_refused(cfg, &flow, DIR_OUT, false);
}

/*
 * Has @nat taken it out of a policy, without bringing it into another one for certain? Then the
 * daemon, which looks only at what it is now, might send it on in clear.
 */
static __always_inline bool is_taken_out(const struct xf_bpf_config *cfg, const struct nat *nat,
					 const struct flow *now)
{
	struct flow flow = *now;

	read_entry_ports(&cfg->nat, nat, &flow);
	return was_refused(cfg, nat, &flow) && !is_selected(cfg, &flow);
}

static __always_inline bool find_nat(struct __sk_buff *skb, const struct xf_bpf_config *cfg,
				     struct nat *nat)
{
	unsigned long nfct;

	return read_kernel(&nfct, sizeof(nfct), (const void *)skb + cfg->nat.nfct) &&
	       read_nat(nfct, &cfg->nat, nat);
}

static __always_inline bool knows_nat(const struct xf_bpf_config *cfg)
{
	return reads_kernel && cfg->nat.nfct;
}

static __always_inline bool has_other_source(struct __sk_buff *skb, const struct xf_bpf_config *cfg,
					     struct nat *nat)
{
	return knows_nat(cfg) && find_nat(skb, cfg, nat) && nat->src;
}

/*
 * Is it what the daemon has seen and no policy wanted? Not if NAT has changed it since, nor where
 * that cannot be told: Linux asks the policies again then.
 */
static __always_inline bool is_as_sent_on(struct __sk_buff *skb, const struct xf_bpf_config *cfg)
{
	struct nat nat;

	return knows_nat(cfg) && !find_nat(skb, cfg, &nat);
}

/* Netfilter has let it pass because of its new source; here that is said for certain. */
static __always_inline int answer(struct __sk_buff *skb, const struct xf_bpf_config *cfg)
{
	struct flow flow = { .mark = mark_of(cfg, skb->mark) };
	struct nat nat;

	if (!read_flow(skb, &flow))
		return TC_ACT_SHOT;
	flow.ports = flow.ports && !flow.piece;
	if (has_other_source(skb, cfg, &nat))
		read_entry_ports(&cfg->nat, &nat, &flow);
	if (!is_selected(cfg, &flow)) {
		count(XF_BPF_EGRESS_DROPPED);
		return TC_ACT_SHOT;
	}
	return capture(skb, cfg, &flow);
}

/* A link goes with its device into another network namespace, where our policies are nobody's. */
static __always_inline bool is_here(const void *skb, const struct xf_bpf_netns *at)
{
	const void *dev, *net;
	__u64 cookie;

	if (!reads_kernel || !at->cookie || !read_kernel(&dev, sizeof(dev), skb + at->dev) ||
	    !read_kernel(&net, sizeof(net), dev + at->net) ||
	    !read_kernel(&cookie, sizeof(cookie), net + at->net_cookie))
		return true;
	return cookie == at->cookie;
}

SEC("tc")
int xf_egress(struct __sk_buff *skb)
{
	struct flow flow = { .ports = false };
	__u32 zero = 0;
	const struct xf_bpf_config *cfg = bpf_map_lookup_elem(&config, &zero);
	enum sender sender;
	enum answer wanted;
	struct nat nat;
	bool taken_out;

	if (!cfg)
		return TC_ACT_UNSPEC;
	sender = sender_of(skb, cfg);
	if (sender == QUESTION)
		return is_here(skb, &cfg->netns) ? answer(skb, cfg) : TC_ACT_UNSPEC;
	if (sender == BYPASS || (sender == SENT_ON && is_as_sent_on(skb, cfg)) ||
	    !read_flow(skb, &flow))
		return TC_ACT_UNSPEC;
	flow.mark = mark_of(cfg, skb->mark);
	if (flow.family == 4 && flow.daddr_be[0] == 0xffffffff)
		return TC_ACT_UNSPEC;
	if (!may_match(&flow))
		return TC_ACT_UNSPEC;
	/* All pieces of a datagram must go the same way. */
	flow.ports = flow.ports && !flow.piece;
	wanted = cfg->by_destination ? MAYBE : ask_policies(cfg, &flow, DIR_OUT, false);
	taken_out = sender != SENT_ON && wanted != YES && has_other_source(skb, cfg, &nat) &&
		    is_taken_out(cfg, &nat, &flow);
	if ((wanted == NO && !taken_out) || !is_here(skb, &cfg->netns))
		return TC_ACT_UNSPEC;
	if (!taken_out)
		return capture(skb, cfg, &flow);
	count(XF_BPF_EGRESS_DROPPED);
	return TC_ACT_SHOT;
}

/*
 * For the TUN: what a policy wants, but got another source on its way there, the daemon would send
 * on in clear. As nat_guard, which comes a moment later than somebody's NAT, and as the twin behind
 * all NAT, where that is.
 */
SEC("tc")
int xf_tun(struct __sk_buff *skb)
{
	struct flow flow = { .ports = false };
	__u32 zero = 0;
	const struct xf_bpf_config *cfg = bpf_map_lookup_elem(&config, &zero);
	struct nat nat;

	/* What the daemon had sent on comes from the backstop, because of what it is now. */
	if (!cfg || !has_other_source(skb, cfg, &nat) || nat.reply ||
	    sender_of(skb, cfg) == SENT_ON || !read_flow(skb, &flow))
		return TC_ACT_UNSPEC;
	flow.mark = mark_of(cfg, skb->mark);
	/* What NAT has brought into a policy is here for that. */
	if (!is_taken_out(cfg, &nat, &flow))
		return TC_ACT_UNSPEC;
	count(XF_BPF_EGRESS_DROPPED);
	return TC_ACT_SHOT;
}

/* Does the daemon hold the twin in netfilter? */
static __always_inline bool is_held(void)
{
	__u32 zero = 0;
	struct bpf_sock *sk = bpf_map_lookup_elem(&holder, &zero);

	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

/* Is it for a socket of this host that has the bypass mark? */
static __always_inline bool is_for_bypass(struct __sk_buff *skb, const struct flow *flow,
					  __u32 bypass)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	bool found;
	__u32 len;

	if (!flow->ports || (flow->proto != IPPROTO_UDP && flow->proto != IPPROTO_TCP))
		return false;
	if (flow->family == 4) {
		tuple.ipv4.saddr = flow->saddr_be[0];
		tuple.ipv4.daddr = flow->daddr_be[0];
		tuple.ipv4.sport = bpf_htons(flow->sport);
		tuple.ipv4.dport = bpf_htons(flow->dport);
		len = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, flow->saddr_be, 16);
		__builtin_memcpy(tuple.ipv6.daddr, flow->daddr_be, 16);
		tuple.ipv6.sport = bpf_htons(flow->sport);
		tuple.ipv6.dport = bpf_htons(flow->dport);
		len = sizeof(tuple.ipv6);
	}
	if (flow->proto == IPPROTO_UDP)
		sk = bpf_sk_lookup_udp(skb, &tuple, len, BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_tcp(skb, &tuple, len, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	found = sk->mark & bypass;
	bpf_sk_release(sk);
	return found;
}

/* Without forwarding what comes is for this host, or for nobody. */
static __always_inline bool can_be_forwarded(struct __sk_buff *skb, const struct flow *flow)
{
	struct bpf_fib_lookup fib = { .ifindex = skb->ingress_ifindex };

	if (flow->family == 4) {
		fib.family = AF_INET;
		fib.ipv4_src = flow->saddr_be[0];
		fib.ipv4_dst = flow->daddr_be[0];
	} else {
		fib.family = AF_INET6;
		__builtin_memcpy(fib.ipv6_src, flow->saddr_be, 16);
		__builtin_memcpy(fib.ipv6_dst, flow->daddr_be, 16);
	}
	return bpf_fib_lookup(skb, &fib, sizeof(fib), 0) != BPF_FIB_LKUP_RET_FWD_DISABLED;
}

/*
 * Whether it is for this host or to be forwarded destination NAT may decide, which comes later: so
 * it is refused when both directions refuse it.
 */
static __always_inline bool is_refused_here(struct __sk_buff *skb, const struct xf_bpf_config *cfg,
					    const struct flow *flow)
{
	return is_refused(cfg, flow, DIR_IN, true) &&
	       (is_refused(cfg, flow, DIR_FWD, true) || !can_be_forwarded(skb, flow));
}

SEC("tc")
int xf_ingress(struct __sk_buff *skb)
{
	struct flow flow = { .ports = false };
	__u32 zero = 0;
	const struct xf_bpf_config *cfg = bpf_map_lookup_elem(&config, &zero);

	if (!cfg || skb->pkt_type != PACKET_HOST || is_held() || !read_flow(skb, &flow) ||
	    is_cipher(&flow))
		return TC_ACT_UNSPEC;
	flow.mark = mark_of(cfg, skb->mark);
	if (!is_refused_here(skb, cfg, &flow) || is_for_bypass(skb, &flow, cfg->mark_bypass) ||
	    !is_here(skb, &cfg->netns))
		return TC_ACT_UNSPEC;
	count(XF_BPF_INGRESS_DROPPED);
	return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
