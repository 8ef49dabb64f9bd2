/*
 * Lookups go stage by stage through up to CHUNK flows, and what a stage needs from memory is
 * fetched in the stage before: tables' bitmaps, buckets, rules. So the misses of a batch overlap.
 */
#include "spd/spd_priv.h"
#include "spd/spd_test.h"

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
	const struct bucket *bucket;
	const struct table_of *table;
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
	unsigned looked; /* buckets and rules so far */
	bool one_part; /* all flows are of one part and family */
	bool apart; /* a part's rules are in two indexes */
	bool fetch; /* the policies that are found */
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

/*
 * A rule that was put in another's place is found before the mark that the order is wrong. The
 * first match is the best of its class alone, and not even that while the other index may have
 * an updated one before it: then the second class here has a say.
 */
static inline void take_matches(struct found *found, const struct scan *scan, uint64_t matches,
				bool apart)
{
	while (matches) {
		unsigned i = (unsigned)__builtin_ctzll(matches);

		consider(found, atomic_load_explicit(&scan->rules[i], memory_order_acquire));
		if (!apart && !scan->mixed &&
		    !atomic_load_explicit(&scan->dirty, memory_order_relaxed))
			return;
		matches &= matches - 1;
	}
}

static void search_scan(struct lookup *l, const struct scan *scan, const struct some *some)
{
	uint64_t matches[CHUNK];

	l->spd->scan(scan, l->flows, some->at, some->n, matches);
	for (unsigned i = 0; i < some->n; i++)
		take_matches(&l->found[some->at[i]], scan, matches[i], l->apart);
}

/* --- tables --- */

/* Could anything in @node be better than what was found? */
static bool is_hopeless(const struct found *found, const struct node *node)
{
	return found->classes &&
	       atomic_load_explicit(&node->min_priority, memory_order_acquire) > found->priority;
}

static inline uint64_t hash_in(const struct lookup *l, const struct table_of *table, uint8_t flow)
{
	return node_hash(&l->spd->space, table, flow_as_words(&l->flows[flow]));
}

/* Where flow number @flow is looked for in @list's table @i; false when there is none. */
static inline bool table_probe(const struct lookup *l, const struct table_list *list, unsigned i,
			       uint8_t flow, struct probe *probe)
{
	const struct table_of *table = atomic_load_explicit(&list->tables[i], memory_order_acquire);
	cells_word cells;
	uint64_t hash;

	if (!table)
		return false;
	hash = hash_in(l, table, flow);
	cells = atomic_load_explicit(&table->cells, memory_order_acquire);
	probe->bucket = &cells_buckets(cells)[cells_home(cells, hash)];
	probe->table = table;
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

static inline const struct rule *rule_at(const struct lookup *l, const _Atomic uint32_t *slot)
{
	return arena_rule(&l->spd->space.arena, atomic_load_explicit(slot, memory_order_acquire));
}

static void probe_at_once(struct lookup *l, const struct table_of *table, uint8_t flow)
{
	struct cells_iter it = cells_begin(
		atomic_load_explicit(&table->cells, memory_order_acquire), hash_in(l, table, flow));
	const _Atomic uint32_t *slot;

	while ((slot = cells_next(&it)))
		take_rule(l, rule_at(l, slot), flow);
}

/* When there is no room to let misses overlap: nodes are a few levels deep at most. */
static void search_at_once(struct lookup *l, const struct node *node, uint8_t flow)
{
	const struct table_list *list = atomic_load_explicit(&node->list, memory_order_acquire);

	if (is_hopeless(&l->found[flow], node))
		return;
	for (unsigned i = 0; i < list->count; i++) {
		const struct table_of *table =
			atomic_load_explicit(&list->tables[i], memory_order_acquire);

		if (table)
			probe_at_once(l, table, flow);
	}
}

/* One more probe, which counts if @wanted. */
static inline void push_probe(struct lookup *l, const struct table_list *list, unsigned i,
			      uint8_t flow, bool wanted)
{
	struct probe *probe = &l->probes[l->nprobes];

	if (!table_probe(l, list, i, flow, probe))
		return;
	if (XF_UNLIKELY(l->nprobes == PROBES - 1)) {
		probe_at_once(l, probe->table, flow);
		return;
	}
	__builtin_prefetch(probe->bucket);
	l->nprobes += wanted;
}

static void push_node(struct lookup *l, const struct node *node, uint8_t flow)
{
	const struct table_list *list = atomic_load_explicit(&node->list, memory_order_acquire);

	if (is_hopeless(&l->found[flow], node))
		return;
	for (unsigned i = 0; i < list->count; i++)
		push_probe(l, list, i, flow, true);
}

static void push_rule(struct lookup *l, const struct rule *rule, uint8_t flow)
{
	if (XF_UNLIKELY(l->nhits == HITS)) {
		take_rule(l, rule, flow);
		return;
	}
	__builtin_prefetch(rule);
	l->hits[l->nhits++] = (struct hit){ .rule = rule, .flow = flow };
}

/* Some rule found no room in its bucket. The table may be a larger one by now: all is looked at. */
static void look_further(struct lookup *l, const struct probe *probe)
{
	struct cells_iter it =
		cells_begin(atomic_load_explicit(&probe->table->cells, memory_order_acquire),
			    hash_in(l, probe->table, probe->flow));
	const _Atomic uint32_t *slot;

	while ((slot = cells_next(&it)))
		push_rule(l, rule_at(l, slot), probe->flow);
}

/*
 * Whether a bucket has a match is anybody's guess, and a wrong one costs as much as a bucket: the
 * first match is taken down in any case, and kept if there is one.
 */
static inline void look_at(struct lookup *l, const struct probe *probe)
{
	const struct bucket *bucket = probe->bucket;
	bool more;
	uint32_t found = cells_match(bucket, probe->tag, &more);

	if (XF_UNLIKELY(more)) {
		look_further(l, probe);
		return;
	}
	if (XF_LIKELY(l->nhits < HITS)) {
		const struct rule *rule = rule_at(l, &bucket->ids[cells_slot_of(found)]);

		l->hits[l->nhits] = (struct hit){ .rule = rule, .flow = probe->flow };
		l->nhits += found != 0;
		__builtin_prefetch(rule);
		found &= found - 1;
	}
	for (; XF_UNLIKELY(found); found &= found - 1)
		push_rule(l, rule_at(l, &bucket->ids[cells_slot_of(found)]), probe->flow);
}

static inline void settle(struct lookup *l, const struct hit *hit)
{
	const struct rule *rule = hit->rule;

	if (rule->flags & RULE_NODE)
		push_node(l, rule->node, hit->flow);
	else if (rule_match(rule, &l->flows[hit->flow]))
		consider(&l->found[hit->flow], rule);
}

/* Look at all buckets, then at the rules in them; some of those lead to more buckets. */
static void run(struct lookup *l)
{
	while (l->nprobes) {
		l->looked += l->nprobes;
		for (unsigned i = 0; i < l->nprobes; i++)
			look_at(l, &l->probes[i]);
		l->looked += l->nhits;
		l->nprobes = 0;
		for (unsigned i = 0; i < l->nhits; i++)
			settle(l, &l->hits[i]);
		l->nhits = 0;
	}
}

/* Bitmaps first, then the rest: so a wrong guess how many tables there are waits for nothing. */
static void choose_tables(const struct lookup *l, const struct prune *prune, uint32_t present,
			  const struct some *some, uint32_t *tables)
{
	if (!prune) {
		for (unsigned i = 0; i < some->n; i++)
			tables[i] = present;
		return;
	}
	for (unsigned i = 0; !prune->is_small && i < some->n; i++)
		prune_prefetch(prune, &l->flows[some->at[i]]);
	for (unsigned i = 0; i < some->n; i++)
		tables[i] = present & prune_tables(prune, &l->flows[some->at[i]]);
}

/*
 * Whether a flow has any table is as hard to guess as whether a bucket has a match (look_at()): so
 * one is looked at in any case.
 */
static void push_root(struct lookup *l, const struct root *root, const struct some *some)
{
	const struct table_list *list =
		atomic_load_explicit(&root->node->list, memory_order_acquire);
	uint32_t present = atomic_load_explicit(&root->node->present, memory_order_acquire);
	uint32_t tables[CHUNK];

	if (!present)
		return;
	choose_tables(l, atomic_load_explicit(&root->prune, memory_order_acquire), present, some,
		      tables);
	for (unsigned i = 0; i < some->n; i++) {
		uint32_t left = tables[i];
		unsigned any = (unsigned)__builtin_ctz(left ? left : present);

		push_probe(l, list, any, some->at[i], left);
		for (left &= left - 1; XF_UNLIKELY(left); left &= left - 1)
			push_probe(l, list, (unsigned)__builtin_ctz(left), some->at[i], true);
	}
}

static void search_index(struct lookup *l, const struct index *index, const struct some *some)
{
	const struct set *set = index_set(index);

	if (!set || !some->n)
		return;
	if (set->is_scan) {
		search_scan(l, XF_CONTAINER_OF(set, const struct scan, set), some);
	} else {
		push_root(l, XF_CONTAINER_OF(set, const struct root, set), some);
		run(l);
	}
}

/* --- parts --- */

/* Where a packet's interface is not known, policies with one are asked without it. */
static void search_part(struct lookup *l, const struct part *part, unsigned kind,
			const struct some *some)
{
	const struct index *no_if = &part->index[kind | KIND_NO_IF];
	struct some unknown = { 0 };

	l->apart = index_set(no_if);
	search_index(l, &part->index[kind], some);
	if (!l->apart)
		return;
	for (unsigned i = 0; i < some->n; i++)
		if (!l->flows[some->at[i]].oif)
			unknown.at[unknown.n++] = some->at[i];
	search_index(l, no_if, &unknown);
}

static inline bool same_part(const struct xf_flow *a, const struct xf_flow *b)
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

/* All of @some are of one part. */
static void search_one_part(struct lookup *l, enum xf_policy_dir dir, uint8_t type, unsigned kind,
			    const struct some *some)
{
	const struct xf_flow *first = &l->flows[some->at[0]];
	const struct part *part = xf_spd_part_find(
		part_table_of(l->spd, (uint8_t)dir, type, first->family), first->if_id);

	if (part)
		search_part(l, part, kind, some);
}

static void search_type(struct lookup *l, enum xf_policy_dir dir, uint8_t type, unsigned kind,
			const struct some *all)
{
	struct some left, some;

	if (!all->n)
		return;
	if (XF_LIKELY(l->one_part)) {
		search_one_part(l, dir, type, kind, all);
		return;
	}
	left = *all;
	while (left.n) {
		take_part(l, &left, &some);
		search_one_part(l, dir, type, kind, &some);
	}
}

static bool has_type(const struct xf_spd *spd, enum xf_policy_dir dir, uint8_t type)
{
	return atomic_load_explicit(&spd->nparts[dir][type], memory_order_acquire);
}

/* Those of @from for which nothing was found. */
static void take_unfound(const struct lookup *l, const struct some *from, struct some *to)
{
	to->n = 0;
	for (unsigned i = 0; i < from->n; i++)
		if (!l->found[from->at[i]].classes)
			to->at[to->n++] = from->at[i];
}

/* Type sub before main, as the kernel. */
static void search(struct lookup *l, enum xf_policy_dir dir, unsigned kind, const struct some *some)
{
	struct some left;

	for (unsigned i = 0; i < some->n; i++)
		l->found[some->at[i]].classes = 0;
	if (has_type(l->spd, dir, XF_POLICY_SUB)) {
		search_type(l, dir, XF_POLICY_SUB, kind, some);
		take_unfound(l, some, &left);
		some = &left;
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
		uint64_t now;

		search(l, dir, kind, some);
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

	if (XF_LIKELY(x[0] != y[0]))
		return false;
	for (unsigned i = 0; i < FLOW_WORDS; i++)
		diff |= x[i] ^ y[i];
	return !diff;
}

/* What there is to know of the flows of a chunk before any is looked up. */
struct glance {
	uint32_t again; /* bits: those that are the flow before them */
	bool one_part;
};

static struct glance glance_at(const struct xf_flow *flows, unsigned n)
{
	struct glance glance = { 0 };
	uint32_t diff = 0;

	for (unsigned i = 1; i < n; i++) {
		diff |= (uint32_t)(flows[i].family ^ flows[0].family) |
			(flows[i].if_id ^ flows[0].if_id);
		if (XF_UNLIKELY(same_flow(&flows[i], &flows[i - 1])))
			glance.again |= 1u << i;
	}
	glance.one_part = !diff && has_family(&flows[0]);
	return glance;
}

/* A packet of the same flow as the one before it meets the same policy: this batch long. */
static void repeat(uint32_t again, struct xf_policy **out)
{
	for (; again; again &= again - 1) {
		unsigned i = (unsigned)__builtin_ctz(again);

		out[i] = out[i - 1];
	}
}

static void lookup_chunk(struct lookup *l, enum xf_policy_dir dir, unsigned n,
			 const struct glance *glance, struct xf_policy **out)
{
	struct some some;

	l->one_part = glance->one_part;
	some.n = 0;
	for (unsigned i = 0; i < n; i++) {
		l->found[i].classes = 0;
		some.at[some.n] = (uint8_t)i;
		some.n += (~glance->again >> i & 1) && (l->one_part || has_family(&l->flows[i]));
	}
	search_settled(l, dir, KIND_MAIN, &some);
	for (unsigned i = 0; i < n; i++) {
		out[i] = best_of(&l->found[i]);
		if (l->fetch && out[i])
			policy_prefetch(out[i]);
	}
	repeat(glance->again, out);
}

static void lookup_init(struct lookup *l, const struct xf_spd *spd)
{
	l->spd = spd;
	l->nprobes = 0;
	l->nhits = 0;
	l->looked = 0;
	l->one_part = false;
	l->fetch = false;
}

/* --- the daily case: few policies, all in one order --- */

/* The scan that has all there is for flows of @flow's part, or NULL. */
static const struct scan *only_scan(const struct xf_spd *spd, enum xf_policy_dir dir,
				    const struct xf_flow *flow)
{
	const struct part *part;
	const struct set *set;

	if (has_type(spd, dir, XF_POLICY_SUB))
		return NULL;
	part = xf_spd_part_find(part_table_of(spd, (uint8_t)dir, XF_POLICY_MAIN, flow->family),
				flow->if_id);
	set = part && !index_set(&part->index[KIND_NO_IF]) ? index_set(&part->index[KIND_MAIN])
							   : NULL;
	return set && set->is_scan ? XF_CONTAINER_OF(set, const struct scan, set) : NULL;
}

/* False when the first match of @scan may not be the best. */
static bool lookup_scan(const struct xf_spd *spd, const struct scan *scan,
			const struct xf_flow *flows, unsigned n, struct xf_policy **out)
{
	static const uint8_t all[CHUNK] = { 0,	1,  2,	3,  4,	5,  6,	7,  8,	9,  10,
					    11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
					    22, 23, 24, 25, 26, 27, 28, 29, 30, 31 };
	uint64_t matches[CHUNK];

	spd->scan(scan, flows, all, n, matches);
	for (unsigned i = 0; i < n; i++) {
		unsigned first = (unsigned)__builtin_ctzll(matches[i] | UINT64_C(1) << 63);
		const struct rule *rule =
			atomic_load_explicit(&scan->rules[first], memory_order_acquire);
		struct xf_policy *policy = rule_policy(rule);

		/* Not a branch: nobody could guess it. */
		out[i] = (struct xf_policy *)((uintptr_t)policy & -(uintptr_t)(matches[i] != 0));
	}
	return !scan->mixed && !atomic_load_explicit(&scan->dirty, memory_order_relaxed);
}

static void lookup_batch(struct lookup *l, enum xf_policy_dir dir, const struct xf_flow *flows,
			 unsigned n, struct xf_policy **out)
{
	const struct xf_spd *spd = l->spd;

	for (unsigned at = 0; at < n; at += CHUNK, flows += CHUNK, out += CHUNK) {
		unsigned count = xf_min_u32(n - at, CHUNK);
		struct glance glance = glance_at(flows, count);
		bool same = glance.again == (UINT32_MAX >> (CHUNK - count) & ~1u);
		const struct scan *scan = glance.one_part ? only_scan(spd, dir, flows) : NULL;

		l->flows = flows;
		if (!scan || !lookup_scan(spd, scan, flows, same ? 1 : count, out))
			lookup_chunk(l, dir, count, &glance, out);
		else if (same)
			repeat(glance.again, out);
	}
}

void xf_spd_lookup_batch(const struct xf_spd *spd, enum xf_policy_dir dir,
			 const struct xf_flow *flows, unsigned n, struct xf_policy **out)
{
	struct lookup l;

	lookup_init(&l, spd);
	lookup_batch(&l, dir, flows, n, out);
}

void xf_spd_lookup_to_use(const struct xf_spd *spd, enum xf_policy_dir dir,
			  const struct xf_flow *flows, unsigned n, struct xf_policy **out)
{
	struct lookup l;

	lookup_init(&l, spd);
	l.fetch = true;
	lookup_batch(&l, dir, flows, n, out);
}

bool xf_spd_wants_whole(const struct xf_spd *spd, enum xf_policy_dir dir,
			const struct xf_flow *flow)
{
	const struct some some = { .n = 1 };
	struct lookup l;

	if (!has_family(flow))
		return false;
	lookup_init(&l, spd);
	l.flows = flow;
	search_settled(&l, dir, KIND_WHOLE, &some);
	return l.found[0].classes;
}

unsigned xf_spd_lookup_cost(const struct xf_spd *spd, enum xf_policy_dir dir,
			    const struct xf_flow *flow)
{
	const struct glance glance = glance_at(flow, 1);
	struct xf_policy *policy;
	struct lookup l;

	lookup_init(&l, spd);
	l.flows = flow;
	lookup_chunk(&l, dir, 1, &glance, &policy);
	return l.looked;
}
