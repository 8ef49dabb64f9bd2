/*
 * Every mode shares every line below. The mode decides only where the gap for the headers opens
 * and how wide it is:
 *
 *   tunnel     |<- gap: outer IP, [UDP,] ESP, IV ->| IP | payload |<- tail ->|
 *   transport  | IP |<- gap: [UDP,] ESP, IV ->|          payload  |<- tail ->|
 *
 * The tail is TFC padding, padding, its length, next header, ICV. Steps, in this order:
 *   1. check the SA and the packet                 (nothing is changed)
 *   2. open gap and tail, find the cipher's target (undone when a buffer is missing)
 *   3. take the sequence number                    (the last step that can fail)
 *   4. take an IV, write headers and tail, describe the work to the cipher
 */
#include <errno.h>

#include "proto/transform.h"

/* What step 1 finds out: the packet's new shape. */
struct plan {
	struct xf_esp_layout lay;
	uint32_t gap_off;
	uint32_t gap_len;
	uint32_t payload_len; /* what is protected: bytes from gap_off to the packet's end */
	uint32_t tfc_len;
	uint32_t pad_len;
	uint32_t tail_len;
	uint8_t next_hdr;
	uint8_t *gap;
	uint8_t *tail;
};

/* RFC 4303 s3.1: fragments are tunnelled, but transport mode takes whole datagrams only. */
static bool mode_takes(const struct xf_sa_config *cfg, const struct xf_ip_info *ip)
{
	if (cfg->mode == XF_MODE_TUNNEL)
		return true;
	return cfg->mode == XF_MODE_TRANSPORT && ip->family == cfg->id.family && !ip->is_frag;
}

/* The lengths, the last byte of which is the ICV's (RFC 4303 s2.4, s2.7). */
static void plan_lengths(struct xf_sa *sa, const struct xf_sa_config *cfg,
			 const struct xf_ip_info *ip, uint64_t now_ns, struct plan *plan)
{
	uint32_t bare;

	xf_esp_layout(cfg, &plan->lay);
	plan->gap_off = cfg->mode == XF_MODE_TUNNEL ? 0 : ip->ah_esp_off;
	plan->gap_len = xf_esp_gap_len(&plan->lay);
	plan->payload_len = ip->total_len - plan->gap_off;
	plan->tfc_len = xf_esp_tfc_len(sa, cfg, plan->payload_len, now_ns);
	bare = plan->payload_len + plan->tfc_len + XF_ESP_TRAILER_LEN;
	plan->pad_len = xf_align_up(bare, plan->lay.align) - bare;
	plan->tail_len = plan->tfc_len + plan->pad_len + XF_ESP_TRAILER_LEN + plan->lay.icv_len;
}

static enum xf_drop make_plan(struct xf_sa *sa, const struct xf_sa_config *cfg,
			      const struct xf_ip_info *ip, uint64_t now_ns, struct plan *plan)
{
	uint32_t len;

	if (cfg->id.proto != XF_IPPROTO_ESP)
		return XF_DROP_OUT_STATE_PROTO;
	if (!mode_takes(cfg, ip))
		return XF_DROP_OUT_STATE_MODE;
	plan_lengths(sa, cfg, ip, now_ns, plan);
	len = ip->total_len + plan->gap_len + plan->tail_len;
	if (cfg->id.family == XF_AF_INET6)
		len -= XF_IPV6_HDR_LEN;
	return len > UINT16_MAX ? XF_DROP_OUT_ERROR : XF_PASS;
}

static uint8_t next_hdr(const struct xf_sa_config *cfg, const struct xf_pkt *pkt,
			const struct xf_ip_info *ip)
{
	uint8_t scratch;

	if (cfg->mode == XF_MODE_TUNNEL)
		return ip->family == XF_AF_INET ? XF_IPPROTO_IPIP : XF_IPPROTO_IPV6;
	return *xf_pkt_peek(pkt, ip->nexthdr_field, 1, &scratch);
}

static void close_room(const struct plan *plan, struct xf_esp_op *op)
{
	xf_pkt_free(op->dst_pkt);
	op->dst_pkt = NULL;
	if (plan->tail)
		xf_pkt_trim_back(op->pkt, plan->tail_len);
	if (plan->gap)
		xf_pkt_remove(op->pkt, plan->gap_off, plan->gap_len);
}

/* Step 2. On an error, what was opened is for close_room(). */
static enum xf_drop open_room(struct plan *plan, struct xf_esp_op *op)
{
	int err;

	plan->gap = xf_pkt_insert(op->pkt, plan->gap_off, plan->gap_len);
	if (!plan->gap)
		return XF_DROP_OUT_NO_BUFFER;
	plan->tail = xf_pkt_append(op->pkt, plan->tail_len);
	if (!plan->tail)
		return XF_DROP_OUT_NO_BUFFER;
	op->text_off = plan->gap_off + plan->gap_len;
	op->esp_off = op->text_off - plan->lay.iv_len - XF_ESP_HDR_LEN;
	op->udp_off = plan->lay.udp_len ? op->esp_off - XF_UDP_HDR_LEN : 0;
	op->icv_len = plan->lay.icv_len;
	op->crypto.len = plan->payload_len + plan->tail_len - op->icv_len;
	err = xf_esp_target(op, op->icv_len);
	if (err)
		return err == -ENOBUFS ? XF_DROP_OUT_NO_BUFFER : XF_DROP_OUT_ERROR;
	return XF_PASS;
}

/* An id that SAs do not share and that comes again after 65,536 packets only (RFC 6864 s4.2). */
static uint16_t ipv4_id(const struct xf_sa *sa, uint64_t seq)
{
	return (uint16_t)(seq + (sa->ivgen.salt * 0x9e3779b97f4a7c15ull >> 48));
}

static void write_headers(const struct plan *plan, const struct xf_ip_info *ip,
			  struct xf_esp_op *op, const struct xf_sa_config *cfg)
{
	const struct xf_esp_layout *lay = &plan->lay;
	uint8_t *p = plan->gap + lay->outer_len;
	uint32_t ip_payload = op->pkt->len - plan->gap_off - lay->outer_len;
	struct xf_tunnel_hdr what = {
		.payload_len = ip_payload,
		.id = ipv4_id(op->sa, op->seq),
		.proto = lay->udp_len ? XF_IPPROTO_UDP : XF_IPPROTO_ESP,
	};

	if (lay->outer_len)
		xf_tunnel_write(plan->gap, cfg, ip, &what);
	else
		xf_ip_patch(plan->gap - plan->gap_off, ip, ip->nexthdr_field, what.proto,
			    op->pkt->len);
	if (lay->udp_len)
		xf_udp_write(p, &cfg->encap, ip_payload - lay->udp_len);
	p += lay->udp_len;
	xf_put_be32(p, cfg->id.spi);
	xf_put_be32(p + 4, (uint32_t)op->seq);
	if (lay->iv_len)
		xf_ivgen_iv(&op->sa->ivgen, atomic_fetch_add(&op->sa->iv_counter, 1),
			    p + XF_ESP_HDR_LEN, (uint8_t)lay->iv_len);
}

static void write_tail(const struct plan *plan)
{
	uint8_t *p = plan->tail;

	memset(p, 0, plan->tfc_len);
	p += plan->tfc_len;
	for (uint32_t i = 0; i < plan->pad_len; i++)
		*p++ = (uint8_t)(i + 1);
	p[0] = (uint8_t)plan->pad_len;
	p[1] = plan->next_hdr;
}

enum xf_drop xf_esp_out_prepare(struct xf_sa *sa, struct xf_pkt *pkt, const struct xf_ip_info *ip,
				uint64_t now_ns, struct xf_esp_op *op)
{
	const struct xf_sa_config *cfg = xf_sa_cfg(sa);
	struct plan plan = { .gap = NULL, .tail = NULL };
	enum xf_drop drop = xf_sa_check(sa, cfg, true, now_ns);

	if (drop == XF_PASS)
		drop = make_plan(sa, cfg, ip, now_ns, &plan);
	if (drop != XF_PASS)
		return drop;
	op->sa = sa;
	op->pkt = pkt;
	op->dst_pkt = NULL;
	plan.next_hdr = next_hdr(cfg, pkt, ip);
	xf_pkt_trim_back(pkt, pkt->len - ip->total_len);
	drop = open_room(&plan, op);
	if (drop == XF_PASS)
		drop = xf_sa_take_seq(sa, cfg, &op->seq);
	if (drop != XF_PASS) {
		close_room(&plan, op);
		return drop;
	}
	write_headers(&plan, ip, op, cfg);
	write_tail(&plan);
	op->crypto.encrypt = true;
	xf_esp_crypto_fill(op, cfg, plan.gap + plan.gap_len - plan.lay.iv_len);
	pkt->family = cfg->id.family;
	pkt->mark = xf_sa_mark(cfg, pkt->mark);
	xf_sa_count(sa, plan.payload_len, now_ns);
	return XF_PASS;
}

enum xf_drop xf_esp_out_finish(struct xf_esp_op *op)
{
	struct xf_seg *last;
	enum xf_drop drop = XF_DROP_OUT_STATE_PROTO;

	if (op->crypto.status == XF_CRYPTO_OK)
		drop = xf_esp_put_text(op) < 0 ? XF_DROP_OUT_NO_BUFFER : XF_PASS;
	if (drop != XF_PASS) {
		xf_pkt_free(op->dst_pkt);
		op->dst_pkt = NULL;
		return drop;
	}
	/* The tail was opened in one piece, so the ICV does not straddle segments. */
	last = &op->pkt->segs[op->pkt->nsegs - 1];
	memcpy(last->data + last->len - op->icv_len, op->crypto.icv, op->icv_len);
	if (op->udp_off && op->pkt->family == XF_AF_INET6 &&
	    xf_udp_set_csum6(op->pkt, op->udp_off) < 0)
		return XF_DROP_OUT_NO_BUFFER;
	return XF_PASS;
}
