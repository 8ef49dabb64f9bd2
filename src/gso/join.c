/*
 * A flow that is held is one packet, or several in a chain: the first one's headers, then the
 * payloads in place. Nothing of the headers is written before a second packet has come.
 *
 * Stricter than the kernel's GRO in one thing: IPv4 ids must count up. The kernel also joins where
 * they are all the same with DF set, and notes that in the super-packet; a TUN device has no word
 * for it, and what is cut again would count up.
 */
#include <stdlib.h>

#include <xf/gro.h>

#include "pkt/l4.h"

#define FLOWS 32
/* Segments of a super-packet: what a gathering write takes, and one small buffer lists. */
#define SEGS_MAX 100
#define LEN_MAX 65535u

#define IPV4_CSUM 10

/* What is asked of a packet. */
struct facts {
	const uint8_t *hdr; /* IP to the end of the TCP or UDP header, in one piece */
	uint32_t hdr_len;
	uint32_t l4_off;
	uint32_t payload;
	uint16_t family;
	uint8_t proto;
	bool first; /* it may be the first of a super-packet */
	bool follows; /* it may be joined to one */
	bool last; /* nothing may follow it */
};

struct held {
	struct held *next; /* the younger one */
	struct held *prev;
	struct xf_pkt *pkt;
	struct facts facts; /* of the first packet */
	uint32_t count;
	uint32_t next_seq;
	uint8_t flags; /* PSH and FIN of the last packet */
};

struct xf_gro {
	struct held *oldest;
	struct held *youngest;
	struct held *free;
	uint8_t what;
	struct xf_gro_stats stats;
	struct held table[FLOWS];
};

struct xf_gro *xf_gro_new(uint8_t what)
{
	struct xf_gro *gro = calloc(1, sizeof(*gro));

	if (!gro)
		return NULL;
	gro->what = what;
	for (unsigned i = 0; i < FLOWS; i++) {
		gro->table[i].next = gro->free;
		gro->free = &gro->table[i];
	}
	return gro;
}

void xf_gro_free(struct xf_gro *gro)
{
	for (struct held *h = gro->oldest; h; h = h->next)
		xf_pkt_free(h->pkt);
	free(gro);
}

void xf_gro_get_stats(const struct xf_gro *gro, struct xf_gro_stats *out)
{
	*out = gro->stats;
}

/* --- What a packet is --- */

/*
 * Both of them: a wrong one would come out right when the packet is cut again. So would minus zero,
 * which adds up too (RFC 1624 s3), but is never computed for IPv4 or TCP; for UDP it always is.
 * A checksum that is still to be completed is right by itself.
 */
static bool csums_ok(const struct xf_pkt *pkt, const struct xf_ip_info *ip, const uint8_t *hdr)
{
	uint32_t len = ip->total_len - ip->l4_off;
	uint64_t sum;

	if (ip->family == XF_AF_INET && (xf_get_be16(hdr + IPV4_CSUM) == 0xffff ||
					 xf_csum_fold(xf_csum_add(0, hdr, XF_IPV4_HDR_LEN)) != 0))
		return false;
	if (XF_UNLIKELY(pkt->csum_start))
		return true;
	if (ip->proto == XF_IPPROTO_TCP && xf_get_be16(hdr + ip->l4_off + TCP_CSUM) == 0xffff)
		return false;
	sum = xf_csum_pseudo(&ip->saddr, &ip->daddr, ip->family, ip->proto, len);
	return xf_csum_fold(xf_pkt_csum(pkt, ip->l4_off, len, sum)) == 0;
}

/* As tcp_gro_receive(): data with nothing but ACK, PSH, FIN and the bits of ECN. */
static void read_tcp(const struct xf_ip_info *ip, struct facts *facts)
{
	const uint8_t *tcp = facts->hdr + ip->l4_off;
	uint8_t flags = tcp[TCP_FLAGS];
	bool plain = facts->payload > 0 && !(flags & (TCP_SYN | TCP_RST | TCP_URG));

	facts->last = flags & (TCP_PSH | TCP_FIN);
	facts->first = plain && !facts->last;
	facts->follows = plain && !(flags & TCP_CWR);
}

/* As udp_gro_receive(): with a checksum, since there is one on all that is cut again. */
static void read_udp(const struct xf_ip_info *ip, struct facts *facts)
{
	const uint8_t *udp = facts->hdr + ip->l4_off;
	bool plain = facts->payload > 0 && xf_get_be16(udp + UDP_CSUM) != 0 &&
		     xf_get_be16(udp + UDP_LEN) == ip->total_len - ip->l4_off;

	facts->first = plain;
	facts->follows = plain;
}

static bool bare_ip(const struct xf_ip_info *ip)
{
	return ip->l4_off == (ip->family == XF_AF_INET ? XF_IPV4_HDR_LEN : XF_IPV6_HDR_LEN);
}

static uint32_t l4_hdr_len(const struct xf_pkt *pkt, const struct xf_ip_info *ip)
{
	uint8_t scratch;
	const uint8_t *p;

	if (ip->proto == XF_IPPROTO_UDP)
		return XF_UDP_HDR_LEN;
	p = xf_pkt_peek(pkt, ip->l4_off + TCP_OFFSET, 1, &scratch);
	return p && *p >> 4 >= TCP_HDR_LEN / 4 ? (*p >> 4) * 4u : 0;
}

/* False: it belongs to no flow that is held, or cannot be told. */
static bool read_facts(const struct xf_gro *gro, const struct xf_pkt *pkt,
		       const struct xf_ip_info *ip, struct facts *facts)
{
	uint8_t scratch[128];
	uint32_t len;

	memset(facts, 0, sizeof(*facts));
	if (ip->is_frag || !bare_ip(ip) || pkt->len != ip->total_len)
		return false;
	if (!(ip->proto == XF_IPPROTO_TCP && gro->what & XF_GRO_TCP) &&
	    !(ip->proto == XF_IPPROTO_UDP && gro->what & XF_GRO_UDP))
		return false;
	len = l4_hdr_len(pkt, ip);
	facts->hdr_len = ip->l4_off + len;
	if (len == 0 || facts->hdr_len > pkt->len)
		return false;
	facts->hdr = xf_pkt_peek(pkt, 0, facts->hdr_len, scratch);
	if (facts->hdr == scratch)
		return false;
	facts->l4_off = ip->l4_off;
	facts->payload = ip->total_len - facts->hdr_len;
	facts->family = ip->family;
	facts->proto = ip->proto;
	if (ip->proto == XF_IPPROTO_TCP)
		read_tcp(ip, facts);
	else
		read_udp(ip, facts);
	return true;
}

/* --- Flows --- */

/* Source and destination address, side by side in either header. */
static bool same_addrs(const uint8_t *a, const uint8_t *b, uint16_t family)
{
	if (family == XF_AF_INET)
		return memcmp(a + 12, b + 12, 8) == 0;
	return memcmp(a + 8, b + 8, 32) == 0;
}

static bool same_flow(const struct facts *a, const struct facts *b)
{
	return a->family == b->family && a->proto == b->proto &&
	       memcmp(a->hdr + a->l4_off, b->hdr + b->l4_off, 4) == 0 &&
	       same_addrs(a->hdr, b->hdr, a->family);
}

/* The youngest first: it is mostly that one. */
static struct held *find(const struct xf_gro *gro, const struct facts *facts)
{
	struct held *h = gro->youngest;

	while (h && !same_flow(&h->facts, facts))
		h = h->prev;
	return h;
}

static void unlink_held(struct xf_gro *gro, struct held *h)
{
	if (h->prev)
		h->prev->next = h->next;
	else
		gro->oldest = h->next;
	if (h->next)
		h->next->prev = h->prev;
	else
		gro->youngest = h->prev;
	h->next = gro->free;
	gro->free = h;
}

/* The headers of a super-packet, as tcp_gro_complete() and udp_gro_complete() leave them. */
static void finish_headers(const struct held *h)
{
	struct xf_pkt *pkt = h->pkt;
	uint8_t *hdr = (uint8_t *)(uintptr_t)h->facts.hdr; /* ours: see begin_chain() */
	uint8_t *l4 = hdr + h->facts.l4_off;
	uint32_t len = pkt->len - h->facts.l4_off;
	bool tcp = h->facts.proto == XF_IPPROTO_TCP;
	union xf_addr saddr;
	union xf_addr daddr;
	uint64_t sum;

	if (h->facts.family == XF_AF_INET) {
		xf_put_be16(hdr + 2, (uint16_t)pkt->len);
		xf_ipv4_set_csum(hdr, XF_IPV4_HDR_LEN);
		xf_addr_load(&saddr, hdr + 12, XF_AF_INET);
		xf_addr_load(&daddr, hdr + 16, XF_AF_INET);
	} else {
		xf_put_be16(hdr + 4, (uint16_t)(pkt->len - XF_IPV6_HDR_LEN));
		xf_addr_load(&saddr, hdr + 8, XF_AF_INET6);
		xf_addr_load(&daddr, hdr + 24, XF_AF_INET6);
	}
	sum = xf_csum_pseudo(&saddr, &daddr, h->facts.family, h->facts.proto, len);
	pkt->csum_start = (uint16_t)h->facts.l4_off;
	pkt->csum_offset = tcp ? TCP_CSUM : UDP_CSUM;
	xf_put_be16(l4 + pkt->csum_offset, (uint16_t)~xf_csum_fold(sum));
	pkt->gso_size = (uint16_t)h->facts.payload;
	if (tcp) {
		l4[TCP_FLAGS] |= h->flags;
		pkt->gso_ecn = l4[TCP_FLAGS] & TCP_CWR;
		pkt->gso_type = h->facts.family == XF_AF_INET ? XF_GSO_TCP4 : XF_GSO_TCP6;
	} else {
		xf_put_be16(l4 + UDP_LEN, (uint16_t)len);
		pkt->gso_type = XF_GSO_UDP;
	}
}

static void put_out(struct xf_gro *gro, struct held *h, struct xf_pktq *out)
{
	if (h->count > 1) {
		finish_headers(h);
		gro->stats.supers++;
		gro->stats.joined += h->count;
	}
	xf_pktq_push(out, h->pkt);
	unlink_held(gro, h);
}

void xf_gro_flush(struct xf_gro *gro, struct xf_pktq *out)
{
	while (gro->oldest)
		put_out(gro, gro->oldest, out);
}

/* What cannot be told to belong to a flow may belong to any between its addresses. */
static void put_out_between(struct xf_gro *gro, const struct xf_ip_info *ip, struct xf_pktq *out)
{
	uint32_t n = ip->family == XF_AF_INET ? 4 : 16;
	uint32_t at = ip->family == XF_AF_INET ? 12 : 8;
	struct held *h = gro->oldest;

	while (h) {
		struct held *next = h->next;

		if (h->facts.family == ip->family &&
		    memcmp(h->facts.hdr + at, ip->saddr.bytes, n) == 0 &&
		    memcmp(h->facts.hdr + at + n, ip->daddr.bytes, n) == 0)
			put_out(gro, h, out);
		h = next;
	}
}

/* --- Joining --- */

/* inet_gro_receive(), ipv6_gro_receive(): all that must be equal, and the id that comes next. */
static bool ip_follows(const struct held *h, const uint8_t *hdr)
{
	const uint8_t *first = h->facts.hdr;

	if (h->facts.family == XF_AF_INET6)
		return memcmp(first, hdr, 4) == 0 && first[7] == hdr[7];
	return first[1] == hdr[1] && memcmp(first + 6, hdr + 6, 3) == 0 &&
	       xf_get_be16(hdr + 4) == (uint16_t)(xf_get_be16(first + 4) + h->count);
}

/* tcp_gro_receive(): the same but for sequence number, checksum, and flags that come at the end. */
static bool tcp_follows(const struct held *h, const struct facts *facts)
{
	const uint8_t *first = h->facts.hdr + h->facts.l4_off;
	const uint8_t *tcp = facts->hdr + facts->l4_off;
	uint32_t options = facts->hdr_len - facts->l4_off - TCP_HDR_LEN;
	uint8_t differ = first[TCP_FLAGS] ^ tcp[TCP_FLAGS];

	return facts->hdr_len == h->facts.hdr_len && xf_get_be32(tcp + TCP_SEQ) == h->next_seq &&
	       memcmp(first + TCP_ACK, tcp + TCP_ACK, 4) == 0 &&
	       first[TCP_OFFSET] == tcp[TCP_OFFSET] && !(differ & ~(TCP_CWR | TCP_FIN | TCP_PSH)) &&
	       memcmp(first + TCP_WINDOW, tcp + TCP_WINDOW, 2) == 0 &&
	       memcmp(first + TCP_URGENT, tcp + TCP_URGENT, 2) == 0 &&
	       memcmp(first + TCP_HDR_LEN, tcp + TCP_HDR_LEN, options) == 0;
}

static bool may_join(const struct held *h, const struct xf_pkt *pkt, const struct facts *facts)
{
	if (!facts->follows || facts->payload > h->facts.payload ||
	    h->pkt->len + facts->payload > LEN_MAX || h->pkt->nsegs + pkt->nsegs > SEGS_MAX)
		return false;
	return ip_follows(h, facts->hdr) &&
	       (facts->proto == XF_IPPROTO_UDP || tcp_follows(h, facts));
}

/* Before the second packet comes: its headers will be written, and its list of segments grows. */
static bool begin_chain(struct held *h)
{
	uint8_t *hdr = xf_pkt_writable(h->pkt, 0, h->facts.hdr_len);

	if (!hdr)
		return false;
	h->facts.hdr = hdr;
	return true;
}

/* False: no buffer; nothing has changed. */
static bool join(struct held *h, struct xf_pkt *pkt, const struct facts *facts)
{
	if (h->count == 1 && !begin_chain(h))
		return false;
	if (xf_pkt_reserve(h->pkt, pkt->nsegs) < 0)
		return false;
	if (facts->proto == XF_IPPROTO_TCP)
		h->flags = facts->hdr[facts->l4_off + TCP_FLAGS] & (TCP_PSH | TCP_FIN);
	h->next_seq += facts->payload;
	h->count++;
	xf_pkt_trim_front(pkt, facts->hdr_len);
	xf_pkt_join(h->pkt, pkt); /* cannot fail: there is room */
	return true;
}

static void hold(struct xf_gro *gro, struct xf_pkt *pkt, const struct facts *facts,
		 struct xf_pktq *out)
{
	struct held *h;

	if (!gro->free)
		put_out(gro, gro->oldest, out);
	h = gro->free;
	gro->free = h->next;
	h->pkt = pkt;
	h->facts = *facts;
	h->count = 1;
	h->flags = 0;
	if (facts->proto == XF_IPPROTO_TCP)
		h->next_seq = xf_get_be32(facts->hdr + facts->l4_off + TCP_SEQ) + facts->payload;
	h->next = NULL;
	h->prev = gro->youngest;
	if (h->prev)
		h->prev->next = h;
	else
		gro->oldest = h;
	gro->youngest = h;
}

void xf_gro_push(struct xf_gro *gro, struct xf_pkt *pkt, const struct xf_ip_info *ip,
		 struct xf_pktq *out)
{
	struct facts facts;
	struct held *h;

	gro->stats.packets++;
	if (!read_facts(gro, pkt, ip, &facts)) {
		put_out_between(gro, ip, out);
		xf_pktq_push(out, pkt);
		return;
	}
	h = find(gro, &facts);
	if ((facts.first || (h && facts.follows)) && !csums_ok(pkt, ip, facts.hdr))
		facts.first = facts.follows = false;
	if (h && may_join(h, pkt, &facts) && join(h, pkt, &facts)) {
		if (facts.last || facts.payload < h->facts.payload)
			put_out(gro, h, out);
		return;
	}
	if (h)
		put_out(gro, h, out);
	if (facts.first)
		hold(gro, pkt, &facts, out);
	else
		xf_pktq_push(out, pkt);
}
