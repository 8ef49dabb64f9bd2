#include <stdlib.h>

#include "base/slab.h"

void *xf_slab_get(struct xf_slabs *slabs)
{
	uint32_t size = xf_align_up(slabs->object_bytes, XF_CACHE_LINE);
	void *object = aligned_alloc(XF_CACHE_LINE, size);

	return object ? memset(object, 0, size) : NULL;
}

void xf_slab_put(struct xf_slabs *slabs, void *object)
{
	(void)slabs;
	free(object);
}

uint64_t xf_slab_place(const struct xf_slabs *slabs, void *object)
{
	(void)slabs;
	return (uintptr_t)object / XF_CACHE_LINE;
}
