/*
 * Slabs of 2 MB are cut to slots. Those with free slots are in a list, the one that was last given
 * something back first; a slab of which nothing is used any more is given back, but for the last.
 */
#include <stdlib.h>

#include <xf/huge.h>
#include <xf/spin.h>

#include "sad/mem.h"

#define SLAB_BYTES (2u << 20)

struct slab;

/* A free slot names the next one; whose it is stands in the SA's home, used or not. */
union slot {
	union slot *next;
	struct xf_sa sa;
};

#define SLOTS (SLAB_BYTES / sizeof(union slot))

struct slab {
	struct slab *next; /* of those with free slots */
	struct slab *prev;
	union slot *free; /* that were used before */
	unsigned used;
	unsigned fresh; /* slots from here on were never touched */
	union slot *slots;
};

static struct xf_spin lock;
static struct slab *open_slabs;

static void push(struct slab *slab)
{
	slab->prev = NULL;
	slab->next = open_slabs;
	if (open_slabs)
		open_slabs->prev = slab;
	open_slabs = slab;
}

static void unlink_slab(struct slab *slab)
{
	if (slab->prev)
		slab->prev->next = slab->next;
	else
		open_slabs = slab->next;
	if (slab->next)
		slab->next->prev = slab->prev;
}

static struct slab *new_slab(void)
{
	struct slab *slab = calloc(1, sizeof(*slab));

	if (!slab)
		return NULL;
	slab->slots = xf_huge_alloc(SLAB_BYTES);
	if (!slab->slots) {
		free(slab);
		return NULL;
	}
	return slab;
}

static void free_slab(struct slab *slab)
{
	if (!slab)
		return;
	xf_huge_free(slab->slots, SLAB_BYTES);
	free(slab);
}

static bool has_room(const struct slab *slab)
{
	return slab->free || slab->fresh < SLOTS;
}

/* NULL: all slots are used. */
static union slot *take(void)
{
	struct slab *slab = open_slabs;
	union slot *slot;

	if (!slab)
		return NULL;
	slot = slab->free;
	if (slot)
		slab->free = slot->next;
	else
		slot = &slab->slots[slab->fresh++];
	slot->sa.home = slab;
	slab->used++;
	if (!has_room(slab))
		unlink_slab(slab);
	return slot;
}

struct xf_sa *xf_sa_mem_get(void)
{
	struct slab *slab;
	union slot *slot;

	xf_spin_lock(&lock);
	slot = take();
	xf_spin_unlock(&lock);
	if (!slot) {
		slab = new_slab();
		if (!slab)
			return NULL;
		xf_spin_lock(&lock);
		push(slab);
		slot = take();
		xf_spin_unlock(&lock);
	}
	slot->next = NULL; /* all else was wiped */
	return &slot->sa;
}

void xf_sa_mem_put(struct xf_sa *sa)
{
	union slot *slot = XF_CONTAINER_OF(sa, union slot, sa);
	struct slab *slab = sa->home;
	struct slab *empty = NULL;

	xf_wipe(sa, offsetof(struct xf_sa, home));
	xf_spin_lock(&lock);
	if (!has_room(slab))
		push(slab);
	slot->next = slab->free;
	slab->free = slot;
	if (--slab->used == 0 && (slab->next || slab->prev)) {
		unlink_slab(slab);
		empty = slab;
	}
	xf_spin_unlock(&lock);
	free_slab(empty);
}
