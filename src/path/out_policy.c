/*
 * What the policies of outbound packets say (RFC 4301 s5.1): block, or a bundle of SAs, one for
 * each template. The second stage of a batch, called by out.c.
 */
#include "path/out.h"

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
static enum xf_drop find_bundle(struct xf_out *o, const struct xf_policy_config *cfg,
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

static void take_bundle(struct xf_out *o, struct xf_slot *s, const struct xf_policy_config *cfg,
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
static void find_bundles(struct xf_out *o, struct xf_flight *f, struct xf_policy *const *policies)
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
static enum xf_drop follow(struct xf_out *o, struct xf_flight *f, struct xf_slot *s,
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

/*
 * An ICMP error that nothing protects goes by the policy of the packet that it is about, reversed,
 * if that one has flag icmp (the kernel's icmp_route_lookup() and xfrm_out_fwd_icmp()). Where an SA
 * is wanted and missing it is dropped: it quotes what the policy protects.
 */
static enum xf_drop look_again(struct xf_out *o, struct xf_flight *f, struct xf_slot *s,
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
static __attribute__((noinline)) bool find_another(struct xf_out *o, struct xf_flight *f,
						   struct xf_slot *s, enum xf_drop err)
{
	if ((err == XF_PASS || err == XF_DROP_OUT_POL_BLOCK) && xf_path_is_icmp(&s->ip))
		err = look_again(o, f, s, err);
	if (err == XF_PASS && s->depth > 0)
		return true;
	if (err == XF_PASS)
		xf_out_send_clear(o, s);
	else
		xf_slot_drop(o->worker, s, err, NULL);
	return false;
}

/* The bundle of @policy for slot @s, or @s leaves the batch. */
static void apply_policy(struct xf_out *o, struct xf_flight *f, struct xf_slot *s,
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
		xf_out_send_ask(o, s);
}

void xf_out_apply_policies(struct xf_out *o, struct xf_flight *f, struct xf_policy *const *policies)
{
	find_bundles(o, f, policies);
	for (unsigned i = 0; i < f->n; i++)
		apply_policy(o, f, &f->slots[i], policies[i]);
}
