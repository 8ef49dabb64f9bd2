/*
 * The check of what came in against the policies (RFC 4301 s5.2 step 4; the kernel's
 * __xfrm_policy_check()): every SA's own selector, then the policy's templates.
 */
#include "path/worker.h"

/* Does @sa serve template @tmpl (the kernel's xfrm_state_ok())? */
static bool sa_serves(const struct xf_tmpl *tmpl, const struct xf_sa_view *sa, uint32_t if_id)
{
	if (sa->id.proto != tmpl->id.proto || sa->mode != tmpl->mode)
		return false;
	if (tmpl->id.spi && tmpl->id.spi != sa->id.spi)
		return false;
	if (tmpl->reqid && tmpl->reqid != sa->reqid)
		return false;
	if (if_id && if_id != sa->if_id)
		return false;
	return sa->mode == XF_MODE_TRANSPORT || xf_addr_is_any(&tmpl->saddr, tmpl->id.family) ||
	       xf_addr_equal(&tmpl->saddr, &sa->saddr, XF_AF_INET6);
}

/*
 * The place behind the SA that serves @tmpl, looked for from @start; -1: there is none. SAs in
 * transport mode may be passed over, an optional template in transport mode may be missing (the
 * kernel's xfrm_policy_ok()).
 */
static int match_tmpl(const struct xf_tmpl *tmpl, const struct xf_pkt *pkt, int start,
		      uint32_t if_id)
{
	int missing = tmpl->optional ? start : -1;

	if (tmpl->optional && tmpl->mode == XF_MODE_TRANSPORT)
		return start;
	for (int i = start; i < pkt->sp_len; i++) {
		const struct xf_sa_view *sa = xf_sa_cfg(pkt->sp[i]);

		if (sa_serves(tmpl, sa, if_id))
			return i + 1;
		if (sa->mode != XF_MODE_TRANSPORT)
			return missing;
	}
	return missing;
}

/* Is there an SA at @start or behind that is not in transport mode? Then it was not wanted. */
static bool has_nontransport(const struct xf_pkt *pkt, int start)
{
	for (int i = start; i < pkt->sp_len; i++)
		if (xf_sa_cfg(pkt->sp[i])->mode != XF_MODE_TRANSPORT)
			return true;
	return false;
}

static enum xf_drop check_tmpls(const struct xf_policy_config *cfg, const struct xf_pkt *pkt)
{
	int k = 0;

	for (int i = cfg->ntmpl; i-- > 0;) {
		k = match_tmpl(&cfg->tmpl[i], pkt, k, cfg->if_id);
		if (k < 0)
			return XF_DROP_IN_TMPL_MISMATCH;
	}
	return has_nontransport(pkt, k) ? XF_DROP_IN_TMPL_MISMATCH : XF_PASS;
}

bool xf_path_sa_selects(const struct xf_sa *sa, const struct xf_flow *flow)
{
	const struct xf_sa_view *cfg = xf_sa_cfg(sa);

	if (XF_LIKELY(!(xf_form_of(cfg)->what & XF_FORM_SELECTS)))
		return true;
	return cfg->terms->sel.family == flow->family && xf_selector_match(&cfg->terms->sel, flow);
}

enum xf_drop xf_path_check_selectors(const struct xf_pkt *pkt, const struct xf_flow *flow)
{
	for (int i = pkt->sp_len; i-- > 0;)
		if (!xf_path_sa_selects(pkt->sp[i], flow))
			return XF_DROP_IN_STATE_MISMATCH;
	return XF_PASS;
}

enum xf_drop xf_path_check_policy(const struct xf_pkt *pkt, const struct xf_policy *policy)
{
	const struct xf_policy_config *cfg;

	if (!policy)
		return has_nontransport(pkt, 0) ? XF_DROP_IN_NO_POLS : XF_PASS;
	cfg = xf_policy_cfg(policy);
	if (cfg->action == XF_POLICY_BLOCK)
		return XF_DROP_IN_POL_BLOCK;
	return check_tmpls(cfg, pkt);
}

bool xf_path_equal_wants(const struct xf_policy *a, const struct xf_policy *b)
{
	const struct xf_policy_config *x, *y;

	if (!a || !b)
		return a == b;
	x = xf_policy_cfg(a);
	y = xf_policy_cfg(b);
	return x->action == y->action && x->ntmpl == y->ntmpl && x->if_id == y->if_id &&
	       x->mark.v == y->mark.v && x->mark.m == y->mark.m &&
	       memcmp(x->tmpl, y->tmpl, x->ntmpl * sizeof(x->tmpl[0])) == 0;
}

void xf_path_count_policies(const struct xf_worker *worker, struct xf_policy *const *policies,
			    const uint32_t *lens, unsigned n, uint64_t now_ns)
{
	for (unsigned i = 0; i < n;) {
		struct xf_policy *policy = policies[i];
		unsigned packets = 0;
		uint64_t bytes = 0;

		for (; i < n && policies[i] == policy; i++) {
			bytes += lens[i];
			packets += lens[i] > 0;
		}
		if (policy)
			xf_policy_count(policy, worker->alone, packets, bytes, now_ns);
	}
}
