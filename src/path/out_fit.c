/*
 * Does a packet fit the path of its bundle (RFC 4301 s8.2)? The third stage of a batch, called by
 * out.c.
 */
#include <xf/gso.h>

#include "path/out.h"
#include "proto/mss.h"

static void refuse_too_big(struct xf_out *o, struct xf_slot *s)
{
	union xf_addr to;
	struct xf_pkt *reply;

	xf_icmp_too_big(s->pkt, &s->ip, s->mtu, &reply, &to);
	if (reply) {
		reply->reply_to = to;
		xf_pktq_push(&o->res->reply, reply);
	}
	xf_slot_drop(o->worker, s, XF_DROP_OUT_TOO_BIG, s->bundle[0]);
}

/*
 * May a packet of @len bytes be cut before it is encapsulated? IPv6 routers must not (RFC 8200
 * s4.5); its sender may: a local datagram, which reaches us whole, and one that came in fragments.
 * Of IPv4 that is needed only where the outer datagram would be longer than IP can say.
 */
static bool may_cut_inner(const struct xf_out *o, const struct xf_slot *s, uint32_t len)
{
	if (xf_sa_cfg(s->bundle[0])->mode != XF_MODE_TUNNEL)
		return false;
	if (s->ip.family == XF_AF_INET)
		return len + XF_PKT_HEADROOM + XF_PKT_TAILROOM > UINT16_MAX;
	if (s->ip.frag_hdr_off || s->ip.proto == XF_IPPROTO_TCP)
		return false;
	return s->pkt->mtu || xf_out_is_local(o, s);
}

/* What to do with @s, whose packets have @len bytes, as the kernel does. */
static enum xf_out_fit see_fit(const struct xf_out *o, const struct xf_slot *s, uint32_t len)
{
	if (len <= s->mtu)
		return XF_OUT_FITS;
	if (s->ip.family == XF_AF_INET && s->ip.df)
		return XF_OUT_REFUSE;
	if (may_cut_inner(o, s, len))
		return XF_OUT_CUT_INNER;
	if (s->ip.family == XF_AF_INET || len <= XF_IPV6_MIN_MTU)
		return XF_OUT_CUT_OUTER;
	if (xf_sa_cfg(s->bundle[0])->mode == XF_MODE_TRANSPORT && s->ip.proto != XF_IPPROTO_TCP)
		return XF_OUT_CUT_OUTER;
	return XF_OUT_REFUSE;
}

/* What goes through the tunnel later had better fit: the peer's sender is told by its SYN. */
static void clamp_mss(const struct xf_out *o, const struct xf_slot *s)
{
	if (o->worker->engine->clamp_mss && xf_mss_clamp(s->pkt, &s->ip, s->mtu))
		xf_count(&o->worker->count.mss_clamped, 1);
}

/* True: @s is to be cut. It may leave the batch. */
static __attribute__((noinline)) bool look_closer(struct xf_out *o, struct xf_slot *s)
{
	bool super = s->pkt->gso_type != 0;
	uint32_t len = super ? xf_gso_packet_len(s->pkt, &s->ip) : s->ip.total_len;

	s->cut = (uint8_t)see_fit(o, s, len);
	if (s->cut == XF_OUT_REFUSE) {
		refuse_too_big(o, s);
		return false;
	}
	if (super)
		return true;
	if (s->pkt->csum_start && xf_gso_complete_csum(s->pkt) < 0) {
		xf_slot_drop(o->worker, s, XF_DROP_OUT_HDR, s->bundle[0]);
		return false;
	}
	if (xf_mss_is_syn(s->pkt, &s->ip))
		clamp_mss(o, s);
	return s->cut == XF_OUT_CUT_INNER;
}

/* One packet that is complete and fits, and nobody's first. */
static inline bool is_usual(const struct xf_slot *s)
{
	return s->ip.total_len <= s->mtu && !s->pkt->gso_type && !s->pkt->csum_start &&
	       !xf_mss_is_syn(s->pkt, &s->ip);
}

bool xf_out_check_fit(struct xf_out *o, struct xf_flight *f)
{
	bool cut = false;

	for (unsigned i = 0; i < f->n; i++) {
		struct xf_slot *s = &f->slots[i];

		if (!s->pkt)
			continue;
		if (f->ahead < s->depth)
			f->ahead = s->depth;
		s->inner_len = s->ip.total_len;
		s->cut = XF_OUT_FITS;
		if (XF_UNLIKELY(!is_usual(s)))
			cut |= look_closer(o, s);
	}
	return cut;
}
