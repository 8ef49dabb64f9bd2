/*
 * The end of the way in: what passed is joined to super-packets, or cut as it was, and delivered
 * when it is its batch's turn. Called by in_flight.c, and by in.c at the end of a batch.
 */
#include "path/in.h"

/* Where what is delivered of @f goes: with its batch, when that has a turn. */
static struct xf_pktq *exit_of(const struct xf_in *in, const struct xf_flight *f)
{
	return f->batch ? &f->batch->packets : &in->res->deliver;
}

static void deliver(struct xf_in *in, struct xf_pkt *pkt, const struct xf_ip_info *ip,
		    struct xf_pktq *to)
{
	struct xf_worker *w = in->worker;

	if (w->gro)
		xf_gro_push(w->gro, pkt, ip, to);
	else
		xf_pktq_push(to, pkt);
}

/*
 * A datagram that was put together for its ports goes on as it came: in fragments no larger than
 * its largest one. Whole, a router may not cut it any more (IPv6, and DF of IPv4). Linux remembers
 * that size with the packet (frag_max_size); a TUN has no word for it. What is for this host stays
 * whole.
 */
static enum xf_drop deliver_cut(struct xf_in *in, struct xf_slot *s, struct xf_pktq *to)
{
	struct xf_pktq pieces = { .count = 0 };
	struct xf_pkt *pkt;
	struct xf_ip_info ip;

	if (xf_frag_cut(s->pkt, &s->ip, s->pkt->mtu, in->worker->ident++, &pieces) != XF_PASS)
		return XF_DROP_IN_BUFFER;
	while ((pkt = xf_pktq_pop(&pieces))) {
		if (xf_ip_parse(pkt, false, &ip) < 0)
			xf_path_drop(in->worker, pkt, XF_DROP_FRAG_HDR, NULL);
		else
			deliver(in, pkt, &ip, to);
	}
	return XF_PASS;
}

/* Was @s put together here, and is it to be sent on? */
static bool is_to_be_cut(const struct xf_in *in, const struct xf_slot *s)
{
	const struct xf_env *env = &in->worker->engine->env;

	return XF_UNLIKELY(s->pkt->mtu) && !env->is_local(env->arg, &s->ip.daddr, s->ip.family);
}

void xf_in_deliver(struct xf_in *in, struct xf_flight *f)
{
	struct xf_pktq *to = exit_of(in, f);
	unsigned packets = 0;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < f->n; i++) {
		struct xf_slot *s = &f->slots[i];
		uint32_t len;

		if (!s->pkt)
			continue;
		len = s->ip.total_len;
		if (XF_LIKELY(s->err == XF_PASS) && is_to_be_cut(in, s))
			s->err = (uint8_t)deliver_cut(in, s, to);
		else if (XF_LIKELY(s->err == XF_PASS))
			deliver(in, s->pkt, &s->ip, to);
		if (XF_UNLIKELY(s->err != XF_PASS)) {
			xf_slot_drop(in->worker, s, (enum xf_drop)s->err, s->bundle[0]);
			continue;
		}
		s->pkt = NULL;
		packets++;
		bytes += len;
	}
	xf_count(&in->worker->count.in_packets, packets);
	xf_count(&in->worker->count.in_bytes, bytes);
}

void xf_in_flush(struct xf_in *in, struct xf_pktq *to)
{
	struct xf_worker *w = in->worker;
	struct xf_gro_stats stats;

	if (!w->gro)
		return;
	xf_gro_flush(w->gro, to);
	xf_gro_get_stats(w->gro, &stats);
	atomic_store_explicit(&w->count.gro_supers, stats.supers, memory_order_relaxed);
	atomic_store_explicit(&w->count.gro_joined, stats.joined, memory_order_relaxed);
}

void xf_in_part_done(struct xf_in *in, struct xf_group *batch)
{
	if (--batch->parts > 0)
		return;
	xf_in_flush(in, &batch->packets);
	xf_group_enter(batch, in->res);
}
