/*
 * The way out: parse, look the policy up, find the bundle of SAs, see that it fits, transform and
 * encrypt once for each SA, send. A batch goes stage by stage.
 */
#include "path/worker.h"

struct out {
	struct xf_worker *worker;
	struct xf_path_result *res;
	uint64_t now_ns;
	unsigned n; /* slots in use */
};

static void send_clear(struct out *o, struct xf_slot *s)
{
	xf_count(&o->worker->count.clear_packets, 1);
	xf_pktq_push(&o->res->clear, s->pkt);
	s->pkt = NULL;
}

static void parse(struct out *o, struct xf_slot *s)
{
	const struct xf_env *env = &o->worker->engine->env;

	if (xf_ip_parse(s->pkt, false, &s->ip) < 0) {
		xf_slot_drop(o->worker, s, XF_DROP_OUT_HDR, NULL);
		return;
	}
	xf_pkt_trim_back(s->pkt, s->pkt->len - s->ip.total_len);
	s->pkt->family = s->ip.family;
	s->pkt->local |= env->is_local(env->arg, &s->ip.saddr, s->ip.family);
	xf_ip_flow(s->pkt, &s->ip, false, &s->flow);
	if (!s->ip.is_frag || !xf_spd_wants_whole(o->worker->engine->spd, XF_DIR_OUT, &s->flow))
		return;
	xf_path_reassemble(o->worker, o->worker->frags_out, s, o->now_ns);
	if (s->pkt)
		xf_ip_flow(s->pkt, &s->ip, false, &s->flow);
}

static void lookup_policies(struct out *o)
{
	struct xf_flow flows[XF_BATCH];
	struct xf_policy *policies[XF_BATCH];
	uint8_t index[XF_BATCH];
	unsigned n = 0;

	for (unsigned i = 0; i < o->n; i++) {
		if (!o->worker->slots[i].pkt)
			continue;
		flows[n] = o->worker->slots[i].flow;
		index[n++] = (uint8_t)i;
	}
	xf_spd_lookup_batch(o->worker->engine->spd, XF_DIR_OUT, flows, n, policies);
	for (unsigned i = 0; i < n; i++)
		o->worker->slots[index[i]].policy = policies[i];
}

/*
 * One SA for each template, innermost first (the kernel's xfrm_tmpl_resolve_one()): a transport
 * template goes between the addresses of the one before it. Optional templates may have none.
 */
static enum xf_drop find_bundle(struct out *o, struct xf_slot *s)
{
	const struct xf_policy_config *cfg = xf_policy_cfg(s->policy);
	struct xf_sad_query query = { .saddr = &s->flow.saddr,
				      .daddr = &s->flow.daddr,
				      .flow = &s->flow,
				      .mark = cfg->mark.v & cfg->mark.m,
				      .if_id = cfg->if_id };

	s->depth = 0;
	for (unsigned i = 0; i < cfg->ntmpl; i++) {
		const struct xf_tmpl *tmpl = &cfg->tmpl[i];
		struct xf_sad_query want = query;
		struct xf_sa *sa;

		want.tmpl = tmpl;
		if (tmpl->mode == XF_MODE_TUNNEL || tmpl->mode == XF_MODE_BEET) {
			want.saddr = &tmpl->saddr;
			want.daddr = &tmpl->id.daddr;
		}
		sa = xf_sad_find_out(o->worker->engine->sad, &want, NULL);
		if (!sa && tmpl->optional)
			continue;
		if (!sa)
			return XF_DROP_OUT_NO_STATES;
		if (xf_sa_cfg(sa)->dir == XF_SA_DIR_IN)
			return XF_DROP_OUT_STATE_DIR;
		s->bundle[s->depth++] = sa;
		query.saddr = want.saddr;
		query.daddr = want.daddr;
	}
	return XF_PASS;
}

static void apply_policy(struct out *o, struct xf_slot *s)
{
	enum xf_drop err;

	if (!s->policy) {
		send_clear(o, s);
		return;
	}
	xf_policy_count(s->policy, s->pkt->len, o->now_ns);
	err = xf_policy_cfg(s->policy)->action == XF_POLICY_BLOCK ? XF_DROP_OUT_POL_BLOCK
								  : find_bundle(o, s);
	if (err != XF_PASS)
		xf_slot_drop(o->worker, s, err, NULL);
	else if (s->depth == 0)
		send_clear(o, s);
	s->inner_len = s->ip.total_len;
}

static void refuse_too_big(struct out *o, struct xf_slot *s, uint32_t mtu)
{
	union xf_addr to;
	struct xf_pkt *reply;

	xf_icmp_too_big(s->pkt, &s->ip, mtu, &reply, &to);
	if (reply) {
		reply->reply_to = to;
		xf_pktq_push(&o->res->reply, reply);
	}
	xf_slot_drop(o->worker, s, XF_DROP_OUT_TOO_BIG, s->bundle[0]);
}

/*
 * May the packet itself be cut before it is encapsulated? IPv6 routers must not (RFC 8200 s4.5);
 * its sender may: a local datagram, which reaches us whole, and one that came in fragments.
 * Of IPv4 that is needed only where the outer datagram would be longer than IP can say.
 */
static bool may_cut_inner(const struct xf_slot *s)
{
	if (xf_sa_cfg(s->bundle[0])->mode != XF_MODE_TUNNEL)
		return false;
	if (s->ip.family == XF_AF_INET)
		return s->ip.total_len + XF_PKT_HEADROOM + XF_PKT_TAILROOM > UINT16_MAX;
	if (s->ip.frag_hdr_off || s->ip.proto == XF_IPPROTO_TCP)
		return false;
	return s->pkt->local || s->pkt->mtu;
}

enum fit { FITS, CUT_OUTER, CUT_INNER, REFUSE };

/* What to do with a packet for which the bundle's MTU is @mtu, as the kernel does. */
static enum fit see_fit(const struct xf_slot *s, uint32_t mtu)
{
	if (s->ip.total_len <= mtu)
		return FITS;
	if (s->ip.family == XF_AF_INET && s->ip.df)
		return REFUSE;
	if (may_cut_inner(s))
		return CUT_INNER;
	if (s->ip.family == XF_AF_INET || s->ip.total_len <= XF_IPV6_MIN_MTU)
		return CUT_OUTER;
	if (xf_sa_cfg(s->bundle[0])->mode == XF_MODE_TRANSPORT && s->ip.proto != XF_IPPROTO_TCP)
		return CUT_OUTER;
	return REFUSE;
}

/* Transform and encrypt with the SA of round @round; what fails is dropped. */
static void transform(struct out *o, unsigned round)
{
	struct xf_worker *w = o->worker;
	struct xf_esp_op *ops[XF_BATCH];
	unsigned n = 0;

	for (unsigned i = 0; i < o->n; i++) {
		struct xf_slot *s = &w->slots[i];
		enum xf_drop err = XF_PASS;

		if (!s->pkt || s->depth <= round)
			continue;
		if (round > 0 && xf_ip_parse(s->pkt, false, &s->ip) < 0)
			err = XF_DROP_OUT_ERROR;
		if (err == XF_PASS)
			err = xf_esp_out_prepare(s->bundle[round], s->pkt, &s->ip, o->now_ns,
						 &w->ops[i]);
		if (err != XF_PASS)
			xf_slot_drop(w, s, err, s->bundle[round]);
		else
			ops[n++] = &w->ops[i];
	}
	xf_path_crypto(w, ops, n);
	for (unsigned i = 0; i < n; i++) {
		struct xf_slot *s = &w->slots[ops[i] - w->ops];
		enum xf_drop err = xf_esp_out_finish(ops[i]);

		s->pkt = ops[i]->pkt;
		if (err != XF_PASS)
			xf_slot_drop(w, s, err, s->bundle[round]);
	}
}

static void send_wire(struct out *o, struct xf_slot *s)
{
	struct xf_sa *last = s->bundle[s->depth - 1];
	uint32_t mtu = xf_path_outer_mtu(last, o->now_ns);
	enum xf_drop err = XF_PASS;

	xf_count(&o->worker->count.out_packets, 1);
	xf_count(&o->worker->count.out_bytes, s->inner_len);
	if (s->pkt->len <= mtu) {
		xf_pktq_push(&o->res->wire, s->pkt);
		s->pkt = NULL;
		return;
	}
	if (xf_ip_parse(s->pkt, false, &s->ip) < 0)
		err = XF_DROP_OUT_ERROR;
	else
		err = xf_frag_cut(s->pkt, &s->ip, mtu, o->worker->ident++, &o->res->wire);
	if (err != XF_PASS)
		xf_slot_drop(o->worker, s, err, last);
	s->pkt = NULL;
}

static void protect(struct out *o)
{
	unsigned rounds = 0;

	for (unsigned i = 0; i < o->n; i++)
		if (o->worker->slots[i].pkt && o->worker->slots[i].depth > rounds)
			rounds = o->worker->slots[i].depth;
	for (unsigned round = 0; round < rounds; round++)
		transform(o, round);
	for (unsigned i = 0; i < o->n; i++)
		if (o->worker->slots[i].pkt)
			send_wire(o, &o->worker->slots[i]);
}

/*
 * Cut @s before encapsulation; the pieces, which have found their bundle, take their own way
 * through protect() in batches, after the present one.
 */
static void cut_inner(struct out *o, struct xf_slot *s, uint32_t mtu, struct xf_pktq *pieces)
{
	enum xf_drop err;

	if (s->pkt->mtu && s->pkt->mtu < mtu)
		mtu = s->pkt->mtu;
	err = xf_frag_cut(s->pkt, &s->ip, mtu, o->worker->ident++, pieces);
	if (err != XF_PASS)
		xf_slot_drop(o->worker, s, err, s->bundle[0]);
	s->pkt = NULL;
}

/* Protect the fragments of one datagram with the bundle that its slot @whole found. */
static void protect_pieces(struct out *o, const struct xf_slot *whole, struct xf_pktq *pieces)
{
	while (pieces->count) {
		o->n = 0;
		while (o->n < XF_BATCH && pieces->count) {
			struct xf_slot *s = &o->worker->slots[o->n++];

			*s = *whole;
			s->pkt = xf_pktq_pop(pieces);
			if (xf_ip_parse(s->pkt, false, &s->ip) < 0)
				xf_slot_drop(o->worker, s, XF_DROP_OUT_HDR, s->bundle[0]);
			s->inner_len = s->ip.total_len;
		}
		protect(o);
	}
}

/* Datagrams that are to be cut wait here while the rest of the batch goes; few ever do. */
struct to_cut {
	struct xf_slot slots[XF_BATCH];
	struct xf_pktq pieces[XF_BATCH];
	unsigned n;
};

static void see_all_fit(struct out *o, struct to_cut *cut)
{
	for (unsigned i = 0; i < o->n; i++) {
		struct xf_slot *s = &o->worker->slots[i];
		uint32_t mtu;
		enum fit fit;

		if (!s->pkt)
			continue;
		mtu = xf_path_bundle_mtu(s, o->now_ns);
		fit = see_fit(s, mtu);
		if (fit == REFUSE) {
			refuse_too_big(o, s, mtu);
		} else if (fit == CUT_INNER) {
			cut->pieces[cut->n] = (struct xf_pktq){ .count = 0 };
			cut_inner(o, s, mtu, &cut->pieces[cut->n]);
			cut->slots[cut->n++] = *s;
		}
	}
}

static void out_batch(struct out *o)
{
	struct to_cut cut = { .n = 0 };

	for (unsigned i = 0; i < o->n; i++)
		parse(o, &o->worker->slots[i]);
	lookup_policies(o);
	for (unsigned i = 0; i < o->n; i++)
		if (o->worker->slots[i].pkt)
			apply_policy(o, &o->worker->slots[i]);
	see_all_fit(o, &cut);
	protect(o);
	for (unsigned i = 0; i < cut.n; i++)
		protect_pieces(o, &cut.slots[i], &cut.pieces[i]);
}

void xf_path_out(struct xf_worker *worker, struct xf_pktq *in, uint64_t now_ns,
		 struct xf_path_result *res)
{
	struct out o = { .worker = worker, .res = res, .now_ns = now_ns };

	xf_read_begin();
	while (in->count) {
		for (o.n = 0; o.n < XF_BATCH && in->count; o.n++)
			xf_slot_load(&worker->slots[o.n], xf_pktq_pop(in));
		out_batch(&o);
	}
	xf_read_end();
	xf_path_end(worker);
}
