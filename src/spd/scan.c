#include <stdlib.h>

#include "spd/spd_priv.h"

static void sort(const struct arena *arena, uint32_t *ids, uint32_t count)
{
	for (uint32_t i = 1; i < count; i++) {
		uint32_t id = ids[i];
		const struct rule *rule = arena_rule(arena, id);
		uint32_t at = i;

		for (; at > 0 && rule_before(rule, arena_rule(arena, ids[at - 1])); at--)
			ids[at] = ids[at - 1];
		ids[at] = id;
	}
}

static bool is_mixed(const struct rule *const *rules, uint32_t count)
{
	uint32_t classes = 0;
	bool updated = false;

	for (uint32_t i = 0; i < count; i++) {
		classes |= 1u << (rules[i]->flags & RULE_CLASS);
		updated = updated || rule_policy(rules[i])->pos != rules[i]->rank;
	}
	return updated && (classes & (classes - 1));
}

/* Rules as flows of values and of masks, one a lane. */
struct columns {
	const struct rule *rules[SCAN_MAX];
	union flow_words value[SCAN_MAX];
	union flow_words mask[SCAN_MAX];
	uint32_t count;
	uint32_t lanes;
	uint32_t nwords;
	uint8_t words[2 * FLOW_WORDS];
};

static void columns_init(struct columns *columns, const struct arena *arena, const uint32_t *ids,
			 uint32_t count)
{
	union flow_words any = { 0 };

	columns->count = count;
	columns->lanes = xf_align_up(count, SCAN_BLOCK);
	columns->nwords = 0;
	for (uint32_t i = 0; i < count; i++) {
		columns->rules[i] = arena_rule(arena, ids[i]);
		xf_spd_rule_words(columns->rules[i], &columns->value[i], &columns->mask[i]);
		for (unsigned w = 0; w < FLOW_WORDS; w++)
			any.w[w] |= columns->mask[i].w[w];
	}
	for (unsigned w = 0; w < 2 * FLOW_WORDS; w++)
		if (any.half[w])
			columns->words[columns->nwords++] = (uint8_t)w;
}

static void fill(struct scan *scan, const struct columns *columns)
{
	uint32_t *lane = scan->lane;

	for (uint32_t w = 0; w < columns->nwords; w++, lane += 2 * columns->lanes) {
		for (uint32_t i = 0; i < columns->count; i++) {
			lane[i] = columns->value[i].half[columns->words[w]];
			lane[columns->lanes + i] = columns->mask[i].half[columns->words[w]];
		}
	}
}

/* Stands where no rule does, for readers who would rather not ask. */
static const struct rule no_rule;

struct scan *xf_spd_scan_new(const struct arena *arena, uint32_t *ids, uint32_t count)
{
	struct columns columns;
	struct scan *scan;
	size_t size;

	sort(arena, ids, count);
	columns_init(&columns, arena, ids, count);
	size = sizeof(*scan) + (size_t)columns.nwords * 2 * columns.lanes * sizeof(scan->lane[0]);
	scan = aligned_alloc(XF_CACHE_LINE, size);
	if (!scan)
		return NULL;
	memset(scan, 0, size);
	scan->set.is_scan = true;
	scan->nwords = (uint8_t)columns.nwords;
	memcpy(scan->words, columns.words, columns.nwords);
	scan->mixed = is_mixed(columns.rules, count);
	scan->lanes = columns.lanes;
	atomic_init(&scan->live, UINT64_MAX >> (SCAN_MAX - count));
	for (uint32_t i = 0; i < SCAN_MAX; i++)
		atomic_init(&scan->rules[i], i < count ? columns.rules[i] : &no_rule);
	memcpy(scan->ids, ids, count * sizeof(ids[0]));
	fill(scan, &columns);
	return scan;
}

void xf_spd_scan_free(struct scan *scan)
{
	free(scan);
}

static void scan_free_rcu(struct xf_rcu_head *head)
{
	xf_spd_scan_free(XF_CONTAINER_OF(head, struct scan, rcu));
}

void xf_spd_scan_free_later(struct scan *scan)
{
	xf_rcu_defer(&scan->rcu, scan_free_rcu);
}

static uint64_t own_live(const struct scan *scan)
{
	return atomic_load_explicit(&scan->live, memory_order_relaxed);
}

uint32_t xf_spd_scan_ids(const struct scan *scan, uint32_t *ids)
{
	uint32_t n = 0;

	for (uint64_t live = own_live(scan); live; live &= live - 1)
		ids[n++] = scan->ids[__builtin_ctzll(live)];
	return n;
}

static int place_of(const struct scan *scan, uint32_t id)
{
	uint64_t live = own_live(scan);

	while (scan->ids[__builtin_ctzll(live)] != id)
		live &= live - 1;
	return __builtin_ctzll(live);
}

void xf_spd_scan_swap(struct scan *scan, const struct arena *arena, uint32_t id, uint32_t by)
{
	int place = place_of(scan, id);

	/* Who finds the new rule sees that the order is not to be trusted. */
	atomic_store_explicit(&scan->dirty, true, memory_order_relaxed);
	scan->ids[place] = by;
	atomic_store_explicit(&scan->rules[place], arena_rule(arena, by), memory_order_release);
}

bool xf_spd_scan_del(struct scan *scan, uint32_t id)
{
	uint64_t live = own_live(scan) & ~(UINT64_C(1) << place_of(scan, id));

	atomic_store_explicit(&scan->live, live, memory_order_release);
	return live;
}

/* Written so that a compiler makes vectors of it. */
static uint64_t match_block(const struct scan *scan, const uint32_t *flow, uint32_t at)
{
	const uint32_t *lane = scan->lane + at;
	uint32_t diff[SCAN_BLOCK] = { 0 };
	uint64_t matches = 0;

	for (unsigned w = 0; w < scan->nwords; w++, lane += 2 * scan->lanes) {
		uint32_t word = flow[scan->words[w]];

		for (unsigned i = 0; i < SCAN_BLOCK; i++)
			diff[i] |= (word ^ lane[i]) & lane[scan->lanes + i];
	}
	for (unsigned i = 0; i < SCAN_BLOCK; i++)
		matches |= (uint64_t)(diff[i] == 0) << i;
	return matches;
}

void xf_spd_scan_portable(const struct scan *scan, const struct xf_flow *flows, const uint8_t *at,
			  unsigned n, uint64_t *matches)
{
	uint64_t live = atomic_load_explicit(&scan->live, memory_order_acquire);

	for (unsigned i = 0; i < n; i++) {
		const uint32_t *flow = (const uint32_t *)(const void *)&flows[at[i]];
		uint64_t found = 0;

		for (uint32_t lane = 0; lane < scan->lanes; lane += SCAN_BLOCK)
			found |= match_block(scan, flow, lane) << lane;
		matches[i] = found & live;
	}
}

scan_fn *xf_spd_scan_best(void)
{
	const struct scan_variant *variant = xf_spd_scan_variants;

	while (!variant->usable())
		variant++;
	return variant->match;
}
