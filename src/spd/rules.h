/*
 * rules.h - an ordered list of rules that readers scan while one writer changes it.
 *
 * The list is cut into chunks. A change copies one chunk and publishes the copy (RCU), so that
 * it costs the same in a long list as in a short one; only when chunks come or go is the array of
 * chunk pointers copied. Taking a rule out never allocates: its policy pointer becomes NULL, and
 * readers pass over it.
 *
 * Order: priority, then rank, both ascending. No two rules of a list have the same pair.
 * Threads: the control thread writes; readers sit in a read section (xf/rcu.h).
 */
#ifndef XF_SPD_RULES_H
#define XF_SPD_RULES_H

#include <stdatomic.h>

#include <xf/rcu.h>
#include <xf/spd.h>

struct rule {
	struct xf_selector sel;
	struct xf_mark mark;
	uint64_t rank;
	uint32_t priority;
	_Atomic(struct xf_policy *) policy; /* NULL: taken out */
};

struct chunk {
	struct xf_rcu_head rcu;
	uint32_t count; /* constant, not 0 */
	uint32_t live; /* control thread: rules that are not taken out */
	struct rule rules[];
};

struct chunk_list {
	struct xf_rcu_head rcu;
	uint32_t count; /* constant, not 0 */
	_Atomic(struct chunk *) chunks[];
};

/* All zero is an empty list. */
struct rules {
	_Atomic(struct chunk_list *) list;
};

/* Add a copy of @rule at its place: 0 or -ENOMEM. */
int rules_add(struct rules *rules, const struct rule *rule);

/* Put @policy in the place of the one at (@priority, @rank); NULL takes the rule out. */
void rules_set(struct rules *rules, uint32_t priority, uint64_t rank, struct xf_policy *policy);

/* Free everything at once: no reader is left. */
void rules_fini(struct rules *rules);

/*
 * Walk in order: for (it = rules_begin(rules); rules_next(&it);) look at it.rule and it.policy.
 */
struct rules_iter {
	const struct chunk_list *list;
	const struct chunk *chunk;
	uint32_t next_chunk;
	uint32_t next_rule;
	const struct rule *rule;
	struct xf_policy *policy;
};

static inline struct rules_iter rules_begin(const struct rules *rules)
{
	return (struct rules_iter){ .list = atomic_load_explicit(&rules->list,
								 memory_order_acquire) };
}

static inline bool rules_next_chunk(struct rules_iter *it)
{
	if (!it->list || it->next_chunk == it->list->count)
		return false;
	it->chunk = atomic_load_explicit(&it->list->chunks[it->next_chunk++], memory_order_acquire);
	it->next_rule = 0;
	return true;
}

static inline bool rules_next(struct rules_iter *it)
{
	for (;;) {
		while (!it->chunk || it->next_rule == it->chunk->count)
			if (!rules_next_chunk(it))
				return false;
		it->rule = &it->chunk->rules[it->next_rule++];
		it->policy = atomic_load_explicit(&it->rule->policy, memory_order_acquire);
		if (it->policy)
			return true;
	}
}

#endif
