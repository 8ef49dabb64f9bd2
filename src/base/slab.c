#include <assert.h>
#include <stdlib.h>

#include <xf/huge.h>

#include "base/slab.h"

#define FIRST_BYTES (64u << 10)
#define MOST_BYTES (2u << 20)

struct xf_slab {
	struct xf_slab *next; /* of those with free slots */
	struct xf_slab *prev;
	void *free; /* slots that were used before: each names the next one */
	uint32_t used;
	uint32_t fresh; /* slots from here on were never touched */
	uint32_t slots;
	uint32_t bytes;
	uint32_t number;
	uint8_t *memory;
};

/* Behind each object stands whose it is. */
static uint32_t slot_bytes(const struct xf_slabs *slabs)
{
	return xf_align_up(slabs->object_bytes + (uint32_t)sizeof(void *), XF_CACHE_LINE);
}

static struct xf_slab **owner(const struct xf_slabs *slabs, void *object)
{
	uint8_t *end = (uint8_t *)object + slot_bytes(slabs);

	return (struct xf_slab **)(void *)(end - sizeof(void *));
}

static void push(struct xf_slabs *slabs, struct xf_slab *slab)
{
	slab->prev = NULL;
	slab->next = slabs->open;
	if (slab->next)
		slab->next->prev = slab;
	slabs->open = slab;
}

static void pull(struct xf_slabs *slabs, struct xf_slab *slab)
{
	if (slab->prev)
		slab->prev->next = slab->next;
	else
		slabs->open = slab->next;
	if (slab->next)
		slab->next->prev = slab->prev;
}

static struct xf_slab *new_slab(const struct xf_slabs *slabs, uint32_t count)
{
	struct xf_slab *slab = calloc(1, sizeof(*slab));

	if (!slab)
		return NULL;
	slab->bytes = count > 5 ? MOST_BYTES : FIRST_BYTES << count;
	slab->slots = slab->bytes / slot_bytes(slabs);
	slab->memory = xf_huge_alloc(slab->bytes);
	if (slab->memory)
		return slab;
	free(slab);
	return NULL;
}

static void free_slab(struct xf_slab *slab)
{
	if (!slab)
		return;
	xf_huge_free(slab->memory, slab->bytes);
	free(slab);
}

static bool has_room(const struct xf_slab *slab)
{
	return slab->free || slab->fresh < slab->slots;
}

/*
 * NULL: all slots are used. One that was never touched is zero, as xf_huge_alloc() gives it; what
 * is @used is not.
 */
static void *take(struct xf_slabs *slabs, bool *used)
{
	struct xf_slab *slab = slabs->open;
	void *object;

	if (!slab)
		return NULL;
	object = slab->free;
	*used = object != NULL;
	if (object)
		slab->free = *(void **)object;
	else
		object = slab->memory + (size_t)slot_bytes(slabs) * slab->fresh++;
	*owner(slabs, object) = slab;
	slab->used++;
	if (!has_room(slab))
		pull(slabs, slab);
	return object;
}

void *xf_slab_get(struct xf_slabs *slabs)
{
	struct xf_slab *slab;
	bool used = true;
	uint32_t count;
	void *object;

	xf_spin_lock(&slabs->lock);
	object = take(slabs, &used);
	count = slabs->count;
	slabs->used += object != NULL;
	xf_spin_unlock(&slabs->lock);
	if (!object) {
		slab = new_slab(slabs, count);
		if (!slab)
			return NULL;
		xf_spin_lock(&slabs->lock);
		push(slabs, slab);
		slabs->count++;
		slab->number = slabs->made++;
		object = take(slabs, &used);
		slabs->used++;
		xf_spin_unlock(&slabs->lock);
	}
	return used ? memset(object, 0, slabs->object_bytes) : object;
}

void xf_slab_put(struct xf_slabs *slabs, void *object)
{
	struct xf_slab *slab = *owner(slabs, object);
	struct xf_slab *empty = NULL;

	xf_spin_lock(&slabs->lock);
	if (!has_room(slab))
		push(slabs, slab);
	*(void **)object = slab->free;
	slab->free = object;
	slabs->used--;
	if (--slab->used == 0 && slabs->count > 1) {
		pull(slabs, slab);
		slabs->count--;
		empty = slab;
	}
	xf_spin_unlock(&slabs->lock);
	free_slab(empty);
}

/* Slots are larger than a byte: fewer than their slab has bytes. */
uint64_t xf_slab_place(const struct xf_slabs *slabs, void *object)
{
	const struct xf_slab *slab = *owner(slabs, object);
	size_t slot = (size_t)((uint8_t *)object - slab->memory) / slot_bytes(slabs);

	return (uint64_t)slab->number * MOST_BYTES + slot;
}

/* The one that is kept for objects to come. */
void xf_slabs_fini(struct xf_slabs *slabs)
{
	assert(slabs->used == 0);
	free_slab(slabs->open);
	slabs->open = NULL;
	slabs->count = 0;
}
