#include <stdlib.h>

#include <xf/huge.h>
#include <xf/rcu.h>

#include "spd/cells.h"

#define FILL 8 /* entries in a bucket, on average, when a table is full */

static size_t cells_bytes(cells_word cells)
{
	return ((size_t)cells_mask(cells) + 1) * sizeof(struct bucket);
}

cells_word xf_spd_cells_new(unsigned bits)
{
	struct bucket *buckets = xf_huge_alloc(sizeof(struct bucket) << bits);

	return buckets ? (cells_word)buckets | bits : 0;
}

void xf_spd_cells_free(cells_word cells)
{
	if (cells)
		xf_huge_free(cells_buckets(cells), cells_bytes(cells));
}

struct old_cells {
	struct xf_rcu_head rcu;
	cells_word cells;
};

static void old_cells_free(struct xf_rcu_head *head)
{
	struct old_cells *old = XF_CONTAINER_OF(head, struct old_cells, rcu);

	xf_spd_cells_free(old->cells);
	free(old);
}

struct old_cells *xf_spd_cells_prepare(cells_word cells)
{
	struct old_cells *old = malloc(sizeof(*old));

	if (old)
		old->cells = cells;
	return old;
}

void xf_spd_cells_retire(struct old_cells *old)
{
	xf_rcu_defer(&old->rcu, old_cells_free);
}

void xf_spd_cells_keep(struct old_cells *old)
{
	free(old);
}

unsigned xf_spd_cells_bits_for(uint32_t count)
{
	unsigned bits = 0;

	while (((uint64_t)FILL << bits) < count)
		bits++;
	return bits;
}

/* The writer's own view needs no ordering: nobody else stores. */
static uint64_t own_tags(const struct bucket *bucket, unsigned word)
{
	return atomic_load_explicit(&bucket->tags[word], memory_order_relaxed);
}

static void set_tags(struct bucket *bucket, unsigned word, uint64_t tags)
{
	atomic_store_explicit(&bucket->tags[word], tags, memory_order_release);
}

static void set_tag(struct bucket *bucket, unsigned slot, uint8_t tag)
{
	unsigned shift = slot % 8 * 8;
	uint64_t tags = own_tags(bucket, slot / 8) & ~(UINT64_C(255) << shift);

	set_tags(bucket, slot / 8, tags | (uint64_t)tag << shift);
}

static unsigned free_slot(const struct bucket *bucket)
{
	uint32_t found =
		cells_slots_with(own_tags(bucket, 0), own_tags(bucket, 1), 0) & CELL_SLOTS_MASK;

	return found ? (unsigned)__builtin_ctz(found) : CELL_SLOTS;
}

/* All buckets from @at up to @end are passed by one more, or one less. */
static void count_passing(cells_word cells, uint32_t at, uint32_t end, uint64_t change)
{
	for (; at != end; at = (at + 1) & cells_mask(cells)) {
		struct bucket *bucket = &cells_buckets(cells)[at];

		set_tags(bucket, 1, own_tags(bucket, 1) + (change << CELL_PASSED_SHIFT));
	}
}

void xf_spd_cells_put(cells_word cells, uint64_t hash, uint32_t id)
{
	uint32_t home = cells_home(cells, hash);
	uint32_t at = home;
	struct bucket *bucket = &cells_buckets(cells)[at];
	unsigned slot;

	while ((slot = free_slot(bucket)) == CELL_SLOTS) {
		at = (at + 1) & cells_mask(cells);
		bucket = &cells_buckets(cells)[at];
	}
	atomic_store_explicit(&bucket->ids[slot], id, memory_order_release);
	set_tag(bucket, slot, cells_tag(hash));
	count_passing(cells, home, at, 1);
}

static _Atomic uint32_t *find(struct cells_iter *it, uint32_t id)
{
	_Atomic uint32_t *slot;

	do
		slot = cells_next(it);
	while (atomic_load_explicit(slot, memory_order_relaxed) != id);
	return slot;
}

_Atomic uint32_t *xf_spd_cells_slot(cells_word cells, uint64_t hash, uint32_t id)
{
	struct cells_iter it = cells_begin(cells, hash);

	return find(&it, id);
}

void xf_spd_cells_del(cells_word cells, uint64_t hash, uint32_t id)
{
	struct cells_iter it = cells_begin(cells, hash);
	_Atomic uint32_t *slot = find(&it, id);

	set_tag(it.bucket, (unsigned)(slot - it.bucket->ids), 0);
	count_passing(cells, cells_home(cells, hash), it.at, UINT64_MAX);
}
