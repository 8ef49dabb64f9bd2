/*
 * The way in: parse, find the SA, check, decrypt, decapsulate, as often as SAs are nested; then
 * the policies, then delivery. A batch goes stage by stage.
 */
#include "path/worker.h"
#include "sad/transform.h"

static const struct xf_shape_way shape_way;

struct in {
	struct xf_worker *worker;
	struct xf_path_result *res;
	uint64_t now_ns;
	struct xf_flight *filling; /* takes what was shaped */
	struct xf_group *batch; /* that it is a part of, or NULL */
};

static enum xf_drop find_spi(struct xf_flight *f, struct xf_slot *s)
{
	enum xf_drop err = xf_spi_find(s->pkt, &s->ip, &s->spi);

	s->has_spi = err == XF_PASS;
	f->ahead += s->has_spi;
	return err;
}

static void parse_outer(struct in *in, struct xf_flight *f, struct xf_slot *s)
{
	enum xf_drop err;

	if (xf_ip_parse(s->pkt, !s->pkt->hdr_checked, &s->ip) < 0) {
		xf_slot_drop(in->worker, s, XF_DROP_IN_HDR, NULL);
		return;
	}
	xf_pkt_trim_back(s->pkt, s->pkt->len - s->ip.total_len);
	s->pkt->family = s->ip.family;
	if (s->ip.is_frag)
		xf_path_reassemble(in->worker, in->worker->frags_in, s, in->now_ns);
	if (!s->pkt)
		return;
	if (s->ip.proto == XF_IPPROTO_ICMP || s->ip.proto == XF_IPPROTO_ICMPV6) {
		xf_path_icmp(in->worker, s, in->now_ns);
		return;
	}
	err = find_spi(f, s);
	if (err != XF_PASS)
		xf_slot_drop(in->worker, s, err, NULL);
}

/* Is @s for the same SA as @before, as mostly? */
static bool same_sa(const struct xf_slot *s, const struct xf_slot *before)
{
	return before && s->spi.spi == before->spi.spi && s->spi.proto == before->spi.proto &&
	       s->pkt->mark == before->pkt->mark && s->ip.family == before->ip.family &&
	       xf_addr_equal(&s->ip.daddr, &before->ip.daddr, s->ip.family);
}

/* The SAs of those slots that @leads names, in one batch. */
static void find_leads(struct in *in, struct xf_flight *f, const uint8_t *leads, unsigned n)
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
static unsigned find_sas(struct in *in, struct xf_flight *f, uint8_t *slots)
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
static void look_inside(struct in *in, struct xf_flight *f, struct xf_slot *s)
{
	const struct xf_env *env = &in->worker->engine->env;

	s->has_spi = false;
	s->pkt->encap_sport = 0;
	s->pkt->encap_dport = 0;
	if (xf_spi_is_there(s->ip.proto) && !s->ip.is_frag &&
	    env->is_local(env->arg, &s->ip.daddr, s->ip.family)) {
		enum xf_drop err = find_spi(f, s);

		if (err != XF_PASS)
			xf_slot_drop(in->worker, s, err, s->bundle[0]);
	}
}

/* --- A flight: one header off every slot that has one (struct xf_way_ops) --- */

static enum xf_drop check(const struct xf_slot *s)
{
	if (!s->bundle[0])
		return XF_DROP_IN_NO_STATES;
	return s->pkt->sp_len == XF_MAX_DEPTH ? XF_DROP_IN_BUFFER : XF_PASS;
}

/* The operations of this round, in the order of their packets. */
static unsigned collect(struct in *in, struct xf_flight *f, struct xf_transform_op **ops)
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
	struct in *in = arg;
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

static void leave(struct in *in, struct xf_flight *f, const struct xf_transform_op *op)
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
	struct in *in = arg;

	xf_path_transform(f, XF_IN_FINISH, f->round_ops, f->nops, in->now_ns);
	for (unsigned i = 0; i < f->nops; i++)
		leave(in, f, f->round_ops[i]);
}

/*
 * The SAs that a fragment came through, as a number: fragments of one datagram must have come the
 * same way, or clear text could be mixed into what a peer has protected.
 */
static uint64_t realm_of(const struct xf_pkt *pkt)
{
	uint64_t realm = pkt->sp_len;

	for (unsigned i = 0; i < pkt->sp_len; i++) {
		const struct xf_sa_id *id = &xf_sa_cfg(pkt->sp[i])->id;

		realm = (realm ^ id->spi ^ id->daddr.quad[0] ^ id->daddr.quad[1]) *
			0x9e3779b97f4a7c15ull;
		realm ^= realm >> 32;
	}
	return realm;
}

/*
 * A fragment from inside a tunnel is put together first where a policy could want ports. The
 * whole datagram has the SAs of the fragment that came last: no fragment that waits keeps any.
 */
static void make_whole(struct in *in, struct xf_slot *s, struct xf_flow *flow)
{
	struct xf_pkt *last = s->pkt;
	struct xf_sa *sp[XF_MAX_DEPTH];
	uint8_t sp_len = last->sp_len;

	memcpy(sp, last->sp, sizeof(sp));
	last->realm = realm_of(last);
	last->sp_len = 0;
	xf_path_reassemble(in->worker, in->worker->frags_inner, s, in->now_ns);
	if (!s->pkt)
		return;
	memcpy(s->pkt->sp, sp, sizeof(sp));
	s->pkt->sp_len = sp_len;
	xf_ip_flow(s->pkt, &s->ip, false, flow);
}

/*
 * Of policies, which direction is asked about @s? XF_DIR_MAX: none, for the device that @s came in
 * by does not forward. Linux sees that when it looks for a route, before it asks a policy fwd.
 */
static enum xf_policy_dir direction(const struct in *in, const struct xf_slot *s)
{
	const struct xf_env *env = &in->worker->engine->env;
	const union xf_addr *daddr = &s->ip.daddr;
	uint16_t family = s->ip.family;

	if (env->is_local(env->arg, daddr, family))
		return XF_DIR_IN;
	if (env->may_forward && !env->may_forward(env->arg, daddr, family, s->pkt->iif))
		return XF_DIR_MAX;
	return XF_DIR_FWD;
}

/* The flow of @s, whole where a policy could want ports. False: it waits for its other parts. */
static bool ask(struct in *in, struct xf_slot *s, enum xf_policy_dir dir, struct xf_asked *asked)
{
	struct xf_flow *flow = &asked->flows[asked->n];

	xf_ip_flow(s->pkt, &s->ip, false, flow);
	if (s->ip.is_frag && xf_spd_wants_whole(in->worker->engine->spd, dir, flow))
		make_whole(in, s, flow);
	if (!s->pkt)
		return false;
	asked->lens[asked->n] = s->pkt->len;
	asked->slots[asked->n++] = s;
	return true;
}

static bool same_path(const struct xf_pkt *a, const struct xf_pkt *b)
{
	if (a->sp_len != b->sp_len)
		return false;
	for (unsigned i = 0; i < a->sp_len; i++)
		if (a->sp[i] != b->sp[i])
			return false;
	return true;
}

/* Do SAs that @pkt came through have selectors of their own? */
static bool has_selectors(const struct xf_pkt *pkt)
{
	bool any = false;

	for (unsigned i = 0; i < pkt->sp_len; i++)
		any |= xf_sa_brief(pkt->sp[i]).what & XF_FORM_SELECTS;
	return any;
}

static enum xf_drop verdict(const struct xf_asked *asked, unsigned i)
{
	const struct xf_pkt *pkt = asked->slots[i]->pkt;
	enum xf_drop err = XF_PASS;

	if (XF_UNLIKELY(has_selectors(pkt)))
		err = xf_path_check_selectors(pkt, &asked->flows[i]);
	return err == XF_PASS ? xf_path_check_policy(pkt, asked->policies[i]) : err;
}

/* Is the verdict on packet @i that on the one before? It depends on SAs and policy alone, where
 * the SAs have no selectors. */
static bool as_before(const struct xf_asked *asked, unsigned i)
{
	return i > 0 && same_path(asked->slots[i]->pkt, asked->slots[i - 1]->pkt) &&
	       xf_path_same_wants(asked->policies[i], asked->policies[i - 1]);
}

/* Where what is delivered of @f goes: with its batch, when that has a turn. */
static struct xf_pktq *exit_of(const struct in *in, const struct xf_flight *f)
{
	return f->batch ? &f->batch->packets : &in->res->deliver;
}

static void deliver(struct in *in, struct xf_pkt *pkt, const struct xf_ip_info *ip,
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
static enum xf_drop deliver_cut(struct in *in, struct xf_slot *s, struct xf_pktq *to)
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

/* What the policies of one direction say of the packets that they are asked about. */
static void judge(struct in *in, enum xf_policy_dir dir)
{
	struct xf_asked *asked = &in->worker->asked[dir];
	enum xf_drop last = XF_PASS;
	bool selectors = false;

	if (asked->n == 0)
		return;
	xf_spd_lookup_to_use(in->worker->engine->spd, dir, asked->flows, asked->n, asked->policies);
	xf_path_count_policies(in->worker, asked->policies, asked->lens, asked->n, in->now_ns);
	for (unsigned i = 0; i < asked->n; i++) {
		struct xf_slot *s = asked->slots[i];

		if (selectors || !as_before(asked, i)) {
			last = verdict(asked, i);
			selectors = has_selectors(s->pkt);
		}
		s->err = (uint8_t)last;
		if (XF_UNLIKELY(last != XF_PASS) && xf_path_is_icmp(&s->ip))
			s->err = (uint8_t)xf_path_check_icmp(in->worker, dir, s, &asked->flows[i],
							     asked->policies[i]);
	}
}

/* Nothing is held over the end of a call, or of a batch: what is joined came together. */
static void flush(struct in *in, struct xf_pktq *to)
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

/* One part of the batch less to wait for; with the last one it is complete. */
static void part_done(struct in *in, struct xf_group *batch)
{
	if (--batch->parts > 0)
		return;
	flush(in, &batch->packets);
	xf_group_enter(batch, in->res);
}

/* Is no policy asked about it? Linux asks nothing of its SAs then, either. */
static bool is_exempt(const struct in *in, const struct xf_slot *s)
{
	const struct xf_env *env = &in->worker->engine->env;

	return env->is_exempt && env->is_exempt(env->arg, &s->ip.daddr, s->ip.family, s->pkt->iif);
}

/* What the environment says of a packet, by where it goes and by which device it came. */
struct place {
	enum xf_policy_dir dir;
	bool exempt;
};

/* Neighbours mostly go to the same one: who has @last is @before, or NULL. */
static struct place place_of(const struct in *in, const struct xf_slot *s,
			     const struct xf_slot *before, struct place last)
{
	if (before && s->ip.family == before->ip.family && s->pkt->iif == before->pkt->iif &&
	    xf_addr_equal(&s->ip.daddr, &before->ip.daddr, s->ip.family))
		return last;
	return (struct place){ direction(in, s), is_exempt(in, s) };
}

/* Sort the packets by the direction of the policies that are to be asked about them. */
static void ask_all(struct in *in, struct xf_flight *f)
{
	struct place last = { XF_DIR_IN, false };
	const struct xf_slot *before = NULL;

	in->worker->asked[XF_DIR_IN].n = 0;
	in->worker->asked[XF_DIR_FWD].n = 0;
	for (unsigned i = 0; i < f->n; i++) {
		struct xf_slot *s = &f->slots[i];
		struct place place;

		if (!s->pkt)
			continue;
		place = place_of(in, s, before, last);
		if (XF_UNLIKELY(place.dir == XF_DIR_MAX)) {
			xf_slot_drop(in->worker, s, XF_DROP_IN_NOT_FORWARDED, s->bundle[0]);
			continue;
		}
		s->err = XF_PASS;
		if (!place.exempt && !ask(in, s, place.dir, &in->worker->asked[place.dir]))
			continue;
		before = s;
		last = place;
	}
}

/* Was @s put together here, and is it to be sent on? */
static bool is_to_be_cut(const struct in *in, const struct xf_slot *s)
{
	const struct xf_env *env = &in->worker->engine->env;

	return XF_UNLIKELY(s->pkt->mtu) && !env->is_local(env->arg, &s->ip.daddr, s->ip.family);
}

/* What passes goes on its way, in the order in which it came. */
static void deliver_all(struct in *in, struct xf_flight *f)
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

static void emit(void *arg, struct xf_flight *f)
{
	struct in *in = arg;

	ask_all(in, f);
	judge(in, XF_DIR_IN);
	judge(in, XF_DIR_FWD);
	deliver_all(in, f);
	in->batch = f->batch;
	if (XF_UNLIKELY(f->aside))
		xf_shape_flight(f, &shape_way, in, in->now_ns);
	if (f->batch)
		part_done(in, f->batch);
}

static const struct xf_way_ops way_ops = { .begin = begin, .finish = finish, .emit = emit };

/* @f, a part of @batch or NULL. */
static void go(struct in *in, struct xf_flight *f, struct xf_group *batch)
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
	struct in *in = arg;
	struct xf_flight *f = in->filling;

	in->filling = NULL;
	if (f)
		go(in, f, in->batch);
}

static void add_shaped(void *arg, const struct xf_origin *origin, struct xf_pkt *pkt,
		       const struct xf_ip_info *ip)
{
	struct in *in = arg;
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

static struct xf_group *open_batch(struct xf_worker *worker, const struct xf_path_ticket *ticket)
{
	struct xf_group *batch;

	/* At once, but for a caller who went on though the worker is busy. */
	while (!(batch = xf_group_get(worker)))
		xf_order_take_back(worker);
	batch->turn = ticket->turn;
	batch->ticket.first = ticket->number;
	batch->ticket.end = ticket->number + 1;
	batch->exit = XF_EXIT_DELIVER;
	worker->batches++;
	batch->parts = 1; /* while more may come */
	return batch;
}

void xf_path_in_ordered(struct xf_worker *worker, struct xf_pktq *packets,
			const struct xf_path_ticket *ticket, uint64_t now_ns,
			struct xf_path_result *res)
{
	struct in in = { .worker = worker, .res = res, .now_ns = now_ns };
	struct xf_group *batch;

	xf_order_take_back(worker);
	xf_read_begin();
	batch = ticket ? open_batch(worker, ticket) : NULL;
	while (packets->count) {
		struct xf_flight *f = xf_flight_get(worker);

		if (!f) {
			xf_path_drop(worker, xf_pktq_pop(packets), XF_DROP_IN_BUFFER, NULL);
			continue;
		}
		while (f->n < XF_BATCH && packets->count)
			parse_outer(&in, f, xf_flight_add(f, xf_pktq_pop(packets)));
		go(&in, f, batch);
	}
	if (batch)
		part_done(&in, batch);
	else
		flush(&in, &res->deliver);
	xf_read_end();
	xf_path_end(worker);
}

void xf_path_in(struct xf_worker *worker, struct xf_pktq *packets, uint64_t now_ns,
		struct xf_path_result *res)
{
	xf_path_in_ordered(worker, packets, NULL, now_ns, res);
}

void xf_path_in_resume(struct xf_worker *worker, uint64_t now_ns, struct xf_path_result *res)
{
	struct in in = { .worker = worker, .res = res, .now_ns = now_ns };

	xf_way_resume(&worker->in, &way_ops, &in);
	flush(&in, &res->deliver);
}

uint64_t xf_path_in_tick(struct xf_worker *worker, uint64_t now_ns, struct xf_path_result *res)
{
	struct in in = { .worker = worker, .res = res, .now_ns = now_ns };
	uint64_t next = xf_shape_tick(worker, &shape_way, &in, now_ns);

	flush(&in, &res->deliver);
	return next;
}
