/*
 * Every mode shares every line below. The mode decides only where the gap for the headers opens
 * and how wide it is:
 *
 *   tunnel     |<- gap: outer IP, [UDP,] ESP, IV ->| IP | payload |<- tail ->|
 *   transport  | IP |<- gap: [UDP,] ESP, IV ->|          payload  |<- tail ->|
 *
 * The tail is TFC padding, padding, its length, next header, ICV. Steps, each for all packets of a
 * run before the next one:
 *   1. check the SA                                 (nothing is changed)
 *   2. check the packet, open gap and tail, find the cipher's target (undone when it must not be)
 *   3. take the sequence numbers                    (the last step that can fail)
 *   4. take IVs, write headers and tail, describe the work to the cipher
 */
#include <errno.h>

#include "pkt/widen.h"
#include "proto/transform.h"

/* RFC 4303 s3.1: fragments are tunnelled, but transport mode takes whole datagrams only. */
static bool mode_takes(const struct xf_sa_config *cfg, const struct xf_ip_info *ip)
{
	if (cfg->mode == XF_MODE_TUNNEL)
		return true;
	return cfg->mode == XF_MODE_TRANSPORT && ip->family == cfg->id.family && !ip->is_frag;
}

/* The packet's new shape, whose last byte is the ICV's (RFC 4303 s2.4, s2.7). */
static void plan(struct xf_esp_op *op, const struct xf_sa_config *cfg,
		 const struct xf_esp_layout *lay, uint64_t now_ns)
{
	uint32_t bare;

	op->gap_off = cfg->mode == XF_MODE_TUNNEL ? 0 : op->ip->ah_esp_off;
	op->payload_len = op->ip->total_len - op->gap_off;
	op->tfc_len = 0;
	if (XF_UNLIKELY(cfg->tfc_pad))
		op->tfc_len = xf_esp_tfc_len(op->sa, cfg, op->payload_len, now_ns);
	bare = op->payload_len + op->tfc_len + XF_ESP_TRAILER_LEN;
	op->pad_len = xf_align_up(bare, lay->align) - bare;
	op->tail_len = op->tfc_len + op->pad_len + XF_ESP_TRAILER_LEN + lay->icv_len;
}

static enum xf_drop check_packet(const struct xf_esp_op *op, const struct xf_sa_config *cfg,
				 const struct xf_esp_layout *lay)
{
	uint32_t len = op->ip->total_len + xf_esp_gap_len(lay) + op->tail_len;

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

static void close_room(struct xf_esp_op *op, const struct xf_esp_layout *lay)
{
	xf_pkt_free(op->dst_pkt);
	op->dst_pkt = NULL;
	if (op->tail)
		xf_pkt_trim_back(op->pkt, op->tail_len);
	if (op->gap)
		xf_pkt_remove(op->pkt, op->gap_off, xf_esp_gap_len(lay));
}

static void set_offsets(struct xf_esp_op *op, const struct xf_esp_layout *lay)
{
	op->text_off = op->gap_off + xf_esp_gap_len(lay);
	op->esp_off = op->text_off - lay->iv_len - XF_ESP_HDR_LEN;
	op->udp_off = lay->udp_len ? op->esp_off - XF_UDP_HDR_LEN : 0;
	op->crypto.len = op->payload_len + op->tail_len - lay->icv_len;
	/* The tail is opened in one piece, so the ICV does not straddle segments. */
	op->crypto.icv = op->tail + op->tail_len - lay->icv_len;
}

/* A tunnelled packet in one piece with room around it, as nearly all are. */
static bool open_in_place(struct xf_esp_op *op, const struct xf_esp_layout *lay)
{
	if (op->gap_off != 0 ||
	    !xf_pkt_widen(op->pkt, xf_esp_gap_len(lay), op->tail_len, &op->gap, &op->tail))
		return false;
	set_offsets(op, lay);
	op->src[0] = (struct xf_seg){ .data = op->gap + op->text_off,
				      .len = op->crypto.len,
				      .buf = op->pkt->segs[0].buf };
	op->crypto.src = op->crypto.dst = op->src;
	op->crypto.nsrc = op->crypto.ndst = 1;
	return true;
}

/* On an error, what was opened is for close_room(). */
static enum xf_drop open_room(struct xf_esp_op *op, const struct xf_esp_layout *lay)
{
	int err;

	if (XF_LIKELY(open_in_place(op, lay)))
		return XF_PASS;
	op->gap = xf_pkt_insert(op->pkt, op->gap_off, xf_esp_gap_len(lay));
	if (!op->gap)
		return XF_DROP_OUT_NO_BUFFER;
	op->tail = xf_pkt_append(op->pkt, op->tail_len);
	if (!op->tail)
		return XF_DROP_OUT_NO_BUFFER;
	set_offsets(op, lay);
	err = xf_esp_target(op, lay->icv_len);
	if (err)
		return err == -ENOBUFS ? XF_DROP_OUT_NO_BUFFER : XF_DROP_OUT_ERROR;
	if (op->dst_pkt)
		op->crypto.icv = op->dst.data + op->crypto.len;
	return XF_PASS;
}

/* Step 2. */
static enum xf_drop open_packet(struct xf_esp_op *op, const struct xf_sa_config *cfg,
				const struct xf_esp_layout *lay, uint64_t now_ns)
{
	enum xf_drop drop;

	op->dst_pkt = NULL;
	op->gap = NULL;
	op->tail = NULL;
	if (!mode_takes(cfg, op->ip))
		return XF_DROP_OUT_STATE_MODE;
	plan(op, cfg, lay, now_ns);
	drop = check_packet(op, cfg, lay);
	if (drop != XF_PASS)
		return drop;
	if (op->pkt->len > op->ip->total_len)
		xf_pkt_trim_back(op->pkt, op->pkt->len - op->ip->total_len);
	drop = open_room(op, lay);
	if (drop != XF_PASS)
		close_room(op, lay);
	return drop;
}

/* An id that SAs do not share and that comes again after 65,536 packets only (RFC 6864 s4.2). */
static uint16_t ipv4_id(const struct xf_sa *sa, uint64_t seq)
{
	return (uint16_t)(seq + (sa->ivgen.salt * 0x9e3779b97f4a7c15ull >> 48));
}

static void write_headers(const struct xf_esp_op *op, const struct xf_sa_config *cfg,
			  const struct xf_esp_layout *lay)
{
	uint8_t *p = op->gap + lay->outer_len;
	uint32_t ip_payload = op->pkt->len - op->gap_off - lay->outer_len;
	struct xf_tunnel_hdr what = {
		.payload_len = ip_payload,
		.id = ipv4_id(op->sa, op->seq),
		.proto = lay->udp_len ? XF_IPPROTO_UDP : XF_IPPROTO_ESP,
	};

	if (lay->outer_len)
		xf_tunnel_write(op->gap, cfg, op->ip, &what);
	else
		xf_ip_patch(op->gap - op->gap_off, op->ip, op->ip->nexthdr_field, what.proto,
			    op->pkt->len);
	if (lay->udp_len)
		xf_udp_write(p, &cfg->encap, ip_payload - lay->udp_len);
	p += lay->udp_len;
	xf_put_be32(p, cfg->id.spi);
	xf_put_be32(p + 4, (uint32_t)op->seq);
	if (lay->iv_len)
		xf_ivgen_iv(&op->sa->ivgen, op->number, p + XF_ESP_HDR_LEN, (uint8_t)lay->iv_len);
}

static void write_tail(const struct xf_esp_op *op, uint8_t next)
{
	uint8_t *p = op->tail;

	if (op->tfc_len)
		memset(p, 0, op->tfc_len);
	p += op->tfc_len;
	for (uint32_t i = 0; i < op->pad_len; i++)
		*p++ = (uint8_t)(i + 1);
	p[0] = (uint8_t)op->pad_len;
	p[1] = next;
}

/* Step 4. */
static void write_packet(struct xf_esp_op *op, const struct xf_sa_config *cfg,
			 const struct xf_esp_layout *lay)
{
	uint8_t next = next_hdr(cfg, op->pkt, op->ip);

	write_headers(op, cfg, lay);
	write_tail(op, next);
	op->crypto.encrypt = true;
	xf_esp_crypto_fill(op, cfg, op->gap + xf_esp_gap_len(lay) - lay->iv_len);
	op->pkt->family = cfg->id.family;
	op->pkt->mark = xf_sa_mark(cfg, op->pkt->mark);
}

static enum xf_drop check_sa(struct xf_sa *sa, const struct xf_sa_config *cfg, uint64_t now_ns)
{
	enum xf_drop drop = xf_sa_check(sa, cfg, true, now_ns);

	if (drop == XF_PASS && cfg->id.proto != XF_IPPROTO_ESP)
		drop = XF_DROP_OUT_STATE_PROTO;
	return drop;
}

/* Steps 3 and 4 for those of @ops that step 2 has passed. */
static void number_and_write(struct xf_sa *sa, const struct xf_sa_config *cfg,
			     const struct xf_esp_layout *lay, struct xf_esp_op *const *ops,
			     unsigned n, uint64_t now_ns)
{
	struct xf_sa_numbers numbers = { 0 };
	unsigned ready = 0;
	unsigned used = 0;
	unsigned taken;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++)
		ready += ops[i]->drop == XF_PASS;
	taken = ready ? xf_sa_take_numbers(sa, cfg, ready, &numbers) : 0;
	for (unsigned i = 0; i < n; i++) {
		struct xf_esp_op *op = ops[i];

		if (op->drop != XF_PASS)
			continue;
		if (used == taken) {
			op->drop = XF_DROP_OUT_STATE_SEQ;
			close_room(op, lay);
			continue;
		}
		op->number = numbers.first + used;
		op->seq = xf_sa_seq(cfg, numbers.seq + used++);
		write_packet(op, cfg, lay);
		bytes += op->payload_len;
	}
	if (taken)
		xf_sa_count(sa, taken, bytes, now_ns);
}

static uint64_t bytes_of(struct xf_esp_op *const *ops, unsigned n)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++)
		bytes += ops[i]->ip->total_len;
	return bytes;
}

/* Near a limit each packet is checked by itself, so that it is the right one that meets it. */
void xf_esp_out_prepare_run(struct xf_sa *sa, struct xf_esp_op *const *ops, unsigned n,
			    uint64_t now_ns)
{
	const struct xf_sa_config *cfg = xf_sa_cfg(sa);
	struct xf_esp_layout lay;
	enum xf_drop drop;

	if (n > 1 && !xf_sa_limits_are_far(sa, cfg, n, bytes_of(ops, n))) {
		for (unsigned i = 0; i < n; i++)
			xf_esp_out_prepare_run(sa, &ops[i], 1, now_ns);
		return;
	}
	drop = check_sa(sa, cfg, now_ns);
	xf_esp_layout(cfg, &lay);
	for (unsigned i = 0; i < n; i++) {
		ops[i]->sa = sa;
		ops[i]->drop = drop == XF_PASS ? open_packet(ops[i], cfg, &lay, now_ns) : drop;
	}
	if (drop == XF_PASS)
		number_and_write(sa, cfg, &lay, ops, n, now_ns);
}

enum xf_drop xf_esp_out_prepare(struct xf_sa *sa, struct xf_pkt *pkt, struct xf_ip_info *ip,
				uint64_t now_ns, struct xf_esp_op *op)
{
	op->pkt = pkt;
	op->ip = ip;
	xf_esp_out_prepare_run(sa, &op, 1, now_ns);
	return op->drop;
}

enum xf_drop xf_esp_out_finish(struct xf_esp_op *op)
{
	op->drop = XF_DROP_OUT_STATE_PROTO;
	if (XF_LIKELY(op->crypto.status == XF_CRYPTO_OK))
		op->drop = op->dst_pkt && xf_esp_put_text(op) < 0 ? XF_DROP_OUT_NO_BUFFER : XF_PASS;
	if (op->drop != XF_PASS) {
		xf_pkt_free(op->dst_pkt);
		op->dst_pkt = NULL;
		return op->drop;
	}
	if (op->udp_off && op->pkt->family == XF_AF_INET6 &&
	    xf_udp_set_csum6(op->pkt, op->udp_off) < 0)
		op->drop = XF_DROP_OUT_NO_BUFFER;
	return op->drop;
}
