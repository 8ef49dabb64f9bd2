#include <xf/frag.h>

/* As much header as the packet layer writes in one piece. */
#define HDR_MAX 512

#define IPOPT_COPIED 0x80
#define IPOPT_END 0
#define IPOPT_NOP 1

/* How one datagram is cut: every fragment is a copy of the header and a slice of the payload. */
struct cut {
	uint8_t hdr[HDR_MAX];
	uint32_t hdr_len; /* of a fragment, IPv6 fragment header included */
	uint32_t data_off; /* in the datagram */
	uint32_t data_len;
	uint32_t base; /* offset of the payload: what is cut may be a fragment itself */
	uint32_t step; /* payload of all fragments but the last */
	uint16_t flags; /* IPv4: of all fragments */
	bool more; /* of the last one */
};

/*
 * RFC 791 s3.1: options without the copied bit are in the first fragment only. They become NOPs, as
 * in the kernel, so that all headers are of one length. An option that is malformed ends it.
 */
static void blank_options(uint8_t *hdr, uint32_t hdr_len)
{
	uint32_t off = XF_IPV4_HDR_LEN;

	while (off < hdr_len && hdr[off] != IPOPT_END) {
		uint32_t len = 1;

		if (hdr[off] != IPOPT_NOP) {
			len = off + 1 < hdr_len ? hdr[off + 1] : 0;
			if (len < 2 || off + len > hdr_len)
				return;
			if (!(hdr[off] & IPOPT_COPIED))
				memset(hdr + off, IPOPT_NOP, len);
		}
		off += len;
	}
}

/* DF stays on a datagram that came in fragments with DF, so that PMTU discovery goes on. */
static bool plan_v4(const struct xf_pkt *pkt, const struct xf_ip_info *ip, struct cut *cut)
{
	cut->hdr_len = ip->hdr_len;
	cut->data_off = ip->hdr_len;
	cut->flags = ip->df && pkt->mtu ? XF_IPV4_DF : 0;
	return xf_pkt_copy_out(pkt, 0, cut->hdr, ip->hdr_len) == 0;
}

/* RFC 8200 s4.5: what stands in front of the fragment header is in every fragment. */
static bool plan_v6(const struct xf_pkt *pkt, const struct xf_ip_info *ip, uint32_t id,
		    struct cut *cut)
{
	uint32_t front = ip->frag_hdr_off ? ip->frag_hdr_off : ip->ah_esp_off;
	uint8_t *frag = cut->hdr + front;

	cut->hdr_len = front + XF_IPV6_FRAG_HDR_LEN;
	cut->data_off = ip->frag_hdr_off ? cut->hdr_len : front;
	if (cut->hdr_len > HDR_MAX || xf_pkt_copy_out(pkt, 0, cut->hdr, cut->data_off) < 0)
		return false;
	if (ip->frag_hdr_off)
		return true;
	frag[0] = cut->hdr[ip->nexthdr_field];
	frag[1] = 0;
	xf_put_be32(frag + 4, id);
	cut->hdr[ip->nexthdr_field] = XF_IPPROTO_FRAGMENT;
	return true;
}

static bool plan(const struct xf_pkt *pkt, const struct xf_ip_info *ip, uint32_t mtu, uint32_t id,
		 struct cut *cut)
{
	bool ok = ip->family == XF_AF_INET ? plan_v4(pkt, ip, cut) : plan_v6(pkt, ip, id, cut);

	if (!ok || mtu < cut->hdr_len + 8)
		return false;
	cut->data_len = ip->total_len - cut->data_off;
	cut->base = ip->frag_off;
	cut->more = ip->more_frags;
	cut->step = (mtu - cut->hdr_len) & ~7u;
	return true;
}

static void write_header(const struct xf_ip_info *ip, struct cut *cut, uint32_t off, uint32_t len)
{
	bool more = cut->more || off + len < cut->data_len;
	uint32_t at = cut->base + off;

	if (ip->family == XF_AF_INET) {
		xf_put_be16(cut->hdr + 2, (uint16_t)(cut->hdr_len + len));
		xf_put_be16(cut->hdr + 6,
			    (uint16_t)(cut->flags | (more ? XF_IPV4_MF : 0) | at / 8));
		if (off > 0)
			blank_options(cut->hdr, cut->hdr_len);
		xf_ipv4_set_csum(cut->hdr, cut->hdr_len);
		return;
	}
	xf_put_be16(cut->hdr + 4, (uint16_t)(cut->hdr_len - XF_IPV6_HDR_LEN + len));
	xf_put_be16(cut->hdr + cut->hdr_len - XF_IPV6_FRAG_HDR_LEN + 2, (uint16_t)(at | more));
}

static struct xf_pkt *piece(const struct xf_pkt *pkt, const struct xf_ip_info *ip, struct cut *cut,
			    uint32_t off)
{
	uint32_t len = xf_min_u32(cut->step, cut->data_len - off);
	struct xf_pkt *frag = xf_pkt_slice(pkt, cut->data_off + off, len);
	uint8_t *hdr;

	if (!frag)
		return NULL;
	hdr = xf_pkt_prepend(frag, cut->hdr_len);
	if (!hdr) {
		xf_pkt_free(frag);
		return NULL;
	}
	write_header(ip, cut, off, len);
	memcpy(hdr, cut->hdr, cut->hdr_len);
	return frag;
}

static void drop_all(struct xf_pktq *q)
{
	struct xf_pkt *pkt;

	while ((pkt = xf_pktq_pop(q)))
		xf_pkt_free(pkt);
}

enum xf_drop xf_frag_cut(struct xf_pkt *pkt, const struct xf_ip_info *ip, uint32_t mtu, uint32_t id,
			 struct xf_pktq *out)
{
	struct xf_pktq pieces = { .count = 0 };
	struct xf_pkt *frag;
	struct cut cut;

	if (ip->total_len <= mtu) {
		xf_pktq_push(out, pkt);
		return XF_PASS;
	}
	if (!plan(pkt, ip, mtu, id, &cut))
		return XF_DROP_OUT_TOO_BIG;
	for (uint32_t off = 0; off < cut.data_len; off += cut.step) {
		frag = piece(pkt, ip, &cut, off);
		if (!frag) {
			drop_all(&pieces);
			return XF_DROP_OUT_NO_BUFFER;
		}
		xf_pktq_push(&pieces, frag);
	}
	while ((frag = xf_pktq_pop(&pieces)))
		xf_pktq_push(out, frag);
	xf_pkt_free(pkt);
	return XF_PASS;
}
