/*
 * Captured packets that leave as they are: no policy wants them (clear), or the host's NAT is to be
 * asked first (ask). Called by out_policy.c.
 */
#include <xf/gso.h>

#include "path/out.h"

/* It leaves as it is, to @to, but for super-packets, which no raw socket takes. */
static void send_unchanged(struct xf_out *o, struct xf_slot *s, struct xf_pktq *to)
{
	struct xf_gso_cut cut;
	struct xf_pkt *pkt;

	s->pkt->local = xf_out_is_local(o, s);
	if (!s->pkt->gso_type) {
		if (xf_gso_complete_csum(s->pkt) < 0) {
			xf_slot_drop(o->worker, s, XF_DROP_OUT_HDR, NULL);
			return;
		}
		xf_pktq_push(to, s->pkt);
		s->pkt = NULL;
		return;
	}
	if (xf_gso_begin(&cut, s->pkt, &s->ip) < 0) {
		xf_slot_drop(o->worker, s, XF_DROP_OUT_HDR, NULL);
		return;
	}
	while ((pkt = xf_gso_next(&cut)))
		xf_pktq_push(to, pkt);
	xf_count(&o->worker->count.drops[XF_DROP_OUT_NO_BUFFER], cut.left);
	xf_pkt_free(s->pkt);
	s->pkt = NULL;
}

void xf_out_send_clear(struct xf_out *o, struct xf_slot *s)
{
	struct xf_pktq *clear = &o->res->clear;
	uint32_t before = clear->count;

	send_unchanged(o, s, clear);
	xf_count(&o->worker->count.clear_packets, clear->count - before);
}

void xf_out_send_ask(struct xf_out *o, struct xf_slot *s)
{
	send_unchanged(o, s, &o->res->ask);
}
