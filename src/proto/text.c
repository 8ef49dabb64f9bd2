/*
 * Where the text of a packet lies before and after the cipher, and the headers in front of it.
 *
 *   ours alone   | headers | text |           the cipher writes over it
 *   else         | headers | text | and | text | spare |, joined to | headers | text | spare |
 */
#include <errno.h>

#include "proto/esp.h"

/*
 * The segments of the text, described in the operation when they are few, else in the packet's own
 * list, cut so that one starts with the text. 0, -ENOBUFS or -EMSGSIZE.
 */
static int list_text(struct xf_transform_op *op)
{
	struct xf_crypto_op *crypto = &op->crypto;
	int n = xf_pkt_segs(op->pkt, op->text_off, crypto->len, op->src, XF_OP_SEGS);

	crypto->src = op->src;
	if (n < 0) {
		int first = xf_pkt_cut(op->pkt, op->text_off);

		if (first < 0)
			return first;
		crypto->src = &op->pkt->segs[first];
		n = op->pkt->nsegs - first;
	}
	crypto->nsrc = (uint16_t)n;
	return 0;
}

int xf_esp_target(struct xf_transform_op *op, uint32_t spare)
{
	struct xf_crypto_op *crypto = &op->crypto;
	struct xf_pkt *pkt = op->pkt;
	int err = list_text(op);

	op->dst_pkt = NULL;
	if (err)
		return err;
	crypto->dst = crypto->src;
	crypto->ndst = crypto->nsrc;
	if (xf_pkt_is_own(pkt, op->text_off, crypto->len))
		return 0;
	op->dst_pkt = xf_pkt_new(pkt->pool, crypto->len + spare);
	if (!op->dst_pkt)
		return -ENOBUFS;
	op->dst.data = xf_pkt_append(op->dst_pkt, crypto->len + spare);
	op->dst.len = crypto->len;
	op->dst.buf = op->dst_pkt->segs[0].buf;
	crypto->dst = &op->dst;
	crypto->ndst = 1;
	return 0;
}

int xf_esp_put_text(struct xf_transform_op *op)
{
	int err;

	xf_pkt_trim_back(op->pkt, op->pkt->len - op->text_off);
	err = xf_pkt_join(op->pkt, op->dst_pkt);
	if (err)
		return err;
	op->dst_pkt = NULL;
	return 0;
}

void xf_ip_patch(uint8_t *hdr, const struct xf_ip_info *ip, uint32_t field, uint8_t proto,
		 uint32_t len)
{
	hdr[field] = proto;
	if (ip->family == XF_AF_INET) {
		xf_put_be16(hdr + 2, (uint16_t)len);
		xf_ipv4_set_csum(hdr, ip->hdr_len);
	} else {
		xf_put_be16(hdr + 4, (uint16_t)(len - XF_IPV6_HDR_LEN));
	}
}
