/*
 * nat.h - for programs: what the host's NAT did to a packet, as its entry of connection tracking
 * tells. Where in the kernel's structures that stands the daemon says (struct xf_bpf_nat): a loader
 * finds by itself only what is not a module's.
 */
#ifndef XF_BPF_NAT_H
#define XF_BPF_NAT_H

#include "classify.h"

/* linux/netfilter/nf_conntrack_common.h */
#define SRC_NAT (1 << 4)
#define DST_NAT (1 << 5)
#define FIRST_OF_REPLY 3
#define CTINFO 7ul

struct nat {
	const void *before; /* NAT: the tuple of the packet's direction */
	const void *after; /* that of the other one, which has the ends in exchange */
	bool reply;
	bool src; /* has the packet another source? */
	bool dst;
};

static __always_inline bool read_kernel(void *to, __u32 len, const void *from)
{
	return bpf_probe_read_kernel(to, len, from) == 0;
}

/* @nfct: what the packet has of an entry. False: NAT did nothing to it, or that cannot be told. */
static __always_inline bool read_nat(unsigned long nfct, const struct xf_bpf_nat *at,
				     struct nat *nat)
{
	const void *ct = (const void *)(nfct & ~CTINFO);
	unsigned long status;
	bool reply;

	if (!ct || !at->nfct || !read_kernel(&status, sizeof(status), ct + at->status))
		return false;
	reply = (nfct & CTINFO) >= FIRST_OF_REPLY;
	nat->before = ct + at->tuple[reply];
	nat->after = ct + at->tuple[!reply];
	nat->reply = reply;
	nat->src = status & (reply ? DST_NAT : SRC_NAT);
	nat->dst = status & (reply ? SRC_NAT : DST_NAT);
	return nat->src || nat->dst;
}

static __always_inline void read_port(__u16 *port, const void *from)
{
	__be16 port_be;

	if (read_kernel(&port_be, sizeof(port_be), from))
		*port = bpf_ntohs(port_be);
}

static __always_inline void undo_source(const struct xf_bpf_nat *at, const struct nat *nat,
					struct flow *flow)
{
	read_kernel(&flow->saddr_be, sizeof(flow->saddr_be), nat->before + at->src);
	if (flow->ports && has_ports(flow->proto))
		read_port(&flow->sport, nat->before + at->sport);
}

static __always_inline void undo_destination(const struct xf_bpf_nat *at, const struct nat *nat,
					     struct flow *flow)
{
	read_kernel(&flow->daddr_be, sizeof(flow->daddr_be), nat->before + at->dst);
	if (flow->ports && has_ports(flow->proto))
		read_port(&flow->dport, nat->before + at->dport);
}

#endif
