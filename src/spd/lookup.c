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
	unsigned looked; /* buckets and rules so far */
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

static const struct rule *rule_in(const struct lookup *l, const struct bucket *bucket,
				  uint64_t found)
{
	uint32_t id =
		atomic_load_explicit(&bucket->ids[cells_slot_of(found)], memory_order_acquire);

	return arena_rule(&l->spd->space.arena, id);
}

static void probe_at_once(struct lookup *l, const struct probe *probe)
{
	uint32_t at = probe->home;
	bool more;

	do {
		const struct bucket *bucket = &cells_buckets(probe->cells)[at];
		uint64_t found = cells_match(bucket, probe->tag, &more);

		for (; found; found &= found - 1)
			take_rule(l, rule_in(l, bucket, found), probe->flow);
		at = (at + 1) & cells_mask(probe->cells);
	} while (more);
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

static void push_rule(struct lookup *l, const struct rule *rule, uint8_t flow)
{
	if (XF_UNLIKELY(l->nhits == HITS)) {
		take_rule(l, rule, flow);
		return;
	}
	__builtin_prefetch(rule);
	l->hits[l->nhits++] = (struct hit){ .rule = rule, .flow = flow };
}

/* All but the first match of the first bucket: seldom. */
static void look_further(struct lookup *l, const struct probe *probe, uint64_t found, bool more)
{
	uint32_t at = probe->home;

	for (;;) {
		const struct bucket *bucket = &cells_buckets(probe->cells)[at];

		for (; found; found &= found - 1)
			push_rule(l, rule_in(l, bucket, found), probe->flow);
		if (!more)
			return;
		at = (at + 1) & cells_mask(probe->cells);
		found = cells_match(&cells_buckets(probe->cells)[at], probe->tag, &more);
	}
}

/*
 * Whether a bucket has a match is anybody's guess, and a wrong one costs as much as a bucket: the
 * first match is taken down in any case, and kept if there is one.
 */
static inline void look_at(struct lookup *l, const struct probe *probe)
{
	const struct bucket *bucket = &cells_buckets(probe->cells)[probe->home];
	bool more;
	uint64_t found = cells_match(bucket, probe->tag, &more);
	const struct rule *rule;

	if (XF_UNLIKELY(l->nhits == HITS)) {
		look_further(l, probe, found, more);
		return;
	}
	rule = rule_in(l, bucket, found);
	l->hits[l->nhits] = (struct hit){ .rule = rule, .flow = probe->flow };
	l->nhits += found != 0;
	__builtin_prefetch(rule);
	found &= found - 1;
	if (XF_UNLIKELY(found || more))
		look_further(l, probe, found, more);
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
static void choose_tables(const struct lookup *l, const struct root *root, const struct some *some,
			  uint32_t *tables)
{
	const struct prune *prune = atomic_load_explicit(&root->prune, memory_order_acquire);
	uint32_t present = atomic_load_explicit(&root->node->present, memory_order_acquire);

	if (!prune) {
		for (unsigned i = 0; i < some->n; i++)
			tables[i] = present;
		return;
	}
	for (unsigned i = 0; i < some->n; i++)
		prune_prefetch(prune, &l->flows[some->at[i]]);
	for (unsigned i = 0; i < some->n; i++)
		tables[i] = present & prune_tables(prune, &l->flows[some->at[i]]);
}

static void search_root(struct lookup *l, const struct root *root, const struct some *some)
{
	const struct table_list *list =
		atomic_load_explicit(&root->node->list, memory_order_acquire);
	uint32_t tables[CHUNK];

	choose_tables(l, root, some, tables);
	for (unsigned i = 0; i < some->n; i++)
		for (uint32_t left = tables[i]; left; left &= left - 1)
			push_probe(l, list, (unsigned)__builtin_ctz(left), some->at[i]);
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

/* Mostly all flows of a batch are of one part. */
static bool all_same_part(const struct lookup *l, const struct some *some)
{
	const struct xf_flow *first = &l->flows[some->at[0]];
	uint32_t diff = 0;

	for (unsigned i = 1; i < some->n; i++) {
		const struct xf_flow *flow = &l->flows[some->at[i]];

		diff |= (uint32_t)(flow->family ^ first->family) | (flow->if_id ^ first->if_id);
	}
	return !diff;
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
	const struct part *part =
		part_find(part_table_of(l->spd, (uint8_t)dir, type, first->family), first->if_id);

	if (part)
		search_part(l, part, kind, some);
}

static void search_type(struct lookup *l, enum xf_policy_dir dir, uint8_t type, unsigned kind,
			const struct some *all)
{
	struct some left, some;

	if (!all->n)
		return;
	if (XF_LIKELY(all_same_part(l, all))) {
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
	for (unsigned i = 0; i < n; i++) {
		out[i] = again >> i & 1 ? out[i - 1] : best_of(&l->found[i]);
		if (l->fetch && out[i])
			policy_prefetch(out[i]);
	}
}

static void lookup_init(struct lookup *l, const struct xf_spd *spd)
{
	l->spd = spd;
	l->nprobes = 0;
	l->nhits = 0;
	l->looked = 0;
	l->fetch = false;
}

/* --- the daily case: few policies, all in one order --- */

/* The scan that has all there is for these flows, or NULL. */
static const struct scan *only_scan(const struct xf_spd *spd, enum xf_policy_dir dir,
				    const struct xf_flow *flows, unsigned n)
{
	const struct part *part;
	const struct set *set;
	uint32_t diff = 0;

	if (has_type(spd, dir, XF_POLICY_SUB) || !has_family(&flows[0]))
		return NULL;
	for (unsigned i = 1; i < n; i++)
		diff |= (uint32_t)(flows[i].family ^ flows[0].family) |
			(flows[i].if_id ^ flows[0].if_id);
	if (diff)
		return NULL;
	part = part_find(part_table_of(spd, (uint8_t)dir, XF_POLICY_MAIN, flows[0].family),
			 flows[0].if_id);
	set = part && !index_set(&part->index[KIND_NO_IF]) ? index_set(&part->index[KIND_MAIN])
							   : NULL;
	return set && set->is_scan ? XF_CONTAINER_OF(set, const struct scan, set) : NULL;
}

/* How many flows, from the first on, are the same one: a batch is often one flow's. */
static unsigned same_flows(const struct xf_flow *flows, unsigned n)
{
	const uint64_t *first = flow_as_words(&flows[0]);
	unsigned i = 1;

	for (; i < n; i++) {
		const uint64_t *other = flow_as_words(&flows[i]);
		uint64_t diff = 0;

		for (unsigned k = 0; k < FLOW_WORDS; k++)
			diff |= first[k] ^ other[k];
		if (diff)
			break;
	}
	return i;
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

	for (unsigned at = 0; at < n; at += CHUNK) {
		unsigned count = xf_min_u32(n - at, CHUNK);
		const struct scan *scan = only_scan(spd, dir, flows + at, count);
		bool same = same_flows(flows + at, count) == count;

		l->flows = flows + at;
		if (!scan || !lookup_scan(spd, scan, l->flows, same ? 1 : count, out + at))
			lookup_chunk(l, dir, same ? 1 : count, out + at);
		for (unsigned i = 1; same && i < count; i++)
			out[at + i] = out[at];
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
	struct xf_policy *policy;
	struct lookup l;

	lookup_init(&l, spd);
	l.flows = flow;
	lookup_chunk(&l, dir, 1, &policy);
	return l.looked;
}
