/*
 * The parts of a direction, type and family, by if_id: open addressing. A part that is gone leaves
 * a mark that searches pass over; marks go when the table is copied.
 */
#include <stdlib.h>

#include "spd/spd_priv.h"

#define FIRST_SLOTS 8

static const struct part gone;

static uint32_t home_of(const struct part_slots *slots, uint32_t if_id)
{
	return (uint32_t)(node_mix(if_id ^ slots->key, 0x9e3779b97f4a7c15ull) >> 16) & slots->mask;
}

struct part *xf_spd_part_find(const struct part_table *table, uint32_t if_id)
{
	const struct part_slots *slots = atomic_load_explicit(&table->slots, memory_order_acquire);
	struct part *part;

	if (!slots)
		return NULL;
	for (uint32_t at = home_of(slots, if_id);; at++) {
		part = atomic_load_explicit(&slots->slot[at & slots->mask], memory_order_acquire);
		if (!part || (part != &gone && part->if_id == if_id))
			return part;
	}
}

static struct part_slots *own_slots(const struct part_table *table)
{
	return atomic_load_explicit(&table->slots, memory_order_relaxed);
}

static struct part *own_part(const struct part_slots *slots, uint32_t at)
{
	return atomic_load_explicit(&slots->slot[at & slots->mask], memory_order_relaxed);
}

/* Marks are not reused: whoever passed one would not come back for what stands there now. */
static void put(struct part_slots *slots, struct part *part)
{
	uint32_t at = home_of(slots, part->if_id);

	while (own_part(slots, at))
		at++;
	atomic_store_explicit(&slots->slot[at & slots->mask], part, memory_order_release);
	slots->used++;
}

static void slots_free(struct xf_rcu_head *head)
{
	free(XF_CONTAINER_OF(head, struct part_slots, rcu));
}

/* Room for one more: false without memory. */
static bool reserve(struct xf_spd *spd, struct part_table *table)
{
	struct part_slots *old = own_slots(table);
	uint32_t size = FIRST_SLOTS;
	struct part_slots *slots;

	if (old && old->used < old->mask - old->mask / 4)
		return true;
	while (size < 2 * (table->count + 1))
		size *= 2;
	slots = calloc(1, sizeof(*slots) + size * sizeof(slots->slot[0]));
	if (!slots)
		return false;
	slots->mask = size - 1;
	slots->key = spd->space.keys[0];
	for (uint32_t i = 0; old && i <= old->mask; i++)
		if (own_part(old, i) && own_part(old, i) != &gone)
			put(slots, own_part(old, i));
	atomic_store_explicit(&table->slots, slots, memory_order_release);
	if (old)
		xf_rcu_defer(&old->rcu, slots_free);
	return true;
}

struct part *xf_spd_part_get(struct xf_spd *spd, const struct xf_policy_config *cfg)
{
	struct part_table *table = part_table_of(spd, cfg->dir, cfg->type, cfg->sel.family);
	struct part *part = xf_spd_part_find(table, cfg->if_id);

	if (part)
		return part;
	if (!reserve(spd, table))
		return NULL;
	part = calloc(1, sizeof(*part));
	if (!part)
		return NULL;
	part->if_id = cfg->if_id;
	table->count++;
	atomic_fetch_add_explicit(&spd->nparts[cfg->dir][cfg->type], 1, memory_order_release);
	put(own_slots(table), part);
	return part;
}

static void part_free(struct xf_rcu_head *head)
{
	struct part *part = XF_CONTAINER_OF(head, struct part, rcu);

	for (unsigned kind = 0; kind < KINDS; kind++)
		xf_spd_index_fini(&part->index[kind]);
	free(part);
}

void xf_spd_part_put(struct xf_spd *spd, const struct xf_policy_config *cfg, struct part *part)
{
	struct part_table *table = part_table_of(spd, cfg->dir, cfg->type, cfg->sel.family);
	struct part_slots *slots = own_slots(table);
	uint32_t at = home_of(slots, part->if_id);

	if (part->count > 0)
		return;
	while (own_part(slots, at) != part)
		at++;
	atomic_store_explicit(&slots->slot[at & slots->mask], (struct part *)(uintptr_t)&gone,
			      memory_order_release);
	table->count--;
	atomic_fetch_sub_explicit(&spd->nparts[cfg->dir][cfg->type], 1, memory_order_release);
	xf_rcu_defer(&part->rcu, part_free);
	if (table->count)
		return;
	atomic_store_explicit(&table->slots, NULL, memory_order_release);
	xf_rcu_defer(&slots->rcu, slots_free);
}
