/*
 * ICMP errors and policies (RFC 4301 s6): where an error's own flow says no, the packet that it is
 * about may say yes, reversed. out_policy.c asks for errors that nothing would protect, in_policy.c
 * for those that its policies refuse. What differs from Linux is docs/decisions/0028.
 */
#include "path/worker.h"

struct xf_policy *xf_path_quoted_policy(struct xf_worker *worker, enum xf_policy_dir dir,
					const struct xf_slot *s, struct xf_flow *flow)
{
	struct xf_policy *policy;

	if (xf_icmp_quoted_flow(s->pkt, &s->ip, flow) < 0)
		return NULL;
	xf_spd_lookup_to_use(worker->engine->spd, dir, flow, 1, &policy);
	return policy;
}

/* The SAs' own selectors; those with flag icmp may select the quoted packet instead. */
static enum xf_drop check_selectors(const struct xf_pkt *pkt, const struct xf_flow *flow,
				    const struct xf_flow *quoted)
{
	for (int i = pkt->sp_len; i-- > 0;) {
		bool may = xf_sa_cfg(pkt->sp[i])->flags & XF_SA_ICMP;

		if (!xf_path_sa_selects(pkt->sp[i], flow) &&
		    !(may && xf_path_sa_selects(pkt->sp[i], quoted)))
			return XF_DROP_IN_STATE_MISMATCH;
	}
	return XF_PASS;
}

/* Has the SA that the packet was taken out of last flag icmp? */
static bool may_ask_quoted(const struct xf_pkt *pkt)
{
	return pkt->sp_len > 0 && xf_sa_cfg(pkt->sp[pkt->sp_len - 1])->flags & XF_SA_ICMP;
}

/*
 * Forwarded, an error for which there is no policy is asked for as the packet that it is about
 * (the kernel's xfrm_in_fwd_icmp()); for this host, all is asked again as that, when the SA allows
 * it (icmp_rcv(), icmpv6_rcv()).
 */
enum xf_drop xf_path_check_icmp(struct xf_worker *worker, enum xf_policy_dir dir,
				const struct xf_slot *s, const struct xf_flow *flow,
				const struct xf_policy *policy)
{
	enum xf_drop before = (enum xf_drop)s->err;
	struct xf_policy *of_quoted;
	struct xf_flow quoted;
	enum xf_drop err;

	if (xf_icmp_quoted_flow(s->pkt, &s->ip, &quoted) < 0)
		return before;
	xf_spd_lookup_to_use(worker->engine->spd, dir, &quoted, 1, &of_quoted);
	if (!policy && dir == XF_DIR_FWD)
		policy = of_quoted;
	err = check_selectors(s->pkt, flow, &quoted);
	if (err == XF_PASS)
		err = xf_path_check_policy(s->pkt, policy);
	if (err == XF_PASS || dir != XF_DIR_IN || !may_ask_quoted(s->pkt))
		return err == XF_PASS ? XF_PASS : before;
	err = check_selectors(s->pkt, &quoted, &quoted);
	if (err == XF_PASS)
		err = xf_path_check_policy(s->pkt, of_quoted);
	return err == XF_PASS ? XF_PASS : before;
}
