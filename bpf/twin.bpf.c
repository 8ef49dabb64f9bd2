// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * The twin of the chains input and forward of nftables: BPF links at the same hooks, which a flush
 * of nftables does not take away. Plaintext that a policy in or fwd wants protected is dropped. At
 * postrouting, what got another source although a policy out wants it (nat_guard's part).
 *
 * Addresses and ports are judged as they came from the wire, as Linux does it
 * (nf_nat_decode_session()): conntrack knows them where NAT has changed them.
 *
 * A program of this type cannot look up the socket of a packet. The rules of nftables leave a sign
 * when they have found one with the bypass mark; without them there is the socket that early
 * demultiplexing has found, and of UDP those that the kernel's table has for the port.
 */
#include <linux/bpf.h>
#include <linux/ip.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define XF_SOURCE const struct bpf_dynptr

static __always_inline bool load_bytes(const struct bpf_dynptr *skb, __u32 off, void *to, __u32 len)
{
	return bpf_dynptr_read(to, len, (struct bpf_dynptr *)skb, off, 0) == 0;
}

#include "classify.h"
#include "nat.h"

/* --- of the kernel's structures what is read here; the loader finds the places --- */

#define KERNEL __attribute__((preserve_access_index))

struct tcf_proto;

struct mini_Qdisc {
	struct tcf_proto *filter_list;
} KERNEL;

struct bpf_prog_aux {
	char name[16];
} KERNEL;

struct bpf_prog {
	struct bpf_prog_aux *aux;
} KERNEL;

struct bpf_mprog_fp {
	struct bpf_prog *prog;
} KERNEL;

struct bpf_mprog_bundle;

struct bpf_mprog_entry {
	struct bpf_mprog_fp fp_items[64];
	struct bpf_mprog_bundle *parent;
} KERNEL;

struct bpf_mprog_bundle {
	struct bpf_mprog_entry a;
} KERNEL;

struct tcx_entry {
	struct mini_Qdisc *miniq;
	struct bpf_mprog_bundle bundle;
} KERNEL;

struct ipv4_devconf {
	int data[IPV4_DEVCONF_NOPOLICY];
} KERNEL;

struct in_device {
	struct ipv4_devconf cnf;
} KERNEL;

struct net_device {
	int ifindex;
	struct in_device *ip_ptr;
	struct bpf_mprog_entry *tcx_egress; /* Linux 6.6; before: */
	struct mini_Qdisc *miniq_egress;
} KERNEL;

struct hlist_node {
	struct hlist_node *next;
} KERNEL;

struct hlist_head {
	struct hlist_node *first;
} KERNEL;

struct udp_hslot {
	struct hlist_head head;
} KERNEL;

struct udp_table {
	struct udp_hslot *hash;
	unsigned int mask;
} KERNEL;

struct netns_ipv4 {
	struct ipv4_devconf *devconf_all;
	struct udp_table *udp_table;
} KERNEL;

struct net {
	__u32 hash_mix;
	struct netns_ipv4 ipv4;
} KERNEL;

typedef struct {
	struct net *net;
} KERNEL possible_net_t;

struct sock_common {
	__be32 skc_rcv_saddr;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_rcv_saddr;
	struct hlist_node skc_node;
} KERNEL;

struct sock {
	struct sock_common __sk_common;
	__u32 sk_mark;
} KERNEL;

struct sk_buff {
	struct sock *sk;
	int skb_iif;
	__u32 mark;
	__u32 priority;
	unsigned long _nfct; /* where the kernel can track connections */
} KERNEL;

struct nf_hook_state {
	__u8 hook;
	__u8 pf;
	struct net_device *in;
	struct net_device *out;
	struct net *net;
} KERNEL;

struct bpf_nf_ctx {
	const struct nf_hook_state *state;
	struct sk_buff *skb;
} KERNEL;

extern int bpf_dynptr_from_skb(struct sk_buff *skb, __u64 flags, struct bpf_dynptr *out) __ksym;
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym;

/* Members of what @from points to are read by plain loads, which cannot fault: a call less each. */
#define READABLE(type, from) \
	((const struct type *)bpf_rdonly_cast(from, bpf_core_type_id_kernel(struct type)))

enum { DROP = 0, ACCEPT = 1 };
enum { LOCAL_IN = 1, FORWARD = 2 };
enum { TCP_TIME_WAIT = 6, TCP_NEW_SYN_RECV = 12 };
#define LOOPBACK_IFINDEX 1
/* Of those with the same port of UDP (modulo the table's size) so many are looked at. */
#define SOCKETS_MAX 64
/* Of the links at a device so many. */
#define PROGRAMS_MAX 8

static __always_inline bool find_nat(const struct sk_buff *skb, const struct xf_bpf_nat *at,
				     struct nat *nat)
{
	return bpf_core_field_exists(skb->_nfct) && read_nat(skb->_nfct, at, nat);
}

/* Addresses and ports of @flow as they were before NAT: see nf_nat_decode_session(). */
static __always_inline void undo_nat(const struct sk_buff *skb, const struct xf_bpf_nat *at,
				     struct flow *flow)
{
	struct nat nat;

	if (!find_nat(skb, at, &nat))
		return;
	if (nat.dst)
		undo_destination(at, &nat, flow);
	if (nat.src)
		undo_source(at, &nat, flow);
}

/* --- sockets with the bypass mark --- */

static __always_inline bool sk_is_whole(const struct sock *sk)
{
	__u8 state = READABLE(sock, sk)->__sk_common.skc_state;

	return state != TCP_TIME_WAIT && state != TCP_NEW_SYN_RECV;
}

static __always_inline bool sk_has_mark(const struct sock *sk, __u32 bypass)
{
	return sk_is_whole(sk) && (READABLE(sock, sk)->sk_mark & bypass);
}

static __always_inline bool sk_is_at(const struct sock *sk, const struct net *net,
				     const struct flow *flow)
{
	__u32 addr[4];

	if (BPF_CORE_READ(sk, __sk_common.skc_num) != flow->dport ||
	    BPF_CORE_READ(sk, __sk_common.skc_net.net) != net)
		return false;
	if (flow->family == 4) {
		addr[0] = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		return !addr[0] || addr[0] == flow->daddr_be[0];
	}
	if (BPF_CORE_READ(sk, __sk_common.skc_family) != AF_INET6)
		return false;
	BPF_CORE_READ_INTO(&addr, sk, __sk_common.skc_v6_rcv_saddr);
	return !(addr[0] | addr[1] | addr[2] | addr[3]) ||
	       !((addr[0] ^ flow->daddr_be[0]) | (addr[1] ^ flow->daddr_be[1]) |
		 (addr[2] ^ flow->daddr_be[2]) | (addr[3] ^ flow->daddr_be[3]));
}

/* The first of those that the kernel's table has for a port of UDP. */
static __always_inline const struct hlist_node *first_at_port(const struct net *net, __u16 port)
{
	const struct udp_table *table = BPF_CORE_READ(net, ipv4.udp_table);
	const void *slot = BPF_CORE_READ(table, hash);
	__u32 number = (port + BPF_CORE_READ(net, hash_mix)) & BPF_CORE_READ(table, mask);

	slot += number * bpf_core_type_size(struct udp_hslot);
	return BPF_CORE_READ((const struct udp_hslot *)slot, head.first);
}

/* For a socket at @flow's port that has the bypass mark. */
struct at_port {
	const struct net *net;
	const struct flow *flow;
	__u32 bypass;
	bool found;
	const struct hlist_node *node; /* the next one */
};

static long try_socket(__u32 i, void *arg)
{
	struct at_port *at = arg;
	const struct hlist_node *node = at->node;
	const struct sock *sk;

	(void)i;
	if (!node)
		return 1;
	sk = (const void *)node - bpf_core_field_offset(struct sock, __sk_common.skc_node);
	if (sk_is_at(sk, at->net, at->flow) && sk_has_mark(sk, at->bypass)) {
		at->found = true;
		return 1;
	}
	at->node = BPF_CORE_READ(node, next);
	return 0;
}

static __always_inline bool is_for_bypass(const struct bpf_nf_ctx *ctx, const struct flow *flow,
					  __u32 bypass)
{
	/* Read like this, the verifier has no pointers to look types up for. */
	const struct sock *sk = BPF_CORE_READ(ctx->skb, sk);
	struct at_port at = { .flow = flow, .bypass = bypass };

	if (sk && sk_has_mark(sk, bypass))
		return true;
	if (flow->proto != IPPROTO_UDP || !flow->ports ||
	    !bpf_core_field_exists(at.net->ipv4.udp_table))
		return false;
	at.net = BPF_CORE_READ(ctx->state, net);
	at.node = first_at_port(at.net, flow->dport);
	bpf_loop(SOCKETS_MAX, try_socket, &at, 0);
	return at.found;
}

/* --- the hook --- */

/* Comes it from the daemon, or from this host itself? */
static __always_inline bool is_from_us(const struct nf_hook_state *state,
				       const struct xf_bpf_config *cfg)
{
	__u32 from = state->in->ifindex;

	return from == cfg->tun_ifindex || (state->hook == LOCAL_IN && from == LOOPBACK_IFINDEX);
}

__noinline bool read_flow(struct bpf_nf_ctx *ctx, struct flow *flow)
{
	struct bpf_dynptr skb;

	if (!flow || bpf_dynptr_from_skb(ctx->skb, 0, &skb))
		return false;
	return ctx->state->pf == AF_INET ? read_ipv4(&skb, flow) : read_ipv6(&skb, flow);
}

static __always_inline bool is_bridged(const struct bpf_nf_ctx *ctx,
				       const struct xf_bpf_config *cfg)
{
	__u32 both = cfg->mark_capture | cfg->mark_bypass;

	return (ctx->skb->mark & both) == both && ctx->state->in == ctx->state->out;
}

/* IPv4 that arrives where the sysctl disable_policy is set (docs/decisions/0029). */
static __always_inline bool is_exempt(const struct nf_hook_state *state)
{
	const struct in_device *dev = BPF_CORE_READ(state, in, ip_ptr);
	const struct ipv4_devconf *all = BPF_CORE_READ(state, net, ipv4.devconf_all);

	return state->pf == AF_INET && (BPF_CORE_READ(dev, cnf.data[IPV4_DEVCONF_NOPOLICY - 1]) ||
					BPF_CORE_READ(all, data[IPV4_DEVCONF_NOPOLICY - 1]));
}

SEC("netfilter")
int xf_twin(struct bpf_nf_ctx *ctx)
{
	bool in = ctx->state->hook == LOCAL_IN;
	struct flow flow = { .ports = false };
	__u32 zero = 0;
	const struct xf_bpf_config *cfg = bpf_map_lookup_elem(&config, &zero);
	struct flow wire;

	/* Both bits in forward: a frame between ports of a bridge (src/capture/nft/frame.c). */
	if (cfg && !in && is_bridged(ctx, cfg))
		return ACCEPT;
	if (!cfg || is_from_us(ctx->state, cfg))
		return ACCEPT;
	if (in && ctx->skb->priority == XF_BPF_PRIORITY_BYPASS)
		return ACCEPT;
	if (!read_flow(ctx, &flow) || (in && is_cipher(&flow)))
		return ACCEPT;
	flow.mark = mark_of(cfg, ctx->skb->mark);
	wire = flow;
	undo_nat(ctx->skb, &cfg->nat, &wire);
	if (!is_refused(cfg, &wire, in ? DIR_IN : DIR_FWD, false))
		return ACCEPT;
	if (is_exempt(ctx->state) || (in && is_for_bypass(ctx, &flow, cfg->mark_bypass)))
		return ACCEPT;
	count(in ? XF_BPF_IN_DROPPED : XF_BPF_FWD_DROPPED);
	return DROP;
}

/* Stays it here, or is it a reply on its way into the TUN? As nat_guard, which asks the same. */
static __always_inline bool is_kept(__u32 oif, bool for_tun, const struct nat *nat)
{
	return oif == LOOPBACK_IFINDEX || (nat->reply && for_tun);
}

/* As the backstop's sender_of(): the mark of a packet may be anybody's doing. */
static __always_inline bool is_from_bypass(const struct sk_buff *skb, __u32 bypass)
{
	const struct sock *sk = skb->sk;

	if (sk && sk_is_whole(sk))
		return READABLE(sock, sk)->sk_mark & bypass;
	return (skb->mark & bypass) && !skb->skb_iif;
}

/*
 * Did the daemon send it to learn what NAT makes of it (src/port/ask.c)? Its socket has both bits.
 * Every packet that leaves is asked this: mostly it ends with one look at the socket.
 */
static __always_inline bool is_question(const struct sk_buff *skb, const struct xf_bpf_config *cfg)
{
	__u32 both = cfg->mark_bypass | cfg->mark_capture;
	const struct sock *sk = skb->sk;

	return sk && (READABLE(sock, sk)->sk_mark & both) == both && sk_is_whole(sk);
}

static __always_inline bool has_same_source(const struct flow *a, const struct flow *b)
{
	return !((a->saddr_be[0] ^ b->saddr_be[0]) | (a->saddr_be[1] ^ b->saddr_be[1]) |
		 (a->saddr_be[2] ^ b->saddr_be[2]) | (a->saddr_be[3] ^ b->saddr_be[3]));
}

static __always_inline bool is_backstop(const struct bpf_prog *prog)
{
	static const char its[] = "xf_egress";
	char name[sizeof(((struct bpf_prog_aux *)NULL)->name)];

	BPF_CORE_READ_INTO(&name, prog, aux, name);
	for (unsigned i = 0; i < sizeof(its); i++)
		if (name[i] != its[i])
			return false;
	return true;
}

/* By a link? Others may have put theirs before it. */
static __always_inline bool is_linked(const struct bpf_mprog_entry *entry)
{
	const void *at =
		(const void *)entry + bpf_core_field_offset(struct bpf_mprog_entry, fp_items);

	for (int i = 0; i < PROGRAMS_MAX; i++) {
		const struct bpf_mprog_fp *fp = at + i * bpf_core_type_size(struct bpf_mprog_fp);
		const struct bpf_prog *prog = BPF_CORE_READ(fp, prog);

		if (!prog || is_backstop(prog))
			return prog;
	}
	return false;
}

/*
 * Is the backstop at @dev's egress, by a link or, as far as there are filters, by one of these?
 * Somebody may have taken it away.
 */
static __always_inline bool has_backstop(const struct net_device *dev)
{
	const struct mini_Qdisc *miniq = NULL;

	if (bpf_core_field_exists(dev->tcx_egress)) {
		const struct bpf_mprog_entry *entry = BPF_CORE_READ(dev, tcx_egress);
		const struct tcx_entry *tcx;

		if (!entry)
			return false;
		if (is_linked(entry))
			return true;
		tcx = (const void *)BPF_CORE_READ(entry, parent) -
		      bpf_core_field_offset(struct tcx_entry, bundle);
		miniq = BPF_CORE_READ(tcx, miniq);
	} else if (bpf_core_field_exists(dev->miniq_egress)) {
		miniq = BPF_CORE_READ(dev, miniq_egress);
	}
	return miniq && BPF_CORE_READ(miniq, filter_list);
}

/*
 * Has NAT given it another source that a policy selects for certain? Linux applies that. Another
 * port alone may come of the entry that the connection has already, and is no reason.
 */
static __always_inline bool stays_selected(const struct xf_bpf_config *cfg,
					   const struct flow *before, const struct flow *now)
{
	return !has_same_source(before, now) && is_selected(cfg, now);
}

/*
 * Behind source NAT. Capture takes what a policy out wants before that; what nevertheless comes
 * here with another source the backstop, which stands further on, no longer knows.
 */
SEC("netfilter")
int xf_twin_out(struct bpf_nf_ctx *ctx)
{
	struct flow now = { .ports = false };
	__u32 zero = 0;
	const struct xf_bpf_config *cfg = bpf_map_lookup_elem(&config, &zero);
	const struct net_device *out;
	struct flow before;
	struct nat nat;
	bool asked, for_tun, stays;

	if (!cfg)
		return ACCEPT;
	asked = is_question(ctx->skb, cfg);
	if (!find_nat(ctx->skb, &cfg->nat, &nat) || !nat.src || !read_flow(ctx, &now))
		return asked ? DROP : ACCEPT;
	now.mark = mark_of(cfg, ctx->skb->mark);
	before = now;
	undo_source(&cfg->nat, &nat, &before);
	out = ctx->state->out;
	for_tun = (__u32)out->ifindex == cfg->tun_ifindex;
	/* In the TUN, or before the backstop, which sends it there. */
	stays = stays_selected(cfg, &before, &now) && (for_tun || has_backstop(out));
	if (asked)
		return stays && !for_tun ? ACCEPT : DROP;
	if (stays || is_kept(out->ifindex, for_tun, &nat) ||
	    is_from_bypass(ctx->skb, cfg->mark_bypass) || !is_refused(cfg, &before, DIR_OUT, false))
		return ACCEPT;
	count(XF_BPF_EGRESS_DROPPED);
	return DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
