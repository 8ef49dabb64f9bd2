#include <errno.h>
#include <stdlib.h>

#include "capture/nft/sieve.h"

void xf_sieve_fini(struct xf_sieve *sieve)
{
	xf_cells_fini(&sieve->cells);
	free(sieve->kinds);
	xf_policy_order_fini(&sieve->allows);
	*sieve = (struct xf_sieve){ .dir = sieve->dir };
}

uint32_t xf_sieve_segment(const struct xf_sieve *sieve, const struct xf_policy *policy)
{
	const struct xf_policy_order *allows = &sieve->allows;
	uint32_t place;

	if (xf_policy_lets_pass(xf_policy_cfg(policy)))
		return allows->allow[xf_policy_order_find(allows, policy)].segment;
	place = xf_policy_order_place(allows, policy);
	return place ? allows->allow[place - 1].segment : XF_SIEVE_FIRST;
}

bool xf_sieve_is_simple(const struct xf_policy_config *cfg)
{
	const struct xf_selector *sel = &cfg->sel;

	if (!sel->family || !xf_policy_is_strict(cfg))
		return false;
	if (sel->sport_mask || sel->dport_mask)
		return xf_policy_has_ports(sel->proto);
	return sel->prefixlen_s || sel->prefixlen_d || cfg->mark.m;
}

static void *grow(void *array, unsigned n, size_t size)
{
	/* A power of two is full. */
	return n & (n - 1) ? array : realloc(array, (n ? 2 * n : 1) * size);
}

static bool is_alike(const struct xf_sieve_kind *a, const struct xf_sieve_kind *b)
{
	return a->segment == b->segment && a->six == b->six && a->bits[0] == b->bits[0] &&
	       a->bits[1] == b->bits[1] && a->mark_mask == b->mark_mask && a->proto == b->proto &&
	       a->pieces == b->pieces && a->blocks == b->blocks &&
	       a->port_mask[0] == b->port_mask[0] && a->port_mask[1] == b->port_mask[1];
}

static int kind_of(struct xf_sieve *sieve, const struct xf_sieve_kind *like)
{
	struct xf_sieve_kind *kinds;
	unsigned unused = sieve->nkinds;

	for (unsigned i = 0; i < sieve->nkinds; i++) {
		const struct xf_sieve_kind *kind = &sieve->kinds[i];

		if (!kind->cells && !kind->made)
			unused = i;
		if (is_alike(kind, like))
			return (int)i;
	}
	if (unused < sieve->nkinds) {
		sieve->kinds[unused] = *like;
		return (int)unused;
	}
	if (sieve->nkinds == UINT16_MAX)
		return -ENOSPC;
	kinds = grow(sieve->kinds, sieve->nkinds, sizeof(*kinds));
	if (!kinds)
		return -ENOMEM;
	sieve->kinds = kinds;
	kinds[sieve->nkinds] = *like;
	return (int)sieve->nkinds++;
}

/* One policy more or fewer wants what @cfg selects, as far as @like asks, in the set for that. */
static void change_cell(struct xf_sieve *sieve, const struct xf_policy_config *cfg,
			const struct xf_sieve_kind *like, bool there)
{
	const struct xf_selector *sel = &cfg->sel;
	struct xf_cell_key key = {
		.addr = { sel->saddr, sel->daddr },
		.mark = cfg->mark.v,
		.port = { sel->sport & like->port_mask[0], sel->dport & like->port_mask[1] },
		.proto = like->proto ? sel->proto : 0,
	};
	int kind = kind_of(sieve, like);
	int change;

	for (unsigned i = 0; i < 2; i++)
		xf_cell_mask(&key.addr[i], like->bits[i]);
	key.set = (uint16_t)kind;
	if (there)
		xf_cells_grow(&sieve->cells);
	change = kind < 0 ? kind : xf_cells_count(&sieve->cells, &key, 1, there);
	if (change < -1) {
		sieve->failed = true;
		return;
	}
	sieve->kinds[kind].cells += (uint32_t)change;
	if (sieve->kinds[kind].cells && !sieve->kinds[kind].ruled)
		sieve->rules_dirty = true;
}

static void change_simple(struct xf_sieve *sieve, const struct xf_policy *policy, bool there)
{
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);
	const struct xf_selector *sel = &cfg->sel;
	struct xf_sieve_kind like = {
		.segment = xf_sieve_segment(sieve, policy),
		.mark_mask = cfg->mark.m,
		.port_mask = { sel->sport_mask, sel->dport_mask },
		.bits = { sel->prefixlen_s, sel->prefixlen_d },
		.proto = sel->proto,
		.blocks = cfg->dir != XF_DIR_OUT && cfg->action == XF_POLICY_BLOCK,
		.six = sel->family == XF_AF_INET6,
	};

	sieve->simple += there ? 1u : -1u;
	change_cell(sieve, cfg, &like, there);
	if (!sel->sport_mask && !sel->dport_mask)
		return;
	like.pieces = true;
	like.port_mask[0] = like.port_mask[1] = 0;
	change_cell(sieve, cfg, &like, there);
}

void xf_sieve_change(struct xf_sieve *sieve, const struct xf_policy *policy, bool there)
{
	const struct xf_policy_config *cfg = xf_policy_cfg(policy);

	if (xf_sieve_is_simple(cfg)) {
		if (!sieve->restart)
			change_simple(sieve, policy, there);
		return;
	}
	if (xf_policy_lets_pass(cfg)) {
		if (!there)
			xf_policy_order_del(&sieve->allows, policy);
		else if (xf_policy_order_add(&sieve->allows, policy, ++sieve->last_segment) < 0)
			sieve->lost = true;
		sieve->restart = true;
	} else if (xf_policy_is_strict(cfg)) {
		sieve->others += there ? 1u : -1u;
	}
	sieve->rules_dirty = true;
}

uint32_t xf_sieve_rules(const struct xf_sieve *sieve)
{
	uint32_t n = sieve->allows.n + sieve->others;

	for (unsigned i = 0; i < sieve->nkinds; i++)
		n += sieve->kinds[i].cells != 0;
	return n;
}

void xf_sieve_restart(struct xf_sieve *sieve)
{
	xf_policy_order_sort(&sieve->allows);
	xf_cells_empty(&sieve->cells);
	for (unsigned i = 0; i < sieve->nkinds; i++)
		sieve->kinds[i].cells = 0;
	sieve->simple = 0;
	sieve->restart = false;
	sieve->failed = false;
	sieve->rules_dirty = true;
}
