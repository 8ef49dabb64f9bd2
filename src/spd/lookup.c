#include "spd/spd_priv.h"

struct part *part_find(const struct part_table *table, uint32_t if_id)
{
	struct part *part = atomic_load_explicit(part_bucket(table, if_id), memory_order_acquire);

	while (part && part->if_id != if_id)
		part = atomic_load_explicit(&part->next, memory_order_acquire);
	return part;
}

/* The better of two matches of different classes, as the kernel's pos decides. */
static struct xf_policy *better(struct xf_policy *a, struct xf_policy *b)
{
	if (!a)
		return b;
	if (a->cfg.priority != b->cfg.priority)
		return a->cfg.priority < b->cfg.priority ? a : b;
	return a->pos < b->pos ? a : b;
}

/* The first rule of @rules that matches, unless @best is better than all that are left. */
static struct xf_policy *match_class(const struct rules *rules, const struct xf_flow *flow,
				     struct xf_policy *best)
{
	for (struct rules_iter it = rules_begin(rules); rules_next(&it);) {
		if (best && it.rule->priority > best->cfg.priority)
			return best;
		if (xf_mark_match(&it.rule->mark, flow->mark) &&
		    xf_selector_match(&it.rule->sel, flow))
			return better(best, it.policy);
	}
	return best;
}

static struct xf_policy *match_type(const struct xf_spd *spd, enum xf_policy_dir dir,
				    enum xf_policy_type type, const struct xf_flow *flow)
{
	const struct part_table *table =
		part_table_of(spd, (uint8_t)dir, (uint8_t)type, flow->family);
	const struct part *part = part_find(table, flow->if_id);
	struct xf_policy *best = NULL;

	for (int class = 0; part && class < CLASS_MAX; class ++)
		best = match_class(&part->rules[class], flow, best);
	return best;
}

static bool has_family(const struct xf_flow *flow)
{
	return flow->family == XF_AF_INET || flow->family == XF_AF_INET6;
}

static struct xf_policy *match(const struct xf_spd *spd, enum xf_policy_dir dir,
			       const struct xf_flow *flow)
{
	struct xf_policy *policy = match_type(spd, dir, XF_POLICY_SUB, flow);

	return policy ? policy : match_type(spd, dir, XF_POLICY_MAIN, flow);
}

static uint64_t moves_of(const struct xf_spd *spd)
{
	return atomic_load_explicit(&spd->moves, memory_order_acquire);
}

/*
 * A policy that moves while it is looked for could be missed at both places, and its packet
 * would go in clear (the kernel can miss it so). hide() publishes after the count of moves.
 */
static struct xf_policy *match_settled(const struct xf_spd *spd, enum xf_policy_dir dir,
				       const struct xf_flow *flow)
{
	uint64_t moves = moves_of(spd);

	for (;;) {
		struct xf_policy *policy = match(spd, dir, flow);
		uint64_t now = moves_of(spd);

		if (XF_LIKELY(now == moves))
			return policy;
		moves = now;
	}
}

void xf_spd_lookup_batch(const struct xf_spd *spd, enum xf_policy_dir dir,
			 const struct xf_flow *flows, unsigned n, struct xf_policy **out)
{
	/* A packet of the same flow as the one before it meets the same policy: this batch long. */
	for (unsigned i = 0; i < n; i++) {
		if (i > 0 && memcmp(&flows[i], &flows[i - 1], sizeof(flows[i])) == 0)
			out[i] = out[i - 1];
		else
			out[i] = has_family(&flows[i]) ? match_settled(spd, dir, &flows[i]) : NULL;
	}
}

/* A fragment has no ports yet, so selectors are compared without them. */
static bool wants_whole(const struct rules *rules, const struct xf_flow *flow)
{
	for (struct rules_iter it = rules_begin(rules); rules_next(&it);) {
		struct xf_selector sel;

		if (!it.policy->whole || !xf_mark_match(&it.rule->mark, flow->mark))
			continue;
		sel = it.rule->sel;
		sel.sport_mask = 0;
		sel.dport_mask = 0;
		if (xf_selector_match(&sel, flow))
			return true;
	}
	return false;
}

static bool any_wants_whole(const struct xf_spd *spd, enum xf_policy_dir dir,
			    const struct xf_flow *flow)
{
	for (uint8_t type = 0; type < XF_POLICY_TYPE_MAX; type++) {
		const struct part_table *table =
			part_table_of(spd, (uint8_t)dir, type, flow->family);
		const struct part *part = part_find(table, flow->if_id);

		if (!part || !atomic_load_explicit(&part->whole, memory_order_relaxed))
			continue;
		for (int class = 0; class < CLASS_MAX; class ++)
			if (wants_whole(&part->rules[class], flow))
				return true;
	}
	return false;
}

bool xf_spd_wants_whole(const struct xf_spd *spd, enum xf_policy_dir dir,
			const struct xf_flow *flow)
{
	uint64_t moves = moves_of(spd);

	if (!has_family(flow))
		return false;
	while (!any_wants_whole(spd, dir, flow)) {
		uint64_t now = moves_of(spd);

		if (XF_LIKELY(now == moves))
			return false;
		moves = now;
	}
	return true;
}
