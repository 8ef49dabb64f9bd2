/*
 * A flight's rounds of transform and cipher on the way out (struct xf_way_ops), one for each SA of
 * the bundles, and the wire. The last stage of a batch; what waits for a cipher, or is held, goes
 * on from here (engine.c).
 */
#include "path/out.h"
#include "sad/use.h"

/* The operations of this round, in the order of their packets. What was shaped begins where it came
 * from, its parse is known; all others begin with their first SAs, and pay for none of it. */
XF_INLINE unsigned collect(struct xf_out *o, struct xf_flight *f, struct xf_transform_op **ops,
			   bool shaped)
{
	bool parsed = f->round == 0;
	unsigned n = 0;

	for (unsigned i = 0; i < f->n; i++) {
		struct xf_slot *s = &f->slots[i];
		unsigned at = f->round + (shaped ? s->first : 0);

		if (!s->pkt || s->depth <= at)
			continue;
		if (!parsed && xf_ip_parse(s->pkt, false, &s->ip) < 0) {
			xf_slot_drop(o->worker, s, XF_DROP_OUT_ERROR, s->bundle[at]);
			continue;
		}
		xf_path_op(&f->ops[i], s, s->bundle[at]);
		ops[n++] = &f->ops[i];
	}
	return n;
}

static unsigned collect_round(struct xf_out *o, struct xf_flight *f, struct xf_transform_op **ops)
{
	unsigned n;

	if (f->round >= f->ahead)
		return 0;
	n = XF_LIKELY(!f->shaped) ? collect(o, f, ops, false) : collect(o, f, ops, true);
	return n ? xf_path_begin_round(f, true, ops, n) : 0;
}

static void begin(void *arg, struct xf_flight *f)
{
	struct xf_transform_op *ops[XF_BATCH];
	struct xf_out *o = arg;
	unsigned n = collect_round(o, f, ops);

	if (n == 0)
		return;
	xf_path_transform(f, XF_OUT_PREPARE, ops, n, o->now_ns);
	for (unsigned i = 0; i < n; i++) {
		if (ops[i]->drop == XF_PASS)
			f->round_ops[f->nops++] = ops[i];
		else
			xf_slot_drop(o->worker, &f->slots[ops[i] - f->ops], ops[i]->drop,
				     ops[i]->sa);
	}
	if (o->worker->ordered)
		xf_order_begin(f);
}

static void finish(void *arg, struct xf_flight *f)
{
	struct xf_out *o = arg;
	unsigned dropped = xf_path_transform(f, XF_OUT_FINISH, f->round_ops, f->nops, o->now_ns);

	for (unsigned i = 0; dropped > 0; i++) {
		struct xf_transform_op *op = f->round_ops[i];

		if (op->drop == XF_PASS)
			continue;
		xf_slot_drop(o->worker, &f->slots[op - f->ops], op->drop, op->sa);
		dropped--;
	}
}

/* The path has become narrower than the bundle's MTU said, or the packet may be cut outside. */
static void send_cut(struct xf_out *o, struct xf_slot *s, uint32_t mtu, struct xf_pktq *wire)
{
	enum xf_drop err = XF_DROP_OUT_ERROR;

	if (xf_ip_parse(s->pkt, false, &s->ip) == 0)
		err = xf_frag_cut(s->pkt, &s->ip, mtu, o->worker->ident++, wire);
	if (err != XF_PASS)
		xf_slot_drop(o->worker, s, err, s->bundle[s->depth - 1]);
	s->pkt = NULL;
}

static void emit(void *arg, struct xf_flight *f)
{
	struct xf_out *o = arg;
	struct xf_sa *last = NULL;
	uint32_t mtu = 0;
	unsigned packets = 0;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < f->n; i++) {
		struct xf_slot *s = &f->slots[i];
		struct xf_pktq *wire = &o->res->wire;

		if (!s->pkt)
			continue;
		if (o->worker->ordered)
			wire = &s->group->packets;
		if (s->bundle[s->depth - 1] != last) {
			last = s->bundle[s->depth - 1];
			mtu = xf_sa_outer_mtu(last, o->now_ns);
		}
		packets++;
		bytes += s->inner_len;
		if (XF_LIKELY(s->pkt->len <= mtu))
			xf_pktq_push(wire, s->pkt);
		else
			send_cut(o, s, mtu, wire);
	}
	if (o->worker->ordered)
		xf_order_emit(f, o->res);
	xf_count(&o->worker->count.out_packets, packets);
	xf_count(&o->worker->count.out_bytes, bytes);
	if (XF_UNLIKELY(f->aside))
		xf_shape_flight(f, &xf_out_shape_way, o, o->now_ns);
}

static const struct xf_way_ops way_ops = { .begin = begin, .finish = finish, .emit = emit };

void xf_out_go(struct xf_out *o, struct xf_flight *f)
{
	xf_flight_go(&o->worker->out, f, &way_ops, o);
}

void xf_path_out_resume(struct xf_worker *worker, uint64_t now_ns, struct xf_path_result *res)
{
	struct xf_out o = { .worker = worker, .res = res, .now_ns = now_ns };

	xf_way_resume(&worker->out, &way_ops, &o);
}

uint64_t xf_path_out_tick(struct xf_worker *worker, uint64_t now_ns, struct xf_path_result *res)
{
	struct xf_out o = { .worker = worker, .res = res, .now_ns = now_ns };

	return xf_shape_tick(worker, &xf_out_shape_way, &o, now_ns);
}
