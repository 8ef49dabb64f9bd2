/*
 * Bytes are read by xf_pkt_peek(), which checks against the packet; whether they still belong to
 * it is checked against the IP header's length (RFC 791 s3.1, RFC 8200 s4).
 */
#include <errno.h>

#include <xf/ip.h>

/* An IPv4 header without options, in the words in which it is read. */
struct words {
	uint64_t first;
	uint64_t second;
	uint32_t third;
};

static inline struct words words_of(const uint8_t *hdr)
{
	struct words w;

	memcpy(&w.first, hdr, 8);
	memcpy(&w.second, hdr + 8, 8);
	memcpy(&w.third, hdr + 16, 4);
	return w;
}

/* Does the sum of it come out as all ones (RFC 1071)? */
static inline bool csum_fits(const struct words *w)
{
	return xf_csum_fold((w->first >> 32) + (uint32_t)w->first + (w->second >> 32) +
			    (uint32_t)w->second + w->third) == 0;
}

/* Addresses are copied in one piece soon: from two stores that would have to wait. */
typedef uint32_t words4 __attribute__((vector_size(16)));

static inline void set_ipv4(union xf_addr *to, const uint8_t *wire)
{
	words4 whole = { 0 };
	uint32_t addr;

	memcpy(&addr, wire, sizeof(addr));
	whole[0] = addr;
	memcpy(to, &whole, sizeof(whole));
}

/* All but the small fields and the place of a fragment. */
static inline void read_rest(const uint8_t *hdr, uint32_t hdr_len, uint32_t total_len,
			     struct xf_ip_info *info)
{
	info->frag_id = xf_get_be16(hdr + 4);
	info->flow_label = 0;
	info->hdr_len = hdr_len;
	info->l4_off = hdr_len;
	info->l4_nexthdr_field = 9;
	info->ah_esp_off = hdr_len;
	info->nexthdr_field = 9;
	info->frag_hdr_off = 0;
	info->total_len = total_len;
	set_ipv4(&info->saddr, hdr + 12);
	set_ipv4(&info->daddr, hdr + 16);
}

/* What the 20 bytes at @hdr say, with @hdr_len in all. Every field is written. */
static inline void read_ipv4(const uint8_t *hdr, uint32_t hdr_len, uint32_t total_len,
			     struct xf_ip_info *info)
{
	uint16_t frag = xf_get_be16(hdr + 6);

	info->family = XF_AF_INET;
	info->proto = hdr[9];
	info->ttl = hdr[8];
	info->tos = hdr[1];
	info->df = frag & XF_IPV4_DF;
	info->is_frag = frag & (XF_IPV4_MF | XF_IPV4_OFFSET_MASK);
	info->more_frags = frag & XF_IPV4_MF;
	info->frag_off = (frag & XF_IPV4_OFFSET_MASK) * 8u;
	read_rest(hdr, hdr_len, total_len, info);
}

/* Of the first word: MF, and the offset. */
#define WORD_IS_FRAG ((uint64_t)__builtin_bswap16(XF_IPV4_MF | XF_IPV4_OFFSET_MASK) << 48)
#define WORD_DF_BIT 54

/* What a header without options that is no fragment's says: the small fields in one word. */
static inline void read_whole_ipv4(const uint8_t *hdr, const struct words *w, uint32_t total_len,
				   struct xf_ip_info *info)
{
	uint64_t small = XF_AF_INET | (w->second & 0xffff) << 16 | (w->first >> 8 & 0xff) << 32 |
			 (w->first >> WORD_DF_BIT & 1) << 40;

	_Static_assert(offsetof(struct xf_ip_info, ttl) == 2 &&
			       offsetof(struct xf_ip_info, proto) == 3 &&
			       offsetof(struct xf_ip_info, tos) == 4 &&
			       offsetof(struct xf_ip_info, df) == 5 &&
			       offsetof(struct xf_ip_info, frag_off) == 8,
		       "family, ttl, proto, tos, df, two that say it is a fragment");
	memcpy(info, &small, sizeof(small));
	info->frag_off = 0;
	read_rest(hdr, XF_IPV4_HDR_LEN, total_len, info);
}

/* With options, or in pieces (RFC 791 s3.1). */
static int parse_ipv4(const struct xf_pkt *pkt, bool check_csum, struct xf_ip_info *info)
{
	uint8_t scratch[60];
	const uint8_t *hdr = xf_pkt_peek(pkt, 0, XF_IPV4_HDR_LEN, scratch);
	uint32_t hdr_len;
	uint32_t total_len;

	if (!hdr)
		return -EINVAL;
	hdr_len = (hdr[0] & 0xfu) * 4;
	total_len = xf_get_be16(hdr + 2);
	if (hdr_len < XF_IPV4_HDR_LEN || total_len < hdr_len || total_len > pkt->len)
		return -EINVAL;
	hdr = xf_pkt_peek(pkt, 0, hdr_len, scratch);
	if (check_csum && xf_csum_fold(xf_csum_add(0, hdr, hdr_len)) != 0)
		return -EINVAL;
	read_ipv4(hdr, hdr_len, total_len, info);
	return 0;
}

/* Read the fragment header at @off; false: it is cut short. */
static bool parse_frag_hdr(const struct xf_pkt *pkt, uint32_t off, struct xf_ip_info *info)
{
	uint8_t scratch[XF_IPV6_FRAG_HDR_LEN];
	const uint8_t *hdr = xf_pkt_peek(pkt, off, sizeof(scratch), scratch);
	uint16_t frag;

	if (!hdr || off + sizeof(scratch) > info->total_len)
		return false;
	frag = xf_get_be16(hdr + 2);
	info->frag_hdr_off = off;
	info->frag_off = frag & 0xfff8u;
	info->more_frags = frag & 1;
	info->is_frag = info->more_frags || info->frag_off;
	info->frag_id = xf_get_be32(hdr + 4);
	return true;
}

/* State of the walk over IPv6 extension headers. */
struct walk {
	uint32_t off;
	uint32_t field; /* offset of the byte that names the header at @off */
	uint8_t next;
	bool routing_seen;
	bool placed; /* ah_esp_off is known */
};

/* As the kernel's ip6_find_1stfragopt(): may ESP stand behind the header at walk->off? */
static bool stays_in_front(const struct walk *w)
{
	return w->next == XF_IPPROTO_HOPOPTS || w->next == XF_IPPROTO_ROUTING ||
	       (w->next == XF_IPPROTO_DSTOPTS && !w->routing_seen);
}

static void place_esp(struct walk *w, struct xf_ip_info *info)
{
	if (w->placed)
		return;
	w->placed = true;
	info->ah_esp_off = w->off;
	info->nexthdr_field = w->field;
}

static bool is_ext_hdr(uint8_t proto)
{
	return proto == XF_IPPROTO_HOPOPTS || proto == XF_IPPROTO_ROUTING ||
	       proto == XF_IPPROTO_DSTOPTS || proto == XF_IPPROTO_FRAGMENT;
}

/* Step over the extension header at w->off: its length, 0 = it is none, -EINVAL. */
static int ext_hdr_len(const struct xf_pkt *pkt, struct walk *w, struct xf_ip_info *info)
{
	uint8_t scratch[2];
	const uint8_t *hdr;
	uint32_t len;

	if (w->next == XF_IPPROTO_FRAGMENT) {
		if (!parse_frag_hdr(pkt, w->off, info))
			return -EINVAL;
		return XF_IPV6_FRAG_HDR_LEN;
	}
	if (!is_ext_hdr(w->next))
		return 0;
	hdr = xf_pkt_peek(pkt, w->off, sizeof(scratch), scratch);
	if (!hdr)
		return -EINVAL;
	len = (hdr[1] + 1u) * 8;
	if (w->off + len > info->total_len)
		return -EINVAL;
	return (int)len;
}

static int walk_ext_hdrs(const struct xf_pkt *pkt, struct walk *w, struct xf_ip_info *info)
{
	for (;;) {
		uint8_t scratch;
		int len;

		if (!stays_in_front(w))
			place_esp(w, info);
		/* Behind the fragment header of a later fragment stands payload. */
		len = info->frag_off ? 0 : ext_hdr_len(pkt, w, info);
		if (len <= 0)
			return len;
		if (w->next == XF_IPPROTO_ROUTING)
			w->routing_seen = true;
		w->field = w->off;
		w->next = *xf_pkt_peek(pkt, w->off, 1, &scratch);
		w->off += (uint32_t)len;
	}
}

bool xf_ip_frag_hides_proto(const struct xf_pkt *pkt, const struct xf_ip_info *info)
{
	uint8_t scratch;

	return info->is_frag && info->frag_hdr_off &&
	       is_ext_hdr(*xf_pkt_peek(pkt, info->frag_hdr_off, 1, &scratch));
}

static int parse_ipv6(const struct xf_pkt *pkt, struct xf_ip_info *info)
{
	uint8_t scratch[XF_IPV6_HDR_LEN];
	const uint8_t *hdr = xf_pkt_peek(pkt, 0, XF_IPV6_HDR_LEN, scratch);
	struct walk w = { .off = XF_IPV6_HDR_LEN, .field = 6 };
	uint32_t first;
	int err;

	if (!hdr)
		return -EINVAL;
	first = xf_get_be32(hdr);
	info->total_len = XF_IPV6_HDR_LEN + xf_get_be16(hdr + 4);
	if (info->total_len > pkt->len)
		return -EINVAL;
	info->family = XF_AF_INET6;
	info->tos = (uint8_t)(first >> 20);
	info->flow_label = first & 0xfffff;
	info->df = true;
	info->hdr_len = XF_IPV6_HDR_LEN;
	info->ttl = hdr[7];
	xf_addr_load(&info->saddr, hdr + 8, XF_AF_INET6);
	xf_addr_load(&info->daddr, hdr + 24, XF_AF_INET6);
	w.next = hdr[6];
	err = walk_ext_hdrs(pkt, &w, info);
	info->proto = w.next;
	info->l4_off = w.off;
	info->l4_nexthdr_field = w.field;
	return err;
}

static __attribute__((noinline)) int parse_any(const struct xf_pkt *pkt, bool check_csum,
					       struct xf_ip_info *info)
{
	uint8_t scratch;
	const uint8_t *first = xf_pkt_peek(pkt, 0, 1, &scratch);

	if (first && *first >> 4 == 4)
		return parse_ipv4(pkt, check_csum, info);
	memset(info, 0, sizeof(*info));
	if (first && *first >> 4 == 6)
		return parse_ipv6(pkt, info);
	return -EINVAL;
}

/* Nearly all of IPv4 have no options, their header in one piece, and are no fragments. */
int xf_ip_parse(const struct xf_pkt *pkt, bool check_csum, struct xf_ip_info *info)
{
	const uint8_t *hdr;
	uint32_t total_len;
	struct words w;

	if (XF_UNLIKELY(pkt->nsegs == 0 || pkt->segs[0].len < XF_IPV4_HDR_LEN ||
			pkt->segs[0].data[0] != 0x45))
		return parse_any(pkt, check_csum, info);
	hdr = pkt->segs[0].data;
	w = words_of(hdr);
	total_len = xf_get_be16(hdr + 2);
	if (XF_UNLIKELY(w.first & WORD_IS_FRAG))
		return parse_any(pkt, check_csum, info);
	if (total_len < XF_IPV4_HDR_LEN || total_len > pkt->len || (check_csum && !csum_fits(&w)))
		return -EINVAL;
	read_whole_ipv4(hdr, &w, total_len, info);
	return 0;
}

/* The checksum present bit of a GRE header adds a word in front of the key (RFC 2890 s2). */
static void gre_key(const struct xf_pkt *pkt, uint32_t off, uint32_t end, struct xf_flow *flow)
{
	uint8_t scratch[4];
	const uint8_t *p = off + 4 <= end ? xf_pkt_peek(pkt, off, 4, scratch) : NULL;
	uint16_t flags;

	if (!p)
		return;
	flags = xf_get_be16(p);
	if (!(flags & 0x2000) || (flags & 0x7))
		return;
	off += flags & 0x8000 ? 8 : 4;
	p = off + 4 <= end ? xf_pkt_peek(pkt, off, 4, scratch) : NULL;
	if (!p)
		return;
	flow->sport = xf_get_be16(p);
	flow->dport = xf_get_be16(p + 2);
}

/* ICMP types and GRE keys do not change sides when a flow is reversed (the kernel's
 * xfrm_decode_session reverse case swaps real ports only). */
static bool has_real_ports(uint8_t proto)
{
	const uint64_t low =
		1ull << XF_IPPROTO_TCP | 1ull << XF_IPPROTO_UDP | 1ull << XF_IPPROTO_DCCP;

	if (proto < 64)
		return low >> proto & 1;
	return proto == XF_IPPROTO_UDPLITE || proto == XF_IPPROTO_SCTP;
}

/* The first four bytes, or none: a packet cut short has no ports, as for the kernel. */
static void read_ports(const struct xf_pkt *pkt, const struct xf_ip_info *info,
		       struct xf_flow *flow)
{
	uint8_t scratch[4];
	const uint8_t *p = NULL;

	if (info->l4_off + 4 <= info->total_len)
		p = xf_pkt_peek(pkt, info->l4_off, 4, scratch);
	if (!p)
		return;
	if (XF_LIKELY(has_real_ports(info->proto))) {
		flow->sport = xf_get_be16(p);
		flow->dport = xf_get_be16(p + 2);
		return;
	}
	switch (info->proto) {
	case XF_IPPROTO_ICMP:
	case XF_IPPROTO_ICMPV6:
		flow->sport = p[0];
		flow->dport = p[1];
		break;
	case XF_IPPROTO_MH:
		flow->sport = p[2];
		break;
	case XF_IPPROTO_GRE:
		gre_key(pkt, info->l4_off, info->total_len, flow);
		break;
	default:
		break;
	}
}

static void reverse_flow(struct xf_flow *flow)
{
	union xf_addr addr = flow->saddr;
	uint16_t port = flow->sport;

	flow->saddr = flow->daddr;
	flow->daddr = addr;
	if (!has_real_ports(flow->proto))
		return;
	flow->sport = flow->dport;
	flow->dport = port;
}

void xf_ip_flow(const struct xf_pkt *pkt, const struct xf_ip_info *info, bool reverse,
		struct xf_flow *flow)
{
	flow->saddr = info->saddr;
	flow->daddr = info->daddr;
	flow->family = info->family;
	flow->sport = 0;
	flow->dport = 0;
	flow->proto = info->proto;
	flow->tos = info->tos;
	flow->mark = pkt->mark;
	flow->if_id = pkt->if_id;
	flow->oif = pkt->oif;
	flow->uid = pkt->uid;
	if (!info->is_frag)
		read_ports(pkt, info, flow);
	if (XF_UNLIKELY(reverse))
		reverse_flow(flow);
}
