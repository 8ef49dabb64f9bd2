/*
 * The way out: parse, look the policy up, find the bundle of SAs, see that it fits, cut
 * super-packets, transform and encrypt once for each SA, send. A batch goes stage by stage.
 *
 * A super-packet is parsed and looked up once; the packets that are cut from it take over what was
 * found out about it.
 */
#include <xf/gso.h>

#include "path/worker.h"
#include "proto/mss.h"
#include "sad/use.h"

/* What to do with a packet before it is encapsulated. */
enum fit { FITS, CUT_OUTER, CUT_INNER, REFUSE };

static const struct xf_shape_way shape_way;

struct out {
	struct xf_worker *worker;
	struct xf_path_result *res;
	uint64_t now_ns;
	struct xf_flight *filling; /* takes what is cut from the packets of a batch */
};

/* Local packets say so themselves where I/O knows; else their source address does. */
static bool is_local(const struct out *o, const struct xf_slot *s)
{
	const struct xf_env *env = &o->worker->engine->env;

	return s->pkt->local || env->is_local(env->arg, &s->ip.saddr, s->ip.family);
}

/* Conntrack answers for a whole datagram, too. */
static bool is_wanted_whole(const struct out *o, const struct xf_slot *s,
			    const struct xf_flow *flow)
{
	return s->pkt->ask || xf_ip_frag_hides_proto(s->pkt, &s->ip) ||
	       xf_spd_wants_whole(o->worker->engine->spd, XF_DIR_OUT, flow);
}

static void parse(struct out *o, struct xf_slot *s, struct xf_flow *flow)
{
	if (xf_ip_parse(s->pkt, false, &s->ip) < 0) {
		xf_slot_drop(o->worker, s, XF_DROP_OUT_HDR, NULL);
		return;
	}
	xf_pkt_trim_back(s->pkt, s->pkt->len - s->ip.total_len);
	s->pkt->family = s->ip.family;
	xf_ip_flow(s->pkt, &s->ip, false, flow);
	if (!s->ip.is_frag || !is_wanted_whole(o, s, flow))
		return;
	xf_path_reassemble(o->worker, o->worker->frags_out, s, o->now_ns);
	if (s->pkt)
		xf_ip_flow(s->pkt, &s->ip, false, flow);
}

static void parse_all(struct out *o, struct xf_flight *f)
{
	struct xf_flow *flows = o->worker->flows;
	unsigned n = 0;

	for (unsigned i = 0; i < f->n; i++) {
		parse(o, &f->slots[i], &flows[n]);
		if (!f->slots[i].pkt)
			continue;
		if (n != i)
			f->slots[n] = f->slots[i];
		n++;
	}
	f->n = n;
}

/* It leaves as it is, to @to, but for super-packets, which no raw socket takes. */
static void send_unchanged(struct out *o, struct xf_slot *s, struct xf_pktq *to)
{
	struct xf_gso_cut cut;
	struct xf_pkt *pkt;

	s->pkt->local = is_local(o, s);
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

/* Nobody wants it protected: it leaves as it would have left without us. */
static void send_clear(struct out *o, struct xf_slot *s)
{
	struct xf_pktq *clear = &o->res->clear;
	uint32_t before = clear->count;

	send_unchanged(o, s, clear);
	xf_count(&o->worker->count.clear_packets, clear->count - before);
}

/* --- Bundles: one SA for each template --- */

static bool has_own_ends(const struct xf_tmpl *tmpl)
{
	return tmpl->mode == XF_MODE_TUNNEL || tmpl->mode == XF_MODE_BEET;
}

/* What the SAD is asked for the first template of @cfg. */
static struct xf_sad_query first_query(const struct xf_policy_config *cfg,
				       const struct xf_flow *flow, bool *by_flow)
{
	const struct xf_tmpl *tmpl = &cfg->tmpl[0];
	bool own = has_own_ends(tmpl);

	return (struct xf_sad_query){ .tmpl = tmpl,
				      .saddr = own ? &tmpl->saddr : &flow->saddr,
				      .daddr = own ? &tmpl->id.daddr : &flow->daddr,
				      .flow = flow,
				      .mark = cfg->mark.v & cfg->mark.m,
				      .if_id = cfg->if_id,
				      .by_flow = by_flow };
}

/*
 * One SA for each template, innermost first (the kernel's xfrm_tmpl_resolve_one()): a transport
 * template goes between the addresses of the one before it. Optional templates may have none, and
 * then the one behind them goes between what was before. @query was asked for the first template,
 * and @sa was found.
 */
static enum xf_drop find_bundle(struct out *o, const struct xf_policy_config *cfg,
				struct xf_sad_query query, struct xf_sa *sa, struct xf_slot *s)
{
	const union xf_addr *saddr = &query.flow->saddr;
	const union xf_addr *daddr = &query.flow->daddr;

	for (unsigned i = 0;;) {
		if (sa && xf_sa_form(sa)->what & XF_FORM_ONLY_IN)
			return XF_DROP_OUT_STATE_DIR;
		if (sa) {
			s->bundle[s->depth++] = sa;
			saddr = query.saddr;
			daddr = query.daddr;
		} else if (!query.tmpl->optional) {
			return XF_DROP_OUT_NO_STATES;
		}
		if (++i == cfg->ntmpl)
			return XF_PASS;
		query.tmpl++;
		query.saddr = has_own_ends(query.tmpl) ? &query.tmpl->saddr : saddr;
		query.daddr = has_own_ends(query.tmpl) ? &query.tmpl->id.daddr : daddr;
		*query.by_flow |= query.saddr == &query.flow->saddr;
		sa = xf_sad_find_out(o->worker->engine->sad, &query, NULL);
	}
}

static void take_bundle(struct out *o, struct xf_slot *s, const struct xf_policy_config *cfg,
			const struct xf_sad_query *query, struct xf_sa *sa)
{
	s->err = (uint8_t)find_bundle(o, cfg, *query, sa, s);
	if (s->err == XF_PASS && s->depth > 0)
		s->mtu = xf_path_bundle_mtu(s, o->now_ns);
}

/* Does @s, whose policy wants what that of the packet before it wants, find what that one finds,
 * but for selectors of SAs? Between a tunnel's own ends nothing else depends on the packet. */
static bool follows(const struct xf_slot *s, const struct xf_policy_config *cfg)
{
	return has_own_ends(&cfg->tmpl[0]) && s->ip.family == (s - 1)->ip.family;
}

static bool wants_bundle(const struct xf_policy *policy)
{
	return policy && xf_policy_cfg(policy)->action != XF_POLICY_BLOCK &&
	       xf_policy_cfg(policy)->ntmpl > 0;
}

/* Ask the SAD once for each run of packets that want the same, in one batch. */
static void find_bundles(struct out *o, struct xf_flight *f, struct xf_policy *const *policies)
{
	struct xf_sad_query *queries[XF_BATCH];
	struct xf_sa *sas[XF_BATCH];
	uint8_t slots[XF_BATCH];
	unsigned n = 0;

	for (unsigned i = 0; i < f->n; i++) {
		struct xf_slot *s = &f->slots[i];

		if (i > 0 && xf_path_same_wants(policies[i], policies[i - 1]) &&
		    wants_bundle(policies[i]) && follows(s, xf_policy_cfg(policies[i]))) {
			s->lead = (s - 1)->lead;
			continue;
		}
		s->lead = (uint8_t)i;
		s->err = XF_PASS;
		s->by_flow = false;
		if (!wants_bundle(policies[i]))
			continue;
		queries[n] = &o->worker->queries[i];
		*queries[n] =
			first_query(xf_policy_cfg(policies[i]), &o->worker->flows[i], &s->by_flow);
		slots[n++] = (uint8_t)i;
	}
	if (n == 0)
		return;
	xf_sad_find_out_to_use(o->worker->engine->sad, queries, n, sas);
	for (unsigned i = 0; i < n; i++)
		take_bundle(o, &f->slots[slots[i]], xf_policy_cfg(policies[slots[i]]), queries[i],
			    sas[i]);
}

/* What the slot that leads @s has found, or its own where selectors of SAs have a say. */
static enum xf_drop follow(struct out *o, struct xf_flight *f, struct xf_slot *s,
			   const struct xf_policy *policy)
{
	const struct xf_slot *lead = &f->slots[s->lead];

	if (XF_UNLIKELY(lead->by_flow)) {
		const struct xf_policy_config *cfg = xf_policy_cfg(policy);
		struct xf_sad_query query =
			first_query(cfg, &o->worker->flows[s - f->slots], &s->by_flow);

		take_bundle(o, s, cfg, &query,
			    xf_sad_find_out(o->worker->engine->sad, &query, NULL));
		return s->err;
	}
	for (unsigned k = 0; k < lead->depth; k++)
		s->bundle[k] = lead->bundle[k];
	s->depth = lead->depth;
	s->mtu = lead->mtu;
	return lead->err;
}

/* --- What the policy says --- */

static void refuse_too_big(struct out *o, struct xf_slot *s)
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
static bool may_cut_inner(const struct out *o, const struct xf_slot *s, uint32_t len)
{
	if (xf_sa_cfg(s->bundle[0])->mode != XF_MODE_TUNNEL)
		return false;
	if (s->ip.family == XF_AF_INET)
		return len + XF_PKT_HEADROOM + XF_PKT_TAILROOM > UINT16_MAX;
	if (s->ip.frag_hdr_off || s->ip.proto == XF_IPPROTO_TCP)
		return false;
	return s->pkt->mtu || is_local(o, s);
}

/* What to do with @s, whose packets have @len bytes, as the kernel does. */
static enum fit see_fit(const struct out *o, const struct xf_slot *s, uint32_t len)
{
	if (len <= s->mtu)
		return FITS;
	if (s->ip.family == XF_AF_INET && s->ip.df)
		return REFUSE;
	if (may_cut_inner(o, s, len))
		return CUT_INNER;
	if (s->ip.family == XF_AF_INET || len <= XF_IPV6_MIN_MTU)
		return CUT_OUTER;
	if (xf_sa_cfg(s->bundle[0])->mode == XF_MODE_TRANSPORT && s->ip.proto != XF_IPPROTO_TCP)
		return CUT_OUTER;
	return REFUSE;
}

/* What goes through the tunnel later had better fit: the peer's sender is told by its SYN. */
static __attribute__((noinline)) void clamp_mss(const struct out *o, const struct xf_slot *s)
{
	if (o->worker->engine->clamp_mss && xf_mss_clamp(s->pkt, &s->ip, s->mtu))
		xf_count(&o->worker->count.mss_clamped, 1);
}

/* A packet that is to be protected: how it fits, or it leaves the batch. */
static void check_fit(struct out *o, struct xf_flight *f, struct xf_slot *s)
{
	uint32_t len = s->ip.total_len;

	if (s->pkt->gso_type)
		len = xf_gso_packet_len(s->pkt, &s->ip);
	s->cut = (uint8_t)see_fit(o, s, len);
	if (f->ahead < s->depth)
		f->ahead = s->depth;
	s->inner_len = s->ip.total_len;
	if (s->cut == REFUSE)
		refuse_too_big(o, s);
	else if (s->pkt->csum_start && !s->pkt->gso_type && xf_gso_complete_csum(s->pkt) < 0)
		xf_slot_drop(o->worker, s, XF_DROP_OUT_HDR, s->bundle[0]);
	else if (!s->pkt->gso_type && XF_UNLIKELY(xf_mss_is_syn(s->pkt, &s->ip)))
		clamp_mss(o, s);
}

/*
 * An ICMP error that nothing protects goes by the policy of the packet that it is about, reversed,
 * if that one has flag icmp (the kernel's icmp_route_lookup() and xfrm_out_fwd_icmp()). Where an SA
 * is wanted and missing it is dropped: it quotes what the policy protects.
 */
static enum xf_drop look_again(struct out *o, struct xf_flight *f, struct xf_slot *s,
			       enum xf_drop before)
{
	struct xf_flow *flow = &o->worker->flows[s - f->slots];
	struct xf_policy *policy = xf_path_quoted_policy(o->worker, XF_DIR_OUT, s, flow);
	const struct xf_policy_config *cfg = policy ? xf_policy_cfg(policy) : NULL;
	struct xf_sad_query query;

	if (!cfg || !(cfg->flags & XF_POLICY_ICMP))
		return before;
	xf_policy_count(policy, o->worker->alone, 1, s->pkt->len, o->now_ns);
	/* Packets that it leads have another flow. */
	s->by_flow = true;
	if (!wants_bundle(policy))
		return cfg->action == XF_POLICY_BLOCK ? XF_DROP_OUT_POL_BLOCK : XF_PASS;
	query = first_query(cfg, flow, &s->by_flow);
	take_bundle(o, s, cfg, &query, xf_sad_find_out(o->worker->engine->sad, &query, NULL));
	return (enum xf_drop)s->err;
}

/* There is no bundle for @s: it is dropped for @err, or sent on, unless a second look finds one. */
static __attribute__((noinline)) bool find_another(struct out *o, struct xf_flight *f,
						   struct xf_slot *s, enum xf_drop err)
{
	if ((err == XF_PASS || err == XF_DROP_OUT_POL_BLOCK) && xf_path_is_icmp(&s->ip))
		err = look_again(o, f, s, err);
	if (err == XF_PASS && s->depth > 0)
		return true;
	if (err == XF_PASS)
		send_clear(o, s);
	else
		xf_slot_drop(o->worker, s, err, NULL);
	return false;
}

/* The bundle of @policy for slot @s and how it fits, or @s leaves the batch. */
static void apply_policy(struct out *o, struct xf_flight *f, struct xf_slot *s,
			 const struct xf_policy *policy)
{
	enum xf_drop err = XF_PASS;

	if (policy && xf_policy_cfg(policy)->action == XF_POLICY_BLOCK)
		err = XF_DROP_OUT_POL_BLOCK;
	else if (&f->slots[s->lead] != s)
		err = follow(o, f, s, policy);
	else
		err = (enum xf_drop)s->err;
	if (XF_UNLIKELY(!(err == XF_PASS && s->depth > 0)) && !find_another(o, f, s, err))
		return;
	if (XF_UNLIKELY(s->pkt->ask))
		send_unchanged(o, s, &o->res->ask);
	else
		check_fit(o, f, s);
}

/* --- A flight: the rounds of transform and cipher (struct xf_way_ops) --- */

/* The operations of this round, in the order of their packets. What was shaped begins where it came
 * from, its parse is known; all others begin with their first SAs, and pay for none of it. */
XF_INLINE unsigned collect(struct out *o, struct xf_flight *f, struct xf_transform_op **ops,
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

static unsigned collect_round(struct out *o, struct xf_flight *f, struct xf_transform_op **ops)
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
	struct out *o = arg;
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
	struct out *o = arg;
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
static void send_cut(struct out *o, struct xf_slot *s, uint32_t mtu, struct xf_pktq *wire)
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
	struct out *o = arg;
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
		xf_shape_flight(f, &shape_way, o, o->now_ns);
}

static const struct xf_way_ops way_ops = { .begin = begin, .finish = finish, .emit = emit };

static void go(struct out *o, struct xf_flight *f)
{
	xf_flight_go(&o->worker->out, f, &way_ops, o);
}

/* What goes may lead to other flights, so it is not the one that is being filled any more. */
static void go_filled(struct out *o)
{
	struct xf_flight *f = o->filling;

	o->filling = NULL;
	if (f)
		go(o, f);
}

/* --- What comes out of a packet, cut or shaped, takes over what was found out about it --- */

/* A slot for @pkt, whose parse is @ip, for the @depth SAs of @bundle; NULL: it was dropped. */
static struct xf_slot *begin_piece(struct out *o, struct xf_sa *const *bundle, uint8_t depth,
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

static void end_piece(struct out *o)
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
	struct out *o = arg;
	struct xf_slot *s = begin_piece(o, origin->sas, origin->n, pkt, ip);

	if (!s)
		return;
	s->first = origin->round;
	o->filling->shaped = true;
	end_piece(o);
}

static void reserve_shaped(void *arg, unsigned n)
{
	struct out *o = arg;

	if (o->filling && o->filling->n + n > XF_BATCH)
		go_filled(o);
}

static void go_shaped(void *arg)
{
	go_filled(arg);
}

static const struct xf_shape_way shape_way = { .out = true,
					       .origin = shape_origin,
					       .add = add_shaped,
					       .reserve = reserve_shaped,
					       .go = go_shaped };

static void add_piece(struct out *o, const struct xf_slot *whole, struct xf_pkt *pkt,
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
static void add_segment(struct out *o, const struct xf_slot *whole, struct xf_pkt *pkt)
{
	struct xf_slot *s = begin_piece(o, whole->bundle, whole->depth, pkt, &whole->ip);

	if (!s)
		return;
	s->ip.total_len = s->inner_len = pkt->len;
	end_piece(o);
}

/* The fragments of @pkt, one of the packets of @whole. */
static void add_fragments(struct out *o, const struct xf_slot *whole, struct xf_pkt *pkt,
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

static void add_packet(struct out *o, const struct xf_slot *whole, struct xf_pkt *pkt,
		       const struct xf_ip_info *ip)
{
	if (whole->cut == CUT_INNER && ip->total_len > whole->mtu)
		add_fragments(o, whole, pkt, ip);
	else
		add_piece(o, whole, pkt, ip);
}

static void add_packets(struct out *o, struct xf_slot *s)
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
		if (s->cut == CUT_INNER)
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

/* Must any packet of the batch be cut before it is encapsulated? */
static bool any_to_cut(const struct xf_flight *f)
{
	for (unsigned i = 0; i < f->n; i++)
		if (f->slots[i].pkt && (f->slots[i].pkt->gso_type || f->slots[i].cut == CUT_INNER))
			return true;
	return false;
}

/* The packets of @f, in their order, to flights of their own. */
static void cut_all(struct out *o, struct xf_flight *f)
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

static void out_batch(struct out *o, struct xf_flight *f)
{
	struct xf_policy *policies[XF_BATCH];
	uint32_t lens[XF_BATCH];
	struct xf_worker *w = o->worker;

	parse_all(o, f);
	xf_spd_lookup_to_use(w->engine->spd, XF_DIR_OUT, w->flows, f->n, policies);
	for (unsigned i = 0; i < f->n; i++)
		lens[i] = f->slots[i].pkt->asked ? 0 : f->slots[i].pkt->len;
	xf_path_count_policies(w, policies, lens, f->n, o->now_ns);
	find_bundles(o, f, policies);
	for (unsigned i = 0; i < f->n; i++)
		apply_policy(o, f, &f->slots[i], policies[i]);
	if (any_to_cut(f))
		cut_all(o, f);
	else
		go(o, f);
}

void xf_path_out(struct xf_worker *worker, struct xf_pktq *in, uint64_t now_ns,
		 struct xf_path_result *res)
{
	struct out o = { .worker = worker, .res = res, .now_ns = now_ns };

	xf_order_take_back(worker);
	xf_read_begin();
	while (in->count) {
		struct xf_flight *f = xf_flight_get(worker);

		if (!f) {
			xf_path_drop(worker, xf_pktq_pop(in), XF_DROP_OUT_NO_BUFFER, NULL);
			continue;
		}
		while (f->n < XF_BATCH && in->count)
			xf_flight_add(f, xf_pktq_pop(in));
		out_batch(&o, f);
	}
	xf_read_end();
	xf_path_end(worker);
}

void xf_path_out_resume(struct xf_worker *worker, uint64_t now_ns, struct xf_path_result *res)
{
	struct out o = { .worker = worker, .res = res, .now_ns = now_ns };

	xf_way_resume(&worker->out, &way_ops, &o);
}

uint64_t xf_path_out_tick(struct xf_worker *worker, uint64_t now_ns, struct xf_path_result *res)
{
	struct out o = { .worker = worker, .res = res, .now_ns = now_ns };

	return xf_shape_tick(worker, &shape_way, &o, now_ns);
}
