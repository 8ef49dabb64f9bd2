/*
 * A flight's rounds on the way in (struct xf_way_ops): one header off every packet that has one, as
 * often as SAs are nested (RFC 4301 s5.2); then policies and delivery. What waits for a cipher, or
 * is held, goes on from here (engine.c).
 */
#include "path/in.h"
#include "sad/transform.h"

static const struct xf_shape_way shape_way;

/* Is @s for the same SA as @before, as mostly? */
static bool same_sa(const struct xf_slot *s, const struct xf_slot *before)
{
	return before && s->spi.spi == before->spi.spi && s->spi.proto == before->spi.proto &&
	       s->pkt->mark == before->pkt->mark && s->ip.family == before->ip.family &&
	       xf_addr_equal(&s->ip.daddr, &before->ip.daddr, s->ip.family);
}

/* The SAs of those slots that @leads names, in one batch. */
static void find_leads(struct xf_in *in, struct xf_flight *f, const uint8_t *leads, unsigned n)
{
	struct xf_sa_id ids[XF_BATCH];
	uint32_t marks[XF_BATCH];
	struct xf_sa *sas[XF_BATCH];

	for (unsigned i = 0; i < n; i++) {
		const struct xf_slot *s = &f->slots[leads[i]];

		ids[i] = (struct xf_sa_id){ .daddr = s->ip.daddr,
					    .spi = s->spi.spi,
					    .proto = s->spi.proto,
					    .family = s->ip.family };
		marks[i] = s->pkt->mark;
	}
	xf_sad_find_in_to_use(in->worker->engine->sad, ids, marks, n, sas);
	for (unsigned i = 0; i < n; i++)
		f->slots[leads[i]].bundle[0] = sas[i];
}

/* Which slots have a header to work on, and of these, which ask for the SA. */
static unsigned find_sas(struct xf_in *in, struct xf_flight *f, uint8_t *slots)
{
	const struct xf_slot *before = NULL;
	uint8_t leads[XF_BATCH];
	unsigned nleads = 0;
	unsigned n = 0;

	for (unsigned i = 0; i < f->n; i++) {
		struct xf_slot *s = &f->slots[i];

		s->depth = 0;
		if (!s->pkt || !s->has_spi)
			continue;
		slots[n++] = (uint8_t)i;
		if (same_sa(s, before)) {
			s->lead = before->lead;
		} else {
			s->lead = (uint8_t)i;
			leads[nleads++] = (uint8_t)i;
		}
		before = s;
	}
	if (nleads)
		find_leads(in, f, leads, nleads);
	return n;
}

/* After decapsulation @s->ip is the inner packet's: does that name an SA of this host again? */
static void look_inside(struct xf_in *in, struct xf_flight *f, struct xf_slot *s)
{
	const struct xf_env *env = &in->worker->engine->env;

	s->has_spi = false;
	s->pkt->encap_sport = 0;
	s->pkt->encap_dport = 0;
	if (xf_spi_is_there(s->ip.proto) && !s->ip.is_frag &&
	    env->is_local(env->arg, &s->ip.daddr, s->ip.family)) {
		enum xf_drop err = xf_in_find_spi(f, s);

		if (err != XF_PASS)
			xf_slot_drop(in->worker, s, err, s->bundle[0]);
	}
}

static enum xf_drop check(const struct xf_slot *s)
{
	if (!s->bundle[0])
		return XF_DROP_IN_NO_STATES;
	return s->pkt->sp_len == XF_MAX_DEPTH ? XF_DROP_IN_BUFFER : XF_PASS;
}

/* The operations of this round, in the order of their packets. */
static unsigned collect(struct xf_in *in, struct xf_flight *f, struct xf_transform_op **ops)
{
	uint8_t slots[XF_BATCH];
	unsigned found = find_sas(in, f, slots);
	unsigned n = 0;

	for (unsigned i = 0; i < found; i++) {
		struct xf_slot *s = &f->slots[slots[i]];
		struct xf_transform_op *op = &f->ops[slots[i]];
		enum xf_drop err;

		s->bundle[0] = f->slots[s->lead].bundle[0];
		err = check(s);
		if (XF_UNLIKELY(err != XF_PASS)) {
			xf_slot_drop(in->worker, s, err, s->bundle[0]);
			continue;
		}
		s->depth = 1;
		xf_path_op(op, s, s->bundle[0]);
		op->udp_len = s->spi.udp_len;
		ops[n++] = op;
	}
	return n;
}

static void begin(void *arg, struct xf_flight *f)
{
	struct xf_transform_op *ops[XF_BATCH];
	struct xf_in *in = arg;
	unsigned n;

	if (f->ahead == 0)
		return;
	f->ahead = 0;
	n = collect(in, f, ops);
	if (n == 0)
		return;
	xf_path_begin_round(f, false, ops, n);
	xf_path_transform(f, XF_IN_PREPARE, ops, n, in->now_ns);
	for (unsigned i = 0; i < n; i++) {
		if (ops[i]->drop == XF_PASS)
			f->round_ops[f->nops++] = ops[i];
		else
			xf_slot_drop(in->worker, &f->slots[ops[i] - f->ops], ops[i]->drop,
				     ops[i]->sa);
	}
}

static void leave(struct xf_in *in, struct xf_flight *f, const struct xf_transform_op *op)
{
	struct xf_slot *s = &f->slots[op - f->ops];

	if (op->drop != XF_PASS) {
		xf_slot_drop(in->worker, s, op->drop, op->sa);
		return;
	}
	s->pkt->sp[s->pkt->sp_len++] = op->sa;
	s->pkt->mtu = 0; /* that was said of the outer packet's fragments */
	if (XF_UNLIKELY(f->transforms & in->worker->shape_in) && xf_transform_of(op->sa)->in_shape)
		xf_path_set_aside(f, s);
	else
		look_inside(in, f, s);
}

static void finish(void *arg, struct xf_flight *f)
{
	struct xf_in *in = arg;

	xf_path_transform(f, XF_IN_FINISH, f->round_ops, f->nops, in->now_ns);
	for (unsigned i = 0; i < f->nops; i++)
		leave(in, f, f->round_ops[i]);
}

static void emit(void *arg, struct xf_flight *f)
{
	struct xf_in *in = arg;

	xf_in_ask_policies(in, f);
	xf_in_deliver(in, f);
	in->batch = f->batch;
	if (XF_UNLIKELY(f->aside))
		xf_shape_flight(f, &shape_way, in, in->now_ns);
	if (f->batch)
		xf_in_part_done(in, f->batch);
}

static const struct xf_way_ops way_ops = { .begin = begin, .finish = finish, .emit = emit };

void xf_in_go(struct xf_in *in, struct xf_flight *f, struct xf_group *batch)
{
	f->batch = batch;
	if (batch)
		batch->parts++;
	xf_flight_go(&in->worker->in, f, &way_ops, in);
}

static void shape_origin(const struct xf_flight *f, unsigned slot, struct xf_origin *origin)
{
	const struct xf_pkt *pkt = f->ops[slot].pkt;

	origin->sa = pkt->sp[pkt->sp_len - 1];
	memcpy(origin->sas, pkt->sp, pkt->sp_len * sizeof(pkt->sp[0]));
	origin->n = pkt->sp_len;
	origin->round = 0;
}

/* What goes may lead to other flights, so it is not the one that is being filled any more. */
static void go_filled(void *arg)
{
	struct xf_in *in = arg;
	struct xf_flight *f = in->filling;

	in->filling = NULL;
	if (f)
		xf_in_go(in, f, in->batch);
}

static void add_shaped(void *arg, const struct xf_origin *origin, struct xf_pkt *pkt,
		       const struct xf_ip_info *ip)
{
	struct xf_in *in = arg;
	struct xf_slot *s;

	if (!in->filling)
		in->filling = xf_flight_get(in->worker);
	if (!in->filling) {
		xf_path_drop(in->worker, pkt, XF_DROP_IN_BUFFER, origin->sa);
		return;
	}
	s = xf_flight_add(in->filling, pkt);
	s->bundle[0] = origin->sa;
	s->ip = *ip;
	pkt->family = ip->family;
	pkt->mtu = 0;
	memcpy(pkt->sp, origin->sas, origin->n * sizeof(origin->sas[0]));
	pkt->sp_len = origin->n;
	look_inside(in, in->filling, s);
	if (in->filling->n == XF_BATCH)
		go_filled(in);
}

static const struct xf_shape_way shape_way = {
	.out = false, .origin = shape_origin, .add = add_shaped, .go = go_filled
};

void xf_path_in_resume(struct xf_worker *worker, uint64_t now_ns, struct xf_path_result *res)
{
	struct xf_in in = { .worker = worker, .res = res, .now_ns = now_ns };

	xf_way_resume(&worker->in, &way_ops, &in);
	xf_in_flush(&in, &res->deliver);
}

uint64_t xf_path_in_tick(struct xf_worker *worker, uint64_t now_ns, struct xf_path_result *res)
{
	struct xf_in in = { .worker = worker, .res = res, .now_ns = now_ns };
	uint64_t next = xf_shape_tick(worker, &shape_way, &in, now_ns);

	xf_in_flush(&in, &res->deliver);
	return next;
}
