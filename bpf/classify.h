/*
 * classify.h - for programs: what policies ask of a packet, and what they say to it.
 *
 * XF_SOURCE is what a program reads packets from; it defines load_bytes() before this header is
 * included: @len bytes at @off behind the start of the IP header, false where there are none.
 */
#ifndef XF_BPF_CLASSIFY_H
#define XF_BPF_CLASSIFY_H

#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "policy_maps.h"

/* As many as stand before a transport header where each stands where RFC 8200 s4.1 has it. */
#define EXT_HEADERS_MAX 5
#define AF_INET 2
#define AF_INET6 10

enum { DIR_IN = 0, DIR_OUT = 1, DIR_FWD = 2 };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct xf_bpf_config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, XF_BPF_PARTS *XF_BPF_KINDS_MAX);
	__type(key, __u32);
	__type(value, struct xf_bpf_kind);
} kinds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, XF_BPF_ENTRIES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct xf_bpf_key);
	__type(value, struct xf_bpf_entry);
} entries SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, XF_BPF_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline void count(enum xf_bpf_count what)
{
	__u32 key = what;
	__u64 *value = bpf_map_lookup_elem(&counts, &key);

	if (value)
		*value += 1;
}

/* The mark that policies ask for: our bits are not part of it, whoever has set them. */
static __always_inline __u32 mark_of(const struct xf_bpf_config *cfg, __u32 mark)
{
	return mark & ~(cfg->mark_bypass | cfg->mark_capture);
}

/* What of a packet the policies ask for. */
struct flow {
	__u32 saddr_be[4];
	__u32 daddr_be[4];
	__u32 mark;
	__u16 sport;
	__u16 dport;
	__u8 family;
	__u8 proto;
	bool ports; /* known? */
	bool piece; /* of a datagram in fragments */
};

/* Whose packets begin with two ports. */
static __always_inline bool has_ports(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_UDPLITE ||
	       proto == IPPROTO_DCCP || proto == IPPROTO_SCTP;
}

static __always_inline bool is_icmp(__u8 proto)
{
	return proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
}

static __always_inline bool is_extension(__u8 proto)
{
	return proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING || proto == IPPROTO_DSTOPTS ||
	       proto == IPPROTO_FRAGMENT;
}

static __always_inline void read_ports(XF_SOURCE *from, struct flow *flow, __u32 off)
{
	__be16 ports[2];
	__u8 type[2];

	if (has_ports(flow->proto)) {
		if (!load_bytes(from, off, ports, sizeof(ports)))
			return;
		flow->sport = bpf_ntohs(ports[0]);
		flow->dport = bpf_ntohs(ports[1]);
		flow->ports = true;
	} else if (is_icmp(flow->proto)) {
		if (!load_bytes(from, off, type, sizeof(type)))
			return;
		flow->sport = type[0];
		flow->dport = type[1];
		flow->ports = true;
	}
}

static __always_inline bool read_ipv4(XF_SOURCE *from, struct flow *flow)
{
	struct iphdr ip;

	if (!load_bytes(from, 0, &ip, sizeof(ip)))
		return false;
	flow->family = 4;
	flow->saddr_be[0] = ip.saddr;
	flow->daddr_be[0] = ip.daddr;
	flow->proto = ip.protocol;
	flow->piece = (ip.frag_off & bpf_htons(0x3fff)) != 0;
	if (!(ip.frag_off & bpf_htons(0x1fff)))
		read_ports(from, flow, ip.ihl * 4);
	return true;
}

/* Past one extension header: false when there is none to pass. */
static __always_inline bool skip_header(XF_SOURCE *from, struct flow *flow, __u32 *off,
					bool *behind)
{
	__u8 hdr[4];

	/* What stands behind the header of a later fragment is payload. */
	if (*behind || !is_extension(flow->proto))
		return false;
	if (!load_bytes(from, *off, hdr, sizeof(hdr)))
		return false;
	if (flow->proto == IPPROTO_FRAGMENT) {
		flow->piece = true;
		*behind = hdr[2] || (hdr[3] & 0xf8);
		*off += 8;
	} else {
		*off += (hdr[1] + 1) * 8;
	}
	flow->proto = hdr[0];
	return true;
}

static __always_inline bool read_ipv6(XF_SOURCE *from, struct flow *flow)
{
	struct ipv6hdr ip;
	__u32 off = sizeof(ip);
	bool behind = false; /* the first fragment */

	if (!load_bytes(from, 0, &ip, sizeof(ip)))
		return false;
	flow->family = 6;
	__builtin_memcpy(flow->saddr_be, &ip.saddr, 16);
	__builtin_memcpy(flow->daddr_be, &ip.daddr, 16);
	flow->proto = ip.nexthdr;
	for (int i = 0; i < EXT_HEADERS_MAX; i++)
		if (!skip_header(from, flow, &off, &behind))
			break;
	if (!behind)
		read_ports(from, flow, off);
	return true;
}

/* ESP, AH and IPComp are not plaintext. */
static __always_inline bool is_cipher(const struct flow *flow)
{
	return flow->proto == IPPROTO_ESP || flow->proto == IPPROTO_AH ||
	       flow->proto == IPPROTO_COMP;
}

/* Does the SPD want a packet protected, or blocked? */
enum answer { NO, MAYBE, YES };

/* What the SPD would find, of one part so far. */
struct search {
	const struct flow *flow;
	__u32 first; /* kind */
	bool unread; /* its protocol stands behind headers that were not followed */
	bool hidden; /* ... and a strict policy asks for one */
	bool hides_ports; /* it has some, and policies with ports may match it */
	bool unsure; /* a policy may match it, or not */
	bool tied; /* ... and see struct xf_bpf_kind */
	struct xf_bpf_entry best[XF_BPF_CLASSES];
	bool found[XF_BPF_CLASSES];
};

static __always_inline void make_key(struct xf_bpf_key *key, const struct xf_bpf_kind *kind,
				     const struct flow *flow)
{
	for (int i = 0; i < 4; i++) {
		key->saddr_be[i] = flow->saddr_be[i] & kind->smask_be[i];
		key->daddr_be[i] = flow->daddr_be[i] & kind->dmask_be[i];
	}
	key->mark = flow->mark & kind->mark_mask;
	key->sport = flow->sport & kind->sport_mask;
	key->dport = flow->dport & kind->dport_mask;
	key->proto = kind->proto ? flow->proto : 0;
}

/* Does a packet tell the ports that keys of @kind have, or is it of those that tell none? */
static __always_inline bool tells_ports(const struct xf_bpf_kind *kind, struct search *search)
{
	if (kind->no_ports)
		return search->hides_ports;
	if (search->flow->ports || !(kind->sport_mask | kind->dport_mask))
		return true;
	if (search->hides_ports) {
		search->unsure = true;
		search->tied |= kind->tied;
	}
	return false;
}

static __always_inline bool is_asked(const struct xf_bpf_kind *kind, struct search *search)
{
	if (kind->family != search->flow->family || !tells_ports(kind, search))
		return false;
	if (!search->unread || !kind->proto)
		return true;
	search->hidden |= kind->match != XF_BPF_MAY_LET_PASS;
	return false;
}

static long try_kind(__u32 i, void *arg)
{
	struct search *search = arg;
	__u32 number = search->first + i;
	const struct xf_bpf_kind *kind = bpf_map_lookup_elem(&kinds, &number);
	struct xf_bpf_key key = { .kind = number };
	const struct xf_bpf_entry *entry;
	__u32 class;

	if (!kind)
		return 1;
	if (!is_asked(kind, search))
		return 0;
	make_key(&key, kind, search->flow);
	entry = bpf_map_lookup_elem(&entries, &key);
	if (!entry || entry->class_of >= XF_BPF_CLASSES)
		return 0;
	search->unsure |= kind->match != XF_BPF_MATCHES;
	if (kind->match == XF_BPF_MAY_LET_PASS) {
		search->tied |= kind->tied;
		return 0;
	}
	class = entry->class_of;
	if (search->found[class] && (entry->priority > search->best[class].priority ||
				     (entry->priority == search->best[class].priority &&
				      entry->rank >= search->best[class].rank)))
		return 0;
	search->best[class] = *entry;
	search->found[class] = true;
	return 0;
}

/* Which of two classes' first ones comes before the other? Where that is tied, what is strict. */
static __always_inline bool goes_before(const struct search *search, const struct xf_bpf_entry *a,
					const struct xf_bpf_entry *b)
{
	if (a->priority != b->priority)
		return a->priority < b->priority;
	return search->tied ? a->strict > b->strict : a->pos < b->pos;
}

/* What policies of one direction and type say to @search's flow. */
static __always_inline enum answer ask_part(const struct xf_bpf_config *cfg, struct search *search,
					    __u32 part)
{
	__u32 n = cfg->kinds[part];
	struct xf_bpf_entry best = { .strict = 0 };
	bool any = false;

	if (!n)
		return NO;
	search->first = part * XF_BPF_KINDS_MAX;
	search->tied = false;
	search->hidden = false;
	for (int i = 0; i < XF_BPF_CLASSES; i++)
		search->found[i] = false;
	bpf_loop(n, try_kind, search, 0);
	for (int i = 0; i < XF_BPF_CLASSES; i++) {
		const struct xf_bpf_entry *entry = &search->best[i];

		if (!search->found[i] || (any && !goes_before(search, entry, &best)))
			continue;
		best = *entry;
		any = true;
	}
	if (!any || !best.strict)
		return search->hidden ? MAYBE : NO;
	return search->unsure || !best.protects ? MAYBE : YES;
}

/*
 * NO and YES are certain. Type sub lets nothing pass by itself here: main is asked too, but does
 * not say for sure then.
 *
 * A global function: the verifier looks at it once, by itself, and not again on each way to each
 * call (docs/decisions/0050).
 */
__noinline enum answer ask_policies(const struct xf_bpf_config *cfg, const struct flow *flow,
				    __u32 dir, bool known_ports_only)
{
	struct search search = { .flow = flow };
	enum answer answer;

	if (!cfg || !flow || dir > DIR_FWD)
		return MAYBE;
	search.unread = is_extension(flow->proto);
	search.unsure = search.unread;
	search.hides_ports = !flow->ports &&
			     (search.unread || (!known_ports_only &&
						(has_ports(flow->proto) || is_icmp(flow->proto))));
	answer = ask_part(cfg, &search, 2 * dir + 1);
	return answer == NO ? ask_part(cfg, &search, 2 * dir) : answer;
}

/* May the SPD want it? Never too little: for what is not to pass in clear. */
static __always_inline bool is_refused(const struct xf_bpf_config *cfg, const struct flow *flow,
				       __u32 dir, bool known_ports_only)
{
	return ask_policies(cfg, flow, dir, known_ports_only) != NO;
}

/* Does it certainly? Never too much: for what is let out because the daemon protects it. */
static __always_inline bool is_selected(const struct xf_bpf_config *cfg, const struct flow *flow)
{
	return !cfg->by_destination && ask_policies(cfg, flow, DIR_OUT, false) == YES;
}

#endif
