/*
 * What comes out of a packet, cut or shaped, takes over what was found out about it. Super-packets
 * and what is too long are cut here, called by out.c; transforms give back by xf_out_shape_way.
 */
#include <xf/gso.h>

#include "path/out.h"

/* What goes may lead to other flights, so it is not the one that is being filled any more. */
static void go_filled(struct xf_out *o)
{
	struct xf_flight *f = o->filling;

	o->filling = NULL;
	if (f)
		xf_out_go(o, f);
}

/* A slot for @pkt, whose parse is @ip, for the @depth SAs of @bundle; NULL: it was dropped. */
static struct xf_slot *begin_piece(struct xf_out *o, struct xf_sa *const *bundle, uint8_t depth,
				   struct xf_pkt *pkt, const struct xf_ip_info *ip)
{
	struct xf_slot *s;

	if (!o->filling)
		o->filling = xf_flight_get(o->worker);
	if (!o->filling) {
		xf_path_drop(o->worker, pkt, XF_DROP_OUT_NO_BUFFER, bundle[0]);
		return NULL;
	}
	s = xf_flight_add(o->filling, pkt);
	memcpy(s->bundle, bundle, depth * sizeof(bundle[0]));
	s->depth = depth;
	s->ip = *ip;
	s->inner_len = ip->total_len;
	if (o->filling->ahead < s->depth)
		o->filling->ahead = s->depth;
	return s;
}

static void end_piece(struct xf_out *o)
{
	if (o->filling->n == XF_BATCH)
		go_filled(o);
}

static void shape_origin(const struct xf_flight *f, unsigned slot, struct xf_origin *origin)
{
	const struct xf_slot *s = &f->slots[slot];

	origin->sa = s->bundle[s->first];
	memcpy(origin->sas, s->bundle, s->depth * sizeof(s->bundle[0]));
	origin->n = s->depth;
	origin->round = s->first;
}

static void add_shaped(void *arg, const struct xf_origin *origin, struct xf_pkt *pkt,
		       const struct xf_ip_info *ip)
{
	struct xf_out *o = arg;
	struct xf_slot *s = begin_piece(o, origin->sas, origin->n, pkt, ip);

	if (!s)
		return;
	s->first = origin->round;
	o->filling->shaped = true;
	end_piece(o);
}

static void reserve_shaped(void *arg, unsigned n)
{
	struct xf_out *o = arg;

	if (o->filling && o->filling->n + n > XF_BATCH)
		go_filled(o);
}

static void go_shaped(void *arg)
{
	go_filled(arg);
}

const struct xf_shape_way xf_out_shape_way = { .out = true,
					       .origin = shape_origin,
					       .add = add_shaped,
					       .reserve = reserve_shaped,
					       .go = go_shaped };

static void add_piece(struct xf_out *o, const struct xf_slot *whole, struct xf_pkt *pkt,
		      const struct xf_ip_info *ip)
{
	if (begin_piece(o, whole->bundle, whole->depth, pkt, ip))
		end_piece(o);
}

/*
 * One of a super-packet's, of whose parse only the length is another from here on. It is written
 * behind the copy: a copy of what was just written would wait until that, and the payload that was
 * copied before it, are in the cache.
 */
static void add_segment(struct xf_out *o, const struct xf_slot *whole, struct xf_pkt *pkt)
{
	struct xf_slot *s = begin_piece(o, whole->bundle, whole->depth, pkt, &whole->ip);

	if (!s)
		return;
	s->ip.total_len = s->inner_len = pkt->len;
	end_piece(o);
}

/* The fragments of @pkt, one of the packets of @whole. */
static void add_fragments(struct xf_out *o, const struct xf_slot *whole, struct xf_pkt *pkt,
			  const struct xf_ip_info *ip)
{
	uint32_t mtu = pkt->mtu ? xf_min_u32(pkt->mtu, whole->mtu) : whole->mtu;
	struct xf_pktq pieces = { .count = 0 };
	enum xf_drop err = xf_frag_cut(pkt, ip, mtu, o->worker->ident++, &pieces);

	if (err != XF_PASS)
		xf_path_drop(o->worker, pkt, err, whole->bundle[0]);
	while ((pkt = xf_pktq_pop(&pieces))) {
		struct xf_ip_info info;

		if (xf_ip_parse(pkt, false, &info) < 0)
			xf_path_drop(o->worker, pkt, XF_DROP_OUT_HDR, whole->bundle[0]);
		else
			add_piece(o, whole, pkt, &info);
	}
}

static void add_packet(struct xf_out *o, const struct xf_slot *whole, struct xf_pkt *pkt,
		       const struct xf_ip_info *ip)
{
	if (whole->cut == XF_OUT_CUT_INNER && ip->total_len > whole->mtu)
		add_fragments(o, whole, pkt, ip);
	else
		add_piece(o, whole, pkt, ip);
}

static void add_packets(struct xf_out *o, struct xf_slot *s)
{
	struct xf_ip_info ip = s->ip;
	struct xf_gso_cut cut;
	struct xf_pkt *pkt;

	if (xf_gso_begin(&cut, s->pkt, &s->ip) < 0) {
		xf_slot_drop(o->worker, s, XF_DROP_OUT_HDR, s->bundle[0]);
		return;
	}
	while ((pkt = xf_gso_next(&cut))) {
		ip.total_len = pkt->len;
		if (s->cut == XF_OUT_CUT_INNER)
			add_packet(o, s, pkt, &ip);
		else
			add_segment(o, s, pkt);
		ip.frag_id++;
	}
	/* Without buffers the rest is lost, and counted. */
	xf_count(&o->worker->count.drops[XF_DROP_OUT_NO_BUFFER], cut.left);
	xf_pkt_free(s->pkt);
	s->pkt = NULL;
}

/* The packets of @f, in their order, to flights of their own. */
void xf_out_cut(struct xf_out *o, struct xf_flight *f)
{
	for (unsigned i = 0; i < f->n; i++) {
		struct xf_slot *s = &f->slots[i];

		if (s->pkt && s->pkt->gso_type)
			add_packets(o, s);
		else if (s->pkt)
			add_packet(o, s, s->pkt, &s->ip);
	}
	xf_flight_put(f);
	go_filled(o);
}
