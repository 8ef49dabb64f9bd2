#include <errno.h>
#include <stdlib.h>

#include "spd/rules.h"

/* Few enough that a copy is cheap, enough that the array of chunks stays short. */
#define CHUNK_MAX 64

static void chunk_free(struct xf_rcu_head *head)
{
	free(XF_CONTAINER_OF(head, struct chunk, rcu));
}

static void list_free(struct xf_rcu_head *head)
{
	free(XF_CONTAINER_OF(head, struct chunk_list, rcu));
}

static struct chunk *chunk_new(const struct rule *rules, uint32_t count)
{
	struct chunk *chunk = malloc(sizeof(*chunk) + count * sizeof(struct rule));

	if (!chunk)
		return NULL;
	chunk->count = count;
	chunk->live = count;
	memcpy(chunk->rules, rules, count * sizeof(struct rule));
	return chunk;
}

/* The writer's own view needs no ordering: nobody else stores. */
static struct chunk_list *own_list(const struct rules *rules)
{
	return atomic_load_explicit(&rules->list, memory_order_relaxed);
}

static struct chunk *own_chunk(const struct chunk_list *list, uint32_t i)
{
	return atomic_load_explicit(&list->chunks[i], memory_order_relaxed);
}

static bool is_live(const struct rule *rule)
{
	return atomic_load_explicit(&rule->policy, memory_order_relaxed);
}

/* Does @rule stand in front of (@priority, @rank)? */
static bool before(const struct rule *rule, uint32_t priority, uint64_t rank)
{
	if (rule->priority != priority)
		return rule->priority < priority;
	return rule->rank < rank;
}

/* The chunk where (@priority, @rank) is or belongs: the last one that begins no later. */
static uint32_t chunk_for(const struct chunk_list *list, uint32_t priority, uint64_t rank)
{
	uint32_t low = 0;
	uint32_t high = list->count;

	while (high - low > 1) {
		uint32_t mid = low + (high - low) / 2;

		/* rank + 1: "begins no later" includes equality. */
		if (before(&own_chunk(list, mid)->rules[0], priority, rank + 1))
			low = mid;
		else
			high = mid;
	}
	return low;
}

/* Publish @list with chunk @at replaced by the @n chunks at @by: 0 or -ENOMEM. */
static int splice(struct rules *rules, uint32_t at, struct chunk *const *by, uint32_t n)
{
	struct chunk_list *old = own_list(rules);
	uint32_t had = old ? old->count : 0;
	uint32_t gone = old ? 1 : 0;
	uint32_t count = had - gone + n;
	struct chunk_list *list = NULL;

	if (count) {
		list = malloc(sizeof(*list) + count * sizeof(list->chunks[0]));
		if (!list)
			return -ENOMEM;
		list->count = count;
	}
	for (uint32_t i = 0; i < count; i++) {
		struct chunk *chunk;

		if (i < at)
			chunk = own_chunk(old, i);
		else if (i < at + n)
			chunk = by[i - at];
		else
			chunk = own_chunk(old, i - n + gone);
		atomic_init(&list->chunks[i], chunk);
	}
	atomic_store_explicit(&rules->list, list, memory_order_release);
	if (old) {
		struct chunk *replaced = own_chunk(old, at);

		xf_rcu_defer(&old->rcu, list_free);
		xf_rcu_defer(&replaced->rcu, chunk_free);
	}
	return 0;
}

static void replace_chunk(struct chunk_list *list, uint32_t at, struct chunk *chunk)
{
	struct chunk *old = own_chunk(list, at);

	atomic_store_explicit(&list->chunks[at], chunk, memory_order_release);
	xf_rcu_defer(&old->rcu, chunk_free);
}

/* Copy the live rules of @chunk and @rule between them (NULL: none) to @out, in order. */
static uint32_t merge(const struct chunk *chunk, const struct rule *rule, struct rule *out)
{
	uint32_t n = 0;

	for (uint32_t i = 0; chunk && i < chunk->count; i++) {
		const struct rule *old = &chunk->rules[i];

		if (rule && !before(old, rule->priority, rule->rank)) {
			memcpy(&out[n++], rule, sizeof(*rule));
			rule = NULL;
		}
		if (is_live(old))
			memcpy(&out[n++], old, sizeof(*old));
	}
	if (rule)
		memcpy(&out[n++], rule, sizeof(*rule));
	return n;
}

int rules_add(struct rules *rules, const struct rule *rule)
{
	struct rule merged[CHUNK_MAX + 1];
	struct chunk_list *list = own_list(rules);
	uint32_t at = list ? chunk_for(list, rule->priority, rule->rank) : 0;
	uint32_t n = merge(list ? own_chunk(list, at) : NULL, rule, merged);
	uint32_t cut = n;
	struct chunk *parts[2] = { NULL, NULL };

	/* Rules often come in ascending order: then the full chunk stays full. */
	if (n > CHUNK_MAX)
		cut = merged[n - 1].rank == rule->rank ? n - 1 : n / 2;
	parts[0] = chunk_new(merged, cut);
	if (cut < n)
		parts[1] = chunk_new(merged + cut, n - cut);
	if (!parts[0] || (cut < n && !parts[1]))
		goto no_memory;
	if (list && cut == n)
		replace_chunk(list, at, parts[0]);
	else if (splice(rules, at, parts, cut < n ? 2 : 1) < 0)
		goto no_memory;
	return 0;

no_memory:
	free(parts[0]);
	free(parts[1]);
	return -ENOMEM;
}

/* Without memory the empty places stay: readers pass over them, and the next change retries. */
static void shrink(struct rules *rules, uint32_t at)
{
	struct rule merged[CHUNK_MAX];
	struct chunk_list *list = own_list(rules);
	struct chunk *old = own_chunk(list, at);
	struct chunk *chunk;

	if (old->live == 0) {
		splice(rules, at, NULL, 0);
		return;
	}
	if (old->live * 2 > old->count)
		return;
	chunk = chunk_new(merged, merge(old, NULL, merged));
	if (chunk)
		replace_chunk(list, at, chunk);
}

void rules_set(struct rules *rules, uint32_t priority, uint64_t rank, struct xf_policy *policy)
{
	struct chunk_list *list = own_list(rules);
	uint32_t at = chunk_for(list, priority, rank);
	struct chunk *chunk = own_chunk(list, at);
	uint32_t i = 0;

	while (before(&chunk->rules[i], priority, rank))
		i++;
	atomic_store_explicit(&chunk->rules[i].policy, policy, memory_order_release);
	if (!policy) {
		chunk->live--;
		shrink(rules, at);
	}
}

void rules_fini(struct rules *rules)
{
	struct chunk_list *list = own_list(rules);

	for (uint32_t i = 0; list && i < list->count; i++)
		free(own_chunk(list, i));
	free(list);
}
