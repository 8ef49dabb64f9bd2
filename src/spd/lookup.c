/*
 * Lookups go stage by stage through up to CHUNK flows, and what a stage needs from memory is
 * fetched in the stage before: tables' bitmaps, buckets, rules. So the misses of a batch overlap.
 */
#include "spd/spd_priv.h"

#define CHUNK 32
#define PROBES 192
#define HITS 96

/* What was found for a flow: the first of each class, because classes compare otherwise. */
struct found {
	uint32_t classes; /* bits: which of best[] are set */
	uint32_t priority; /* the best of those */
	const struct rule *best[CLASS_MAX];
};

/* A bucket to look at, which is being fetched. */
struct probe {
	cells_word cells;
	uint32_t home;
	uint8_t tag;
	uint8_t flow;
};

struct hit {
	const struct rule *rule;
	uint8_t flow;
};

struct lookup {
	const struct xf_spd *spd;
	const struct xf_flow *flows;
	unsigned nprobes;
	unsigned nhits;
	struct found found[CHUNK];
	struct probe probes[PROBES];
	struct hit hits[HITS];
};

/* Some of a lookup's flows, by their places. */
struct some {
	unsigned n;
	uint8_t at[CHUNK];
};

static inline void consider(struct found *found, const struct rule *rule)
{
	unsigned class = rule->flags & RULE_CLASS;

	if (found->classes >> class & 1 && !rule_before(rule, found->best[class]))
		return;
	if (!found->classes || rule->priority < found->priority)
		found->priority = rule->priority;
	found->classes |= 1u << class;
	found->best[class] = rule;
}

/* The best of different classes, as the kernel's pos decides. */
static struct xf_policy *best_of_classes(const struct found *found)
{
	struct xf_policy *best = NULL;

	for (uint32_t classes = found->classes; classes; classes &= classes - 1) {
		const struct rule *rule = found->best[__builtin_ctz(classes)];
		struct xf_policy *policy = rule_policy(rule);

		if (rule->priority == found->priority && (!best || policy->pos < best->pos))
			best = policy;
	}
	return best;
}

static inline struct xf_policy *best_of(const struct found *found)
{
	if (!found->classes)
		return NULL;
	if (found->classes & (found->classes - 1))
		return best_of_classes(found);
	return rule_policy(found->best[__builtin_ctz(found->classes)]);
}

/* --- few rules --- */

/* A rule that was put in another's place is found before the mark that the order is wrong. */
static inline void take_matches(struct found *found, const struct scan *scan, uint64_t matches)
{
	while (matches) {
		unsigned i = (unsigned)__builtin_ctzll(matches);

		consider(found, atomic_load_explicit(&scan->rules[i], memory_order_acquire));
		if (!scan->mixed && !atomic_load_explicit(&scan->dirty, memory_order_relaxed))
			return;
		matches &= matches - 1;
	}
}

static void search_scan(struct lookup *l, const struct scan *scan, const struct some *some)
{
	uint64_t matches[CHUNK];

	l->spd->scan(scan, l->flows, some->at, some->n, matches);
	for (unsigned i = 0; i < some->n; i++)
		take_matches(&l->found[some->at[i]], scan, matches[i]);
}

/* --- tables --- */

/* Could anything in @node be better than what was found? */
static bool is_hopeless(const struct found *found, const struct node *node)
{
	return found->classes &&
	       atomic_load_explicit(&node->min_priority, memory_order_acquire) > found->priority;
}

/* The number of @list's table @i goes; false when there is none. */
static inline bool table_probe(const struct lookup *l, const struct table_list *list, unsigned i,
			       uint8_t flow, struct probe *probe)
{
	const struct table_of *table = atomic_load_explicit(&list->tables[i], memory_order_acquire);
	uint64_t hash;

	if (!table)
		return false;
	hash = node_hash(&l->spd->space, table, flow_as_words(&l->flows[flow]));
	probe->cells = atomic_load_explicit(&table->cells, memory_order_acquire);
	probe->home = cells_home(probe->cells, hash);
	probe->tag = cells_tag(hash);
	probe->flow = flow;
	return true;
}

static void search_at_once(struct lookup *l, const struct node *node, uint8_t flow);

static void take_rule(struct lookup *l, const struct rule *rule, uint8_t flow)
{
	if (rule->flags & RULE_NODE)
		search_at_once(l, rule->node, flow);
	else if (rule_match(rule, &l->flows[flow]))
		consider(&l->found[flow], rule);
}

static inline struct cells_iter iter_of(const struct probe *probe)
{
	struct cells_iter it = { .cells = probe->cells, .at = probe->home, .tag = probe->tag };

	cells_look(&it);
	return it;
}

static void probe_at_once(struct lookup *l, const struct probe *probe)
{
	struct cells_iter it = iter_of(probe);
	_Atomic uint32_t *slot;

	while ((slot = cells_next(&it)))
		take_rule(l,
			  arena_rule(&l->spd->space.arena,
				     atomic_load_explicit(slot, memory_order_acquire)),
			  probe->flow);
}

/* When there is no room to let misses overlap: nodes are a few levels deep at most. */
static void search_at_once(struct lookup *l, const struct node *node, uint8_t flow)
{
	const struct table_list *list = atomic_load_explicit(&node->list, memory_order_acquire);

	if (is_hopeless(&l->found[flow], node))
		return;
	for (unsigned i = 0; i < list->count; i++) {
		struct probe probe;

		if (table_probe(l, list, i, flow, &probe))
			probe_at_once(l, &probe);
	}
}

static inline void push_probe(struct lookup *l, const struct table_list *list, unsigned i,
			      uint8_t flow)
{
	struct probe *probe = &l->probes[l->nprobes];

	if (!table_probe(l, list, i, flow, probe))
		return;
	if (XF_UNLIKELY(l->nprobes == PROBES - 1)) {
		probe_at_once(l, probe);
		return;
	}
	__builtin_prefetch(&cells_buckets(probe->cells)[probe->home]);
	l->nprobes++;
}

static void push_node(struct lookup *l, const struct node *node, uint8_t flow)
{
	const struct table_list *list = atomic_load_explicit(&node->list, memory_order_acquire);

	if (is_hopeless(&l->found[flow], node))
		return;
	for (unsigned i = 0; i < list->count; i++)
		push_probe(l, list, i, flow);
}

static inline void look_at(struct lookup *l, const struct probe *probe)
{
	struct cells_iter it = iter_of(probe);
	_Atomic uint32_t *slot;

	while ((slot = cells_next(&it))) {
		uint32_t id = atomic_load_explicit(slot, memory_order_acquire);
		const struct rule *rule = arena_rule(&l->spd->space.arena, id);

		if (XF_UNLIKELY(l->nhits == HITS)) {
			take_rule(l, rule, probe->flow);
			continue;
		}
		__builtin_prefetch(rule);
		l->hits[l->nhits++] = (struct hit){ .rule = rule, .flow = probe->flow };
	}
}

static inline void settle(struct lookup *l, const struct hit *hit)
{
	if (hit->rule->flags & RULE_NODE)
		push_node(l, hit->rule->node, hit->flow);
	else if (rule_match(hit->rule, &l->flows[hit->flow]))
		consider(&l->found[hit->flow], hit->rule);
}

/* Look at all buckets, then at the rules in them; some of those lead to more buckets. */
static void run(struct lookup *l)
{
	while (l->nprobes) {
		for (unsigned i = 0; i < l->nprobes; i++)
			look_at(l, &l->probes[i]);
		l->nprobes = 0;
		for (unsigned i = 0; i < l->nhits; i++)
			settle(l, &l->hits[i]);
		l->nhits = 0;
	}
}

static void search_root(struct lookup *l, const struct root *root, const struct some *some)
{
	const struct prune *prune = atomic_load_explicit(&root->prune, memory_order_acquire);
	const struct table_list *list =
		atomic_load_explicit(&root->node->list, memory_order_acquire);
	uint32_t present = atomic_load_explicit(&root->node->present, memory_order_acquire);

	for (unsigned i = 0; prune && i < some->n; i++)
		prune_prefetch(prune, &l->flows[some->at[i]]);
	for (unsigned i = 0; i < some->n; i++) {
		uint8_t flow = some->at[i];
		uint32_t tables = present;

		if (prune)
			tables &= prune_tables(prune, &l->flows[flow]);
		for (; tables; tables &= tables - 1)
			push_probe(l, list, (unsigned)__builtin_ctz(tables), flow);
	}
	run(l);
}

static void search_index(struct lookup *l, const struct index *index, const struct some *some)
{
	const struct set *set = index_set(index);

	if (!set || !some->n)
		return;
	if (set->is_scan)
		search_scan(l, XF_CONTAINER_OF(set, const struct scan, set), some);
	else
		search_root(l, XF_CONTAINER_OF(set, const struct root, set), some);
}

/* --- parts --- */

/* Where a packet's interface is not known, policies with one are asked without it. */
static void search_part(struct lookup *l, const struct part *part, unsigned kind,
			const struct some *some)
{
	const struct index *no_if = &part->index[kind | KIND_NO_IF];
	struct some unknown = { 0 };

	search_index(l, &part->index[kind], some);
	if (!index_set(no_if))
		return;
	for (unsigned i = 0; i < some->n; i++)
		if (!l->flows[some->at[i]].oif)
			unknown.at[unknown.n++] = some->at[i];
	search_index(l, no_if, &unknown);
}

static bool same_part(const struct xf_flow *a, const struct xf_flow *b)
{
	return a->family == b->family && a->if_id == b->if_id;
}

static bool has_family(const struct xf_flow *flow)
{
	return flow->family == XF_AF_INET || flow->family == XF_AF_INET6;
}

/* Move the flows of the first one's part from @from to @to. */
static void take_part(const struct lookup *l, struct some *from, struct some *to)
{
	const struct xf_flow *first = &l->flows[from->at[0]];
	unsigned left = 0;

	to->n = 0;
	for (unsigned i = 0; i < from->n; i++) {
		uint8_t at = from->at[i];

		if (same_part(&l->flows[at], first))
			to->at[to->n++] = at;
		else
			from->at[left++] = at;
	}
	from->n = left;
}

static void search_type(struct lookup *l, enum xf_policy_dir dir, uint8_t type, unsigned kind,
			const struct some *all)
{
	struct some left = *all;
	struct some some;

	while (left.n) {
		const struct xf_flow *first = &l->flows[left.at[0]];
		const struct part *part = part_find(
			part_table_of(l->spd, (uint8_t)dir, type, first->family), first->if_id);

		take_part(l, &left, &some);
		if (part)
			search_part(l, part, kind, &some);
	}
}

static bool has_type(const struct xf_spd *spd, enum xf_policy_dir dir, uint8_t type)
{
	return atomic_load_explicit(&spd->nparts[dir][type], memory_order_acquire);
}

/* Type sub before main, as the kernel. */
static void search(struct lookup *l, enum xf_policy_dir dir, unsigned kind, struct some *some)
{
	unsigned left = 0;

	for (unsigned i = 0; i < some->n; i++)
		l->found[some->at[i]].classes = 0;
	if (has_type(l->spd, dir, XF_POLICY_SUB)) {
		search_type(l, dir, XF_POLICY_SUB, kind, some);
		for (unsigned i = 0; i < some->n; i++)
			if (!l->found[some->at[i]].classes)
				some->at[left++] = some->at[i];
		some->n = left;
	}
	if (has_type(l->spd, dir, XF_POLICY_MAIN))
		search_type(l, dir, XF_POLICY_MAIN, kind, some);
}

/*
 * A rule that goes below while it is looked for could be missed at both places, and its packet
 * would go in clear. node.c takes it out of the first place after the count of moves.
 */
static void search_settled(struct lookup *l, enum xf_policy_dir dir, unsigned kind,
			   const struct some *some)
{
	const struct space *space = &l->spd->space;
	uint64_t moves = atomic_load_explicit(&space->moves, memory_order_acquire);

	for (;;) {
		struct some copy = *some;
		uint64_t now;

		search(l, dir, kind, &copy);
		now = atomic_load_explicit(&space->moves, memory_order_acquire);
		if (XF_LIKELY(now == moves))
			return;
		moves = now;
	}
}

static inline bool same_flow(const struct xf_flow *a, const struct xf_flow *b)
{
	const uint64_t *x = flow_as_words(a);
	const uint64_t *y = flow_as_words(b);
	uint64_t diff = 0;

	for (unsigned i = 0; i < FLOW_WORDS; i++)
		diff |= x[i] ^ y[i];
	return !diff;
}

static void lookup_chunk(struct lookup *l, enum xf_policy_dir dir, unsigned n,
			 struct xf_policy **out)
{
	struct some some;
	uint32_t again = 0;

	/* A packet of the same flow as the one before it meets the same policy: this batch long. */
	some.n = 0;
	for (unsigned i = 0; i < n; i++) {
		if (i > 0 && same_flow(&l->flows[i], &l->flows[i - 1]))
			again |= 1u << i;
		else if (has_family(&l->flows[i]))
			some.at[some.n++] = (uint8_t)i;
		else
			l->found[i].classes = 0;
	}
	search_settled(l, dir, KIND_MAIN, &some);
	for (unsigned i = 0; i < n; i++)
		out[i] = again >> i & 1 ? out[i - 1] : best_of(&l->found[i]);
}

void xf_spd_lookup_batch(const struct xf_spd *spd, enum xf_policy_dir dir,
			 const struct xf_flow *flows, unsigned n, struct xf_policy **out)
{
	struct lookup l;

	l.spd = spd;
	l.nprobes = 0;
	l.nhits = 0;
	for (unsigned at = 0; at < n; at += CHUNK) {
		l.flows = flows + at;
		lookup_chunk(&l, dir, xf_min_u32(n - at, CHUNK), out + at);
	}
}

bool xf_spd_wants_whole(const struct xf_spd *spd, enum xf_policy_dir dir,
			const struct xf_flow *flow)
{
	const struct some some = { .n = 1 };
	struct lookup l;

	if (!has_family(flow))
		return false;
	l.spd = spd;
	l.flows = flow;
	l.nprobes = 0;
	l.nhits = 0;
	search_settled(&l, dir, KIND_WHOLE, &some);
	return l.found[0].classes;
}
