#include <assert.h>
#include <stdlib.h>

#include "base/slab.h"

static void count(struct xf_slabs *slabs, size_t n)
{
	xf_spin_lock(&slabs->lock);
	slabs->used += n;
	xf_spin_unlock(&slabs->lock);
}

void *xf_slab_get(struct xf_slabs *slabs)
{
	uint32_t size = xf_align_up(slabs->object_bytes, XF_CACHE_LINE);
	void *object = aligned_alloc(XF_CACHE_LINE, size);

	if (!object)
		return NULL;
	count(slabs, 1);
	return memset(object, 0, size);
}

void xf_slab_put(struct xf_slabs *slabs, void *object)
{
	count(slabs, (size_t)-1);
	free(object);
}

uint64_t xf_slab_place(const struct xf_slabs *slabs, void *object)
{
	(void)slabs;
	return (uintptr_t)object / XF_CACHE_LINE;
}

void xf_slabs_fini(struct xf_slabs *slabs)
{
	assert(slabs->used == 0);
}
