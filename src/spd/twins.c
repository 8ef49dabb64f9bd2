#include "spd/spd_priv.h"

static bool has_order(const struct member *member)
{
	return !(member->kind & KIND_WHOLE);
}

static struct rule *rule_of(const struct xf_spd *spd, const struct member *member)
{
	return arena_rule(&spd->space.arena, member->rule);
}

static struct index *index_of(const struct member *member)
{
	return &member->policy->part->index[member->kind];
}

/* --- the heap --- */

static bool before(const struct member *a, const struct member *b)
{
	const struct xf_policy *x = a->policy;
	const struct xf_policy *y = b->policy;

	if (!has_order(a))
		return true;
	if (x->cfg.priority != y->cfg.priority)
		return x->cfg.priority < y->cfg.priority;
	return x->rank < y->rank;
}

static void push(struct member **list, struct member *member)
{
	member->next = *list;
	member->link = list;
	if (member->next)
		member->next->link = &member->next;
	*list = member;
}

static void pull(struct member *member)
{
	*member->link = member->next;
	if (member->next)
		member->next->link = member->link;
	member->next = NULL;
	member->link = NULL;
}

/* Either may be NULL; both are tops. */
static struct member *merge(struct member *a, struct member *b)
{
	if (!a || !b)
		return a ? a : b;
	if (!before(a, b)) {
		struct member *swap = a;

		a = b;
		b = swap;
	}
	push(&a->child, b);
	return a;
}

/* Make one heap of the children of @top: two by two, then all into the last. */
static struct member *merge_children(struct member *top)
{
	struct member *pairs = NULL;
	struct member *all = NULL;

	while (top->child) {
		struct member *a = top->child;
		struct member *b = a->next;

		pull(a);
		if (b)
			pull(b);
		push(&pairs, merge(a, b));
	}
	while (pairs) {
		struct member *a = pairs;

		pull(a);
		all = merge(all, a);
	}
	return all;
}

/* --- tops --- */

void xf_spd_twins_prepare(const struct xf_spd *spd, struct member *member)
{
	const void *home = index_of(member);

	member->by_match.hash =
		xf_spd_rule_match_hash(rule_of(spd, member), spd->cfg.seed) ^ (uintptr_t)home;
	xf_spd_table_prefetch(&spd->by_match, member->by_match.hash);
	xf_spd_index_prefetch(index_of(member), &spd->space, member->rule);
}

void xf_spd_twins_prefetch(const struct xf_spd *spd, const struct member *member)
{
	if (!member->top)
		return;
	xf_spd_table_prefetch(&spd->by_match, member->by_match.hash);
	xf_spd_index_prefetch(index_of(member), &spd->space, member->rule);
}

static struct member *find_top(const struct xf_spd *spd, const struct member *member)
{
	const struct rule *rule = rule_of(spd, member);
	struct table_link *link = xf_spd_table_first(&spd->by_match, member->by_match.hash);

	for (; link; link = xf_spd_table_next(link)) {
		struct member *top = XF_CONTAINER_OF(link, struct member, by_match);

		if (index_of(top) == index_of(member) &&
		    xf_spd_rule_same_match(rule_of(spd, top), rule))
			return top;
	}
	return NULL;
}

/* Without order, twins share the rule of the first: only its policy changes. */
static void hand_over(struct xf_spd *spd, struct member *from, struct member *to)
{
	if (has_order(from)) {
		xf_spd_index_replace(index_of(from), &spd->space, from->rule, to->rule);
		return;
	}
	if (to->rule != RULE_NONE)
		xf_spd_arena_free(&spd->space.arena, to->rule);
	to->rule = from->rule;
	from->rule = RULE_NONE;
	atomic_store_explicit(&rule_of(spd, to)->policy, to->policy, memory_order_release);
}

/* Let @to be the top where @from was it. */
static void set_top(struct xf_spd *spd, struct member *from, struct member *to)
{
	if (from == to)
		return;
	from->top = false;
	to->top = true;
	xf_spd_table_del(&spd->by_match, &from->by_match);
	hand_over(spd, from, to);
	xf_spd_table_add(&spd->by_match, &to->by_match, to->by_match.hash);
}

int xf_spd_twins_join(struct xf_spd *spd, struct member *member)
{
	struct member *top = find_top(spd, member);

	if (!top) {
		struct xf_policy *policy = member->policy;
		int err = xf_spd_index_add(index_of(member), &spd->space, policy->cfg.sel.family,
					   member->rule);

		if (err)
			return err;
		xf_spd_table_add(&spd->by_match, &member->by_match, member->by_match.hash);
		member->top = true;
	} else {
		set_top(spd, top, merge(top, member));
		if (!member->top && !has_order(member)) {
			xf_spd_arena_free(&spd->space.arena, member->rule);
			member->rule = RULE_NONE;
		}
	}
	member->joined = true;
	return 0;
}

/* Take @member, which is not the top, out of the heap. Its children stay with those above. */
static void cut_out(struct member *member)
{
	struct member **list = member->link;
	struct member *below;

	pull(member);
	below = merge_children(member);
	if (below)
		push(list, below);
}

void xf_spd_twins_leave(struct xf_spd *spd, struct member *member)
{
	struct member *next;

	member->joined = false;
	if (!member->top) {
		cut_out(member);
		return;
	}
	next = merge_children(member);
	if (next) {
		set_top(spd, member, next);
		return;
	}
	member->top = false;
	xf_spd_table_del(&spd->by_match, &member->by_match);
	xf_spd_index_del(index_of(member), &spd->space, member->rule);
}

void xf_spd_twins_swap(struct xf_spd *spd, struct member *member, struct member *by)
{
	struct member *top = member->top ? member : find_top(spd, by);
	struct member *rest = top;

	member->joined = false;
	by->joined = true;
	if (member->top)
		rest = merge_children(member);
	else
		cut_out(member);
	set_top(spd, top, merge(rest, by));
	if (!by->top && !has_order(by) && by->rule != RULE_NONE) {
		xf_spd_arena_free(&spd->space.arena, by->rule);
		by->rule = RULE_NONE;
	}
}
